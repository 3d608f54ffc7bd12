"""The files of a finished unit that do not depend on how it was trained. No torch."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from mfhca_cache.common.files import write_atomically
from mfhca_cache.common.text import csv_text
from mfhca_train.data.batch import Array
from mfhca_train.data.corpus import Corpus
from mfhca_train.data.folds import Fold
from mfhca_train.results.checksums import write_result
from mfhca_train.results.metrics import confusion_matrix, scores
from mfhca_train.results.schema import HISTORY, PREDICTIONS, SEGMENTS

# Columns of history.csv.
HISTORY_COLUMNS = ("epoch", "train_loss", "validation_loss", "validation_wa", "validation_ua")


@dataclass(frozen=True)
class TestOutputs:
    """Log-probabilities of a fold's test utterances (U) and of their scored parts (N), K classes.

    A network scores segments; a classifier without a network scores whole utterances, so its N is U.

    Attributes:
        utterances: (U,) indices into the corpus.
        log_probabilities: (U, K).
        part_utterance: (N,) index into `utterances`.
        part_frames: (N,) valid frames.
        part_log_probabilities: (N, K).
        segments: number of segments of these utterances.
    """

    utterances: Array
    log_probabilities: Array
    part_utterance: Array
    part_frames: Array
    part_log_probabilities: Array
    segments: int


def write_outputs(
    folder: Path,
    corpus: Corpus,
    fold: Fold,
    seed: int,
    identity: str,
    environment: Mapping[str, Any],
    history: Sequence[Mapping[str, float]],
    selected: Mapping[str, float],
    stopped_by: str,
    outputs: TestOutputs,
    extra: Mapping[str, Any],
    train_speakers: Sequence[str] | None = None,
) -> dict[str, Any]:
    """Writes history.csv, predictions.csv, segments.csv and, last, result.json.

    Args:
        folder: the unit's hidden folder, in which its weights are already.
        corpus: the open features.
        fold: its speakers.
        seed, identity: of the unit.
        environment: where it was trained, see `process.environment`.
        history: one row per epoch (or candidate), with the columns HISTORY_COLUMNS.
        selected: the row of `history` whose weights are kept.
        stopped_by: why there are no more rows.
        outputs: of the selected weights for the test speakers.
        train_speakers: of the selected weights, if they are not the fold's.
        extra: what else result.json holds: `parameters`, layer weights.

    Returns:
        The content of result.json.

    Raises:
        MfhcaError: the folder cannot be written.
    """
    classes, columns = corpus.classes, [f"logp_{name}" for name in corpus.classes]
    tested = [corpus.utterances[i] for i in outputs.utterances]
    labels = corpus.labels[outputs.utterances]
    predicted = outputs.log_probabilities.argmax(axis=1)
    write_atomically(
        folder / HISTORY,
        csv_text(HISTORY_COLUMNS, [[row[name] for name in HISTORY_COLUMNS] for row in history]),
    )
    rows = [
        [u.utterance, u.speaker, classes[label], classes[guess], *logp.tolist()]
        for u, label, guess, logp in zip(tested, labels, predicted, outputs.log_probabilities, strict=True)
    ]
    header = ["utterance", "speaker", "label", "prediction", *columns]
    write_atomically(folder / PREDICTIONS, csv_text(header, rows))
    parts = zip(outputs.part_utterance, outputs.part_frames, outputs.part_log_probabilities, strict=True)
    rows = [[tested[index].utterance, int(frames), *logp.tolist()] for index, frames, logp in parts]
    write_atomically(folder / SEGMENTS, csv_text(["utterance", "valid_frames", *columns], rows))
    confusion = confusion_matrix(labels, predicted, len(classes))
    test = scores(confusion)
    untrained = untrained_classes(corpus, fold, refit=train_speakers is not None)
    result = {
        "id": fold.id,
        "seed": seed,
        "identity": identity,
        "environment": environment,
        "test_speakers": list(fold.test),
        "validation_speakers": list(fold.validation),
        "train_speakers": list(train_speakers or fold.train),
        "selected_on": "test" if fold.selects_on_test else "validation",
        "n_utterances": len(tested),
        "n_segments": outputs.segments,
        "wa": test.wa,
        "ua": test.ua,
        "f1": test.f1,
        "recalls": list(test.recalls),
        "classes_absent": [
            name for name, recall in zip(classes, test.recalls, strict=True) if recall is None
        ],
        "confusion": confusion.tolist(),
        "best_epoch": selected["epoch"],
        "epochs": len(history),
        "stopped_by": stopped_by,
        "validation_wa": selected["validation_wa"],
        "validation_ua": selected["validation_ua"],
        **({"classes_untrained": untrained} if untrained else {}),
        **extra,
    }
    return write_result(folder, result)


def untrained_classes(corpus: Corpus, fold: Fold, refit: bool) -> list[str]:
    """The classes of which a fold has no training utterance, so that nothing can learn them.

    Args:
        corpus: its labels are read.
        fold: of the corpus.
        refit: the validation utterances are trained on, too.
    """
    trained_on = corpus.of_fold(fold, "train", *(("validation",) if refit else ()))
    present = set(corpus.labels[trained_on].tolist())
    return [name for k, name in enumerate(corpus.classes) if k not in present]
