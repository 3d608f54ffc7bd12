"""mfhca_cache.features.encoder: the features of every kind of encoder, and refused weights."""

from __future__ import annotations

import json
import shutil
import warnings
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from backbone_factory import (
    VARIANTS,
    encoder_of,
    features,
    preprocessor,
    recipe_of,
    save_model,
    save_variants,
    speech,
)

from mfhca_cache.common import log
from mfhca_cache.common.errors import MfhcaError
from mfhca_cache.features.audio import read_audio
from mfhca_cache.features.backbone import resolve
from mfhca_cache.features.encoder import Encoder
from mfhca_cache.features.segments import cut


@pytest.fixture(scope="module")
def backbones(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """Small seeded checkpoints of every kind."""
    return save_variants(tmp_path_factory.mktemp("backbones"))


@pytest.fixture
def hubert(backbones: dict[str, Path], tmp_path: Path) -> Path:
    """A copy of the smallest one, to be changed."""
    return Path(shutil.copytree(backbones["hubert"], tmp_path / "hubert"))


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
    segments, lengths = speech(1.2, 3.0, 4.1)
    ours = features(encoder, segments, lengths)
    assert ours.shape == (4, 149, 16)
    assert ours.dtype == np.float32
    for row, count in enumerate(lengths):
        theirs = bare(backbones[name], segments[row, :count])
        np.testing.assert_allclose(ours[row], theirs, atol=2e-5)
        assert cosines(ours[row].astype(np.float16), theirs).min() > 0.9999


def test_real_speech_agrees_with_bare_transformers_after_float16(shared: Path) -> None:
    folder = shared / "backbones/hubert-nano"
    encoder = encoder_of(folder)
    for path in sorted((shared / "data/emodb/wav").glob("*.wav"))[::250]:
        segments, lengths = cut(read_audio(path, 16_000).samples, 48_000)
        ours = features(encoder, segments, lengths).astype(np.float16)
        for row, count in enumerate(lengths):
            assert cosines(ours[row], bare(folder, segments[row, :count])).min() > 0.9999


@pytest.mark.parametrize("name", VARIANTS)
def test_neighbours_and_place_in_a_batch_change_no_bit(backbones: dict[str, Path], name: str) -> None:
    segments, lengths = speech(1.2, 3.0, 4.1, 0.01, 7.0)
    encoder = encoder_of(backbones[name])
    together = features(encoder, segments, lengths, batch=8)
    for batch in (1, 3, 5):
        np.testing.assert_array_equal(features(encoder, segments, lengths, batch), together)
    np.testing.assert_array_equal(features(encoder, segments[::-1].copy(), lengths[::-1])[::-1], together)


@pytest.mark.parametrize(
    ("name", "sizes"), [("hubert", (1, 2, 3, 16)), ("hubert-large", (16,)), ("wavlm", (16,))]
)
def test_batch_size_changes_no_bit(backbones: dict[str, Path], name: str, sizes: tuple[int, ...]) -> None:
    backbone = resolve(str(backbones[name]))
    segments, lengths = speech(1.2, 3.0, 4.1, 0.01, 7.0)
    expected = features(encoder_of(backbones[name]), segments, lengths)
    for size in sizes:
        encoder = Encoder(backbone, recipe_of(backbone), "cpu", size)
        np.testing.assert_array_equal(features(encoder, segments, lengths, size), expected)


@pytest.mark.parametrize("name", ["hubert", "hubert-large", "wavlm-large"])
@pytest.mark.parametrize("layer", [0, 1, 2, 3])
def test_layer_k_is_the_hidden_state_k_of_the_whole_model(
    backbones: dict[str, Path], name: str, layer: int
) -> None:
    segments, lengths = speech(2.0)
    ours = features(encoder_of(backbones[name], layer=layer), segments, lengths)[0]
    np.testing.assert_allclose(ours, bare(backbones[name], segments[0, : lengths[0]], layer), atol=2e-5)


@pytest.mark.parametrize("name", ["hubert", "hubert-large", "wav2vec2", "wavlm", "wavlm-large"])
def test_all_layers_are_bit_for_bit_those_computed_one_by_one(backbones: dict[str, Path], name: str) -> None:
    segments, lengths = speech(1.2, 3.0, 4.1)
    together = features(encoder_of(backbones[name], layer="all"), segments, lengths)
    assert together.shape == (4, 4, 149, 16)
    assert encoder_of(backbones[name], layer="all").frame_shape == (4, 149, 16)
    for layer in (0, 1, 2) if name.endswith("-large") else (0, 1, 2, 3):
        alone = features(encoder_of(backbones[name], layer=layer), segments, lengths)
        np.testing.assert_array_equal(together[:, layer], alone)
    np.testing.assert_array_equal(together[:, -1], features(encoder_of(backbones[name]), segments, lengths))


def test_all_layers_of_real_speech_are_those_computed_one_by_one(shared: Path) -> None:
    folder = shared / "backbones/hubert-nano"
    path = min((shared / "data/emodb/wav").glob("*.wav"))
    segments, lengths = cut(read_audio(path, 16_000).samples, 48_000)
    together = features(encoder_of(folder, layer="all"), segments, lengths)
    assert together.shape == (len(lengths), 5, 149, 256)
    for layer in (1, 4):
        alone = features(encoder_of(folder, layer=layer), segments, lengths)
        np.testing.assert_array_equal(together[:, layer], alone)


def test_input_is_normalised_over_the_sound_alone(backbones: dict[str, Path]) -> None:
    segments, lengths = speech(0.5)
    inputs = encoder_of(backbones["hubert"]).prepare(segments, lengths)
    sound = inputs[0, : lengths[0]].astype(np.float64)
    assert abs(sound.mean()) < 1e-5
    assert abs(sound.std() - 1.0) < 1e-3  # and not sqrt(3 s / 0.5 s) = 2.4
    assert not inputs[0, lengths[0] :].any()


def test_input_is_left_alone_where_the_preprocessor_does_not_normalise(hubert: Path) -> None:
    (hubert / "preprocessor_config.json").write_text(preprocessor(mask=False, normalise=False))
    segments, lengths = speech(0.5)
    encoder = encoder_of(hubert)
    assert not encoder.recipe.normalise
    np.testing.assert_array_equal(encoder.prepare(segments, lengths), segments)


def test_mask_keeps_padding_out_only_where_the_checkpoint_asks_for_it(backbones: dict[str, Path]) -> None:
    segments, lengths = speech(1.0)
    masked = encoder_of(backbones["hubert-large"])
    unmasked = encoder_of(backbones["hubert-large"], attention_mask=False)
    assert masked.recipe.attention_mask
    assert not encoder_of(backbones["hubert"]).recipe.attention_mask
    a, b = features(masked, segments, lengths), features(unmasked, segments, lengths)
    assert np.abs(a - b)[:, :40].max() > 1e-3


@pytest.mark.parametrize("name", ["hubert", "hubert-large", "wav2vec2-large", "wavlm-large"])
def test_ten_milliseconds_and_silence_give_finite_features(backbones: dict[str, Path], name: str) -> None:
    encoder = encoder_of(backbones[name])
    segments, lengths = speech(0.01)
    assert np.isfinite(features(encoder, segments, lengths)).all()
    assert np.isfinite(features(encoder, np.zeros_like(segments), lengths)).all()
    assert encoder.backbone.valid_frames(lengths).tolist() == [1]


def test_mask_of_very_short_sound_still_keeps_padding_out(backbones: dict[str, Path]) -> None:
    encoder = encoder_of(backbones["hubert-large"])
    inputs = encoder.prepare(*speech(0.01))
    shortest = encoder.forward(inputs, np.array([160]))
    np.testing.assert_array_equal(shortest, encoder.forward(inputs, np.array([400])))  # one frame's view
    assert not np.array_equal(shortest, encoder.forward(inputs, np.array([48_000])))


def test_bfloat16_is_close_and_still_gives_float32(backbones: dict[str, Path]) -> None:
    segments, lengths = speech(3.0)
    exact = features(encoder_of(backbones["hubert"]), segments, lengths)
    rough = features(encoder_of(backbones["hubert"], compute_dtype="bfloat16"), segments, lengths)
    assert rough.dtype == np.float32
    assert not np.array_equal(rough, exact)
    assert cosines(rough, exact).min() > 0.99


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

    segments, lengths = speech(1.0)
    before = features(encoder_of(hubert), segments, lengths)
    rewrite_weights(hubert, change)
    np.testing.assert_array_equal(features(encoder_of(hubert), segments, lengths), before)


def test_damaged_weights_are_one_line(hubert: Path) -> None:
    (hubert / "model.safetensors").write_bytes(b"\0" * 100)
    with pytest.raises(MfhcaError, match=r"backbone hubert: cannot be loaded \(.+\); download it again"):
        encoder_of(hubert)


def test_pytorch_weights_are_read_where_there_are_no_safetensors(hubert: Path) -> None:
    import torch
    from safetensors.torch import load_file

    segments, lengths = speech(1.0)
    before = features(encoder_of(hubert), segments, lengths)
    torch.save(load_file(hubert / "model.safetensors"), hubert / "pytorch_model.bin")
    (hubert / "model.safetensors").unlink()
    np.testing.assert_array_equal(features(encoder_of(hubert), segments, lengths), before)


def test_recipe_that_the_checkpoint_cannot_fulfil_is_refused(hubert: Path) -> None:
    with pytest.raises(MfhcaError, match="has no layer 4; choose 0 "):
        encoder_of(hubert, layer=4)
    with pytest.raises(MfhcaError, match="expects 16000 Hz, the recipe has 8000 Hz"):
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


# --- checkpoints saved with heads, split weights, damaged or hostile folders

HEADS = [
    ("HubertForSequenceClassification", "HubertModel", {"use_weighted_layer_sum": True}),
    ("WavLMForAudioFrameClassification", "WavLMModel", {"use_weighted_layer_sum": True}),
    ("Wav2Vec2ForXVector", "Wav2Vec2Model", {"use_weighted_layer_sum": True}),
    ("UniSpeechSatForXVector", "UniSpeechSatModel", {}),
    ("Data2VecAudioForCTC", "Data2VecAudioModel", {}),
    ("Wav2Vec2ConformerForPreTraining", "Wav2Vec2ConformerModel", {}),
]


@pytest.mark.parametrize("suffix", ["safetensors", "bin"])
@pytest.mark.parametrize(("with_head", "alone", "changes"), HEADS)
def test_a_head_is_ignored_whatever_it_is_called(
    with_head: str, alone: str, changes: dict[str, Any], suffix: str, tmp_path: Path
) -> None:
    import torch
    import transformers
    from safetensors.torch import load_file

    folder = save_model(tmp_path / "head", with_head, **changes)
    getattr(transformers, alone).from_pretrained(folder).save_pretrained(tmp_path / "alone")
    shutil.copy(folder / "preprocessor_config.json", tmp_path / "alone")
    if suffix == "bin":
        torch.save(load_file(folder / "model.safetensors"), folder / "pytorch_model.bin")
        (folder / "model.safetensors").unlink()
    segments, lengths = speech(1.0)
    expected = features(encoder_of(tmp_path / "alone"), segments, lengths)
    np.testing.assert_array_equal(features(encoder_of(folder), segments, lengths), expected)


def test_ignored_heads_are_named_with_v(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    folder = save_model(tmp_path / "head", "HubertForSequenceClassification", use_weighted_layer_sum=True)
    with log.command(log.VERBOSE):
        encoder_of(folder)
    assert "weights of heads ignored: classifier, layer_weights, projector" in capsys.readouterr().err


def test_weights_under_the_prefix_of_the_encoder_are_never_a_head(tmp_path: Path) -> None:
    folder = save_model(tmp_path / "head", "HubertForCTC")
    rewrite_weights(folder, lambda t: t.update({"hubert.extra.weight": t["lm_head.weight"].clone()}))
    with pytest.raises(MfhcaError, match=r"unknown to the model: hubert\.extra\.weight"):
        encoder_of(folder)


@pytest.mark.parametrize("suffix", ["safetensors", "bin"])
def test_split_weights_give_the_same_features_and_every_part_counts(hubert: Path, suffix: str) -> None:
    import torch
    from safetensors.torch import load_file, save_file

    segments, lengths = speech(1.0)
    expected = features(encoder_of(hubert), segments, lengths)
    tensors = load_file(hubert / "model.safetensors")
    (hubert / "model.safetensors").unlink()
    stem = "model" if suffix == "safetensors" else "pytorch_model"
    files = [f"{stem}-0000{part}-of-00002.{suffix}" for part in (1, 2)]
    for part, file in enumerate(files):
        chosen = {key: value for index, (key, value) in enumerate(tensors.items()) if index % 2 == part}
        if suffix == "bin":
            torch.save(chosen, hubert / file)
        else:
            save_file(chosen, hubert / file, metadata={"format": "pt"})
    weight_map = {key: files[index % 2] for index, key in enumerate(tensors)}
    index = hubert / f"{stem}.{suffix}.index.json"
    index.write_text(json.dumps({"metadata": {}, "weight_map": weight_map}))
    np.testing.assert_array_equal(features(encoder_of(hubert), segments, lengths), expected)

    before = resolve(str(hubert)).weights_sha256
    last = hubert / files[1]
    last.write_bytes(last.read_bytes() + b"\0")
    assert resolve(str(hubert)).weights_sha256 != before
    last.unlink()
    with pytest.raises(
        MfhcaError, match=r"index.json names .*-00002-of-00002\..*, which is missing; download it"
    ):
        resolve(str(hubert))
    index.write_text(json.dumps({"weight_map": {"a": "../../other.bin"}}))
    with pytest.raises(MfhcaError, match=r"index.json has no weight_map of file names"):
        resolve(str(hubert))


def test_fields_of_the_preprocessor_outside_the_recipe_have_no_effect(hubert: Path) -> None:
    segments, lengths = speech(0.5)
    expected = encoder_of(hubert).prepare(segments, lengths)
    fields = json.loads(preprocessor(mask=False)) | {
        "padding_side": "left",
        "dither": 1.0,
        "truncation": True,
    }
    (hubert / "preprocessor_config.json").write_text(json.dumps(fields))
    np.testing.assert_array_equal(encoder_of(hubert).prepare(segments, lengths), expected)


@pytest.mark.parametrize("file", ["model.safetensors", "config.json"])
def test_an_encoder_that_is_replaced_after_it_was_hashed_is_refused(hubert: Path, file: str) -> None:
    """Its features would be stored under the key of the first one."""
    from safetensors.torch import load_file, save_file

    first = resolve(str(hubert))
    if file == "config.json":
        fields = json.loads((hubert / file).read_text())
        (hubert / file).write_text(json.dumps({**fields, "layer_norm_eps": 0.1}))
    else:
        tensors = load_file(hubert / file)
        save_file({name: 2 * tensor for name, tensor in tensors.items()}, hubert / file, {"format": "pt"})
    with pytest.raises(
        MfhcaError, match="hubert: its files are not those that this run began with; run the command again"
    ):
        Encoder(first, recipe_of(first), "cpu")
    again = resolve(str(hubert))
    Encoder(again, recipe_of(again), "cpu")


class Hostile:
    """Creates a file when it is unpickled."""

    def __init__(self, file: Path) -> None:
        self.file = file

    def __reduce__(self) -> tuple[Any, ...]:
        return Path.touch, (self.file,)


def test_pickled_weights_execute_nothing(hubert: Path, tmp_path: Path) -> None:
    import torch

    (hubert / "model.safetensors").unlink()
    torch.save({"x": Hostile(tmp_path / "executed")}, hubert / "pytorch_model.bin")
    with pytest.raises(MfhcaError, match=r"backbone hubert: cannot be loaded \(.+\); download it again"):
        encoder_of(hubert)
    assert not (tmp_path / "executed").exists()
