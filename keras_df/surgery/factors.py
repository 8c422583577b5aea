"""Low-rank factors of a kernel matrix."""

import numpy as np

from keras_df.calibration import mix
from keras_df.calibration import moment_by_column
from keras_df.calibration import product_metric
from keras_df.calibration import weigh

REFIT_RIDGE = 1e-6
"""What keeps the second factor where the first was, as a mean moment."""


def low_rank_factors(matrix, rank, moment=None, scale=None):
    """Splits a matrix into two factors of a given rank.

    The product is the truncated singular value decomposition (paper,
    Section 5.1.3) in the metric of `moment` and `scale`; singular values are
    shared evenly between the factors, so both are equally conditioned for
    fine-tuning.

    Args:
        matrix: Float array of shape `(rows, columns)`.
        rank: Positive integer, at most `min(rows, columns)`.
        moment: Float array of shape `(n, n)`, `n` a divisor of `rows`: the
            second moment of the inputs, for each block of `n` rows alike.
            None for the plain metric.
        scale: Float array of shape `(columns,)`, the weight of each output.
            None for equal weights.

    Returns:
        Tuple of arrays of shape `(rows, rank)` and `(rank, columns)`.

    Example:

    >>> first, second = low_rank_factors(np.outer([1, 2], [3, 4, 5]), 1)
    >>> first @ second
    array([[ 3.,  4.,  5.], [ 6.,  8., 10.]])
    """
    matrix = np.asarray(matrix, float)
    if moment is None and scale is None:
        return _truncated_svd(matrix, rank)
    scale = np.ones(matrix.shape[1]) if scale is None else scale
    scaled = matrix * scale
    weighted = weigh(moment, scaled)
    _, vectors = np.linalg.eigh(scaled.T @ weighted)
    top = vectors[:, ::-1][:, :rank]
    return _balanced(scaled @ top, top.T / scale)


def separable_factors(matrix, window, rank, moment=None, scale=None):
    """Splits a kernel into a column and a row of convolutions (Scheme 2).

    A column of the window reads what its neighbors do, so no singular value
    decomposition is exact in the metric of whole patches. The factors are
    that of the nearest product metric, of what a column reads and of how
    columns go together; then the second is fitted to what the first leaves.

    Args:
        matrix: Float array of shape `(height * width * inputs, outputs)`, the
            Scheme 1 matrix of the kernel.
        window: Tuple `(height, width)` of the kernel.
        rank: Positive integer, at most that of the Scheme 2 matrix.
        moment: Float array, the second moment of patches of shape
            `(height, width, inputs)`, or of their inputs alone, alike for all
            taps. None for the plain metric.
        scale: Float array of shape `(outputs,)`, the weight of each output.
            None for equal weights.

    Returns:
        Tuple of arrays of shape `(height * inputs, rank)` and
        `(rank, outputs * width)`.

    Example:

    >>> first, second = separable_factors(np.ones((18, 4)), (3, 3), 1)
    >>> first.shape, second.shape
    ((6, 1), (1, 12))

    Reference: Jaderberg et al., Speeding up convolutional neural networks
    with low rank expansions, 2014.
    """
    height, width = window
    matrix = np.asarray(matrix, float)
    inputs, outputs = len(matrix) // (height * width), matrix.shape[1]
    kernel = matrix.reshape(height, width, inputs, outputs)
    # What `matricize` does, in double precision on every backend.
    unfolded = kernel.transpose(0, 2, 3, 1)
    unfolded = unfolded.reshape(height * inputs, outputs * width)
    if scale is not None:
        scale = np.repeat(scale, width)
    if moment is None or len(moment) == inputs:
        return low_rank_factors(unfolded, rank, moment, scale)
    by_column = moment_by_column(moment, window)
    of_column, root = product_metric(by_column)
    mixed = mix(unfolded, root)
    first, second = low_rank_factors(mixed, rank, of_column, scale)
    second = mix(second, np.linalg.inv(root))
    return _balanced(first, _refitted(first, second, by_column, unfolded))


def _refitted(first, second, by_column, unfolded):
    """The second factor that is best for the first on real inputs."""
    size, width = by_column.shape[:2]
    rank = first.shape[1]
    missed = unfolded - first @ second
    missed = missed.reshape(size, -1, width).transpose(0, 2, 1)
    seen = np.tensordot(first.T, by_column, 1)  # (rank, width, size, width)
    wanted = np.tensordot(seen, missed, ((2, 3), (0, 1)))
    gram = np.tensordot(seen, first, ((2,), (0,)))  # (rank, k, l, rank)
    gram = gram.transpose(0, 1, 3, 2).reshape(rank * width, rank * width)
    ridge = REFIT_RIDGE * np.trace(gram) / len(gram)
    gram[np.diag_indices(len(gram))] += max(ridge, 1e-12)
    change = np.linalg.solve(gram, wanted.reshape(rank * width, -1))
    change = change.reshape(rank, width, -1).transpose(0, 2, 1)
    return second + change.reshape(second.shape)


def _truncated_svd(matrix, rank):
    """By the eigenvectors of the smaller Gram matrix: several times faster
    than a singular value decomposition, and as exact where it matters."""
    if matrix.shape[0] < matrix.shape[1]:
        first, second = _truncated_svd(matrix.T, rank)
        return second.T, first.T
    _, vectors = np.linalg.eigh(matrix.T @ matrix)
    top = vectors[:, ::-1][:, :rank]
    projected = matrix @ top
    sigma = np.linalg.norm(projected, axis=0)
    root = np.sqrt(np.maximum(sigma, 1e-150))
    return projected / root, root[:, None] * top.T


def _balanced(first, second):
    """Rewrites a product of factors as its own SVD, evenly shared."""
    q1, r1 = np.linalg.qr(first)
    q2, r2 = np.linalg.qr(second.T)
    left, sigma, right = np.linalg.svd(r1 @ r2.T)
    root = np.sqrt(sigma)
    return (q1 @ left) * root, root[:, None] * (right @ q2.T)
