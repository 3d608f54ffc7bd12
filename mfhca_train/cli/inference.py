"""The commands `predict` and `evaluate`.

Only click and the standard library are imported, so that `--help` is fast.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from mfhca_cache.common.columns import terminal_width
from mfhca_cache.common.console import DIR, FILE, Command, device_option, echo, threads_option
from mfhca_cache.common.errors import MfhcaError, listing
from mfhca_cache.common.log import LOG
from mfhca_cache.common.progress import progress

if TYPE_CHECKING:
    from mfhca_train.inference.prediction import Failure, Prediction
    from mfhca_train.inference.predictor import Predictor

FORMATS = ("table", "csv", "json")
BATCH_SIZE = 8  # the same number as in inference.predictor; a test compares them
ROW_HELP = "The row of RUN, if it is an ablation."
DEVICE = device_option("Where to run the networks.")
ROW = click.option("--row", metavar="NAME", help=ROW_HELP)
THREADS = threads_option("Processor threads")


@click.command(cls=Command)
@click.argument("model", metavar="RUN_OR_BUNDLE", type=DIR)
@click.argument("audio", metavar="AUDIO...", nargs=-1, required=True, type=FILE)
@click.option(
    "--backbone",
    metavar="ENCODER",
    help="The encoder of the training features: a folder or a name on the Hugging Face hub.",
)
@click.option(
    "--speaker",
    metavar="ID",
    help="AUDIO is by this speaker of the training corpus: use only networks that were tested on this speaker.",
)
@click.option(
    "--one-speaker",
    is_flag=True,
    help="AUDIO is all by one speaker; needed by networks trained with normalisation per speaker.",
)
@ROW
@click.option("--format", "form", type=click.Choice(FORMATS), help="Output format.  [default: table]")
@click.option("--json", "as_json", is_flag=True, help="Short for --format json.")
@click.option("--attention", is_flag=True, help="Add the attention over time; with csv or json.")
@click.option("--out", type=FILE, help="The file to write.  [default: standard output]")
@DEVICE
@THREADS
@click.option(
    "--batch-size",
    metavar="N",
    type=click.IntRange(1),
    default=BATCH_SIZE,
    show_default=True,
    help="Segments per batch of the encoder, rounded up to a multiple of 8.",
)
def predict(
    model: Path,
    audio: tuple[Path, ...],
    backbone: str | None,
    speaker: str | None,
    one_speaker: bool,
    row: str | None,
    form: str | None,
    as_json: bool,
    attention: bool,
    out: Path | None,
    device: str,
    threads: int | None,
    batch_size: int,
) -> None:
    """Predict the class probabilities of AUDIO: files in any format that libsndfile reads, and folders of them.

    The result is the mean probability of all networks of the run. Files that cannot be used are listed at the end,
    and the exit code is then 1. For example:

    \b
      mfhca-train predict runs/emodb recordings/ call.mp3 --backbone facebook/hubert-base-ls960
    """
    if as_json and form not in (None, "json"):
        raise click.UsageError(f"--json and --format {form} contradict each other")
    form = "json" if as_json else form or "table"
    if attention and form == "table":
        raise click.UsageError(
            "--attention is one weight per frame, too much for a table; add --format csv or --json"
        )
    from mfhca_train.inference.audio_files import find_audio
    from mfhca_train.inference.prediction import Failure
    from mfhca_train.inference.predictor import Predictor

    found = find_audio(audio)
    if found.skipped:
        LOG.info("skipped: %s", found.skipped)
    if not found.paths and not found.unreadable:
        raise MfhcaError(
            f"{', '.join(map(str, audio))}: no audio files; pass the files themselves to try them"
        )
    _prepare(threads)
    predictor = Predictor.open(
        model,
        backbone,
        row=row,
        speaker=speaker,
        device=device,
        batch_size=batch_size,
        one_speaker=one_speaker,
    )
    if attention:
        predictor.require_attention()
    predictions: list[Prediction] = []
    failures = [Failure(name, reason) for name, reason in found.unreadable.items()]
    with progress(len(found.paths), " files", "predicting") as bar:
        for one in predictor.each(found.paths, attention):
            if isinstance(one, Failure):
                failures.append(one)
            else:
                predictions.append(one)
            bar.update(1)
    _write_predictions(predictor, predictions, failures, form, attention, out, found.skipped)


def _write_predictions(
    predictor: Predictor,
    predictions: list[Prediction],
    failures: list[Failure],
    form: str,
    attention: bool,
    out: Path | None,
    skipped: str,
) -> None:
    """Writes the predictions, warns of recordings seen in training, and fails if any file could not be used."""
    from mfhca_cache.common.files import write_atomically
    from mfhca_train.inference import output as text
    from mfhca_train.inference.seen import named_like_training

    if form == "json":
        written = text.as_json(predictions, failures, predictor.ensemble, skipped)
    elif form == "table":
        written = text.as_table(predictions, predictor.ensemble, None if out else terminal_width()) + "\n"
    elif attention:
        written = text.attention_csv(predictions)
    else:
        written = text.as_csv(predictions, predictor.classes)
    if out is None:
        echo(written, nl=False)
    else:
        write_atomically(out, written)
        echo(out)
    if predictor.ensemble.is_demo:
        LOG.warning("the networks were trained on the synthetic demo: their predictions mean nothing")
    seen = [prediction for prediction in predictions if prediction.seen_by]
    if seen:
        LOG.warning(
            "networks were trained or selected on %s, so such predictions are no test; pass --speaker",
            text.among([prediction.name for prediction in seen], len(predictions)),
        )
    unseen = (prediction.name for prediction in predictions if not prediction.seen_by)
    if named := named_like_training(predictor.ensemble, unseen):
        LOG.warning(
            "named like utterances that networks were trained or selected on: %s; if they are the same recordings, "
            "pass --speaker",
            text.among(named, len(predictions)),
        )
    if failures:
        reasons = [text.shown(failure.reason) for failure in failures]
        total = len(predictions) + len(failures)
        raise MfhcaError(f"{len(failures)} of {total} could not be used:\n{listing(reasons)}")


@click.command(cls=Command)
@click.argument("model", metavar="RUN_OR_BUNDLE", type=DIR)
@click.argument("manifest", type=FILE)
@click.option(
    "--cache", required=True, type=DIR, help="Features of MANIFEST, computed with the recipes of the run."
)
@click.option("--label-set", metavar="NAME", help="The label set of MANIFEST.  [default: its corpus card's]")
@click.option(
    "--map",
    "maps",
    multiple=True,
    metavar="THEIRS=OURS|FILE",
    help="The class of the run for a class of MANIFEST (repeat for more); THEIRS= for none.  [default: equal names]",
)
@click.option(
    "--spec", metavar="NAME", help="Imported features instead of a spectrogram, made as for the run."
)
@click.option(
    "--ssl", metavar="NAME", help="Imported features instead of hidden states, made as for the run."
)
@ROW
@click.option(
    "--out",
    metavar="NAME.json",
    type=FILE,
    help="The JSON to write.  [default: evaluation-CORPUS.json in the run's folder]",
)
@DEVICE
@THREADS
def evaluate(
    model: Path,
    manifest: Path,
    cache: Path,
    label_set: str | None,
    maps: tuple[str, ...],
    spec: str | None,
    ssl: str | None,
    row: str | None,
    out: Path | None,
    device: str,
    threads: int | None,
) -> None:
    """Score the networks of a run on another corpus: their ensemble, and each of them.

    For example:

    \b
      mfhca-train evaluate runs/emodb other.csv --cache cache/other --map hap=happiness --map fea=
    """
    if out is not None and out.suffix != ".json":
        raise click.UsageError(f"--out {out}: write NAME.json; NAME.csv is written next to it")
    from mfhca_cache.common.files import write_atomically, write_json
    from mfhca_cache.common.hardware import resolve_device
    from mfhca_train.inference import cross_corpus
    from mfhca_train.inference.bundle import is_bundle, open_ensemble
    from mfhca_train.inference.class_map import read_map
    from mfhca_train.inference.output import evaluation_table

    if out is None and is_bundle(model):
        raise click.UsageError("a bundle is not written to; pass --out for the scores")
    given = read_map(maps)
    named = {side: name for side, name in (("spec", spec), ("ssl", ssl)) if name is not None}
    ensemble = open_ensemble(model, row)
    _prepare(threads)
    with progress(None, " segments", "evaluating") as bar:
        result = cross_corpus.evaluate(
            ensemble, manifest, cache, label_set, given, named, resolve_device(device), bar.update, bar.expect
        )
    name = result.results["corpus"] if row is None else f"{result.results['corpus']}-{row}"
    if out is None:
        out = model / f"evaluation-{name}.json"
        _refuse_other_scores(out, result.results)
    write_json(out, result.results)
    write_atomically(out.with_suffix(".csv"), result.predictions)
    echo(evaluation_table(result.results, terminal_width()))
    echo(f"{out}\n{out.with_suffix('.csv')}")


def _refuse_other_scores(path: Path, results: Mapping[str, Any]) -> None:
    """Refuses to replace scores of another corpus of the same name, of another label set, other audio or features."""
    from mfhca_cache.common.files import read_json

    if not path.is_file():
        return
    before = read_json(path)
    for field in ("label_set", "map", "data_digest", "features_digest"):
        if before.get(field) != results[field]:
            raise MfhcaError(
                f"{path}: holds scores with another {field}; remove it, or pass --out NAME.json for these scores"
            )


def _prepare(threads: int | None) -> None:
    import torch

    from mfhca_train.training.process import prepare_process

    prepare_process(threads or torch.get_num_threads())
