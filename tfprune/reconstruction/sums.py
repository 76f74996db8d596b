"""What a layer's refit must know of data: sums over its inputs and outputs, never the data itself.

A layer is a product `y = x @ W` for each group of its channels (one group unless it is a grouped
convolution). Arrays carry the group in front: inputs (groups, rows, depth), weights (groups, depth,
width), outputs (groups, rows, width).
"""

from __future__ import annotations

import dataclasses

import numpy as np

_NOISE = 1e-12  # of the squares about 0: what rounding leaves where nothing varies


@dataclasses.dataclass(frozen=True)
class Moments:
    """Sums over all rows, about their means, that say how far any weights miss the wanted outputs.

    Attributes:
        gram: inputs by inputs, (groups, depth, depth).
        cross: inputs by wanted outputs, (groups, depth, width).
        energy: squares of the wanted outputs.
        input_mean: (groups, depth).
        output_mean: (groups, width).
        rows: how many rows there were.
    """

    gram: np.ndarray
    cross: np.ndarray
    energy: float
    input_mean: np.ndarray
    output_mean: np.ndarray
    rows: int

    def missed(self, weights: np.ndarray) -> np.ndarray:
        """Return what the means of the outputs lack, (groups, width): what a bias must grow by."""
        return self.output_mean - np.einsum("gd,gdw->gw", self.input_mean, weights)

    def error(self, weights: np.ndarray, bias: bool) -> float:
        """Return the squares that weights miss, relative to the energy of the wanted outputs.

        Args:
            weights: (groups, depth, width).
            bias: whether a bias takes up what the means lack.

        Example: 0.0 if every output is as wanted, 1.0 for weights that are zero beside a bias.
        """
        squares = self.energy + np.sum(weights * (self.gram @ weights - 2.0 * self.cross))
        if not bias:
            squares += self.rows * np.sum(self.missed(weights) ** 2)
        noise = _NOISE * (self.energy + self.rows * float(np.sum(self.output_mean**2)))
        if self.energy <= noise:  # the outputs do not vary
            return float(squares > noise)
        return float(max(squares, 0.0) / self.energy)

    def raw(self) -> np.ndarray:
        """Return the sum of the squares of an input about 0, their mean over inputs, (groups,)."""
        squares = np.diagonal(self.gram, axis1=1, axis2=2) + self.rows * self.input_mean**2
        return squares.mean(axis=1)

    def normal(self, bias: bool) -> tuple[np.ndarray, np.ndarray]:
        """Return `gram` and `cross` of the normal equations; about 0 if there is no bias."""
        if bias:
            return self.gram, self.cross
        turned = self.rows * self.input_mean[:, :, None]
        gram = self.gram + turned * self.input_mean[:, None, :]
        return gram, self.cross + turned * self.output_mean[:, None, :]


class Sums:
    """Adds up rows of inputs and of wanted outputs; keeps depth x depth numbers of them.

    Args:
        groups: of the product.
        depth: inputs of each output.
        width: outputs of each group.

    Example:

    ```python
    sums = Sums(1, 3, 2)
    sums.add(x, x @ weights)  # (1, rows, 3) and (1, rows, 2), as often as there are batches
    sums.moments().error(weights, bias=False)  # 0.0
    ```
    """

    def __init__(self, groups: int, depth: int, width: int) -> None:
        self._gram = np.zeros((groups, depth, depth))
        self._cross = np.zeros((groups, depth, width))
        self._inputs = np.zeros((groups, depth))
        self._outputs = np.zeros((groups, width))
        self._squares = 0.0
        self._rows = 0

    def add(self, inputs: np.ndarray, outputs: np.ndarray) -> None:
        """Add rows: inputs (groups, rows, depth), wanted outputs (groups, rows, width)."""
        # The means are taken off these sums later: of inputs far from zero single precision would
        # leave nothing but rounding.
        inputs, outputs = inputs.astype(np.float64), outputs.astype(np.float64)
        turned = inputs.transpose(0, 2, 1)
        self._gram += turned @ inputs
        self._cross += turned @ outputs
        self._inputs += inputs.sum(axis=1)
        self._outputs += outputs.sum(axis=1)
        self._squares += float(np.sum(np.square(outputs)))
        self._rows += inputs.shape[1]

    def moments(self) -> Moments:
        """Return what was added up, about the means."""
        rows = self._rows
        x, y = self._inputs / rows, self._outputs / rows
        turned = rows * x[:, :, None]
        gram = self._gram - turned * x[:, None, :]
        cross = self._cross - turned * y[:, None, :]
        energy = max(self._squares - rows * float(np.sum(y**2)), 0.0)
        return Moments(gram, cross, energy, x, y, rows)
