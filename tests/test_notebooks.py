"""The notebooks run from top to bottom, with light parameters, and are kept with clean outputs."""

import contextlib
import json
import os
import pathlib
import re
import signal
import sysconfig
import time

import nbformat
import pytest
from nbclient import NotebookClient
from reporting.devtools import Page

import tfprune
from tfprune.benchmarking import MissingTool, litertjs

FOLDER = pathlib.Path(__file__).parent.parent / "notebooks"
LIGHT = {
    "01_prune_and_export.ipynb": {"DENSE_EPOCHS": 3, "PRUNED_EPOCHS": 3},
    "02_structured_2_4.ipynb": {"DENSE_EPOCHS": 3, "PRUNED_EPOCHS": 3},
    "03_channel_pruning.ipynb": {"EPOCHS": 4, "TUNING": 2},
    "04_sensitivity_and_budget.ipynb": {"DENSE_EPOCHS": 5, "PRUNED_EPOCHS": 2, "TRIALS": 2},
    "05_sparse_in_the_browser.ipynb": {"DENSE_EPOCHS": 1, "PRUNED_EPOCHS": 2, "RUNS": 40},
    "06_from_tfmot.ipynb": {"EPOCHS": 2, "PRUNED_EPOCHS": 2},
}


def outputs_of(notebook, cell_id):
    (cell,) = [cell for cell in notebook.cells if cell.id == cell_id]
    return cell.outputs


def text_of(notebook, cell_id):
    outputs = outputs_of(notebook, cell_id)
    return "".join(output.text for output in outputs if output.get("name") == "stdout")


def set_parameters(notebook, values):
    """Replace the assignments of the cell tagged "parameters"; each name must be there."""
    (cell,) = [c for c in notebook.cells if "parameters" in c.metadata.get("tags", ())]
    for name, value in values.items():
        cell.source, replaced = re.subn(rf"(?m)^{name} = .*$", f"{name} = {value!r}", cell.source)
        assert replaced == 1, f"no parameter {name}"


@pytest.fixture
def tensorboards(tmp_path, monkeypatch):
    """Give TensorBoard a folder of its own to note its servers in, and end those left after.

    They end with the kernel that started them, unless the kernel was killed.
    """
    monkeypatch.setenv("TMPDIR", str(tmp_path))
    scripts = sysconfig.get_path("scripts")  # where `tensorboard` is, virtual environment or not
    monkeypatch.setenv("PATH", scripts + os.pathsep + os.environ["PATH"])
    notes = tmp_path / ".tensorboard-info"
    yield
    for note in notes.glob("pid-*.info"):
        with contextlib.suppress(ProcessLookupError):
            os.kill(int(note.stem.removeprefix("pid-")), signal.SIGTERM)


@pytest.fixture
def execute(tmp_path, monkeypatch):
    """Return a function that runs a notebook with light parameters, with RUN at tmp_path/run."""
    monkeypatch.setenv("PYTHONPATH", str(pathlib.Path(tfprune.__file__).parent.parent))
    monkeypatch.delenv("MPLBACKEND", raising=False)  # pictures go into the notebook

    def run(name, look=None):
        notebook = nbformat.read(FOLDER / name, as_version=4)
        set_parameters(notebook, {**LIGHT[name], "RUN": str(tmp_path / "run")})
        resources = {"metadata": {"path": str(tmp_path)}}
        client = NotebookClient(notebook, timeout=120, kernel_name="python3", resources=resources)
        with client.setup_kernel():
            for index, cell in enumerate(notebook.cells):
                client.execute_cell(cell, index)
            if look is not None:
                look(notebook)  # while the kernel still serves what the notebook made
        require_kept(name, notebook)
        return notebook

    return run


@pytest.mark.journey
def test_prune_and_export_runs(tmp_path, execute, tensorboards):
    notebook = execute("01_prune_and_export.ipynb")
    assert "zeros in a group of four: [2]" in text_of(notebook, "strip")
    sizes = [
        int(n.replace(",", ""))
        for n in re.findall(r"([\d,]+) bytes in", text_of(notebook, "export"))
    ]
    dense, pruned, int8 = sizes
    assert int8 < pruned < 0.75 * dense
    for cell_id in ("data", "plot", "strip"):
        assert any("image/png" in out.get("data", {}) for out in outputs_of(notebook, cell_id))
    frame = json.dumps(outputs_of(notebook, "tensorboard"))
    assert re.search(r"const port = [1-9]\d+", frame), "TensorBoard did not start"
    assert {path.name for path in (tmp_path / "run").glob("*.*")} == {
        "model.keras",
        "dense.tflite",
        "pruned.tflite",
        "pruned-int8.tflite",
    }


