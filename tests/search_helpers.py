"""Small models and data for the tests of the search."""

import keras
import numpy as np
from keras import layers

from keras_df.graph import analyze
from keras_df.search.factors import RIDGE
from keras_df.search.view import KernelView
from keras_df.search.wrapper import CompressibleLayer


def small_network(outputs=3):
    """Two convolutions around a shortcut, pooled; 8 x 8 x 3 inputs."""
    inputs = keras.Input((8, 8, 3))
    x = layers.Conv2D(8, 3, padding="same", name="stem")(inputs)
    x = layers.BatchNormalization(name="stem_bn")(x)
    x = layers.ReLU(name="stem_relu")(x)
    y = layers.Conv2D(12, 3, padding="same", name="inner")(x)
    y = layers.BatchNormalization(name="inner_bn")(y)
    y = layers.ReLU(name="inner_relu")(y)
    y = layers.Conv2D(8, 3, padding="same", name="outer")(y)
    x = layers.Add(name="add")([x, y])
    x = layers.GlobalAveragePooling2D(name="pool")(x)
    return keras.Model(inputs, layers.Dense(outputs, name="logits")(x))


def separable_data(samples=96, classes=3):
    """Images whose mean colour gives their class away."""
    rng = np.random.default_rng(0)
    labels = rng.integers(classes, size=samples)
    images = rng.normal(size=(samples, 8, 8, 3)).astype("float32")
    images += 2 * np.eye(3, dtype="float32")[labels][:, None, None]
    return images, labels


def compiled(search, learning_rate=2.5e-2, **options):
    """Compiles a search for classification from logits."""
    search.compile(
        optimizer=keras.optimizers.Adam(learning_rate),
        loss=keras.losses.SparseCategoricalCrossentropy(from_logits=True),
        metrics=["accuracy"],
        **options,
    )
    return search


def values(variables):
    """Copies of variables as arrays."""
    return [keras.ops.convert_to_numpy(v).copy() for v in variables]


def tall_layer():
    return layers.Conv2D(6, 3, name="layer")


def narrow_layer():
    return layers.Conv2D(4, 3, name="layer")


def wide_layer():
    return layers.Conv2D(24, 1, name="layer")


def separable_layer():
    return layers.SeparableConv2D(6, 3, depth_multiplier=2, name="layer")


def wrapped(layer, scheme=1, moment_size=None, scale=None):
    """Wraps a layer that reads 5 prunable channels; the wrapper, the graph."""
    inputs = keras.Input((6, 6, 3))
    x = layers.Conv2D(5, 1, name="before")(inputs)
    x = layers.GlobalAveragePooling2D()(layer(x))
    graph = analyze(keras.Model(inputs, layers.Dense(2)(x)))
    view = KernelView(
        graph.nodes["layer"],
        graph,
        graph.prunable,
        scheme,
        scale,
        moment_size,
    )
    return CompressibleLayer(layer, view), graph


def set_moment(wrapper):
    """Sets a random second moment; returns it in float64."""
    size = wrapper.view.moment_size
    samples = np.random.default_rng(0).normal(size=(4 * size, size))
    samples *= np.linspace(0.2, 2, size)
    moment = samples.T @ samples / len(samples)
    wrapper.moment.assign(moment)
    return moment


def set_mixing(wrapper):
    """Sets how columns go together at random; returns the root in float64."""
    size = wrapper.view.mixing_size
    if size is None:
        return None
    noise = np.random.default_rng(1).normal(size=(size, size))
    root = np.linalg.cholesky(noise @ noise.T + 0.5 * np.eye(size))
    wrapper.mixing.assign(root)
    return root


def mixed(matrix, root):
    """A matrix whose neighboring columns are mixed by a root, or None."""
    if root is None:
        return matrix
    blocks = np.eye(matrix.shape[1] // len(root))
    return matrix @ np.kron(blocks, root)


def root_of(moment):
    """The symmetric square root."""
    values, vectors = np.linalg.eigh(moment)
    return (vectors * np.sqrt(values)) @ vectors.T


def masked_matrix(wrapper, mask, moment=None):
    """Matrix of the masked kernel, by hand.

    With a moment, the normal equations of the kernel that reads inputs which
    are there with the probability of their mask, and vary a little.
    """
    view = wrapper.view
    kernel = np.asarray(keras.ops.convert_to_numpy(wrapper.kernel), float)
    (_, reads), (_, writes) = sorted(view.axes.items())
    if view.scheme == 2:
        height, width, inputs, outputs = kernel.shape
        kernel = kernel.transpose(0, 2, 3, 1).reshape(height, inputs, -1)
        writes = np.repeat(writes, width)
    matrix = kernel.reshape(-1, kernel.shape[-1]) * mask[writes]
    units = np.tile(reads, len(matrix) // len(reads))
    if moment is None:
        return mask[units][:, None] * matrix
    units, moment = units[: len(moment)], moment + RIDGE * np.eye(len(moment))
    together = units[:, None] == units
    there = mask[units]
    both = np.where(together, there, np.outer(there, there))
    fitted = np.linalg.solve(both * moment, there[:, None] * moment)
    blocks = np.eye(len(matrix) // len(moment))
    return np.kron(blocks, there[:, None] * fitted) @ matrix
