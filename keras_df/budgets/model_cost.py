"""The cost of a whole model, vectorized over its layers."""

from dataclasses import dataclass

import numpy as np
from keras import ops

from keras_df.budgets.cost import NOTHING
from keras_df.budgets.cost import RESOURCES
from keras_df.budgets.cost import Rates
from keras_df.budgets.cost import kernel_cost
from keras_df.budgets.cost import node_costs
from keras_df.budgets.latency import LATENCY

SOFTNESS = 0.5
"""Width of the transition from a dense layer to a pair, as a cost ratio."""


@dataclass(frozen=True, eq=False)
class _Coefficients:
    """`Rates` of arrays of shape `(layers,)`, and what is beside kernels."""

    dense: Rates
    first: Rates
    second: Rates
    linear: np.ndarray
    constant: float

    @property
    def kernels(self):
        return self.dense, self.first, self.second


class ModelCost:
    """Counts a model's resources from unit masks and ranks.

    Args:
        graph: `ChannelGraph` of the model.
        schemes: Dict from a layer's path to the scheme of its pair, for the
            layers that may be decomposed.
        table: `LatencyTable` of the model. With it, latency is counted too,
            and decides whether a pair is worth making; else MACs do.

    Attributes:
        paths: List of the paths of the layers with a kernel.
        decomposable: Boolean array of shape `(layers,)`.
        limits: Integer array of shape `(layers,)`, the largest ranks.
    """

    def __init__(self, graph, schemes, table=None):
        nodes = node_costs(graph)
        if table is not None:
            nodes = table.add_to(nodes)
        self.resources = RESOURCES if table is None else (*RESOURCES, LATENCY)
        self._decisive = "macs" if table is None else LATENCY
        kernels = [node for node in nodes if node.outputs is not None]
        self.graph = graph
        self.schemes = dict(schemes)
        self.paths = [node.path for node in kernels]
        self.decomposable = np.array([p in schemes for p in self.paths], bool)
        self.limits = np.array(
            [node.limit.get(schemes.get(node.path), 0) for node in kernels],
            int,
        )
        self._inputs = _Segments(graph, [node.inputs for node in kernels])
        self._outputs = _Segments(graph, [node.outputs for node in kernels])
        self._coefficients = {
            resource: self._collect(nodes, kernels, resource)
            for resource in self.resources
        }
        self.totals = {
            resource: self.count(resource, np.ones(graph.unit_count))
            for resource in self.resources
        }
        if not self.totals.get(LATENCY, 1):
            raise ValueError(
                "By the latency table the model takes less than a microsecond, "
                "of which no share can be asked for. "
                "`keras_df.export.measure_latency` makes a table."
            )

    def _collect(self, nodes, kernels, resource):
        pairs = [
            node.pairs[self.schemes[node.path]][resource]
            if node.path in self.schemes
            else (NOTHING, NOTHING)
            for node in kernels
        ]
        linear = np.zeros(self.graph.unit_count)
        constant = 0.0
        for node in nodes:
            for cost, ids in node.linear[resource]:
                if ids is None:
                    constant += cost
                else:
                    np.add.at(linear, self.graph.units[ids], cost)
        return _Coefficients(
            _stacked([node.dense[resource] for node in kernels]),
            _stacked([first for first, _ in pairs]),
            _stacked([second for _, second in pairs]),
            linear,
            constant,
        )

    def sizes(self, kept):
        """Counts input and output channels of every kernel.

        Args:
            kept: Array of shape `(units,)`, 1 for units that stay.

        Returns:
            Tuple of two arrays of shape `(layers,)`.
        """
        return self._inputs.sum(kept), self._outputs.sum(kept)

    def shares(self, resource):
        """What each layer with a kernel costs, uncompressed.

        Args:
            resource: One of `"macs"`, `"flops"`, `"params"`, `"latency"`.

        Returns:
            Array of shape `(layers,)`, shares of the model's total.
        """
        at = self._coefficients[resource]
        sizes = self.sizes(np.ones(self.graph.unit_count))
        return kernel_cost(*at.kernels, *sizes) / max(self.totals[resource], 1)

    def count(self, resource, kept, ranks=None, paired=None):
        """Counts a resource of the compressed model.

        Args:
            resource: One of `"macs"`, `"flops"`, `"params"`, `"latency"`.
            kept: Array of shape `(units,)`, 1 for units that stay.
            ranks: Integer array of shape `(layers,)`, or None for no pairs.
            paired: Boolean array of shape `(layers,)`, the layers that become
                pairs; by default those that it makes cheaper.

        Returns:
            Integer.
        """
        at = self._coefficients[resource]
        inputs, outputs = self.sizes(kept)
        cost = kernel_cost(*at.kernels, inputs, outputs)
        if ranks is not None:
            if paired is None:
                paired = self.is_pair(kept, ranks)
            pair = kernel_cost(*at.kernels, inputs, outputs, ranks)
            cost = np.where(paired, pair, cost)
        return round(float(cost.sum() + at.linear @ kept + at.constant))

    def count_selection(self, selection):
        """Counts every resource of the model that a `Selection` leaves.

        Returns:
            Dict from resource to an integer.
        """
        ranks = np.array([selection.ranks.get(p, 0) for p in self.paths], int)
        kept = selection.kept.astype(float)
        return {
            resource: self.count(resource, kept, ranks, ranks > 0)
            for resource in self.resources
        }

    def is_pair(self, kept, ranks):
        """Tells which layers a pair of the given rank makes cheaper.

        A rank above that of the kernel that stays is no pair's, however fast
        a table says that it is.

        Args:
            kept: Array of shape `(units,)`, 1 for units that stay.
            ranks: Integer array of shape `(layers,)`.

        Returns:
            Boolean array of shape `(layers,)`.
        """
        at = self._coefficients[self._decisive]
        inputs, outputs = self.sizes(kept)
        dense = kernel_cost(*at.kernels, inputs, outputs)
        pair = kernel_cost(*at.kernels, inputs, outputs, ranks)
        has_rank = ranks <= self._largest_ranks(inputs, outputs)
        return self.decomposable & has_rank & (pair < dense)

    def _largest_ranks(self, inputs, outputs):
        """The smaller side of each kernel's matrix, as its factors count it."""
        at = self._coefficients["params"]
        rows = at.first.product * inputs
        return np.minimum(rows, at.second.product * outputs)

    def soft_count(self, resource, mask, ranks):
        """Counts a resource of the relaxed model, differentiably.

        Its value is that of `count`: each kernel costs what it costs dense or
        as a pair, whichever is cheaper. Its derivative is a mixture of both,
        so that ranks are pushed down before the pair is the cheaper one, but
        not where it hardly can be.

        Args:
            resource: One of `"macs"`, `"flops"`, `"params"`, `"latency"`.
            mask: Tensor of shape `(units,)`, the soft mask.
            ranks: Tensor of shape `(layers,)`, the soft ranks.

        Returns:
            Scalar tensor.

        Reference: Eq. 14 of the paper, which counts pairs only.
        """
        at = self._coefficients[resource]
        scale = 1.0 / self.totals[resource]
        sizes = self._inputs.soft(mask), self._outputs.soft(mask)
        ratio = self._pair_ratio(*sizes, ranks)
        dense, pair = _soft_costs(at.kernels, scale, *sizes, ranks)
        may = self.decomposable.astype("float32")
        chance = may * ops.sigmoid((1.0 - ratio) / SOFTNESS)
        mixture = chance * pair + (1.0 - chance) * dense
        cheaper = ops.where(self.decomposable & (ratio < 1.0), pair, dense)
        kernels = mixture + ops.stop_gradient(cheaper - mixture)
        linear = ops.convert_to_tensor(at.linear * scale, "float32")
        rest = ops.sum(linear * mask) + at.constant * scale
        return (ops.sum(kernels) + rest) / scale

    def _pair_ratio(self, inputs, outputs, ranks):
        """What pairs cost as a share of the dense layers, a constant."""
        at = self._coefficients[self._decisive]
        scale = 1.0 / self.totals[self._decisive]
        dense, pair = _soft_costs(at.kernels, scale, inputs, outputs, ranks)
        return ops.stop_gradient(pair / ops.maximum(dense, 1e-30))


