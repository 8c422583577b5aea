import keras
import numpy as np
import pytest
from keras import layers
from keras import ops

from keras_df.calibration import moment_size
from keras_df.calibration import moments
from keras_df.calibration import second_moments

RNG = np.random.default_rng(0)


def images(*shape):
    return RNG.normal(1.0, 2.0, shape).astype("float32")


def expected_of(rows):
    """Mean of the outer products of rows, scaled and with a ridge."""
    rows = np.asarray(rows, float)
    rows = rows.reshape(-1, rows.shape[-1])
    moment = rows.T @ rows / len(rows)
    moment /= np.trace(moment) / len(moment)
    return moment + ridge_of(rows) * np.eye(len(moment))


def ridge_of(rows):
    samples, size = rows.shape
    return 1e-4 + 0.1 * size / samples


def patches(x, size, strides=1, dilation=1):
    """Patches of a valid convolution, rows `(height, width, channels)`."""
    reach = (size - 1) * dilation + 1
    height, width = x.shape[1] - reach + 1, x.shape[2] - reach + 1
    return np.array(
        [
            x[:, i : i + reach : dilation, j : j + reach : dilation]
            .reshape(len(x), -1)
            .tolist()
            for i in range(0, height, strides)
            for j in range(0, width, strides)
        ]
    )


def assert_moment(layer, x, rows, batches=2):
    inputs = keras.Input(x.shape[1:])
    layer.name = "measured"
    model = keras.Model(inputs, layer(inputs))
    parts = np.array_split(x, batches)
    found = second_moments(model, parts, ["measured"])
    expected = expected_of(rows() if callable(rows) else rows)
    np.testing.assert_allclose(found["measured"], expected, atol=1e-4)
    assert len(expected) == moment_size(layer)


def test_dense_reads_its_inputs():
    x = images(12, 5)
    assert_moment(layers.Dense(3), x, x)


def test_dense_reads_every_position():
    x = images(6, 4, 5)
    assert_moment(layers.Dense(3), x, x)


@pytest.mark.parametrize("strides", [1, 2])
def test_a_convolution_reads_patches(strides):
    x = images(4, 7, 6, 3)
    layer = layers.Conv2D(2, 3, strides=strides)
    assert_moment(layer, x, patches(x, 3, strides))


def test_padding_is_read_as_zeros():
    x = images(4, 5, 5, 2)
    padded = np.pad(x, [(0, 0), (1, 1), (1, 1), (0, 0)])
    assert_moment(layers.Conv2D(2, 3, padding="same"), x, patches(padded, 3))


def test_a_dilated_convolution_reads_apart():
    x = images(4, 7, 7, 2)
    layer = layers.Conv2D(2, 3, dilation_rate=2)
    assert_moment(layer, x, patches(x, 3, dilation=2))


def test_rows_are_in_the_order_of_scheme_1():
    """The energy of the outputs is that of the kernel in this metric."""
    layer = layers.Conv2D(4, 3, use_bias=False, name="conv")
    model = keras.Sequential([keras.Input((6, 6, 3)), layer])
    x = images(8, 6, 6, 3)
    moment = second_moments(model, [x], ["conv"])["conv"]
    moment -= (1e-4 + 0.1 * 27 / (8 * 4 * 4)) * np.eye(27)
    matrix = np.asarray(layer.kernel).reshape(27, 4)
    energy = np.mean(np.asarray(model(x)) ** 2, axis=(0, 1, 2))
    inside = np.diag(matrix.T @ moment @ matrix)
    np.testing.assert_allclose(inside / inside[0], energy / energy[0], 1e-4)


def test_a_large_patch_is_measured_by_channel(monkeypatch):
    monkeypatch.setattr(moments, "LARGEST_PATCH", 26)
    x = images(4, 6, 6, 3)
    assert_moment(layers.Conv2D(2, 3), x, x)


def test_a_1d_convolution_is_measured_by_channel():
    x = images(4, 9, 3)
    assert_moment(layers.Conv1D(2, 3), x, x)


def test_a_transposed_convolution_is_measured_by_channel():
    x = images(4, 5, 5, 3)
    assert_moment(layers.Conv2DTranspose(2, 3, strides=2), x, x)


def test_a_separable_convolution_reads_what_its_depthwise_writes():
    x = images(4, 6, 6, 3)
    layer = layers.SeparableConv2D(
        5, 3, strides=2, padding="same", depth_multiplier=2
    )

    def middle():
        depthwise = layers.DepthwiseConv2D(
            3, strides=2, padding="same", depth_multiplier=2, use_bias=False
        )
        depthwise.build(x.shape)
        depthwise.kernel.assign(layer.depthwise_kernel)
        return depthwise(x)

    assert_moment(layer, x, middle)


