"""What a removal is measured against: the model itself, masked, permuted or left as it is.

Everything here changes or reads the *original* model with plain numpy, so that it shares nothing
with the surgery that it judges.
"""

import contextlib

import keras
import numpy as np

from tfprune.channels import selection
from tfprune.channels.structure import Structure

NORMS = (
    keras.layers.LayerNormalization,
    keras.layers.RMSNormalization,
    keras.layers.GroupNormalization,
    keras.layers.UnitNormalization,
)


def randomise(model, seed=0, variance=(0.5, 1.5)):
    """Give norms, biases and constant weights random values: fresh ones tie and hide errors."""
    rng = np.random.default_rng(seed)
    for w in model.weights:
        name = w.path.rsplit("/", 1)[-1]
        if name in ("moving_variance", "variance"):
            w.assign(rng.uniform(*variance, w.shape))
        elif name in ("gamma", "scale", "alpha"):
            w.assign(rng.uniform(0.5, 1.5, w.shape))
        elif name in ("beta", "moving_mean", "mean", "bias"):
            w.assign(rng.normal(0, 0.3, w.shape))
    for layer in model.layers:
        if hasattr(layer, "finalize_state"):  # `Normalization` works with constants made of them
            layer.finalize_state()
    return model


def inputs_for(model, batch=2, seed=1):
    """Return random inputs, structured as the model takes them; 8 for a length that is open."""
    rng = np.random.default_rng(seed)

    def one(x):
        shape = (x.shape[0] or batch, *(8 if n is None else n for n in x.shape[1:]))
        if x.dtype.startswith("int"):
            return rng.integers(0, 5, shape).astype(x.dtype)
        return rng.normal(size=shape).astype("float32")

    graph = model._functional if isinstance(model, keras.Sequential) else model
    return keras.tree.map_structure(one, graph._inputs_struct)


def answers(model, x):
    """Return the outputs as float32 arrays, in a flat list; run eagerly, which needs no tracing."""
    for layer in model.layers:
        if getattr(layer, "stateful", False):
            layer.reset_state()
    outputs = keras.tree.flatten(model(x, training=False))
    return [np.asarray(keras.ops.convert_to_numpy(y), np.float32) for y in outputs]


def difference(found, wanted):
    """Return the largest difference, relative to the largest value, over several outputs."""
    worst = 0.0
    for a, b in zip(found, wanted, strict=True):
        assert a.shape == b.shape
        assert np.isfinite(b).all()
        assert np.abs(b).max() > 0
        worst = max(worst, float(np.abs(a - b).max() / np.abs(b).max()))
    return worst


def some_of_each_family(structure: Structure, fraction=0.5, seed=0):
    """Return randomly chosen atoms, the same fraction of every family and at least one of two."""
    rng = np.random.default_rng(seed)
    chosen = [np.empty(0, int)]
    for family, size in enumerate(structure.atoms.sizes()):
        members = np.flatnonzero(structure.atoms.family == family)
        count = min(max(int(size * fraction), 1), size - 1)
        chosen.append(rng.choice(members, count, replace=False))
    return np.concatenate(chosen)


def some_of_some_families(structure: Structure, seed=0):
    """Return randomly chosen atoms, another number of each family: from none to all but one.

    What rules take for independent is only found out if it does not lose the same.
    """
    rng = np.random.default_rng(seed)
    chosen = [np.empty(0, int)]
    for family, size in enumerate(structure.atoms.sizes()):
        members = np.flatnonzero(structure.atoms.family == family)
        chosen.append(rng.choice(members, rng.integers(0, size), replace=False))
    return np.concatenate(chosen)


def trains(model, x):
    """Take a step of training, eagerly; return whether loss and outputs are finite after it."""
    ends = keras.tree.map_structure(lambda y: np.zeros(y.shape, "float32"), model(x))
    model.compile("sgd", "mse", run_eagerly=True)
    loss = float(np.ravel(model.train_on_batch(x, ends))[0])
    return np.isfinite(loss) and all(np.isfinite(y).all() for y in answers(model, x))


def ranked(structure: Structure, scores, scope="global", **limits):
    """Return the order in which all atoms may go."""
    every = np.ones(structure.atoms.count, bool)
    return selection.order(structure.atoms, scores, every, scope, selection.Limits(**limits))


def gone_at(structure: Structure, place, removed):
    """Return which positions of a place belong to removed atoms."""
    dead = np.zeros(structure.atoms.count + 1, bool)
    dead[removed] = True
    dead[-1] = False
    return np.where(place.ids < 0, False, dead[structure.atoms.of[place.ids]])


@contextlib.contextmanager
def masked(structure: Structure, removed, also=()):
    """Zero what reads the removed channels in the model itself; undo it afterwards.

    Attention scores are read by nothing but the product with the keys, so queries are zeroed there.
    Norms over channels take their statistics from what is left.

    Args:
        structure: of the model.
        removed: atoms.
        also: layers whose outputs are zeroed too, for products of activations.
    """
    before = {}
    for place in structure.atoms.places:
        query = place.name.startswith("query/")
        if place.role == "in" or query or place.layer in also:
            values = before.setdefault(id(place.variable), (place.variable, _numpy(place.variable)))
            now = _numpy(place.variable)
            index = [slice(None)] * now.ndim
            index[place.axis] = gone_at(structure, place, removed)
            now[tuple(index)] = 0
            values[0].assign(now)
    replaced = list(_restricted_norms(structure, removed))
    try:
        yield
    finally:
        for variable, values in before.values():
            variable.assign(values)
        for layer in replaced:
            del layer.call


