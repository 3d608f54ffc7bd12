"""mfhca_cache.features.backbone and mfhca_cache.features.encoder: finding, refusing and running a frozen encoder."""

from __future__ import annotations

import json
import shutil
import socket
import subprocess
import sys
import warnings
from pathlib import Path
from typing import Any

import huggingface_hub
import numpy as np
import pytest

from mfhca_cache.common.errors import MfhcaError
from mfhca_cache.features.audio import cut, read_audio
from mfhca_cache.features.backbone import Backbone, resolve
from mfhca_cache.features.encoder import Encoder
from mfhca_cache.recipe.kinds import Ssl

SMALL: dict[str, Any] = {
    "conv_dim": [16] * 7,
    "conv_kernel": [10, 3, 3, 3, 3, 2, 2],
    "conv_stride": [5, 2, 2, 2, 2, 2, 2],
    "hidden_size": 16,
    "num_hidden_layers": 3,
    "num_attention_heads": 2,
    "intermediate_size": 32,
    "num_conv_pos_embeddings": 16,
    "num_conv_pos_embedding_groups": 2,
    "vocab_size": 8,
    "num_codevectors_per_group": 4,
    "codevector_dim": 8,
    "proj_codevector_dim": 8,
    "num_buckets": 32,
}
# Layer norm in the convolutions goes with an attention mask, as in the published large models.
LARGE = {"feat_extract_norm": "layer", "do_stable_layer_norm": True, "conv_bias": True}
VARIANTS: dict[str, tuple[str, dict[str, Any], bool]] = {
    "hubert": ("HubertModel", {}, False),
    "hubert-large": ("HubertModel", LARGE, True),
    "wav2vec2": ("Wav2Vec2ForPreTraining", {}, False),
    "wav2vec2-large": ("Wav2Vec2ForCTC", LARGE, True),
    "wavlm": ("WavLMModel", {}, False),
    "wavlm-large": ("WavLMModel", LARGE, True),
}


def preprocessor(mask: bool, normalise: bool = True) -> str:
    return json.dumps(
        {
            "feature_extractor_type": "Wav2Vec2FeatureExtractor",
            "feature_size": 1,
            "sampling_rate": 16000,
            "padding_side": "right",
            "padding_value": 0.0,
            "do_normalize": normalise,
            "return_attention_mask": mask,
        }
    )


