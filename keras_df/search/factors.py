"""Factoring a masked kernel on the host, for a search to reuse."""

from typing import NamedTuple

import numpy as np
from keras import ops

from keras_df.calibration import mix
from keras_df.calibration import weigh

SMALLEST_MASK = 1e-3
"""Masks below this are factored as if they were this, never divided by 0."""

RIDGE = 0.01
"""What inputs vary by on their own, as a share of their mean moment.

As in the reconstruction of `compress`: what stays shall not be trusted to make
up for what goes by differences that hardly ever show.
"""


class Metric(NamedTuple):
    """How much an error of a kernel counts.

    Attributes:
        moment: Array of shape `(moment_size, moment_size)`, the second moment
            of the layer's inputs, or None for one that is the identity.
        scale: Array of shape `(columns,)`, or a number: how much each column
            counts.
        mixing: Array of shape `(mixing_size, mixing_size)`, a root of how
            neighboring columns go together, or None for an identity.
    """

    moment: np.ndarray | None
    scale: np.ndarray
    mixing: np.ndarray | None = None


class Factors(NamedTuple):
    """A masked kernel's matrix `left @ right`, by singular directions.

    Attributes:
        left: Array of shape `(rows, n)`.
        right: Array of shape `(n, columns)`.
        compensation: Array of shape `(moment_size, moment_size)`, as
            `keras_df.ops.compensation` computes it, or None for an identity.
        sigma: Array of shape `(n,)`, ascending singular values in the metric
            of the inputs and outputs.
        slopes: Array of shape `(n, channels)`, the derivatives of `sigma`
            with respect to the masks of the kernel's channels.
    """

    left: np.ndarray
    right: np.ndarray
    compensation: np.ndarray | None
    sigma: np.ndarray
    slopes: np.ndarray


def factorize(view, kernel, metric, masks):
    """Decomposes a masked kernel through the Gram matrix of its small side.

    Args:
        view: `KernelView` with a scheme.
        kernel: Float32 array, the layer's kernel.
        metric: `Metric`.
        masks: Dict from each masked axis of the kernel to a float32 array
            with one value in `(0, 1]` per channel.

    Returns:
        `Factors`, float32.

    Reference: first-order perturbation of the eigenvalues of the Gram matrix.
    """
    rows, columns = _line_masks(view, masks)
    matrix, compensation = _mask_rows(view, kernel, metric.moment, rows)
    matrix = mix(matrix, metric.mixing)
    decompose = _wide if view.is_wide else _tall
    factors, of_rows, of_columns = decompose(
        matrix, columns, metric, compensation
    )
    slopes = {
        **_per_channel(view, view.rows, of_rows / rows[:, None]),
        **_per_channel(view, view.columns, of_columns / columns[:, None]),
    }
    stacked = np.concatenate([slopes[axis] for axis in view.axes])
    left, right, sigma = factors
    if metric.mixing is not None:
        right = mix(right, np.linalg.inv(metric.mixing))
    return Factors(left, right, compensation, sigma, stacked.T)


def singular_values(view, kernel, metric, masks):
    """The `sigma` of `factorize` alone, which is faster.

    Args:
        view, kernel, metric, masks: As for `factorize`; masks may be 0.

    Returns:
        Float32 array of shape `(n,)`, ascending.
    """
    rows, columns = _line_masks(view, masks)
    matrix, _ = _mask_rows(view, kernel, metric.moment, rows)
    matrix = mix(matrix, metric.mixing)
    gram = _wide_gram if view.is_wide else _tall_gram
    gram, *_ = gram(matrix, columns * metric.scale, metric.moment)
    return np.sqrt(np.maximum(np.linalg.eigvalsh(gram), 0))


def _line_masks(view, masks):
    """Masks of the rows and of the columns of a kernel's matrix."""
    sides = []
    for axes in (view.rows, view.columns):
        factor = np.ones(view.size(axes), "float32")
        for axis, places in view.channels(axes).items():
            factor *= masks[axis][places]
        sides.append(factor)
    return sides


