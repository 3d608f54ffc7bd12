from __future__ import annotations

import re
from collections import Counter

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mfhca_cache.common.errors import MfhcaError
from mfhca_cache.manifest.utterance import Utterance
from mfhca_train.cli.main import PROTOCOL_NAMES
from mfhca_train.config.settings import TrainConfig
from mfhca_train.data.folds import ORACLES, PROTOCOLS, make_folds

BY_SPEAKERS = sorted(
    {*PROTOCOLS} - {"column", "corpus"}
)  # of any manifest; column and corpus need more of it

corpora = st.lists(st.tuples(st.integers(1, 5), st.sampled_from(["f", "m", ""])), min_size=6, max_size=24)


def corpus(speakers: list[tuple[int, str]], a_session: int = 0) -> list[Utterance]:
    """Speakers given by how much they say and their gender; `a_session` speakers share a session."""
    return [
        Utterance(
            f"u{s}_{i}", f"{s}/{i}.wav", f"s{s:02}", "x", f"S{s // a_session}" if a_session else "", gender
        )
        for s, (count, gender) in enumerate(speakers)
        for i in range(count)
    ]


@given(
    st.lists(st.tuples(st.integers(0, 3), st.sampled_from(["f", "m", ""])), min_size=2, max_size=16),
    st.integers(1, 4),
)
@settings(max_examples=100, deadline=None)
def test_protocol_corpus_tests_each_corpus_once_and_trains_and_validates_on_every_other(
    speakers: list[tuple[int, str]], validation: int
) -> None:
    utterances = [
        Utterance(f"c{c}/u{s}", f"{s}.wav", f"c{c}/{s:02}", "x", gender=gender, corpus=f"c{c}")
        for s, (c, gender) in enumerate(speakers)
    ]
    of = {u.speaker: u.corpus for u in utterances}
    sizes = Counter(of.values())
    try:
        folds = make_folds(utterances, "corpus", TrainConfig(validation_speakers=validation))
    except MfhcaError:
        # Refused: a single corpus, or all others of a corpus have one speaker each.
        assert len(sizes) < 2 or not all(any(n > 1 for c, n in sizes.items() if c != own) for own in sizes)
        return
    assert [fold.id for fold in folds] == sorted(sizes)
    for fold in folds:
        assert {*fold.test} == {speaker for speaker, corpus in of.items() if corpus == fold.id}
        assert {*fold.train} | {*fold.validation} == {*of} - {*fold.test}
        assert not {*fold.train} & {*fold.validation}
        chosen = Counter(of[speaker] for speaker in fold.validation)
        for corpus, size in sizes.items():
            assert chosen[corpus] == (0 if corpus == fold.id else min(validation, size - 1))


def test_the_command_offers_exactly_the_protocols_there_are() -> None:
    assert tuple(PROTOCOLS) == PROTOCOL_NAMES


@given(corpora, st.sampled_from(BY_SPEAKERS), st.sampled_from([0, 2]), st.integers(3, 6))
@settings(max_examples=150, deadline=None)
def test_speakers_are_disjoint_and_each_is_tested_once(
    speakers: list[tuple[int, str]], protocol: str, a_session: int, k: int
) -> None:
    utterances = corpus(speakers, a_session)
    if protocol == "session" and not a_session:
        with pytest.raises(MfhcaError, match="without a session"):
            make_folds(utterances, protocol, TrainConfig())
        return
    folds = make_folds(utterances, protocol, TrainConfig(groups=k))
    names = {u.speaker for u in utterances}
    tested = [s for fold in folds for s in fold.test]
    assert sorted(tested) == sorted(names)
    assert len({fold.id for fold in folds}) == len(folds)
    for fold in folds:
        assert fold.train
        assert fold.validation
        assert not set(fold.train) & {*fold.validation, *fold.test}
        assert {*fold.train, *fold.validation, *fold.test} <= names
        if protocol in ORACLES:
            assert fold.validation == fold.test
        else:
            assert not set(fold.validation) & set(fold.test)
            assert {*fold.train, *fold.validation, *fold.test} == names


def follow_remedy(utterances: list[Utterance], message: str) -> None:
    """Makes the folds with the options that a message proposes; of less than three speakers it proposes none."""
    options = re.search(r"use --protocol ([\w-]+)(?: --set train\.(\w+)=(\d+))?", message)
    if options is None or options[1] == "oracle":
        assert len({u.speaker for u in utterances}) <= (1 if options is None else 2), message
    if options is not None:
        settings = {options[2]: int(options[3])} if options[2] else {}
        assert make_folds(utterances, options[1], TrainConfig(**settings))


