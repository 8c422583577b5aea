"""Factors of masked kernels against float64 NumPy."""

import numpy as np
import pytest
from search_helpers import masked_matrix
from search_helpers import mixed
from search_helpers import narrow_layer
from search_helpers import root_of
from search_helpers import separable_layer
from search_helpers import set_mixing
from search_helpers import set_moment
from search_helpers import tall_layer
from search_helpers import wide_layer
from search_helpers import wrapped

from keras_df.search.factors import factorize
from keras_df.search.factors import singular_values

CASES = {
    "tall": (tall_layer, None, None),
    "tall, Scheme 2": (narrow_layer, None, np.linspace(0.2, 3, 4), 2),
    "tall, moment of columns": (narrow_layer, 15, None, 2),
    "wide, moment of columns": (tall_layer, 15, np.linspace(0.2, 3, 6), 2),
    "tall, shared moment": (tall_layer, 5, None),
    "tall, moment of patches": (tall_layer, 45, None),
    "tall, scaled outputs": (tall_layer, 5, np.linspace(0.2, 3, 6)),
    "wide": (wide_layer, None, None),
    "wide, moment": (wide_layer, 5, None),
    "wide, scaled outputs": (wide_layer, 5, np.linspace(0.2, 3, 24)),
    "separable": (separable_layer, 10, np.linspace(0.2, 3, 6)),
}
cases = pytest.mark.parametrize("case", CASES.values(), ids=CASES.keys())


def prepared(layer, size, scale, scheme=1):
    """Wrapper, moment in float64, random masks of all units."""
    wrapper, graph = wrapped(layer(), scheme, size, scale)
    moment = None if size is None else set_moment(wrapper)
    set_mixing(wrapper)
    mask = np.random.default_rng(3).uniform(0.2, 1, graph.unit_count)
    return wrapper, moment, mask


def by_axis(wrapper, mask):
    return {
        axis: mask[units].astype("float32")
        for axis, units in wrapper.view.axes.items()
    }


def weighted(matrix, wrapper, moment):
    """A matrix in the metric of the inputs and outputs of the kernel."""
    matrix = mixed(matrix * wrapper.metric.scale, wrapper.metric.mixing)
    if moment is None:
        return matrix
    blocks = np.eye(len(matrix) // len(moment))
    return np.kron(blocks, root_of(moment)) @ matrix


def weighted_matrix(wrapper, moment, mask):
    return weighted(masked_matrix(wrapper, mask, moment), wrapper, moment)


def arguments(wrapper, mask):
    return (
        wrapper.view,
        wrapper.kernel,
        wrapper.metric,
        by_axis(wrapper, mask),
    )


@cases
def test_the_factors_are_the_masked_kernel(case):
    wrapper, moment, mask = prepared(*case)
    factors = factorize(*arguments(wrapper, mask))
    expected = masked_matrix(wrapper, mask, moment)
    np.testing.assert_allclose(
        factors.left @ factors.right, expected, atol=1e-4
    )


@cases
def test_dropping_directions_is_the_best_approximation(case):
    """As the Eckart-Young theorem has it, in the metric."""
    wrapper, moment, mask = prepared(*case)
    factors = factorize(*arguments(wrapper, mask))
    approximation = factors.left[:, 2:] @ factors.right[2:]
    error = masked_matrix(wrapper, mask, moment) - approximation
    error = weighted(error, wrapper, moment)
    matrix = weighted_matrix(wrapper, moment, mask)
    sigma = np.linalg.svd(matrix, compute_uv=False)
    assert np.linalg.norm(error) == pytest.approx(
        np.linalg.norm(sigma[-2:]), rel=1e-3
    )


@cases
def test_singular_values_are_those_of_an_svd_in_float64(case):
    wrapper, moment, mask = prepared(*case)
    matrix = weighted_matrix(wrapper, moment, mask)
    expected = np.linalg.svd(matrix, compute_uv=False)[::-1]
    for actual in (
        factorize(*arguments(wrapper, mask)).sigma,
        singular_values(*arguments(wrapper, mask)),
    ):
        np.testing.assert_allclose(
            actual, expected, rtol=1e-3, atol=1e-3 * expected[-1]
        )


@cases
def test_slopes_are_the_differences_of_singular_values(case):
    wrapper, moment, mask = prepared(*case)
    slopes = factorize(*arguments(wrapper, mask)).slopes
    units = np.concatenate(list(wrapper.view.axes.values()))
    for unit in np.unique(units):
        sigma = []
        for step in (1e-6, -1e-6):
            moved = mask.copy()
            moved[unit] += step
            matrix = weighted_matrix(wrapper, moment, moved)
            sigma.append(np.linalg.svd(matrix, compute_uv=False)[::-1])
        # A unit may be several channels, as in a SeparableConv2D.
        np.testing.assert_allclose(
            slopes[:, units == unit].sum(axis=1),
            (sigma[0] - sigma[1]) / 2e-6,
            rtol=2e-2,
            atol=2e-3,
        )


def test_singular_values_of_a_kernel_masked_to_zero_are_zero():
    wrapper, _, mask = prepared(tall_layer, None, None)
    sigma = singular_values(*arguments(wrapper, 0 * mask))
    np.testing.assert_array_equal(sigma, 0)
