"""Small models and data for the tests of the search."""

import keras
import numpy as np
from keras import layers


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


def compiled(search, learning_rate=5e-2, **options):
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
