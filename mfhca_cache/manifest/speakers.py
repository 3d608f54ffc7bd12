"""The speakers of a manifest: their utterances and classes, and signs that the column `speaker` is wrong."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator, Sequence

from mfhca_cache.common.text import first_names, plural
from mfhca_cache.manifest.card import LabelSet
from mfhca_cache.manifest.utterance import Utterance

STRICT_SPEAKERS = 4  # two for validation, one for test, one for training


def speaker_table(utterances: Iterable[Utterance], label_set: LabelSet) -> list[str]:
    """One line per speaker, in alphabetical order: number of utterances, and of each class.

    >>> rows = [Utterance("1", "1.wav", "anna", "joy"), Utterance("2", "2.wav", "anna", "anger")]
    >>> speaker_table(rows, LabelSet("all", {"anger": "anger", "joy": "joy", "fear": "fear"}))
    ['anna: 2 utterances: anger 1, joy 1, fear 0']
    """
    counts: dict[str, Counter[str]] = defaultdict(Counter)
    for utterance in utterances:
        if utterance.emotion in label_set.mapping:
            counts[utterance.speaker][label_set.mapping[utterance.emotion]] += 1
    return [
        f"{speaker}: {plural(counts[speaker].total(), 'utterance')}: "
        + ", ".join(f"{label} {counts[speaker][label]}" for label in label_set.classes)
        for speaker in sorted(counts)
    ]


def speaker_warnings(
    utterances: Sequence[Utterance], label_set: LabelSet, other_sets: Iterable[LabelSet] = ()
) -> Iterator[str]:
    """What makes a cross-validation over speakers impossible or meaningless, and the remedy.

    Args:
        utterances: of the manifest.
        label_set: those with a label of this set are considered.
        other_sets: may be proposed instead.
    """
    classes: dict[str, set[str]] = defaultdict(set)
    speakers: dict[str, set[str]] = defaultdict(set)
    sessions: set[str] = set()
    for utterance in utterances:
        if utterance.emotion in label_set.mapping:
            classes[utterance.speaker].add(label_set.mapping[utterance.emotion])
            speakers[label_set.mapping[utterance.emotion]].add(utterance.speaker)
            sessions.add(utterance.session)
    if not classes:
        return
    fix = "check the column speaker, or --speaker-regex of `manifest folders`"
    present = set().union(*classes.values())
    if absent := [label for label in label_set.classes if label not in present]:
        labels = {utterance.emotion for utterance in utterances}
        complete = [
            other.name
            for other in other_sets
            if {other.mapping[label] for label in labels & other.mapping.keys()} == {*other.classes}
        ]
        remedy = (
            f"use --label-set {complete[0]}, which is complete, or"
            if complete
            else "no label set is complete,"
        )
        yield f"no utterance of class {', '.join(absent)}; {remedy} complete the corpus"
    if len(present) == 1:
        yield f"a single class ({', '.join(present)}): at least two are required; check the column emotion"
    if len(classes) == 1:
        yield f"a single speaker ({next(iter(classes))}): at least two are required; {fix}"
    elif len(classes) == 2:
        yield (
            "2 speakers: training, validation and test need three; add speakers (--protocol oracle runs with two, but "
            "selects the epoch on the test speaker)"
        )
    elif len(sessions) == 1 and "" not in sessions:
        yield "column session puts all speakers into one session, so that strict cannot validate; clear the column"
    elif len(classes) < STRICT_SPEAKERS:
        yield (
            f"{plural(len(classes), 'speaker')}: the protocol strict needs {STRICT_SPEAKERS}; pass `cv` the option "
            "--set train.validation_speakers=1"
        )
    if len(classes) > 1 and len(present) > 1 and all(len(labels) == 1 for labels in classes.values()):
        yield f"every speaker has a single class, so that a network cannot learn classes across speakers; {fix}"
    alone = [f"{label} ({', '.join(named)})" for label, named in sorted(speakers.items()) if len(named) == 1]
    if alone and len(classes) > 2 and len(present) > 1 and not all(len(own) == 1 for own in classes.values()):
        yield (
            f"classes that a single speaker has: {first_names(alone)}, so that nobody is left to train them when this "
            "speaker is tested; use a label set without them, or add speakers"
        )
    words = {name.casefold() for name in (*label_set.mapping, *label_set.classes)}
    if named := [speaker for speaker in classes if speaker.casefold() in words]:
        yield f"speakers are named like classes ({first_names(named)}); {fix}"
