"""UpdatePruningStep: when masks change, in every way Keras can be told to train."""

import contextlib
import gc
import json
import warnings

import keras
import numpy as np
import pytest
from keras import layers

import tfprune
from tfprune.wrapper import PruneLowMagnitude, wrappers


class Watch(keras.callbacks.Callback):
    """Keeps (step, sparsity) of the first wrapper after each batch."""

    def __init__(self):
        super().__init__()
        self.seen = []

    def on_train_batch_end(self, batch, logs=None):
        (wrapper, *_) = wrappers(self.model)
        self.seen.append((wrapper.read_step(), round(wrapper.states()[0].sparsity, 3)))


def _model(schedule, pattern="unstructured", **compile_arguments):
    model = keras.Sequential([keras.Input((16,)), layers.Dense(64, name="d"), layers.Dense(1)])
    pruned = tfprune.prune(model, [tfprune.Rule("d$", schedule=schedule, pattern=pattern)])
    pruned.compile(
        **{"optimizer": "sgd", "loss": keras.losses.MeanSquaredError(), **compile_arguments}
    )
    return pruned


def _data(batches, size=4):
    rng = np.random.default_rng(0)
    return rng.random((batches * size, 16), np.float32), rng.random((batches * size, 1), np.float32)


def _fit(model, batches, epochs=1, size=4, **arguments):
    watch = Watch()
    callback = tfprune.UpdatePruningStep()
    x, y = _data(batches, size)
    model.fit(
        x, y, batch_size=size, epochs=epochs, verbose=0, callbacks=[callback, watch], **arguments
    )
    return watch.seen


def _sparsity(model):
    return [round(w.states()[0].sparsity, 4) for w in wrappers(model)]


def _updates(model, monkeypatch):
    """Record (step asked for) of each mask update."""
    steps = []
    original = PruneLowMagnitude.update_masks

    def record(self, step):
        steps.append(step)
        original(self, step)

    monkeypatch.setattr(PruneLowMagnitude, "update_masks", record)
    return steps


def test_updates_come_at_begin_every_frequency_and_end(monkeypatch):
    # 10 is not a multiple of 4 steps from 2: the update at the end is due all the same.
    model = _model(tfprune.PolynomialDecay(0.25, 0.75, 2, 10, power=1, frequency=4))
    steps = _updates(model, monkeypatch)
    seen = _fit(model, 12)
    assert steps == [2, 6, 10]
    assert [s for s in seen if s[0] in (1, 2, 5, 6, 9, 10)] == [
        (1, 0.0), (2, 0.25), (5, 0.25), (6, 0.5), (9, 0.5), (10, 0.75)
    ]  # fmt: skip


def test_an_update_at_step_zero_comes_before_the_first_step_and_one_at_the_last_step_comes():
    model = _model(tfprune.ConstantSparsity(0.5, 0))
    ((_, first), *_) = _fit(model, 3)
    assert first == 0.5
    model = _model(tfprune.OneShot(0.5, step=3))
    assert _fit(model, 3) == [(1, 0.0), (2, 0.0), (3, 0.5)]


def test_iterative_cuts_and_a_schedule_of_its_own_class():
    model = _model(tfprune.Iterative([0.25, 0.5, 0.75], every=2))
    assert [s for _, s in _fit(model, 6)] == [0.25, 0.5, 0.5, 0.75, 0.75, 0.75]

    class Stairs(tfprune.PruningSchedule):
        def __call__(self, step):
            return step in (1, 3), 0.25 if step < 3 else 0.5

        def get_config(self):
            return {"class_name": "Stairs", "config": {}}

    assert [s for _, s in _fit(_model(Stairs()), 4)] == [0.25, 0.25, 0.5, 0.5]


def test_nm_grows_with_the_schedule_and_is_whole_at_the_end():
    model = _model(tfprune.PolynomialDecay(0.0, 0.5, 0, 8, power=1, frequency=2), "2:4")
    seen = [s for _, s in _fit(model, 8)]
    assert seen == [0.0, 0.125, 0.125, 0.25, 0.25, 0.375, 0.375, 0.5]
    kernel = np.asarray(wrappers(model)[0].layer.kernel)
    assert (np.count_nonzero(kernel.T.reshape(-1, 4), axis=1) == 2).all()


