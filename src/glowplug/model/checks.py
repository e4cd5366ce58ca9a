"""What each option of a function may be, and what is kept of it.

Every function here takes what users write, in any version, and returns the normalised value or raises
``InvalidError``, which names the option and what would be valid.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from typing import TYPE_CHECKING, Any, Protocol, Union

from glowplug.model.errors import InvalidError
from glowplug.model.image import ImageDefinition
from glowplug.model.schedule import Schedule
from glowplug.model.secret import SecretDefinition
from glowplug.model.volume import VolumeDefinition

if TYPE_CHECKING:
    from glowplug.model.gpu import GpuRequest

MAX_TIMEOUT_S = 86400
DEFAULT_TIMEOUT_S = 300
DEFAULT_SCALEDOWN_WINDOW_S = 60
_SYSTEM_DIRECTORIES = ("bin", "boot", "dev", "etc", "home", "lib", "lib64", "proc", "root", "run", "sbin")
RESERVED_MOUNT_PATHS = frozenset(
    f"/{name}" for name in ("", *_SYSTEM_DIRECTORIES, "sys", "tmp", "usr", "var")
)
"""A volume may lie inside these where they are writable, never on them: the container needs what is there."""


class GpuObject(Protocol):
    """What ``modal.gpu.A100(...)`` and its like are."""

    def gpu_request(self) -> GpuRequest: ...


GpuValue = Union[None, bool, str, GpuObject, Sequence[Union[str, GpuObject]]]
MountPaths = Mapping[Any, VolumeDefinition]
"""Where volumes appear: absolute paths (``str`` or a path object) to volumes."""


def image(value: ImageDefinition | None) -> ImageDefinition | None:
    if value is None or isinstance(value, ImageDefinition):  # pyright: ignore[reportUnnecessaryIsInstance]
        return value
    raise InvalidError(f"image={value!r}: must be an Image, such as Image.debian_slim().pip_install(...).")


def mounts(value: Sequence[Any] | None) -> tuple[Any, ...]:
    if value is None:
        return ()
    if isinstance(value, str) or not isinstance(value, Sequence):  # pyright: ignore[reportUnnecessaryIsInstance]
        raise InvalidError(f"mounts={value!r}: must be a list, such as [Mount.from_local_dir(...)].")
    for each in value:
        if not hasattr(each, "entries"):
            raise InvalidError(
                f"mounts=: {type(each).__name__} is not a Mount, as Mount.from_local_dir(...)."
            )
    return tuple(value)


def schedule(value: Schedule | None) -> Schedule | None:
    if value is None or isinstance(value, Schedule):  # pyright: ignore[reportUnnecessaryIsInstance]
        return value
    raise InvalidError(f"schedule={value!r}: must be a Period or a Cron, such as Period(hours=4).")


def env(value: Mapping[str, str | None] | None) -> dict[str, str]:
    if value is not None and not isinstance(value, Mapping):  # pyright: ignore[reportUnnecessaryIsInstance]
        raise InvalidError(f"env={value!r}: must be a dict of variable names to strings.")
    variables: dict[str, str] = {}
    for name, text in dict(value or {}).items():
        check_variable("env=", name, text)
        if text is not None:
            variables[name] = text
    return variables


def secrets(value: Collection[SecretDefinition] | None) -> tuple[SecretDefinition, ...]:
    if isinstance(value, (SecretDefinition, str, Mapping)):
        raise InvalidError(f"secrets={value!r}: must be a list, such as secrets=[Secret.from_dict({{...}})].")
    secrets = tuple(value or ())
    for secret in secrets:
        if not isinstance(secret, SecretDefinition):  # pyright: ignore[reportUnnecessaryIsInstance]
            raise InvalidError(
                f"secrets=: {type(secret).__name__} is not a Secret. Use Secret.from_dict({{...}}) "
                'or Secret.from_name("...").'
            )
    return secrets


def one_secret(value: SecretDefinition | None) -> tuple[SecretDefinition, ...]:
    return () if value is None else secrets([value])


def gpu(value: GpuValue) -> tuple[GpuRequest, ...]:
    if value is None:
        return ()
    from glowplug.model.gpu import parse_gpu  # with the table of all types, for those who ask for one

    return parse_gpu("any" if value is True else value)


def volumes(value: MountPaths | None) -> dict[str, VolumeDefinition]:
    mounted: dict[str, VolumeDefinition] = {}
    if value is not None and not isinstance(value, Mapping):  # pyright: ignore[reportUnnecessaryIsInstance]
        raise InvalidError(
            f'volumes={value!r}: must be a dict of paths to volumes, such as {{"/cache": volume}}.'
        )
    for key, volume in dict(value or {}).items():
        path = mount_path(key)
        if not isinstance(volume, VolumeDefinition):  # pyright: ignore[reportUnnecessaryIsInstance]
            raise InvalidError(
                f"volumes=: {path!r} is given a {type(volume).__name__}, which is not a volume."
            )
        if path in mounted:
            raise InvalidError(f"volumes=: two volumes are to be at {path!r}. Give each a path of its own.")
        mounted[path] = volume
    return mounted


def mount_path(key: Any) -> str:
    path = str(key)
    parts = [part for part in path.split("/") if part not in ("", ".")]
    clean = "/" + "/".join(parts)
    if not path.startswith("/") or ".." in parts:
        raise InvalidError(
            f'volumes=: the mount path {path!r} must be absolute, without "..", such as "/cache".'
        )
    if clean in RESERVED_MOUNT_PATHS:
        raise InvalidError(
            f"volumes=: {clean!r} belongs to the container itself. Mount below it or elsewhere."
        )
    return clean


def cpu(value: float | tuple[float, float] | None) -> tuple[float, float | None] | None:
    return request_and_limit("cpu", value, "cores, such as cpu=2.0")


def memory(value: int | tuple[int, int] | None) -> tuple[float, float | None] | None:
    return request_and_limit("memory", value, "MiB, such as memory=4096")


def request_and_limit(name: str, value: Any, unit: str) -> tuple[float, float | None] | None:
    """A number alone is what is asked for, and no limit."""
    if value is None:
        return None
    pair: list[Any] = [*value] if isinstance(value, (tuple, list)) else [value]
    numbers: list[float] = [part for part in pair if is_number(part)]
    if len(numbers) != len(pair) or len(pair) not in (1, 2) or min(numbers) <= 0:
        raise InvalidError(f"{name}={value!r}: must be a positive number of {unit}, or (request, limit).")
    request, limit = float(numbers[0]), float(numbers[1]) if len(numbers) == 2 else None
    if limit is not None and limit < request:
        raise InvalidError(f"{name}={value!r}: the limit is below the request.")
    return request, limit


def ephemeral_disk(value: int | None) -> int | None:
    if value is None:
        return None
    if not is_number(value) or value != int(value) or value <= 0:
        raise InvalidError(
            f"ephemeral_disk={value!r}: must be a positive whole number of MiB, such as ephemeral_disk=10240."
        )
    return int(value)


def timeout(value: float | None) -> float:
    return float(DEFAULT_TIMEOUT_S if value is None else seconds("timeout", value))


def startup_timeout(value: float | None) -> float | None:
    return None if value is None else seconds("startup_timeout", value)


def seconds(name: str, value: Any) -> float:
    if not is_number(value) or not 1 <= value <= MAX_TIMEOUT_S:
        raise InvalidError(
            f"{name}={value!r}: must be a number of seconds from 1 to {MAX_TIMEOUT_S} (a day)."
        )
    return float(value)


def scaledown_window(value: float | None) -> float:
    if value is None:
        return float(DEFAULT_SCALEDOWN_WINDOW_S)
    if not is_number(value) or value <= 0:
        raise InvalidError(f"scaledown_window={value!r}: must be a positive number of seconds.")
    return float(value)


def gpu_fallback_after(value: float | None) -> float | None:
    if value is None:
        return None
    if not is_number(value) or value < 0:
        raise InvalidError(f"gpu_fallback_after={value!r}: must be a number of seconds, 0 or more.")
    return float(value)


def min_containers(value: int | None) -> int:
    return count("min_containers", value, 0) or 0


def max_containers(value: int | None) -> int | None:
    return count("max_containers", value, 1)


def buffer_containers(value: int | None) -> int:
    return count("buffer_containers", value, 0) or 0


def max_inputs(value: int | None) -> int | None:
    return count("max_inputs", value, 1)


def concurrent_inputs(value: int | None) -> int | None:
    return count("allow_concurrent_inputs", value, 1)


def keep_warm(value: int | bool | None) -> int | None:
    return count("keep_warm", int(value) if isinstance(value, bool) else value, 0)


def count(name: str, value: Any, least: int) -> int | None:
    if value is None:
        return None
    if isinstance(value, bool) or not isinstance(value, int) or value < least:
        raise InvalidError(f"{name}={value!r}: must be a whole number, {least} or more.")
    return value


def function_name(value: str | None) -> str | None:
    if value is not None and (not isinstance(value, str) or not value.strip()):  # pyright: ignore[reportUnnecessaryIsInstance]
        raise InvalidError(f"name={value!r}: must be a string that is not empty.")
    return value


def cloud(value: str | None) -> str | None:
    if value is not None and (not isinstance(value, str) or not value.strip()):  # pyright: ignore[reportUnnecessaryIsInstance]
        raise InvalidError(f'cloud={value!r}: must be the value of a node\'s cloud label, such as "gcp".')
    return None if value is None or value.lower() == "auto" else value.lower()


def region(value: str | Sequence[str] | None) -> tuple[str, ...]:
    regions = (value,) if isinstance(value, str) else tuple(value or ())
    for region in regions:
        if not isinstance(region, str) or not region.strip():  # pyright: ignore[reportUnnecessaryIsInstance]
            raise InvalidError(f'region={value!r}: must be a region such as "us-east", or a list of them.')
    return regions


def flag(value: bool | None) -> bool:
    return bool(value)


def optional_flag(value: bool | None) -> bool | None:
    return None if value is None else bool(value)


def anything(value: Any) -> Any:
    return value


def is_number(value: Any) -> bool:
    return isinstance(value, (int, float)) and not isinstance(value, bool)


def check_variable(where: str, name: Any, text: Any) -> None:
    """Raise ``InvalidError`` unless ``name`` can be an environment variable and ``text`` its value."""
    if not isinstance(name, str) or not name or "=" in name or "\0" in name:
        raise InvalidError(f"{where} {name!r} is not a name an environment variable can have.")
    if text is not None and (not isinstance(text, str) or "\0" in text):
        raise InvalidError(f"{where} the value of {name} must be a string, not {type(text).__name__}.")
