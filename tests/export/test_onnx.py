import math
import os
import pathlib

import keras
import numpy as np
import pytest
from keras import layers

import keras_df as kdf
from keras_df.export import onnx

onnxruntime = pytest.importorskip("onnxruntime")
pytest.importorskip("tf2onnx")
pytestmark = pytest.mark.filterwarnings("ignore:In the future `np.object`")


def outputs_of(path, **inputs):
    session = onnxruntime.InferenceSession(
        str(path), providers=["CPUExecutionProvider"]
    )
    return session.run(None, inputs)


def test_a_compressed_network_in_any_batch_size(
    residual_model, images, tmp_path
):
    plan = kdf.baselines.energy(residual_model, kdf.MACs(0.5))
    small = kdf.compress(residual_model, plan)
    difference = onnx(small, tmp_path / "small.onnx")
    assert 0 <= difference < 1e-5
    assert os.listdir(tmp_path) == ["small.onnx"]
    for count in (7, 1):
        (actual,) = outputs_of(tmp_path / "small.onnx", image=images[:count])
        expected = np.asarray(small(images[:count], training=False))
        np.testing.assert_allclose(actual, expected, atol=1e-5)


def test_several_inputs_and_outputs(two_inputs, tmp_path):
    assert onnx(two_inputs, tmp_path / "model.onnx") < 1e-5
    rng = np.random.default_rng(0)
    small, big = rng.normal(size=(2, 3, 6)).astype("float32")
    actual = outputs_of(tmp_path / "model.onnx", small=small, big=big)
    expected = two_inputs([small, big], training=False)
    for found, wanted in zip(actual, expected):
        np.testing.assert_allclose(found, np.asarray(wanted), atol=1e-5)


def test_a_sequential_model_that_was_never_called(chain_model, tmp_path):
    assert onnx(chain_model, tmp_path / "model.onnx") < 1e-5


def test_statistics_do_not_become_inputs(images, tmp_path):
    inputs = keras.Input((8, 8, 3), name="image")
    x = layers.Normalization(mean=[0.1, 0.2, 0.3], variance=[1, 2, 3])(inputs)
    model = keras.Model(inputs, layers.Conv2D(4, 3)(x))
    assert onnx(model, tmp_path / "model.onnx") < 1e-5
    (actual,) = outputs_of(tmp_path / "model.onnx", image=images)
    expected = np.asarray(model(images, training=False))
    np.testing.assert_allclose(actual, expected, atol=1e-5)


def test_images_are_not_augmented(augmenting_model, images, tmp_path):
    assert onnx(augmenting_model, tmp_path / "model.onnx") < 1e-5
    (actual,) = outputs_of(tmp_path / "model.onnx", image=images)
    expected = np.asarray(augmenting_model(images, training=False))
    np.testing.assert_allclose(actual, expected, atol=1e-5)


def test_mixed_precision_becomes_float32(images, tmp_path):
    model = keras.Sequential(
        [
            keras.Input((8, 8, 3), name="image"),
            layers.Conv2D(4, 3, dtype="mixed_float16"),
            layers.Flatten(dtype="float32"),
        ]
    )
    assert 0 < onnx(model, tmp_path / "model.onnx") < 1e-2
    (actual,) = outputs_of(tmp_path / "model.onnx", image=images)
    assert actual.dtype == np.float32
    assert model.layers[0].compute_dtype == "float16"


@pytest.mark.parametrize("opset_version", [None, 9, 18])
def test_the_exact_gelu(images, opset_version, tmp_path):
    model = keras.Sequential(
        [
            keras.Input((8, 8, 3), name="image"),
            layers.Conv2D(4, 3, activation="gelu", name="first"),
            layers.Conv2D(4, 3, activation="gelu"),
        ]
    )
    assert onnx(model, tmp_path / "model.onnx", opset_version) < 1e-5
    (actual,) = outputs_of(tmp_path / "model.onnx", image=images)
    x = np.asarray(model.get_layer("first")(images))
    kernel, bias = map(np.asarray, model.layers[-1].weights)
    windows = np.lib.stride_tricks.sliding_window_view(x, (3, 3), (1, 2))
    x = np.einsum("bijchw,hwco->bijo", windows, kernel) + bias
    erf = np.vectorize(math.erf)
    expected = x * (1 + erf(x / 2**0.5)) / 2
    np.testing.assert_allclose(actual, expected, atol=1e-5)


def test_a_file_that_onnx_runtime_cannot_read_is_not_left(
    chain_model, tmp_path, monkeypatch
):
    def export(self, path, **options):
        pathlib.Path(path).write_bytes(b"no graph")

    monkeypatch.setattr(keras.Model, "export", export)
    with pytest.raises(RuntimeError, match="cannot read the ONNX file"):
        onnx(chain_model, tmp_path / "model.onnx")
    assert not os.listdir(tmp_path)


def test_images_of_any_size(tmp_path):
    inputs = keras.Input((None, None, 3), name="image")
    x = layers.Conv2D(4, 3, strides=2)(inputs)
    model = keras.Model(inputs, layers.GlobalAveragePooling2D()(x))
    assert onnx(model, tmp_path / "model.onnx") < 1e-5
    x = np.random.default_rng(0).normal(size=(2, 9, 14, 3)).astype("float32")
    (actual,) = outputs_of(tmp_path / "model.onnx", image=x)
    expected = np.asarray(model(x, training=False))
    np.testing.assert_allclose(actual, expected, atol=1e-5)


def test_a_wrong_file_is_never_written(chain_model, tmp_path, monkeypatch):
    path = tmp_path / "model.onnx"
    path.write_bytes(b"what was there")
    names = onnx.__globals__
    outputs = names["expected_outputs"]
    monkeypatch.setitem(
        names,
        "expected_outputs",
        lambda *args: [x + 1 for x in outputs(*args)],
    )
    with pytest.raises(RuntimeError, match="difference is 1.*is allowed"):
        onnx(chain_model, path)
    assert path.read_bytes() == b"what was there"
    assert os.listdir(tmp_path) == ["model.onnx"]


def test_inputs_that_the_model_has_not_are_refused(tmp_path, monkeypatch):
    monkeypatch.setitem(onnx.__globals__, "without_constants", lambda x: x)
    model = keras.Sequential(
        [keras.Input((3,)), layers.Normalization(mean=2, variance=3)]
    )
    with pytest.raises(RuntimeError, match="takes the inputs .*Sub/y"):
        onnx(model, tmp_path / "model.onnx")
    assert not os.listdir(tmp_path)


def test_missing_packages_are_named(chain_model, tmp_path, monkeypatch):
    monkeypatch.setitem(onnx.__globals__, "_PACKAGES", ("onnx", "onyxes"))
    with pytest.raises(ImportError, match=r"packages onyxes.*keras_df\[onnx\]"):
        onnx(chain_model, tmp_path / "model.onnx")


def test_invalid_arguments_are_refused(chain_model, tmp_path, monkeypatch):
    with pytest.raises(ValueError, match=r"must end in '\.onnx'"):
        onnx(chain_model, tmp_path / "model.pb")
    with pytest.raises(TypeError, match="Expected a `keras.Model`"):
        onnx(None, tmp_path / "model.onnx")
    monkeypatch.setattr(keras.config, "backend", lambda: "jax")
    with pytest.raises(RuntimeError, match="needs the TensorFlow backend"):
        onnx(chain_model, tmp_path / "model.onnx")
    assert not os.listdir(tmp_path)
