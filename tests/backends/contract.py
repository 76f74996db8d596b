"""What a process of one backend is asked to do; `test_backends.py` judges the answers.

Functions take and return what JSON can hold; weights go through files.
"""

import contextlib
import gc
import hashlib
import os
import pathlib
import threading
import warnings

import keras
import numpy as np

import tfprune
from tfprune import child
from tfprune.wrapper import wrappers

L = keras.layers


def answer():
    """Answer the tests until they close the pipe."""
    child.serve(lambda: _reply, (Exception,))


def _reply(question):
    keras.utils.clear_session(free_memory=False)
    keras.utils.set_random_seed(0)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return {"value": globals()[question.pop("do")](**question)}


# -- Models and data that are the same on every backend ---------------------------------------


def seeded(model):
    """Give a model weights that numpy chose."""
    rng = np.random.default_rng(0)
    for variable in model.trainable_variables:
        variable.assign(rng.normal(0, 0.3, tuple(variable.shape)).astype("float32"))
    return model


def network(width=16):
    """A classifier; a bias in front of a norm would have no gradient but rounding."""
    return seeded(
        keras.Sequential(
            [
                keras.Input((8,)),
                L.Dense(width, activation="relu", use_bias=False, name="wide"),
                L.BatchNormalization(name="norm"),
                L.Dense(3, name="logits"),
            ],
            name="net",
        )
    )


def data():
    rng = np.random.default_rng(1)
    return rng.random((64, 8), np.float32), rng.integers(0, 3, 64)


def half():
    """0 to 50 % over 8 steps, masks every other step."""
    return tfprune.PolynomialDecay(0.0, 0.5, 0, 8, frequency=2)


def twins(names):
    """Layers of one shape, told apart by their names alone."""
    layers = [L.Dense(8, name=name) for name in names]
    return keras.Sequential([keras.Input((8,)), *layers, L.Dense(1)], name="net")


def compiled(model, optimizer=None, loss=None, **options):
    loss = loss or keras.losses.SparseCategoricalCrossentropy(True)
    model.compile(optimizer or keras.optimizers.Adam(0.01), loss, **options)
    return model


def fit(model, *callbacks, epochs=1):
    """8 steps an epoch, in the order of the data."""
    watch = [tfprune.UpdatePruningStep(verbose=False), *callbacks]
    x, y = data()
    return model.fit(x, y, batch_size=8, epochs=epochs, shuffle=False, verbose=0, callbacks=watch)


class Watch(keras.callbacks.Callback):
    """Notes after each step whether masking is spared, and whether cut weights are zero."""

    def __init__(self):
        super().__init__()
        self.seen = set()

    def on_train_batch_end(self, batch, logs=None):
        sync = getattr(self.model, "jax_state_sync", None)
        if sync is not None:
            sync()
        self.seen |= {(w.zeros_hold, w.cut_weights_are_zero()) for w in wrappers(self.model)}


def reached(model):
    return [round(row.reached, 4) for row in tfprune.summary(model).rows]


def digests(model):
    """Return a fingerprint of each mask."""
    return [
        hashlib.sha256(np.packbits(state.mask).tobytes()).hexdigest()
        for layer in wrappers(model)
        for state in layer.states()
    ]


def apart(model, other, x):
    return float(np.abs(model.predict(x, verbose=0) - other.predict(x, verbose=0)).max())


# -- What is asked ---------------------------------------------------------------------------


def backend():
    return keras.backend.backend()


def masks(pattern):
    """Return the masks of many kinds of layers, chosen at 60 % of weights that numpy made."""
    ids = keras.Input((6,), dtype="int32")
    h = L.Embedding(16, 8)(ids)
    h = L.MultiHeadAttention(2, 4)(h, h)
    h = L.Conv1D(8, 3)(h)
    h = L.SeparableConv1D(8, 2)(h)
    h = L.Bidirectional(L.LSTM(4, return_sequences=True))(h)
    h = L.GRU(8)(L.EinsumDense("abc,cd->abd", (None, 8))(h))
    model = seeded(keras.Model(ids, L.Dense(4)(h)))
    final = 0.5 if ":" in pattern else 0.6
    schedule = tfprune.ConstantSparsity(final, 0)
    pruned = tfprune.prune(model, [tfprune.Rule(".*", schedule=schedule, pattern=pattern)])
    for layer in wrappers(pruned):
        layer.update_masks(0)
    return {"masks": digests(pruned), "reached": reached(pruned)}


