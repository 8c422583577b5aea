import dataclasses
import json

import keras
import numpy as np
import pytest
from keras import layers
from keras import ops

import keras_df as kdf
from keras_df.budgets import ModelCost
from keras_df.graph import analyze


def network(size=8, window=3):
    return keras.Sequential(
        [
            keras.Input((size, size, 3)),
            layers.Conv2D(32, window, padding="same", name="a"),
            layers.ReLU(),
            layers.DepthwiseConv2D(3, padding="same", name="depthwise"),
            layers.Conv2D(48, 3, padding="same", name="b"),
            layers.GlobalAveragePooling2D(),
            layers.Dense(5, name="logits"),
        ]
    )


def entry(product, reads=0.01, writes=0.02, fixed=1.0):
    pair = [[product, reads, writes, fixed], [product / 9, 0.01, 0.01, fixed]]
    return {"dense": pair[0], "1": pair, "2": pair}


@pytest.fixture
def table():
    """A made-up machine; microseconds."""
    return kdf.LatencyTable(
        kernels={"a": entry(0.2), "b": entry(0.1), "logits": entry(0.01)},
        operators={"depthwise": 1e-3},
        per_flop=1e-4,
        fixed=3.0,
        tile=16,
        networks=[[100.0, 98.0]],
        macs={"a": 64 * 9, "b": 64 * 9, "logits": 1},
    )


def test_the_latency_of_a_model_by_hand(table):
    model = network()
    cost = ModelCost(analyze(model), {}, table)
    kernels = (
        (0.2 * 3 * 32 + 0.01 * 3 + 0.02 * 32 + 1)
        + (0.1 * 32 * 48 + 0.01 * 32 + 0.02 * 48 + 1)
        # 5 logits are computed as 16.
        + (0.01 * 48 * 16 + 0.01 * 48 + 0.02 * 5 + 1)
    )
    count = kdf.count(model)
    rest = 1e-3 * 64 * 9 * 32 + 1e-4 * (count.flops - 2 * count.macs) + 3
    assert cost.totals["latency"] == round(kernels + rest)


def test_a_soft_count_at_integers_is_the_integer_count(table):
    graph = analyze(network())
    cost = ModelCost(graph, {"a": 1, "b": 1}, table)
    kept = np.ones(graph.unit_count)
    kept[graph.units[graph.nodes["a"].kernel.outputs[1][:13]]] = 0
    ranks = np.array([5, 17, 0])
    soft = cost.soft_count(
        "latency",
        ops.convert_to_tensor(kept, "float32"),
        ops.convert_to_tensor(ranks, "float32"),
    )
    exact = cost.count("latency", kept, ranks)
    assert float(soft) == pytest.approx(exact, abs=1)


@pytest.mark.parametrize("share", [0.3, 0.5, 0.8])
@pytest.mark.parametrize(
    "baseline", [kdf.baselines.random, kdf.baselines.magnitude]
)
def test_plans_meet_the_budget(table, share, baseline):
    plan = baseline(network(), kdf.Latency(share, table))
    before, after = plan.costs["latency"]
    # A tile is coarse on so small a network.
    assert (share - 0.25) * before < after <= share * before


def test_milliseconds_are_absolute(table):
    total = kdf.baselines.random(network(), kdf.Latency(1.0, table)).costs
    slow = dataclasses.replace(table, fixed=5000.0)
    plan = kdf.baselines.random(network(), kdf.Latency(5.1, slow))
    assert total["latency"][0] + 4997 == pytest.approx(
        plan.costs["latency"][0], abs=1
    )
    assert plan.costs["latency"][1] <= 5100


def test_a_pair_that_is_slower_is_not_made(table):
    # So long as an operator takes 1000 microseconds, two take longer.
    slow = dataclasses.replace(
        table, kernels={k: entry(0.1, fixed=1e3) for k in table.kernels}
    )
    with pytest.raises(ValueError, match="smallest is"):
        kdf.baselines.uniform_rank(network(), kdf.Latency(0.995, slow))
    plan = kdf.baselines.uniform_rank(network(), kdf.Latency(0.9, table))
    assert any(layer.rank for layer in plan.layers.values())


