"""The page as a whole: what it holds, where it is written, and when it is not."""

import dataclasses
import html.parser
import json
import pathlib
import re

import pytest
from typer.testing import CliRunner

import tfprune
from tfprune import cli
from tfprune.reporting import page as pages
from tfprune.reporting.reporter import report as write

from .conftest import NASTY, SUMMARY, tables_in, tables_of

VOID = {"meta", "link", "source", "img", "br", "wbr"}


class Outline(html.parser.HTMLParser):
    """Reads a page: its headings, its tables, and whether what is opened is closed."""

    def __init__(self, text):
        super().__init__()
        self.open, self.headings, self.ids, self.tags, self.targets = [], [], [], [], []
        self.feed(text)
        assert not self.open

    def handle_starttag(self, tag, attrs):
        attrs = dict(attrs)
        self.tags.append((tag, attrs))
        self.ids += [attrs["id"]] if "id" in attrs else []
        for name in ("href", "src", "srcset"):
            self.targets += [attrs[name]] if name in attrs else []
        if re.fullmatch("h[1-6]", tag):
            self.headings.append(int(tag[1]))
        if tag not in VOID:
            self.open.append(tag)

    def handle_endtag(self, tag):
        assert self.open.pop() == tag


@pytest.fixture(scope="module")
def written(run_dir, tmp_path_factory):
    out = tmp_path_factory.mktemp("out") / "page.html"
    done = tfprune.report(run_dir, out=out, title=f"A run of {NASTY}")
    return done, out.read_text("utf-8"), out.with_suffix(".md").read_text("utf-8")


def test_all_sections_are_there_and_what_is_missing_is_said(written):
    done, page, text = written
    names = ["Before and after", "Sparsity of each layer", "Exported files"]
    names += ["Latency, memory and energy", "Sensitivity", "Channel widths", "Search"]
    names += ["Skipped, and why", "Versions and seeds"]
    assert list(done.sections) == names
    assert [name for name, _ in done.missing] == ["Sparsity and accuracy over training"]
    for name in names:
        assert f">{name}</h2>" in page
        assert f"## {name}" in text
    assert re.findall(r"^(?:cut|damaged|package).json", "\n".join(sorted(done.notes)), re.M) == [
        *("cut.json", "damaged.json", "package.json")
    ]


def test_names_of_layers_are_text_and_nothing_else(written):
    _, page, text = written
    assert "<script" not in page
    assert "&lt;script&gt;alert(1)&lt;/script&gt;" in page
    assert "<script" not in text
    row = next(
        line for line in text.split("\n") if line.startswith("| &lt;script") and "72" in line
    )
    assert len(re.findall(r"(?<!\\)\|", row)) == 7  # six cells, whatever the name holds


def test_the_page_is_in_order_for_a_screen_reader(written):
    outline = Outline(written[1])
    assert outline.headings[0] == 1
    assert set(outline.headings[1:]) == {2}
    assert len(outline.ids) == len(set(outline.ids))
    assert ("html", {"lang": "en"}) in outline.tags
    for tag, attrs in outline.tags:
        if tag == "img":
            assert len(attrs["alt"]) > 20
        if tag == "th":
            assert attrs["scope"] in ("row", "col")
        if "aria-labelledby" in attrs:
            assert attrs["aria-labelledby"] in outline.ids
    count = [tag for tag, _ in outline.tags].count
    assert count("table") == count("caption") > 8
    local = [target[1:] for target in outline.targets if target.startswith("#")]
    assert set(local) <= set(outline.ids)
    assert all(target.startswith(("#", "data:")) for target in outline.targets)


def test_markdown_holds_the_same_tables(written):
    _, page, text = written
    captions = re.findall(r"<caption[^>]*><span>(.*?)</span>", page)
    assert [pages.markdown_text(c) for c in captions] == re.findall(r"^\*\*(.*)\*\*$", text, re.M)
    assert "| accuracy | 98.0 % | 97.0 % | -1.0 points |" in text


