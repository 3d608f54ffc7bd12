"""The notebook docs/tour.ipynb runs."""

from __future__ import annotations

import re
import sys
from pathlib import Path

from pages import DOCS, run


def test_the_notebook_runs_from_the_demo_corpus_to_predictions(tmp_path: Path) -> None:
    """In a kernel of its own, as Jupyter does it; the scores of the network and of the own model beat chance."""
    program = (
        "import sys, nbformat; from nbclient import NotebookClient\n"
        "notebook = nbformat.read(sys.argv[1], as_version=4)\n"
        "NotebookClient(notebook, timeout=300, resources={'metadata': {'path': sys.argv[2]}}).execute()\n"
        "outputs = [o for cell in notebook.cells for o in cell.get('outputs', [])]\n"
        "print(sum('image/png' in o.get('data', {}) for o in outputs), 'pictures')\n"
        "print(''.join(o.get('text', '') for o in outputs))"
    )
    printed = run([sys.executable, "-c", program, str(DOCS / "tour.ipynb"), str(tmp_path)], tmp_path)
    assert printed.startswith("2 pictures")
    (network, own) = map(float, re.findall(r"\bUA (0\.\d\d)", printed))
    assert network > 0.4
    assert own > 0.5
    assert len(re.findall(r"^\S+1F_\w+\.wav ", printed, re.MULTILINE)) == 4
