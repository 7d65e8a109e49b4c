"""A calibration belongs to the weights that it measured, is replaced whole or not at all, and is refused once it is changed."""

from __future__ import annotations

import json
import math
import os
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest

from bench.__main__ import main as bench
from models.files import calibration
from models.files.calibration import (
    LONGEST_CHAIN,
    Calibration,
    ChainFit,
    ConfidenceFit,
    read_calibration,
    trustworthy,
    write_calibration,
)
from models.files.manifest import (
    CALIBRATION,
    EXTRA,
    MANIFEST,
    VALUE_HEAD,
    CheckpointError,
    calibration_digest,
    fingerprint,
    verify_checkpoint,
    weights_digest,
)
from models.policy import SHIPPED, open_policy

LEFT_BEHIND = f".{CALIBRATION}.new"
MADE = Calibration(
    value_auc=0.81,
    value_within=0.6,
    chain=ChainFit(value=1.5, step=0.25, offset=-2.0, ended=0.125),
    confidence={"best_first": ConfidenceFit(0.5, 1.0), "beam": ConfidenceFit()},
    greedy_tokens=16.5,
    verdict_threshold=0.3,
    measured={"split": "dev", "problems": 300, "auc_ci95": [0.8, 0.82]},
)


@pytest.fixture
def net(tmp_path) -> Path:
    """A copy of a shipped net with its calibration."""
    return Path(shutil.copytree(SHIPPED / "countdown3", tmp_path / "net"))


def seal(file: Path) -> None:
    """Write a changed file into the manifest."""
    manifest = json.loads((file.parent / MANIFEST).read_text())
    manifest["files"][file.name] = fingerprint(file)
    (file.parent / MANIFEST).write_text(json.dumps(manifest))


def told(net: Path) -> dict:
    return json.loads((net / CALIBRATION).read_text())


def forged(net: Path, **facts: object) -> None:
    """Other facts, with a digest that agrees."""
    changed = {name: fact for name, fact in told(net).items() if name != "digest"} | facts
    (net / CALIBRATION).write_text(json.dumps(changed | {"digest": calibration_digest(changed)}))


def refused(check: Callable[[], object]) -> str:
    """The one line that a checkpoint is refused with."""
    with pytest.raises(CheckpointError) as caught:
        check()
    assert "\n" not in str(caught.value)
    return str(caught.value)


# ---- writing and reading


@pytest.mark.parametrize(
    "made",
    [
        MADE,
        Calibration(greedy_tokens=0.5),
        Calibration(measured={"problems": 3}),  # an AUC that could not be told
        Calibration(value_within=0.6),
        Calibration(value_auc=0.0, value_within=1.0),
        Calibration(confidence={"greedy": ConfidenceFit(-1.0, 1e-9)}),
        Calibration(greedy_tokens=LONGEST_CHAIN),
    ],
)
def test_what_is_written_is_read(net, made):
    write_calibration(net, made)
    verify_checkpoint(net)
    assert read_calibration(net) == open_policy(str(net)).calibration == made
    assert not (net / LEFT_BEHIND).exists()


def test_nothing_measured_is_no_calibration(net):
    write_calibration(net, Calibration())
    assert open_policy(str(net)).calibration is None


def test_the_file_is_for_people_too(net):
    write_calibration(net, MADE)
    facts = told(net)
    assert facts["value"] == {"auc": 0.81, "auc_within": 0.6, **MADE.measured}
    assert facts["weights"] == weights_digest(net)
    assert facts["format"] == "reverse-o1 calibration"
    assert (net / CALIBRATION).read_text().endswith("}\n")


def test_a_new_calibration_takes_the_place_of_one_of_other_weights(net):
    weights = bytearray((net / VALUE_HEAD).read_bytes())
    weights[-1] ^= 1
    (net / VALUE_HEAD).write_bytes(weights)
    seal(net / VALUE_HEAD)
    assert "measured other weights" in refused(lambda: open_policy(str(net)))
    write_calibration(net, MADE)
    assert open_policy(str(net)).calibration == MADE


@pytest.mark.parametrize("there", ["{", "[]", None])
def test_a_new_calibration_takes_the_place_of_one_that_is_damaged_or_of_none(net, there):
    (net / CALIBRATION).unlink()
    if there is not None:
        (net / CALIBRATION).write_text(there)
    write_calibration(net, MADE)
    assert open_policy(str(net)).calibration == MADE


