"""The part of msgpack the wire uses, in plain Python, for environments without msgspec.

Format: https://github.com/msgpack/msgpack/blob/master/spec.md
"""

from __future__ import annotations

import struct
from typing import Any, cast


def encode(value: Any) -> bytes:
    """Encode ``value``; raises ``TypeError`` on what the wire does not carry."""
    out = bytearray()
    _write(value, out)
    return bytes(out)


def decode(raw: bytes | bytearray | memoryview) -> Any:
    """Decode one value that fills ``raw``; raises ``ValueError`` when it does not."""
    view = memoryview(raw)
    try:
        value, position = _read(view, 0)
    except (struct.error, IndexError) as error:
        raise ValueError(f"truncated msgpack: {error}") from None
    except TypeError as error:  # a list or a map as the key of a map
        raise ValueError(f"malformed msgpack: {error}") from None
    if position != len(view):
        raise ValueError(f"{len(view) - position} bytes after the value")
    return value


def _write(value: Any, out: bytearray) -> None:
    if value is None:
        out.append(0xC0)
    elif value is True:
        out.append(0xC3)
    elif value is False:
        out.append(0xC2)
    elif isinstance(value, int):
        _write_int(value, out)
    elif isinstance(value, float):
        out += struct.pack(">Bd", 0xCB, value)
    elif isinstance(value, str):
        raw = value.encode("utf-8")
        _write_head(len(raw), out, 0xA0, 32, (0xD9, 0xDA, 0xDB))
        out += raw
    elif isinstance(value, (bytes, bytearray, memoryview)):
        raw = bytes(cast("bytes", value))
        _write_head(len(raw), out, None, 0, (0xC4, 0xC5, 0xC6))
        out += raw
    elif isinstance(value, (list, tuple)):
        items = cast("list[Any]", value)
        _write_head(len(items), out, 0x90, 16, (None, 0xDC, 0xDD))
        for item in items:
            _write(item, out)
    elif isinstance(value, dict):
        pairs = cast("dict[Any, Any]", value)
        _write_head(len(pairs), out, 0x80, 16, (None, 0xDE, 0xDF))
        for key, item in pairs.items():
            _write(key, out)
            _write(item, out)
    else:
        raise TypeError(f"the wire carries no {type(value).__name__}")


def _write_int(value: int, out: bytearray) -> None:
    if 0 <= value < 0x80:
        out.append(value)
    elif -32 <= value < 0:
        out.append(value & 0xFF)
    elif value >= 0:
        for code, limit, form in ((0xCC, 8, ">BB"), (0xCD, 16, ">BH"), (0xCE, 32, ">BI"), (0xCF, 64, ">BQ")):
            if value < 1 << limit:
                out += struct.pack(form, code, value)
                return
        raise OverflowError("the wire carries integers of at most 64 bits")
    else:
        for code, limit, form in ((0xD0, 7, ">Bb"), (0xD1, 15, ">Bh"), (0xD2, 31, ">Bi"), (0xD3, 63, ">Bq")):
            if value >= -(1 << limit):
                out += struct.pack(form, code, value)
                return
        raise OverflowError("the wire carries integers of at most 64 bits")


def _write_head(
    size: int, out: bytearray, fix: int | None, fix_limit: int, codes: tuple[int | None, int, int]
) -> None:
    if fix is not None and size < fix_limit:
        out.append(fix | size)
    elif codes[0] is not None and size < 1 << 8:
        out += struct.pack(">BB", codes[0], size)
    elif size < 1 << 16:
        out += struct.pack(">BH", codes[1], size)
    else:
        out += struct.pack(">BI", codes[2], size)


_NUMBERS = {
    0xCA: ">f", 0xCB: ">d", 0xCC: ">B", 0xCD: ">H", 0xCE: ">I", 0xCF: ">Q",
    0xD0: ">b", 0xD1: ">h", 0xD2: ">i", 0xD3: ">q",
}  # fmt: skip
_SIZES = {
    0xC4: ">B", 0xC5: ">H", 0xC6: ">I", 0xD9: ">B", 0xDA: ">H", 0xDB: ">I",
    0xDC: ">H", 0xDD: ">I", 0xDE: ">H", 0xDF: ">I",
}  # fmt: skip


def _read(view: memoryview, position: int) -> tuple[Any, int]:
    code = view[position]
    position += 1
    if code < 0x80:
        return code, position
    if code >= 0xE0:
        return code - 0x100, position
    if code < 0x90:
        return _read_map(view, position, code & 0x0F)
    if code < 0xA0:
        return _read_array(view, position, code & 0x0F)
    if code < 0xC0:
        return _read_str(view, position, code & 0x1F)
    if code == 0xC0:
        return None, position
    if code in (0xC2, 0xC3):
        return code == 0xC3, position
    if code in _NUMBERS:
        form = _NUMBERS[code]
        return struct.unpack_from(form, view, position)[0], position + struct.calcsize(form)
    if code not in _SIZES:
        raise ValueError(f"msgpack type 0x{code:02x} is not used on the wire")
    form = _SIZES[code]
    size = struct.unpack_from(form, view, position)[0]
    position += struct.calcsize(form)
    if code <= 0xC6:
        return _slice(view, position, size), position + size
    if code <= 0xDB:
        return _read_str(view, position, size)
    if code <= 0xDD:
        return _read_array(view, position, size)
    return _read_map(view, position, size)


def _slice(view: memoryview, position: int, size: int) -> bytes:
    if position + size > len(view):
        raise ValueError("truncated msgpack")
    return bytes(view[position : position + size])


def _read_str(view: memoryview, position: int, size: int) -> tuple[str, int]:
    return _slice(view, position, size).decode("utf-8"), position + size


def _read_array(view: memoryview, position: int, size: int) -> tuple[list[Any], int]:
    items: list[Any] = []
    for _ in range(size):
        item, position = _read(view, position)
        items.append(item)
    return items, position


def _read_map(view: memoryview, position: int, size: int) -> tuple[dict[Any, Any], int]:
    items: dict[Any, Any] = {}
    for _ in range(size):
        key, position = _read(view, position)
        items[key], position = _read(view, position)
    return items, position
