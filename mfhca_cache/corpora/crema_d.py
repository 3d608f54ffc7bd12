"""CREMA-D: actor, sentence, emotion and level in each name; who is a woman is in a table that may lie beside."""

from __future__ import annotations

import csv
import re
from dataclasses import replace
from pathlib import Path, PurePosixPath

from mfhca_cache.common.errors import MfhcaError
from mfhca_cache.corpora.filenames import scan_names, strange
from mfhca_cache.corpora.folder import Scan
from mfhca_cache.manifest.manifest import Utterance

# One file was released with a single X for its level: 1040_ITH_SAD_X.wav.
NAME = re.compile(
    r"(?P<text>(?P<actor>10(0[1-9]|[1-8]\d|9[01]))_(IEO|TIE|IOM|IWW|TAI|MTI|IWL|ITH|DFA|ITS|TSI|WSI)_"
    r"(?P<emotion>ANG|DIS|FEA|HAP|NEU|SAD)_)(?P<level>LO|MD|HI|XX?)"
)
LOOSE = re.compile(r"\d{4}_")
TABLE = "VideoDemographics.csv"
GENDERS = {"Female": "f", "Male": "m"}


def scan(root: Path) -> Scan:
    """Looks through CREMA-D.

    Args:
        root: a folder that holds the WAV files, directly or deeper: AudioWAV or the one that holds it. Genders
            come from VideoDemographics.csv in it or beside it; without that they stay empty.

    Returns:
        The utterances (no sessions), what was ignored and what cannot be used.

    Raises:
        MfhcaError: a folder or the table of actors cannot be read.
    """
    genders = _genders(root)
    found = scan_names(root, _read)
    return replace(
        found, utterances=tuple(replace(u, gender=genders.get(u.speaker, "")) for u in found.utterances)
    )


def _read(path: PurePosixPath) -> Utterance | str:
    match = NAME.fullmatch(path.stem)
    if match is None:
        return strange(path.stem, LOOSE, "1001_DFA_ANG_XX")
    level = "XX" if match["level"] == "X" else match["level"]
    return Utterance(match["text"] + level, str(path), match["actor"], match["emotion"])


def _genders(root: Path) -> dict[str, str]:
    """The gender of every actor, from the table in the root or beside it; nothing if there is none."""
    tables = [folder / TABLE for folder in (root, root.resolve().parent)]
    table = next((table for table in tables if table.is_file()), None)
    if table is None:
        return {}
    try:
        with open(table, newline="", encoding="utf-8-sig") as file:
            return {row["ActorID"]: GENDERS[row["Sex"]] for row in csv.DictReader(file)}
    except (OSError, KeyError, csv.Error, UnicodeDecodeError) as error:
        raise MfhcaError(
            f"{table}: not CREMA-D's table of actors, with the columns ActorID and Sex (Female, Male) "
            f"({error}); fetch it again, or move it away to do without genders"
        ) from error
