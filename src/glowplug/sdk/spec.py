"""From declared functions to what the server is told of an app when it starts."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING, Any

from glowplug.client.session import AppSpec
from glowplug.model.checks import DEFAULT_TIMEOUT_S
from glowplug.model.errors import InvalidError, SerializationError
from glowplug.model.function import FunctionSpec
from glowplug.model.secret import layers_of
from glowplug.sdk.cloud_bucket_mount import CloudBucketMount
from glowplug.sdk.source import find_environment, find_source, is_importable, module_name

if TYPE_CHECKING:
    from glowplug.sdk.app import App
    from glowplug.sdk.function import Function

MAX_SERIALIZED_BYTES = 16 << 20
"""A function sent by value, with everything it closes over."""


def app_spec(
    app: App,
    gpu_map: dict[str, str] | None = None,
    detach: bool = False,
    images: dict[str, Any] | None = None,
) -> AppSpec:
    """What to start: every registered function, its code, its environment. ``images``: by function, what
    ``prepare_images`` returned.

    Raises ``InvalidError``, ``SerializationError``.
    """
    functions = list(app.registered_functions.values())
    source = find_source(_main_module(functions))
    substitutes = dict(gpu_map or {})
    return AppSpec(
        name=app.name or source.module,
        functions=[
            function_spec(function, substitutes, (images or {}).get(function.name)).to_wire()
            for function in functions
        ],
        environment=find_environment(),
        source=source.to_wire(),
        gpu_map=substitutes,
        detach=detach,
    )


def function_spec(
    function: Function[..., Any, Any],
    gpu_map: dict[str, str] | None = None,
    image: dict[str, Any] | None = None,
) -> FunctionSpec:
    """What the server must know of one function; ids are its business."""
    options = function.options
    return FunctionSpec(
        id="",
        app_id="",
        name=function.name,
        gpu=options.gpu,
        gpu_fallback_after_s=options.gpu_fallback_after,
        gpu_map=dict(gpu_map or {}),
        cloud=options.cloud,
        regions=options.region,
        min_containers=options.min_containers,
        max_containers=options.max_containers,
        buffer_containers=options.buffer_containers,
        scaledown_window_s=options.scaledown_window,
        timeout_s=options.timeout,
        startup_timeout_s=options.startup_timeout or max(options.timeout, DEFAULT_TIMEOUT_S),
        retries=options.retries,
        max_inputs=1 if options.single_use_containers else options.max_inputs,
        is_generator=function.is_generator,
        restart_generator=options.restart_generator,
        definition=_definition(function, image),
    )


def _main_module(functions: list[Function[..., Any, Any]]) -> str:
    """The module an app is about: the program that runs, if it defines a function, else the first one's."""
    modules = [function.module for function in functions]
    return "__main__" if "__main__" in modules or not modules else modules[0]


def _definition(function: Function[..., Any, Any], image: dict[str, Any] | None) -> dict[str, Any]:
    options = function.options
    app = function.app
    return {
        "module": module_name(function.module),
        "qualname": function.qualname,
        "serialized": _serialized(function) if goes_by_value(function) else None,
        "serialized_by": "{}.{}".format(*sys.version_info[:2]) if goes_by_value(function) else "",
        "is_async": function.is_async,
        "is_generator": function.is_generator,
        "volumes": _volumes(function),
        "env": options.env,
        "secrets": layers_of((*app.secrets, *options.secrets)),
        "bucket_secrets": {
            path: layers_of([volume.secret])
            for path, volume in {**app.mounted_volumes, **options.mounted_volumes}.items()
            if isinstance(volume, CloudBucketMount) and volume.secret is not None
        },
        "tag": function.name,
        "block_network": options.block_network,
        "cpu": options.cpu,
        "memory": options.memory,
        "ephemeral_disk": options.ephemeral_disk,
        "restrict_modal_access": options.restrict_modal_access,
        "image": image,
    }


def goes_by_value(function: Function[..., Any, Any]) -> bool:
    """Whether the function must travel itself, since its name does not lead to it in the container."""
    if function.options.serialized or not is_importable(function.module):
        return True
    found: Any = sys.modules.get(function.module)
    for name in function.qualname.split("."):
        found = getattr(found, name, None)
    # Another function may have taken the name: a loop that declares several, a decorator above ours.
    return not (found is function or found is function.plain)


def _serialized(function: Function[..., Any, Any]) -> bytes:
    import cloudpickle

    try:
        pickled: bytes = cloudpickle.dumps(function.plain, protocol=5)
    except Exception as error:
        raise SerializationError(
            f"{function.name} cannot be sent by value: {error}. What it uses from around it goes with "
            "it: make locks, files and clients inside the function, or define it at the top of a module."
        ) from error
    if len(pickled) > MAX_SERIALIZED_BYTES:
        raise InvalidError(
            f"{function.name} is {len(pickled) / (1 << 20):.0f} MiB by value, with what it closes over; the "
            f"limit is {MAX_SERIALIZED_BYTES >> 20} MiB. Pass large values as arguments or use a volume."
        )
    return pickled


def _volumes(function: Function[..., Any, Any]) -> list[dict[str, Any]]:
    """Those of the app and the function's own. Raises ``InvalidError`` for one that is there twice."""
    app, options = function.app, function.options
    both = set(options.network_file_systems) & set(options.volumes)
    if both:
        raise InvalidError(
            f"{function.name}: two volumes are to be at {min(both)!r}. Give each its own path."
        )
    found: dict[tuple[str, str], str] = {}
    told: list[dict[str, Any]] = []
    for path, volume in {**app.mounted_volumes, **options.mounted_volumes}.items():
        name = volume.name or app.name_for_volume(volume, path)
        other = found.setdefault((volume.kind, name), path)
        if other != path:
            raise InvalidError(
                f"{function.name} mounts volume {name!r} twice, at {other!r} and {path!r}. A container sees "
                "a volume at one path: use a symbolic link in the function for the other."
            )
        told.append(
            {
                "name": name,
                "mount_path": path,
                "read_only": volume.is_read_only,
                "sub_path": volume.sub_path,
                "kind": volume.kind,
                "create": volume.create,
                **({"bucket": volume.place} if isinstance(volume, CloudBucketMount) else {}),
            }
        )
    return told
