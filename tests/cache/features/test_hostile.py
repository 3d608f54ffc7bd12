"""A model folder that wants to execute code or load something else, given to every command that takes an encoder."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from audio_factory import manifest_of, write_audio
from backbone_factory import recipe_of, save_model
from click.testing import CliRunner

from mfhca_cache.cli import main
from mfhca_cache.common.errors import MfhcaError
from mfhca_cache.features.backbone import resolve
from mfhca_cache.features.online import OnlineExtractor
from mfhca_cache.manifest.utterance import Utterance


def hostile(folder: Path, file: str, fields: dict[str, Any]) -> Path:
    """A sound checkpoint with Python code that leaves a file behind when it is executed."""
    save_model(folder, "HubertModel")
    (folder / "evil.py").write_text(f"open({str(folder / 'executed')!r}, 'w')\nclass Evil: pass\n")
    content = json.loads((folder / file).read_text()) if (folder / file).exists() else {}
    (folder / file).write_text(json.dumps(content | fields))
    return folder


KINDS = [
    (
        "config.json",
        {"auto_map": {"AutoModel": "evil.Evil", "AutoConfig": "evil.Evil"}},
        "auto_map in config",
    ),
    (
        "preprocessor_config.json",
        {"auto_map": {"AutoFeatureExtractor": "evil.Evil"}, "feature_extractor_type": "Evil"},
        "auto_map in preprocessor_config",
    ),
    ("processor_config.json", {"auto_map": {"AutoProcessor": "evil.Evil"}}, "auto_map in processor_config"),
    ("adapter_config.json", {"peft_type": "LORA", "auto_mapping": {"x": "evil"}}, "describes an adapter"),
]


@pytest.mark.parametrize("command", ["features", "status", "doctor"])
@pytest.mark.parametrize(("file", "fields", "message"), KINDS)
def test_no_command_of_stage_one_executes_code(
    command: str, file: str, fields: dict[str, Any], message: str, tmp_path: Path
) -> None:
    folder = hostile(tmp_path / "model", file, fields)
    write_audio(tmp_path / "audio" / "a.wav", "a", 0.5)
    manifest = manifest_of(tmp_path / "rows.csv", [Utterance("a", "a.wav", "a", "joy")])
    places = [
        "--root",
        str(tmp_path / "audio"),
        "--cache",
        str(tmp_path / "cache"),
        "--backbone",
        str(folder),
    ]
    result = CliRunner().invoke(main, [command, str(manifest.path), *places], input="y\ny\ny\n")  # as `yes |`
    assert result.exit_code == 1
    assert message in result.output
    assert not (folder / "executed").exists()


class Hostile:
    """Creates a file when it is unpickled."""

    def __init__(self, file: Path) -> None:
        self.file = file

    def __reduce__(self) -> tuple[Any, ...]:
        return Path.touch, (self.file,)


def test_features_unpickles_nothing_but_weights(tmp_path: Path) -> None:
    import torch

    folder = save_model(tmp_path / "model", "HubertModel")
    (folder / "model.safetensors").unlink()
    torch.save({"x": Hostile(tmp_path / "executed")}, folder / "pytorch_model.bin")
    write_audio(tmp_path / "audio" / "a.wav", "a", 0.5)
    manifest = manifest_of(tmp_path / "rows.csv", [Utterance("a", "a.wav", "a", "joy")])
    places = ["--root", tmp_path / "audio", "--cache", tmp_path / "cache", "--backbone", folder]
    result = CliRunner().invoke(main, ["features", str(manifest.path), *map(str, places)], input="y\ny\n")
    assert result.exit_code == 1
    assert "model: cannot be loaded (" in result.output
    assert not (tmp_path / "executed").exists()


@pytest.mark.parametrize(("file", "fields", "message"), KINDS)
def test_prediction_executes_no_code(file: str, fields: dict[str, Any], message: str, tmp_path: Path) -> None:
    """`predict` and `evaluate`, of runs and of bundles, load encoders in this way alone."""
    sound = save_model(tmp_path / "sound", "HubertModel")
    recipe = recipe_of(resolve(str(sound))).to_dict()
    folder = hostile(tmp_path / "model", file, fields)
    with pytest.raises(MfhcaError, match=message):
        OnlineExtractor([recipe], str(folder))
    assert not (folder / "executed").exists()
