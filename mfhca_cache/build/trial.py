"""How long a plan takes: a few of its utterances are computed and timed, and nothing is written."""

from __future__ import annotations

import contextlib
import itertools
import time

from mfhca_cache.build.plan import Plan
from mfhca_cache.common.progress import phase
from mfhca_cache.features.backbone import Backbone
from mfhca_cache.features.encoder import Encoder
from mfhca_cache.features.extract import Extractor, Piece
from mfhca_cache.recipe.kinds import Ssl

BATCHES = 3  # of the encoder


def estimate_seconds(
    plan: Plan, backbone: Backbone | None, device: str, threads: int | None, batch_size: int, jobs: int
) -> float | None:
    """Seconds that the missing features take on this machine.

    Args:
        plan: the plan, with something missing.
        backbone, device, threads, batch_size, jobs: see `Builder`.

    Returns:
        None if none of the first utterances can be read.

    Raises:
        MfhcaError: the encoder cannot be loaded.
    """
    recipes = {target.kind: target.recipe for target in plan.incomplete}
    ssl, encoder = recipes.get("ssl"), None
    with phase("timing a few segments"):
        if isinstance(ssl, Ssl) and backbone is not None:
            import torch

            if threads is not None:
                torch.set_num_threads(threads)
            encoder = Encoder(backbone, ssl, device, batch_size)
        extractor: Extractor[int] = Extractor(recipes, encoder, jobs)
        segments, start = 0, time.perf_counter()
        sources = plan.needed()
        counts = itertools.accumulate(source.segments(plan.targets[0].recipe) for source in sources)
        some = 1 + sum(count < BATCHES * batch_size for count in counts)
        with contextlib.closing(extractor.run((0, source, recipes) for source in sources[:some])) as results:
            for _, result in results:
                segments += result.segments if isinstance(result, Piece) else 0
                if segments >= BATCHES * batch_size:  # a long recording has many more
                    break
        seconds = time.perf_counter() - start
    return seconds / segments * plan.segments() if segments else None
