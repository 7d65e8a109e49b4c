"""`bench trust` counts what comes out; a twentieth of what the promises name, with no fault."""

from __future__ import annotations

import json
from collections import Counter

import numpy as np
import pytest

from bench.trust import run as trust
from bench.trust.fuzz import TASKS
from bench.trust.fuzz import trials as fuzzed
from bench.trust.soak import over, slopes


def test_hostile_chains_are_refused_and_some_legal_ones_are_not(tmp_path, monkeypatch):
    monkeypatch.setattr("bench.trust.fuzz.CHAINS", 300)
    monkeypatch.setattr("bench.trust.fuzz.SLOW", 1.0)  # the clock of a busy machine is no claim of this test
    outcomes = fuzzed(0, tmp_path)
    assert outcomes.keys() == {"legal", "refused"}
    assert outcomes["refused"] > outcomes["legal"] > 10
    assert fuzzed(300 * [*TASKS].index("text"), tmp_path) == {"legal": 300}, "any text is a step of free text"


def test_counts_add_up_over_runs_and_a_fault_is_told(tmp_path, monkeypatch, capsys):
    seeds = []

    def trial(seed, folder):
        seeds.append(seed)
        return Counter({"fault: burnt" if len(seeds) == 2 else "held": 1})

    monkeypatch.setattr(trust, "KINDS", {"toast": trust.Kind("bread", 3, trial)})
    trust.main("toast", seconds=1e-9, run_dir=str(tmp_path))
    counts = trust.main("toast", seconds=60.0, run_dir=str(tmp_path))["counts"]
    assert counts == {"toast": {"held": 2, "fault: burnt": 1}}
    assert json.loads((tmp_path / "trust.json").read_text())["counts"] == counts
    assert len(set(seeds)) == 3, "a run goes on with trials that it has not had"
    assert "2 held" in capsys.readouterr().out


@pytest.mark.slow
@pytest.mark.parametrize("kind", trust.KINDS)
def test_a_twentieth_of_each_promise(kind, tmp_path, monkeypatch):
    few = trust.KINDS[kind].aim // 20
    monkeypatch.setitem(trust.KINDS, kind, trust.Kind("", few, trust.KINDS[kind].trials))
    counts = trust.main(kind, seconds=1e9, run_dir=str(tmp_path))["counts"][kind]
    assert counts.total() >= few
    assert not [outcome for outcome in counts if outcome.startswith(trust.FAULT)]


def test_a_soak_tells_what_grows_by_the_hour_and_by_the_line():
    at = np.arange(0.0, 3601.0, 20.0)
    rows = np.column_stack([at, 5e8 + 2e6 * at / 3600, np.full(len(at), 9), at / 2, 4 * at])
    told = slopes(rows)
    assert told["mb_an_hour"] == pytest.approx(2.0)
    assert told["low"] == pytest.approx(told["high"])
    assert told["lines_an_hour"] == pytest.approx(14_400)
    assert told["kb_a_line"] == pytest.approx(2000 / 14_400)
    rows[-1, 2] = 11  # a file that was open at that instant
    assert slopes(rows)["handles_more"] == 0
    rows[at > 2000, 2] = 11
    assert slopes(rows)["handles_more"] == 2


def test_the_pace_of_an_old_process_is_told_over_that_of_a_new_one_in_the_same_minutes():
    at = np.arange(0.0, 721.0, 20.0)
    speed = np.where(at < 400, 1.0, 0.7)  # of the machine
    lines = np.cumsum(20 * speed)
    old, new = (np.column_stack([at, at, at, at, share * lines]).tolist() for share in (0.95, 1.0))
    told = over(old, new)
    assert told["percent"] == pytest.approx(95.0)
    assert (told["low"], told["high"]) == (pytest.approx(95.0), pytest.approx(95.0))
    assert told["windows"] == 9
