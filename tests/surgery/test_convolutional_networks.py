"""Surgery on hand-written networks: every kind of layer with a kernel."""

import keras
import numpy as np
import pytest
from invariant import assert_compresses
from invariant import assert_reloads
from invariant import prunable_channels
from invariant import random_inputs
from keras import layers


def image(size=8, channels=3):
    return keras.Input((size, size, channels), name="image")


def classifier(inputs, x, pool=layers.GlobalAveragePooling2D):
    return keras.Model(inputs, layers.Dense(4, name="logits")(pool()(x)))


def test_convolutions_in_time():
    inputs = keras.Input((12, 4))
    x = layers.Conv1D(6, 3, padding="causal", activation="relu")(inputs)
    x = layers.BatchNormalization()(x)
    x = layers.MaxPooling1D(2)(x)
    x = layers.ZeroPadding1D(1)(x)
    x = layers.SeparableConv1D(8, 3, depth_multiplier=2)(x)
    x = layers.DepthwiseConv1D(3, depth_multiplier=2, padding="same")(x)
    x = layers.Cropping1D(1)(x)
    x = layers.UpSampling1D(2)(x)
    x = layers.Conv1DTranspose(5, 3, strides=2, name="up")(x)
    x = layers.AveragePooling1D(2)(x)
    model = classifier(inputs, x, layers.GlobalMaxPooling1D)
    assert_compresses(model)
    assert min(list(prunable_channels(model).values())[:-1]) > 0


def test_convolutions_in_volumes():
    inputs = keras.Input((6, 6, 6, 2))
    x = layers.Conv3D(6, 3, padding="same", activation="gelu")(inputs)
    x = layers.ZeroPadding3D(1)(x)
    x = layers.MaxPooling3D(2)(x)
    x = layers.Conv3DTranspose(4, 2, strides=2)(x)
    x = layers.Cropping3D(1)(x)
    x = layers.AveragePooling3D(2)(x)
    x = layers.UpSampling3D(2)(x)
    model = classifier(inputs, x, layers.GlobalAveragePooling3D)
    assert_compresses(model)


def test_autoencoder_with_transposed_convolutions():
    inputs = image()
    x = layers.Conv2D(8, 3, 2, padding="same", activation="relu")(inputs)
    x = layers.Conv2D(12, 3, 2, padding="same", activation="relu")(x)
    x = layers.Conv2DTranspose(
        8, 3, 2, padding="same", activation="relu", name="up"
    )(x)
    x = layers.Conv2DTranspose(6, 3, 2, padding="same", use_bias=False)(x)
    model = keras.Model(inputs, layers.Conv2D(3, 1, activation="sigmoid")(x))
    assert_compresses(model)
    assert prunable_channels(model)["up"] == 8


def test_transposed_convolution_with_output_padding_and_dilation():
    inputs = image()
    x = layers.Conv2D(8, 3, dilation_rate=2)(inputs)
    x = layers.Conv2DTranspose(6, 3, strides=2, output_padding=1)(x)
    x = layers.Conv2DTranspose(6, 3, dilation_rate=2)(x)
    model = keras.Model(inputs, layers.Conv2D(2, 1)(x))
    try:
        model(random_inputs(model))
    except Exception as error:
        if "not yet support dilation" not in str(error):
            raise
        pytest.skip("TensorFlow has no kernel for it on this CPU")
    assert_compresses(model)


@pytest.mark.parametrize("multiplier", [1, 3])
def test_depthwise_multipliers(multiplier):
    inputs = image()
    x = layers.Conv2D(6, 3, name="conv")(inputs)
    x = layers.DepthwiseConv2D(
        3, depth_multiplier=multiplier, activation="relu6"
    )(x)
    x = layers.BatchNormalization()(x)
    x = layers.Conv2D(8, 1)(x)
    model = classifier(inputs, x)
    assert_compresses(model)
    assert prunable_channels(model)["conv"] == 6


