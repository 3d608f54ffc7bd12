"""Copies: one recording listed as several utterances of a manifest.

A copy under another speaker puts a test recording into training, so it is refused.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from itertools import combinations

from mfhca_cache.common import log
from mfhca_cache.common.errors import MfhcaError, listing
from mfhca_cache.common.text import first_names, plural
from mfhca_cache.manifest.utterance import Utterance

REMEDY = "give them one speaker id if they are one person, remove the copies, or pass --accept-copies"


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
    if copies.across_speakers:
        pairs = len(copies.across_speakers)
        problem = f"{where}: {plural(pairs, 'pair')} of identical recordings under two speakers"
        if not accept:
            raise MfhcaError(
                f"{problem}, so that a test recording would also be in training; {REMEDY}:\n"
                + listing(copies.across_speakers)
            )
        log.LOG.warning("%s, accepted: a test recording may also be in training", problem)
    for names, what in (
        (copies.within_speaker, "copies"),
        (copies.two_labels, "copies with different labels"),
    ):
        if names:
            log.LOG.warning(
                "%s: %d %s of recordings%s: %s",
                where,
                len(names),
                what,
                " of the same speaker" if names is copies.within_speaker else "",
                first_names(names),
            )
