"""GPU requests as objects, as scripts of 2023 to 2025 write them. Each names the string that says the same.

They work for good; constructing one warns (``DeprecationError``). Counts and memory sizes are checked where
the request is used, by the same rules as strings.
"""

from __future__ import annotations

from glowplug.model.errors import DeprecationError, InvalidError
from glowplug.model.gpu import ANY, GpuRequest, format_request
from glowplug.sdk.notices import warn

_SIZES_GB = {"20GB": 20, "40GB": 40, "80GB": 80}


class GpuObject:
    """Base of the objects. ``count`` GPUs, all on one machine."""

    _type = ""

    def __init__(self, count: int, memory_gb: int | None = None) -> None:
        self.count = count
        self.memory_gb = memory_gb
        warn(f'gpu.{type(self).__name__}(...) is now written as a string: gpu="{self}"', DeprecationError)

    def gpu_request(self) -> GpuRequest:
        """What is asked for, as the server understands it."""
        return GpuRequest(self._type, count=self.count, memory_gb=self.memory_gb)

    def __str__(self) -> str:
        return format_request(self.gpu_request())

    def __repr__(self) -> str:
        return f"gpu.{type(self).__name__}({self})"


class Any(GpuObject):
    """The first available of the modest types: ``gpu.Any(count=2)`` is ``"any:2"``."""

    _type = ANY

    def __init__(self, *, count: int = 1) -> None:
        super().__init__(count)


class T4(GpuObject):
    """NVIDIA T4, 16 GB: ``gpu.T4(2)`` is ``"T4:2"``."""

    _type = "T4"

    def __init__(self, count: int = 1) -> None:
        super().__init__(count)


class L4(GpuObject):
    """NVIDIA L4, 24 GB: ``gpu.L4(count=2)`` is ``"L4:2"``."""

    _type = "L4"

    def __init__(self, count: int = 1) -> None:
        super().__init__(count)


class A10G(GpuObject):
    """NVIDIA A10 or A10G, 24 GB, at most four: ``gpu.A10G(count=2)`` is ``"A10G:2"``."""

    _type = "A10G"

    def __init__(self, *, count: int = 1) -> None:
        super().__init__(count)


class A100(GpuObject):
    """NVIDIA A100, 40 GB unless said otherwise.

    ``size`` is "40GB" or "80GB"; ``memory`` the older way to say it, in GB: 20 (a slice), 40 or 80.
    ``gpu.A100(size="80GB", count=4)`` is ``"A100-80GB:4"``. Raises ``InvalidError`` for another size.
    """

    _type = "A100"

    def __init__(self, *, count: int = 1, memory: int | None = None, size: str | None = None) -> None:
        if memory and size:
            raise InvalidError(
                f"gpu.A100(memory={memory!r}, size={size!r}): give one of them, size= is the newer."
            )
        memory_gb = memory or None
        if size is not None:
            memory_gb = _SIZES_GB.get(str(size).replace(" ", "").upper())
            if memory_gb is None:
                raise InvalidError(f'gpu.A100(size={size!r}): the sizes are "40GB" and "80GB".')
        super().__init__(count, memory_gb)


class L40S(GpuObject):
    """NVIDIA L40S, 48 GB: ``gpu.L40S(count=2)`` is ``"L40S:2"``."""

    _type = "L40S"

    def __init__(self, *, count: int = 1) -> None:
        super().__init__(count)


class H100(GpuObject):
    """NVIDIA H100, 80 GB: ``gpu.H100(count=8)`` is ``"H100:8"``."""

    _type = "H100"

    def __init__(self, *, count: int = 1) -> None:
        super().__init__(count)


class Inferentia2:
    """Not a GPU. Kept so that scripts that import it say clearly why they cannot use it."""

    def __init__(self, *, count: int = 1) -> None:
        raise InvalidError(
            'gpu.Inferentia2(): Inferentia is no GPU; nothing here can replace it. Use gpu="any" or a type.'
        )
