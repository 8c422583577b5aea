import keras
import numpy as np
import pytest
from keras import layers

from keras_df import CompressionPlan
from keras_df import Constraints
from keras_df import FLOPs
from keras_df import MACs
from keras_df import Params
from keras_df.budgets import as_budgets
from keras_df.budgets.allocation import Allocator
from keras_df.graph import analyze

BUDGETS = {"macs": MACs, "flops": FLOPs, "params": Params}


def plan_of(model, budget, seed=0, **constraints):
    """A plan of random scores."""
    graph = analyze(model)
    budgets = as_budgets(budget)
    allocator = Allocator(graph, budgets, Constraints(**constraints))
    rng = np.random.default_rng(seed)
    selection = allocator.fit(
        rng.uniform(size=graph.unit_count),
        [np.sort(rng.uniform(size=n))[::-1] for n in allocator.cost.limits],
    )
    return CompressionPlan.from_selection(graph, selection, budgets)


def share(plan, resource):
    before, after = plan.costs[resource]
    return after / before


@pytest.fixture
def wide_model():
    """Enough channels that a single one is a small step."""
    model = keras.Sequential([keras.Input((4, 4, 3))])
    for index, filters in enumerate((64, 96, 96)):
        model.add(
            layers.Conv2D(filters, 3, padding="same", name=f"conv{index}")
        )
        model.add(layers.ReLU(name=f"relu{index}"))
    model.add(layers.Flatten(name="flatten"))
    model.add(layers.Dense(10, name="logits"))
    return model


@pytest.mark.parametrize("resource", BUDGETS)
@pytest.mark.parametrize("target", [0.15, 0.5, 0.85])
@pytest.mark.parametrize(
    "options", [{}, {"prune": False}, {"decompose": False}, {"scheme": 2}]
)
def test_a_budget_is_met_within_one_percent(
    wide_model, resource, target, options
):
    plan = plan_of(wide_model, BUDGETS[resource](target), **options)
    assert target - 0.01 <= share(plan, resource) <= target


@pytest.mark.parametrize("seed", range(4))
def test_a_budget_is_met_with_coupled_channels(residual_model, seed):
    plan = plan_of(residual_model, MACs(0.5), seed)
    assert 0.48 <= share(plan, "macs") <= 0.5


@pytest.mark.parametrize("targets", [(0.5, 0.2), (0.2, 0.5), (0.4, 0.4)])
def test_several_budgets_are_all_met(wide_model, targets):
    plan = plan_of(wide_model, [MACs(targets[0]), Params(targets[1])])
    shares = share(plan, "macs"), share(plan, "params")
    assert all(a <= b for a, b in zip(shares, targets))
    assert any(a >= b - 0.01 for a, b in zip(shares, targets))


def test_the_tighter_of_two_budgets_counts(wide_model):
    plan = plan_of(wide_model, [MACs(0.7), MACs(0.4)])
    assert 0.39 <= share(plan, "macs") <= 0.4


def test_an_absolute_budget_is_met(wide_model):
    plan = plan_of(wide_model, Params(20_000))
    assert 19_500 <= plan.costs["params"][1] <= 20_000


def test_a_budget_of_everything_removes_nothing(residual_model):
    plan = plan_of(residual_model, FLOPs(1.0))
    assert share(plan, "flops") == 1
    for layer in plan.layers.values():
        assert len(layer.kept) == layer.channels


@pytest.mark.parametrize("resource", BUDGETS)
def test_an_unreachable_budget_is_refused_with_the_bound(
    residual_model, resource
):
    kind = BUDGETS[resource]
    smallest = Allocator(analyze(residual_model), [], Constraints()).smallest()
    bound = smallest[resource]
    with pytest.raises(ValueError, match=f"the smallest is {bound:,} "):
        plan_of(residual_model, kind(bound - 1))
    assert plan_of(residual_model, kind(bound)).costs[resource][1] == bound


def test_the_bound_depends_on_the_constraints(residual_model):
    graph = analyze(residual_model)
    free = Allocator(graph, [], Constraints()).smallest()
    pruned = Allocator(graph, [], Constraints(decompose=False)).smallest()
    held = Allocator(graph, [], Constraints(floors={"*": 0.5})).smallest()
    assert free["macs"] <= pruned["macs"] < held["macs"]


def test_the_best_scores_stay(wide_model):
    graph = analyze(wide_model)
    allocator = Allocator(graph, [MACs(0.5)], Constraints(decompose=False))
    scores = np.random.default_rng(0).permutation(graph.unit_count)
    selection = allocator.fit(scores, [[]] * 4)
    kept = selection.kept & allocator.free
    gone = ~selection.kept & allocator.free
    # But for the last few, which fill the budget.
    assert np.mean(scores[kept] > scores[gone].max()) > 0.9