def train(rules=None, **options):
    """Prune by `fit`, and say what came of it."""
    model = network()
    pruned = tfprune.prune(model, rules) if rules else tfprune.prune_low_magnitude(model, half())
    compiled(pruned, **options)
    watch = Watch()
    history = fit(pruned, watch, epochs=2).history["loss"]
    stripped = tfprune.strip_pruning(pruned)
    kernel = np.asarray(keras.ops.convert_to_numpy(stripped.get_layer("wide").kernel))
    return {
        "reached": reached(pruned),
        "steps": [layer.read_step() for layer in wrappers(pruned)],
        "seen": sorted(watch.seen),
        "learns": history[1] < history[0],
        "zeros": int(np.count_nonzero(kernel == 0)),
        "apart": apart(stripped, pruned, data()[0]),
    }


def chosen(pattern, regrowth=None):
    schedule = half()
    return train([tfprune.Rule("wide", schedule=schedule, pattern=pattern, regrowth=regrowth)])


def optimizers():
    """Return for each optimizer whether masking was spared, and cut weights were zero."""
    found = {}
    for name in ("SGD", "Adam", "AdamW", "Nadam", "Adamax", "Lion", "RMSprop", "Adagrad"):
        arguments = {"momentum": 0.9} if name in ("SGD", "RMSprop") else {}
        pruned = compiled(
            tfprune.prune_low_magnitude(network(), half()),
            getattr(keras.optimizers, name)(**arguments),
        )
        watch = Watch()
        fit(pruned, watch)
        found[name] = sorted(watch.seen)
    return found


def refitted():
    """Return which optimizers go on in a second `fit`, compiled anew."""
    some = {
        "accumulating": keras.optimizers.Adam(gradient_accumulation_steps=2),
        "average": keras.optimizers.SGD(use_ema=True, ema_overwrite_frequency=3),
        "adafactor": keras.optimizers.Adafactor(),
        "scaled": keras.optimizers.LossScaleOptimizer(keras.optimizers.Adam()),
    }
    for name, optimizer in some.items():
        inputs, halves = keras.Input((8,)), [twins("ab"), twins("ba")]  # weights of one path
        nested = keras.Sequential([keras.Input((8,)), L.Dense(8), halves[1]], name="outer")
        both = keras.Model(inputs, L.Add()([halves[0](inputs), nested(inputs)]))
        pruned = compiled(tfprune.prune_low_magnitude(both, half()), optimizer, loss="mse")
        fit(pruned)
        if name != "average" or backend() != "jax":  # Keras cannot: it has lost their values
            fit(compiled(pruned, optimizer, loss="mse"))
    return list(some)


def frozen_later():
    """Return what is said where an optimizer knows a weight that is trained no more."""
    pruned = compiled(tfprune.prune_low_magnitude(twins("ab"), half()), loss="mse")
    fit(pruned)
    pruned.layers[0].trainable = False
    return _said(lambda: fit(compiled(pruned, pruned.optimizer, loss="mse")))


def mean_squares():
    """Return the least of the mean squares that Adam keeps, some of them of cut weights."""
    pruned = compiled(tfprune.prune_low_magnitude(network(), tfprune.ConstantSparsity(0.5, 0)))
    fit(pruned)
    kept = [v for v in pruned.optimizer.variables if v.name.endswith("kernel_velocity")]
    return [float(keras.ops.min(v.value)) for v in kept]


