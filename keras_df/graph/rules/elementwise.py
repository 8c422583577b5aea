"""Rules for what acts on every element alone: activations, dropout, ..."""

import keras
from keras import activations
from keras import layers

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


def activation_flops(activation):
    """FLOPs per element of a Keras activation function or None."""
    if activation is None:
        return 0
    return _ACTIVATION_FLOPS.get(_plain(activation), _SOFTMAX_FLOPS)


def is_elementwise(activation):
    """Tells whether an activation is known to act on elements alone."""
    return activation is None or _plain(activation) in _ACTIVATION_FLOPS


def _plain(activation):
    """Unwraps activation layers used as activation functions."""
    if isinstance(activation, layers.Activation):
        return _plain(activation.activation)
    if type(activation) in _ELEMENTWISE_ACTIVATION_LAYERS:
        return activations.relu
    return activation


def freeze_unless_elementwise(call, ids, activation):
    """Freezes the channels of a fused activation that reads across them."""
    if not is_elementwise(activation):
        name = getattr(activation, "__name__", str(activation))
        call.units.freeze(
            ids,
            f"the activation '{name}' of `{call.operation.name}` is not known "
            "to act on each channel alone",
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


_ELEMENTWISE_ACTIVATION_LAYERS = (
    layers.ReLU,
    layers.LeakyReLU,
    layers.ELU,
)


@register_rule(
    *_ELEMENTWISE_ACTIVATION_LAYERS,
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
    "Relu",
    "Relu6",
    "LeakyRelu",
    "Elu",
    "Selu",
    "Celu",
    "Sigmoid",
    "HardSigmoid",
    "HardSilu",
    "HardTanh",
    "Silu",
    "Gelu",
    "Softplus",
    "Softsign",
    "LogSigmoid",
    "Mish",
    "Tanh",
    "Abs",
    "Absolute",
    "Negative",
    "Exp",
    "Expm1",
    "Log",
    "Log1p",
    "Sqrt",
    "Rsqrt",
    "Square",
    "Reciprocal",
    "Sign",
    "Round",
    "Floor",
    "Ceil",
    "Sin",
    "Cos",
    "Erf",
    "Clip",
    "Cast",
    "StopGradient",
    "Identity",
)
def elementwise(call):
    return pass_through(call)


@register_rule(layers.Activation)
def activation(call):
    function = call.operation.activation
    if not is_elementwise(function):
        name = getattr(function, "__name__", str(function))
        return call.freeze(
            f"`{call.operation.name}` applies '{name}', which is not known to "
            "act on each channel alone"
        )
    return pass_through(call, activation_flops(function))


@register_rule(layers.Softmax)
def softmax(call):
    flow = call.freeze(f"`{call.operation.name}` reads across channels")
    return Flow(flow.outputs, flops=call.each(_SOFTMAX_FLOPS))


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
        return call.freeze(f"`{layer.name}` has constants for each channel")
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
