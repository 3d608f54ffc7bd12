"""Measurements of one accelerator, with generated input; `gpu` runs them and writes the tables."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import click
import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional

from bench import synthetic
from mfhca_cache.features.backbone import resolve
from mfhca_cache.features.encoder import Encoder
from mfhca_cache.recipe.kinds import Ssl
from mfhca_train.config.parse import with_settings
from mfhca_train.config.presets import read_preset
from mfhca_train.config.settings import Config
from mfhca_train.model.network import MFHCA
from mfhca_train.training.evaluate import autocast
from mfhca_train.training.process import prepare_process

# Relative errors (norm of the difference over norm of the CPU's value) that count as rounding. TF32 and bfloat16 keep
# 10 and 7 bits of the mantissa, and the encoder has twelve layers.
TOLERANCE = {"float32": 1e-3, "tf32": 2e-2, "bfloat16": 1e-1}
SETTINGS: dict[str, dict[str, Any]] = {
    "paper": {},
    "HCA channel": {"model.hca": "channel"},
    "HCA frames": {"model.hca": "frames"},
    "HCA released": {"model.hca": "released"},
    "co-attention": {"model.fusion": "coattention"},
    "concatenation": {"model.fusion": "concat"},
    "GRF released": {"model.grf": "released"},
    "preset small": dict(read_preset("small").settings),
}
CLASSES = 4

Batch = tuple[
    Tensor, Tensor, Tensor, Tensor, Tensor
]  # spectrogram, hidden states, valid frames of both, label


def make_batch(size: int, device: str, seed: int = 0) -> Batch:
    """Normalised random input of full size; every fourth segment is half padding."""
    random = torch.Generator().manual_seed(seed)
    spec = torch.randn(size, 1, *synthetic.SPEC_SHAPE, generator=random)
    ssl = torch.randn(size, synthetic.SSL_FRAMES, synthetic.SSL_WIDTH, generator=random)
    part = torch.where(torch.arange(size) % 4 == 3, 0.5, 1.0)
    valid = [(part * frames).long() for frames in (synthetic.SPEC_SHAPE[0], synthetic.SSL_FRAMES)]
    label = torch.arange(size) % CLASSES
    return spec.to(device), ssl.to(device), valid[0].to(device), valid[1].to(device), label.to(device)


def make_network(settings: dict[str, Any], device: str) -> MFHCA:
    """A network with seeded weights and without dropout, which draws other numbers on each device."""
    config = with_settings(Config(), {**settings, "model.dropout": 0.0, "model.modality_dropout": 0.0})
    torch.manual_seed(0)
    return MFHCA(config.model, CLASSES).to(device).train()


def loss_of(model: nn.Module, batch: Batch, device: str, precision: str = "float32") -> Tensor:
    """The cross-entropy of a batch."""
    with autocast(device, precision):
        logits = model(*batch[:4]).logits
    return functional.cross_entropy(logits.float(), batch[4])


def relative(found: Tensor | np.ndarray, expected: Tensor | np.ndarray, least: float = 0.0) -> float:
    """Norm of the difference over the norm of the expected values, or over `least` if that is larger."""
    a, b = (torch.as_tensor(x).detach().double().cpu() for x in (found, expected))
    return float((a - b).norm()) / max(float(b.norm()), least, 1e-30)


def epoch(
    settings: dict[str, Any], device: str, batches: int, size: int
) -> tuple[list[float], dict[str, Tensor]]:
    """Losses of a short epoch on a device, and the gradients of its first step."""
    model = make_network(settings, device)
    optimiser = torch.optim.Adam(model.parameters(), lr=1e-4)
    losses, first = [], {}
    for index in range(batches):
        optimiser.zero_grad(set_to_none=True)
        loss = loss_of(model, make_batch(size, device, index), device)
        loss.backward()
        if not index:
            first = {name: p.grad.clone() for name, p in model.named_parameters() if p.grad is not None}
        optimiser.step()
        losses.append(float(loss.detach()))
    return losses, first


def agreement(
    device: str, batches: int, size: int, variants: Iterable[str] = SETTINGS
) -> dict[str, dict[str, float]]:
    """Largest relative errors of losses and first gradients on the device, per variant of the network.

    A gradient below a thousandth of the largest one is compared with that: before batch normalisation biases have a
    gradient of zero but for rounding.
    """
    found = {}
    for name in variants:
        settings = SETTINGS[name]
        losses, gradients = epoch(settings, device, batches, size)
        expected, exact = epoch(settings, "cpu", batches, size)
        least = 1e-3 * max(float(g.norm()) for g in exact.values())
        found[name] = {
            "loss": max(abs(a - b) / abs(b) for a, b in zip(losses, expected, strict=True)),
            "gradients": max(relative(gradients[key], exact[key], least) for key in exact),
        }
    return found


def deterministic(device: str, size: int, variants: Iterable[str] = SETTINGS) -> dict[str, bool]:
    """Whether two equal short epochs give equal bits of all gradients and losses, per variant."""
    result = {}
    for name in variants:
        settings = SETTINGS[name]
        (losses, one), (again, two) = (epoch(settings, device, 2, size) for _ in range(2))
        result[name] = losses == again and all(torch.equal(one[key], two[key]) for key in one)
    return result


@contextmanager
def tf32(allowed: bool) -> Iterator[None]:
    """Whether float32 products may keep 10 bits of the mantissa."""
    torch.backends.cuda.matmul.allow_tf32 = torch.backends.cudnn.allow_tf32 = allowed
    try:
        yield
    finally:
        torch.backends.cuda.matmul.allow_tf32 = torch.backends.cudnn.allow_tf32 = False


def synchronise(device: str) -> None:
    """Waits for the device."""
    if device.startswith("cuda"):
        torch.cuda.synchronize(device)


def per_second(action: Callable[[], None], items: int, device: str, seconds: float) -> tuple[float, float]:
    """Items per second of an action repeated for some time, and the part of the time the host was busy with it."""
    for _ in range(3 if seconds > 1 else 1):
        action()
    synchronise(device)
    start, count, host = time.perf_counter(), 0, 0.0
    while time.perf_counter() - start < seconds:
        before = time.perf_counter()
        action()
        host += time.perf_counter() - before
        count += 1
        if count % 8 == 0:  # do not queue without end
            synchronise(device)
    synchronise(device)
    wall = time.perf_counter() - start
    return items * count / wall, min(host / wall, 1.0)


def extraction(folder: Path, device: str, quick: bool, seconds: float) -> dict[str, dict[str, float]]:
    """Error against the CPU in float32, and segments/s, of an encoder of HuBERT base's size."""
    backbone = resolve(str(synthetic.encoder(folder / "encoder", quick)))
    segments = np.stack([synthetic.speech_like(3.0, seed=i)[:, 0] for i in range(8)])
    lengths = np.full(len(segments), segments.shape[1])

    def encoder(where: str, dtype: str, size: int) -> Encoder:
        recipe = Ssl(
            weights_sha256=backbone.weights_sha256,
            config_sha256=backbone.config_sha256,
            normalise=backbone.normalise,
            attention_mask=backbone.attention_mask,
            attention=backbone.attention,
            compute_dtype=dtype,
        )
        return Encoder(backbone, recipe, where, size)

    on_cpu = encoder("cpu", "float32", len(segments))
    inputs = on_cpu.prepare(segments, lengths)
    expected, found = on_cpu.forward(inputs, lengths), {}
    repeat = 1 if quick else 4
    many, all_lengths = np.tile(inputs, (repeat, 1)), np.tile(lengths, repeat)
    for name, dtype in (("float32", "float32"), ("tf32", "float32"), ("bfloat16", "bfloat16")):
        model = encoder(device, dtype, len(many))
        with tf32(name == "tf32"):
            error = relative(model.forward(many, all_lengths)[: len(segments)], expected)
            speed, _ = per_second(lambda m=model: m.forward(many, all_lengths), len(many), device, seconds)  # type: ignore[misc]
        found[name] = {"error": error, "segments_per_second": speed}
    return found


