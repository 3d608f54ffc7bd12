"""Corpus cards: what is refused, and how counts are compared."""

from __future__ import annotations

import unicodedata
from pathlib import Path

import pytest
from manifest_factory import CARD, ROWS

from mfhca_cache.common.errors import MfhcaError
from mfhca_cache.manifest.card import Card, ExpectedCounts, check_expected, find_card, read_card
from mfhca_cache.manifest.manifest import read_manifest, write_manifest
from mfhca_cache.manifest.utterance import Utterance


def card_with(folder: Path, old: str, new: str) -> Card:
    assert old in CARD
    (folder / "mine.toml").write_text(CARD.replace(old, new), encoding="utf-8")
    return read_card(folder / "mine.toml")


def test_every_card_of_the_project_is_complete_and_its_counts_agree() -> None:
    for name in ("demo", "emodb", "iemocap"):
        path = find_card(name)
        assert path is not None
        card = read_card(path)
        assert card.name == name
        assert card.default_set in card.expected
        for label_set in card.label_sets:
            expected = card.expected[label_set]
            assert isinstance(expected, ExpectedCounts)
            assert expected.classes is not None
            assert sum(expected.classes.values()) == expected.utterances
            assert sum((expected.speakers or {}).values()) in (0, expected.utterances)
            assert set(expected.classes) == set(card.label_sets[label_set].classes)
    assert find_card("nowhere") is None


def test_the_card_beside_the_manifest_wins_over_the_projects_own(tmp_path: Path) -> None:
    write_manifest(tmp_path / "emodb.csv", ROWS[:1])
    with pytest.raises(MfhcaError, match="label 'h' is not one of the emodb card's"):
        read_manifest(tmp_path / "emodb.csv")
    (tmp_path / "emodb.toml").write_text(CARD)
    card = read_manifest(tmp_path / "emodb.csv").card
    assert card is not None
    assert card.name == "mine"


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        ('title = "Mine"', "", "title is missing"),
        ('title = "Mine"', "title = 3", "title is 3, expected one line of text"),
        ('title = "Mine"', 'titel = "Mine"', "titel is not a known field; did you mean title"),
        ('title = "Mine"', "title = Mine", "not valid TOML"),
        (
            'title = "Mine"',
            'title = "Mi\u202ene"',
            r"title 'Mi\\u202ene' has the invisible character RIGHT-TO-LEFT OVERRIDE; remove it",
        ),
        ('h = "glad"', 'h = "gl\u200bad"', r"classes\.two\.h .* the invisible character ZERO WIDTH SPACE"),
        ('h = "glad"', 'h = "\\u009b2J"', r"classes\.two\.h .* the invisible character U\+009B"),
        ("[classes.one]", '[classes."on\u2066e"]', r"the name classes\.\* .* LEFT-TO-RIGHT ISOLATE"),
        ('default_set = "two"', 'default_set = "six"', "default_set six is none of the label sets: two, one"),
        ('labels = ["h", "e", "s", "n"]', "labels = []", "labels is a list, expected a list of at least 1"),
        ('labels = ["h", "e", "s", "n"]', 'labels = ["h", "e", "s", "n", "n"]', "labels names a label twice"),
        ('labels = ["h", "e", "s", "n"]', 'labels = ["h", "e", "s"]', r"classes\.one: n is not in labels"),
        ('h = "glad"', "h = 1", r"classes\.two\.h is 1, expected one line of text"),
        ('h = "glad"', 'h = "gl\\nad"', r"classes\.two\.h is 'gl\\nad', expected one line of text"),
        ('n = "neutral"', "", r"classes\.one is a table, expected a table of at least 1"),
        (
            "utterances = 4",
            "utterances = -4",
            r"expected\.utterances is -4, expected a whole number of at least 0, or a table",
        ),
        ("[expected.two]", "[expected.six]", r"expected\.six is neither"),
        ("glad = 2", "mad = 2", r"expected\.two\.classes: mad is not a class"),
        (
            "sad = 1, glad",
            "sad = true, glad",
            r"expected\.two\.classes\.sad is True, expected a whole number of at least 0",
        ),
        ("speakers =", "spekers =", r"expected\.two\.spekers is not a known field; did you mean speakers"),
    ],
)
def test_an_incomplete_card_is_refused(tmp_path: Path, old: str, new: str, message: str) -> None:
    with pytest.raises(MfhcaError, match=f"(?s)mine.toml: .*{message}"):
        card_with(tmp_path, old, new)


def test_a_card_that_cannot_be_read_is_named(tmp_path: Path) -> None:
    with pytest.raises(MfhcaError, match=r"x.toml: cannot be read"):
        read_card(tmp_path / "x.toml")


def test_expected_counts_are_compared_one_by_one(tmp_path: Path) -> None:
    card = card_with(tmp_path, 'title = "Mine"', 'title = "Other"')
    assert check_expected(card, ROWS) == []
    moved = Utterance("u3", "a/u3.wav", "3", "s")
    assert check_expected(card, [*ROWS[1:2], moved, *ROWS[3:]]) == [
        "utterances in all: 3 found, 4 expected",
        "label set two, utterances: 2 found, 3 expected",
        "label set two, class glad: 1 found, 2 expected",
        "label set two, speaker 1: 1 found, 2 expected",
        "label set two, speaker 2: 0 found, 1 expected",
        "label set two, speaker 3: 1 found, 0 expected",
    ]


def test_labels_in_another_unicode_form_are_the_same_labels(tmp_path: Path) -> None:
    decomposed = unicodedata.normalize("NFD", "fröhlich")
    card = card_with(tmp_path, '"h", "e"', f'"{decomposed}", "h", "e"')
    assert card.labels[0] == "fröhlich" != decomposed
