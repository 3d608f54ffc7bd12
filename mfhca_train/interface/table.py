"""A table of named columns, without pandas."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from typing import Any

import numpy as np

from mfhca_cache.common.errors import MfhcaError
from mfhca_cache.common.text import plural
from mfhca_train.data.batch import Array


class Table(Mapping[str, Array]):
    """Columns of equal length, by name: `table["fold"]` is an array.

    Args:
        columns: by name, each (N,).
    """

    def __init__(self, columns: Mapping[str, Iterable[Any]]) -> None:
        self._columns = {name: np.asarray(list(values)) for name, values in columns.items()}

    def __getitem__(self, name: str) -> Array:
        return self._columns[name]

    def __iter__(self) -> Iterator[str]:
        return iter(self._columns)

    def __len__(self) -> int:
        return len(self._columns)

    def __repr__(self) -> str:
        rows = len(next(iter(self._columns.values()), ()))
        return f"Table of {plural(rows, 'row')}: {', '.join(self._columns)}"

    def to_frame(self) -> Any:
        """The same as a `pandas.DataFrame`.

        Raises:
            MfhcaError: pandas is not installed.
        """
        try:
            import pandas
        except ImportError as error:
            raise MfhcaError("to_frame needs pandas; pip install pandas") from error
        return pandas.DataFrame(self._columns)
