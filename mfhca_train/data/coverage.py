"""What the training speakers of a fold lack: classes, which a network then never predicts, and corpora."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Sequence

from mfhca_cache.common.errors import MfhcaError, listing
from mfhca_cache.common.log import LOG
from mfhca_cache.manifest.card import LabelSet
from mfhca_cache.manifest.utterance import Utterance
from mfhca_train.data.folds import Fold, Side
from mfhca_train.data.labelled import LabelledCorpus


def check_classes(
    utterances: Sequence[Utterance], label_set: LabelSet, folds: Iterable[Fold], accept: bool = False
) -> None:
    """Warns of classes without training or test utterances, and refuses a test class that is not trained.

    Args:
        utterances: those of the label set.
        label_set: classes that nobody has are left out.
        folds: those to train.
        accept: whether to train folds whose test speakers have a class that the training speakers lack.

    Raises:
        MfhcaError: there is such a fold, and `accept` is false; all of them are listed.
    """
    of_speaker: dict[str, set[str]] = defaultdict(set)
    for u in utterances:
        of_speaker[u.speaker].add(label_set.mapping[u.emotion])
    of_utterance = {u.utterance: label_set.mapping[u.emotion] for u in utterances}
    present = [name for name in label_set.classes if name in of_utterance.values()]

    def absent(fold: Fold, side: Side) -> list[str]:
        found = {of_utterance[name] for name in fold.ids(side)}.union(
            *(of_speaker[speaker] for speaker in fold.speakers(side) if fold.utterances is None)
        )
        return [name for name in present if name not in found]

    refused, untrained, untested = [], [], []
    for fold in folds:
        lacking, not_tested = absent(fold, "train"), absent(fold, "test")
        if tested := [name for name in lacking if name not in not_tested]:
            refused.append(f"fold {fold.id}: {', '.join(tested)}")
        elif lacking:
            untrained.append(f"fold {fold.id}: {', '.join(lacking)}")
        if not_tested and len(fold.test) > 1:
            untested.append(f"fold {fold.id}: {', '.join(not_tested)}")
    if refused and not accept:
        count = "1 fold tests" if len(refused) == 1 else f"{len(refused)} folds test"
        raise MfhcaError(
            f"{count} a class that no training speaker has, so that all its utterances count as errors; use more "
            "training speakers (`--set train.validation_speakers=1` in the protocol strict), a label set without the "
            f"class, or pass --accept-untrained:\n{listing(refused)}"
        )
    for text, found in (
        ("a test class has no training utterance and counts as an error", refused),
        ("a class has no training utterance", untrained),
        ("a group of test speakers lacks a class, and its UA is the mean over the others", untested),
    ):
        if found:
            LOG.warning("%s\n%s", text, listing(found))


def check_corpora(labelled: LabelledCorpus, protocol: str, folds: Iterable[Fold]) -> None:
    """Refuses normalisation per corpus where a corpus has no training speakers, except under the protocol corpus.

    Args:
        labelled: the corpora.
        protocol: of the folds.
        folds: those to train.

    Raises:
        MfhcaError: there is one corpus, or a fold does not train on one of them.
    """
    if not labelled.is_several:
        raise MfhcaError("*_norm=corpus needs several manifests; use standard or speaker")
    corpus_of = {u.speaker: u.corpus for u in labelled.utterances}
    for fold in folds if protocol != "corpus" else ():
        if lacking := {*corpus_of.values()} - {corpus_of[speaker] for speaker in fold.train}:
            raise MfhcaError(
                f"protocol {protocol}, fold {fold.id}: no training speaker of corpus {min(lacking)}, whose statistics "
                "*_norm=corpus needs; use *_norm=standard or speaker, or leave the corpus out"
            )
