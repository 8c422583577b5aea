"""Rules for convolutions of every kind and number of dimensions."""

import math

import keras
import numpy as np
from keras import layers

from keras_df.graph.registry import Flow
from keras_df.graph.registry import Kernel
from keras_df.graph.registry import register_rule
from keras_df.graph.rules.elementwise import activation_flops
from keras_df.graph.rules.elementwise import freeze_unless_elementwise
from keras_df.ops.matricization import SCHEME_2

GROUPED = "grouped convolutions are not decomposed"


def channel_axis(layer):
    """The axis of channels in the inputs of a layer with a data format."""
    default = keras.config.image_data_format()
    data_format = getattr(layer, "data_format", "channels_last") or default
    return 1 if data_format == "channels_first" else -1


def _area(spec, axis):
    """Number of positions of a tensor: its elements over its channels."""
    shape = list(spec.shape)[1:]
    del shape[axis if axis < 0 else axis - 1]
    return math.prod(shape)


def _tail(call, output):
    """FLOPs of the bias and the fused activation."""
    layer = call.operation
    amount = int(layer.use_bias) + activation_flops(layer.activation)
    return call.each(amount, channels=output)


def _written(call, count):
    """Output units of a layer that writes `count` channels of its own."""
    ids = call.units.fresh(count)
    freeze_unless_elementwise(call, ids, call.operation.activation)
    return ids


@register_rule(layers.Conv1D, layers.Conv2D, layers.Conv3D)
def convolution(call):
    layer = call.operation
    axis = channel_axis(layer)
    inputs = call.read(call.inputs[0], axis)
    if layer.groups > 1:
        return _grouped(call, inputs, axis)
    outputs = _written(call, layer.filters)
    result = call.output(axis, outputs)
    rank = layer.rank
    area = _area(call.specs[0], axis)
    schemes = {1: (tuple(range(rank + 1)), (rank + 1,))}
    pair_areas = {1: (area, area)}
    if rank == 2 and min(layer.kernel_size) > 1:
        schemes[2] = SCHEME_2
        pair_areas[2] = (_scheme_2_area(call, axis), area)
    kernel = Kernel(
        "kernel",
        inputs=(rank, inputs),
        outputs=(rank + 1, outputs),
        schemes=schemes,
        area=area,
        pair_areas=pair_areas,
    )
    return Flow(
        [result],
        weights={"kernel": {rank: inputs, rank + 1: outputs}}
        | _bias(layer, outputs),
        config={"filters": lambda keep: keep.count(outputs)},
        kernel=kernel,
        flops=_tail(call, result),
    )


def _scheme_2_area(call, axis):
    """The kh x 1 convolution strides over rows only."""
    rows, columns = (2, 3) if axis == 1 else (1, 2)
    return call.specs[0].shape[rows] * call.inputs[0].shape[columns]


def _bias(layer, ids):
    return {"bias": {0: ids}} if layer.use_bias else {}


def _grouped(call, inputs, axis):
    layer = call.operation
    outputs = _written(call, layer.filters)
    by_input = inputs.reshape(layer.groups, -1)
    by_output = outputs.reshape(layer.groups, -1)
    width = by_input.shape[1]
    config = {"filters": lambda keep: keep.count(outputs)}
    if layer.groups >= width:
        # Whole groups go: a group's inputs and outputs are one unit.
        for members in (by_input, by_output):
            head = np.broadcast_to(by_input[:, :1], members.shape)
            call.units.unify(head.ravel(), members.ravel())
        config["groups"] = lambda keep: keep.count(inputs) // width
        read, axes = None, {layer.rank + 1: outputs}
    else:
        # Every group loses the same positions.
        for members in (by_input, by_output):
            head = np.broadcast_to(members[:1], members.shape)
            call.units.unify(head.ravel(), members.ravel())
        read = (layer.rank, by_input[0])
        axes = {layer.rank: by_input[0], layer.rank + 1: outputs}
    result = call.output(axis, outputs)
    return Flow(
        [result],
        weights={"kernel": axes} | _bias(layer, outputs),
        config=config,
        kernel=Kernel(
            "kernel",
            inputs=read,
            outputs=(layer.rank + 1, outputs),
            reason=GROUPED,
            area=_area(call.specs[0], axis),
        ),
        flops=_tail(call, result),
    )


@register_rule(
    layers.Conv1DTranspose, layers.Conv2DTranspose, layers.Conv3DTranspose
)
def transposed_convolution(call):
    layer = call.operation
    axis = channel_axis(layer)
    inputs = call.read(call.inputs[0], axis)
    outputs = _written(call, layer.filters)
    result = call.output(axis, outputs)
    rank = layer.rank
    area = _area(call.inputs[0], axis)
    kernel = Kernel(
        "kernel",
        inputs=(rank + 1, inputs),
        outputs=(rank, outputs),
        schemes={1: ((rank + 1,), tuple(range(rank + 1)))},
        area=area,
        pair_areas={1: (area, area)},
    )
    return Flow(
        [result],
        weights={"kernel": {rank: outputs, rank + 1: inputs}}
        | _bias(layer, outputs),
        config={"filters": lambda keep: keep.count(outputs)},
        kernel=kernel,
        flops=_tail(call, result),
    )


@register_rule(layers.DepthwiseConv1D, layers.DepthwiseConv2D)
def depthwise_convolution(call):
    layer = call.operation
    axis = channel_axis(layer)
    inputs = call.read(call.inputs[0], axis)
    outputs = np.repeat(inputs, layer.depth_multiplier)
    freeze_unless_elementwise(call, outputs, layer.activation)
    result = call.output(axis, outputs)
    taps = math.prod(layer.kernel_size)
    return Flow(
        [result],
        weights={"kernel": {layer.rank: inputs}} | _bias(layer, outputs),
        macs=call.each(taps, channels=result),
        flops=_tail(call, result),
    )


@register_rule(layers.SeparableConv1D, layers.SeparableConv2D)
def separable_convolution(call):
    layer = call.operation
    axis = channel_axis(layer)
    inputs = call.read(call.inputs[0], axis)
    middle = np.repeat(inputs, layer.depth_multiplier)
    outputs = _written(call, layer.filters)
    result = call.output(axis, outputs)
    rank = layer.rank
    area = _area(call.specs[0], axis)
    kernel = Kernel(
        "pointwise_kernel",
        inputs=(rank, middle),
        outputs=(rank + 1, outputs),
        schemes={1: (tuple(range(rank + 1)), (rank + 1,))},
        area=area,
        pair_areas={1: (area, area)},
    )
    return Flow(
        [result],
        weights={
            "depthwise_kernel": {rank: inputs},
            "pointwise_kernel": {rank: middle, rank + 1: outputs},
        }
        | _bias(layer, outputs),
        config={"filters": lambda keep: keep.count(outputs)},
        kernel=kernel,
        macs=[(area * math.prod(layer.kernel_size), middle)],
        flops=_tail(call, result),
    )