def test_the_largest_singular_values_stay_where_scores_say(wide_model):
    graph = analyze(wide_model)
    constraints = Constraints(prune=False, scheme=1)
    allocator = Allocator(graph, [MACs(0.6)], constraints)
    ranks = [np.linspace(1, 0, n) for n in allocator.cost.limits]
    ranks[1] = ranks[1] + 5
    chosen = allocator.fit(np.ones(graph.unit_count), ranks).ranks
    # conv1 takes all that its score asks for: it stays dense.
    assert "conv1" not in chosen
    assert chosen["conv2"] < 48


@pytest.mark.parametrize("round_to", [2, 4])
@pytest.mark.parametrize("seed", range(3))
def test_kept_channels_and_ranks_are_multiples(residual_model, round_to, seed):
    plan = plan_of(residual_model, MACs(0.5), seed, round_to=round_to)
    for layer in plan.layers.values():
        kept = len(layer.kept)
        assert kept % round_to == 0 or kept == layer.channels
        assert layer.rank is None or layer.rank % round_to == 0


def test_the_last_step_to_the_full_width_is_not_taken_out_of_turn():
    model = keras.Sequential(
        [
            keras.Input((30,)),
            layers.Dense(20, name="a", use_bias=False),
            layers.Dense(3, name="b", use_bias=False),
        ]
    )
    # 8, 16 or 20 filters cost 264, 528 or 660: 12 would fit, but is no
    # multiple of 8.
    plan = plan_of(model, MACs(429), decompose=False, round_to=8)
    assert len(plan.layers["a"].kept) == 8


@pytest.mark.parametrize("target", [0.6, 0.7, 0.8, 0.9, 0.95])
def test_widths_that_are_no_multiple_shrink_to_one(target):
    model = keras.Sequential(
        [
            keras.Input((30,)),
            layers.Dense(20, name="a"),
            layers.Dense(36, name="b"),
            layers.Dense(36, name="c"),
        ]
    )
    pruned = plan_of(model, MACs(target), decompose=False, round_to=8)
    paired = plan_of(model, MACs(target), prune=False, round_to=8)
    for name in "ab":
        layer = pruned.layers[name]
        assert len(layer.kept) % 8 == 0 or len(layer.kept) == layer.channels
        assert (paired.layers[name].rank or 0) % 8 == 0


@pytest.mark.parametrize("target", [0.6, 0.7, 0.8, 0.9, 0.95])
def test_coupled_layers_of_unequal_width_keep_multiples(target):
    inputs = keras.Input((4, 4, 3))
    x = layers.Conv2D(12, 1, name="a")(inputs)
    y = layers.Conv2D(20, 1, name="b")(inputs)
    joined = layers.Concatenate(name="join")([x, y])
    z = layers.Conv2D(32, 1, name="c")(inputs)
    x = layers.Add(name="add")([joined, z])
    outputs = layers.Dense(3, name="logits")(layers.Flatten()(x))
    model = keras.Model(inputs, outputs)
    plan = plan_of(model, MACs(target), decompose=False, round_to=8)
    for name in "abc":
        kept = len(plan.layers[name].kept)
        assert kept % 8 == 0 or kept == plan.layers[name].channels


@pytest.mark.parametrize("seed", range(3))
def test_every_layer_keeps_the_smallest_number_of_channels(
    residual_model, seed
):
    plan = plan_of(residual_model, MACs(0.4), seed, min_channels=5)
    assert all(len(layer.kept) >= 5 for layer in plan.layers.values())
    free = plan_of(residual_model, MACs(0.4), seed)
    assert any(len(layer.kept) < 5 for layer in free.layers.values())


@pytest.mark.parametrize("seed", range(3))
def test_floors_hold(residual_model, seed):
    floors = {"block1_conv1": 0.75, "block3_*": 0.5}
    plan = plan_of(residual_model, MACs(0.45), seed, floors=floors)
    for path, floor in (
        ("block1_conv1", 0.75),
        ("block3_conv1", 0.5),
        ("block3_conv2", 0.5),
    ):
        layer = plan.layers[path]
        assert len(layer.kept) >= floor * layer.channels
        if layer.rank is not None:
            assert layer.rank >= floor * min(layer.max_rank, layer.channels)


@pytest.mark.parametrize("seed", range(3))
def test_caps_hold(residual_model, seed):
    caps = {"block1_conv1": 0.25, "block2_*": 0.5}
    plan = plan_of(residual_model, MACs(0.9), seed, caps=caps)
    for path, cap in (("block1_conv1", 0.25), ("block2_conv1", 0.5)):
        layer = plan.layers[path]
        assert len(layer.kept) <= cap * layer.channels
        if layer.rank is not None:
            assert layer.rank <= cap * layer.max_rank


