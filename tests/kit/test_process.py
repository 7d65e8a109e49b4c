"""A process that is started ends with its parent from its first moment, not only once its libraries are imported."""

from __future__ import annotations

import os
import select
import subprocess
import sys
from pathlib import Path

import pytest

LEADER = """
import os
from multiprocessing import get_context
from kit.process import begun
if __name__ == "__main__":
    get_context("spawn").Process(target=begun, args=(os.getpid(), "endless_import:run")).start()
    os.read(0, 1)
"""
WORKER = (
    "import os\nprint(os.getpid(), flush=True)\nos.read(os.open({pipe!r}, os.O_RDWR), 1)\n"  # nobody ever writes there
)


@pytest.mark.skipif(sys.platform != "linux", reason="Linux tells a process that its parent has ended")
def test_a_worker_that_is_still_importing_ends_with_its_leader(tmp_path):
    os.mkfifo(tmp_path / "pipe")
    (tmp_path / "endless_import.py").write_text(WORKER.format(pipe=str(tmp_path / "pipe")))
    (tmp_path / "leader.py").write_text(LEADER)
    path = os.pathsep.join([str(tmp_path), str(Path(__file__).parents[2])])
    with subprocess.Popen(
        [sys.executable, str(tmp_path / "leader.py")],
        stdin=subprocess.PIPE, stdout=subprocess.PIPE, env=os.environ | {"PYTHONPATH": path},
    ) as leader:  # fmt: skip
        assert leader.stdout is not None
        worker = os.pidfd_open(int(leader.stdout.readline()))
        leader.kill()
        ended, _, _ = select.select([worker], [], [], 10.0)
        os.close(worker)
    assert ended
