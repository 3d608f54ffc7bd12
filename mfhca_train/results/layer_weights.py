"""How much each encoder layer weighs in the learned sum (see `layers`), over the units of a run; without torch."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from statistics import fmean, stdev
from typing import Any

KEY = "layer_weights"  # of a unit's result.json and of results.json; absent where one layer was read


def named(shares: Sequence[float]) -> dict[str, Any]:
    """What a unit's result.json says of the softmaxed weights: nothing where there are none, else by layer.

    >>> named([0.25, 0.75]), named([])
    ({'layer_weights': {'0': 0.25, '1': 0.75}}, {})
    """
    return {KEY: {str(layer): share for layer, share in enumerate(shares)}} if shares else {}


def summary(units: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    """What results.json says: mean and deviation (ddof 1) over folds and seeds, by layer.

    Args:
        units: content of result.json of each.

    Returns:
        Nothing where no sum was learned.
    """
    if not all(KEY in unit for unit in units):
        return {}
    found = {layer: [unit[KEY][layer] for unit in units] for layer in units[0][KEY]}
    return {
        KEY: {
            layer: {"mean": fmean(shares), "std": stdev(shares) if len(shares) > 1 else None}
            for layer, shares in found.items()
        }
    }


MEANING = (
    "The weights are learned; they begin equal and add up to 100 % (here: mean and sd over folds and seeds). Layer 0 "
    "enters the first layer, the last is the encoder's output. A layer of larger values counts for more at the same "
    "weight."
)


def layers_of(rows: Mapping[str, Mapping[str, Any]]) -> list[str]:
    """The layers that any of these rows has weights of, in order; rows may read encoders of different depth.

    Args:
        rows: results by name.
    """
    return sorted({layer for row in rows.values() for layer in row.get(KEY) or {}}, key=int)


def lines(results: Mapping[str, Any]) -> list[str]:
    """A table for the terminal; empty where no sum was learned."""
    weights = results.get(KEY, {})
    if not weights:
        return []
    heads = f"{'layer':>8} {'weight':>6} {'sd':>6}  in the sum of hidden states, in per cent, over folds and seeds"
    rows = [
        f"{layer:>8} {100 * of['mean']:6.2f} "
        + ("     -" if of["std"] is None else f"{100 * of['std']:6.2f}")
        for layer, of in weights.items()
    ]
    return [heads, *rows]
