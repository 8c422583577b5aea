"""What a rule says of one layer, on a small graph."""

import keras
import numpy as np
from keras import layers

from keras_df.graph import analyze
from keras_df.graph.channels import OUTPUT


def flow_of(function, *shapes):
    """Applies a function to tensors whose channels are free.

    Args:
        function: Function of tensors that returns a tensor or a list of them.
        *shapes: Shapes without batch, one per tensor.

    Returns:
        Tuple `(inputs, outputs, graph)`: lists of arrays with the unit of
        each channel, None for tensors of which nothing can be removed.
    """
    sources = [keras.Input((*shape[:-1], 2)) for shape in shapes]
    writers = [
        layers.Dense(shape[-1], name=f"writer{i}")
        for i, shape in enumerate(shapes)
    ]
    tensors = [write(x) for write, x in zip(writers, sources)]
    results = keras.tree.flatten(function(*tensors))
    marks = [layers.Identity(name=f"mark{i}") for i in range(len(results))]
    model = keras.Model(sources, [m(x) for m, x in zip(marks, results)])
    graph = analyze(model)
    for unit in [u for u, reason in graph.reasons.items() if reason == OUTPUT]:
        del graph.reasons[unit]
    inputs = [
        graph.units[graph.nodes[x.name].kernel.outputs[1]] for x in writers
    ]
    outputs = [_units(graph, graph.nodes[x.name].inputs[0][0]) for x in marks]
    return inputs, outputs, graph


def _units(graph, tensor):
    return None if tensor.axis is None else graph.units[tensor.ids]


def axis_of(graph, index=0):
    """The channel axis of a tensor that `flow_of` marked."""
    return graph.nodes[f"mark{index}"].inputs[0][0].axis


def reason_of(graph, index=0):
    return graph.nodes[f"mark{index}"].inputs[0][0].reason


def assert_same(first, second):
    np.testing.assert_array_equal(first, second)


def assert_apart(units):
    assert len(np.unique(units)) == len(units)


def node_of(graph):
    """The node between the writers and the marks, where it is only one."""
    (node,) = (
        node
        for path, node in graph.nodes.items()
        if not path.startswith(("writer", "mark"))
    )
    return node
