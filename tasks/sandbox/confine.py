"""Take away from this process what no scorer needs: memory without end, new processes, files, the network.

For judge workers (`judge_worker.py`): called once, after imports and before any foreign text. Nothing can be given back.

On Linux x86-64 a seccomp filter of the kernel allows the system calls that computing and reading files take and refuses
every other one (EPERM), so that no trick in Python or C gets around it; Landlock keeps reading to the interpreter and this
project, capabilities are given up, and the process cannot be looked into. Elsewhere an audit hook refuses the same in Python
code: that stops accidents, not an attacker. `confine` says which of the two it was.
"""

from __future__ import annotations

import ctypes
import os
import platform
import resource
import signal
import sys

from tasks.sandbox.landlock import read_only

SECCOMP, HOOK = "seccomp", "hook"
READABLE = (
    "/usr/lib",
    "/usr/lib64",
    "/lib",
    "/lib64",
    "/usr/share/zoneinfo",
    "/dev/null",
    "/dev/urandom",
)  # beside Python's

ALLOWED = {  # x86-64 system calls that need no look at their arguments
    "read": 0, "write": 1, "close": 3, "stat": 4, "fstat": 5, "lstat": 6, "poll": 7, "lseek": 8, "mmap": 9,
    "mprotect": 10, "munmap": 11, "brk": 12, "rt_sigaction": 13, "rt_sigprocmask": 14, "rt_sigreturn": 15,
    "pread64": 17, "readv": 19, "writev": 20, "access": 21, "select": 23, "sched_yield": 24, "mremap": 25,
    "dup": 32, "pause": 34, "nanosleep": 35, "getitimer": 36, "alarm": 37, "setitimer": 38,
    "getpid": 39, "exit": 60, "uname": 63, "getcwd": 79, "readlink": 89, "gettimeofday": 96, "getrusage": 98,
    "sysinfo": 99, "times": 100, "getuid": 102, "getgid": 104, "geteuid": 107, "getegid": 108, "getppid": 110,
    "sigaltstack": 131, "gettid": 186, "time": 201, "futex": 202, "sched_getaffinity": 204, "getdents64": 217,
    "restart_syscall": 219, "clock_gettime": 228, "clock_getres": 229, "clock_nanosleep": 230, "exit_group": 231,
    "newfstatat": 262, "readlinkat": 267, "faccessat": 269, "pselect6": 270, "ppoll": 271, "set_robust_list": 273,
    "getrandom": 318, "membarrier": 324, "statx": 332, "rseq": 334, "faccessat2": 439,
}  # fmt: skip
OPEN, IOCTL, MADVISE, FCNTL, TGKILL, OPENAT, PRLIMIT = 2, 16, 28, 72, 234, 257, 302
NOT_THERE = (435, 437)  # clone3 and openat2: absent for libc, which falls back on calls that the filter can read
MAY_WRITE = os.O_WRONLY | os.O_RDWR | os.O_CREAT | os.O_TRUNC | os.O_APPEND
FCNTL_COMMANDS = (0, 1, 2, 3, 4, 1030)  # duplicate; get and set flags
IOCTL_COMMANDS = (0x5401, 0x5450, 0x5451)  # is it a terminal; keep on exec or not
MOST_ADVICE = 25  # of madvise; above it are ways to break memory on purpose

REFUSED_EVENTS = (  # of Python's audit hooks; a name that ends in a dot stands for all that begin so
    "os.system", "os.exec", "os.posix_spawn", "os.spawn", "os.fork", "os.forkpty", "os.startfile", "os.kill",
    "os.killpg", "os.remove", "os.rename", "os.rmdir", "os.mkdir", "os.link", "os.symlink", "os.truncate", "os.chmod",
    "os.chown", "os.putenv", "os.unsetenv", "pty.spawn", "shutil.", "socket.", "subprocess.", "ctypes.", "tempfile.",
    "signal.pthread_kill", "resource.setrlimit", "resource.prlimit", "_winapi.", "webbrowser.", "urllib.", "sqlite3.",
)  # fmt: skip

SECCOMP_CALL, CAPSET_CALL, CAPABILITIES_VERSION = 317, 126, 0x20080522
ARCH_X86_64, X32_BIT = 0xC000003E, 0x40000000
LOAD, JUMP_EQUAL, JUMP_NOT_LESS, AND, RETURN = 0x20, 0x15, 0x35, 0x54, 0x06
KILL_PROCESS, ALLOW, ERRNO = 0x80000000, 0x7FFF0000, 0x00050000
EPERM, ENOSYS = 1, 38
PR_SET_PDEATHSIG, PR_SET_DUMPABLE, PR_SET_NO_NEW_PRIVS = 1, 4, 38

Instruction = tuple[int, int, int, int]  # code, jump if true, jump if false, operand


def confine(memory_mb: int) -> str:
    """Confine this process for good; "seccomp" or "hook" says by what.

    `memory_mb`: of resident and of private memory, all that the process has already included.

    Raises:
        MemoryError: the process is larger than `memory_mb` already.
        RuntimeError: a scorer's module started a thread when it was imported, which would stay free.
    """
    _limit(memory_mb * 2**20)
    held = SECCOMP if platform.system() == "Linux" and platform.machine() == "x86_64" and _lock() else HOOK
    sys.addaudithook(_refuse)
    return held


