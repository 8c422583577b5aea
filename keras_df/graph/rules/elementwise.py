"""Rules for what acts on every element alone: activations, dropout, ..."""

import keras
import numpy as np
from keras import activations
from keras import layers

from keras_df.graph.call import positions
from keras_df.graph.registry import Flow
from keras_df.graph.registry import register_rule

# FLOPs per element as TensorFlow's profiler counts them: arithmetic counts,
# comparisons inside a fused kernel and transcendental functions do not.
_ACTIVATION_FLOPS = {
    activations.linear: 0,
    activations.relu: 0,
    activations.relu6: 0,
    activations.leaky_relu: 0,
    activations.elu: 0,
    activations.selu: 0,
    activations.sigmoid: 0,
    activations.tanh: 0,
    activations.softplus: 0,
    activations.softsign: 1,
    activations.exponential: 0,
    activations.silu: 1,
    activations.hard_sigmoid: 2,
    activations.hard_silu: 3,
    activations.hard_tanh: 0,
    activations.hard_shrink: 0,
    activations.soft_shrink: 1,
    activations.tanh_shrink: 1,
    activations.threshold: 0,
    activations.squareplus: 4,
    activations.celu: 0,
    activations.log_sigmoid: 0,
    activations.mish: 1,
    activations.gelu: 4,
    activations.sparse_plus: 2,
    activations.sparse_sigmoid: 2,
}
_SOFTMAX_FLOPS = 5
_ACTIVATION_LAYERS = (layers.ReLU, layers.LeakyReLU, layers.ELU)


def activation_flops(activation):
    """FLOPs per element of a Keras activation function or None."""
    if activation is None:
        return 0
    return _ACTIVATION_FLOPS.get(_plain(activation), _SOFTMAX_FLOPS)


def is_elementwise(activation):
    """Tells whether an activation is known to act on elements alone."""
    return activation is None or _plain(activation) in _ACTIVATION_FLOPS


def _plain(activation):
    """The Keras function that a layer or operation used as one computes."""
    if isinstance(activation, layers.Activation):
        return _plain(activation.activation)
    if type(activation) in _ACTIVATION_LAYERS:
        return activations.relu
    if getattr(activation, "__module__", "") == "keras.src.ops.nn":
        return getattr(activations, activation.__name__, activation)
    return activation


def _name(activation):
    return getattr(activation, "__name__", str(activation))


def freeze_unless_elementwise(call, ids, activation):
    """Freezes the channels of a fused activation that reads across them."""
    if not is_elementwise(activation):
        call.units.freeze(
            ids,
            f"the activation '{_name(activation)}' of `{call.operation.name}` "
            "is not known to act on each channel alone",
        )


def pass_through(call, amount=0):
    """The `Flow` of an operation whose output has its input's channels.

    Args:
        call: The `Call`; its first tensor is passed on.
        amount: FLOPs per element of the output.
    """
    tensor = call.inputs[0]
    if tensor.axis is None:
        return Flow(call.opaque(tensor.reason), flops=call.each(amount))
    result = call.output(tensor.axis, tensor.ids)
    return Flow([result], flops=call.each(amount, channels=result))