def test_every_pair_of_models_has_a_table_of_its_own(written):
    _, page, text = written
    tables = {c: [row[0] for row in t[2:]] for c, t in tables_in(text).items() if "Before" in c}
    sizes = ["file size", "file size, gzip"]
    benchmarked = [*sizes, "peak memory", "latency, median"]
    assert tables == {
        "Before: dense float32; after: pruned float32 (report.json)": [
            *("accuracy", "parameters", "nonzero parameters"),
            *("MACs, all", "MACs with nonzero weights"),
            *benchmarked,
        ],
        "Before: small; after: small shrunk to macs=0.5 (shrink.json)": ["parameters", "MACs, all"],
        "Before: dense.tflite; after: small.tflite (measured/benchmark.json)": benchmarked,
        "Before: dense.tflite; after: last.tflite (measured/benchmark.json)": benchmarked,
        "Before: the dense model; after: the chosen trial (search.json)": ["accuracy"],
    }
    missing = "Not measured before and after: energy of a run (no meter)."
    assert f"<li>{missing}</li>" in page
    assert missing in text


def test_results_of_one_kind_are_told_apart(benchmark, tmp_path):
    write(results=iter([benchmark, benchmark]), out=tmp_path / "page.html")
    captions = tables_of(tmp_path / "page.md")
    for number in (1, 2):
        assert f"Before: dense.tflite; after: last.tflite (BenchmarkResult {number})" in captions


def test_models_are_counted(small_model, tmp_path):
    pruned = tfprune.prune_low_magnitude(small_model, tfprune.ConstantSparsity(0.5, 0))
    small = tfprune.strip_pruning(pruned)
    done = tfprune.report(dense=small_model, pruned=small, out=tmp_path / "page.html")
    text = (tmp_path / "page.md").read_text("utf-8")
    total = f"{small_model.count_params():,}"
    assert f"| parameters | {total} | {total} | the same |" in text
    assert "Parameters and MACs" in done.sections
    captions = [caption for caption in tables_in(text) if "Before" in caption]
    assert captions == ["Before: the dense model; after: the pruned model (counted)"]


def test_a_model_in_the_folder_is_counted_and_a_broken_one_noted(small_model, tmp_path):
    small_model.save(tmp_path / "model.keras")
    (tmp_path / "dense.keras").write_bytes(b"broken")
    done = write(tmp_path)
    assert f"{small_model.count_params():,}" in (tmp_path / "report.md").read_text("utf-8")
    assert any("dense.keras was not counted" in note for note in done.notes)


def test_nothing_is_overwritten_or_half_written(run_dir, tmp_path, monkeypatch):
    out, text = tmp_path / "page.html", tmp_path / "page.md"
    text.write_text("mine")
    with pytest.raises(FileExistsError, match=r"page\.md"):
        write(run_dir, out=out)
    assert not out.exists()
    assert text.read_text() == "mine"
    write(run_dir, out=out, overwrite=True)
    text.unlink()
    with pytest.raises(FileExistsError, match=r"page\.html"):
        write(run_dir, out=out)
    assert not text.exists()
    write(run_dir, out=out, overwrite=True)
    before = out.read_bytes()
    monkeypatch.setattr(pages.Page, "html", lambda self: 1 / 0)
    with pytest.raises(ZeroDivisionError):
        write(run_dir, out=out, overwrite=True)
    assert out.read_bytes() == before
    assert sorted(path.name for path in tmp_path.iterdir()) == ["page.html", "page.md"]


def test_bad_input(tmp_path, search):
    with pytest.raises(ValueError, match="nothing to report on"):
        write()
    with pytest.raises(ValueError, match="has no place"):
        write(results=[search])
    with pytest.raises(ValueError, match=r"end in \.html"):
        write(tmp_path, out=tmp_path / "page.pdf")
    with pytest.raises(FileNotFoundError, match="does not exist"):
        write(tmp_path / "no")
    with pytest.raises(TypeError, match="results of tfprune"):
        write(results=[{"a": 1}], out=tmp_path / "page.html")
    with pytest.raises(ValueError, match=r"Received: out='page\.txt'$"):
        write(tmp_path, out=pathlib.Path("page.txt"))
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        ({"run_dir": 3}, "path of a run's folder.*Received: run_dir=3"),
        ({"results": 5}, "a list of results.*Received: results=5"),
        ({"results": None}, "a list of results.*Received: results=None"),
        ({"results": "bench.json"}, "a list of results.*Received: results='bench.json'"),
        ({"out": 3}, "path of the page.*Received: out=3"),
        ({"title": 3}, "must be a text.*Received: title=3"),
    ],
)
def test_arguments_of_the_wrong_type(tmp_path, wrong, message):
    (tmp_path / "summary.json").write_text(json.dumps(SUMMARY))
    with pytest.raises(TypeError, match=message):
        write(**{"run_dir": tmp_path, **wrong})
    assert len(list(tmp_path.iterdir())) == 1


