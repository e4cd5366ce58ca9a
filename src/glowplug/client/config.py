"""The operator's file: what this machine's owner says of it once, instead of in every shell.

    gpus = "8xH100"                 # as GLOWPLUG_GPUS
    sandbox = "required"            # as GLOWPLUG_SANDBOX

    [gpu_map]                       # substitutions allowed in every run
    A10G = "RTX-4090"

    [prices]                        # dollars an hour of one card, instead of the list price
    RTX-4090 = 0.35

    [labels]                        # what cloud= and region= ask for
    region = "lab-1"

    [images]
    base = "debian"                 # as GLOWPLUG_IMAGE_BASE
    debian_mirror = "http://mirror.example.org/debian"

    [types.FOO-X99]                 # a card the catalog does not know, or other facts of one it knows
    memory_gb = 48
    max_count = 16
    any = true

The environment's variables win over the file. It is ``$GLOWPLUG_CONFIG``, else ``glowplug/config.toml`` in
the user's configuration directory.
"""

from __future__ import annotations

import functools
import hashlib
import json
import os
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from glowplug.model import catalog, errors
from glowplug.wire.agreed import TYPES_VARIABLE as TYPES_VARIABLE

SECTIONS = {
    "gpus": str,
    "sandbox": str,
    "gpu_map": dict,
    "prices": dict,
    "labels": dict,
    "images": dict,
    "types": dict,
}
IMAGES = ("base", "debian_mirror")
LABELS = ("cloud", "region", "zone", "market")


@dataclass(frozen=True)
class Config:
    """The file's content, checked. Empty without a file."""

    gpus: str = ""
    sandbox: str = ""
    gpu_map: dict[str, str] = field(default_factory=dict)
    prices: dict[str, float] = field(default_factory=dict)
    labels: dict[str, str] = field(default_factory=dict)
    types: tuple[catalog.DeclaredType, ...] = ()
    images: dict[str, str] = field(default_factory=dict)
    """How images with a root of their own are made here."""

    @property
    def digest(self) -> str:
        """Of what only a new server can take up: prices, labels, types and how images are made."""
        if not (self.prices or self.labels or self.types or self.images):
            return ""
        text = json.dumps([self.prices, self.labels, self.types_text(), self.images], sort_keys=True)
        return hashlib.sha256(text.encode()).hexdigest()[:12]

    def types_text(self) -> str:
        return json.dumps([asdict(each) for each in self.types]) if self.types else ""


def config_path(environ: dict[str, str]) -> Path:
    if environ.get("GLOWPLUG_CONFIG"):
        return Path(environ["GLOWPLUG_CONFIG"]).expanduser()
    return config_directory(environ) / "config.toml"


def config_directory(environ: dict[str, str]) -> Path:
    """What belongs to the user and not to one home of Glowplug: the operator's file, the key of secrets."""
    base = environ.get("XDG_CONFIG_HOME")
    return (Path(base) if base else Path.home() / ".config") / "glowplug"


def read_config(environ: dict[str, str] | None = None) -> Config:
    """The operator's file. Raises ``InvalidError`` naming the file and what is wrong in it."""
    environ = dict(os.environ) if environ is None else environ
    path = config_path(environ)
    try:
        raw = path.read_bytes()
    except FileNotFoundError:
        if environ.get("GLOWPLUG_CONFIG"):
            raise errors.InvalidError(f"GLOWPLUG_CONFIG={path}: there is no such file") from None
        return Config()
    except OSError as error:
        raise errors.InvalidError(f"{path} cannot be read: {error}") from error
    try:
        import tomllib
    except ImportError:
        raise errors.InvalidError(f"{path} needs Python 3.11 or newer to be read") from None
    try:
        return parse_config(tomllib.loads(raw.decode("utf-8")))
    except (ValueError, errors.InvalidError) as error:
        raise errors.InvalidError(f"{path}: {error}") from None


def parse_config(fields: dict[str, Any]) -> Config:
    """Check what a file says. Raises ``InvalidError`` naming the key."""
    for name, value in fields.items():
        if name not in SECTIONS:
            raise errors.InvalidError(f"unknown key {name!r}; known are {', '.join(SECTIONS)}")
        if not isinstance(value, SECTIONS[name]):
            kind = "a table" if SECTIONS[name] is dict else "a string"
            raise errors.InvalidError(f"{name} must be {kind}")
    for name in fields.get("labels", {}):
        if name not in LABELS:
            raise errors.InvalidError(f"labels.{name} is not known; known are {', '.join(LABELS)}")
    for name in fields.get("images", {}):
        if name not in IMAGES:
            raise errors.InvalidError(f"images.{name} is not known; known are {', '.join(IMAGES)}")
    return Config(
        images=_strings("images", fields),
        gpus=fields.get("gpus", ""),
        sandbox=fields.get("sandbox", ""),
        gpu_map=_strings("gpu_map", fields),
        prices={name: _price(f"prices.{name}", value) for name, value in fields.get("prices", {}).items()},
        labels=_strings("labels", fields),
        types=tuple(_declared(name, facts) for name, facts in fields.get("types", {}).items()),
    )


@functools.cache
def declare_types() -> None:
    """Make the operator's types known to this process; once. In a container they come by variable."""
    text = os.environ.get(TYPES_VARIABLE)
    if text is not None:
        types = tuple(catalog.DeclaredType(**facts) for facts in json.loads(text or "[]"))
    else:
        types = read_config().types
    catalog.declare(types)


def _strings(section: str, fields: dict[str, Any]) -> dict[str, str]:
    table = fields.get(section, {})
    for name, value in table.items():
        if not isinstance(value, str):
            raise errors.InvalidError(f"{section}.{name} must be a string")
    return dict(table)


def _price(where: str, value: Any) -> float:
    if isinstance(value, bool) or not isinstance(value, (int, float)) or value < 0:
        raise errors.InvalidError(f"{where} must be dollars an hour, such as 0.35")
    return float(value)


def _declared(name: str, facts: Any) -> catalog.DeclaredType:
    if not isinstance(facts, dict):
        raise errors.InvalidError(f'types.{name} must be a table: [types."{name}"]')
    known = {"memory_gb": int, "max_count": int, "any": bool}
    for key, value in facts.items():
        if key not in known:
            raise errors.InvalidError(f"types.{name}.{key} is not known; known are {', '.join(known)}")
        if not isinstance(value, known[key]) or (known[key] is int and (value is True or value < 1)):
            kind = "true or false" if known[key] is bool else "a whole number from 1"
            raise errors.InvalidError(f"types.{name}.{key} must be {kind}")
    return catalog.DeclaredType(
        name=catalog.canonical_type(name) or name.strip().upper().replace(" ", "-"),
        memory_gb=facts.get("memory_gb"),
        max_count=facts.get("max_count"),
        any_eligible=facts.get("any"),
    )
