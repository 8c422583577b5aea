"""Compensation against least squares over every outcome, in float64 NumPy."""

import itertools

import numpy as np
import pytest
from keras import ops

from keras_df.ops import compensation
from keras_df.ops import weigh

GROUPS = np.array([0, 1, 2, 0, 3, 1])
"""Which inputs have their mask in common."""
TOGETHER = GROUPS[:, None] == GROUPS


def moment_of(seed, size=6):
    samples = np.random.default_rng(seed).normal(size=(50, size))
    samples[:, 1:] += 0.7 * samples[:, :1]
    return samples.T @ samples / len(samples)


def masks(seed):
    """A mask per input, alike within each group."""
    values = np.random.default_rng(seed).uniform(0.1, 0.95, GROUPS.max() + 1)
    return values[GROUPS]


def computed(moment, mask, together=TOGETHER):
    tensors = [ops.convert_to_tensor(x, "float32") for x in (moment, mask)]
    result = compensation(tensors[0], together, tensors[1])
    return np.asarray(ops.convert_to_numpy(result), float)


def compensated(moment, mask, matrix):
    return matrix - computed(moment, mask) @ ((1 - mask)[:, None] * matrix)


def fitted(moment, mask, matrix):
    """The best matrix over all outcomes of what is there, enumerated."""
    inputs, cross = np.zeros_like(moment), np.zeros_like(moment)
    probability = [mask[group == GROUPS][0] for group in range(max(GROUPS) + 1)]
    for outcome in itertools.product([0.0, 1.0], repeat=len(probability)):
        weight = np.prod(
            [p if x else 1 - p for p, x in zip(probability, outcome)]
        )
        there = np.array(outcome)[GROUPS]
        inputs += weight * np.outer(there, there) * moment
        cross += weight * there[:, None] * moment
    # What is there reads the fit, in the mean with the probability of a mask.
    return mask[:, None] * np.linalg.solve(inputs, cross @ matrix)


@pytest.mark.parametrize("seed", range(5))
def test_the_matrix_is_the_best_over_all_outcomes(seed):
    moment, mask = moment_of(seed), masks(seed)
    matrix = np.random.default_rng(seed).normal(size=(6, 4))
    np.testing.assert_allclose(
        compensated(moment, mask, matrix),
        fitted(moment, mask, matrix),
        atol=1e-4,
    )


def test_masks_of_zero_and_one_give_the_fit_of_what_stays():
    samples = np.random.default_rng(0).normal(size=(200, 6))
    samples[:, 1:] += 0.7 * samples[:, :1]
    matrix = np.random.default_rng(1).normal(size=(6, 4))
    mask = np.array([1, 1e-4, 1, 1, 1, 1e-4])
    stays = mask == 1
    expected = np.zeros_like(matrix)
    expected[stays] = np.linalg.lstsq(samples[:, stays], samples @ matrix)[0]
    moment = samples.T @ samples / len(samples)
    np.testing.assert_allclose(
        compensated(moment, mask, matrix), expected, atol=2e-3
    )


def test_inputs_without_correlation_are_masked_as_in_the_paper():
    moment, mask = np.diag(np.linspace(0.1, 3, 6)), masks(0)
    np.testing.assert_allclose(computed(moment, mask), np.eye(6), atol=1e-5)


def test_where_nothing_goes_nothing_changes():
    matrix = np.random.default_rng(1).normal(size=(6, 4))
    np.testing.assert_allclose(
        compensated(moment_of(0), np.ones(6), matrix), matrix, atol=1e-6
    )


@pytest.mark.parametrize("seed", range(3))
def test_it_tells_how_the_matrix_follows_the_masks(seed):
    moment, mask = moment_of(seed), masks(seed)
    matrix = np.random.default_rng(seed).normal(size=(6, 4))
    change = np.random.default_rng(9).normal(size=GROUPS.max() + 1)[GROUPS]
    ahead, behind = (
        fitted(moment, mask * (1 + step * change), matrix)
        for step in (1e-6, -1e-6)
    )
    now = fitted(moment, mask, matrix)
    np.testing.assert_allclose(
        computed(moment, mask) @ (change[:, None] * now),
        (ahead - behind) / 2e-6,
        atol=1e-3,
    )


def test_every_block_of_rows_is_weighed():
    moment = np.random.default_rng(0).normal(size=(3, 3)).astype("float32")
    matrix = np.random.default_rng(1).normal(size=(6, 2)).astype("float32")
    actual = weigh(ops.convert_to_tensor(moment), ops.convert_to_tensor(matrix))
    np.testing.assert_allclose(
        ops.convert_to_numpy(actual),
        np.kron(np.eye(2), moment) @ matrix,
        atol=1e-5,
    )
    assert weigh(None, matrix) is matrix
