"""`tfprune board` in headless Chromium: what a user sees of a run and of a search.

The pages stay as PNG files in the temporary folder (`pytest --basetemp=FOLDER` keeps them there).
"""

import base64
import json
import os
import sys
import time

import keras
import numpy as np
import pytest
from reporting.devtools import Page
from searching import cut_only, data, network
from test_board import start

import tfprune
from tfprune.benchmarking import MissingTool
from tfprune.benchmarking.litertjs import find_browser_program

pytestmark = pytest.mark.journey

UPDATES = (0, 2, 4)  # of the masks, and the ends of two epochs of two steps each
# Every element that a selector matches, those in shadow trees included.
ALL = """(selector => { const found = []; const walk = root => {
  found.push(...root.querySelectorAll(selector));
  root.querySelectorAll('*').forEach(e => e.shadowRoot && walk(e.shadowRoot));
}; walk(document); return found; })"""
NAMES = f"""{ALL}('tf-card-heading').map(
  card => card.shadowRoot.querySelector('.name').textContent.trim())"""
# The points of each line of each chart: a path has a command for each.
POINTS = f"""{ALL}('vz-line-chart2').map(chart => [...chart.shadowRoot.querySelectorAll(
  'path.line')].map(e => e.getAttribute('d').split(/[ML]/).length - 1))"""
OUTLINES = f"""{ALL}('vz-histogram-timeseries').map(
  chart => chart.shadowRoot.querySelectorAll('path.outline[d]').length)"""
PICTURES = f"{ALL}('img').map(e => [e.naturalWidth, e.naturalHeight])"
CELLS = f"{ALL}('vaadin-grid-cell-content').map(e => e.textContent.trim()).filter(t => t)"


@pytest.fixture(scope="module")
def logdir(tmp_path_factory):
    """A pruned run of two layers, and a search of three trials, of which the second failed."""
    folder = tmp_path_factory.mktemp("logs")
    keras.utils.set_random_seed(0)
    layers = [keras.layers.Dense(6, name="first"), keras.layers.Dense(3, name="second")]
    schedule = tfprune.PolynomialDecay(0.2, 0.8, begin_step=2, end_step=4, frequency=2)
    model = tfprune.prune_low_magnitude(keras.Sequential([keras.Input((5,)), *layers]), schedule)
    model.compile("sgd", "mse")
    x, y = np.ones((8, 5), "float32"), np.ones((8, 3), "float32")
    callbacks = [tfprune.UpdatePruningStep(), tfprune.PruningSummaries(folder / "run1")]
    model.fit(x, y, batch_size=4, epochs=2, callbacks=callbacks, verbose=0)
    calls = []

    def train(pruned):
        calls.append(1)
        if len(calls) == 2:
            raise MemoryError("no room")
        cut_only(pruned)

    dense = network()
    options = {"trials": 3, "between": (0.1, 0.9), "folder": folder / "search"}
    tfprune.search(dense, data(dense), 0.9, train=train, **options)
    return folder


@pytest.fixture(scope="module")
def address(logdir):
    if sys.platform == "win32":
        pytest.skip("the pipe to the browser needs POSIX")
    process, line = start(str(logdir), "--port", "0")
    yield line.split(" at ")[1].split()[0]
    process.kill()
    process.communicate()


@pytest.fixture(scope="module")
def browser(address):
    try:
        program = find_browser_program(None)
    except MissingTool as error:
        advice = f"TENSORBOARD IS NOT TESTED IN A BROWSER HERE: {error}"
        (pytest.fail if os.environ.get("CI") else pytest.skip)(advice)
    page = Page(program)
    yield page
    page.close()