def penalties():
    """Return the losses of a model with penalties, plain and wrapped, and if masks are spared."""
    found = []
    watch = Watch()
    for wrapped in (False, True):
        model = keras.Sequential([
            keras.Input((8,)),
            L.Dense(16, activity_regularizer="l2", kernel_regularizer="l2"),
            L.BatchNormalization(),
            L.Dense(4),
        ])  # fmt: skip
        model = seeded(model)
        if wrapped:
            model = tfprune.prune_low_magnitude(model, tfprune.ConstantSparsity(0.0, 0))
        compiled(model, keras.optimizers.SGD(0.1))
        x, y = data()
        look = [tfprune.UpdatePruningStep(verbose=False), watch] if wrapped else []
        history = model.fit(x, y, 8, 2, shuffle=False, verbose=0, callbacks=look)
        found.append(history.history["loss"])
    return {"losses": found, "seen": sorted(watch.seen)}


def after_fit():
    """Return the least gradient of a pruned weight by its sum, in `fit` and when it is over."""
    import torch

    def least():
        weight.grad = None
        weight.sum().backward()
        return float(weight.grad.min())

    pruned = compiled(tfprune.prune_low_magnitude(network(), tfprune.ConstantSparsity(0.5, 0)))
    weight = wrappers(pruned)[0].layer.kernel.value
    assert isinstance(weight, torch.nn.Parameter)
    inside = []
    look = keras.callbacks.LambdaCallback(
        on_train_batch_end=lambda *_, **__: inside.append(least())
    )
    fit(pruned, look)
    return [max(inside), least()]


def masking(shape, dtype, transposed):
    """Return what is wrong after a weight and its gradient were masked in place, in PyTorch."""
    import torch

    from tfprune import torch_masking

    rng = np.random.default_rng(0)
    value, slope = (rng.standard_normal(shape) for _ in range(2))
    kept = rng.random(shape) < 0.3
    value[~kept], value.flat[-1], kept.flat[-1] = np.nan, -2.0, True
    mask = keras.Variable(kept, dtype="bool", trainable=False)
    weight = keras.Variable(value, dtype=dtype)
    wrong = []
    unhook = torch_masking.cut_on_arrival(weight, mask)
    for _ in range(2):
        weight.value.grad = None
        slopes = torch.as_tensor(slope, dtype=getattr(torch, dtype))
        if transposed:  # as some gradients lie in memory
            slopes = slopes.t().contiguous().t()
        (weight.value * slopes).sum().backward()
        got = keras.ops.convert_to_numpy(keras.ops.cast(weight.value.grad, "float64"))
        want = np.where(kept, keras.ops.convert_to_numpy(keras.ops.cast(slopes, "float64")), 0)
        wrong += [] if np.array_equal(got, want) else ["gradient"]
        kept = kept & (rng.random(shape) < 0.5)  # a later mask
        mask.assign(kept)
    unhook()
    torch_masking.cut(weight, mask)
    got = keras.ops.convert_to_numpy(keras.ops.cast(weight.value, "float64"))
    want = np.where(kept, np.asarray(value, "float32"), 0)
    near = np.allclose(got, want, rtol=0.01)
    return wrong + ([] if near and not got[~kept].any() else ["weight"])


class _Told(tfprune.UpdatePruningStep):
    """Counts the batches whose end it is told of by another thread than the one that trains."""

    beside = 0

    def on_train_batch_end(self, batch, logs=None):
        self.beside += threading.get_ident() != threading.main_thread().ident
        super().on_train_batch_end(batch, logs)


