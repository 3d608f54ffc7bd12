"""Scores of utterances follow from the network's outputs for their segments."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from corpus_factory import manifest_of, request, utterances
from scipy.special import log_softmax
from torch import Tensor

from mfhca_cache.common.errors import MfhcaError
from mfhca_train.data.corpus import Corpus
from mfhca_train.data.inputs import choose_recipes
from mfhca_train.training import evaluate as module
from mfhca_train.training.evaluate import autocast, evaluate


class FirstFrame(torch.nn.Module):
    """Takes the first four values of a segment's hidden states as its logits; dropout would change them."""

    def __init__(self, factor: float = 1.0) -> None:
        super().__init__()
        self.dropout, self.factor = torch.nn.Dropout(0.5), factor

    def forward(self, _spec: Tensor, ssl: Tensor, *_: Tensor | None) -> SimpleNamespace:
        return SimpleNamespace(logits=self.dropout(ssl[:, 0, :4]) * self.factor, attention=None)


def test_an_utterance_is_the_mean_of_its_segments(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "EVALUATION_BATCH", 5)  # the last batch is smaller
    wanted, normalisers = request(tmp_path), {"spec": None, "ssl": None}
    label_set = manifest_of(tmp_path).label_set()
    with Corpus(choose_recipes(wanted.cache, "both"), utterances(), label_set) as corpus:
        chosen = corpus.of_speakers(["s1", "s3"])
        segments = corpus.segments(chosen)
        found = evaluate(FirstFrame(), corpus, chosen, segments, normalisers, "cpu", "float32")  # type: ignore[arg-type]
        stored = corpus.features["ssl"].gather(*segments.rows["ssl"].T)
        labels = corpus.labels[chosen]
        diverged = FirstFrame(float("inf"))
        with pytest.raises(MfhcaError, match=r"outputs are not finite: training diverged; lower train\.lr"):
            evaluate(diverged, corpus, chosen, segments, normalisers, "cpu", "float32")  # type: ignore[arg-type]
    each = log_softmax(stored[:, 0, :4].astype(float), axis=1)
    np.testing.assert_allclose(found.segment_log_probabilities, each, atol=1e-6)
    means = np.array([each[segments.utterance == u].mean(axis=0) for u in range(len(chosen))])
    np.testing.assert_allclose(found.log_probabilities, means, atol=1e-6)
    assert found.loss == pytest.approx(-np.mean([m[k] for m, k in zip(means, labels, strict=True)]))
    assert found.scores.wa == pytest.approx(np.mean(means.argmax(axis=1) == labels))


def test_only_bfloat16_computes_in_bfloat16() -> None:
    x = torch.ones(2, 2)
    for precision, dtype in (("float32", torch.float32), ("bfloat16", torch.bfloat16)):
        with autocast("cpu", precision):
            assert (x @ x).dtype == dtype
