import keras
import numpy as np
import pytest
from keras import ops

from keras_df.ops.spectrum import apply_gains
from keras_df.ops.spectrum import gram_spectrum
from keras_df.ops.thresholding import singular_value_thresholding
from keras_df.ops.thresholding import soft_gains
from keras_df.ops.thresholding import soft_rank
from keras_df.ops.thresholding import svd_thresholding
from keras_df.ops.thresholding import tanh_gains

RNG = np.random.default_rng(0)
SHAPES = {"tall": (12, 5), "wide": (5, 12), "square": (7, 7)}
shapes = pytest.mark.parametrize("shape", SHAPES.values(), ids=SHAPES.keys())


def matrix_of(sigma, shape=(6, 4)):
    """A matrix with given singular values, in random directions."""
    left, _ = np.linalg.qr(RNG.normal(size=(shape[0], len(sigma))))
    right, _ = np.linalg.qr(RNG.normal(size=(shape[1], len(sigma))))
    return (left * sigma) @ right.T


def reference(x, gamma):
    u, sigma, vt = np.linalg.svd(np.asarray(x, float), full_matrices=False)
    return (u * np.maximum(sigma - gamma, 0)) @ vt


def weighted(function, weights):
    weights = weights.astype("float32")
    return lambda x, gamma: ops.sum(function(x, gamma) * weights)


def assert_right_gradients(x, gamma, gradients, differences, atol=2e-3):
    weights = RNG.normal(size=x.shape)
    actual = gradients(weighted(singular_value_thresholding, weights), x, gamma)
    expected = differences(
        lambda x, gamma: np.sum(reference(x, gamma) * weights), x, gamma
    )
    for got, wanted in zip(actual, expected, strict=True):
        np.testing.assert_allclose(got, wanted, rtol=2e-3, atol=atol)


@shapes
@pytest.mark.parametrize("gamma", [0.0, 0.7, 2.0, 100.0])
def test_values_are_those_of_an_svd_in_float64(shape, gamma):
    x = RNG.normal(size=shape).astype("float32")
    for function in (singular_value_thresholding, svd_thresholding):
        actual = function(ops.convert_to_tensor(x), gamma)
        np.testing.assert_allclose(actual, reference(x, gamma), atol=2e-5)


@shapes
@pytest.mark.parametrize("share", [0.1, 0.5, 0.8])
def test_gradients_are_those_of_differences(
    shape, share, gradients, differences
):
    x = RNG.normal(size=shape)
    gamma = share * np.linalg.norm(x, 2)
    assert_right_gradients(x, gamma, gradients, differences)


@shapes
def test_gradients_agree_with_autodiff_through_svd(shape, gradients):
    if keras.backend.backend() == "jax" and shape[0] < shape[1]:
        pytest.skip("JAX differentiates the SVD of no wide matrix")
    x, weights = RNG.normal(size=shape), RNG.normal(size=shape)
    for_gram, for_svd = (
        gradients(weighted(function, weights), x, 1.0)
        for function in (singular_value_thresholding, svd_thresholding)
    )
    for got, wanted in zip(for_gram, for_svd, strict=True):
        np.testing.assert_allclose(got, wanted, rtol=2e-3, atol=2e-3)


DEGENERATE = {
    "orthogonal": [2.0, 2.0, 2.0, 2.0],
    "repeated pairs": [1.0, 1.0, 3.0, 3.0],
    "repeated on both sides": [0.5, 0.5, 3.0, 3.0],
    "nearly equal": [2.0, 2.0 + 1e-5, 2.0 - 1e-4, 1.0],
    "rank-deficient": [3.0, 2.0, 0.0, 0.0],
    "zero": [0.0, 0.0, 0.0, 0.0],
}
degenerate = pytest.mark.parametrize(
    "sigma", DEGENERATE.values(), ids=DEGENERATE.keys()
)


@degenerate
@pytest.mark.parametrize("shape", [(6, 4), (4, 6), (4, 4)])
def test_gradients_are_right_for_degenerate_kernels(
    sigma, shape, gradients, differences
):
    x = matrix_of(sigma, shape)
    assert_right_gradients(x, 0.75, gradients, differences, atol=5e-3)


