"""Figures are drawn whatever the environment of the user is."""

from __future__ import annotations

import os
import subprocess
import sys

SCRIPT = """
import os
from mfhca_train.report.plots.svg import canvas, svg
with canvas(2, 1) as figure:
    figure.add_subplot().plot([1, 2])
    print("<svg" in str(svg(figure, "name", "title", "description")), os.environ["MPLBACKEND"])
"""


def test_a_backend_that_is_not_installed_does_not_matter_and_stays_set() -> None:
    """Jupyter and Colab set MPLBACKEND for every program started from a notebook."""
    environment = {**os.environ, "MPLBACKEND": "no_such_backend"}
    done = subprocess.run(
        [sys.executable, "-c", SCRIPT], env=environment, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout.split() == ["True", "no_such_backend"]
