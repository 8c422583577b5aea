"""In what metric the matrix of a scheme is decomposed."""

import numpy as np


def metric_of_scheme(layer, scheme, moment):
    """The metric by which the matrix of a scheme is measured.

    Args:
        layer: A layer with a kernel.
        scheme: 1 or 2, or None for a layer that stays dense.
        moment: Array from `second_moments`.

    Returns:
        Tuple of the second moment of the rows, an array of shape `(n, n)`,
        `n` a divisor of the matrix's rows, and the root by which the columns
        are mixed, as from `product_metric`, or None.
    """
    if scheme != 2 or len(moment) == layer.kernel.shape[-2]:
        return moment, None
    by_column = moment_by_column(moment, layer.kernel.shape[:2])
    return product_metric(by_column)


def product_metric(by_column):
    """The metric of the matrix of Scheme 2, nearly that of its outputs.

    Scheme 2 cuts a patch into the columns of its window. Their moment is
    about that of what a column reads, times that of how the columns of one
    patch go together: neighbors are alike.

    Args:
        by_column: Array from `moment_by_column`.

    Returns:
        Tuple of the second moment of a column, of shape `(m, m)` with `m` of
        `height * inputs`, and the lower Cholesky root, of shape
        `(width, width)`, of how columns go together.

    Reference: Van Loan and Pitsianis, Approximation with Kronecker products,
    1993.
    """
    width = by_column.shape[1]
    of_column = np.einsum("akbk->ab", by_column) / width
    together = np.einsum("akal->kl", by_column)
    together *= width / np.trace(together)
    return of_column, np.linalg.cholesky(together)


def moment_by_column(moment, window):
    """Arranges the second moment of patches by the columns of the window.

    Args:
        moment: Array of shape `(n, n)`, of patches `(height, width, inputs)`.
        window: Tuple `(height, width)`.

    Returns:
        Array of shape `(height * inputs, width, height * inputs, width)`.
    """
    height, width = window
    inputs = len(moment) // (height * width)
    blocks = moment.reshape(2 * (height, width, inputs))
    size = height * inputs
    return blocks.transpose(0, 2, 1, 3, 5, 4).reshape(2 * (size, width))


def weigh(moment, matrix):
    """Multiplies each block of rows of an array by a moment, if there is one.

    Args:
        moment: Array of shape `(n, n)`, or None.
        matrix: Array of shape `(blocks * n, columns)`.

    Returns:
        Array of the shape of `matrix`.
    """
    if moment is None:
        return matrix
    blocks = matrix.reshape(-1, len(moment), matrix.shape[1])
    return np.matmul(moment, blocks).reshape(matrix.shape)


def mix(matrix, root):
    """Multiplies each block of columns of an array by a root, if there is one.

    Args:
        matrix: Array of shape `(rows, blocks * n)`.
        root: Array of shape `(n, n)`, or None.

    Returns:
        Array of the shape of `matrix`.
    """
    if root is None:
        return matrix
    return (matrix.reshape(-1, len(root)) @ root).reshape(matrix.shape)