def _soft_costs(kernels, scale, inputs, outputs, ranks):
    """Costs of the dense kernels and of their pairs, times `scale`."""

    def constant(values):
        return ops.convert_to_tensor(values * scale, "float32")

    rates = [_mapped(constant, x) for x in kernels]
    return (
        kernel_cost(*rates, inputs, outputs),
        kernel_cost(*rates, inputs, outputs, ranks),
    )


def _stacked(rates):
    """A list of `Rates` -> one `Rates` of arrays. All have the same tile."""
    names = ("product", "reads", "writes", "fixed")
    arrays = {k: np.array([getattr(x, k) for x in rates], float) for k in names}
    return Rates(**arrays, tile=max((x.tile for x in rates), default=1))


def _mapped(function, rates):
    return Rates(
        *map(function, (rates.product, rates.reads, rates.writes, rates.fixed)),
        tile=rates.tile,
    )


class _Segments:
    """Sums a per-unit array over the channels of each kernel."""

    def __init__(self, graph, ids):
        counted = [np.empty(0, int) if x is None else x for x in ids]
        self._count = len(ids)
        self._missing = np.array([x is None for x in ids], float)
        self._units = graph.units[np.concatenate([[], *counted]).astype(int)]
        self._layers = np.repeat(np.arange(len(ids)), [len(x) for x in counted])

    def sum(self, kept):
        return self._missing + np.bincount(
            self._layers, np.asarray(kept)[self._units], self._count
        )

    def soft(self, mask):
        picked = ops.take(mask, self._units, axis=0)
        sums = ops.segment_sum(
            picked, self._layers.astype("int32"), self._count
        )
        return sums + self._missing.astype("float32")
