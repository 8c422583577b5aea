"""Timings of operators and networks -> a latency table."""

import dataclasses

import keras
import numpy as np

from keras_df.budgets import LatencyTable
from keras_df.budgets import ModelCost
from keras_df.budgets.cost import Rates
from keras_df.budgets.cost import node_costs
from keras_df.budgets.cost import whole_tiles
from keras_df.budgets.latency import LATENCY

TILES = (1, 2, 4, 8, 16, 32)
ORIGINAL_WEIGHT = 10.0
"""How much more the original counts than each compressed network."""


def fit_operators(graph, roles, points, times):
    """A `LatencyTable` of the operators alone."""
    samples = {}
    for (operator, inputs, outputs), time in zip(points, times):
        samples.setdefault(operator.key, []).append((inputs, outputs, time))
    # What running any file costs is not the operator's.
    overhead = 0.9 * min(times)
    whole = {k: x[0][2] - overhead for k, x in samples.items() if not x[0][1]}
    scaled = {k: np.array(x) for k, x in samples.items() if k not in whole}
    tile, fitted = _best_tile(scaled)
    for coefficients in fitted.values():
        coefficients[3] = max(coefficients[3] - overhead, 0.0)
    kernels = {
        path: _kernel_entry(by_role, fitted)
        for path, by_role in roles.items()
        if "whole" not in by_role
    }
    macs = {
        cost.path: int(cost.dense["macs"].product)
        for cost in node_costs(graph)
        if cost.pairs
    }
    table = LatencyTable(kernels, {}, 0.0, 0.0, tile, macs=macs)
    return _add_whole_operators(graph, roles, table, whole)


def _best_tile(samples):
    """The tile with which the formula fits best, and its coefficients."""
    fits = []
    for tile in TILES:
        solved = {k: _fit_rates(x, tile) for k, x in samples.items()}
        error = sum(residual**2 for _, residual in solved.values())
        fitted = {
            key: coefficients for key, (coefficients, _) in solved.items()
        }
        fits.append((error, tile, fitted))
    return min(fits, key=lambda fit: fit[0])[1:]


def _fit_rates(samples, tile):
    """Fits the coefficients of `Rates` to `(inputs, outputs, time)` rows."""
    inputs, outputs, times = samples.T
    product = inputs * whole_tiles(outputs, tile)
    columns = [product, inputs, outputs, np.ones(len(times))]
    return _nonnegative_fit(np.stack(columns, axis=1), times)


def _nonnegative_fit(columns, times, weights=1.0):
    """Least squares of the relative error; no coefficient is negative."""
    from scipy.optimize import nnls

    weights = np.broadcast_to(weights, np.shape(times))
    return nnls(columns * (weights / times)[:, None], weights)


def _kernel_entry(by_role, fitted):
    def total(role):
        return sum(fitted[operator.key] for operator in by_role[role]).tolist()

    schemes = {scheme for scheme, _ in by_role} - {"dense"}
    pairs = {s: [total((s, 0)), total((s, 1))] for s in sorted(schemes)}
    return {"dense": total(("dense", 0)), **pairs}


def _add_whole_operators(graph, roles, table, times):
    """Adds the layers that were measured at their full size alone.

    Their time follows their MACs. Layers that could not be measured cost what
    the others cost per MAC.
    """
    costs = {cost.path: cost for cost in node_costs(graph)}
    mean = _time_per_mac(costs, table)
    kernels, operators = dict(table.kernels), {}
    for path, by_role in roles.items():
        if "whole" not in by_role:
            continue
        cost, per_mac = costs[path], mean
        for operator in by_role["whole"]:
            calls = len(graph.nodes[path].flows)
            per_mac = calls * times[operator.key] / cost.amount("macs")
        if cost.outputs is None:
            operators[path] = float(per_mac)
        else:
            product = float(per_mac * cost.dense["macs"].product)
            kernels[path] = {"dense": [product, 0.0, 0.0, 0.0]}
    return dataclasses.replace(table, kernels=kernels, operators=operators)


def _time_per_mac(costs, table):
    time = macs = 0.0
    for path, entry in table.kernels.items():
        cost = costs[path]
        rates = Rates(*entry["dense"], tile=table.tile)
        time += rates.cost(len(cost.inputs), len(cost.outputs))
        macs += cost.amount("macs")
    return time / max(macs, 1)


def calibrate(graph, table, plans, measured):
    """Fits what operators cost within a network to whole networks."""
    features = [_features(graph, table, plan) for plan in plans]
    features = np.array(features)
    # A budget is a share of the original's time: that has to be right.
    weights = np.ones(len(plans))
    weights[plans.index(None)] = ORIGINAL_WEIGHT
    fitted, _ = _nonnegative_fit(features, measured, weights)
    scale, per_flop, fixed = fitted
    predicted = features @ (scale, per_flop, fixed)
    return dataclasses.replace(
        table,
        kernels={
            path: {role: _scaled(x, scale) for role, x in entry.items()}
            for path, entry in table.kernels.items()
        },
        operators={p: float(x * scale) for p, x in table.operators.items()},
        per_flop=float(per_flop),
        fixed=float(fixed),
        networks=np.stack([measured, predicted], axis=1).round(1).tolist(),
    )


def check_scale(table):
    """Raises RuntimeError if, by a calibrated table, every operator is free.

    Args:
        table: `LatencyTable` from `calibrate`.
    """
    if any(keras.tree.flatten((table.kernels, table.operators))):
        return
    times = ", ".join(f"{measured:,}" for measured, _ in table.networks)
    raise RuntimeError(
        "Compressed versions of the model do not get faster as their "
        f"operators do: they took {times} microseconds, the model itself "
        "first. Measure on a machine that does nothing else, with more "
        "`repeats`; a network this small may have nothing to gain."
    )


def _features(graph, table, plan):
    """Time of a network's operators, its other FLOPs, and 1."""
    if plan is None:
        cost = ModelCost(graph, {}, table)
        count = cost.totals
    else:
        selection = plan.selection(graph)
        cost = ModelCost(graph, selection.schemes, table)
        count = cost.count_selection(selection)
    return count[LATENCY], count["flops"] - 2 * count["macs"], 1.0


def _scaled(coefficients, scale):
    return (scale * np.array(coefficients)).tolist()
