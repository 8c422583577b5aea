"""Matricization of a convolution kernel and its inverse (paper, Eq. 1).

The paper writes kernels as `(out, in, k, k)`; Keras stores them as
`(k, k, in, out)`. Rows and columns are therefore swapped with respect to
Section 3.1: here the *input* side of a kernel is the rows.
"""

import math

from keras import ops

SCHEME_1 = ((0, 1, 2), (3,))
"""Rows `(kh, kw, in)`, columns `(out)`: a kh x kw pair followed by a 1x1."""

SCHEME_2 = ((0, 2), (3, 1))
"""Rows `(kh, in)`, columns `(out, kw)`: a kh x 1 followed by a 1 x kw.

The order is free; in this one, as in Scheme 1, the inputs repeat for each tap
of a column, and the taps of a row are neighbors.
"""


def matricize(kernel, rows, columns):
    """Unfolds a tensor into a matrix.

    Args:
        kernel: Tensor of any rank `D`.
        rows: Tuple of axes whose product makes the rows, slowest first.
        columns: Tuple of the remaining axes, slowest first.

    Returns:
        Tensor of shape `(prod(rows), prod(columns))`.

    Raises:
        ValueError: If `rows` and `columns` do not partition the axes.

    Example:

    >>> kernel = np.ones((3, 3, 16, 32))
    >>> matricize(kernel, *SCHEME_1).shape
    (144, 32)

    Reference: Eq. 1 of the paper.
    """
    order = _partition(len(kernel.shape), rows, columns)
    shape = [kernel.shape[axis] for axis in order]
    height = math.prod(shape[: len(rows)])
    width = math.prod(shape[len(rows) :])
    return ops.reshape(ops.transpose(kernel, order), (height, width))


def dematricize(matrix, shape, rows, columns):
    """Folds a matrix back into the tensor it was unfolded from.

    Args:
        matrix: Tensor of shape `(prod(rows), prod(columns))`.
        shape: Tuple, the shape of the tensor to return.
        rows: Tuple of axes, as given to `matricize`.
        columns: Tuple of axes, as given to `matricize`.

    Returns:
        Tensor of shape `shape`.

    Raises:
        ValueError: If `rows` and `columns` do not partition the axes.

    Example:

    >>> matrix = np.ones((144, 32))
    >>> dematricize(matrix, (3, 3, 16, 32), *SCHEME_1).shape
    (3, 3, 16, 32)

    Reference: the inverse of Eq. 1 of the paper.
    """
    order = _partition(len(shape), rows, columns)
    inverse = [order.index(axis) for axis in range(len(order))]
    unfolded = ops.reshape(matrix, [shape[axis] for axis in order])
    return ops.transpose(unfolded, inverse)


def _partition(rank, rows, columns):
    order = (*rows, *columns)
    if sorted(order) != list(range(rank)):
        raise ValueError(
            "`rows` and `columns` must name every axis of the tensor exactly "
            f"once. Received: rows={rows}, columns={columns} for a tensor "
            f"with {rank} axes."
        )
    return order
