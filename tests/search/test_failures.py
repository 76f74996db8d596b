"""What is kept of an error, and the line of it that the table shows."""

import keras
import numpy as np
import pytest
from searching import data, network

import tfprune
from tfprune.search.failures import telling, text_of

GRAPH = """InvalidArgumentError: Graph execution error:

Detected at node loss/Softmax defined at (most recent call last):
  File "train.py", line 17, in <module>

Received a label value of 72 which is outside the valid range of [0, 3).  Label values: 70 72
\t [[{{node loss/Softmax}}]] [Op:__inference_step_931]"""

ROOTS = """InvalidArgumentError: Graph execution error:

2 root error(s) found.
  (0) INVALID_ARGUMENT:  Incompatible shapes: [2] vs. [3]
\t [[{{node add}}]]
  (1) INVALID_ARGUMENT:  Incompatible shapes: [2] vs. [3]
0 successful operations.
0 derived errors ignored."""

CALL = """ValueError: Exception encountered when calling Dense.call().

The layer has no weights.
Build it.

Arguments received by Dense.call():
  • inputs=None"""


@pytest.mark.parametrize(
    ("failure", "line"),
    [
        ("MemoryError: no room", "MemoryError: no room"),
        ("ValueError: broken\nsecond line", "ValueError: broken"),
        ("AssertionError", "AssertionError"),
        ("not finished", "not finished"),
        ("ValueError: found:", "ValueError: found:"),
        (
            GRAPH,
            "InvalidArgumentError: Received a label value of 72 which is outside the valid range "
            "of [0, 3). Label values: 70 72",
        ),
        (ROOTS, "InvalidArgumentError: INVALID_ARGUMENT: Incompatible shapes: [2] vs. [3]"),
        (CALL, "ValueError: The layer has no weights."),
    ],
)
def test_the_line_that_tells(failure, line):
    assert telling(failure) == line


def test_a_long_line_is_cut():
    line = telling("ValueError: labels " + "70 " * 1000)
    assert len(line) <= 400
    assert line.endswith("70 ...")


def test_the_whole_text_is_kept_without_colours():
    assert text_of(ValueError("\x1b[1mone\x1b[0m\ntwo\n")) == "ValueError: one\ntwo"
    assert text_of(AssertionError()) == "AssertionError"
    assert text_of(KeyError("name")) == "KeyError: 'name'"


def forgotten(pruned):
    pruned.compile("sgd", "sparse_categorical_crossentropy")
    pruned.fit(np.zeros((4, 10)), np.zeros(4), verbose=0)


def out_of_range(pruned):
    pruned.compile("sgd", "sparse_categorical_crossentropy")
    steps = tfprune.UpdatePruningStep(verbose=False)
    pruned.fit(np.zeros((4, 10)), np.full(4, 77), verbose=0, callbacks=[steps])


@pytest.mark.skipif(keras.backend.backend() != "tensorflow", reason="texts of TensorFlow")
@pytest.mark.parametrize(
    ("train", "cause", "also"),
    [
        (forgotten, "trained without the callback `UpdatePruningStep`", "Arguments received by"),
        (out_of_range, "label value of 77 which is outside the valid range", "Graph execution"),
    ],
)
def test_what_keras_and_tensorflow_raise_is_told_by_its_cause(train, cause, also):
    model = network()
    found = tfprune.search(model, data(model), 0.9, train=train, trials=1)
    assert cause in found.reason
    assert cause in " ".join(str(found.table().columns[-1]._cells).split())
    assert also not in found.reason
    assert also in found.trials[0].failure
