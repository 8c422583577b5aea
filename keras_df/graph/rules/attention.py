"""Rules for attention: left alone, its multiply-accumulates count.

Projections cost their kernel per position; the scores and the weighted sum
cost one multiply-accumulate per query, key and channel of a head each.
"""

import math

from keras import layers

from keras_df.graph.call import positions
from keras_df.graph.registry import register_rule

REASON = "is an attention layer, which is left alone"
_PROJECTIONS = {
    "_query_dense": 0,
    "_gate_dense": 0,
    "_key_dense": 1,
    "_value_dense": 1,
    "_output_dense": 0,
}


@register_rule(layers.MultiHeadAttention, layers.GroupQueryAttention)
def multi_head_attention(call):
    layer = call.operation
    query, value = call.inputs[:2]
    places = [math.prod(tensor.shape[1:-1]) for tensor in (query, value)]
    macs = 0
    for name, side in _PROJECTIONS.items():
        projection = getattr(layer, name, None)
        if projection is not None:
            macs += places[side] * math.prod(projection.kernel.shape)
    macs += math.prod(places) * _head_width(layer)
    return call.freeze(f"`{layer.name}` {REASON}", macs=macs)


def _head_width(layer):
    """Channels of the keys and values of all query heads."""
    if isinstance(layer, layers.MultiHeadAttention):
        return layer.num_heads * (layer.key_dim + layer.value_dim)
    return layer.num_query_heads * layer.head_dim * 2


@register_rule(layers.Attention, layers.AdditiveAttention)
def attention(call):
    """Each query meets each value, over the channels of both."""
    query, value = call.inputs[:2]
    places = math.prod(query.shape[1:-1]) * math.prod(value.shape[1:-1])
    return call.freeze(
        f"`{call.operation.name}` {REASON}",
        macs=places * (query.shape[-1] + value.shape[-1]),
    )


@register_rule("DotProductAttention")
def dot_product_attention(call):
    query, key = call.inputs[:2]
    return call.freeze(
        f"`{call.operation.name}` {REASON}",
        macs=2 * positions(query.shape) * key.shape[1],
    )