@degenerate
def test_no_threshold_leaves_a_kernel_and_its_gradient_alone(sigma, gradients):
    x, weights = matrix_of(sigma), RNG.normal(size=(6, 4))
    np.testing.assert_allclose(
        singular_value_thresholding(x.astype("float32"), 0.0), x, atol=1e-5
    )
    function = weighted(singular_value_thresholding, weights)
    by_x, _ = gradients(function, x, 0.0)
    np.testing.assert_allclose(by_x, weights, atol=1e-3)


@pytest.mark.parametrize("sigma", [[3.0, 2.0, 0.0, 0.0], [0.0] * 4])
def test_vanishing_singular_values_do_not_move_the_threshold(sigma, gradients):
    x, weights = matrix_of(sigma), RNG.normal(size=(6, 4))
    function = weighted(singular_value_thresholding, weights)
    _, by_gamma = gradients(function, x, 0.0)
    # Of a matrix of rank r, SVT moves by at most sqrt(r) per unit of gamma;
    # which way the directions it does not have would go is undefined.
    assert abs(by_gamma) <= 2 * np.linalg.norm(weights)


@pytest.mark.parametrize("gamma", [1.0, 2.0, 3.0])
def test_gradients_are_finite_at_a_singular_value(gamma, gradients):
    x = np.diag([3.0, 2.0, 1.0])
    weights = RNG.normal(size=x.shape)
    function = weighted(singular_value_thresholding, weights)
    by_x, by_gamma = gradients(function, x, gamma)
    assert np.isfinite(by_x).all()
    assert np.isfinite(by_gamma)


@shapes
def test_above_the_largest_singular_value_all_is_zero(shape, gradients):
    x = RNG.normal(size=shape)
    function = weighted(singular_value_thresholding, np.ones(shape))
    assert not np.asarray(
        singular_value_thresholding(x.astype("float32"), 50.0)
    ).any()
    for gradient in gradients(function, x, 50.0):
        assert not gradient.any()


@pytest.mark.parametrize(
    "sigma", [[0.5, 1.1, 2.0, 3.0], [2.0, 2.0, 0.5, 0.5], [3.0, 2.0, 0.0, 0.0]]
)
def test_gradients_of_the_tanh_shrinkage(sigma, gradients, differences):
    x, weights = matrix_of(sigma), RNG.normal(size=(6, 4))

    def function(x, gamma):
        spectrum = gram_spectrum(ops.matmul(ops.transpose(x), x))
        gains = tanh_gains(spectrum.sigma, gamma, 1.5)
        return ops.matmul(x, apply_gains(spectrum, *gains))

    def shrunk(x, gamma):
        u, sigma, vt = np.linalg.svd(x, full_matrices=False)
        gains = np.tanh(np.maximum(sigma - gamma, 0) * 1.5)
        return np.sum((u * sigma * gains) @ vt * weights)

    actual = gradients(weighted(function, weights), x, 1.0)
    expected = differences(shrunk, x, 1.0)
    for got, wanted in zip(actual, expected, strict=True):
        np.testing.assert_allclose(got, wanted, rtol=2e-3, atol=5e-3)


def soft_rank_of(x, gamma):
    sigma = np.linalg.svd(np.asarray(x, float), compute_uv=False)
    return np.tanh(np.maximum(sigma - gamma, 0) * 1.5).sum()


def test_soft_rank_is_equation_13():
    sigma = np.array([0.1, 1.0, 2.5], "float32")
    expected = np.tanh(0.3 * 1.5) + np.tanh(1.8 * 1.5)
    assert float(soft_rank(sigma, 0.7, 1.5)) == pytest.approx(expected, 1e-5)


def test_a_steep_soft_rank_is_the_rank():
    sigma = np.array([0.0, 0.1, 0.4, 1.0, 2.5], "float32")
    assert float(soft_rank(sigma, 0.3, 1e4)) == pytest.approx(3)


