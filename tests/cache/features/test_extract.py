"""mfhca_cache.features.extract: one bad recording never stops the others."""

from __future__ import annotations

import dataclasses
import math
import time
from collections.abc import Iterable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import soundfile
from audio_factory import manifest_of, sound, write_audio, write_corpus
from backbone_factory import encoder_of, recipe_of, save_model
from click.testing import CliRunner

from mfhca_cache.cli import main
from mfhca_cache.common.errors import MfhcaError
from mfhca_cache.features import extract
from mfhca_cache.features.audio import Blocks, Properties
from mfhca_cache.features.backbone import resolve
from mfhca_cache.features.encoder import Encoder
from mfhca_cache.features.extract import Extractor, Piece
from mfhca_cache.features.mel import logmel, mfcc
from mfhca_cache.features.segments import cut
from mfhca_cache.features.spectrum import logspec
from mfhca_cache.manifest.utterance import Utterance
from mfhca_cache.recipe.kinds import LogMel, LogSpec, Mfcc


@dataclass
class Recording:
    """Noise, followed by an error of a library if there is one."""

    name: str
    error: Exception | None = None
    length: float = 4.0  # seconds
    blocks_read: list[str] = field(default_factory=list)  # shared by the recordings of a test

    def blocks(self, sample_rate: int, pre_emphasis: float) -> Blocks:
        assert pre_emphasis == 0.0
        for block in np.array_split(self.samples(sample_rate), math.ceil(self.length)):
            self.blocks_read.append(self.name)
            yield block
        if self.error is not None:
            raise self.error
        length = round(self.length * sample_rate)
        return Properties(
            digest=self.name,
            samples_digest=self.name,
            length=length,
            native_samples=length,
            native_rate=sample_rate,
        )

    def samples(self, sample_rate: int) -> np.ndarray:
        return sound(self.name, self.length, sample_rate)[:, 0].astype(np.float32)


def pieces_of(results: Iterable[tuple[str, Piece | MfhcaError]]) -> dict[str, list[Piece | MfhcaError]]:
    found: dict[str, list[Piece | MfhcaError]] = {}
    for name, result in results:
        found.setdefault(name, []).append(result)
    return found


@pytest.mark.parametrize(("seconds", "most"), [(4.0, 8), (90.0, 8 * 51 / 90)])
def test_little_audio_is_decoded_ahead(seconds: float, most: float) -> None:
    """Whoever takes the results slowly does not have hours of audio in memory, nor a long recording."""
    started: list[str] = []
    extractor: Extractor[str] = Extractor({"logspec": LogSpec()}, jobs=2)
    count = 12 if seconds < 50 else 9
    recordings = [Recording(str(number), None, seconds, started) for number in range(count)]
    ahead, taken = [], 0.0
    for _, piece in extractor.run((r.name, r, ["logspec"]) for r in recordings):
        assert isinstance(piece, Piece)
        time.sleep(0.03)  # the threads decode as much as they may
        ahead.append(len(started) / seconds - taken)
        taken += piece.segments * 3 / max(seconds, 3 * piece.segments)
    assert len(started) == count * seconds
    assert max(ahead) <= most + 0.1


def test_many_threads_hold_few_files_open(monkeypatch: pytest.MonkeyPatch) -> None:
    """A long recording stays open while others are computed; a process may often open 1024 files."""
    monkeypatch.setattr(extract, "MOST_AHEAD", 6)
    opened: set[str] = set()
    counts = []

    class Open(Recording):
        def blocks(self, sample_rate: int, pre_emphasis: float) -> Blocks:
            opened.add(self.name)
            counts.append(len(opened))
            try:
                return (yield from super().blocks(sample_rate, pre_emphasis))
            finally:
                opened.remove(self.name)

        def samples(self, sample_rate: int) -> np.ndarray:
            return np.zeros(round(self.length * sample_rate), np.float32)

    recordings = [Open(f"{n}", None, 51.0) for n in range(20)]
    extractor: Extractor[str] = Extractor({"logspec": LogSpec()}, jobs=4)
    assert len(list(extractor.run((r.name, r, []) for r in recordings))) == 40
    assert not opened
    assert max(counts) <= 6 + 1


