"""The page in headless Chromium: silent, without network, on a desktop and on a phone."""

import sys

import pytest

from tfprune.benchmarking import MissingTool
from tfprune.benchmarking.litertjs import find_browser_program
from tfprune.reporting.reporter import report as write

from .devtools import Page

IMAGES = """Promise.all([...document.images].map(i => i.decode().then(() => i.naturalWidth)))"""
WIDE = """[...document.querySelectorAll('body *')].filter(e => !e.closest('.table') &&
  !e.matches('.skip') && e.getBoundingClientRect().right > innerWidth + 1).map(e => e.outerHTML)"""


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
    assert len(widths) == 7
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


def test_before_and_after_can_be_read_on_a_phone_without_scrolling(browser, address):
    browser.open(address, 375)
    right = "document.querySelectorAll('thead th')[2].getBoundingClientRect().right"
    assert browser.evaluate(right) <= 375
    size = "parseFloat(getComputedStyle(document.querySelector('td')).fontSize)"
    assert browser.evaluate(size) >= 14


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
