"""Bundles: the networks of a run in files that predict without the run and its cache.

    DIR/networks.safetensors   weights, normalisation and digests of the training audio of every network
    DIR/card.json              classes, settings, recipes, speakers, scores with their protocol, encoder, corpus
    DIR/README.md              the same for people, see `model_card`
    DIR/onnx/                  on request, one file per network, see `onnx_heads`

Equal runs give equal bytes: no time, path or name of a machine is stored.
"""

from __future__ import annotations

import os
import secrets
import shutil
from collections.abc import Collection, Sequence
from pathlib import Path
from typing import Any
from urllib.parse import quote

import msgspec
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor

from mfhca_cache.common.errors import MfhcaError
from mfhca_cache.common.files import NEW_FILE_MODE, sha256_file, write_atomically
from mfhca_cache.common.typed import decode, plain
from mfhca_cache.manifest.card import Card
from mfhca_cache.recipe.kinds import External
from mfhca_train.config.parse import from_dict
from mfhca_train.inference.cards import NetworkCard, NetworkRecord
from mfhca_train.inference.ensemble import Ensemble, Member, checked, not_tested, read_run
from mfhca_train.inference.hub import EncoderSource
from mfhca_train.inference.model_card import BundleCard, CorpusSource, NetworkEntry, model_card
from mfhca_train.inference.onnx_heads import FOLDER, write_onnx
from mfhca_train.model.saved import pack_inputs, unpack_inputs
from mfhca_train.results.checksums import read_sealed, write_sealed
from mfhca_train.training.unit import publish_folder

FORMAT, VERSION = "mfhca-bundle", 2
CARD, NETWORKS, README = "card.json", "networks.safetensors", "README.md"
WEIGHTS, INPUTS = "weights.", "inputs."  # begin the names of a network's tensors, after its own name
TITLE = "Speech emotion recognition: MFHCA on features of a frozen encoder"
USE = "mfhca-train predict DIR AUDIO..."
ENCODER = " --backbone ENCODER"
EVALUATE = "mfhca-train evaluate DIR MANIFEST --cache CACHE"
WARNING = "ORACLE: epochs were selected on the test speakers, so the scores are too high"
REMEDY = "export it again"


def write_bundle(
    ensemble: Ensemble,
    out: Path,
    encoder: EncoderSource | None = None,
    corpora: Sequence[Card] = (),
    onnx: bool = False,
) -> None:
    """Writes a bundle; the folder appears whole or not at all.

    Args:
        ensemble: the networks.
        out: the folder, which must not exist.
        encoder: of their features, from `hub.encoder_of`.
        corpora: the cards of the training corpora, for their licences.
        onnx: whether to write the networks as ONNX files too, see `onnx_heads`.

    Raises:
        MfhcaError: it exists, or cannot be written.
    """
    if out.exists() or out.is_symlink():
        raise MfhcaError(f"{out}: exists already; remove it or choose another --out")
    tensors: dict[str, Tensor] = {}
    sides: dict[str, Any] = {}
    for member in ensemble.members:
        packed, own_sides = pack_inputs(member.inputs)
        sides = sides or dict(own_sides)
        prefix = _prefix(member.card)
        tensors |= {f"{prefix}{WEIGHTS}{name}": tensor.contiguous() for name, tensor in member.state.items()}
        tensors |= {f"{prefix}{INPUTS}{name}": tensor for name, tensor in packed.items()}
    is_imported = any(recipe["kind"] == External.kind for recipe in ensemble.inputs.recipes.values())
    speakers, networks = _entries([member.card for member in ensemble.members])
    card = {
        "format": FORMAT,
        "version": VERSION,
        "title": TITLE,
        "use": EVALUATE
        if ensemble.config.normalises_per("corpus") or is_imported
        else USE + (ENCODER if "ssl" in sides else ""),
        **({"warning": WARNING} if ensemble.card.oracle else {}),
        **plain(ensemble.card),
        "inputs": sides,
        "training_speakers": speakers,
        "networks": plain(networks),
        **({"encoder": plain(encoder)} if encoder else {}),
        **({"corpus_card": _source(ensemble, corpora)} if corpora else {}),
    }
    work = None
    try:
        out.absolute().parent.mkdir(parents=True, exist_ok=True)
        # Not tempfile.mkdtemp, whose folders are for one user only: a group's umask and setgid folder decide.
        work = out.absolute().with_name(f".{secrets.token_hex(8)}.partial")
        work.mkdir()
        _write_tensors(work / NETWORKS, tensors)
        card["networks_sha256"] = sha256_file(work / NETWORKS)
        write_sealed(work / CARD, card)
        if onnx:
            write_onnx(ensemble, work / FOLDER)
        write_atomically(work / README, model_card(msgspec.convert(card, BundleCard)))
        publish_folder(work, out.absolute())
    except (OSError, SafetensorError) as error:
        reason = error.strerror if isinstance(error, OSError) else error
        raise MfhcaError(f"{out}: cannot be written ({reason}); choose another --out") from error
    finally:
        if work is not None:
            shutil.rmtree(work, ignore_errors=True)


def _write_tensors(path: Path, tensors: dict[str, Tensor]) -> None:
    """Writes tensors one after the other, without a copy of all of them in memory."""
    save_file(tensors, path)
    path.chmod(path.parent.stat().st_mode & NEW_FILE_MODE)  # save_file makes files for one user only
    with open(path, "rb") as file:
        os.fsync(file.fileno())


