"""Copies: one recording, or most of it, listed as several utterances of a manifest.

A copy under another speaker puts a test recording into training, so it is refused.
"""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from itertools import combinations
from typing import Final

from mfhca_cache.common import log
from mfhca_cache.common.errors import MfhcaError, listing
from mfhca_cache.common.text import first_names, plural
from mfhca_cache.manifest.utterance import Utterance

IDENTICAL: Final = "identical recordings under two speakers"
OVERLAPPING: Final = "overlapping utterances of one file under two speakers"
REMEDY: Final = "give them one speaker id if they are one person, remove the copies, or pass --accept-copies"
OVERLAP_REMEDY: Final = (
    "correct start_s and end_s, give them one speaker id if they are one person, or pass --accept-copies"
)
# Of two utterances of one file. Turns of a dialogue overlap where people talk at once or a segmentation is coarse.
MOST: Final = 0.5  # of the longer one: at least this, and at least a second, is the same recording;
MOST_SECONDS: Final = 1.0  # two speakers who answer at once share less
LITTLE: Final = 0.05  # of the shorter one: less is ignored
LITTLE_SECONDS: Final = 0.1


@dataclass(frozen=True)
class Copies:
    """Identical recordings.

    Attributes:
        across_speakers: one line for each pair under two speakers.
        within_speaker: the utterances that are copies of another one of the same speaker, the first one excluded.
        two_labels: the utterances of recordings with more than one label.
    """

    across_speakers: tuple[str, ...] = ()
    within_speaker: tuple[str, ...] = ()
    two_labels: tuple[str, ...] = ()


def find_copies(utterances: Iterable[Utterance], identity: Mapping[str, str]) -> Copies:
    """Finds identical recordings.

    Args:
        utterances: rows of a manifest.
        identity: utterance id -> equal for equal recordings; utterances without one are left out.
    """
    groups: dict[str, list[Utterance]] = defaultdict(list)
    for utterance in utterances:
        if utterance.utterance in identity:
            groups[identity[utterance.utterance]].append(utterance)
    across, within, labels = [], [], []
    for group in groups.values():
        if len(group) == 1:
            continue
        first_of_speaker: dict[str, Utterance] = {}
        for utterance in group:
            if first_of_speaker.setdefault(utterance.speaker, utterance) is not utterance:
                within.append(utterance.utterance)
        across += [
            f"{a.utterance} of speaker {a.speaker} and {b.utterance} of speaker {b.speaker} ({a.path}, {b.path})"
            for a, b in combinations(first_of_speaker.values(), 2)
        ]
        if len({utterance.emotion for utterance in group}) > 1:
            labels += [utterance.utterance for utterance in group]
    return Copies(tuple(across), tuple(within), tuple(labels))


def check_copies(copies: Copies, where: str, accept: bool = False) -> None:
    """Refuses copies under two speakers, and warns of other copies.

    Args:
        copies: from `find_copies`.
        where: the manifest, for messages.
        accept: the user accepts copies under two speakers; they become a warning.

    Raises:
        MfhcaError: there are copies under two speakers, and they are not accepted.
    """
    _refuse(copies.across_speakers, where, IDENTICAL, REMEDY, accept)
    for names, what in (
        (copies.within_speaker, "of recordings of the same speaker"),
        (copies.two_labels, "with different labels of recordings"),
    ):
        if names:
            count = f"{len(names):,} {'copy' if len(names) == 1 else 'copies'}"
            log.LOG.warning("%s: %s %s: %s", where, count, what, first_names(names))


@dataclass(frozen=True)
class Overlaps:
    """Pairs of utterances whose spans of one file overlap.

    Attributes:
        across_speakers: one line for each pair of two speakers that shares at least MOST of the longer utterance, or
            of which one is the whole file.
        partly: "a and b" for each other pair of two speakers.
        within_speaker: "a and b" for each pair of one speaker.
    """

    across_speakers: tuple[str, ...] = ()
    partly: tuple[str, ...] = ()
    within_speaker: tuple[str, ...] = ()

    def warnings(self) -> list[str]:
        """What is allowed but may be a mistake, with counts."""
        texts = {
            "of two speakers overlap in part (do they talk at once?)": self.partly,
            "of one speaker overlap": self.within_speaker,
        }
        return [
            f"{plural(len(pairs), 'pair')} of utterances {text}: {first_names(pairs)}"
            for text, pairs in texts.items()
            if pairs
        ]


def find_overlaps(utterances: Iterable[Utterance]) -> Overlaps:
    """Finds overlapping spans of one file; equal spans are left to `find_copies`.

    Overlaps of at most LITTLE_SECONDS, or LITTLE of the shorter utterance, are left out.

    Args:
        utterances: rows of a manifest.
    """
    files: dict[tuple[str, str], list[tuple[float, float, Utterance]]] = defaultdict(list)
    for u in utterances:
        length = u.samples / u.sample_rate if u.samples and u.sample_rate else math.inf
        span = u.start_s or 0.0, length if u.end_s is None else u.end_s, u
        files[u.corpus, u.path].append(span)
    across, partly, within = [], [], []
    for spans in files.values():
        open_spans: list[tuple[float, float, Utterance]] = []
        for start, end, b in sorted(spans, key=lambda span: span[:2]):
            open_spans = [span for span in open_spans if span[1] > start]
            for first, last, a in open_spans:
                stop = min(end, last)
                # Microseconds, because 2.1 - 2.0 is more than 0.1.
                shared, *lengths = (round(x, 6) for x in (stop - start, last - first, end - start))
                shorter, longer = sorted(lengths)
                little = shared <= LITTLE_SECONDS or shared < LITTLE * shorter
                if little or (first, last) == (start, end):
                    continue
                whole = any(u.start_s is None and u.end_s is None for u in (a, b))
                if a.speaker == b.speaker:
                    within.append(f"{a.utterance} and {b.utterance}")
                elif whole or math.isinf(shared) or shared >= max(MOST * longer, MOST_SECONDS):
                    where = f"from {start:g} s on" if math.isinf(stop) else f"{start:g} to {stop:g} s"
                    across.append(
                        f"{a.utterance} of speaker {a.speaker} and {b.utterance} of speaker {b.speaker} "
                        f"({a.path}, {where})"
                    )
                else:
                    partly.append(f"{a.utterance} and {b.utterance}")
            open_spans.append((start, end, b))
    return Overlaps(tuple(across), tuple(partly), tuple(within))


def check_overlaps(utterances: Iterable[Utterance], where: str, accept: bool = False) -> None:
    """Refuses overlapping spans of one file under two speakers, and warns of other overlaps.

    Args:
        utterances: rows of a manifest.
        where, accept: see `check_copies`.

    Raises:
        MfhcaError: two speakers share most of an utterance, and it is not accepted.
    """
    overlaps = find_overlaps(utterances)
    _refuse(overlaps.across_speakers, where, OVERLAPPING, OVERLAP_REMEDY, accept)
    for text in overlaps.warnings():
        log.LOG.warning("%s: %s", where, text)


def _refuse(pairs: Sequence[str], where: str, what: str, remedy: str, accept: bool) -> None:
    if not pairs:
        return
    problem = f"{where}: {plural(len(pairs), 'pair')} of {what}"
    if not accept:
        raise MfhcaError(
            f"{problem}, so that a test recording would also be in training; {remedy}:\n" + listing(pairs)
        )
    log.LOG.warning("%s, accepted: a test recording may also be in training", problem)
