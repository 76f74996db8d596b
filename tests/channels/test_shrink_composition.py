"""Channel pruning with the rest: shrink, train sparse, strip, export."""

import ai_edge_litert.interpreter as litert
import keras
import numpy as np

import tfprune


def run(path, x):
    """Return what a file computes, sample by sample."""
    interpreter = litert.Interpreter(str(path))
    interpreter.allocate_tensors()
    (given,), (end,) = interpreter.get_input_details(), interpreter.get_output_details()
    found = []
    for one in x:
        interpreter.set_tensor(given["index"], one[None])
        interpreter.invoke()
        found.append(interpreter.get_tensor(end["index"])[0])
    return np.stack(found)


def test_shrink_then_sparse_training_then_export(small_model, batch, tmp_path):
    x, y = batch
    loss = keras.losses.SparseCategoricalCrossentropy(from_logits=True)
    small_model.compile("adam", loss)
    small_model.fit(x, y, verbose=0)
    dense = tfprune.export_tflite(small_model, tmp_path / "dense.tflite", sparse=False)

    small, report = tfprune.shrink(small_model, macs=0.5, importance="taylor", data=(x, y))
    assert small.optimizer.iterations.numpy() == 2  # goes on where the larger model stopped
    assert report.macs_after <= report.macs_before / 2

    schedule = tfprune.ConstantSparsity(0.75, begin_step=0, frequency=1)
    wrapped = tfprune.prune_low_magnitude(small, schedule)
    wrapped.compile("adam", loss)
    wrapped.fit(x, y, verbose=0, callbacks=[tfprune.UpdatePruningStep()])
    final = tfprune.strip_pruning(wrapped)
    assert final.count_params() == report.params_after
    kernel = final.get_layer("wide").kernel.numpy()
    assert (kernel == 0).sum() == round(0.75 * kernel.size)

    sparse = tfprune.export_tflite(final, tmp_path / "sparse.tflite", sparse=True)
    int8 = tfprune.export_tflite(
        final, tmp_path / "int8.tflite", quantize="int8", representative_data=x
    )
    assert sparse.file_bytes < dense.file_bytes
    assert int8.file_bytes < dense.file_bytes
    wanted = final(x[:8]).numpy()
    np.testing.assert_allclose(run(tmp_path / "sparse.tflite", x[:8]), wanted, atol=1e-5)
    scale = np.abs(wanted).max()
    np.testing.assert_allclose(run(tmp_path / "int8.tflite", x[:8]), wanted, atol=0.1 * scale)
