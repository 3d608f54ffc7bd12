"""Every epoch of every unit is reported once, in order; a stopped run reports only what it trains anew."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest
from corpus_factory import request
from epoch_factory import reported, written
from run_factory import tree

from mfhca_train.runs.crossval import cross_validate
from mfhca_train.training.epochs import Epoch


def test_epochs_are_reported_once_and_a_resumed_run_reports_the_rest(tmp_path: Path) -> None:
    silent, events = request(tmp_path, folds=("s0", "s1")), []
    cross_validate(silent)
    whole = tree(silent.out)
    shutil.rmtree(silent.out)

    def stop(event: Epoch) -> None:
        events.append(event)
        if len(events) == 4:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        cross_validate(request(tmp_path, folds=("s0", "s1"), on_epoch=(stop,)))
    cross_validate(request(tmp_path, folds=("s0", "s1"), on_epoch=(events.append,)))
    assert reported(events) == written(silent.out)
    assert [(event.fold, event.epoch) for event in events] == [
        (f, n) for f in ("s0", "s1") for n in (1, 2, 3)
    ]
    assert {event.epochs for event in events} == {3}
    assert tree(silent.out) == whole
