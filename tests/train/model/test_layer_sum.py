"""The learned sum over layers: its formula, its gradient, and that it finds the layer that tells the classes apart."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from click.testing import CliRunner, Result
from corpus_factory import CLASSES
from grid_factory import write_grid
from layer_factory import FRAMES, LAYERS, ROWS, TELLING, WIDTH, write_corpus, write_hidden_states
from run_factory import Page
from safetensors.torch import load_file
from torch import Tensor

from mfhca_cache.manifest.card import LabelSet
from mfhca_train.cli.main import main
from mfhca_train.config.settings import ModelConfig
from mfhca_train.data.batch import Layers
from mfhca_train.data.corpus import Corpus
from mfhca_train.data.inputs import choose_recipes
from mfhca_train.model import cpu
from mfhca_train.model.layer_sum import WeightedSum
from mfhca_train.model.network import MFHCA
from mfhca_train.model.saved import load_network

M, L, D = 3, 5, 8


def by_the_formula(weights: Tensor, stacked: Tensor, norm: bool) -> Tensor:
    """As the benchmark's code has it: normalise each frame if asked to, softmax, multiply, sum; (M, B, L, D)."""
    if norm:
        centred = stacked - stacked.mean(dim=-1, keepdim=True)
        stacked = centred / torch.sqrt(centred.square().mean(dim=-1, keepdim=True) + 1e-5)
    shares = weights.exp() / weights.exp().sum()
    return (shares[:, None, None, None] * stacked).sum(dim=0)


def sample(dtype: torch.dtype = torch.float32) -> tuple[Tensor, Tensor, Tensor]:
    generator = torch.Generator().manual_seed(0)
    values = torch.randn(4, M, L, D, generator=generator).to(dtype)
    scale = torch.rand(M, 1, D, generator=generator) + 0.5
    return values, scale, torch.randn(M, 1, D, generator=generator)


@pytest.mark.parametrize("norm", [False, True])
@pytest.mark.parametrize("scaled", [False, True])
@pytest.mark.parametrize("dtype", [torch.float16, torch.float32, torch.float64])
def test_sum_and_gradient_are_those_of_the_formula(norm: bool, scaled: bool, dtype: torch.dtype) -> None:
    values, scale, shift = sample(dtype)
    layer = WeightedSum(M, norm)
    layer.weights.data = torch.tensor([0.3, -1.0, 0.5])
    found = layer(Layers(values, scale, shift) if scaled else values)
    assert found.dtype == torch.promote_types(dtype, torch.float32)
    weights = layer.weights.detach().double().requires_grad_()
    exact = values.double() * scale.double() + shift.double() if scaled else values.double()
    expected = by_the_formula(weights, exact.transpose(0, 1), norm)
    torch.testing.assert_close(found.double(), expected, rtol=1e-5, atol=1e-5)
    towards = torch.randn(found.shape, generator=torch.Generator().manual_seed(1))
    (found * towards).sum().backward()
    (expected * towards).sum().backward()
    torch.testing.assert_close(layer.weights.grad.double(), weights.grad, rtol=1e-4, atol=1e-5)


def test_weights_begin_equal_and_add_up_to_one() -> None:
    values, _, _ = sample()
    layer = WeightedSum(M)
    torch.testing.assert_close(layer(values), values.mean(dim=1))
    assert layer.softmax_weights.tolist() == pytest.approx([1 / M] * M)


def test_stored_values_are_left_as_they_are() -> None:
    values, scale, shift = sample()
    before = values.clone()
    WeightedSum(M, norm=True)(Layers(values, scale, shift)).sum().backward()
    assert torch.equal(values, before)


def test_another_number_of_layers_is_refused() -> None:
    with pytest.raises(ValueError, match=r"expected \(B, 3, L, D\), all layers; found \(4, 2, 5, 8\)"):
        WeightedSum(M)(torch.zeros(4, 2, L, D))
    with pytest.raises(ValueError, match=r"found \(4, 5, 8\)"):
        WeightedSum(M)(torch.zeros(4, L, D))
    with pytest.raises(ValueError, match="needs hidden states of one layer"):
        MFHCA(ModelConfig(inputs="ssl", width=4), 2, L, D)(ssl=torch.zeros(4, M, L, D))


