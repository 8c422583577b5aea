import os

import keras
import numpy as np
import pytest
from keras import layers

import keras_df as kdf
from keras_df.export import litert
from keras_df.export.interpreter import make_interpreter
from keras_df.export.interpreter import run
from keras_df.export.litert import CALIBRATION_SAMPLES
from keras_df.export.litert import _calibration_arrays


def load(path):
    interpreter = make_interpreter(path.read_bytes())
    interpreter.allocate_tensors()
    return interpreter


def outputs_of(path, image):
    interpreter = load(path)
    (source,) = interpreter.get_input_details()
    (target,) = interpreter.get_output_details()
    interpreter.set_tensor(source["index"], image)
    interpreter.invoke()
    return interpreter.get_tensor(target["index"])


@pytest.mark.parametrize("name", ["chain_model", "residual_model"])
def test_the_file_computes_what_keras_computes(name, request, images, tmp_path):
    model = request.getfixturevalue(name)
    difference = litert(model, tmp_path / "model.tflite")
    assert 0 <= difference < 1e-5
    actual = outputs_of(tmp_path / "model.tflite", images[:1])
    expected = np.asarray(model(images[:1], training=False))
    np.testing.assert_allclose(actual, expected, atol=1e-5)
    assert os.listdir(tmp_path) == ["model.tflite"]


def test_a_compressed_model_makes_a_smaller_file(residual_model, tmp_path):
    plan = kdf.baselines.random(residual_model, kdf.Params(0.3))
    litert(residual_model, tmp_path / "big.tflite")
    small = kdf.compress(residual_model, plan)
    assert litert(small, tmp_path / "small.tflite") < 1e-5
    sizes = [
        os.path.getsize(tmp_path / f"{x}.tflite") for x in ("big", "small")
    ]
    saved = 4 * (plan.costs["params"][0] - plan.costs["params"][1])
    assert sizes[0] - sizes[1] > 0.5 * saved


def test_inputs_are_not_mistaken_for_each_other(two_inputs, tmp_path):
    assert litert(two_inputs, tmp_path / "two.tflite") < 1e-5


def test_calibration_data_by_the_names_of_inputs(two_inputs, tmp_path):
    rng = np.random.default_rng(0)
    data = {
        "big": rng.normal(size=(20, 6)) * 100,
        "small": rng.normal(size=(20, 6)),
    }
    difference = litert(
        two_inputs, tmp_path / "two.tflite", quantize="int8", calibration=data
    )
    assert difference < 10  # Of values in the hundreds.


@pytest.mark.parametrize("quantize", ["float16", "dynamic"])
def test_quantized_weights_make_a_smaller_file(quantize, tmp_path):
    model = keras.Sequential(
        [keras.Input((32,)), layers.Dense(128), layers.Dense(4)]
    )
    litert(model, tmp_path / "float.tflite")
    difference = litert(model, tmp_path / "small.tflite", quantize)
    assert 0 < difference < 0.05
    ratio = {"float16": 0.65, "dynamic": 0.5}[quantize]
    sizes = [
        os.path.getsize(tmp_path / f"{x}.tflite") for x in ("float", "small")
    ]
    assert sizes[1] < ratio * sizes[0]


def test_int8_has_float_ends_and_integers_inside(
    residual_model, images, tmp_path
):
    path = tmp_path / "int8.tflite"
    litert(residual_model, path, quantize="int8", calibration=images)
    expected = np.asarray(residual_model(images[:1], training=False))
    actual = outputs_of(path, images[:1])
    assert actual.dtype == np.float32
    np.testing.assert_allclose(
        actual, expected, atol=0.1 * np.abs(expected).max()
    )
    kinds = [d["dtype"] for d in load(path).get_tensor_details()]
    assert kinds.count(np.int8) > 10


def test_int8_ends_leave_integers_alone(residual_model, images, tmp_path):
    path = tmp_path / "int8.tflite"
    difference = litert(residual_model, path, "int8", images, io_dtype="int8")
    expected = np.asarray(residual_model(images[:8], training=False))
    assert 0 < difference < 0.1 * np.abs(expected).max()
    details = load(path).get_tensor_details()
    assert {x["dtype"] for x in details} == {np.int8, np.int32}


def test_int8_weights_are_quantized_per_channel(images, tmp_path):
    # With one scale for all, a filter a thousand times smaller would vanish.
    model = keras.Sequential(
        [keras.Input((8, 8, 3)), layers.Conv2D(6, 3, name="conv")]
    )
    kernel, bias = model.get_weights()
    model.set_weights([kernel * np.logspace(-3, 0, 6), bias])
    litert(model, tmp_path / "int8.tflite", "int8", images)
    scales = [
        x["quantization_parameters"]["scales"]
        for x in load(tmp_path / "int8.tflite").get_tensor_details()
        if tuple(x["shape"]) == (6, 3, 3, 3)
    ]
    largest = np.abs(kernel).max((0, 1, 2)) * np.logspace(-3, 0, 6)
    np.testing.assert_allclose(scales, [largest / 127], rtol=1e-3)


@pytest.mark.parametrize("quantize", [None, "float16", "dynamic", "int8"])
def test_mixed_precision_becomes_float32(quantize, images, tmp_path):
    model = keras.Sequential(
        [
            keras.Input((8, 8, 3)),
            layers.Conv2D(4, 3, dtype="mixed_float16"),
            layers.BatchNormalization(dtype="mixed_float16"),
            layers.Flatten(dtype="mixed_float16"),
        ]
    )
    path = tmp_path / "model.tflite"
    assert 0 < litert(model, path, quantize, images) < 0.1
    assert outputs_of(path, images[:1]).dtype == np.float32
    assert model.layers[0].compute_dtype == "float16"


