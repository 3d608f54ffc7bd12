"""What a worker process runs: the training steps, encoders and matrix products to compare.

    python -m bench.variants        (reads orders from standard input; see `worker`)

A variant either serves steps, so that the parent can run variants in turns, or measures something
and answers once.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from pathlib import Path

import numpy as np

from bench.channel import Channel
from bench.training import PASSES, agreement, endless_batches, open_corpus, plain, released, trainer

# --- reading -------------------------------------------------------------------------------------


def reading(channel: Channel, threads: int, manifest: str, cache: str, batch_size: int) -> None:
    """Gathers random batches of both features as torch tensors, as the trainer's process does."""
    from mfhca_train.training import process

    process.prepare_process(threads)
    import torch

    corpus = open_corpus(manifest, cache)
    segments = corpus.segments(np.arange(len(corpus.utterances)))
    order = np.random.default_rng(0).permutation(len(segments))
    size = sum(batch_size * f.shards[0].row_bytes for f in corpus.features.values())
    order = np.tile(order, PASSES)
    picks = iter(order[: len(order) // batch_size * batch_size].reshape(-1, batch_size))

    def step() -> None:
        pick = next(picks)
        for side, features in corpus.features.items():
            rows = segments.rows[side][pick]
            torch.from_numpy(features.gather(rows[:, 0], rows[:, 1]))

    channel.serve(step, bytes=size)


def preparing(channel: Channel, threads: int, manifest: str, cache: str, batch_size: int) -> None:
    """Like `reading`, plus conversion to float32 and normalisation: everything before a training step."""
    from mfhca_train.training import process

    process.prepare_process(threads)
    batches = endless_batches(open_corpus(manifest, cache), batch_size)
    channel.serve(lambda: next(batches))


def dataset(channel: Channel, threads: int, manifest: str, cache: str, batch_size: int) -> None:
    """The same batches from a `FeatureDataset` by torch's DataLoader, without worker processes."""
    from mfhca_train.training import process

    process.prepare_process(threads)
    from torch.utils.data import DataLoader

    from mfhca_cache.manifest.manifest import read_manifest
    from mfhca_train.interface.dataset import FeatureDataset, collate

    everyone = {u.speaker for u in read_manifest(manifest).utterances}
    norm = {"spec": "standard"}  # the trainer's defaults
    # The generated features repeat.
    items = FeatureDataset(manifest, cache, norm=norm, norm_speakers=everyone, accept_copies=True)
    loader = DataLoader(items, batch_size, shuffle=True, collate_fn=collate)
    batches = (batch for _ in range(PASSES) for batch in loader)
    channel.serve(lambda: next(batches))


# --- arithmetic ----------------------------------------------------------------------------------


def convolutions(channel: Channel, threads: int, manifest: str, cache: str, batch_size: int) -> None:
    """Operations of a training step, and the time of its convolutions by torch's profiler.

    Sends FLOP of a step, in total and in convolutions, and seconds of a step and in convolutions.
    """
    from mfhca_train.training import process

    process.prepare_process(threads)
    import torch
    from torch.nn import functional
    from torch.profiler import ProfilerActivity, profile
    from torch.utils.flop_counter import FlopCounterMode

    from mfhca_train.config.settings import ModelConfig
    from mfhca_train.model.network import MFHCA

    corpus = open_corpus(manifest, cache)
    model = MFHCA(ModelConfig(), len(corpus.classes)).train()
    batch = next(endless_batches(corpus, batch_size))

    def step() -> None:
        functional.cross_entropy(model(batch.spec, batch.ssl).logits, batch.label).backward()

    # Without oneDNN the LSTM consists of matrix products, which the counter knows; it does not know oneDNN's kernel.
    with torch.backends.mkldnn.flags(enabled=False), FlopCounterMode(display=False) as counter:
        small = batch.spec[:2], batch.ssl[:2]  # type: ignore[index]
        functional.cross_entropy(model(*small).logits, batch.label[:2]).backward()
    by_name = {str(op): flop for op, flop in counter.get_flop_counts()["Global"].items()}
    scale = batch_size / 2
    step()
    start = time.perf_counter()
    step()
    wall = time.perf_counter() - start
    with profile(activities=[ProfilerActivity.CPU]) as profiler:
        step()
    spent = sum(row.self_cpu_time_total for row in profiler.key_averages() if "convolution" in row.key)
    channel.send(
        {
            "flop": scale * counter.get_total_flops(),
            "convolution_flop": scale * sum(f for name, f in by_name.items() if "convolution" in name),
            "seconds": wall,
            "convolution_seconds": spent * 1e-6,
        }
    )


def hubert(channel: Channel, threads: int, folder: str, batch_size: int) -> None:
    """The bare forward pass of an encoder in float32, and its FLOP."""
    import torch
    from torch.utils.flop_counter import FlopCounterMode
    from transformers import HubertModel

    torch.set_num_threads(threads)
    audio = torch.randn(batch_size, 48_000)
    # The counter knows the products of eager attention, and does not work in inference mode.
    model = HubertModel.from_pretrained(folder, attn_implementation="eager").eval()
    with torch.no_grad(), FlopCounterMode(display=False) as counter:
        model(audio[:1])
    with torch.inference_mode():
        model = HubertModel.from_pretrained(folder, attn_implementation="sdpa").eval()
        channel.serve(lambda: model(audio), flop=batch_size * counter.get_total_flops())


def product(channel: Channel, threads: int, size: int, dtype: str) -> None:
    """A product of two square matrices."""
    import torch

    torch.set_num_threads(threads)
    a, b = (torch.randn(size, size).to(getattr(torch, dtype)) for _ in range(2))
    out = torch.empty_like(a)
    channel.serve(lambda: torch.mm(a, b, out=out))


def copying(channel: Channel, threads: int, size: int) -> None:
    """A copy of `size` bytes from memory to memory."""
    import torch

    torch.set_num_threads(threads)
    a, b = (torch.ones(size // 4) for _ in range(2))
    channel.serve(lambda: b.copy_(a))


# --- scale ---------------------------------------------------------------------------------------


def scale_first(channel: Channel, threads: int, folder: str, segments: int, each: int) -> None:
    """Stage one of a corpus with `segments` segments; see `bench.scale`."""
    from bench.scale import stage_one

    channel.send(stage_one(Path(folder), threads, segments, each))


def scale_second(channel: Channel, threads: int, folder: str, reads: int) -> None:
    """Stage two of the corpus of `scale_first`; see `bench.scale`."""
    from mfhca_train.training import process

    process.prepare_process(threads)
    from bench.scale import stage_two

    channel.send(stage_two(Path(folder), reads))


VARIANTS: dict[str, Callable[..., None]] = {
    f.__name__: f
    for f in (
        trainer, plain, released, agreement, reading, preparing, dataset, convolutions, hubert, product, copying,
        scale_first, scale_second,
    )
}  # fmt: skip


def main() -> None:
    """Runs the variant that the first line of standard input names."""
    channel = Channel()
    order = channel.receive()
    VARIANTS[order["variant"]](channel, order["threads"], **order["options"])


if __name__ == "__main__":
    main()
