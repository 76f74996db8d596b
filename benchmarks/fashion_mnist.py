"""Accuracy on Fashion-MNIST at an equal budget: tfprune on Keras 3 beside tfmot on tf_keras.

For each seed the network is trained dense for 4 epochs (Adam 1e-3, batch 128). From those very
weights each level is pruned for 4 epochs (a new Adam 5e-4): 80, 90, 95 and 98 % with
`PolynomialDecay(0 -> s)` over the first 3 of the 4 epochs at frequency 100, and 2:4 on the second
convolution and the wide dense layer with `ConstantSparsity(0.5, 0)`, or ("2:4 gradual", which tfmot
cannot) with `PolynomialDecay`, or ("2:4 soft") with weights that learn on while they are cut and
may return until the third epoch ends. "dense" trains on for the same
4 epochs. `set_random_seed(seed)` comes before the dense epochs, `seed + 1` before pruning.
Accuracy is that of the stripped model on the 10,000 test images; "norms anew" that after
`recalibrate_batch_norm` on 20,000 training images, tfmot's weights in the same network included.

`--method erk`, `global` or `lamp` spreads the zeros by `tfprune.allocate`, from the dense weights.
As that leaves some layers denser, each level also has the multiplications with a weight that is not
zero and the bytes of the sparse float32 `.tflite` (as many zeros at random places stand in for a
run's).

`--average 0.99` lets Adam keep a running mean of the weights while it prunes (Keras's own
`use_ema=True, ema_momentum=0.99`), which takes the place of the last step's weights. The statistics
of norms belong to the last step, so that "norms anew" is the figure to read.

`--library tfmot` runs the same budget through tfmot on tf_keras, which is how
`results/fashion_mnist_tfmot.json` was made. tfprune runs on any Keras backend; TensorFlow need not
be installed when `KERAS_BACKEND=jax`.

    KERAS_BACKEND=jax python benchmarks/fashion_mnist.py --data-dir DIR
    python benchmarks/fashion_mnist.py --data-dir DIR --levels 0.9 2:4 --seeds 0 --steps-limit 5

`--width 0.25` makes every layer a quarter as wide, so that ten seeds of both libraries fit into an
hour: three seeds of the whole network cannot tell two libraries apart that differ by less than half
a point. `fashion_mnist_compare.py` puts two results files side by side.

DIR holds the four `*-ubyte` or `*-ubyte.gz` files of the data set. The results file is written
after every run; with `--resume` the runs that it holds are not made again.
"""

from __future__ import annotations

import argparse
import dataclasses
import gzip
import json
import pathlib
import statistics
import tempfile
import time
from collections.abc import Callable
from typing import Any

import numpy as np
from environment import RESULTS, environment, save

LEVELS = ("dense", "0.8", "0.9", "0.95", "0.98", "0.99", "2:4", "2:4 gradual", "2:4 soft")
LIKE = {"2:4 gradual": "2:4", "2:4 soft": "2:4"}
"""What tfmot's figure is compared with, where it has none of the kind."""
TWO_IN_FOUR = ("conv2", "wide")
NETWORK = (
    "Conv2D(32,5,same,relu) MaxPool Conv2D(64,5,same) BatchNorm ReLU MaxPool Flatten "
    "Dense(1024,relu) Dropout(0.4) Dense(10); inputs 28x28x1 in [0,1]"
)
BATCH, EPOCHS, FREQUENCY = 128, 4, 100
FOR_NORMS = 20_000
"""Training images that norms are measured anew on."""


