import numpy as np
import pytest
from keras import layers
from keras import ops
from search_helpers import separable_layer
from search_helpers import wrapped


def test_the_layer_runs_with_the_relaxed_kernel_and_keeps_its_own():
    wrapper, graph = wrapped(separable_layer(), scheme=None)
    images = np.random.default_rng(0).normal(size=(2, 6, 6, 5))
    images = images.astype("float32")
    plain = ops.convert_to_numpy(wrapper(images))
    mask = np.ones(graph.unit_count, "float32")
    mask[wrapper.view.axes[2][:2]] = 0.0
    kernel = wrapper.view.masked(wrapper.kernel, ops.convert_to_tensor(mask))
    wrapper.use(kernel)
    masked = ops.convert_to_numpy(wrapper(images))
    wrapper.use(None)
    silent = images * mask[wrapper.view.axes[2][::2]]
    np.testing.assert_allclose(
        masked, ops.convert_to_numpy(wrapper(silent)), atol=1e-5
    )
    np.testing.assert_array_equal(ops.convert_to_numpy(wrapper(images)), plain)


def test_a_moment_is_a_weight_that_starts_as_the_identity():
    wrapper, _ = wrapped(separable_layer(), moment_size=10)
    np.testing.assert_array_equal(wrapper.metric.moment, np.eye(10))
    assert any(weight is wrapper.moment for weight in wrapper.weights)
    assert wrapped(separable_layer())[0].metric.moment is None


@pytest.mark.parametrize("shape", [(4, 5), (4, 3, 5)])
@pytest.mark.parametrize(
    "options", [{}, {"activation": "relu"}, {"use_bias": False}]
)
def test_a_dense_layer_runs_with_a_pair(shape, options):
    layer = layers.Dense(6, name="layer", **options)
    wrapper, _ = wrapped(layer)
    assert wrapper.takes_pairs
    rng = np.random.default_rng(0)
    x = rng.normal(size=shape).astype("float32")
    first, second = rng.normal(size=(5, 2)), rng.normal(size=(2, 6))
    pair = [ops.convert_to_tensor(a, "float32") for a in (first, second)]
    wrapper.use(tuple(pair))
    actual = ops.convert_to_numpy(wrapper(x))
    wrapper.use(None)
    layer.kernel.assign(first @ second)
    np.testing.assert_allclose(
        actual, ops.convert_to_numpy(layer(x)), rtol=1e-4, atol=1e-5
    )
