"""The Python functions of stage one: each does what a command does, with the same defaults.

Notes are logged by the logger "mfhca", progress bars go to standard error.
"""

from __future__ import annotations

import os
import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from types import MappingProxyType
from typing import TYPE_CHECKING, Any

from mfhca_cache.common import log
from mfhca_cache.common.errors import MfhcaError, did_you_mean, require_positive
from mfhca_cache.common.hardware import DEVICES
from mfhca_cache.recipe.choices import BATCH_SIZE, KINDS_OF_OPTION, Settings
from mfhca_cache.recipe.kinds import KINDS

if TYPE_CHECKING:
    from mfhca_cache.build.compute import Request
    from mfhca_cache.build.status import CacheStatus
    from mfhca_cache.common.cluster import Cluster
    from mfhca_cache.manifest.manifest import Manifest
    from mfhca_cache.recipe.folder import RecipeFolder

DEFAULTS = Settings()


def build_manifest(
    corpus: str,
    root: str | Path,
    out: str | Path | None = None,
    *,
    allow_partial: bool = False,
    speaker_regex: str | None = None,
    source: str | Path | None = None,
    columns: Mapping[str, str] = MappingProxyType({}),
    emotion_regex: str | None = None,
    gender_regex: str | None = None,
) -> Manifest:
    """Scans a corpus folder and writes its manifest, as `mfhca-cache manifest` does.

    Args:
        corpus: the name of a corpus, e.g. "emodb"; "demo", which is synthesised under `root`; or "folders" for any
            corpus with one folder per class; or "table", "audformat", "lhotse", "hf" for a `source` of another tool.
        root: the corpus folder.
        out: the CSV file to write, by default manifests/CORPUS.csv. The corpus card is copied next to it.
        allow_partial: accept counts that differ from the card, and files that cannot be used.
        speaker_regex: for "folders": is searched in each path below the root; its group `speaker`, or else its first
            group, is the speaker.
        source: the table, database, cut set or dataset of another tool; by default the root.
        columns: column of the manifest -> column of `source`, e.g. {"speaker": "spk"}; guessed for the others.
        emotion_regex, gender_regex: for "folders": find class (by default the folder's name) and gender in the path.

    Returns:
        The manifest that was written.

    Raises:
        MfhcaError: the corpus is unknown or incomplete (every difference is listed), or `out` cannot be written.
    """
    from mfhca_cache.corpora import scan
    from mfhca_cache.manifest.manifest import read_manifest

    given = {"speaker": speaker_regex, "emotion": emotion_regex, "gender": gender_regex}
    found = {name: _compiled(name, text) for name, text in given.items()}
    output, table = (None if path is None else Path(path) for path in (out, source))
    summary = scan.build(corpus, Path(root), output, allow_partial, source=table, columns=columns, **found)
    log.LOG.info("%s", summary)
    return read_manifest(summary.out)


def _compiled(name: str, text: str | None) -> re.Pattern[str] | None:
    if text is None:
        return None
    try:
        expression = re.compile(text)
    except re.error as error:
        raise MfhcaError(f"{name}_regex {text!r} is not a regular expression ({error})") from error
    if not expression.groups:
        raise MfhcaError(
            f"{name}_regex {text!r} has no group; put the part that is the {name} in parentheses"
        )
    return expression


def compute_features(
    manifest: str | Path,
    root: str | Path,
    cache: str | Path,
    *,
    backbone: str | Path | None = None,
    kinds: str | Sequence[str] = DEFAULTS.kinds,
    label_set: str | None = None,
    dtype: str = DEFAULTS.dtype,
    compute_dtype: str = DEFAULTS.compute_dtype,
    layer: int | str = DEFAULTS.layer,
    tail: str = DEFAULTS.tail,
    minimum_tail_samples: int | None = DEFAULTS.minimum_tail_samples,
    pre_emphasis: float = DEFAULTS.pre_emphasis,
    db_reference: str = DEFAULTS.db_reference,
    device: str = DEVICES[0],
    threads: int | None = None,
    jobs: int | None = None,
    batch_size: int = BATCH_SIZE,
    allow_outside: bool = False,
    accept_copies: bool = False,
    replace: bool = False,
    cluster: Cluster | None = None,
) -> dict[str, RecipeFolder]:
    """Computes the features that a cache lacks, as `mfhca-cache features` does; after an interruption it resumes.

    Args:
        manifest: the CSV file.
        root: the folder to which its paths are relative.
        cache: the cache folder, created if needed.
        backbone: the encoder of kind "ssl": a folder, or a name on the Hugging Face hub.
        kinds: one or more of "logspec", "logmel", "mfcc" and "ssl".
        label_set: compute the utterances of this label set; by default of the corpus card's.
        dtype: of the stored features, "float16" or "float32".
        compute_dtype: of the encoder's arithmetic, "float32" or "bfloat16".
        layer: of the encoder: 0 is the input of the first, -1 the final output, "all" every layer.
        tail: how to handle a short final segment: "pad", "overlap" or "drop".
        minimum_tail_samples: drop a shorter final segment (samples at 16 kHz); by default the corpus card's, else 0.
        pre_emphasis: coefficient, from 0 to below 1.
        db_reference: the level of 0 dB in "logspec" and "logmel": "full_scale" or "utterance".
        device: of the encoder: "auto", "cpu", "cuda" or "mps".
        threads: of the encoder, by default torch's; the last digits depend on it.
        jobs: threads for decoding audio, by default one per core.
        batch_size: segments per forward pass of the encoder; does not change any value.
        allow_outside: follow links that lead out of the root.
        accept_copies: accept identical recordings under several speakers.
        replace: replace features that a manifest uses with another root.
        cluster: a Dask cluster; None for this machine.

    Returns:
        By kind, the folder with the features, as `Features.open` takes it.

    Raises:
        MfhcaError: arguments do not fit together, something cannot be read or written, or utterances failed, which
            are listed; the features of the others are computed.
    """
    from mfhca_cache.build.compute import compute
    from mfhca_cache.recipe.folder import read_recipe

    require_positive(jobs=jobs, threads=threads, batch_size=batch_size)
    settings = _settings(
        kinds, dtype, compute_dtype, layer, tail, minimum_tail_samples, pre_emphasis, db_reference
    )
    plan = compute(
        _request(manifest, root, cache, settings, backbone, label_set, jobs, allow_outside),
        lambda line: log.LOG.info("%s", line),
        device=device,
        threads=threads,
        batch_size=batch_size,
        replace=replace,
        accept_copies=accept_copies,
        cluster=cluster,
    )
    return {target.kind: read_recipe(target.folder) for target in plan.targets}


