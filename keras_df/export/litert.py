"""litert: a `.tflite` file for LiteRT (TensorFlow Lite)."""

import os
import tempfile

import keras
import numpy as np
from keras import tree

from keras_df.calibration import take_batches
from keras_df.export.interpreter import make_interpreter
from keras_df.export.interpreter import ordered_inputs
from keras_df.export.interpreter import run
from keras_df.export.verification import check
from keras_df.export.verification import example_inputs
from keras_df.export.verification import expected_outputs
from keras_df.export.verification import require_tensorflow

# Largest difference from Keras, as a share of the largest output.
_TOLERANCES = {None: 1e-4, "float16": 2e-2, "dynamic": 0.2, "int8": 0.5}
CALIBRATION_SAMPLES = 200


def litert(
    model: keras.Model,
    filepath: str,
    quantize: str | None = None,
    calibration=None,
    batch_size: int | None = 1,
) -> float:
    """Writes a model as a `.tflite` file, once it is verified.

    Args:
        model: `keras.Model`.
        filepath: Path of the file, ending in `.tflite`.
        quantize: None for float32, `"float16"`, `"dynamic"` for int8 weights,
            or `"int8"` for int8 weights and activations, with float inputs
            and outputs.
        calibration: Data as `Model.fit` takes it. Needed for `"int8"`;
            otherwise optional, and then used to verify the file on.
        batch_size: Number of samples the file takes at a time, None for any.
            A fixed size runs faster.

    Returns:
        Float, the largest absolute difference from the outputs of Keras.

    Raises:
        ValueError: If an argument is invalid.
        RuntimeError: If the file does not compute what the model computes, or
            if Keras does not run on TensorFlow. No file is written then.

    Example:

    ```python
    keras_df.export.litert(small, "small.tflite")
    keras_df.export.litert(
        small, "small_int8.tflite", quantize="int8", calibration=train
    )
    ```
    """
    require_tensorflow("Exporting to LiteRT")
    filepath = os.fspath(filepath)
    if quantize not in _TOLERANCES:
        raise ValueError(
            f"`quantize` must be one of {tuple(_TOLERANCES)}. Received: "
            f"quantize={quantize!r}"
        )
    if not filepath.endswith(".tflite"):
        raise ValueError(
            f"`filepath` must end in '.tflite'. Received: filepath={filepath}"
        )
    samples = _samples(model, calibration)
    if quantize == "int8" and calibration is None:
        raise ValueError(
            "`quantize='int8'` needs the range of every activation: pass "
            "training data as `calibration`."
        )
    content = _convert(model, _options(quantize, samples), batch_size)
    difference = _verify(model, content, samples, _TOLERANCES[quantize])
    _write(filepath, content)
    return difference


def _samples(model, calibration):
    """List of inputs, each a list of arrays with one sample."""
    if calibration is None:
        arrays = example_inputs(model)
    else:
        batches = take_batches(calibration, CALIBRATION_SAMPLES, 1)
        flat = [tree.flatten(batch) for batch in batches]
        arrays = [
            np.concatenate([np.asarray(batch[i]) for batch in flat])
            for i in range(len(flat[0]))
        ]
    arrays = [
        array.astype(tensor.dtype)
        for array, tensor in zip(arrays, model.inputs)
    ]
    count = min(len(arrays[0]), CALIBRATION_SAMPLES)
    return [[array[i : i + 1] for array in arrays] for i in range(count)]


def _options(quantize, samples):
    import tensorflow as tf

    if quantize is None:
        return {}
    options = {"optimizations": [tf.lite.Optimize.DEFAULT]}
    if quantize == "float16":
        options["target_spec"] = {"supported_types": [tf.float16]}
    if quantize == "int8":
        options["representative_dataset"] = lambda: iter(samples)
        options["target_spec"] = {
            "supported_ops": [tf.lite.OpsSet.TFLITE_BUILTINS_INT8]
        }
    return options


def _convert(model, options, batch_size):
    signature = tree.map_structure(
        lambda x: keras.InputSpec(
            shape=(batch_size, *x.shape[1:]), dtype=x.dtype, name=x.name
        ),
        model.input,
    )
    with tempfile.TemporaryDirectory() as folder:
        path = os.path.join(folder, "model.tflite")
        model.export(
            path,
            format="litert",
            input_signature=[signature],
            verbose=False,
            **options,
        )
        with open(path, "rb") as file:
            return file.read()


def _verify(model, content, samples, tolerance):
    interpreter = make_interpreter(content)
    worst = 0.0
    for arrays in samples[:8]:
        shapes = zip(interpreter.get_input_details(), arrays)
        if any(d["shape"][0] != len(x) for d, x in shapes):
            size = interpreter.get_input_details()[0]["shape"][0]
            arrays = [np.repeat(x, size, axis=0) for x in arrays]
        actual = run(interpreter, ordered_inputs(interpreter, model, arrays))
        expected = expected_outputs(model, arrays)
        worst = max(worst, check(expected, actual, tolerance, "The file"))
    return worst


def _write(filepath, content):
    folder = os.path.dirname(os.path.abspath(filepath))
    handle, temporary = tempfile.mkstemp(dir=folder, suffix=".tmp")
    try:
        with os.fdopen(handle, "wb") as file:
            file.write(content)
        os.replace(temporary, filepath)
    except BaseException:
        os.unlink(temporary)
        raise
