"""Encoders and bundles in the local hub cache, which is a folder of the test's own."""

from __future__ import annotations

import os
import shutil
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from pages import block, python, shell
from voice_factory import trained

from mfhca_cache.common.errors import MfhcaError
from mfhca_train.inference.bundle import read_bundle, write_bundle
from mfhca_train.inference.ensemble import read_run
from mfhca_train.inference.hub import EncoderSource, encoder_of, find_bundle
from mfhca_train.inference.predictor import Predictor

ENCODER, BUNDLE, COMMIT = "someone/hubert-demo", "someone/emodb-networks", "0123abc"


def snapshot(hub: Path, name: str, content: Path) -> Path:
    """Puts files where a download would."""
    model = hub / f"models--{name.replace('/', '--')}"
    shutil.copytree(content, model / "snapshots" / COMMIT)
    (model / "refs").mkdir()
    (model / "refs/main").write_text(COMMIT)
    return model / "snapshots" / COMMIT


@pytest.fixture
def hub(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The local hub cache with the encoder of the run, and nothing to be reached beyond it."""
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(tmp_path / "hub"))
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    snapshot(tmp_path / "hub", ENCODER, trained().backbone)
    return tmp_path / "hub"


def test_the_encoder_is_found_by_its_digests_whatever_it_is_called(hub: Path) -> None:
    ensemble = read_run(trained().run)
    found = encoder_of(ensemble)
    assert found is not None
    assert (found.name, found.revision, found.layer) == (ENCODER, COMMIT, -1)
    assert encoder_of(ensemble, ENCODER) == found
    elsewhere = encoder_of(ensemble, str(trained().backbone))
    assert elsewhere == replace_name(found)
    weights = hub / "models--someone--hubert-demo/snapshots" / COMMIT / "model.safetensors"
    data = bytearray(weights.read_bytes())
    data[-1] ^= 1
    weights.write_bytes(data)
    assert encoder_of(ensemble) == replace_name(found)
    with pytest.raises(MfhcaError, match="not the encoder of the training features"):
        encoder_of(ensemble, ENCODER)
    with pytest.raises(MfhcaError, match="is not in the local hub cache; pass --backbone"):
        Predictor.open(trained().run)


def replace_name(source: EncoderSource) -> EncoderSource:
    """The same encoder, not from the hub."""
    return EncoderSource(
        weights_sha256=source.weights_sha256, config_sha256=source.config_sha256, layer=source.layer
    )


def test_networks_on_spectrograms_need_no_encoder(hub: Path) -> None:
    ensemble = read_run(trained().run)
    member = ensemble.members[0]
    spec = {"spec": member.inputs.recipes["spec"]}
    alone = replace(ensemble, members=(replace(member, inputs=replace(member.inputs, recipes=spec)),))
    assert encoder_of(alone) is None
    with pytest.raises(MfhcaError, match="read no hidden states; leave it out"):
        encoder_of(alone, str(hub))


def test_a_model_is_shared_as_the_page_says(
    hub: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    made = trained()
    (tmp_path / "runs").mkdir()
    (tmp_path / "runs/emodb").symlink_to(made.run)
    page = block("share-a-model.md", "shell", "export").replace(" --onnx", " --onnx --fold 1F --fold 1M")
    assert "2 networks of 2 folds" in shell(tmp_path, page)
    bundle = tmp_path / "emodb-networks"
    assert sorted(path.name for path in bundle.iterdir()) == [
        "README.md",
        "card.json",
        "networks.safetensors",
        "onnx",
    ]
    example = block("share-a-model.md", "test", "onnx")
    # The masking run reads valid frames too, which the page's example has no need of.
    example = example.replace("fold-03", "fold-1M").replace(
        "np.float32)", "np.float32 if put.type == 'tensor(float)' else np.int64)"
    )
    assert "anger" in python(tmp_path, example, capsys)
    (tmp_path / "a.wav").symlink_to(made.audio("1F")[0])
    folder = snapshot(hub, BUNDLE, bundle)
    assert any(
        emotion in python(tmp_path, block("share-a-model.md", "test", "pretrained"), capsys)
        for emotion in ("anger", "happiness", "neutral")
    )
    there = Predictor.from_pretrained(BUNDLE).predict([tmp_path / "a.wav"])[0]
    here = Predictor.from_pretrained(os.fspath(bundle), made.backbone).predict([tmp_path / "a.wav"])[0]
    np.testing.assert_array_equal(there.log_probabilities, here.log_probabilities)
    with pytest.raises(MfhcaError, match=r"nobody/nothing: no such folder, and could not be downloaded"):
        Predictor.from_pretrained("nobody/nothing")
    shutil.rmtree(hub / "models--someone--hubert-demo")
    with pytest.raises(
        MfhcaError, match=f"{ENCODER}, revision {COMMIT}, weights .* not in the local hub cache"
    ):
        Predictor.from_pretrained(folder)


@pytest.mark.usefixtures("hub")
def test_a_bundle_knows_its_encoder_and_its_corpus(tmp_path: Path) -> None:
    from mfhca_cache.manifest.card import find_card, read_card

    ensemble = read_run(trained().run)
    path = find_card("demo")
    assert path is not None
    write_bundle(ensemble, tmp_path / "bundle", encoder_of(ensemble), [read_card(path)])
    card = read_bundle(tmp_path / "bundle").card
    assert card.encoder.name == ENCODER  # type: ignore[attr-defined]
    readme = (tmp_path / "bundle/README.md").read_text()
    for text in (
        f'base_model: "{ENCODER}"',
        "- Licence: MIT, as the program that makes it",
        f"- Revision: `{COMMIT}`",
        "4 networks (4 folds, 1 seed)",
        f"| UA | {100 * card.scores.ua.mean:.2f} ± {100 * card.scores.ua.std:.2f} |",
        "| happiness | ",
        "| model.width | 16 |",
        "Protocol `strict`: test one speaker",
    ):
        assert text in readme, text
    for text in (str(tmp_path), str(Path.home()), "ORACLE", "Known speakers", "\n\n\n"):
        assert text not in readme, text


def test_the_card_says_what_makes_the_scores_too_high(tmp_path: Path) -> None:
    ensemble = read_run(trained().run)
    member = ensemble.members[0]
    tested = replace_struct(member.card, train_speakers=member.card.test_speakers)
    config = {**ensemble.card.config, "train": {**ensemble.card.config["train"], "ssl_norm": "speaker"}}
    marked = replace(
        ensemble,
        card=replace_struct(ensemble.card, oracle=True, config=config),
        members=(replace(member, card=tested),),
    )
    write_bundle(marked, tmp_path / "bundle")
    readme = (tmp_path / "bundle/README.md").read_text()
    for text in ("> **ORACLE", "> **Known speakers", "> **Transductive", "Licence: unknown"):
        assert text in readme


def replace_struct(struct: object, **changes: object) -> object:
    import msgspec

    return msgspec.structs.replace(struct, **changes)


def test_a_folder_has_no_revisions(tmp_path: Path) -> None:
    assert find_bundle(str(tmp_path), (), None) == tmp_path
    with pytest.raises(MfhcaError, match="a folder has no revision v2; leave it out"):
        Predictor.from_pretrained(tmp_path, revision="v2")
