"""Relaxed kernels against float64 NumPy."""

import numpy as np
import pytest
from keras import ops
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

from keras_df import SearchConfig
from keras_df.search.exact import ExactRelaxation

spectra = pytest.mark.parametrize("spectra", ["exact", "svd"])


def array(tensor):
    return np.asarray(ops.convert_to_numpy(tensor), float)


def relaxed(wrapper, mask, threshold, steepness=5.0, **options):
    """Kernel, as an array, and soft rank of one layer."""
    relaxation = ExactRelaxation([wrapper], SearchConfig(**options))
    relaxation.refresh()
    (kernel,), ranks = relaxation.relax(
        ops.convert_to_tensor(mask, "float32"),
        ops.convert_to_tensor([threshold], "float32"),
        steepness,
    )
    return array(kernel), array(ranks)


def thresholded(matrix, root, threshold):
    """Singular value thresholding of `root @ matrix`, mapped back."""
    blocks = np.kron(np.eye(len(matrix) // len(root)), root)
    u, sigma, vt = np.linalg.svd(blocks @ matrix, full_matrices=False)
    shrunk = np.maximum(sigma - threshold * sigma[0], 0)
    return np.linalg.solve(blocks, (u * shrunk) @ vt), sigma


@spectra
@pytest.mark.parametrize("layer", [tall_layer, wide_layer, separable_layer])
def test_nothing_removed_leaves_the_kernel_as_it_is(layer, spectra):
    wrapper, graph = wrapped(layer())
    kernel, _ = relaxed(
        wrapper,
        np.ones(graph.unit_count),
        0.0,
        shrinkage="svt",
        spectra=spectra,
    )
    np.testing.assert_allclose(kernel, array(wrapper.kernel), atol=1e-5)


@spectra
@pytest.mark.parametrize("threshold", [0.0, 0.2, 0.6])
@pytest.mark.parametrize(
    "layer, size",
    [
        (tall_layer, None),
        (tall_layer, 5),
        (tall_layer, 45),
        (wide_layer, None),
        (wide_layer, 5),
    ],
)
def test_thresholding_in_the_metric_of_the_inputs(
    layer, size, threshold, spectra
):
    wrapper, graph = wrapped(layer(), moment_size=size)
    moment = None if size is None else set_moment(wrapper)
    mask = np.random.default_rng(1).uniform(0.3, 1, graph.unit_count)
    kernel, rank = relaxed(
        wrapper, mask, threshold, shrinkage="svt", spectra=spectra
    )
    root = np.eye(5) if moment is None else root_of(moment)
    expected, sigma = thresholded(
        masked_matrix(wrapper, mask, moment), root, threshold
    )
    np.testing.assert_allclose(
        kernel.reshape(expected.shape), expected, atol=2e-4
    )
    soft_rank = np.tanh(np.maximum(sigma / sigma[0] - threshold, 0) * 5.0).sum()
    assert rank == pytest.approx(soft_rank, rel=1e-3)


@spectra
def test_output_scales_weigh_the_error_and_are_taken_back(spectra):
    scale = np.linspace(0.1, 3.0, 6)
    wrapper, graph = wrapped(tall_layer(), scale=scale)
    kernel, _ = relaxed(
        wrapper,
        np.ones(graph.unit_count),
        0.3,
        shrinkage="svt",
        spectra=spectra,
    )
    matrix = array(wrapper.kernel).reshape(-1, 6)
    expected, _ = thresholded(matrix * scale, np.eye(45), 0.3)
    np.testing.assert_allclose(
        kernel.reshape(-1, 6), expected / scale, atol=1e-4
    )


@spectra
def test_steep_tanh_gains_truncate(spectra):
    wrapper, graph = wrapped(tall_layer())
    kernel, soft_rank = relaxed(
        wrapper,
        np.ones(graph.unit_count),
        0.5,
        1e5,
        shrinkage="tanh",
        spectra=spectra,
    )
    matrix = array(wrapper.kernel).reshape(-1, 6)
    u, sigma, vt = np.linalg.svd(matrix, full_matrices=False)
    rank = int((sigma > 0.5 * sigma[0]).sum())
    expected = (u[:, :rank] * sigma[:rank]) @ vt[:rank]
    np.testing.assert_allclose(kernel.reshape(-1, 6), expected, atol=1e-4)
    assert soft_rank == pytest.approx(rank, abs=1e-3)


@spectra
@pytest.mark.parametrize("size", [None, 5, 15])
@pytest.mark.parametrize("layer", [tall_layer, narrow_layer])
def test_scheme_2_thresholds_the_other_matrix(layer, size, spectra):
    wrapper, graph = wrapped(layer(), scheme=2, moment_size=size)
    moment = None if size is None else set_moment(wrapper)
    mixing = set_mixing(wrapper)
    mask = np.random.default_rng(1).uniform(0.3, 1, graph.unit_count)
    kernel, _ = relaxed(wrapper, mask, 0.4, shrinkage="svt", spectra=spectra)
    matrix = mixed(masked_matrix(wrapper, mask, moment), mixing)
    root = np.eye(15) if moment is None else root_of(moment)
    expected, _ = thresholded(matrix, root, 0.4)
    if mixing is not None:
        expected = mixed(expected, np.linalg.inv(mixing))
    actual = kernel.transpose(0, 2, 3, 1).reshape(expected.shape)
    np.testing.assert_allclose(actual, expected, atol=2e-4)


def test_a_dense_layer_is_masked_only():
    wrapper, graph = wrapped(tall_layer(), scheme=None)
    mask = np.linspace(0, 1, graph.unit_count)
    kernel, ranks = relaxed(wrapper, mask, 0.5, spectra="exact")
    assert ranks.size == 0
    expected = masked_matrix(wrapper, mask)
    np.testing.assert_allclose(
        kernel.reshape(expected.shape), expected, atol=1e-6
    )


@pytest.mark.parametrize("shrinkage", ["tanh", "svt"])
@pytest.mark.parametrize("layer", [tall_layer, wide_layer])
def test_gradients_are_those_of_the_svd(layer, shrinkage, gradients):
    wrapper, graph = wrapped(layer())
    mask = np.linspace(0.4, 1.0, graph.unit_count)
    weights = np.random.default_rng(2).normal(size=wrapper.kernel.shape)

    def gradients_by(spectra):
        config = SearchConfig(shrinkage=shrinkage, spectra=spectra)
        relaxation = ExactRelaxation([wrapper], config)
        relaxation.refresh()

        def loss(mask, thresholds):
            (kernel,), ranks = relaxation.relax(mask, thresholds, 5.0)
            return ops.sum(kernel * weights.astype("float32")) + ops.sum(ranks)

        return gradients(loss, mask, np.array([0.3]))

    for got, wanted in zip(*map(gradients_by, ("exact", "svd")), strict=True):
        np.testing.assert_allclose(got, wanted, rtol=1e-3, atol=2e-3)
