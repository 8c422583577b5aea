"""Which filters may go, and which of them cost the same."""

import numpy as np


def filters(graph):
    """Yields each layer that has filters, a `Node`, and their ids."""
    for node in graph.nodes.values():
        if node.kernel is not None:
            yield node, node.kernel.outputs[1]
            continue
        # Of a depthwise convolution, every channel has a filter of its own.
        for _, ids in node.flow.macs:
            if ids is not None and node.flow.weights:
                yield node, ids


def groups(graph, free):
    """Groups the free units that occur in the same tensors equally often.

    All units of a group cost the same; each group keeps at least one, so no
    tensor is emptied.
    """
    rng = np.random.default_rng(0)
    signature = np.zeros(graph.unit_count, np.uint64)
    for node in graph.nodes.values():
        for tensor in node.flow.outputs:
            mark = rng.integers(2**63, dtype=np.uint64)
            units, counts = np.unique(
                graph.units[tensor.ids], return_counts=True
            )
            signature[units] += mark * counts.astype(np.uint64)
    members = np.flatnonzero(free)
    _, labels = np.unique(signature[members], return_inverse=True)
    order = np.argsort(labels, kind="stable")
    borders = np.flatnonzero(np.diff(labels[order])) + 1
    return [g for g in np.split(members[order], borders) if len(g)]


def whole_groups(graph, groups):
    """Tells of each group whether no layer writes other channels beside it."""
    group_of = np.full(graph.unit_count, -1)
    for number, group in enumerate(groups):
        group_of[group] = number
    whole = np.ones(len(groups), bool)
    for node in graph.kernels().values():
        written = np.unique(group_of[graph.units[node.kernel.outputs[1]]])
        if len(written) > 1:
            whole[written[written >= 0]] = False
    return whole
