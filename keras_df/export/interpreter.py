"""Running `.tflite` files."""

import numpy as np
from keras import tree


def make_interpreter(content, threads=1):
    """Makes an interpreter for a LiteRT model, tensors not yet allocated.

    Uses `ai-edge-litert` where it is installed, and the interpreter inside
    TensorFlow otherwise.

    Args:
        content: Bytes of the `.tflite` file.
        threads: Number of threads.

    Returns:
        An interpreter.
    """
    try:
        from ai_edge_litert.interpreter import Interpreter
    except ImportError:
        import tensorflow as tf

        Interpreter = tf.lite.Interpreter
    return Interpreter(model_content=content, num_threads=threads)


def allocate(interpreter, shapes):
    """Allocates tensors, for inputs of given shapes.

    Args:
        interpreter: An interpreter.
        shapes: List of tuples in the order of the interpreter's inputs.
    """
    for detail, shape in zip(interpreter.get_input_details(), shapes):
        if tuple(detail["shape"]) != tuple(shape):
            interpreter.resize_tensor_input(detail["index"], shape)
    interpreter.allocate_tensors()


def run(interpreter, inputs):
    """Runs an interpreter on one batch.

    Args:
        interpreter: An interpreter.
        inputs: List of arrays in the order of the interpreter's inputs,
            float; they are quantized where the file takes integers.

    Returns:
        List of arrays, dequantized where the file returns integers.
    """
    allocate(interpreter, [np.shape(value) for value in inputs])
    for detail, value in zip(interpreter.get_input_details(), inputs):
        interpreter.set_tensor(detail["index"], _quantized(detail, value))
    interpreter.invoke()
    return [
        _dequantized(detail, interpreter.get_tensor(detail["index"]))
        for detail in interpreter.get_output_details()
    ]


def ordered_inputs(interpreter, model, arrays):
    """Orders a model's inputs as an interpreter takes them.

    The converter names inputs `serving_default_<name>:0` or `serve_<name>`,
    and may reorder them.
    """
    details = interpreter.get_input_details()
    if len(details) == 1:
        return arrays
    names = [tensor.name for tensor in tree.flatten(model.inputs)]
    named = dict(zip(names, arrays))
    ordered = []
    for position, detail in enumerate(details):
        key = detail["name"].split(":")[0]
        key = key.removeprefix("serving_default_").removeprefix("serve_")
        ordered.append(named.get(key, arrays[position]))
    return ordered


def _quantized(detail, value):
    value = np.asarray(value)
    dtype = detail["dtype"]
    scale, zero = detail["quantization"]
    if scale and np.issubdtype(dtype, np.integer):
        info = np.iinfo(dtype)
        value = np.clip(np.round(value / scale + zero), info.min, info.max)
    return value.astype(dtype)


def _dequantized(detail, value):
    scale, zero = detail["quantization"]
    if scale and np.issubdtype(detail["dtype"], np.integer):
        return (value.astype(np.float32) - zero) * scale
    return value
