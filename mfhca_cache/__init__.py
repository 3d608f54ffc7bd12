"""Stage one: manifests, and features computed once into a cache of HDF5 shards.

The public names are imported on first use, so importing the package is quick.

>>> import mfhca_cache
>>> sorted(mfhca_cache.__all__)[:3]
['CacheStatus', 'Exported', 'Features']
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from mfhca_cache.build.status import CacheStatus, KindStatus
    from mfhca_cache.common.errors import MfhcaError
    from mfhca_cache.exchange.export import Exported, export_features
    from mfhca_cache.exchange.external import Imported, import_features
    from mfhca_cache.interface import build_manifest, cache_status, compute_features
    from mfhca_cache.manifest.manifest import Manifest, read_manifest, write_manifest
    from mfhca_cache.manifest.utterance import Utterance
    from mfhca_cache.recipe.folder import RecipeFolder, read_recipe
    from mfhca_cache.store.reader import Features, find_recipe, list_recipes
    from mfhca_cache.store.shard import Shard, read_shard, verify_shard

__all__ = [
    "CacheStatus",
    "Exported",
    "Features",
    "Imported",
    "KindStatus",
    "Manifest",
    "MfhcaError",
    "RecipeFolder",
    "Shard",
    "Utterance",
    "build_manifest",
    "cache_status",
    "compute_features",
    "export_features",
    "find_recipe",
    "import_features",
    "list_recipes",
    "read_manifest",
    "read_recipe",
    "read_shard",
    "verify_shard",
    "write_manifest",
]

_HOMES = {
    "build.status": ("CacheStatus", "KindStatus"),
    "common.errors": ("MfhcaError",),
    "exchange.export": ("Exported", "export_features"),
    "exchange.external": ("Imported", "import_features"),
    "interface": ("build_manifest", "cache_status", "compute_features"),
    "manifest.manifest": ("Manifest", "read_manifest", "write_manifest"),
    "manifest.utterance": ("Utterance",),
    "store.reader": ("Features", "find_recipe", "list_recipes"),
    "store.shard": ("Shard", "read_shard", "verify_shard"),
    "recipe.folder": ("RecipeFolder", "read_recipe"),
}


def __getattr__(name: str) -> Any:
    for module, names in _HOMES.items():
        if name in names:
            return getattr(importlib.import_module(f"{__name__}.{module}"), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted(__all__)
