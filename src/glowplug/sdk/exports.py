"""The public names and where they are defined; imported on first use, to keep ``import glowplug`` cheap.

``modal`` is the same table under another name (``modal_alias.py``). Names of the compatible surface that this
version lacks are listed too, with why, so that using one says more than that it is missing.
"""

from __future__ import annotations

import importlib
import sys
from typing import Any

from glowplug.model.version import __version__
from glowplug.sdk.notyet import missing

PUBLIC = {
    "App": "glowplug.sdk.app:App",
    "CloudBucketMount": "glowplug.sdk.cloud_bucket_mount:CloudBucketMount",
    "Cron": "glowplug.model.schedule:Cron",
    "Error": "glowplug.model.errors:Error",
    "FilePatternMatcher": "glowplug.sdk.file_pattern_matcher:FilePatternMatcher",
    "Function": "glowplug.sdk.function:Function",
    "FunctionCall": "glowplug.sdk.function_call:FunctionCall",
    "Image": "glowplug.sdk.image:Image",
    "Mount": "glowplug.sdk.mount:Mount",
    "NetworkFileSystem": "glowplug.sdk.network_file_system:NetworkFileSystem",
    "Period": "glowplug.model.schedule:Period",
    "Retries": "glowplug.model.retries:Retries",
    "Secret": "glowplug.sdk.secret:Secret",
    "SharedVolume": "glowplug.sdk.network_file_system:SharedVolume",
    "Stub": "glowplug.sdk.app:App",
    "Volume": "glowplug.sdk.volume:Volume",
    "create_package_mounts": "glowplug.sdk.mount:create_package_mounts",
    "current_function_call_id": "glowplug.client.context:current_function_call_id",
    "current_input_id": "glowplug.client.context:current_input_id",
    "enable_output": "glowplug.sdk.output:enable_output",
    "exception": "glowplug.exception",
    "gpu": "glowplug.gpu",
    "is_local": "glowplug.client.context:is_local",
}
"""Name: module, or module:attribute."""

OLD_NAMES = {"Stub": "App"}
"""Names that warn and work."""

SUBMODULES = {
    "app": ("App",),
    "cloud_bucket_mount": ("CloudBucketMount",),
    "exception": (),
    "file_pattern_matcher": ("FilePatternMatcher",),
    "functions": ("Function", "FunctionCall", "gather"),
    "gpu": (),
    "image": ("Image",),
    "mount": ("Mount", "create_package_mounts"),
    "network_file_system": ("NetworkFileSystem",),
    "output": ("enable_output",),
    "retries": ("Retries",),
    "schedule": ("Cron", "Period"),
    "secret": ("Secret",),
    "shared_volume": ("SharedVolume",),
    "stub": ("Stub",),
    "volume": ("Volume",),
}
"""Submodules of ``modal`` that scripts import from; empty: the whole module of that name in ``PUBLIC``."""

_CLASSES = "classes come later; use functions"
_WEB = "web endpoints come later"
_STORES = "stores come later; pass values, or use a Volume"
_ACCOUNT = "it belongs to a provider's account; your machines have none"

NOT_YET = {
    "Client": "Glowplug finds its server by itself",
    "Cls": _CLASSES,
    "Cluster": "functions run on one machine each",
    "Dict": _STORES,
    "Environment": _ACCOUNT,
    "Function.lookup": "deployed apps come later",
    "Obj": _CLASSES,
    "Probe": "sandboxes come later",
    "Proxy": _ACCOUNT,
    "Queue": _STORES,
    "Sandbox": "sandboxes come later",
    "SandboxSnapshot": "sandboxes come later",
    "SchedulerPlacement": "use cloud= and region= of the function",
    "Server": _WEB,
    "Tunnel": _WEB,
    "Workspace": _ACCOUNT,
    "aio": "every blocking method has an .aio form",
    "asgi_app": _WEB,
    "batched": "use map(), which sends many inputs at once",
    "billing": _ACCOUNT,
    "build": _CLASSES,
    "clustered": "functions run on one machine each",
    "concurrent": "a container runs one input at a time, and more containers are started",
    "config": "settings are GLOWPLUG_... variables; see docs/running.md",
    "container_app": "functions can be called in containers as they are",
    "enter": _CLASSES,
    "exit": _CLASSES,
    "experimental": "experiments of a provider mean nothing here",
    "fastapi_endpoint": _WEB,
    "forward": _WEB,
    "interact": "containers have no terminal",
    "lookup": "deployed apps come later",
    "method": _CLASSES,
    "parameter": _CLASSES,
    "runner": "deployed apps come later; use `with app.run():`",
    "sessioned": _WEB,
    "web_endpoint": _WEB,
    "web_server": _WEB,
    "wsgi_app": _WEB,
}


def public_attribute(module: str, name: str) -> Any:
    """The value of a public name of ``module`` ("glowplug" or "modal").

    Raises ``AttributeError``; for ``from module import name`` an ``ImportError``, since Python would replace
    the text of the other.
    """
    target = PUBLIC.get(name)
    if target is None and name in NOT_YET:
        text = missing(f"{module}.{name}", NOT_YET[name])
        raise ImportError(text, name=module) if _is_from_import() else AttributeError(text)
    if target is None:
        raise AttributeError(f"module {module!r} has no attribute {name!r}")
    if name in OLD_NAMES and not _is_from_import():  # which asks twice
        from glowplug.model.errors import DeprecationError
        from glowplug.sdk.notices import warn

        warn(f"{module}.{name} is now {module}.{OLD_NAMES[name]}", DeprecationError)
    return resolve(target)


def resolve(target: str) -> Any:
    """What ``module`` or ``module:attribute`` names."""
    module, _, attribute = target.partition(":")
    loaded = importlib.import_module(module)
    return getattr(loaded, attribute) if attribute else loaded


def _is_from_import() -> bool:
    """Whether a module's ``__getattr__`` is asked by the first step of ``from module import name``."""
    frame = sys._getframe(2)
    while frame.f_back is not None and frame.f_globals.get("__name__", "").startswith("glowplug"):
        frame = frame.f_back
    return frame.f_globals.get("__name__") == "importlib._bootstrap"


MODAL_VERSION = f"1.6.4+glowplug.{__version__}"
"""What ``modal.__version__`` says: the newest surface that is followed, and who follows it."""
