"""Small models that many tests share."""

import keras
import numpy as np
import pytest
from keras import layers
from keras import ops


@pytest.fixture(autouse=True)
def seeded():
    keras.utils.set_random_seed(0)


@pytest.fixture
def residual_model():
    """A ResNet in small: Add, BatchNormalization, an option-A shortcut."""
    inputs = keras.Input((8, 8, 3), name="image")
    x = layers.Conv2D(8, 3, padding="same", use_bias=False, name="stem")(inputs)
    x = layers.BatchNormalization(name="stem_bn")(x)
    x = layers.ReLU(name="stem_relu")(x)
    x = _block(x, 8, 1, "block1")
    x = _block(x, 16, 2, "block2")
    x = _block(x, 16, 1, "block3")
    x = layers.GlobalAveragePooling2D(name="pool")(x)
    outputs = layers.Dense(5, name="logits")(x)
    model = keras.Model(inputs, outputs, name="residual")
    _randomize_norms(model)
    return model


@pytest.fixture
def chain_model():
    """Convolutions of several kinds in a row, and two Dense layers."""
    model = keras.Sequential(
        [
            keras.Input((8, 8, 3)),
            layers.Conv2D(8, 3, padding="same", name="conv"),
            layers.BatchNormalization(name="bn"),
            layers.Activation("relu", name="relu"),
            layers.DepthwiseConv2D(3, padding="same", name="depthwise"),
            layers.SeparableConv2D(12, 3, strides=2, name="separable"),
            layers.MaxPooling2D(name="pool"),
            layers.Flatten(name="flatten"),
            layers.Dense(10, activation="relu", name="hidden"),
            layers.Dense(4, name="logits"),
        ],
        name="chain",
    )
    _randomize_norms(model)
    return model


def _block(x, filters, strides, name):
    shortcut = x
    if strides > 1:
        more = (filters - x.shape[-1]) // 2
        shortcut = ops.pad(
            x[:, ::strides, ::strides],
            [[0, 0], [0, 0], [0, 0], [more, more]],
        )
    for step, stride in ((1, strides), (2, 1)):
        x = layers.Conv2D(
            filters,
            3,
            stride,
            padding="same",
            use_bias=False,
            name=f"{name}_conv{step}",
        )(x)
        x = layers.BatchNormalization(name=f"{name}_bn{step}")(x)
        if step == 1:
            x = layers.ReLU(name=f"{name}_relu1")(x)
    x = layers.Add(name=f"{name}_add")([x, shortcut])
    return layers.ReLU(name=f"{name}_relu2")(x)


def _randomize_norms(model):
    rng = np.random.default_rng(0)
    for layer in model.layers:
        if isinstance(layer, layers.BatchNormalization):
            for weight in layer.weights:
                weight.assign(rng.uniform(0.5, 1.5, weight.shape))