def told(watched, steps_per_execution=1, unknown=False):
    """Return what a callback in front of ours sees after each of two epochs, and what is left.

    Args:
        watched: whether there is a callback which makes Keras tell of each batch at once.
        steps_per_execution: of `compile`.
        unknown: whether the data come from a generator, which tells nobody when it ends.
    """
    pruned = compiled(
        tfprune.prune_low_magnitude(network(), tfprune.PolynomialDecay(0.1, 0.5, 0, 12, 1, 3)),
        steps_per_execution=steps_per_execution,
    )
    seen, callback = [], _Told(verbose=False)

    def look(epoch, logs):
        first = wrappers(pruned)[0]
        # Without a number of steps nothing tells that a step is the last, in front of our callback.
        stored = None if unknown else int(first.pruning_step.numpy())
        seen.append([digests(pruned), first.read_step(), stored])

    callbacks = [keras.callbacks.LambdaCallback(on_epoch_end=look), callback]
    if watched:
        callbacks.append(keras.callbacks.LambdaCallback(on_train_batch_end=lambda batch, logs: 0))
    x, y = data()
    if unknown:
        batches = ((x[i : i + 8], y[i : i + 8]) for _ in range(2) for i in range(0, 48, 8))
        pruned.fit(batches, epochs=1, verbose=0, callbacks=callbacks)
    else:
        options = {"batch_size": 8, "epochs": 2, "shuffle": False, "verbose": 0}
        pruned.fit(x[:48], y[:48], **options, callbacks=callbacks)
    weights = [np.asarray(keras.ops.convert_to_numpy(w)).tolist() for w in pruned.weights]
    return {"seen": seen, "weights": weights, "beside": callback.beside}


def own_optimizer():
    """Return the same for a class of the user's own, which is not trusted."""

    class Mine(keras.optimizers.Adam):
        pass

    pruned = compiled(tfprune.prune_low_magnitude(network(), half()), Mine())
    watch = Watch()
    fit(pruned, watch)
    return {"seen": sorted(watch.seen), "reached": reached(pruned)}


def save_half(folder):
    """Save a model after 4 of 8 steps, and the weights of a run that went on to the end."""
    x, y = data()
    pruned = compiled(tfprune.prune_low_magnitude(network(), half()))
    callback = tfprune.UpdatePruningStep(verbose=False)
    pruned.fit(x[:32], y[:32], batch_size=8, shuffle=False, verbose=0, callbacks=[callback])
    pruned.save(pathlib.Path(folder) / f"{backend()}.keras")
    return {"masks": digests(pruned), **_state(pruned)}


def go_on(folder, other):
    """Load what another backend saved, go on to the end, and say what was loaded and reached."""
    x, y = data()
    model = keras.models.load_model(pathlib.Path(folder) / f"{other}.keras")
    loaded = {"masks": digests(model), **_state(model)}
    callback = tfprune.UpdatePruningStep(verbose=False)
    model.fit(x[32:], y[32:], batch_size=8, shuffle=False, verbose=0, callbacks=[callback])
    np.savez(
        pathlib.Path(folder) / f"{other}-{backend()}.npz",
        *[keras.ops.convert_to_numpy(v) for v in model.trainable_variables],
    )
    return {"loaded": loaded, "masks": digests(model), "reached": reached(model), **_state(model)}


def _state(model):
    """Return the step, and of the optimizer the count of updates and what it remembers."""
    optimizer = model.optimizer
    slots = [v for v in optimizer.variables if v.name.endswith(("_momentum", "_velocity"))]
    return {
        "step": [layer.read_step() for layer in wrappers(model)],
        "updates": int(np.asarray(keras.ops.convert_to_numpy(optimizer.iterations))),
        "slots": [float(np.abs(keras.ops.convert_to_numpy(v)).sum()) for v in slots],
        "rate": float(np.asarray(keras.ops.convert_to_numpy(optimizer.learning_rate))),
    }


def loop():
    """Prune in a loop of one's own, as each backend writes it."""
    pruned = tfprune.prune_low_magnitude(network(), half())
    optimizer = keras.optimizers.SGD(0.05, momentum=0.9)
    optimizer.build(pruned.trainable_variables)
    loss_of = keras.losses.SparseCategoricalCrossentropy(True)
    step = {"tensorflow": _tape, "jax": _functional, "torch": _backward}[backend()]
    train_step = step(pruned, optimizer, loss_of)
    x, y = data()
    callback = tfprune.UpdatePruningStep(verbose=False, steps=8)
    callback.set_model(pruned)
    callback.on_train_begin()
    for batch in range(8):
        callback.on_train_batch_begin(batch)
        train_step(x[batch * 8 :][:8], y[batch * 8 :][:8])
    callback.on_epoch_end(0)
    callback.on_train_end()
    return {
        "reached": reached(pruned),
        "steps": [layer.read_step() for layer in wrappers(pruned)],
        "zero": all(layer.cut_weights_are_zero() for layer in wrappers(pruned)),
    }


