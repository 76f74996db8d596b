"""Levels on a Ray cluster: the figures of one machine, and a node that is lost costs its level."""

import json
import os

import keras
import numpy as np
import pytest
from clusters import nodes

import tfprune

L = keras.layers
LEVELS = (0.5, 0.9)

pytestmark = pytest.mark.journey


@pytest.fixture(scope="module")
def cluster():
    with nodes(2) as found:
        yield found


def network():
    keras.utils.set_random_seed(0)
    return keras.Sequential(
        [keras.Input((10,)), L.Dense(16, "relu", name="a"), L.Dense(3, "softmax", name="b")]
    )


def data(n=300):
    rng = np.random.default_rng(0)
    return rng.normal(size=(n, 10)).astype("float32"), rng.integers(0, 3, n)


def drops(found):
    return np.array([row.drops for row in found.weights])


def test_figures_are_those_of_one_machine_and_a_record_goes_on_in_either(tmp_path, cluster):
    model = network()
    model.compile(loss="sparse_categorical_crossentropy")
    alone = tfprune.sensitivity(model, data(), LEVELS, "loss", record=tmp_path / "alone.json")
    lines, record = [], tmp_path / "shared.json"

    def stop(text):
        lines.append(text)
        if text.startswith("Batch 2: 1 of"):
            raise KeyboardInterrupt

    options = {"engine": "ray", "address": cluster.address, "record": record}
    with pytest.raises(KeyboardInterrupt):
        tfprune.sensitivity(model, data(), LEVELS, "loss", tell=stop, **options)
    assert lines[0] == "Batch 1: 4 levels, 2 at a time"
    assert "Batch 1: 4 of 4 levels" in lines
    kept = json.loads(record.read_text())
    assert kept["samples"] == 256
    assert kept["identity"] == json.loads((tmp_path / "alone.json").read_text())["identity"]
    together = tfprune.sensitivity(model, data(), LEVELS, "loss", **options)
    assert together.samples == 300
    assert together.dense == pytest.approx(alone.dense, rel=1e-6)
    np.testing.assert_allclose(drops(together), drops(alone), atol=1e-6)
    resumed = tfprune.sensitivity(model, data(), LEVELS, "loss", record=record)
    assert resumed == together


def test_a_node_that_is_lost_costs_its_own_levels(tmp_path, cluster):
    import ray

    def closeness(labels, outputs):  # of no module: it travels by value
        return -float(np.abs(outputs.max(axis=1) - labels).mean())

    victim = tmp_path / "victim"

    def hanging_once(labels, outputs):
        import contextlib
        import time

        import ray

        if ray.is_initialized():  # not in this process, if it should measure too
            with contextlib.suppress(FileExistsError), victim.open("x") as file:
                file.write(ray.get_runtime_context().get_node_id())
                file.flush()
                time.sleep(120.0)
        return closeness(labels, outputs)

    lost, lines = [], []
    by_id = {node.node_id: node for node in cluster.worker_nodes}

    def lose(text):
        """Take away the node that hangs, once."""
        lines.append(text)
        if not lost and victim.exists() and victim.read_text():
            lost.append(by_id[victim.read_text()])
            cluster.remove_node(lost[0], allow_graceful=False)

    levels = (0.5, 0.7, 0.9)
    ray.init(cluster.address, log_to_driver=False)
    try:
        found = tfprune.sensitivity(
            network(), data(40), levels, hanging_once, engine="ray", tell=lose
        )
        assert ray.is_initialized()  # whoever connected disconnects
    finally:
        ray.shutdown()
        cluster.add_node(num_cpus=1)
    assert len(lost) == 1
    reports = [line for line in lines if "its worker was lost" in line]
    assert len(reports) == 1
    assert reports[0].endswith("it is run again")
    alone = tfprune.sensitivity(network(), data(40), levels, closeness)
    np.testing.assert_allclose(drops(found), drops(alone), atol=1e-6)


def test_what_a_metric_raises_is_told(cluster):
    def broken(labels, outputs):
        import ray

        if ray.is_initialized():
            raise KeyError("no such label")
        return 0.0

    with pytest.raises(ValueError, match="failed: 'no such label'"):
        tfprune.sensitivity(
            network(), data(40), LEVELS, broken, engine="ray", address=cluster.address
        )


def test_a_metric_that_cannot_travel(cluster):
    import threading

    lock = threading.Lock()

    def held(labels, outputs):
        with lock:
            return 0.0

    with pytest.raises(ValueError, match=r"cannot find the metric[\s\S]*a lock[\s\S]*Received"):
        tfprune.sensitivity(
            network(), data(40), LEVELS, held, engine="ray", address=cluster.address
        )


def test_a_cluster_of_its_own_leaves_the_environment_as_it_was():
    pytest.importorskip("ray")
    names = ("RAY_USAGE_STATS_ENABLED", "KERAS_BACKEND")
    before = [os.environ.get(name) for name in names]
    found = tfprune.sensitivity(network(), data(40), (0.5,), engine="ray", processes=1)
    alone = tfprune.sensitivity(network(), data(40), (0.5,))
    np.testing.assert_allclose(drops(found), drops(alone), atol=1e-6)
    assert [os.environ.get(name) for name in names] == before
