"""Folds of whole speakers: train, validation and test speakers of each protocol.

A fold holds speakers out and trains on the others, so the two cannot overlap. Only the two oracles, which
measure the optimism of selecting on the test speaker, use it for validation. An official split of a corpus (protocol
column, see `official`) may have a speaker on several sides only if `train.shared_speakers` accepts that.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from typing import Literal, get_args

from mfhca_cache.common.errors import MfhcaError
from mfhca_cache.common.text import plural
from mfhca_cache.manifest.utterance import Utterance
from mfhca_train.config.defaults import PROTOCOL
from mfhca_train.config.settings import TrainConfig
from mfhca_train.data.official import official_splits

PROTOCOLS = {
    "strict": "test one speaker; validate on the rest of its session, or without sessions on the next speakers; "
    "train on the others",
    "session": "test a session, validate on the next one, train on the others",
    "group-k": "test one of k groups of speakers, validate on the next one, train on the others",
    "oracle": "test one speaker and select the epoch ON IT, train on all others (the released code's protocol)",
    "oracle-matched": "the training speakers of strict, but the epoch is selected ON THE TEST SPEAKER",
    "corpus": "test one of several corpora, validate on some speakers of each other one, train on the rest of these",
    "column": "the official split in the manifest's column fold: its folds in turn, or train, validation and test once",
}
ORACLES = ("oracle", "oracle-matched")
Side = Literal["train", "validation", "test"]
SIDES: tuple[Side, ...] = get_args(Side)


@dataclass(frozen=True)
class Fold:
    """One split of the speakers, each tuple sorted.

    Attributes:
        id: its name.
        train, validation, test: speakers.
        utterances: ids on each of these sides, if a speaker is on several; else None, and all utterances of a
            speaker are on its side.
    """

    id: str
    train: tuple[str, ...]
    validation: tuple[str, ...]
    test: tuple[str, ...]
    utterances: tuple[tuple[str, ...], ...] | None = None

    @property
    def selects_on_test(self) -> bool:
        """Whether the epoch is selected on the test utterances, as the oracles do."""
        return self.utterances is None and not set(self.validation).isdisjoint(self.test)

    def speakers(self, *sides: Side) -> set[str]:
        """The speakers on some sides."""
        return {speaker for side in sides for speaker in getattr(self, side)}

    def ids(self, *sides: Side) -> set[str]:
        """The utterances on some sides, where a speaker is on several."""
        return {name for side in sides for name in (self.utterances or ((),) * 3)[SIDES.index(side)]}


def make_folds(
    utterances: Sequence[Utterance], protocol: str = PROTOCOL, config: TrainConfig | None = None
) -> tuple[Fold, ...]:
    """Splits the speakers of a corpus.

    Args:
        utterances: those of the label set; speakers, sessions, genders and (column) folds are read, labels are not.
        protocol: a key of PROTOCOLS.
        config: of it `validation_speakers` (strict, column, corpus), `shared_speakers` (column) and `groups` (group-k)
            are read.

    Returns:
        Folds in which every speaker is tested exactly once; with column as the corpus has it.

    Raises:
        MfhcaError: too few speakers or sessions for the protocol (the message has options that fit the corpus), or
            the official split is unsound.
    """
    if protocol not in PROTOCOLS:
        raise MfhcaError(f"no protocol is called {protocol!r}; there are: {', '.join(PROTOCOLS)}")
    try:
        return _split(utterances, protocol, config or TrainConfig())
    except MfhcaError as error:
        # An official split and several corpora have their own.
        remedy = "" if protocol in ("column", "corpus") else f"; {_remedy(utterances)}"
        raise MfhcaError(f"protocol {protocol}: {error}{remedy}") from error


def _split(utterances: Sequence[Utterance], protocol: str, config: TrainConfig) -> tuple[Fold, ...]:
    """As `make_folds`; the errors have no remedy."""
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
    elif protocol == "column":
        folds = _official(utterances, config)
    elif protocol == "corpus":
        folds = _corpora(utterances, config)
    else:
        strict = _split(utterances, "strict", config)
        folds = [Fold(f.id, f.train, f.test, f.test) for f in strict]
    empty = [fold.id for fold in folds if not fold.train]
    if (
        empty
        and protocol not in ("column", "corpus")
        and len(speakers) > 2
        and len({u.session for u in utterances} - {""}) == 1
    ):
        raise MfhcaError("column session puts all speakers into one session; clear the column")
    if empty:
        count = f"{len(speakers)} {'speaker' if len(speakers) == 1 else 'speakers'} in all"
        raise MfhcaError(f"fold {empty[0]} has no training speakers ({count})")
    return tuple(folds)


def _remedy(utterances: Sequence[Utterance]) -> str:
    """Options with which this corpus can be split; they were tried."""
    speakers = len({u.speaker for u in utterances})
    if speakers < 2:
        return "no protocol can test on another speaker: add speakers, or correct the column speaker"
    if speakers < 3:
        return (
            "training, validation and test need three speakers: add speakers, or use --protocol oracle, whose "
            "scores are too high because it selects the epoch on the test speaker"
        )
    default = TrainConfig()
    for protocol, config, option in (
        ("strict", default, ""),
        ("strict", replace(default, validation_speakers=1), " --set train.validation_speakers=1"),
        ("group-k", default, ""),
        ("group-k", replace(default, groups=min(speakers, 4)), f" --set train.groups={min(speakers, 4)}"),
    ):
        with suppress(MfhcaError):
            _split(utterances, protocol, config)
            return f"use --protocol {protocol}{option}"
    return "add speakers"  # not reached: three groups can be made of three speakers


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

    def partners(self, test: Iterable[str]) -> set[str]:
        """The rest of the sessions of some speakers."""
        return {p for s in test for session in self.sessions[s] for p in self.members[session]} - {*test}


def _strict_validation(speaker: str, known: _Speakers, config: TrainConfig) -> list[str]:
    """The rest of the speaker's session, or without sessions the next speakers, one of each gender if known."""
    others = [s for s in known.gender if s != speaker]
    return sorted(known.partners([speaker])) or _next_speakers(speaker, others, known, config)


