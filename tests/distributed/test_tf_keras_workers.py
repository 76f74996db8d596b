"""tf_keras under `MultiWorkerMirroredStrategy`: two processes on loopback, one of which may die."""

import processes
import pytest

pytestmark = pytest.mark.journey

MISUSE = """
import json, os
import numpy as np, tensorflow as tf, tf_keras, keras, tfprune
from tfprune import workers

index = int(os.environ["INDEX"])
strategy = workers.strategy(timeout=200)
schedule = tfprune.PolynomialDecay(0.0, 0.75, 0, 6, frequency=2)
x = np.random.default_rng(0).random((32, 8), np.float32)
data = tf.data.Dataset.from_tensor_slices((x, x[:, :4])).batch(4)


def net(of=tf_keras):
    layers = of.layers
    return of.Sequential([of.Input((8,)), layers.Dense(16, name="a"), layers.Dense(4, name="b")])


def keras_3():
    with strategy.scope():
        tfprune.prune(net(keras), schedule)


def wrapped_outside():
    with strategy.scope():
        model = net()
    tfprune.prune(model, schedule)


def made_outside():
    model = net()
    with strategy.scope():
        tfprune.prune(model, schedule)


def other_rules():
    with strategy.scope():
        tfprune.prune(net(), [tfprune.Rule("a" if index else None, schedule=schedule)])


def fit(change):
    with strategy.scope():
        model = tfprune.prune(net(), schedule)
        model.compile("sgd", "mse")
    if change and index:
        model.layers[0].layer.kernel.assign(-model.layers[0].layer.kernel)
    before = model.optimizer.iterations.numpy()
    try:
        model.fit(data, verbose=0, callbacks=[
            tfprune.UpdatePruningStep(), tfprune.PruningSummaries(f"logs{index}")])
    finally:
        steps = int(model.optimizer.iterations.numpy() - before)
        if change:
            assert steps == 0, steps
    with workers.chief_path(f"kept{index}.keras", model) as path:
        tfprune.strip_pruning(model).save(path)


def nothing_wrapped():
    with strategy.scope():
        plain = net()
        pruned = tfprune.prune(plain, schedule)
    callback = tfprune.UpdatePruningStep()
    callback.set_model(plain if index else pruned)
    callback.on_train_begin()
    callback.on_epoch_begin(0)


def alone():
    with strategy.scope():
        model = tf_keras.Sequential([tf_keras.Input((8,)), tf_keras.layers.BatchNormalization(),
                                     tf_keras.layers.Dense(4)])  # all read its moving mean
    workers._wait_for(1)
    if index:
        return
    try:
        tfprune.export_tflite(model, "alone.tflite")
    except ValueError as error:
        said["export"] = str(error)
    with strategy.scope():
        tfprune.prune(model, schedule)


said = {}
cases = (keras_3, wrapped_outside, made_outside, other_rules, nothing_wrapped, lambda: fit(True))
for what in (*cases, lambda: fit(False), alone):
    try:
        what()
    except (ValueError, RuntimeError, TimeoutError) as error:
        said.setdefault(what.__name__, str(error))
print(json.dumps(said), flush=True)
os._exit(0)
"""


@pytest.fixture(scope="module")
def misused(tmp_path_factory):
    folder = tmp_path_factory.mktemp("misused")
    return processes.together(MISUSE, folder), folder


def test_workers_that_differ_are_told_before_the_first_step(misused):
    for said in misused[0]:
        assert "rules differ" in said["other_rules"]
        assert "on worker 0" in said["other_rules"]
        assert "weights" in said["<lambda>"]
        assert "rules" not in said["<lambda>"].split(" differ. ")[0]
        assert "trains with nothing wrapped on worker 1" in said["nothing_wrapped"]
        assert "b: dense (no rule matches it) on worker 1" in said["other_rules"]
    assert "'batch_normalization/moving_mean:0', which all workers" in misused[0][0]["export"]
    assert "did not come to compare its rules within 1 seconds" in misused[0][0]["alone"]


def test_what_lies_outside_of_the_scope_is_refused(misused):
    for said in misused[0]:
        assert "to wrap outside of it" in said["wrapped_outside"]
        assert "'a/kernel:0' was made outside of it" in said["made_outside"]


def test_keras_3_is_shown_the_ways_that_work(misused):
    for said in misused[0]:
        assert "tf_keras under `MultiWorkerMirroredStrategy`" in said["keras_3"]
        assert "KERAS_BACKEND=jax" in said["keras_3"]


def test_the_chief_alone_leaves_files(misused):
    names = {path.name for path in misused[1].iterdir()}
    assert names == {"worker0.log", "worker1.log", "kept0.keras", "logs0"}


RESTARTED = """
import json, os, signal
import numpy as np, tensorflow as tf, tf_keras, tfprune
from tfprune import workers
from tfprune.resumption import of_arrays
from tfprune.strip import pruned_layers

strategy = workers.strategy(timeout=200)
x = np.random.default_rng(0).random((32, 8), np.float32)
data = tf.data.Dataset.from_tensor_slices((x, x[:, :4])).batch(8)
with strategy.scope():
    model = tf_keras.Sequential([tf_keras.Input((8,)), tf_keras.layers.Dense(16, name="a"),
                                 tf_keras.layers.BatchNormalization(),
                                 tf_keras.layers.Dense(4, name="b")])
    model = tfprune.prune(model, tfprune.PolynomialDecay(0.0, 0.75, 0, 14, frequency=2))
    model.compile("adam", "mse")


class Dies(tf_keras.callbacks.Callback):
    epochs = 0

    def on_epoch_begin(self, epoch, logs=None):
        self.epoch, self.epochs = epoch, self.epochs + 1

    def on_train_batch_begin(self, batch, logs=None):
        if os.environ["INDEX"] == "1" and (self.epoch, batch) == (2, 2):
            if not os.path.exists("died"):
                open("died", "w").close()
                os.kill(os.getpid(), signal.SIGKILL)


dies = Dies()
model.fit(data, epochs=4, verbose=0, callbacks=[
    tfprune.UpdatePruningStep(), tf_keras.callbacks.BackupAndRestore("backup"), dies])
layers = pruned_layers(model)
states = [state for layer in layers for state in layer.states()]
print(json.dumps({
    "epochs": dies.epochs, "step": [layer.read_step() for layer in layers],
    "masks": of_arrays(state.mask for state in states),
    "weights": of_arrays(state.weight for state in states),
    "kept": [int(state.mask.sum()) for state in states],
}), flush=True)
os._exit(0)
"""


def test_a_worker_that_was_killed_goes_on_to_the_same_sparsity(tmp_path):
    first = processes.together(RESTARTED, tmp_path, may_fail=True)
    assert first == [None, None]
    assert (tmp_path / "died").exists()
    again = processes.together(RESTARTED, tmp_path)
    assert again[0] == again[1]
    assert again[0]["epochs"] == 2  # the third, anew, and the fourth
    assert again[0]["step"] == [16, 16]  # as if nobody had died
    assert again[0]["kept"] == [8 * 16 // 4, 16 * 4 // 4]


def test_the_example_prunes_as_one_machine_does(tmp_path):
    processes.check_example(processes.example("tf_keras_workers", tmp_path), tmp_path)


def test_two_processes_end_as_one_does(tmp_path):
    import tf_keras

    processes.check_accuracy("tf_keras_workers", tmp_path, tf_keras)
