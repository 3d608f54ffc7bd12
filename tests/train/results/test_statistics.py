"""Tests of paired differences against brute force, hand-made definitions and what must not matter."""

from __future__ import annotations

import itertools
import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats

from mfhca_train.results.comparison import Outcome, against, compare, outcome
from mfhca_train.results.metrics import confusion_matrix, scores
from mfhca_train.results.statistics import EXACT_UP_TO, holm, paired, sign_flip, speaker_interval
from mfhca_train.results.summary import UnitFiles

# Tenths, so that ties of sums are real ones and not accidents of rounding.
differences = st.lists(st.integers(-20, 20), min_size=1, max_size=9)
probabilities = st.lists(st.floats(0, 1), min_size=1, max_size=8)


@given(differences)
@settings(max_examples=150, deadline=None)
def test_sign_flip_is_what_all_flips_say(tenths: list[int]) -> None:
    observed = abs(sum(tenths))
    flips = [
        sum(s * d for s, d in zip(signs, tenths, strict=True))
        for signs in itertools.product((1, -1), repeat=len(tenths))
    ]
    found = sign_flip(np.array(tenths) / 10)
    assert found["p"] == pytest.approx(np.mean([abs(total) >= observed for total in flips]))
    assert found["method"] == "exact"
    assert found["smallest_p"] <= found["p"] <= 1
    assert found["smallest_p"] == sign_flip(np.ones(len(tenths)))["p"] == min(1.0, 2 / 2 ** len(tenths))


@given(differences, st.randoms(use_true_random=False), st.sampled_from([0.001, 3.0, 1e6]))
@settings(max_examples=100, deadline=None)
def test_order_sign_scale_and_zeros_do_not_matter(tenths: list[int], random: object, scale: float) -> None:
    values = np.array(tenths) / 10
    shuffled = list(values)
    random.shuffle(shuffled)  # type: ignore[attr-defined]
    p = sign_flip(values)["p"]
    for other in (-values, np.array(shuffled), values * scale, np.append(values, [0.0, 0.0])):
        assert sign_flip(other)["p"] == p


def test_sign_flip_agrees_with_scipy() -> None:
    values = np.random.default_rng(0).normal(0.4, 1, 10)
    expected = stats.permutation_test(
        (values,), np.mean, permutation_type="samples", n_resamples=np.inf, alternative="two-sided"
    )
    assert sign_flip(values)["p"] == pytest.approx(expected.pvalue)


def test_many_pairs_are_drawn_at_random_reproducibly_and_close_to_exact() -> None:
    values = np.random.default_rng(1).normal(0.5, 1, EXACT_UP_TO + 3)
    sums = np.array([0.0])
    for value in np.abs(values):
        sums = np.concatenate([sums - value, sums + value])
    exact = float(np.mean(np.abs(sums) >= abs(values.sum()) - 1e-12))
    found = sign_flip(values)
    assert found == sign_flip(values)
    assert found["method"] == "Monte Carlo"
    assert found["p"] == pytest.approx(exact, abs=4 * math.sqrt(exact * (1 - exact) / 99_999) + 1e-5)
    assert sign_flip(np.ones(60))["p"] == found["smallest_p"] == 1e-5


@given(probabilities)
@settings(max_examples=200, deadline=None)
def test_holm_is_what_its_definition_says(values: list[float]) -> None:
    """Reject in ascending order as long as p(i) <= a / (m - i); the adjusted value is the least a that rejects."""
    found, count = holm(values), len(values)
    order = sorted(range(count), key=lambda i: values[i])
    for alpha in (0.01, 0.05, 0.3, 0.99):
        rejected = set()
        for rank, index in enumerate(order):
            if values[index] * (count - rank) > alpha:
                break
            rejected.add(index)
        assert {i for i in range(count) if found[i] <= alpha} == rejected


@given(probabilities, st.randoms(use_true_random=False))
@settings(max_examples=100, deadline=None)
def test_holm_only_raises_and_keeps_the_order(values: list[float], random: object) -> None:
    found = holm(values)
    assert all(p <= adjusted <= 1 for p, adjusted in zip(values, found, strict=True))
    assert sorted(zip(values, found, strict=True)) == list(zip(sorted(values), sorted(found), strict=True))
    order = list(range(len(values)))
    random.shuffle(order)  # type: ignore[attr-defined]
    assert holm([values[i] for i in order]) == [found[i] for i in order]


