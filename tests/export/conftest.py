import keras
import numpy as np
import pytest
from keras import layers


@pytest.fixture(autouse=True)
def only_on_tensorflow():
    if keras.backend.backend() != "tensorflow":
        pytest.skip("only the TensorFlow backend exports")


@pytest.fixture
def two_inputs():
    """Two inputs of one shape that must not be mistaken for each other."""
    small, big = keras.Input((6,), name="small"), keras.Input((6,), name="big")
    first = layers.Dense(4, name="first")(big)
    second = layers.Dense(4, name="second")(small)
    outputs = [
        layers.Subtract(name="difference")([first, second]),
        layers.Dense(3, name="other")(first),
    ]
    return keras.Model([small, big], outputs, name="two_inputs")


@pytest.fixture
def images():
    return (
        np.random.default_rng(1).uniform(size=(32, 8, 8, 3)).astype("float32")
    )


@pytest.fixture
def augmenting_model():
    """A classifier whose first layers change images while it trains."""
    augmentation = keras.Sequential(
        [layers.RandomFlip(), layers.RandomRotation(0.2)], name="augmentation"
    )
    return keras.Sequential(
        [
            keras.Input((8, 8, 3), name="image"),
            augmentation,
            layers.RandomZoom(0.3),
            layers.RandomContrast(0.5),
            layers.RandomTranslation(0.3, 0.3),
            layers.RandomBrightness(0.5, value_range=(0, 1)),
            layers.Flatten(),
            layers.Dense(4),
        ]
    )
