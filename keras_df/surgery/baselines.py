"""Plans without a search, under the same budgets and constraints.

What a search has to beat.
"""

import dataclasses

import keras
import numpy as np

from keras_df.budgets import as_budgets
from keras_df.budgets.allocation import Allocator
from keras_df.budgets.caps import exceeded_caps
from keras_df.budgets.constraints import Constraints
from keras_df.budgets.constraints import as_constraints
from keras_df.budgets.schemes import kernel_matrix
from keras_df.budgets.schemes import spectral_energy
from keras_df.calibration import as_fit_reads
from keras_df.calibration import metric_of_scheme
from keras_df.calibration import mix
from keras_df.calibration import second_moments
from keras_df.calibration import take_batches
from keras_df.calibration import weigh
from keras_df.checks import check_choice
from keras_df.checks import check_positive_integer
from keras_df.checks import check_seed
from keras_df.checks import shown
from keras_df.graph import analyze
from keras_df.graph.scales import column_scales
from keras_df.graph.scales import norms_behind
from keras_df.graph.scales import output_scales
from keras_df.graph.weights import check_weights
from keras_df.plan import CompressionPlan

_ALLOCATIONS = ("uniform", "global")


def magnitude(
    model: keras.Model,
    budget,
    norm: int = 1,
    allocation: str = "uniform",
    constraints: Constraints | None = None,
) -> CompressionPlan:
    """Prunes the filters with the smallest norm.

    Args:
        model: A built Functional or Sequential model.
        budget: A budget or a list of budgets.
        norm: 1 or 2, the norm of a filter's weights.
        allocation: `"uniform"` removes the same share of every layer,
            `"global"` the smallest of all filters, each measured against the
            mean of its layer.
        constraints: `keras_df.Constraints`.

    Returns:
        A `CompressionPlan`.

    Raises:
        ValueError: If the budget cannot be reached or an option is unknown.

    Example:

    ```python
    plan = keras_df.baselines.magnitude(model, keras_df.FLOPs(0.5))
    ```

    Reference: Li et al., Pruning filters for efficient convnets, 2016.
    """
    if type(norm) is not int or norm not in (1, 2):
        raise ValueError(f"`norm` must be 1 or 2. Received: norm={shown(norm)}")

    def strength(filters, path):
        return np.linalg.norm(filters, ord=norm, axis=1)

    return _prune(model, budget, constraints, strength, allocation)


def geometric_median(
    model: keras.Model,
    budget,
    allocation: str = "uniform",
    constraints: Constraints | None = None,
) -> CompressionPlan:
    """Prunes the filters nearest to the others of their layer.

    Args:
        model: A built Functional or Sequential model.
        budget: A budget or a list of budgets.
        allocation: `"uniform"` or `"global"`, as for `magnitude`.
        constraints: `keras_df.Constraints`.

    Returns:
        A `CompressionPlan`.

    Raises:
        ValueError: If the budget cannot be reached or an option is unknown.

    Example:

    ```python
    plan = keras_df.baselines.geometric_median(model, keras_df.FLOPs(0.5))
    ```

    Reference: He et al., Filter pruning via geometric median, 2019.
    """

    def strength(filters, path):
        squares = (filters**2).sum(1)
        distance = squares[:, None] + squares[None] - 2 * filters @ filters.T
        return np.sqrt(np.maximum(distance, 0.0)).sum(1)

    return _prune(model, budget, constraints, strength, allocation)


def batch_norm_scale(
    model: keras.Model,
    budget,
    allocation: str = "global",
    constraints: Constraints | None = None,
) -> CompressionPlan:
    """Prunes the filters that BatchNormalization scales down the most.

    Layers without a BatchNormalization behind them are judged by the L2 norm
    of their filters.

    Args:
        model: A built Functional or Sequential model.
        budget: A budget or a list of budgets.
        allocation: `"uniform"` or `"global"`, as for `magnitude`.
        constraints: `keras_df.Constraints`.

    Returns:
        A `CompressionPlan`.

    Raises:
        ValueError: If the budget cannot be reached or an option is unknown.

    Example:

    ```python
    plan = keras_df.baselines.batch_norm_scale(model, keras_df.FLOPs(0.5))
    ```

    Reference: Liu et al., Learning efficient convolutional networks through
    network slimming, 2017.
    """
    norms = norms_behind(analyze(model))

    def strength(filters, path):
        if path in norms and norms[path].scale:
            return np.abs(np.asarray(norms[path].gamma, float))
        return np.linalg.norm(filters, axis=1)

    return _prune(model, budget, constraints, strength, allocation)


def random(
    model: keras.Model,
    budget,
    seed: int = 0,
    constraints: Constraints | None = None,
) -> CompressionPlan:
    """Prunes and decomposes at random.

    Args:
        model: A built Functional or Sequential model.
        budget: A budget or a list of budgets.
        seed: Integer; the same seed gives the same plan.
        constraints: `keras_df.Constraints`.

    Returns:
        A `CompressionPlan`.

    Raises:
        ValueError: If the budget cannot be reached.

    Example:

    ```python
    plan = keras_df.baselines.random(model, keras_df.FLOPs(0.5), seed=1)
    ```
    """
    check_seed("seed", seed)
    rng = np.random.default_rng(seed)

    def scores(allocator):
        units = rng.uniform(size=allocator.graph.unit_count)
        ranks = [
            np.sort(rng.uniform(size=limit))[::-1]
            for limit in allocator.cost.limits
        ]
        return units, ranks

    return _plan(model, budget, _only(constraints), scores)


