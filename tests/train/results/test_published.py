"""Published scores: the project's own file, and what is wrong with another."""

from __future__ import annotations

import re
import tomllib
from pathlib import Path

import pytest
from ablation_factory import PUBLISHED, SKILLS, make_ablation, small_grid
from corpus_factory import SSL, request
from grid_factory import GRIDS
from msgspec import structs
from places import REPOSITORY

from bench.scores import details, overview
from mfhca_cache.common.errors import MfhcaError
from mfhca_train.results.published import Published, comparable, read_published
from mfhca_train.runs.crossval import cross_validate
from mfhca_train.runs.grid import read_grid

FIGURE = """
[[figure]]
key = "{key}"
corpus = "corpus"
label_set = "all"
system = "{key}"
wa = 60.0
score = "pooled"
protocol = "p"
source = "s"
"""


def test_published_figures_are_whole_and_have_a_key_each() -> None:
    figures = tomllib.loads((REPOSITORY / "manifests" / "published.toml").read_text())["figure"]
    needed = {"key", "corpus", "label_set", "system", "wa", "score", "protocol", "source"}
    assert all(needed <= set(figure) <= needed | {"ua", "variant", "encoder_sha256"} for figure in figures)
    assert len({figure["key"] for figure in figures}) == len(figures)
    own = [figure["system"] for figure in figures if "encoder_sha256" in figure]
    assert own
    assert all(re.search(r"(hubert|wav2vec2|wavlm)-\w+", system) for system in own), "names its encoder"
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
    assert [score.key for score in comparable(scores, "toy", "four", ())] == ["quoted", "yardstick"]
    assert [score.key for score in comparable(scores, "toy", "four", (), {"quoted"})] == ["yardstick"]
    assert comparable(scores, "toy", "five", ()) == []


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


def test_a_run_shows_scores_of_its_own_encoder_and_of_none(tmp_path: Path) -> None:
    own, other = (f'encoder_sha256 = "{digest}"\n' for digest in (SSL.weights_sha256, "ab" * 32))
    texts = [FIGURE.format(key=key) for key in ("none", "own", "other")]
    (tmp_path / "published.toml").write_text(texts[0] + texts[1] + own + texts[2] + other)
    shown = cross_validate(request(tmp_path, folds=("s0",)))["yardsticks"]
    assert [score["key"] for score in shown] == ["none", "own"]


def test_rows_of_a_grid_do_not_show_a_score_of_another_encoder(tmp_path: Path) -> None:
    for name, digest in (("without", ""), ("with", 'encoder_sha256 = "ab"\n')):
        text = PUBLISHED.replace('score = "', digest + 'score = "')
        results = make_ablation(tmp_path / name / "run", small_grid(tmp_path / name, text), SKILLS, each=1)
        shown = [
            results["rows"]["full"]["published"],
            results["cited"][0]["published"],
            results["yardsticks"],
        ]
        assert [len(scores) for scores in shown] == ([0, 0, 0] if digest else [1, 1, 1])


def test_a_damaged_digest_is_named(tmp_path: Path) -> None:
    (tmp_path / "published.toml").write_text(FIGURE.format(key="x") + 'encoder_sha256 = "HuBERT"')
    with pytest.raises(MfhcaError, match=r"figure\[0\]\.encoder_sha256 is 'HuBERT', expected a hexadecimal"):
        read_published(tmp_path / "corpus.csv")


def test_tables_of_readme_and_docs_do_not_show_a_score_of_another_encoder() -> None:
    figure = {"corpus": "c", "label_set": "l", "system": "SVM", "wa": 60.0, "score": "pooled"}
    figure |= {"protocol": "p", "source": "s", "encoder_sha256": "ab"}
    score = {"mean": 0.5, "std": 0.1, "pooled": 0.5, "pooled_ci95": [0.4, 0.6]}
    row = {"title": "t", "kind": "network", "protocol": "strict", "oracle": False, "seeds": [0], "n_folds": 2}
    row |= {"parameters": 1, "wa": score, "ua": score, "f1": score, "comparison": None}
    run = {"corpus": "c", "label_set": "l", "classes": ["a", "b"], "rows": {"t": row}, "encoders": ["ab"]}
    for text in (overview, details):
        assert "SVM" in text([run], [figure])
        assert "SVM" not in text([run | {"encoders": ["cd"]}], [figure])


@pytest.mark.parametrize("grid", GRIDS, ids=lambda path: path.stem)
def test_the_note_of_a_shipped_grid_states_no_value_of_a_setting(grid: Path) -> None:
    number = r"(\d+|two|three|four|five|six|seven|eight|nine|ten|twenty)"
    assert not re.search(
        rf"\b({number} epochs|bfloat16|float32|cosine|batches of {number})", read_grid(grid).note
    )
