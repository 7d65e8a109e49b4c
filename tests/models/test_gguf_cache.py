"""A converted GGUF file is cached under its content: names, dates and damage do not bring another model's weights."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace

import pytest

from models.files import pretrained
from models.files.manifest import CheckpointError


@pytest.fixture
def reader(monkeypatch, tmp_path):
    """A reader of GGUF files whose model is the text of the file; the conversions that it made."""
    made: list[str] = []

    def read(parent: Path, *, gguf_file: str, local_files_only: bool) -> SimpleNamespace:
        text = (Path(parent) / gguf_file).read_text()
        if not text.startswith("GGUF"):
            raise ValueError("no GGUF file")

        def save(folder: Path) -> None:
            made.append(text)
            (folder / "model.safetensors").write_text(text)

        return SimpleNamespace(config=SimpleNamespace(), save_pretrained=save)

    tokenizer = SimpleNamespace(save_pretrained=lambda folder: (folder / "tokenizer_config.json").write_text("{}"))
    monkeypatch.setenv(pretrained.CACHE_VARIABLE, str(tmp_path / "cache"))
    monkeypatch.setattr(pretrained, "AutoModelForCausalLM", SimpleNamespace(from_pretrained=read))
    monkeypatch.setattr(pretrained, "AutoTokenizer", SimpleNamespace(from_pretrained=lambda *_, **__: tokenizer))
    return made


def weights(gguf: Path) -> str:
    return (pretrained.converted(gguf) / "model.safetensors").read_text()


def test_files_of_one_name_are_two_models(reader, tmp_path):
    for folder in ("first", "second"):
        (tmp_path / folder).mkdir()
        (tmp_path / folder / "model.gguf").write_text(f"GGUF {folder}")
    assert [weights(tmp_path / folder / "model.gguf") for folder in ("first", "second", "first")] == [
        "GGUF first", "GGUF second", "GGUF first",
    ]  # fmt: skip
    assert reader == ["GGUF first", "GGUF second"], "what was converted is not converted again"


def test_a_file_that_was_overwritten_garbled_or_removed_does_not_load_what_it_was(reader, tmp_path):
    gguf = tmp_path / "model.gguf"
    gguf.write_text("GGUF one")
    assert weights(gguf) == "GGUF one"
    gguf.write_text("GGUF two")
    assert weights(gguf) == "GGUF two"
    gguf.write_text("nonsense")
    with pytest.raises(CheckpointError, match="cannot be converted"):
        weights(gguf)
    gguf.unlink()
    with pytest.raises(CheckpointError, match="no such file"):
        weights(gguf)


@pytest.mark.parametrize("damage", [lambda file: file.write_text("GGUF 0ne"), lambda file: file.unlink()])
@pytest.mark.parametrize("name", ["model.safetensors", "tokenizer_config.json", pretrained.CONVERTED])
def test_a_damaged_copy_is_made_anew(reader, tmp_path, name, damage):
    gguf = tmp_path / "model.gguf"
    gguf.write_text("GGUF one")
    damage(pretrained.converted(gguf) / name)
    assert weights(gguf) == "GGUF one"
    assert len(reader) == 2
