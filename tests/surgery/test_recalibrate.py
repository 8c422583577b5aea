import keras
import numpy as np
import pytest
from keras import layers

import keras_df as kdf


def normalized(trainable=True):
    inputs = keras.Input((4, 4, 3))
    norm = layers.BatchNormalization(name="norm", trainable=trainable)
    return keras.Model(inputs, norm(inputs))


def data(batches=5):
    rng = np.random.default_rng(0)
    return rng.normal(3, 2, size=(batches * 16, 4, 4, 3)).astype("float32")


@pytest.mark.parametrize("trainable", [True, False])
def test_statistics_become_those_of_the_data(trainable):
    model = normalized(trainable)
    x = data()
    kdf.recalibrate(model, [x[i : i + 16] for i in range(0, 80, 16)])
    norm = model.get_layer("norm")
    np.testing.assert_allclose(
        np.asarray(norm.moving_mean), x.mean((0, 1, 2)), rtol=1e-4
    )
    np.testing.assert_allclose(
        np.asarray(norm.moving_variance), x.var((0, 1, 2)), rtol=1e-4
    )
    assert norm.momentum == 0.99
    assert norm.trainable is trainable


def test_only_as_many_steps_as_asked_for():
    model = normalized()
    x = data()
    batches = [x[i : i + 16] for i in range(0, 80, 16)]
    kdf.recalibrate(model, batches, steps=2)
    np.testing.assert_allclose(
        np.asarray(model.get_layer("norm").moving_mean),
        x[:32].mean((0, 1, 2)),
        rtol=1e-4,
    )


def test_other_weights_do_not_change():
    model = normalized()
    gamma = np.asarray(model.get_layer("norm").gamma).copy()
    kdf.recalibrate(model, data())
    np.testing.assert_array_equal(
        gamma, np.asarray(model.get_layer("norm").gamma)
    )


def test_nan_is_refused_and_the_statistics_stay():
    model = normalized()
    kdf.recalibrate(model, data())
    before = np.asarray(model.get_layer("norm").moving_mean).copy()
    bad = data()
    bad[0, 0, 0, 0] = np.nan
    with pytest.raises(ValueError, match="not finite"):
        kdf.recalibrate(model, bad)
    np.testing.assert_array_equal(
        before, np.asarray(model.get_layer("norm").moving_mean)
    )
    assert model.get_layer("norm").momentum == 0.99


def test_a_model_without_batch_normalization_is_left_alone():
    inputs = keras.Input((4,))
    kdf.recalibrate(keras.Model(inputs, layers.Dense(2)(inputs)), data())
