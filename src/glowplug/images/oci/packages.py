"""Python packages of an image as commands of uv, which is shown to the build and not part of the image."""

from __future__ import annotations

import shlex
from dataclasses import dataclass, field
from typing import Any

from glowplug.images.oci.room import SHOWN_INSIDE
from glowplug.model.errors import ImageBuildError

TOKENS = {"github.com": "GITHUB_TOKEN", "gitlab.com": "GITLAB_TOKEN"}
"""Hosts of private repositories, and the variable that opens them."""
UV = f"{SHOWN_INSIDE}/uv"
_POETRY = "poetry>=1.8,<3"


def uv_install(fields: dict[str, Any]) -> str:
    """``uv pip install`` into the interpreter ``$GLOWPLUG_PYTHON``."""
    words: list[str] = []
    for option in ("index_url", "extra_index_url", "find_links"):
        if fields.get(option):
            words += [f"--{option.replace('_', '-')}", fields[option]]
    if fields.get("pre"):
        words += ["--prerelease", "allow"]
    for number, _ in enumerate(fields.get("requirements", ())):
        words += ["-r", f"{SHOWN_INSIDE}/requirements-{number}.txt"]
    words += fields.get("packages", ())
    options = fields.get("extra_options") or ""
    command = f'{UV} pip install --python "$GLOWPLUG_PYTHON" --break-system-packages --compile-bytecode'
    return " ".join(filter(None, [command, options, shlex.join(words)]))


def uv_sync_command(fields: dict[str, Any]) -> str:
    words = ["sync", "--project", "/.uv", "--no-install-workspace", "--compile-bytecode"]
    if fields.get("frozen") and fields.get("lock"):
        words.append("--frozen")
    for group in fields.get("groups") or ():
        words += ["--group", group]
    for extra in fields.get("extras") or ():
        words += ["--extra", extra]
    options = fields.get("extra_options") or ""
    copy = _copy_files("/.uv", "pyproject.toml", "uv.lock")
    return f'{copy} && {UV} {shlex.join(words)} --python "$GLOWPLUG_PYTHON" {options}'.rstrip()


def poetry_commands(fields: dict[str, Any]) -> list[str]:
    """Poetry says what it has locked; uv installs it."""
    words = ["export", "--without-hashes", "-f", "requirements.txt", "-o", "/tmp/.glowplug-requirements.txt"]
    for option in ("with", "without", "only"):
        if fields.get(option):
            words += [f"--{option}", ",".join(fields[option])]
    poetry = f"poetry=={fields['version']}" if fields.get("version") else _POETRY
    plugin = "--with poetry-plugin-export poetry"
    tool = f'{UV} tool run --python "$GLOWPLUG_PYTHON" --from {shlex.quote(poetry)} {plugin}'
    place = "/tmp/.glowplug-poetry"
    copy = _copy_files(place, "pyproject.toml", "poetry.lock")
    install = f'{UV} pip install --python "$GLOWPLUG_PYTHON" --break-system-packages --compile-bytecode'
    return [
        f"{copy} && {tool} -C {place} {shlex.join(words)} && {install} -r /tmp/.glowplug-requirements.txt "
        f"&& rm -rf {place} /tmp/.glowplug-requirements.txt"
    ]


def _copy_files(place: str, *names: str) -> str:
    copies = f"[ ! -e {SHOWN_INSIDE}/$f ] || cp {SHOWN_INSIDE}/$f {place}/"
    return f"mkdir -p {place} && for f in {' '.join(names)}; do {copies}; done"


@dataclass(frozen=True)
class PrivateRepositories:
    fields: dict[str, Any]
    variables: dict[str, str] = field(default_factory=dict[str, str])
    """Tell git the token, which then is in no address, no record of the package and no layer."""


def private_repositories(fields: dict[str, Any], secrets: dict[str, str]) -> PrivateRepositories:
    """Raises ``ImageBuildError`` for an address that is none and for a missing token."""
    packages = []
    variables: dict[str, str] = {}
    for repository in fields.get("repositories", ()):
        address = repository.removeprefix("https://").removeprefix("git+https://")
        host = address.split("/")[0]
        if host not in TOKENS or address.count("/") < 2:
            raise ImageBuildError(
                f"pip_install_private_repos: {repository!r} is no repository this can install; write "
                '"github.com/owner/name@ref" or "gitlab.com/owner/name@ref"'
            )
        token = secrets.get(TOKENS[host])
        if not token:
            raise ImageBuildError(
                f"pip_install_private_repos: {repository!r} needs a token, and none of the step's secrets "
                f'has {TOKENS[host]}. Add secrets=[Secret.from_dict({{"{TOKENS[host]}": …}})] or a stored '
                "secret with that variable."
            )
        packages.append(f"git+https://{address}")
        number = len(variables) // 2
        variables[f"GIT_CONFIG_KEY_{number}"] = f"url.https://{fields['git_user']}:{token}@{host}/.insteadOf"
        variables[f"GIT_CONFIG_VALUE_{number}"] = f"https://{host}/"
    variables["GIT_CONFIG_COUNT"] = str(len(variables) // 2)
    variables["GIT_TERMINAL_PROMPT"] = "0"
    return PrivateRepositories({**fields, "packages": packages, "requirements": []}, variables)
