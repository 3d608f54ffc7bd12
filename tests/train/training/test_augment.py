"""SpecAugment: what is masked, how much at most, and that nothing else changes."""

from __future__ import annotations

import numpy as np
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from mfhca_train.config.settings import TrainConfig
from mfhca_train.data.batch import Batch
from mfhca_train.training.augment import augment

B = 5


def batch() -> Batch:
    return Batch(
        torch.ones(B, 1, 12, 10),
        torch.ones(B, 8, 6),
        torch.full((B,), 12),
        torch.full((B,), 8),
        torch.zeros(B),
    )


parts = st.floats(0, 0.9)


@given(parts, parts, parts, parts, st.integers(0, 3))
@settings(deadline=None)
def test_masks_are_one_run_along_each_axis_and_no_longer_than_asked(
    spec_time: float, spec_frequency: float, ssl_time: float, ssl_feature: float, seed: int
) -> None:
    config = TrainConfig(
        spec_time_mask=spec_time,
        spec_frequency_mask=spec_frequency,
        ssl_time_mask=ssl_time,
        ssl_feature_mask=ssl_feature,
    )
    plain = batch()
    found = augment(plain, config, np.random.default_rng(seed))
    assert isinstance(found.ssl, torch.Tensor)
    for x, limits in ((found.spec[:, 0], (spec_time, spec_frequency)), (found.ssl, (ssl_time, ssl_feature))):
        for sample in x.numpy():
            gone = sample == 0
            rows, columns = gone.all(axis=1), gone.all(axis=0)
            assert (gone == (rows[:, None] | columns[None])).all()
            for masked, limit in ((rows, limits[0]), (columns, limits[1])):
                if not masked.all():
                    assert masked.sum() <= limit * len(masked)
                    assert (np.diff(np.flatnonzero(masked)) == 1).all()
    assert plain.spec.all()  # the batch itself is unchanged
    assert found.label is plain.label


def test_the_seed_decides_and_nothing_is_masked_by_default() -> None:
    config = TrainConfig(ssl_time_mask=0.8)
    one, same, other = (augment(batch(), config, np.random.default_rng(s)).ssl for s in (1, 1, 2))
    assert torch.equal(one, same)
    assert not torch.equal(one, other)
    random, unused, full = np.random.default_rng(0), np.random.default_rng(0), batch()
    by_default = augment(full, TrainConfig(), random)
    assert by_default.spec is full.spec
    assert by_default.ssl is full.ssl
    assert random.random() == unused.random()  # no number was drawn
