"""What one commit adds to a volume's blocks, and how it is taken away again when the commit fails."""

from __future__ import annotations

import errno
import hashlib
import mmap
import os
import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from glowplug.store.volumes import disk
from glowplug.store.volumes.blocks import SUFFIX, Blocks, add_inside, set_attributes
from glowplug.store.volumes.manifest import BLOCK_BYTES, FILE, Entry

HASH_THREADS = min(4, os.cpu_count() or 1)
PAGE_BYTES = 4096
_pool = ThreadPoolExecutor(HASH_THREADS, "glowplug-blocks")
_buffers = threading.local()


class Deposit:
    """What one commit adds. ``undo`` takes it all away again; ``bytes`` counts what was stored."""

    def __init__(self, blocks: Blocks) -> None:
        self._blocks = blocks
        self.added: list[Path] = []
        self.bytes = 0
        self._lock = threading.Lock()

    def block(self, content: bytes | memoryview, mode: int = 0o644, mtime_ns: int = 0) -> bytes:
        """Store one block unless it is there; returns its digest."""
        digest = hashlib.sha256(content)
        name = digest.hexdigest()
        if self._blocks.has(name):
            return digest.digest()
        path = self._blocks.make_place(name)
        # All begin in one directory: a file system spreads files of different ones over the disk, at a cost.
        temporary = self._blocks.incoming / f"{name}.{threading.get_ident()}.new"
        try:
            fd = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC, 0o600)
            try:
                disk.write_all(fd, content)
                set_attributes(fd, mode, mtime_ns)
            finally:
                os.close(fd)
            disk.rename(temporary, path)
        except BaseException:
            temporary.unlink(missing_ok=True)
            raise
        self._blocks.mend(name, content)
        self._note(path, len(content))
        return digest.digest()

    def file(self, fd: int, size: int, mode: int, mtime_ns: int) -> Entry:
        """Store an open file."""
        if size <= BLOCK_BYTES:
            content = _read_small(fd, size)
            blocks = self.block(content, mode, mtime_ns) if content else b""
            return Entry(FILE, mode, len(content), mtime_ns, blocks)
        if self._is_partly_here(fd, size):
            blocks, size = _each_block(fd, size, lambda content, _: self.block(content))
        else:
            blocks, size = self._whole_file(fd, size, mode, mtime_ns)
        return Entry(FILE, mode, size, mtime_ns, blocks)

    def _is_partly_here(self, fd: int, size: int) -> bool:
        """Whether some of its blocks are stored, going by a few of them: one that is all new is stored in one
        piece, which nobody has to assemble later."""
        last = (size - 1) // BLOCK_BYTES
        for number in sorted({0, last // 3, 2 * last // 3, last}):
            block = os.pread(fd, BLOCK_BYTES, number * BLOCK_BYTES)
            if block and self._blocks.has(hashlib.sha256(block).hexdigest()):
                return True
        return False

    def _whole_file(self, fd: int, size: int, mode: int, mtime_ns: int) -> tuple[bytes, int]:
        temporary = self._blocks.large / f"{os.getpid()}.{threading.get_ident()}.new"
        out, direct = _open_direct(temporary, size)
        try:

            def store(content: memoryview, offset: int) -> bytes:
                digest = hashlib.sha256(content).digest()
                if direct:  # whole pages, of the buffer that the content lies in; the end is cut off below
                    content = memoryview(content.obj)[: -(-len(content) // PAGE_BYTES) * PAGE_BYTES]
                done = 0
                while done < len(content):
                    done += os.pwrite(out, content[done:], offset + done)
                return digest

            blocks, stored = _each_block(fd, size, store)
            os.ftruncate(out, stored)
            if stored <= BLOCK_BYTES:  # it was cut short meanwhile
                content = temporary.read_bytes()
                temporary.unlink()
                return (self.block(content, mode, mtime_ns) if content else b""), stored
            set_attributes(out, mode, mtime_ns)
            target = self._blocks.large_path(blocks)
            if target.exists():
                temporary.unlink()
                return blocks, stored
            self._list_blocks(target, blocks)
            disk.rename(temporary, target)
            self._note(target, stored)
            return blocks, stored
        except BaseException:
            temporary.unlink(missing_ok=True)
            raise
        finally:
            os.close(out)

    def _list_blocks(self, target: Path, blocks: bytes) -> None:
        listed = target.with_name(target.name + SUFFIX)
        disk.write_file(listed, blocks)
        with self._lock:
            self.added.append(listed)
        add_inside(self._blocks.inside, target.name, blocks)

    def _note(self, path: Path, size: int) -> None:
        with self._lock:
            self.added.append(path)
            self.bytes += size

    def undo(self) -> None:
        for path in self.added:
            path.unlink(missing_ok=True)
        self.added.clear()
        self._blocks.forget_inside()


def _open_direct(path: Path, size: int) -> tuple[int, bool]:
    """A new file, and whether it is written past the page cache: filling that takes longer than the disk."""
    flags = os.O_RDWR | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC
    if BLOCK_BYTES % PAGE_BYTES == 0:
        try:
            fd = os.open(path, flags | os.O_DIRECT, 0o600)
        except OSError as error:
            if error.errno != errno.EINVAL:
                raise
        else:
            try:
                os.posix_fallocate(fd, 0, size)
            except BaseException:
                os.close(fd)
                path.unlink()
                raise
            return fd, True
    return os.open(path, flags, 0o600), False


def _read_small(fd: int, size: int) -> bytes:
    content = os.pread(fd, size, 0)
    while len(content) < size:
        more = os.pread(fd, size - len(content), len(content))
        if not more:
            break
        content += more
    return content


def _each_block(fd: int, size: int, use: Callable[[memoryview, int], bytes]) -> tuple[bytes, int]:
    """``use(block, offset)`` for every block, several at a time; the digests in order and the bytes read."""

    def one(offset: int) -> tuple[bytes, int]:
        buffer: mmap.mmap | None = getattr(_buffers, "buffer", None)
        if buffer is None:  # at the beginning of a page, as direct writes want it
            buffer = _buffers.buffer = mmap.mmap(-1, BLOCK_BYTES)
        wanted = min(BLOCK_BYTES, size - offset)
        got = 0
        while got < wanted:
            read = os.preadv(fd, [memoryview(buffer)[got:wanted]], offset + got)
            if not read:
                break
            got += read
        return (use(memoryview(buffer)[:got], offset) if got else b""), got

    digests: list[bytes] = []
    total = 0
    for digest, got in _pool.map(one, range(0, size, BLOCK_BYTES)):
        if digest and total % BLOCK_BYTES == 0:  # nothing counts behind where it was cut short
            digests.append(digest)
            total += got
    return b"".join(digests), total
