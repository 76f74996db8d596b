"""Which axes of a kernel are its inputs and outputs, and the matrices that patterns work on.

Keras stores a Dense kernel as (in, out), a Conv2D kernel as (h, w, in, out), a Conv2DTranspose
kernel as (h, w, out, in), an EinsumDense kernel in any order. Patterns see two plain matrices:

- `rows`: (everything else, inputs), the order in which TFLite stores weights, inputs innermost,
  so that N:M groups run along input channels;
- `matrix`: (spatial and inputs, outputs), Keras's own orientation, on which blocks are laid.

Both come with a function that leads a result back to the kernel's shape.
"""

from __future__ import annotations

import dataclasses
import math

import numpy as np


@dataclasses.dataclass(frozen=True)
class Layout:
    """The input axes and output axes of a kernel; axes in neither are spatial.

    Example: `Layout(inputs=(2,), outputs=(3,))` is a Conv2D kernel (h, w, in, out).
    """

    inputs: tuple[int, ...]
    outputs: tuple[int, ...]

    def spatial(self, rank: int) -> tuple[int, ...]:
        """Return the axes that are neither inputs nor outputs."""
        return tuple(a for a in range(rank) if a not in self.inputs and a not in self.outputs)

    def input_size(self, shape: tuple[int, ...]) -> int:
        """Return the number of input channels of a kernel of this shape."""
        return self._size(shape, self.inputs)

    def rows(self, array: np.ndarray) -> np.ndarray:
        """Return the kernel as (outputs * spatial, inputs), TFLite's order of weights."""
        return array.transpose(self._row_order(array.ndim)).reshape(
            -1, self.input_size(array.shape)
        )

    def from_rows(self, rows: np.ndarray, shape: tuple[int, ...]) -> np.ndarray:
        """Undo `rows` for a kernel of this shape."""
        return _restore(rows, shape, self._row_order(len(shape)))

    def matrix(self, array: np.ndarray) -> np.ndarray:
        """Return the kernel as (spatial * inputs, outputs), the matrix that blocks are laid on."""
        moved = array.transpose(self._matrix_order(array.ndim))
        return moved.reshape(self.matrix_shape(array.shape))

    def matrix_shape(self, shape: tuple[int, ...]) -> tuple[int, int]:
        """Return the shape of `matrix` for a kernel of this shape."""
        columns = shape[1] if len(shape) == 2 else self._size(shape, self.outputs)
        return math.prod(shape) // columns, columns

    def from_matrix(self, matrix: np.ndarray, shape: tuple[int, ...]) -> np.ndarray:
        """Undo `matrix` for a kernel of this shape."""
        return _restore(matrix, shape, self._matrix_order(len(shape)))

    @staticmethod
    def _size(shape: tuple[int, ...], axes: tuple[int, ...]) -> int:
        return math.prod(shape[a] for a in axes)

    def _row_order(self, rank: int) -> tuple[int, ...]:
        return (*self.outputs, *self.spatial(rank), *self.inputs)

    def _matrix_order(self, rank: int) -> tuple[int, ...]:
        if rank == 2:  # as Keras stores it, an embedding table too
            return (0, 1)
        return (*self.spatial(rank), *self.inputs, *self.outputs)


def _restore(flat: np.ndarray, shape: tuple[int, ...], order: tuple[int, ...]) -> np.ndarray:
    moved = flat.reshape([shape[a] for a in order])
    return np.ascontiguousarray(moved.transpose(np.argsort(order)))


def of_kernel(rank: int) -> Layout | None:
    """Return the layout of Dense, Conv, pointwise and RNN kernels: (..., in, out).

    None for a vector or a scalar, which has no inputs and outputs to tell apart.
    """
    return Layout((rank - 2,), (rank - 1,)) if rank >= 2 else None


def of_transposed_kernel(rank: int) -> Layout:
    """Return the layout of transposed convolutions: (..., out, in)."""
    return Layout((rank - 1,), (rank - 2,))


def of_embedding() -> Layout:
    """Return the layout of an embedding table (vocabulary, dimension): groups run along a row."""
    return Layout((1,), (0,))


def of_einsum(equation: str, rank: int) -> Layout | None:
    """Return the layout of an EinsumDense kernel from its equation, `"abc,cde->abde"`.

    Inputs are the kernel's axes that the output does not have (the contracted ones). An axis that
    both the input and the output have is spatial. None if nothing is contracted.
    """
    left, output = equation.replace(" ", "").split("->")
    source, kernel = (part.replace("...", "") for part in left.split(","))
    inputs = tuple(a for a, axis in enumerate(kernel) if axis not in output)
    outputs = tuple(a for a, axis in enumerate(kernel) if axis in output and axis not in source)
    if len(kernel) != rank or not inputs or not outputs:
        return None
    return Layout(inputs, outputs)
