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


def statistics(norm):
    return np.asarray(norm.moving_mean), np.asarray(norm.moving_variance)


def test_every_sample_counts_the_same_in_batches_of_any_size():
    inputs = keras.Input((4,))
    norm = layers.BatchNormalization()
    model = keras.Model(inputs, norm(inputs))
    x = np.random.default_rng(0).normal(size=(129, 4)).astype("float32")
    x[-1] = 5.0  # The library itself reads 128 samples, and then this one.
    kdf.recalibrate(model, x)
    mean, variance = statistics(norm)
    np.testing.assert_allclose(mean, x.mean(0), atol=1e-5)
    np.testing.assert_allclose(variance, x.var(0), rtol=1e-4)


def test_every_call_of_a_shared_layer_counts():
    inputs = keras.Input((6, 6, 4))
    norm = layers.BatchNormalization()
    shifted = layers.Rescaling(1.0, offset=10.0)(inputs[:, :3])
    model = keras.Model(inputs, [norm(inputs), norm(shifted)])
    x = np.random.default_rng(0).normal(size=(8, 6, 6, 4)).astype("float32")
    kdf.recalibrate(model, x)
    seen = np.concatenate([x, x[:, :3] + 10], axis=1)
    mean, variance = statistics(norm)
    np.testing.assert_allclose(mean, seen.mean((0, 1, 2)), atol=1e-4)
    np.testing.assert_allclose(variance, seen.var((0, 1, 2)), rtol=1e-4)
    assert "call" not in vars(norm)


def test_a_layer_that_no_data_reaches_stays_as_it_is():
    class Unused(keras.Model):
        def __init__(self):
            super().__init__()
            self.norm = layers.BatchNormalization()
            self.idle = layers.BatchNormalization()
            self.idle.build((None, 4))

        def call(self, x, training=None):
            return self.norm(x, training=training)

    model = Unused()
    model(np.zeros((1, 4)))
    model.idle.moving_mean.assign(np.full(4, 7.0))
    kdf.recalibrate(model, np.ones((3, 4), "float32"))
    np.testing.assert_array_equal(statistics(model.idle)[0], 7.0)
    np.testing.assert_allclose(statistics(model.norm)[0], 1.0, rtol=1e-6)


def test_batches_are_read_one_at_a_time():
    alive = []

    def batches():
        for index in range(4):
            alive.append(index)
            yield np.ones((2, 4, 4, 3), "float32")

    model = normalized()
    norm = model.get_layer("norm")
    call, read = norm.call, []

    def record(*args, **kwargs):
        read.append(len(alive))
        return call(*args, **kwargs)

    norm.call = record
    kdf.recalibrate(model, batches(), steps=3)
    assert read == [1, 2, 3]


def test_positions_that_are_masked_do_not_count():
    inputs = keras.Input((7, 3))
    norm = layers.BatchNormalization()
    model = keras.Model(inputs, norm(layers.Masking()(inputs)))
    x = np.random.default_rng(0).normal(3, 2, (64, 7, 3)).astype("float32")
    x[:32, 5:] = 0
    x[32:, 2:] = 0
    kdf.recalibrate(model, [x[:32], x[32:]])
    seen = x[x.any(-1)]
    mean, variance = statistics(norm)
    np.testing.assert_allclose(mean, seen.mean(0), rtol=1e-5)
    np.testing.assert_allclose(variance, seen.var(0), rtol=1e-4)


class Counted(layers.Layer):
    """A layer that notes how many batches it was trained on."""

    def build(self, shape):
        self.seen = self.add_weight(name="seen", trainable=False)

    def call(self, x, training=None):
        if training:
            self.seen.assign(self.seen + 1)
        return x


def test_only_the_statistics_change():
    inputs = keras.Input((4, 4, 3))
    spectral = layers.SpectralNormalization(layers.Conv2D(8, 3))
    x = layers.Dropout(0.5)(Counted()(spectral(inputs)))
    norm = layers.BatchNormalization()
    model = keras.Model(inputs, norm(x))
    before = {x.path: np.asarray(x).copy() for x in model.variables}
    x = data()
    kdf.recalibrate(model, [x[i : i + 16] for i in range(0, 80, 16)])
    changed = [
        x.path.split("/")[-1]
        for x in model.variables
        if not np.array_equal(before[x.path], np.asarray(x))
    ]
    assert changed == ["moving_mean", "moving_variance"]
    read = np.asarray(spectral.layer(x))
    mean, variance = statistics(norm)
    np.testing.assert_allclose(mean, read.mean((0, 1, 2)), rtol=1e-4)
    np.testing.assert_allclose(variance, read.var((0, 1, 2)), rtol=1e-4)


def test_batch_renormalization_goes_on_from_the_statistics_of_the_data():
    inputs = keras.Input((4,))
    norm = layers.BatchNormalization(renorm=True, momentum=1.0)
    model = keras.Model(inputs, norm(inputs))
    x = np.random.default_rng(0).normal(3, 2, (64, 4)).astype("float32")
    kdf.recalibrate(model, x)
    np.testing.assert_array_equal(np.asarray(norm.renorm_mean), 0.0)
    model(x[:2], training=True)
    mean, variance = statistics(norm)
    np.testing.assert_allclose(mean, x.mean(0), rtol=1e-4)
    np.testing.assert_allclose(variance, x.var(0), rtol=1e-4)


def test_a_layer_that_never_trains_keeps_its_statistics():
    class Inferring(layers.BatchNormalization):
        def call(self, inputs):
            return super().call(inputs, training=False)

    inputs = keras.Input((3,))
    norm = Inferring()
    model = keras.Model(inputs, norm(inputs))
    kdf.recalibrate(model, data()[:, 0, 0])
    mean, variance = statistics(norm)
    assert (mean == 0).all() and (variance == 1).all()


def test_an_optional_input_may_be_missing():
    class Sum(layers.Layer):
        def call(self, x, more=None):
            return x if more is None else x + more

    inputs = [keras.Input((4,)), keras.Input((4,), optional=True)]
    norm = layers.BatchNormalization()
    model = keras.Model(inputs, norm(Sum()(*inputs)))
    x = np.random.default_rng(0).normal(3, 2, (64, 4)).astype("float32")
    kdf.recalibrate(model, [([x, None],)])
    np.testing.assert_allclose(statistics(norm)[0], x.mean(0), rtol=1e-4)
