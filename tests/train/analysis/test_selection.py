"""The fold and the utterances of the figures are selected by median scores, on files written by hand."""

from __future__ import annotations

from pathlib import Path

from corpus_factory import CLASSES

from mfhca_cache.common.files import sha256_file
from mfhca_train.analysis.selection import Selection, applies_to, select
from mfhca_train.results.checksums import write_sealed


def unit(parent: Path, fold: str, ua: float) -> Path:
    """A unit in which speaker `fold` is tested."""
    folder = parent / f"fold-{fold}"
    folder.mkdir()
    head = ["utterance", "speaker", "label", "prediction", *(f"logp_{name}" for name in CLASSES)]
    joy = [
        (f"{fold}{k}", fold, "joy", "joy" if k else "anger", -9, logp, -9, -9)
        for k, logp in enumerate((-0.01, -0.5, -0.3, -0.9))
    ]
    other = [("x1", fold, "anger", "joy", -3, -1, -9, -9), ("x2", fold, "anger", "joy", -4, -1, -9, -9)]
    rows = [head, *joy, *other, ("y", "z", "neutral", "neutral", -1, -1, -1, -1)]
    (folder / "predictions.csv").write_text("".join(",".join(map(str, row)) + "\n" for row in rows))
    files = {"predictions.csv": sha256_file(folder / "predictions.csv")}
    write_sealed(folder / "result.json", {"id": fold, "ua": ua, "test_speakers": [fold], "files": files})
    return folder


def test_the_fold_with_the_median_ua_and_utterances_of_median_probability_are_selected(
    tmp_path: Path,
) -> None:
    folders = [unit(tmp_path, *pair) for pair in (("a", 0.9), ("b", 0.4), ("c", 0.6), ("d", 0.5))]
    selection = select(folders, CLASSES, "row")
    assert selection.fold == "d"  # 0.5, the lower of the two medians
    assert selection.utterances == ("x2", "d1")  # no anger is recognised; neutral has no test utterance


def test_a_selection_applies_to_rows_that_test_its_utterances_in_its_fold(tmp_path: Path) -> None:
    folders = [unit(tmp_path, "a", 0.9), unit(tmp_path, "b", 0.4)]
    assert applies_to(Selection("b", ("x1", "b2"), "row"), folders)
    assert not applies_to(Selection("b", ("x1", "a2"), "row"), folders)
    assert not applies_to(Selection("c", (), "row"), folders)