@pytest.fixture(scope="module")
def backbones(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """Small seeded checkpoints of each kind, saved by transformers itself."""
    import torch
    import transformers

    root = tmp_path_factory.mktemp("backbones")
    folders = {}
    transformers.utils.logging.disable_progress_bar()
    for name, (kind, changes, mask) in VARIANTS.items():
        torch.manual_seed(0)
        class_ = getattr(transformers, kind)
        class_(class_.config_class(**SMALL, **changes)).save_pretrained(root / name)
        (root / name / "preprocessor_config.json").write_text(preprocessor(mask))
        folders[name] = root / name
    return folders


@pytest.fixture
def hubert(backbones: dict[str, Path], tmp_path: Path) -> Path:
    """A copy of the smallest one, to be damaged."""
    return Path(shutil.copytree(backbones["hubert"], tmp_path / "hubert"))


def recipe_of(backbone: Backbone, **changes: Any) -> Ssl:
    values: dict[str, Any] = {
        "weights_sha256": backbone.weights_sha256,
        "config_sha256": backbone.config_sha256,
        "normalise": backbone.normalise,
        "attention_mask": backbone.attention_mask,
        "attention": backbone.attention,
    }
    return Ssl(**(values | changes))


def encoder_of(folder: Path, **changes: Any) -> Encoder:
    backbone = resolve(str(folder))
    return Encoder(backbone, recipe_of(backbone, **changes), device="cpu")


def speech(*seconds: float) -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(7)
    cuts = [cut(rng.normal(0.01, 0.1, round(s * 16_000)).astype(np.float32), 48_000) for s in seconds]
    return np.concatenate([c[0] for c in cuts]), np.concatenate([c[1] for c in cuts])


def features(encoder: Encoder, segments: np.ndarray, real: np.ndarray, batch: int = 8) -> np.ndarray:
    inputs = encoder.prepare(segments, real)
    rows = range(0, len(real), batch)
    return np.concatenate([encoder.forward(inputs[i : i + batch], real[i : i + batch]) for i in rows])


@pytest.fixture(autouse=True)
def _torch_warns_of_transformers() -> None:
    """WavLM with a mask makes torch warn, in `bare` too."""
    warnings.filterwarnings("ignore", "Support for mismatched key_padding_mask", UserWarning)


def bare(folder: Path, samples: np.ndarray, layer: int = -1) -> np.ndarray:
    """One segment through transformers, as its documentation has it: normalise the sound, pad, forward."""
    import torch
    from transformers import AutoFeatureExtractor, AutoModel

    extract = AutoFeatureExtractor.from_pretrained(folder)
    model = AutoModel.from_pretrained(folder).eval()
    values = extract(samples, sampling_rate=16_000, return_tensors="pt").input_values
    values = torch.nn.functional.pad(values, (0, 48_000 - values.shape[1]))
    mask = None
    if extract.return_attention_mask:
        mask = (torch.arange(48_000) < len(samples)).long()[None]
    with torch.no_grad():
        outputs = model(values, attention_mask=mask, output_hidden_states=True)
    result: np.ndarray = (outputs.last_hidden_state if layer < 0 else outputs.hidden_states[layer])[0].numpy()
    return result


def cosines(a: np.ndarray, b: np.ndarray) -> np.ndarray:
    a, b = a.astype(np.float64), b.astype(np.float64)
    return (a * b).sum(-1) / np.linalg.norm(a, axis=-1) / np.linalg.norm(b, axis=-1)


@pytest.mark.parametrize("name", VARIANTS)
def test_every_kind_of_model_agrees_with_bare_transformers(backbones: dict[str, Path], name: str) -> None:
    encoder = encoder_of(backbones[name])
    segments, real = speech(1.2, 3.0, 4.1)
    ours = features(encoder, segments, real)
    assert ours.shape == (4, 149, 16)
    assert ours.dtype == np.float32
    for row, count in enumerate(real):
        theirs = bare(backbones[name], segments[row, :count])
        np.testing.assert_allclose(ours[row], theirs, atol=2e-5)
        assert cosines(ours[row].astype(np.float16), theirs).min() > 0.9999


def test_real_speech_agrees_with_bare_transformers_after_float16(shared: Path) -> None:
    folder = shared / "backbones/hubert-nano"
    encoder = encoder_of(folder)
    for path in sorted((shared / "data/emodb/wav").glob("*.wav"))[::250]:
        segments, real = cut(read_audio(path, 16_000).samples, 48_000)
        ours = features(encoder, segments, real).astype(np.float16)
        for row, count in enumerate(real):
            assert cosines(ours[row], bare(folder, segments[row, :count])).min() > 0.9999


@pytest.mark.parametrize("name", VARIANTS)
def test_neighbours_and_place_in_a_batch_change_no_bit(backbones: dict[str, Path], name: str) -> None:
    segments, real = speech(1.2, 3.0, 4.1, 0.01, 7.0)
    encoder = encoder_of(backbones[name])
    together = features(encoder, segments, real, batch=8)
    for batch in (1, 3, 5):
        np.testing.assert_array_equal(features(encoder, segments, real, batch), together)
    np.testing.assert_array_equal(features(encoder, segments[::-1].copy(), real[::-1])[::-1], together)


@pytest.mark.parametrize(
    ("name", "sizes"), [("hubert", (1, 2, 3, 16)), ("hubert-large", (16,)), ("wavlm", (16,))]
)
def test_batch_size_changes_no_bit(backbones: dict[str, Path], name: str, sizes: tuple[int, ...]) -> None:
    backbone = resolve(str(backbones[name]))
    segments, real = speech(1.2, 3.0, 4.1, 0.01, 7.0)
    expected = features(encoder_of(backbones[name]), segments, real)
    for size in sizes:
        encoder = Encoder(backbone, recipe_of(backbone), "cpu", size)
        np.testing.assert_array_equal(features(encoder, segments, real, size), expected)


@pytest.mark.parametrize("name", ["hubert", "hubert-large", "wavlm-large"])
@pytest.mark.parametrize("layer", [0, 1, 2, 3])
def test_layer_k_is_the_hidden_state_k_of_the_whole_model(
    backbones: dict[str, Path], name: str, layer: int
) -> None:
    segments, real = speech(2.0)
    ours = features(encoder_of(backbones[name], layer=layer), segments, real)[0]
    np.testing.assert_allclose(ours, bare(backbones[name], segments[0, : real[0]], layer), atol=2e-5)


@pytest.mark.parametrize("name", ["hubert", "hubert-large", "wav2vec2", "wavlm", "wavlm-large"])
def test_all_layers_are_bit_for_bit_those_computed_one_by_one(backbones: dict[str, Path], name: str) -> None:
    segments, real = speech(1.2, 3.0, 4.1)
    together = features(encoder_of(backbones[name], layer="all"), segments, real)
    assert together.shape == (4, 4, 149, 16)
    assert encoder_of(backbones[name], layer="all").frame_shape == (4, 149, 16)
    for layer in (0, 1, 2) if name.endswith("-large") else (0, 1, 2, 3):
        alone = features(encoder_of(backbones[name], layer=layer), segments, real)
        np.testing.assert_array_equal(together[:, layer], alone)
    np.testing.assert_array_equal(together[:, -1], features(encoder_of(backbones[name]), segments, real))


def test_all_layers_of_real_speech_are_those_computed_one_by_one(shared: Path) -> None:
    folder = shared / "backbones/hubert-nano"
    path = min((shared / "data/emodb/wav").glob("*.wav"))
    segments, real = cut(read_audio(path, 16_000).samples, 48_000)
    together = features(encoder_of(folder, layer="all"), segments, real)
    assert together.shape == (len(real), 5, 149, 256)
    for layer in (1, 4):
        alone = features(encoder_of(folder, layer=layer), segments, real)
        np.testing.assert_array_equal(together[:, layer], alone)


def test_input_is_normalised_over_the_sound_alone(backbones: dict[str, Path]) -> None:
    segments, real = speech(0.5)
    inputs = encoder_of(backbones["hubert"]).prepare(segments, real)
    sound = inputs[0, : real[0]].astype(np.float64)
    assert abs(sound.mean()) < 1e-5
    assert abs(sound.std() - 1.0) < 1e-3  # and not sqrt(3 s / 0.5 s) = 2.4
    assert not inputs[0, real[0] :].any()


def test_input_is_left_alone_where_the_preprocessor_does_not_normalise(hubert: Path) -> None:
    (hubert / "preprocessor_config.json").write_text(preprocessor(mask=False, normalise=False))
    segments, real = speech(0.5)
    encoder = encoder_of(hubert)
    assert not encoder.recipe.normalise
    np.testing.assert_array_equal(encoder.prepare(segments, real), segments)


def test_mask_keeps_padding_out_only_where_the_checkpoint_asks_for_it(backbones: dict[str, Path]) -> None:
    segments, real = speech(1.0)
    masked = encoder_of(backbones["hubert-large"])
    unmasked = encoder_of(backbones["hubert-large"], attention_mask=False)
    assert masked.recipe.attention_mask
    assert not encoder_of(backbones["hubert"]).recipe.attention_mask
    a, b = features(masked, segments, real), features(unmasked, segments, real)
    assert np.abs(a - b)[:, :40].max() > 1e-3


@pytest.mark.parametrize("name", ["hubert", "hubert-large", "wav2vec2-large", "wavlm-large"])
def test_ten_milliseconds_and_silence_give_finite_features(backbones: dict[str, Path], name: str) -> None:
    encoder = encoder_of(backbones[name])
    segments, real = speech(0.01)
    assert np.isfinite(features(encoder, segments, real)).all()
    assert np.isfinite(features(encoder, np.zeros_like(segments), real)).all()
    assert encoder.backbone.valid_frames(real).tolist() == [1]


def test_mask_of_very_short_sound_still_keeps_padding_out(backbones: dict[str, Path]) -> None:
    encoder = encoder_of(backbones["hubert-large"])
    inputs = encoder.prepare(*speech(0.01))
    shortest = encoder.forward(inputs, np.array([160]))
    np.testing.assert_array_equal(shortest, encoder.forward(inputs, np.array([400])))  # one frame's view
    assert not np.array_equal(shortest, encoder.forward(inputs, np.array([48_000])))


def test_valid_frames_are_those_that_the_model_itself_would_make(backbones: dict[str, Path]) -> None:
    import torch
    from transformers import AutoModel

    backbone = resolve(str(backbones["hubert"]))
    model = AutoModel.from_pretrained(backbones["hubert"])
    lengths = [400, 719, 720, 16_000, 47_999, 48_000]
    theirs = model._get_feat_extract_output_lengths(torch.tensor(lengths))
    assert backbone.valid_frames(np.array(lengths)).tolist() == theirs.tolist()
    assert backbone.receptive_samples == 400
    assert (backbone.frames(48_000), backbone.frames(399), backbone.frames(0)) == (149, 0, 0)


def test_bfloat16_is_close_and_still_gives_float32(backbones: dict[str, Path]) -> None:
    segments, real = speech(3.0)
    exact = features(encoder_of(backbones["hubert"]), segments, real)
    rough = features(encoder_of(backbones["hubert"], compute_dtype="bfloat16"), segments, real)
    assert rough.dtype == np.float32
    assert not np.array_equal(rough, exact)
    assert cosines(rough, exact).min() > 0.99


def test_frame_shape_is_known_without_loading(backbones: dict[str, Path]) -> None:
    code = (
        "import sys; from mfhca_cache.features.backbone import resolve; "
        f"b = resolve({str(backbones['hubert'])!r}); print(b.frames(48000), b.width, b.model_type); "
        "sys.exit(any(m in sys.modules for m in ('torch', 'transformers')))"
    )
    run = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert (run.returncode, run.stdout.split()) == (0, ["149", "16", "hubert"]), run.stderr


def test_renamed_folder_is_the_same_recipe_and_changed_weights_are_another(hubert: Path) -> None:
    before = recipe_of(resolve(str(hubert))).key
    renamed = hubert.rename(hubert.with_name("other name"))
    assert recipe_of(resolve(str(renamed))).key == before
    data = bytearray((renamed / "model.safetensors").read_bytes())
    data[-1] ^= 1
    (renamed / "model.safetensors").write_bytes(data)
    assert recipe_of(resolve(str(renamed))).key != before


def test_loading_says_nothing(hubert: Path, capfd: pytest.CaptureFixture[str]) -> None:
    encoder_of(hubert)
    assert capfd.readouterr() == ("", "")


def rewrite_weights(folder: Path, change: Any) -> None:
    from safetensors.torch import load_file, save_file

    tensors = load_file(folder / "model.safetensors")
    change(tensors)
    save_file(tensors, folder / "model.safetensors", metadata={"format": "pt"})


def test_missing_weights_are_refused_by_name(hubert: Path) -> None:
    rewrite_weights(hubert, lambda tensors: tensors.pop("encoder.layers.1.final_layer_norm.weight"))
    with pytest.raises(
        MfhcaError, match=r"missing from the weights: encoder\.layers\.1\.final_layer_norm\.w"
    ):
        encoder_of(hubert)


def test_unknown_weights_are_refused_by_name(hubert: Path) -> None:
    rewrite_weights(hubert, lambda t: t.update({"encoder.extra": t["encoder.layer_norm.weight"].clone()}))
    with pytest.raises(MfhcaError, match=r"unknown to the model: encoder\.extra"):
        encoder_of(hubert)


def test_weights_of_another_shape_are_refused_by_name(hubert: Path) -> None:
    def shorten(tensors: dict[str, Any]) -> None:
        tensors["encoder.layer_norm.weight"] = tensors["encoder.layer_norm.weight"][:8].clone()

    rewrite_weights(hubert, shorten)
    with pytest.raises(
        MfhcaError, match=r"encoder\.layer_norm\.weight, \(8,\) in the weights, \(16,\) in the"
    ):
        encoder_of(hubert)


def test_masking_vector_may_be_missing_and_heads_may_be_extra(hubert: Path) -> None:
    def change(tensors: dict[str, Any]) -> None:
        tensors.pop("masked_spec_embed")
        tensors["lm_head.weight"] = tensors["encoder.layer_norm.weight"].clone()

    segments, real = speech(1.0)
    before = features(encoder_of(hubert), segments, real)
    rewrite_weights(hubert, change)
    np.testing.assert_array_equal(features(encoder_of(hubert), segments, real), before)


def test_damaged_weights_are_one_line(hubert: Path) -> None:
    (hubert / "model.safetensors").write_bytes(b"\0" * 100)
    with pytest.raises(MfhcaError, match=r"backbone hubert: cannot be loaded \(.+\); download it again"):
        encoder_of(hubert)


def test_pytorch_weights_are_read_where_there_are_no_safetensors(hubert: Path) -> None:
    import torch
    from safetensors.torch import load_file

    segments, real = speech(1.0)
    before = features(encoder_of(hubert), segments, real)
    torch.save(load_file(hubert / "model.safetensors"), hubert / "pytorch_model.bin")
    (hubert / "model.safetensors").unlink()
    np.testing.assert_array_equal(features(encoder_of(hubert), segments, real), before)


@pytest.mark.parametrize("file", ["config.json", "preprocessor_config.json"])
def test_missing_description_is_refused_by_name(hubert: Path, file: str) -> None:
    (hubert / file).unlink()
    with pytest.raises(MfhcaError, match=f"{file} is missing; download it"):
        resolve(str(hubert))


def test_missing_weight_file_is_refused(hubert: Path) -> None:
    (hubert / "model.safetensors").unlink()
    with pytest.raises(MfhcaError, match=r"has neither model\.safetensors nor pytorch_model\.bin"):
        resolve(str(hubert))


@pytest.mark.parametrize(
    ("file", "change", "message"),
    [
        (
            "config.json",
            {"model_type": "whisper"},
            "model type 'whisper' is not supported; use one of hubert",
        ),
        ("config.json", {"add_adapter": True}, "its adapter changes the frame rate"),
        ("config.json", {"hidden_size": "wide"}, "is malformed"),
        ("preprocessor_config.json", {"padding_value": -1.0}, "not that of a waveform encoder"),
    ],
)
def test_unsuitable_checkpoint_is_refused(
    hubert: Path, file: str, change: dict[str, Any], message: str
) -> None:
    value = json.loads((hubert / file).read_text())
    (hubert / file).write_text(json.dumps(value | change))
    with pytest.raises(MfhcaError, match=message):
        resolve(str(hubert))


def test_recipe_that_the_checkpoint_cannot_fulfil_is_refused(hubert: Path) -> None:
    with pytest.raises(MfhcaError, match="has no layer 4; choose 0 "):
        encoder_of(hubert, layer=4)
    with pytest.raises(MfhcaError, match="wants 16000 Hz, the recipe has 8000 Hz"):
        encoder_of(hubert, sample_rate=8000)
    with pytest.raises(MfhcaError, match="segments of 399 samples are too short"):
        encoder_of(hubert, segment_samples=399)


def test_device_that_is_not_there_is_refused(hubert: Path) -> None:
    import torch

    if torch.cuda.is_available():
        pytest.skip("there is a CUDA device")
    backbone = resolve(str(hubert))
    with pytest.raises(MfhcaError, match="device 'cuda' is not available here; choose one of cpu"):
        Encoder(backbone, recipe_of(backbone), device="cuda")


@pytest.mark.parametrize("name", ["./gone", "/no/such/folder", "a/b/c", ""])
def test_folder_that_is_not_there_is_refused(name: str) -> None:
    with pytest.raises(MfhcaError, match="no such folder; pass a folder with"):
        resolve(name)


def test_hub_name_out_of_reach_is_refused_with_the_remedy(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(tmp_path))
    with pytest.raises(
        MfhcaError,
        match=r"backbone nobody/nothing: .*HF_HUB_OFFLINE is set.*; download it elsewhere .* and pass the fold",
    ):
        resolve("nobody/nothing")


def test_machine_without_network_is_told_at_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def nowhere(*_: object) -> None:
        raise socket.gaierror(-2, "Name or service not known")

    monkeypatch.setattr(socket, "getaddrinfo", nowhere)
    monkeypatch.setattr("mfhca_cache.features.backbone.getproxies", dict)
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", False)
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(tmp_path))
    with pytest.raises(
        MfhcaError, match=r"not to be had from the hub \(gaierror: .*Name or service not known"
    ):
        resolve("nobody/nothing")


def test_hub_name_is_found_in_the_local_cache_without_the_network(
    backbones: dict[str, Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def offline(*args: Any, local_files_only: bool, **options: Any) -> str:
        assert local_files_only, "the network was asked for what is there"
        return str(download(*args, local_files_only=True, **options))

    download = huggingface_hub.hf_hub_download
    monkeypatch.setattr(huggingface_hub, "hf_hub_download", offline)
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(tmp_path))
    repository = tmp_path / "models--someone--hubert-tiny"
    shutil.copytree(backbones["hubert"], repository / "snapshots/0123")
    (repository / "refs").mkdir()
    (repository / "refs/main").write_text("0123")
    found = resolve("someone/hubert-tiny")
    assert found.name == "hubert-tiny"
    assert found.weights_sha256 == resolve(str(backbones["hubert"])).weights_sha256
