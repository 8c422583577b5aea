import numpy as np
import pytest
from keras import layers
from keras import ops
from search_helpers import masked_matrix
from search_helpers import tall_layer
from search_helpers import wide_layer
from search_helpers import wrapped

from keras_df.search.view import KernelView


def widening_layer():
    return layers.Conv2D(24, 3, name="layer")


@pytest.mark.parametrize(
    "layer, scheme",
    [(tall_layer, 1), (tall_layer, 2), (wide_layer, 1), (widening_layer, 2)],
)
def test_a_kernel_unfolds_and_folds_back(layer, scheme):
    wrapper, _ = wrapped(layer(), scheme)
    view = wrapper.view
    matrix = view.matrix(wrapper.kernel)
    assert matrix.shape == view.matrix_shape
    assert view.is_wide == (matrix.shape[0] < matrix.shape[1])
    np.testing.assert_array_equal(
        ops.convert_to_numpy(view.kernel(matrix)),
        ops.convert_to_numpy(wrapper.kernel),
    )


@pytest.mark.parametrize("scheme", [1, 2])
def test_every_row_and_column_knows_its_channel(scheme):
    """Marks each channel of a kernel by a number of its own."""
    view = wrapped(tall_layer(), scheme)[0].view
    reads = np.broadcast_to(np.arange(5)[:, None], (3, 3, 5, 6))
    writes = np.broadcast_to(np.arange(6), (3, 3, 5, 6))
    rows = view.channels(view.rows)[2]
    columns = view.channels(view.columns)[3]
    of_rows = ops.convert_to_numpy(view.matrix(reads.astype("float32")))
    of_columns = ops.convert_to_numpy(view.matrix(writes.astype("float32")))
    assert (of_rows == rows[:, None]).all()
    assert (of_columns == columns).all()


def test_masks_scale_inputs_and_outputs():
    wrapper, graph = wrapped(tall_layer())
    mask = np.random.default_rng(0).uniform(size=graph.unit_count)
    kernel = wrapper.view.masked(
        wrapper.kernel, ops.convert_to_tensor(mask, "float32")
    )
    expected = masked_matrix(wrapper, mask)
    np.testing.assert_allclose(
        ops.convert_to_numpy(kernel).reshape(expected.shape),
        expected,
        atol=1e-6,
    )


def test_only_the_share_of_the_largest_scale_counts():
    scale = np.array([1.0, 2, 3, 4, 5, 10])
    view = wrapped(tall_layer(), scale=scale)[0].view
    np.testing.assert_allclose(view.scale, scale / 10, rtol=1e-6)
    view = wrapped(tall_layer(), scheme=2, scale=scale)[0].view
    np.testing.assert_allclose(view.scale, np.repeat(scale / 10, 3), rtol=1e-6)


@pytest.mark.parametrize(
    "scheme, size", [(1, 5), (1, 45), (2, 5), (2, 15), (None, 45)]
)
def test_inputs_of_the_moment_know_their_units(scheme, size):
    view = wrapped(tall_layer(), scheme, size)[0].view
    expected = np.resize(view.axes[2], size)
    np.testing.assert_array_equal(view.reads, expected)
    assert view.is_matrix


@pytest.mark.parametrize("scheme", [1, 2, None])
def test_without_a_moment_nothing_makes_up_for_what_goes(scheme):
    view = wrapped(tall_layer(), scheme)[0].view
    assert view.reads is None and view.moment_size is None
    assert view.is_matrix == (scheme is not None)


@pytest.mark.parametrize("scheme", [1, None])
def test_inputs_that_all_stay_need_no_compensation(scheme):
    graph = wrapped(tall_layer())[1]
    stay = np.zeros(graph.unit_count, bool)
    node = graph.nodes["layer"]
    view = KernelView(node, graph, stay, scheme, moment_size=45)
    assert view.reads is None
    assert view.moment_size == (45 if scheme else None)
