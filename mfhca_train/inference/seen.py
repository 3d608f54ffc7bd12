"""Recordings that networks were trained or selected on: their predictions and scores are no test."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from pathlib import Path

import numpy as np

from mfhca_cache.common import log
from mfhca_cache.common.errors import MfhcaError, listing
from mfhca_cache.common.text import first_names, plural
from mfhca_cache.manifest.utterance import Utterance, nfc
from mfhca_train.data.corpus import Corpus
from mfhca_train.inference.ensemble import Ensemble
from mfhca_train.model.saved import id_digest


def refuse_training_audio(ensemble: Ensemble, corpus: Corpus, manifest: Path) -> None:
    """Refuses a corpus with training recordings, whatever format their files are in.

    Args:
        ensemble: the networks.
        corpus: the open features of the other corpus.
        manifest: for messages.

    Raises:
        MfhcaError: a file, or the decoded samples of an utterance, were used for training or validation.
    """
    everything = np.arange(len(corpus.utterances))
    digests = zip(corpus.audio_digests(everything), corpus.samples_digests(everything), strict=True)
    seen = [u.utterance for u, own in zip(corpus.utterances, digests, strict=True) if _seen(ensemble, *own)]
    if seen:
        raise MfhcaError(
            f"{manifest}: networks of {ensemble.source} were trained or selected on {len(seen):,} of "
            f"{plural(len(everything), 'utterance')}; remove them from the manifest (a run's scores on its "
            f"own corpus are in its results.json):\n{listing(seen, 5)}"
        )


def warn_of_same_corpus(ensemble: Ensemble, corpus: str, utterances: Sequence[Utterance]) -> None:
    """Warns of what may be the training corpus although its samples are others: resampled, say.

    Args:
        ensemble: the networks.
        corpus: name of the other corpus.
        utterances: its utterances.
    """
    cards = [member.card for member in ensemble.members]
    speakers = {name for card in cards for name in (*card.train_speakers, *card.validation_speakers)}
    for other in ensemble.card.corpora:  # their speakers were emodb/03, say
        speakers |= {name.removeprefix(f"{other}/") for name in speakers}
    same = [
        u.utterance for u in utterances if u.speaker in speakers and _seen(ensemble, id_digest(u.utterance))
    ]
    if same:
        log.LOG.warning(
            "the ids and speakers of %d of %s are those of utterances that networks were trained or selected on (%s); "
            "if they are the same recordings, these scores are no test",
            len(same),
            plural(len(utterances), "utterance"),
            first_names(same),
        )
    elif corpus in (ensemble.card.corpus, *ensemble.card.corpora):
        log.LOG.warning(
            "the networks were trained on a corpus of the same name, %s; if it is the same, these scores are no test",
            corpus,
        )


def named_like_training(ensemble: Ensemble, files: Iterable[str]) -> list[str]:
    """The audio files whose names, without suffix, are ids of utterances of training or validation."""
    return [file for file in files if _seen(ensemble, id_digest(nfc(Path(file).stem)))]


def _seen(ensemble: Ensemble, *digests: str) -> bool:
    return any(member.inputs.seen_in_training(*digests) for member in ensemble.members)