@pytest.mark.parametrize("batch_size", [4, None])
def test_int8_for_other_numbers_of_samples(
    chain_model, images, batch_size, tmp_path
):
    path = tmp_path / "int8.tflite"
    litert(chain_model, path, "int8", images, batch_size=batch_size)
    interpreter = make_interpreter(path.read_bytes())
    (actual,) = run(interpreter, [images[:4]])
    expected = np.asarray(chain_model(images[:4], training=False))
    np.testing.assert_allclose(
        actual, expected, atol=0.1 * np.abs(expected).max()
    )


def test_int8_needs_calibration(residual_model, tmp_path):
    with pytest.raises(ValueError, match="needs the range of every activation"):
        litert(residual_model, tmp_path / "m.tflite", quantize="int8")
    assert not os.listdir(tmp_path)


def recurrent(unroll):
    gru = layers.GRU(4, unroll=unroll, name="inside")
    return keras.Sequential(
        [keras.Input((5, 3)), layers.Bidirectional(gru), layers.Dense(2)]
    )


def test_loops_are_quantized_only_where_they_are_unrolled(tmp_path):
    path, x = tmp_path / "model.tflite", np.ones((8, 5, 3), "float32")
    with pytest.raises(ValueError, match="'.*_inside' runs in a loop"):
        litert(recurrent(False), path, "int8", x)
    assert not path.exists()
    assert litert(recurrent(False), path, "dynamic", x) < 0.05
    assert litert(recurrent(True), path, "int8", x) < 0.1


def test_empty_calibration_data_is_refused(residual_model, images, tmp_path):
    with pytest.raises(ValueError, match="`calibration` is empty"):
        litert(
            residual_model,
            tmp_path / "m.tflite",
            quantize="int8",
            calibration=images[:0],
        )


def test_calibration_reads_no_more_than_it_needs(residual_model, images):
    read = []

    def endless():
        while True:
            read.append(1)
            yield images, None

    (array,) = _calibration_arrays(residual_model, endless())
    assert CALIBRATION_SAMPLES <= len(array) < CALIBRATION_SAMPLES + 32
    assert len(read) == len(array) / 32


@pytest.mark.parametrize(
    "arguments, message",
    [
        ({"quantize": "int4"}, "`quantize` must be one of"),
        ({"io_dtype": "int16"}, "`io_dtype` must be 'float32' or 'int8'"),
        ({"io_dtype": "int8"}, "needs `quantize='int8'`.*quantize=None"),
        ({"filepath": "model.bin"}, r"must end in '\.tflite'"),
    ],
)
def test_invalid_arguments_are_refused(
    residual_model, arguments, message, tmp_path, monkeypatch
):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(ValueError, match=message):
        litert(residual_model, **{"filepath": "model.tflite", **arguments})
    assert not os.listdir(tmp_path)


def test_a_subclassed_model_is_refused(tmp_path):
    class Own(keras.Model):
        def call(self, inputs):
            return inputs

    with pytest.raises(ValueError, match="is a subclassed model"):
        litert(Own(), tmp_path / "m.tflite")


def test_a_wrong_file_is_never_written(residual_model, tmp_path, monkeypatch):
    path = tmp_path / "model.tflite"
    path.write_bytes(b"what was there")
    outputs = kdf.export.litert.__globals__["expected_outputs"]
    monkeypatch.setitem(
        kdf.export.litert.__globals__,
        "expected_outputs",
        lambda *args: [x + 1 for x in outputs(*args)],
    )
    with pytest.raises(RuntimeError, match="does not compute what the Keras"):
        litert(residual_model, path)
    assert path.read_bytes() == b"what was there"
    assert os.listdir(tmp_path) == ["model.tflite"]


def test_another_backend_is_refused(residual_model, tmp_path, monkeypatch):
    monkeypatch.setattr(keras.config, "backend", lambda: "jax")
    with pytest.raises(RuntimeError, match="needs the TensorFlow backend"):
        litert(residual_model, tmp_path / "model.tflite")
    assert not os.listdir(tmp_path)


@pytest.mark.parametrize("batch_size, size", [(1, 1), (4, 4), (None, -1)])
def test_the_number_of_samples_at_a_time(
    chain_model, batch_size, size, tmp_path
):
    path = tmp_path / "model.tflite"
    litert(chain_model, path, batch_size=batch_size)
    (detail,) = load(path).get_input_details()
    assert detail["shape_signature"].tolist() == [size, 8, 8, 3]


def test_images_of_any_size(tmp_path):
    inputs = keras.Input((None, None, 3))
    x = layers.Conv2D(4, 3, strides=2)(inputs)
    model = keras.Model(inputs, layers.GlobalAveragePooling2D()(x))
    path = tmp_path / "model.tflite"
    assert litert(model, path) < 1e-5
    (detail,) = make_interpreter(path.read_bytes()).get_input_details()
    assert detail["shape_signature"].tolist() == [1, -1, -1, 3]


def test_whole_numbers_as_inputs(tmp_path):
    inputs = keras.Input((5,), dtype="int32")
    x = layers.Flatten()(layers.Embedding(7, 3)(inputs))
    model = keras.Model(inputs, layers.Dense(2)(x))
    assert litert(model, tmp_path / "model.tflite") < 1e-5
