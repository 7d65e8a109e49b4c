"""What a checkpoint says of itself: a value is trusted as it was measured, and what is told wrongly is refused in one line."""

from __future__ import annotations

import json
import math
import shutil

import pytest

from models.files.checkpoint import load_checkpoint, save_checkpoint
from models.files.manifest import CALIBRATION, EXTRA, CheckpointError, fingerprint
from solve import Solver
from tests.solve.shipped import FOLDER, recalibrated, solver

EASY = "3 7 12 = 15"


def annotated(folder, facts) -> None:
    """Add facts to what a checkpoint says of itself; its manifest agrees."""
    (folder / EXTRA).write_text(json.dumps(json.loads((folder / EXTRA).read_text()) | facts))
    manifest = json.loads((folder / "manifest.json").read_text())
    manifest["files"][EXTRA] = fingerprint(folder / EXTRA)
    (folder / "manifest.json").write_text(json.dumps(manifest))


@pytest.mark.parametrize(
    ("auc", "within", "trusted"),
    [
        (None, None, False),
        (0.69, None, False),
        (0.7, None, True),
        (0.82, 0.54, False),  # knows hard problems from easy ones, and nothing else
        (0.82, 0.56, True),
        (0.69, 0.9, False),
        (0.9, math.nan, False),
    ],
)
def test_a_value_is_trusted_for_what_it_tells_apart_within_a_problem(auc, within, trusted):
    measured = recalibrated(Solver(str(FOLDER)), value_auc=auc, value_within=within)
    assert measured.shelved.trusted is trusted


def test_a_value_head_is_trusted_only_where_it_was_measured_unless_told():
    measured = Solver(str(FOLDER))
    assert measured.trust_value == measured.shelved.trusted
    assert solver(True).solve([EASY], tokens=60)[0].value_trusted
    assert not solver(False).solve([EASY], tokens=60)[0].value_trusted


@pytest.mark.parametrize(
    "facts",
    [
        {"chain": {"value": 1.0, "step": 1.0}},
        {"chain": {"value": 1.0, "step": 1.0, "offset": "high"}},
        {"chain": {"value": 1.0, "step": 1.0, "offset": "nan"}},
        {"chain": [1.0, 1.0, 0.0]},
        {"confidence": {"best_first": {"slope": 1.0, "bias": 0.0}}},
        {"confidence": {"best_first": 1.0}},
        {"value": {"n": 300}},
        {"value": {"auc": "good"}},
    ],
)
def test_fits_that_a_checkpoint_tells_wrongly_are_refused_in_one_line(facts, tmp_path):
    folder = tmp_path / "net"
    shutil.copytree(FOLDER, folder)
    (folder / CALIBRATION).unlink()
    annotated(folder, facts)
    with pytest.raises(CheckpointError, match=r"bench calibration policy=.* write=yes") as refused:
        Solver(str(folder))
    assert "\n" not in str(refused.value)


@pytest.mark.parametrize("task_said", ["countdown", {"foo": 1}, {"name": 3}, [1]])
def test_a_task_that_a_checkpoint_tells_wrongly_is_refused_in_one_line(task_said, tmp_path):
    folder = tmp_path / "net"
    shutil.copytree(FOLDER, folder)
    annotated(folder, {"task": task_said})
    with pytest.raises(CheckpointError, match=r"does not say a task .* use another checkpoint") as refused:
        Solver(str(folder))
    assert "\n" not in str(refused.value)


@pytest.mark.parametrize("name", ["extra.json", "config.json"])
def test_a_list_where_settings_belong_is_refused_in_one_line(name, tmp_path):
    folder = tmp_path / "net"
    shutil.copytree(FOLDER, folder)
    (folder / name).write_text("[]")
    manifest = json.loads((folder / "manifest.json").read_text())
    manifest["files"][name] = fingerprint(folder / name)
    (folder / "manifest.json").write_text(json.dumps(manifest))
    with pytest.raises(CheckpointError, match="use another checkpoint") as refused:
        Solver(str(folder))
    assert "\n" not in str(refused.value)


def test_weights_that_are_not_finite_are_refused(tmp_path, monkeypatch):
    model, tokenizer, extra = load_checkpoint(FOLDER)
    next(iter(model.value_head.parameters())).data.fill_(math.nan)
    with monkeypatch.context() as patch:
        patch.setattr("models.files.checkpoint.refuse_not_finite", lambda *_: None)
        save_checkpoint(tmp_path / "net", model, tokenizer, extra)
    with pytest.raises(CheckpointError, match="holds NaN or infinity; use another checkpoint"):
        Solver(str(tmp_path / "net"))
