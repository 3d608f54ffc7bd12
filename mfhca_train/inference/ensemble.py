"""The trained networks of a run or a bundle: who they are, what they read, and which of them may judge whom."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import Tensor

from mfhca_cache.common.errors import MfhcaError
from mfhca_cache.common.files import canonical_json, sha256_text
from mfhca_train.config.parse import from_dict
from mfhca_train.config.settings import Config
from mfhca_train.model.network import MFHCA
from mfhca_train.model.saved import Inputs, load_inputs, network_of
from mfhca_train.results.checksums import read_sealed
from mfhca_train.results.schema import BEST, CV_ROW, NETWORK, RUN_FILE, SCORES, unit_folder
from mfhca_train.results.summary import read_result
from mfhca_train.runs.folder import ENVIRONMENT, NOT_DECIDING, read_about

OF_A_UNIT = (
    "seed",
    "test_speakers",
    "validation_speakers",
    "train_speakers",
    "selected_on",
    "best_epoch",
    *SCORES,
)
OF_A_RUN = ("corpus", "label_set", "classes", "protocol", "config", "data_digest", "label_digest", "threads")
OF_THE_RESULTS = (*SCORES, "headline", "complete", "n_folds", "n_utterances", "n_segments", "recalls")


@dataclass(frozen=True)
class Member:
    """One trained network, not built yet.

    Attributes:
        about: fold, seed, speakers and scores; see OF_A_UNIT.
        inputs: what it reads.
        state: its weights.
    """

    about: Mapping[str, Any]
    inputs: Inputs
    state: Mapping[str, Tensor]

    @property
    def name(self) -> str:
        """For messages."""
        return f"fold {self.about['fold']}, seed {self.about['seed']}"


@dataclass(frozen=True)
class Ensemble:
    """Networks with equal settings and inputs.

    Attributes:
        source: the run's or the bundle's folder.
        card: all that is known of them but the weights, as JSON values; see docs/predict.md.
        config: their settings.
        members: one for every fold and seed; never empty.
    """

    source: Path
    card: Mapping[str, Any]
    config: Config
    members: tuple[Member, ...]

    @property
    def classes(self) -> tuple[str, ...]:
        """K names, in the order of every output."""
        return tuple(self.card["classes"])

    @property
    def inputs(self) -> Inputs:
        """What all members read; scaling and what they have heard are each member's own."""
        return self.members[0].inputs

    @property
    def title(self) -> str:
        """For people."""
        oracle = " (ORACLE: epochs were selected on test speakers)" if self.card["oracle"] else ""
        folds = len({member.about["fold"] for member in self.members})
        count = len(self.members)
        networks = f"{count} network{'s' if count > 1 else ''} of {folds} fold{'s' if folds > 1 else ''}"
        return (
            f"{networks}, trained on {self.card['corpus']}, label set {self.card['label_set']}, "
            f"protocol {self.card['protocol']}{oracle}"
        )

    def build(self, device: str) -> list[MFHCA]:
        """The members as networks in evaluation mode, in order.

        Raises:
            MfhcaError: weights do not fit the settings.
        """
        built = []
        for member in self.members:
            try:
                model = network_of(member.inputs, member.state, self.config.model, len(self.classes), device)
            except RuntimeError as error:
                raise MfhcaError(
                    f"{self.source}: {member.name}: the weights do not fit the settings "
                    f"({str(error).splitlines()[0]}); make it again"
                ) from error
            built.append(model)
        return built

    def holding_out(self, speaker: str) -> Ensemble:
        """The members that were tested on a speaker, and so neither trained nor selected on them.

        Raises:
            MfhcaError: there are none.
        """
        chosen = tuple(m for m in self.members if speaker in m.about["test_speakers"])
        if not chosen:
            known = sorted({s for m in self.members for s in m.about["test_speakers"]})
            raise MfhcaError(
                f"{self.source}: no network holds out speaker {speaker}; those tested are {', '.join(known)}"
            )
        seen = [m for m in chosen if speaker in (*m.about["train_speakers"], *m.about["validation_speakers"])]
        if seen:
            raise MfhcaError(
                f"{self.source}: {seen[0].name} was selected on speaker {speaker} (protocol "
                f"{self.card['protocol']}); take a run of protocol strict"
            )
        return replace(self, members=chosen)

    def of_folds(self, folds: Sequence[str]) -> Ensemble:
        """The members of some folds; of all, if none is named.

        Raises:
            MfhcaError: there is no such fold.
        """
        known = list(dict.fromkeys(str(member.about["fold"]) for member in self.members))
        unknown = [fold for fold in folds if fold not in known]
        if unknown:
            raise MfhcaError(
                f"{self.source}: no fold is called {unknown[0]!r}; there are: {', '.join(known)}"
            )
        return replace(self, members=tuple(m for m in self.members if not folds or m.about["fold"] in folds))


