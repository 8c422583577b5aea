"""Kernels between two renewals, against themselves renewed."""

import numpy as np
import pytest
from keras import ops
from search_helpers import set_moment
from search_helpers import tall_layer
from search_helpers import wide_layer
from search_helpers import wrapped

from keras_df.search.cached_kernel import CachedKernel
from keras_df.search.cached_kernel import CachedPair

CASES = {
    "dense": (CachedKernel, tall_layer, None, 5),
    "dense, patches": (CachedKernel, tall_layer, None, 45),
    "pair, tall": (CachedPair, tall_layer, 1, 45),
    "pair, wide": (CachedPair, wide_layer, 1, 5),
    "pair, no moment": (CachedPair, tall_layer, 2, None),
}
cases = pytest.mark.parametrize("case", CASES.values(), ids=CASES.keys())


def prepared(kind, layer, scheme, size):
    wrapper, graph = wrapped(layer(), scheme, size)
    if size is not None:
        set_moment(wrapper)
    mask = np.random.default_rng(3).uniform(0.3, 0.9, graph.unit_count)
    return kind(wrapper), mask.astype("float32")


def by_axis(view, mask):
    return {axis: mask[units] for axis, units in view.axes.items()}


def kernel_at(cached, mask, renewed_at=None):
    """The kernel for masks, renewed for other ones; nothing thresholded."""
    renewed_at = mask if renewed_at is None else renewed_at
    cached.renew(by_axis(cached.view, renewed_at))
    sides = []
    for axes in (cached.view.rows, cached.view.columns):
        factor = np.ones(cached.view.size(axes), "float32")
        for axis, places in cached.view.channels(axes).items():
            factor *= (mask / renewed_at)[cached.view.axes[axis]][places]
        sides.append(ops.convert_to_tensor(factor))
    kernel = cached.relaxed(ops.ones((cached.rank,)), *sides)
    return np.asarray(ops.convert_to_numpy(kernel), float)


@cases
def test_kernels_follow_their_masks_to_first_order(case):
    """Half the way, a quarter of the error."""
    cached, mask = prepared(*case)
    step = np.random.default_rng(4).choice([-0.1, 0.1], mask.shape)
    errors = []
    for share in (1.0, 0.5):
        moved = (mask * (1 + share * step)).astype("float32")
        error = kernel_at(cached, moved, mask) - kernel_at(cached, moved)
        errors.append(np.linalg.norm(error))
    size = np.linalg.norm(kernel_at(cached, mask))
    assert errors[0] < 0.1 * size
    assert errors[1] < 0.3 * errors[0] + 1e-6 * size


@cases
def test_only_pairs_have_singular_values(case):
    cached, mask = prepared(*case)
    sigma = cached.renew(by_axis(cached.view, mask))
    assert sigma.shape == (cached.rank,)
    assert bool(cached.rank) == isinstance(cached, CachedPair)
    assert (np.diff(sigma) >= 0).all()


@cases
def test_before_it_is_renewed_a_kernel_is_whole(case):
    cached, _ = prepared(*case)
    ones = [ops.ones((size,)) for size in cached.view.matrix_shape]
    kernel = cached.relaxed(ops.ones((cached.rank,)), *ones)
    np.testing.assert_allclose(
        ops.convert_to_numpy(kernel),
        ops.convert_to_numpy(cached.wrapper.kernel),
        atol=1e-6,
    )
