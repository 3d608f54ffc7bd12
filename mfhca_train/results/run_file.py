"""run.json as a typed class: what decides the results of each row, and where the run was begun."""

from __future__ import annotations

from typing import Any

from msgspec import field

from mfhca_cache.common.typed import Positive
from mfhca_train.results.schema import NETWORK, CorpusOfRun, File

AUDIO_CHECKED = "audio_checked"  # field of RunFile


class Identity(File, frozen=True, kw_only=True):
    """Everything that decides the results of a row, without paths; its digest is the row's identity."""

    format: int
    corpus: str
    label_set: str
    corpora: dict[str, CorpusOfRun] = field(default_factory=dict)  # if there are several
    classes: tuple[str, ...]
    protocol: str
    config: dict[str, dict[str, Any]]
    recipes: dict[str, str]
    data_digest: str
    features_digest: str
    label_digest: str
    folds_digest: str
    threads: Positive
    chosen_from: dict[str, str] = field(default_factory=dict)  # identities by row
    kind: str = NETWORK


class RunFile(File, frozen=True, kw_only=True):
    """run.json: what decides each row, and where the run was begun. The file of a `cv` run has its one row's fields
    in the place of `rows`; `record.read_run_file` gives both the same form. `runs.folder` writes it."""

    grid: str | None = None  # None: a `cv` run
    title: str = ""
    rows: dict[str, Identity]
    recipe_names: dict[str, str]  # by key; names decide nothing
    data_csv_sha256: str
    versions: dict[str, str]
    cpu: str
    device: str
    accelerator: str | None = None
    audio_checked: bool = False  # the audio files were compared with the features, when --root was given
