"""What a model costs, as a function of channel counts and ranks.

One formula, `kernel_cost`, serves the soft counts of a search (tensors) and
the integer counts of a plan (NumPy).
"""

import math
from dataclasses import dataclass

import numpy as np

RESOURCES = ("macs", "flops", "params")


def kernel_cost(dense, first, second, inputs, outputs, rank=None):
    """Cost of one kernel, dense or as a low-rank pair.

    Args:
        dense: Cost per input channel and output channel of the dense kernel.
        first: Cost per input channel and rank of a pair's first factor.
        second: Cost per rank and output channel of a pair's second factor.
        inputs: Number of input channels, an integer or a soft count.
        outputs: Number of output channels, an integer or a soft count.
        rank: Rank of the pair, an integer or a soft count; None if dense.

    Returns:
        The cost, of the type of the counts.

    Example:

    >>> kernel_cost(9, 9, 1, inputs=16, outputs=32)
    4608
    >>> kernel_cost(9, 9, 1, inputs=16, outputs=32, rank=8)
    1408

    Reference: the numerator of Eq. 14 of the paper.
    """
    if rank is None:
        return dense * inputs * outputs
    return rank * (first * inputs + second * outputs)


@dataclass(frozen=True, eq=False)
class NodeCost:
    """The cost of one layer or operation.

    Attributes:
        path: Path of the layer.
        inputs: Raw unit ids that the kernel reads; None without a kernel, or
            where the kernel's cost does not depend on its inputs.
        outputs: Raw unit ids that the kernel writes; None without a kernel.
        dense: Dict from resource to the cost per input and output channel.
        pairs: Dict from scheme to a dict from resource to the tuple
            `(first, second)` of `kernel_cost`.
        linear: Dict from resource to a list of `(cost per channel, ids)`;
            ids are None for a constant.
        limit: Largest rank of the kernel per scheme, before any removal.
    """

    path: str
    inputs: np.ndarray | None
    outputs: np.ndarray | None
    dense: dict
    pairs: dict
    linear: dict
    limit: dict

    def amount(self, resource, count=len, rank=None, scheme=1):
        """Cost of this layer in one resource.

        Args:
            resource: One of `"macs"`, `"flops"`, `"params"`.
            count: Function from raw unit ids to the number that stays.
            rank: Integer rank of the layer's pair, or None if dense.
            scheme: Scheme of the pair.

        Returns:
            Number.
        """
        total = sum(
            cost * (1 if ids is None else count(ids))
            for cost, ids in self.linear[resource]
        )
        if self.outputs is None:
            return total
        first, second = self.pairs.get(scheme, {}).get(resource, (0, 0))
        inputs = 1 if self.inputs is None else count(self.inputs)
        return total + kernel_cost(
            self.dense[resource],
            first,
            second,
            inputs,
            count(self.outputs),
            rank,
        )


def node_costs(graph):
    """Returns the list of `NodeCost` of a `ChannelGraph`, one per node."""
    return [_node_cost(node) for node in graph.nodes.values()]


def _node_cost(node):
    linear = {"macs": [], "flops": [], "params": _parameters(node)}
    for flow in node.flows:
        linear["macs"] += flow.macs
        linear["flops"] += [(2 * cost, ids) for cost, ids in flow.macs]
        linear["flops"] += flow.flops
    kernel = node.kernel
    if kernel is None:
        return NodeCost(node.path, None, None, {}, {}, linear, {})
    area = sum(flow.kernel.area for flow in node.flows)
    taps = _taps(node)
    pairs, limit = {}, {}
    for scheme, (rows, columns) in kernel.schemes.items():
        areas = [flow.kernel.pair_areas[scheme] for flow in node.flows]
        height, width = _matrix_size(node, rows), _matrix_size(node, columns)
        limit[scheme] = min(height, width)
        pairs[scheme] = _per_resource(
            height // len(kernel.inputs[1]),
            width // len(kernel.outputs[1]),
            *np.sum(areas, axis=0),
        )
    return NodeCost(
        node.path,
        None if kernel.inputs is None else kernel.inputs[1],
        kernel.outputs[1],
        {"macs": area * taps, "flops": 2 * area * taps, "params": taps},
        pairs,
        linear,
        limit,
    )


def _per_resource(first, second, first_area, second_area):
    return {
        "macs": (first * first_area, second * second_area),
        "flops": (2 * first * first_area, 2 * second * second_area),
        "params": (first, second),
    }


def _taps(node):
    kernel = node.kernel
    size = math.prod(getattr(node.operation, kernel.attribute).shape)
    reads = 1 if kernel.inputs is None else len(kernel.inputs[1])
    return size // (reads * len(kernel.outputs[1]))


def _matrix_size(node, axes):
    shape = getattr(node.operation, node.kernel.attribute).shape
    return math.prod(shape[axis] for axis in axes)


def _parameters(node):
    """Parameters beside the kernel's, as linear terms."""
    weights = {
        id(weight): math.prod(weight.shape)
        for weight in getattr(node.operation, "weights", [])
    }
    terms = []
    for attribute, axes in node.flow.weights.items():
        size = weights.pop(id(getattr(node.operation, attribute)))
        if node.kernel is not None and node.kernel.attribute == attribute:
            continue
        if len(axes) != 1:
            raise ValueError(
                f"Weight '{attribute}' of layer '{node.path}' has channels on "
                f"{len(axes)} axes. Declare it as the layer's `Kernel`."
            )
        (ids,) = axes.values()
        terms.append((size / len(ids), ids))
    if weights:
        terms.append((sum(weights.values()), None))
    return terms
