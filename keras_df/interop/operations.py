"""An operation of `keras.ops` -> calls of TensorFlow on `tf_keras` tensors.

`tf_keras` makes a serializable layer of every TensorFlow function that is
called on its symbolic tensors. Where a stock layer computes the same, that is
called: tfmot knows stock layers.
"""

import numpy as np


def translate_operation(operation, name):
    """Returns what to call on `tf_keras` tensors in place of an operation.

    Args:
        operation: `keras.Operation` that is not a layer. It is called with
            the same arguments.
        name: Name of the layer that it may become.

    Returns:
        A layer or a function.

    Raises:
        ValueError: If it cannot be translated.
    """
    kind = type(operation)
    known = kind.__module__.startswith("keras.src.ops.")
    if not known or kind.__name__ not in _OPERATIONS:
        raise ValueError(
            "there is no TensorFlow function that is known to compute the "
            "same. Replace it by stock layers, or convert the parts of the "
            "model before and after it."
        )
    return _OPERATIONS[kind.__name__](operation, name)


def _tf():
    import tensorflow

    return tensorflow


def _layers():
    import tf_keras

    return tf_keras.layers


def _get_item(operation, name):
    return lambda x, key: x[tuple(key) if isinstance(key, list) else key]


def _pad(operation, name):
    def call(x, constant_values=None):
        widths = [list(pair) for pair in operation.pad_width]
        if len(widths) == 1:
            widths = widths * len(x.shape)
        mode, value = operation.mode.upper(), constant_values or 0
        return _tf().pad(x, widths, mode=mode, constant_values=value)

    return call


def _take(operation, name):
    if operation.axis is None:
        raise ValueError("it takes elements of the flattened tensor.")
    return lambda x, indices: _tf().gather(
        x, indices, axis=operation.axis % len(x.shape)
    )


def _reshape(operation, name):
    first, *sizes = operation.newshape
    if first in (-1, None) and -1 not in sizes:
        return _layers().Reshape(sizes, name=name)
    return lambda x: _tf().reshape(x, operation.newshape)


def _split(operation, name):
    def call(x):
        sections, axis = operation.indices_or_sections, operation.axis
        if not isinstance(sections, int):
            ends = [0, *sections, x.shape[axis]]
            sections = [b - a for a, b in zip(ends, ends[1:])]
        return _tf().split(x, sections, axis=axis)

    return call


def _merged(layer, function):
    """A layer for two tensors of one shape, a function for anything else."""

    def make(operation, name):
        merge = getattr(_layers(), layer)(name=name)

        def call(x1, x2):
            tensors = _is_symbolic(x1) and _is_symbolic(x2)
            if tensors and x1.shape == x2.shape:
                return merge([x1, x2])
            return _function(function)(*_of_one_type(x1, x2))

        return call

    return make


def _of_one_type(*values):
    """Gives constants the type of the tensors, as Keras does.

    Where a fraction meets integers, all become float32.
    """
    constants = [x for x in values if not _is_symbolic(x)]
    dtype = next(x.dtype for x in values if _is_symbolic(x))
    if dtype.is_integer and any(_is_fraction(x) for x in constants):
        dtype = _tf().float32
        values = [
            _tf().cast(x, dtype) if _is_symbolic(x) else x for x in values
        ]
    return [
        x if _is_symbolic(x) else np.asarray(x, dtype.as_numpy_dtype).tolist()
        for x in values
    ]


def _is_symbolic(value):
    return hasattr(value, "_keras_history")


def _is_fraction(constant):
    return np.asarray(constant).dtype.kind == "f"


def _reduced(function):
    def make(operation, name):
        return lambda x: _function(function)(
            x, axis=operation.axis, keepdims=operation.keepdims
        )

    return make


def _elementwise(function):
    return lambda operation, name: (
        lambda *args: _function(function)(*_of_one_type(*args))
    )


def _function(name):
    """A function of TensorFlow by its name below `tf`."""
    found = _tf()
    for part in name.split("."):
        found = getattr(found, part)
    return found


