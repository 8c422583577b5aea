"""measure_latency: a table of what each layer costs on LiteRT."""

import functools

import keras
import numpy as np

from keras_df.budgets import FLOPs
from keras_df.budgets import Latency
from keras_df.budgets import LatencyTable
from keras_df.budgets.constraints import Constraints
from keras_df.checks import check_positive_integer
from keras_df.export.latency import interleaved_times
from keras_df.export.latency_fit import calibrate
from keras_df.export.latency_fit import check_scale
from keras_df.export.latency_fit import fit_operators
from keras_df.export.litert import convert
from keras_df.export.operators import kernel_operators
from keras_df.export.operators import operator_file
from keras_df.export.operators import whole_operator
from keras_df.export.portable import in_float32
from keras_df.export.verification import require_packages
from keras_df.export.verification import require_tensorflow
from keras_df.files import check_target
from keras_df.graph import analyze
from keras_df.graph.walk import graph_of
from keras_df.surgery import baselines
from keras_df.surgery import compress

SHARES = (1.0, 0.45, 0.15)
"""Shares of the channels at which operators are measured."""
EXAMPLES = (
    (0.6, Constraints()),
    (0.4, Constraints()),
    (0.7, Constraints(prune=False)),
    (0.6, Constraints(decompose=False)),
)
"""Budgets and constraints of the networks that a table is calibrated on."""


def measure_latency(
    model: keras.Model,
    filepath: str | None = None,
    threads: int = 1,
    repeats: int = 40,
    verbose: bool = True,
) -> LatencyTable:
    """Measures what the layers of a model cost on this machine, with LiteRT.

    Every kind of operator that the model has, or that decomposing it would
    bring, is timed at several numbers of channels, and a formula is fitted.
    What operators cost within a network is then calibrated on the model and
    on compressed versions of it. It takes about a minute.

    Args:
        model: A built Functional or Sequential model with channels last. It
            is measured in float32, which LiteRT computes in.
        filepath: Path of a JSON file to write the table to.
        threads: Number of threads.
        repeats: Number of interleaved rounds, each of which runs every
            operator once; whole networks run three times as often.
        verbose: Whether to show a progress bar.

    Returns:
        A `LatencyTable` for `keras_df.Latency`.

    Raises:
        ImportError: If SciPy, of the extra `keras_df[litert]`, is missing.
        RuntimeError: If Keras does not run on TensorFlow, or if compressed
            models do not get faster as their operators do.
        ValueError: If a layer has its channels first, or a number is not a
            positive integer.
        OSError: If the file cannot be written.

    Example:

    ```python
    table = keras_df.export.measure_latency(model, "latency.json")
    plan = keras_df.baselines.uniform_rank(
        model, keras_df.Latency(0.6, table)
    )
    ```
    """
    require_tensorflow("Measuring latency")
    require_packages("Measuring latency", ["scipy"], "litert")
    check_positive_integer("threads", threads)
    check_positive_integer("repeats", repeats)
    if filepath is not None:
        check_target(filepath)
    graph_of(model)
    model = in_float32(model)
    graph = analyze(model)
    roles = _roles(graph)
    points = _points(roles)
    progress = keras.utils.Progbar(
        len(points) + 2 * len(EXAMPLES) + 1,
        verbose=int(verbose),
        unit_name="file",
    )
    files = []
    for point in points:
        files.append(operator_file(*point))
        progress.add(1)
    times = 1e6 * interleaved_times(files, threads, repeats)
    # Short operators suffer the most from what else the machine does.
    operators = fit_operators(graph, roles, points, np.percentile(times, 10, 0))
    plans, files = [None], [convert(model, {}, 1)]
    budget = FLOPs
    for _ in range(2):
        for plan in _example_plans(model, budget):
            plans.append(plan)
            files.append(convert(compress(model, plan), {}, 1))
            progress.add(1)
        times = 1e6 * interleaved_times(files, threads, 3 * repeats)
        table = calibrate(graph, operators, plans, np.median(times, 0))
        # A plan for a latency exploits what the table says, so the table is
        # calibrated on such plans too.
        budget = functools.partial(Latency, table=table)
    progress.update(progress.target, finalize=True)
    check_scale(table)
    if filepath is not None:
        table.save(filepath)
    return table


def _roles(graph):
    """Dict from a node's path to its operators by role."""
    roles = {}
    for path, node in graph.nodes.items():
        if getattr(node.operation, "data_format", None) == "channels_first":
            raise ValueError(
                f"Layer '{path}' has `data_format='channels_first'`, which "
                "LiteRT does not run."
            )
        if node.kernel is not None and node.kernel.schemes:
            roles[path] = kernel_operators(node)
        elif node.kernel is not None or node.flow.macs:
            operator = whole_operator(node)
            roles[path] = {"whole": [operator] if operator else []}
    return roles


def _points(roles):
    """Which operators to measure: list of `(operator, inputs, outputs)`."""
    largest = {}
    for by_role in roles.values():
        for operator in (x for found in by_role.values() for x in found):
            known, inputs, outputs = largest.get(operator.key, (operator, 0, 0))
            largest[operator.key] = (
                known,
                max(inputs, operator.inputs),
                max(outputs, operator.outputs),
            )
    points = []
    for operator, inputs, outputs in largest.values():
        if not outputs:
            points.append((operator, inputs, 0))
            continue
        points += [
            (operator, a, b) for a in _sizes(inputs) for b in _sizes(outputs)
        ]
    return points


def _sizes(channels):
    return sorted({max(1, round(channels * share)) for share in SHARES})


def _example_plans(model, budget):
    """Plans that differ in how much they prune and how much they decompose."""
    for seed, (share, constraints) in enumerate(EXAMPLES):
        try:
            yield baselines.random(model, budget(share), seed, constraints)
        except ValueError:
            continue  # Not every model gets as small in every way.
