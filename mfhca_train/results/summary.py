"""From finished units to the content of `results.json`. Nothing here trains or imports torch."""

from __future__ import annotations

import functools
from collections import defaultdict
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from mfhca_cache.common.errors import MfhcaError
from mfhca_cache.common.files import canonical_json
from mfhca_cache.common.typed import problems
from mfhca_cache.manifest.utterance import Utterance
from mfhca_train.config.parse import from_dict
from mfhca_train.data.folds import ORACLES
from mfhca_train.results import layer_weights, probabilities
from mfhca_train.results.checksums import read_rows, read_unit
from mfhca_train.results.metrics import Array, confusion_matrix, score_of, scores
from mfhca_train.results.schema import PREDICTIONS, SCORES, FoldResult, UnitResult, unit_folder
from mfhca_train.results.statistics import fold_summary, speaker_interval

GENDERS = {"f": "female", "m": "male"}  # as manifests abbreviate them
DURATIONS = (("under 3 s", 0.0, 3.0), ("3 to 6 s", 3.0, 6.0), ("over 6 s", 6.0, float("inf")))


class ForeignError(MfhcaError):
    """A file of a run folder belongs to another run."""


def read_result(folder: Path, identity: str | None, others: bool = True) -> dict[str, Any]:
    """A unit's result.json.

    Args:
        folder: of the unit.
        identity: digest of all that decides the run; None takes any.
        others: compare the other files of the unit with their digests, too.

    Raises:
        ForeignError: it is of another run, or of another unit.
        MfhcaError: it cannot be read or lacks something; or a file of the unit is missing or damaged.
    """
    result: dict[str, Any] = read_unit(folder, others)
    wrong = [
        *problems(result, UnitResult),
        *([] if (folder / "best.safetensors").exists() else ["no weights"]),
    ]
    if wrong:
        raise MfhcaError(f"{folder}: not a complete unit ({wrong[0]}); delete it and run cv again")
    if identity is not None and result["identity"] != identity:
        raise ForeignError(
            f"{folder}: trained with other settings or data; delete it, or choose another --out"
        )
    own = unit_folder(Path(), "", result["seed"], result["id"])
    if folder.name.startswith("fold-") and folder.parts[-2:] != own.parts[-2:]:
        raise ForeignError(
            f"{folder}: holds fold {result['id']}, seed {result['seed']}, so it was copied or renamed; delete it "
            "and run again"
        )
    return result


def check_predictions(
    folder: Path, result: Mapping[str, Any], rows: Sequence[Mapping[str, str]], classes: Sequence[str]
) -> None:
    """Compares predictions.csv with result.json.

    Raises:
        MfhcaError: rows are missing or changed.
    """
    try:
        found = _confusion_by(
            [rows], classes, lambda row: "all" if row["speaker"] in result["test_speakers"] else None
        )
        same = found["all"].tolist() == result["confusion"] and len({r["utterance"] for r in rows}) == len(
            rows
        )
    except (KeyError, TypeError, IndexError):
        same = False
    if not same:
        raise MfhcaError(
            f"{folder}/predictions.csv: does not fit result.json; delete {folder} and run cv again"
        )


@dataclass(frozen=True)
class UnitFiles:
    """The content of a finished unit."""

    result: Mapping[str, Any]  # result.json
    predictions: Sequence[Mapping[str, str]]  # rows of predictions.csv


def read_units(folders: Sequence[Path], identity: str | None, classes: Sequence[str]) -> list[UnitFiles]:
    """Finished units, checked.

    Args:
        folders: of the units.
        identity: digest of all that decides the row; None takes any.
        classes: K names, in order.

    Raises:
        MfhcaError: see `read_result`, `read_rows` and `check_predictions`.
    """
    results = [read_result(folder, identity) for folder in folders]
    predictions = [read_rows(folder / PREDICTIONS) for folder in folders]
    for folder, result, rows in zip(folders, results, predictions, strict=True):
        check_predictions(folder, result, rows, classes)
    return [UnitFiles(result, rows) for result, rows in zip(results, predictions, strict=True)]


def head(identity: Mapping[str, Any]) -> dict[str, Any]:
    """The first fields of the results of a row."""
    names = ("corpus", "label_set", "corpora", "recipes", "config", "threads")
    found = {key: identity[key] for key in names if key in identity}
    is_transductive = from_dict(identity["config"]).is_transductive(identity["protocol"])
    return found | ({"transductive": True} if is_transductive else {})


