"""Rules for matrix products without a kernel that keras_df can change.

They are left alone; their multiply-accumulates count.
"""

import math

import numpy as np
from keras import layers

from keras_df.graph.call import positions
from keras_df.graph.channels import Channels
from keras_df.graph.registry import Flow
from keras_df.graph.registry import register_rule
from keras_df.graph.rules.convolution import channel_axis


def label_sizes(equation, shapes):
    """Sizes of an einsum's labels.

    Args:
        equation: String such as `"abc,cd->abd"`.
        shapes: List of the operands' shapes; None counts as 1.

    Returns:
        Tuple of a dict from each label to its size, and a list of the sizes
        that `...` stands for.
    """
    operands = equation.replace(" ", "").split("->")[0].split(",")
    sizes, more = {}, []
    for labels, shape in zip(operands, shapes, strict=True):
        shape = [size or 1 for size in shape]
        left, dots, right = labels.partition("...")
        end = len(shape) - len(right)
        if dots:
            more = max(more, shape[len(left) : end], key=len)
        named = zip(left + right, shape[: len(left)] + shape[end:])
        sizes.update(named)
    return sizes, more


def einsum_macs(equation, shapes):
    """Multiply-accumulates of an einsum: the product of all its sizes."""
    sizes, more = label_sizes(equation, shapes)
    return math.prod(sizes.values()) * math.prod(more)


@register_rule(layers.EinsumDense)
def einsum_dense(call):
    layer = call.operation
    reason = f"`{layer.name}` is an EinsumDense, which is left alone"
    shapes = [call.inputs[0].shape, layer.kernel.shape]
    macs = einsum_macs(layer.equation, shapes)
    return Flow(
        [_einsum_dense_output(call, shapes, reason)],
        macs=call.freeze(reason, macs=macs).macs,
    )


def _einsum_dense_output(call, shapes, reason):
    """Its `output_shape` may leave sizes open that its input gives."""
    equation = call.operation.equation.replace(" ", "")
    sizes, more = label_sizes(equation, shapes)
    left, dots, right = equation.split("->")[1].partition("...")
    shape = [sizes[x] for x in left] + (more if dots else [])
    shape += [sizes[x] for x in right]
    return Channels(
        (None, *shape[1:]), reason=reason, dtype=call.specs[0].dtype
    )


@register_rule("Einsum")
def einsum(call):
    operands = [_shape(x) for x in call.args]
    return call.freeze(
        f"`{call.operation.name}` reads across channels",
        macs=einsum_macs(call.operation.subscripts, operands),
    )


def _shape(value):
    return value.shape if hasattr(value, "shape") else np.shape(value)


@register_rule(layers.Dot)
def dot(call):
    axes = call.operation.axes
    axis = axes if isinstance(axes, int) else axes[0]
    return _product(call, call.inputs[0].shape[axis])


@register_rule("Matmul", "Dot", "Inner", "Tensordot")
def matrix_product(call):
    """Tensordot contracts as many axes as the result lacks."""
    first, second = (_shape(x) for x in call.args)
    if type(call.operation).__name__ != "Tensordot":
        return _product(call, first[-1])
    total = math.prod(size or 1 for size in (*first, *second))
    result = positions(call.specs[0].shape)
    return _product(call, math.isqrt(max(total // max(result, 1), 1)))


def _product(call, contracted):
    """Each element of the result is a sum over the contracted axis."""
    return call.freeze(
        f"`{call.operation.name}` reads across channels",
        macs=positions(call.specs[0].shape) * (contracted or 1),
    )


@register_rule("Conv", "DepthwiseConv", "SeparableConv", "ConvTranspose")
def convolution_operation(call):
    """`keras.ops.conv` and the like: the kernel is an argument."""
    kind, result = type(call.operation).__name__, call.specs[0].shape
    kernel = tuple(call.args[1].shape)
    taps, size = math.prod(kernel[:-2]), positions(result)
    if kind == "Conv":
        macs = size * taps * kernel[-2]
    elif kind == "DepthwiseConv":
        macs = size * taps
    elif kind == "ConvTranspose":
        inputs = positions(call.inputs[0].shape)
        macs = inputs * taps * kernel[-2]
    else:
        area = size // result[channel_axis(call.operation)]
        middle = kernel[-2] * kernel[-1]
        macs = area * middle * taps + size * middle
    return call.freeze(
        f"the kernel of `{call.operation.name}` is not a layer's", macs=macs
    )