def read_run(run: Path, row: str | None = None) -> Ensemble:
    """The networks of a finished run.

    Args:
        run: a folder in which `cv` or `ablate` has finished.
        row: of an ablation; needed where it has several.

    Raises:
        MfhcaError: it is no finished run, has no such row, or a file is missing or damaged.
    """
    about = read_about(run)
    if not about or not (run / "results.json").is_file():
        missing = RUN_FILE if not about else "results.json"
        raise MfhcaError(
            f"{run}: no {missing}, so no finished run; run `mfhca-train cv` with this --out first"
        )
    results = read_sealed(run / "results.json")
    try:
        if "rows" in about:
            row = _choose_row(run, results["rows"], row)
            identity, results = about["rows"][row], results["rows"][row]
        elif row not in (None, CV_ROW):
            raise MfhcaError(f"{run}: a run of cv has no rows; leave --row out")
        else:
            row, identity = CV_ROW, {key: value for key, value in about.items() if key not in NOT_DECIDING}
        digest = sha256_text(canonical_json(identity))
        members = []
        for fold in results["folds"]:
            folder = unit_folder(run, row, fold["seed"], fold["id"])
            result = read_result(folder, digest)
            named = {"fold": result["id"]} | {key: result[key] for key in OF_A_UNIT}
            members.append(Member(named, load_inputs(folder), _weights(folder)))
        card = {
            **{key: identity[key] for key in OF_A_RUN},
            "row": row,
            "oracle": any(member.about["selected_on"] == "test" for member in members),
            "scores": {key: results[key] for key in OF_THE_RESULTS},
            "identity": digest,
            **{key: about[key] for key in ENVIRONMENT},
        }
        config = from_dict(identity["config"])
    except (KeyError, TypeError, AttributeError) as error:
        raise MfhcaError(
            f"{run}: {RUN_FILE}, results.json or a result.json lacks {error}; run `mfhca-train cv` again"
        ) from error
    return checked(Ensemble(run, card, config, tuple(members)))


def checked(ensemble: Ensemble) -> Ensemble:
    """The same.

    Raises:
        MfhcaError: it is empty, or its members read different features.
    """
    if not ensemble.members:
        raise MfhcaError(f"{ensemble.source}: holds no network; make it again")
    first = ensemble.members[0]
    for member in ensemble.members:
        if (member.inputs.recipes, member.inputs.shapes) != (first.inputs.recipes, first.inputs.shapes):
            raise MfhcaError(
                f"{ensemble.source}: {first.name} and {member.name} read different features; make it again"
            )
    return ensemble


def _choose_row(run: Path, rows: Mapping[str, Any], row: str | None) -> str:
    trained = [name for name, about in rows.items() if about.get("kind", NETWORK) == NETWORK]
    if row is None and len(trained) == 1:
        return trained[0]
    if row not in trained:
        wrong = "holds an ablation" if row is None else f"has no row {row!r} with networks"
        raise MfhcaError(f"{run}: {wrong}; name one with --row: {', '.join(trained) or 'there is none'}")
    return row


def _weights(folder: Path) -> dict[str, Tensor]:
    try:
        return load_file(folder / BEST)
    except (OSError, SafetensorError) as error:
        raise MfhcaError(
            f"{folder / BEST}: cannot be loaded ({error}); delete {folder} and run cv again"
        ) from error
