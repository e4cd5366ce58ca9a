"""Where an image of a registry is to be had from, whether that can be reached, and what logs in to it."""

from __future__ import annotations

import base64
import json
import socket
import threading
import time
from pathlib import Path

from glowplug.model import errors

DOCKER_HUB = "docker.io"
_DOCKER_HUB_HOST = "registry-1.docker.io"
REACH_TIMEOUT_S = 3.0
REACHED_FOR_S = 600.0
UNREACHED_FOR_S = 60.0
"""For how long an answer is believed, the good and the bad one."""


def full_name(tag: str) -> str:
    """``tag`` with its registry, as Docker reads it: ``python:3.11`` is docker.io/library/python:3.11."""
    tag = tag.removeprefix("docker://")
    first, slash, _ = tag.partition("/")
    if slash and ("." in first or ":" in first or first == "localhost"):
        return tag
    return f"{DOCKER_HUB}/{tag}" if slash else f"{DOCKER_HUB}/library/{tag}"


def host_of(tag: str) -> str:
    host = full_name(tag).partition("/")[0]
    return _DOCKER_HUB_HOST if host == DOCKER_HUB else host


class Reach:
    """Remembers in ``file`` which hosts answered, so that a build does not wait for each anew."""

    def __init__(self, file: Path) -> None:
        self._file = file

    def refusal(self, host: str) -> str:
        """Why ``host`` cannot be reached; empty when it can."""
        known = self._read()
        reason, at = known.get(host, ("", 0.0))
        age = time.time() - at
        if 0 <= age < (UNREACHED_FOR_S if reason else REACHED_FOR_S):
            return reason
        reason = _try(host)
        known[host] = (reason, time.time())
        temporary = self._file.with_name(f".{self._file.name}-{threading.get_ident()}")
        temporary.write_text(json.dumps(known))
        temporary.replace(self._file)
        return reason

    def _read(self) -> dict[str, tuple[str, float]]:
        try:
            return {host: (reason, at) for host, (reason, at) in json.loads(self._file.read_text()).items()}
        except (OSError, ValueError, AttributeError):
            return {}


def _try(host: str) -> str:
    """The name's look-up knows no timeout of its own, so it has a thread."""
    name, _, port = host.partition(":")
    answers: list[str] = []

    def connect() -> None:
        try:
            socket.create_connection((name, int(port or 443)), timeout=REACH_TIMEOUT_S).close()
            answers.append("")
        except (OSError, ValueError) as error:
            answers.append(str(error))

    thread = threading.Thread(target=connect, daemon=True, name=f"reach-{host}")
    thread.start()
    thread.join(REACH_TIMEOUT_S)
    return answers[0] if answers else f"no answer within {REACH_TIMEOUT_S:g} s"


def login(tag: str, registry: str, secrets: dict[str, str]) -> bytes:
    """A file of logins for buildah; empty without credentials.

    Raises ``ImageBuildError`` when the step's secrets lack what this registry asks for.
    """
    if registry == "gcp_artifact_registry":
        key = secrets.get("SERVICE_ACCOUNT_JSON")
        if not key:
            raise errors.ImageBuildError(f"{tag}: none of the step's secrets has SERVICE_ACCOUNT_JSON")
        user, password = "_json_key", key
    elif registry == "aws_ecr":
        password = secrets.get("AWS_ECR_PASSWORD", "")
        if not password:
            raise errors.ImageBuildError(
                f"{tag}: images of AWS ECR need AWS_ECR_PASSWORD in a secret of the step: what "
                "`aws ecr get-login-password` prints"
            )
        user = "AWS"
    elif secrets.get("REGISTRY_USERNAME"):
        user, password = secrets["REGISTRY_USERNAME"], secrets.get("REGISTRY_PASSWORD", "")
    else:
        return b""
    token = base64.b64encode(f"{user}:{password}".encode()).decode()
    return json.dumps({"auths": {full_name(tag).partition("/")[0]: {"auth": token}}}).encode()
