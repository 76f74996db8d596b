"""Who is chief, what TF_CONFIG says, and what is refused before any process is started."""

import json
import os
import subprocess
import sys

import keras
import processes
import pytest
import tf_keras

import tfprune
from tfprune import workers


@pytest.fixture
def cluster(monkeypatch):
    """Return a function that sets TF_CONFIG to a cluster of two workers and a task in it."""

    def set_to(kind="worker", index=0, **more):
        ports = processes.free_ports(2)
        jobs = {"worker": [f"127.0.0.1:{port}" for port in ports], **more}
        task = {"type": kind, "index": index}
        monkeypatch.setenv("TF_CONFIG", json.dumps({"cluster": jobs, "task": task}))

    return set_to


def dense(family):
    return family.Sequential([family.Input((4,)), family.layers.Dense(3, name="d")])


def test_a_process_alone_is_the_chief(tmp_path):
    assert workers.worker() == workers.Worker(0, 1)
    with workers.chief_path(tmp_path / "a.keras", dense(keras)) as path:
        assert path == os.fspath(tmp_path / "a.keras")


@pytest.mark.parametrize("family", [keras, tf_keras], ids=["keras", "tf_keras"])
def test_a_model_outside_of_the_scope_is_refused(cluster, family):
    model = dense(family)
    cluster()
    with pytest.raises(ValueError, match=r"names 2 workers.*outside of `strategy.scope\(\)`"):
        tfprune.prune(model, 0.5)
    with pytest.raises(ValueError, match=r"unset TF_CONFIG"):
        tfprune.prune_low_magnitude(family.layers.Dense(3))


@pytest.mark.parametrize("family", [keras, tf_keras], ids=["keras", "tf_keras"])
def test_a_model_wrapped_before_is_refused_by_the_callback(cluster, family):
    model = tfprune.prune_low_magnitude(dense(family), tfprune.ConstantSparsity(0.5, 0))
    callback = tfprune.UpdatePruningStep()
    callback.set_model(model)
    cluster()
    callback.on_train_begin()
    with pytest.raises(ValueError, match=r"names 2 workers"):
        callback.on_epoch_begin(0)


def test_tasks_that_do_not_train_may_do_what_they_like(cluster):
    cluster(kind="evaluator")
    tfprune.prune(dense(keras), 0.5)
    cluster(ps=["127.0.0.1:1"])
    tfprune.prune(dense(keras), 0.5)


def test_a_cluster_that_does_not_come_together(cluster):
    cluster()
    with pytest.raises(TimeoutError, match=r"within 0.2 seconds: worker 1 of 2"):
        workers.strategy(timeout=0.2)
    cluster(index=1)
    with pytest.raises(TimeoutError, match=r"within 0.2 seconds: worker 0 of 2"):
        workers.strategy(timeout=0.2)
    cluster(chief=["127.0.0.1:1"])  # the chief is 0, so that the first worker is 1
    with pytest.raises(TimeoutError, match=r"worker 0 of 3.*127.0.0.1:1$"):
        workers.strategy(timeout=0.2)


@pytest.mark.parametrize("text", [None, "{}", "[1]", "{"])
def test_tf_config_that_names_no_cluster(monkeypatch, text):
    monkeypatch.delenv("TF_CONFIG", raising=False)
    if text is not None:
        monkeypatch.setenv("TF_CONFIG", text)
    with pytest.raises(ValueError, match=r"TF_CONFIG.*Received: TF_CONFIG="):
        workers.strategy(timeout=0.2)


def test_keras_3_connects_on_jax_only():
    with pytest.raises(
        RuntimeError, match=r"KERAS_BACKEND=jax.*Received: the backend 'tensorflow'"
    ):
        workers.connect("127.0.0.1:1", 2, 0)


def test_an_example_without_an_epoch_starts_nothing():
    script = processes.ROOT / "examples" / "distributed" / "jax_workers.py"
    command = [sys.executable, str(script), "--epochs", "0"]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode == 2
    assert done.stderr.endswith("--epochs must be 1 or more. Received: --epochs 0\n")
