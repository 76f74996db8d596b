"""What the documents say is so: Python runs, commands exist, every public name has its page."""

import importlib.util
import pathlib
import re
import shutil
import sys
import textwrap
import types

import keras
import numpy as np
import pytest
import tensorflow as tf
import typer
import yaml

import tfprune
from tfprune import cli
from tfprune.layouts import Layout

ROOT = pathlib.Path(__file__).parent.parent
DOCS = ROOT / "docs"
DOCUMENTS = [ROOT / "README.md", ROOT / "CONTRIBUTING.md", *sorted(DOCS.rglob("*.md"))]
LANGUAGES = {"python", "sh", "yaml", "text"}

# What a shell line may begin with, but for `tfprune` itself.
TOOLS = {"pip", "python", "pytest", "ruff", "pyright", "mkdocs", "pre-commit", "tensorboard", "."}


def fences(text):
    """Return (language, line number, content) of each fenced block, indented ones too."""
    found = []
    for match in re.finditer(r"(?ms)^( *)```(\w*)[^\n]*\n(.*?)^\1``` *$", text):
        line = text.count("\n", 0, match.start()) + 1
        found.append((match[2], line, textwrap.dedent(match[3])))
    return found


def blocks(path, language):
    return [(line, code) for tag, line, code in fences(path.read_text("utf-8")) if tag == language]


def name(path):
    return str(path.relative_to(ROOT))


def with_block(language):
    return [pytest.param(p, id=name(p)) for p in DOCUMENTS if blocks(p, language)]


def test_blocks_are_found_where_they_stand():
    text = "a\n```python\nx = 1\n```\n\n- b\n\n  ```sh\n  tfprune doctor\n  ```\n"
    assert fences(text) == [("python", 2, "x = 1\n"), ("sh", 8, "tfprune doctor\n")]


@pytest.mark.parametrize("path", DOCUMENTS, ids=name)
def test_every_block_has_a_language_that_is_checked(path):
    text = path.read_text("utf-8")
    assert {language for language, _, _ in fences(text)} <= LANGUAGES
    assert text.count("```") == 2 * len(fences(text)), "a block without an end"


# --- Python ---


def images(count, seed):
    """Return images of 16x16 pixels in three classes: the colour that is strongest."""
    rng = np.random.default_rng(seed)
    labels = rng.integers(0, 3, count)
    x = rng.random((count, 16, 16, 3), np.float32) / 2
    x[np.arange(count), :, :, labels] += 0.5
    return x, labels


def network():
    """Return a classifier whose 1x1 convolutions can run sparse, with the README's layers."""
    layers = keras.layers
    return keras.Sequential(
        [
            keras.Input((16, 16, 3)),
            layers.ZeroPadding2D(1),
            layers.Conv2D(8, 3, strides=2, name="conv1"),
            layers.BatchNormalization(),
            layers.ReLU(),
            layers.Conv2D(16, 1, name="conv2"),
            layers.ReLU(),
            layers.DepthwiseConv2D(3, padding="same"),
            layers.Conv2D(16, 1, activation="relu", name="block"),
            layers.GlobalAveragePooling2D(),
            layers.Dense(16, activation="relu", name="wide"),
            layers.Dense(3, activation="softmax", name="logits"),
        ],
        name="small",
    )


@pytest.fixture(scope="module")
def trained(tmp_path_factory):
    """A folder with a trained model and its dense `.tflite` file."""
    folder = tmp_path_factory.mktemp("trained")
    keras.utils.set_random_seed(0)
    model = network()
    model.compile(
        keras.optimizers.Adam(0.01), "sparse_categorical_crossentropy", metrics=["accuracy"]
    )
    model.fit(*images(256, 0), epochs=8, verbose=0)
    model.save(folder / "trained.keras")
    tfprune.export_tflite(model, folder / "dense.tflite")
    return folder


@pytest.fixture
def page(trained, tmp_path, monkeypatch):
    """A module in which the blocks of one page run, in a folder with what a reader has."""
    for path in trained.iterdir():
        shutil.copy(path, tmp_path)
    monkeypatch.chdir(tmp_path)
    module = types.ModuleType("page")
    monkeypatch.setitem(sys.modules, "page", module)  # classes are found through it
    if importlib.util.find_spec("ray") is not None:  # as it does with a script of the reader's
        importlib.import_module("ray.cloudpickle").register_pickle_by_value(module)
    x, y = images(64, 1)
    x_test, y_test = images(96, 2)

    def train_step(x, y):
        model = module.pruned
        with tf.GradientTape() as tape:
            loss = keras.losses.sparse_categorical_crossentropy(y, model(x, training=True))
        optimizer = keras.optimizers.SGD(0.01)
        optimizer.apply(tape.gradient(loss, model.trainable_variables), model.trainable_variables)

    class Scale(keras.layers.Layer):
        def build(self, shape):
            self.factors = self.add_weight(shape=shape[-1:], name="factors")

        def call(self, inputs):
            return inputs * self.factors

    module.__dict__.update(
        keras=keras, np=np, tfprune=tfprune, model=keras.models.load_model("trained.keras"),
        x=x, y=y, x_train=x, y_train=y, x_test=x_test, y_test=y_test,
        epochs=2, batches=[(x, y)], train_step=train_step, Scale=Scale,
    )  # fmt: skip
    return module


