"""Surgery on hand-written networks: merges, slices, reshapes, operations."""

import keras
import numpy as np
import pytest
from invariant import assert_compresses
from invariant import assert_reloads
from invariant import prunable_channels
from invariant import random_inputs
from invariant import random_plan
from keras import layers
from keras import ops

import keras_df as kdf


def image(size=6, channels=3):
    return keras.Input((size, size, channels), name="image")


def conv(x, filters=8, size=3, **options):
    return layers.Conv2D(filters, size, padding="same", **options)(x)


def classifier(inputs, x):
    x = layers.GlobalAveragePooling2D()(x)
    return keras.Model(inputs, layers.Dense(4)(x))


def unary_model(function, filters=8):
    """conv -> function -> conv, by which a function's channels are judged."""
    inputs = image()
    x = function(conv(inputs, filters, name="before"))
    return classifier(inputs, layers.Conv2D(6, 1, name="after")(x))


@pytest.mark.parametrize(
    "function",
    [
        lambda x: ops.relu(x) + 1.0,
        lambda x: ops.clip(ops.silu(x), -1.0, 1.0),
        lambda x: 2.0 * ops.sigmoid(x) - ops.exp(-ops.square(x)),
        lambda x: ops.where(x > 0.0, x, 0.1 * x),
        lambda x: ops.maximum(x, 0.0),
        lambda x: x * np.arange(1, 9, dtype="float32"),
        lambda x: ops.add(x, np.ones((1, 1, 8), "float32")),
        lambda x: x + np.linspace(0, 1, 36, dtype="float32").reshape(6, 6, 1),
        lambda x: ops.softmax(x, axis=1),
        lambda x: ops.normalize(x, axis=2),
        lambda x: ops.flip(x, axis=-1),
        lambda x: ops.flip(x, axis=1),
        lambda x: ops.roll(x, 3, axis=-1),
        lambda x: ops.roll(x, -2, axis=3),
        lambda x: ops.roll(x, 1, axis=1),
        lambda x: ops.tile(x, (1, 1, 2, 2)),
        lambda x: ops.repeat(x, 2, axis=-1),
        lambda x: ops.repeat(x, 2, axis=1),
        lambda x: ops.take(x, np.array([5, 0, 3, 3]), axis=-1),
        lambda x: ops.take(x, np.array([1, 2]), axis=1),
        lambda x: x[:, 1:-1, ::2],
        lambda x: x[..., 2:6],
        lambda x: x[..., ::-1],
        lambda x: x[..., -5:],
        lambda x: x[:, ::-1, :, 1::3],
        lambda x: x[:, None, 2, ..., 1:],
        lambda x: x[:, :, :, :],
        lambda x: ops.pad(x, [[0, 0], [1, 1], [1, 1], [0, 0]]),
        lambda x: ops.pad(x, [[0, 0], [0, 0], [0, 0], [2, 3]]),
        lambda x: ops.pad(
            x, [[0, 0], [1, 1], [1, 1], [2, 0]], constant_values=0.5
        ),
        lambda x: ops.pad(x, [[0, 0], [1, 1], [1, 1], [0, 0]], mode="reflect"),
        lambda x: ops.transpose(x, (0, 2, 1, 3)),
        lambda x: ops.moveaxis(x, 1, 2),
        lambda x: ops.swapaxes(x, 1, 2),
        lambda x: ops.max_pool(x, 2),
        lambda x: ops.average_pool(x, (2, 2), padding="same"),
        lambda x: ops.image.resize(x, (4, 4)),
        lambda x: ops.reshape(x, (-1, 4, 9, 8)),
        lambda x: ops.reshape(ops.reshape(x, (-1, 36, 8)), (-1, 6, 6, 8)),
        lambda x: ops.depth_to_space(x, 2),
        lambda x: ops.stack([x, 2 * x], axis=1)[:, 0],
        lambda x: ops.unstack(ops.stack([x, 2 * x], axis=1), axis=1)[1],
        lambda x: ops.expand_dims(ops.mean(x, axis=2), 2),
        lambda x: ops.max(x, axis=(1, 2), keepdims=True) + x,
        lambda x: x / ops.std(x, axis=[1, 2], keepdims=True),
        lambda x: ops.cumsum(x, axis=1),
        lambda x: ops.glu(x),
        lambda x: ops.glu(x, axis=2),
        lambda x: ops.space_to_depth(x, 2),
        lambda x: x - ops.moments(x, axes=[1, 2], keepdims=True)[0],
        lambda x: x / ops.norm(x, axis=(1, 2), keepdims=True),
        lambda x: x * ops.cast(ops.argmax(x, axis=1, keepdims=True), x.dtype),
        lambda x: ops.squeeze(ops.expand_dims(x, 1), 1),
        lambda x: ops.cast(ops.cast(x, "float16"), "float32"),
        lambda x: ops.concatenate(ops.split(x, 4, axis=-1)[::-1], axis=-1),
        lambda x: ops.concatenate(ops.split(x, [1, 5], axis=-1)[1:], axis=-1),
        lambda x: ops.concatenate(ops.split(x, 2, axis=1), axis=2),
        lambda x: ops.concatenate(
            [ops.split(x, 1, axis=-1)[0], ops.split(x, 2, axis=3)[1]], axis=-1
        ),
    ],
)
def test_operation_that_keeps_channels_apart(function):
    model = unary_model(function)
    assert_compresses(model)
    assert prunable_channels(model)["before"] > 0


