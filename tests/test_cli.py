import importlib
import inspect
import json
import os
import pathlib
import shlex
import subprocess
import sys

import numpy as np
import pytest
from typer.testing import CliRunner

import tfprune
from tfprune import cli

TFPRUNE = [sys.executable, "-c", "from tfprune.cli import main; main()"]
COMMANDS = (
    *("quickstart", "inspect", "benchmark", "explain", "export"),
    *("shrink", "count", "sensitivity", "report", "demo", "board"),
)
ENVIRONMENT = {
    **os.environ,
    "PYTHONPATH": str(pathlib.Path(tfprune.__file__).parent.parent),
    "COLUMNS": "100",
}


def run(*arguments, code=None):
    """Run the command in a process of its own, or other code."""
    command = TFPRUNE if code is None else [sys.executable, "-c", code]
    return subprocess.run(
        [*command, *map(str, arguments)],
        capture_output=True,
        text=True,
        env=ENVIRONMENT,
        check=False,
        timeout=120,
    )


def call(*arguments):
    """Run the command in this process."""
    return CliRunner().invoke(cli.app, [str(argument) for argument in arguments])


@pytest.fixture(scope="module")
def model_file(tmp_path_factory):
    import keras

    path = tmp_path_factory.mktemp("model") / "small.keras"
    model = keras.Sequential([keras.Input((4,)), keras.layers.Dense(6, name="half")])
    kernel = np.ones((4, 6), "float32")
    kernel[:2] = 0
    model.layers[0].set_weights([kernel, np.ones(6)])
    model.save(path)
    return path


@pytest.mark.parametrize(
    ("arguments", "received"),
    [
        (("export", "m.keras", "--runs", "0"), "--runs 0"),
        (("export", "m.keras", "--threads", "abc"), "--threads abc"),
        (("quickstart", "--dataset", "nope"), "--dataset nope"),
        (("board", "--port", "99999999"), "--port 99999999"),
    ],
)
def test_what_an_option_refuses_is_shown(arguments, received):
    result = call(*arguments)
    assert result.exit_code == 2
    words = " ".join(result.output.replace("\u2502", " ").split())
    assert "Value error" not in words
    assert f"See --help. Received: {received}" in words


def test_a_folder_for_the_digits_is_bad_usage():
    result = call("quickstart", "--data-dir", "somewhere")
    assert result.exit_code == 2
    words = " ".join(result.output.replace("\u2502", " ").split())
    assert "The digits ship inside tfprune" in words
    assert "Received: --data-dir somewhere" in words


def test_version_and_help_load_nothing_heavy(tmp_path):
    """With TensorFlow, Keras and TensorBoard out of reach, both still answer."""
    block = (
        "import sys\n"
        "for name in ('tensorflow', 'keras', 'tensorboard', 'matplotlib', 'tf_keras'):\n"
        "    sys.modules[name] = None\n"
        "from tfprune.cli import main; main()"
    )
    version = run("--version", code=block)
    assert version.stdout == f"tfprune {tfprune.__version__}\n"
    assert (version.returncode, version.stderr) == (0, "")
    assert run("quickstart", "--help", code=block).returncode == 0
    needs_keras = run("quickstart", "--out", tmp_path / "out", code=block)
    assert needs_keras.returncode == 1, "the block does not block"


@pytest.mark.parametrize("command", [[], *([name] for name in COMMANDS)])
def test_help_of_every_command_has_examples(command):
    result = call(*command, "--help")
    assert result.exit_code == 0
    assert "Examples:" in result.stdout
    assert f"$ tfprune {' '.join(command)}".strip() in result.stdout


def examples():
    """Return the command lines that the help texts show, as lists of arguments."""
    groups = [cli.app.registered_callback, *cli.app.registered_commands]
    lines = "\n".join(group.epilog for group in groups).splitlines()
    return [shlex.split(line)[2:] for line in lines if line.startswith("$ tfprune ")]


