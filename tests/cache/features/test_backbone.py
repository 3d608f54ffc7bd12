"""mfhca_cache.features.backbone and checkpoint: reading and refusing a checkpoint without loading it."""

from __future__ import annotations

import hashlib
import json
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from backbone_factory import preprocessor, recipe_of, save_model

from mfhca_cache.common.errors import MfhcaError
from mfhca_cache.features.backbone import ARCHITECTURES, resolve
from mfhca_cache.features.checkpoint import read_preprocessor


@pytest.fixture(scope="module")
def original(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return save_model(tmp_path_factory.mktemp("backbone") / "hubert", "HubertModel")


@pytest.fixture
def hubert(original: Path, tmp_path: Path) -> Path:
    """A small checkpoint, to be changed."""
    return Path(shutil.copytree(original, tmp_path / "hubert"))


def edit(file: Path, **changes: Any) -> None:
    file.write_text(json.dumps(json.loads(file.read_text()) | changes))


def test_frame_shape_is_known_without_loading(hubert: Path) -> None:
    code = (
        "import sys; from mfhca_cache.features.backbone import resolve; "
        f"b = resolve({str(hubert)!r}); print(b.frames(48000), b.width, b.model_type); "
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


@pytest.mark.parametrize(
    ("file", "change", "message"),
    [
        (
            "config.json",
            {"model_type": "bert"},
            "model type 'bert' is not supported; use one of hubert, wav2vec2",
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


@pytest.mark.parametrize("file", ["config.json", "preprocessor_config.json"])
def test_missing_description_is_refused_by_name(hubert: Path, file: str) -> None:
    (hubert / file).unlink()
    with pytest.raises(MfhcaError, match=f"{file} is missing; download it"):
        resolve(str(hubert))


def test_missing_weight_file_is_refused(hubert: Path) -> None:
    (hubert / "model.safetensors").unlink()
    with pytest.raises(MfhcaError, match=r"no weights in .*, expected one of model\.safetensors, "):
        resolve(str(hubert))


@pytest.mark.parametrize("name", ["./gone", "/no/such/folder", "a/b/c", ""])
def test_folder_that_is_not_there_is_refused(name: str) -> None:
    with pytest.raises(MfhcaError, match="no such folder; pass a folder with"):
        resolve(name)


def test_valid_frames_are_those_that_the_model_itself_would_make(hubert: Path) -> None:
    import torch
    from transformers import AutoModel

    backbone = resolve(str(hubert))
    model = AutoModel.from_pretrained(hubert)
    lengths = [400, 719, 720, 16_000, 47_999, 48_000]
    theirs = model._get_feat_extract_output_lengths(torch.tensor(lengths))
    assert backbone.valid_frames(np.array(lengths)).tolist() == theirs.tolist()
    assert backbone.receptive_samples == 400
    assert (backbone.frames(48_000), backbone.frames(399), backbone.frames(0)) == (149, 0, 0)


def test_a_known_encoder_keeps_its_key(shared: Path) -> None:
    """Caches with hubert-nano from before split weights and processor_config.json were read stay valid."""
    backbone = resolve(str(shared / "backbones/hubert-nano"))
    weights = shared / "backbones/hubert-nano/model.safetensors"
    assert backbone.weights_sha256 == hashlib.sha256(weights.read_bytes()).hexdigest()
    assert recipe_of(backbone).key == "79e523475b60a6af"


@pytest.mark.parametrize("model_type", ["whisper", "wav2vec2-bert"])
def test_an_encoder_that_reads_a_spectrogram_is_refused_with_the_reason(
    hubert: Path, model_type: str
) -> None:
    edit(hubert / "config.json", model_type=model_type)
    with pytest.raises(MfhcaError, match=f"the input of a {model_type} model is a spectrogram, not samples"):
        resolve(str(hubert))


@pytest.mark.parametrize("model_type", ARCHITECTURES)
def test_every_architecture_exists_in_transformers(model_type: str) -> None:
    import transformers

    class_name = ARCHITECTURES[model_type].class_name
    assert getattr(transformers, class_name).config_class.model_type == model_type


@pytest.mark.parametrize(
    ("field", "value", "match"),
    [
        ("conv_stride", [0] * 7, r"conv_stride is \[0, 0.*expected whole numbers from 1 to"),
        ("conv_stride", [5, 2], "conv_kernel has 7 entries, conv_stride 2"),
        ("conv_kernel", [10.5] * 7, "conv_kernel is"),
        (
            "num_hidden_layers",
            1_000_000,
            "num_hidden_layers is 1000000, expected whole numbers from 1 to 1000",
        ),
        ("hidden_size", -1, "hidden_size is -1"),
        ("hidden_size", True, "hidden_size is True"),
    ],
)
def test_absurd_sizes_are_refused_before_anything_is_loaded(
    hubert: Path, field: str, value: Any, match: str
) -> None:
    edit(hubert / "config.json", **{field: value})
    with pytest.raises(MfhcaError, match=match):
        resolve(str(hubert))


# --- what else transformers would load


@pytest.mark.parametrize(
    ("file", "changes", "match"),
    [
        (
            "config.json",
            {"auto_map": {"AutoModel": "evil.Model"}},
            "auto_map in config.json would execute Python",
        ),
        (
            "preprocessor_config.json",
            {"auto_map": {"AutoFeatureExtractor": "evil.Extractor"}},
            "auto_map in preprocessor_config.json would execute Python",
        ),
        (
            "config.json",
            {"transformers_weights": "other.safetensors"},
            "transformers_weights in config.json names",
        ),
        ("config.json", {"quantization_config": {"bits": 4}}, "quantization_config in config.json"),
        (
            "preprocessor_config.json",
            {"feature_extractor_type": "SeamlessM4TFeatureExtractor"},
            "feature_extractor_type in preprocessor_config.json is 'SeamlessM4TFeatureExtractor', expected",
        ),
        ("preprocessor_config.json", {"do_normalize": "yes"}, "do_normalize 'yes'"),
        ("preprocessor_config.json", {"sampling_rate": 0}, "sampling_rate 0"),
    ],
)
def test_a_folder_that_asks_for_more_is_refused(
    hubert: Path, file: str, changes: dict[str, Any], match: str
) -> None:
    edit(hubert / file, **changes)
    with pytest.raises(MfhcaError, match=match):
        resolve(str(hubert))


def test_an_adapter_is_refused(hubert: Path) -> None:
    (hubert / "adapter_config.json").write_text(json.dumps({"peft_type": "LORA"}))
    with pytest.raises(
        MfhcaError, match=r"adapter_config.json describes an adapter \(LoRA\) that would change"
    ):
        resolve(str(hubert))


@pytest.mark.parametrize("normalise", [True, False])
def test_processor_config_is_read_like_preprocessor_config(hubert: Path, normalise: bool) -> None:
    fields = json.loads(preprocessor(mask=True, normalise=normalise))
    (hubert / "preprocessor_config.json").unlink()
    (hubert / "processor_config.json").write_text(
        json.dumps({"processor_class": "Wav2Vec2Processor", "feature_extractor": fields})
    )
    backbone = resolve(str(hubert))
    assert (backbone.normalise, backbone.attention_mask, backbone.sample_rate) == (normalise, True, 16_000)


def test_two_preprocessors_must_be_the_same(hubert: Path) -> None:
    """transformers would silently use processor_config.json."""
    fields = json.loads(preprocessor(mask=False))
    (hubert / "processor_config.json").write_text(json.dumps({"feature_extractor": fields}))
    assert read_preprocessor(hubert, "x").normalise
    edit(hubert / "processor_config.json", feature_extractor=fields | {"do_normalize": False})
    with pytest.raises(
        MfhcaError, match=r"preprocessor_config.json and processor_config.json contradict each other"
    ):
        resolve(str(hubert))


def test_a_processor_of_a_tokeniser_says_nothing_about_the_input(hubert: Path) -> None:
    (hubert / "processor_config.json").write_text(json.dumps({"processor_class": "Wav2Vec2Processor"}))
    assert resolve(str(hubert)).normalise