@register_rule(
    *_ACTIVATION_LAYERS,
    layers.Identity,
    layers.Dropout,
    layers.SpatialDropout1D,
    layers.SpatialDropout2D,
    layers.SpatialDropout3D,
    layers.GaussianDropout,
    layers.GaussianNoise,
    layers.AlphaDropout,
    layers.ActivityRegularization,
    "StochasticDepth",
    # Operations of `keras.ops`.
    *("Relu", "Relu6", "LeakyRelu", "Elu", "Selu", "Celu", "Silu", "Gelu"),
    *("Sigmoid", "SparseSigmoid", "HardSigmoid", "LogSigmoid", "HardSilu"),
    *("Tanh", "HardTanh", "TanhShrink", "SoftShrink", "HardShrink", "Mish"),
    *("Threshold", "Softplus", "SparsePlus", "Squareplus", "Softsign"),
    *("Abs", "Absolute", "Fabs", "Negative", "Sign", "Reciprocal"),
    *("Exp", "Exp2", "Expm1", "Log", "Log1p", "Log2", "Log10"),
    *("Sqrt", "Rsqrt", "Square", "Cbrt", "Erf", "Erfc", "Erfinv"),
    *("Sin", "Cos", "Tan", "Arcsin", "Arccos", "Arctan", "Sinh", "Cosh"),
    *("Arcsinh", "Arccosh", "Arctanh", "Sinc"),
    *("Round", "Floor", "Ceil", "Trunc", "Isnan", "Isinf", "Isfinite"),
    *("LogicalNot", "NanToNum", "ZerosLike", "OnesLike", "FullLike"),
    *("Cast", "SaturateCast", "Copy", "StopGradient", "Identity"),
)
def elementwise(call):
    noise = getattr(call.operation, "noise_shape", None) or ()
    if any(size not in (None, 1) for size in tuple(noise)[1:]):
        return call.freeze(f"`{call.operation.name}` has a shape of its own")
    if any(np.size(value) > 1 for value in call.constants):
        return call.freeze(f"`{call.operation.name}` has an array argument")
    if len(call.inputs) > 1:
        return call.freeze(f"`{call.operation.name}` has a tensor argument")
    return pass_through(call)


@register_rule("Clip")
def clip(call):
    bounds = (call.operation.x_min, call.operation.x_max)
    if any(np.ndim(bound) for bound in bounds):
        return call.freeze(f"`{call.operation.name}` has an array argument")
    return pass_through(call)


@register_rule(layers.Activation)
def activation(call):
    layer, function = call.operation, call.operation.activation
    if function is activations.softmax:
        return along_axis(call, -1, _SOFTMAX_FLOPS)
    if not is_elementwise(function):
        return call.freeze(
            f"`{layer.name}` applies '{_name(function)}', which is not known "
            "to act on each channel alone",
            flops=_SOFTMAX_FLOPS * positions(call.specs[0].shape),
        )
    return pass_through(call, activation_flops(function))


def along_axis(call, axis, amount=0):
    """The `Flow` of what reads along some axes, and keeps the shape.

    Args:
        call: The `Call`.
        axis: Integer or sequence of them; None for all axes.
        amount: FLOPs per element of the output.
    """
    tensor = call.inputs[0]
    rank = len(tensor.shape)
    axes = range(rank) if axis is None else np.atleast_1d(axis) % rank
    if tensor.axis is not None and (tensor.axis in axes or 0 in axes):
        size = positions(tensor.shape)
        reason = f"`{call.operation.name}` reads across channels"
        return call.freeze(reason, flops=amount * size)
    return pass_through(call, amount)


@register_rule(layers.Softmax, "Softmax", "LogSoftmax")
def softmax(call):
    return along_axis(call, call.operation.axis, _SOFTMAX_FLOPS)


@register_rule("Normalize", "Cumsum", "Cumprod", "Sort", "Argsort")
def operation_along_axis(call):
    return along_axis(call, call.operation.axis)


@register_rule(layers.PReLU)
def prelu(call):
    tensor = call.inputs[0]
    flow = pass_through(call)
    shared = call.operation.shared_axes or []
    if tensor.axis is None or tensor.axis in shared:
        return flow
    return Flow(flow.outputs, weights={"alpha": {tensor.axis - 1: tensor.ids}})


@register_rule(layers.Rescaling)
def rescaling(call):
    layer = call.operation
    if keras.ops.size(layer.scale) > 1 or keras.ops.size(layer.offset) > 1:
        size = positions(call.specs[0].shape)
        return call.freeze(
            f"`{layer.name}` has constants for each channel", flops=2 * size
        )
    return pass_through(call, 2)


@register_rule("LayerScale")
def layer_scale(call):
    ids = call.read(call.inputs[0], -1)
    result = call.output(-1, ids)
    return Flow(
        [result],
        weights={"gamma": {0: ids}},
        config={"projection_dim": lambda keep: keep.count(ids)},
        flops=call.each(1, channels=result),
    )
