"""The shipped grids are valid and distinct, and errors in a grid are named."""

from __future__ import annotations

from pathlib import Path

import pytest
from grid_factory import GRIDS, write_grid
from places import REPOSITORY

from mfhca_cache.common.errors import MfhcaError
from mfhca_cache.manifest.card import read_card
from mfhca_train.config.parse import FIELDS, unused_settings, value_of, with_settings
from mfhca_train.config.presets import read_preset
from mfhca_train.config.settings import Config
from mfhca_train.results.schema import CHOSEN, LOGISTIC, NETWORK, SVM
from mfhca_train.runs.grid import read_grid, row_config

CARDS = sorted(p for p in (REPOSITORY / "manifests").glob("*.toml") if p.stem != "published")


@pytest.mark.parametrize("path", GRIDS, ids=lambda path: path.stem)
def test_shipped_grids_are_valid(path: Path) -> None:
    grid = read_grid(path)
    assert grid.reference
    for row in grid.trained:
        row_config(Config(), row)


@pytest.mark.parametrize("path", GRIDS, ids=lambda path: path.stem)
@pytest.mark.parametrize("card", [None, *CARDS], ids=lambda card: card.stem if card else "no card")
def test_no_two_rows_of_a_shipped_grid_are_the_same_under_any_card(path: Path, card: Path | None) -> None:
    grid = read_grid(path)
    own = read_card(card) if card else None
    preset = read_preset(own.preset).settings if own and own.preset else {}
    base = with_settings(Config(), {**preset, **(own.settings if own else {}), **grid.base.settings})
    found: dict[str, str] = {}
    for row in grid.trained:
        if row.kind == CHOSEN:
            continue
        config = row_config(base, row)
        idle = unused_settings(config)
        read = {name: value_of(config, name) for name in FIELDS if name not in idle}
        if row.kind != NETWORK:  # the majority class reads no settings, a linear classifier these
            classifier = (
                ("model.pooling", "train.refit", "train.ssl_norm") if row.kind in (SVM, LOGISTIC) else ()
            )
            read = {name: value_of(config, name) for name in classifier}
        protocol = row.protocol or grid.base.protocol or "strict"
        features = row.spec or grid.base.spec, row.ssl or grid.base.ssl, {**grid.base.recipe, **row.recipe}
        found[row.name] = repr((row.kind, protocol, features, read))
    alike = {frozenset((a, b)) for a in found for b in found if a < b and found[a] == found[b]}
    # A learning rate that the card sets, or nobody, stands in the grid again, so that all three rates are there.
    meant = {
        pair for pair in alike if path.stem == "variants" and any(name.startswith("lr-") for name in pair)
    }
    assert len(meant) <= 1
    assert alike == meant


def test_tables_have_the_papers_rows() -> None:
    names = {path.stem: [row.name for row in read_grid(path).rows] for path in GRIDS}
    assert (len(names["table2"]), len(names["table3"]), len(names["table4"])) == (11 + 3, 5, 4)
    assert {"table1", "variants", "protocols"} <= set(names)


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("title = 'x'", "no \\[\\[row\\]\\] to train"),
        ("[[row]]\nname = 'A b'", "row 'A b'.name is 'A b', expected a name of at most 61 of a-z"),
        ("[[row]]\nname = 'a'\n[[row]]\nname = 'a'", "two rows are called 'a'"),
        ("[[row]]\nname = 'a'\ntitle = 'b'\n[[row]]\nname = 'b'", "two rows are titled 'b'"),
        ("[[row]]\nname = 'results.json'", "row 'results.json' is named like a file of a run"),
        (
            "[[row]]\nname = 'a'\nseds = 1",
            "row 'a'.seds is not a known field; there are: protocol, set, spec",
        ),
        ("[[row]]\nname = 'a'\nset = 1", "row 'a'.set is 1, expected a table"),
        ("[[row]]\nname = 'a'\nprotocol = 'p'", "row 'a': protocol 'p' does not exist; there are: strict"),
        (
            "[[row]]\nname = 'a'\nkind = 'k'",
            "row 'a'.kind is 'k', expected one of network, svm, logistic, majority, chosen, cited",
        ),
        ("[[row]]\nname = 'a'\npublished = 'p'", "no figure with key 'p'"),
        ("[[row]]\nname = 'a'\nkind = 'cited'", "needs a published score"),
        ("[[row]]\nname = 'a'\nreference = true\n[[row]]\nname = 'b'\nreference = true", "must be one row"),
        ("[[row]]\nname = 'a'\nfrom = ['b', 'c']", "from belongs to kind chosen"),
        ("[[row]]\nname = 'a'\nkind = 'chosen'\nfrom = ['a']", "needs the names of two rows or more"),
        ("[[row]]\nname = 'a'\nkind = 'chosen'\nfrom = ['b', 'a']", "no row of kind network is called 'b'"),
        (
            "[[row]]\nname = 'a'\nkind = 'chosen'\nfrom = ['b', 'c']\nspec = 'x'",
            "spec would be ignored by kind chosen",
        ),
        ("[[row]", "not valid TOML"),
        (
            "[[row]]\nname = 'a'\ntitle = 'x\u200fy'",
            r"grid\.toml: row\[0\]\.title 'x\\u200fy' has the invisible character RIGHT-TO-LEFT MARK; remove it",
        ),
        ("title = \"\\u001b]0;x\"\n[[row]]\nname = 'a'", r"title .* has the invisible character U\+001B"),
    ],
)
def test_what_is_wrong_with_a_grid_is_said(tmp_path: Path, text: str, words: str) -> None:
    with pytest.raises(MfhcaError, match=words):
        write_grid(tmp_path / "grid.toml", text)
