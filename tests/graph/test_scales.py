import keras
import numpy as np
import pytest
from keras import layers

from keras_df.graph import analyze
from keras_df.graph.scales import column_scales
from keras_df.graph.scales import output_scales
from keras_df.ops import matricize


def scales(gamma, variance):
    inputs = keras.Input((4, 4, 3))
    x = layers.Conv2D(len(gamma), 1, name="conv")(inputs)
    norm = layers.BatchNormalization()
    model = keras.Model(inputs, norm(x))
    norm.gamma.assign(gamma)
    norm.moving_variance.assign(variance)
    return output_scales(analyze(model))["conv"]


def test_an_output_counts_as_its_normalization_scales_it():
    found = scales([2.0, -3.0], [3.999, 0.999])
    np.testing.assert_allclose(found, [1.0, 3.0], rtol=1e-6)


@pytest.mark.parametrize(
    "gamma, expected", [([0.0, 2.0], [2e-3, 2.0]), ([0.0, 0.0], [1.0, 1.0])]
)
def test_a_silent_output_has_a_finite_inverse(gamma, expected):
    found = scales(gamma, [0.999, 0.999])
    np.testing.assert_allclose(found, expected, rtol=1e-6)


@pytest.mark.parametrize(
    "layer, scheme",
    [
        (layers.Conv2D(5, (3, 2)), 1),
        (layers.Conv2D(5, (3, 2)), 2),
        (layers.Conv2DTranspose(5, (3, 2)), 1),
        (layers.Dense(5), 1),
    ],
)
def test_scaling_columns_is_scaling_what_the_kernel_writes(layer, scheme):
    inputs = keras.Input((6, 6, 4))
    model = keras.Model(inputs, layer(inputs))
    node = analyze(model).nodes[layer.path]
    scale = np.arange(1.0, 6.0)
    by_columns = column_scales(node, scheme, scale)
    kernel = np.asarray(layer.kernel)
    outputs = 2 if isinstance(layer, layers.Conv2DTranspose) else -1
    scaled = np.moveaxis(np.moveaxis(kernel, outputs, -1) * scale, -1, outputs)
    axes = node.kernel.schemes[scheme]
    np.testing.assert_allclose(
        matricize(kernel, *axes) * by_columns,
        matricize(scaled, *axes),
        rtol=1e-6,
    )


def test_outputs_that_count_alike_scale_nothing():
    inputs = keras.Input((4,))
    layer = layers.Dense(3)
    graph = analyze(keras.Model(inputs, layer(inputs)))
    assert column_scales(graph.nodes[layer.path], 1, None) is None
