"""The shapes that an analysis counts with."""

import keras
import numpy as np
import pytest
from keras import layers

from keras_df.graph.channels import Channels
from keras_df.graph.shapes import Shapes
from keras_df.graph.shapes import declared
from keras_df.graph.shapes import sizes_to_try


@pytest.mark.parametrize(
    "shapes, sizes",
    [
        ([(8, 8, 3)], [224, 1024, 16384]),
        ([(None, 3), (None,)], [224, 1024, 16384]),
        ([(5,), (None, None, 3)], [224, 1024]),
        ([(None, None, None, 3)], [224]),
    ],
)
def test_sizes_that_would_make_an_input_huge_are_not_tried(shapes, sizes):
    inputs = [keras.Input(shape) for shape in shapes]
    assert sizes_to_try(inputs) == sizes


def test_a_size_that_is_too_small_for_a_layer_does_not_fit():
    layer = layers.Conv1D(4, 9)
    inputs = keras.Input((None, 3))
    layer(inputs)
    for size, fit in ((9, True), (8, False)):
        shapes = Shapes(size)
        outputs = shapes.outputs(layer, (shapes.read(inputs),), {})
        assert keras.tree.flatten(outputs)[0].shape == (
            None,
            1 if fit else 8,
            4,
        )
        assert shapes.fit is fit


@pytest.mark.parametrize(
    "own, expected",
    [
        ((8, 8, 3), (None, 8, 8, 3)),
        ((8, None, 3), (None, 8, 224, 3)),
        ((8, 8, 3, 1), (None, 224, 224, 3)),
    ],
)
def test_sizes_that_a_nested_model_declares(own, expected):
    tensor = Channels((None, 224, 224, 3), 3, np.arange(3))
    assert declared(tensor, keras.Input(own)).shape == expected


def test_channels_of_an_assumed_size_stay_as_they_are():
    tensor = Channels((None, 448), 1, np.arange(448))
    assert declared(tensor, keras.Input((16,))) is tensor
