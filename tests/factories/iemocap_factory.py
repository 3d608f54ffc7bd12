"""Trees in IEMOCAP's layout, with audio that takes no room on disk."""

from __future__ import annotations

import struct
from pathlib import Path

HEADER = "% [START_TIME - END_TIME] TURN_NAME EMOTION [V, A, D]\n\n"
RATERS = (
    "C-E2:\tNeutral;\t()\nC-E3:\tAnger; Frustration;\t(loud)\n"
    "A-E3:\tval 3; act 2; dom  2;\t()\nA-F1:\tval 3; act 2; dom  2;\t()\n\n"
)


def write_wav(path: Path, samples: int) -> None:
    """A 16 kHz wav file whose samples are a hole in the file: zeros that take no room on disk."""
    size = 2 * samples
    header = struct.pack(
        "<4sI4s4sIHHIIHH4sI",
        b"RIFF",
        36 + size,
        b"WAVE",
        b"fmt ",
        16,
        1,
        1,
        16000,
        32000,
        2,
        16,
        b"data",
        size,
    )
    with open(path, "wb") as file:
        file.write(header)
        file.truncate(len(header) + size)


def write_iemocap(root: Path, turns: list[tuple[str, str, int]]) -> None:
    """A tree in IEMOCAP's layout, droppings of macOS included, of turns (name, label, samples)."""
    dialogues: dict[str, list[tuple[str, str, int]]] = {}
    for turn in turns:
        dialogues.setdefault(turn[0].rpartition("_")[0], []).append(turn)
    for dialogue, members in dialogues.items():
        session = root / f"Session{dialogue[4]}"
        evaluations, sentences = (
            session / "dialog" / "EmoEvaluation",
            session / "sentences" / "wav" / dialogue,
        )
        sentences.mkdir(parents=True)
        for folder in ("Attribute", "Categorical", "Self-evaluation"):
            (evaluations / folder).mkdir(parents=True, exist_ok=True)
        (evaluations / "Categorical" / f"{dialogue}_e2_cat.txt").write_text(
            f"{members[0][0]} :Neutral state; ()\n"
        )
        text = HEADER
        for index, (name, label, samples) in enumerate(members):
            turn = f"[{index}.2901 - {index + 1}.2357]\t{name}\t{label}\t[2.5000, 2.5000, 2.5000]"
            text += f"{turn}\n{RATERS}"
            write_wav(sentences / f"{name}.wav", samples)
        (evaluations / f"{dialogue}.txt").write_text(text)
        (evaluations / f"._{dialogue}.txt").write_bytes(b"\x00\x05\x16\x07\xff[1.0 - 2.0]\tx\tneu\t[1]")
        (sentences / f"._{members[0][0]}.wav").write_bytes(b"\x00\x05\x16\x07")
        (session / "sentences" / "wav" / ".DS_Store").touch()
        (evaluations / ".DS_Store").touch()


SMALL = [
    ("Ses01F_impro01_F000", "neu", 1000),
    ("Ses01F_impro01_M000", "xxx", 2000),
    ("Ses02M_script01_1b_F003", "exc", 3000),
    ("Ses02M_script01_1b_M004", "hap", 4000),
]
