"""What each operation becomes in a Containerfile, line by line (golden), and what never gets into one."""

import pytest

from glowplug.images.oci.containerfile import enter_lines, logical_lines, step_lines
from glowplug.model.errors import ImageBuildError
from glowplug.model.image_spec import BuildStep

FIND = (
    'RUN ["/bin/sh", "-c", ". /.glowplug/env; '
    'GLOWPLUG_PYTHON=\\"$(command -v python || command -v python3)\\" '
    '|| { echo \\"this image has no Python; start from one that has, or use add_python=\\" >&2; exit 1; }; '
    "export GLOWPLUG_PYTHON; "
)
INSTALL = (
    '/.glowplug/uv pip install --python \\"$GLOWPLUG_PYTHON\\" --break-system-packages --compile-bytecode '
)


def lines_of(operation, secrets=None, **fields):
    return step_lines(BuildStep(operation, fields, f"{operation}(…)"), secrets or {}).lines


@pytest.mark.parametrize(
    ("operation", "fields", "expected"),
    [
        (
            "apt",
            {"packages": ["ffmpeg", "libsox-dev"]},
            [
                'RUN ["/bin/sh", "-c", ". /.glowplug/env; apt-get update && apt-get install -y ffmpeg '
                'libsox-dev && apt-get clean"]'
            ],
        ),
        (
            "run",
            {"commands": ["echo a", "echo b \\\n  && echo c"]},
            ["RUN echo a", "RUN echo b \\\n  && echo c"],
        ),
        ("run", {"commands": ["echo a\necho b"]}, ['RUN ["/bin/sh", "-c", "echo a\\necho b"]']),
        ("run", {"commands": ["--network=none make"]}, ["RUN --network=none make"]),
        (
            "python_packages",
            {"packages": ["numpy<2", "torch"], "index_url": "https://example.org/simple", "pre": True},
            [
                FIND
                + INSTALL
                + "--index-url https://example.org/simple --prerelease allow 'numpy<2' torch\"]",
            ],
        ),
        (
            "python_packages",
            {"requirements": ["six\n"], "extra_options": "--no-deps"},
            [FIND + INSTALL + '--no-deps -r /.glowplug/requirements-0.txt"]'],
        ),
        ("copy", {"tree": "ab", "path": "models"}, ['COPY [".", "models/"]']),
        ("copy", {"tree": "ab", "path": "/"}, ['COPY [".", "/"]']),
        (
            "env",
            {"variables": {"A": "it's $HOME", "B": "1"}},
            ["ENV A='it'\"'\"'s $HOME'", "ENV B='1'"],
        ),
        ("workdir", {"path": "/my app"}, ["WORKDIR '/my app'"]),
        ("entrypoint", {"words": []}, ["ENTRYPOINT []"]),
        ("cmd", {"words": ["python", "-V"]}, ['CMD ["python", "-V"]']),
        ("shell", {"words": ["/bin/bash", "-c"]}, ['SHELL ["/bin/bash", "-c"]']),
        (
            "dockerfile",
            {"commands": ["RUN echo a \\", "# a comment", "  b", "ENV X=1"]},
            ["RUN echo a \\\n  b", "ENV X=1"],
        ),
        (
            "micromamba",
            {"packages": ["cudatoolkit=11.8"], "channels": ["conda-forge"]},
            [
                'RUN ["/bin/sh", "-c", ". /.glowplug/env; micromamba install -y -n base -c conda-forge '
                'cudatoolkit=11.8 && micromamba clean -y --all"]'
            ],
        ),
    ],
)
def test_lines(operation, fields, expected):
    assert list(lines_of(operation, **fields)) == expected


def test_variables_of_a_step_are_read_at_run_time_and_written_nowhere():
    step = BuildStep(
        "run",
        {"commands": ["--mount=type=cache,target=/c make"]},
        variables={"A": "visible?"},
        secret_variables={"TOKEN": "s3cret"},
    )
    made = step_lines(step, {"TOKEN": "s3cret"})
    assert made.lines == ("RUN --mount=type=cache,target=/c . /.glowplug/env; make",)
    assert "s3cret" not in repr(made)
    assert "visible?" not in repr(made)


def test_a_dockerfile_line_of_words_gets_the_variables_too():
    assert enter_lines(['RUN ["make", "x y"]', "USER me"], True) == [
        'RUN ["/bin/sh", "-c", ". /.glowplug/env; exec \\"$0\\" \\"$@\\"", "make", "x y"]',
        "USER me",
    ]


def test_lines_that_go_on_are_one():
    assert logical_lines("FROM a\n\nRUN b \\\n   c \\\n # no\n  d\nENV x=1") == [
        "FROM a",
        "RUN b \\\n   c \\\n  d",
        "ENV x=1",
    ]


def test_a_value_of_several_lines_is_no_line():
    made = step_lines(BuildStep("env", {"variables": {"A": "1\n2"}}), {})
    assert made.lines == ()
    assert made.environment == {"A": "1\n2"}


def test_requirements_are_shown_not_copied():
    made = step_lines(BuildStep("python_packages", {"requirements": ["six\n", "numpy\n"]}), {})
    assert made.files == {"requirements-0.txt": b"six\n", "requirements-1.txt": b"numpy\n"}
    assert made.commands == (
        "uv pip install --break-system-packages --compile-bytecode "
        "-r requirements-0.txt -r requirements-1.txt",
    )


def test_private_repositories_hand_git_the_token():
    fields = {"repositories": ["github.com/owner/name@v1"], "git_user": "me"}
    made = step_lines(BuildStep("private_repos", fields), {"GITHUB_TOKEN": "t0ken"})
    assert not any("t0ken" in line for line in made.lines)
    assert "git+https://github.com/owner/name@v1" in made.lines[1]
    assert made.variables["GIT_CONFIG_KEY_0"] == "url.https://me:t0ken@github.com/.insteadOf"
    assert made.variables["GIT_CONFIG_VALUE_0"] == "https://github.com/"


@pytest.mark.parametrize(
    ("repository", "secrets", "expected"),
    [
        ("github.com/owner/name", {}, "GITHUB_TOKEN"),
        ("gitlab.com/owner/name", {"GITHUB_TOKEN": "x"}, "GITLAB_TOKEN"),
        ("example.org/owner/name", {"GITHUB_TOKEN": "x"}, "is no repository this can install"),
        ("owner/name", {"GITHUB_TOKEN": "x"}, "is no repository this can install"),
    ],
)
def test_private_repositories_without_credentials(repository, secrets, expected):
    step = BuildStep("private_repos", {"repositories": [repository], "git_user": "me"})
    with pytest.raises(ImageBuildError, match=expected):
        step_lines(step, secrets)


def test_an_operation_nobody_knows():
    with pytest.raises(ImageBuildError, match="cannot be built here"):
        step_lines(BuildStep("teleport", {}, "teleport()"), {})
