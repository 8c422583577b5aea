"""The relaxed kernel against float64 NumPy."""

import keras
import numpy as np
import pytest
from keras import layers
from keras import ops

from keras_df import SearchConfig
from keras_df.graph import analyze
from keras_df.search.wrapper import CompressibleLayer
from keras_df.search.wrapper import KernelView

TALL = layers.Conv2D(6, 3, name="layer")
WIDE = layers.Conv2D(24, 1, name="layer")
SEPARABLE = layers.SeparableConv2D(6, 3, depth_multiplier=2, name="layer")


def wrapped(layer, scheme=1, moment_size=None, scale=None, **options):
    """Wraps a copy of a layer that reads 5 prunable channels."""
    inputs = keras.Input((6, 6, 3))
    x = layers.Conv2D(5, 1, name="before")(inputs)
    layer = type(layer).from_config(layer.get_config())
    x = layers.GlobalAveragePooling2D()(layer(x))
    graph = analyze(keras.Model(inputs, layers.Dense(2)(x)))
    view = KernelView(
        graph.nodes["layer"], graph.units, scheme, scale, moment_size
    )
    return CompressibleLayer(layer, view, SearchConfig(**options)), graph


def array(tensor):
    return np.asarray(ops.convert_to_numpy(tensor), float)


def random_moment(size, seed=0):
    samples = np.random.default_rng(seed).normal(size=(4 * size, size))
    samples *= np.linspace(0.2, 2, size)
    return samples.T @ samples / len(samples)


def root_of(moment):
    values, vectors = np.linalg.eigh(moment)
    return (vectors * np.sqrt(values)) @ vectors.T


def masked_matrix(wrapper, mask):
    """Scheme 1 matrix of the masked kernel, by hand."""
    view = wrapper.view
    kernel = array(getattr(wrapper.layer, view.attribute))
    (_, reads), (_, writes) = sorted(view.axes.items())
    kernel = kernel * mask[reads][:, None] * mask[writes]
    return kernel.reshape(-1, kernel.shape[-1])


def thresholded(matrix, root, threshold):
    """Singular value thresholding of `root @ matrix`, mapped back."""
    blocks = np.kron(np.eye(len(matrix) // len(root)), root)
    u, sigma, vt = np.linalg.svd(blocks @ matrix, full_matrices=False)
    shrunk = np.maximum(sigma - threshold * sigma[0], 0)
    return np.linalg.solve(blocks, (u * shrunk) @ vt), sigma


@pytest.mark.parametrize("layer", [TALL, WIDE, SEPARABLE])
def test_nothing_removed_leaves_the_kernel_as_it_is(layer):
    wrapper, graph = wrapped(layer, shrinkage="svt")
    relaxed = wrapper.relax(ops.ones(graph.unit_count), 0.0, 5.0)
    kernel = array(getattr(wrapper.layer, wrapper.view.attribute))
    np.testing.assert_allclose(array(relaxed.kernel), kernel, atol=1e-5)


@pytest.mark.parametrize("threshold", [0.0, 0.2, 0.6])
@pytest.mark.parametrize("size", [None, 5, 45])
@pytest.mark.parametrize("layer", [TALL, WIDE])
def test_thresholding_in_the_metric_of_the_inputs(layer, size, threshold):
    if layer is WIDE and size == 45:
        pytest.skip("a 1 x 1 kernel reads 5 values")
    wrapper, graph = wrapped(layer, moment_size=size, shrinkage="svt")
    moment = np.eye(5) if size is None else random_moment(size)
    if size is not None:
        wrapper.set_moment(moment)
    mask = np.random.default_rng(1).uniform(0.3, 1, graph.unit_count)
    relaxed = wrapper.relax(
        ops.convert_to_tensor(mask, "float32"), threshold, 5.0
    )
    expected, sigma = thresholded(
        masked_matrix(wrapper, mask), root_of(moment), threshold
    )
    actual = array(relaxed.kernel).reshape(expected.shape)
    np.testing.assert_allclose(actual, expected, atol=2e-4)
    rank = np.tanh(np.maximum(sigma / sigma[0] - threshold, 0) * 5.0).sum()
    assert array(relaxed.rank) == pytest.approx(rank, rel=1e-3)


def test_output_scales_weigh_the_error_and_are_taken_back():
    scale = np.linspace(0.1, 3.0, 6)
    wrapper, graph = wrapped(TALL, scale=scale, shrinkage="svt")
    relaxed = wrapper.relax(ops.ones(graph.unit_count), 0.3, 5.0)
    matrix = array(wrapper.layer.kernel).reshape(-1, 6)
    expected, _ = thresholded(matrix * scale, np.eye(45), 0.3)
    np.testing.assert_allclose(
        array(relaxed.kernel).reshape(-1, 6), expected / scale, atol=1e-4
    )


def test_steep_tanh_gains_truncate():
    wrapper, graph = wrapped(TALL, shrinkage="tanh")
    relaxed = wrapper.relax(ops.ones(graph.unit_count), 0.5, 1e5)
    matrix = array(wrapper.layer.kernel).reshape(-1, 6)
    u, sigma, vt = np.linalg.svd(matrix, full_matrices=False)
    rank = int((sigma > 0.5 * sigma[0]).sum())
    expected = (u[:, :rank] * sigma[:rank]) @ vt[:rank]
    np.testing.assert_allclose(
        array(relaxed.kernel).reshape(-1, 6), expected, atol=1e-4
    )
    assert array(relaxed.rank) == pytest.approx(rank, abs=1e-3)


def test_scheme_2_thresholds_the_other_matrix():
    wrapper, graph = wrapped(TALL, scheme=2, shrinkage="svt")
    relaxed = wrapper.relax(ops.ones(graph.unit_count), 0.4, 5.0)
    kernel = array(wrapper.layer.kernel)
    matrix = kernel.transpose(2, 0, 3, 1).reshape(15, 18)
    expected, _ = thresholded(matrix, np.eye(15), 0.4)
    actual = array(relaxed.kernel).transpose(2, 0, 3, 1).reshape(15, 18)
    np.testing.assert_allclose(actual, expected, atol=1e-4)


def test_a_dense_layer_is_masked_only():
    wrapper, graph = wrapped(TALL, scheme=None)
    mask = np.linspace(0, 1, graph.unit_count)
    relaxed = wrapper.relax(ops.convert_to_tensor(mask, "float32"), None, 5.0)
    assert relaxed.rank is None
    expected = masked_matrix(wrapper, mask)
    np.testing.assert_allclose(
        array(relaxed.kernel).reshape(expected.shape), expected, atol=1e-6
    )


def test_the_layer_runs_with_the_relaxed_kernel_and_keeps_its_own():
    wrapper, graph = wrapped(SEPARABLE)
    images = np.random.default_rng(0).normal(size=(2, 6, 6, 5))
    images = images.astype("float32")
    plain = array(wrapper(images))
    mask = np.ones(graph.unit_count, "float32")
    mask[wrapper.view.axes[2][:2]] = 0.0
    wrapper.use(wrapper.relax(ops.convert_to_tensor(mask), None, 5.0))
    masked = array(wrapper(images))
    wrapper.use(None)
    silent = images * mask[wrapper.view.axes[2][::2]]
    np.testing.assert_allclose(masked, array(wrapper(silent)), atol=1e-5)
    np.testing.assert_array_equal(array(wrapper(images)), plain)
