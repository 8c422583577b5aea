import keras
import numpy as np
import pytest
from keras import layers

from keras_df.graph import analyze
from keras_df.graph.scales import output_scales


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
