"""The page in headless Chromium: silent, without network, on a desktop and on a phone."""

import collections
import sys

import pytest

from tfprune.benchmarking import MissingTool
from tfprune.benchmarking.litertjs import find_browser_program
from tfprune.reporting.reporter import report as write

from .devtools import Page

IMAGES = """Promise.all([...document.images].map(i => i.decode().then(() => i.naturalWidth)))"""
WIDE = """[...document.querySelectorAll('body *')].filter(e => !e.closest('.table') &&
  !e.matches('.skip') && e.getBoundingClientRect().right > innerWidth + 1).map(e => e.outerHTML)"""

# Cells that are not wholly on the screen, or whose text is wider than they are. `innerWidth` is no
# measure: it grows with a page that is too wide for a phone.
HIDDEN = """[...document.querySelectorAll('tbody th, tbody td')].filter(e => {
  const r = e.getBoundingClientRect();
  return r.left < 0 || r.right > screen.width || r.width < 20 || r.height < 10
    || e.scrollWidth > e.clientWidth + 1
    || e.closest('.table').scrollWidth > e.closest('.table').clientWidth;
}).map(e => e.outerHTML)"""
# Cells before which the name of their column does not stand.
UNNAMED = """[...document.querySelectorAll('tbody td')].filter(e => {
  const column = e.closest('table').querySelectorAll('thead th')[e.cellIndex].textContent;
  const style = getComputedStyle(e, '::before');
  return !style.content.startsWith(JSON.stringify(column)) || style.display !== 'block';
}).map(e => e.outerHTML)"""
# Words of names, of 15 letters at most, that take more than one line.
TORN = """[...document.querySelectorAll('tbody th')].flatMap(e => {
  const texts = document.createTreeWalker(e, NodeFilter.SHOW_TEXT), found = [];
  while (texts.nextNode()) for (const m of texts.currentNode.data.matchAll(/\\w+/g)) {
    const range = document.createRange();
    range.setStart(texts.currentNode, m.index);
    range.setEnd(texts.currentNode, m.index + m[0].length);
    if (m[0].length < 16 && range.getClientRects().length > 1) found.push(m[0]);
  }
  return found;
})"""


@pytest.fixture(scope="module")
def browser():
    if sys.platform == "win32":
        pytest.skip("the pipe to the browser needs POSIX")
    try:
        program = find_browser_program(None)
    except MissingTool as error:
        pytest.skip(f"THE PAGE IS NOT TESTED IN A BROWSER HERE: {error}")
    page = Page(program)
    yield page
    page.close()


@pytest.fixture(scope="module")
def address(run_dir, tmp_path_factory):
    out = tmp_path_factory.mktemp("out") / "page.html"
    write(run_dir, out=out)
    return out.as_uri()


@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("width", [1280, 375])
def test_the_page_is_silent_whole_and_fits(browser, address, width, scheme):
    browser.open(address, width, scheme)
    widths = browser.evaluate(IMAGES)
    assert len(widths) == 8
    assert min(widths) > 0
    assert browser.evaluate("document.documentElement.scrollWidth") <= width
    assert browser.evaluate(WIDE) == []
    said = [method for method, _ in browser.events]
    assert not {"Log.entryAdded", "Runtime.consoleAPICalled", "Runtime.exceptionThrown"} & {*said}
    asked = [e["request"]["url"] for m, e in browser.events if m == "Network.requestWillBeSent"]
    assert [url for url in asked if not url.startswith("data:")] == [address]
    dark = browser.evaluate("getComputedStyle(document.body).backgroundColor")
    assert (dark == "rgb(255, 255, 255)") == (scheme == "light")
    shown = browser.evaluate("document.images[0].currentSrc === document.images[0].src")
    assert shown == (scheme == "light")


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_tables_can_be_read_on_a_phone_without_scrolling(browser, address, scheme):
    browser.open(address, 375, scheme)
    assert browser.evaluate(HIDDEN) == []
    assert browser.evaluate(UNNAMED) == []
    size = "parseFloat(getComputedStyle(document.querySelector('td')).fontSize)"
    assert browser.evaluate(size) >= 14


@pytest.mark.parametrize("width", [1280, 375])
def test_tables_are_tables_to_a_screen_reader(browser, address, width):
    """Blocks and grids lose their roles in some browsers unless the page states them."""
    browser.open(address, width)
    nodes = browser.call("Accessibility.getFullAXTree")["nodes"]
    roles = collections.Counter(n["role"]["value"] for n in nodes if not n["ignored"])
    named = [n["name"]["value"] for n in nodes if n.get("role", {}).get("value") == "table"]
    count = "document.querySelectorAll('{}').length"
    for role, tag in (
        *(("table", "table"), ("row", "tr"), ("cell", "td")),
        *(("columnheader", "thead th"), ("rowheader", "tbody th")),
    ):
        assert roles[role] == browser.evaluate(count.format(tag)), role
    assert all(named)
    assert "Before: dense float32; after: pruned float32 (report.json)" in named
    stated = "[...document.querySelectorAll('table, thead, tbody, tr, th, td')]"
    assert browser.evaluate(f"{stated}.every(e => e.hasAttribute('role'))")


def test_names_break_at_their_joints(browser, address):
    """No word of a name or a header is torn: each stands on one line."""
    for width in (1280, 375):
        browser.open(address, width)
        assert browser.evaluate(TORN) == []


def test_the_keyboard_meets_the_skip_link_first_and_can_scroll_tables(browser, address):
    browser.open(address, 375)
    browser.press_tab()
    assert browser.evaluate("document.activeElement.className") == "skip"
    assert browser.evaluate("document.activeElement.getBoundingClientRect().left") >= 0
    outline = browser.evaluate("getComputedStyle(document.activeElement).outlineStyle")
    assert outline == "solid"
    links = browser.evaluate("document.querySelectorAll('nav a').length")
    for _ in range(links + 1):
        browser.press_tab()
    assert browser.evaluate("document.activeElement.className") == "table"


def test_the_probe_sees_what_it_must(browser, tmp_path):
    """A page with every fault: the checks above must not be blind."""
    bad = tmp_path / "bad.html"
    bad.write_text(
        "<meta name=viewport content='width=device-width, initial-scale=1'><script>"
        "console.log('x')</script><img src='http://127.0.0.1:9/x.png'>"
        "<div style='width:600px'>wide</div>"
    )
    browser.open(bad.as_uri(), 375)
    said = {method for method, _ in browser.events}
    assert {"Runtime.consoleAPICalled", "Log.entryAdded"} <= said
    asked = [e["request"]["url"] for m, e in browser.events if m == "Network.requestWillBeSent"]
    assert "http://127.0.0.1:9/x.png" in asked
    assert browser.evaluate("document.documentElement.scrollWidth") == 608
