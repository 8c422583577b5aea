import keras
import numpy as np
import pytest

from keras_df.budgets import FLOPs
from keras_df.budgets import MACs
from keras_df.budgets import Params
from keras_df.budgets import as_budgets


@pytest.mark.parametrize("kind", [FLOPs, MACs, Params])
def test_a_target_up_to_1_is_a_share(kind):
    assert kind(0.5).limit(1001) == 500
    assert kind(1).limit(1001) == 1001


def test_a_target_above_1_is_an_amount():
    assert MACs(2.5e3).limit(10**6) == 2500
    assert MACs(2000).limit(10) == 2000


def test_a_limit_is_an_integer():
    assert isinstance(FLOPs(np.float32(0.5)).limit(1001), int)


@pytest.mark.parametrize("target", [0, -1, float("nan"), float("inf")])
def test_a_target_that_is_not_positive_and_finite_is_refused(target):
    with pytest.raises(ValueError, match="`FLOPs` must be positive and finite"):
        FLOPs(target)


@pytest.mark.parametrize("target", ["0.5", None, True, [0.5], 0.5j])
def test_a_target_that_is_no_number_is_refused(target):
    with pytest.raises(TypeError, match="`Params` takes a number"):
        Params(target)


def test_a_budget_survives_serialization():
    config = keras.saving.serialize_keras_object(Params(0.3))
    budget = keras.saving.deserialize_keras_object(config)
    assert type(budget) is Params
    assert budget.target == 0.3


def test_repr_is_what_makes_the_budget():
    assert repr(FLOPs(0.5)) == "FLOPs(0.5)"
    assert repr(MACs(20000)) == "MACs(20000)"


def test_one_budget_or_several_make_a_list():
    flops, params = FLOPs(0.5), Params(0.3)
    assert as_budgets(flops) == [flops]
    assert as_budgets((flops, params)) == [flops, params]


def test_no_budget_is_refused():
    with pytest.raises(ValueError, match="`budget` is empty"):
        as_budgets([])


@pytest.mark.parametrize("budget", [0.5, None, [0.5], FLOPs, "FLOPs(0.5)"])
def test_what_is_no_budget_is_refused(budget):
    with pytest.raises(TypeError, match="must be a budget such as"):
        as_budgets(budget)
