import keras
import numpy as np
import pytest
from keras import layers

from keras_df.interop import to_tf_keras

IMAGE = (8, 8, 4)


def assert_same(layer, shape=IMAGE):
    """A layer, with random weights, computes the same once converted."""
    inputs = keras.Input(shape)
    model = keras.Model(inputs, layer(inputs))
    rng = np.random.default_rng(0)
    model.set_weights([rng.uniform(0.2, 1, w.shape) for w in model.weights])
    converted = to_tf_keras(model)
    x = rng.normal(size=(3, *shape)).astype("float32") * 3
    expected = np.asarray(model(x, training=False))
    np.testing.assert_allclose(
        converted(x, training=False),
        expected,
        atol=1e-5 * max(1, np.abs(expected).max()),
    )
    return converted


@pytest.mark.parametrize(
    "layer",
    [
        lambda: layers.Conv2D(6, 3, 2, "same", groups=2, use_bias=False),
        lambda: layers.Conv2D(6, (3, 2), dilation_rate=2, activation="relu"),
        lambda: layers.Conv2DTranspose(6, 3, 2, "same"),
        lambda: layers.DepthwiseConv2D(3, depth_multiplier=2),
        lambda: layers.SeparableConv2D(6, 3, depth_multiplier=2),
        lambda: layers.Dense(6, activation="gelu"),
        lambda: layers.PReLU(shared_axes=[1, 2]),
        lambda: layers.LeakyReLU(0.1),
        lambda: layers.ReLU(6.0, negative_slope=0.1, threshold=0.5),
        lambda: layers.Softmax(),
        lambda: layers.BatchNormalization(epsilon=0.1),
        lambda: layers.LayerNormalization(axis=(1, 2, 3)),
        lambda: layers.GroupNormalization(2),
        lambda: layers.AveragePooling2D(3, 2, "same"),
        lambda: layers.MaxPooling2D(3, 2, "same"),
        lambda: layers.GlobalMaxPooling2D(keepdims=True),
        lambda: layers.ZeroPadding2D(((0, 1), (2, 0))),
        lambda: layers.Cropping2D(1),
        lambda: layers.UpSampling2D(2, interpolation="bilinear"),
        lambda: layers.Reshape((-1, 4)),
        lambda: layers.Permute((3, 1, 2)),
        lambda: layers.Dropout(0.5, seed=1),
        lambda: layers.Rescaling(0.5, [1.0, 2.0, 3.0, 4.0]),
        lambda: layers.Normalization(mean=[1, 2, 3, 4], variance=[1, 2, 3, 4]),
    ],
)
def test_layers(layer):
    assert_same(layer())


@pytest.mark.parametrize("kind", [layers.Conv1D, layers.SeparableConv1D])
def test_layers_of_sequences(kind):
    assert_same(kind(6, 3, padding="same"), shape=(9, 4))


@pytest.mark.parametrize(
    "activation",
    [
        *("relu", "relu6", "leaky_relu", "hard_sigmoid", "hard_silu", "silu"),
        *("gelu", "elu", "selu", "softmax", "log_softmax", "tanh", "mish"),
        *("sigmoid", "softplus", "softsign", "exponential", "log_sigmoid"),
        "tanh_shrink",
    ],
)
def test_activations_whether_tf_keras_has_them_or_not(activation):
    assert_same(layers.Activation(activation))
    assert_same(layers.Dense(3, activation=activation))


def test_a_shared_layer_with_an_activation_that_tf_keras_lacks():
    shared = layers.Dense(4, activation="hard_silu")
    assert_same(keras.Sequential([keras.Input(IMAGE), shared, shared]))


def test_a_layer_as_an_activation():
    assert_same(layers.Conv2D(4, 3, activation=layers.ReLU(max_value=0.5)))


def test_an_adapted_normalization():
    layer = layers.Normalization()
    layer.adapt(np.random.default_rng(0).normal(3, 2, size=(50, *IMAGE)))
    inputs = keras.Input(IMAGE)
    model = keras.Model(inputs, layer(inputs))
    x = np.random.default_rng(1).normal(size=(2, *IMAGE)).astype("float32")
    np.testing.assert_allclose(
        to_tf_keras(model)(x), np.asarray(model(x)), atol=1e-5
    )


def test_regularizers_and_constraints_are_those_of_tf_keras():
    converted = assert_same(
        layers.Dense(3, kernel_regularizer=keras.regularizers.L2(0.25))
    )
    (layer,) = [x for x in converted.layers if x.weights]
    expected = 0.25 * np.sum(np.square(layer.kernel.numpy()))
    assert float(converted.losses[0]) == pytest.approx(expected, rel=1e-5)


@pytest.mark.parametrize(
    "layer, message",
    [
        (lambda: layers.RMSNormalization(), "no layer in tf_keras"),
        (lambda: layers.Dense(2, activation="celu"), "no activation 'celu'"),
        (lambda: layers.Dense(2, activation=lambda x: x), "is not of Keras"),
        (
            lambda: layers.Dense(2, activation=layers.PReLU()),
            "weights of its own",
        ),
    ],
)
def test_what_tf_keras_lacks_is_refused(layer, message):
    inputs = keras.Input((4,))
    model = keras.Model(inputs, layer()(inputs))
    with pytest.raises(ValueError, match=f"cannot be translated.*{message}"):
        to_tf_keras(model)


def test_a_quantized_layer_is_refused():
    model = keras.Sequential([keras.Input((4,)), layers.Dense(2, name="last")])
    model.quantize("int8")
    with pytest.raises(ValueError, match="'last'.*it is quantized"):
        to_tf_keras(model)
