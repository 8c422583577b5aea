import numpy as np
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
    np.testing.assert_array_equal(wrapper.moment_array, np.eye(10))
    assert any(weight is wrapper.moment for weight in wrapper.weights)
    assert wrapped(separable_layer())[0].moment_array is None
