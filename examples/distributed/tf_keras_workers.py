"""Prune a tf_keras model on several workers: `tf.distribute.MultiWorkerMirroredStrategy`.

On this machine, two processes:

    python examples/distributed/tf_keras_workers.py

On two machines, the same command with an index of its own on each:

    python tf_keras_workers.py --cluster 10.0.0.1:12345,10.0.0.2:12345 --index 0
    python tf_keras_workers.py --cluster 10.0.0.1:12345,10.0.0.2:12345 --index 1

With `--backup DIR`, a folder that all see, a run that was interrupted goes on when it is started
anew, at the epoch that it was in.
"""

from __future__ import annotations

import json
import os

import workers


def main() -> None:
    """Train and prune together; the chief keeps the stripped model."""
    chosen = workers.options(__doc__)
    # Where a cluster manager has set it, that holds.
    task = {"type": "worker", "index": chosen.index}
    config = json.dumps({"cluster": {"worker": chosen.cluster}, "task": task})
    os.environ.setdefault("TF_CONFIG", config)

    import tensorflow as tf
    import tf_keras

    import tfprune
    from tfprune.workers import chief_path, strategy, worker

    over = strategy(timeout=chosen.timeout, seed=chosen.seed)
    tf_keras.utils.set_random_seed(chosen.seed)
    x, y = workers.images(chosen)
    data = tf.data.Dataset.from_tensor_slices((x, y)).shuffle(len(x), seed=chosen.seed)
    data = data.batch(chosen.batch)  # TensorFlow shares each batch out
    shards = tf.data.Options()
    shards.experimental_distribute.auto_shard_policy = tf.data.experimental.AutoShardPolicy.DATA
    data = data.with_options(shards)

    end = 3 * chosen.epochs * len(data) // 4
    schedule = tfprune.PolynomialDecay(0.0, chosen.sparsity, 0, end, frequency=max(1, end // 10))
    with over.scope():
        layers = workers.layers(tf_keras.layers, tf_keras.Input, x.shape[1:])
        pruned = tfprune.prune(tf_keras.Sequential(layers), schedule)
        loss = tf_keras.losses.SparseCategoricalCrossentropy(from_logits=True)
        pruned.compile("adam", loss, metrics=["accuracy"])

    callbacks = [tfprune.UpdatePruningStep(verbose=False)]
    if chosen.backup:
        callbacks.append(tf_keras.callbacks.BackupAndRestore(chosen.backup))
    chief = worker(pruned).is_chief
    pruned.fit(data, epochs=chosen.epochs, callbacks=callbacks, verbose=2 if chief else 0)

    workers.report(chosen, pruned, chief)
    with chief_path(chosen.out, pruned) as path:  # all save, the chief's file stays
        tfprune.strip_pruning(pruned).save(path)


if __name__ == "__main__":
    main()
