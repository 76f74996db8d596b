"""Draw the pictures of the README anew from a run of the quickstart: `python docs/pictures.py RUN`.

RUN is the folder of the quickstart, called `tfprune-quickstart`, after `tfprune report RUN`.
`quickstart.svg` is what the quickstart printed, as `rich` draws it; `report.png` the top of the
report in Chromium.
"""

import dataclasses
import io
import json
import pathlib
import re
import subprocess
import sys
import tempfile

from rich.console import Console

from tfprune.benchmarking.litertjs import find_browser_program, needs_no_sandbox
from tfprune.comparison import QuickstartResult, Variant
from tfprune.summary import WeightSparsity

DOCS = pathlib.Path(__file__).parent
WIDTH, HEIGHT = 1000, 1290  # of the page: down to the end of the bars of the layers
FOLDER = "tfprune-quickstart"  # what the command writes to without `--out`


def terminal(run):
    """Return what the quickstart printed of this run, as SVG."""
    figures = json.loads((run / "report.json").read_text("utf-8"))
    figures["layers"] = tuple(WeightSparsity(**row) for row in figures["layers"])
    names = [field.name for field in dataclasses.fields(Variant)]
    figures["variants"] = tuple(
        Variant(**{name: row[name] for name in names}) for row in figures["variants"]
    )
    result = QuickstartResult(**{**figures, "out": FOLDER})
    console = Console(record=True, width=100, file=io.StringIO())
    console.print(result)
    drawn = console.export_svg(title="tfprune quickstart")
    # The site asks no other host for anything: the reader's own font has to do.
    return re.sub(r',\s*url\("https?:[^)]*\) format\("\w+"\)', "", drawn)


def page(run, png):
    """Take a picture of the top of the report in a run's folder."""
    address = (run / "report.html").resolve(strict=True).as_uri()
    with tempfile.TemporaryDirectory() as profile:
        command = [find_browser_program(None), "--headless", "--hide-scrollbars", "--disable-gpu"]
        command += ["--no-sandbox"] if needs_no_sandbox() else []
        command += [f"--user-data-dir={profile}", f"--window-size={WIDTH},{HEIGHT}"]
        subprocess.run([*command, f"--screenshot={png}", address], check=True, timeout=120)


if __name__ == "__main__":
    run = pathlib.Path(sys.argv[1])
    (DOCS / "quickstart.svg").write_text(terminal(run), "utf-8")
    page(run, DOCS / "report.png")