def test_every_example_of_the_help_texts_can_be_run(monkeypatch, tmp_path):
    from tfprune import (
        benchmarking,
        board_command,
        channel_commands,
        demo_command,
        export,
        quickstart,
        reporting,
        sensitivity_command,
        variants,
        weightfiles,
    )
    from tfprune.export import explanation
    from tfprune.export.xnnpack.verdict import Verdict
    from tfprune.variants import data as variants_data

    calls = []

    class Axes:
        class figure:
            savefig = staticmethod(lambda path, **_: pathlib.Path(path).touch())

    class Result:
        failed = ()
        problems = ()
        best = "float32"
        verdict = Verdict("fast", "")

        def to_json(self, *arguments):
            return "{}"

        def save(self, path):
            pathlib.Path(path).touch()

        def plot(self):
            return Axes(), None

        url = "http://127.0.0.1:1/page"

        def __enter__(self):
            return self

        def __exit__(self, *failure):
            pass

    def interrupt(seconds):
        raise KeyboardInterrupt

    def record(*arguments, **options):
        calls.append(arguments)
        return Result()

    monkeypatch.chdir(tmp_path)
    pathlib.Path("model.keras").write_text("a model")
    for commands in (channel_commands, sensitivity_command):
        monkeypatch.setattr(commands, "load_model", lambda path, **_: path)
    monkeypatch.setattr(importlib.import_module("tfprune.count"), "count", record)
    monkeypatch.setattr(importlib.import_module("tfprune.doctor"), "doctor", record)
    shrink = importlib.import_module("tfprune.shrink")
    monkeypatch.setattr(shrink, "shrink", lambda *_, **options: (record(), Result()))
    measuring = importlib.import_module("tfprune.sensitivity.measuring")
    monkeypatch.setattr(measuring, "sensitivity", record)
    monkeypatch.setattr(variants_data, "read_samples", lambda path: None)
    monkeypatch.setattr(export, "export_tflite", lambda model, path, **_: path.touch())

    monkeypatch.setattr(quickstart, "quickstart", record)
    monkeypatch.setattr(weightfiles, "inspect_file", record)
    monkeypatch.setattr(benchmarking, "benchmark", record)
    monkeypatch.setattr(benchmarking, "demo_page", record)
    monkeypatch.setattr(demo_command.time, "sleep", interrupt)
    monkeypatch.setattr(demo_command.webbrowser, "open", str)
    monkeypatch.setattr(explanation, "explain", record)
    monkeypatch.setattr(variants, "export_variants", record)
    monkeypatch.setattr(reporting, "report", record)
    monkeypatch.setattr(board_command, "require_runs", pathlib.Path)
    monkeypatch.setattr(board_command, "launch", record)
    assert len(examples()) >= 12
    for arguments in examples():
        result = call(*arguments)
        assert (result.exit_code, result.stderr) == (0, ""), arguments
        for path in [*tmp_path.glob("small.*"), *tmp_path.glob("found.*")]:
            path.unlink()
    assert len(calls) == len(examples())


def test_examples_name_files_that_a_quickstart_writes():
    from tfprune import quickstart_folder

    paths = [pathlib.Path(word) for words in examples() for word in words]
    named = [path.name for path in paths if path.parent.name == "tfprune-quickstart"]
    assert named
    assert set(named) <= set(quickstart_folder.FILES)


@pytest.mark.parametrize("command", cli.app.registered_commands, ids=lambda c: c.callback.__name__)
def test_help_breaks_where_the_terminal_does(command):
    """All lines but those of the first paragraph are kept: one that goes on would break twice."""
    _, *thoughts = inspect.getdoc(command.callback).split("\n\n")
    assert [thought for thought in thoughts if "\n" in thought] == []
    assert all(thought[-1] == "." for thought in thoughts)


def test_help_names_every_command_and_dataset():
    assert set(COMMANDS) <= set(call("--help").stdout.split())
    from tfprune import datasets

    assert [choice.value for choice in cli.DatasetName] == list(datasets.NAMES)
    text = call("quickstart", "--help").stdout
    assert all(name in text for name in datasets.NAMES)


@pytest.mark.parametrize(
    "arguments",
    [
        [],
        ["prune"],
        ["--bogus"],
        ["inspect"],
        ["inspect", "a.keras", "b.keras"],
        ["quickstart", "--dataset", "imagenet"],
        ["quickstart", "--out"],
        ["quickstart", "extra"],
    ],
)
def test_bad_usage_exits_with_2(arguments):
    assert call(*arguments).exit_code == 2


