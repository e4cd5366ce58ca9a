"""A script as the command line names it: imported once under its stem, and what in it is meant to run.

FILE, FILE::name, or with -m PACKAGE.MODULE[::name]. With one entrypoint, or one function, that is meant.
With neither to infer but an ``if __name__ == "__main__"`` block, that block runs as it would under ``python
FILE``.
"""

from __future__ import annotations

import ast
import importlib
import os
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from types import ModuleType
from typing import TYPE_CHECKING, Any

from glowplug.model import errors

if TYPE_CHECKING:
    from glowplug.sdk.app import App


@dataclass
class Script:
    """An imported script. ``apps`` in the order they stand in it."""

    module: ModuleType
    apps: list[App]
    path: str
    place: str
    """The file or module as it was named."""
    target: str

    def entrypoints(self) -> dict[str, tuple[App, Any]]:
        return {name: (app, each) for app in self.apps for name, each in app.registered_entrypoints.items()}

    def functions(self) -> dict[str, tuple[App, Any]]:
        return {name: (app, each) for app in self.apps for name, each in app.registered_functions.items()}

    def main_block(self) -> list[ast.stmt]:
        """The ``if __name__ == "__main__"`` statements of the file."""
        with open(self.path, encoding="utf-8") as file:
            tree = ast.parse(file.read(), self.path)
        return [statement for statement in tree.body if _is_main_test(statement)]

    def run_main_block(self, block: list[ast.stmt]) -> None:
        """Run the block as ``python FILE`` would: the module is ``__main__`` meanwhile."""
        code = compile(ast.Module(body=block, type_ignores=[]), self.path, "exec")
        names = self.module.__dict__
        previous = sys.modules.get("__main__")
        sys.modules["__main__"] = self.module
        name, names["__name__"] = names["__name__"], "__main__"
        try:
            exec(code, names)
        finally:
            names["__name__"] = name
            if previous is not None:
                sys.modules["__main__"] = previous


def load_script(reference: str, as_module: bool = False) -> Script:
    """Import what ``reference`` names.

    Raises ``NotFoundError``, ``InvalidError``, or what its import raises.
    """
    from glowplug.sdk.app import App
    from glowplug.sdk.modal_alias import install_alias

    install_alias()
    place, _, target = reference.partition("::")
    module = _import_module(place) if as_module else import_file(place)
    apps = list(_apps_of(module, App))
    if not apps:
        raise errors.InvalidError(
            f"{place} has no App: make one at its top level, `app = modal.App()`, and decorate functions "
            "with `@app.function()`."
        )
    return Script(module, apps, module.__file__ or place, f"-m {place}" if as_module else place, target)


def import_file(place: str) -> ModuleType:
    """A file under its stem, as a container will import it."""
    path = Path(place)
    if not path.exists():
        hint = f"; for a module use `-m {place}`" if "/" not in place and not place.endswith(".py") else ""
        raise errors.NotFoundError(f"there is no file {place!r} in {os.getcwd()}{hint}")
    if path.is_dir():
        raise errors.InvalidError(f"{place} is a directory; name the script in it")
    if path.suffix != ".py":
        raise errors.InvalidError(f"{place} is imported as a module: its name must end in .py; rename it")
    stem = path.stem
    if "." in stem:
        raise errors.InvalidError(f"{place}: a script's name becomes a module's, which has no dot; rename it")
    if stem in sys.stdlib_module_names:
        raise errors.InvalidError(
            f"{place} has the name of Python's own module {stem!r}, which it would hide; rename it"
        )
    directory = str(path.resolve().parent)
    # As `python FILE` does: the script's directory first, and not the one this command was started in.
    sys.path[:] = [directory] + [each for each in sys.path if each not in ("", directory)]
    try:
        module = importlib.import_module(stem)
    except SyntaxError as error:
        if error.filename and error.lineno:
            raise
        raise errors.InvalidError(f"{place} is not a Python script: {error.msg}") from None
    loaded = getattr(module, "__file__", None)  # `modal` has none here: it is Glowplug
    if loaded is None or not os.path.samefile(loaded, path):
        other = f" ({loaded})" if loaded else ""
        raise errors.InvalidError(
            f"{place}: another module named {stem!r} is imported already{other}; rename the script"
        )
    return module


def _import_module(name: str) -> ModuleType:
    sys.path[:] = [os.getcwd()] + [each for each in sys.path if each not in ("", os.getcwd())]
    try:
        return importlib.import_module(name)
    except ModuleNotFoundError as error:
        if error.name and (name == error.name or name.startswith(error.name + ".")):
            raise errors.NotFoundError(
                f"there is no module {name!r} on the path, which begins at {os.getcwd()}"
            ) from None
        raise


def _apps_of(module: ModuleType, kind: type[App]) -> Iterator[App]:
    seen: set[int] = set()
    for value in list(vars(module).values()):
        if isinstance(value, kind) and id(value) not in seen:
            seen.add(id(value))
            yield value


def _is_main_test(statement: ast.stmt) -> bool:
    if not isinstance(statement, ast.If) or not isinstance(statement.test, ast.Compare):
        return False
    test = statement.test
    sides = [test.left, *test.comparators]
    has_name = any(isinstance(side, ast.Name) and side.id == "__name__" for side in sides)
    has_main = any(isinstance(side, ast.Constant) and side.value == "__main__" for side in sides)
    return has_name and has_main and isinstance(test.ops[0], ast.Eq)
