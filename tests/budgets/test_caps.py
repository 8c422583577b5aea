import keras
import numpy as np
import pytest
from keras import layers

from keras_df import Constraints
from keras_df import MACs
from keras_df import SearchModel
from keras_df import baselines
from keras_df.budgets import as_budgets
from keras_df.budgets.allocation import Allocator
from keras_df.budgets.caps import exceeded_caps
from keras_df.graph import analyze


def notes_of(model, budget=0.95, **constraints):
    """Notes on a selection of random scores."""
    graph, budgets = analyze(model), as_budgets(MACs(budget))
    allocator = Allocator(graph, budgets, Constraints(**constraints))
    rng = np.random.default_rng(0)
    selection = allocator.fit(
        rng.uniform(size=graph.unit_count),
        [np.sort(rng.uniform(size=n))[::-1] for n in allocator.cost.limits],
    )
    return exceeded_caps(allocator, selection)


@pytest.mark.parametrize("others", [{}, {"round_to": 4}, {"min_channels": 4}])
def test_caps_that_hold_are_not_spoken_of(residual_model, others):
    assert not notes_of(residual_model, caps={"block*": 0.5}, **others)


@pytest.mark.parametrize(
    "cap, others, kept",
    [(0.5, {"round_to": 8}, 8), (0.5, {"min_channels": 6}, 6), (0.1, {}, 1)],
)
def test_a_cap_without_room_is_named(residual_model, cap, others, kept):
    caps = {"block1_conv1": cap}
    (note,) = notes_of(residual_model, decompose=False, caps=caps, **others)
    share = f"at most {cap:.1%}"
    assert f"'block1_conv1' keeps {kept} of 8 channels ({share})" in note


def test_a_rank_without_room_is_named(residual_model):
    (note,) = notes_of(
        residual_model, prune=False, round_to=4, caps={"block1_conv1": 0.1}
    )
    assert "'block1_conv1' keeps 4 of 24 singular values" in note


def test_layers_that_are_left_alone_have_no_caps(residual_model):
    """The logits keep their classes, and what is skipped all it has."""
    caps = {"block2_conv1": 0.5, "logits": 0.5}
    assert not notes_of(residual_model, caps=caps, skip=["block2_*", "logits"])
    assert not notes_of(residual_model, caps=caps, decompose=False)


def test_only_a_few_layers_are_listed(residual_model):
    (note,) = notes_of(
        residual_model, decompose=False, min_channels=8, caps={"*": 0.4}
    )
    assert note.count("keeps") == 3
    assert note.endswith("more")


def test_plans_carry_the_note(residual_model):
    constraints = Constraints(min_channels=8, caps={"block1_conv1": 0.5})
    wanted = "'block1_conv1' keeps 8 of 8 channels"
    budget = MACs(0.8)
    search = SearchModel(residual_model, budget, constraints=constraints)
    assert any(wanted in note for note in search.plan().notes)
    plan = baselines.magnitude(residual_model, budget, constraints=constraints)
    assert any(wanted in note for note in plan.notes)


@pytest.mark.parametrize("share, size", [(0.55, 100), (0.14, 50), (0.29, 100)])
def test_a_floor_and_a_cap_of_one_share_agree(share, size):
    inputs = keras.Input((4, 4, 3))
    x = layers.Conv2D(size, 3, padding="same", name="wide")(inputs)
    model = keras.Model(inputs, layers.Conv2D(4, 3, padding="same")(x))
    shares = {"wide": share}
    constraints = Constraints(decompose=False, floors=shares, caps=shares)
    plan = baselines.random(model, MACs(0.9), 0, constraints)
    assert len(plan.layers["wide"].kept) == round(share * size)
    assert not any("caps" in note for note in plan.notes)
