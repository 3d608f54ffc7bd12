"""mfhca_cache.features.extract: one bad recording never stops the others."""

from __future__ import annotations

import time
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import pytest
import soundfile
from audio_factory import manifest_of, sound, write_audio, write_corpus
from backbone_factory import encoder_of, recipe_of, save_model
from click.testing import CliRunner

from mfhca_cache.cli import main
from mfhca_cache.common.errors import MfhcaError
from mfhca_cache.features.audio import Audio
from mfhca_cache.features.backbone import resolve
from mfhca_cache.features.encoder import Encoder
from mfhca_cache.features.extract import Extracted, Extractor
from mfhca_cache.manifest.utterance import Utterance
from mfhca_cache.recipe.kinds import LogSpec


@dataclass
class Recording:
    """Noise, or an error of a library."""

    name: str
    error: Exception | None = None
    length: float | None = 4.0
    started: list[str] = field(default_factory=list)  # shared by the recordings of a test

    def seconds(self) -> float | None:
        return self.length

    def read(self, sample_rate: int, pre_emphasis: float) -> Audio:
        assert pre_emphasis == 0.0
        self.started.append(self.name)
        if self.error is not None:
            raise self.error
        return Audio(
            sound(self.name, 4.0, sample_rate)[:, 0].astype(np.float32),
            self.name,
            self.name,
            64_000,
            sample_rate,
        )


@pytest.mark.parametrize(("length", "most"), [(4.0, 8), (500.0, 2), (1300.0, 1), (None, 1)])
def test_few_long_recordings_are_decoded_at_a_time(length: float | None, most: int) -> None:
    """Whoever takes the results slowly does not have hours of audio in memory."""
    started: list[str] = []
    extractor: Extractor[str] = Extractor({"logspec": LogSpec()}, jobs=2)
    recordings = [Recording(str(number), None, length, started) for number in range(12)]
    ahead = []
    for taken, _ in enumerate(extractor.run((r.name, r, ["logspec"]) for r in recordings)):
        time.sleep(0.05)  # the threads decode as much as they may
        ahead.append(len(started) - taken)
    assert len(started) == len(ahead) == 12
    assert max(ahead) == most


@pytest.mark.parametrize("error", [MemoryError(), RuntimeError("soxr: bad\nthing"), ZeroDivisionError("x")])
def test_an_error_of_a_library_is_the_failure_of_one_recording(error: Exception) -> None:
    extractor: Extractor[str] = Extractor({"logspec": LogSpec()}, jobs=2)
    recordings = [Recording("a"), Recording("bad", error), Recording("c")]
    results = dict(extractor.run((r.name, r, ["logspec"]) for r in recordings))
    assert isinstance(results["bad"], MfhcaError)
    assert str(results["bad"]).startswith(f"bad: computing its features failed ({type(error).__name__}")
    assert "\n" not in str(results["bad"])
    for name in ("a", "c"):
        assert isinstance(results[name], Extracted)
        assert results[name].features["logspec"][0].shape == (2, 300, 200)


def test_an_error_of_the_encoder_is_the_failure_of_its_batch(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    encoder = encoder_of(save_model(tmp_path / "hubert", "HubertModel"))
    recipe = recipe_of(resolve(str(tmp_path / "hubert")))
    forward, calls = Encoder.forward, []

    def second_fails(self: Encoder, inputs: np.ndarray, lengths: np.ndarray) -> np.ndarray:
        calls.append(len(inputs))
        if len(calls) == 2:
            raise RuntimeError("out of memory")
        return forward(self, inputs, lengths)

    monkeypatch.setattr(Encoder, "forward", second_fails)
    extractor: Extractor[int] = Extractor({"ssl": recipe}, encoder)
    results = dict(extractor.run((i, Recording(f"r{i}"), ["ssl"]) for i in range(12)))  # two segments each
    assert sum(calls) == 24
    assert sorted(results) == list(range(12))
    failed = [i for i, result in results.items() if isinstance(result, MfhcaError)]
    assert failed == [4, 5, 6, 7]
    assert "r4: running the encoder on it failed (RuntimeError: out of memory)" in str(results[4])


def test_unusual_audio_is_counted_and_bad_files_are_listed_at_the_end(tmp_path: Path) -> None:
    root = tmp_path / "audio"
    rows = write_corpus(root)
    for name in ("silent1", "silent2"):
        soundfile.write(root / f"{name}.wav", np.zeros(16_000), 16_000)
        rows.append(Utterance(name, f"{name}.wav", "c", "joy"))
    for name, chunk, offset, length in (
        ("pipe.aiff", b"SSND", 4, bytes(4)),
        ("sox.wav", b"data", 4, b"\x00\xff\xff\x7f"),
        ("zero.wav", b"data", 4, bytes(4)),
    ):  # as programs write headers into a pipe
        data = bytearray(write_audio(root / name, name, 0.5, subtype="PCM_16").read_bytes())
        position = data.index(chunk) + offset
        data[position : position + 4] = length
        (root / name).write_bytes(data)
        rows.append(Utterance(name.split(".")[0], name, "a", "joy"))
    (root / "cut.wav").write_bytes((root / rows[0].path).read_bytes()[:-1000])
    (root / "pointer.wav").write_text(
        "version https://git-lfs.github.com/spec/v1\noid sha256:27\nsize 82260\n"
    )
    rows += [Utterance(name, f"{name}.wav", "b", "joy") for name in ("cut", "pointer")]
    manifest = manifest_of(tmp_path / "rows.csv", rows)
    command = ["features", str(manifest.path), "--root", str(root), "--cache", str(tmp_path / "cache")]
    result = CliRunner().invoke(main, [*command, "--kind", "logspec"])
    assert result.exit_code == 1
    assert "warning: 2 utterances of digital silence: silent1, silent2" in result.stderr
    assert (
        "warning: 3 utterances with a wrong length in the header (decoded to the end of the file): pipe, sox, zero"
        in result.stderr
    )
    assert "cut.wav: cut short by 1,000 bytes; restore the whole file" in result.stderr
    assert "pointer.wav: a pointer of git-lfs" in result.stderr
    assert "2 of 14 utterances failed" in result.stderr
    assert "computed 12 utterances" in result.stdout