def _tape(model, optimizer, loss_of):
    import tensorflow as tf

    @tf.function
    def train_step(x, y):
        with tf.GradientTape() as tape:
            loss = loss_of(y, model(x, training=True))
        variables = model.trainable_variables
        optimizer.apply(tape.gradient(loss, variables), variables)

    return train_step


def _functional(model, optimizer, loss_of):
    import jax

    def loss(trained, others, x, y):
        outputs, others = model.stateless_call(trained, others, x, training=True)
        return loss_of(y, outputs), others

    @jax.jit
    def update(trained, others, state, x, y):
        (_, others), slopes = jax.value_and_grad(loss, has_aux=True)(trained, others, x, y)
        return *optimizer.stateless_apply(state, slopes, trained), others

    def train_step(x, y):
        trained, state, others = update(
            [v.value for v in model.trainable_variables],
            [v.value for v in model.non_trainable_variables],
            [v.value for v in optimizer.variables],
            x,
            y,
        )
        for variables, values in (
            (model.trainable_variables, trained),
            (optimizer.variables, state),
            (model.non_trainable_variables, others),
        ):
            for variable, value in zip(variables, values, strict=True):
                variable.assign(value)

    return train_step


def _backward(model, optimizer, loss_of):
    import torch

    def train_step(x, y):
        model.zero_grad()
        loss_of(torch.as_tensor(y), model(torch.as_tensor(x), training=True)).backward()
        variables = model.trainable_variables
        with torch.no_grad():
            optimizer.apply([v.value.grad for v in variables], variables)

    return train_step


def sequences(folder):
    """Prune, save, load and strip recurrent layers and attention."""
    x = np.random.default_rng(2).integers(1, 10, (32, 5))
    ids = keras.Input((5,), dtype="int32")
    h = L.Embedding(10, 8, mask_zero=True)(ids)
    h = L.MultiHeadAttention(2, 4)(h, h)
    h = L.Bidirectional(L.GRU(4, return_sequences=True))(h)
    model = seeded(keras.Model(ids, L.Dense(1)(L.LSTM(4)(h))))
    pruned = tfprune.prune_low_magnitude(model, half())
    pruned.compile("adam", "mse")
    callback = tfprune.UpdatePruningStep(verbose=False)
    y = x[:, :1].astype("float32")
    pruned.fit(x, y, batch_size=4, verbose=0, callbacks=[callback])
    path = pathlib.Path(folder) / f"sequences-{backend()}.keras"
    pruned.save(path)
    stripped = tfprune.strip_pruning(keras.models.load_model(path))
    return {"reached": reached(pruned), "apart": apart(stripped, pruned, x)}


def mixed(policy):
    keras.config.set_dtype_policy(policy)
    try:
        pruned = compiled(tfprune.prune_low_magnitude(network(), half()))
        fit(pruned)
        kinds = {str(keras.backend.standardize_dtype(v.dtype)) for v in pruned.trainable_variables}
        return {"reached": reached(pruned), "weights": sorted(kinds)}
    finally:
        keras.config.set_dtype_policy("float32")


def summaries(folder):
    """Write TensorBoard's files."""
    pruned = compiled(tfprune.prune_low_magnitude(network(), half()))
    fit(pruned, tfprune.PruningSummaries(folder))
    return reached(pruned)


