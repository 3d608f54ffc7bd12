"""Published scores: manifests/published.toml, the only place where they are typed."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping
from pathlib import Path
from typing import Annotated, Literal

from msgspec import Meta, Struct

from mfhca_cache.common.files import read_toml
from mfhca_cache.common.typed import Digest, Number, Text, decode
from mfhca_cache.manifest.card import manifest_folders
from mfhca_cache.recipe.folder import RecipeFolder

Percent = Annotated[float, Meta(ge=0, le=100)]


class PublishedScore(Struct, frozen=True, kw_only=True, omit_defaults=True, forbid_unknown_fields=True):
    """One [[figure]]."""

    key: Text | None = None  # by which a grid's row names it
    corpus: Text
    label_set: Text
    system: Text
    wa: Percent
    ua: Percent | None = None
    score: Literal["mean", "pooled"]  # over folds, or over all utterances
    protocol: Text
    source: Text
    variant: bool = False  # of a system that is another entry; only grids that name it show it
    encoder_sha256: Digest | None = None  # of the weights; only runs on features of this encoder show it


class Claim(Struct, frozen=True, kw_only=True, omit_defaults=True, forbid_unknown_fields=True):
    """One [[claim]]: a published number that is not a score."""

    key: Text | None = None
    what: Text
    value: Number
    source: Text


class Published(Struct, frozen=True, rename={"scores": "figure", "claims": "claim"}):
    """The whole file."""

    scores: tuple[PublishedScore, ...] = ()
    claims: tuple[Claim, ...] = ()


def read_published(owner: Path) -> Published:
    """The published.toml that belongs to a grid or manifest: in the same folder, the one above, or the project's.

    Args:
        owner: path of the grid or manifest.

    Returns:
        Its entries; none where there is no such file.

    Raises:
        MfhcaError: the file is damaged.
    """
    for folder in (owner.parent, owner.parent.parent, *manifest_folders()):
        path = folder / "published.toml"
        if path.is_file():
            return decode(path, read_toml(path), Published, "correct the entry")
    return Published()


def encoders_of(recipes: Iterable[Mapping[str, RecipeFolder]]) -> set[str]:
    """The weights digests of the encoders whose features some rows read."""
    digests = (recipe.recipe.get("weights_sha256") for row in recipes for recipe in row.values())
    return {digest for digest in digests if digest is not None}


def of_same_encoder(scores: Iterable[PublishedScore], encoders: Collection[str]) -> list[PublishedScore]:
    """The scores that depend on no particular encoder, or on one of these."""
    return [score for score in scores if score.encoder_sha256 is None or score.encoder_sha256 in encoders]


def comparable(
    scores: Iterable[PublishedScore],
    corpus: str,
    label_set: str,
    encoders: Collection[str],
    shown: Collection[str] = (),
) -> list[PublishedScore]:
    """The scores to show next to a run: of its corpus, label set and encoders, and of whole systems.

    Args:
        scores: of published.toml.
        corpus, label_set: of the run.
        encoders: weights digests of the run's encoders, see `encoders_of`.
        shown: keys of scores that a row shows already.
    """
    return [
        score
        for score in of_same_encoder(scores, encoders)
        if (score.corpus, score.label_set) == (corpus, label_set)
        and score.key not in shown
        and not score.variant
    ]
