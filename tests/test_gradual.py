"""`Gradual` in training: it becomes the schedule of the run, and says so where there is none."""

import keras
import numpy as np
import pytest

import tfprune


@pytest.fixture
def data():
    rng = np.random.default_rng(0)
    return rng.random((64, 8), np.float32), rng.integers(0, 3, 64)


@pytest.fixture
def wrapped():
    """A compiled network of one wrapped layer of 128 weights."""
    layers = keras.layers
    plain = keras.Sequential(
        [keras.Input((8,)), layers.Dense(16, "relu", name="hidden"), layers.Dense(3)]
    )
    model = tfprune.prune(plain, [tfprune.Rule("hidden", tfprune.Gradual(0.75))])
    model.compile("adam", keras.losses.SparseCategoricalCrossentropy(from_logits=True))
    return model


def schedule_of(model):
    return model.get_layer("prune_low_magnitude_hidden").pruning_schedule


def fit(model, data, **options):
    options = {"batch_size": 16, "verbose": 0, **options}
    model.fit(*data, callbacks=[tfprune.UpdatePruningStep()], **options)


def test_three_quarters_of_the_run(wrapped, data):
    assert tfprune.summary(wrapped).rows[0].target == 0.75
    fit(wrapped, data, epochs=10)  # 4 steps an epoch
    assert schedule_of(wrapped) == tfprune.PolynomialDecay(0.0, 0.75, 0, 30, frequency=1)
    plain = tfprune.strip_pruning(wrapped)
    assert np.count_nonzero(plain.get_layer("hidden").kernel.numpy()) == 32


def test_gradient_accumulation_makes_runs_shorter(wrapped, data):
    optimizer = keras.optimizers.Adam(gradient_accumulation_steps=2)
    wrapped.compile(optimizer, keras.losses.SparseCategoricalCrossentropy(from_logits=True))
    fit(wrapped, data, epochs=10)
    assert schedule_of(wrapped).end_step == 15


def test_an_interrupted_run_goes_on_as_it_began(wrapped, data, tmp_path):
    class Stop(keras.callbacks.Callback):
        def on_epoch_end(self, epoch, logs=None):
            self.model.stop_training = epoch == 3

    with pytest.warns(UserWarning, match="short of the schedule"):
        wrapped.fit(
            *data,
            batch_size=16,
            epochs=10,
            verbose=0,
            callbacks=[tfprune.UpdatePruningStep(), Stop()],
        )
    wrapped.save(tmp_path / "half.keras")
    loaded = keras.models.load_model(tmp_path / "half.keras")
    assert schedule_of(loaded).end_step == 30
    fit(loaded, data, epochs=10, initial_epoch=4)
    assert tfprune.summary(loaded).rows[0].reached == 0.75


def test_an_untrained_model_is_saved_with_it(wrapped, tmp_path):
    wrapped.save(tmp_path / "new.keras")
    loaded = keras.models.load_model(tmp_path / "new.keras")
    assert schedule_of(loaded) == tfprune.Gradual(0.75)


def loop(model, data, steps, callback):
    """Train as in the guide, one optimizer update for each pair of hooks."""
    callback.set_model(model)
    callback.on_train_begin()
    for _ in range(steps):
        callback.on_train_batch_begin(-1)
        model.train_on_batch(*data)
    callback.on_epoch_end(0)
    callback.on_train_end()


def test_a_loop_of_ones_own_tells_its_length(wrapped, data):
    loop(wrapped, data, 20, tfprune.UpdatePruningStep(steps=20))
    assert schedule_of(wrapped).end_step == 15
    assert tfprune.summary(wrapped).rows[0].reached == 0.75


def test_a_loop_that_is_shorter_than_a_schedule_is_forecast(data):
    model = keras.Sequential([keras.Input((8,)), keras.layers.Dense(3, name="hidden")])
    schedule = tfprune.PolynomialDecay(0.0, 0.75, 0, 100, frequency=1)
    model = tfprune.prune(model, schedule)
    model.compile("adam", keras.losses.SparseCategoricalCrossentropy(from_logits=True))
    with pytest.warns(UserWarning, match="The run ends at step 20"):
        loop(model, data, 20, tfprune.UpdatePruningStep(steps=20))


def test_a_loop_that_does_not_tell_its_length(wrapped, data):
    callback = tfprune.UpdatePruningStep()
    callback.set_model(wrapped)
    callback.on_train_begin()
    for hook in (lambda: callback.on_train_batch_begin(-1), callback.on_train_end):
        with pytest.raises(ValueError, match=r"nothing tells how long.*UpdatePruningStep\(steps"):
            hook()
    # Nothing follows the run that did not begin: training goes on being refused.
    with pytest.raises(ValueError, match="without the callback"):
        wrapped.fit(*data, verbose=0)


@pytest.mark.parametrize("steps", [0, True, 2.5, "all"])
def test_no_number_of_steps(steps):
    with pytest.raises(ValueError, match="`steps` is the number of training steps"):
        tfprune.UpdatePruningStep(steps=steps)


def test_weights_of_a_checkpoint_go_on_in_the_same_run(wrapped, data, tmp_path):
    copy = keras.models.clone_model(wrapped)
    copy.compile("adam", keras.losses.SparseCategoricalCrossentropy(from_logits=True))

    class Die(keras.callbacks.Callback):
        def on_epoch_end(self, epoch, logs=None):
            if epoch == 3:
                raise KeyboardInterrupt

    backup = [keras.callbacks.BackupAndRestore(tmp_path / "backup")]
    callbacks = [tfprune.UpdatePruningStep(), *backup, Die()]
    with pytest.raises(KeyboardInterrupt):
        wrapped.fit(*data, batch_size=16, epochs=10, verbose=0, callbacks=callbacks)
    callbacks = [tfprune.UpdatePruningStep(), *backup]
    copy.fit(*data, batch_size=16, epochs=10, verbose=0, callbacks=callbacks)
    assert schedule_of(copy) == tfprune.PolynomialDecay(0.0, 0.75, 0, 30, frequency=1)
    assert tfprune.summary(copy).rows[0].reached == 0.75


def test_data_of_unknown_length(wrapped, data):
    def forever():
        while True:
            yield data

    with pytest.raises(ValueError, match="`steps_per_epoch=` to `fit`"):
        wrapped.fit((batch for batch in [data]), verbose=0, callbacks=[tfprune.UpdatePruningStep()])
    wrapped.fit(
        forever(),
        steps_per_epoch=4,
        epochs=2,
        verbose=0,
        callbacks=[tfprune.UpdatePruningStep()],
    )
    assert schedule_of(wrapped).end_step == 6


def test_an_initial_sparsity_cuts_before_any_gradient():
    with pytest.raises(ValueError, match="needs the gradients of some training steps"):
        tfprune.Rule(None, tfprune.Gradual(0.8, 0.5), score="movement")
    assert tfprune.Rule(None, tfprune.Gradual(0.8), score="movement", regrowth="soft")
    assert tfprune.Rule(None, tfprune.Gradual(0.8), regrowth="rigl")


def test_tfmot_must_know_the_steps():
    import tf_keras

    model = tf_keras.Sequential([tf_keras.layers.Dense(4, input_shape=(8,), name="hidden")])
    with pytest.raises(ValueError, match=r"must know the steps of Gradual.*use PolynomialDecay"):
        tfprune.prune(model, tfprune.Gradual(0.75))
