"""The card of a bundle: card.json as a typed class, and README.md, which says the same to people and to the hub."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any, Literal

from mfhca_cache.common.text import plural
from mfhca_cache.recipe.kinds import External
from mfhca_train.config.parse import from_dict
from mfhca_train.config.settings import Config, setting_text
from mfhca_train.data.folds import PROTOCOLS
from mfhca_train.inference.cards import EnsembleCard, NetworkRecord
from mfhca_train.inference.hub import EncoderSource
from mfhca_train.report import text
from mfhca_train.report.blocks import Table
from mfhca_train.report.markdown import Markdown, templates
from mfhca_train.report.repeat import changed_settings, flat
from mfhca_train.results.inputs_header import Side
from mfhca_train.results.schema import SCORES, File

INPUTS = {"spec": "spectrograms", "ssl": "hidden states", "mfcc": "MFCCs"}
TEMPLATES = Path(__file__).parent / "templates"
CITATION = "MFHCA: Enhancing Speech Emotion Recognition Via Multi-Spatial Fusion and Hierarchical Cooperative Attention"


class CorpusSource(File, frozen=True, kw_only=True):
    """What the corpus card says of the training corpus."""

    title: str
    citation: str
    licence: str
    source: str
    notes: str = ""


class NetworkEntry(NetworkRecord, frozen=True, kw_only=True):
    """A network in card.json: most of thousands of networks are trained on nearly all speakers, so it names the rest.

    Attributes:
        not_trained_on: those of the card's `training_speakers` that this network was not trained on.
    """

    not_trained_on: tuple[str, ...]


class BundleCard(EnsembleCard, frozen=True, kw_only=True):
    """card.json."""

    format: Literal["mfhca-bundle"]
    version: int
    title: str
    use: str
    warning: str = ""
    inputs: dict[str, Side]
    training_speakers: tuple[str, ...]  # of all networks
    networks: tuple[NetworkEntry, ...]
    encoder: EncoderSource | None = None  # None: no hidden states are read
    corpus_card: CorpusSource | None = None  # None: the corpus has no card
    networks_sha256: str  # of networks.safetensors

    @property
    def shared_speakers(self) -> bool:
        """Whether a network was trained on one of its test speakers."""
        trained = {*self.training_speakers}
        return any(not trained.intersection(n.test_speakers) <= {*n.not_trained_on} for n in self.networks)

    @property
    def imported(self) -> dict[str, str]:
        """By side, the name of features that another program made, so that new recordings have none."""
        kind = External.kind
        return {
            side: one.name.removeprefix(f"{kind}-")
            for side, one in self.inputs.items()
            if one.recipe.get("kind") == kind
        }


def model_card(card: BundleCard) -> str:
    """README.md of a bundle: Markdown with the metadata that the hub reads."""
    renderer, config = Markdown(), from_dict(card.config)
    environment = templates(renderer, TEMPLATES)
    environment.globals |= {"names": text.names, "plural": plural}
    page = environment.get_template("model_card.md.j2").render(
        card=card,
        corpus=card.corpus_card,
        encoder=card.encoder,
        metadata=renderer.raw(_metadata(card)),
        transductive=config.is_transductive(card.protocol),
        per_corpus=config.normalises_per("corpus"),
        protocol=PROTOCOLS.get(card.protocol, card.protocol),
        folds=len({network.fold for network in card.networks}),
        seeds=len({network.seed for network in card.networks}),
        speakers=len({*card.training_speakers}.union(*(network.test_speakers for network in card.networks))),
        scores=_scores(card),
        recalls=Table(
            "Recall of each class",
            ["Class", "Recall in %"],
            [[name, text.score(card.scores.recalls[name])] for name in card.classes],
            numbers=(1,),
        ),
        settings=_changed(config),
        inputs=[INPUTS[side] for side in card.inputs],
        versions=[f"{name} {version}" for name, version in sorted(card.versions.items())],
        citation=CITATION,
    )
    return re.sub(r"\n{3,}", "\n\n", page).rstrip() + "\n"


def _metadata(card: BundleCard) -> str:
    """YAML for the hub; a JSON value is YAML."""
    values: dict[str, Any] = {
        "license": "other",  # the corpus', which is rarely one of the hub's names
        "library_name": "mfhca",
        "pipeline_tag": "audio-classification",
        "tags": ["speech-emotion-recognition", "mfhca", card.corpus],
    }
    if card.encoder and card.encoder.name:
        values["base_model"] = card.encoder.name
    return "\n".join(f"{key}: {json.dumps(value, ensure_ascii=False)}" for key, value in values.items())


def _scores(card: BundleCard) -> Table:
    rows = []
    for name in SCORES:
        score = getattr(card.scores, name)
        rows.append(
            [
                name.upper(),
                text.mean_sd(score),
                text.interval(score.ci95),
                text.score(score.seed_std),
                text.score(score.pooled),
                text.interval(score.pooled_ci95),
            ]
        )
    head = ["Score", "Mean ± sd over folds", "95 % CI", "sd over seeds", "Pooled", "95 % CI by speaker"]
    return Table("Scores in %", head, rows, numbers=(1, 2, 3, 4, 5))


def _changed(config: Config) -> Table:
    """The settings that are not the defaults."""
    changed = changed_settings(flat(config.to_dict()))
    rows = [[name, setting_text(value)] for name, value in changed.items()]
    return Table("Settings that are not the defaults", ["Setting", "Value"], rows)
