"""The judge pool: whatever a scorer does, its caller has an outcome in time, and nothing else in the world has changed."""

from __future__ import annotations

import os
import select
import signal
import socket
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest

from tasks import confine, judge_process
from tasks.judge_process import MOST_SENT
from tasks.pool import Job, JudgePool, Limits, PoolError

ROOT = Path(__file__).parents[2]
NAMES = (
    "same swallow_alarms loop_in_c take_memory take_shared_memory fork_bomb leave abort raise_exit raise_unprintable not_json"
    " long_reply talk forge_a_second_reply environment resident_mb nap attempts"
)
HOSTILE = {name: f"tests.tasks.hostile_scorers:{name}" for name in NAMES.split()}
SECCOMP = sys.platform == "linux" and os.uname().machine == "x86_64"


@pytest.fixture(scope="module")
def pool():
    with JudgePool(HOSTILE, limits=Limits(deadline_s=1.0)) as made:
        yield made


def same(gold, answer) -> Job:
    return Job("same", {"gold": gold, "answer": answer})


def gone(pid: int, seconds: float = 10.0) -> bool:
    """Has this process ended, at the latest `seconds` from now?"""
    try:
        handle = os.pidfd_open(pid)
    except ProcessLookupError:
        return True
    waiter = select.poll()
    waiter.register(handle, select.POLLIN)
    try:
        return bool(waiter.poll(1000 * seconds))
    finally:
        os.close(handle)


def test_outcomes_come_in_the_order_of_jobs(pool):
    outcomes = pool.judge(same(str(i), str(i % 7)) for i in range(200))
    assert [outcome.value for outcome in outcomes] == [i < 7 for i in range(200)]
    assert {outcome.status for outcome in outcomes} == {"ok"}


@pytest.mark.parametrize("text", ["", "\n", '"\n{"id": 1}', "\ud800", "\x00\u2028é", "日本", "a" * 25_000])
def test_any_text_arrives_as_it_was_sent(pool, text):
    assert pool.judge([same(text, text)])[0].value is True


@pytest.mark.parametrize(
    ("name", "arguments", "status", "detail"),
    [
        ("swallow_alarms", {}, "timeout", "no reply in 1 s"),
        ("loop_in_c", {}, "timeout", "no reply in 1 s"),
        ("take_memory", {"megabytes": 2048}, "error", "MemoryError"),
        ("take_shared_memory", {"megabytes": 2048}, "error", "OSError"),
        ("fork_bomb", {}, "error", "Error"),
        ("leave", {}, "crash", "exit status 7"),
        ("abort", {}, "crash", "killed by signal 6"),
        ("raise_exit", {}, "error", "SystemExit: nothing to see here"),
        ("raise_unprintable", {}, "error", "Odd: its message raises KeyboardInterrupt"),
        ("not_json", {}, "error", "TypeError"),
        ("long_reply", {}, "crash", "a reply of over 60000 bytes"),
        ("same", {"golden": 1}, "error", "TypeError"),
    ],
)
def test_each_end_has_an_outcome_of_its_own_within_the_deadline(pool, name, arguments, status, detail):
    assert pool.judge([same(1, 1)])[0].value is True  # workers are up: a start is not a job's time
    began = time.monotonic()
    (outcome,) = pool.judge([Job(name, arguments)])
    assert time.monotonic() - began < 1.0 + 5.0  # far above the 250 ms that bench.judges measures, for a loaded machine
    assert (outcome.status, outcome.value) == (status, None)
    assert detail in outcome.detail
    assert pool.judge([same(2, 2)])[0].value is True


@pytest.mark.parametrize(
    ("job", "detail"),
    [
        (Job("unheard", {}), "no scorer 'unheard' here"),
        (same("a" * MOST_SENT, ""), "shorten it"),
        (same(b"a", ""), "JSON cannot hold the job: TypeError"),
    ],
)
def test_a_job_that_cannot_be_sent_is_refused(pool, job, detail):
    (outcome,) = pool.judge([job])
    assert outcome.status == "refused"
    assert detail in outcome.detail


def test_what_a_scorer_prints_goes_nowhere(pool):
    assert pool.judge([Job("talk", {})])[0].value == "silent"


def test_a_forged_reply_never_answers_another_job():
    with JudgePool(HOSTILE, workers=1) as pool:
        assert pool.judge([Job("forge_a_second_reply", {})])[0].value != "real"  # two lines are no reply
        assert pool.judge([same(1, 1)])[0].value is True
        assert pool.starts == 2


@pytest.mark.skipif(not SECCOMP, reason="the kernel's filter is for Linux on x86-64")
def test_nothing_in_the_world_changes(pool, tmp_path):
    marker, before = tmp_path / "marker", Path(HOSTILE["same"].partition(":")[0].replace(".", "/") + ".py")
    text = (ROOT / before).read_bytes()
    with socket.create_server(("127.0.0.1", 0)) as server:
        job = Job("attempts", {"marker": str(marker), "parent": os.getpid(), "port": server.getsockname()[1]})
        (outcome,) = pool.judge([job])
        waiter = select.poll()
        waiter.register(server, select.POLLIN)
        assert not waiter.poll(0)
    assert outcome.value == []
    assert pool.confinement == confine.SECCOMP
    assert list(tmp_path.iterdir()) == []
    assert (ROOT / before).read_bytes() == text


