"""Features computed under different conditions in one shard are reported, in the output and in the shard."""

from __future__ import annotations

import shutil
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import pytest
import soundfile
from audio_factory import recorded, write_audio
from build_factory import build

from mfhca_cache.build import provenance as module
from mfhca_cache.common.errors import MfhcaError
from mfhca_cache.manifest.utterance import Utterance
from mfhca_cache.store.conditions import conditions, differences
from mfhca_cache.store.shard import read_shard
from mfhca_cache.store.writer import ShardWriter


def test_another_processor_in_one_shard_is_reported(
    rows: list[Utterance], root: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    cache = tmp_path / "cache"
    monkeypatch.setattr(module, "processor", lambda: "first")
    build(rows, root, cache)
    write_audio(root / "a/a1.wav", "other", 1.0)
    monkeypatch.setattr(module, "processor", lambda: "second")
    outcome = build(rows, root, cache)
    path = next(cache.glob("*/a.h5"))
    assert outcome.notes == [
        f"{path}: its features were computed under different conditions (processor first and second); "
        "the last digits may differ from those of one run"
    ]
    assert read_shard(path).provenance["mixed_with"] == ["processor first and second"]
    # A further row under the later conditions does not make one kind of the others.
    write_audio(root / "a/a1.wav", "third", 1.0)
    assert build(rows, root, cache).notes == []
    assert read_shard(path).provenance["mixed_with"] == ["processor first and second"]


def test_edited_code_in_one_shard_is_reported(
    rows: list[Utterance], root: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The versions of all packages stay the same while somebody tries another window, say."""
    package = Path(module.features.__file__).parent
    for name, text in (("one", ""), ("two", "# edited")):
        shutil.copytree(package, tmp_path / name, ignore=shutil.ignore_patterns("__pycache__"))
        with open(tmp_path / name / "spectrum.py", "a") as file:
            file.write(text)
        monkeypatch.setattr(module.features, "__file__", str(tmp_path / name / "__init__.py"))
        write_audio(root / "a/a1.wav", name, 1.0)
        outcome = build(rows, root, tmp_path / "cache")
    (note,) = outcome.notes
    assert "under different conditions (code " in note
    packages = read_shard(next((tmp_path / "cache").glob("*/a.h5"))).provenance["packages"]
    assert packages["libsndfile"] == soundfile.__libsndfile_version__


def test_another_accelerator_is_another_condition(monkeypatch: pytest.MonkeyPatch) -> None:
    encoder = SimpleNamespace(device="cuda:0")
    made = []
    for name in ("A100", "H100"):
        monkeypatch.setattr("torch.cuda.get_device_name", lambda _, name=name: name)
        made.append(conditions(module.provenance("ssl", encoder, 8, None)))  # type: ignore[arg-type]
    assert differences(*made) == ["accelerator A100 and H100"]


def test_a_variable_that_changes_bits_is_a_condition(
    rows: list[Utterance], root: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SOXR_USE_SIMD", "0")
    monkeypatch.setenv("MKL_CBWR", "AVX2")  # torch computes no spectrogram
    build(rows, root, tmp_path / "cache")
    path = next((tmp_path / "cache").glob("*/a.h5"))
    assert read_shard(path).provenance["variables"] == {"SOXR_USE_SIMD": "0"}
    write_audio(root / "a/a1.wav", "other", 1.0)
    monkeypatch.delenv("SOXR_USE_SIMD")
    build(rows, root, tmp_path / "cache")
    shard = read_shard(path)
    assert shard.provenance["mixed_with"] == ["SOXR_USE_SIMD 0 and unset"]
    assert "variables" not in shard.provenance


def test_a_renamed_file_leaves_the_conditions_of_its_features(
    rows: list[Utterance], root: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "processor", lambda: "first")
    build(rows, root, tmp_path / "cache")
    (root / "a/a1.wav").rename(root / "a/new.wav")
    renamed = [replace(row, path=row.path.replace("a1.wav", "new.wav")) for row in rows]
    monkeypatch.setattr(module, "processor", lambda: "second")
    assert build(renamed, root, tmp_path / "cache").notes == []
    shard = read_shard(next((tmp_path / "cache").glob("*/a.h5")))
    assert "a/new.wav" in shard.paths
    assert shard.provenance["processor"] == "first"


def test_an_interrupted_run_on_another_processor_is_not_resumed(
    rows: list[Utterance], root: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its first features and the rest would be bits that no single computation gives."""
    cache = tmp_path / "cache"

    def stop(*_: object) -> None:
        raise MfhcaError("no space")

    monkeypatch.setattr(module, "processor", lambda: "first")
    with monkeypatch.context() as patch:
        patch.setattr(ShardWriter, "finish", stop)
        with pytest.raises(MfhcaError, match="no space"):
            build(rows, root, cache)
    assert list(cache.glob("*/.*.rows"))
    monkeypatch.setattr(module, "processor", lambda: "second")
    outcome = build(rows, root, cache)
    assert outcome.resumed == 0
    assert any(
        "interrupted run were computed with other versions, variables, threads or another" in n
        for n in outcome.notes
    )
    assert recorded(cache).keys() == {f"{next(cache.iterdir()).name}/{speaker}.h5" for speaker in "abc"}


def test_equal_conditions_are_not_worth_a_note(rows: list[Utterance], root: Path, tmp_path: Path) -> None:
    build(rows, root, tmp_path / "cache")
    write_audio(root / "a/a1.wav", "other", 1.0)
    assert build(rows, root, tmp_path / "cache").notes == []
    shard = read_shard(next((tmp_path / "cache").glob("*/a.h5")))
    assert "mixed_with" not in shard.provenance
