"""CREMA-D: actor, sentence, emotion and level are in each file name; genders are in a separate table."""

from __future__ import annotations

import csv
import re
from pathlib import Path, PurePosixPath

from mfhca_cache.common.errors import MfhcaError
from mfhca_cache.corpora.filenames import FileNames
from mfhca_cache.manifest.utterance import Utterance

TABLE = "VideoDemographics.csv"
GENDERS = {"Female": "f", "Male": "m"}


def _utterance(path: PurePosixPath, match: re.Match[str]) -> Utterance:
    # One file was released with a single X for its level: 1040_ITH_SAD_X.wav.
    level = "XX" if match["level"] == "X" else match["level"]
    return Utterance(match["text"] + level, str(path), match["actor"], match["emotion"])


def _genders(root: Path) -> dict[str, str]:
    """The gender of each actor, from VideoDemographics.csv in the root or in its parent; empty without a table."""
    tables = [folder / TABLE for folder in (root, root.resolve().parent)]
    table = next((table for table in tables if table.is_file()), None)
    if table is None:
        return {}
    try:
        with open(table, newline="", encoding="utf-8-sig") as file:
            return {row["ActorID"]: GENDERS[row["Sex"]] for row in csv.DictReader(file)}
    except (OSError, KeyError, csv.Error, UnicodeDecodeError) as error:
        raise MfhcaError(
            f"{table}: not CREMA-D's table of actors with the columns ActorID and Sex (Female, Male) "
            f"({error}); download it again, or move it away to go without genders"
        ) from error


FILES = FileNames(
    name=re.compile(
        r"(?P<text>(?P<actor>10(0[1-9]|[1-8]\d|9[01]))_(IEO|TIE|IOM|IWW|TAI|MTI|IWL|ITH|DFA|ITS|TSI|WSI)_"
        r"(?P<emotion>ANG|DIS|FEA|HAP|NEU|SAD)_)(?P<level>LO|MD|HI|XX?)"
    ),
    similar=re.compile(r"\d{4}_"),
    example="1001_DFA_ANG_XX",
    utterance=_utterance,
    folder=re.compile(r"(?P<speaker>10(0[1-9]|[1-8]\d|9[01]))"),
    genders=_genders,
)
