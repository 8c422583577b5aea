import keras
import numpy as np
import pytest
from keras import ops

from keras_df.interop import to_tf_keras

SHAPE = (6, 6, 4)


@pytest.mark.parametrize(
    "function",
    [
        lambda x: x[:, ::2, 1:, :],
        lambda x: x[..., 0],
        lambda x: x[:, None, 2],
        lambda x: ops.pad(x, [[0, 0], [0, 0], [1, 0], [2, 1]]),
        lambda x: ops.pad(x, [[0, 0], [1, 1], [1, 1], [0, 0]], "reflect"),
        lambda x: ops.pad(
            x, [[0, 0], [0, 0], [0, 0], [1, 1]], constant_values=2.0
        ),
        lambda x: ops.take(x, [2, 0, 1], axis=-1),
        lambda x: ops.transpose(x, (0, 3, 1, 2)),
        lambda x: ops.reshape(x, (-1, 36, 4)),
        lambda x: ops.reshape(x, (2, -1, 4)),
        lambda x: ops.concatenate([x, 2 * x], axis=-1),
        lambda x: ops.stack([x, -x], axis=1),
        lambda x: ops.split(x, 2, axis=-1)[1],
        lambda x: ops.split(x, [1, 3], axis=-1)[1],
        lambda x: ops.squeeze(ops.expand_dims(x, 2), 2),
        lambda x: ops.clip(x, -0.5, 0.5),
        lambda x: ops.cast(ops.cast(x, "int32"), "float32"),
        lambda x: ops.cast(3 * x, "int32") * 0.5 + 1,
        lambda x: ops.mean(x, axis=(1, 2), keepdims=True) * x,
        lambda x: ops.sum(x, axis=-1),
        lambda x: ops.max(x, axis=-1) - ops.min(x, axis=-1),
        lambda x: ops.maximum(x, 0.1 * x) + ops.minimum(x, 0.3),
        lambda x: (x + x * x - 1.0) / 3.0,
        lambda x: ops.power(ops.absolute(x), 1.5),
        lambda x: ops.exp(x) + ops.log(ops.square(x) + 1.0),
        lambda x: ops.sqrt(ops.square(x)) * ops.rsqrt(ops.square(x) + 1),
        lambda x: ops.relu(x) - ops.relu6(x) + ops.leaky_relu(x, 0.3),
        lambda x: ops.sigmoid(x) + ops.tanh(x) + ops.softplus(x),
        lambda x: ops.silu(x) + ops.elu(x, 0.7),
        lambda x: ops.gelu(x) + ops.gelu(x, approximate=False),
        lambda x: ops.hard_sigmoid(x) * ops.hard_silu(x),
        lambda x: ops.softmax(x, axis=-1) + ops.log_softmax(x, axis=1),
    ],
)
def test_operations_compute_the_same(function):
    inputs = keras.Input(SHAPE)
    model = keras.Model(inputs, function(inputs))
    converted = to_tf_keras(model)
    x = np.random.default_rng(0).normal(size=(2, *SHAPE)).astype("float32")
    np.testing.assert_allclose(converted(x), np.asarray(model(x)), atol=1e-5)
    # It is made of what tf_keras can write to a file.
    again = type(converted).from_config(converted.get_config())
    np.testing.assert_allclose(again(x), converted(x))


def test_two_tensors_of_one_shape_meet_in_a_stock_layer():
    import tf_keras

    inputs = keras.Input(SHAPE)
    converted = to_tf_keras(keras.Model(inputs, inputs + ops.relu(inputs)))
    kinds = [type(layer) for layer in converted.layers]
    assert kinds.count(tf_keras.layers.Add) == 1
    assert kinds.count(tf_keras.layers.ReLU) == 1


def test_taking_from_a_flattened_tensor_is_refused():
    inputs = keras.Input(batch_shape=(2, 3))
    model = keras.Model(inputs, ops.take(inputs, [0, 1]))
    with pytest.raises(ValueError, match="'take.*flattened tensor"):
        to_tf_keras(model)
