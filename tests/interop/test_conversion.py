import sys

import keras
import numpy as np
import pytest
from keras import layers
from keras import ops

import keras_df as kdf
from keras_df.interop import to_tf_keras


def images_for(model, count=5):
    rng = np.random.default_rng(3)
    arrays = [
        rng.normal(size=(count, *x.shape[1:])).astype("float32")
        for x in model.inputs
    ]
    return arrays if len(arrays) > 1 else arrays[0]


def assert_computes_the_same(model, converted, tolerance=1e-5):
    x = images_for(model)
    expected = keras.tree.flatten(model(x, training=False))
    actual = keras.tree.flatten(converted(x, training=False))
    assert len(actual) == len(expected)
    for wanted, found in zip(expected, actual):
        wanted = np.asarray(wanted, float)
        scale = max(1.0, np.abs(wanted).max())
        np.testing.assert_allclose(found, wanted, atol=tolerance * scale)


def test_a_compressed_residual_network(residual_model):
    import tf_keras

    plan = kdf.baselines.energy(residual_model, kdf.MACs(0.5))
    small = kdf.compress(residual_model, plan)
    converted = to_tf_keras(small)
    assert isinstance(converted, tf_keras.Model)
    assert_computes_the_same(small, converted)
    # The same weights, to the bit.
    for layer in small.layers:
        if layer.weights:
            copies = converted.get_layer(layer.name).weights
            assert len(copies) == len(layer.weights)
            for old, copy in zip(layer.weights, copies):
                np.testing.assert_array_equal(np.asarray(old), copy.numpy())
    kinds = {type(layer).__name__ for layer in converted.layers}
    assert {"SlicingOpLambda", "TFOpLambda"} <= kinds
    assert "Lambda" not in kinds


def test_the_new_model_has_variables_of_its_own(chain_model):
    converted = to_tf_keras(chain_model)
    before = [np.array(x) for x in chain_model.get_weights()]
    for weight in converted.weights:
        weight.assign(weight + 1)
    for old, now in zip(before, chain_model.get_weights()):
        np.testing.assert_array_equal(old, now)


def test_every_training_setting_is_kept(residual_model):
    residual_model.get_layer("block1_conv1").trainable = False
    converted = to_tf_keras(residual_model)
    for layer in residual_model.layers:
        if layer.weights:
            new = converted.get_layer(layer.name)
            assert new.trainable == layer.trainable
            assert [x.shape for x in new.trainable_weights] == [
                x.shape for x in layer.trainable_weights
            ]
    norm = converted.get_layer("stem_bn")
    assert norm.momentum == residual_model.get_layer("stem_bn").momentum


def test_chains_of_layers(chain_model):
    assert_computes_the_same(chain_model, to_tf_keras(chain_model))


def test_several_inputs_and_outputs_keep_their_order():
    small, big = keras.Input((6,), name="small"), keras.Input((6,), name="big")
    first = layers.Dense(4)(big)
    outputs = {
        "difference": layers.Subtract()([first, layers.Dense(4)(small)]),
        "other": layers.Dense(3)(first),
    }
    model = keras.Model([small, big], outputs)
    converted = to_tf_keras(model)
    assert [x.name for x in converted.inputs] == ["small", "big"]
    assert set(converted(images_for(model))) == {"difference", "other"}
    assert_computes_the_same(model, converted)


def test_nested_models_come_apart_and_shared_layers_stay_shared():
    inner_inputs = keras.Input((8, 8, 3))
    x = layers.Conv2D(4, 3, name="conv")(inner_inputs)
    inner = keras.Model(inner_inputs, layers.ReLU()(x), name="inner")
    sequence = keras.Sequential(
        [layers.Conv2D(5, 3, name="conv"), layers.Flatten()], name="head"
    )
    left, right = keras.Input((8, 8, 3)), keras.Input((8, 8, 3))
    shared = layers.Dense(2, name="shared")
    outputs = [shared(sequence(inner(x))) for x in (left, right)]
    model = keras.Model([left, right], outputs)
    converted = to_tf_keras(model)
    names = [layer.name for layer in converted.layers]
    assert {"inner_conv", "head_conv", "shared"} <= set(names)
    assert names.count("shared") == 1
    assert len(converted.get_layer("inner_conv").inbound_nodes) == 2
    assert converted.count_params() == model.count_params()
    assert_computes_the_same(model, converted)


def test_mixed_precision_becomes_float32():
    model = keras.Sequential(
        [
            keras.Input((8, 8, 3)),
            layers.Conv2D(4, 3, dtype="mixed_float16"),
            layers.BatchNormalization(dtype="mixed_float16"),
            layers.Flatten(),
            layers.Dense(3, dtype="float32"),
        ]
    )
    converted = to_tf_keras(model)
    assert {x.compute_dtype for x in converted.layers} == {"float32"}
    assert_computes_the_same(model, converted, 2e-2)


def test_images_of_any_size():
    inputs = keras.Input((None, None, 3))
    x = layers.Conv2D(4, 3, strides=2)(inputs)
    model = keras.Model(inputs, layers.GlobalAveragePooling2D()(x))
    converted = to_tf_keras(model)
    assert converted.input_shape == (None, None, None, 3)
    x = np.random.default_rng(0).normal(size=(2, 11, 17, 3)).astype("float32")
    np.testing.assert_allclose(
        converted(x), np.asarray(model(x, training=False)), atol=1e-5
    )


@pytest.mark.parametrize(
    "name, shape", [("MobileNetV2", (32, 32, 3)), ("VGG16", (32, 32, 3))]
)
def test_applications(name, shape):
    model = getattr(keras.applications, name)(
        weights=None, input_shape=shape, classes=10
    )
    converted = to_tf_keras(model)
    assert converted.count_params() == model.count_params()
    assert_computes_the_same(model, converted)


class Doubled(layers.Layer):
    def call(self, inputs):
        return 2 * inputs


def test_what_cannot_be_translated_is_named():
    inputs = keras.Input((4,))
    nested = keras.Sequential(
        [keras.Input((4,)), Doubled(name="mine")], name="nested"
    )
    with pytest.raises(
        ValueError, match=r"'nested/mine' \(of type Doubled\) cannot be"
    ):
        to_tf_keras(keras.Model(inputs, nested(inputs)))
    with pytest.raises(ValueError, match="'cumsum.*there is no TensorFlow"):
        to_tf_keras(keras.Model(inputs, ops.cumsum(inputs)))


def test_a_difference_is_refused(chain_model, monkeypatch):
    names = to_tf_keras.__globals__
    outputs = names["expected_outputs"]
    monkeypatch.setitem(
        names,
        "expected_outputs",
        lambda *args: [x + 1e-3 for x in outputs(*args)],
    )
    with pytest.raises(RuntimeError, match="The tf_keras model does not"):
        to_tf_keras(chain_model)


def test_other_objects_are_refused(chain_model, monkeypatch):
    with pytest.raises(TypeError, match="Expected a `keras.Model`"):
        to_tf_keras("model.keras")
    with pytest.raises(ValueError, match="is a subclassed model"):
        to_tf_keras(type("Own", (keras.Model,), {})())
    monkeypatch.setattr(keras.config, "backend", lambda: "jax")
    with pytest.raises(RuntimeError, match="needs the TensorFlow backend"):
        to_tf_keras(chain_model)


def test_without_tf_keras_it_says_what_to_install(chain_model, monkeypatch):
    monkeypatch.setitem(sys.modules, "tf_keras", None)
    with pytest.raises(ImportError, match=r"pip install keras_df\[tfmot\]"):
        to_tf_keras(chain_model)
