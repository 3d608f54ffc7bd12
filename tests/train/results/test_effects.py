"""What each part adds is the difference of two rows."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from ablation_factory import make_ablation
from places import REPOSITORY
from recompute import by_speaker, exact_p, holm
from run_factory import Page

from mfhca_train.results.effects import find_effects
from mfhca_train.results.record import read_record
from mfhca_train.runs.grid import read_grid


def test_what_each_part_adds_is_the_difference_of_two_rows(ablation_run: Path) -> None:
    record = read_record(ablation_run)
    found = {(added.part, added.row, added.without): added for added in find_effects(record)}
    assert set(found) == {
        ("HCA with its BiLSTM instead of co-attention", "full", "plain"),
        ("HCA alone instead of co-attention", "no-bilstm", "plain"),
        ("BiLSTM", "full", "no-bilstm"),
    }
    ps = []
    for (_, row, without), added in found.items():
        with_it, without_it = by_speaker(ablation_run, row, "ua"), by_speaker(ablation_run, without, "ua")
        change = np.array([with_it[s] - without_it[s] for s in with_it])
        assert added.changes.ua.difference == pytest.approx(change.mean())
        assert added.changes.ua.p == pytest.approx(exact_p(change))
        ps.append(exact_p(change))
    assert [a.changes.ua.p_holm for a in found.values()] == pytest.approx(holm(ps))
    assert "HCA with its BiLSTM instead of co-attention: UA +" in Page(ablation_run / "report.html").text


def test_table_two_tells_what_mf_hca_and_bilstm_add(tmp_path: Path) -> None:
    grid = read_grid(REPOSITORY / "manifests/ablations/table2.toml")
    skills = {row.name: 0.5 for row in grid.trained}
    make_ablation(tmp_path / "run", grid, skills, seeds=1, each=1, epochs=4, chosen=slice(0, 2))
    found = {(added.part, added.row, added.without) for added in find_effects(read_record(tmp_path / "run"))}
    assert {
        ("MF instead of AlexNet", "spec-mf", "spec"),
        ("MF instead of AlexNet", "hubert-mf-hca", "hubert-hca"),
        ("HCA with its BiLSTM instead of co-attention", "hubert-mf-hca", "hubert-mf"),
        ("HCA alone instead of co-attention", "hubert-mf-hca", "hubert-mf-bilstm"),
        ("BiLSTM", "hubert-mf-hca", "hubert-mf-hca-no-bilstm"),
        ("Spectrogram in addition to hidden states", "hubert-mf-hca-no-bilstm", "hubert"),
    } <= found
