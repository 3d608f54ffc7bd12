"""Remarks about the rows of a run that the page and the terminal share."""

from __future__ import annotations

from typing import Any

import pytest

from mfhca_train.report.rows import epoch_limit, peaked_late
from mfhca_train.results.schema import NETWORK, AblationResults, FoldResult, RowResults

TRAIN = {"epochs": 40, "patience": 10, "schedule": "constant"}


def fold(best: int, epochs: int, stopped_by: str = "epoch limit") -> FoldResult:
    fields: dict[str, Any] = dict.fromkeys(FoldResult.__struct_fields__)
    return FoldResult(**fields | {"best_epoch": best, "epochs": epochs, "stopped_by": stopped_by})


def results(train: dict[str, Any], *folds: FoldResult) -> AblationResults:
    fields: dict[str, Any] = dict.fromkeys(RowResults.__struct_fields__)
    fields |= {"kind": NETWORK, "config": {"model": {}, "train": TRAIN | train}, "folds": folds}
    run: dict[str, Any] = dict.fromkeys(AblationResults.__struct_fields__)
    return AblationResults(**run | {"rows": {"row": RowResults(**fields)}})


@pytest.mark.parametrize(
    ("best", "epochs", "late"),
    [(40, 40, 1), (37, 40, 1), (36, 40, 0), (1, 1, 1), (10, 10, 1), (9, 10, 0), (30, 33, 1)],
)
def test_a_late_best_epoch_is_among_the_last_tenth(best: int, epochs: int, late: int) -> None:
    assert peaked_late([fold(best, epochs)]) == late
    assert (best > epochs - max(1, -(-epochs // 10))) == bool(late)


def test_the_epoch_limit_counts_folds_whose_best_epoch_came_late() -> None:
    found = epoch_limit(results({}, fold(40, 40), fold(12, 40), fold(5, 20, "patience")))
    assert found
    assert found[0] == "2 of 3 networks trained up to the limit of 40 epochs."
    assert (
        "1 of them had the best validation score among the last tenth of their epochs: more epochs"
        in found[1]
    )
    assert found[1].startswith("Early stopping did not end them before.")
    assert epoch_limit(results({}, fold(5, 20, "patience"))) is None


def test_patience_that_cannot_apply_is_not_blamed() -> None:
    found = epoch_limit(results({"patience": 40}, fold(12, 40)))
    assert found
    assert found[1].startswith("Early stopping was off, because the patience is not smaller than the limit.")
    late = "0 of them had the best validation score among the last tenth of their epochs"
    assert found[1].endswith(f"{late}, so more epochs may not help.")


def test_a_fixed_number_of_epochs_is_no_limit() -> None:
    assert epoch_limit(results({"select": "last"}, fold(40, 40))) is None


def test_a_cosine_schedule_ends_as_planned() -> None:
    found = epoch_limit(results({"schedule": "cosine"}, fold(12, 40)))
    assert found
    assert found[1].startswith("The cosine schedule of the learning rate ended there, as planned.")
    off = epoch_limit(results({"schedule": "cosine", "patience": 40}, fold(12, 40)))
    assert off
    assert off[1].startswith(
        "The cosine schedule of the learning rate ended there, as planned, and early stopping was off."
    )
