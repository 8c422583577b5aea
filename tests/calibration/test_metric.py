"""The metric of matrices against errors on patches, in float64."""

import numpy as np
import pytest
from keras import layers

from keras_df.calibration import metric_of_scheme
from keras_df.calibration import mix
from keras_df.calibration import moment_by_column
from keras_df.calibration import product_metric
from keras_df.calibration import weigh

HEIGHT, WIDTH, INPUTS, OUTPUTS = 3, 2, 4, 5
RNG = np.random.default_rng(0)


def random_moment(size):
    samples = RNG.normal(size=(3 * size, size))
    return samples.T @ samples


def convolution():
    layer = layers.Conv2D(OUTPUTS, (HEIGHT, WIDTH))
    layer.build((None, 7, 7, INPUTS))
    return layer


def test_what_a_column_reads_is_the_mean_over_columns():
    patches = RNG.normal(1, 2, (500, HEIGHT, WIDTH, INPUTS))
    rows = patches.reshape(500, -1)
    moment = rows.T @ rows / 500
    found, _ = product_metric(moment_by_column(moment, (HEIGHT, WIDTH)))
    columns = patches.transpose(0, 2, 1, 3).reshape(500 * WIDTH, -1)
    expected = columns.T @ columns / len(columns)
    np.testing.assert_allclose(found, expected, rtol=1e-9)


def test_the_metric_is_the_error_of_outputs_where_it_can_be():
    """Where the moment of patches is a product, and with the matrix of
    Scheme 2 as `matricize` has it."""
    of_column = random_moment(HEIGHT * INPUTS)
    together = random_moment(WIDTH)
    moment = np.einsum(
        "yczd,kl->ykczld",
        of_column.reshape(2 * (HEIGHT, INPUTS)),
        together,
    ).reshape(2 * (HEIGHT * WIDTH * INPUTS,))
    kernel = RNG.normal(size=(HEIGHT, WIDTH, INPUTS, OUTPUTS))
    change = kernel.reshape(-1, OUTPUTS)
    expected = np.trace(change.T @ moment @ change)
    found, root = metric_of_scheme(convolution(), 2, moment)
    matrix = kernel.transpose(0, 2, 3, 1).reshape(HEIGHT * INPUTS, -1)
    mixed = mix(matrix, root)
    assert np.sum(mixed * weigh(found, mixed)) == pytest.approx(expected)


def test_columns_that_are_alike_make_no_error_where_their_sum_stays():
    """As of an image that is constant along its width."""
    column = RNG.normal(size=(500, HEIGHT, 1, INPUTS))
    rows = np.repeat(column, WIDTH, axis=2).reshape(500, -1)
    moment = rows.T @ rows / 500 + 1e-9 * np.eye(24)
    _, root = product_metric(moment_by_column(moment, (HEIGHT, WIDTH)))
    change = np.ones((6, 1, WIDTH)) * [1, -1]
    assert np.abs(mix(change.reshape(6, WIDTH), root)).max() < 1e-3


@pytest.mark.parametrize("scheme", [1, None])
def test_scheme_1_has_the_metric_of_patches(scheme):
    moment = random_moment(HEIGHT * WIDTH * INPUTS)
    found, root = metric_of_scheme(convolution(), scheme, moment)
    assert found is moment and root is None


def test_a_moment_of_inputs_alone_is_that_of_both_schemes():
    moment = random_moment(INPUTS)
    found, root = metric_of_scheme(convolution(), 2, moment)
    assert found is moment and root is None


def test_blocks_are_multiplied_one_by_one():
    matrix = RNG.normal(size=(6, 8))
    moment, root = RNG.normal(size=(3, 3)), RNG.normal(size=(4, 4))
    by_rows = np.kron(np.eye(2), moment) @ matrix
    by_columns = matrix @ np.kron(np.eye(2), root)
    np.testing.assert_allclose(weigh(moment, matrix), by_rows)
    np.testing.assert_allclose(mix(matrix, root), by_columns)
    assert weigh(None, matrix) is mix(matrix, None) is matrix