@pytest.mark.parametrize("policy", ["mixed_bfloat16", "bfloat16", "float16"])
def test_a_separable_convolution_in_16_bits(policy):
    def separable(dtype):
        layer = layers.SeparableConv2D(4, 3, name="layer", dtype=dtype)
        inputs = keras.Input((6, 6, 5))
        return keras.Model(inputs, layer(layers.ReLU(dtype=dtype)(inputs)))

    full, mixed = map(separable, ("float32", policy))
    mixed.set_weights(full.get_weights())
    x = images(4, 6, 6, 5)
    expected, found = (
        second_moments(model, [x], ["layer"])["layer"]
        for model in (full, mixed)
    )
    np.testing.assert_allclose(found, expected, atol=2e-2)


def test_layers_behind_others_are_measured_in_inference_mode():
    model = keras.Sequential(
        [
            keras.Input((5,)),
            layers.Dense(4, activation="relu", name="first"),
            layers.BatchNormalization(name="bn"),
            layers.Dropout(0.5),
            layers.Dense(3, name="second"),
        ]
    )
    model.get_layer("bn").moving_mean.assign(np.full(4, 0.3))
    before = [ops.convert_to_numpy(w) for w in model.weights]
    x = images(16, 5)
    found = second_moments(model, [x], ["second"])
    hidden = model.get_layer("bn")(model.get_layer("first")(x), training=False)
    np.testing.assert_allclose(found["second"], expected_of(hidden), atol=1e-4)
    for weight, value in zip(model.weights, before):
        np.testing.assert_array_equal(weight, value)


class Normalizes(layers.Layer):
    """A layer that trains unless it is told not to."""

    def __init__(self):
        super().__init__(name="normalizes")
        self.norm = layers.BatchNormalization()

    def build(self, shape):
        self.norm.build(shape)
        self.built = True

    def call(self, x, training=True):
        return self.norm(x, training=training)


def test_a_layer_that_trains_by_default_is_run_in_inference_mode():
    model = keras.Sequential(
        [keras.Input((5,)), Normalizes(), layers.Dense(3, name="measured")]
    )
    before = [ops.convert_to_numpy(w).copy() for w in model.weights]
    second_moments(model, [images(16, 5)], ["measured"])
    for weight, value in zip(model.weights, before, strict=True):
        np.testing.assert_array_equal(weight, value)


@pytest.mark.parametrize("path", ["shared", "inner/shared"])
def test_a_layer_called_twice_is_measured_on_both_inputs(path):
    shared = layers.Dense(5, name="shared")
    inner = keras.Sequential([keras.Input((5,)), shared], name="inner")
    inputs = keras.Input((5,))
    first = inner if path.startswith("inner") else shared
    model = keras.Model(inputs, shared(first(inputs)))
    x = images(10, 5)
    found = second_moments(model, [x], [path])[path]
    both = np.concatenate([x, np.asarray(shared(x))])
    np.testing.assert_allclose(found, expected_of(both), atol=1e-4)


def test_a_layer_called_by_keyword_is_measured():
    inputs = keras.Input((5,))
    model = keras.Model(inputs, layers.Dense(2, name="dense")(inputs=inputs))
    x = images(10, 5)
    found = second_moments(model, [x], ["dense"])["dense"]
    np.testing.assert_allclose(found, expected_of(x), atol=1e-4)


def test_layers_of_nested_models_go_by_their_path():
    inner = keras.Sequential(
        [keras.Input((5,)), layers.Dense(2, name="dense")], name="inner"
    )
    model = keras.Sequential([keras.Input((5,)), inner])
    x = images(10, 5)
    found = second_moments(model, [x], ["inner/dense"])
    np.testing.assert_allclose(found["inner/dense"], expected_of(x), atol=1e-4)


def test_several_inputs_by_name():
    first = keras.Input((2,), name="first")
    second = keras.Input((3,), name="second")
    outputs = layers.Add()(
        [layers.Dense(4, name="a")(first), layers.Dense(4, name="b")(second)]
    )
    model = keras.Model([second, first], outputs)
    batch = {"first": images(8, 2), "second": images(8, 3)}
    found = second_moments(model, [batch], ["a", "b"])
    for path, key in (("a", "first"), ("b", "second")):
        np.testing.assert_allclose(
            found[path], expected_of(batch[key]), atol=1e-4
        )