def _entries(cards: Sequence[NetworkCard]) -> tuple[list[str], list[NetworkEntry]]:
    """The training speakers of all networks, sorted, and the networks with those of them they were not trained on."""
    speakers = sorted({speaker for card in cards for speaker in card.train_speakers})
    entries = []
    for card in cards:
        own = {*card.train_speakers}
        entries.append(
            NetworkEntry(
                **{name: getattr(card, name) for name in NetworkRecord.__struct_fields__},
                not_trained_on=tuple(speaker for speaker in speakers if speaker not in own),
            )
        )
    return speakers, entries


def _source(ensemble: Ensemble, cards: Sequence[Card]) -> dict[str, str]:
    """What the cards say; of several corpora each with its name, and which have none."""
    of_corpus = {card.name: card for card in cards}
    found = {}
    for field in CorpusSource.__struct_fields__:
        texts = {name: str(getattr(card, field)) for name, card in of_corpus.items()}
        if ensemble.card.corpora and field != "notes":
            texts = {name: texts.get(name, "unknown, it has no card") for name in ensemble.card.corpora}
        several = len(texts) > 1
        found[field] = "; ".join(
            f"{name}: {text}" if several else text for name, text in texts.items() if text
        )
    return {field: text for field, text in found.items() if text}


def is_bundle(path: Path) -> bool:
    """Whether a folder has the card of a bundle."""
    return (path / CARD).is_file()


def read_bundle(path: Path, speaker: str | None = None) -> Ensemble:
    """The networks of a bundle.

    Args:
        path: its folder.
        speaker: of the training corpus; only networks that were tested on this speaker are read.

    Raises:
        MfhcaError: it is no bundle, or of another version, or a byte differs from what was written, or no network was
            tested on the speaker.
    """
    content = read_sealed(path / CARD, REMEDY)
    if content.get("format") != FORMAT:
        raise MfhcaError(
            f"{path / CARD}: not a bundle's card; `mfhca-train export RUN --out DIR` writes a bundle"
        )
    if content.get("version") != VERSION:
        raise MfhcaError(
            f"{path}: a bundle of version {content.get('version')}, this program reads {VERSION}; "
            "export it again, or install the version that wrote it"
        )
    card = decode(path / CARD, content, BundleCard, REMEDY)
    try:
        found = sha256_file(path / NETWORKS)
    except OSError as error:
        raise MfhcaError(f"{path / NETWORKS}: cannot be read ({error.strerror}); {REMEDY}") from error
    if found != card.networks_sha256:
        raise MfhcaError(f"{path / NETWORKS}: not the file that {CARD} was written with; {REMEDY}")
    entries = [entry for entry in card.networks if speaker in (None, *entry.test_speakers)]
    if not entries and speaker is not None:
        raise not_tested(path, speaker, card.networks)
    try:
        config, sides = from_dict(card.config), plain(card.inputs)
        tensors = _by_network(path / NETWORKS, {_prefix(entry) for entry in entries})
        members = tuple(
            _member(_network(entry, card.training_speakers), tensors[_prefix(entry)], sides)
            for entry in entries
        )
    except (
        OSError,
        SafetensorError,
        KeyError,
        TypeError,
        ValueError,
        AttributeError,
        OverflowError,
    ) as error:
        reason = f"{error} is missing" if isinstance(error, KeyError) else str(error)
        raise MfhcaError(f"{path / CARD}: damaged ({reason}); {REMEDY}") from error
    return checked(Ensemble(path, card, config, members))


def open_ensemble(path: Path, row: str | None = None, speaker: str | None = None) -> Ensemble:
    """The networks of a folder that is a run or a bundle.

    Args:
        path: the folder.
        row: of an ablation's run.
        speaker: of the training corpus; only networks that were tested on this speaker are read.

    Raises:
        MfhcaError: it is neither, or see `read_run` and `read_bundle`.
    """
    if not path.is_dir():
        raise MfhcaError(f"{path}: no such folder; pass the folder of a run or of a bundle")
    if not is_bundle(path):
        return read_run(path, row, speaker)
    if row is not None:
        raise MfhcaError(f"{path}: a bundle has no rows; leave --row out")
    return read_bundle(path, speaker)


def _prefix(card: NetworkRecord) -> str:
    return f"seed-{card.seed}/fold-{quote(card.fold, safe='')}/"


def _by_network(path: Path, wanted: Collection[str]) -> dict[str, dict[str, Tensor]]:
    """The tensors of some networks by the prefix of their network, and by the rest of their name."""
    found: dict[str, dict[str, Tensor]] = {}
    with safe_open(path, "pt") as file:
        for name in file.keys():  # noqa: SIM118, not a mapping
            seed, fold, rest = name.split("/", 2)
            if (prefix := f"{seed}/{fold}/") in wanted:
                found.setdefault(prefix, {})[rest] = file.get_tensor(name)
    return found


def _network(entry: NetworkEntry, training_speakers: Sequence[str]) -> NetworkCard:
    left_out = {*entry.not_trained_on}
    return NetworkCard(
        **{name: getattr(entry, name) for name in NetworkRecord.__struct_fields__},
        train_speakers=tuple(speaker for speaker in training_speakers if speaker not in left_out),
    )


def _member(card: NetworkCard, own: dict[str, Tensor], sides: Any) -> Member:
    state = {name.removeprefix(WEIGHTS): t for name, t in own.items() if name.startswith(WEIGHTS)}
    packed = {name.removeprefix(INPUTS): t for name, t in own.items() if name.startswith(INPUTS)}
    return Member(card, unpack_inputs(packed, sides), state)
