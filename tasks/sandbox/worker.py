"""A worker of `JudgePool`: reads a job a line, calls the scorer it names, writes a verdict a line. Run as a script.

    python judge_worker.py '{"parent": PID, "memory_mb": 512, "scorers": {"name": "module:function"}}'

Scorers are imported first, then the process is confined, then it says that it is ready. Only names in the table can be
called. Lines are JSON in ASCII; a scorer's own prints go nowhere.
"""

from __future__ import annotations

import importlib
import json
import os
import sys

from tasks.sandbox.confine import confine, die_with_parent

DETAIL_CHARACTERS = 200


def main(setting: dict) -> None:
    """Serve until standard input ends."""
    die_with_parent(setting["parent"])
    replies = os.dup(1)
    nowhere = os.open(os.devnull, os.O_RDWR)
    os.dup2(nowhere, 1)
    os.dup2(nowhere, 2)
    jobs = os.fdopen(os.dup(0), "rb")
    os.dup2(nowhere, 0)
    os.close(nowhere)
    try:
        scorers = {name: _resolve(path) for name, path in setting["scorers"].items()}
        ready: dict = {"ready": confine(setting["memory_mb"])}
    except BaseException as error:
        _write(replies, {"failed": _told(error)})
        raise
    _write(replies, ready)
    for line in jobs:
        job = json.loads(line)
        _write(replies, {"id": job["id"], **_judged(scorers[job["scorer"]], job["arguments"])})


def _resolve(path: str):
    module, _, function = path.partition(":")
    return getattr(importlib.import_module(module), function)


def _judged(scorer, arguments: dict) -> dict:
    try:
        value = scorer(**arguments)
        json.dumps(value)
    except BaseException as error:  # noqa: BLE001 (foreign code raises what it likes, SystemExit too)
        return {"error": _told(error)}
    return {"value": value}


def _told(error: BaseException) -> str:
    try:
        text = " ".join(str(error)[:DETAIL_CHARACTERS].split())
    except BaseException as second:  # noqa: BLE001 (so does its __str__)
        text = f"its message raises {type(second).__name__}"
    return f"{type(error).__name__}: {text}"[:DETAIL_CHARACTERS]


def _write(replies: int, reply: dict) -> None:
    data = json.dumps(reply).encode("ascii") + b"\n"
    while data:
        data = data[os.write(replies, data) :]


if __name__ == "__main__":
    main(json.loads(sys.argv[1]))
