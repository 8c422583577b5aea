"""Low-rank factors of a kernel matrix."""

import numpy as np

from keras_df.calibration import weigh


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
