"""Prune a Keras 3 model on several processes: JAX and `keras.distribution.DataParallel`.

On this machine, two processes:

    python examples/distributed/jax_workers.py

On two machines, the same command with an index of its own on each:

    python jax_workers.py --cluster 10.0.0.1:12345,10.0.0.2:12345 --index 0
    python jax_workers.py --cluster 10.0.0.1:12345,10.0.0.2:12345 --index 1

JAX needs the first address only; the others say how many processes there are.
"""

from __future__ import annotations

import os

import workers

os.environ["KERAS_BACKEND"] = "jax"


def main() -> None:
    """Train and prune together; the chief keeps the stripped model."""
    chosen = workers.options(__doc__)
    if chosen.backup:
        raise SystemExit("--backup: Keras's BackupAndRestore under JAX knows one process only")

    import keras

    import tfprune
    from tfprune.workers import chief_path, connect

    count = len(chosen.cluster)
    worker = connect(chosen.cluster[0], count, chosen.index, chosen.seed, chosen.timeout)
    over = keras.distribution.DataParallel(auto_shard_dataset=False)
    keras.distribution.set_distribution(over)
    x, y = workers.images(chosen)
    each = len(x) // count  # all train as many steps
    x, y = (part[chosen.index :: count][:each] for part in (x, y))  # each reads its own

    layers = workers.layers(keras.layers, keras.Input, x.shape[1:])
    pruned = tfprune.prune(keras.Sequential(layers), tfprune.Gradual(chosen.sparsity))
    loss = keras.losses.SparseCategoricalCrossentropy(from_logits=True)
    pruned.compile("adam", loss, metrics=["accuracy"])
    pruned.fit(
        x,
        y,
        batch_size=chosen.batch // count,
        epochs=chosen.epochs,
        callbacks=[tfprune.UpdatePruningStep(verbose=False)],
        verbose=2 if worker.is_chief else 0,
    )

    workers.report(chosen, pruned, worker.is_chief)
    with chief_path(chosen.out) as path:  # all save, the chief's file stays
        tfprune.strip_pruning(pruned).save(path)


if __name__ == "__main__":
    main()
