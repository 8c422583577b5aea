"""What a layer without a rule costs: what the layers inside it cost."""

import contextlib
import weakref

import keras
from keras import tree

from keras_df.graph.channels import INPUT
from keras_df.graph.channels import Channels

_costs = weakref.WeakKeyDictionary()


def cost_inside(layer, args, kwargs, cost_of):
    """Counts what the `call` of a layer does, as far as that can be traced.

    Args:
        layer: Built layer.
        args: Positional arguments of a call, tensors replaced by `Channels`.
        kwargs: Keyword arguments, likewise.
        cost_of: Function of a list of `(operation, args, kwargs)`, the calls
            inside, that returns their cost.

    Returns:
        What `cost_of` returns, None if `call` does more than call layers and
        operations of Keras.
    """
    known = _costs.setdefault(layer, {})
    key = repr(tree.map_structure(_description, (args, kwargs)))
    if key not in known:
        try:
            known[key] = cost_of(_calls_inside(layer, args, kwargs))
        except Exception:
            known[key] = None
    return known[key]


def _description(value):
    return value.shape if isinstance(value, Channels) else type(value)


def _calls_inside(layer, args, kwargs):
    args, kwargs = tree.map_structure(_input, (args, kwargs))
    with keras.StatelessScope(), _no_trace_of(layer):
        outputs = layer.call(*args, **kwargs)
        nodes = _nodes_behind(tree.flatten(outputs))
    return [(node.operation, *_arguments(node)) for node in nodes]


def _input(value):
    """A tensor of one sample: not every `call` takes an unknown batch."""
    if isinstance(value, Channels):
        shape = (1, *value.shape[1:])
        return keras.Input(batch_shape=shape, dtype=value.dtype)
    return value


def _nodes_behind(tensors):
    """The nodes that tensors come from, in no particular order."""
    nodes, waiting = {}, list(tensors)
    while waiting:
        tensor = waiting.pop()
        if not isinstance(tensor, keras.KerasTensor):
            continue
        operation, index, _ = tensor._keras_history
        node = operation._inbound_nodes[index]
        if id(node) not in nodes and not node.is_input:
            nodes[id(node)] = node
            waiting += node.input_tensors
    return list(nodes.values())


def _arguments(node):
    return node.arguments.fill_in(
        {
            id(x): Channels(tuple(x.shape), reason=INPUT, dtype=x.dtype)
            for x in node.input_tensors
        }
    )


@contextlib.contextmanager
def _no_trace_of(layer):
    """Takes back what calling the layers inside a layer notes down."""
    notes = [
        (inner, inner._inbound_nodes[:], inner._outbound_nodes[:])
        for inner in layer._flatten_layers()
    ]
    try:
        yield
    finally:
        for inner, inbound, outbound in notes:
            inner._inbound_nodes[:] = inbound
            inner._outbound_nodes[:] = outbound
