"""Keras's own `Distiller` trains a wrapped student; masks, report and files are the usual ones."""

import keras
import numpy as np
import pytest

import tfprune

distillation = pytest.importorskip("keras.distillation")  # Keras 3.12


def network(width, name):
    return keras.Sequential(
        [
            keras.Input((8,)),
            keras.layers.Dense(width, activation="relu", name="hidden"),
            keras.layers.Dense(3, name="logits"),
        ],
        name=name,
    )


@pytest.fixture
def data():
    rng = np.random.default_rng(0)
    return rng.random((64, 8), np.float32), rng.integers(0, 3, 64)


@pytest.fixture
def distiller():
    """A compiled distiller whose student is pruned to 75 % over 8 of its 12 steps."""
    schedule = tfprune.PolynomialDecay(0.0, 0.75, begin_step=0, end_step=8, frequency=2)
    made = distillation.Distiller(
        teacher=network(32, "teacher"),
        student=tfprune.prune(network(16, "student"), [tfprune.Rule("hidden", schedule)]),
        distillation_losses=distillation.LogitsDistillation(temperature=2.0),
        student_loss_weight=0.5,
    )
    loss = keras.losses.SparseCategoricalCrossentropy(from_logits=True)
    made.compile(keras.optimizers.Adam(1e-2), loss)
    return made


def fit(distiller, data, epochs=3, **options):
    options = {"callbacks": [tfprune.UpdatePruningStep()], "verbose": 0, **options}
    return distiller.fit(*data, batch_size=16, epochs=epochs, **options).history


def test_the_student_is_pruned_and_learns_from_both(distiller, data):
    teacher = [w.copy() for w in distiller.teacher.get_weights()]
    before = [w.copy() for w in distiller.student.layers[-1].get_weights()]
    history = fit(distiller, data)
    assert history["distillation_loss"][-1] < history["distillation_loss"][0]
    assert all(map(np.array_equal, teacher, distiller.teacher.get_weights()))
    assert not np.array_equal(before[0], distiller.student.layers[-1].get_weights()[0])

    plain = tfprune.strip_pruning(distiller.student)
    assert np.count_nonzero(plain.get_layer("hidden").kernel.numpy()) == 8 * 16 // 4
    x = data[0]
    np.testing.assert_allclose(plain(x), distiller.student(x), atol=1e-6)


def test_without_the_callback_nothing_trains(distiller, data):
    with pytest.raises(ValueError, match="UpdatePruningStep"):
        fit(distiller, data, callbacks=[])


def test_a_saved_distiller_goes_on_where_it_was(distiller, data, tmp_path):
    fit(distiller, data, epochs=1)
    half = tfprune.summary(distiller.student).rows[0].reached
    assert 0.3 < half < 0.75
    distiller.save(tmp_path / "half.keras")
    loaded = keras.models.load_model(tmp_path / "half.keras", compile=False)
    loaded.compile("adam", keras.losses.SparseCategoricalCrossentropy(from_logits=True))
    assert tfprune.summary(loaded.student).rows[0].reached == half
    fit(loaded, data, epochs=2)
    assert tfprune.summary(loaded.student).rows[0].reached == 0.75


def test_the_log_shows_the_student(distiller, data, tmp_path):
    log = tfprune.PruningSummaries(tmp_path / "log")
    fit(distiller, data, callbacks=[tfprune.UpdatePruningStep(), log])
    assert list((tmp_path / "log").rglob("events*"))


def test_what_to_strip_is_the_student(distiller):
    with pytest.raises(ValueError, match=r"strip_pruning\(distiller\.student\)"):
        tfprune.strip_pruning(distiller)
