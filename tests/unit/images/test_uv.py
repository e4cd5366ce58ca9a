"""What uv is given of the machine's settings, and what is made of what it says."""

from __future__ import annotations

import pytest

from glowplug.images.uv import build_variables, condense, hide_credentials


def variables(tmp_path, conf: str = "", **environ: str) -> dict[str, str]:
    (tmp_path / "pip.conf").write_text(conf)
    return build_variables({"HOME": str(tmp_path), "PIP_CONFIG_FILE": str(tmp_path / "pip.conf"), **environ})


def test_only_what_a_build_needs_is_passed_on(tmp_path):
    found = variables(tmp_path, PATH="/bin", AWS_SECRET_ACCESS_KEY="x", GLOWPLUG_HOME="/h", UV_CACHE_DIR="/c")
    assert found["PATH"] == "/bin"
    assert found["UV_CACHE_DIR"] == "/c"
    assert not {"AWS_SECRET_ACCESS_KEY", "GLOWPLUG_HOME", "PYTHONDONTWRITEBYTECODE"} & set(found)


def test_pips_indexes_are_uvs(tmp_path):
    conf = (
        "[global]\nindex-url = https://one/simple\nextra-index-url =\n  https://two/simple\n  https://three\n"
    )
    found = variables(tmp_path, conf, PIP_FIND_LINKS="/wheels /more")
    assert found["UV_DEFAULT_INDEX"] == "https://one/simple"
    assert found["UV_INDEX"] == "https://two/simple https://three"
    assert found["UV_FIND_LINKS"] == "/wheels,/more"
    assert found["UV_INDEX_STRATEGY"] == "unsafe-best-match"


def test_uvs_own_settings_win(tmp_path):
    conf = "[global]\nindex-url = https://one/simple\n"
    assert "UV_DEFAULT_INDEX" not in variables(tmp_path, conf, UV_INDEX_URL="https://mine")
    assert variables(tmp_path, conf, UV_DEFAULT_INDEX="https://mine")["UV_DEFAULT_INDEX"] == "https://mine"


def test_no_index_is_no_index(tmp_path):
    assert variables(tmp_path, "[install]\nno-index = true\n")["UV_NO_INDEX"]
    assert "UV_NO_INDEX" not in variables(tmp_path, "[global]\nno-index = false\n")


def test_a_broken_configuration_of_pips_is_pips_affair(tmp_path):
    assert "UV_NO_PROGRESS" in variables(tmp_path, "= [[[\n")


@pytest.mark.parametrize(
    ("lines", "said"),
    [
        (
            [
                "error: No solution found when resolving dependencies",
                "  cause: Because nmpy was not found in the package registry and you require nmpy, we can",
                "      conclude that your requirements are unsatisfiable.",
            ],
            "there is no package 'nmpy' in the package index",
        ),
        (
            [
                "  × No solution found when resolving dependencies:",
                "  ╰─▶ Because there is no version of numpy==99 and you require",
                "      numpy==99, we can conclude that your requirements are unsatisfiable.",
            ],
            "there is no numpy==99 in the package index",
        ),
        (
            [
                "error: Request failed after 3 retries",
                "  cause: Failed to fetch: http://127.0.0.1:9/a/",
                "  cause: tcp connect error",
                "  cause: Connection refused (os error 111)",
            ],
            "the package index http://127.0.0.1:9/a/ cannot be reached (Connection refused (os error 111))",
        ),
        (["error: failed to copy", "  cause: No space left on device (os error 28)"], "the disk is full"),
        (["error: Failed to parse: `!!`"], "Failed to parse: `!!`"),
        (["what is this"], "what is this"),
        ([], "it said nothing"),
    ],
)
def test_what_went_wrong_in_one_sentence(lines, said):
    assert condense(lines).startswith(said)


def test_credentials_are_hidden():
    text = "Failed to fetch https://ann:pw@host/simple with ghp_0123456789 and ab"
    assert (
        hide_credentials(text, ["ghp_0123456789", "ab"])
        == "Failed to fetch https://***@host/simple with *** and ab"
    )
