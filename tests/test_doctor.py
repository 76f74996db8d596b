"""What `tfprune doctor` tells, without loading anything heavy."""

import json
import re

import pytest
from typer.testing import CliRunner

import tfprune
from tfprune import cli
from tfprune.doctor import limits, problems

GOOD = {
    "tensorflow": "2.21.0",
    "keras": "3.15.1",
    "tf_keras": "2.21.0",
    "tensorflow-model-optimization": "0.8.1",
    "ai-edge-litert": "2.3.0",
    "numpy": "2.4.6",
    "tensorboard": "2.20.0",
    "jax": None,
    "torch": None,
    "optuna": None,
}


def test_nothing_is_wrong_with_good_versions():
    assert problems(GOOD, "tensorflow") == []


@pytest.mark.parametrize(
    ("changed", "backend", "legacy", "message"),
    [
        ({"tensorflow": "2.15.1"}, "tensorflow", None, r"2\.15\.1 comes with Keras 2"),
        ({"keras": "2.15.0"}, "tensorflow", None, "is Keras 2"),
        ({"tf_keras": "2.16.0"}, "tensorflow", None, r"'tf_keras==2\.21\.\*'"),
        ({"ai-edge-litert": None}, "tensorflow", None, "`pip install ai-edge-litert`"),
        ({}, "tensorflow", "1", "TF_USE_LEGACY_KERAS is set"),
        ({}, "jax", None, "KERAS_BACKEND=jax, which is not installed"),
        ({}, "numpy", None, "cannot train"),
    ],
)
def test_what_is_known_not_to_work(changed, backend, legacy, message):
    found = problems(GOOD | changed, backend, legacy)
    assert any(re.search(message, text) for text in found), found


def test_what_these_versions_do_not_have():
    assert limits(GOOD, "tensorflow") == []
    (old,) = limits(GOOD | {"keras": "3.9.2"}, "tensorflow")
    assert "no `keras.distillation`" in old
    (other,) = limits(GOOD, "jax")
    assert "KERAS_BACKEND=tensorflow, not jax" in other
    assert problems(GOOD | {"jax": "0.10.2", "keras": "3.9.2"}, "jax") == []


def test_legacy_set_to_nothing_is_no_problem():
    assert problems(GOOD, "tensorflow", "0") == []


def test_a_machine_without_tools(monkeypatch):
    monkeypatch.setenv("PATH", "")
    monkeypatch.delenv("TFPRUNE_CHROMIUM", raising=False)
    health = tfprune.doctor()
    usable = {row.name: row.usable for row in health.runtimes}
    assert usable == {"native": True, "wasm": False, "adb": False}
    assert "node and npm" in str(health)


def test_the_command_and_what_it_loads(run_python):
    result = CliRunner().invoke(cli.app, ["doctor"])
    assert result.exit_code in (0, 1)
    assert tfprune.__version__ in result.output
    assert "CPU: " in result.output
    found = json.loads(CliRunner().invoke(cli.app, ["doctor", "--json"]).output)
    assert found["versions"]["keras"]
    loaded = run_python("import sys, tfprune; tfprune.doctor(); print(*sys.modules)").split()
    assert not {"tensorflow", "keras", "matplotlib"} & set(loaded)


def test_problems_are_a_failure(monkeypatch):
    monkeypatch.setenv("KERAS_BACKEND", "numpy")
    result = CliRunner().invoke(cli.app, ["doctor"])
    assert result.exit_code == 1
    assert "problem: KERAS_BACKEND=numpy cannot train" in result.output
