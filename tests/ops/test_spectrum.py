import numpy as np
import pytest
from keras import ops

from keras_df.ops.spectrum import apply_gains
from keras_df.ops.spectrum import gram_spectrum

RNG = np.random.default_rng(0)


def gram_of(sigma):
    """A Gram matrix with given singular values, in random directions."""
    basis, _ = np.linalg.qr(RNG.normal(size=(len(sigma), len(sigma))))
    return ((basis * np.square(sigma)) @ basis.T).astype("float32")


def squared(gram):
    """`A @ A` as a spectral function: f(lambda) = lambda ** 2."""
    spectrum = gram_spectrum(gram)
    eigenvalues = ops.stop_gradient(ops.square(spectrum.sigma))
    return apply_gains(spectrum, ops.square(eigenvalues), 2 * eigenvalues)


SPECTRA = {
    "distinct": [0.5, 1.0, 2.0, 3.0],
    "repeated": [1.0, 1.0, 2.0, 2.0],
    "all equal": [1.5, 1.5, 1.5, 1.5],
    "nearly equal": [1.0, 1.0 + 1e-6, 2.0, 2.0 + 1e-4],
    "rank-deficient": [0.0, 0.0, 1.0, 2.0],
    "zero": [0.0, 0.0, 0.0, 0.0],
}
spectra = pytest.mark.parametrize("sigma", SPECTRA.values(), ids=SPECTRA.keys())


def test_singular_values_are_those_of_numpy():
    x = RNG.normal(size=(20, 6)).astype("float32")
    actual = gram_spectrum(x.T @ x).sigma
    expected = np.linalg.svd(x.astype(float), compute_uv=False)[::-1]
    np.testing.assert_allclose(actual, expected, rtol=1e-4)


def test_the_rotation_is_zero_in_value():
    assert not np.asarray(gram_spectrum(gram_of([1.0, 2.0])).rotation).any()


def test_the_gradient_of_singular_values(gradients, differences):
    x = RNG.normal(size=(9, 4))
    weights = RNG.normal(size=4)

    def function(x):
        spectrum = gram_spectrum(ops.matmul(ops.transpose(x), x))
        return ops.sum(spectrum.sigma * weights.astype("float32"))

    def reference(x):
        return np.linalg.svd(x, compute_uv=False)[::-1] @ weights

    (actual,) = gradients(function, x)
    (expected,) = differences(reference, x)
    np.testing.assert_allclose(actual, expected, rtol=1e-3, atol=1e-4)


@spectra
def test_a_polynomial_of_a_matrix_and_its_gradient(sigma, gradients):
    gram = gram_of(sigma)
    outer = RNG.normal(size=gram.shape)
    outer = (outer + outer.T).astype("float32")
    np.testing.assert_allclose(squared(gram), gram @ gram, atol=1e-3)
    (actual,) = gradients(lambda x: ops.sum(outer * squared(x)), gram)
    # The derivative of tr(M A A) at a symmetric A, M symmetric.
    expected = outer @ gram + gram @ outer
    np.testing.assert_allclose(actual, expected, rtol=2e-3, atol=2e-2)


@spectra
def test_the_gradient_of_singular_values_is_finite(sigma, gradients):
    gram = gram_of(sigma)
    (actual,) = gradients(lambda x: ops.sum(gram_spectrum(x).sigma), gram)
    assert np.isfinite(actual).all()
