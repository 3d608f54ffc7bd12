"""Whole trees of corpora with tiny real audio, their names made from what is published of each corpus.

A tree's files are hard links to one short recording, so that thousands take a second. What is expected of a file is
worked out here from the loops that make its name, not read from it.
"""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from itertools import islice, product
from pathlib import Path

import soundfile
from audio_factory import sound

SECONDS = 0.02


@dataclass(frozen=True)
class File:
    """One utterance as it is released."""

    nested: str  # its path in the layout with folders
    flat: str  # in the other one
    speaker: str
    gender: str
    label: str


@dataclass(frozen=True)
class Corpus:
    """A corpus as it is released."""

    rate: int  # Hz
    channels: int
    files: Callable[[], Iterator[File]]


def ravdess() -> Iterator[File]:
    for actor, emotion, strong, statement, repetition in product(
        range(1, 25), range(1, 9), (1, 2), (1, 2), (1, 2)
    ):
        if emotion > 1 or strong == 1:
            name = f"03-01-{emotion:02}-{strong:02}-{statement:02}-{repetition:02}-{actor:02}.wav"
            gender = "m" if actor in (1, 3, 5, 7, 9, 11, 13, 15, 17, 19, 21, 23) else "f"
            yield File(f"Actor_{actor:02}/{name}", name, f"{actor:02}", gender, f"{emotion:02}")


def savee() -> Iterator[File]:
    for speaker, emotion in product(("DC", "JE", "JK", "KL"), ("a", "d", "f", "h", "n", "sa", "su")):
        for number in range(1, 31 if emotion == "n" else 16):
            name = f"{emotion}{number:02}.wav"
            yield File(f"AudioData/{speaker}/{name}", f"ALL/{speaker}_{name}", speaker, "m", emotion)


FOLDERS = {  # of OAF and YAF, as they are released
    "angry": ("angry", "angry"),
    "disgust": ("disgust", "disgust"),
    "fear": ("Fear", "fear"),
    "happy": ("happy", "happy"),
    "neutral": ("neutral", "neutral"),
    "ps": ("Pleasant_surprise", "pleasant_surprised"),
    "sad": ("Sad", "sad"),
}


def tess() -> Iterator[File]:
    letters = product("bcdfghjlmnprst", "aeiou", "bdgklmnprst")
    words = ["back", "bite", "germ", "neat", *islice(("".join(word) for word in letters), 196)]
    for (emotion, folders), word in product(FOLDERS.items(), words):
        for speaker, folder in zip(("OAF", "YAF"), folders, strict=True):
            name = f"{speaker}_{word}_{emotion}.wav".replace("OAF_bite_neutral", "OA_bite_neutral")
            yield File(f"{speaker}_{folder}/{name}", name, speaker, "f", emotion)


SENTENCES = ("IEO", "TIE", "IOM", "IWW", "TAI", "MTI", "IWL", "ITH", "DFA", "ITS", "TSI", "WSI")
MISSING = {(1002, "TIE", "NEU"), (1076, "ITS", "NEU")} | {
    (actor, sentence, emotion)
    for actor, sentence in ((1008, "WSI"), (1009, "MTI"), (1019, "ITH"))
    for emotion in ("ANG", "DIS", "FEA", "HAP", "NEU", "SAD")
}


def crema_d() -> Iterator[File]:
    emotions = ("ANG", "DIS", "FEA", "HAP", "NEU", "SAD")
    for actor, sentence, emotion in product(range(1001, 1092), SENTENCES, emotions):
        levels = ("LO", "MD", "HI") if sentence == "IEO" and emotion != "NEU" else ("XX",)
        for level in levels if (actor, sentence, emotion) not in MISSING else ():
            name = f"{actor}_{sentence}_{emotion}_{level}.wav".replace("1040_ITH_SAD_XX", "1040_ITH_SAD_X")
            yield File(f"AudioWAV/{name}", name, str(actor), "", emotion)


def emovo() -> Iterator[File]:
    sentences = ("b1", "b2", "b3", "l1", "l2", "l3", "l4", "n1", "n2", "n3", "n4", "n5", "d1", "d2")
    emotions = ("dis", "gio", "neu", "pau", "rab", "sor", "tri")
    for actor, emotion, sentence in product(("f1", "f2", "f3", "m1", "m2", "m3"), emotions, sentences):
        name = f"{emotion}-{actor}-{sentence}.wav"
        yield File(f"EMOVO/{actor}/{name}", name, actor, actor[0], emotion)


# How many files of each speaker each folder has, in the order of their numbers.
TALK_SHOWS = {
    "Angry": {"SM1": 22, "SM2": 28, "SM3": 2, "SM4": 48},
    "Happy": {"SF1": 12, "SF2": 2, "SF3": 2, "SF4": 4, "SF5": 4, "SF6": 14, "SF7": 6, "SF8": 2}
    | {"SM17": 2, "SM18": 2, "SM19": 2, "SM3": 2, "SM5": 8, "SM6": 10, "SM7": 28},
    "Neutral": {"SF9": 4, "SM20": 10, "SM21": 4, "SM22": 2, "SM3": 8, "SM5": 72},
    "Sad": {"SF10": 2, "SF11": 4, "SM23": 6, "SM24": 38, "SM25": 40, "SM26": 2, "SM27": 4, "SM6": 4},
}


def urdu() -> Iterator[File]:
    for folder, counts in TALK_SHOWS.items():
        number = 0
        for speaker, count in counts.items():
            for take in range(1, count + 1):
                number += 1
                name = f"{speaker}_F{take}_{folder[0]}0{number}.wav"
                yield File(f"{folder}/{name}", name, speaker, speaker[1].lower(), folder[0])


CORPORA = {
    "ravdess": Corpus(48_000, 1, ravdess),
    "savee": Corpus(44_100, 1, savee),
    "tess": Corpus(24_414, 1, tess),
    "crema-d": Corpus(16_000, 1, crema_d),
    "emovo": Corpus(48_000, 2, emovo),
    "urdu": Corpus(44_100, 2, urdu),
}


def recording(path: Path, corpus: str, **options: object) -> Path:
    """A short file at the corpus' rate."""
    release = CORPORA[corpus]
    path.parent.mkdir(parents=True, exist_ok=True)
    soundfile.write(path, sound(corpus, SECONDS, release.rate, release.channels), release.rate, **options)
    return path


def write_tree(root: Path, corpus: str, layout: str = "nested") -> list[File]:
    """The whole corpus under `root`, in one of its layouts ("nested" or "flat")."""
    original = recording(root.parent / f"{root.name}-original.wav", corpus)
    files = list(CORPORA[corpus].files())
    for file in files:
        path = root / getattr(file, layout)
        if not path.parent.is_dir():
            path.parent.mkdir(parents=True)
        os.link(original, path)
    return files


def replace(path: Path, corpus: str, **options: object) -> None:
    """Puts a file of its own in the place of a link."""
    path.unlink()
    shutil.move(recording(path.with_suffix(".new.wav"), corpus, **options), path)
