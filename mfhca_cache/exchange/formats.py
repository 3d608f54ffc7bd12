"""Writers of features in the formats of other tools: numpy, Kaldi, parquet, Hugging Face datasets."""

from __future__ import annotations

import secrets
import tempfile
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from functools import partial
from itertools import groupby
from pathlib import Path
from typing import Any

import numpy as np

from mfhca_cache.common.errors import MfhcaError
from mfhca_cache.common.extras import optional
from mfhca_cache.common.text import csv_text
from mfhca_cache.exchange.frames import FEATURES, VALID_FRAMES, encoded

Array = np.ndarray[Any, Any]

LABELS = "labels.csv"


@dataclass(frozen=True)
class Header:
    """What all rows have in common.

    Attributes:
        content: one of `choices.CONTENTS`.
        classes: the classes of the labels, in order.
        frame_shape: of a segment, (T, F), after layers.
        dtype: of the values.
    """

    content: str
    classes: tuple[str, ...]
    frame_shape: tuple[int, ...]
    dtype: str

    @property
    def shape(self) -> tuple[int | None, ...]:
        """Of an utterance; None: differs."""
        frames, width = self.frame_shape[-2:]
        return {"frames": (None, width), "segments": (None, frames, width), "statistics": (2 * width,)}[
            self.content
        ]


@dataclass(frozen=True, eq=False)
class Row:
    """An utterance: its texts by column, its values of `Header.shape`, and the valid frames (S,) of its segments."""

    cells: dict[str, str]
    values: Array
    valid: Array


Writer = Callable[[Path, Iterator[Row], Path], None]


def writer(name: str, header: Header) -> Writer:
    """The function that writes a format into a folder.

    Args:
        name: npz, kaldi, parquet or hf.
        header: of the rows.

    Returns:
        A function of the folder to write to, the rows sorted by speaker, and the folder's final name.

    Raises:
        MfhcaError: the format cannot hold the content or the type, or its library is not installed.
    """
    if name == "npz":
        return partial(_npz, header)
    if name == "kaldi":
        if header.content == "segments" or header.dtype != "float32":
            raise MfhcaError(
                "Kaldi has matrices of float32; choose --dtype float32 and --content frames or statistics, or another "
                "--format"
            )
        return partial(_kaldi, optional("kaldiio", "kaldi"))
    if name == "parquet":
        return partial(
            _parquet, optional("pyarrow", "parquet"), optional("pyarrow.parquet", "parquet"), header
        )
    return partial(_hf, optional("datasets", "hf"), header)


def _labels(rows: Iterable[Row], table: list[dict[str, str]]) -> Iterator[Row]:
    """Passes rows on, and collects their texts."""
    for row in rows:
        table.append({**row.cells, "frames": str(int(row.valid.sum()))})
        yield row


def _write_labels(folder: Path, table: list[dict[str, str]]) -> None:
    header = list(table[0])
    (folder / LABELS).write_text(
        csv_text(header, [[row[name] for name in header] for row in table]), encoding="utf-8", newline=""
    )


def _npz(header: Header, folder: Path, rows: Iterator[Row], _: Path) -> None:
    table: list[dict[str, str]] = []
    (folder / FEATURES).mkdir()
    for row in _labels(rows, table):
        arrays: dict[str, Any] = {FEATURES: row.values}
        if header.content == "segments":
            arrays[VALID_FRAMES] = row.valid
        np.savez(folder / FEATURES / f"{encoded(row.cells['utterance'])}.npz", **arrays)
    _write_labels(folder, table)


