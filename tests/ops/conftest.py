import keras
import numpy as np
import pytest


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
    return [np.asarray(x) for x in tape.gradient(result, values)]


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