def test_separable_with_multiplier_and_strides():
    inputs = image()
    x = layers.Conv2D(6, 3)(inputs)
    x = layers.SeparableConv2D(
        10, 3, 2, depth_multiplier=2, activation="silu", name="separable"
    )(x)
    model = classifier(inputs, x)
    assert_compresses(model, seeds=range(4))
    assert prunable_channels(model)["separable"] == 10


def test_grouped_convolution_with_wide_groups():
    inputs = image()
    x = layers.Conv2D(12, 3, padding="same")(inputs)
    x = layers.Conv2D(8, 3, groups=2, name="grouped")(x)
    model = classifier(inputs, layers.ReLU()(x))
    assert_compresses(model)
    assert prunable_channels(model)["grouped"] == 8


def test_grouped_convolution_with_many_groups():
    inputs = image()
    x = layers.Conv2D(12, 3, padding="same")(inputs)
    x = layers.Conv2D(12, 3, groups=6, name="grouped")(x)
    model = classifier(inputs, layers.ReLU()(x))
    assert_compresses(model)
    assert prunable_channels(model)["grouped"] == 12


def test_grouped_convolution_in_a_residual_block():
    inputs = image()
    x = layers.Conv2D(8, 3, padding="same")(inputs)
    y = layers.Conv2D(8, 1)(x)
    y = layers.Conv2D(8, 3, groups=4, padding="same")(y)
    y = layers.Conv2D(8, 1)(layers.BatchNormalization()(y))
    assert_compresses(classifier(inputs, layers.Add()([x, y])))


def test_perceptron_on_flattened_image():
    inputs = image(4)
    x = layers.Conv2D(6, 3, padding="same", name="conv")(inputs)
    x = layers.Flatten()(x)
    x = layers.Dense(10, activation="relu", name="hidden")(x)
    x = layers.Dropout(0.5)(x)
    x = layers.Dense(8, activation="tanh")(x)
    model = keras.Model(inputs, layers.Dense(3, activation="softmax")(x))
    small = assert_compresses(model)
    assert prunable_channels(model)["conv"] == 6
    assert all(layer.name != "hidden" or layer.units for layer in small.layers)


def test_dense_on_sequences():
    inputs = keras.Input((5, 6))
    x = layers.Dense(8, activation="relu", name="wide")(inputs)
    x = layers.Dense(6)(x)
    model = keras.Model(inputs, layers.Dense(2)(x))
    assert_compresses(model)
    assert prunable_channels(model)["wide"] == 8


@pytest.mark.parametrize(
    "activation",
    [
        layers.LeakyReLU(0.3),
        layers.ELU(),
        layers.PReLU(),
        layers.PReLU(shared_axes=[1, 2]),
        layers.PReLU(shared_axes=[1, 2, 3]),
        layers.ReLU(max_value=6.0, negative_slope=0.1),
        layers.Activation("softmax"),
        layers.Softmax(axis=1),
        layers.Activation(keras.ops.silu),
        layers.Activation(lambda x: x * 2.0),
    ],
    ids=lambda layer: layer.name,
)
def test_activation_layers(activation):
    inputs = image()
    x = layers.Conv2D(6, 3)(inputs)
    x = (
        activation.__class__.from_config(activation.get_config())(x)
        if (not isinstance(activation, layers.Activation))
        else activation(x)
    )
    assert_compresses(classifier(inputs, layers.Conv2D(6, 3)(x)), seeds=(0, 1))


def own_activation(x):
    return keras.ops.relu(x) * 1.5


@pytest.mark.parametrize(
    "activation",
    [
        "softmax",
        "glu",
        own_activation,
        lambda x: keras.ops.tanh(x),
        layers.PReLU(),
        layers.LeakyReLU(0.1),
        keras.ops.relu,
    ],
)
def test_fused_activations(activation):
    if activation == "glu":
        activation = keras.activations.gelu
    inputs = image()
    x = layers.Conv2D(6, 3, activation=activation)(inputs)
    x = layers.Conv2D(6, 3)(x)
    assert_compresses(classifier(inputs, x), seeds=(0, 1))