@pytest.mark.parametrize("steps_per_execution", [3, 8, 32])
def test_steps_per_execution_jumps_over_no_update(steps_per_execution, monkeypatch):
    schedule = tfprune.PolynomialDecay(0.0, 0.75, 0, 10, power=1, frequency=1)
    model = _model(schedule, steps_per_execution=steps_per_execution)
    steps = _updates(model, monkeypatch)
    _fit(model, 10, epochs=2)
    assert wrappers(model)[0].read_step() == 20
    assert _sparsity(model) == [0.75]
    assert steps[-1] == 10


def test_steps_per_execution_with_data_of_unknown_length():
    import tensorflow as tf

    model = _model(tfprune.OneShot(0.5, step=9), steps_per_execution=4)
    x, y = _data(5)
    data = tf.data.Dataset.from_tensor_slices((x, y)).batch(4).filter(lambda a, b: True)
    with pytest.warns(UserWarning, match="step 5"):
        model.fit(data, verbose=0, callbacks=[tfprune.UpdatePruningStep()])
    assert wrappers(model)[0].read_step() == 5
    model.fit(data, verbose=0, callbacks=[tfprune.UpdatePruningStep()])
    assert wrappers(model)[0].read_step() == 10
    assert _sparsity(model) == [0.5]


@pytest.mark.parametrize("jit_compile", [True, False])
def test_xla_and_run_eagerly(jit_compile):
    arguments = {"jit_compile": True} if jit_compile else {"run_eagerly": True}
    model = _model(tfprune.OneShot(0.5, step=2), **arguments)
    _fit(model, 4)
    assert _sparsity(model) == [0.5]


@pytest.mark.parametrize("policy", ["mixed_float16", "mixed_bfloat16"])
def test_mixed_precision(policy):
    keras.config.set_dtype_policy(policy)
    model = _model(tfprune.OneShot(0.5, step=2), optimizer="adam")
    _fit(model, 4)
    assert _sparsity(model) == [0.5]
    assert wrappers(model)[0].layer.kernel.dtype == "float32"


def test_gradient_accumulation_counts_updates_not_batches():
    optimizer = keras.optimizers.SGD(gradient_accumulation_steps=4)
    model = _model(tfprune.OneShot(0.5, step=2), optimizer=optimizer)
    seen = _fit(model, 9)
    assert [s for _, s in seen] == [0.0] * 7 + [0.5] * 2
    assert wrappers(model)[0].read_step() == 2 == int(model.optimizer.iterations)


def test_momentum_cannot_bring_weights_back_into_a_saved_model(tmp_path):
    model = _model(tfprune.OneShot(0.5, step=2), optimizer=keras.optimizers.Adam(0.1))
    x, y = _data(8)
    saver = keras.callbacks.ModelCheckpoint(tmp_path / "m.keras")
    model.fit(x, y, batch_size=4, verbose=0, callbacks=[tfprune.UpdatePruningStep(), saver])
    loaded = keras.models.load_model(tmp_path / "m.keras")
    kernel = np.asarray(wrappers(loaded)[0].layer.kernel)
    assert np.count_nonzero(kernel) == kernel.size // 2


def test_moving_averages_of_the_weights_are_masked_too():
    optimizer = keras.optimizers.SGD(0.1, use_ema=True, ema_momentum=0.9)
    model = _model(tfprune.OneShot(0.5, step=4), optimizer=optimizer)
    _fit(model, 8)
    kernel = np.asarray(wrappers(model)[0].layer.kernel)
    assert np.count_nonzero(kernel) == kernel.size // 2


def test_train_on_batch_by_hand():
    model = _model(tfprune.OneShot(0.5, step=2))
    callback = tfprune.UpdatePruningStep()
    callback.set_model(model)
    callback.on_train_begin()
    reached = []
    x, y = _data(4)
    for step in range(4):
        callback.on_train_batch_begin(step)
        model.train_on_batch(x[:4], y[:4])
        callback.on_train_batch_end(step)
        reached += _sparsity(model)
    callback.on_epoch_end(0)
    callback.on_train_end()
    assert reached == [0.0, 0.5, 0.5, 0.5]
    assert int(np.asarray(wrappers(model)[0].pruning_step)) == 4


