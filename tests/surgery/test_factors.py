import numpy as np
import pytest

from keras_df.surgery.factors import low_rank_factors
from keras_df.surgery.factors import separable_factors


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


HEIGHT, WIDTH, INPUTS, OUTPUTS = 3, 2, 4, 5
SIZE = HEIGHT * WIDTH * INPUTS


def moment_of_patches(correlation):
    """Of random patches whose neighbors are alike."""
    rng = np.random.default_rng(1)
    patches = rng.normal(size=(500, HEIGHT, WIDTH, INPUTS))
    patches[:, :, 1:] += correlation * patches[:, :, :-1]
    patches = patches @ rng.normal(size=(INPUTS, INPUTS))
    patches = patches.reshape(500, -1)
    return patches.T @ patches / 500


def separable_product(factors):
    """The Scheme 1 matrix of a pair of Scheme 2, element by element."""
    first, second = factors
    rank = first.shape[1]
    column = first.reshape(HEIGHT, INPUTS, rank)
    row = second.reshape(rank, OUTPUTS, WIDTH)
    kernel = np.einsum("hir,row->hwio", column, row)
    return kernel.reshape(SIZE, OUTPUTS)


def separable_error(matrix, factors, moment, scale):
    missed = (matrix - separable_product(factors)) * scale
    return np.trace(missed.T @ moment @ missed)


@pytest.mark.parametrize("size", [None, INPUTS, SIZE])
def test_separable_factors_of_full_rank_lose_nothing(size):
    matrix = random_matrix(SIZE, OUTPUTS)
    moment = moment_of_patches(0.8)
    moment = None if size is None else moment[:size, :size]
    factors = separable_factors(
        matrix, (HEIGHT, WIDTH), WIDTH * OUTPUTS, moment, np.arange(1.0, 6)
    )
    np.testing.assert_allclose(separable_product(factors), matrix, atol=1e-8)


def test_separable_factors_are_the_best_where_columns_are_alike():
    """Where patches are a product, the decomposition is exact in theirs."""
    matrix = random_matrix(SIZE, OUTPUTS)
    rng = np.random.default_rng(2)
    of_reads = rng.normal(size=(HEIGHT * INPUTS, 40))
    of_reads = of_reads @ of_reads.T / 40
    of_columns = np.array([[1.0, 0.6], [0.6, 1.5]])
    moment = np.einsum(
        "hiHI,wW->hwiHWI",
        of_reads.reshape(HEIGHT, INPUTS, HEIGHT, INPUTS),
        of_columns,
    ).reshape(SIZE, SIZE)
    scale = np.arange(1.0, 6)
    factors = separable_factors(matrix, (HEIGHT, WIDTH), 3, moment, scale)
    unfolded = (matrix * scale).reshape(HEIGHT, WIDTH, INPUTS, OUTPUTS)
    unfolded = unfolded.transpose(0, 2, 3, 1).reshape(HEIGHT * INPUTS, -1)
    rows = np.linalg.cholesky(of_reads).T
    columns = np.kron(np.eye(OUTPUTS), np.linalg.cholesky(of_columns))
    sigma = np.linalg.svd(rows @ unfolded @ columns, compute_uv=False)
    error = separable_error(matrix, factors, moment, scale)
    assert error == pytest.approx(np.sum(sigma[3:] ** 2), rel=1e-3)


@pytest.mark.parametrize("rank", [1, 3, 6])
def test_the_second_separable_factor_is_the_least_squares_solution(rank):
    matrix = random_matrix(SIZE, OUTPUTS)
    moment = moment_of_patches(0.8)
    factors = separable_factors(matrix, (HEIGHT, WIDTH), rank, moment)
    column = factors[0].reshape(HEIGHT, INPUTS, rank)
    root = np.linalg.cholesky(moment).T
    seen = np.einsum(
        "phwi,hir->prw", root.reshape(-1, HEIGHT, WIDTH, INPUTS), column
    ).reshape(SIZE, -1)
    fitted, *_ = np.linalg.lstsq(seen, root @ matrix, rcond=None)
    optimum = np.linalg.norm(root @ matrix - seen @ fitted) ** 2
    error = separable_error(matrix, factors, moment, np.ones(OUTPUTS))
    assert error == pytest.approx(optimum, rel=1e-4)


def test_separable_factors_need_less_error_with_a_moment():
    matrix = random_matrix(SIZE, OUTPUTS)
    moment = moment_of_patches(0.8)
    errors = [
        separable_error(
            matrix,
            separable_factors(matrix, (HEIGHT, WIDTH), 3, given),
            moment,
            np.ones(OUTPUTS),
        )
        for given in (None, moment)
    ]
    assert errors[1] < 0.9 * errors[0]


def test_singular_values_of_separable_factors_are_shared_evenly():
    first, second = separable_factors(
        random_matrix(SIZE, OUTPUTS), (HEIGHT, WIDTH), 4, moment_of_patches(0.5)
    )
    np.testing.assert_allclose(
        np.linalg.svd(first, compute_uv=False),
        np.linalg.svd(second, compute_uv=False),
        rtol=1e-6,
    )
