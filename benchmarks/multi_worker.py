"""What pruning adds to a training step of two workers, beside what it adds to that of one.

A network of two convolutions and a dense layer of 0.6 million weights, SGD with momentum, 128
images a step for all workers together, masks changing every 10 steps. Wrapped and dense models take
turns in blocks of 20 steps in the same processes, so that a busy machine slows both alike. The
figure is the median over the rounds of (wrapped seconds) - (dense seconds) of a step, on the chief.
Workers are processes of this machine, each on one core of its own, as on a machine of its own: one
worker alone has one core too.

    python benchmarks/multi_worker.py [--rounds 5] [--families tf_keras jax]
"""

from __future__ import annotations

import argparse
import json
import os
import pathlib
import subprocess
import sys
import time
from typing import Any

sys.path.append(str(pathlib.Path(__file__).resolve().parent.parent / "examples" / "distributed"))

import launch
import numpy as np
from environment import RESULTS, environment, save

BATCH, BLOCK = 128, 20


def worker(family: str, addresses: list[str], index: int, rounds: int) -> None:
    """Be one of the workers; the chief prints the milliseconds of a step, round by round."""
    count = len(addresses)
    cores = sorted(os.sched_getaffinity(0))
    os.sched_setaffinity(0, {cores[index % len(cores)]})  # before libraries count cores
    os.environ["KERAS_BACKEND"] = "jax" if family == "jax" else "tensorflow"
    task = {"type": "worker", "index": index}
    if family == "tf_keras" and count > 1:
        os.environ["TF_CONFIG"] = json.dumps({"cluster": {"worker": addresses}, "task": task})
    import contextlib

    import keras

    import tfprune
    from tfprune import workers

    library, scope = keras, contextlib.nullcontext()
    if family == "tf_keras":
        import tf_keras as library

        if count > 1:
            scope = workers.strategy(timeout=300).scope()
    elif count > 1:
        workers.connect(addresses[0], count, index, timeout=300)
        over = keras.distribution.DataParallel(auto_shard_dataset=False)
        keras.distribution.set_distribution(over)

    rng = np.random.default_rng(0)
    x = rng.random((BATCH * BLOCK, 16, 16, 1), np.float32)
    y = rng.integers(0, 10, len(x))
    data: Any = {"x": x[index::count], "y": y[index::count], "batch_size": BATCH // count}
    if family == "tf_keras":
        import tensorflow as tf

        data = {"x": tf.data.Dataset.from_tensor_slices((x, y)).batch(BATCH).cache()}

    models = {}
    with scope:
        for name in ("dense", "wrapped"):
            model = network(library)
            if name == "wrapped":
                schedule = tfprune.ConstantSparsity(0.8, 0, frequency=10)
                model = tfprune.prune_low_magnitude(model, schedule)
            loss = library.losses.SparseCategoricalCrossentropy(from_logits=True)
            model.compile(library.optimizers.SGD(1e-3, momentum=0.9), loss)
            models[name] = model

    seconds: dict[str, list[float]] = {"dense": [], "wrapped": []}
    for turn in range(rounds + 1):
        for name, model in models.items():
            callbacks = [tfprune.UpdatePruningStep(verbose=False)] if name == "wrapped" else []
            clock: list[float] = []
            tick = library.callbacks.LambdaCallback(
                on_train_batch_begin=lambda batch, logs=None, clock=clock: (
                    clock.append(time.perf_counter()) if batch == 0 else None
                ),
                on_epoch_end=lambda epoch, logs=None, clock=clock: clock.append(
                    time.perf_counter()
                ),
            )
            model.fit(**data, verbose=0, shuffle=False, callbacks=[*callbacks, tick])
            if turn:  # the first round compiles
                seconds[name].append((clock[-1] - clock[0]) / BLOCK)
    if index == 0:
        print(json.dumps({name: [1e3 * one for one in found] for name, found in seconds.items()}))
    sys.stdout.flush()


def network(library: Any) -> Any:
    layers = library.layers
    return library.Sequential(
        [
            library.Input((16, 16, 1)),
            layers.Conv2D(16, 3, activation="relu"),
            layers.Conv2D(32, 3, activation="relu"),
            layers.Flatten(),
            layers.Dense(128, activation="relu"),
            layers.Dense(10),
        ]
    )


def measure(family: str, count: int, rounds: int) -> dict[str, Any]:
    """Start the workers of one measurement; return medians, and the cost of each round."""
    addresses = [f"127.0.0.1:{port}" for port in launch.free_ports(count)]
    running = []
    try:
        for index in range(count):
            arguments = [family, ",".join(addresses), str(index), str(rounds)]
            output = subprocess.PIPE if index == 0 else subprocess.DEVNULL
            command = [sys.executable, __file__, "--worker", *arguments]
            running.append(subprocess.Popen(command, stdout=output, text=True))
        printed, _ = running[0].communicate(timeout=1800)
    finally:
        for process in running:
            process.kill()
            process.wait()
    found = json.loads(printed.strip().splitlines()[-1])
    dense, wrapped = (np.array(found[name]) for name in ("dense", "wrapped"))
    return {
        "dense, ms": round(float(np.median(dense)), 2),
        "wrapped, ms": round(float(np.median(wrapped)), 2),
        "added, ms": round(float(np.median(wrapped - dense)), 2),
        "added in each round, ms": [round(float(one), 2) for one in wrapped - dense],
    }


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument(
        "--families", nargs="+", choices=("tf_keras", "jax"), default=("tf_keras", "jax")
    )
    parser.add_argument("--out", type=pathlib.Path, default=RESULTS / "multi_worker.json")
    parser.add_argument("--worker", nargs=4, help=argparse.SUPPRESS)
    chosen = parser.parse_args()
    if chosen.worker:
        family, addresses, index, rounds = chosen.worker
        worker(family, addresses.split(","), int(index), int(rounds))
        return
    figures: dict[str, Any] = {"environment": environment(), "batch": BATCH, "block": BLOCK}
    for family in chosen.families:
        for count in (1, 2):
            found = measure(family, count, chosen.rounds)
            figures[f"{family}, {count} worker{'s' * (count > 1)}"] = found
            print(family, count, found, flush=True)
    save(chosen.out, figures)


if __name__ == "__main__":
    main()