@pytest.mark.parametrize(
    "function",
    [
        lambda x: ops.softmax(x),
        lambda x: ops.normalize(x, axis=-1),
        lambda x: x / ops.norm(x, axis=-1, keepdims=True),
        lambda x: x - ops.mean(x),
        lambda x: ops.mean(x, axis=-1, keepdims=True),
        lambda x: ops.cumsum(x, axis=-1),
        lambda x: ops.sort(x, axis=-1),
        lambda x: ops.matmul(x, np.ones((8, 8), "float32")),
        lambda x: ops.einsum("bhwc,bhwd->bhwcd", x, x)[..., 0],
        lambda x: ops.einsum("...c,cd->...d", x, np.ones((8, 3), "float32")),
        lambda x: ops.conv(x, np.ones((3, 3, 8, 4), "float32")),
        lambda x: ops.depthwise_conv(x, np.ones((3, 3, 8, 1), "float32")),
        lambda x: ops.transpose(x, (0, 1, 3, 2)),
        lambda x: ops.clip(x, np.zeros(8), np.ones(8)),
        lambda x: ops.add(x, np.ones((6, 6, 8), "float32"))[..., 0:1],
        lambda x: ops.expand_dims(x[..., 3], -1),
        lambda x: ops.take(x, np.array([[1, 2]]), axis=-1)[..., 0, :],
        lambda x: ops.take_along_axis(x, np.zeros((1, 6, 6, 8), int), -1),
        lambda x: ops.tensordot(x, np.ones((8, 3), "float32"), axes=1),
        lambda x: ops.batch_normalization(
            x, np.zeros(8, "float32"), np.ones(8, "float32"), axis=-1
        ),
        lambda x: ops.pad(x, [[0, 0], [0, 0], [0, 0], [1, 1]], mode="reflect"),
        lambda x: ops.median(x, axis=-1, keepdims=True),
        lambda x: ops.top_k(x, 2)[0],
        lambda x: ops.rms_normalization(x),
        lambda x: ops.logsumexp(x, axis=-1, keepdims=True) * x,
    ],
)
def test_operation_that_mixes_channels_is_left_alone(function):
    assert_compresses(unary_model(function), seeds=(0, 1))


def test_shortcut_by_padding_and_slicing(tmp_path):
    inputs = image(8)
    x = conv(inputs, 8, name="stem")
    y = conv(layers.ReLU()(x), 16, strides=2, name="residual")
    shortcut = ops.pad(x[:, ::2, ::2], [[0, 0], [0, 0], [0, 0], [4, 4]])
    model = classifier(inputs, ops.relu(y + shortcut))
    small = assert_compresses(model, seeds=range(4))
    assert prunable_channels(model)["residual"] == 16
    assert_reloads(small, random_inputs(model), tmp_path / "small.keras")


def test_operations_of_a_reloaded_model_keep_their_names(tmp_path):
    inputs = image(8)
    x = conv(inputs, 8)
    for _ in range(2):
        x = ops.pad(x[..., 1:7], [[0, 0], [0, 0], [0, 0], [1, 1]])
        x = conv(x + ops.split(conv(x, 16), 2, axis=-1)[0], 8)
    model = classifier(inputs, x)
    model.save(tmp_path / "model.keras")
    keras.utils.clear_session()
    loaded = keras.models.load_model(tmp_path / "model.keras")
    small = assert_compresses(loaded)
    names = {op.name for op in loaded.operations}
    kept = [op for op in small.operations if not isinstance(op, layers.Layer)]
    assert {op.name.removesuffix("_channels") for op in kept} <= names


def test_squeeze_and_excite():
    inputs = image()
    x = conv(inputs, 8, name="conv")
    s = layers.GlobalAveragePooling2D()(x)
    s = layers.Reshape((1, 1, 8))(s)
    s = layers.Conv2D(4, 1, activation="relu", name="squeeze")(s)
    s = layers.Conv2D(8, 1, activation="sigmoid")(s)
    model = classifier(inputs, layers.Multiply()([x, s]))
    assert_compresses(model)
    assert prunable_channels(model)["conv"] == 8