@pytest.fixture
def look(browser, address, tmp_path):
    """Return a function that opens a tab of TensorBoard and waits until it shows something."""

    def opened(tab, expression, expected):
        browser.open("about:blank", 1400)
        browser.open(f"{address}#{tab}", 1400)
        end = time.monotonic() + 60
        found = None
        while found != expected and time.monotonic() < end:
            time.sleep(0.5)
            found = browser.evaluate(expression)
        picture = browser.call("Page.captureScreenshot")["data"]
        (tmp_path / f"{tab.split('&')[0]}.png").write_bytes(base64.b64decode(picture))
        assert found == expected
        assert faults(browser.events) == []

    return opened


def faults(events):
    """Return what went wrong in a page: exceptions, errors in the console, failed requests."""
    found = [p for m, p in events if m == "Runtime.exceptionThrown"]
    found += [p for m, p in events if m == "Runtime.consoleAPICalled" and p["type"] == "error"]
    found += [p for m, p in events if m == "Log.entryAdded" and p["entry"]["level"] == "error"]
    answers = [p["response"] for m, p in events if m == "Network.responseReceived"]
    return found + [answer["url"] for answer in answers if answer["status"] >= 400]


def test_the_curves_of_sparsity(look, browser):
    points = len(UPDATES)
    found = f"{POINTS}.slice(0, 3)"  # those that the filter finds; then come all tags
    look("scalars&_smoothingWeight=0&tagFilter=%5Esparsity%2F", found, [[points]] * 3)
    assert browser.evaluate(NAMES)[:3] == [
        *("sparsity/first/kernel", "sparsity/model", "sparsity/second/kernel")
    ]


def test_custom_scalars_show_each_layer_reached_on_asked(look, browser):
    n = len(UPDATES)
    flips = n - 1
    whole = [[n], [n, n], [flips, flips], [n, n]]
    look("custom_scalars&_smoothingWeight=0", POINTS, [*whole, [n, n], [n, n]])
    titles = browser.evaluate(NAMES)
    assert titles[:2] == ["sparsity of the model", "sparsity of each weight"]
    assert titles[-2:] == ["first", "second"]
    assert len(titles) == 6


def test_the_pictures_of_the_masks(look, browser):
    look("images", PICTURES, [[6, 5], [3, 6]])  # inputs run down
    assert browser.evaluate(f"{ALL}('tf-image-loader').map(e => e.tag)") == [
        *("mask/first/kernel", "mask/second/kernel")
    ]


def test_the_histograms_of_what_survives(look, browser):
    look("histograms", OUTLINES, [len(UPDATES)] * 2)
    assert browser.evaluate(f"{ALL}('tf-histogram-loader').map(e => e.tag)") == [
        *("surviving_weights/first/kernel", "surviving_weights/second/kernel")
    ]


def test_the_trials_of_a_search_side_by_side(look, browser, logdir):
    trials = json.loads((logdir / "search" / "search.json").read_text())["trials"]
    names = [f"search/logs/trial-{n}-{t['sparsity']:.4f}" for n, t in enumerate(trials, 1)]
    look("hparams", f"{CELLS}.filter(t => t.includes('trial-'))", names)
    cells = browser.evaluate(CELLS)
    head = ["Trial ID", "Show Metrics", "outcome", "sparsity", "accuracy", "gzip_bytes", "zeros"]
    assert cells[: len(head)] == head
    rows = [cells.index(name) for name in names]
    assert cells[rows[0] + 1] == "within the budget"
    assert float(cells[rows[0] + 3]) == pytest.approx(trials[0]["value"], abs=1e-4)
    assert cells[rows[1] + 1 : rows[2]] == ["failed", f"{trials[1]['sparsity']:.5f}"]


def test_the_probe_sees_faults(browser, tmp_path):
    """A page with every fault: the checks above must not be blind."""
    bad = tmp_path / "bad.html"
    bad.write_text(
        "<script>console.error('x')</script><script>throw Error('y')</script>"
        "<img src='http://127.0.0.1:9/x.png'>"
    )
    browser.open(bad.as_uri(), 1400)
    assert len(faults(browser.events)) >= 3
