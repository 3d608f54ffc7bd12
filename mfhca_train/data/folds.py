"""Folds of whole speakers: train, validation and test speakers of each protocol.

A fold holds speakers out and trains on the others, so the two cannot overlap. Only the two oracles, which
measure the optimism of selecting on the test speaker, use it for validation.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from mfhca_cache.common.errors import MfhcaError
from mfhca_cache.manifest.utterance import Utterance
from mfhca_train.config.settings import TrainConfig

PROTOCOLS = {
    "strict": "test one speaker; validate on the rest of its session, or without sessions on the next speakers; "
    "train on the others",
    "session": "test a session, validate on the next one, train on the others",
    "group-k": "test one of k groups of speakers, validate on the next one, train on the others",
    "oracle": "test one speaker and select the epoch ON IT, train on all others (the released code's protocol)",
    "oracle-matched": "the training speakers of strict, but the epoch is selected ON THE TEST SPEAKER",
}
ORACLES = ("oracle", "oracle-matched")


@dataclass(frozen=True)
class Fold:
    """One split of the speakers, each tuple sorted."""

    id: str
    train: tuple[str, ...]
    validation: tuple[str, ...]
    test: tuple[str, ...]


def make_folds(utterances: Sequence[Utterance], protocol: str, config: TrainConfig) -> tuple[Fold, ...]:
    """Splits the speakers of a corpus.

    Args:
        utterances: those of the label set; speakers, sessions and genders are read, labels are not.
        protocol: a key of PROTOCOLS.
        config: `validation_speakers` (strict) and `groups` (group-k) are read.

    Returns:
        Folds in which every speaker is tested exactly once.

    Raises:
        MfhcaError: too few speakers or sessions for the protocol.
    """
    speakers = sorted({u.speaker for u in utterances})
    if protocol == "strict":
        known = _Speakers.of(utterances)
        folds = [_fold(s, [s], _strict_validation(s, known, config), speakers) for s in speakers]
    elif protocol == "session":
        folds = _rotation(_sessions(utterances), speakers, "session")
    elif protocol == "group-k":
        folds = _rotation(_groups(utterances, config.groups), speakers, "group")
    elif protocol == "oracle":
        folds = [_fold(s, [s], [s], speakers) for s in speakers]
    elif protocol == "oracle-matched":
        strict = make_folds(utterances, "strict", config)
        folds = [Fold(f.id, f.train, f.test, f.test) for f in strict]
    else:
        raise MfhcaError(f"no protocol is called {protocol!r}; there are: {', '.join(PROTOCOLS)}")
    empty = [fold.id for fold in folds if not fold.train]
    if empty and len({u.session for u in utterances} - {""}) == 1:
        raise MfhcaError(
            "column session puts all speakers into one session; clear it, or use --protocol group-k"
        )
    if empty:
        raise MfhcaError(
            f"protocol {protocol}: fold {empty[0]} has no training speakers ({len(speakers)} speakers in all); "
            "use a corpus with more speakers, or fewer validation speakers (--set train.validation_speakers=1)"
        )
    return tuple(folds)


def _fold(name: str, test: Iterable[str], validation: Iterable[str], speakers: Sequence[str]) -> Fold:
    held_out = {*test, *validation}
    return Fold(
        name, tuple(s for s in speakers if s not in held_out), tuple(sorted(validation)), tuple(sorted(test))
    )


@dataclass(frozen=True)
class _Speakers:
    """Gender and sessions of all speakers, collected once because a corpus may have thousands."""

    gender: dict[str, str]  # sorted by speaker
    sessions: dict[str, set[str]]  # by speaker
    members: dict[str, set[str]]  # by session

    @classmethod
    def of(cls, utterances: Sequence[Utterance]) -> _Speakers:
        gender = {u.speaker: u.gender for u in utterances}
        sessions: dict[str, set[str]] = {speaker: set() for speaker in gender}
        members: dict[str, set[str]] = {}
        for u in utterances:
            if u.session:
                sessions[u.speaker].add(u.session)
                members.setdefault(u.session, set()).add(u.speaker)
        return cls(dict(sorted(gender.items())), sessions, members)


def _strict_validation(speaker: str, known: _Speakers, config: TrainConfig) -> list[str]:
    """The rest of the speaker's session, or without sessions the next speakers, one of each gender if known."""
    partners = {p for session in known.sessions[speaker] for p in known.members[session]} - {speaker}
    if partners:
        return sorted(partners)
    gender, speakers = known.gender, list(known.gender)
    at = speakers.index(speaker)
    following = speakers[at + 1 :] + speakers[:at]
    chosen: list[str] = []
    for _ in range(min(config.validation_speakers, len(following))):
        left = [s for s in following if s not in chosen]
        of_gender = Counter(gender[s] for s in chosen)
        fewest = min(of_gender[gender[s]] for s in left)
        chosen.append(next(s for s in left if of_gender[gender[s]] == fewest))
    return chosen


def _sessions(utterances: Sequence[Utterance]) -> dict[str, list[str]]:
    of_speaker: dict[str, set[str]] = {}
    for u in utterances:
        of_speaker.setdefault(u.speaker, set()).add(u.session)
    for speaker, sessions in sorted(of_speaker.items()):
        if "" in sessions:
            raise MfhcaError(
                f"protocol session: speaker {speaker} has utterances without a session; use strict or group-k"
            )
        if len(sessions) > 1:
            names = ", ".join(sorted(sessions))
            raise MfhcaError(
                f"protocol session: speaker {speaker} is in several sessions ({names}); use strict or group-k"
            )
    groups: dict[str, list[str]] = {}
    for speaker, (session,) in sorted((s, tuple(v)) for s, v in of_speaker.items()):
        groups.setdefault(session, []).append(speaker)
    return dict(sorted(groups.items()))


def _groups(utterances: Sequence[Utterance], k: int) -> dict[str, list[str]]:
    """k groups with about equal numbers of utterances: the largest remaining speaker joins the smallest group."""
    sizes = Counter(u.speaker for u in utterances)
    if len(sizes) < k:
        raise MfhcaError(
            f"protocol group-k: {len(sizes)} speakers cannot make {k} groups; lower train.groups"
        )
    load = [0] * k
    groups: list[list[str]] = [[] for _ in range(k)]
    for speaker, size in sorted(sizes.items(), key=lambda item: (-item[1], item[0])):
        smallest = load.index(min(load))
        groups[smallest].append(speaker)
        load[smallest] += size
    digits = len(str(k))
    return {f"g{index:0{digits}d}": sorted(group) for index, group in enumerate(groups, start=1)}


def _rotation(groups: dict[str, list[str]], speakers: Sequence[str], unit: str) -> list[Fold]:
    if len(groups) < 3:
        raise MfhcaError(
            f"{len(groups)} {unit}s: at least 3 are needed, for training, validation and test; use strict"
        )
    names = list(groups)
    return [
        _fold(name, groups[name], groups[names[(index + 1) % len(names)]], speakers)
        for index, name in enumerate(names)
    ]
