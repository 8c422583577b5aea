"""A model -> its channel units, by one forward abstract interpretation."""

import dataclasses
from dataclasses import dataclass
from dataclasses import field

import keras
import numpy as np
from keras import tree

from keras_df.graph.apply import apply_rule
from keras_df.graph.apply import macs_of_flow
from keras_df.graph.apply import total
from keras_df.graph.call import Call
from keras_df.graph.channels import INPUT
from keras_df.graph.channels import OUTPUT
from keras_df.graph.channels import Channels
from keras_df.graph.channels import UnitTable
from keras_df.graph.inside import cost_inside
from keras_df.graph.keep import Keep
from keras_df.graph.registry import find_rule
from keras_df.graph.shapes import UNKNOWN_SIZE
from keras_df.graph.shapes import Shapes
from keras_df.graph.shapes import declared
from keras_df.graph.shapes import sizes_to_try
from keras_df.graph.walk import graph_of
from keras_df.graph.walk import is_graph
from keras_df.graph.walk import read_by_nested
from keras_df.graph.walk import walk

UNWRITTEN = "no layer that can be pruned writes it"
LAYOUTS = "the layer is called on tensors of different layouts"


@dataclass(frozen=True, eq=False)
class Node:
    """A layer or operation of a model and what its calls looked like.

    Attributes:
        path: Names that lead to the operation, joined by `/`.
        operation: The layer or operation itself.
        flows: List of `Flow`, one per call.
        inputs: List of lists of `Channels`, the tensors read by each call.
    """

    path: str
    operation: object
    flows: list = field(default_factory=list)
    inputs: list = field(default_factory=list)

    @property
    def flow(self):
        """The `Flow` of the first call; the units of all calls agree."""
        return self.flows[0]

    @property
    def kernel(self):
        return self.flow.kernel


@dataclass(frozen=True, eq=False)
class ChannelGraph:
    """The channel units of a model.

    Attributes:
        nodes: Dict from path to `Node`, in order of execution.
        units: Integer array that maps raw ids to units.
        reasons: Dict from each unit that must stay to the reason.
        tensors: Dict from the path of a node to a list of integer arrays,
            the units of each of its outputs. A tensor may not be emptied.
        outputs: List of `Channels`, the outputs of the model.
    """

    nodes: dict
    units: np.ndarray
    reasons: dict
    tensors: dict
    outputs: list

    @property
    def unit_count(self):
        return int(self.units.max()) + 1 if len(self.units) else 0

    @property
    def prunable(self):
        """Boolean array of shape `(unit_count,)`."""
        prunable = np.ones(self.unit_count, bool)
        prunable[list(self.reasons)] = False
        return prunable

    def keep(self, kept):
        """Returns the `Keep` for a boolean array of shape `(unit_count,)`."""
        return Keep(self.units, kept)

    def units_kept(self, kept):
        """Returns which units stay if only some output channels do.

        Args:
            kept: Dict from the path of a layer with a kernel to the positions
                of its output channels that stay. Without an entry, all do.

        Returns:
            Boolean array of shape `(unit_count,)`.
        """
        units = np.ones(self.unit_count, bool)
        kernels = self.kernels()
        for path, positions in kept.items():
            ids = kernels[path].kernel.outputs[1]
            gone = np.setdiff1d(np.arange(len(ids)), positions)
            units[self.units[ids[gone]]] = False
        return units

    def kernels(self):
        """Returns the nodes whose layer has a kernel, by path."""
        return {
            path: node
            for path, node in self.nodes.items()
            if node.kernel is not None
        }


def analyze(model):
    """Finds the channel units of a model.

    Args:
        model: A built Functional or Sequential model. It is not modified.
            Where its input has an unknown size, 224 is assumed, or more if
            its layers need more.

    Returns:
        A `ChannelGraph`.

    Raises:
        TypeError: If `model` is not a `keras.Model`.
        ValueError: If `model` is subclassed or not built.

    Example:

    >>> graph = analyze(keras.applications.MobileNetV2(weights=None))
    >>> graph.prunable.sum(), graph.unit_count
    """
    tried = []
    for size in sizes_to_try(graph_of(model).inputs):
        tried.append(_Analysis(size).run(model))
        if tried[-1].shapes.fit:
            return tried[-1].close()
    return tried[0].close()