def test_own_initializers_and_regularizers_need_no_registration():
    class Halves(keras.initializers.Initializer):
        def __call__(self, shape, dtype=None):
            return keras.ops.full(shape, 0.5, dtype=dtype)

    class Small(keras.regularizers.Regularizer):
        def __call__(self, x):
            return 0.01 * keras.ops.sum(x**2)

    inputs = image()
    x = layers.Conv2D(
        6, 3, kernel_initializer=Halves(), kernel_regularizer=Small()
    )(inputs)
    x = layers.SeparableConv2D(6, 3, pointwise_regularizer=Small())(x)
    assert_compresses(classifier(inputs, x))


def test_normalizations_between_convolutions():
    inputs = image()
    x = layers.Conv2D(8, 3, name="free")(inputs)
    x = layers.BatchNormalization(scale=False)(x)
    x = layers.Conv2D(8, 3, name="grouped")(x)
    x = layers.GroupNormalization(4)(x)
    x = layers.Conv2D(8, 1, name="each")(x)
    x = layers.GroupNormalization(-1)(x)
    x = layers.Conv2D(8, 1, name="across")(x)
    x = layers.LayerNormalization()(x)
    x = layers.Conv2D(8, 1)(x)
    x = layers.RMSNormalization()(x)
    x = layers.Conv2D(8, 1)(x)
    x = layers.UnitNormalization()(x)
    model = classifier(inputs, x)
    assert_compresses(model)
    channels = prunable_channels(model)
    assert channels["free"] == channels["each"] == 8
    assert channels["grouped"] == channels["across"] == 0


def test_renormalization_between_convolutions():
    inputs = image()
    x = layers.Conv2D(8, 3, name="conv")(inputs)
    x = layers.BatchNormalization(renorm=True)(x)
    model = classifier(inputs, layers.Conv2D(6, 3)(x))
    assert_compresses(model)
    assert prunable_channels(model)["conv"] == 8


def test_initializers_that_hold_arrays():
    def constant(*shape):
        values = np.random.default_rng(0).uniform(1, 2, shape)
        return keras.initializers.Constant(values.astype("float32"))

    inputs = image()
    x = layers.Conv2D(8, 3, name="conv")(inputs)
    x = layers.BatchNormalization(gamma_initializer=constant(8))(x)
    kernel = constant(3, 3, 8, 1)
    x = layers.DepthwiseConv2D(3, depthwise_initializer=kernel)(x)
    x = layers.PReLU(alpha_initializer=constant(4, 4, 8))(x)
    model = classifier(inputs, layers.Conv2D(6, 3)(x))
    assert_compresses(model)
    assert prunable_channels(model)["conv"] == 8


def test_pooling_of_every_kind():
    inputs = image(12)
    x = layers.Conv2D(6, 3, padding="same")(inputs)
    x = layers.AveragePooling2D(2, padding="same")(x)
    x = layers.Conv2D(6, 3, padding="same")(x)
    x = layers.MaxPooling2D(3, strides=1)(x)
    if hasattr(layers, "AdaptiveAveragePooling2D"):
        x = layers.AdaptiveAveragePooling2D(2)(x)
    x = layers.Conv2D(6, 1, name="last")(x)
    x = layers.GlobalMaxPooling2D(keepdims=True)(x)
    model = classifier(inputs, x)
    assert_compresses(model)
    assert prunable_channels(model)["last"] == 6


def test_upsampling_padding_and_cropping():
    inputs = image()
    x = layers.Conv2D(6, 3)(inputs)
    x = layers.UpSampling2D(2, interpolation="bilinear")(x)
    x = layers.ZeroPadding2D(((1, 0), (0, 1)))(x)
    x = layers.Cropping2D(1)(x)
    x = layers.Resizing(6, 6)(x)
    x = layers.CenterCrop(4, 4)(x)
    assert_compresses(classifier(inputs, layers.Conv2D(5, 3)(x)))