def test_a_tape_loop_that_calls_only_the_hooks_of_the_guide():
    import tensorflow as tf

    model = _model(tfprune.OneShot(0.5, step=3))
    optimizer = keras.optimizers.Adam()
    callback = tfprune.UpdatePruningStep()
    callback.set_model(model)
    callback.on_train_begin()
    x, y = _data(1)
    reached = []
    for _ in range(2):
        for _ in range(2):
            callback.on_train_batch_begin(batch=-1)
            with tf.GradientTape() as tape:
                loss = tf.reduce_mean((model(x, training=True) - y) ** 2)
            gradients = tape.gradient(loss, model.trainable_variables)
            optimizer.apply_gradients(zip(gradients, model.trainable_variables, strict=True))
        callback.on_epoch_end(batch=-1)
        reached += _sparsity(model)
    assert reached == [0.0, 0.5]
    assert wrappers(model)[0].read_step() == 4


def test_a_subclassed_model_that_is_built_by_its_first_step():
    class Net(keras.Model):
        def __init__(self):
            super().__init__()
            self.d = tfprune.prune_low_magnitude(layers.Dense(8), tfprune.OneShot(0.5, step=1))

        def call(self, x):
            return self.d(x)

    x = np.ones((8, 4), "float32")
    net = Net()
    net.compile("sgd", "mse")
    net.fit(x, np.ones((8, 8)), batch_size=4, verbose=0, callbacks=[tfprune.UpdatePruningStep()])
    assert _sparsity(net) == [0.5]

    import tensorflow as tf

    net, callback = Net(), tfprune.UpdatePruningStep()
    callback.set_model(net)
    callback.on_train_begin()
    for _ in range(2):
        callback.on_train_batch_begin(-1)
        with tf.GradientTape() as tape:
            loss = tf.reduce_mean(net(x, training=True))
        tape.gradient(loss, net.trainable_variables)
    callback.on_epoch_end(0)
    assert _sparsity(net) == [0.5]


SCHEDULE = {"initial_sparsity": 0.0, "final_sparsity": 0.75, "begin_step": 0, "end_step": 12}


def _history(model):
    return {
        "weights": [np.asarray(w) for w in model.get_weights()],
        "step": wrappers(model)[0].read_step(),
    }


def _same(a, b):
    assert a["step"] == b["step"]
    for one, other in zip(a["weights"], b["weights"], strict=True):
        np.testing.assert_array_equal(one, other)


@pytest.mark.parametrize("form", ["keras", "weights.h5"])
def test_a_half_pruned_model_goes_on_exactly_where_it_stopped(form, tmp_path):
    schedule = tfprune.PolynomialDecay(**SCHEDULE, power=1, frequency=4)
    rng_data = _data(7)

    def run(model, epochs, initial=0):
        model.fit(
            *rng_data, batch_size=4, epochs=epochs, initial_epoch=initial, shuffle=False,
            verbose=0, callbacks=[tfprune.UpdatePruningStep()],
        )  # fmt: skip

    whole = _model(schedule, "2:4", optimizer="adam")
    initial = whole.get_weights()
    run(whole, 2)
    half = _model(schedule, "2:4", optimizer="adam")
    half.set_weights(initial)
    with pytest.warns(UserWarning, match="The run ends at step 7; d will be at"):
        run(half, 1)
    path = str(tmp_path / f"half.{form}")
    if form == "weights.h5":
        half.save_weights(path)
        again = _model(schedule, "2:4", optimizer="adam")
        again.load_weights(path)
        again.optimizer.build(again.trainable_variables)
        again.optimizer.load_own_variables(
            {str(i): v for i, v in enumerate(half.optimizer.variables)}
        )
    else:
        half.save(path)
        again = keras.models.load_model(path)
    assert str(wrappers(again)[0].pattern) == "2:4"
    run(again, 2, initial=1)
    _same(_history(whole), _history(again))