def _hard_sigmoid(name):
    # That of tf_keras is another function.
    relu6 = _layers().ReLU(max_value=6.0, name=name)
    return lambda x: relu6(x + 3.0) * (1.0 / 6.0)


def _hard_silu(name):
    gate = _hard_sigmoid(f"{name}_gate")
    product = _layers().Multiply(name=name)
    return lambda x: product([x, gate(x)])


ACTIVATIONS = {
    "relu6": lambda name: _layers().ReLU(max_value=6.0, name=name),
    "leaky_relu": lambda name: _layers().LeakyReLU(alpha=0.2, name=name),
    "hard_sigmoid": _hard_sigmoid,
    "hard_silu": _hard_silu,
    "log_softmax": lambda name: _tf().nn.log_softmax,
    "log_sigmoid": lambda name: _tf().math.log_sigmoid,
    "tanh_shrink": lambda name: lambda x: x - _tf().tanh(x),
}
"""What tf_keras has no activation for: functions of a layer's name."""


def _activation(activation):
    return lambda operation, name: ACTIVATIONS[activation](name)


_OPERATIONS = {
    "GetItem": _get_item,
    "Pad": _pad,
    "Take": _take,
    "Reshape": _reshape,
    "Split": _split,
    "Transpose": lambda op, name: lambda x: _tf().transpose(x, op.axes),
    "Concatenate": lambda op, name: _layers().Concatenate(op.axis, name=name),
    "Squeeze": lambda op, name: lambda x: _tf().squeeze(x, op.axis),
    "ExpandDims": lambda op, name: lambda x: _tf().expand_dims(x, op.axis),
    "Stack": lambda op, name: lambda xs: _tf().stack(xs, axis=op.axis),
    "Clip": lambda op, name: (
        lambda x: _tf().clip_by_value(x, op.x_min, op.x_max)
    ),
    "Cast": lambda op, name: lambda x: _tf().cast(x, op.dtype),
    "Add": _merged("Add", "math.add"),
    "Subtract": _merged("Subtract", "math.subtract"),
    "Multiply": _merged("Multiply", "math.multiply"),
    "Maximum": _merged("Maximum", "math.maximum"),
    "Minimum": _merged("Minimum", "math.minimum"),
    "Divide": _elementwise("math.divide"),
    "TrueDivide": _elementwise("math.divide"),
    "Power": _elementwise("math.pow"),
    "Negative": _elementwise("math.negative"),
    "Absolute": _elementwise("math.abs"),
    "Exp": _elementwise("math.exp"),
    "Log": _elementwise("math.log"),
    "Sqrt": _elementwise("math.sqrt"),
    "Rsqrt": _elementwise("math.rsqrt"),
    "Square": _elementwise("math.square"),
    "Tanh": _elementwise("math.tanh"),
    "Sigmoid": _elementwise("math.sigmoid"),
    "Softplus": _elementwise("math.softplus"),
    "Silu": _elementwise("nn.silu"),
    "Mean": _reduced("math.reduce_mean"),
    "Sum": _reduced("math.reduce_sum"),
    "Max": _reduced("math.reduce_max"),
    "Min": _reduced("math.reduce_min"),
    "Relu": lambda op, name: _layers().ReLU(name=name),
    "Relu6": _activation("relu6"),
    "LeakyRelu": lambda op, name: _layers().LeakyReLU(
        op.negative_slope, name=name
    ),
    "Elu": lambda op, name: _layers().ELU(op.alpha, name=name),
    "Gelu": lambda op, name: lambda x: _tf().nn.gelu(x, op.approximate),
    "HardSigmoid": _activation("hard_sigmoid"),
    "HardSilu": _activation("hard_silu"),
    "Softmax": lambda op, name: _layers().Softmax(op.axis, name=name),
    "LogSoftmax": lambda op, name: lambda x: _tf().nn.log_softmax(x, op.axis),
}
