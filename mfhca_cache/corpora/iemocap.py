"""IEMOCAP: labels from the evaluation files, one audio file per turn.

Every evaluated turn is listed with its raw label, those without majority
agreement (xxx) too: the label sets on the card choose among them.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
from collections.abc import Set as AbstractSet
from pathlib import Path, PurePosixPath

from mfhca_cache.common.errors import MfhcaError
from mfhca_cache.corpora.folder import (
    HIDDEN,
    NOT_WAV,
    UNLABELLED,
    Ignored,
    Scan,
    files_in,
    ignore,
    list_folder,
    read_lengths,
)
from mfhca_cache.manifest.utterance import Utterance

# The first line of a turn: "[6.2901 - 8.2357]<TAB>Ses01F_impro01_F000<TAB>neu<TAB>[2.5000, 2.5000, 2.5000]".
# The lines of single raters (C-E2:, A-E3:) and the explanation (%) start with other characters.
TURN = re.compile(r"\[\s*\d[\d.]*\s*-\s*\d[\d.]*\s*\]\t(?P<name>\S+)\t(?P<label>\S+)\t\[.*")
# A dialogue is named after its session and the actor with markers, a turn also after who speaks.
NAME = re.compile(r"(?P<dialogue>Ses0(?P<session>\d)[FM]_\w+)_(?P<gender>[FM])\w*")


def scan(root: Path) -> Scan:
    """Scans IEMOCAP in its released layout.

    Args:
        root: the folder that holds Session1 ... Session5.

    Returns:
        Every labelled turn with audio, ignored files, and problems: a turn without audio, unreadable audio, a
        line that looks like a turn and is not.

    Raises:
        MfhcaError: there is no session in the folder.
    """
    sessions = [
        folder for folder in list_folder(root) if re.fullmatch(r"Session\d", folder.name) and folder.is_dir()
    ]
    if not sessions:
        raise MfhcaError(
            f"{root}: no folder Session1 in it; --root must be the folder that holds Session1 ... Session5"
        )
    ignored: Ignored = {}
    problems: list[str] = []
    audio = {
        path.relative_to(root).as_posix()
        for folder in sessions
        for path in _audio_files(root, folder, ignored)
    }
    turns: dict[str, Utterance] = {}
    for folder in sessions:
        for turn in _turns(root, folder, ignored, problems):
            if turn.utterance in turns:
                problems.append(f"utterance {turn.utterance}: labelled twice; the first label is kept")
            else:
                turns[turn.utterance] = turn
    problems += _without_audio(turns.values(), audio)
    with_audio = [turns[name] for name in sorted(turns) if turns[name].path in audio]
    ignore(ignored, UNLABELLED, *(audio - {turn.path for turn in turns.values()}))
    utterances, unreadable = read_lengths(root, with_audio)
    return Scan(tuple(utterances), ignored, (*problems, *unreadable))


def _audio_files(root: Path, session: Path, ignored: Ignored) -> Iterator[Path]:
    """The audio files of a session."""
    folder = session / "sentences" / "wav"
    for dialogue in list_folder(folder) if folder.is_dir() else ():
        if dialogue.name.startswith("."):
            ignore(ignored, HIDDEN, dialogue.relative_to(root).as_posix())
        elif dialogue.is_dir():
            yield from files_in(root, dialogue, ".wav", ignored, NOT_WAV)
        else:
            ignore(ignored, "outside the dialogue folders", dialogue.relative_to(root).as_posix())


def _without_audio(turns: Iterable[Utterance], audio: AbstractSet[str]) -> Iterator[str]:
    """One problem for each turn without audio; a single one for a session or a dialogue without any."""
    folders = {str(folder) for path in audio for folder in PurePosixPath(path).parents}
    missing: dict[str, list[Utterance]] = {}
    for turn in turns:
        session, dialogue = turn.path.partition("/")[0], turn.path.rpartition("/")[0]
        if turn.path not in audio:
            key = turn.path if dialogue in folders else dialogue
            if session not in folders:
                key = f"{session}/sentences/wav"
            missing.setdefault(key, []).append(turn)
    for path, absent in missing.items():
        if len(absent) == 1:
            yield f"utterance {absent[0].utterance}: labelled, but there is no {absent[0].path}"
        else:
            yield f"{path}: no audio of its {len(absent):,} labelled turns"


def _turns(root: Path, session: Path, ignored: Ignored, problems: list[str]) -> Iterator[Utterance]:
    """The labelled turns of a session; lines that look like a turn and are not are added to `problems`."""
    folder = session / "dialog" / "EmoEvaluation"
    if not folder.is_dir():
        problems.append(f"{session.name}: no folder dialog/EmoEvaluation in it")
        return
    for file in files_in(root, folder, ".txt", ignored, "not evaluations (.txt)"):
        try:
            text = file.read_text(encoding="utf-8", errors="replace")
        except OSError as error:
            problems.append(f"{session.name}/{file.name}: cannot be read ({error.strerror})")
            continue
        for number, line in enumerate(text.splitlines(), start=1):
            if not line.startswith("["):
                continue
            match = TURN.fullmatch(line.rstrip())
            name = NAME.fullmatch(match["name"]) if match else None
            where = f"{session.name}/{file.name} line {number}"
            if match is None or name is None:
                problems.append(f"{where}: not in IEMOCAP's format of a turn: {line.strip()!r}")
            elif session.name != f"Session{name['session']}":
                problems.append(f"{where}: utterance {match['name']} does not belong to {session.name}")
            else:
                yield Utterance(
                    utterance=match["name"],
                    path=f"{session.name}/sentences/wav/{name['dialogue']}/{match['name']}.wav",
                    speaker=name["session"] + name["gender"],
                    emotion=match["label"],
                    session=name["session"],
                    gender=name["gender"].lower(),
                )