def steps(device: str, size: int, seconds: float, is_quick: bool) -> dict[str, dict[str, float]]:
    """Segments/s, share of the host and peak memory of the full model's training step, in several forms."""
    found: dict[str, dict[str, float]] = {}
    on_cuda = device.startswith("cuda")
    for name in ("plain", "channels_last", "bfloat16", "compile", "cuda_graph"):
        if (name == "cuda_graph" and not on_cuda) or (name == "compile" and is_quick):
            continue
        precision = "float32" if name in ("plain", "channels_last") else "bfloat16"
        model = make_network({}, device)
        batch = make_batch(size, device)
        if name != "plain":
            model = model.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
            batch = (batch[0].contiguous(memory_format=torch.channels_last), *batch[1:])
        network = torch.compile(model) if name == "compile" else model
        optimiser = torch.optim.Adam(model.parameters(), lr=1e-5, capturable=name == "cuda_graph")

        def step(
            network: Any = network, batch: Batch = batch, optimiser: Any = optimiser, p: str = precision
        ) -> None:
            optimiser.zero_grad(set_to_none=True)
            loss_of(network, batch, device, p).backward()
            optimiser.step()

        try:
            if on_cuda:
                torch.cuda.reset_peak_memory_stats(device)
            action = captured(step) if name == "cuda_graph" else step
            speed, host = per_second(action, size, device, seconds)
        except Exception as error:  # a form that this version of torch cannot run is a result, too
            found[name] = {"failed": 1.0}
            click.echo(f"{name}: {type(error).__name__}: {str(error).splitlines()[0][:200]}", err=True)
            continue
        found[name] = {"segments_per_second": speed, "host": host}
        if on_cuda:
            found[name]["peak_memory_mib"] = torch.cuda.max_memory_allocated(device) / 2**20
    return found


def captured(step: Callable[[], None]) -> Callable[[], None]:
    """A training step as one CUDA graph, after the warm-up on a side stream that capturing needs."""
    stream = torch.cuda.Stream()
    stream.wait_stream(torch.cuda.current_stream())
    with torch.cuda.stream(stream):
        for _ in range(3):
            step()
    torch.cuda.current_stream().wait_stream(stream)
    graph = torch.cuda.CUDAGraph()
    with torch.cuda.graph(graph):
        step()
    return graph.replay


def _fold(device: str, size: int, seconds: float, precision: str, speeds: Any) -> None:
    """One process that trains on random input; its speed goes into a queue."""
    prepare_process(1)
    model = make_network({}, device)
    batch, optimiser = make_batch(size, device), torch.optim.Adam(model.parameters(), lr=1e-5)

    def step() -> None:
        optimiser.zero_grad(set_to_none=True)
        loss_of(model, batch, device, precision).backward()
        optimiser.step()

    speeds.put(per_second(step, size, device, seconds)[0])


def folds(device: str, size: int, seconds: float, counts: tuple[int, ...]) -> dict[str, float]:
    """Segments/s of several processes together that train on one device at the same time."""
    context, found = torch.multiprocessing.get_context("spawn"), {}
    for count in counts:
        speeds = context.Queue()
        processes = [
            context.Process(target=_fold, args=(device, size, seconds, "bfloat16", speeds))
            for _ in range(count)
        ]
        for process in processes:
            process.start()
        found[str(count)] = sum(speeds.get(timeout=120) for _ in processes)
        for process in processes:
            process.join()
    return found
