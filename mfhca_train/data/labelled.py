"""The labelled utterances of a run: of one manifest, or of several corpora as one.

With several corpora, the names of utterances, speakers and sessions begin with their corpus ("emodb/03"), so equal
names in two corpora are two speakers everywhere: in folds, shards, results and plots.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from mfhca_cache.common.errors import MfhcaError, did_you_mean, listing
from mfhca_cache.common.text import plural
from mfhca_cache.manifest.card import LabelSet
from mfhca_cache.manifest.manifest import Manifest, read_manifest
from mfhca_cache.manifest.utterance import Utterance
from mfhca_train.data.class_map import ClassMap, apply_map


@dataclass(frozen=True)
class Source:
    """The files of one corpus: manifest, cache, and folder of the audio if it is compared with the features."""

    manifest: Path
    cache: Path
    root: Path | None = None

    def absolute(self) -> Source:
        """The same with absolute paths."""
        root = None if self.root is None else self.root.absolute()
        return Source(self.manifest.absolute(), self.cache.absolute(), root)


@dataclass(frozen=True)
class Part:
    """One corpus of a run.

    Attributes:
        name: the card's, else that of the manifest's file.
        source, manifest: its files.
        label_set: its own.
        classes: of its label set -> of the run, "" where they are left out.
    """

    name: str
    source: Source
    manifest: Manifest
    label_set: LabelSet
    classes: Mapping[str, str]


@dataclass(frozen=True)
class LabelledCorpus:
    """The utterances of a run and their classes, before any features are read.

    Attributes:
        parts: the corpora, in alphabetical order.
        label_set: maps the labels of `utterances` to classes.
        utterances: of the label set.
        accept_copies: accept identical recordings under two speakers.
    """

    parts: tuple[Part, ...]
    label_set: LabelSet
    utterances: tuple[Utterance, ...]
    accept_copies: bool = False

    @property
    def name(self) -> str:
        """The name of the corpus; of several "emodb+ravdess"."""
        return "+".join(part.name for part in self.parts)

    @property
    def is_several(self) -> bool:
        """Whether there are several corpora."""
        return len(self.parts) > 1

    @property
    def manifests(self) -> str:
        """The manifests' paths, for messages."""
        return " and ".join(str(part.manifest.path) for part in self.parts)

    @property
    def roots(self) -> dict[str, Path]:
        """The folders of the audio by `Utterance.corpus`, where they are known."""
        return {
            part.name if self.is_several else "": part.source.root for part in self.parts if part.source.root
        }


def read_corpora(
    sources: Sequence[Source], label_set: str | None, class_map: ClassMap, accept_copies: bool = False
) -> LabelledCorpus:
    """The manifest of a run, or several as one.

    Args:
        sources: one per corpus; their order changes nothing.
        label_set: a name on the card, None for its default. Of several corpora the name for all, or
            "emodb=seven,mine=all" for some.
        class_map: of several corpora; see `class_map.apply_map`.
        accept_copies: see `LabelledCorpus`.

    Raises:
        MfhcaError: a manifest cannot be read, has no such label set, or the corpora do not fit together.
    """
    manifests = [read_manifest(source.manifest) for source in sources]
    if len(manifests) == 1:
        if class_map:
            raise MfhcaError(
                "a class map (--map) joins several corpora; leave it out, or choose a --label-set"
            )
        own = manifests[0].label_set(label_set)
        part = Part(manifests[0].corpus, sources[0], manifests[0], own, {name: name for name in own.classes})
        return LabelledCorpus((part,), own, manifests[0].select(own), accept_copies)
    corpora = [manifest.corpus for manifest in manifests]
    named = sorted(zip(corpora, sources, manifests, strict=True), key=lambda entry: entry[0])
    names = [name for name, _, _ in named]
    _check_names(names)
    chosen = _label_sets(names, label_set)
    sets = [manifest.label_set(chosen.get(name)) for name, _, manifest in named]
    mapped = apply_map({name: own.classes for name, own in zip(names, sets, strict=True)}, class_map)
    parts = tuple(
        Part(name, source, manifest, own, mapped[name])
        for (name, source, manifest), own in zip(named, sets, strict=True)
    )
    _refuse_shared_features(parts)
    classes = dict.fromkeys(ours for part in parts for ours in part.classes.values() if ours)
    shared = {own.name for own in sets}
    text = (
        shared.pop() if len(shared) == 1 else ",".join(f"{part.name}={part.label_set.name}" for part in parts)
    )
    utterances = tuple(u for part in parts for u in _utterances(part))
    return LabelledCorpus(parts, LabelSet(text, {name: name for name in classes}), utterances, accept_copies)


def _check_names(names: Sequence[str]) -> None:
    twice = [name for name, count in Counter(names).items() if count > 1]
    if twice:
        raise MfhcaError(
            f"two of the manifests are of a corpus called {twice[0]!r}; give one file another name"
        )
    wrong = [name for name in names if "/" in name or "=" in name or "," in name]
    if wrong:
        raise MfhcaError(
            f"corpus {wrong[0]!r}: a name with one of / = , cannot stand before its speakers; rename it"
        )


def _label_sets(names: Sequence[str], text: str | None) -> dict[str, str]:
    """The label set of each corpus that has one from `--label-set`."""
    if text is None:
        return {}
    if "=" not in text:
        return dict.fromkeys(names, text)
    found = dict(part.strip().partition("=")[::2] for part in text.split(","))
    for name in found:
        if name not in names:
            raise MfhcaError(
                f"--label-set {text}: no corpus of this run is called {name!r}; {did_you_mean(name, names)}"
            )
    return found


def _utterances(part: Part) -> tuple[Utterance, ...]:
    """The utterances of a corpus under names of the run; their labels are classes of the run."""
    return tuple(
        replace(
            u,
            utterance=f"{part.name}/{u.utterance}",
            speaker=f"{part.name}/{u.speaker}",
            session=u.session and f"{part.name}/{u.session}",
            emotion=ours,
            corpus=part.name,
        )
        for u in part.manifest.select(part.label_set)
        if (ours := part.classes[part.label_set.mapping[u.emotion]])
    )


def _refuse_shared_features(parts: Sequence[Part]) -> None:
    """Refuses two corpora whose features a cache would keep under the same names.

    Raises:
        MfhcaError: a cache would hold two utterances of one speaker and id.
    """
    known: dict[tuple[Path, str, str], str] = {}
    shared = []
    for part in parts:
        cache = part.source.cache.resolve()
        for u in part.manifest.select(part.label_set):
            other = known.setdefault((cache, u.speaker, u.utterance), part.name)
            if other != part.name:
                shared.append(f"{u.utterance} of speaker {u.speaker}: in {other} and {part.name}")
    if shared:
        raise MfhcaError(
            f"{parts[0].source.cache}: {plural(len(shared), 'utterance')} with the same id and speaker in two corpora: "
            "one cache cannot hold both; compute the features of each corpus in a cache of its own, and pass one "
            f"--cache per manifest, in the same order:\n{listing(shared)}"
        )
