"""Singular value thresholding and the soft rank (paper, Section 5.1.2)."""

from keras import ops

from keras_df.ops.spectrum import apply_gains
from keras_df.ops.spectrum import floored
from keras_df.ops.spectrum import gram_spectrum


def soft_gains(sigma, gamma):
    """Gains `max(0, 1 - gamma / sigma)` of singular value thresholding.

    Multiplying `X` by `V diag(gains) V^T` replaces every singular value by
    `max(0, sigma - gamma)`.

    Args:
        sigma: Tensor of shape `(n,)`, singular values.
        gamma: Scalar, the threshold, in the units of `sigma`.

    Returns:
        Tuple `(gains, slopes)` of tensors of shape `(n,)`: the gains,
        differentiable in `gamma` only, and their derivatives with respect to
        the eigenvalues `sigma ** 2`.

    Example:

    >>> soft_gains(np.array([1.0, 4.0]), 2.0)
    (array([0., 0.5]), array([0., 0.015625]))

    Reference: Eq. 5 of the paper.
    """
    sigma = floored(sigma)
    above = ops.cast(sigma > gamma, sigma.dtype)
    gains = above * (1.0 - gamma / sigma)
    # Dividing in steps keeps sigma ** 3 from underflowing.
    slopes = above * (gamma / sigma) / sigma / sigma / 2.0
    return gains, ops.stop_gradient(slopes)


def tanh_gains(sigma, gamma, tau):
    """Gains `tanh(relu(sigma - gamma) * tau)`: the soft rank's own weights.

    An alternative to the shrinkage of Eq. 5: it leaves large singular values
    alone, and turns into the truncation that rounding performs as `tau` grows.

    Args:
        sigma: Tensor of shape `(n,)`, singular values.
        gamma: Scalar, the threshold, in the units of `sigma`.
        tau: Scalar, the steepness, in 1 / units of `sigma`.

    Returns:
        Tuple `(gains, slopes)`, as for `soft_gains`.

    Example:

    >>> gains, _ = tanh_gains(np.array([1.0, 4.0]), 2.0, tau=10.0)
    >>> gains
    array([0., 1.])

    Reference: the summand of Eq. 13 of the paper.
    """
    sigma = floored(sigma)
    gains = ops.tanh(ops.relu(sigma - gamma) * tau)
    above = ops.cast(sigma > gamma, sigma.dtype)
    slopes = above * (1.0 - ops.square(gains)) * tau / sigma / 2.0
    return gains, ops.stop_gradient(slopes)


def soft_rank(sigma, gamma, tau):
    """Counts the singular values above a threshold, differentiably.

    Args:
        sigma: Tensor of shape `(n,)`, singular values.
        gamma: Scalar, the threshold, in the units of `sigma`.
        tau: Scalar, the steepness, in 1 / units of `sigma`.

    Returns:
        Scalar tensor in `[0, n]`.

    Example:

    >>> soft_rank(np.array([0.1, 4.0]), gamma=1.0, tau=5.0)
    1.0

    Reference: Eq. 13 of the paper.
    """
    return ops.sum(ops.tanh(ops.relu(sigma - gamma) * tau))


def singular_value_thresholding(x, gamma):
    """Shrinks the singular values of a matrix by `gamma`, down to zero.

    Works through the Gram matrix of the smaller side. The derivative is
    finite for repeated singular values, rank-deficient and zero matrices,
    `gamma = 0` and `gamma` above the largest singular value.

    Args:
        x: Tensor of shape `(m, n)`.
        gamma: Scalar, the threshold, in the units of the singular values.

    Returns:
        Tensor of shape `(m, n)`.

    Example:

    >>> singular_value_thresholding(np.diag([3.0, 1.0]), 2.0)
    array([[1., 0.], [0., 0.]])

    Reference: Eqs. 5 and 10 of the paper.
    """
    if x.shape[0] < x.shape[1]:
        return ops.transpose(
            singular_value_thresholding(ops.transpose(x), gamma)
        )
    spectrum = gram_spectrum(ops.matmul(ops.transpose(x), x))
    gains, slopes = soft_gains(spectrum.sigma, gamma)
    return ops.matmul(x, apply_gains(spectrum, gains, slopes))


def svd_thresholding(x, gamma):
    """The reference for `singular_value_thresholding`: SVD and autodiff.

    Its gradient is undefined where two singular values coincide.

    Args:
        x: Tensor of shape `(m, n)`.
        gamma: Scalar, the threshold, in the units of the singular values.

    Returns:
        Tensor of shape `(m, n)`.

    Example:

    >>> svd_thresholding(np.diag([3.0, 1.0]), 2.0)
    array([[1., 0.], [0., 0.]])

    Reference: Eqs. 4 and 5 of the paper, literally.
    """
    u, sigma, vt = ops.svd(x, full_matrices=False)
    return ops.matmul(u * ops.relu(sigma - gamma), vt)