def masked_matrix(view, kernel, metric, masks):
    """The matrix of a masked kernel that stays dense.

    Args:
        view, kernel, metric, masks: As for `factorize`; no scheme is needed.

    Returns:
        Tuple of an array of shape `(rows, columns)` and the compensation, as
        in `Factors`.
    """
    rows, columns = _line_masks(view, masks)
    matrix, compensation = _mask_rows(view, kernel, metric.moment, rows)
    return matrix * columns, compensation


def _mask_rows(view, kernel, moment, rows):
    """Masks what a kernel reads; see `keras_df.ops.compensation`."""
    matrix = ops.convert_to_numpy(view.matrix(kernel))
    if view.reads is None:
        return rows[:, None] * matrix, None
    mask = np.maximum(rows[: view.moment_size].astype(float), SMALLEST_MASK)
    moment = moment + RIDGE * np.eye(len(moment))
    shared = np.where(view.reads[:, None] == view.reads, moment, 0.0)
    compensation = np.linalg.solve(
        moment + shared * (1 / mask - 1), shared / mask
    )
    # In double precision, because what goes is the difference of two.
    matrix = matrix - weigh(compensation * (1 - mask), matrix.astype(float))
    return matrix.astype("float32"), compensation.astype("float32")


def _tall_gram(matrix, weights, moment):
    weighted = weigh(moment, matrix)
    return weights[:, None] * (matrix.T @ weighted) * weights, weighted


def _tall(matrix, columns, metric, compensation):
    weights = columns * metric.scale
    gram, weighted = _tall_gram(matrix, weights, metric.moment)
    sigma, vectors = _spectrum(gram)
    mixing = weights[:, None] * vectors
    left, right = matrix @ mixing, (vectors / _column(metric.scale)).T
    dual = _weigh_transposed(compensation, weighted @ mixing)
    of_rows = left * dual / _floored(sigma)
    return (left, right, sigma), of_rows, sigma * vectors**2


def _wide_gram(matrix, weights, moment):
    # Any root will do, and this one is the cheapest.
    root = None if moment is None else np.linalg.cholesky(moment.astype(float))
    root = None if root is None else root.T.astype("float32")
    weighted = weigh(root, matrix) * weights
    return weighted @ weighted.T, weighted, root


def _wide(matrix, columns, metric, compensation):
    weights = columns * metric.scale
    gram, weighted, root = _wide_gram(matrix, weights, metric.moment)
    sigma, vectors = _spectrum(gram)
    directions = vectors.T @ weighted
    left, dual = vectors, vectors
    if root is not None:
        left, dual = weigh(np.linalg.inv(root), left), weigh(root.T, dual)
    of_rows = sigma * left * _weigh_transposed(compensation, dual)
    of_columns = (directions**2).T / _floored(sigma)
    return (left, directions / metric.scale, sigma), of_rows, of_columns


def _weigh_transposed(compensation, matrix):
    transposed = None if compensation is None else compensation.T
    return weigh(transposed, matrix)


def _spectrum(gram):
    """Singular values and vectors; float32 tells none below a floor from 0."""
    values, vectors = np.linalg.eigh(gram)
    return np.sqrt(np.maximum(values, 0)), vectors


def _floored(sigma):
    return np.maximum(sigma, 1e-6 * sigma[-1] + 1e-12)


def _column(scale):
    return scale[:, None] if np.ndim(scale) else scale


def _per_channel(view, axes, of_lines):
    """Sums what belongs to the rows, or columns, of each masked channel."""
    sizes = [view.shape[axis] for axis in axes]
    values = of_lines.reshape(*sizes, -1)
    return {
        axis: values.sum(
            tuple(other for other in range(len(axes)) if other != place)
        )
        for place, axis in enumerate(axes)
        if axis in view.axes
    }