@pytest.mark.parametrize("seed", range(3))
def test_skipped_layers_stay_whole(residual_model, seed):
    skip = ["stem", "block3_conv1"]
    plan = plan_of(residual_model, MACs(0.5), seed, skip=skip)
    for path in skip:
        layer = plan.layers[path]
        assert len(layer.kept) == layer.channels
        assert layer.rank is None
    # The Add after it couples the stem to the end of the first block.
    assert len(plan.layers["block1_conv2"].kept) == 8


@pytest.mark.parametrize(
    "options, kept",
    [
        ({"skip": ["depthwise"]}, 16),
        ({"floors": {"depthwise": 0.75}}, 12),
        ({"caps": {"depthwise": 0.25}}, 4),
    ],
)
def test_constraints_of_a_depthwise_convolution_hold(options, kept):
    inputs = keras.Input((8, 8, 3))
    x = layers.Conv2D(16, 1, name="before")(inputs)
    x = layers.DepthwiseConv2D(3, name="depthwise")(x)
    x = layers.GlobalAveragePooling2D()(layers.Conv2D(64, 1)(x))
    model = keras.Model(inputs, layers.Dense(3)(x))
    share = 0.9 if "caps" in options else 0.5
    plan = plan_of(model, MACs(share), **options)
    found = len(plan.layers["before"].kept)
    assert found <= kept if "caps" in options else found >= kept


def test_without_pruning_every_channel_stays(residual_model):
    plan = plan_of(residual_model, MACs(0.5), prune=False)
    assert all(len(x.kept) == x.channels for x in plan.layers.values())
    assert any(x.rank for x in plan.layers.values())


def test_without_decomposition_every_kernel_is_dense(residual_model):
    plan = plan_of(residual_model, MACs(0.5), decompose=False)
    assert all(x.rank is None for x in plan.layers.values())
    assert any(len(x.kept) < x.channels for x in plan.layers.values())


def head_after_pooling():
    """A classifier; its head has 0.1 % of the MACs, 6 % of the parameters."""
    return keras.Sequential(
        [
            keras.Input((8, 8, 64)),
            layers.Conv2D(96, 3, padding="same", name="conv0"),
            layers.Conv2D(96, 3, padding="same", name="conv1"),
            layers.GlobalAveragePooling2D(name="pool"),
            layers.Dense(96, name="logits"),
        ]
    )


@pytest.mark.parametrize(
    "budget, is_pair",
    [
        (MACs(0.3), False),
        (Params(0.3), True),
        ([MACs(0.3), Params(0.3)], True),
        ([MACs(0.3), FLOPs(0.3)], False),
    ],
)
def test_what_no_budget_would_notice_stays_dense(budget, is_pair):
    plan = plan_of(head_after_pooling(), budget, prune=False)
    assert (plan.layers["logits"].rank is not None) == is_pair


def test_a_cap_holds_even_where_no_budget_would_notice():
    plan = plan_of(head_after_pooling(), MACs(0.3), caps={"logits": 0.25})
    assert plan.layers["logits"].rank <= 24


def test_the_layers_that_stay_dense_cost_little_together():
    chain = [keras.Input((8, 8, 16))]
    chain += [layers.Conv2D(16, 1, name=f"thin{i}") for i in range(40)]
    chain.append(layers.Conv2D(192, 5, padding="same", name="thick"))
    graph = analyze(keras.Sequential(chain))
    allocator = Allocator(graph, as_budgets(MACs(0.5)), Constraints())
    shares = dict(zip(allocator.cost.paths, allocator.cost.shares("macs")))
    assert sum(shares[x] for x in allocator.negligible) <= 0.01
    assert 0 < len(allocator.negligible) < 40


def test_schemes_are_those_asked_for(residual_model):
    scheme = {"block1_*": 1}
    plan = plan_of(residual_model, MACs(0.5), prune=False, scheme=scheme)
    paired = {p: x.scheme for p, x in plan.layers.items() if x.rank}
    assert paired.pop("block1_conv1", 1) == 1
    assert paired.pop("block1_conv2", 1) == 1
    assert paired and set(paired.values()) == {2}


@pytest.mark.parametrize("seed", range(5))
def test_no_layer_is_emptied(residual_model, chain_model, seed):
    for model in (residual_model, chain_model):
        bound = Allocator(analyze(model), [], Constraints()).smallest()
        plan = plan_of(model, MACs(bound["macs"] + 1), seed)
        assert all(layer.kept for layer in plan.layers.values())
        plan.validate(model)


def test_an_unknown_layer_is_refused(residual_model):
    with pytest.raises(ValueError, match="'nowhere', which matches no layer"):
        plan_of(residual_model, MACs(0.5), skip=["nowhere"])