def test_a_rank_above_that_of_the_pruned_kernel_is_not_planned(table):
    kernels = dict(table.kernels)
    for path in kernels:
        free = [[0.0, 0.0, 0.0, 0.0]] * 2  # Where pairs cost nothing.
        kernels[path] = kernels[path] | {"1": free, "2": free}
    table = dataclasses.replace(table, kernels=kernels)
    graph = analyze(network())
    cost = ModelCost(graph, {"a": 1, "b": 1}, table)
    kept = np.ones(graph.unit_count)
    kept[graph.units[graph.nodes["b"].kernel.outputs[1][10:]]] = 0
    ranks = np.array([27, 10, 0])
    assert cost.is_pair(kept, ranks).tolist() == [True, True, False]
    assert cost.is_pair(kept, ranks + 1).tolist() == [False, False, False]

    plan = kdf.baselines.magnitude(network(), kdf.Latency(0.2, table))
    kdf.compress(network(), plan)


def test_with_flops_both_hold(table):
    budget = [kdf.Latency(0.6, table), kdf.FLOPs(0.5)]
    costs = kdf.baselines.random(network(), budget).costs
    assert costs["latency"][1] <= 0.6 * costs["latency"][0]
    assert costs["flops"][1] <= 0.5 * costs["flops"][0]


def test_a_search_meets_the_budget_and_reloads(table, tmp_path):
    search = kdf.SearchModel(network(), kdf.Latency(0.5, table))
    search.compile(keras.optimizers.Adam(0.05), "mse")
    x, y = np.ones((16, 8, 8, 3), "float32"), np.zeros((16, 5), "float32")
    search.fit(x, y, epochs=2, verbose=0)
    before, after = search.plan().costs["latency"]
    assert after <= 0.5 * before
    search.save(tmp_path / "search.keras")
    loaded = keras.models.load_model(tmp_path / "search.keras")
    assert loaded.plan().costs == search.plan().costs


def test_a_plan_with_latency_survives_saving(table, tmp_path):
    plan = kdf.baselines.random(network(), kdf.Latency(0.6, table))
    plan.save(tmp_path / "plan.json")
    loaded = kdf.CompressionPlan.load(tmp_path / "plan.json")
    assert loaded == plan
    assert "latency" in plan.summary()
    kdf.compress(network(), loaded)


def test_a_table_survives_saving(table, tmp_path):
    table.save(tmp_path / "table.json")
    assert kdf.LatencyTable.load(tmp_path / "table.json") == table


def test_a_table_of_another_model_is_refused(table):
    other = keras.Sequential([keras.Input((4,)), layers.Dense(3, name="c")])
    with pytest.raises(ValueError, match="another model.*lacks the layers: c"):
        kdf.baselines.random(other, kdf.Latency(0.5, table))


@pytest.mark.parametrize("changes", [{"size": 9}, {"window": 1}])
def test_a_table_for_inputs_of_another_size_is_refused(table, changes):
    with pytest.raises(ValueError, match="another size: layer 'a'.* 576. `ker"):
        kdf.baselines.random(network(**changes), kdf.Latency(0.5, table))


def test_a_table_without_a_scheme_is_refused(table):
    del table.kernels["b"]["2"]
    with pytest.raises(ValueError, match="'b' as a pair of Scheme 2"):
        kdf.baselines.magnitude(network(), kdf.Latency(0.5, table))


def test_a_table_without_times_is_refused():
    free = {"dense": [0.0] * 4, "1": [[0.0] * 4] * 2, "2": [[0.0] * 4] * 2}
    kernels = dict.fromkeys(("a", "b", "logits"), free)
    table = kdf.LatencyTable(kernels, {}, per_flop=0.0, fixed=0.0, tile=1)
    with pytest.raises(ValueError, match="less than a microsecond"):
        kdf.baselines.magnitude(network(), kdf.Latency(0.5, table))


def test_a_table_is_that_of_pruned_models_too(table):
    plan = kdf.baselines.magnitude(
        network(),
        kdf.Latency(0.8, table),
        constraints=kdf.Constraints(decompose=False),
    )
    small = kdf.compress(network(), plan)
    again = kdf.baselines.magnitude(small, kdf.Latency(0.8, table))
    assert again.costs["latency"][0] == plan.costs["latency"][1]


def test_two_tables_are_refused(table):
    other = dataclasses.replace(table, fixed=1.0)
    budget = [kdf.Latency(0.5, table), kdf.Latency(0.5, other)]
    with pytest.raises(ValueError, match="different tables"):
        kdf.baselines.random(network(), budget)


def test_latency_without_a_table_is_refused():
    with pytest.raises(TypeError, match="measure_latency"):
        kdf.Latency(0.5, {"a": 1})


@pytest.mark.parametrize(
    "content", ["[]", "{}", "nonsense", json.dumps({"format": "other"})]
)
def test_a_file_that_is_no_table_is_refused(content, tmp_path):
    path = tmp_path / "table.json"
    path.write_text(content)
    with pytest.raises(ValueError, match="table.json"):
        kdf.LatencyTable.load(path)