def execute(path, page):
    """Run a page's Python from top to bottom; a fault shows the page's own line."""
    for line, code in blocks(path, "python"):
        exec(compile("\n" * line + code, str(path), "exec"), page.__dict__)


@pytest.mark.journey
@pytest.mark.parametrize("path", [p for p in with_block("python") if p.id != "CONTRIBUTING.md"])
def test_the_python_of_a_page_runs(path, page):
    execute(path, page)


@pytest.mark.journey
def test_what_contributors_are_shown_is_right(page):
    path = ROOT / "CONTRIBUTING.md"
    assert len(path.read_text("utf-8").split("\n")) <= 60
    execute(path, page)
    lengths = [code.count("\n") for _, code in blocks(path, "python")]
    assert len(lengths) == 3
    assert max(lengths) <= 12

    scores = np.array([[3.0, 4.0], [1.0, 2.0], [5.0, 1.0], [0.5, 0.5]])
    mask, _ = page.Rows().mask(scores, Layout((0,), (1,)), 0.5, None)
    assert mask.tolist() == [[True, True], [False, False], [True, True], [False, False]]

    schedule = page.Halves(300)
    assert [schedule(step) for step in (99, 100, 250, 300)] == [
        (False, 0.0), (True, 0.5), (False, 0.75), (True, 0.875),
    ]  # fmt: skip

    layers = keras.layers
    model = keras.Sequential(
        [keras.Input((4,)), layers.Dense(8, name="first"), page.Scale(), layers.Dense(2)]
    )
    small, _ = tfprune.shrink(model, channels={"first": 0.5})
    assert small.get_layer("scale").factors.shape == (4,)


# --- other languages ---


@pytest.mark.parametrize("path", with_block("yaml"))
def test_yaml_blocks_are_rules(path, tmp_path):
    for _, text in blocks(path, "yaml"):
        (tmp_path / "rules.yaml").write_text(text, "utf-8")
        model = network()
        assert tfprune.summary(tfprune.prune(model, tmp_path / "rules.yaml")).rows
        assert {"rules"} <= set(yaml.safe_load(text)) <= {"rules", "distribution"}


def commands(path):
    """Return the shell commands of a page, each as a list of words.

    Those in `sh` blocks, in indented blocks that begin with `pip`, and `tfprune ...` in prose.
    """
    text = path.read_text("utf-8")
    lines = [line for _, code in blocks(path, "sh") for line in code.split("\n")]
    lines += re.findall(r"(?m)^    (pip .*)$", text)
    lines += re.findall(r"(?<!`)`(tfprune [^`\n]+)`(?!`)", text)
    joined = "\n".join(lines).replace("\\\n", " ")
    parts = re.split(r"\n|&&", re.sub(r"(?m)(^|\s)#.*$", "", joined))
    return [part.split() for part in parts if part.strip()]


def fault_of(words):
    """Return what is wrong with a command, None if nothing is."""
    if words[0] == "pip":
        asked = re.findall(r"\w+", "".join(re.findall(r"\[([\w,]+)\]", " ".join(words))))
        known = re.findall(r'(?m)^ +"(\w+)": [A-Z\[]', (ROOT / "setup.py").read_text("utf-8"))
        return next((f"no extra {extra}" for extra in asked if extra not in known), None)
    if words[0] == "python" and words[1].endswith(".py"):
        return None if (ROOT / words[1]).is_file() else f"no file {words[1]}"
    if words[0] != "tfprune":
        return None if words[0] in TOOLS else f"no tool {words[0]}"
    command = typer.main.get_command(cli.app)
    if not words[1].startswith("-"):
        if words[1] not in command.commands:
            return f"no command {words[1]}"
        command = command.commands[words[1]]
    known = {option for parameter in command.params for option in parameter.opts} | {"--help"}
    wrong = [word for word in words if word.startswith("-") and word not in known]
    return f"no option {wrong[0]}" if wrong else None


@pytest.mark.parametrize("path", DOCUMENTS, ids=name)
def test_commands_exist_and_have_these_options(path):
    assert [(words, fault_of(words)) for words in commands(path) if fault_of(words)] == []


@pytest.mark.parametrize(
    ("words", "fault"),
    [
        ("tfprune shrink MODEL --mac 0.5", "no option --mac"),
        ("tfprune prune MODEL", "no command prune"),
        ("tfprune --versions", "no option --versions"),
        ("tfprune count MODEL --json", None),
        ('pip install ".[documents]"', "no extra documents"),
        ("python benchmarks/nothing.py", "no file benchmarks/nothing.py"),
        ("conda install tfprune", "no tool conda"),
    ],
)
def test_the_check_of_commands_sees_a_wrong_one(words, fault):
    assert fault_of(words.split()) == fault