def test_an_h5_file_keeps_masks_step_and_pattern(tmp_path):
    # Keras 3 itself loses the optimizer's state in `.h5` files, so compile anew after loading.
    model = _model(tfprune.PolynomialDecay(**SCHEDULE, power=1, frequency=4), "2:4")
    with pytest.warns(UserWarning, match="The run ends at step 7"):
        _fit(model, 7)
    model.save(tmp_path / "m.h5")
    again = keras.models.load_model(tmp_path / "m.h5")
    _same(_history(model), _history(again))
    assert str(wrappers(again)[0].pattern) == "2:4"
    again.compile("sgd", "mse")
    _fit(again, 7)
    assert wrappers(again)[0].read_step() == 14
    assert _sparsity(again) == [0.5]


@pytest.mark.parametrize("saver_first", [True, False])
def test_a_save_in_the_middle_of_an_epoch_holds_the_step_of_that_moment(tmp_path, saver_first):
    model = _model(tfprune.ConstantSparsity(0.5, 0, frequency=100))
    saver = keras.callbacks.ModelCheckpoint(tmp_path / "{batch}.weights.h5", save_freq=3,
                                            save_weights_only=True)  # fmt: skip
    x, y = _data(5)
    callbacks = [saver, tfprune.UpdatePruningStep()]
    model.fit(
        x, y, batch_size=4, verbose=0, callbacks=callbacks if saver_first else callbacks[::-1]
    )
    (path,) = tmp_path.iterdir()
    again = _model(tfprune.ConstantSparsity(0.5, 0, frequency=100))
    again.load_weights(path)
    assert wrappers(again)[0].read_step() == 3


@pytest.mark.parametrize("saver_first", [True, False])
def test_an_update_due_at_the_step_of_a_checkpoint_is_neither_lost_nor_early(saver_first, tmp_path):
    """Masks go on from a checkpoint as they do without one, whichever callback came first."""
    schedule = tfprune.PolynomialDecay(0.0, 0.8, 0, 12, power=1, frequency=3)
    path = tmp_path / "{batch}.keras"
    saver = keras.callbacks.ModelCheckpoint(path, save_freq=6)
    callbacks = [saver, tfprune.UpdatePruningStep()]
    x, y = _data(6)
    whole = _model(schedule, optimizer=keras.optimizers.SGD(0.1, momentum=0.9))
    with pytest.warns(UserWarning, match="The run ends at step 6"):
        whole.fit(x, y, 4, shuffle=False, verbose=0,
                  callbacks=callbacks if saver_first else callbacks[::-1])  # fmt: skip
    again = keras.models.load_model(tmp_path / "6.keras")
    for model in (whole, again):
        model.fit(x, y, 4, shuffle=False, verbose=0, callbacks=[tfprune.UpdatePruningStep()])
    _same(_history(whole), _history(again))
    assert _sparsity(again) == [0.7998]


# -- Runs that stop, start again, or forget the callback ------------------------------------------


class Interrupt(keras.callbacks.Callback):
    def on_train_batch_end(self, batch, logs=None):
        if batch == 4:
            raise KeyboardInterrupt


def test_an_interrupted_run_keeps_its_steps_and_asks_for_the_callback_again():
    model = _model(tfprune.ConstantSparsity(0.5, 0, frequency=100))
    x, y = _data(8)
    with contextlib.suppress(KeyboardInterrupt):
        model.fit(x, y, 4, verbose=0, callbacks=[tfprune.UpdatePruningStep(), Interrupt()])
    gc.collect()
    with pytest.raises(ValueError, match="without the callback"):
        model.fit(x, y, 4, verbose=0)
    model.fit(x, y, 4, verbose=0, callbacks=[tfprune.UpdatePruningStep()])
    assert wrappers(model)[0].read_step() == 5 + 8 == int(model.optimizer.iterations.numpy())


