"""Official splits: what a manifest's column `fold` says about each utterance.

The column either has the words train, validation and test (or usual other names of them), which is one split, or names
of folds, each of which is tested once while the others train.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Iterator, Sequence

from mfhca_cache.common.errors import MfhcaError, listing
from mfhca_cache.common.text import plural
from mfhca_cache.manifest.utterance import Utterance

WORDS = {
    "train": ("train", "training"),
    "validation": ("validation", "valid", "val", "development", "dev"),
    "test": ("test", "testing", "evaluation", "eval"),
}
SIDE_OF = {word: side for side, words in WORDS.items() for word in words}
SINGLE = "test"  # id of the fold of a train, validation and test split


def official_splits(
    utterances: Sequence[Utterance], shared_speakers: bool
) -> Iterator[tuple[str, list[str]]]:
    """The folds of an official split.

    Args:
        utterances: those of the label set; speakers and folds are read.
        shared_speakers: whether a speaker may be in several folds, or on several sides of a split.

    Yields:
        The id of a fold, and of each utterance whether it is in "train", "validation" or "test". Named folds have no
        validation utterances.

    Raises:
        MfhcaError: an utterance has no fold, a speaker is on several sides, or there is only one side.
    """
    missing = [u.utterance for u in utterances if not u.fold]
    if len(missing) == len(utterances):
        raise MfhcaError(
            "the manifest has no official split; add a column fold (or split) with a fold's name, or "
            "with train, validation and test, or use --protocol strict"
        )
    if missing:
        raise MfhcaError(
            f"column fold is empty for {len(missing)} of {plural(len(utterances), 'utterance')}; fill it "
            f"in, or remove these rows:\n{listing(missing)}"
        )
    names = sorted({u.fold for u in utterances})
    words = [name for name in names if name.casefold() in SIDE_OF]
    if words and len(words) < len(names):
        others = ", ".join(name for name in names if name not in words)
        raise MfhcaError(
            f"column fold has {', '.join(words)}, which make one split, but also {others}; write "
            "train, validation or test there, or remove these rows"
        )
    of_utterance = [SIDE_OF[u.fold.casefold()] if words else u.fold for u in utterances]
    found = set(of_utterance)
    if words and not {"train", "test"} <= found:
        raise MfhcaError(f"column fold has only {', '.join(words)}; a split needs train and test")
    if len(found) < 2:
        raise MfhcaError(f"all utterances are in fold {names[0]}; at least two are needed")
    if not shared_speakers:
        _refuse_shared_speakers(utterances, of_utterance)
    if words:
        yield SINGLE, of_utterance
        return
    for name in names:
        yield name, ["test" if fold == name else "train" for fold in of_utterance]


def _refuse_shared_speakers(utterances: Sequence[Utterance], sides: Sequence[str]) -> None:
    of_speaker: dict[str, Counter[str]] = defaultdict(Counter)
    for u, side in zip(utterances, sides, strict=True):
        of_speaker[u.speaker][side] += 1
    shared = [
        f"{speaker}: utterances in " + ", ".join(f"{side} {count}" for side, count in sorted(counts.items()))
        for speaker, counts in sorted(of_speaker.items())
        if len(counts) > 1
    ]
    if shared:
        raise MfhcaError(
            f"{len(shared)} of {plural(len(of_speaker), 'speaker')} would be trained on and tested; correct "
            "the column fold, or accept scores on known speakers with --set train.shared_speakers=true:\n"
            + listing(shared)
        )