def test_weights_that_are_damaged_get_no_calibration(net):
    before = (net / CALIBRATION).read_bytes()
    (net / "model.safetensors").write_bytes(b"")
    assert "model.safetensors" in refused(lambda: write_calibration(net, MADE))
    assert (net / CALIBRATION).read_bytes() == before


# ---- a kill, a full disk


def test_a_kill_before_the_rename_leaves_the_old_calibration_in_force(net, monkeypatch):
    before = read_calibration(net)

    class Killed(BaseException):
        """What ends a process, and no handler of errors catches."""

    def kill(*_: object) -> None:
        raise Killed

    with monkeypatch.context() as patched:
        patched.setattr(calibration.os, "replace", kill)
        with pytest.raises(Killed):
            write_calibration(net, MADE)
    assert (net / LEFT_BEHIND).exists()
    assert open_policy(str(net)).calibration == before
    write_calibration(net, MADE)
    assert open_policy(str(net)).calibration == MADE
    assert not (net / LEFT_BEHIND).exists()


@pytest.mark.parametrize("left", [b"", b'{"format": "reverse-o1 cal', b"\xff"])
def test_half_a_file_left_behind_harms_nothing(net, left):
    before = read_calibration(net)
    (net / LEFT_BEHIND).write_bytes(left)
    assert open_policy(str(net)).calibration == before
    (net / CALIBRATION).unlink()
    assert open_policy(str(net)).calibration is None


