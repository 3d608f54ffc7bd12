"""Comparison of rows of an ablation over test speakers, and the effect of selecting on the test speaker."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from mfhca_train.results.metrics import confusion_matrix, scores
from mfhca_train.results.statistics import holm, paired, sign_flip
from mfhca_train.results.summary import UnitFiles

TESTED = ("wa", "ua")
UTTERANCE_DRAWS = 9_999
EXPLAINED = {
    "primary": "exact sign-flip test (two-sided) over test speakers on the differences of each speaker's score, "
    "seeds averaged first; random signs where there are more than 16 speakers",
    "seeds": "a row with other seeds than the reference's is compared over the seeds that both have, paired by seed, "
    "and over all that each has where none is in both; a row without a network is the same under every seed",
    "oracle": "a row that selected its epoch on the test speaker is not tested against a reference that did not, nor "
    "the other way; see optimism",
    "holm": "over all rows of this run that are tested, for each score apart",
    "ci95": "t interval of the mean difference over test speakers",
    "utterances": "OPTIMISTIC: predictions swapped within utterances at random, as if the utterances of a "
    "speaker were independent; of the pooled score, seeds averaged first",
}

GAINS = {  # what a protocol gains over another: name, and the two protocols
    "selection": ("selecting on the test speaker", "oracle-matched", "strict"),
    "extra": ("training on the validation speakers as well", "oracle", "oracle-matched"),
}


@dataclass(frozen=True)
class Outcome:
    """Predictions of a row, in the form in which rows are compared.

    Attributes:
        speakers: seed -> score -> speaker -> the speaker's score, a fraction.
        correct: seed -> utterance -> whether it was recognised.
        label: utterance -> its class.
        random: whether results depend on the seed; a row without a network is the same under every seed.
    """

    speakers: Mapping[int, Mapping[str, Mapping[str, float]]]
    correct: Mapping[int, Mapping[str, bool]]
    label: Mapping[str, str]
    random: bool = True


def outcome(files: Sequence[UnitFiles], classes: Sequence[str], random: bool = True) -> Outcome:
    """Collects the predictions of a row.

    Args:
        files: its finished units, all seeds with the same folds.
        classes: K names, in order.
        random: see `Outcome`.
    """
    index = {name: k for k, name in enumerate(classes)}
    of_speaker: dict[tuple[int, str], list[tuple[int, int]]] = defaultdict(list)
    correct: dict[int, dict[str, bool]] = defaultdict(dict)
    label: dict[str, str] = {}
    for unit in files:
        for row in unit.predictions:
            pair = index[row["label"]], index[row["prediction"]]
            of_speaker[unit.result["seed"], row["speaker"]].append(pair)
            correct[unit.result["seed"]][row["utterance"]] = pair[0] == pair[1]
            label[row["utterance"]] = row["label"]
    speakers: dict[int, dict[str, dict[str, float]]] = {
        seed: {name: {} for name in TESTED} for seed in correct
    }
    for (seed, speaker), pairs in sorted(of_speaker.items()):
        truth, guess = np.array(pairs).T
        found = scores(confusion_matrix(truth, guess, len(classes)))
        for name in TESTED:
            speakers[seed][name][speaker] = getattr(found, name)
    return Outcome(speakers, correct, label, random)


def common_seeds(row: Outcome, reference: Outcome) -> list[int]:
    """The seeds over which two rows are compared, pair by pair; those of one where the other has no random numbers."""
    if row.random and reference.random:
        return sorted({*row.speakers} & {*reference.speakers})
    return sorted(reference.speakers if reference.random else row.speakers)


def _mean(of_seed: Mapping[int, Mapping[str, float]], common: Collection[int]) -> dict[str, float]:
    """Name -> mean over the seeds that are common, or over all if none is; all seeds have the same names."""
    values = [of_seed[seed] for seed in sorted({*of_seed} & {*common}) or sorted(of_seed)]
    return {
        name: float(np.mean([of_name[name] for of_name in values])) for name in (values[0] if values else ())
    }


def differences(row: Outcome, reference: Outcome, score: str) -> np.ndarray[Any, np.dtype[Any]]:
    """Row minus reference, one number for each speaker that both have tested, over their common seeds."""
    common = common_seeds(row, reference)
    mine, other = (
        _mean({seed: found[score] for seed, found in of.speakers.items()}, common) for of in (row, reference)
    )
    return np.array([mine[speaker] - other[speaker] for speaker in mine if speaker in other])


def compare(row: Outcome, reference: Outcome) -> dict[str, Any] | None:
    """Compares a row with the reference; None if they have no test speaker in common.

    Returns:
        `seeds`, how many they have in common (0: none, and each row is taken over all of its own); for wa and ua
        `difference`, `ci95`, `pairs` (speakers), `p`, `smallest_p`, `method`; and under `utterances` the same
        tests over utterances, which are optimistic.
    """
    if not len(differences(row, reference, "wa")):
        return None
    seeds = common_seeds(row, reference)
    mine, other = _mean(row.correct, seeds), _mean(reference.correct, seeds)
    common = [u for u in mine if u in other]
    change = np.array([mine[u] - other[u] for u in common])
    sizes: dict[str, int] = defaultdict(int)
    for u in common:
        sizes[row.label[u]] += 1
    # Pooled WA and UA are weighted sums over utterances, so swapping a pair of predictions flips one sign.
    weights = {
        "wa": np.full(len(common), 1 / len(common)),
        "ua": np.array([1 / (len(sizes) * sizes[row.label[u]]) for u in common]),
    }
    secondary = {
        score: {"difference": float((change * weight).sum()), **sign_flip(change * weight, UTTERANCE_DRAWS)}
        for score, weight in weights.items()
    }
    return (
        {"seeds": len(seeds)}
        | {score: paired(differences(row, reference, score)) for score in TESTED}
        | {"utterances": {"n": len(common), **secondary}}
    )


def against(
    outcomes: Mapping[str, Outcome], reference: str | None, oracles: Collection[str] = ()
) -> dict[str, dict[str, Any]]:
    """Compares every row with the reference, with Holm-adjusted p values in `p_holm`; empty without a reference.

    An oracle is not compared with a row that is none, nor the reverse: the difference would be one of protocol, which
    `optimism` measures with one model, and it would increase the adjustment of the others.

    Args:
        outcomes: of the rows.
        reference: its name.
        oracles: the rows whose epoch was selected on the test speaker.
    """
    if reference is None or reference not in outcomes:
        return {}
    found: dict[str, dict[str, Any]] = {}
    for name, row in outcomes.items():
        alike = (name in oracles) == (reference in oracles)
        compared = compare(row, outcomes[reference]) if name != reference and alike else None
        if compared:
            found[name] = {"reference": reference, **compared}
    for score in TESTED:
        adjusted = holm([entry[score]["p"] for entry in found.values()])
        for entry, p in zip(found.values(), adjusted, strict=True):
            entry[score]["p_holm"] = p
    return found


def optimism(outcomes: Mapping[str, Outcome], rows: Mapping[str, Mapping[str, Any]]) -> list[dict[str, Any]]:
    """The effect of selecting the epoch on the test speaker, for every model that a grid has under both protocols.

    Args:
        outcomes: of the rows.
        rows: their summaries; `protocol`, `kind`, `config` and `recipes` are read.

    Returns:
        For each such model the names of the rows; `selection`, oracle-matched minus strict; and, if the grid has it,
        `extra`, oracle minus oracle-matched: the effect of training on more speakers.
    """
    models: dict[str, dict[str, str]] = defaultdict(dict)
    for name, row in rows.items():
        same = repr((row["kind"], row["config"], row["recipes"]))
        models[same].setdefault(row["protocol"], name)
    found = []
    for names in models.values():
        entry: dict[str, Any] = {"rows": names}
        for what, (_, more, less) in GAINS.items():
            if more in names and less in names:
                pair = outcomes[names[more]], outcomes[names[less]]
                if len(differences(*pair, "wa")):
                    entry[what] = {score: paired(differences(*pair, score)) for score in TESTED}
        if len(entry) > 1:
            found.append(entry)
    return found