def uniform_rank(
    model: keras.Model,
    budget,
    constraints: Constraints | None = None,
) -> CompressionPlan:
    """Decomposes every layer to the same share of its largest rank.

    Args:
        model: A built Functional or Sequential model.
        budget: A budget or a list of budgets.
        constraints: `keras_df.Constraints`.

    Returns:
        A `CompressionPlan`.

    Raises:
        ValueError: If the budget cannot be reached.

    Example:

    ```python
    plan = keras_df.baselines.uniform_rank(model, keras_df.FLOPs(0.5))
    ```
    """

    def scores(allocator):
        ranks = [np.linspace(1, 0, limit) for limit in allocator.cost.limits]
        return np.ones(allocator.graph.unit_count), ranks

    constraints = _only(constraints, prune=False)
    return _plan(model, budget, constraints, scores)


def energy(
    model: keras.Model,
    budget,
    calibration=None,
    steps: int = 12,
    constraints: Constraints | None = None,
) -> CompressionPlan:
    """Decomposes every layer to the same share of its spectral energy.

    As published it is by Scheme 1, `Constraints(scheme=1)`; the default of
    `Constraints` is Scheme 2.

    Args:
        model: A built Functional or Sequential model.
        budget: A budget or a list of budgets.
        calibration: Optional training data, as `Model.fit` takes it. With it,
            the energy is that of the layer's output on these inputs.
        steps: Number of batches of `calibration` to read.
        constraints: `keras_df.Constraints`.

    Returns:
        A `CompressionPlan`.

    Raises:
        ValueError: If the budget cannot be reached.

    Example:

    ```python
    plan = keras_df.baselines.energy(model, keras_df.FLOPs(0.5))
    ```

    Reference: Alvarez and Salzmann, Compression-aware training of deep
    networks, 2017.
    """
    check_positive_integer("steps", steps)

    def scores(allocator):
        moments, scales = {}, {}
        paths = allocator.cost.paths
        if calibration is not None:
            inputs = as_fit_reads(model, calibration)
            batches = take_batches(inputs, steps)
            moments = second_moments(model, batches, paths)
            scales = output_scales(allocator.graph)
        ranks = []
        for path, limit in zip(paths, allocator.cost.limits):
            if not limit:
                ranks.append(np.empty(0))
                continue
            sigma = _spectrum(
                allocator.graph.nodes[path],
                allocator.cost.schemes[path],
                moments.get(path),
                scales.get(path),
            )
            ranks.append(_energy_left(sigma[:limit]))
        return np.ones(allocator.graph.unit_count), ranks

    constraints = _only(constraints, prune=False)
    return _plan(model, budget, constraints, scores)


def _energy_left(sigma):
    """Share of the energy that is left before each singular value."""
    squares = sigma**2
    total = max(squares.sum(), 1e-24)
    return np.cumsum(squares[::-1])[::-1] / total


def _spectrum(node, scheme, moment, scale):
    if moment is None:
        return np.sqrt(spectral_energy(node, scheme))
    matrix = kernel_matrix(node, scheme)
    moment, root = metric_of_scheme(node.operation, scheme, moment)
    matrix = mix(matrix, root)
    scale = column_scales(node, scheme, scale)
    if scale is not None:
        matrix = matrix * scale
    squares = np.linalg.eigvalsh(matrix.T @ weigh(moment, matrix))
    return np.sqrt(np.maximum(squares[::-1], 0.0))


def _only(constraints, **changes):
    return dataclasses.replace(as_constraints(constraints), **changes)


def _plan(model, budget, constraints, scores):
    budgets = as_budgets(budget)
    graph = analyze(model)
    check_weights(graph)
    allocator = Allocator(graph, budgets, constraints)
    selection = allocator.fit(*scores(allocator))
    notes = exceeded_caps(allocator, selection)
    return CompressionPlan.from_selection(graph, selection, budgets, notes)


def _prune(model, budget, constraints, strength, allocation):
    check_choice("allocation", allocation, _ALLOCATIONS)

    def scores(allocator):
        units = _filter_scores(allocator.graph, strength)
        if allocation == "uniform":
            for group in allocator.groups:
                order = np.argsort(np.argsort(units[group]))
                units[group] = order / len(group)
        return units, [np.empty(0)] * len(allocator.cost.paths)

    constraints = _only(constraints, decompose=False)
    return _plan(model, budget, constraints, scores)


def _filter_scores(graph, strength):
    """Mean over a unit's filters of their strength within their layer."""
    total = np.zeros(graph.unit_count)
    count = np.zeros(graph.unit_count)
    for node in graph.kernels().values():
        axis, ids = node.kernel.outputs
        kernel = np.asarray(getattr(node.operation, node.kernel.attribute))
        filters = np.moveaxis(kernel, axis, 0).reshape(len(ids), -1)
        value = strength(filters.astype(float), node.path)
        value = value / max(value.mean(), 1e-12)
        np.add.at(total, graph.units[ids], value)
        np.add.at(count, graph.units[ids], 1)
    return total / np.maximum(count, 1)
