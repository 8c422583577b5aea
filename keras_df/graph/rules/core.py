"""Rules for Dense, Embedding and Masking."""

from keras import layers

from keras_df.graph.call import positions
from keras_df.graph.registry import Flow
from keras_df.graph.registry import Kernel
from keras_df.graph.registry import register_rule
from keras_df.graph.rules.elementwise import activation_flops
from keras_df.graph.rules.elementwise import freeze_unless_elementwise


@register_rule(layers.Dense)
def dense(call):
    layer = call.operation
    inputs = call.read(call.inputs[0], -1)
    outputs = call.units.fresh(layer.units)
    freeze_unless_elementwise(call, outputs, layer.activation)
    result = call.output(-1, outputs)
    area = positions(result.shape) // layer.units
    weights = {"kernel": {0: inputs, 1: outputs}}
    if layer.use_bias:
        weights["bias"] = {0: outputs}
    amount = int(layer.use_bias) + activation_flops(layer.activation)
    return Flow(
        [result],
        weights=weights,
        config={"units": lambda keep: keep.count(outputs)},
        kernel=Kernel(
            "kernel",
            inputs=(0, inputs),
            outputs=(1, outputs),
            schemes={1: ((0,), (1,))},
            area=area,
            pair_areas={1: (area, area)},
        ),
        flops=call.each(amount, channels=result),
    )


@register_rule(layers.Embedding)
def embedding(call):
    return call.freeze(f"`{call.operation.name}` is a table of vectors")


@register_rule("ReversibleEmbedding")
def reversible_embedding(call):
    """In reverse, each position meets every vector of the table."""
    size = positions(call.specs[0].shape)
    backwards = call.kwargs.get("reverse", False)
    macs = size * call.operation.output_dim if backwards else 0
    return call.freeze(f"`{call.operation.name}` is a table of vectors", macs)


@register_rule(layers.Masking)
def masking(call):
    return call.freeze(f"`{call.operation.name}` reads across channels")