def cache_status(
    manifest: str | Path,
    root: str | Path,
    cache: str | Path,
    *,
    backbone: str | Path | None = None,
    kinds: str | Sequence[str] = DEFAULTS.kinds,
    label_set: str | None = None,
    dtype: str = DEFAULTS.dtype,
    compute_dtype: str = DEFAULTS.compute_dtype,
    layer: int | str = DEFAULTS.layer,
    tail: str = DEFAULTS.tail,
    minimum_tail_samples: int | None = DEFAULTS.minimum_tail_samples,
    pre_emphasis: float = DEFAULTS.pre_emphasis,
    db_reference: str = DEFAULTS.db_reference,
    jobs: int | None = None,
    allow_outside: bool = False,
) -> CacheStatus:
    """Compares a cache with a manifest's audio, as `mfhca-cache status` does; computes nothing.

    Args:
        manifest: the CSV file.
        root: the folder to which its paths are relative.
        cache: the cache folder.
        backbone, kinds, label_set, dtype, compute_dtype, layer, tail, minimum_tail_samples, pre_emphasis, db_reference:
            as for `compute_features`, of the features wanted.
        jobs: threads for reading audio, by default one per core.
        allow_outside: follow links that lead out of the root.

    Returns:
        The ids of the utterances that are present, stale or missing, by kind; `print` shows the reasons.

    Raises:
        MfhcaError: arguments do not fit together, or manifest, encoder, audio or cache cannot be read.
    """
    from mfhca_cache.build.compute import find_work
    from mfhca_cache.build.status import status_of

    require_positive(jobs=jobs)
    settings = _settings(
        kinds, dtype, compute_dtype, layer, tail, minimum_tail_samples, pre_emphasis, db_reference
    )
    request = _request(manifest, root, cache, settings, backbone, label_set, jobs, allow_outside)
    return status_of(request.cache, find_work(request, status=True).plan)


def _settings(kinds: str | Sequence[str], *values: Any) -> Settings:
    """The settings of features; `values` are those after the kinds, in the functions' order.

    Raises:
        MfhcaError: an unknown kind, or a value that affects none of the kinds.
    """
    asked = (kinds,) if isinstance(kinds, str) else tuple(kinds)
    for kind in asked:
        if kind not in KINDS:
            raise MfhcaError(f"no kind of features is called {kind!r}; {did_you_mean(str(kind), KINDS)}")
    if not asked:
        raise MfhcaError(f"kinds is empty; choose from {', '.join(KINDS)}")
    names = (
        "dtype",
        "compute_dtype",
        "layer",
        "tail",
        "minimum_tail_samples",
        "pre_emphasis",
        "db_reference",
    )
    given = dict(zip(names, values, strict=True))
    settings = Settings(kinds=tuple(kind for kind in KINDS if kind in asked), **given)
    if not 0 <= settings.pre_emphasis < 1:
        raise MfhcaError(f"pre_emphasis is {settings.pre_emphasis}; expected at least 0 and below 1")
    for name, affected in KINDS_OF_OPTION.items():
        if given[name] != getattr(DEFAULTS, name) and not set(affected) & set(settings.kinds):
            raise MfhcaError(f"{name} has no effect without kind {' or '.join(affected)}; leave it out")
    return settings


def _request(
    manifest: str | Path,
    root: str | Path,
    cache: str | Path,
    settings: Settings,
    backbone: str | Path | None,
    *others: Any,
) -> Request:
    from mfhca_cache.build.compute import Request

    encoder = None if backbone is None else os.fspath(backbone)
    return Request(Path(manifest), Path(root), Path(cache), settings, encoder, *others)
