"""Which classes of several corpora are the same class of a run.

A class that a map does not name keeps its name, and every corpus must have it: a class that only some corpora have is
mapped, kept or left out by name, so that "happy" and "happiness" do not become two classes unnoticed.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path

from mfhca_cache.common.errors import MfhcaError, did_you_mean, listing, nearest
from mfhca_cache.common.files import read_toml
from mfhca_cache.common.typed import decode

SIMILAR = 0.5  # least similarity of a class that is proposed; "happy" and "happiness" have 0.57
ClassMap = Mapping[str, Mapping[str, str]]  # corpus -> its class -> class of the run; "" leaves it out


def read_class_map(texts: Iterable[str]) -> dict[str, dict[str, str]]:
    """The map given with `--map`.

    Args:
        texts: each "CORPUS/THEIRS=OURS" ("CORPUS/THEIRS=" leaves the class out), or a TOML file with a table
            [CORPUS] of lines THEIRS = "OURS".

    Raises:
        MfhcaError: a text is neither, the file cannot be read, or a class is mapped twice.
    """
    found: dict[str, dict[str, str]] = {}
    for text in texts:
        for corpus, theirs, ours in _entries(text):
            if found.setdefault(corpus, {}).setdefault(theirs, ours) != ours:
                other = found[corpus][theirs]
                raise MfhcaError(
                    f"--map {text}: {corpus}/{theirs} is mapped to {other!r} and {ours!r}; keep one"
                )
    return found


def _entries(text: str) -> Iterator[tuple[str, str, str]]:
    name, is_pair, ours = text.partition("=")
    corpus, _, theirs = (part.strip() for part in name.partition("/"))
    if is_pair and corpus and theirs:
        yield corpus, theirs, ours.strip()
        return
    path = Path(text)
    if not path.is_file():
        raise MfhcaError(
            f"--map {text}: neither CORPUS/THEIRS=OURS nor a readable file (TOML, a table for each corpus)"
        )
    remedy = 'write a table [CORPUS] with lines like joy = "happiness"'
    for corpus, table in decode(
        path, read_toml(path, "correct this class map"), dict[str, dict[str, str]], remedy
    ).items():
        yield from ((corpus, theirs, ours.strip()) for theirs, ours in table.items())


def apply_map(classes: Mapping[str, Sequence[str]], given: ClassMap) -> dict[str, dict[str, str]]:
    """The class of the run that each class of each corpus becomes.

    Args:
        classes: corpus -> its classes, in order.
        given: what the user maps.

    Returns:
        Corpus -> its class -> class of the run, or "" where it is left out. Complete.

    Raises:
        MfhcaError: an unknown corpus or class, or a class that is not mapped and that not every corpus has.

    >>> apply_map({"a": ["joy", "fear"], "b": ["happy"]}, {"b": {"happy": "joy"}, "a": {"fear": ""}})
    {'a': {'joy': 'joy', 'fear': ''}, 'b': {'happy': 'joy'}}
    """
    for corpus, table in given.items():
        if corpus not in classes:
            raise MfhcaError(
                f"class map: no corpus of this run is called {corpus!r}; {did_you_mean(corpus, classes)}"
            )
        for theirs in table:
            if theirs not in classes[corpus]:
                raise MfhcaError(
                    f"class map: corpus {corpus} has no class {theirs!r}; {did_you_mean(theirs, classes[corpus])}"
                )
    found = {
        corpus: {name: given.get(corpus, {}).get(name, name) for name in own}
        for corpus, own in classes.items()
    }
    unmapped = []
    for corpus, own in found.items():
        for theirs, ours in own.items():
            lacking = [other for other, table in found.items() if ours not in table.values()]
            if lacking and theirs not in given.get(corpus, {}):
                others = {name for other in lacking for name in found[other].values() if name}
                near = nearest(theirs, sorted(others), SIMILAR)
                hint = f"; did you mean --map {corpus}/{theirs}={near}?" if near else ""
                unmapped.append(f"{corpus}/{theirs}: not in {', '.join(lacking)}{hint}")
    if unmapped:
        raise MfhcaError(
            f"{len(unmapped)} {'class is' if len(unmapped) == 1 else 'classes are'} not in every corpus; map each with "
            "--map CORPUS/THEIRS=OURS (or in a file), keep it with its own name as OURS, or leave it out with nothing "
            f"after the =:\n{listing(unmapped)}"
        )
    return found
