"""litert: a `.tflite` file for LiteRT (TensorFlow Lite)."""

import os
import tempfile

import keras
import numpy as np
from keras import tree

from keras_df.calibration import as_fit_reads
from keras_df.calibration import flat_inputs
from keras_df.calibration import iterate_batches
from keras_df.checks import check_choice
from keras_df.checks import check_positive_integer
from keras_df.export.interpreter import make_interpreter
from keras_df.export.interpreter import ordered_inputs
from keras_df.export.interpreter import run
from keras_df.export.portable import in_float32
from keras_df.export.portable import is_reduced
from keras_df.export.verification import check
from keras_df.export.verification import example_inputs
from keras_df.export.verification import expected_outputs
from keras_df.export.verification import require_tensorflow
from keras_df.files import check_target
from keras_df.files import replacing
from keras_df.graph.walk import graph_of

# Largest difference from Keras, as a share of the largest output.
_TOLERANCES = {None: 1e-4, "float16": 2e-2, "dynamic": 0.2, "int8": 0.5}
# The same for float32 where Keras itself computes in 16 bits.
_REDUCED_TOLERANCE = 2e-2
CALIBRATION_SAMPLES = 200


def litert(
    model: keras.Model,
    filepath: str,
    quantize: str | None = None,
    calibration=None,
    batch_size: int | None = 1,
    io_dtype: str = "float32",
) -> float:
    """Writes a model as a `.tflite` file, once it is verified.

    Args:
        model: `keras.Model`.
        filepath: Path of the file, ending in `.tflite`.
        quantize: None for float32, `"float16"`, `"dynamic"` for int8 weights,
            or `"int8"` for int8 weights, per channel, and int8 activations.
        calibration: Data as `Model.fit` takes it. Needed for `"int8"`;
            otherwise optional, and then used to verify the file on.
        batch_size: Number of samples the file takes at a time, None for any.
            A fixed size runs faster.
        io_dtype: Type of the inputs and outputs of an `"int8"` file:
            `"float32"`, or `"int8"` for hardware that has integers alone.
            Their scales and zero points are in the file.

    Returns:
        Float, the largest absolute difference from the outputs of Keras.

    Raises:
        TypeError: If `model` is not a `keras.Model`.
        ValueError: If an argument is invalid, or `model` is subclassed, or
            has a recurrent layer that is not unrolled and would be `"int8"`.
        OSError: If the file cannot be written.
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
    graph_of(model)
    check_target(filepath)
    filepath = os.fspath(filepath)
    check_choice("quantize", quantize, tuple(_TOLERANCES))
    if batch_size is not None:
        check_positive_integer("batch_size", batch_size)
    if not filepath.endswith(".tflite"):
        raise ValueError(
            f"`filepath` must end in '.tflite'. Received: filepath={filepath}"
        )
    if io_dtype not in ("float32", "int8"):
        raise ValueError(
            "`io_dtype` must be 'float32' or 'int8'. Received: "
            f"io_dtype={io_dtype!r}"
        )
    if io_dtype == "int8" and quantize != "int8":
        raise ValueError(
            "`io_dtype='int8'` needs `quantize='int8'`. Received: "
            f"quantize={quantize!r}"
        )
    if quantize == "int8":
        _check_integers(model, calibration)
    samples = _samples(model, calibration)

    def representative():
        return _as_converted(model, samples, batch_size or 1)

    options = _options(quantize, representative, io_dtype)
    content = convert(in_float32(model), options, batch_size)
    tolerance = _TOLERANCES[quantize]
    if is_reduced(model):
        tolerance = max(tolerance, _REDUCED_TOLERANCE)
    difference = _verify(model, content, samples, tolerance)
    with replacing(filepath) as new, open(new, "wb") as file:
        file.write(content)
    return difference


def _check_integers(model, calibration):
    if calibration is None:
        raise ValueError(
            "`quantize='int8'` needs the range of every activation: pass "
            "training data as `calibration`."
        )
    for layer in model._flatten_layers():
        # TensorFlow ends the process when it calibrates a loop.
        if isinstance(layer, keras.layers.RNN) and not layer.unroll:
            raise ValueError(
                f"Layer '{layer.name}' runs in a loop, which TensorFlow cannot "
                "quantize to 'int8'. Make it with `unroll=True`, or use "
                "`quantize='dynamic'`."
            )


def _samples(model, calibration):
    """List of inputs, each a list of arrays with one sample."""
    if calibration is None:
        arrays = example_inputs(model)
    else:
        arrays = _calibration_arrays(model, calibration)
    count = min(len(arrays[0]), CALIBRATION_SAMPLES)
    return [[array[i : i + 1] for array in arrays] for i in range(count)]


def _calibration_arrays(model, calibration):
    """The first samples of a data set, one array per input of the model."""
    parts, count = [], 0
    for batch in iterate_batches(as_fit_reads(model, calibration)):
        parts.append([np.asarray(x) for x in flat_inputs(model, batch)])
        count += len(parts[-1][0])
        if count >= CALIBRATION_SAMPLES:
            break
    if not parts:
        raise ValueError("`calibration` is empty: it has no batch to read.")
    return [np.concatenate(arrays) for arrays in zip(*parts)]


def _as_converted(model, samples, batch_size):
    """Samples as the converter takes them: by name, for it reorders inputs."""
    names = [tensor.name for tensor in graph_of(model).inputs]
    for arrays in samples:
        arrays = [np.repeat(x, batch_size, axis=0) for x in arrays]
        yield dict(zip(names, arrays)) if len(names) > 1 else arrays


def _options(quantize, representative, io_dtype):
    import tensorflow as tf

    if quantize is None:
        return {}
    options = {"optimizations": [tf.lite.Optimize.DEFAULT]}
    if quantize == "float16":
        options["target_spec"] = {"supported_types": [tf.float16]}
    if quantize == "int8":
        options["representative_dataset"] = representative
        options["target_spec"] = {
            "supported_ops": [tf.lite.OpsSet.TFLITE_BUILTINS_INT8]
        }
    if io_dtype == "int8":
        options["inference_input_type"] = tf.int8
        options["inference_output_type"] = tf.int8
    return options


def convert(model, options, batch_size):
    """Returns the bytes of a model's `.tflite` file.

    Args:
        model: `keras.Model`.
        options: Dict of attributes to set on the `tf.lite.TFLiteConverter`.
        batch_size: Number of samples per call, None for any.
    """
    signature = tree.map_structure(
        lambda x: keras.InputSpec(
            shape=(batch_size, *x.shape[1:]), dtype=x.dtype, name=x.name
        ),
        graph_of(model).input,
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