def summarise(
    files: Sequence[UnitFiles],
    utterances: Sequence[Utterance] | None,
    classes: Sequence[str],
    protocol: str,
    folds_in_all: int,
) -> dict[str, Any]:
    """The scores of one row of a run.

    Args:
        files: every finished unit: all seeds have the same folds.
        utterances: of the label set, for durations and sessions; None leaves these breakdowns empty.
        classes: K names, in order.
        protocol: a key of PROTOCOLS.
        folds_in_all: the number of folds of the protocol.

    Returns:
        The entry of a row in results.json: the fields of `Results`, without `head`.
    """
    units, predictions = [unit.result for unit in files], [unit.predictions for unit in files]
    seeds = sorted({unit["seed"] for unit in units})
    folds = list(dict.fromkeys(unit["id"] for unit in units))
    at = {(unit["seed"], unit["id"]): unit for unit in units}
    of_seed = {s: np.sum([at[s, f]["confusion"] for f in folds], axis=0) for s in seeds}
    of_speaker = _confusion_by(predictions, classes, lambda row: row["speaker"])
    first = [at[seeds[0], fold] for fold in folds]
    summary: dict[str, Any] = {
        "protocol": protocol,
        "oracle": protocol in ORACLES,
        **({"shared_speakers": True} if any(map(_shares_speakers, units)) else {}),
        "complete": len(folds) == folds_in_all,
        "headline": "pooled" if any(unit["classes_absent"] for unit in units) else "mean",
        "seeds": seeds,
        "n_folds": len(folds),
        "n_utterances": sum(unit["n_utterances"] for unit in first),
        "n_segments": sum(unit["n_segments"] for unit in first),
        "parameters": first[0]["parameters"]["total"],
        "parameters_by_module": first[0]["parameters"],
    }
    for name in SCORES:
        values = np.array([[at[s, f][name] for f in folds] for s in seeds])
        summary[name] = fold_summary(values) | {
            "pooled": float(np.mean([getattr(scores(of_seed[s]), name) for s in seeds])),
            "pooled_ci95": speaker_interval(list(of_speaker.values()), functools.partial(score_of, name)),
        }
    confusion = np.sum(list(of_seed.values()), axis=0)
    return summary | {
        "classes": list(classes),
        "confusion": confusion.tolist(),
        "recalls": dict(zip(classes, scores(confusion).recalls, strict=True)),
        "breakdown": {} if utterances is None else _breakdowns(predictions, classes, utterances),
        "folds": [{key: unit[key] for key in FoldResult.__struct_fields__ if key in unit} for unit in units],
        **_environments(units),
        **layer_weights.summary(units),
        **probabilities.summary(units, predictions, classes),
    }


def _environments(units: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    """The environments of units that were not all trained in the same one, each with its units."""
    of: dict[str, list[Mapping[str, Any]]] = defaultdict(list)
    for unit in units:
        of[canonical_json(unit["environment"])].append(unit)
    if len(of) == 1:
        return {}
    return {
        "environments": [
            {**group[0]["environment"], "units": [[unit["id"], unit["seed"]] for unit in group]}
            for group in of.values()
        ]
    }


def _shares_speakers(unit: Mapping[str, Any]) -> bool:
    """Whether a fold trained on one of its test speakers."""
    return not {*unit["test_speakers"]}.isdisjoint(unit["train_speakers"])


def _confusion_by(
    predictions: Sequence[Sequence[Mapping[str, str]]],
    classes: Sequence[str],
    key: Callable[[Mapping[str, str]], str | None],
) -> dict[str, Array]:
    """Confusion matrices of groups of utterances, over all folds and seeds; key None leaves an utterance out."""
    index = {name: k for k, name in enumerate(classes)}
    pairs: dict[str, list[tuple[int, int]]] = defaultdict(list)
    for rows in predictions:
        for row in rows:
            group = key(row)
            if group is not None:
                pairs[group].append((index[row["label"]], index[row["prediction"]]))
    return {
        group: confusion_matrix(np.array(found)[:, 0], np.array(found)[:, 1], len(classes))
        for group, found in sorted(pairs.items())
    }


def _breakdowns(
    predictions: Sequence[Sequence[Mapping[str, str]]],
    classes: Sequence[str],
    utterances: Sequence[Utterance],
) -> dict[str, dict[str, Any]]:
    chosen = {u.utterance: u for u in utterances}
    of_corpus = _breakdown(predictions, classes, lambda row: chosen[row["utterance"]].corpus or None)
    return ({"corpus": of_corpus} if of_corpus else {}) | {
        "duration": _breakdown(predictions, classes, lambda row: _duration(chosen[row["utterance"]])),
        "session": _breakdown(predictions, classes, lambda row: chosen[row["utterance"]].session or None),
        "style": _breakdown(predictions, classes, lambda row: _style(chosen[row["utterance"]])),
        "gender": _breakdown(predictions, classes, lambda row: _gender(chosen[row["utterance"]])),
    }


def _breakdown(
    predictions: Sequence[Sequence[Mapping[str, str]]],
    classes: Sequence[str],
    key: Callable[[Mapping[str, str]], str | None],
) -> dict[str, dict[str, Any]]:
    """Number of utterances (over all seeds), WA and UA of each group."""
    parts = {}
    for group, confusion in _confusion_by(predictions, classes, key).items():
        found = scores(confusion)
        parts[group] = {"n": int(confusion.sum()), "wa": found.wa, "ua": found.ua}
    return parts


def _duration(utterance: Utterance) -> str | None:
    """The duration group of an utterance; None if the manifest has no duration."""
    if utterance.start_s is not None and utterance.end_s is not None:
        seconds = utterance.end_s - utterance.start_s
    elif utterance.samples and utterance.sample_rate:
        seconds = utterance.samples / utterance.sample_rate
    else:
        return None
    return next(name for name, low, high in DURATIONS if low <= seconds < high)


def _gender(utterance: Utterance) -> str | None:
    """The speaker's gender; None if the manifest has none."""
    return GENDERS.get(utterance.gender, utterance.gender) or None


def _style(utterance: Utterance) -> str | None:
    """IEMOCAP names its dialogues Ses01F_impro01 or Ses01F_script01_1."""
    name = utterance.utterance.removeprefix(f"{utterance.corpus}/")
    return {"impro": "improvised", "scrip": "scripted"}.get(name.partition("_")[2][:5])


def percent(value: float | None) -> str:
    """A fraction in %, six characters wide.

    >>> percent(0.74241), percent(None)
    (' 74.24', '     -')
    """
    return f"{'-':>6}" if value is None else f"{100 * value:6.2f}"
