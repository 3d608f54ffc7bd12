"""Published scores: the project's own file, and what is wrong with another."""

from __future__ import annotations

import tomllib
from pathlib import Path

import pytest
from ablation_factory import PUBLISHED, small_grid
from grid_factory import GRIDS
from msgspec import structs
from places import REPOSITORY

from mfhca_cache.common.errors import MfhcaError
from mfhca_train.results.published import Published, comparable, read_published
from mfhca_train.runs.grid import read_grid


def test_published_figures_are_whole_and_have_a_key_each() -> None:
    figures = tomllib.loads((REPOSITORY / "manifests" / "published.toml").read_text())["figure"]
    needed = {"key", "corpus", "label_set", "system", "wa", "score", "protocol", "source"}
    assert all(needed <= set(figure) <= needed | {"ua", "variant"} for figure in figures)
    assert len({figure["key"] for figure in figures}) == len(figures)
    assert all(20 < figure[name] < 100 for figure in figures for name in ("wa", "ua") if name in figure)
    used = {key for path in GRIDS for row in read_grid(path).rows for key in row.published_keys}
    assert used == {figure["key"] for figure in figures if figure["corpus"] == "iemocap"}


def test_published_toml_without_a_field_is_named(tmp_path: Path) -> None:
    with pytest.raises(MfhcaError, match=r"published.toml: figure\[0\].corpus is missing"):
        small_grid(tmp_path, PUBLISHED.replace('corpus = "other"\n', ""))


def test_the_nearest_published_toml_is_read(tmp_path: Path) -> None:
    """In the folder of the grid or manifest, else in the one above, else the project's own."""
    grid = tmp_path / "a" / "b" / "grid.toml"
    grid.parent.mkdir(parents=True)
    own = read_published(REPOSITORY / "manifests" / "emodb.csv")
    assert own.scores
    assert read_published(grid) == own
    (grid.parent.parent / "published.toml").write_text(PUBLISHED)
    above = read_published(grid)
    assert [score.key for score in above.scores] == ["full", "quoted", "yardstick"]
    assert [claim.value for claim in above.claims] == [12.25]
    (grid.parent / "published.toml").write_text("")
    assert read_published(grid) == Published()


def test_only_scores_of_whole_systems_on_the_same_corpus_are_comparable(tmp_path: Path) -> None:
    (tmp_path / "published.toml").write_text(PUBLISHED)
    scores = read_published(tmp_path / "toy.csv").scores
    scores = (*scores, structs.replace(scores[1], key="part", variant=True))
    assert [score.key for score in comparable(scores, "toy", "four")] == ["quoted", "yardstick"]
    assert [score.key for score in comparable(scores, "toy", "four", {"quoted"})] == ["yardstick"]
    assert comparable(scores, "toy", "five") == []


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (("wa = 71.23", "wa = 101"), r"figure\[0\].wa is 101, expected a number from 0 to 100"),
        (
            ('score = "mean"', 'score = "median"'),
            r"figure\[0\].score is 'median', expected one of mean, pooled",
        ),
        (("value = 12.25", "valu = 12.25"), r"claim\[0\].valu is not a known field"),
    ],
)
def test_what_is_wrong_with_an_entry_is_named(tmp_path: Path, change: tuple[str, str], words: str) -> None:
    (tmp_path / "published.toml").write_text(PUBLISHED.replace(*change))
    with pytest.raises(MfhcaError, match=f"published.toml: {words}"):
        read_published(tmp_path / "toy.csv")
