"""The trained networks of a run: their speakers, inputs and weights, and which of them may predict for whom."""

from __future__ import annotations

import sys
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import msgspec
from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import Tensor

from mfhca_cache.common.errors import MfhcaError, did_you_mean
from mfhca_train.config.parse import from_dict
from mfhca_train.config.settings import Config
from mfhca_train.inference.cards import EnsembleCard, NetworkCard, NetworkRecord, RowScores
from mfhca_train.model.network import MFHCA
from mfhca_train.model.saved import Inputs, load_inputs, network_of
from mfhca_train.results.checksums import identity_digest
from mfhca_train.results.record import compare_unit, read_results, read_run_file
from mfhca_train.results.run_file import Identity, RunFile
from mfhca_train.results.schema import (
    BEST,
    CV_ROW,
    NETWORK,
    FoldResult,
    Results,
    UnitResult,
    unit_folder,
)
from mfhca_train.results.summary import read_result


@dataclass(frozen=True)
class Member:
    """One trained network, not built yet.

    Attributes:
        card: its fold, seed, speakers and scores.
        inputs: the features it reads.
        state: its weights.
    """

    card: NetworkCard
    inputs: Inputs
    state: Mapping[str, Tensor]


@dataclass(frozen=True)
class Ensemble:
    """Networks with equal settings and inputs.

    Attributes:
        source: the folder of the run or bundle.
        card: everything about them but the weights.
        config: their settings.
        members: one for every fold and seed; never empty.
    """

    source: Path
    card: EnsembleCard
    config: Config
    members: tuple[Member, ...]

    @property
    def classes(self) -> tuple[str, ...]:
        """K names, in the order of every output."""
        return self.card.classes

    @property
    def inputs(self) -> Inputs:
        """The features that all members read; normalisation and training audio are each member's own."""
        return self.members[0].inputs

    @property
    def title(self) -> str:
        """One line for people."""
        marks = " (ORACLE: epochs were selected on test speakers)" if self.card.oracle else ""
        marks += " (transductive)" if self.config.is_transductive(self.card.protocol) else ""
        folds = len({member.card.fold for member in self.members})
        count = len(self.members)
        networks = f"{count} network{'s' if count > 1 else ''} of {folds} fold{'s' if folds > 1 else ''}"
        return (
            f"{networks}, trained on {self.card.corpus}, label set {self.card.label_set}, "
            f"protocol {self.card.protocol}{marks}"
        )

    @property
    def is_demo(self) -> bool:
        """Whether the networks were trained on the synthetic demo, so that what they predict means nothing."""
        return self.card.corpus == "demo"

    def build(self, device: str) -> list[MFHCA]:
        """The members as networks in evaluation mode, in order.

        Raises:
            MfhcaError: weights do not fit the settings.
        """
        models = []
        for member in self.members:
            try:
                model = network_of(member.inputs, member.state, self.config.model, len(self.classes), device)
            except RuntimeError as error:
                raise MfhcaError(
                    f"{self.source}: {member.card.name}: the weights do not fit the settings "
                    f"({str(error).splitlines()[0]}); train or export it again"
                ) from error
            models.append(model)
        return models

    def holding_out(self, speaker: str | None) -> Ensemble:
        """The members that were tested on a speaker, and so neither trained nor selected on them; None: all.

        Raises:
            MfhcaError: there are none.
        """
        tested = tuple(m for m in self.members if speaker in (None, *m.card.test_speakers))
        if not tested and speaker is not None:
            raise not_tested(self.source, speaker, (member.card for member in self.members))
        for member in tested:
            if speaker in (*member.card.train_speakers, *member.card.validation_speakers):
                raise MfhcaError(
                    f"{self.source}: {member.card.name} was selected on speaker {speaker} (protocol "
                    f"{self.card.protocol}); use a run of protocol strict"
                )
        return replace(self, members=tested)

    def of_folds(self, folds: Sequence[str]) -> Ensemble:
        """The members of some folds; of all if none is named.

        Raises:
            MfhcaError: there is no such fold.
        """
        known = list(dict.fromkeys(member.card.fold for member in self.members))
        for fold in folds:
            if fold not in known:
                raise MfhcaError(f"{self.source}: no fold is called {fold!r}; {did_you_mean(fold, known)}")
        members = tuple(member for member in self.members if not folds or member.card.fold in folds)
        return replace(self, members=members)


