"""``import modal`` is Glowplug, and what the public module has."""

from __future__ import annotations

import os
import subprocess
import sys
import textwrap

import pytest

import glowplug
from glowplug.sdk import exports
from glowplug.sdk.alias import install_alias

ALIAS_DIRECTORY = os.path.dirname(sys.modules["glowplug.sdk.alias"].__file__ or "")


def python(code: str, *path: str) -> str:
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join([*path, *sys.path]), "PYTHONWARNINGS": "error"}
    done = subprocess.run(
        [sys.executable, "-c", textwrap.dedent(code)],
        env=environment,
        capture_output=True,
        text=True,
        timeout=60,
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


FORMS = """
    import modal, glowplug
    assert modal.App is glowplug.App
    from modal import Image, gpu, App as Application
    assert Application is glowplug.App and gpu is glowplug.gpu and Image is glowplug.Image
    import modal.gpu, modal.exception
    assert modal.gpu is glowplug.gpu and modal.gpu.H100 is glowplug.gpu.H100
    from modal.exception import InvalidError, DeprecationError
    assert issubclass(InvalidError, modal.Error) and modal.Error is glowplug.Error
    import modal.functions
    from modal.functions import FunctionCall, gather
    assert FunctionCall is modal.FunctionCall
    from modal.image import Image as I
    assert I is Image
    import warnings
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        from modal import Stub
        modal.Stub
    assert Stub is modal.App
    assert [str(each.message) for each in caught] == ["modal.Stub is now modal.App"] * 2, caught
    assert {each.filename for each in caught} == {"<string>"}
    assert modal.__version__.startswith("1.6.4+glowplug.")
    assert modal.__version__.split(".")[0].isdigit()
    assert not hasattr(modal, "Cls") and "App" in dir(modal)
    print("ok")
"""


def test_every_form_of_import():
    assert (
        python("from glowplug.sdk.alias import install_alias\ninstall_alias()\n" + textwrap.dedent(FORMS))
        == "ok\n"
    )


def test_a_directory_on_the_path_is_enough():
    assert python(FORMS, ALIAS_DIRECTORY) == "ok\n"


def test_it_wins_over_an_installed_package_even_when_that_was_imported(tmp_path):
    package = tmp_path / "modal"
    package.mkdir()
    (package / "__init__.py").write_text("REAL = True")
    (package / "gpu.py").write_text("REAL = True")
    code = """
        import modal, modal.gpu
        assert modal.REAL
        from glowplug.sdk.alias import install_alias
        install_alias()
        install_alias()
        import modal, modal.gpu
        assert not hasattr(modal, "REAL") and not hasattr(modal.gpu, "REAL")
        import sys
        assert [type(finder).__name__ for finder in sys.meta_path].count("ModalFinder") == 1
    """
    python(code, str(tmp_path))


@pytest.fixture
def alias(monkeypatch):
    monkeypatch.setattr(sys, "meta_path", list(sys.meta_path))
    monkeypatch.setattr(sys, "modules", dict(sys.modules))
    install_alias()


@pytest.mark.usefixtures("alias")
@pytest.mark.parametrize(
    ("statement", "text"),
    [
        ("from modal import Cls", r"modal\.Cls is not in Glowplug .* yet: classes come later"),
        ("import modal.runner", r"modal\.runner is not in Glowplug .* yet: deployed apps come later"),
        ("from modal import absent", "cannot import name 'absent'"),
        ("import modal.absent", r"No module named 'modal\.absent'"),
        ("from glowplug import Dict", r"glowplug\.Dict is not in Glowplug .* yet: stores come later"),
    ],
)
def test_what_is_missing_says_why(statement, text):
    with pytest.raises(ImportError, match=text):
        exec(statement)


def test_attributes_that_are_missing():
    with pytest.raises(AttributeError, match=r"glowplug\.Queue is not in Glowplug"):
        _ = glowplug.Queue
    with pytest.raises(AttributeError, match="module 'glowplug' has no attribute 'absent'"):
        _ = glowplug.absent


def test_exported_names():
    assert glowplug.__all__ == sorted(set(exports.PUBLIC) - set(exports.OLD_NAMES))
    for name in glowplug.__all__:
        assert getattr(glowplug, name) is exports.resolve(exports.PUBLIC[name])
    assert not set(exports.NOT_YET) & set(exports.PUBLIC)
    assert set(glowplug.__all__) <= set(dir(glowplug))


def test_importing_glowplug_imports_next_to_nothing():
    loaded = python(
        "import sys, glowplug; print(*[name for name in sys.modules if name.startswith('glowplug')])"
    )
    assert {name for name in loaded.split() if not name.startswith("glowplug.model")} == {"glowplug"}


def test_declaring_an_app_needs_no_event_loop():
    """It is imported by every start of a container and of the command line."""
    code = "import sys, glowplug; glowplug.App; print(*sys.modules)"
    assert not {"asyncio", "click", "rich", "concurrent.futures"} & set(python(code).split())
