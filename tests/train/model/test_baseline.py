"""The baseline's network (AlexNet, MFCC branch, co-attention), its settings, and its way through `cv`."""

from __future__ import annotations

import itertools
import json
import sys
import types
from pathlib import Path

import pytest
import torch
from corpus_factory import CLASSES, SSL, SSL_SHAPE, request, utterances, write_features
from torch import Tensor
from torch.nn import functional

from mfhca_cache.common.errors import MfhcaError
from mfhca_cache.recipe.kinds import LogSpec, Mfcc
from mfhca_train.config.parse import with_settings
from mfhca_train.config.settings import Config, ModelConfig
from mfhca_train.model.baseline import ALEXNET_FILE, AlexNet, MfccBranch, imagenet_weights
from mfhca_train.model.network import MFHCA, parameter_counts
from mfhca_train.runs.crossval import cross_validate

T, F, L, D, K = 70, 63, 14, 32, 4
FRAMES, COEFFICIENTS = 10, 6
WIDTH = 16
BASELINE = {"spec_encoder": "alexnet", "mfcc": True, "fusion": "coattention", "bilstm": False}
# torchvision's alexnet, its `features` alone
ALEXNET = {
    "features.0.weight": (64, 3, 11, 11),
    "features.0.bias": (64,),
    "features.3.weight": (192, 64, 5, 5),
    "features.3.bias": (192,),
    "features.6.weight": (384, 192, 3, 3),
    "features.6.bias": (384,),
    "features.8.weight": (256, 384, 3, 3),
    "features.8.bias": (256,),
    "features.10.weight": (256, 256, 3, 3),
    "features.10.bias": (256,),
}


def model(**settings: object) -> MFHCA:
    torch.manual_seed(0)
    config = ModelConfig(**{"width": WIDTH, "dropout": 0.0, **settings})  # type: ignore[arg-type]
    return MFHCA(config, K, L, D, mfcc_shape=(FRAMES, COEFFICIENTS))