def test_the_gradient_of_the_soft_rank(gradients, differences):
    def function(x, gamma):
        gram = ops.matmul(ops.transpose(x), x)
        return soft_rank(gram_spectrum(gram).sigma, gamma, 1.5)

    x, gamma = RNG.normal(size=(9, 4)), 2.0
    actual = gradients(function, x, gamma)
    expected = differences(soft_rank_of, x, gamma)
    for got, wanted in zip(actual, expected, strict=True):
        np.testing.assert_allclose(got, wanted, rtol=2e-3, atol=1e-4)


GAINS = {
    "shrinkage": (soft_gains, lambda s, g: np.maximum(1 - g / s, 0)),
    "tanh": (
        lambda sigma, gamma: tanh_gains(sigma, gamma, 1.5),
        lambda s, g: np.tanh(np.maximum(s - g, 0) * 1.5),
    ),
}


@pytest.mark.parametrize("kind", GAINS)
def test_gains_and_their_slopes(kind, differences):
    function, expected = GAINS[kind]
    sigma, gamma = np.array([0.3, 0.9, 1.1, 4.0]), 1.0
    gains, slopes = function(sigma.astype("float32"), gamma)
    np.testing.assert_allclose(gains, expected(sigma, gamma), rtol=1e-5)
    for i, value in enumerate(sigma):
        (slope,) = differences(
            lambda square: expected(np.sqrt(square), gamma), value**2
        )
        assert np.asarray(slopes)[i] == pytest.approx(slope, rel=1e-3)


@pytest.mark.parametrize("kind", GAINS)
def test_the_gradient_of_gains_by_the_threshold(kind, gradients, differences):
    function, expected = GAINS[kind]
    sigma = np.array([0.3, 0.9, 1.1, 4.0])
    (actual,) = gradients(
        lambda gamma: ops.sum(function(sigma.astype("float32"), gamma)[0]), 1.0
    )
    (wanted,) = differences(lambda gamma: expected(sigma, gamma).sum(), 1.0)
    assert actual == pytest.approx(wanted, rel=1e-3)


@pytest.mark.parametrize("kind", GAINS)
def test_gains_of_a_zero_kernel_are_finite(kind):
    function, _ = GAINS[kind]
    for gamma in (0.0, 1.0):
        for values in function(np.zeros(3, "float32"), gamma):
            assert np.isfinite(np.asarray(values)).all()


APPLICATIONS = [
    *[(27, 32), (147, 64), (144, 24), (32, 192), (320, 1280), (64, 64)],
    *[(576, 64), (64, 256), (1152, 128), (256, 1024), (2304, 256)],
    *[(512, 128), (2016, 336), (363, 96), (384, 96), (1024, 512)],
    *[(4608, 512), (512, 2048), (768, 3072), (2048, 1000)],
]
"""Matrices of kernels of `keras.applications`: rows, columns."""


def gram_thresholding(x, gamma):
    """Singular value thresholding in float64, fast on large matrices."""
    if x.shape[0] < x.shape[1]:
        return gram_thresholding(x.T, gamma).T
    values, vectors = np.linalg.eigh(x.T @ x)
    sigma = np.sqrt(np.maximum(values, 1e-300))
    gains = np.maximum(0, 1 - gamma / sigma)
    return x @ (vectors * gains) @ vectors.T


@pytest.mark.slow
@pytest.mark.parametrize("shape", APPLICATIONS, ids=str)
def test_gradients_at_the_sizes_of_applications(shape, gradients):
    x, weights, direction = RNG.normal(size=(3, *shape))
    gamma = 0.4 * np.linalg.norm(x, 2)
    of_x, of_gamma = gradients(
        weighted(singular_value_thresholding, weights), x, gamma
    )
    for got, steps in (
        (np.sum(of_x * direction), (1e-5 * direction, 0.0)),
        (of_gamma, (0.0, 1e-5)),
    ):
        above = gram_thresholding(x + steps[0], gamma + steps[1])
        below = gram_thresholding(x - steps[0], gamma - steps[1])
        wanted = np.sum((above - below) * weights) / 2e-5
        # Of the size of the gradient: a direction may be nearly orthogonal.
        scale = max(abs(wanted), np.linalg.norm(of_x) if steps[1] == 0 else 0)
        assert abs(got - wanted) <= 1e-3 * scale
