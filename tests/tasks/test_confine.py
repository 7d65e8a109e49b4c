"""What a judge worker may do: the kernel's filter, instruction by instruction, and the audit hook."""

from __future__ import annotations

import os

import pytest

from tasks.sandbox import confine


def judged(number: int, arguments: tuple[int, ...] = (), arch: int = confine.ARCH_X86_64, pid: int = 77) -> int:
    """What the filter says of a system call: a plain interpreter of the instructions that it uses."""
    words = {0: number, 4: arch}
    for i in range(6):
        value = arguments[i] if i < len(arguments) else 0
        words[16 + 8 * i], words[20 + 8 * i] = value & 0xFFFFFFFF, value >> 32
    program, at, register = confine.program_for(pid), 0, 0
    while True:
        code, true, false, operand = program[at]
        if code == confine.LOAD:
            register = words[operand]
        elif code == confine.AND:
            register &= operand
        elif code == confine.RETURN:
            return operand
        else:
            held = register == operand if code == confine.JUMP_EQUAL else register >= operand
            at += true if held else false
        at += 1


EPERM, ENOSYS = confine.ERRNO | 1, confine.ERRNO | 38


@pytest.mark.parametrize(
    ("name", "number", "arguments", "verdict"),
    [
        ("read", 0, (), confine.ALLOW),
        ("madvise", 28, (0, 1, 25), confine.ALLOW),
        ("open to read", 2, (1, os.O_RDONLY | os.O_CLOEXEC), confine.ALLOW),
        ("open to write", 2, (1, os.O_WRONLY), EPERM),
        ("openat to read", 257, (0, 1, os.O_RDONLY | os.O_DIRECTORY), confine.ALLOW),
        ("openat to create", 257, (0, 1, os.O_CREAT), EPERM),
        ("openat of a nameless file", 257, (0, 1, os.O_RDWR | 0o20200000), EPERM),
        ("socket", 41, (), EPERM),
        ("clone", 56, (), EPERM),
        ("fork", 57, (), EPERM),
        ("vfork", 58, (), EPERM),
        ("execve", 59, (), EPERM),
        ("kill", 62, (77,), EPERM),
        ("ptrace", 101, (), EPERM),
        ("prctl", 157, (), EPERM),
        ("setrlimit", 160, (), EPERM),
        ("tgkill oneself", 234, (77, 77, 6), confine.ALLOW),
        ("tgkill another", 234, (78, 78, 6), EPERM),
        ("read a limit", 302, (0, 9, 0), confine.ALLOW),
        ("set a limit", 302, (0, 9, 0x1000), EPERM),
        ("set a limit from high memory", 302, (0, 9, 0x7F0000000000), EPERM),
        ("is it a terminal", 16, (1, 0x5401), confine.ALLOW),
        ("give memory back", 28, (0, 4096, 4), confine.ALLOW),
        ("break memory", 28, (0, 4096, 100), EPERM),
        ("push a key into a terminal", 16, (1, 0x5412), EPERM),
        ("read flags", 72, (1, 3), confine.ALLOW),
        ("own signals", 72, (1, 8), EPERM),
        ("io_uring_setup", 425, (), EPERM),
        ("clone3", 435, (), ENOSYS),
        ("openat2", 437, (), ENOSYS),
        ("fork by the x32 door", 0x40000000 | 57, (), EPERM),
        ("read by the x32 door", 0x40000000, (), EPERM),
        ("a call of the future", 999, (), EPERM),
    ],
)
def test_the_filter_of_system_calls(name, number, arguments, verdict):
    assert judged(number, arguments) == verdict, name


def test_the_filter_kills_what_speaks_another_machine_language():
    assert judged(0, arch=0x40000003) == confine.KILL_PROCESS


def test_the_audit_hook_refuses_writing_and_processes_where_there_is_no_filter():
    for event, arguments in [
        ("open", ("a", "w", 0)),
        ("open", ("a", None, os.O_CREAT)),
        ("os.fork", ()),
        ("socket.connect", ()),
    ]:
        with pytest.raises(PermissionError):
            confine._refuse(event, arguments)
    for event, arguments in [("open", ("a", "r", 0)), ("open", (3, "rb", os.O_RDONLY)), ("import", ("os",))]:
        confine._refuse(event, arguments)
