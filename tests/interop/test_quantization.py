import keras
import numpy as np
import pytest
from keras import layers
from keras import ops

import keras_df as kdf
from keras_df.export.interpreter import make_interpreter
from keras_df.interop import quantize_annotate
from keras_df.interop import to_tf_keras


def camera_network():
    """Preprocessing, an option-A shortcut, a gate: what tfmot has no rule for.

    Its kernels are pairs already, as `compress` makes them.
    """
    inputs = keras.Input((8, 8, 3))
    x = layers.Rescaling(1 / 255, name="rescale")(inputs)
    x = layers.Normalization(
        mean=[0.5, 0.4, 0.3], variance=[0.1, 0.2, 0.3], name="normalize"
    )(x)
    x = layers.Conv2D(4, 3, padding="same", use_bias=False, name="stem")(x)
    x = layers.ReLU()(layers.BatchNormalization(momentum=0.0)(x))
    shortcut = ops.pad(x[:, ::2, ::2, :], [[0, 0], [0, 0], [0, 0], [2, 2]])
    x = layers.Conv2D(3, 3, 2, "same", use_bias=False)(x)
    x = layers.Conv2D(8, 1, use_bias=False)(x)
    x = layers.BatchNormalization(momentum=0.0)(x)
    x = layers.ReLU()(layers.Add()([x, shortcut]))
    outputs = layers.Dense(5)(layers.GlobalAveragePooling2D()(x))
    return keras.Model(inputs, outputs)


@pytest.fixture
def pictures():
    rng = np.random.default_rng(0)
    return rng.uniform(0, 255, size=(64, 8, 8, 3)).astype("float32")


def test_an_annotated_model_computes_what_the_model_computes(tfmot, pictures):
    model = to_tf_keras(camera_network())
    annotated = quantize_annotate(model)
    np.testing.assert_allclose(
        annotated(pictures, training=False),
        model(pictures, training=False),
        atol=1e-5,
    )
    kinds = [type(x.layer).__name__ for x in annotated.layers if _is_wrapper(x)]
    assert kinds[0] == "DepthwiseConv2D"


def test_a_sequential_model_is_annotated(tfmot, pictures):
    import tf_keras

    model = tf_keras.Sequential(
        [
            tf_keras.Input((8, 8, 3)),
            tf_keras.layers.Conv2D(4, 3, use_bias=False),
            tf_keras.layers.BatchNormalization(),
            tf_keras.layers.ReLU(),
            tf_keras.layers.Flatten(),
            tf_keras.layers.Dense(5),
        ]
    )
    images = pictures / 255
    annotated = quantize_annotate(model)
    expected = model(images, training=False).numpy()
    np.testing.assert_allclose(annotated(images), expected, atol=1e-5)
    with tfmot.quantize_scope():
        aware = tfmot.quantize_apply(annotated)
    aware(images, training=True)  # Learns the ranges of kernels.
    quantized = aware(images, training=False).numpy()
    assert 0 < np.abs(quantized - expected).max() < 0.1 * np.ptp(expected)


def _is_wrapper(layer):
    return type(layer).__name__ == "QuantizeAnnotate"


def test_aware_training_ends_in_integers_alone(tfmot, pictures):
    import tensorflow as tf

    model = to_tf_keras(camera_network())
    with tfmot.quantize_scope():
        aware = tfmot.quantize_apply(quantize_annotate(model))
    expected = model(pictures, training=True).numpy()
    aware.compile("sgd", "mse")
    aware.optimizer.learning_rate = 0.0  # Ranges are learned all the same.
    aware.fit(pictures, expected, batch_size=64, epochs=20, verbose=0)
    trained = {x.name.split("/")[0] for x in aware.trainable_weights}
    assert "stem" in trained and not {"rescale", "normalize"} & trained
    quantized = aware(pictures, training=False).numpy()
    difference = np.abs(quantized - expected).max()
    assert 0 < difference < 0.2 * np.ptp(expected)

    converter = tf.lite.TFLiteConverter.from_keras_model(aware)
    converter.optimizations = [tf.lite.Optimize.DEFAULT]
    converter.inference_input_type = tf.int8
    converter.inference_output_type = tf.int8
    interpreter = make_interpreter(converter.convert())
    kinds = {x["dtype"] for x in interpreter.get_tensor_details()}
    assert kinds == {np.int8, np.int32}


def test_layers_that_tfmot_has_no_rule_for_get_their_output_quantized(tfmot):
    inputs = keras.Input((8, 8, 3))
    x = layers.BatchNormalization(name="alone")(inputs)
    x = layers.Conv2D(4, 3, name="conv")(x)
    x = layers.BatchNormalization(name="folded")(x)
    x = layers.Activation("elu", name="elu")(x)
    x = layers.Multiply(name="gate")([x, ops.sigmoid(x)])
    x = layers.SeparableConv2D(4, 3, name="separable")(x)
    annotated = quantize_annotate(to_tf_keras(keras.Model(inputs, x)))
    configs = {
        x.layer.name: x.quantize_config
        for x in annotated.layers
        if hasattr(x, "quantize_config")
    }
    own = {name for name, config in configs.items() if config is not None}
    assert own == {"alone", "elu", "gate"}
    assert set(configs) - own == {"conv", "folded", "separable"}
    with tfmot.quantize_scope():
        aware = tfmot.quantize_apply(annotated)
    assert aware(np.zeros((1, 8, 8, 3), "float32")).shape == (1, 4, 4, 4)


@pytest.mark.parametrize(
    "layer",
    [
        layers.Conv2D(4, 3, activation="relu"),
        layers.DepthwiseConv2D(3, activation="relu"),
        layers.Dense(4, activation="relu"),
    ],
    ids=lambda layer: type(layer).__name__,
)
def test_normalization_behind_an_activation(layer, tfmot, pictures):
    normalize = layers.BatchNormalization(trainable=False)
    parts = [keras.Input((8, 8, 3)), layer, normalize, layers.Conv2D(2, 3)]
    model = to_tf_keras(keras.Sequential(parts))
    annotated = quantize_annotate(model)
    with tfmot.quantize_scope():
        aware = tfmot.quantize_apply(annotated)
    images = pictures / 255
    for _ in range(200):
        aware(images, training=True)
    expected = model(images, training=False)
    np.testing.assert_allclose(aware(images), expected, atol=0.2)


def test_a_compressed_network_is_annotated(tfmot, residual_model, images):
    plan = kdf.baselines.uniform_rank(residual_model, kdf.MACs(0.5))
    model = to_tf_keras(kdf.compress(residual_model, plan))
    with tfmot.quantize_scope():
        aware = tfmot.quantize_apply(quantize_annotate(model))
    aware(images, training=True)
    expected = model(images, training=True).numpy()
    actual = aware(images, training=True).numpy()
    assert np.abs(actual - expected).max() < 0.3 * np.ptp(expected)


def test_a_layer_that_is_called_twice_is_refused(tfmot):
    inputs = keras.Input((4,))
    shared = layers.Dense(4, name="shared")
    model = to_tf_keras(keras.Model(inputs, shared(shared(inputs))))
    with pytest.raises(ValueError, match="'shared' is called 2 times"):
        quantize_annotate(model)
