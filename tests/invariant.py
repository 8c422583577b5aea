"""The invariant that surgery is tested by, and what it needs."""

import keras
import numpy as np

import keras_df as kdf
from keras_df.budgets.allocation import Allocator
from keras_df.budgets.allocation import Selection
from keras_df.graph import analyze
from keras_df.graph.walk import graph_of

TOLERANCE = 1e-4


def randomize(model, seed=0):
    """Sets every weight at random, so that nothing is trivially zero."""
    rng = np.random.default_rng(seed)
    for weight in model.weights:
        if not keras.backend.is_float_dtype(weight.dtype):
            continue
        shape = tuple(weight.shape)
        if "variance" in weight.name:
            value = rng.uniform(0.5, 2.0, shape)
        elif weight.name in ("gamma", "scale", "alpha"):
            value = rng.uniform(0.5, 1.5, shape)
        elif len(shape) > 1:
            fan_in = max(np.prod(shape[:-1]), 1)
            value = rng.normal(0, (2 / fan_in) ** 0.5, shape)
        else:
            value = rng.normal(0, 0.3, shape)
        weight.assign(value)
    for layer in model._flatten_layers():
        if isinstance(layer, keras.layers.Normalization):
            layer.finalize_state()
    return model


def random_inputs(model, batch=2, size=8, seed=0):
    """Arrays for a model's inputs, in the structure that it takes."""
    rng = np.random.default_rng(seed)

    def draw(tensor):
        shape = [size if x is None else x for x in tensor.shape]
        shape[0] = tensor.shape[0] or batch
        if keras.backend.is_int_dtype(tensor.dtype):
            return rng.integers(0, 5, shape).astype(tensor.dtype)
        return rng.normal(0, 1, shape).astype(tensor.dtype)

    return keras.tree.map_structure(draw, graph_of(model).input)


def random_plan(model, seed=0):
    """A valid plan that prunes and decomposes a random share of each part."""
    rng = np.random.default_rng(seed)
    graph = analyze(model)
    constraints = kdf.Constraints(scheme=int(rng.integers(1, 3)))
    allocator = Allocator(graph, [], constraints)
    kept = np.ones(graph.unit_count, bool)
    for group in allocator.groups:
        gone = rng.integers(0, len(group))
        kept[rng.permutation(group)[:gone]] = False
    ranks = np.zeros(len(allocator.cost.paths), int)
    inputs, outputs = allocator.cost.sizes(kept)
    for index, limit in enumerate(allocator.cost.limits):
        if limit and rng.uniform() < 0.6:
            most = min(limit, inputs[index], outputs[index])
            ranks[index] = rng.integers(1, most + 1)
    cheaper = allocator.cost.is_pair(kept, ranks) & (ranks > 0)
    paths = np.array(allocator.cost.paths, object)[cheaper]
    selection = Selection(
        kept,
        {p: int(r) for p, r in zip(paths, ranks[cheaper])},
        {p: allocator.cost.schemes[p] for p in paths},
    )
    return kdf.CompressionPlan.from_selection(graph, selection)


def difference(first, second, inputs):
    """Largest difference of two models' outputs, relative to their scale."""
    pairs = zip(outputs_of(first, inputs), outputs_of(second, inputs))
    worst = 0.0
    for a, b in pairs:
        assert a.shape == b.shape
        assert np.isfinite(b).all()
        worst = max(worst, np.abs(a - b).max() / max(np.abs(b).max(), 1e-6))
    return worst


def outputs_of(model, inputs):
    outputs = keras.tree.flatten(model(inputs, training=False))
    return [np.asarray(keras.ops.cast(x, "float32")) for x in outputs]


def assert_compresses(model, seeds=(0, 1, 2), inputs=None, tol=TOLERANCE):
    """Asserts that compressing a model keeps all that keras_df promises.

    The invariant, the exact cost, and an untouched original, for a plan per
    seed; and that copies with nothing removed are faithful.

    Returns the last compressed model.
    """
    inputs = random_inputs(model) if inputs is None else inputs
    model(inputs)
    randomize(model)
    before = [np.asarray(weight).copy() for weight in model.weights]
    graph = analyze(model)
    assert not [r for r in all_reasons(graph) if "failed" in r]
    for seed in seeds:
        plan = random_plan(model, seed)
        small = kdf.compress(model, plan)
        reference = kdf.surgery.zeroed_consumers(model, plan)
        assert difference(small, reference, inputs) <= tol
        count = kdf.count(small)
        after = {name: pair[1] for name, pair in plan.costs.items()}
        assert after == {name: getattr(count, name) for name in after}
        assert count.params == small.count_params()
    calibrated = kdf.compress(model, plan, calibration=[inputs])
    assert calibrated.count_params() == small.count_params()
    assert all(np.isfinite(x).all() for x in outputs_of(calibrated, inputs))
    for weight, value in zip(model.weights, before, strict=True):
        np.testing.assert_array_equal(np.asarray(weight), value)
    whole = kdf.surgery.zeroed_consumers(model, untouched_plan(model))
    assert difference(whole, model, inputs) <= tol
    return small


def untouched_plan(model):
    graph = analyze(model)
    kept = np.ones(graph.unit_count, bool)
    return kdf.CompressionPlan.from_selection(graph, Selection(kept, {}, {}))


def all_reasons(graph):
    """Every reason that an analysis gives."""
    reasons = list(graph.reasons.values())
    for node in graph.nodes.values():
        for flow in node.flows:
            reasons += [tensor.reason for tensor in flow.outputs]
            reasons += [flow.kernel.reason] if flow.kernel else []
    return reasons


def prunable_channels(model):
    """Dict from each layer with a kernel to how many channels can go."""
    graph = analyze(model)
    return {
        path: int(graph.prunable[graph.units[node.kernel.outputs[1]]].sum())
        for path, node in graph.kernels().items()
    }


def assert_reloads(small, inputs, path):
    """Asserts that a compressed model survives `.keras`."""
    small.save(path)
    loaded = keras.models.load_model(path)
    assert difference(loaded, small, inputs) <= 1e-6