def batch(network: MFHCA, n: int = 4) -> dict[str, Tensor]:
    generator = torch.Generator().manual_seed(0)
    found = {"spec": torch.randn(n, 1, T, F, generator=generator)}
    found["spec_valid"] = torch.tensor([T, T // 2, 1, T])[:n]
    if network.has_ssl:
        found["ssl"] = torch.randn(n, L, D, generator=generator)
        found["ssl_valid"] = torch.tensor([L, L // 2, 1, L])[:n]
    if network.config.mfcc:
        found["mfcc"] = torch.randn(n, FRAMES, COEFFICIENTS, generator=generator)
        found["mfcc_valid"] = torch.tensor([FRAMES, FRAMES // 2, 1, FRAMES])[:n]
    return found


VARIANTS = [
    {"spec_encoder": "alexnet", "inputs": "spec"},
    {"spec_encoder": "alexnet", "fusion": "concat"},
    *({"spec_encoder": "alexnet", "hca": hca} for hca in ("temporal", "channel", "frames", "released")),
    BASELINE,
    {**BASELINE, "fusion": "concat"},
    {**BASELINE, "spec_encoder": "mf", "grf_channels": (4, 6), "bilstm": True},
]


@pytest.mark.parametrize("masked", [False, True])
@pytest.mark.parametrize("settings", VARIANTS, ids=str)
def test_every_variant_gives_logits_and_gradients_everywhere(settings: dict, masked: bool) -> None:
    network = model(**settings, mask_padding=masked)
    output = network(**batch(network))
    assert output.logits.shape == (4, K)
    sides = 1 + network.has_ssl + network.config.mfcc
    assert output.features.shape == (4, sides * WIDTH)
    functional.cross_entropy(output.logits, torch.tensor([0, 1, 2, 3])).backward()
    without = [n for n, p in network.named_parameters() if p.grad is None or not p.grad.isfinite().all()]
    assert without == []
    if settings == BASELINE and not masked:
        assert [n for n, p in network.named_parameters() if not p.grad.any()] == []


@pytest.mark.parametrize("settings", [BASELINE, VARIANTS[4]], ids=str)
def test_the_output_of_a_segment_does_not_depend_on_its_batch(settings: dict) -> None:
    network = model(**settings, mask_padding=True).eval()
    inputs = batch(network)
    order = torch.tensor([3, 1])
    some = network(**{name: x[order] for name, x in inputs.items()}).logits
    torch.testing.assert_close(network(**inputs).logits[order], some, rtol=1e-4, atol=1e-5)


def test_the_baseline_has_the_parameters_of_its_published_code() -> None:
    """25.7 M: AlexNet's features, 9,216 -> 128, the BiLSTM, 153,600 -> 128, 256 -> 149, 768 -> 128, three layers."""
    config = ModelConfig(**BASELINE)  # type: ignore[arg-type]
    with torch.device("meta"):
        counts = parameter_counts(MFHCA(config, 4))
        published = parameter_counts(MFHCA(config, 4, in_channels=3))
    assert counts == {
        "alexnet": 2_454_208,
        "spec_out": 9_216 * 128 + 128,
        "mfcc": 2_187_264 + 153_600 * 128 + 128,
        "fusion": 256 * 149 + 149 + 768 * 128 + 128,
        "classifier": 384 * 128 + 128 + 128 * 128 + 128 + 128 * 4 + 4,
        "total": 25_685_209,
    }
    assert published["total"] == 25_700_697
    assert published["alexnet"] == 2_469_696  # torchvision's


def test_coattention_with_mfccs_agrees_with_the_baseline_written_out() -> None:
    network = model(**BASELINE).eval()
    inputs = batch(network, 2)
    output = network(**inputs)
    x = functional.adaptive_avg_pool2d(network.alexnet(inputs["spec"]), (6, 6)).flatten(1)
    f_spec = functional.relu(network.spec_out(x))
    recurrent = network.mfcc.lstm(inputs["mfcc"])[0].reshape(2, FRAMES * 512)
    f_mfcc = functional.relu(network.mfcc.out(recurrent))
    weights = functional.relu(network.fusion.weights(torch.cat([f_spec, f_mfcc], dim=1)))
    summed = (weights[:, :, None] * inputs["ssl"]).sum(dim=1)
    f_ssl = functional.relu(network.fusion.out(summed))
    torch.testing.assert_close(output.attention, weights)
    torch.testing.assert_close(
        output.features, torch.cat([f_spec, f_mfcc, f_ssl], dim=1), rtol=1e-4, atol=1e-5
    )


def test_alexnet_is_torchvisions_in_names_and_shapes_and_from_scratch_xavier() -> None:
    torch.manual_seed(0)
    network = AlexNet(in_channels=3)
    assert {name: tuple(x.shape) for name, x in network.state_dict().items()} == ALEXNET
    for name, x in network.named_parameters():
        if name.endswith("bias"):
            assert not x.any()
        else:
            fans = (ALEXNET[name][0] + ALEXNET[name][1]) * ALEXNET[name][2] ** 2
            bound = (6 / fans) ** 0.5
            assert 0.98 * bound < x.abs().max() <= bound
    assert AlexNet()(torch.zeros(1, 1, 300, 200)).shape == (1, 256, 8, 5)


@pytest.mark.parametrize(("size", "cells"), [((63, 63), (1, 1)), ((300, 80), (8, 1))])
def test_alexnet_takes_small_spectrograms_and_refuses_smaller_ones(
    size: tuple[int, int], cells: tuple[int, int]
) -> None:
    network = AlexNet()
    assert network(torch.zeros(1, 1, *size)).shape == (1, 256, *cells)
    with pytest.raises(MfhcaError, match=r"at least 63 x 63, these are 300 x 62; use model.spec_encoder=mf"):
        network(torch.zeros(1, 1, 300, 62))


def test_with_mask_padding_the_branch_runs_over_the_real_frames_only() -> None:
    torch.manual_seed(0)
    branch = MfccBranch(ModelConfig(width=WIDTH), 8, 5).eval()
    x = torch.randn(3, 8, 5)
    valid = torch.tensor([8, 3, 1])
    inner = torch.zeros(3, 8, 2 * branch.lstm.hidden_size)
    for row, count in enumerate(valid):
        inner[row, :count] = branch.lstm(x[row : row + 1, :count])[0][0]
    torch.testing.assert_close(branch(x, valid), functional.relu(branch.out(inner.flatten(1))))
    torch.testing.assert_close(branch(x, torch.full((3,), 8)), branch(x, None))


def test_bfloat16_autocast_stays_close() -> None:
    network = model(**BASELINE).eval()
    inputs = batch(network)
    exact = network(**inputs).logits
    with torch.autocast("cpu", dtype=torch.bfloat16):
        rounded = network(**inputs).logits
    torch.testing.assert_close(rounded.float(), exact, rtol=0.1, atol=0.05)


def torchvision(monkeypatch: pytest.MonkeyPatch, get_state_dict: object) -> None:
    """A stand-in for torchvision.models, whose weights come from the given function."""
    weights = types.SimpleNamespace(get_state_dict=get_state_dict)
    fake = types.SimpleNamespace(AlexNet_Weights=types.SimpleNamespace(IMAGENET1K_V1=weights))
    monkeypatch.setitem(sys.modules, "torchvision.models", fake)  # type: ignore[arg-type]


def test_imagenet_weights_judge_one_channel_like_three_equal_ones(monkeypatch: pytest.MonkeyPatch) -> None:
    generator = torch.Generator().manual_seed(0)
    trained = {name: torch.randn(shape, generator=generator) * 0.01 for name, shape in ALEXNET.items()}
    trained["classifier.1.weight"] = torch.zeros(1)
    torchvision(monkeypatch, lambda **options: {n: x.clone() for n, x in trained.items()} if options else {})
    monkeypatch.setattr(torch.hub, "get_dir", lambda: "absent")
    spec = torch.randn(1, 1, 70, 70, generator=generator)
    one, three = AlexNet("imagenet"), AlexNet("imagenet", in_channels=3)
    assert torch.equal(three.features[0].weight, trained["features.0.weight"])
    torch.testing.assert_close(one(spec), three(spec.expand(1, 3, 70, 70)), rtol=1e-4, atol=1e-6)


def test_imagenet_weights_that_cannot_be_had_are_one_line_with_a_remedy(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def unreachable(**_: object) -> None:
        raise OSError("Name or service not known")

    torchvision(monkeypatch, unreachable)
    with pytest.raises(MfhcaError, match=r"Name or service.*put alexnet-owt-7be5be79.pth into") as no_network:
        imagenet_weights()
    monkeypatch.setitem(sys.modules, "torchvision.models", None)  # type: ignore[arg-type]
    with pytest.raises(MfhcaError, match=r"needs torchvision.*pip install torchvision") as not_installed:
        AlexNet("imagenet")
    assert "\n" not in str(no_network.value) + str(not_installed.value)


class Hostile:
    """Creates a file when it is unpickled."""

    def __init__(self, file: Path) -> None:
        self.file = file

    def __reduce__(self) -> tuple[object, ...]:
        return Path.touch, (self.file,)


def test_another_file_under_the_name_of_imagenet_weights_is_refused_and_not_executed(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """The setting is part of a run's identity, and says nothing about the content of torch's cache."""
    (tmp_path / "checkpoints").mkdir()
    torch.save({"features.0.weight": Hostile(tmp_path / "executed")}, tmp_path / "checkpoints" / ALEXNET_FILE)
    monkeypatch.setattr(torch.hub, "get_dir", lambda: str(tmp_path))
    url = f"https://example.org/{ALEXNET_FILE}"
    torchvision(monkeypatch, lambda **options: torch.hub.load_state_dict_from_url(url, **options))
    with pytest.raises(MfhcaError, match=f"{ALEXNET_FILE} has other content than torchvision's file"):
        imagenet_weights()
    assert not (tmp_path / "executed").exists()


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"spec_encoder": "alexnet", "grf": "released"}, "model.grf would be ignored.*spec_encoder=alexnet"),
        ({"spec_encoder": "alexnet", "grf_channels": "16,32"}, "model.grf_channels would be ignored"),
        ({"spec_encoder": "alexnet", "grf_rate": "2"}, "model.grf_rate would be ignored"),
        ({"alexnet_weights": "imagenet"}, "model.alexnet_weights would be ignored.*spec_encoder=mf"),
        ({"inputs": "ssl", "spec_encoder": "alexnet"}, "model.spec_encoder would be ignored"),
        (
            {"mfcc": "true"},
            "it needs model.inputs=both and model.fusion=coattention or concat, not both and hca",
        ),
        ({"inputs": "spec", "mfcc": "true"}, "belongs to the baseline"),
        ({"inputs": "ssl", "mfcc": "true"}, "belongs to the baseline"),
        ({"spec_encoder": "vgg"}, "'vgg' does not fit: expected mf.alexnet"),
    ],
)
def test_settings_that_would_be_ignored_or_mean_nothing_are_refused(settings: dict, message: str) -> None:
    with pytest.raises(MfhcaError, match=message):
        with_settings(Config(), {f"model.{name}": value for name, value in settings.items()})


def test_settings_of_the_baseline_are_accepted() -> None:
    text = {f"model.{name}": str(value) for name, value in BASELINE.items()}
    assert with_settings(Config(), text).model == ModelConfig(**BASELINE)  # type: ignore[arg-type]
    for fusion, encoder in itertools.product(("coattention", "concat"), ("mf", "alexnet")):
        with_settings(Config(), {"model.mfcc": "on", "model.fusion": fusion, "model.spec_encoder": encoder})


def test_the_baseline_goes_through_cv(tmp_path: Path) -> None:
    rows = utterances(each=4)
    kinds = (
        (LogSpec(frames=64, bins=63, dtype="float32"), (64, 63)),
        (Mfcc(frames=FRAMES, bands=6, coefficients=6, dtype="float32"), (FRAMES, COEFFICIENTS)),
        (SSL, SSL_SHAPE),
    )
    write_features(tmp_path / "cache", rows, kinds=kinds)
    text = {f"model.{name}": str(value) for name, value in BASELINE.items()}
    small = {"model.width": "8", "train.epochs": "1", "train.batch_size": "8", "train.lr": "1e-3"}
    config = with_settings(Config(), {**text, **small, "model.mask_padding": "true"})
    results = cross_validate(request(tmp_path, rows, config=config, folds=("s0",)))
    run = json.loads((tmp_path / "run/run.json").read_text())
    assert run["recipes"] == {"spec": kinds[0][0].key, "mfcc": kinds[1][0].key, "ssl": SSL.key}
    assert results["n_utterances"] == 4
    assert (
        results["parameters"]
        == parameter_counts(MFHCA(config.model, len(CLASSES), *SSL_SHAPE, mfcc_shape=(FRAMES, COEFFICIENTS)))[
            "total"
        ]
    )