def test_a_result_alone_is_no_list(tmp_path, search):
    with pytest.raises(TypeError, match=r"a list of results, such as `\[.*also of one alone"):
        write(results=search, out=tmp_path / "page.html")


def test_what_cannot_be_drawn_is_a_note(tmp_path, search):
    damaged = {**search.to_dict(), "max_drop": "much"}  # a number less a text, in the plot only
    (tmp_path / "search.json").write_text(json.dumps(damaged))
    (tmp_path / "summary.json").write_text(json.dumps(SUMMARY))
    done = write(tmp_path)
    assert done.sections == ("Before and after", "Versions and seeds")
    assert ["search.json looks like" in note for note in done.notes] == [True]


def test_what_is_not_there_is_said(tmp_path):
    (tmp_path / "summary.json").write_text(json.dumps(SUMMARY))
    done = write(tmp_path)
    assert done.sections == ("Before and after", "Versions and seeds")
    assert [name for name, _ in done.missing] == list(pages.HOW)[1:]


@pytest.mark.parametrize("foreign", [None, '{"name": "foreign"}', "{"])
def test_a_folder_without_a_run_is_an_error_and_nothing_is_written(tmp_path, foreign):
    if foreign is not None:
        (tmp_path / "package.json").write_text(foreign)
    before = sorted(tmp_path.iterdir())
    ran = CliRunner().invoke(cli.app, ["report", str(tmp_path)])
    assert ran.exit_code == 1
    said = " ".join(ran.output.split())
    for looked_for in ("*.json", "TensorBoard events", "model.keras", "*.tflite", "Received"):
        assert looked_for in said
    assert ("package.json" in said) == (foreign is not None)
    assert sorted(tmp_path.iterdir()) == before


def test_of_an_export_the_keras_model_is_compared_with_the_chosen_file(variants, tmp_path):
    rows = [
        dataclasses.replace(variants.rows[0], accuracy=0.895, median_ms=0.5),
        variants.rows[1],
    ]
    measured = dataclasses.replace(variants, rows=tuple(rows), conditions=("AMD EPYC",))
    measured.to_json(tmp_path / "variants.json")
    done = write(tmp_path)
    assert done.sections == (
        *("Exported files", "Latency, memory and energy"),
        *("Skipped, and why", "Versions and seeds"),
    )
    missing = dict(done.missing)
    assert "Latency, memory and energy" not in missing
    assert "tfprune benchmark" in missing["Energy"]
    tables = tables_of(tmp_path / "report.md")
    (chosen,) = [caption for caption in tables if "chosen file" in caption]
    assert tables[chosen][2:] == [["accuracy", "90.0 %", "89.5 %", "-0.5 points"]]
    assert "–" not in str(tables[chosen])
    assert "| float32 | 0.5 ms |" in (tmp_path / "report.md").read_text("utf-8")


def test_an_export_without_evaluation_compares_nothing(variants, tmp_path):
    rows = (dataclasses.replace(variants.rows[0], accuracy=None, median_ms=None),)
    dataclasses.replace(variants, rows=rows, baseline=None).to_json(tmp_path / "variants.json")
    done = write(tmp_path)
    assert "Before and after" not in done.sections
    assert "Latency, memory and energy" in dict(done.missing)
    assert "Energy" not in dict(done.missing)
    assert "chosen file" not in (tmp_path / "report.md").read_text("utf-8")


def test_the_command(run_dir, tmp_path):
    out = tmp_path / "page.html"
    call = ["report", str(run_dir), "--out", str(out), "--title", "Mine"]
    done = CliRunner().invoke(cli.app, call)
    assert done.exit_code == 0, done.output
    assert "page.html" in done.output
    assert "<h1>Mine</h1>" in out.read_text("utf-8")
    again = CliRunner().invoke(cli.app, call)
    assert again.exit_code == 1
    assert "--overwrite" in again.output
    assert CliRunner().invoke(cli.app, [*call, "--overwrite"]).exit_code == 0
    assert CliRunner().invoke(cli.app, ["report", str(tmp_path / "no")]).exit_code == 1
