"""Small models and numerical gradients that many tests share."""

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


@pytest.fixture
def gradients():
    """A function `(f, *arrays)` -> gradients of a scalar `f`, as arrays."""
    if keras.backend.backend() == "jax":
        return _jax_gradients
    return _tensorflow_gradients


def _tensorflow_gradients(function, *arrays):
    import tensorflow as tf

    values = [tf.constant(x, "float32") for x in arrays]
    with tf.GradientTape() as tape:
        tape.watch(values)
        result = function(*values)
    zero = tf.UnconnectedGradients.ZERO
    found = tape.gradient(result, values, unconnected_gradients=zero)
    return [np.asarray(x) for x in found]


def _jax_gradients(function, *arrays):
    import jax

    values = [np.asarray(x, "float32") for x in arrays]
    positions = tuple(range(len(values)))
    return [np.asarray(x) for x in jax.grad(function, positions)(*values)]


@pytest.fixture
def differences():
    """A function `(f, *arrays)` -> central differences of a scalar `f`."""
    return _differences


def _differences(function, *arrays, step=1e-6):
    arrays = [np.array(x, float) for x in arrays]
    return [_difference(function, arrays, x, step) for x in arrays]


def _difference(function, arrays, moved, step):
    result = np.zeros_like(moved)
    for index in np.ndindex(moved.shape):
        value = moved[index]
        moved[index] = value + step
        above = function(*arrays)
        moved[index] = value - step
        result[index] = (above - function(*arrays)) / (2 * step)
        moved[index] = value
    return result
