"""The site builds, asks no other host for anything, and has every public name once."""

import importlib
import os
import pathlib
import re
import subprocess
import sys

import pytest
from reporting.devtools import Page

import tfprune
from tfprune.benchmarking import MissingTool
from tfprune.benchmarking.litertjs import find_browser_program

ROOT = pathlib.Path(__file__).parent.parent
DOCS = ROOT / "docs"


def test_every_public_name_stands_on_one_page_of_the_reference():
    described = []
    for path in (DOCS / "reference").glob("*.md"):
        described += re.findall(r"(?m)^::: (\S+)$", path.read_text("utf-8"))
    for full in described:
        module, public = full.rsplit(".", 1)
        assert getattr(importlib.import_module(module), public) is getattr(tfprune, public), full
    once = sorted(full.rsplit(".", 1)[1] for full in described)
    add = "a name needs its line `::: tfprune.FILE.NAME` in docs/reference, and stands in its list"
    assert once == sorted(tfprune.__all__), add


def test_the_list_of_the_reference_leads_to_each_name():
    rows = re.findall(r"\((\w[\w-]*\.md)\) \| (.*) \|", (DOCS / "reference/index.md").read_text())
    listed = {file: re.findall(r"`(\w+)`", cells) for file, cells in rows}
    assert len(listed) == len(list((DOCS / "reference").glob("*.md"))) - 1
    for file, names in listed.items():
        page = (DOCS / "reference" / file).read_text("utf-8")
        assert re.findall(r"(?m)^::: \S+\.(\w+)$", page) == names, file


@pytest.fixture(scope="module")
def site(tmp_path_factory):
    """The built site; a warning fails the build, unless `--quiet` hides it from the count."""
    folder = tmp_path_factory.mktemp("site")
    done = subprocess.run(
        [sys.executable, "-m", "mkdocs", "build", "--strict", "-d", str(folder)],
        cwd=ROOT, capture_output=True, text=True, timeout=300, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stdout + done.stderr
    return folder


@pytest.mark.journey
def test_the_site_loads_nothing_from_other_hosts(site):
    loaded = re.compile(
        r"""<(?:script|img|iframe|source|video)\b[^>]*\bsrc=["']?(?:https?:)?//[^"'\s>]+"""
        r"""|<link\b(?=[^>]*rel=["']?(?:stylesheet|icon|preload|preconnect))[^>]*"""
        r"""href=["']?(?:https?:)?//[^"'\s>]+"""
    )
    pages = list(site.rglob("*.html"))
    assert len(pages) > 30
    found = {page: loaded.search(page.read_text("utf-8")) for page in pages}
    assert {page: match[0] for page, match in found.items() if match} == {}
    for style in site.rglob("*.css"):
        assert not re.search(r"""url\(["']?(https?:)?//""", style.read_text("utf-8")), style
    for picture in site.glob("*.svg"):
        assert not re.search(r"""url\(["']?https?:""", picture.read_text("utf-8")), picture


WIDE = """[...document.querySelectorAll('article table')].filter(
  e => e.getBoundingClientRect().width > e.closest('article').clientWidth)
  .map(e => e.textContent.slice(0, 40))"""


@pytest.mark.journey
def test_tables_can_be_read_on_a_phone(site):
    """None is wider than the screen, where its last column would be out of sight."""
    try:
        page = Page(find_browser_program(None))
    except MissingTool as error:
        advice = f"THE SITE IS NOT TESTED IN A BROWSER HERE: {error}"
        (pytest.fail if os.environ.get("CI") else pytest.skip)(advice)
    try:
        for name in ("from-tfmot", "how-to/several-workers", "explanations/which-technique"):
            page.open((site / name / "index.html").as_uri(), 375)
            assert page.evaluate("document.querySelectorAll('article table').length") > 0
            assert page.evaluate(WIDE) == []
            assert page.evaluate("document.documentElement.scrollWidth") == 375
        targets = page.evaluate("[...document.querySelectorAll('article h3')].map(e => e.id)")
        links = "[...document.querySelectorAll('article p a')].map(e => e.hash.slice(1))"
        assert len(targets) == 8
        assert set(targets) <= set(page.evaluate(links))
    finally:
        page.close()


@pytest.mark.journey
def test_names_of_the_reference_are_shown_with_their_examples(site):
    for public in ("export_tflite", "PolynomialDecay"):
        file = "export" if public == "export_tflite" else "schedules"
        text = (site / "reference" / file / "index.html").read_text("utf-8")
        assert re.search(rf'id="tfprune\.[\w.]*\.{public}"', text)
        assert re.search(r'<div class="[^"]*highlight', text)
        assert "Raises" in text