def _kaldi(kaldiio: Any, folder: Path, rows: Iterator[Row], final: Path) -> None:
    table: list[dict[str, str]] = []
    with kaldiio.WriteHelper(f"ark,scp:{folder / 'feats.ark'},{folder / 'feats.scp'}") as write:
        for row in _labels(rows, table):
            write(encoded(row.cells["utterance"]), row.values)
    scp = (folder / "feats.scp").read_text().replace(str(folder / "feats.ark"), str(final / "feats.ark"))
    (folder / "feats.scp").write_text("".join(sorted(scp.splitlines(keepends=True))))
    keys = {row["utterance"]: encoded(row["utterance"]) for row in table}
    for file, column in (("utt2spk", "speaker"), ("utt2label", "label"), ("utt2fold", "fold")):
        lines = sorted(f"{keys[row['utterance']]} {encoded(row[column])}\n" for row in table)
        (folder / file).write_text("".join(lines))
    speakers = groupby(table, key=lambda row: row["speaker"])
    spk2utt = [
        f"{encoded(s)} {' '.join(sorted(keys[row['utterance']] for row in own))}\n" for s, own in speakers
    ]
    (folder / "spk2utt").write_text("".join(sorted(spk2utt)))
    _write_labels(folder, table)


def _parquet(pyarrow: Any, parquet: Any, header: Header, folder: Path, rows: Iterator[Row], _: Path) -> None:
    table: list[dict[str, str]] = []
    output = None
    try:
        for _speaker, group in groupby(_labels(rows, table), key=lambda row: row.cells["speaker"]):
            own = list(group)
            columns = {name: pyarrow.array([row.cells[name] for row in own]) for name in own[0].cells}
            columns["frames"] = pyarrow.array([int(row.valid.sum()) for row in own], pyarrow.int32())
            columns[FEATURES] = _nested(pyarrow, [row.values for row in own], header)
            if header.content == "segments":
                columns[VALID_FRAMES] = pyarrow.array(
                    [row.valid.tolist() for row in own], pyarrow.list_(pyarrow.int32())
                )
            batch = pyarrow.table(columns)
            output = output or parquet.ParquetWriter(folder / "features.parquet", batch.schema)
            output.write_table(batch)
    finally:
        if output is not None:
            output.close()
    _write_labels(folder, table)


def _nested(pyarrow: Any, values: list[Array], header: Header) -> Any:
    """A column of lists (of lists) with fixed lengths except the first, made from arrays without a copy per value."""
    column = pyarrow.array(np.concatenate([v.reshape(-1) for v in values]))
    for size in reversed(header.shape[1:] if header.shape[0] is None else header.shape):
        column = pyarrow.FixedSizeListArray.from_arrays(column, size)
    if header.shape[0] is None:
        ends = np.cumsum([0, *(len(v) for v in values)])
        column = pyarrow.ListArray.from_arrays(pyarrow.array(ends, pyarrow.int32()), column)
    return column


def _hf(datasets: Any, header: Header, folder: Path, rows: Iterator[Row], _: Path) -> None:
    table: list[dict[str, str]] = []
    text, whole = datasets.Value("string"), datasets.Value("int32")
    kinds: dict[int, Any] = {2: datasets.Array2D, 3: datasets.Array3D}
    if len(header.shape) in kinds:
        values = kinds[len(header.shape)](shape=header.shape, dtype=header.dtype)
    else:
        values = datasets.List(datasets.Value(header.dtype), length=header.shape[0])

    def examples() -> Iterator[dict[str, Any]]:
        for row in _labels(rows, table):
            example = {**row.cells, "frames": int(row.valid.sum()), FEATURES: row.values}
            yield example | ({VALID_FRAMES: row.valid.tolist()} if header.content == "segments" else {})

    names = ("utterance", "path", "speaker", "session", "gender", "emotion", "label", "fold")
    columns = dict.fromkeys(names, text)
    columns |= {"label": datasets.ClassLabel(names=list(header.classes)), "frames": whole, FEATURES: values}
    if header.content == "segments":
        columns[VALID_FRAMES] = datasets.List(whole)
    shown = not datasets.are_progress_bars_disabled()
    datasets.disable_progress_bars()
    # datasets keeps what a generator made in a cache of its own; this one is deleted.
    with tempfile.TemporaryDirectory(prefix=".datasets-", dir=folder.parent) as own:
        made = datasets.Dataset.from_generator(
            examples,
            features=datasets.Features(columns),
            cache_dir=own,
            fingerprint=secrets.token_hex(8),  # instead of a digest of the function
        )
        made.save_to_disk(str(folder))
    if shown:
        datasets.enable_progress_bars()
    _write_labels(folder, table)