def errors():
    """Return what is said against what a backend cannot do, and against what nobody can."""
    pruned = compiled(tfprune.prune_low_magnitude(network(), half()))
    fit(pruned)
    other = tfprune.prune_low_magnitude(network(width=12), half())
    compiled(other, pruned.optimizer)
    newer = {**pruned.layers[0].get_config(), "format": 99}

    def thawed():
        model = compiled(tfprune.prune_low_magnitude(twins("ab"), half()), loss="mse")
        model.layers[0].trainable, optimizer = False, model.optimizer
        fit(model)
        model.layers[0].trainable, model.layers[1].trainable = True, False
        fit(compiled(model, optimizer, loss="mse"))

    def reordered():
        first = compiled(tfprune.prune_low_magnitude(twins("ab"), half()), loss="mse")
        fit(first)
        second = tfprune.prune_low_magnitude(twins("ba"), half())
        fit(compiled(second, first.optimizer, loss="mse"))

    def unwatched():
        model = compiled(tfprune.prune_low_magnitude(network(), half()))
        model.fit(*data(), verbose=0)

    def interrupted():
        model = compiled(tfprune.prune_low_magnitude(network(), half()))
        with contextlib.suppress(InterruptedError):
            fit(model, keras.callbacks.LambdaCallback(on_train_batch_end=_stop))
        gc.collect()  # the callback, which the error's frames hold
        model(data()[0], training=True)

    def adapted():
        model = compiled(tfprune.prune_low_magnitude(network(), half()))
        fit(model)
        wrappers(model)[0].layer.enable_lora(2)
        fit(compiled(model))

    tries = {
        "interrupted": interrupted,
        "adapted": adapted,
        "score": lambda: chosen_by({"score": "movement"}),
        "rigl": lambda: chosen_by({"regrowth": "rigl"}),
        "optimizer": lambda: fit(other),
        "thawed": thawed,
        "reordered": reordered,
        "newer": lambda: tfprune.PruneLowMagnitude.from_config(newer),
        "no callback": unwatched,
        "steps": lambda: train(steps_per_execution=2),
    }
    return {name: _said(attempt) for name, attempt in tries.items()}


def _stop(batch, logs):
    raise InterruptedError


def chosen_by(by, **options):
    """Return the masks that gradients chose, and how many zeros there are."""
    schedule = tfprune.PolynomialDecay(0.0, 0.5, 2, 14, frequency=4)
    if by.get("regrowth"):
        schedule = tfprune.ConstantSparsity(0.5, 0, 14, frequency=4)
    elif by["score"] == "snip":
        schedule = tfprune.OneShot(0.5, 4)
    rules = [tfprune.Rule("wide", schedule=schedule, **by)]
    pruned = compiled(tfprune.prune(network(), rules), **options)
    fit(pruned, epochs=2)
    zero = all(layer.cut_weights_are_zero() for layer in wrappers(pruned))
    return {"masks": digests(pruned), "reached": reached(pruned), "zero": zero}


def _said(attempt):
    try:
        attempt()
    except (ValueError, RuntimeError) as error:
        return f"{type(error).__name__}: {error}"
    return "nothing"


def channels():
    """Return what the numbers of `test_importance_jax.py` are, and sizes of what is left."""
    from tfprune.channels import structure
    from tfprune.channels.scoring import Scorer

    first, last = L.Dense(2, use_bias=False, name="first"), L.Dense(1, use_bias=False)
    model = keras.Sequential([keras.Input((1,)), first, last])
    first.set_weights([np.array([[1.0, 2.0]])])
    last.set_weights([np.array([[3.0], [-1.0]])])
    model.compile(keras.optimizers.SGD(0.01), "mse")
    x, zeros = np.array([[1.0], [2.0]]), np.zeros((2, 1))
    read = structure.read(model)
    taylor = Scorer("taylor", model, (x, zeros)).scores(read)
    activation = Scorer("activation", model, x).scores(read)
    soft = tfprune.SoftChannelPruning(0.5)
    model.fit(x, zeros, epochs=2, verbose=0, callbacks=[soft])
    slim = keras.Sequential(
        [
            keras.Input((8,)),
            L.Dense(16),
            L.BatchNormalization(gamma_regularizer=tfprune.BatchNormRegularizer(1e-2)),
            L.Dense(3),
        ]
    )
    compiled(slim).fit(*data(), verbose=0)
    small, _ = tfprune.shrink(slim, channels=0.5, importance="gamma")
    return {
        "taylor": np.round(taylor, 3).tolist(),
        "activation": np.round(activation, 3).tolist(),
        "soft": tfprune.replay(model, soft.history).layers[0].units,
        "slim": small.layers[0].units,
    }