@pytest.mark.journey
def test_channel_pruning_runs(tmp_path, execute):
    notebook = execute("03_channel_pruning.ipynb")

    # 6 of the 32 channels: 9 x 32 values of the kernel that makes each, as many of the one that
    # reads it, 4 of the norm between.
    cut = text_of(notebook, "cut")
    assert "78,730 ->          75,250" in cut
    assert 78_730 - 75_250 == 6 * (9 * 32 + 9 * 32 + 4)
    tuned = text_of(notebook, "tune").split()
    assert "block1_first_conv" in tuned
    assert "block1_second_conv" in tuned
    assert "block2_first_conv" not in tuned
    assert any("image/png" in out.get("data", {}) for out in outputs_of(notebook, "slim"))
    rows = [line.split() for line in text_of(notebook, "export").splitlines()[1:]]
    sizes = [[int(cell.replace(",", "")) for cell in row[-4:-1]] for row in rows]
    trained, one_layer, slimmed = sizes
    assert trained[:2] == [78_730, 2_181_760]
    assert all(a > b > c for a, b, c in zip(trained, one_layer, slimmed, strict=True))
    assert {path.name for path in (tmp_path / "run").iterdir()} == {
        "trained.tflite",
        "one-layer-cut.tflite",
        "slimmed.tflite",
    }


@pytest.mark.journey
def test_structured_2_4_runs(tmp_path, execute):
    notebook = execute("02_structured_2_4.ipynb")
    assert "'conv1', asked for by name, cannot be pruned" in text_of(notebook, "refused")
    assert "zeros in a group of four: [2]" in text_of(notebook, "picture")
    (difference,) = re.findall(r"difference: ([\d.e+-]+)", text_of(notebook, "permute"))
    assert float(difference) < 1e-3
    assert len(re.findall(r"\d% of the test images are right", text_of(notebook, "reordered"))) == 3
    found = re.findall(r"([\d,]+) bytes in gzip", text_of(notebook, "export"))
    dense, pruned = (int(size.replace(",", "")) for size in found)
    assert pruned < 0.7 * dense
    assert {path.name for path in (tmp_path / "run").iterdir()} == {"dense.tflite", "2-4.tflite"}


@pytest.mark.journey
def test_sensitivity_and_budget_runs(tmp_path, execute):
    notebook = execute("04_sensitivity_and_budget.ipynb")
    for cell_id in ("heat", "allocation", "curve"):
        assert any("image/png" in out.get("data", {}) for out in outputs_of(notebook, cell_id))
    found = re.findall(r"\w+ +([\d,]+) bytes", text_of(notebook, "export"))
    dense, pruned = (int(size.replace(",", "")) for size in found)
    assert pruned < 0.7 * dense
    assert (tmp_path / "run" / "rules.yaml").read_text() == text_of(notebook, "rules").rstrip(
        "\n"
    ) + "\n"
    assert "schedule: {class: Gradual" in text_of(notebook, "rules")
    trials = json.loads((tmp_path / "run" / "search" / "search.json").read_text())
    assert len(trials["trials"]) == 2


@pytest.mark.journey
def test_from_tfmot_runs(tmp_path, execute):
    notebook = execute("06_from_tfmot.ipynb")
    # 22 of 108 weights stay: 20 % are 21.6
    assert "conv2d: 79.6% zeros" in text_of(notebook, "keras")
    assert "dense: 80.0% zeros" in text_of(notebook, "keras")
    assert "bias: 50% zeros" in text_of(notebook, "comprehensive")
    assert "the same answers: True" in text_of(notebook, "checkpoint")
    assert "zeros in a group of four: [2]" in text_of(notebook, "two-by-four")
    assert "fast: loads, is right" in text_of(notebook, "on-device")
    found = re.findall(r"([\d,]+) bytes in", text_of(notebook, "export"))
    dense, pruned, quantized = (int(size.replace(",", "")) for size in found)
    assert pruned < 0.5 * dense
    assert quantized < 0.5 * dense


@pytest.fixture
def browser():
    """A headless browser; without it, or LiteRT.js, the test is skipped, but fails under CI."""
    try:
        litertjs.find_packages(None, print)
        page = Page(litertjs.find_browser_program(None))
    except MissingTool as error:
        (pytest.fail if os.environ.get("CI") else pytest.skip)(str(error))
    yield page
    page.close()


