"""The filter of system calls, run as the kernel would run it."""

from __future__ import annotations

import struct

import pytest

from glowplug.container import guard

ALLOWED, REFUSED, MISSING = guard.ALLOW, guard.ERRNO | guard.EPERM, guard.ERRNO | guard.ENOSYS
READ = {"x86_64": 0, "aarch64": 63}
NEW_USER, NEW_TIME, THREAD = 0x10000000, 0x80, 0x10F00


def verdict(machine: str, number: int, *arguments: int, architecture: int | None = None) -> int:
    """What the filter answers to a call."""
    architecture = guard.ARCHITECTURES[machine] if architecture is None else architecture
    asked = struct.pack("<IIQ", number, architecture, 0) + struct.pack(
        "<6Q", *arguments, *[0] * (6 - len(arguments))
    )
    code = list(struct.iter_unpack("<HBBI", guard.program(machine)))
    at, value = 0, 0
    while True:
        operation, if_true, if_false, operand = code[at]
        at += 1
        if operation == guard.RETURN:
            return operand
        if operation == guard.LOAD:
            (value,) = struct.unpack_from("<I", asked, operand)
            continue
        holds = {
            guard.JUMP_EQUAL: value == operand,
            guard.JUMP_AT_LEAST: value >= operand,
            guard.JUMP_ANY_BIT: bool(value & operand),
        }[operation]
        at += if_true if holds else if_false


@pytest.mark.parametrize("machine", guard.ARCHITECTURES)
def test_what_is_refused(machine):
    calls = guard.SYSCALLS[machine]
    assert verdict(machine, READ[machine]) == ALLOWED
    for number in (*guard.REFUSED[machine].values(), *guard.REFUSED_ANYWHERE.values()):
        assert verdict(machine, number) == REFUSED
    for number in guard.MISSING.values():
        assert verdict(machine, number) == MISSING
    assert verdict(machine, calls["clone"], THREAD) == ALLOWED
    assert verdict(machine, calls["clone"], 17) == ALLOWED
    assert verdict(machine, calls["clone"], 17 | NEW_USER) == REFUSED
    assert verdict(machine, calls["clone"], 0x80) == ALLOWED, "a part of the number of a signal"
    assert verdict(machine, calls["unshare"], NEW_USER) == REFUSED
    assert verdict(machine, calls["unshare"], NEW_TIME) == REFUSED
    assert verdict(machine, calls["unshare"], 0x400) == ALLOWED
    assert verdict(machine, calls["ioctl"], 0, 0x5401) == ALLOWED
    assert verdict(machine, calls["ioctl"], 0, guard.TIOCSTI) == REFUSED
    assert verdict(machine, calls["ioctl"], 0, guard.TIOCLINUX) == REFUSED
    assert verdict(machine, 100_000) == ALLOWED


def test_other_ways_into_the_kernel_are_closed():
    assert verdict("x86_64", 11, architecture=0x40000003) == MISSING  # of 32 bits
    assert verdict("x86_64", guard.X32_BIT | 0) == MISSING


@pytest.mark.parametrize("machine", guard.ARCHITECTURES)
def test_every_jump_lands_in_the_filter(machine):
    code = list(struct.iter_unpack("<HBBI", guard.program(machine)))
    assert len(code) < 4096
    for at, (operation, if_true, if_false, _) in enumerate(code):
        if operation in (guard.JUMP_EQUAL, guard.JUMP_AT_LEAST, guard.JUMP_ANY_BIT):
            assert at + 1 + max(if_true, if_false) < len(code)
    assert code[-1] == (guard.RETURN, 0, 0, guard.ALLOW)