def test_paired_gives_mean_t_interval_and_p() -> None:
    values = np.random.default_rng(2).normal(0.02, 0.05, 10)
    found = paired(values)
    assert found["difference"] == pytest.approx(values.mean())
    assert found["ci95"] == pytest.approx(stats.t.interval(0.95, 9, values.mean(), stats.sem(values)))
    assert found["pairs"] == 10
    assert found["p"] == sign_flip(values)["p"]
    alone = paired(values[:1])
    assert (alone["ci95"], alone["p"], alone["smallest_p"]) == (None, 1.0, 1.0)


def row_of(guesses: dict[int, str], truth: str = "ababaabb") -> list[UnitFiles]:
    """Units of two speakers with four utterances each; the guesses of each seed as a string."""
    found = []
    for seed, text in guesses.items():
        for speaker in (0, 1):
            rows = [
                {
                    "utterance": f"{speaker}{i}",
                    "speaker": f"s{speaker}",
                    "label": truth[at],
                    "prediction": text[at],
                }
                for i, at in enumerate(range(4 * speaker, 4 * speaker + 4))
            ]
            found.append(UnitFiles({"seed": seed}, rows))
    return found


def test_an_outcome_keeps_every_seed_apart() -> None:
    found = outcome(row_of({0: "aaaaaaaa", 1: "ababaabb"}), ["a", "b"])
    assert {seed: of["wa"] for seed, of in found.speakers.items()} == {
        0: {"s0": 0.5, "s1": 0.5},
        1: {"s0": 1.0, "s1": 1.0},
    }
    assert [found.correct[seed]["01"] for seed in (0, 1)] == [False, True]
    assert found.label["01"] == "b"


MANY = {0: "aaaaaaaa", 1: "ababaabb", 2: "bbbbabab"}
FEW = {1: "abababab", 4: "aabbaabb"}


def test_rows_with_unequal_seeds_are_compared_over_those_that_both_have() -> None:
    classes = ["a", "b"]
    whole, few = outcome(row_of(MANY), classes), outcome(row_of(FEW), classes)
    one, other = (outcome(row_of({1: of[1]}), classes) for of in (MANY, FEW))
    for pair, expected in (((few, whole), (other, one)), ((whole, few), (one, other))):
        found = compare(*pair)
        assert found
        assert found["seeds"] == 1
        assert found == compare(*expected)
    equal = compare(whole, outcome(row_of(dict.fromkeys(MANY, "abababab")), classes))
    assert equal
    assert equal["seeds"] == 3
    # By hand: 2, 4 and 2 of each speaker's four are right; in the other row 4 of one speaker's, 2 of the other's.
    assert equal["wa"]["difference"] == pytest.approx(np.mean([8 / 12 - 4 / 4, 8 / 12 - 2 / 4]))


def test_rows_without_a_common_seed_are_compared_over_all_they_have() -> None:
    classes = ["a", "b"]
    found = compare(outcome(row_of({4: "abababab"}), classes), outcome(row_of(MANY), classes))
    assert found
    assert found["seeds"] == 0
    renamed = {0: "abababab", 1: "abababab", 2: "abababab"}
    expected = compare(outcome(row_of(renamed), classes), outcome(row_of(MANY), classes))
    assert expected
    assert found == expected | {"seeds": 0}


def test_a_row_without_random_numbers_is_compared_over_all_seeds_of_the_other() -> None:
    classes = ["a", "b"]
    fixed, network = outcome(row_of({0: "abababab"}), classes, random=False), outcome(row_of(MANY), classes)
    repeated = outcome(row_of(dict.fromkeys(MANY, "abababab")), classes)
    assert compare(fixed, network) == compare(repeated, network)
    assert compare(network, fixed) == compare(network, repeated)


def test_utterances_test_is_that_of_swapping_predictions() -> None:
    """By brute force: swap the predictions of each subset of utterances, score both rows, compare."""
    truth, one, other = "ababaabb", "ababaaab", "abbbbabb"
    found = compare(outcome(row_of({0: one}), ["a", "b"]), outcome(row_of({0: other}), ["a", "b"]))
    assert found is not None

    def wa(guess: str) -> float:
        return float(np.mean([g == t for g, t in zip(guess, truth, strict=True)]))

    def ua(guess: str) -> float:
        return float(
            np.mean([np.mean([g == t for g, t in zip(guess, truth, strict=True) if t == k]) for k in "ab"])
        )

    for name, score in (("wa", wa), ("ua", ua)):
        observed = score(one) - score(other)
        totals = []
        for swaps in itertools.product((False, True), repeat=8):
            mine = "".join(b if s else a for a, b, s in zip(one, other, swaps, strict=True))
            theirs = "".join(a if s else b for a, b, s in zip(one, other, swaps, strict=True))
            totals.append(score(mine) - score(theirs))
        expected = np.mean([abs(total) >= abs(observed) - 1e-12 for total in totals])
        assert found["utterances"][name]["difference"] == pytest.approx(observed)
        assert found["utterances"][name]["p"] == pytest.approx(expected)