def test_spatial_attention_broadcasts_one_channel():
    inputs = image()
    x = conv(inputs, 8, name="conv")
    gate = conv(x, 1, activation="sigmoid", name="gate")
    model = classifier(inputs, conv(x * gate, 6))
    assert_compresses(model)
    assert prunable_channels(model) | {"conv": 8, "gate": 0} == (
        prunable_channels(model)
    )


def test_vector_broadcast_over_an_image():
    inputs = [image(), keras.Input((5,), name="vector")]
    x = conv(inputs[0], 8)
    v = layers.Dense(8, name="style")(inputs[1])
    x = x + layers.Reshape((1, 1, 8))(v)
    model = classifier(inputs, layers.ReLU()(x))
    assert_compresses(model)
    assert prunable_channels(model)["style"] == 8


@pytest.mark.parametrize(
    "merge",
    [
        layers.Add,
        layers.Subtract,
        layers.Multiply,
        layers.Average,
        layers.Maximum,
        layers.Minimum,
    ],
)
def test_merging_layers(merge):
    inputs = image()
    x = conv(inputs)
    branches = [conv(x), layers.ReLU()(conv(x))]
    model = classifier(inputs, conv(merge()(branches)))
    assert_compresses(model, seeds=(0, 1))


def test_dot_layer_is_left_alone():
    inputs = image()
    x = conv(inputs, 8)
    v = layers.GlobalAveragePooling2D()(x)
    w = layers.Dense(8)(v)
    model = keras.Model(inputs, layers.Dense(3)(layers.Dot(1)([v, w])))
    assert_compresses(model)


def test_dense_blocks():
    inputs = image()
    x = conv(inputs, 6)
    for _ in range(3):
        y = layers.ReLU()(layers.BatchNormalization()(x))
        x = layers.Concatenate()([x, conv(layers.Conv2D(8, 1)(y), 4)])
    x = layers.BatchNormalization()(layers.AveragePooling2D(2)(x))
    assert_compresses(classifier(inputs, x))


def test_inception_block():
    inputs = image()
    x = conv(inputs, 8)
    branches = [
        layers.Conv2D(4, 1)(x),
        conv(layers.Conv2D(3, 1)(x), 5),
        conv(conv(layers.Conv2D(3, 1)(x), 4), 5, 5),
        layers.Conv2D(3, 1)(layers.MaxPooling2D(3, 1, padding="same")(x)),
    ]
    model = classifier(inputs, conv(layers.Concatenate()(branches), 6))
    assert_compresses(model)


def test_concatenation_in_space_couples():
    inputs = image()
    x = conv(inputs, 8)
    y = layers.Concatenate(axis=1)([conv(x, 6, name="a"), conv(x, 6, name="b")])
    model = classifier(inputs, y)
    assert_compresses(model)


def test_concatenation_with_the_input_and_a_constant():
    inputs = image()
    x = layers.Concatenate()([conv(inputs, 8), inputs])
    x = ops.concatenate([conv(x, 6), np.ones((2, 6, 6, 2), "float32")], axis=-1)
    assert_compresses(classifier(inputs, conv(x, 6)))


def test_concatenation_before_a_reshape():
    inputs = image(4)
    x = layers.Concatenate()([conv(inputs, 4), conv(inputs, 8)])
    x = layers.Reshape((16, 12))(x)
    x = layers.Dense(6)(x)
    assert_compresses(keras.Model(inputs, layers.Dense(3)(layers.Flatten()(x))))


def test_channel_shuffle():
    inputs = image()
    x = conv(inputs, 12, name="conv")
    x = layers.Conv2D(12, 1, groups=3)(x)
    x = layers.Reshape((6, 6, 3, 4))(x)
    x = layers.Permute((1, 2, 4, 3))(x)
    x = layers.Reshape((6, 6, 12))(x)
    x = layers.DepthwiseConv2D(3)(x)
    model = classifier(inputs, conv(x, 8))
    assert_compresses(model)
    assert prunable_channels(model)["conv"] == 12


def test_split_transform_concatenate():
    inputs = image()
    x = conv(inputs, 8, name="conv")
    left, right = ops.split(x, 2, axis=-1)
    right = layers.DepthwiseConv2D(3, padding="same")(conv(right, 4))
    model = classifier(inputs, layers.Concatenate()([left, right]))
    assert_compresses(model)
    assert prunable_channels(model)["conv"] == 8


def test_dense_reshaped_to_an_image():
    inputs = keras.Input((7,))
    x = layers.Dense(4 * 4 * 6, name="seed")(inputs)
    x = layers.Reshape((4, 4, 6))(x)
    x = layers.Conv2DTranspose(5, 3, 2, padding="same")(x)
    model = keras.Model(inputs, layers.Conv2D(3, 3)(x))
    assert_compresses(model)
    assert prunable_channels(model)["seed"] == 96


