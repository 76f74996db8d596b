"""The trials of a search as TensorBoard reads them: one run each, whatever was interrupted."""

import dataclasses
import json

import pytest
from searching import cut_only, data, network
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator
from tensorboard.plugins.hparams import metadata
from tensorboard.util import tensor_util

import tfprune
from tfprune.search import logs
from tfprune.search.result import Trial

TRIAL = Trial(0.7, 0.69, 0.9, 1200.0, True)


def read(run):
    """Return (hyperparameters, figures, status, texts) of a run."""
    events = EventAccumulator(str(run), size_guidance={"tensors": 0}).Reload()
    content = {
        tag: events.SummaryMetadata(tag).plugin_data.content for tag in events.Tags()["tensors"]
    }
    start = metadata.parse_session_start_info_plugin_data(content[metadata.SESSION_START_INFO_TAG])
    end = metadata.parse_session_end_info_plugin_data(content[metadata.SESSION_END_INFO_TAG])
    assert start.start_time_secs <= end.end_time_secs
    assert start.group_name == ""  # trials of two searches are no session group
    given = {
        name: getattr(value, value.WhichOneof("kind")) for name, value in start.hparams.items()
    }
    found = {}
    for tag in content:
        if not tag.startswith("_hparams_/"):
            (event,) = events.Tensors(tag)  # one: nothing was written twice
            found[tag] = tensor_util.make_ndarray(event.tensor_proto).item()
    texts = {tag: found.pop(tag).decode() for tag in list(found) if isinstance(found[tag], bytes)}
    return given, found, end.status, texts


def runs(folder):
    """Return the names of the runs, each of which has one file."""
    for run in (folder / "logs").iterdir():
        assert len(list(run.iterdir())) == 1
    return sorted(run.name for run in (folder / "logs").iterdir())


def search(model, train, folder, **options):
    given = {"trials": 3, "between": (0.1, 0.9), **options}
    return tfprune.search(model, data(model), 0.1, train=train, folder=folder, **given)


def failing(*numbers, error=MemoryError):
    """Return a function that trains, and raises at some of its calls."""
    calls = []

    def train(pruned):
        calls.append(1)
        if len(calls) in numbers:
            raise error("no room")
        cut_only(pruned)

    return train


def test_each_trial_is_a_run_with_what_it_was_and_what_it_reached(tmp_path):
    found = search(network(), failing(2), tmp_path)
    names = [f"trial-{n}-{trial.sparsity:.4f}" for n, trial in enumerate(found.trials, 1)]
    assert runs(tmp_path) == names
    for name, trial in zip(names, found.trials, strict=True):
        given, figures, status, texts = read(tmp_path / "logs" / name)
        assert given["sparsity"] == trial.sparsity
        if trial.failure:
            assert (given["outcome"], status, figures) == ("failed", 2, {})
            assert texts == {"failure": "MemoryError: no room"}
            continue
        assert given["outcome"] == ("within the budget" if trial.within else "beyond the budget")
        assert (status, texts) == (1, {})
        size = figures.pop("gzip_bytes")
        assert 500 < size < (tmp_path / trial.file).stat().st_size
        assert figures == pytest.approx({"accuracy": trial.value, "zeros": trial.reached})


def test_a_search_that_goes_on_leaves_what_was_written_and_adds_the_rest(tmp_path):
    model = network()
    with pytest.raises(KeyboardInterrupt):
        search(model, failing(2, error=KeyboardInterrupt), tmp_path)
    (first,) = runs(tmp_path)
    before = (tmp_path / "logs" / first / logs._FILE).read_bytes()
    search(model, failing(), tmp_path)
    assert len(runs(tmp_path)) == 3
    assert (tmp_path / "logs" / first / logs._FILE).read_bytes() == before


def test_a_trial_made_again_is_one_row_even_at_another_sparsity(tmp_path):
    model = network()
    options = {"trials": 2, "between": (0.1, 0.9), "folder": tmp_path}
    tfprune.search(model, data(model), 0.9, train=failing(1), **options)
    assert read(tmp_path / "logs" / "trial-1-0.5000")[2] == 2
    assert runs(tmp_path) == ["trial-1-0.5000", "trial-2-0.3000"]  # denser after a failure
    found = tfprune.search(model, data(model), 0.9, train=failing(), **options)
    assert runs(tmp_path) == ["trial-1-0.5000", "trial-2-0.7000"]  # sparser after a success
    given, figures, status, texts = read(tmp_path / "logs" / "trial-1-0.5000")
    assert (given["outcome"], status, texts) == ("within the budget", 1, {})
    assert figures["accuracy"] == pytest.approx(found.trials[0].value)


def test_a_run_that_was_not_written_in_time_is_written_by_the_next_search(tmp_path):
    model = network()
    search(model, failing(), tmp_path, trials=1)
    file = tmp_path / "logs" / "trial-1-0.5000" / logs._FILE
    file.unlink()
    search(model, failing(1), tmp_path, trials=1)  # taken from the folder, not trained
    assert read(file.parent)[2] == 1


def test_what_the_user_keeps_beside_it_stays(tmp_path):
    book = logs.Logs(tmp_path, "accuracy", "sparsity")
    book.write(1, TRIAL)
    mine = tmp_path / "logs" / "trial-1-0.7000" / "notes.txt"
    mine.write_text("mine")
    (tmp_path / "logs" / "trial-10-0.7000").mkdir()
    (tmp_path / "logs" / "trial-10-0.7000" / logs._FILE).write_bytes(b"of trial 10")
    book.begin(1)
    assert list(mine.parent.iterdir()) == [mine]
    assert (tmp_path / "logs" / "trial-10-0.7000" / logs._FILE).read_bytes() == b"of trial 10"


def test_without_a_folder_nothing_is_written(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    search(network(), failing(), None, trials=1)
    assert list(tmp_path.iterdir()) == []


def test_what_was_sampled_stands_by_name():
    sampled = {"a": 0.5, "b": 0.9, "method": "erk"}
    assert logs.hyperparameters(dataclasses.replace(TRIAL, settings=sampled)) == {
        "sparsity": 0.7,
        "sparsity of a": 0.5,
        "sparsity of b": 0.9,
        "method": "erk",
    }


def test_groups_of_optuna_are_columns(tmp_path):
    pytest.importorskip("optuna")
    search(network(), failing(), tmp_path, trials=1, engine="optuna")
    (run,) = runs(tmp_path)
    (trial,) = json.loads((tmp_path / "search.json").read_text())["trials"]
    given = read(tmp_path / "logs" / run)[0]
    assert {name: given[f"sparsity of {name}"] for name in ("a", "b")} == trial["settings"]


@pytest.mark.parametrize(
    ("objective", "expected"),
    [
        ("sparsity", {"loss": 0.9, "zeros": 0.69}),
        ("size", {"loss": 0.9, "zeros": 0.69, "tflite_bytes": 1200.0}),
        ("latency", {"loss": 0.9, "zeros": 0.69, "latency_ms": 1200.0}),
    ],
)
def test_figures_have_the_names_of_their_units(objective, expected):
    assert logs.figures(TRIAL, "loss", objective) == expected
    failed = dataclasses.replace(TRIAL, value=None, failure="MemoryError")
    assert logs.figures(failed, "loss", objective) == {}