@dataclasses.dataclass(frozen=True)
class Data:
    """Images (n, 28, 28, 1) in [0, 1] and labels (n,), for training and for testing."""

    x: np.ndarray
    y: np.ndarray
    x_test: np.ndarray
    y_test: np.ndarray

    @property
    def steps(self) -> int:
        """Training steps in an epoch."""
        return -(-len(self.x) // BATCH)


@dataclasses.dataclass(frozen=True)
class Library:
    """A pruning library and the Keras it works on.

    Attributes:
        keras: the Keras module.
        width: of the layers, relative to the network's own.
        wrap: (model, level, end_step) -> the wrapped model and its callbacks.
        strip: wrapped model -> plain model.
    """

    keras: Any
    width: float
    wrap: Callable[[Any, str, int], tuple[Any, list]]
    strip: Callable[[Any], Any]


def tfprune_library(width: float, method: str) -> Library:
    import keras

    import tfprune

    def wrap(model, level, end_step):
        if level == "2:4":
            rule = tfprune.Rule("|".join(TWO_IN_FOUR), tfprune.ConstantSparsity(0.5, 0), "2:4")
            return tfprune.prune(model, [rule]), [tfprune.UpdatePruningStep()]
        if level == "2:4 gradual":
            slow = tfprune.PolynomialDecay(0.0, 0.5, 0, end_step, frequency=FREQUENCY)
            rule = tfprune.Rule("|".join(TWO_IN_FOUR), slow, "2:4")
            return tfprune.prune(model, [rule]), [tfprune.UpdatePruningStep()]
        if level == "2:4 soft":
            constant = tfprune.PolynomialDecay(0.5, 0.5, 0, end_step, frequency=FREQUENCY)
            rule = tfprune.Rule("|".join(TWO_IN_FOUR), constant, "2:4", regrowth="soft")
            return tfprune.prune(model, [rule]), [tfprune.UpdatePruningStep()]
        schedule = tfprune.PolynomialDecay(
            0.0, float(level), begin_step=0, end_step=end_step, frequency=FREQUENCY
        )
        if method != "uniform":
            spread = tfprune.allocate(model, float(level), method, schedule=schedule)
            return tfprune.prune(model, spread), [tfprune.UpdatePruningStep()]
        return tfprune.prune_low_magnitude(model, schedule), [tfprune.UpdatePruningStep()]

    return Library(keras, width, wrap, tfprune.strip_pruning)


def tfmot_library(width: float, method: str) -> Library:
    del method  # tfmot knows one
    import tf_keras
    from tensorflow_model_optimization.python.core.sparsity import keras as tfmot

    def wrap(model, level, end_step):
        if level == "2:4":
            schedule = tfmot.pruning_schedule.ConstantSparsity(0.5, 0)

            def wrap_layer(layer):
                if layer.name not in TWO_IN_FOUR:
                    return layer
                return tfmot.prune.prune_low_magnitude(layer, schedule, sparsity_m_by_n=(2, 4))

            pruned = tf_keras.models.clone_model(model, clone_function=wrap_layer)
        else:
            schedule = tfmot.pruning_schedule.PolynomialDecay(
                0.0, float(level), begin_step=0, end_step=end_step, frequency=FREQUENCY
            )
            pruned = tfmot.prune.prune_low_magnitude(model, schedule)
        return pruned, [tfmot.pruning_callbacks.UpdatePruningStep()]

    return Library(tf_keras, width, wrap, tfmot.prune.strip_pruning)


LIBRARIES = {"tfprune": tfprune_library, "tfmot": tfmot_library}


def read_idx(folder: pathlib.Path, name: str) -> np.ndarray:
    """Read one IDX file: two zero bytes, a type (8: uint8), the rank, the sizes, the values."""
    packed, plain = folder / f"{name}-ubyte.gz", folder / f"{name}-ubyte"
    if not packed.exists() and not plain.exists():
        raise SystemExit(f"No {plain.name}(.gz) in {folder}: --data-dir is the data set's folder")
    raw = gzip.decompress(packed.read_bytes()) if packed.exists() else plain.read_bytes()
    rank = raw[3]
    shape = np.frombuffer(raw, ">i4", rank, 4)
    return np.frombuffer(raw, np.uint8, offset=4 + 4 * rank).reshape(shape)


def load(folder: pathlib.Path, steps_limit: int | None) -> Data:
    def images(part):
        return read_idx(folder, f"{part}-images-idx3")[..., None].astype(np.float32) / 255.0

    def labels(part):
        return read_idx(folder, f"{part}-labels-idx1").astype(np.int32)

    limit = None if steps_limit is None else steps_limit * BATCH
    return Data(images("train")[:limit], labels("train")[:limit], images("t10k"), labels("t10k"))


def network(keras: Any, width: float = 1.0, units: int = 1024) -> Any:
    layers = keras.layers
    return keras.Sequential(
        [
            layers.Input((28, 28, 1)),
            layers.Conv2D(round(32 * width), 5, padding="same", activation="relu", name="conv1"),
            layers.MaxPooling2D(name="pool1"),
            layers.Conv2D(round(64 * width), 5, padding="same", name="conv2"),
            layers.BatchNormalization(name="norm"),
            layers.ReLU(name="relu"),
            layers.MaxPooling2D(name="pool2"),
            layers.Flatten(name="flatten"),
            layers.Dense(round(units * width), activation="relu", name="wide"),
            layers.Dropout(0.4, name="dropout"),
            layers.Dense(10, name="logits"),
        ]
    )


def compile_for(keras: Any, model: Any, learning_rate: Any, average: float | None = None) -> None:
    mean = {} if average is None else {"use_ema": True, "ema_momentum": average}
    model.compile(
        keras.optimizers.Adam(learning_rate, **mean),
        keras.losses.SparseCategoricalCrossentropy(from_logits=True),
        metrics=["accuracy"],
    )


def fit(model: Any, data: Data, callbacks: list | None = None) -> None:
    model.fit(data.x, data.y, batch_size=BATCH, epochs=EPOCHS, verbose=0, callbacks=callbacks)


def accuracy(keras: Any, model: Any, data: Data) -> float:
    compile_for(keras, model, 1e-3)
    return float(model.evaluate(data.x_test, data.y_test, batch_size=1000, verbose=0)[1])


def accuracy_norms_anew(model: Any, data: Data, width: float) -> float | None:
    """Return the accuracy in Keras 3, its norms measured anew; None without TensorFlow."""
    import keras

    if keras.backend.backend() != "tensorflow":
        return None
    import tfprune

    twin = network(keras, width)
    twin.set_weights(model.get_weights())
    tfprune.recalibrate_batch_norm(twin, data.x[:FOR_NORMS])
    return accuracy(keras, twin, data)


def sparsities(model: Any) -> dict[str, float]:
    """Return the fraction of zeros in each kernel."""
    kernels = {lr.name: lr.get_weights()[0] for lr in model.layers if hasattr(lr, "kernel")}
    return {name: float(np.mean(kernel == 0)) for name, kernel in kernels.items()}


def cost(model: Any) -> dict[str, int]:
    """Return the MACs with a weight that is not zero, and the bytes of the sparse `.tflite`."""
    import tfprune

    with tempfile.TemporaryDirectory() as folder:
        file = tfprune.export_tflite(model, pathlib.Path(folder) / "model.tflite")
    return {"macs": tfprune.count(model).nonzero_macs, "bytes": file.file_bytes}


def cost_of_runs(runs: list[dict]) -> None:
    """Add the cost to runs that lack it: zeros of the same number stand in for theirs."""
    import keras

    rng = np.random.default_rng(0)
    for run in (run for run in runs if "sparsity" in run and "macs" not in run):
        model = network(keras)
        for name, sparsity in run["sparsity"].items():
            kernel, *rest = model.get_layer(name).get_weights()
            zeros = rng.permutation(kernel.size)[: round(sparsity * kernel.size)]
            kernel.reshape(-1)[zeros] = 0.0
            model.get_layer(name).set_weights([kernel, *rest])
        run |= cost(model)


def run_dense(library: Library, data: Data, seed: int) -> tuple[list[np.ndarray], dict]:
    """Train the dense phase of a seed; return its weights and its record."""
    started = time.perf_counter()
    library.keras.utils.set_random_seed(seed)
    model = network(library.keras, library.width)
    compile_for(library.keras, model, 1e-3)
    fit(model, data)
    return model.get_weights(), {
        "seed": seed,
        "level": "before_pruning",
        "accuracy": accuracy(library.keras, model, data),
        "seconds": time.perf_counter() - started,
    }


def run_level(
    library: Library,
    data: Data,
    seed: int,
    level: str,
    start: list[np.ndarray],
    average: float | None = None,
) -> dict:
    """Prune (or, for "dense", train on) from the dense weights of a seed; return the record."""
    started = time.perf_counter()
    model = network(library.keras, library.width)
    model.set_weights(start)
    library.keras.utils.set_random_seed(seed + 1)
    callbacks: list = []
    if level != "dense":
        model, callbacks = library.wrap(model, level, (EPOCHS - 1) * data.steps)
    compile_for(library.keras, model, 5e-4, average)
    fit(model, data, callbacks)
    plain = model if level == "dense" else library.strip(model)
    return {
        "seed": seed,
        "level": level,
        "accuracy": accuracy(library.keras, plain, data),
        "norms_anew": accuracy_norms_anew(plain, data, library.width),
        "sparsity": sparsities(plain),
        "seconds": time.perf_counter() - started,
    }


def summarise(runs: list[dict]) -> dict[str, Any]:
    """Group runs as the reference file has them: seeds, mean and spread of each level."""
    table: dict[str, Any] = {}
    for level in LEVELS:
        values = [round(r["accuracy"], 4) for r in runs if r["level"] == level]
        if values:
            table[level] = {
                "seeds": values,
                "mean": round(statistics.mean(values), 4),
                "spread": round(max(values) - min(values), 4),
            }
        anew = [r["norms_anew"] for r in runs if r["level"] == level and r.get("norms_anew")]
        if anew:
            table[level]["norms anew"] = round(statistics.mean(anew), 4)
        for name in ("macs", "bytes"):
            figures = [r[name] for r in runs if r["level"] == level and name in r]
            if figures:
                table[level][name] = round(statistics.mean(figures))
    before = [round(r["accuracy"], 4) for r in runs if r["level"] == "before_pruning"]
    return table | {"before_pruning": before}


def print_table(name: str, table: dict[str, Any], reference: dict[str, Any]) -> None:
    heads = f"{name:>10}{'spread':>9}{'tfmot':>9}{'spread':>9}{'difference':>12}"
    print(f"\n{'level':<12}{heads}{'MACs':>12}{'bytes':>12}")
    for level in (level for level in LEVELS if level in table):
        ours, theirs = table[level], reference.get(LIKE.get(level, level))
        line = f"{level:<12}{ours['mean']:>10.4f}{ours['spread']:>9.4f}"
        if theirs:
            line += f"{theirs['mean']:>9.4f}{theirs['spread']:>9.4f}"
            line += f"{ours['mean'] - theirs['mean']:>+12.4f}"
        print(line.ljust(61) + "".join(f"{ours.get(k, 0):>12,}" for k in ("macs", "bytes")))


def device(library: str) -> str:
    """Name what the run was made on."""
    if library == "tfprune":
        import keras

        if keras.backend.backend() == "jax":
            import jax

            return f"jax on {jax.devices()[0].device_kind}"
        return keras.backend.backend()
    return "tf_keras"


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--data-dir", type=pathlib.Path, required=True, help="the IDX files")
    parser.add_argument("--levels", nargs="+", choices=LEVELS, default=list(LEVELS))
    parser.add_argument("--seeds", nargs="+", type=int, default=[0, 1, 2])
    parser.add_argument("--library", choices=sorted(LIBRARIES), default="tfprune")
    parser.add_argument("--out", type=pathlib.Path, default=RESULTS / "fashion_mnist.json")
    parser.add_argument("--resume", action="store_true", help="keep the runs that --out holds")
    parser.add_argument("--width", type=float, default=1.0, help="of every layer, for many seeds")
    parser.add_argument(
        "--method",
        choices=("uniform", "erk", "global", "lamp"),
        default="uniform",
        help="of `allocate`",
    )
    parser.add_argument("--average", type=float, help="momentum of the weights' running mean")
    parser.add_argument("--steps-limit", type=int, help="steps in an epoch, for a trial")
    options = parser.parse_args()

    reference = json.loads((RESULTS / "fashion_mnist_tfmot.json").read_text())["accuracy"]
    data = load(options.data_dir, options.steps_limit)
    runs: list[dict] = []
    if options.resume and options.out.exists():
        runs = json.loads(options.out.read_text())["runs"]
    library = LIBRARIES[options.library](options.width, options.method)
    figures = {
        "what": f"Accuracy of {options.library} on the Fashion-MNIST test set",
        "network": NETWORK,
        "width": options.width,
        "zeros spread by": options.method,
        "running mean of weights": options.average,
        "budget": f"{EPOCHS} dense epochs, then {EPOCHS} of pruning; batch {BATCH}, "
        f"{data.steps} steps an epoch; the script's first lines say the rest",
        "device": device(options.library),
        "environment": environment(),
    }

    def record(run: dict) -> None:
        runs[:] = [r for r in runs if (r["seed"], r["level"]) != (run["seed"], run["level"])]
        runs.append(run)
        runs.sort(key=lambda r: (r["seed"], ("before_pruning", *LEVELS).index(r["level"])))
        save(options.out, figures | {"accuracy": summarise(runs), "runs": runs})
        print(
            f"seed {run['seed']}  {run['level']:<15}{run['accuracy']:.4f}  {run['seconds']:.0f} s",
            flush=True,
        )

    for seed in options.seeds:
        done = {r["level"] for r in runs if r["seed"] == seed}
        levels = [level for level in LEVELS if level in options.levels and level not in done]
        if not levels:
            continue
        start, before = run_dense(library, data, seed)
        record(before)
        for level in levels:
            record(run_level(library, data, seed, level, start, options.average))
    if figures["device"] == "tensorflow" and options.width == 1:
        cost_of_runs(runs)
        save(options.out, figures | {"accuracy": summarise(runs), "runs": runs})
    if options.steps_limit is None and options.width == 1:  # else not the reference's budget
        print_table(options.library, summarise(runs), reference)
    print(f"Written: {options.out}")


if __name__ == "__main__":
    main()
