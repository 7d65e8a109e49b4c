"""Ranks share work and agree on sums; a rank's failure ends the run."""

from __future__ import annotations

import os
import signal

import pytest
import torch

from selfplay.config import ConfigError
from selfplay.team import Team, TeamError, run_as_team


def sums_and_lists(team: Team, items: list[int]) -> tuple:
    total = float(team.sum_(torch.tensor([float(team.rank + 1)])))
    mine = [10 * item for item in team.share(items)]
    return total, team.weave(mine), team.lead(team.rank), team.gather(team.rank)


def breaks(team: Team) -> None:
    if not team.leads:
        raise ValueError("this rank fails")
    team.gather(None)


@pytest.mark.parametrize(("size", "total"), [(1, 1.0), (2, 3.0)])
def test_ranks_agree_whatever_their_number(size, total):
    got = run_as_team(size, sums_and_lists, [1, 2, 3])
    assert got == (total, [10, 20, 30], 0, list(range(size)))


def test_a_failed_rank_ends_the_leader_too():
    with pytest.raises(TeamError, match=r"^worker 1: this rank fails$"):
        run_as_team(2, breaks)


def leader_breaks(team: Team) -> None:
    if team.leads:
        raise ConfigError("the leader fails")
    team.gather(None)


def test_a_leader_that_fails_says_its_own_reason(capfd):
    with pytest.raises(ConfigError, match=r"^the leader fails$"):
        run_as_team(2, leader_breaks)
    assert "Traceback" not in capfd.readouterr().err


def killed(team: Team) -> None:
    team.gather(None)
    if not team.leads:
        os.kill(os.getpid(), signal.SIGKILL)
    team.gather(None)


def test_a_killed_worker_is_one_line_and_leaves_no_file(capfd, tmp_path, monkeypatch):
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    with pytest.raises(TeamError, match=r"^worker 1 was killed \(SIGKILL\), perhaps for want of memory: ") as refused:
        run_as_team(2, killed)
    assert "\n" not in str(refused.value)
    assert "Traceback" not in capfd.readouterr().err
    assert not list(tmp_path.iterdir())
