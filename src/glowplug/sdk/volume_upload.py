"""``with volume.batch_upload() as batch``: files gathered in a block, sent and committed at its end."""

from __future__ import annotations

import asyncio
import os
from pathlib import PurePosixPath
from typing import IO, Any, Union

from glowplug.client.volumes import LocalFile, StoredVolume, file_object, local_directory
from glowplug.client.volumes import local_file as found_file
from glowplug.model.errors import AlreadyExistsError, InvalidError

Source = Union[str, "os.PathLike[str]", IO[bytes]]


class TakenFileError(AlreadyExistsError, FileExistsError):
    """A path that is taken, in an upload that replaces nothing."""

    def __str__(self) -> str:
        return str(self.args[0])


class VolumeUpload:
    """What ``batch_upload()`` gives: a block, synchronous and asynchronous."""

    def __init__(self, stored: StoredVolume, force: bool) -> None:
        self._stored = stored
        self._force = force
        self._files: dict[str, LocalFile] = {}

    def put_file(self, local_file: Source, remote_path: str | PurePosixPath, mode: int | None = None) -> None:
        """A file, by path or as a binary file object. ``mode``: its permissions, the file's own unless given.

        Raises ``NotFoundError``, ``InvalidError``.
        """
        path = _clean(remote_path)
        if isinstance(local_file, (str, os.PathLike)):
            self._files[path] = found_file(local_file, path, mode)
        else:
            self._files[path] = file_object(local_file, path, mode)

    def put_directory(
        self,
        local_path: str | os.PathLike[str],
        remote_path: str | PurePosixPath,
        recursive: bool = True,
    ) -> None:
        """Every file below a directory. Raises ``NotFoundError``."""
        path = str(remote_path).strip("/")
        for each in local_directory(local_path, path, recursive):
            each.path = _clean(each.path)
            self._files[each.path] = each

    def _send(self) -> None:
        try:
            self._stored.upload(list(self._files.values()), force=self._force)
        except AlreadyExistsError as error:
            raise TakenFileError(str(error)) from None
        finally:
            self._close()

    def _close(self) -> None:
        for each in self._files.values():
            if each.file is not None:
                each.file.close()
        self._files.clear()

    def __enter__(self) -> VolumeUpload:
        return self

    def __exit__(self, kind: Any, *_: object) -> None:
        if kind is None:
            self._send()
        else:
            self._close()

    async def __aenter__(self) -> VolumeUpload:
        return self

    async def __aexit__(self, kind: Any, *_: object) -> None:
        if kind is None:
            await asyncio.get_running_loop().run_in_executor(None, self._send)
        else:
            self._close()


def _clean(path: str | PurePosixPath) -> str:
    text = str(path)
    parts = [part for part in text.split("/") if part not in ("", ".")]
    if not parts or text.endswith("/") or ".." in parts:
        raise InvalidError(f"the remote path {text!r} must be that of a file, within the volume")
    return "/".join(parts)
