"""What a model costs, as a function of channel counts and ranks.

One formula, `kernel_cost`, serves the soft counts of a search (tensors) and
the integer counts of a plan (NumPy).
"""

import math
from dataclasses import dataclass

import numpy as np
from keras import ops

RESOURCES = ("macs", "flops", "params")
"""What every model is counted in. Latency takes a measured table."""


@dataclass(frozen=True, eq=False)
class Rates:
    """What one operator costs, as a function of its channels.

    MACs and parameters are products of both counts; time also has parts that
    follow one of them, and one that is always there.

    Attributes:
        product: Cost per pair of an input and an output channel, the output
            channels counted in whole tiles.
        reads: Cost per input channel.
        writes: Cost per output channel.
        fixed: Cost of the operator whatever its channels.
        tile: Number of output channels that the runtime computes together;
            a part of a tile costs as much as all of it.
    """

    product: float
    reads: float = 0.0
    writes: float = 0.0
    fixed: float = 0.0
    tile: int = 1

    def cost(self, inputs, outputs):
        """Cost for given numbers of channels, integers or soft counts."""
        return (
            self.product * inputs * whole_tiles(outputs, self.tile)
            + self.reads * inputs
            + self.writes * outputs
            + self.fixed
        )


def whole_tiles(count, tile):
    """Rounds a count up to whole tiles; the gradient passes unchanged."""
    if tile == 1:
        return count
    whole = -(-count // tile) * tile
    if ops.is_tensor(count):
        return count + ops.stop_gradient(whole - count)
    return whole


NOTHING = Rates(0)


def kernel_cost(dense, first, second, inputs, outputs, rank=None):
    """Cost of one kernel, dense or as a low-rank pair.

    Args:
        dense: `Rates` of the dense kernel.
        first: `Rates` of a pair's first factor.
        second: `Rates` of a pair's second factor.
        inputs: Number of input channels, an integer or a soft count.
        outputs: Number of output channels, an integer or a soft count.
        rank: Rank of the pair, an integer or a soft count; None if dense.

    Returns:
        The cost, of the type of the counts.

    Example:

    >>> window, point = Rates(9), Rates(1)
    >>> kernel_cost(window, window, point, inputs=16, outputs=32)
    4608
    >>> kernel_cost(window, window, point, inputs=16, outputs=32, rank=8)
    1408

    Reference: the numerator of Eq. 14 of the paper.
    """
    if rank is None:
        return dense.cost(inputs, outputs)
    return first.cost(inputs, rank) + second.cost(rank, outputs)


@dataclass(frozen=True, eq=False)
class NodeCost:
    """The cost of one layer or operation.

    Attributes:
        path: Path of the layer.
        inputs: Raw unit ids that the kernel reads; None without a kernel, or
            where the kernel's cost does not depend on its inputs.
        outputs: Raw unit ids that the kernel writes; None without a kernel.
        dense: Dict from resource to the `Rates` of the dense kernel.
        pairs: Dict from scheme to a dict from resource to a tuple of the
            `Rates` of the pair's two factors.
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
        first, second = self.pairs.get(scheme, {}).get(
            resource, (NOTHING, NOTHING)
        )
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
    return [node_cost(node) for node in graph.nodes.values()]


def node_cost(node):
    """Returns the `NodeCost` of a `Node`."""
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
        first_area, second_area = np.sum(areas, axis=0)
        first = _per_resource(height // len(kernel.inputs[1]), first_area)
        second = _per_resource(width // len(kernel.outputs[1]), second_area)
        pairs[scheme] = {name: (first[name], second[name]) for name in first}
    return NodeCost(
        node.path,
        None if kernel.inputs is None else kernel.inputs[1],
        kernel.outputs[1],
        _per_resource(taps, area),
        pairs,
        linear,
        limit,
    )


def _per_resource(taps, area):
    return {
        "macs": Rates(area * taps),
        "flops": Rates(2 * area * taps),
        "params": Rates(taps),
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
