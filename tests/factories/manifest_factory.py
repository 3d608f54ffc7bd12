"""A small corpus card and the utterances that it describes."""

from __future__ import annotations

from mfhca_cache.manifest.utterance import Utterance

CARD = """
name = "mine"
title = "Mine"
citation = "none"
licence = "none"
source = "none"
layout = "none"
labels = ["h", "e", "s", "n"]
default_set = "two"
[classes.two]
s = "sad"
h = "glad"
e = "glad"
[classes.one]
n = "neutral"
[expected]
utterances = 4
[expected.two]
utterances = 3
classes = { sad = 1, glad = 2 }
speakers = { 1 = 2, 2 = 1 }
"""
ROWS = (
    Utterance("u1", "a/u1.wav", "1", "h", "s1", "f", 16000, 16000),
    Utterance("u2", "a/u2.wav", "1", "e", "s1", "f", 16000, 16000),
    Utterance("u3", "a/u3.wav", "2", "s", "s2", "m", 16000, 16000),
    Utterance("u4", "a/u4.wav", "2", "n", "s2", "m", 16000, 16000),
)