def test_a_full_disk_is_one_line_and_leaves_the_old_calibration(net, monkeypatch):
    before = read_calibration(net)

    def full(*_: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(calibration, "sync", full)
    assert "free space" in refused(lambda: write_calibration(net, MADE))
    assert open_policy(str(net)).calibration == before


# ---- what is refused


def linked(net: Path) -> None:
    (net / CALIBRATION).rename(net.parent / "elsewhere.json")
    (net / CALIBRATION).symlink_to(net.parent / "elsewhere.json")


def linked_to_nothing(net: Path) -> None:
    (net / CALIBRATION).unlink()
    (net / CALIBRATION).symlink_to(net.parent / "nowhere.json")


def a_folder(net: Path) -> None:
    (net / CALIBRATION).unlink()
    (net / CALIBRATION).mkdir()


def a_pipe(net: Path) -> None:
    (net / CALIBRATION).unlink()
    os.mkfifo(net / CALIBRATION)  # reading it would wait for a writer for ever


def says(text: str) -> Callable[[Path], object]:
    return lambda net: (net / CALIBRATION).write_text(text)


def changed(net: Path) -> None:
    """One figure, by hand."""
    text = (net / CALIBRATION).read_text()
    (net / CALIBRATION).write_text(text.replace('"greedy_tokens": 15', '"greedy_tokens": 16'))
    assert (net / CALIBRATION).read_text() != text


NO_CALIBRATION = "not what a calibration writes"
SPOILT: dict[str, tuple[Callable[[Path], object], str]] = {
    "a figure changed by hand": (changed, "content changed (sha256)"),
    "a fact more": (lambda net: (net / CALIBRATION).write_text(json.dumps(told(net) | {"x": 1})), "content changed"),
    "other weights": (lambda net: forged(net, weights="0" * 64), "measured other weights"),
    "a newer version": (lambda net: forged(net, version=2), "version 2, not 1"),
    "no version": (lambda net: forged(net, version=None), "version None, not 1"),
    "a link": (linked, NO_CALIBRATION),
    "a link to nothing": (linked_to_nothing, NO_CALIBRATION),
    "a folder": (a_folder, NO_CALIBRATION),
    "a pipe": (a_pipe, NO_CALIBRATION),
    "nothing": (says(""), NO_CALIBRATION),
    "not JSON": (says('{"version": 1'), NO_CALIBRATION),
    "a list": (says("[]"), NO_CALIBRATION),
    "a word": (says('"calibrated"'), NO_CALIBRATION),
    "null": (says("null"), NO_CALIBRATION),
    "brackets": (says("[" * 100_000), NO_CALIBRATION),
    "no text": (lambda net: (net / CALIBRATION).write_bytes(b"\xff\xfe"), NO_CALIBRATION),
}  # fmt: skip


@pytest.mark.parametrize("name", SPOILT)
def test_a_calibration_that_is_none_is_refused_with_the_mend(net, name):
    spoil, said = SPOILT[name]
    spoil(net)
    line = refused(lambda: verify_checkpoint(net))
    assert f"{CALIBRATION}: {said}" in line
    assert "measure anew with python -m bench calibration policy=" in line
    assert refused(lambda: open_policy(str(net))) == line
    if (net / CALIBRATION).is_dir():
        (net / CALIBRATION).rmdir()
    else:
        (net / CALIBRATION).unlink()
    assert open_policy(str(net)).calibration is None  # the mend helps


@pytest.mark.parametrize(
    "facts",
    [
        {"greedy_tokens": 0},
        {"greedy_tokens": -3},
        {"greedy_tokens": 1e12},
        {"greedy_tokens": 10**400},
        {"greedy_tokens": "many"},
        {"greedy_tokens": True},
        {"greedy_tokens": math.nan},
        {"value": {"auc": 5.0}},
        {"value": {"auc": 0.9, "auc_within": -1}},
        {"value": {"n": 3}},
        {"value": 0.9},
        {"chain": [1.0]},
        {"chain": {"value": 1.0, "step": 1.0}},
        {"confidence": {"best_first": None}},
        {"confidence": {"best_first": {"slope": "steep"}}},
        {"confidence": {"best_first": {"gradient": 1.0}}},
        {"verdict_threshold": []},
    ],
)
def test_facts_that_no_measurement_gives_are_refused_although_the_digest_agrees(net, facts):
    forged(net, **facts)
    assert "not what a calibration writes: write it anew" in refused(lambda: open_policy(str(net)))


def test_how_the_file_is_laid_out_does_not_matter(net):
    before = read_calibration(net)
    (net / CALIBRATION).write_text(json.dumps(dict(reversed(told(net).items()))))
    assert open_policy(str(net)).calibration == before


# ---- checkpoints of version 0.1

OLD_FACTS = {  # as such a checkpoint tells them in extra.json, beside its task
    "chain": {"ended": 0.125, "offset": -2.0, "step": 0.25, "value": 1.5},
    "confidence": {"beam": {"offset": 0.0, "slope": 1.0}, "best_first": {"offset": 1.0, "slope": 0.5}},
    "iteration": 35,
    "value": {"auc": 0.81, "auc_within": 0.6, "auc_ci95": [0.8, 0.82], "problems": 300, "split": "dev"},
}


def test_a_checkpoint_of_version_0_1_tells_the_same(net):
    (net / CALIBRATION).unlink()
    facts = json.loads((net / EXTRA).read_text())
    (net / EXTRA).write_text(json.dumps(facts | OLD_FACTS, indent=1, sort_keys=True))
    seal(net / EXTRA)
    opened = open_policy(str(net))
    assert opened.task_options == facts["task"]
    old = opened.calibration
    assert (old.value_auc, old.value_within, old.chain) == (MADE.value_auc, MADE.value_within, MADE.chain)
    assert (old.confidence, old.measured) == (MADE.confidence, MADE.measured)
    assert (old.greedy_tokens, old.verdict_threshold) == (None, None)  # nobody measured them then
    assert old.trusted
    write_calibration(net, Calibration(greedy_tokens=3.0))  # what is measured anew replaces all of it
    assert open_policy(str(net)).calibration == Calibration(greedy_tokens=3.0)


def test_a_checkpoint_that_was_never_measured_has_none(net):
    (net / CALIBRATION).unlink()
    assert read_calibration(net) is None


# ---- trust


@pytest.mark.parametrize(
    ("auc", "within", "trusted"),
    [
        (0.7, None, True),
        (0.699, None, False),
        (0.7, 0.55, True),
        (0.7, 0.549, False),
        (0.69, 1.0, False),
        (1.0, 0.5, False),
        (math.nan, None, False),
        (0.9, math.nan, False),
    ],
)
def test_a_value_is_trusted_for_what_it_tells_apart_and_within_a_problem(auc, within, trusted):
    assert trustworthy(auc, within) is trusted
    assert Calibration(value_auc=auc, value_within=within).trusted is trusted


def test_a_value_that_could_not_be_measured_is_not_trusted():
    assert not Calibration().trusted
    assert not Calibration(value_within=0.9).trusted


def test_a_calibration_that_cannot_be_used_is_measured_anew_and_replaced(tmp_path, capsys):
    folder = tmp_path / "net"
    shutil.copytree(SHIPPED / "countdown3", folder)
    (folder / CALIBRATION).write_text("[]")
    with pytest.raises(CheckpointError, match=r"measure anew with python -m bench calibration policy=.* write=yes"):
        open_policy(str(folder))
    assert bench(["calibration", f"policy={folder}", "problems=20", "chains=2", "write=yes"]) == 0
    assert open_policy(str(folder)).calibration.greedy_tokens > 0
