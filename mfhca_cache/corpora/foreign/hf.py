"""Datasets of Hugging Face on disk: folders of save_to_disk, and audio folders with metadata."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path, PurePosixPath
from typing import Any

from mfhca_cache.common.errors import MfhcaError
from mfhca_cache.common.extras import optional
from mfhca_cache.common.files import write_atomically
from mfhca_cache.corpora.foreign import table
from mfhca_cache.corpora.foreign.columns import Table, make_table

SAVED = ("dataset_dict.json", "state.json")  # of save_to_disk: with and without splits
METADATA = ("metadata.csv", "metadata.jsonl", "metadata.parquet")  # of an audio folder
FILE = "file"  # column with the path of the audio
SPLIT = "split"  # column with the split of a dataset that has several


def read(source: Path, root: Path, columns: Mapping[str, str]) -> Table:
    """Reads a dataset.

    Args:
        source: the folder.
        root: the corpus root; audio that save_to_disk put into the dataset is written here, as SPLIT/FILE.
        columns: not used.

    Returns:
        Its columns; the names of classes instead of their numbers; `file` with the path of the audio; `split`.

    Raises:
        MfhcaError: datasets is not installed, the folder is neither, or a file in the root has other content.
    """
    if any((source / name).is_file() for name in SAVED):
        return make_table(source, list(_saved(source, root)))
    files = [path for name in METADATA for path in sorted([*source.glob(name), *source.glob(f"*/{name}")])]
    if not files:
        raise MfhcaError(
            f"{source}: neither a dataset of save_to_disk nor an audio folder with {', '.join(METADATA)}; for an audio "
            "folder with one folder per class use `mfhca-cache manifest folders`"
        )
    rows: list[dict[str, Any]] = []
    for file in files:
        split = {} if file.parent == source else {SPLIT: file.parent.name}
        for _, cells in table.read(file, root, columns).rows:
            name = cells.get("file_name", "")
            rows.append({**cells, "file_name": str(file.parent.resolve() / name) if name else "", **split})
    return make_table(source, rows)


def _saved(source: Path, root: Path) -> Iterator[dict[str, Any]]:
    datasets = optional("datasets", "hf")
    try:
        loaded = datasets.load_from_disk(str(source))
    except Exception as error:  # whatever a damaged file makes it raise
        raise MfhcaError(
            f"{source}: datasets cannot read it ({str(error) or type(error).__name__}); save it again"
        ) from error
    splits = loaded if isinstance(loaded, datasets.DatasetDict) else {"": loaded}
    for split, dataset in splits.items():
        features = dataset.features
        audio = [name for name, kind in features.items() if isinstance(kind, datasets.Audio)]
        classes = {name: kind for name, kind in features.items() if isinstance(kind, datasets.ClassLabel)}
        for name in audio:  # the files, not their samples
            dataset = dataset.cast_column(name, datasets.Audio(decode=False))
        for number, row in enumerate(dataset):
            for name, kind in classes.items():
                row[name] = None if row[name] is None or row[name] < 0 else kind.int2str(row[name])
            if audio:
                row[FILE] = _file(source, row[audio[0]], root, split, number)
            yield {name: value for name, value in row.items() if name not in audio} | (
                {SPLIT: split} if split else {}
            )


def _file(source: Path, audio: Mapping[str, Any] | None, root: Path, split: str, number: int) -> str:
    """The path of a row's audio, which is written below the root if the dataset holds its bytes."""
    if audio is None or (audio["bytes"] is None and not audio["path"]):
        raise MfhcaError(f"{source}: row {number} of {split or 'the dataset'} has no audio; leave it out")
    if audio["bytes"] is None:
        return str(audio["path"])
    if not audio["path"]:
        raise MfhcaError(f"{source}: the audio of row {number} of {split or 'the dataset'} has no file name")
    path = root / split / PurePosixPath(audio["path"]).name
    if path.is_file() and path.read_bytes() != audio["bytes"]:
        raise MfhcaError(f"{path}: has other audio than row {number} of {source}; choose another --root")
    if not path.is_file():
        write_atomically(path, audio["bytes"])
    return str(path.resolve())