def test_a_second_run_without_the_callback_is_refused_until_the_schedule_has_ended():
    model = _model(tfprune.PolynomialDecay(0.0, 0.5, 0, 12, frequency=1))
    x, y = _data(8)
    with pytest.warns(UserWarning, match="The run ends at step 8"):
        _fit(model, 8)
    with pytest.raises(ValueError, match="without the callback"):
        model.fit(x, y, 4, verbose=0)
    with pytest.raises(ValueError, match="without the callback"):
        model.train_on_batch(x[:4], y[:4])
    with pytest.raises(ValueError, match="without the callback"):
        model(x[:4], training=True)
    _fit(model, 8)
    model.fit(x, y, 4, verbose=0)  # the masks are what they will be
    model(x[:4], training=True)
    assert np.mean(tfprune.strip_pruning(model).get_weights()[0] == 0) == 0.5


def test_a_run_that_begins_anew_needs_its_callback_to_the_end():
    model = _model(tfprune.PolynomialDecay(0.0, 0.5, 0, 8, frequency=1))
    x, y = _data(8)
    start = model.get_weights()
    _fit(model, 8)
    model.set_weights(start)  # the step and the masks too
    with pytest.warns(UserWarning, match="The run ends at step 4"):
        _fit(model, 4)
    with pytest.raises(ValueError, match="without the callback"):
        model.fit(x, y, 4, verbose=0)


def test_weights_of_an_earlier_epoch_bring_their_step_along():
    model = _model(tfprune.PolynomialDecay(0.0, 0.8, 0, 16, power=1, frequency=4))
    x, y = _data(8)
    best = keras.callbacks.EarlyStopping("loss", patience=9, mode="max", restore_best_weights=True)
    with pytest.warns(UserWarning, match="not 79.98 %|not 80.0%"):
        model.fit(x, y, 4, 2, verbose=0, callbacks=[best, tfprune.UpdatePruningStep()])
    assert wrappers(model)[0].read_step() == 8
    _fit(model, 8)
    assert _sparsity(model) == [0.7998]


@pytest.mark.parametrize("how", ["at the end of training", "from a file"])
def test_other_weights_are_not_taken_for_finished(how, tmp_path):
    model = _model(tfprune.PolynomialDecay(0.0, 0.8, 0, 16, power=1, frequency=4))
    x, y = _data(8)
    model.save_weights(tmp_path / "begin.weights.h5")
    best = keras.callbacks.EarlyStopping("loss", patience=9, mode="max", restore_best_weights=True)
    behind = [best] if how == "at the end of training" else []
    model.fit(x, y, 4, 2, verbose=0, callbacks=[tfprune.UpdatePruningStep(), *behind])
    if not behind:
        model.load_weights(tmp_path / "begin.weights.h5")
    assert wrappers(model)[0].read_step() == (8 if behind else 0)
    with pytest.raises(ValueError, match="without the callback"):
        model.fit(x, y, 4, verbose=0)


def test_a_callback_that_waits_for_one_model_serves_no_other():
    """The first model never trains; its callback is kept, and waits for wrappers to come."""
    waiting = tfprune.UpdatePruningStep()
    waiting.set_model(keras.Sequential([keras.layers.Dense(2)]))
    waiting.on_train_begin()
    model = _model(tfprune.ConstantSparsity(0.5, 0, frequency=100))
    x, y = _data(2)
    with pytest.raises(ValueError, match="without the callback"):
        model.fit(x, y, 4, verbose=0)


def test_a_callback_serves_a_loop_of_ones_own_after_a_fit():
    model = _model(tfprune.ConstantSparsity(0.5, 0, frequency=100))
    x, y = _data(8)
    callback = tfprune.UpdatePruningStep()
    model.fit(x, y, 4, verbose=0, callbacks=[callback])
    callback.on_train_begin()
    for _ in range(3):
        callback.on_train_batch_begin(-1)
        model.train_on_batch(x[:4], y[:4])
    callback.on_epoch_end(0)
    callback.on_train_end()
    assert wrappers(model)[0].read_step() == 11


