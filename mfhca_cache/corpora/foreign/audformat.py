"""Databases of audformat: a folder with db.yaml and tables, as audb loads them."""

from __future__ import annotations

import shutil
import tempfile
import warnings
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from mfhca_cache.common.errors import MfhcaError, did_you_mean
from mfhca_cache.common.extras import optional
from mfhca_cache.corpora.foreign.columns import HEADERS, Table, make_table

DATA_SUFFIXES = (".yaml", ".csv", ".parquet")  # of the header and of tables
SPLIT = "split"  # column with the split of a row's table


def read(source: Path, root: Path, columns: Mapping[str, str]) -> Table:  # noqa: ARG001
    """Reads the rows of a database that have an emotion.

    Args:
        source: the folder of the database.
        root: not used.
        columns: the columns given by the user are schemes of the database.

    Returns:
        The emotion, every scheme that the user or a common name asks for, file, start and end in seconds, and the
        split where the tables have one.

    Raises:
        MfhcaError: audformat is not installed, the folder is not a database, or it has no such scheme.
    """
    audformat = optional("audformat", "audformat")
    if not (source / "db.yaml").is_file():
        raise MfhcaError(f"{source}: no db.yaml in it; pass the folder of an audformat database as FILE")
    with warnings.catch_warnings(), tempfile.TemporaryDirectory(prefix="mfhca-") as data:
        warnings.simplefilter("ignore", DeprecationWarning)  # of pandas, for audformat's authors
        try:
            # audformat would execute what a tag of the YAML names, and what is in pickled copies of the tables (which
            # it prefers): files that are data alone are copied, and the header is checked before it is read.
            for file in source.glob("db*"):
                if file.suffix in DATA_SUFFIXES:
                    shutil.copyfile(file, Path(data, file.name))
            optional("yaml", "audformat").safe_load(Path(data, "db.yaml").read_bytes())
            database = audformat.Database.load(data, load_data=True)
        except Exception as error:  # whatever a damaged YAML or table makes it raise
            reason = str(error).replace(data, str(source)) or type(error).__name__
            raise MfhcaError(
                f"{source}: audformat cannot read it ({reason}); load it again with audb"
            ) from error
        return make_table(source, _rows(source, audformat.utils, database, columns))


def _rows(source: Path, utils: Any, database: Any, columns: Mapping[str, str]) -> list[dict[str, Any]]:
    names = _names(database)
    wanted = {
        name: columns.get(name) or next((header for header in headers if header in names), None)
        for name, headers in HEADERS.items()
        if name not in ("path", "start_s", "end_s")
    }
    emotion = wanted.pop("emotion")
    if emotion is None:
        raise MfhcaError(
            f"{source}: has no scheme called emotion; there are: {', '.join(sorted(names))}; name it with "
            "--column emotion=SCHEME"
        )
    for name in (emotion, *wanted.values()):
        if name is not None and name not in names:
            raise MfhcaError(f"{source}: has no scheme {name!r}; {did_you_mean(name, sorted(names))}")
    others = list(dict.fromkeys(name for name in wanted.values() if name is not None))
    frame = utils.to_segmented_index(database.get(emotion, others))
    splits = {
        key: split
        for split in database.splits
        for key in utils.to_segmented_index(database.get(emotion, splits=split)).index
    }
    rows = []
    for key, cells in zip(frame.index, frame.to_dict("records"), strict=True):
        file, start, end = key
        row = {"file": file, **{name: None if value != value else value for name, value in cells.items()}}
        row |= {"start": start.total_seconds() or None, "end": None if end != end else end.total_seconds()}
        rows.append(row | ({SPLIT: splits.get(key)} if splits else {}))
    return rows


def _names(database: Any) -> set[str]:
    """What a database can be asked for: schemes, columns, and the keys of a scheme's labels, such as gender."""
    names = set(database.schemes)
    for scheme in database.schemes.values():
        if isinstance(scheme.labels, dict):
            names |= {key for label in scheme.labels.values() if isinstance(label, dict) for key in label}
    return names | {column for table in database.tables.values() for column in table.columns}
