"""Glowplug: serverless GPU functions on machines you own."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from glowplug.model.version import __version__ as __version__

if TYPE_CHECKING:
    from glowplug import exception as exception
    from glowplug import gpu as gpu
    from glowplug.client.context import current_function_call_id as current_function_call_id
    from glowplug.client.context import current_input_id as current_input_id
    from glowplug.client.context import is_local as is_local
    from glowplug.model.errors import Error as Error
    from glowplug.model.retries import Retries as Retries
    from glowplug.model.schedule import Cron as Cron
    from glowplug.model.schedule import Period as Period
    from glowplug.sdk.app import App as App
    from glowplug.sdk.cloud_bucket_mount import CloudBucketMount as CloudBucketMount
    from glowplug.sdk.file_pattern_matcher import FilePatternMatcher as FilePatternMatcher
    from glowplug.sdk.function import Function as Function
    from glowplug.sdk.function_call import FunctionCall as FunctionCall
    from glowplug.sdk.image import Image as Image
    from glowplug.sdk.mount import Mount as Mount
    from glowplug.sdk.mount import create_package_mounts as create_package_mounts
    from glowplug.sdk.network_file_system import NetworkFileSystem as NetworkFileSystem
    from glowplug.sdk.network_file_system import SharedVolume as SharedVolume
    from glowplug.sdk.output import enable_output as enable_output
    from glowplug.sdk.secret import Secret as Secret
    from glowplug.sdk.volume import Volume as Volume

    Stub = App

# Written out for editors; a test holds it against sdk/exports.py. Stub works too, with a warning.
__all__ = [
    "App",
    "CloudBucketMount",
    "Cron",
    "Error",
    "FilePatternMatcher",
    "Function",
    "FunctionCall",
    "Image",
    "Mount",
    "NetworkFileSystem",
    "Period",
    "Retries",
    "Secret",
    "SharedVolume",
    "Volume",
    "create_package_mounts",
    "current_function_call_id",
    "current_input_id",
    "enable_output",
    "exception",
    "gpu",
    "is_local",
]


def __getattr__(name: str) -> Any:
    if name.startswith("__"):
        raise AttributeError(f"module 'glowplug' has no attribute {name!r}")
    from glowplug.sdk.exports import OLD_NAMES, public_attribute

    value = public_attribute("glowplug", name)
    if name not in OLD_NAMES:
        globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted([*globals(), *__all__])
