"""``FilePatternMatcher``: patterns of a .dockerignore as a callable, for ``ignore=``."""

from __future__ import annotations

import os
from pathlib import Path, PurePath
from typing import Any

from glowplug.client.ignore import IgnorePatterns, read_patterns
from glowplug.model.errors import InvalidError, NotFoundError


class FilePatternMatcher:
    """True of the paths that match; ``~matcher`` of all others. Raises ``InvalidError``.

    >>> image.add_local_dir("data", "/data", ignore=FilePatternMatcher("*.csv", "!keep.csv"))
    >>> image.add_local_dir("src", "/src", ignore=~FilePatternMatcher("**/*.py"))
    """

    def __init__(self, *pattern: str) -> None:
        self._patterns = IgnorePatterns(pattern)

    @classmethod
    def from_file(cls, file_path: str | os.PathLike[str]) -> FilePatternMatcher:
        """The patterns of a file, one a line, read when they are first needed. Raises ``NotFoundError``."""
        matcher = cls()
        matcher._patterns = _FromFile(os.fspath(file_path))  # type: ignore[assignment]
        return matcher

    @property
    def patterns(self) -> list[str]:
        """As they were given."""
        return list(self._patterns.patterns)

    def can_prune_directories(self) -> bool:
        """Whether nothing below a matching directory can be brought back by a later pattern."""
        return self._patterns.prunable

    def __call__(self, file_path: str | os.PathLike[str]) -> bool:
        """Whether a path, relative to the directory in question, matches."""
        return self._patterns.matches(PurePath(file_path).as_posix())

    def __invert__(self) -> Inverted:
        return Inverted(self)

    def __repr__(self) -> str:
        return f"FilePatternMatcher({', '.join(map(repr, self.patterns))})"


class Inverted(FilePatternMatcher):
    """What another matcher does not match."""

    def __init__(self, other: FilePatternMatcher) -> None:
        self._other = other

    @property
    def patterns(self) -> list[str]:
        return self._other.patterns

    def can_prune_directories(self) -> bool:
        return False

    def __call__(self, file_path: str | os.PathLike[str]) -> bool:
        return not self._other(file_path)

    def __invert__(self) -> Any:
        return self._other

    def __repr__(self) -> str:
        return f"~{self._other!r}"


class _FromFile:
    """Patterns that are read at first use, so that a container need not have the file."""

    def __init__(self, path: str) -> None:
        self._path = path
        self._read: IgnorePatterns | None = None

    def _now(self) -> IgnorePatterns:
        if self._read is None:
            try:
                text = Path(self._path).expanduser().read_text(encoding="utf-8")
            except FileNotFoundError:
                raise NotFoundError(
                    f"FilePatternMatcher.from_file: there is no {self._path} ({os.path.abspath(self._path)})."
                ) from None
            except (OSError, UnicodeDecodeError) as error:
                raise InvalidError(
                    f"FilePatternMatcher.from_file: {self._path} cannot be read: {error}."
                ) from None
            self._read = IgnorePatterns(read_patterns(text))
        return self._read

    @property
    def patterns(self) -> tuple[str, ...]:
        return self._now().patterns

    @property
    def prunable(self) -> bool:
        return self._now().prunable

    def matches(self, path: str) -> bool:
        return self._now().matches(path)


NON_PYTHON_FILES = ~FilePatternMatcher("**/*.py")
"""Everything but .py files: what ``add_local_python_source`` leaves out by default."""
