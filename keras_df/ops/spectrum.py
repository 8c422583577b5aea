"""Spectral functions of a Gram matrix, with a derivative that stays finite.

The generic gradient of an SVD divides by differences of singular values and
is NaN where two coincide. A *spectral function* `V diag(f) V^T` needs only
divided differences of `f`, which are finite. They enter here as terms that
are zero in value and right in derivative, so no backend's custom-gradient
API is needed.
"""

from typing import Any
from typing import NamedTuple

import keras
from keras import ops


class Spectrum(NamedTuple):
    """The eigensystem of a Gram matrix `A = X^T X`, shape `(n, n)`.

    Attributes:
        sigma: Tensor of shape `(n,)`, the singular values of `X` in ascending
            order, differentiable with respect to `A`.
        vectors: Tensor of shape `(n, n)`, eigenvectors in columns, constant.
        rotation: Tensor of shape `(n, n)`, zero in value, whose derivative is
            `V^T dA V`.
    """

    sigma: Any
    vectors: Any
    rotation: Any


def gram_spectrum(gram):
    """Decomposes a Gram matrix.

    Args:
        gram: Tensor of shape `(n, n)`, symmetric, positive semi-definite.

    Returns:
        A `Spectrum`.

    Example:

    >>> gram_spectrum(np.diag([4.0, 9.0])).sigma
    array([2.0, 3.0])

    Reference: first-order perturbation, `d sigma_i = v_i^T dA v_i / 2 sigma_i`.
    """
    constant = ops.stop_gradient(gram)
    eigenvalues, vectors = ops.eigh(constant)
    eigenvalues = ops.stop_gradient(ops.maximum(eigenvalues, 0.0))
    vectors = ops.stop_gradient(vectors)
    delta = gram - constant
    rotation = ops.matmul(ops.transpose(vectors), ops.matmul(delta, vectors))
    sigma = ops.sqrt(eigenvalues)
    sigma = sigma + ops.diagonal(rotation) / (2.0 * floored(sigma))
    return Spectrum(sigma, vectors, rotation)


def apply_gains(spectrum, gains, slopes):
    """Builds `V diag(f(lambda)) V^T` with its derivative.

    The derivative is `V (K o (V^T dA V)) V^T`, with
    `K_ij = (f_i - f_j) / (lambda_i - lambda_j)` and `K_ij = f'(lambda_i)`
    where the two coincide.

    Args:
        spectrum: A `Spectrum` with `n` singular values.
        gains: Tensor of shape `(n,)`, the values `f(lambda_i)`. A gradient
            with respect to the parameters of `f` flows through it; a gradient
            with respect to `lambda` must not.
        slopes: Tensor of shape `(n,)`, the derivatives `f'(lambda_i)`.

    Returns:
        Tensor of shape `(n, n)`.

    Example:

    >>> spectrum = gram_spectrum(np.diag([4.0, 9.0]))
    >>> apply_gains(spectrum, np.array([0.0, 1.0]), np.zeros(2))
    array([[0., 0.], [0., 1.]])

    Reference: the Daleckii-Krein theorem.
    """
    vectors = spectrum.vectors
    # Constants from the start: a tape remembers what is stopped at the end.
    constants = map(ops.stop_gradient, (spectrum.sigma, gains, slopes))
    kernel = _divided_differences(*constants)
    middle = ops.diag(gains) + kernel * spectrum.rotation
    return ops.matmul(vectors, ops.matmul(middle, ops.transpose(vectors)))


def _divided_differences(sigma, gains, slopes):
    values = ops.square(sigma)
    gap = values[:, None] - values[None, :]
    scale = values[:, None] + values[None, :]
    # Below this gap float32 cancels; the mean slope errs by O(gap^2) there.
    close = ops.abs(gap) <= 1e-3 * scale
    safe_gap = ops.where(close, ops.ones_like(gap), gap)
    quotient = (gains[:, None] - gains[None, :]) / safe_gap
    mean_slope = 0.5 * (slopes[:, None] + slopes[None, :])
    return ops.where(close, mean_slope, quotient)


def floored(sigma):
    """Returns singular values, as constants, that are safe to divide by.

    Float32 does not tell those below the floor from zero. Dividing what
    belongs to them by less would blow rounding errors up.
    """
    smallest = 1e-6 * ops.max(sigma) + keras.config.epsilon() ** 2
    return ops.stop_gradient(ops.maximum(sigma, smallest))