def die_with_parent(parent: int) -> None:
    """Have the kernel kill this process when the thread that started it ends; at once, if `parent` is gone already."""
    if platform.system() == "Linux":
        ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, signal.SIGKILL, 0, 0, 0)
    if os.getppid() != parent:
        os._exit(1)


def _limit(most: int) -> None:
    """Address space may grow by what resident memory has left under `most` bytes: shared mappings count there, too."""
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    resource.setrlimit(resource.RLIMIT_FSIZE, (0, 0))
    resource.setrlimit(resource.RLIMIT_NOFILE, (64, 64))
    resource.setrlimit(resource.RLIMIT_NPROC, (0, 0))  # a superuser is not bound by it, but by the filter
    if platform.system() != "Linux":
        return
    with open("/proc/self/statm") as file:
        size, resident = (int(pages) * resource.getpagesize() for pages in file.read().split()[:2])
    if resident >= most:
        raise MemoryError(f"a judge worker starts with {resident >> 20} MiB: raise memory_mb above that")
    resource.setrlimit(resource.RLIMIT_DATA, (most, most))
    resource.setrlimit(resource.RLIMIT_AS, (size + most - resident, size + most - resident))


def _lock() -> bool:
    """Give up capabilities and whatever the kernel can refuse; False where it takes no filter."""
    if len(os.listdir("/proc/self/task")) > 1:
        raise RuntimeError("a scorer's module starts threads when it is imported: it cannot be judged here")
    libc = ctypes.CDLL(None, use_errno=True)
    if libc.prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0):
        return False
    libc.prctl(PR_SET_DUMPABLE, 0, 0, 0, 0)
    header = (ctypes.c_uint32 * 2)(CAPABILITIES_VERSION, 0)
    libc.syscall(CAPSET_CALL, header, (ctypes.c_uint32 * 6)())
    read_only({*READABLE, sys.prefix, sys.base_prefix, *filter(os.path.exists, sys.path)})
    return _filter(libc)


def _filter(libc: ctypes.CDLL) -> bool:
    """Hand the filter to the kernel, for every thread."""
    program = b"".join(
        code.to_bytes(2, "little") + bytes((true, false)) + operand.to_bytes(4, "little")
        for code, true, false, operand in program_for(os.getpid())
    )
    filters = ctypes.create_string_buffer(program, len(program))

    class Program(ctypes.Structure):
        _fields_ = (("length", ctypes.c_ushort), ("filter", ctypes.c_void_p))

    header = Program(len(program) // 8, ctypes.addressof(filters))
    return libc.syscall(SECCOMP_CALL, 1, 1, ctypes.byref(header)) == 0


def program_for(pid: int) -> list[Instruction]:
    """The filter as BPF instructions: linear, each rule ends in a return. `pid` may signal itself (abort does)."""
    program = [_load(4), (JUMP_EQUAL, 1, 0, ARCH_X86_64), _give(KILL_PROCESS)]
    program += [_load(0), (JUMP_NOT_LESS, 0, 1, X32_BIT), _give(ERRNO | EPERM)]
    for number in ALLOWED.values():
        program += [(JUMP_EQUAL, 0, 1, number), _give(ALLOW)]
    for number in NOT_THERE:
        program += [(JUMP_EQUAL, 0, 1, number), _give(ERRNO | ENOSYS)]
    for number, flags in ((OPEN, 1), (OPENAT, 2)):
        program += _when(number, [_argument(flags), (AND, 0, 0, MAY_WRITE), (JUMP_EQUAL, 0, 1, 0), _give(ALLOW)])
    for number, commands in ((FCNTL, FCNTL_COMMANDS), (IOCTL, IOCTL_COMMANDS)):
        one_of = [line for command in commands for line in ((JUMP_EQUAL, 0, 1, command), _give(ALLOW))]
        program += _when(number, [_argument(1), *one_of])
    program += _when(MADVISE, [_argument(2), (JUMP_NOT_LESS, 1, 0, MOST_ADVICE + 1), _give(ALLOW)])
    program += _when(TGKILL, [_argument(0), (JUMP_EQUAL, 0, 1, pid), _give(ALLOW)])
    no_new_limit = [_argument(2), (JUMP_EQUAL, 0, 3, 0), _argument(2, 4), (JUMP_EQUAL, 0, 1, 0), _give(ALLOW)]
    return [*program, *_when(PRLIMIT, no_new_limit), _give(ERRNO | EPERM)]


def _when(number: int, rule: list[Instruction]) -> list[Instruction]:
    """`rule` for one system call, refused where the rule does not return."""
    rule = [*rule, _give(ERRNO | EPERM)]
    return [(JUMP_EQUAL, 0, len(rule), number), *rule]


def _load(offset: int) -> Instruction:
    return LOAD, 0, 0, offset


def _argument(position: int, half: int = 0) -> Instruction:
    """Load 32 bits of an argument; `half` 4 for the upper ones."""
    return _load(16 + 8 * position + half)


def _give(action: int) -> Instruction:
    return RETURN, 0, 0, action


def _refuse(
    event: str, arguments: tuple, refused: tuple[str, ...] = REFUSED_EVENTS, may_write: int = MAY_WRITE
) -> None:
    """The audit hook."""
    if event == "open":
        _, mode, flags = arguments
        if (isinstance(mode, str) and set(mode) & set("wax+")) or (isinstance(flags, int) and flags & may_write):
            raise PermissionError("a judge worker writes no files")
    elif event.startswith(refused):
        raise PermissionError(f"a judge worker may not do this: {event}")
