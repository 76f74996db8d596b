"""Tell which constant of a file is which weight of a model.

The converter folds batch normalization into a kernel, which scales each output channel, so it is
the direction of each channel's weights that is compared.
"""

from __future__ import annotations

import numpy as np


def is_weight(rows: np.ndarray, constant: np.ndarray) -> bool:
    """Tell whether a constant is a weight, but for a factor for each output channel.

    Args:
        rows: the weight, shape (output channels, everything else).
        constant: as it lies in the file, output channels first.

    Example: `is_weight(np.array([[1.0, 2.0]]), np.array([[-2.0, -4.0]]))` is True.
    """
    if constant.size != rows.size or constant.shape[0] != rows.shape[0]:
        return False
    own, other = _directions(rows), _directions(constant.reshape(rows.shape))
    folded = other.any(axis=1)  # a channel that batch normalization scales by zero tells nothing
    return bool(np.allclose(own[folded], other[folded], atol=1e-4))


def _directions(rows: np.ndarray) -> np.ndarray:
    """Return each row divided by its entry that is largest in size; rows of zeros stay."""
    rows = rows.astype("float64")
    largest = np.take_along_axis(rows, np.abs(rows).argmax(axis=1)[:, None], axis=1)
    return np.divide(rows, largest, out=np.zeros_like(rows), where=largest != 0)
