"""Rows that train nothing: for each fold and seed the unit of that other row which did best on the validation speakers.

The rows differ in the learning rate alone. A unit's files are hard links to the chosen one's, but for
result.json, which has the identity of this row and says whose unit it is.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from mfhca_train.results.schema import CHOSEN
from mfhca_train.results.summary import read_units
from mfhca_train.runs import reuse
from mfhca_train.runs.plan import Plan


def choose(entry: Plan, plans: Mapping[str, Plan], classes: Sequence[str]) -> None:
    """Makes what is left of a row that chooses among others; nothing for any other row.

    Args:
        entry: the row.
        plans: by name, with those that it chooses among, all finished.
        classes: K names, in order.

    Raises:
        MfhcaError: a unit of theirs is missing or damaged, or a folder cannot be written.
    """
    for unit in entry.unfinished if entry.row.origins else ():
        rivals = [
            (plans[origin.name], other)
            for origin in entry.row.origins
            for other in plans[origin.name].units
            if (other.seed, other.fold.id) == (unit.seed, unit.fold.id)
        ]
        results = [read_units([other.folder], plan.digest, classes)[0].result for plan, other in rivals]
        scores = [result["validation_wa"] + result["validation_ua"] for result in results]
        best = scores.index(max(scores))  # ties: the first named
        plan, other = rivals[best]
        result = {**results[best], "identity": entry.digest, CHOSEN: plan.row.name}
        reuse.link(other.folder, unit, result)
