"""What buildah says, read as progress: which line of the step it is at, what the commands print, how it
failed."""

from __future__ import annotations

import collections
import re
from collections.abc import Iterable, Sequence

from glowplug.images.uv import hide_credentials
from glowplug.ports.images import BuildLog

LAST_LINES = 20
"""Shown with a failure."""
_STEP = re.compile(r"^(?:\[\d+/\d+\] )?STEP \d+/\d+: (.*)$", re.DOTALL)
_OWN_TALK = re.compile(
    r"^(COMMIT( |$)|--> |Successfully tagged |[0-9a-f]{64}$|Getting image source signatures"
    r"|Writing manifest to|Copying (blob|config) |Storing signatures|subprocess exited with"
    r"|time=\".*level=(warning|debug|error msg=\"\+\(UNHANDLED))"
)
_ERROR = re.compile(r"^Error: (.*)$", re.DOTALL)
_GO_VALUE = re.compile(r" &\w+\.\w+\{.*\}$", re.DOTALL)
"""How buildah shows a line it does not know, after having said so."""
_NO_SOURCE = re.compile(
    r'checking on sources under "[^"]*": .*copier: stat: \[?"/?([^"]*)"\]?: no such file or directory',
    re.DOTALL,
)
"""What COPY does not find; the directory is one of the builder's own."""
_STATUS = re.compile(r"exit status (\d+)$")


def _no_source(found: re.Match[str]) -> str:
    path = found[1]
    if "--from=" in found.string[: found.start()]:
        return f"there is no {path!r} in what --from names"
    return (
        f"there is no {path!r} in its context. COPY and ADD read below context_dir=, by default the "
        "directory that the program was started in, without what ignore= or .dockerignore leaves out"
    )


class BuildOutput:
    """Lines of one step go to ``log`` without what buildah tells of itself, and without the values of
    ``secrets``."""

    def __init__(self, log: BuildLog, commands: Sequence[str], secrets: Iterable[str]) -> None:
        self._log = log
        self._commands = list(commands)
        self._secrets = sorted(set(secrets), key=len, reverse=True)
        self._run_lines = 0
        self.command = ""
        """The line it is at, as the user wrote it."""
        self.error = ""
        self.last: collections.deque[str] = collections.deque(maxlen=LAST_LINES)

    def line(self, text: str) -> None:
        text = self.hide(text)
        step = _STEP.match(text)
        if step is not None:
            self._enter(step.group(1))
            return
        if _OWN_TALK.match(text):
            return
        error = _ERROR.match(text)
        if error is not None:
            self.error = _NO_SOURCE.sub(_no_source, _GO_VALUE.sub("", error.group(1)))
            return
        self.last.append(text)
        self._log.line(text)

    def hide(self, text: str) -> str:
        return hide_credentials(text, self._secrets)

    @property
    def exit_code(self) -> int | None:
        """Of the command that failed; none when no command was run."""
        found = _STATUS.search(self.error)
        return int(found.group(1)) if found else None

    def _enter(self, instruction: str) -> None:
        self.command = instruction
        self.last.clear()
        if instruction.split(None, 1)[0].upper() == "RUN":
            # Lines of our own making are told as what they were made for.
            if self._run_lines < len(self._commands):
                self.command = self.hide(self._commands[self._run_lines])
            self._run_lines += 1
            self._log.line(f"→ {self.command}")