def test_a_worker_sees_nothing_of_the_environment(pool, monkeypatch):
    monkeypatch.setenv("API_KEY", "secret")
    with JudgePool(HOSTILE, workers=1) as fresh:
        seen = fresh.judge([Job("environment", {})])[0].value
    assert set(seen) <= {"PYTHONPATH", "PYTHONHASHSEED", "OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "LC_CTYPE"}


def test_memory_up_to_the_limit_is_given_and_no_more():
    with JudgePool(HOSTILE, workers=1, limits=Limits(memory_mb=256)) as pool:
        (resident,) = pool.judge([Job("resident_mb", {})])
        small, large = pool.judge([Job("take_memory", {"megabytes": m}) for m in (64, 256)])
    assert isinstance(resident.value, int)
    assert resident.value < 192
    assert small.value == 64 << 20
    assert large.status == "error"


def test_others_go_on_while_one_hangs(pool):
    stuck = pool.submit(Job("nap", {"seconds": 60}))
    assert all(outcome.value for outcome in pool.judge(same(i, i) for i in range(50)))
    assert not stuck.done()
    assert stuck.result().status == "timeout"


def test_a_worker_is_replaced_after_its_jobs():
    with JudgePool(HOSTILE, workers=1, limits=Limits(jobs=1)) as pool:
        assert [outcome.value for outcome in pool.judge(same(1, 1) for _ in range(3))] == [True] * 3
        assert pool.starts >= 3


def test_a_worker_that_died_in_its_sleep_costs_no_job():
    with JudgePool(HOSTILE, workers=1) as pool:
        pool.judge([same(1, 1)])
        (pid,) = pool.pids()
        os.kill(pid, signal.SIGKILL)
        assert gone(pid)
        assert pool.judge([same(1, 1)])[0].value is True


def open_files() -> int:
    return len(os.listdir("/proc/self/fd"))


def test_kills_leave_nothing_behind():
    before, threads = open_files(), threading.active_count()
    with JudgePool(HOSTILE, workers=2) as pool:
        pool.judge([same(1, 1), same(2, 2)])
        ready = open_files()
        for _ in range(10):
            assert [outcome.status for outcome in pool.judge([Job("leave", {}), Job("abort", {})])] == ["crash"] * 2
        pool.judge([same(1, 1), same(2, 2)])
        assert open_files() == ready
        pids, folder = pool.pids(), Path(pool._folder)
        assert len(list(folder.iterdir())) <= 2
    assert all(gone(pid) for pid in pids)
    assert not folder.exists()
    assert (open_files(), threading.active_count()) == (before, threads)


def test_close_gives_every_job_an_outcome():
    pool = JudgePool(HOSTILE, workers=1, limits=Limits(deadline_s=600))
    pool.judge([same(1, 1)])
    waiting = [pool.submit(Job("nap", {"seconds": 600})) for _ in range(3)]
    pool.close()
    assert [future.result(0).status for future in waiting] == ["crash"] * 3
    with pytest.raises(PoolError, match="closed"):
        pool.submit(same(1, 1))
    pool.close()


def test_workers_die_with_a_parent_that_is_killed():
    script = (
        "import sys\n"
        "from tasks.pool import Job, JudgePool, Limits\n"
        "scorers = {n: f'tests.tasks.hostile_scorers:{n}' for n in ('same', 'loop_in_c')}\n"
        "pool = JudgePool(scorers, workers=1, limits=Limits(deadline_s=600))\n"
        "pool.judge([Job('same', {'gold': 1, 'answer': 1})])\n"
        "pool.submit(Job('loop_in_c', {}))\n"
        "print(*pool.pids(), flush=True)\n"
        "sys.stdin.read()\n"
    )
    parent = subprocess.Popen([sys.executable, "-c", script], cwd=ROOT, stdin=subprocess.PIPE, stdout=subprocess.PIPE)
    with parent:
        (worker,) = map(int, parent.stdout.readline().split())
        parent.kill()
    assert gone(worker)


def test_a_forked_copy_of_a_pool_is_refused(pool):
    child = os.fork()
    if child == 0:
        try:
            pool.submit(same(1, 1))
        except PoolError:
            os._exit(0)
        os._exit(1)
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0


def test_a_scorer_that_cannot_be_imported_is_told():
    with JudgePool({"absent": "tasks.no_such_module:score"}, workers=1) as pool:
        (outcome,) = pool.judge([Job("absent", {})])
    assert outcome.status == "crash"
    assert "No module named 'tasks.no_such_module'" in outcome.detail


def test_a_worker_larger_than_its_limit_is_told():
    with JudgePool(HOSTILE, workers=1, limits=Limits(memory_mb=1)) as pool:
        (outcome,) = pool.judge([same(1, 1)])
    assert "raise memory_mb" in outcome.detail


@pytest.mark.parametrize("limits", [{"deadline_s": 0}, {"memory_mb": 0}, {"jobs": 0}, {"start_s": -1}])
def test_limits_below_sense_are_refused(limits):
    with pytest.raises(ValueError, match="above 0"):
        Limits(**limits)


# ---- the kernel's filter, instruction by instruction


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
    assert judge_process.MOST_SENT < 65_536  # what a pipe takes at once