def test_positions_beyond_the_sample_are_skipped(monkeypatch):
    monkeypatch.setattr(moments, "SAMPLES", 8)
    x = images(24, 3)
    model = keras.Sequential([keras.Input((3,)), layers.Dense(2, name="a")])
    found = second_moments(model, [x], ["a"])["a"]
    np.testing.assert_allclose(found, expected_of(x[::3]), atol=1e-4)


@pytest.mark.parametrize("data_format", ["channels_last", "channels_first"])
@pytest.mark.parametrize(
    "kernel_size, options",
    [
        (3, {"padding": "same"}),
        (3, {"padding": "valid"}),
        ((1, 5), {"padding": "same", "strides": (2, 3)}),
        (7, {"padding": "same", "strides": 2}),
        ((3, 2), {"padding": "same", "dilation_rate": (2, 3)}),
        (1, {"padding": "same", "strides": 3}),
    ],
)
def test_rows_times_the_kernel_are_what_a_convolution_writes(
    kernel_size, options, data_format
):
    layer = layers.Conv2D(4, kernel_size, use_bias=False, **options)
    x = images(3, 12, 15, 2)
    layer.build(x.shape)
    kernel = ops.convert_to_numpy(layer.kernel)
    written = np.asarray(layer(x), float).reshape(-1, 4)
    if data_format == "channels_first":
        layer.data_format = data_format
        x = np.moveaxis(x, -1, 1)
    for share in (1, 4):
        enough = len(written) // share
        rows = np.asarray(moments.linear_rows(layer, x, enough), float)
        found = rows @ kernel.reshape(-1, 4)
        assert enough / 2 <= len(found) < 2 * enough
        assert all(
            np.isclose(row, written, atol=1e-3).all(axis=1).any()
            for row in found
        )
        if share == 1:
            np.testing.assert_allclose(found, written, atol=1e-3)


@pytest.mark.parametrize("size", [8, 12, 14, 16])
def test_a_sample_of_positions_reads_borders_as_often_as_they_are(size):
    """Of padding, a kernel of 3 x 3 reads one part in `1.5 * size`."""
    layer = layers.Conv2D(1, 3, padding="same", use_bias=False)
    x = np.ones((64, size, size, 1), "float32")
    layer.build(x.shape)
    for part in (4, 8, 16):
        rows = moments.linear_rows(layer, x, 64 * size**2 // part)
        rows = np.asarray(rows).reshape(-1, 3, 3)
        borders = 1 - np.stack([rows[:, 0], rows[:, 2]]).max(axis=2)
        sides = 1 - np.stack([rows[:, :, 0], rows[:, :, 2]]).max(axis=2)
        for missing in (*borders, *sides):
            np.testing.assert_allclose(missing.mean(), 1 / size, rtol=0.25)


def test_what_cannot_be_measured_is_left_out(monkeypatch):
    monkeypatch.setattr(moments, "LARGEST_CHANNELS", 4)
    model = keras.Sequential(
        [keras.Input((5,)), layers.Dense(3, name="a"), layers.ReLU(name="r")]
    )
    assert second_moments(model, [images(4, 5)], ["a", "r"]) == {}
    assert moment_size(model.get_layer("a")) is None


def test_inputs_that_are_all_zero_give_a_finite_moment():
    model = keras.Sequential([keras.Input((3,)), layers.Dense(2, name="a")])
    found = second_moments(model, [np.zeros((4, 3))], ["a"])["a"]
    expected = ridge_of(np.zeros((4, 3))) * np.eye(3)
    np.testing.assert_allclose(found, expected)


def test_grouped_convolutions_are_not_measured():
    # A patch of all channels is far larger than what a group reads.
    layer = layers.Conv2D(64, 7, padding="same", groups=64, name="measured")
    inputs = keras.Input((8, 8, 64))
    model = keras.Model(inputs, layer(inputs))
    assert moment_size(layer) is None
    assert second_moments(model, [images(2, 8, 8, 64)], ["measured"]) == {}


def test_scheme_2_reads_columns_of_patches():
    layer = layers.Conv2D(2, (3, 2))
    layer.build((None, 7, 6, 4))
    assert moment_size(layer, 1) == 24
    assert moment_size(layer, 2) == 12


def test_a_moment_of_inputs_alone_serves_both_schemes():
    layer = layers.Conv2D(2, 3)
    layer.build((None, 7, 6, 200))
    assert moment_size(layer, 2) == moment_size(layer, 1) == 200