def test_reshape_with_an_unknown_size():
    inputs = image()
    x = layers.Reshape((-1, 8))(conv(inputs, 8, name="conv"))
    x = layers.Dense(6)(x)
    x = layers.Reshape((6, 6, -1))(x)
    model = classifier(inputs, x)
    assert_compresses(model)
    assert prunable_channels(model)["conv"] == 8


def test_reshape_across_channel_borders():
    inputs = image(4)
    x = layers.Reshape((16, 3, 2))(conv(inputs, 6))
    x = layers.Reshape((8, 12))(x)
    x = layers.Dense(5)(x)
    x = ops.reshape(x, (-1, 4, 10))
    model = keras.Model(inputs, layers.Dense(3)(layers.Flatten()(x)))
    assert_compresses(model)


def test_batch_folded_into_another_axis():
    inputs = image(4)
    x = ops.reshape(conv(inputs, 8), (-1, 8))
    x = layers.Dense(6, activation="relu", name="hidden")(x)
    x = ops.reshape(layers.Dense(4)(x), (-1, 16, 4))
    model = keras.Model(inputs, layers.Dense(3)(layers.Flatten()(x)))
    assert_compresses(model)
    assert prunable_channels(model)["hidden"] == 6


def test_channels_as_a_sequence():
    inputs = image(4)
    x = layers.Reshape((16, 8))(conv(inputs, 8))
    x = layers.Permute((2, 1))(x)
    x = layers.Dense(5)(x)
    assert_compresses(keras.Model(inputs, layers.Dense(3)(layers.Flatten()(x))))


def test_repeated_vector():
    inputs = keras.Input((5,))
    x = layers.Dense(6, name="code")(inputs)
    x = layers.RepeatVector(4)(x)
    x = layers.Conv1D(5, 3)(x)
    model = keras.Model(inputs, layers.Dense(2)(x))
    assert_compresses(model)
    assert prunable_channels(model)["code"] == 6


def test_image_times_its_own_transpose():
    inputs = image(4)
    x = layers.Reshape((16, 6))(conv(inputs, 6))
    scores = ops.matmul(x, ops.transpose(x, (0, 2, 1)))
    x = ops.matmul(ops.softmax(scores), layers.Dense(5)(x))
    assert_compresses(keras.Model(inputs, layers.Dense(3)(layers.Flatten()(x))))


def test_function_mapped_over_the_samples():
    inputs = image()
    x = layers.Conv2D(6, 1)(conv(inputs, 8, name="conv"))
    x = ops.vectorized_map(lambda sample: 2.0 * sample, x)
    model = classifier(inputs, x)
    assert_compresses(model)
    assert prunable_channels(model)["conv"] == 8


class Sum(layers.Layer):
    def call(self, x, more=None):
        return x if more is None else x + more


def test_optional_input_that_is_missing():
    """Here it is as good as one that is zero."""
    inputs = [keras.Input((8,)), keras.Input((8,), optional=True)]
    x = layers.Dense(16, activation="relu")(Sum()(*inputs))
    model = keras.Model(inputs, layers.Dense(3)(x))
    assert_compresses(model)
    x, plan = random_inputs(model)[0], random_plan(model)
    missing, zero = (
        kdf.compress(model, plan, calibration=[([x, more],)])([x, more])
        for more in (None, np.zeros_like(x))
    )
    np.testing.assert_allclose(missing, zero, atol=1e-5)


def test_nothing_to_compress():
    inputs = image()
    model = keras.Model(inputs, ops.relu(layers.Flatten()(inputs)))
    assert_compresses(model, seeds=(0,))
    assert prunable_channels(model) == {}


def test_output_is_an_input():
    inputs = image()
    model = keras.Model(
        inputs, [inputs, classifier(inputs, conv(inputs))(inputs)]
    )
    assert_compresses(model, seeds=(0, 1))


def test_operations_survive_saving(tmp_path):
    inputs = image()
    x = conv(inputs, 12)
    x = ops.roll(x[..., ::2][..., ::-1], 2, axis=-1)
    x = ops.pad(x, [[0, 0], [0, 0], [0, 0], [1, 2]])
    first, second = ops.split(x, [4], axis=-1)
    x = ops.concatenate([second, ops.take(first, [3, 0, 0], axis=-1)], axis=-1)
    x = ops.reshape(x * np.arange(8, dtype="float32"), (-1, 36, 8))
    model = keras.Model(inputs, layers.Dense(3)(layers.Conv1D(6, 3)(x)))
    small = assert_compresses(model, seeds=(1, 2, 3, 4))
    assert_reloads(small, random_inputs(model), tmp_path / "small.keras")
