"""Draw the pictures of a report in README.md, light and dark: python docs/draw_report.py runs/demo chromium

The folder is that of a finished `fractionate demo`; the second word is a Chromium that can be started.
"""

import subprocess
import sys
import tempfile
from pathlib import Path

from PIL import Image

from fractionate.report import write_page

STATIC = Path(__file__).parent / "_static"
WIDTH, TOP, HEIGHT, SCALE = 1136, 26, 1010, 1.5  # the page down to its first figure


def draw(folder: str, browser: str) -> None:
    """Both pictures, with as many colours as they need."""
    with tempfile.TemporaryDirectory() as place:
        page, shot = write_page([folder], Path(place) / "report.html"), Path(place) / "shot.png"
        for name, scheme in (("report.png", 1), ("report-dark.png", 0)):
            words = ["--headless", "--no-sandbox", "--disable-gpu", "--hide-scrollbars", f"--screenshot={shot}"]
            words += [f"--window-size={WIDTH},1500", f"--force-device-scale-factor={SCALE}"]
            words.append(f"--blink-settings=preferredColorScheme={scheme}")
            subprocess.run([browser, *words, page.as_uri()], check=True, capture_output=True, timeout=120)
            edges = (0, TOP * SCALE, WIDTH * SCALE, (TOP + HEIGHT) * SCALE)
            image = Image.open(shot).convert("RGB").crop(tuple(map(int, edges)))
            image.quantize(256, Image.Quantize.MAXCOVERAGE, dither=Image.Dither.NONE).save(STATIC / name, optimize=True)


if __name__ == "__main__":
    draw(*sys.argv[1:])