def wait_for(browser, expression, seconds=60):
    end = time.monotonic() + seconds
    while not browser.evaluate(expression):
        assert time.monotonic() < end, browser.evaluate("document.body.innerText")
        time.sleep(0.1)


@pytest.mark.journey
def test_sparse_in_the_browser_runs_and_its_page_shows_both_speeds(tmp_path, execute, browser):
    done = (
        "!document.getElementById('again').disabled || !document.getElementById('problem').hidden"
    )
    speeds = "[...document.querySelectorAll('output')].map(one => parseFloat(one.textContent))"
    seen = []

    def look(notebook):
        (url,) = re.findall(r"DemoPage\('(.*?)'\)", str(outputs_of(notebook, "page")))
        for width, scheme in ((1280, "light"), (375, "dark")):
            browser.open(url, width, scheme)
            wait_for(browser, done)
            (tmp_path / f"page-{width}.png").write_bytes(browser.picture())
            seen.append((browser.evaluate(speeds), browser.evaluate("document.body.innerText")))
            assert browser.evaluate("document.documentElement.scrollWidth") <= width
            said = [event for event, _ in browser.events]
            assert not {"Runtime.consoleAPICalled", "Runtime.exceptionThrown"} & {*said}
            logged = [e["entry"] for event, e in browser.events if event == "Log.entryAdded"]
            assert [entry for entry in logged if entry["level"] == "error"] == []

    execute("05_sparse_in_the_browser.ipynb", look)
    assert len(seen) == 2
    for (dense, sparse), text in seen:
        assert 0 < sparse < dense
        assert "times as fast" in text
        assert "The same answers" in text
        assert text.count("right, ") == 2


def facts_of(notebook):
    """Return what cells show whatever the training gives, by the id of the cell.

    That is the headings of tables (those of one line: the figures decide where others break), and
    of exported files which are clearly smaller than the first.
    Accuracies, sizes in bytes, times and trials are left out: they go with the number of epochs,
    which is light in the tests, with the processor and the versions. So are pictures.
    """
    found = {}
    for cell in notebook.cells:
        texts = [
            output.get("text") or output.get("data", {}).get("text/plain", "")
            for output in cell.get("outputs", ())
        ]
        text = re.sub(r"\x1b\[[\d;]*m", "", "".join(texts))
        headings = re.findall(r"(?m)^(?: *|┏.*)\n(.*\w.*)\n *[─━┡]{3}", text)
        facts = [re.sub(r"[\s┃│]+", " ", heading).strip() for heading in headings]
        sizes = re.findall(r"(?m)^([\w:-]+) +([\d,]+) bytes\b", text)
        files = [(name, int(size.replace(",", ""))) for name, size in sizes]
        facts += [
            f"{name}: {'smaller' if s < 0.9 * files[0][1] else 'as large'}" for name, s in files
        ]
        if facts:
            found[cell.id] = facts
    return found


def require_kept(name, notebook):
    """Compare facts of a run with those of the outputs that are kept."""
    kept, now = facts_of(nbformat.read(FOLDER / name, as_version=4)), facts_of(notebook)
    assert kept.keys() & now.keys()
    for cell in kept.keys() & now.keys():
        assert kept[cell] == now[cell], (
            f"the kept output of the cell {cell!r} is of another tfprune"
        )


@pytest.mark.parametrize("path", sorted(FOLDER.glob("*.ipynb")), ids=lambda path: path.name)
class TestKeptOutputs:
    def test_every_notebook_is_executed_by_a_test(self, path):
        assert path.name in LIGHT

    def test_every_code_cell_was_run_in_order(self, path):
        notebook = nbformat.read(path, as_version=4)
        counts = [cell.execution_count for cell in notebook.cells if cell.cell_type == "code"]
        assert counts == list(range(1, len(counts) + 1))

    def test_outputs_are_clean(self, path):
        notebook = nbformat.read(path, as_version=4)
        outputs = [out for c in notebook.cells if c.cell_type == "code" for out in c.outputs]
        assert all(out.output_type != "error" for out in outputs)
        text = json.dumps([out for out in outputs])
        found = re.findall(
            r"/(?:home|root|tmp|work|Users|usr|opt|private)/[\w./-]*|[A-Z]:\\\\", text
        )
        assert found == [], "paths of somebody's machine"
        assert "WARNING:tensorflow" not in text
        assert re.findall(r" at 0x[0-9a-f]{6,}", text) == [], "addresses of objects"
        assert path.stat().st_size < 1_000_000