def test_backup_and_restore_goes_on_after_a_crash(tmp_path):
    schedule = tfprune.PolynomialDecay(**SCHEDULE, power=1, frequency=4)

    class Crash(keras.callbacks.Callback):
        def on_epoch_begin(self, epoch, logs=None):
            if epoch == 1:
                raise KeyboardInterrupt

    def run(model, *more):
        backup = keras.callbacks.BackupAndRestore(tmp_path / "backup", delete_checkpoint=False)
        model.fit(
            *_data(7), batch_size=4, epochs=2, shuffle=False, verbose=0,
            callbacks=[tfprune.UpdatePruningStep(), backup, *more],
        )  # fmt: skip

    model = _model(schedule, optimizer="adam")
    initial = model.get_weights()
    with pytest.raises(KeyboardInterrupt):
        run(model, Crash())
    again = _model(schedule, optimizer="adam")
    run(again)
    whole = _model(schedule, optimizer="adam")
    whole.set_weights(initial)
    _fit_exactly = {"batch_size": 4, "epochs": 2, "shuffle": False, "verbose": 0}
    whole.fit(*_data(7), **_fit_exactly, callbacks=[tfprune.UpdatePruningStep()])
    _same(_history(whole), _history(again))


@pytest.mark.parametrize(
    ("inputs", "final", "pattern", "expected"),
    [
        (8, 0.9, "2:4", "wide will be at 50.0%, not 90.0%."),
        (8, 0.5, "2:4", None),
        (8, 0.5, "1:4", None),
        (7, 0.3, "2:4", None),  # 3 zeros in 7
        (6, 0.5, "2:4", "wide will be at 33.3%, not 50.0% (6 inputs are no multiple of 4)."),
        (6, 0.5, "1:4", "wide will be at 16.7%, not 25.0% (6 inputs are no multiple of 4)."),
    ],
)
def test_a_pattern_with_fewer_zeros_than_its_schedule_is_told(inputs, final, pattern, expected):
    """0.5 is what tfmot's users get who name a pattern and no schedule."""
    model = keras.Sequential([keras.Input((inputs,)), keras.layers.Dense(4, name="wide")])
    model = tfprune.prune(model, tfprune.Rule("wide", tfprune.OneShot(final), pattern))
    model.compile("sgd", "mse")
    with warnings.catch_warnings(record=True) as said:
        warnings.simplefilter("always")
        model.fit(np.ones((4, inputs)), np.ones((4, 4)), verbose=0,
                  callbacks=[tfprune.UpdatePruningStep()])  # fmt: skip
    told = [str(one.message) for one in said if "N:M pattern sets" in str(one.message)]
    assert len(told) == (expected is not None)
    assert expected is None or expected in told[0]


def test_the_forecast_names_each_layer_that_will_fall_short():
    model = _model(tfprune.PolynomialDecay(0.0, 0.8, 0, 100, power=1, frequency=10))
    expected = r"The run ends at step 64; d will be at 48\.0%, not 80\.0%\."
    with pytest.warns(UserWarning, match=expected) as record:
        _fit(model, 32, epochs=2)
    assert len([w for w in record if w.category is UserWarning]) == 1


def test_a_run_that_arrives_says_so_and_warns_of_nothing(capsys):
    model = _model(tfprune.PolynomialDecay(0.0, 0.75, 0, 8, frequency=4))
    x, y = _data(8)
    with warnings.catch_warnings():
        warnings.simplefilter("error", UserWarning)
        model.fit(x, y, batch_size=4, verbose=2, callbacks=[tfprune.UpdatePruningStep()])
    line = capsys.readouterr().out.strip().splitlines()[-1]
    assert line == "Pruned to 75.0% zeros in 1 layers at step 8: every layer is at its target."


def test_a_run_whose_length_nobody_knows_is_judged_at_its_end():
    model = _model(tfprune.PolynomialDecay(0.0, 0.8, 0, 100, power=1, frequency=10))
    x, y = _data(4)

    def batches():
        yield from ((x[i : i + 4], y[i : i + 4]) for i in range(0, 16, 4))

    with pytest.warns(UserWarning, match=r"ended at step 4 .*d/kernel is at 0\.0%, not 80\.0%"):
        model.fit(batches(), verbose=0, callbacks=[tfprune.UpdatePruningStep()])


