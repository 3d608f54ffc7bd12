"""Takes the picture of a report for README and docs.

    python -m bench.screenshot RUN [PNG]

Needs Chromium (`apt-get install chromium`). The picture has the first screen of the page, in light colours.
"""

from __future__ import annotations

import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

from PIL import Image

PICTURE = Path(__file__).resolve().parent.parent / "docs" / "images" / "report.png"
WIDTH, HEIGHT = 1100, 640  # CSS pixels
COLOURS = 128  # of the palette: a third of the bytes, and no difference to the eye
BROWSERS = ("chromium", "chromium-browser", "google-chrome")
QUIET = (  # no window, no first-run page, no request of the browser's own
    *("--headless", "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run", "--disable-sync"),
    *("--disable-background-networking", "--disable-component-update", "--hide-scrollbars"),
)


def main() -> None:
    """Takes the picture.

    Raises:
        SystemExit: there is no browser, or no report.
    """
    report = (Path(sys.argv[1]) / "report.html").resolve()
    picture = Path(sys.argv[2]) if len(sys.argv) > 2 else PICTURE
    browser = next(filter(None, map(shutil.which, BROWSERS)), None)
    if browser is None:
        raise SystemExit("no Chromium found; install it (apt-get install chromium)")
    if not report.exists():
        raise SystemExit(f"{report}: no such file; make it with `make cv`")
    with tempfile.TemporaryDirectory() as folder:
        shot = Path(folder) / "report.png"
        options = [
            f"--user-data-dir={folder}/profile",
            f"--window-size={WIDTH},{HEIGHT}",
            f"--screenshot={shot}",
        ]
        command = [browser, *QUIET, *options, report.as_uri()]
        subprocess.run(command, check=True, capture_output=True, timeout=120)
        picture.parent.mkdir(parents=True, exist_ok=True)
        with Image.open(shot) as image:
            image.convert("RGB").quantize(COLOURS, dither=Image.Dither.NONE).save(picture, optimize=True)
    print(f"{picture}: {picture.stat().st_size / 1000:.0f} kB")


if __name__ == "__main__":
    main()