def not_tested(source: Path, speaker: str, folds: Iterable[NetworkRecord | FoldResult]) -> MfhcaError:
    """The error for a speaker on whom no network was tested; it names those there are."""
    known = sorted({name for fold in folds for name in fold.test_speakers})
    return MfhcaError(f"{source}: no network was tested on speaker {speaker}; {did_you_mean(speaker, known)}")


def read_run(run: Path, row: str | None = None, speaker: str | None = None) -> Ensemble:
    """The networks of a finished run.

    Args:
        run: a folder in which `cv` or `ablate` has finished.
        row: of an ablation; needed where it has several.
        speaker: only networks that were tested on this speaker are read.

    Raises:
        MfhcaError: it is no finished run, has no such row, or a file is missing, damaged or of another run.
    """
    run_file, results = read_run_file(run), read_results(run).rows
    row = _choose_row(run, run_file, results, row)
    identity = run_file.rows[row]
    digest = identity_digest(identity)
    members = []
    folds = [fold for fold in results[row].folds if speaker in (None, *fold.test_speakers)]
    if not folds and speaker is not None:
        raise not_tested(run, speaker, results[row].folds)
    for fold in folds:
        folder = unit_folder(run, row, fold.seed, fold.id)
        result = read_result(folder, digest)
        compare_unit(run, row, folder, fold, result, "cv" if run_file.grid is None else "ablate")
        unit = msgspec.convert(result, UnitResult)
        card = NetworkCard(
            fold=unit.id,
            **{name: getattr(unit, name) for name in NetworkRecord.__struct_fields__[1:]},
            # Thousands of networks share most of their speakers, whose names are then in memory once.
            train_speakers=tuple(map(sys.intern, unit.train_speakers)),
        )
        members.append(Member(card, load_inputs(folder), _weights(folder)))
    card_of_run = _card(run_file, identity, results[row], row, digest, members)
    return checked(Ensemble(run, card_of_run, from_dict(identity.config), tuple(members)))


def _card(
    run_file: RunFile,
    identity: Identity,
    results: Results,
    row: str,
    digest: str,
    members: Sequence[Member],
) -> EnsembleCard:
    return EnsembleCard(
        **{
            name: getattr(identity, name)
            for name in EnsembleCard.__struct_fields__
            if hasattr(identity, name)
        },
        row=row,
        oracle=any(member.card.selected_on == "test" for member in members),
        scores=RowScores(**{name: getattr(results, name) for name in RowScores.__struct_fields__}),
        identity=digest,
        versions=run_file.versions,
        cpu=run_file.cpu,
        device=run_file.device,
    )


def checked(ensemble: Ensemble) -> Ensemble:
    """The same ensemble.

    Raises:
        MfhcaError: it is empty, or its members read different features.
    """
    if not ensemble.members:
        raise MfhcaError(f"{ensemble.source}: holds no network; train or export it again")
    first = ensemble.members[0]
    for member in ensemble.members:
        if (member.inputs.recipes, member.inputs.shapes) != (first.inputs.recipes, first.inputs.shapes):
            raise MfhcaError(
                f"{ensemble.source}: {first.card.name} and {member.card.name} read different features; "
                "train or export it again"
            )
    return ensemble


def _choose_row(run: Path, run_file: RunFile, results: Mapping[str, Results], row: str | None) -> str:
    """The row asked for, or the only one that trained networks."""
    if run_file.grid is None and row not in (None, CV_ROW):
        raise MfhcaError(f"{run}: a run of cv has no rows; leave --row out")
    trained = [name for name in results if name in run_file.rows and run_file.rows[name].kind == NETWORK]
    if row is None and len(trained) == 1:
        return trained[0]
    if row not in trained:
        if row is not None:
            raise MfhcaError(f"{run}: has no row {row!r} with networks; {did_you_mean(row, trained)}")
        raise MfhcaError(
            f"{run}: holds an ablation; name one with --row: {', '.join(trained) or 'there is none'}"
        )
    return row


def _weights(folder: Path) -> dict[str, Tensor]:
    try:
        return load_file(folder / BEST)
    except (OSError, SafetensorError) as error:
        raise MfhcaError(
            f"{folder / BEST}: cannot be loaded ({error}); delete {folder} and run cv again"
        ) from error