@given(
    st.lists(st.tuples(st.integers(0, 5), st.sampled_from("fm")), min_size=1, max_size=14),
    st.sampled_from(BY_SPEAKERS),
    st.integers(2, 16),
    st.integers(1, 5),
)
@settings(max_examples=300, deadline=None)
def test_any_corpus_gives_sound_folds_or_is_refused(
    speakers: list[tuple[int, str]], protocol: str, k: int, validation: int
) -> None:
    """Any number of speakers, unevenly spread over sessions; any number of groups and validation speakers."""
    utterances = [
        Utterance(f"u{s}", f"{s}.wav", f"s{s}", "x", f"S{session}", gender)
        for s, (session, gender) in enumerate(speakers)
    ]
    try:
        folds = make_folds(utterances, protocol, TrainConfig(groups=k, validation_speakers=validation))
    except MfhcaError as error:
        follow_remedy(utterances, str(error))
        return
    names = {u.speaker for u in utterances}
    assert sorted(s for fold in folds for s in fold.test) == sorted(names)
    for fold in folds:
        assert fold.train
        assert fold.validation
        assert fold.test
        assert not set(fold.train) & {*fold.validation, *fold.test}
        assert {*fold.train, *fold.validation, *fold.test} <= names
        assert len({*fold.train}) + len({*fold.test}) == len(fold.train) + len(fold.test)
        assert protocol in ORACLES or not set(fold.validation) & set(fold.test)


@given(corpora)
@settings(max_examples=50, deadline=None)
def test_oracle_matched_trains_on_what_strict_trains_on(speakers: list[tuple[int, str]]) -> None:
    utterances = corpus(speakers)
    strict = make_folds(utterances, "strict", TrainConfig())
    matched = make_folds(utterances, "oracle-matched", TrainConfig())
    assert [f.train for f in strict] == [f.train for f in matched]


def test_strict_validates_on_the_dialogue_partner_where_there_are_sessions() -> None:
    folds = make_folds(corpus([(1, "f"), (1, "m")] * 5, a_session=2), "strict", TrainConfig())
    assert {f.test[0]: f.validation for f in folds}["s02"] == ("s03",)
    assert {f.test[0]: f.validation for f in folds}["s03"] == ("s02",)


def test_strict_validates_on_the_next_woman_and_man_where_there_are_no_sessions() -> None:
    genders = ["m", "f", "f", "m", "m", "f"]
    folds = make_folds(corpus([(1, g) for g in genders]), "strict", TrainConfig())
    chosen = {f.test[0]: f.validation for f in folds}
    assert chosen["s00"] == ("s01", "s03")  # s02 is a woman like s01
    assert chosen["s05"] == ("s00", "s01")


def test_labels_decide_no_fold() -> None:
    utterances = corpus([(3, "f"), (2, "m"), (4, "f"), (1, "m"), (2, "f"), (2, "m")])
    other = [Utterance(u.utterance, u.path, u.speaker, "y", u.session, u.gender) for u in utterances]
    for protocol in ("strict", "group-k", "oracle"):
        assert make_folds(utterances, protocol, TrainConfig()) == make_folds(other, protocol, TrainConfig())


def test_groups_are_about_equally_large() -> None:
    sizes = [9, 1, 1, 1, 1, 1, 1, 1, 1, 1]
    folds = make_folds(corpus([(n, "") for n in sizes]), "group-k", TrainConfig(groups=3))
    assert sorted(len(f.test) for f in folds) == [1, 4, 5]


@pytest.mark.parametrize(
    ("speakers", "protocol", "message"),
    [
        (
            3,
            "strict",
            r"has no training speakers \(3 .*; use --protocol strict --set train.validation_speakers=1$",
        ),
        (
            2,
            "strict",
            r"has no training speakers \(2 speakers in all\); .* need three speakers: add .* oracle",
        ),
        (4, "group-k", "cannot make 5 groups; use --protocol strict$"),
        (1, "oracle", r"has no training speakers \(1 speaker in all\); no protocol can .*: add speakers"),
        (3, "leave-it", "no protocol is called 'leave-it'"),
    ],
)
def test_too_few_speakers_are_refused(speakers: int, protocol: str, message: str) -> None:
    with pytest.raises(MfhcaError, match=message):
        make_folds(corpus([(2, "f")] * speakers), protocol, TrainConfig())


def test_two_sessions_are_too_few() -> None:
    with pytest.raises(MfhcaError, match="at least 3 are needed"):
        make_folds(corpus([(1, "f")] * 4, a_session=2), "session", TrainConfig())


def test_a_speaker_in_two_sessions_is_refused_by_session() -> None:
    rows = [*corpus([(1, "f")] * 6, a_session=2), Utterance("x", "x.wav", "s00", "x", "S9", "f")]
    with pytest.raises(MfhcaError, match="speaker s00 is in several sessions"):
        make_folds(rows, "session", TrainConfig())
