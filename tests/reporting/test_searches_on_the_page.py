"""A search on the page: out of its folder, finished or not, once and no more."""

import json
import shutil

from tfprune.reporting.reporter import report as write

from .conftest import SUMMARY, tables_of


def test_a_search_is_told_by_its_folder_once(searched, tmp_path):
    folder, result = searched
    done = write(folder, out=tmp_path / "page.html")
    assert done.sections[:2] == ("Before and after", "Search")
    assert done.notes == ()
    tables = tables_of(tmp_path / "page.md")
    by_search, counted = [{r[0]: r[1:3] for r in t} for c, t in tables.items() if "Before" in c]
    chosen = result.trials[result.best]
    assert by_search["accuracy"] == [f"{v:.1%}".replace("%", " %") for v in (1.0, chosen.value)]
    total, zeros = 563, round(chosen.reached * 520)  # 10x40 + 40x3 weights, and 43 biases
    assert counted["nonzero parameters"][0] == str(total)
    assert int(counted["nonzero parameters"][1]) <= total - zeros
    (caption,) = [caption for caption in tables if "may fall by" in caption]
    assert len(tables[caption]) == 2 + len(result.trials)
    text = (tmp_path / "page.md").read_text("utf-8")
    assert "Curve of accuracy over zeros for 2 trials" in text

    # Saved beside it, and handed over: told once more by neither, and nothing is "not read".
    result.to_json(folder / "result.json")
    done = write(folder, results=[result], out=tmp_path / "again.html")
    assert done.notes == ()
    again = (tmp_path / "again.md").read_text("utf-8")
    assert again.count("Curve of accuracy") == again.count("may fall by") == 1
    (folder / "result.json").unlink()


def test_of_a_search_that_went_on_the_longer_account_is_shown(searched, tmp_path):
    folder, result = searched
    earlier = {**result.to_dict(), "trials": result.to_dict()["trials"][:1], "best": 0}
    (tmp_path / "run" / "search").mkdir(parents=True)
    (tmp_path / "run" / "earlier.json").write_text(json.dumps(earlier))
    shutil.copy(folder / "search.json", tmp_path / "run" / "search")
    write(tmp_path / "run", out=tmp_path / "page.html")
    text = (tmp_path / "page.md").read_text("utf-8")
    assert "(search/search.json)" in text
    assert "earlier.json" not in text
    other = {**earlier, "max_drop": 0.5}  # another budget: another search
    (tmp_path / "run" / "earlier.json").write_text(json.dumps(other))
    write(tmp_path / "run", out=tmp_path / "page.html", overwrite=True)
    text = (tmp_path / "page.md").read_text("utf-8")
    assert text.count("Curve of accuracy") == 2


def test_trials_without_figures_are_named(searched, tmp_path):
    record = json.loads((searched[0] / "search.json").read_text())
    record["trials"][1] |= {"value": None, "reached": None, "cost": None, "failure": "out of it"}
    (tmp_path / "search.json").write_text(json.dumps(record))
    write(tmp_path)
    text = (tmp_path / "report.md").read_text("utf-8")
    assert "| trial 2: no figures | out of it | search.json |" in text
    assert "1 (chosen)" in text


def test_a_damaged_record_is_a_note(searched, tmp_path):
    record = json.loads((searched[0] / "search.json").read_text())
    record["trials"][0]["sparsity"] = "much"
    (tmp_path / "search.json").write_text(json.dumps(record))
    (tmp_path / "summary.json").write_text(json.dumps(SUMMARY))
    (note,) = write(tmp_path).notes
    assert "search.json looks like" in note
