import keras
import numpy as np
import pytest
from keras import layers

import keras_df as kdf
from keras_df.budgets.schemes import cheapest_scheme
from keras_df.graph import analyze
from keras_df.ops.matricization import SCHEME_1
from keras_df.ops.matricization import SCHEME_2
from keras_df.ops.matricization import dematricize

SHAPE = (3, 3, 12, 16)


def low_rank_kernel(scheme, rank=2):
    """A kernel of low rank by one scheme, and of full rank by the other."""
    rows, columns = {1: SCHEME_1, 2: SCHEME_2}[scheme]
    sizes = [
        np.prod([SHAPE[axis] for axis in axes]) for axes in (rows, columns)
    ]
    rng = np.random.default_rng(0)
    matrix = rng.normal(size=(sizes[0], rank)) @ rng.normal(
        size=(rank, sizes[1])
    )
    return np.asarray(dematricize(matrix, SHAPE, rows, columns))


def model_with(scheme):
    model = keras.Sequential(
        [
            keras.Input((8, 8, 12)),
            layers.Conv2D(16, 3, padding="same", name="conv"),
            layers.GlobalAveragePooling2D(),
            layers.Dense(3, name="logits"),
        ]
    )
    model.get_layer("conv").kernel.assign(low_rank_kernel(scheme))
    return model


@pytest.mark.parametrize("scheme", [1, 2])
def test_the_scheme_with_the_lower_rank_is_cheaper(scheme):
    nodes = analyze(model_with(scheme)).nodes
    assert cheapest_scheme(nodes["conv"]) == scheme
    assert cheapest_scheme(nodes["logits"]) == 1


@pytest.mark.parametrize("scheme", [1, 2])
def test_plans_take_the_best_scheme(scheme):
    plan = kdf.baselines.uniform_rank(
        model_with(scheme),
        kdf.MACs(0.3),
        constraints=kdf.Constraints(scheme="best"),
    )
    assert plan.layers["conv"].rank
    assert plan.layers["conv"].scheme == scheme


def test_best_for_named_layers_only():
    constraints = kdf.Constraints(scheme={"conv": "best"})
    nodes = analyze(model_with(2)).nodes
    assert constraints.scheme_of(nodes["conv"]) == 2
    assert constraints.scheme_of(nodes["logits"]) == 1


def test_a_search_takes_the_best_scheme():
    search = kdf.SearchModel(
        model_with(2), kdf.MACs(0.3), kdf.Constraints(scheme="best")
    )
    plan = search.plan()
    assert plan.layers["conv"].scheme == 2
    before, after = plan.costs["macs"]
    assert after <= 0.3 * before
