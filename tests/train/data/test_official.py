from __future__ import annotations

import random
from dataclasses import replace

import pytest
from corpus_factory import utterances
from hypothesis import given, settings
from hypothesis import strategies as st

from mfhca_cache.common.errors import MfhcaError
from mfhca_cache.manifest.utterance import Utterance
from mfhca_train.config.settings import TrainConfig
from mfhca_train.data.folds import SIDES, Fold, make_folds
from mfhca_train.data.official import WORDS

SHARED = TrainConfig(shared_speakers=True)


def split(entries: list[tuple[int, str]], genders: str = "fm") -> list[Utterance]:
    """One utterance for each (speaker, entry of the column fold)."""
    return [
        Utterance(f"u{i}", f"{i}.wav", f"s{s}", "x", "", genders[s % len(genders)], fold=entry)
        for i, (s, entry) in enumerate(entries)
    ]


def sides(fold: Fold, rows: list[Utterance]) -> dict[str, set[str]]:
    """The utterances of each side, as a trainer sees them."""
    if fold.utterances is not None:
        return {side: fold.ids(side) for side in SIDES}
    return {side: {u.utterance for u in rows if u.speaker in fold.speakers(side)} for side in SIDES}


def folds_of(rows: list[Utterance], config: TrainConfig = SHARED) -> tuple[Fold, ...]:
    return make_folds(rows, "column", config)


@given(
    st.lists(st.tuples(st.integers(0, 7), st.sampled_from("abcd")), min_size=2, max_size=40),
    st.integers(1, 3),
)
@settings(max_examples=60, deadline=None)
def test_each_named_fold_is_tested_once_and_sides_are_disjoint(
    entries: list[tuple[int, str]], validation: int
) -> None:
    rows = split(entries)
    try:
        folds = folds_of(rows, TrainConfig(shared_speakers=True, validation_speakers=validation))
    except MfhcaError:
        return
    assert [fold.id for fold in folds] == sorted({entry for _, entry in entries})
    tested: list[str] = []
    for fold in folds:
        found = sides(fold, rows)
        assert found["test"] == {u.utterance for u in rows if u.fold == fold.id}
        assert all(found.values())
        assert set().union(*found.values()) == {u.utterance for u in rows}
        assert sum(map(len, found.values())) == len(rows)
        tested += found["test"]
        alone = {u.speaker for u in rows if u.fold != fold.id} - {*fold.test}
        # A speaker of the test side validates only if there is nobody else.
        assert not set(fold.validation) & set(fold.test) or not alone
    assert sorted(tested) == sorted(u.utterance for u in rows)


@given(st.lists(st.sampled_from("abcd"), min_size=6, max_size=12))
@settings(max_examples=40, deadline=None)
def test_without_shared_speakers_no_speaker_is_on_two_sides(entries: list[str]) -> None:
    """And the same folds with the option: it changes nothing where it is not needed."""
    rows = [row for s, entry in enumerate(entries) for row in split([(s, entry)] * 2)]
    rows = [replace(u, utterance=f"u{i}", path=f"{i}.wav") for i, u in enumerate(rows)]
    try:
        folds = folds_of(rows, TrainConfig())
    except MfhcaError:
        return
    for fold in folds:
        speakers = [*fold.train, *fold.validation, *fold.test]
        assert len({*speakers}) == len(speakers) == len(entries)
        assert fold.utterances is None
    assert folds == folds_of(rows)


@given(st.randoms(use_true_random=False))
@settings(max_examples=20, deadline=None)
def test_the_order_of_rows_and_the_labels_decide_no_fold(shuffle: random.Random) -> None:
    rows = split([(s, "abc"[s % 3]) for s in range(9) for _ in range(2)])
    other = [replace(u, emotion=shuffle.choice("xyz")) for u in rows]
    shuffle.shuffle(other)
    assert folds_of(rows) == folds_of(other)
    shared = split([(s, "test" if (s + i) % 3 == 0 else "train") for s in range(6) for i in range(4)])
    mixed = shuffle.sample(shared, len(shared))
    assert [sides(f, shared) for f in folds_of(shared)] == [sides(f, mixed) for f in folds_of(mixed)]


@pytest.mark.parametrize("case", [str.lower, str.title, str.upper])
def test_every_usual_word_for_a_side_is_understood(case: type[str]) -> None:
    for train, validation, test in zip(
        WORDS["train"] * 3, WORDS["validation"], WORDS["test"] * 2, strict=False
    ):
        rows = split([(0, case(train)), (1, case(validation)), (2, case(test)), (3, case(train))])
        assert folds_of(rows, TrainConfig()) == (Fold("test", ("s0", "s3"), ("s1",), ("s2",)),)


def test_one_fold_per_speaker_is_strict() -> None:
    """Validation speakers are chosen as strict chooses them, with sessions and without."""
    for sessions in (True, False):
        rows = [replace(u, fold=u.speaker) for u in utterances(6, 2, sessions)]
        assert folds_of(rows, TrainConfig()) == make_folds(rows, "strict", TrainConfig())


def test_validation_is_chosen_from_the_training_speakers_after_the_test_speakers() -> None:
    rows = split([(s, "test" if s in (1, 2) else "train") for s in range(6)], genders="ffmmff")
    assert folds_of(rows, TrainConfig()) == (Fold("test", ("s0", "s5"), ("s3", "s4"), ("s1", "s2")),)


def test_a_session_that_all_speakers_share_leaves_speakers_to_train_on() -> None:
    rows = [replace(u, session="1") for u in split([(0, "test"), (1, "train"), (2, "train"), (3, "train")])]
    assert folds_of(rows, TrainConfig()) == (Fold("test", ("s3",), ("s1", "s2"), ("s0",)),)


def test_the_utterances_of_a_shared_speaker_stay_on_their_sides() -> None:
    rows = split([(0, "train"), (0, "test"), (1, "train"), (2, "train"), (3, "train"), (0, "train")])
    (fold,) = folds_of(rows)
    assert sides(fold, rows) == {"train": {"u0", "u4", "u5"}, "validation": {"u2", "u3"}, "test": {"u1"}}
    assert (fold.train, fold.validation, fold.test) == (("s0", "s3"), ("s1", "s2"), ("s0",))
    assert not fold.selects_on_test


@pytest.mark.parametrize(
    ("entries", "message"),
    [
        ([(0, ""), (1, "")], "no official split; add a column fold"),
        ([(0, "a"), (1, ""), (2, "b")], "column fold is empty for 1 of 3 utterances.*\n.*u1"),
        ([(0, "train"), (1, "test"), (2, "3")], "but also 3; write train"),
        ([(0, "train"), (1, "dev")], "has only dev, train; a split needs train and test"),
        ([(0, "a"), (1, "a")], "all utterances are in fold a; at least two"),
        ([(0, "train"), (0, "test"), (1, "train")], "(?s)1 of 2 speakers.*s0: utterances in test 1, train 1"),
        ([(0, "a"), (0, "b"), (1, "b")], "train.shared_speakers=true"),
        ([(0, "train"), (1, "validation"), (1, "train"), (2, "test")], "1 of 3 speakers would be"),
        ([(0, "a"), (1, "b"), (2, "b")], "fold a has no training speakers"),
    ],
)
def test_an_unsound_split_is_refused(entries: list[tuple[int, str]], message: str) -> None:
    with pytest.raises(MfhcaError, match=message) as error:
        folds_of(split(entries), TrainConfig())
    assert str(error.value).count("protocol column") == 1
