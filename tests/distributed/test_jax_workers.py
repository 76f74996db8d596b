"""Keras 3 on JAX: two processes on loopback, and weights that devices share."""

import processes
import pytest

pytest.importorskip("jax")
pytestmark = pytest.mark.journey

JAX = {"KERAS_BACKEND": "jax", "JAX_PLATFORMS": "cpu", "TF_CONFIG": ""}

MISUSE = """
import json, os
import keras, numpy as np, tfprune
from tfprune import workers

index = int(os.environ["INDEX"])
address = os.environ["ADDRESSES"].split(",")[0]
said = {}


def told(name, function):
    try:
        function()
    except (ValueError, TimeoutError) as error:
        said[name] = str(error)


def net():
    return keras.Sequential([
        keras.Input((8,)), keras.layers.Dense(16, name="a"), keras.layers.Dense(4, name="b")])


told("seeds", lambda: workers.connect(address, 2, index, index, timeout=200))
workers.connect(address, 2, index, timeout=200)
schedule = tfprune.PolynomialDecay(0.0, 0.75, 0, 6, frequency=2)
told("no distribution", lambda: tfprune.prune(net(), schedule))
keras.distribution.set_distribution(keras.distribution.DataParallel(auto_shard_dataset=False))
told("rules", lambda: tfprune.prune(
    net(), [tfprune.Rule("a" if index else None, schedule=schedule)]))
callback, plain = tfprune.UpdatePruningStep(), net()
callback.set_model(plain if index else tfprune.prune(net(), schedule))
if index:
    tfprune.prune(net(), schedule)
callback.on_train_begin()
told("nothing wrapped", lambda: callback.on_epoch_begin(0))
workers._wait_for(1)
if index == 0:
    told("alone", lambda: tfprune.prune(plain, schedule))
print(json.dumps(said), flush=True)
"""


def test_processes_that_differ_are_told_before_the_first_step(tmp_path):
    found = processes.together(MISUSE, tmp_path, **JAX)
    for said in found:
        assert said["seeds"].endswith("Received: 0 on worker 0, 1 on worker 1")
        assert "set_distribution(keras.distribution.DataParallel" in said["no distribution"]
        assert "rules differ" in said["rules"]
        assert "trains with nothing wrapped on worker 1" in said["nothing wrapped"]
    assert "did not come to compare its rules within 1 seconds" in found[0]["alone"]


SHARDED = """
import json, os
os.environ["XLA_FLAGS"] = "--xla_force_host_platform_device_count=1"
import keras, numpy as np, tfprune
from jax.experimental import multihost_utils
from tfprune import masks, placement, workers
from tfprune.wrapper import wrappers

index = int(os.environ["INDEX"])
workers.connect(os.environ["ADDRESSES"].split(",")[0], 2, index, timeout=200)
over = keras.distribution
mesh = over.DeviceMesh((1, 2), ("batch", "model"), over.list_devices())
layouts = over.LayoutMap(mesh)
layouts["KEY"] = (None, "model")  # each process holds a half of each kernel
over.set_distribution(over.ModelParallel(
    layout_map=layouts, batch_dim_name="batch", auto_shard_dataset=False))


def net():
    return keras.Sequential([keras.Input((8,)), keras.layers.Dense(16, name="a"),
                             keras.layers.Dense(4, name="b")])


model = tfprune.prune(net(), tfprune.PolynomialDecay(0.0, 0.75, 0, 6, frequency=2))
model.compile("adam", "mse")
x = np.random.default_rng(0).random((32, 8), np.float32)
sent = []
real = multihost_utils.process_allgather


def allgather(value, **options):
    sent.append(np.shape(value))
    return real(value, **options)


multihost_utils.process_allgather = allgather
model.fit(x, x[:, :4], batch_size=4, verbose=0, callbacks=[tfprune.UpdatePruningStep()])
found = []
for layer in wrappers(model):
    (weight, mask, threshold), = layer.pruning_vars
    shards = [[part.data.shape for part in one.value.addressable_shards] for one in (weight, mask)]
    (state,) = layer.states()
    found.append([shards, len(threshold.shape), int(state.mask.sum()),
                  bool((state.weight[~state.mask] == 0).all())])
plain = tfprune.stripped_weights(model)
rounds = sum(shape == (2, 1 << 16) for shape in sent)
as_whole = []
for layer in wrappers(model):
    (weight, mask, _), = layer.pruning_vars
    now = placement.whole(weight)
    layer.update_masks(6)
    want, _ = masks.top_k(masks.magnitudes(now), masks.kept_count(now.size, 0.75))
    as_whole.append(bool((placement.whole(mask) == want).all()))
try:
    model.save("half.keras")
except ValueError as error:
    refused = str(error)
again = net()
again.set_weights(plain)
tfprune.prune(again, 0.8)  # looks at all magnitudes at once
again = tfprune.prune(again, tfprune.ConstantSparsity(0.5, 0))
kept = []
for layer in wrappers(again):
    layer.update_masks(0)
    (weight, mask, _), = layer.pruning_vars
    kept.append(int(placement.whole(mask).sum()))
print(json.dumps([found, [int(np.count_nonzero(w)) for w in plain if w.ndim == 2], rounds,
                  as_whole, refused, kept]), flush=True)
"""