def test_mixed_precision_layers():
    inputs = image()
    x = layers.Conv2D(8, 3, dtype="mixed_bfloat16", name="half")(inputs)
    x = layers.BatchNormalization()(x)
    x = layers.Conv2D(8, 3, dtype="mixed_float16", name="float16")(x)
    x = layers.Conv2D(8, 1, dtype="float32")(x)
    small = assert_compresses(classifier(inputs, x), tol=3e-2)
    policies = {layer.name: layer.dtype_policy.name for layer in small.layers}
    for name, policy in policies.items():
        if name.startswith("half"):
            assert policy == "mixed_bfloat16"
        if name.startswith("float16"):
            assert policy == "mixed_float16"


def test_unknown_image_size():
    inputs = keras.Input((None, None, 3))
    x = layers.Conv2D(8, 3, padding="same", activation="relu")(inputs)
    x = layers.MaxPooling2D()(x)
    x = layers.Conv2DTranspose(6, 3, 2, padding="same")(x)
    model = keras.Model(inputs, layers.Conv2D(2, 1)(x))
    small = assert_compresses(model)
    for size in (4, 10):
        inputs = random_inputs(model, size=size)
        assert small(inputs).shape == (2, size, size, 2)


def test_fixed_batch_size():
    inputs = keras.Input(batch_shape=(2, 6, 6, 3))
    x = layers.Conv2D(6, 3)(inputs)
    x = layers.Flatten()(x)
    assert_compresses(keras.Model(inputs, layers.Dense(3)(x)))


def test_trained_image_pipeline_with_preprocessing(tmp_path):
    inputs = image(10)
    x = layers.RandomFlip("horizontal")(inputs)
    x = layers.RandomRotation(0.1)(x)
    x = layers.RandomZoom(0.1)(x)
    x = layers.RandomContrast(0.1)(x)
    x = layers.Resizing(8, 8)(x)
    x = layers.Rescaling(1 / 127.5, offset=-1)(x)
    x = layers.Normalization(mean=[0.1, 0.2, 0.3], variance=[1, 2, 3])(x)
    x = layers.Rescaling([0.5, 0.6, 0.7])(x)
    x = layers.Conv2D(8, 3, name="conv")(x)
    model = classifier(inputs, x)
    small = assert_compresses(model)
    assert prunable_channels(model)["conv"] == 8
    assert_reloads(small, random_inputs(model), tmp_path / "small.keras")


def test_adapted_normalization_keeps_its_statistics():
    norm = layers.Normalization()
    inputs = image()
    norm.adapt(random_inputs(keras.Model(inputs, inputs)))
    x = layers.Conv2D(6, 3)(norm(inputs))
    assert_compresses(classifier(inputs, x))


@pytest.mark.skipif(
    keras.config.backend() == "tensorflow",
    reason="TensorFlow cannot run channels_first on a CPU",
)
def test_channels_first_runs():
    first = {"data_format": "channels_first"}
    inputs = keras.Input((3, 8, 8))
    x = layers.Conv2D(8, 3, **first)(inputs)
    x = layers.BatchNormalization(axis=1)(x)
    x = layers.DepthwiseConv2D(3, **first)(x)
    x = layers.MaxPooling2D(2, **first)(x)
    x = layers.SeparableConv2D(6, 1, **first)(x)
    x = layers.GlobalAveragePooling2D(**first)(x)
    model = keras.Model(inputs, layers.Dense(3)(x))
    assert_compresses(model)


def test_channels_first_is_analysed():
    first = {"data_format": "channels_first"}
    inputs = keras.Input((3, 8, 8))
    x = layers.Conv2D(8, 3, name="conv", **first)(inputs)
    x = layers.BatchNormalization(axis=1)(x)
    x = layers.Conv2D(6, 3, name="second", **first)(x)
    x = layers.Flatten(**first)(x)
    model = keras.Model(inputs, layers.Dense(3)(x))
    assert prunable_channels(model)["conv"] == 8
    assert prunable_channels(model)["second"] == 0