def test_bad_usage_names_the_choices():
    result = call("quickstart", "--dataset", "imagenet")
    assert "fashion_mnist" in result.output


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["inspect", "nowhere.keras"], "nowhere.keras"),
        (["inspect", "{file}"], "notes.txt"),
        (["quickstart", "--out", "{file}"], "notes.txt"),
        (["quickstart", "--out", "{folder}"], "notes.txt"),
        (["quickstart", "--out", "{folder}", "--overwrite"], "notes.txt"),
        (["quickstart", "--out", "{new}", "--dataset", "mnist", "--data-dir", "{folder}"], "IDX"),
    ],
)
def test_failures_exit_with_1_and_one_line(tmp_path, arguments, message):
    file = tmp_path / "notes.txt"
    file.write_text("kept")
    places = {"file": file, "folder": tmp_path, "new": tmp_path / "new"}
    result = call(*(argument.format(**places) for argument in arguments))
    assert result.exit_code == 1
    assert result.stdout == ""
    assert result.stderr.startswith("Error: ")
    assert message in result.stderr
    assert len(result.stderr.strip().splitlines()) == 1
    assert file.read_text() == "kept"


def test_a_failure_has_no_traceback_in_a_process_of_its_own(tmp_path):
    result = run("inspect", tmp_path / "nowhere.tflite")
    assert result.returncode == 1
    assert result.stdout == ""
    assert len(result.stderr.splitlines()) == 1, result.stderr


def test_an_error_of_our_own_making_is_not_hidden(monkeypatch, model_file):
    from tfprune import weightfiles

    def fail(path):
        raise KeyError("a bug")

    monkeypatch.setattr(weightfiles, "inspect_file", fail)
    assert isinstance(call("inspect", model_file).exception, KeyError)


def test_inspect_prints_a_table(model_file):
    result = run("inspect", model_file)
    assert result.returncode == 0, result.stderr
    assert "half" in result.stdout
    assert "50" in result.stdout
    assert result.stderr == "", "TensorFlow's chatter came through"


def test_inspect_prints_json(model_file):
    result = call("inspect", model_file, "--json")
    assert result.exit_code == 0
    assert "half" in json.dumps(json.loads(result.stdout))


HELD_BACK = """
import os, sys
from tfprune import console
with console.without_native_chatter():
    os.write(2, b"native chatter\\n")
    print("a warning", file=sys.stderr)
    {then}
print("after", file=sys.stderr)
"""


def test_native_chatter_is_held_back():
    result = run(code=HELD_BACK.format(then="pass"))
    assert result.returncode == 0
    assert result.stderr == "a warning\nafter\n"


def test_native_chatter_is_shown_when_the_command_breaks():
    result = run(code=HELD_BACK.format(then="raise KeyError('a bug')"))
    assert result.returncode == 1
    assert "native chatter" in result.stderr
    assert "KeyError" in result.stderr


@pytest.mark.parametrize("options", [[], ["--json"]])
def test_a_reader_that_leaves_early_gets_no_complaint(model_file, options):
    command = subprocess.Popen(
        [*TFPRUNE, "inspect", str(model_file), *options],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        env=ENVIRONMENT,
        text=True,
    )
    command.stdout.close()
    errors = command.stderr.read()
    command.stderr.close()
    assert command.wait(timeout=60) in (0, 1)
    assert errors == ""


LIGHT = """
from tfprune import quickstart
quickstart.RECIPES["digits"] = quickstart.Recipe(3, 32, 128, 1, 2)
from tfprune.cli import main; main()
"""


# Presses Ctrl-C while the second file is half done.
INTERRUPTED = """
import os, signal
from tfprune.export import verify
calls, compare = [], verify.compare
def interrupt(*arguments):
    calls.append(1)
    if len(calls) == 2:
        os.kill(os.getpid(), signal.SIGINT)
    return compare(*arguments)
verify.compare = interrupt
"""


@pytest.mark.slow
def test_ctrl_c_exits_with_130_and_leaves_finished_files_whole(tmp_path):
    out = tmp_path / "results"
    command = subprocess.run(
        [sys.executable, "-c", INTERRUPTED + LIGHT, "quickstart", "--out", str(out)],
        capture_output=True,
        env=ENVIRONMENT,
        text=True,
        check=False,
        timeout=180,
    )
    assert command.returncode == 130
    assert "Interrupted" in command.stderr
    assert "Traceback" not in command.stderr
    written = {path.name for path in out.iterdir()}
    assert {"logs", "model.keras", "dense-float32.tflite"} <= written
    assert "report.json" not in written
    assert not [name for name in written if name.startswith(".")], "half-written files"
    for name in written - {"logs"}:
        assert call("inspect", out / name).exit_code == 0, name