@pytest.mark.parametrize("key", [".*/kernel", ".*kernel.*"])  # the second: masks match it too
def test_masks_lie_where_their_weights_lie(key, tmp_path):
    found = processes.together(SHARDED.replace("KEY", key), tmp_path, **JAX)
    assert found[0] == found[1]
    (first, second), nonzero, rounds, as_whole, refused, kept = found[0]
    assert first == [[[[8, 8]], [[8, 8]]], 0, 32, True]
    assert second == [[[[16, 2]], [[16, 2]]], 0, 16, True]
    assert nonzero == [32, 16]
    # Two rounds for each of two layers at the updates of steps 2, 4, 6; at 0 nothing is pruned.
    assert rounds == 2 * 2 * 3
    assert as_whole == [True, True]
    assert "`tfprune.stripped_weights(model)` on all of them" in refused
    assert kept == [32, 16]  # what was cut stays cut, though half would do


HELD_TWICE = """
import json, os
os.environ["XLA_FLAGS"] = "--xla_force_host_platform_device_count=2"
import jax, keras, numpy as np, tfprune
from tfprune import workers
from tfprune.wrapper import wrappers

index = int(os.environ["INDEX"])
workers.connect(os.environ["ADDRESSES"].split(",")[0], 2, index, timeout=200)
over = keras.distribution
layouts = over.LayoutMap(over.DeviceMesh((2, 2), ("batch", "model"), over.list_devices()))
layouts[".*kernel"] = (None, "model")  # each process holds both halves
over.set_distribution(over.ModelParallel(
    layout_map=layouts, batch_dim_name="batch", auto_shard_dataset=False))
model = keras.Sequential([keras.Input((8,)), keras.layers.Dense(4, name="a")])
model = tfprune.prune(model, tfprune.ConstantSparsity(0.5, 0))
model.compile("adam", "mse")
x = np.random.default_rng(0).random((32, 8), np.float32)
watch = [tfprune.UpdatePruningStep()]
model.fit(x, x[:, :4], batch_size=8, verbose=0, callbacks=watch)
(weight, _, _), = wrappers(model)[0].pruning_vars
other = np.random.default_rng(index).random((8, 4), np.float32)
weight.assign(jax.make_array_from_callback((8, 4), weight.value.sharding, lambda at: other[at]))
try:
    model.fit(x, x[:, :4], batch_size=8, verbose=0, callbacks=watch)
except ValueError as error:
    print(json.dumps(str(error)), flush=True)
"""


def test_parts_that_two_processes_hold_are_compared(tmp_path):
    for said in processes.together(HELD_TWICE, tmp_path, **JAX):
        assert "same model: weights (their seeds, or what was loaded, may differ) differ" in said
        assert "Received: digests of weight 1 of layer 1 from [0, 0] on " in said
        assert "on worker 0, " in said


BUILT_LATE = """
import os
os.environ["XLA_FLAGS"] = "--xla_force_host_platform_device_count=2"
os.environ["KERAS_BACKEND"] = "jax"
import keras, numpy as np, tfprune

over = keras.distribution
layouts = over.LayoutMap(over.DeviceMesh((1, 2), ("batch", "model"), over.list_devices()))
layouts[".*/kernel"] = (None, "model")
over.set_distribution(over.ModelParallel(
    layout_map=layouts, batch_dim_name="batch", auto_shard_dataset=False))
wrapped = tfprune.prune_low_magnitude(keras.layers.Dense(16), tfprune.ConstantSparsity(0.5, 0))
model = keras.Sequential([wrapped, keras.layers.Dense(4)])
model.compile("adam", "mse")
x = np.random.default_rng(0).random((8, 8), np.float32)
model.fit(x, x[:, :4], batch_size=4, verbose=0, callbacks=[tfprune.UpdatePruningStep()])
for one in wrapped.pruning_vars[0][:2]:
    print([part.data.shape for part in one.value.addressable_shards])
"""


def test_masks_of_a_layer_that_fit_builds_lie_there_too(run_python):
    first, second = run_python(BUILT_LATE).strip().splitlines()[-2:]
    assert first == second == "[(8, 8), (8, 8)]"


def test_the_example_prunes_as_one_machine_does(tmp_path):
    processes.check_example(processes.example("jax_workers", tmp_path), tmp_path)


def test_two_processes_end_as_one_does(tmp_path):
    import keras

    processes.check_accuracy("jax_workers", tmp_path, keras)
