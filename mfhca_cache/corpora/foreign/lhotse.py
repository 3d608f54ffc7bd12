"""Cut sets of lhotse (.jsonl, .jsonl.gz and whatever else it reads), and its sets of recordings and supervisions."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from mfhca_cache.common.errors import MfhcaError
from mfhca_cache.common.extras import optional
from mfhca_cache.corpora.foreign.columns import Table, make_table

RECORDINGS, SUPERVISIONS = "recordings", "supervisions"  # in the names of two files that belong together
RESAMPLED = "Resample"  # changes nothing here: all audio is resampled to 16 kHz
SHORTEST = 1e-3  # seconds; a span that ends less than this before its recording ends with it


def read(source: Path, root: Path, columns: Mapping[str, str]) -> Table:  # noqa: ARG001
    """Reads the supervisions of a cut set, or of sets of recordings and supervisions; each is an utterance.

    Args:
        source: the file of the cut set, or a folder with CORPUS_recordings_PART.jsonl.gz and
            CORPUS_supervisions_PART.jsonl.gz, as the recipes of lhotse write them.
        root, columns: not used.

    Returns:
        For each supervision its id, file, speaker, gender, text, start and end in seconds, and its custom fields;
        the cut's custom fields where the supervision has no field of that name. With several parts, the part as split.

    Raises:
        MfhcaError: lhotse is not installed or cannot read a file, a file of a pair is missing, or a cut is not of one
            audio file or is augmented.
    """
    lhotse = optional("lhotse", "lhotse")
    files = _pairs(source) if source.is_dir() else [(source, None)]
    parts = [(file, _cuts(lhotse, file, other)) for file, other in files]
    rows = (
        {**row, **({"split": _part(file)} if len(parts) > 1 else {})}
        for file, cuts in parts
        for cut in cuts
        for row in _rows(file, cut)
    )
    return make_table(source, rows)


def _pairs(folder: Path) -> list[tuple[Path, Path | None]]:
    """The files of recordings and of supervisions in a folder."""
    found: list[tuple[Path, Path | None]] = []
    for file in sorted(folder.iterdir()):
        if RECORDINGS in file.name and ".jsonl" in file.suffixes:
            other = file.with_name(file.name.replace(RECORDINGS, SUPERVISIONS))
            if not other.is_file():
                raise MfhcaError(
                    f"{file}: no {other.name} beside it, so neither speakers nor emotions; add it"
                )
            found.append((file, other))
    if not found:
        raise MfhcaError(
            f"{folder}: a folder without *{RECORDINGS}*.jsonl.gz; pass a folder with recordings and supervisions of "
            "lhotse, or the file of a cut set, as FILE"
        )
    return found


def _part(file: Path) -> str:
    """The part of a corpus in a file's name: train of emodb_recordings_train.jsonl.gz."""
    return file.name.partition(RECORDINGS)[2].partition(".")[0].strip("_-")


def _cuts(lhotse: Any, file: Path, supervisions: Path | None) -> list[Any]:
    try:
        if supervisions is None:
            return list(lhotse.CutSet.from_file(file))
        return list(
            lhotse.CutSet.from_manifests(
                recordings=lhotse.RecordingSet.from_file(file),
                supervisions=lhotse.SupervisionSet.from_file(supervisions),
            )
        )
    except Exception as error:  # whatever a damaged file makes it raise
        raise MfhcaError(
            f"{file}: lhotse cannot read it ({str(error) or type(error).__name__}); write it with to_file of lhotse"
        ) from error


def _transform(transform: Any) -> str:
    """The name of a change that lhotse makes when it reads audio."""
    return str(transform["name"] if isinstance(transform, Mapping) else type(transform).__name__)


def _rows(source: Path, cut: Any) -> Iterator[dict[str, Any]]:
    recording: Any = getattr(cut, "recording", None)  # mixed cuts have none
    files = [] if recording is None else [s.source for s in recording.sources if s.type == "file"]
    if len(files) != 1:
        raise MfhcaError(
            f"{source}: cut {cut.id} is not a part of one audio file; save plain cuts with `Recording`s of files"
        )
    changed = [name for t in recording.transforms or () if (name := _transform(t)) != RESAMPLED]
    if changed:
        raise MfhcaError(
            f"{source}: cut {cut.id} is changed by {', '.join(changed)} when lhotse reads it, but features are "
            "computed from the file as it is; pass the cuts before augmentation"
        )
    if not cut.supervisions:
        raise MfhcaError(
            f"{source}: cut {cut.id} has no supervision, so neither speaker nor emotion; leave it out"
        )
    for supervision in cut.supervisions:
        start = max(0.0, cut.start + supervision.start)
        end = cut.start + supervision.end
        yield {
            **(cut.custom or {}),
            "text": supervision.text,
            **(supervision.custom or {}),
            "utterance_id": supervision.id,
            "file": files[0],
            "speaker": supervision.speaker,
            "gender": supervision.gender,
            "start": start if start > SHORTEST else None,
            "end": end if end < recording.duration - SHORTEST else None,
        }