@pytest.mark.parametrize(
    ("tail", "reference", "piece"),
    [("overlap", "utterance", 1), ("drop", "full_scale", 2), ("pad", "utterance", 16)],
)
def test_pieces_have_the_features_of_the_whole(
    tail: str, reference: str, piece: int, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setattr(extract, "PIECE", piece)
    shared: dict[str, Any] = {"tail": tail, "minimum_tail_samples": 1600}
    backbone = resolve(str(save_model(tmp_path / "hubert", "HubertModel")))
    recipes: dict[str, Any] = {
        "logspec": LogSpec(db_reference=reference, **shared),
        "logmel": LogMel(db_reference=reference, **shared),
        "mfcc": Mfcc(**shared),
        "ssl": dataclasses.replace(recipe_of(backbone), **shared),
    }
    encoder = Encoder(backbone, recipes["ssl"], "cpu", 8)
    recordings = [
        Recording(f"r{n}", None, n) for n in ((54.5, 0.5) if piece == 16 else (13.0, 6.05, 0.5, 9.0))
    ]
    extractor: Extractor[str] = Extractor(recipes, encoder, 2)
    results = pieces_of(extractor.run((r.name, r, list(recipes)) for r in recordings))
    assert list(results) == [recording.name for recording in recordings]
    for recording in recordings:
        found = [result for result in results[recording.name] if isinstance(result, Piece)]
        segments, lengths = cut(recording.samples(16_000), 48_000, tail, 1600)
        assert len(found) == 1 + max(0, int(recording.length / 3) - 1) // piece
        assert [p.first for p in found] == np.cumsum([0, *(p.segments for p in found)])[:-1].tolist()
        assert [p.audio is None for p in found] == [True] * (len(found) - 1) + [False]
        states = np.concatenate(
            [
                encoder.forward(encoder.prepare(segments[i : i + 8], lengths[i : i + 8]), lengths[i : i + 8])
                for i in range(0, len(segments), 8)
            ]
        )
        expected = {
            "logspec": logspec(segments, lengths, recipes["logspec"]),
            "logmel": logmel(segments, lengths, recipes["logmel"]),
            "mfcc": mfcc(segments, lengths, recipes["mfcc"]),
            "ssl": (states, backbone.valid_frames(lengths)),
        }
        for kind, (values, valid) in expected.items():
            joined = [np.concatenate([p.features[kind][i] for p in found]) for i in (0, 1)]
            np.testing.assert_array_equal(joined[0], values, err_msg=kind)
            np.testing.assert_array_equal(joined[1], valid, err_msg=kind)


def test_results_come_in_order_even_if_some_need_no_encoder(tmp_path: Path) -> None:
    encoder = encoder_of(save_model(tmp_path / "hubert", "HubertModel"))
    recipe = recipe_of(resolve(str(tmp_path / "hubert")))
    extractor: Extractor[str] = Extractor({"logspec": LogSpec(), "ssl": recipe}, encoder)
    recordings = [Recording(f"{n:02}", None, 54.0 if n % 30 == 0 else 1.0) for n in range(40)]
    results = extractor.run(
        (r.name, r, ["logspec", "ssl"][: 1 + (i % 30 == 0)]) for i, r in enumerate(recordings)
    )
    order, ahead = [], []
    for name, result in results:
        assert isinstance(result, Piece)
        assert ("ssl" in result.features) == (int(name) % 30 == 0)
        order.append(name)
        ahead.append(len(extractor._waiting))
    assert order == sorted(order)
    assert set(order) == {recording.name for recording in recordings}
    assert max(ahead) <= 2 * encoder.batch_size


@pytest.mark.parametrize("error", [MemoryError(), RuntimeError("soxr: bad\nthing"), ZeroDivisionError("x")])
@pytest.mark.parametrize("length", [4.0, 60.0])
def test_an_error_of_a_library_is_the_failure_of_one_recording(error: Exception, length: float) -> None:
    extractor: Extractor[str] = Extractor({"logspec": LogSpec()}, jobs=2)
    recordings = [Recording("a"), Recording("bad", error, length), Recording("c")]
    results = pieces_of(extractor.run((r.name, r, ["logspec"]) for r in recordings))
    *before, failure = results["bad"]
    assert len(before) == (length > 50)
    assert isinstance(failure, MfhcaError)
    assert str(failure).startswith(f"bad: computing its features failed ({type(error).__name__}")
    assert "\n" not in str(failure)
    for name in ("a", "c"):
        (piece,) = results[name]
        assert isinstance(piece, Piece)
        assert piece.features["logspec"][0].shape == (2, 300, 200)


def failing_extractor(
    folder: Path, monkeypatch: pytest.MonkeyPatch, fatal: int
) -> tuple[Extractor[str], list[int]]:
    """An encoder whose `fatal`-th batch raises an error; the sizes of the batches it was given."""
    encoder = encoder_of(save_model(folder / "hubert", "HubertModel"))
    recipe = recipe_of(resolve(str(folder / "hubert")))
    forward, calls = Encoder.forward, []

    def forward_or_fail(self: Encoder, inputs: np.ndarray, lengths: np.ndarray) -> np.ndarray:
        calls.append(len(inputs))
        if len(calls) == fatal:
            raise RuntimeError("out of memory")
        return forward(self, inputs, lengths)

    monkeypatch.setattr(Encoder, "forward", forward_or_fail)
    return Extractor({"ssl": recipe}, encoder), calls


def test_an_error_of_the_encoder_is_the_failure_of_its_batch(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    extractor, calls = failing_extractor(tmp_path, monkeypatch, fatal=2)
    names = [f"r{i:02}" for i in range(12)]  # two segments each
    results = dict(extractor.run((name, Recording(name), ["ssl"]) for name in names))
    assert sum(calls) == 24
    assert list(results) == names
    failed = [name for name, result in results.items() if isinstance(result, MfhcaError)]
    assert failed == names[4:8]
    assert "r04: running the encoder on it failed (RuntimeError: out of memory)" in str(results["r04"])


def test_an_error_of_the_encoder_ends_a_long_recording(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    extractor, calls = failing_extractor(tmp_path, monkeypatch, fatal=5)
    long, short = Recording("long", None, 300.0), Recording("short")
    results = pieces_of(extractor.run((r.name, r, ["ssl"]) for r in (long, short)))
    # A piece of 16 segments is two batches.
    assert [type(result) for result in results["long"]] == [Piece, Piece, MfhcaError]
    assert [type(result) for result in results["short"]] == [Piece]
    assert len(calls) <= 7  # 100 segments would be 13 batches
    assert len(long.blocks_read) < 200


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
