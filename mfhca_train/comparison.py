"""Rows of an ablation against each other: per test speaker, and what selecting on the test speaker is worth."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from mfhca_train.metrics import confusion_matrix, scores
from mfhca_train.results import UnitFiles
from mfhca_train.statistics import holm, paired, sign_flip

TESTED = ("wa", "ua")
UTTERANCE_DRAWS = 9_999
EXPLAINED = {
    "primary": "exact sign-flip test (two-sided) over test speakers on the differences of each speaker's score, "
    "seeds averaged first; random signs where there are more than 16 speakers",
    "holm": "over all rows of this run that are tested, for each score apart",
    "ci95": "t interval of the mean difference over test speakers",
    "utterances": "OPTIMISTIC: predictions swapped within utterances at random, as if the utterances of a "
    "speaker were independent; of the pooled score, seeds averaged first",
}


@dataclass(frozen=True)
class Outcome:
    """What a row did, in the form in which rows are compared.

    Attributes:
        speakers: score -> speaker -> the speaker's score, a fraction, mean over the seeds.
        right: utterance -> the share of seeds that recognised it.
        label: utterance -> its class.
    """

    speakers: Mapping[str, Mapping[str, float]]
    right: Mapping[str, float]
    label: Mapping[str, str]


def outcome(files: Sequence[UnitFiles], classes: Sequence[str]) -> Outcome:
    """Gathers the predictions of a row.

    Args:
        files: its finished units, all seeds with the same folds.
        classes: K names, in order.
    """
    index = {name: k for k, name in enumerate(classes)}
    of_speaker: dict[tuple[int, str], list[tuple[int, int]]] = defaultdict(list)
    hits: dict[str, list[bool]] = defaultdict(list)
    label: dict[str, str] = {}
    for unit in files:
        for row in unit.predictions:
            pair = index[row["label"]], index[row["prediction"]]
            of_speaker[unit.result["seed"], row["speaker"]].append(pair)
            hits[row["utterance"]].append(pair[0] == pair[1])
            label[row["utterance"]] = row["label"]
    collected: dict[str, dict[str, list[float]]] = {name: defaultdict(list) for name in TESTED}
    for (_, speaker), pairs in of_speaker.items():
        truth, guess = np.array(pairs).T
        found = scores(confusion_matrix(truth, guess, len(classes)))
        for name in TESTED:
            collected[name][speaker].append(getattr(found, name))
    return Outcome(
        {name: {s: float(np.mean(v)) for s, v in sorted(found.items())} for name, found in collected.items()},
        {utterance: float(np.mean(found)) for utterance, found in hits.items()},
        label,
    )


def differences(row: Outcome, reference: Outcome, score: str) -> np.ndarray[Any, np.dtype[Any]]:
    """Row minus reference, one number for each speaker that both have tested."""
    mine, other = row.speakers[score], reference.speakers[score]
    return np.array([mine[speaker] - other[speaker] for speaker in mine if speaker in other])


def compare(row: Outcome, reference: Outcome) -> dict[str, Any] | None:
    """Both scores of a row against the reference; None if they have no test speaker in common.

    Returns:
        For wa and ua: `difference`, `ci95`, `pairs` (speakers), `p`, `smallest_p`, `method`; and under
        `utterances` the same tests over utterances, which are optimistic.
    """
    if not len(differences(row, reference, "wa")):
        return None
    common = [u for u in row.right if u in reference.right]
    change = np.array([row.right[u] - reference.right[u] for u in common])
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
    return {score: paired(differences(row, reference, score)) for score in TESTED} | {
        "utterances": {"n": len(common), **secondary}
    }


def against(outcomes: Mapping[str, Outcome], reference: str | None) -> dict[str, dict[str, Any]]:
    """Every row against the reference, p values adjusted after Holm in `p_holm`; nothing without a reference."""
    if reference is None or reference not in outcomes:
        return {}
    found: dict[str, dict[str, Any]] = {}
    for name, row in outcomes.items():
        compared = compare(row, outcomes[reference]) if name != reference else None
        if compared:
            found[name] = {"reference": reference, **compared}
    for score in TESTED:
        adjusted = holm([entry[score]["p"] for entry in found.values()])
        for entry, p in zip(found.values(), adjusted, strict=True):
            entry[score]["p_holm"] = p
    return found


def optimism(outcomes: Mapping[str, Outcome], rows: Mapping[str, Mapping[str, Any]]) -> list[dict[str, Any]]:
    """What selecting the epoch on the test speaker is worth, wherever a grid has the same model under both protocols.

    Args:
        outcomes: of the rows.
        rows: their summaries; `protocol`, `kind`, `config` and `recipes` are read.

    Returns:
        For each such model the names of the rows; `selection`, oracle-matched minus strict; and, if it is there,
        `extra`, oracle minus oracle-matched: what training on more speakers adds.
    """
    models: dict[str, dict[str, str]] = defaultdict(dict)
    for name, row in rows.items():
        same = repr((row["kind"], row["config"], row["recipes"]))
        models[same].setdefault(row["protocol"], name)
    found = []
    for names in models.values():
        entry: dict[str, Any] = {"rows": names}
        for what, (more, less) in {
            "selection": ("oracle-matched", "strict"),
            "extra": ("oracle", "oracle-matched"),
        }.items():
            if more in names and less in names:
                pair = outcomes[names[more]], outcomes[names[less]]
                if len(differences(*pair, "wa")):
                    entry[what] = {score: paired(differences(*pair, score)) for score in TESTED}
        if len(entry) > 1:
            found.append(entry)
    return found