def without_training():
    """Return figures of what needs data, and no training."""
    x, y = data()
    model = compiled(network(), metrics=["accuracy"])
    cut, report = tfprune.prune_one_shot(model, x, 0.5)
    norms = tfprune.recalibrate_batch_norm(cut, x)
    sensitivity = tfprune.sensitivity(model, (x, y), (0.5, 0.9), "loss")
    return {
        "errors": [row.error for row in report.weights],
        "spread": [row.spread for row in norms.norms],
        "dense": sensitivity.dense,
        "multiplications": tfprune.count(model).macs,
    }


def distill():
    distillation = keras.distillation
    teacher = network()
    student = tfprune.prune_low_magnitude(network(), half())
    both = distillation.Distiller(
        teacher=teacher,
        student=student,
        distillation_losses=distillation.LogitsDistillation(temperature=2.0),
    )
    compiled(both)
    fit(both)
    return reached(student)


def export(folder, **options):
    """Export a pruned model, and return the figures and how far the file is from this backend."""
    from ai_edge_litert.interpreter import Interpreter

    path = pathlib.Path(folder) / f"{backend()}-{options.get('quantize')}.tflite"
    pruned = compiled(tfprune.prune_low_magnitude(network(), half()))
    fit(pruned)
    x = data()[0]
    batches = (x[start : start + 8] for start in range(0, 64, 8))
    result = tfprune.export_tflite(pruned, path, representative_data=batches, **options)
    interpreter = Interpreter(model_path=str(path))
    interpreter.allocate_tensors()
    interpreter.set_tensor(interpreter.get_input_details()[0]["index"], x[:1])
    interpreter.invoke()
    found = interpreter.get_tensor(interpreter.get_output_details()[0]["index"])
    return {
        "class": type(result).__name__,
        "path": result.path,
        "samples": result.samples,
        "zeros": [row.zeros for row in result.weights],
        "apart": float(np.abs(found - pruned.predict(x[:1], verbose=0)).max()),
        "bytes": [result.file_bytes, path.stat().st_size],
    }


@keras.saving.register_keras_serializable("contract")
class Doubled(keras.Model):
    """A class of the user's own that a process of TensorFlow can import."""

    def __init__(self, **kwargs):
        super().__init__(**kwargs)
        self.last = tfprune.prune_low_magnitude(L.Dense(4, name="last"), half())

    def call(self, inputs):
        return keras.ops.multiply(self.last(inputs), 2.0)


def export_own_class(folder):
    """Export a subclassed model from two folders, by a name alone; return what came of it."""
    model = Doubled()
    x = data()[0]
    compiled(model)
    fit(model)
    there = []
    for inner in ("first", "second"):
        here = pathlib.Path(folder) / f"{backend()}-{inner}"
        here.mkdir()
        os.chdir(here)  # the process is this contract's own
        result = tfprune.export_tflite(model, "own.tflite", sample_inputs=x)
        there.append((here / "own.tflite").exists())
    error = result.max_rel_error
    return {"zeros": result.weights[0].zeros, "error": error, "there": there}


def refused_exports(folder):
    """Return what is said of exports that cannot be, and which files are there afterwards."""

    class Mine(L.Layer):
        def call(self, inputs):
            return inputs * 2

    folder = pathlib.Path(folder) / backend()
    folder.mkdir()
    path = folder / "a.tflite"
    own = keras.Sequential([keras.Input((4,)), Mine(), L.Dense(2)])
    broken = network()
    broken.layers[0].kernel.assign(np.full((8, 16), np.nan, "float32"))
    tries = {
        "own class": lambda: tfprune.export_tflite(own, path),
        "quantize": lambda: tfprune.export_tflite(network(), path, quantize="int9"),
        "not finite": lambda: tfprune.export_tflite(broken, path),
        "savings": lambda: tfprune.allocate(network(), 0.5, "latency"),
        "variants": lambda: tfprune.export_variants(network(), folder / "out"),
    }
    said = {name: _said(attempt) for name, attempt in tries.items()}
    with contextlib.suppress(FileNotFoundError):
        (folder / "out").rmdir()
    return {**said, "left": sorted(p.name for p in folder.iterdir())}
