"""The uv that installs packages: which one, what of the machine's settings it is given, what its errors mean.

A machine is often set up through pip's settings; uv reads its own only, so the index settings of pip are
handed on where uv has none.
"""

from __future__ import annotations

import configparser
import functools
import os
import re
import shutil
from collections.abc import Iterable, Mapping
from pathlib import Path

from glowplug.model import errors

PASSED = frozenset(
    {
        "PATH", "HOME", "USER", "LOGNAME", "TMPDIR", "LANG", "TZ", "NETRC", "CC", "CXX",
        "SSL_CERT_FILE", "SSL_CERT_DIR", "REQUESTS_CA_BUNDLE", "CURL_CA_BUNDLE",
        "GIT_SSL_CAINFO", "GIT_SSH", "GIT_SSH_COMMAND", "SSH_AUTH_SOCK",
        "HTTP_PROXY", "HTTPS_PROXY", "ALL_PROXY", "NO_PROXY",
        "http_proxy", "https_proxy", "all_proxy", "no_proxy",
    }
)  # fmt: skip
"""What a build sees of the server's own environment, beside uv's settings."""
PASSED_PREFIXES = ("LC_", "UV_", "XDG_")
_TRANSLATED = {  # pip's name: uv's variable and what separates its values
    "index-url": ("UV_DEFAULT_INDEX", " "),
    "extra-index-url": ("UV_INDEX", " "),
    "find-links": ("UV_FIND_LINKS", ","),
    "trusted-host": ("UV_INSECURE_HOST", " "),
}
_OLDER_NAMES = {"UV_DEFAULT_INDEX": "UV_INDEX_URL", "UV_INDEX": "UV_EXTRA_INDEX_URL"}
NO_INDEX = "UV_NO_INDEX"
"""Any value: packages come from find-links alone."""
DISK_FULL = "the disk is full"
_CREDENTIALS = re.compile(r"(?<=://)[^/@\s]+@")


@functools.cache
def uv_path() -> str:
    """The wheel's uv, else the one on PATH. Raises ``InvalidError``."""
    try:
        import uv

        return uv.find_uv_bin()
    except (ImportError, FileNotFoundError):
        found = shutil.which("uv")
    if found is None:
        raise errors.InvalidError(
            "images are built with uv, which is not installed on the server's machine: `pip install uv` there"
        )
    return found


def build_variables(environ: Mapping[str, str]) -> dict[str, str]:
    """The variables of every program of a build. ``environ`` is the server's."""
    found = {
        name: value for name, value in environ.items() if name in PASSED or name.startswith(PASSED_PREFIXES)
    }
    for name in ("UV_PYTHON", "UV_PROJECT_ENVIRONMENT", "UV_SYSTEM_PYTHON", "UV_TARGET"):
        found.pop(name, None)  # the image says which
    settings = _pip_settings(environ)
    if settings.get("cert"):
        found.setdefault("SSL_CERT_FILE", settings["cert"])
    if settings.get("no-index", "").lower() in ("1", "true", "yes", "on"):
        found.setdefault(NO_INDEX, "1")
    if any(name in found for names in _OLDER_NAMES.items() for name in names):
        settings = {name: value for name, value in settings.items() if "index" not in name}
    for name, (variable, separator) in _TRANSLATED.items():
        if settings.get(name) and variable not in found:
            found[variable] = separator.join(settings[name].split())
    if "extra-index-url" in settings:
        # As pip does it: the best version of all of them, not the first index that has the name.
        found.setdefault("UV_INDEX_STRATEGY", "unsafe-best-match")
    return {**found, "NO_COLOR": "1", "UV_NO_PROGRESS": "1", "PYTHONUNBUFFERED": "1"}


def _pip_settings(environ: Mapping[str, str]) -> dict[str, str]:
    """pip's own settings, its variables above its files, the user's file above the machine's."""
    home = Path(environ.get("HOME", "/"))
    config = Path(environ.get("XDG_CONFIG_HOME") or home / ".config")
    files = [
        Path("/etc/pip.conf"),
        Path("/etc/xdg/pip/pip.conf"),
        home / ".pip/pip.conf",
        config / "pip/pip.conf",
    ]
    given = environ.get("PIP_CONFIG_FILE")
    if given:
        files = [] if given == os.devnull else [*files, Path(given)]
    found: dict[str, str] = {}
    for file in files:
        parser = configparser.RawConfigParser()
        try:
            parser.read(file, encoding="utf-8")
        except (OSError, configparser.Error, ValueError):
            continue  # pip itself says what is wrong with it
        for section in ("global", "install"):
            if parser.has_section(section):
                found.update(parser.items(section))
    wanted = [*_TRANSLATED, "cert", "no-index"]
    for name in wanted:
        value = environ.get("PIP_" + name.upper().replace("-", "_"))
        if value:
            found[name] = value
    return {name: found[name] for name in wanted if name in found}


def hide_credentials(text: str, hidden: Iterable[str] = ()) -> str:
    """``text`` without the user names and passwords of addresses, nor any of ``hidden``."""
    text = _CREDENTIALS.sub("***@", text)
    for value in hidden:
        if len(value) >= 4:
            text = text.replace(value, "***")
    return text


def condense(lines: list[str]) -> str:
    """What uv says in a block of lines, as one sentence about what went wrong."""
    text = " ".join(line.strip() for line in lines if not line.startswith(("warning:", "DEBUG")))
    text = re.sub(r"\s+", " ", text)
    missing = re.search(
        r"Because ([\w.\-\[\]]+) was not found in the (?:package registry|provided package locations)", text
    )
    if missing:
        return f"there is no package {missing[1]!r} in the package index; is it spelled as on its page there?"
    version = re.search(r"Because there is no version of ([\w.\-\[\]]+)([=<>!~][\S]*)? and", text)
    if version:
        return f"there is no {version[1]}{version[2] or ''} in the package index"
    # The last cause is the reason, the first address what was asked for.
    if "Failed to fetch" in text or "error sending request" in text or "dns error" in text:
        address = re.search(r"Failed to fetch: `?(\S+?)`?(?:\s|$)", text)
        cause = re.findall(r"(?:cause|Caused by): ([^:]+?)(?= cause| Caused|$)", text)
        where = f" {address[1]}" if address else ""
        return (
            f"the package index{where} cannot be reached ({cause[-1] if cause else 'no answer'}). Is this "
            "machine connected, and are its proxy and index settings (UV_*, pip.conf) right?"
        )
    if "No solution found" in text:
        reason = re.search(r"(Because .*)", text)
        return f"these packages do not fit together. {reason[1] if reason else ''}".strip()
    if "No space left on device" in text or "os error 28" in text:
        return DISK_FULL
    first = next((line for line in lines if line.startswith("error:")), "")
    return first.removeprefix("error:").strip() or (lines[-1].strip() if lines else "it said nothing")
