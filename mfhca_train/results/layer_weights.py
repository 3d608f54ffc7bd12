"""The weight of each encoder layer in the learned sum (see model/layer_sum.py), over the units of a run."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from statistics import fmean, stdev
from typing import Any

KEY = "layer_weights"  # of a unit's result.json and of results.json; absent where one layer was read


def by_layer(weights: Sequence[float]) -> dict[str, dict[str, float]]:
    """The entry of a unit's result.json for softmaxed weights; nothing where there are none.

    >>> by_layer([0.25, 0.75]), by_layer([])
    ({'layer_weights': {'0': 0.25, '1': 0.75}}, {})
    """
    return {KEY: {str(layer): weight for layer, weight in enumerate(weights)}} if weights else {}


def summary(units: Sequence[Mapping[str, Any]]) -> dict[str, dict[str, dict[str, float | None]]]:
    """The entry of results.json: mean and standard deviation (ddof 1) over folds and seeds, by layer.

    Args:
        units: content of result.json of each.

    Returns:
        Nothing where no sum was learned.
    """
    if not all(KEY in unit for unit in units):
        return {}
    values = {layer: [unit[KEY][layer] for unit in units] for layer in units[0][KEY]}
    return {
        KEY: {
            layer: {"mean": fmean(weights), "std": stdev(weights) if len(weights) > 1 else None}
            for layer, weights in values.items()
        }
    }
