"""Cut sets of lhotse: .jsonl, .jsonl.gz and whatever else lhotse reads."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from mfhca_cache.common.errors import MfhcaError
from mfhca_cache.common.extras import optional
from mfhca_cache.corpora.foreign.columns import Table, make_table

SHORTEST = 1e-3  # seconds; a span that ends less than this before its recording ends with it


def read(source: Path, root: Path, columns: Mapping[str, str]) -> Table:  # noqa: ARG001
    """Reads the supervisions of a cut set; each is an utterance.

    Args:
        source: the file of the cut set.
        root, columns: not used.

    Returns:
        For each supervision its id, file, speaker, gender, text, start and end in seconds, and its custom fields;
        the cut's custom fields where the supervision has no field of that name.

    Raises:
        MfhcaError: lhotse is not installed or cannot read the file, or a cut is not of one audio file.
    """
    lhotse = optional("lhotse", "lhotse")
    if source.is_dir():
        raise MfhcaError(f"{source}: a folder; pass the file of a cut set as FILE")
    try:
        cuts = list(lhotse.CutSet.from_file(source))
    except Exception as error:  # whatever a damaged file makes it raise
        raise MfhcaError(
            f"{source}: lhotse cannot read it ({str(error) or type(error).__name__}); write it with CutSet.to_file"
        ) from error
    return make_table(source, (row for cut in cuts for row in _rows(source, cut)))


def _rows(source: Path, cut: Any) -> Iterator[dict[str, Any]]:
    recording: Any = getattr(cut, "recording", None)  # mixed cuts have none
    files = [] if recording is None else [s.source for s in recording.sources if s.type == "file"]
    if len(files) != 1:
        raise MfhcaError(
            f"{source}: cut {cut.id} is not a part of one audio file; save plain cuts with `Recording`s of files"
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
