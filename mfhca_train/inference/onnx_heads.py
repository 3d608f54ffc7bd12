"""The networks of an ensemble as ONNX files, each checked against torch with onnxruntime.

A file takes features as a cache stores them, `spec` (B, T, F), `ssl` (B, L, D) or (B, M, L, D), `mfcc` (B, T, 40), all
float32, and with model.mask_padding the frames that are not padding, `spec_valid` and so on, (B,) int64. It returns
`log_probabilities` (B, K) of the segments. Scaling is part of it; the speech encoder is not.
"""

from __future__ import annotations

import contextlib
import os
import warnings
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from mfhca_cache.common.errors import MfhcaError
from mfhca_cache.common.extras import optional
from mfhca_cache.common.files import file_name
from mfhca_train.config.variables import PLAIN
from mfhca_train.data.batch import as_batch, on_device
from mfhca_train.inference.ensemble import Ensemble, Member
from mfhca_train.model.network import MFHCA
from mfhca_train.results.schema import LONGEST_FOLD

FOLDER, OUTPUT = "onnx", "log_probabilities"
TOLERANCE = 1e-4  # of a log-probability, between onnxruntime and torch
BATCHES = (1, 3)  # that are compared; the files take any


class _Head(nn.Module):
    """A network with the scaling of its inputs, from stored features to log-probabilities."""

    def __init__(self, network: MFHCA, member: Member) -> None:
        super().__init__()
        self.network, self.sides = network, tuple(member.inputs.shapes)
        self.affine = on_device(member.inputs.normalisers, "cpu")

    def forward(self, *inputs: Tensor) -> Tensor:
        """Features by side, then their valid frames."""
        stored = dict(zip(self.sides, inputs, strict=False))
        valid = dict(zip(self.sides, inputs[len(self.sides) :], strict=False))
        batch = as_batch(stored, self.affine, valid, torch.zeros(0))
        return torch.log_softmax(self.network(*batch.inputs).logits, dim=-1)


def write_onnx(ensemble: Ensemble, folder: Path) -> None:
    """Writes each network as `seed-N-fold-ID.onnx`.

    Args:
        ensemble: the networks.
        folder: is created.

    Raises:
        MfhcaError: onnx or onnxruntime is not installed, the network or its scaling has no ONNX form, or its outputs
            differ from torch's.
    """
    if ensemble.config.scales_by_test:
        raise MfhcaError(
            f"{ensemble.source}: these networks scale each corpus or speaker by its own statistics, which an ONNX file "
            "does not have; export without --onnx, or train without *_norm=corpus and *_norm=speaker"
        )
    onnx, runtime = optional("onnx", "onnx"), optional("onnxruntime", "onnx")
    folder.mkdir(parents=True)
    with _plain_equations():
        for network, member in zip(ensemble.build("cpu"), ensemble.members, strict=True):
            fold = file_name(member.card.fold, LONGEST_FOLD)
            path = folder / f"seed-{member.card.seed}-fold-{fold}.onnx"
            head = _Head(network, member).eval()
            names = [*head.sides]
            names += [f"{side}_valid" for side in head.sides] * ensemble.config.model.mask_padding
            _export(head, _example(member, len(names), BATCHES[-1]), path, names)
            _describe(onnx, path, ensemble, member)
            for size in BATCHES:
                _compare(runtime, head, _example(member, len(names), size), path, names)


def _example(member: Member, count: int, size: int) -> tuple[Tensor, ...]:
    """A batch of noise, and of valid frames if the network reads them."""
    random, shapes = torch.Generator().manual_seed(size), list(member.inputs.shapes.values())
    features = [torch.randn(size, *shape, generator=random) for shape in shapes]
    valid = [torch.randint(1, shape[-2] + 1, (size,), generator=random) for shape in shapes]
    return tuple((features + valid)[:count])


def _export(head: _Head, example: tuple[Tensor, ...], path: Path, names: list[str]) -> None:
    try:
        with warnings.catch_warnings():
            # torch.export cannot trace sequences of different lengths, so the exporter that torch calls legacy is used.
            warnings.simplefilter("ignore")
            torch.onnx.export(
                head,
                example,
                path,
                input_names=names,
                output_names=[OUTPUT],
                dynamic_axes={name: {0: "segments"} for name in (*names, OUTPUT)},
                dynamo=False,
            )
    except (torch.onnx.errors.OnnxExporterError, RuntimeError) as error:
        raise MfhcaError(
            f"the network has no ONNX form ({str(error).splitlines()[0]}); export without --onnx"
        ) from error


def _describe(onnx: Any, path: Path, ensemble: Ensemble, member: Member) -> None:
    """Adds classes, corpus, fold and seed to the file's metadata."""
    model, card = onnx.load(path), ensemble.card
    about = {
        "classes": ",".join(card.classes),
        "corpus": card.corpus,
        "fold": member.card.fold,
        "seed": str(member.card.seed),
    }
    onnx.helper.set_model_props(model, about)
    onnx.checker.check_model(model)
    onnx.save(model, path)


def _compare(runtime: Any, head: _Head, batch: tuple[Tensor, ...], path: Path, names: list[str]) -> None:
    session = runtime.InferenceSession(path, providers=["CPUExecutionProvider"])
    inputs = {name: tensor.numpy() for name, tensor in zip(names, batch, strict=True)}
    (found,) = session.run([OUTPUT], inputs)
    with torch.inference_mode():
        expected = head(*batch).numpy()
    difference = float(np.abs(found - expected).max())
    if not difference <= TOLERANCE:
        raise MfhcaError(
            f"{path.name}: onnxruntime differs from torch by {difference:.2g}, expected at most {TOLERANCE}; export "
            "without --onnx"
        )


@contextlib.contextmanager
def _plain_equations() -> Iterator[None]:
    """The equations without the fast CPU code, which cannot be traced."""
    before = os.environ.get(PLAIN)
    os.environ[PLAIN] = "1"
    try:
        yield
    finally:
        if before is None:
            del os.environ[PLAIN]
        else:
            os.environ[PLAIN] = before