def _next_speakers(after: str, candidates: Sequence[str], known: _Speakers, config: TrainConfig) -> list[str]:
    """`validation_speakers` of the candidates, in order from a speaker on, as many of each gender as possible."""
    gender = known.gender
    following = [s for s in candidates if s > after] + [s for s in candidates if s <= after]
    chosen: list[str] = []
    for _ in range(min(config.validation_speakers, len(following))):
        left = [s for s in following if s not in chosen]
        of_gender = Counter(gender[s] for s in chosen)
        fewest = min(of_gender[gender[s]] for s in left)
        chosen.append(next(s for s in left if of_gender[gender[s]] == fewest))
    return chosen


def _official(utterances: Sequence[Utterance], config: TrainConfig) -> list[Fold]:
    """The folds of the column fold; where it names no validation speakers, some training speakers validate."""
    known = _Speakers.of(utterances)
    folds = []
    for name, sides in official_splits(utterances, config.shared_speakers):
        placed = list(zip(utterances, sides, strict=True))
        train, validation, test = (sorted({u.speaker for u, s in placed if s == side}) for side in SIDES)
        if not validation:
            chosen = _official_validation(train, test, known, config)
            placed = [(u, "validation" if s == "train" and u.speaker in chosen else s) for u, s in placed]
            train, validation = [s for s in train if s not in chosen], chosen
        shared = len({*train, *validation, *test}) < len(train) + len(validation) + len(test)
        ids = tuple(tuple(u.utterance for u, s in placed if s == side) for side in SIDES)
        folds.append(Fold(name, tuple(train), tuple(validation), tuple(test), ids if shared else None))
    return folds


def _official_validation(
    train: Sequence[str], test: Sequence[str], known: _Speakers, config: TrainConfig
) -> list[str]:
    """As strict chooses, but a session that would leave no training speaker is not considered."""
    partners = known.partners(test) & {*train}
    if partners and len(partners) < len(train):
        return sorted(partners)
    unseen = [s for s in train if s not in {*test}]
    return sorted(_next_speakers(max(test), unseen or train, known, config))


def _corpora(utterances: Sequence[Utterance], config: TrainConfig) -> list[Fold]:
    """Each corpus is tested once; `validation_speakers` of each other corpus validate, but never all of a corpus."""
    members: dict[str, list[str]] = {}
    for speaker, corpus in sorted({(u.speaker, u.corpus) for u in utterances}):
        members.setdefault(corpus, []).append(speaker)
    if len(members) < 2:
        raise MfhcaError(
            "it tests one of several corpora; pass two manifests or more, or use another protocol"
        )
    known, folds = _Speakers.of(utterances), []
    for tested, speakers in members.items():
        training = {corpus: own for corpus, own in members.items() if corpus != tested}
        validation = [
            speaker
            for own in training.values()
            for speaker in _next_speakers(
                "",
                own,
                known,
                replace(config, validation_speakers=min(config.validation_speakers, len(own) - 1)),
            )
        ]
        if not validation:
            raise MfhcaError(
                f"fold {tested}: no other corpus has a second speaker, which would validate; add a corpus"
            )
        folds.append(_fold(tested, speakers, validation, list(known.gender)))
    return folds


def _sessions(utterances: Sequence[Utterance]) -> dict[str, list[str]]:
    of_speaker: dict[str, set[str]] = {}
    for u in utterances:
        of_speaker.setdefault(u.speaker, set()).add(u.session)
    for speaker, sessions in sorted(of_speaker.items()):
        if "" in sessions:
            raise MfhcaError(f"speaker {speaker} has utterances without a session")
        if len(sessions) > 1:
            names = ", ".join(sorted(sessions))
            raise MfhcaError(f"speaker {speaker} is in several sessions ({names})")
    groups: dict[str, list[str]] = {}
    for speaker, (session,) in sorted((s, tuple(v)) for s, v in of_speaker.items()):
        groups.setdefault(session, []).append(speaker)
    return dict(sorted(groups.items()))


def _groups(utterances: Sequence[Utterance], k: int) -> dict[str, list[str]]:
    """k groups with about equal numbers of utterances: the largest remaining speaker joins the smallest group."""
    sizes = Counter(u.speaker for u in utterances)
    if len(sizes) < k:
        raise MfhcaError(f"{plural(len(sizes), 'speaker')} cannot make {k} groups")
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
        raise MfhcaError(f"{len(groups)} {unit}s: at least 3 are needed, for training, validation and test")
    names = list(groups)
    return [
        _fold(name, groups[name], groups[names[(index + 1) % len(names)]], speakers)
        for index, name in enumerate(names)
    ]
