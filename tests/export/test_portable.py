import keras
import numpy as np
import pytest
from keras import layers

from keras_df.export.portable import at_inference
from keras_df.export.portable import in_float32
from keras_df.export.portable import is_reduced
from keras_df.export.portable import without_constants


def policies(model):
    return {layer.compute_dtype for layer in model._flatten_layers()}


def test_a_float32_model_stays_the_same_object(chain_model):
    assert not is_reduced(chain_model)
    assert in_float32(chain_model) is chain_model
    assert without_constants(chain_model) is chain_model
    assert at_inference(chain_model) is chain_model


@pytest.mark.parametrize("policy", ["mixed_float16", "mixed_bfloat16"])
def test_a_twin_in_float32_has_the_weights(policy, images):
    inputs = keras.Input((8, 8, 3))
    inner = keras.Sequential(
        [layers.Conv2D(4, 3, dtype=policy), layers.ReLU(dtype=policy)]
    )
    x = layers.Flatten(dtype="float32")(inner(inputs))
    model = keras.Model(inputs, x)
    twin = in_float32(model)
    assert is_reduced(model) and not is_reduced(twin)
    for old, new in zip(model.get_weights(), twin.get_weights(), strict=True):
        np.testing.assert_array_equal(old, new)
    difference = np.asarray(twin(images)) - np.asarray(model(images))
    assert 0 < np.abs(difference).max() < 2e-2
    assert policies(model) >= {keras.DTypePolicy(policy).compute_dtype}


@pytest.mark.parametrize("invert", [False, True])
@pytest.mark.parametrize("adapted", [False, True])
def test_a_rescaling_computes_what_a_normalization_computes(invert, adapted):
    rng = np.random.default_rng(0)
    if adapted:
        layer = layers.Normalization(invert=invert)
        layer.adapt(rng.normal(3, 2, size=(99, 5, 3)))
    else:
        layer = layers.Normalization(
            mean=[1, 2, 3], variance=[1, 0, 4], invert=invert
        )
    inputs = keras.Input((5, 3))
    model = keras.Model(inputs, layers.Dense(2)(layer(inputs)))
    plain = without_constants(model)
    kinds = [type(x) for x in plain.layers]
    assert layers.Rescaling in kinds and layers.Normalization not in kinds
    x = np.asarray([1, 2, 3]) + rng.normal(size=(4, 5, 3)) * [1, 0, 1]
    expected = np.asarray(model(x.astype("float32")))
    np.testing.assert_allclose(
        plain(x.astype("float32")), expected, rtol=1e-4, atol=1e-4
    )


def test_what_augments_infers_unless_told_otherwise(augmenting_model, images):
    model = at_inference(augmenting_model)
    expected = np.asarray(augmenting_model(images, training=False))
    np.testing.assert_array_equal(model(images), expected)
    assert not np.allclose(augmenting_model(images), expected)
    assert not augmenting_model._inbound_nodes