def test_rows_are_adjusted_together_and_the_reference_is_not_tested() -> None:
    classes = ["a", "b"]
    outcomes = {
        "reference": outcome(row_of({0: "ababaabb"}), classes),
        "worse": outcome(row_of({0: "bbbbabab"}), classes),
        "same": outcome(row_of({0: "ababaabb"}), classes),
        "elsewhere": Outcome({0: {"wa": {"s9": 1.0}, "ua": {"s9": 1.0}}}, {0: {}}, {}),
    }
    found = against(outcomes, "reference")
    assert list(found) == ["worse", "same"]
    for score in ("wa", "ua"):
        ps = [found[name][score]["p"] for name in found]
        assert [found[name][score]["p_holm"] for name in found] == holm(ps)
    assert found["worse"]["wa"]["difference"] < 0
    backwards = against(outcomes, "worse")["reference"]
    assert backwards["wa"]["difference"] == -found["worse"]["wa"]["difference"]
    assert backwards["wa"]["p"] == found["worse"]["wa"]["p"]
    assert against(outcomes, None) == {}


def test_oracles_are_tested_against_oracles_only_and_others_are_adjusted_without_them() -> None:
    guesses = {"strict": "ababaabb", "other": "bbbbabab", "peeks": "ababaaab", "peeks-too": "abababab"}
    outcomes = {name: outcome(row_of({0: guess}), ["a", "b"]) for name, guess in guesses.items()}
    oracles = ["peeks", "peeks-too"]
    found = against(outcomes, "strict", oracles)
    assert list(found) == ["other"]
    assert found["other"]["wa"]["p_holm"] == found["other"]["wa"]["p"]
    assert list(against(outcomes, "peeks", oracles)) == ["peeks-too"]
    assert list(against(outcomes, "strict")) == ["other", *oracles]


def speakers_of_a_population(rng: np.random.Generator, count: int) -> list[np.ndarray]:
    """Confusion matrices of speakers whose ability, per emotion, and numbers of utterances differ at random."""
    difficulty = np.array([0.6, -0.4, 0.2, -0.2])
    found = []
    for _ in range(count):
        ability = rng.normal(0.8, 0.8) + difficulty + rng.normal(0, 0.5, 4)
        confusion = np.zeros((4, 4), np.int64)
        for label, chance in enumerate(1 / (1 + np.exp(-ability))):
            total = int(rng.integers(3, 20))
            correct = int(rng.binomial(total, chance))
            confusion[label] = np.insert(rng.multinomial(total - correct, [1 / 3] * 3), label, correct)
        found.append(confusion)
    return found


@pytest.mark.parametrize("name", ["wa", "ua"])
def test_the_interval_of_a_pooled_score_covers_it_with_ten_speakers(name: str) -> None:
    """In 93 % of simulated corpora or more; a percentile bootstrap over the speakers covers it in 87 to 91 %."""
    rng = np.random.default_rng(0)

    def score(confusion: np.ndarray) -> float:
        return float(getattr(scores(confusion), name))

    true = score(np.sum(speakers_of_a_population(rng, 10_000), axis=0))
    trials, covered = 700, 0
    for _ in range(trials):
        ends = speaker_interval(speakers_of_a_population(rng, 10), score)
        assert ends
        covered += ends[0] <= true <= ends[1]
    assert 0.93 <= covered / trials <= 0.98


def test_the_interval_of_a_mean_is_that_of_student() -> None:
    """With equal numbers of utterances pooled WA is the mean of the speakers' WA, and the jackknife is exact."""
    rng = np.random.default_rng(1)
    speakers = [confusion_matrix(rng.integers(0, 3, 30), rng.integers(0, 3, 30), 3) for _ in range(10)]
    each = [scores(confusion).wa for confusion in speakers]
    found = speaker_interval(speakers, lambda confusion: scores(confusion).wa)
    assert found == pytest.approx(stats.t.interval(0.95, 9, np.mean(each), stats.sem(each)))
    assert speaker_interval(speakers[:1], lambda confusion: scores(confusion).wa) is None
