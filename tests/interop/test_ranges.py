import keras
import numpy as np
import pytest
from keras import layers

from keras_df.interop import calibrate_ranges
from keras_df.interop import quantize_annotate
from keras_df.interop import to_tf_keras


@pytest.fixture
def aware(tfmot):
    """A quantization-aware network with activations far beyond [-6, 6]."""
    model = keras.Sequential(
        [
            keras.Input((8, 8, 3)),
            layers.Conv2D(4, 3, name="wide"),
            layers.BatchNormalization(name="norm"),
            layers.ReLU(name="relu"),
            layers.Conv2D(4, 3, name="narrow"),
            layers.GlobalAveragePooling2D(name="pool"),
            layers.Dense(2, name="logits"),
        ]
    )
    for layer in model.layers:
        if layer.name == "norm":
            layer.gamma.assign([100.0] * 4)
    plain = to_tf_keras(model)
    with tfmot.quantize_scope():
        return plain, tfmot.quantize_apply(quantize_annotate(plain))


def ranges_of(model, layer):
    return [
        float(x.numpy())
        for end in ("min", "max")
        for x in model.get_layer(layer).weights
        if x.name.endswith(f"_{end}:0") and "kernel" not in x.name
    ]


def test_ranges_are_those_of_the_data(aware, images):
    plain, model = aware
    calibrate_ranges(model, [images] * 8, steps=8)
    hidden = images
    for name in ("wide", "norm", "relu"):
        hidden = plain.get_layer(name)(hidden, training=True)
    low, high = ranges_of(model, "quant_relu")
    assert high == pytest.approx(np.max(hidden), rel=0.02) and high > 100
    assert low == pytest.approx(0, abs=0.01)
    outputs = plain(images, training=True).numpy()
    near = float(0.05 * np.ptp(outputs))
    low, high = ranges_of(model, "quant_logits")
    assert low == pytest.approx(min(float(outputs.min()), 0), abs=near)
    assert high == pytest.approx(max(float(outputs.max()), 0), abs=near)


def test_outputs_come_close_to_those_of_the_plain_model(aware, images):
    plain, model = aware
    expected = plain(images, training=True).numpy()

    def difference():
        actual = model(images, training=True).numpy()
        return np.abs(actual - expected).max() / np.ptp(expected)

    assert difference() > 0.3  # Cut off at 6.
    calibrate_ranges(model, [images] * 8)
    assert difference() < 0.1


def test_the_mean_of_the_last_half_counts(tfmot):
    plain = to_tf_keras(keras.Sequential([keras.Input((4,)), layers.Dense(3)]))
    with tfmot.quantize_scope():
        model = tfmot.quantize_apply(quantize_annotate(plain))
    x = np.random.default_rng(0).normal(size=(32, 4)).astype("float32")
    high = float(plain(x).numpy().max())
    calibrate_ranges(model, [9 * x, 7 * x, x, 3 * x], steps=4)
    (dense,) = [layer.name for layer in model.layers if "dense" in layer.name]
    assert ranges_of(model, dense)[1] == pytest.approx(2 * high, rel=0.02)


def test_no_other_weight_changes(aware, images):
    _, model = aware
    before = {
        x.name: x.numpy()
        for x in model.weights
        if not x.name.endswith(("_min:0", "_max:0"))
    }
    calibrate_ranges(model, images)
    for weight in model.weights:
        if weight.name in before:
            np.testing.assert_array_equal(weight.numpy(), before[weight.name])


def test_the_model_infers_at_once(tfmot, images):
    """Inputs and kernels have ranges too."""
    model = keras.Sequential(
        [
            keras.Input((8, 8, 3)),
            layers.Conv2D(8, 3, activation="relu"),
            layers.GlobalAveragePooling2D(),
            layers.Dense(2),
        ]
    )
    plain = to_tf_keras(model)
    with tfmot.quantize_scope():
        aware = tfmot.quantize_apply(quantize_annotate(plain))
    calibrate_ranges(aware, images)
    expected = plain(images, training=False).numpy()
    actual = aware(images, training=False).numpy()
    assert np.abs(actual - expected).max() < 0.05 * np.abs(expected).max()


def test_a_model_without_ranges_is_refused(aware, images):
    plain, _ = aware
    with pytest.raises(ValueError, match="no ranges to calibrate"):
        calibrate_ranges(plain, images)


def test_empty_data_is_refused(aware, images):
    with pytest.raises(ValueError, match="empty"):
        calibrate_ranges(aware[1], images[:0])
