"""Small files sent together, as the server takes them in."""

from __future__ import annotations

import hashlib

import pytest

from glowplug.images.files import ContentFiles
from glowplug.model.errors import InvalidError
from glowplug.server.http.blobs import _keep


def framed(content: bytes, digest: str = "") -> bytes:
    name = bytes.fromhex(digest or hashlib.sha256(content).hexdigest())
    return name + len(content).to_bytes(8, "big") + content


def stored(contents: ContentFiles) -> list[bytes]:
    return sorted(path.read_bytes() for path in contents.directory.glob("*/*"))


def test_each_is_kept_under_its_digest(tmp_path):
    contents = ContentFiles(tmp_path)
    assert _keep(contents, bytearray(framed(b"one") + framed(b"") + framed(b"two"))) == 3
    assert stored(contents) == [b"", b"one", b"two"]
    assert contents.path(hashlib.sha256(b"two").hexdigest()).read_bytes() == b"two"
    assert _keep(contents, bytearray()) == 0


@pytest.mark.parametrize("cut", [1, 10, 33, 41])
def test_what_ends_in_the_midst_is_refused(tmp_path, cut):
    contents = ContentFiles(tmp_path)
    bundle = framed(b"first") + framed(b"second")[:cut]
    with pytest.raises(InvalidError, match="end in the midst of number 2"):
        _keep(contents, bytearray(bundle))
    assert stored(contents) == [b"first"]


def test_what_is_not_what_its_digest_says_is_refused(tmp_path):
    contents = ContentFiles(tmp_path)
    with pytest.raises(InvalidError, match="has the digest"):
        _keep(contents, bytearray(framed(b"other", "ab" * 32)))
    assert stored(contents) == []