def macs_of(operation, tensors):
    """Counts the multiply-accumulates of a layer or model called on its own.

    Args:
        operation: Layer, or model with a graph.
        tensors: List of `Channels` it would be called on; only their shapes
            matter.

    Returns:
        Number, per sample.
    """
    analysis = _Analysis()
    inputs = [
        Channels(tensor.shape, reason=INPUT, dtype=tensor.dtype)
        for tensor in tensors
    ]
    analysis.visit((operation.name,), operation, *inputs)
    return analysis.cost()[0]


def _cost_of_calls(calls):
    """Multiply-accumulates and other FLOPs of calls of operations."""
    analysis = _Analysis()
    for operation, args, kwargs in calls:
        path = (operation.name, str(id(operation)))  # Names may repeat.
        analysis.visit(path, operation, *args, **kwargs)
    return analysis.cost()


class _Analysis:
    def __init__(self, size=UNKNOWN_SIZE):
        self.shapes = Shapes(size)
        self.table = UnitTable()
        self.nodes = {}
        self.first_paths = {}

    def run(self, model):
        inputs = map(self.shapes.read, graph_of(model).inputs)
        self.outputs = tree.flatten(walk(model, list(inputs), self.visit))
        for tensor in self.outputs:
            self.table.freeze(tensor.ids, OUTPUT)
        return self

    def visit(self, path, operation, *args, **kwargs):
        if is_graph(operation):
            given = read_by_nested(operation, args, kwargs)
            inputs = map(declared, given, graph_of(operation).inputs)
            return walk(operation, list(inputs), self.visit, path)
        specs = self.shapes.outputs(operation, args, kwargs)
        call = Call(operation, args, kwargs, tree.flatten(specs), self.table)
        flow = self._with_cost(call, apply_rule(call))
        key = self.first_paths.setdefault(id(operation), "/".join(path))
        node = self.nodes.setdefault(key, Node(key, operation))
        if node.flows:
            self._share(node.inputs[0], call.inputs)
            self._share(node.flow.outputs, flow.outputs)
            flow = dataclasses.replace(flow, kernel=flow.kernel or node.kernel)
        node.flows.append(flow)
        node.inputs.append(call.inputs)
        return tree.pack_sequence_as(specs, flow.outputs)

    def _with_cost(self, call, flow):
        """Adds the cost of what is inside a layer without a rule."""
        layer = call.operation
        if find_rule(layer) is not None or not isinstance(layer, keras.Layer):
            return flow
        cost = cost_inside(layer, call.args, call.kwargs, _cost_of_calls)
        if cost is None:
            return flow
        macs, flops = cost
        return dataclasses.replace(
            flow, macs=[(macs, None)], flops=[(flops, None)]
        )

    def cost(self):
        """Tuple of the multiply-accumulates and the other FLOPs, in total."""
        flows = [
            (node.operation, flow)
            for node in self.nodes.values()
            for flow in node.flows
        ]
        macs = sum(macs_of_flow(*each) for each in flows)
        return macs, sum(total(flow.flops) for _, flow in flows)

    def _share(self, first, second):
        """Two calls of one layer read and write the same units."""
        if _layout(first) == _layout(second):
            for old, new in zip(first, second):
                self.table.unify(old.ids, new.ids)
            return
        for tensor in [*first, *second]:
            self.table.freeze(tensor.ids, tensor.reason or LAYOUTS)

    def close(self):
        units, reasons = self.table.resolve()
        written = [
            units[node.kernel.outputs[1]]
            for node in self.nodes.values()
            if node.kernel is not None
        ]
        everything = np.arange(units.max() + 1 if len(units) else 0)
        for unit in np.setdiff1d(everything, np.concatenate([[], *written])):
            reasons.setdefault(int(unit), UNWRITTEN)
        tensors = {
            node.path: [
                np.unique(units[tensor.ids])
                for tensor in node.flow.outputs
                if tensor.axis is not None
            ]
            for node in self.nodes.values()
        }
        return ChannelGraph(self.nodes, units, reasons, tensors, self.outputs)


def _layout(tensors):
    return [(tensor.axis, len(tensor.ids)) for tensor in tensors]