def test_a_model_without_wrappers_is_pointed_out():
    model = keras.Sequential([keras.Input((16,)), layers.Dense(1)])
    model.compile("sgd", "mse")
    with pytest.warns(UserWarning, match="found no layer wrapped"):
        model.fit(*_data(1), verbose=0, callbacks=[tfprune.UpdatePruningStep()])
    callback = tfprune.UpdatePruningStep()
    with pytest.raises(ValueError, match="set_model"):
        callback.on_train_begin()
    with pytest.raises(ValueError, match="Received: 3"):
        callback.set_model(3)


def test_diverged_training_stops_with_the_name_of_the_layer():
    model = _model(tfprune.OneShot(0.5, step=2), optimizer=keras.optimizers.SGD(1e30))
    with pytest.raises(ValueError, match=r"^d: .*training has diverged"):
        _fit(model, 4)


MIRRORED = """
import json, keras, numpy as np, tensorflow as tf, tfprune
cpu = tf.config.list_physical_devices("CPU")[0]
tf.config.set_logical_device_configuration(cpu, [tf.config.LogicalDeviceConfiguration()] * 2)
strategy = tf.distribute.MirroredStrategy(["CPU:0", "CPU:1"])
keras.utils.set_random_seed(0)
with strategy.scope():
    model = keras.Sequential([keras.Input((16,)), keras.layers.Dense(64, name="d"),
                              keras.layers.BatchNormalization(), keras.layers.Dense(1)])
    schedule = tfprune.PolynomialDecay(0.0, 0.75, 0, 6, frequency=2)
    pruned = tfprune.prune(model, [tfprune.Rule("d$", schedule=schedule)])
    pruned.compile("adam", "mse")
x = np.random.default_rng(0).random((64, 16), np.float32)
pruned.fit(x, x[:, :1], batch_size=8, verbose=0, callbacks=[tfprune.UpdatePruningStep()])
from tfprune.wrapper import wrappers
(wrapper,) = wrappers(pruned)
replicas = [v.numpy() for v in wrapper.pruning_vars[0][1].value.values]
kernels = [v.numpy() for v in wrapper.layer.kernel.value.values]
print(json.dumps({
    "replicas": len(replicas),
    "same masks": bool((replicas[0] == replicas[1]).all()),
    "same weights": bool((kernels[0] == kernels[1]).all()),
    "sparsity": wrapper.states()[0].sparsity,
    "step": wrapper.read_step(),
}))
"""


def test_mirrored_strategy_has_the_same_masks_on_every_replica(run_python):
    result = json.loads(run_python(MIRRORED).strip().splitlines()[-1])
    assert result == {
        "replicas": 2, "same masks": True, "same weights": True, "sparsity": 0.75, "step": 8
    }  # fmt: skip


JAX = """
import json, keras, numpy as np, tfprune
assert keras.backend.backend() == "jax"
keras.utils.set_random_seed(0)
model = keras.Sequential([keras.Input((16,)), keras.layers.Dense(64, name="d"),
                          keras.layers.BatchNormalization(), keras.layers.Dropout(0.1),
                          keras.layers.Dense(1)])
schedule = tfprune.PolynomialDecay(0.0, 0.5, 0, 6, frequency=2)
pruned = tfprune.prune(model, [tfprune.Rule("d$", schedule=schedule, pattern="2:4")])
pruned.compile("adam", "mse", steps_per_execution=2)
x = np.random.default_rng(0).random((64, 16), np.float32)
pruned.fit(x, x[:, :1], batch_size=8, verbose=0, callbacks=[tfprune.UpdatePruningStep()])
pruned.save("PATH")
again = keras.models.load_model("PATH")
row = tfprune.summary(again).rows[0]
stripped = tfprune.strip_pruning(again)
close = np.allclose(stripped.predict(x, verbose=0), pruned.predict(x, verbose=0), atol=1e-5)
from tfprune.wrapper import wrappers
print(json.dumps([row.reached, row.pattern, wrappers(again)[0].read_step(), bool(close)]))
"""


def test_the_jax_backend_prunes_saves_and_strips(run_python, tmp_path):
    pytest.importorskip("jax")
    code = JAX.replace("PATH", str(tmp_path / "m.keras"))
    output = run_python(code, KERAS_BACKEND="jax").strip().splitlines()[-1]
    assert json.loads(output) == [0.5, "2:4", 8, True]
