"""Frames that another program computed, on disk: a file per utterance, or an scp of Kaldi."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from functools import partial
from pathlib import Path, PurePosixPath
from typing import Any
from urllib.parse import quote

import numpy as np

from mfhca_cache.common import log
from mfhca_cache.common.errors import MfhcaError, listing
from mfhca_cache.common.extras import optional
from mfhca_cache.common.files import read_text
from mfhca_cache.common.text import plural
from mfhca_cache.manifest.utterance import Utterance, nfc

Array = np.ndarray[Any, Any]

SUFFIXES = (".npy", ".npz")
FEATURES, VALID_FRAMES = "features", "valid_frames"  # arrays in an .npz


@dataclass(frozen=True, eq=False)
class Frames:
    """The features of one utterance.

    Attributes:
        values: float32 (N, F), frames of the whole utterance; or (S, T, F), segments as this project cuts them.
        valid: of segments, int (S,) frames within the audio; None for frames of the whole utterance.
    """

    values: Array
    valid: Array | None = None


def find_frames(source: Path, utterances: Iterable[Utterance]) -> dict[str, Callable[[], Frames]]:
    """Finds the features of all utterances; nothing but names is read.

    A file or key belongs to an utterance if its name is the utterance's id, or the path of its audio without the
    suffix, or the last part of that path where the last parts are unique. Kaldi's keys and file names may be
    percent-encoded, as `export` writes them.

    Args:
        source: a folder with .npy or .npz files, in any depth, or an .scp file.
        utterances: rows of a manifest.

    Returns:
        Utterance id -> a function that reads its features.

    Raises:
        MfhcaError: the source cannot be read, two files have one name, or utterances have no features (listed).
    """
    entries = _folder(source) if source.is_dir() else _scp(source)
    by_end = Counter(PurePosixPath(name).name for name in entries)
    ends = {PurePosixPath(name).name: name for name in entries}
    rows = list(utterances)
    stems = Counter(PurePosixPath(u.path).stem for u in rows)
    found: dict[str, Callable[[], Frames]] = {}
    used: dict[str, str] = {}  # entry -> utterance
    missing = []
    for u in rows:
        stem = PurePosixPath(u.path).with_suffix("")
        names = [u.utterance, encoded(u.utterance), *([str(stem)] if u.start_s is u.end_s is None else [])]
        name = next((name for name in names if name in entries), None)
        if name is None and u.start_s is u.end_s is None and stems[stem.name] == by_end[stem.name] == 1:
            name = ends[stem.name]
        if name is None:
            missing.append(f"{u.utterance} ({u.path})")
            continue
        if used.setdefault(name, u.utterance) != u.utterance:
            raise MfhcaError(
                f"{source}: {name} would be the features of {used[name]} and of {u.utterance}; name the files after "
                "the utterances of the manifest"
            )
        found[u.utterance] = entries[name]
    if missing:
        raise MfhcaError(
            f"{source}: no features of {len(missing)} of {plural(len(rows), 'utterance')}; name the files or keys "
            f"after the utterances or their audio files, or remove these from the manifest:\n{listing(missing)}"
        )
    if len(entries) > len(used):
        log.LOG.info("%s: features of %d other utterances are not used", source, len(entries) - len(used))
    return found


def encoded(utterance: str) -> str:
    """An utterance's id as a file name or a key of Kaldi: ASCII without blanks, slashes and leading dots.

    >>> encoded("happy/anna 01"), encoded("..")
    ('happy%2Fanna%2001', '%2E%2E')
    """
    name = quote(utterance, safe="")
    return name.replace(".", "%2E") if name.startswith(".") else name


def _folder(folder: Path) -> dict[str, Callable[[], Frames]]:
    entries: dict[str, Callable[[], Frames]] = {}
    for path in sorted(path for path in folder.rglob("*") if path.suffix in SUFFIXES):
        name = nfc(path.relative_to(folder).with_suffix("").as_posix())
        if name in entries:
            raise MfhcaError(f"{folder}: two files are called {name}; remove one of {', '.join(SUFFIXES)}")
        entries[name] = partial(_read_numpy, path)
    if not entries:
        raise MfhcaError(
            f"{folder}: has no {' or '.join(SUFFIXES)} file; pass the folder with one per utterance"
        )
    return entries


def _read_numpy(path: Path) -> Frames:
    try:
        with open(path, "rb") as file:
            content = np.load(file, allow_pickle=False)
            arrays = {FEATURES: content} if isinstance(content, np.ndarray) else dict(content)
    except (OSError, ValueError, EOFError, KeyError) as error:  # zipfile's errors are among these
        raise MfhcaError(f"{path}: not readable by numpy ({error}); write it with numpy.save") from error
    except Exception as error:  # zipfile.BadZipFile, zlib.error
        raise MfhcaError(f"{path}: damaged ({error}); write it again with numpy.savez") from error
    features = arrays.get(FEATURES) if len(arrays) > 1 else next(iter(arrays.values()), None)
    if features is None:
        raise MfhcaError(f"{path}: has the arrays {', '.join(arrays) or 'none'}; call one of them {FEATURES}")
    return checked(features, arrays.get(VALID_FRAMES), str(path))


def _scp(source: Path) -> dict[str, Callable[[], Frames]]:
    if source.suffix == ".ark":
        raise MfhcaError(
            f"{source}: an ark has no index; run `copy-feats ark:{source} ark,scp:feats.ark,feats.scp`"
        )
    entries: dict[str, Callable[[], Frames]] = {}
    kaldiio = optional("kaldiio", "kaldi")
    for number, line in enumerate(
        read_text(source, "pass a folder or an .scp of Kaldi").splitlines(), start=1
    ):
        key, _, where = line.strip().partition(" ")
        where = where.strip()
        if not key:
            continue
        if not where or "|" in where:  # kaldiio would run it, also before an offset
            raise MfhcaError(
                f"{source}: line {number} is not `KEY FILE:OFFSET`; commands in an scp are not run"
            )
        if key in entries:
            raise MfhcaError(f"{source}: line {number} has the key {key} once more; remove one")
        file, colon, offset = where.rpartition(":")
        path = Path(file if colon and offset.isdigit() else where)
        if not path.is_absolute() and not path.exists():  # written in another folder
            path = next((p for p in (source.parent / path, source.parent / path.name) if p.exists()), path)
        location = f"{path}:{offset}" if colon and offset.isdigit() else str(path)
        entries[nfc(key)] = partial(_read_kaldi, kaldiio, source, key, path, location)
    if not entries:
        raise MfhcaError(f"{source}: has no entries; pass the scp of a feature ark")
    return entries


def _read_kaldi(kaldiio: Any, source: Path, key: str, path: Path, location: str) -> Frames:
    if not path.is_file():  # it may be a pipe, or "-", which kaldiio would wait for
        raise MfhcaError(f"{source}: {key} cannot be read from {location} (no such file); write it again")
    try:
        values = kaldiio.load_mat(location)
    except Exception as error:  # whatever bytes that are no matrix make it raise
        reason = str(error).partition("\n")[0] or type(error).__name__
        raise MfhcaError(
            f"{source}: {key} cannot be read from {location} ({reason}); write it again"
        ) from error
    return checked(values, None, f"{source}: {key}")


def checked(values: object, valid: Array | None, name: str) -> Frames:
    """Features as float32, with everything checked but the values.

    Args:
        values: (N, F) or (S, T, F), any real type.
        valid: (S,), for segments only.
        name: for messages.

    Raises:
        MfhcaError: another type or shape, or no frame.
    """
    if not isinstance(values, np.ndarray) or values.dtype.kind not in "fiu":
        found = getattr(values, "dtype", type(values).__name__)
        raise MfhcaError(f"{name}: is {found}, expected an array of real numbers (frames, width)")
    if values.ndim not in (2, 3) or not all(values.shape):
        raise MfhcaError(
            f"{name}: has shape {values.shape}, expected (frames, width); do not average over time"
        )
    if (values.ndim == 3) != (valid is not None):
        raise MfhcaError(
            f"{name}: has shape {values.shape} {'without' if valid is None else 'and'} {VALID_FRAMES}; segments have "
            f"three dimensions and {VALID_FRAMES}, whole utterances (frames, width)"
        )
    if valid is not None:
        valid = np.asarray(valid)
        within = valid.dtype.kind in "iu" and valid.shape == values.shape[:1]
        if not within or not np.all((valid >= 0) & (valid <= values.shape[1])):
            raise MfhcaError(
                f"{name}: {VALID_FRAMES} must be a number of 0 to {values.shape[1]} for each segment"
            )
    return Frames(np.ascontiguousarray(values, np.float32), valid)
