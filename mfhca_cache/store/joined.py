"""The features of several corpora as if they were of one."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import replace

from mfhca_cache.recipe.folder import RecipeFolder
from mfhca_cache.store.reader import Features
from mfhca_cache.store.shard import Shard


def open_corpora(corpora: Mapping[str, tuple[RecipeFolder, Iterable[str]]]) -> Features:
    """Opens the shards of several corpora. Names begin with that of the corpus: "emodb/03", "emodb/03a01Fa".

    Args:
        corpora: name of a corpus -> recipe folder, of the same recipe in every cache, and the corpus' own speaker ids.

    Raises:
        MfhcaError: see `Features.open`.
    """
    parts: list[Features] = []
    shards: list[Shard] = []
    try:
        for corpus, (recipe, speakers) in corpora.items():
            parts.append(Features.open(recipe, speakers))
            shards += [_renamed(shard, corpus) for shard in parts[-1].shards]
        return Features(tuple(shards), [file for part in parts for file in part.descriptors], parts[0].layer)
    except BaseException:
        for part in parts:
            part.close()
        raise


def _renamed(shard: Shard, corpus: str) -> Shard:
    names = tuple(f"{corpus}/{name}" for name in shard.utterance_ids)
    return replace(shard, speaker=f"{corpus}/{shard.speaker}", utterance_ids=names)
