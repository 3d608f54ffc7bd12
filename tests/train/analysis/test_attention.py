"""Measures of attention and gates, against values computed by hand and by other libraries."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch.nn import functional

from mfhca_train.analysis import attention


def test_mass_on_padding_is_the_share_of_the_sum_beyond_the_real_frames() -> None:
    weights = np.array([[1, 2, 3, 4], [1, 1, 1, 1], [0, 0, 0, 0], [2, 2, 2, 2], [0, 5, 0, 0]], np.float32)
    mass, share = attention.padding_mass(weights, np.array([2, 1, 2, 4, 0]))
    np.testing.assert_allclose(mass, [7 / 10, 3 / 4, 1.0])  # no weight, and no padding, do not count
    np.testing.assert_allclose(share, [2 / 4, 3 / 4, 3 / 4])  # at least one frame is real


def test_even_attention_has_its_share_on_padding_and_counts_as_all_frames() -> None:
    even, valid = np.full((3, 10), 0.1, np.float32), np.array([3, 9, 10])
    mass, share = attention.padding_mass(even, valid)
    np.testing.assert_allclose(mass, share, rtol=1e-6)
    np.testing.assert_allclose(attention.effective_frames(even, valid), 1.0)


def test_effective_frames_of_two_equal_ones_among_eight_are_a_quarter() -> None:
    weights = np.array([[0, 3, 0, 3, 0, 0, 0, 0, 9, 9]], np.float32)  # what lies on padding does not count
    np.testing.assert_allclose(attention.effective_frames(weights, np.array([8])), [2 / 8])
    assert len(attention.effective_frames(np.zeros((2, 4), np.float32), np.array([4, 4]))) == 0


def test_level_is_the_mean_power() -> None:
    spec = np.array([[0.0, 0.0], [10.0, -200.0], [-100.0, -100.0]])
    np.testing.assert_allclose(attention.level(spec), [0, 10 * np.log10(5), -100], atol=1e-9)


def test_the_level_of_values_that_are_no_decibels_is_their_mean() -> None:
    """10 to the power of such values would overflow."""
    assert attention.level(np.array([[9000.0, 9002.0]]), decibels=False) == [9001.0]


def test_attention_that_rises_with_the_level_correlates_fully() -> None:
    random = np.random.default_rng(0)
    levels = np.sort(random.normal(size=(2, 20)))
    weights = np.exp(3 * np.linspace(-1, 1, 10))[None].repeat(2, axis=0)
    found = attention.level_correlation(weights, np.array([10, 9]), np.stack([levels[0], -levels[1]]))
    np.testing.assert_allclose(found, [1, -1])
    flat = attention.level_correlation(np.ones((1, 10)), np.array([10]), levels[:1])
    few = attention.level_correlation(weights[:1], np.array([attention.MIN_FRAMES - 1]), levels[:1])
    assert len(flat) == len(few) == 0


def test_frames_of_both_features_are_laid_side_by_side() -> None:
    np.testing.assert_allclose(attention.at_encoder_frames(np.arange(300.0), 150), np.arange(150) * 2 + 0.5)


def test_the_gate_map_is_the_mean_product_over_channels() -> None:
    random = np.random.default_rng(1)
    g_h, g_w = random.random((2, 3, 5)), random.random((2, 3, 4))
    expected = np.zeros((2, 5, 4))
    for n, h, w in np.ndindex(expected.shape):
        expected[n, h, w] = np.mean([g_h[n, c, h] * g_w[n, c, w] for c in range(3)])
    np.testing.assert_allclose(attention.gate_map(g_h, g_w), expected, rtol=1e-6)


@pytest.mark.parametrize("size", [(7, 5), (10, 3), (20, 13)])
def test_resizing_is_adaptive_average_pooling(size: tuple[int, int]) -> None:
    maps = np.random.default_rng(2).normal(size=(2, 20, 13)).astype(np.float32)
    expected = functional.adaptive_avg_pool2d(torch.from_numpy(maps), size)
    np.testing.assert_allclose(attention.resized(maps, *size), expected, atol=1e-6)


def test_gates_are_judged_on_real_frames_alone() -> None:
    random = np.random.default_rng(3)
    spec = random.normal(size=(1, 20, 8)).astype(np.float32)
    maps = 0.25 + 0.01 * attention.resized(spec, 10, 4)
    ends, follows = attention.gate_measures(maps, attention.resized(spec, 10, 4), np.array([12]), 20)
    np.testing.assert_allclose(follows, [1], rtol=1e-4)
    np.testing.assert_allclose(ends[0], np.percentile(maps[0, :6], (5, 95)))
    maps[:, 6:], spec[:, 12:] = 9, -9
    again = attention.gate_measures(maps, attention.resized(spec, 10, 4), np.array([12]), 20)
    np.testing.assert_array_equal(again[0], ends)
    np.testing.assert_array_equal(again[1], follows)
    flat = np.full((1, 10, 4), 0.25)
    assert len(attention.gate_measures(flat, flat, np.array([20]), 20)[1]) == 0
