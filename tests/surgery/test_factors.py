import numpy as np
import pytest

from keras_df.surgery.factors import low_rank_factors


def random_matrix(rows=18, columns=7):
    return np.random.default_rng(0).normal(size=(rows, columns))


@pytest.mark.parametrize("shape", [(18, 7), (5, 12), (6, 6)])
def test_the_product_is_the_truncated_svd(shape):
    matrix = random_matrix(*shape)
    first, second = low_rank_factors(matrix, 3)
    u, sigma, vt = np.linalg.svd(matrix, full_matrices=False)
    expected = (u[:, :3] * sigma[:3]) @ vt[:3]
    np.testing.assert_allclose(first @ second, expected, atol=1e-10)


def weighted_error(matrix, factors, root, scale):
    blocks = np.kron(np.eye(len(matrix) // len(root)), root)
    first, second = factors
    return np.linalg.norm(blocks @ (matrix - first @ second) * scale)


@pytest.mark.parametrize("size", [18, 6])
def test_the_error_is_smallest_in_the_metric_that_is_asked_for(size):
    matrix = random_matrix()
    rng = np.random.default_rng(1)
    root = np.diag(rng.uniform(0.1, 3, size))
    scale = rng.uniform(0.1, 3, 7)
    factors = low_rank_factors(matrix, 3, root @ root, scale)
    blocks = np.kron(np.eye(18 // size), root)
    sigma = np.linalg.svd(blocks @ matrix * scale, compute_uv=False)
    optimum = np.linalg.norm(sigma[3:])
    error = weighted_error(matrix, factors, root, scale)
    assert error == pytest.approx(optimum, rel=1e-6)
    plain = weighted_error(matrix, low_rank_factors(matrix, 3), root, scale)
    assert plain > 1.05 * optimum


@pytest.mark.parametrize("moment", [None, np.diag(np.arange(1.0, 19))])
def test_singular_values_are_shared_evenly(moment):
    first, second = low_rank_factors(random_matrix(), 4, moment)
    np.testing.assert_allclose(
        np.linalg.svd(first, compute_uv=False),
        np.linalg.svd(second, compute_uv=False),
        rtol=1e-6,
    )


def test_full_rank_loses_nothing():
    matrix = random_matrix()
    first, second = low_rank_factors(matrix, 7, np.eye(18), np.ones(7))
    np.testing.assert_allclose(first @ second, matrix, atol=1e-10)
