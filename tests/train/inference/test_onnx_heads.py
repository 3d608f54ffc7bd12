"""ONNX files compute what the networks compute, for other inputs than those that export compares."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime
import pytest
import torch
from voice_factory import trained

from mfhca_cache.common.errors import MfhcaError
from mfhca_train.config.parse import with_settings
from mfhca_train.config.presets import read_preset
from mfhca_train.inference import onnx_heads
from mfhca_train.inference.ensemble import Ensemble, read_run
from mfhca_train.model.saved import build_network

SMALL = {
    name.removeprefix("model."): value
    for name, value in read_preset("small").settings.items()
    if name.startswith("model.")
}


@pytest.fixture(scope="module")
def ensemble() -> Ensemble:
    """One network of the run on real audio; it masks padding and scales both inputs."""
    return read_run(trained().run).of_folds(["1F"])


def with_network(ensemble: Ensemble, **settings: Any) -> Ensemble:
    """The same ensemble with fresh weights of other settings."""
    torch.manual_seed(0)
    config = with_settings(ensemble.config, {f"model.{name}": value for name, value in settings.items()})
    member = ensemble.members[0]
    shapes = {
        side: shape for side, shape in member.inputs.shapes.items() if config.model.inputs in ("both", side)
    }
    inputs = replace(
        member.inputs, shapes=shapes, normalisers={s: member.inputs.normalisers[s] for s in shapes}
    )
    state = build_network(config.model, shapes, len(ensemble.classes)).state_dict()
    return replace(ensemble, config=config, members=(replace(member, inputs=inputs, state=state),))


def test_a_file_gives_the_log_probabilities_of_the_network(ensemble: Ensemble, tmp_path: Path) -> None:
    onnx_heads.write_onnx(ensemble, tmp_path / "onnx")
    session = onnxruntime.InferenceSession(tmp_path / "onnx/seed-0-fold-1F.onnx")
    assert [put.name for put in session.get_inputs()] == ["spec", "ssl", "spec_valid", "ssl_valid"]
    about = session.get_modelmeta().custom_metadata_map
    assert about == {"classes": "anger,happiness,neutral", "corpus": "voices", "fold": "1F", "seed": "0"}
    (network,), inputs = ensemble.build("cpu"), ensemble.inputs
    rng = np.random.default_rng(5)
    stored = {side: rng.normal(0, 1, (7, *shape)).astype(np.float32) for side, shape in inputs.shapes.items()}
    valid = {f"{side}_valid": rng.integers(1, shape[-2] + 1, 7) for side, shape in inputs.shapes.items()}
    (found,) = session.run(None, {**stored, **valid})
    scaled = {
        s: torch.from_numpy(x * inputs.normalisers[s].scale + inputs.normalisers[s].shift)
        for s, x in stored.items()
    }
    with torch.inference_mode():
        frames = [torch.from_numpy(count) for count in valid.values()]
        logits = network(scaled["spec"][:, None], scaled["ssl"], *frames).logits
    np.testing.assert_allclose(found, torch.log_softmax(logits, -1), atol=1e-4)
    assert np.ptp(found, axis=0).max() > 1e-3  # the inputs matter


@pytest.mark.parametrize(
    "settings",
    [
        {"inputs": "spec", "grf": "released"},
        {"inputs": "ssl", "mask_padding": "false", "pooling": "statistics", "pool_norm": "true"},
        {"inputs": "ssl", "bilstm": "true", "pooling": "statistics", "pool_norm": "true"},
        {"hca": "channel"},
        {"hca": "released"},
        SMALL,
        {"fusion": "coattention", "bilstm": "false"},
    ],
)
def test_variants_have_an_onnx_form(ensemble: Ensemble, tmp_path: Path, settings: dict[str, Any]) -> None:
    """write_onnx compares each with torch."""
    onnx_heads.write_onnx(with_network(ensemble, **settings), tmp_path / "onnx")
    assert [path.name for path in (tmp_path / "onnx").iterdir()] == ["seed-0-fold-1F.onnx"]


def test_what_cannot_be_exported_or_differs_is_refused(
    ensemble: Ensemble, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def without_form(*_: object, **__: object) -> None:
        raise torch.onnx.errors.OnnxExporterError("no operator")

    with monkeypatch.context() as patch:
        patch.setattr(torch.onnx, "export", without_form)
        with pytest.raises(MfhcaError, match=r"no ONNX form \(no operator\); export without --onnx"):
            onnx_heads.write_onnx(ensemble, tmp_path / "a")
    monkeypatch.setattr(onnx_heads, "TOLERANCE", -1.0)
    with pytest.raises(MfhcaError, match="onnxruntime differs from torch by"):
        onnx_heads.write_onnx(ensemble, tmp_path / "b")
