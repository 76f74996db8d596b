"""Trials on a Ray cluster: those of one machine, gone on from, and a lost node costs its own."""

import json
import sys

import numpy as np
import pytest
from clusters import nodes
from searching import cut_only, data
from searching import network as two_layers

import tfprune

pytestmark = pytest.mark.journey


@pytest.fixture(scope="module")
def cluster():
    """Two nodes, and a connection that all searches here share: workers start once."""
    with nodes(2) as found:
        import ray

        ray.init(found.address, log_to_driver=False, logging_level="ERROR")
        try:
            yield found
        finally:
            ray.shutdown()


def network():
    return two_layers(middle=20)


def search(model, engine="ray", **options):
    given = {"train": cut_only, "between": (0.1, 0.9), "trials": 3, **options}
    return tfprune.search(model, data(model), 0.2, engine=engine, **given)


def figures(found):
    return [(t.settings, t.sparsity, t.value, t.reached, t.within) for t in found.trials]


def test_trials_are_those_of_one_machine_and_go_on_in_either(tmp_path, cluster):
    alone = search(network(), "optuna", folder=tmp_path / "alone")
    lines, folder = [], tmp_path / "search"

    def stop(text):
        lines.append(text)
        if text.startswith("Trial 3"):
            raise OSError("the disk is full")

    # Not of the search: the user's own function raises, and that is what the user sees.
    with pytest.raises(OSError, match="the disk is full"):
        search(network(), folder=folder, tell=stop)
    assert lines[0].startswith("Trial 1 of 3: ")
    kept = json.loads((folder / "search.json").read_text())["trials"]
    assert any(trial["value"] is not None for trial in kept)
    lines.clear()
    found = search(network(), folder=folder, tell=lines.append)
    assert any(line.endswith("taken from the folder") for line in lines)
    assert figures(found) == figures(alone)
    assert found.best == alone.best
    x, _ = data(network())
    np.testing.assert_allclose(found.model(x), alone.model(x), atol=1e-6)
    again = search(network(), "optuna", folder=folder, train=lambda pruned: 1 / 0)
    assert figures(again) == figures(alone)
    names = {path.name for path in (tmp_path / "alone" / "logs").iterdir()}
    assert {path.name for path in (folder / "logs").iterdir()} == names


def test_a_node_that_is_lost_costs_its_own_trial(tmp_path, cluster):
    import threading

    victim = tmp_path / "victim"

    def hanging_once(pruned):
        import contextlib
        import time

        import ray

        with contextlib.suppress(FileExistsError), victim.open("x") as file:
            file.write(ray.get_runtime_context().get_node_id())
            file.flush()
            time.sleep(120.0)
        with (tmp_path / "done").open("a") as file:
            file.write("x")
        cut_only(pruned)

    by_id = {node.node_id: node for node in cluster.worker_nodes}
    lost, over = [], threading.Event()

    def lose():
        """Take away the node that hangs, once."""
        while not over.wait(0.5):
            if victim.exists() and victim.read_text():
                lost.append(by_id[victim.read_text()])
                cluster.remove_node(lost[0], allow_graceful=False)
                return

    lines = []
    remover = threading.Thread(target=lose)
    remover.start()
    try:
        found = search(network(), train=hanging_once, tell=lines.append, processes=2, trials=2)
    finally:
        over.set()
        remover.join()
        cluster.add_node(num_cpus=1)
    assert len(lost) == 1
    assert len([line for line in lines if line.endswith("was lost; it is run again")]) == 1
    assert (tmp_path / "done").read_text() == "xx"  # the other trial was trained once
    assert figures(found) == figures(search(network(), "optuna", trials=2))


def test_what_training_raises_is_told_in_its_trial(cluster):
    def diverging(pruned):
        raise ValueError("diverged")

    found = search(network(), train=diverging, trials=1)
    assert found.trials[0].failure == "ValueError: diverged"
    assert set(found.trials[0].settings) == {"a", "b", "c"}
    assert found.model is None


def test_a_module_that_a_worker_lacks(cluster, tmp_path, monkeypatch):
    (tmp_path / "only_here.py").write_text("def train(pruned):\n    pass\n")
    with monkeypatch.context() as here:
        here.syspath_prepend(tmp_path)
        import only_here
    try:
        found = search(network(), train=only_here.train, trials=1)
    finally:
        del sys.modules["only_here"]
    assert "No module named 'only_here'" in found.trials[0].failure