def _numpy(variable):
    return np.array(keras.ops.convert_to_numpy(variable.value))


def _restricted_norms(structure, removed):
    """Let norms over channels look only at those that stay; yield the layers changed."""
    dead = np.zeros(structure.atoms.count + 1, bool)
    dead[removed] = True
    dead[-1] = False
    seen = {}
    for steps in structure.trace.steps.values():
        for step in steps:
            layer, track = step.call.operation, step.inputs[0] if step.inputs else None
            if not isinstance(layer, NORMS) or len(track.axes) != 1:
                continue
            (axis,) = track.axes
            if axis not in [a % len(track.shape) for a in np.atleast_1d(layer.axis)]:
                continue
            ids = track.ids.reshape(-1)
            stay = np.flatnonzero(~np.where(ids < 0, False, dead[structure.atoms.of[ids]]))
            if id(layer) not in seen:
                seen[id(layer)] = layer
                layer.call = _restricted(layer, stay, axis)
                yield layer


def _restricted(layer, stay, axis):
    def call(inputs, *args, **kwargs):
        x = np.asarray(keras.ops.convert_to_numpy(inputs), np.float32)
        kept = np.take(x, stay, axis)
        result = np.zeros_like(x)
        index = [slice(None)] * x.ndim
        index[axis] = stay
        result[tuple(index)] = _normed(layer, kept, axis, x.shape[axis], stay)
        return keras.ops.cast(keras.ops.convert_to_tensor(result), layer.compute_dtype)

    return call


def _normed(layer, x, axis, size, stay):
    """Return a norm of some of the channels, worked out in numpy."""
    wide = [1] * x.ndim
    wide[axis] = -1

    def own(variable):
        return _numpy(variable).reshape(-1)[stay].reshape(wide)

    if isinstance(layer, keras.layers.UnitNormalization):
        return x / np.sqrt(np.maximum(np.square(x).sum(axis, keepdims=True), 1e-12))
    if isinstance(layer, keras.layers.RMSNormalization):
        root = np.sqrt(np.square(x).mean(axis, keepdims=True) + layer.epsilon)
        return x / root * own(layer.scale)
    if isinstance(layer, keras.layers.LayerNormalization):
        mean, spread = x.mean(axis, keepdims=True), x.var(axis, keepdims=True)
        y = (x - mean) / np.sqrt(spread + layer.epsilon)
    else:
        groups = x.shape[axis] if layer.groups == size else layer.groups
        moved = np.moveaxis(x, axis, 1)
        flat = moved.reshape(moved.shape[0], groups, -1)
        mean, spread = flat.mean(2, keepdims=True), flat.var(2, keepdims=True)
        y = ((flat - mean) / np.sqrt(spread + layer.epsilon)).reshape(moved.shape)
        y = np.moveaxis(y, 1, axis)
    y = y if layer.gamma is None else y * own(layer.gamma)
    return y if layer.beta is None else y + own(layer.beta)


@contextlib.contextmanager
def permuted(structure: Structure, seed=0):
    """Shuffle the atoms of each family among themselves in the model; undo it afterwards.

    The outputs must not change: whatever the rules take for one channel is one.
    """
    atoms, rng = structure.atoms, np.random.default_rng(seed)
    other = np.arange(atoms.count)
    for family in range(atoms.sizes().size):
        members = np.flatnonzero(atoms.family == family)
        shuffled = rng.permutation(members)
        other[shuffled] = np.roll(shuffled, 1)  # one cycle, so that none stays where it is
    variables = {id(p.variable): p.variable for p in atoms.places}
    before = {key: _numpy(v) for key, v in variables.items()}
    now = dict(before)
    for place in atoms.places:
        atom = np.where(place.ids < 0, -1, atoms.of[place.ids])
        source = np.arange(atom.size)
        positions = np.argsort(atom, kind="stable")
        ordered = atom[positions]
        inside = ordered >= 0
        rank = np.arange(atom.size) - np.searchsorted(ordered, ordered)
        start = np.searchsorted(ordered, other.take(ordered[inside]))
        source[positions[inside]] = positions[start + rank[inside]]
        now[id(place.variable)] = np.take(now[id(place.variable)], source, place.axis)
    for key, variable in variables.items():
        variable.assign(now[key])
    try:
        yield other
    finally:
        for key, variable in variables.items():
            variable.assign(before[key])


def coverage(structure: Structure):
    """Return the removable fraction of the channels that kernels make, the classifier's left out.

    The classifier is what makes the outputs of the model.
    """
    free = total = 0
    for place in structure.outputs():
        if structure.atoms.reason(place.ids) == "it is an output of the model":
            continue
        free += int(structure.free(place).sum())
        total += place.ids.size
    return free / max(total, 1)
