import keras
import numpy as np
import pytest
from keras import layers
from keras import ops

from keras_df import FLOPs
from keras_df import baselines
from keras_df import compress
from keras_df import count
from keras_df.budgets import ModelCost
from keras_df.budgets.constraints import Constraints
from keras_df.budgets.cost import RESOURCES
from keras_df.graph import analyze


def cost_of(model, constraints):
    graph = analyze(model)
    schemes = {
        path: constraints.scheme_of(node)
        for path, node in graph.kernels().items()
    }
    return ModelCost(graph, {k: v for k, v in schemes.items() if v})


def random_decision(cost, seed):
    """Units and ranks at random; every layer keeps something."""
    rng = np.random.default_rng(seed)
    kept = rng.uniform(size=cost.graph.unit_count) < 0.6
    kept |= ~cost.graph.prunable
    for node in cost.graph.kernels().values():
        kept[cost.graph.units[node.kernel.outputs[1][0]]] = True
    ranks = rng.integers(1, np.maximum(cost.limits, 1) + 1)
    return kept.astype(float), ranks


@pytest.mark.parametrize(
    "make",
    [
        lambda m: baselines.magnitude(m, FLOPs(0.5)),
        lambda m: baselines.uniform_rank(m, FLOPs(0.6)),
        lambda m: baselines.energy(m, FLOPs(0.7)),
        lambda m: baselines.random(m, FLOPs(0.4), seed=3),
        lambda m: baselines.random(
            m, FLOPs(0.5), constraints=Constraints(scheme=2)
        ),
    ],
    ids=["magnitude", "uniform_rank", "energy", "random", "scheme 2"],
)
@pytest.mark.parametrize("name", ["chain_model", "residual_model"])
def test_the_count_of_a_plan_is_that_of_the_compressed_model(
    name, make, request
):
    model = request.getfixturevalue(name)
    plan = make(model)
    before, after = count(model), count(compress(model, plan))
    for resource in RESOURCES:
        amounts = (getattr(before, resource), getattr(after, resource))
        assert plan.costs[resource] == amounts


def test_nothing_removed_costs_all(residual_model):
    cost = cost_of(residual_model, Constraints())
    expected = count(residual_model)
    for resource in RESOURCES:
        assert cost.totals[resource] == getattr(expected, resource)


def test_shares_are_those_of_count(residual_model):
    cost = cost_of(residual_model, Constraints())
    expected = count(residual_model)
    counted = {x.name: x for x in expected.layers}
    for resource in RESOURCES:
        total = getattr(expected, resource)
        shares = cost.shares(resource)
        assert shares.sum() <= 1
        for path, share in zip(cost.paths, shares, strict=True):
            own = getattr(counted[path], resource)
            assert 0 < share * total <= own + 1e-6
            if resource == "macs":
                assert share * total == pytest.approx(own)


def test_a_pair_that_is_not_cheaper_is_not_made():
    model = keras.Sequential(
        [keras.Input((10,)), layers.Dense(10, name="a", use_bias=False)]
    )
    cost = cost_of(model, Constraints())
    kept = np.ones(cost.graph.unit_count)
    # 10 * 10 = r * (10 + 10) at r = 5.
    assert cost.is_pair(kept, np.array([4])).tolist() == [True]
    assert cost.is_pair(kept, np.array([5])).tolist() == [False]
    assert cost.count("macs", kept, np.array([4])) == 80
    assert cost.count("macs", kept, np.array([5])) == 100


def test_sizes_follow_the_units(chain_model):
    cost = cost_of(chain_model, Constraints())
    graph = cost.graph
    kept = np.ones(graph.unit_count)
    ids = graph.nodes["conv"].kernel.outputs[1]
    kept[graph.units[ids[:3]]] = 0
    inputs, outputs = cost.sizes(kept)
    sizes = dict(zip(cost.paths, zip(inputs, outputs)))
    assert sizes == {
        "conv": (3, 5),
        "separable": (5, 12),
        "hidden": (12, 10),
        "logits": (10, 4),
    }


@pytest.mark.parametrize("resource", RESOURCES)
@pytest.mark.parametrize("scheme", [1, 2])
@pytest.mark.parametrize("seed", range(3))
def test_a_soft_count_at_integers_is_the_integer_count(
    residual_model, resource, scheme, seed
):
    cost = cost_of(residual_model, Constraints(scheme=scheme))
    kept, ranks = random_decision(cost, seed)
    soft = cost.soft_count(
        resource,
        ops.convert_to_tensor(kept, "float32"),
        ops.convert_to_tensor(ranks, "float32"),
    )
    expected = cost.count(resource, kept, ranks)
    assert float(soft) == pytest.approx(expected, rel=1e-5)


def test_a_soft_count_of_pairs_by_hand():
    model = keras.Sequential(
        [
            keras.Input((8,)),
            layers.Dense(6, name="a"),
            layers.Dense(4, name="b"),
        ]
    )
    cost = cost_of(model, Constraints())
    mask = np.ones(cost.graph.unit_count, "float32")
    mask[cost.graph.units[cost.graph.nodes["a"].kernel.outputs[1]]] = 0.5
    soft = cost.soft_count(
        "params",
        ops.convert_to_tensor(mask),
        ops.convert_to_tensor([1.5, 2.5]),
    )
    # A pair of rank 1.5 from 8 to 3, its bias. From 3 to 4 a pair of rank 2.5
    # would cost more than the dense layer.
    assert float(soft) == pytest.approx(1.5 * (8 + 3) + 3 + 3 * 4 + 4)


@pytest.mark.skipif(
    keras.config.backend() != "tensorflow", reason="uses GradientTape"
)
def test_ranks_are_pushed_down_where_a_pair_may_become_cheaper():
    import tensorflow as tf

    # Break-even ranks are 144 * 16 / 160 = 14.4 of 16, and 8 of 16.
    model = keras.Sequential(
        [
            keras.Input((8, 8, 16)),
            layers.Conv2D(16, 3, padding="same", use_bias=False, name="window"),
            layers.Conv2D(16, 1, use_bias=False, name="point"),
        ]
    )
    cost = cost_of(model, Constraints(scheme=1))
    mask = tf.ones(cost.graph.unit_count)
    ranks = tf.Variable([16.0, 16.0])
    with tf.GradientTape() as tape:
        soft = cost.soft_count("macs", mask, ranks)
    assert float(soft) == cost.totals["macs"]
    window, point = tape.gradient(soft, ranks).numpy()
    # Per unit of rank, over the whole of the pair's own derivative.
    window, point = window / (64 * 160), point / (64 * 32)
    assert 0.4 < window < 0.5
    assert 0.05 < point < 0.2
