"""``import modal`` is Glowplug: a finder in front of all others, for ``modal`` and its submodules.

It wins over an installed ``modal`` package, whatever the order of ``sys.path``. ``alias/modal.py`` gets it
into place where only the path can be set: in containers and in programs that functions start.
"""

from __future__ import annotations

import importlib
import sys
from collections.abc import Sequence
from importlib.abc import Loader, MetaPathFinder
from importlib.machinery import ModuleSpec
from types import ModuleType
from typing import Any

NAME = "modal"


class ModalFinder(MetaPathFinder):
    """Finds ``modal`` and every submodule of it; what does not exist is refused here, not searched for."""

    def find_spec(self, fullname: str, path: Sequence[str] | None, target: Any = None) -> ModuleSpec | None:
        if fullname == NAME or fullname.startswith(NAME + "."):
            return ModuleSpec(fullname, ModalLoader(), origin="glowplug", is_package=fullname == NAME)
        return None


class ModalLoader(Loader):
    """Makes the module of a name out of the table of exports."""

    def create_module(self, spec: ModuleSpec) -> ModuleType | None:
        return None

    def exec_module(self, module: ModuleType) -> None:
        from glowplug.sdk import exports

        if module.__name__ == NAME:
            _fill_package(module)
            return
        name = module.__name__[len(NAME) + 1 :]
        names = exports.SUBMODULES.get(name)
        if names is None:
            if name in exports.NOT_YET:
                raise ImportError(
                    exports.missing(module.__name__, exports.NOT_YET[name]), name=module.__name__
                )
            raise ModuleNotFoundError(f"No module named {module.__name__!r}", name=module.__name__)
        if names:
            _fill_submodule(module, names)
        else:
            # The very module, so that its classes are the same however they are imported.
            sys.modules[module.__name__] = importlib.import_module(exports.PUBLIC[name])


def install_alias() -> None:
    """Make ``import modal`` Glowplug in this process, from now on. Doing it again changes nothing."""
    if not any(isinstance(finder, ModalFinder) for finder in sys.meta_path):
        sys.meta_path.insert(0, ModalFinder())
    for name in [NAME, *(name for name in sys.modules if name.startswith(NAME + "."))]:
        if name in sys.modules and not _is_ours(sys.modules[name]):
            del sys.modules[name]


def _is_ours(module: ModuleType) -> bool:
    loader = getattr(module.__spec__, "loader", None)
    return isinstance(loader, ModalLoader) or module.__name__.startswith("glowplug.")


def _fill_package(module: ModuleType) -> None:
    from glowplug.sdk import exports

    def attribute(name: str) -> Any:
        if name.startswith("__"):
            raise AttributeError(f"module {NAME!r} has no attribute {name!r}")
        if name in exports.SUBMODULES and name not in exports.PUBLIC:
            return importlib.import_module(f"{NAME}.{name}")
        value = exports.public_attribute(NAME, name)
        if name not in exports.OLD_NAMES:
            setattr(module, name, value)
        return value

    module.__doc__ = "Glowplug, under the name that scripts import."
    module.__dict__["__version__"] = exports.MODAL_VERSION
    module.__dict__["__all__"] = sorted(set(exports.PUBLIC) - set(exports.OLD_NAMES))
    module.__dict__["__getattr__"] = attribute
    module.__dict__["__dir__"] = lambda: sorted([*module.__dict__, *exports.PUBLIC])


def _fill_submodule(module: ModuleType, names: Sequence[str]) -> None:
    from glowplug.sdk import exports

    for name in names:
        target = exports.PUBLIC.get(name, f"glowplug.sdk.function_call:{name}")
        module.__dict__[name] = exports.resolve(target)
