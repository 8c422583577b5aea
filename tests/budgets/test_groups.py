import keras
import numpy as np
import pytest
from keras import layers

from keras_df.budgets.groups import filters
from keras_df.budgets.groups import groups
from keras_df.budgets.groups import whole_groups
from keras_df.graph import analyze


@pytest.fixture
def joined():
    """The units of `a` are read alone and beside those of `b`."""
    inputs = keras.Input((4, 4, 3))
    a = layers.Conv2D(4, 1, name="a")(inputs)
    b = layers.Conv2D(6, 1, name="b")(inputs)
    c = layers.Conv2D(10, 1, name="c")(inputs)
    x = layers.Add(name="add")([layers.Concatenate(name="join")([a, b]), c])
    outputs = layers.Conv2D(2, 1, name="head")(x)
    return analyze(keras.Model(inputs, outputs))


def units_of(graph, path):
    return np.unique(graph.units[graph.nodes[path].kernel.outputs[1]])


def test_units_that_are_always_together_form_a_group(joined):
    free = np.isin(np.arange(joined.unit_count), units_of(joined, "c"))
    found = {frozenset(group) for group in groups(joined, free)}
    assert found == {frozenset(units_of(joined, x)) for x in "ab"}


def test_units_that_may_not_go_are_in_no_group(residual_model):
    graph = analyze(residual_model)
    free = graph.prunable.copy()
    free[::2] = False
    found = np.concatenate(groups(graph, free))
    np.testing.assert_array_equal(np.sort(found), np.flatnonzero(free))


def test_without_free_units_there_is_no_group(joined):
    assert groups(joined, np.zeros(joined.unit_count, bool)) == []


def test_a_group_written_beside_another_is_not_whole(joined):
    apart = [units_of(joined, "a"), units_of(joined, "b")]
    # `c` writes both.
    assert not whole_groups(joined, apart).any()
    assert whole_groups(joined, [np.concatenate(apart)]).all()


def test_depthwise_convolutions_have_filters(chain_model):
    graph = analyze(chain_model)
    found = {node.path for node, _ in filters(graph)}
    assert found >= {"conv", "depthwise", "separable", "hidden", "logits"}
    assert not found & {"bn", "relu", "pool", "flatten"}
