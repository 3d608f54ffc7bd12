"""mfhca_cache.manifest.speakers: counts by speaker and class, and signs of a wrong column `speaker`."""

from __future__ import annotations

from collections import Counter
from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mfhca_cache.manifest.card import LabelSet
from mfhca_cache.manifest.speakers import speaker_table, speaker_warnings
from mfhca_cache.manifest.utterance import Utterance

SET = LabelSet("three", {"joy": "joy", "anger": "anger", "rage": "anger"})


def rows(text: str) -> list[Utterance]:
    """Of "anna joy, bert anger"."""
    pairs = [pair.split() for pair in text.split(",")]
    return [Utterance(f"u{i}", f"{i}.wav", speaker, label) for i, (speaker, label) in enumerate(pairs)]


@given(
    st.lists(
        st.tuples(st.sampled_from(["a", "b", "c"]), st.sampled_from(["joy", "anger", "rage", "other"])),
        min_size=1,
    )
)
def test_the_table_has_every_speaker_and_every_count(pairs: list[tuple[str, str]]) -> None:
    table = speaker_table([Utterance(f"u{i}", "x", s, e) for i, (s, e) in enumerate(pairs)], SET)
    known = [(speaker, SET.mapping[label]) for speaker, label in pairs if label in SET.mapping]
    assert [line.partition(":")[0] for line in table] == sorted({speaker for speaker, _ in known})
    counts = Counter(known)
    for line in table:
        speaker = line[0]
        total = counts[speaker, "joy"] + counts[speaker, "anger"]
        assert f": {total} utterance" in line
        assert line.endswith(f": joy {counts[speaker, 'joy']}, anger {counts[speaker, 'anger']}")


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("a joy, a anger, b joy, b rage, c joy, c anger, d joy, d anger", []),
        ("a joy, b joy, c joy, d joy", ["no utterance of class anger", "a single class (joy)"]),
        ("a joy, a anger", ["a single speaker (a): at least two are required; check the column speaker"]),
        ("a joy, a anger, b joy, b anger", ["2 speakers: training, validation and test need three; add"]),
        ("a joy, a anger, b joy, b anger, c joy, c anger", ["3 speakers: the protocol strict needs 4; pass"]),
        (
            "a joy, a anger, b joy, c joy, d joy",
            ["classes that a single speaker has: anger (a), so that nobody is left to train them"],
        ),
        (
            "a joy, a joy, b anger, c joy, d rage",
            ["every speaker has a single class, so that a network cannot learn classes across speakers"],
        ),
        (
            "joy joy, Anger anger, c joy, c rage, d joy",
            ["speakers are named like classes (Anger, joy); check the column speaker, or --speaker-regex"],
        ),
    ],
)
def test_what_a_wrong_column_looks_like_is_reported(text: str, expected: list[str]) -> None:
    found = list(speaker_warnings(rows(text), SET))
    assert len(found) == len(expected), found
    for warning, start in zip(found, expected, strict=True):
        assert warning.startswith(start)


def test_a_single_session_leaves_nobody_to_train() -> None:
    for sessions, count in (("1111", 1), ("1122", 0), ("1   ", 0), ("    ", 0)):
        utterances = [
            replace(u, session=session.strip())
            for label in ("joy", "anger")
            for u, session in zip(rows(f"a {label}, b {label}, c {label}, d {label}"), sessions, strict=True)
        ]
        found = list(speaker_warnings(utterances, SET))
        assert ["one session" in text for text in found] == [True] * count


def test_a_complete_label_set_is_proposed() -> None:
    two = LabelSet("two", {"joy": "positive", "calm": "positive", "sad": "negative"})
    utterances = rows("a joy, a sad, b joy, b sad, c joy, d joy")
    assert "no utterance of class anger; no label set is complete, complete the corpus" in list(
        speaker_warnings(utterances, SET, [SET])
    )
    assert (
        "no utterance of class anger; use --label-set two, which is complete, or complete the corpus"
        in list(speaker_warnings(utterances, SET, [SET, two]))
    )