SETTINGS: list[dict[str, Any]] = [
    {"inputs": "ssl"},
    {"inputs": "ssl", "bilstm": False},
    {"hca": "temporal"},
    {"hca": "channel", "mask_padding": True},
    {"fusion": "concat"},
]


@pytest.mark.parametrize("settings", SETTINGS, ids=str)
def test_network_learns_the_weights_as_autograd_would(
    settings: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Against the same network with torch's own operations alone."""
    torch.manual_seed(0)
    config = ModelConfig(grf_channels=(4, 6), width=16, dropout=0.0, **settings)
    network = MFHCA(config, 3, L, D, ssl_layers=M)
    network.layers.weights.data = torch.tensor([0.3, -1.0, 0.5])
    values = sample()[0].half()
    spec = torch.randn(4, 1, 24, 16) if network.has_spec else None
    valid = torch.tensor([24, 9, 1, 24]) if network.has_spec else None, torch.tensor([5, 2, 1, 5])

    def gradients() -> dict[str, Tensor]:
        network.zero_grad()
        network(spec, values, *valid).logits.square().sum().backward()
        return {name: p.grad.clone() for name, p in network.named_parameters() if p.grad is not None}

    ours = gradients()
    monkeypatch.setenv(cpu.PLAIN, "1")
    theirs = gradients()
    assert ours["layers.weights"].abs().max() > 1e-6
    assert set(ours) == set(theirs)
    for name, expected in theirs.items():
        torch.testing.assert_close(
            ours[name], expected, rtol=2e-3, atol=1e-5, msg=lambda m, n=name: f"{n}: {m}"
        )


# --- from a cache


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A manifest, a cache with all layers, and one with two layers by themselves."""
    folder = tmp_path_factory.mktemp("layers")
    write_corpus(folder)
    write_hidden_states(folder / "cache")
    write_hidden_states(folder / "single", (TELLING, -1))
    return folder


def command(
    folder: Path,
    out: Path,
    *settings: str,
    cache: str = "cache",
    epochs: int = 2,
    protocol: str = "strict",
) -> Result:
    given = ["model.inputs=ssl", "model.width=8", "train.batch_size=8", f"train.epochs={epochs}", *settings]
    parts = [part for setting in given for part in ("--set", setting)]
    places = [
        "--cache",
        str(folder / cache),
        "--out",
        str(out),
        "--jobs",
        "1",
        "--device",
        "cpu",
        "--protocol",
        protocol,
    ]
    return CliRunner().invoke(
        main, ["cv", str(folder / "corpus.csv"), *places, "--preset", "paper", *parts, "--fold", "s0"]
    )


def unit_of(run: Path) -> Path:
    return run / "model/seed-0/fold-s0"


def test_weights_move_towards_the_layer_that_tells_the_classes_apart(folder: Path, tmp_path: Path) -> None:
    settings = ("train.lr=2e-2", "train.ssl_norm=standard", "model.bilstm=false", "train.patience=40")
    result = command(
        folder, tmp_path / "run", *settings, epochs=15, protocol="oracle"
    )  # three train, one tests
    assert result.exit_code == 0, result.output
    unit = json.loads((unit_of(tmp_path / "run") / "result.json").read_text())
    weights = unit["layer_weights"]
    assert list(weights) == [str(layer) for layer in range(LAYERS)]
    assert sum(weights.values()) == pytest.approx(1)
    assert max(weights, key=weights.get) == str(TELLING)
    assert weights[str(TELLING)] > 0.5
    assert unit["wa"] >= 0.75
    assert unit["parameters"]["layers"] == LAYERS


def test_cv_prints_stores_and_reports_the_weights(folder: Path, tmp_path: Path) -> None:
    outputs = [command(folder, tmp_path / how, f"model.ssl_layer={how}") for how in ("auto", "weighted-norm")]
    assert [result.exit_code for result in outputs] == [0, 0], outputs[0].output
    run, unit = tmp_path / "auto", unit_of(tmp_path / "auto")
    weights = json.loads((unit / "result.json").read_text())["layer_weights"]
    results, page = json.loads((run / "results.json").read_text()), (run / "report.html").read_text()
    assert "Layers of the speech encoder" in page
    for layer, share in weights.items():
        assert results["layer_weights"][layer] == {"mean": share, "std": None}
        assert re.search(rf"^{layer} +{100 * share:.2f}\b", outputs[0].output, re.MULTILINE)
        assert f"{100 * share:.2f}" in page
    about = json.loads((run / "run.json").read_text())
    assert about["recipe_names"] == {about["recipes"]["ssl"]: "ssl-tiny-all"}
    assert "ssl-tiny-all-" + about["recipes"]["ssl"] in page

    network, inputs = load_network(unit, ModelConfig(inputs="ssl", width=8), len(CLASSES))
    assert network.layer_weights == pytest.approx(list(weights.values()))
    assert inputs.shapes["ssl"] == (LAYERS, FRAMES, WIDTH)
    other = unit_of(tmp_path / "weighted-norm")  # the norm is a setting that does something
    assert (other / "best.safetensors").read_bytes() != (unit / "best.safetensors").read_bytes()


GRID = f"""
title = "Layers"
[base]
recipe = {{ layer = "all" }}
[base.set]
"model.inputs" = "ssl"
"model.width" = 8
"train.batch_size" = 8
"train.epochs" = 1
[[row]]
name = "one"
title = "One layer"
set = {{ "model.ssl_layer" = {TELLING} }}
reference = true
[[row]]
name = "sum"
title = "Sum"
set = {{ "model.ssl_layer" = "weighted" }}
[[row]]
name = "norm"
title = "Sum of normed"
set = {{ "model.ssl_layer" = "weighted-norm" }}
"""


def test_ablate_prints_and_reports_the_weights_of_every_row_that_has_them(
    folder: Path, tmp_path: Path
) -> None:
    write_grid(tmp_path / "layers.toml", GRID)
    places = ["--cache", str(folder / "cache"), "--out", str(tmp_path / "run")]
    usual = ["--seeds", "2", "--jobs", "1", "--device", "cpu", "--no-analysis", "--fold", "s0"]
    arguments = ["ablate", str(tmp_path / "layers.toml"), str(folder / "corpus.csv"), *places, *usual]
    result = CliRunner().invoke(main, arguments)
    assert result.exit_code == 0, result.output
    page = Page(tmp_path / "run" / "report.html")
    head, *shown = next(table for table in page.tables if table[0][0] == "Layer")
    assert head == ["Layer", "Sum", "Sum of normed"]
    assert [line[0] for line in shown] == [str(layer) for layer in range(LAYERS)]
    for column, row in enumerate(("sum", "norm"), start=1):
        units = [tmp_path / f"run/{row}/seed-{seed}/fold-s0/result.json" for seed in (0, 1)]
        found = [json.loads(path.read_text())["layer_weights"] for path in units]
        for layer, line in enumerate(shown):
            shares = [100 * of[str(layer)] for of in found]
            assert line[column] == f"{np.mean(shares):.2f} ± {np.std(shares, ddof=1):.2f}"
            printed = rf"^{layer} +{np.mean(shares):.2f} +{np.std(shares, ddof=1):.2f}$"
            assert re.search(printed, result.output, re.MULTILINE)
    assert "2 rows read a weighted sum of all layers." in page.text
    assert result.output.count("in the sum of hidden states") == 2


def test_one_layer_of_all_trains_to_the_bytes_of_that_layer_alone(folder: Path, tmp_path: Path) -> None:
    for out, cache in (("all", "cache"), ("alone", "single")):
        settings = (f"model.ssl_layer={TELLING}", "train.ssl_norm=standard")
        result = command(folder, tmp_path / out, *settings, cache=cache)
        assert result.exit_code == 0, result.output
        assert "layer weight" not in result.output
    alone, of_all = unit_of(tmp_path / "alone"), unit_of(tmp_path / "all")
    names = {path.name for path in alone.iterdir()}
    assert {"best.safetensors", "predictions.csv", "history.csv"} <= names
    for name in names - {"result.json", "inputs.safetensors"}:  # which hold the recipe, or its key
        assert (of_all / name).read_bytes() == (alone / name).read_bytes(), name
    scaled = [load_file(unit / "inputs.safetensors") for unit in (of_all, alone)]
    assert scaled[0].keys() == scaled[1].keys()
    assert all(torch.equal(tensor, scaled[1][name]) for name, tensor in scaled[0].items())
    assert "layer_weights" not in json.loads((of_all / "result.json").read_text())


def test_network_of_the_output_of_all_knows_which_layer_that_is(folder: Path, tmp_path: Path) -> None:
    result = command(folder, tmp_path / "run", "model.ssl_layer=-1", "train.ssl_norm=standard")
    assert result.exit_code == 0, result.output
    config = ModelConfig(inputs="ssl", width=8, ssl_layer=-1)
    _, inputs = load_network(unit_of(tmp_path / "run"), config, len(CLASSES))
    assert inputs.shapes["ssl"] == (FRAMES, WIDTH)
    assert inputs.recipes["ssl"]["layer"] == -1


@pytest.mark.parametrize(
    ("cache", "setting", "message"),
    [
        (
            "cache",
            "model.ssl_layer=4",
            "has no layer 4; model.ssl_layer may be 0 (before the first layer) to 3",
        ),
        (
            "cache",
            "model.ssl_layer=some",
            "model.ssl_layer = 'some' does not fit: expected one of auto, weighted, weighted-norm, or a whole number",
        ),
        (
            "cache",
            "model.ssl_layer=-2",
            "model.ssl_layer = '-2' does not fit: expected one of auto, weighted, weighted-norm, or a whole number "
            "of at least -1",
        ),
    ],
)
def test_layer_that_is_not_there_is_one_line(
    folder: Path, tmp_path: Path, cache: str, setting: str, message: str
) -> None:
    result = command(folder, tmp_path / "run", setting, cache=cache)
    assert result.exit_code == 1
    assert message in result.output
    assert not (tmp_path / "run").exists()


def test_batches_of_all_layers_stay_as_stored_and_are_scaled_by_training_speakers(folder: Path) -> None:
    label_set = LabelSet("x", {c: c for c in CLASSES})
    with Corpus(choose_recipes(folder / "cache", "ssl"), ROWS, label_set) as corpus:
        chosen = corpus.of_speakers(["s1", "s2"])
        segments = corpus.segments(chosen)
        scale = corpus.normaliser("ssl", "standard", chosen)
        assert scale is not None
        assert scale.scale.shape == (LAYERS, WIDTH)
        stored = corpus.features["ssl"].gather(*segments.rows["ssl"].T)  # (n, M, L, D)
        valid = segments.valid["ssl"]
        frames = np.concatenate([s[:, :v] for s, v in zip(stored, valid, strict=True)], axis=1)
        np.testing.assert_allclose(scale.scale, 1 / frames.astype(float).std(axis=1), rtol=1e-4)
        everything = np.arange(len(segments))
        batch = next(corpus.batches(segments, everything, len(segments), {"ssl": scale}))
        assert isinstance(batch.ssl, Layers)
        np.testing.assert_array_equal(batch.ssl.values.numpy(), stored)
        assert batch.ssl.values.dtype == torch.float16
        expected = (stored * scale.scale[:, None] + scale.shift[:, None]).mean(axis=1)
        summed = WeightedSum(LAYERS)(batch.ssl).detach().numpy()
        np.testing.assert_allclose(summed, expected, atol=1e-5)
        assert corpus.shape("ssl") == (LAYERS, FRAMES, WIDTH)
        every_row = corpus.segments(np.arange(len(ROWS))).rows["ssl"]
        assert corpus.stored_bytes() == corpus.features["ssl"].gather(*every_row.T).nbytes
        corpus.copy_to("cpu")
        again = next(corpus.batches(segments, everything, len(segments), {"ssl": scale}))
        assert torch.equal(again.ssl.values, batch.ssl.values)
