"""Which folders a judge worker may read: Linux's Landlock, where the kernel has it (5.13 and later).

Without it a worker could read what its user can, other processes' environment under /proc among them. A restricted process can
also trace none outside its own domain. Numbers and structures are those of <linux/landlock.h>.
"""

from __future__ import annotations

import ctypes
import os
from collections.abc import Iterable

CREATE_RULESET, ADD_RULE, RESTRICT_SELF = 444, 445, 446  # system calls, the same on every machine
VERSION_FLAG, PATH_BENEATH = 1, 1
READ_FILE, READ_DIR = 1 << 2, 1 << 3
HANDLED = (1 << 13) - 1  # every right on files of the first version: what is not allowed by a rule is refused


class _Ruleset(ctypes.Structure):
    _fields_ = (("handled_access_fs", ctypes.c_uint64),)


class _PathBeneath(ctypes.Structure):
    _pack_ = 1
    _layout_ = "ms"
    _fields_ = (("allowed_access", ctypes.c_uint64), ("parent_fd", ctypes.c_int32))


def read_only(folders: Iterable[str]) -> bool:
    """Let this thread read files under `folders` and touch no other, for good; False where the kernel cannot.

    Needs PR_SET_NO_NEW_PRIVS.
    """
    libc = ctypes.CDLL(None, use_errno=True)
    if libc.syscall(CREATE_RULESET, None, ctypes.c_size_t(0), VERSION_FLAG) < 1:
        return False
    wanted = _Ruleset(HANDLED)
    rules = libc.syscall(CREATE_RULESET, ctypes.byref(wanted), ctypes.c_size_t(ctypes.sizeof(wanted)), 0)
    if rules < 0:
        return False
    try:
        for folder in folders:
            try:
                there = os.open(folder, os.O_PATH | os.O_CLOEXEC)
            except OSError:
                continue
            access = READ_FILE | READ_DIR if os.path.isdir(folder) else READ_FILE
            rule = _PathBeneath(access, there)
            added = libc.syscall(ADD_RULE, rules, PATH_BENEATH, ctypes.byref(rule), 0)
            os.close(there)
            if added:
                return False
        return libc.syscall(RESTRICT_SELF, rules, 0) == 0
    finally:
        os.close(rules)
