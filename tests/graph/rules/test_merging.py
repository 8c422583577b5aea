"""Channels through merges."""

import numpy as np
import pytest
from keras import layers
from keras import ops
from rules_helpers import assert_apart
from rules_helpers import assert_same
from rules_helpers import axis_of
from rules_helpers import flow_of
from rules_helpers import reason_of

from keras_df.graph.rules.merging import BROADCAST
from keras_df.graph.rules.merging import CONSTANT

IMAGE = (4, 4, 6)


@pytest.mark.parametrize(
    "merge",
    [
        lambda a, b: layers.Add()([a, b]),
        lambda a, b: layers.Average()([a, b]),
        lambda a, b: layers.Minimum()([a, b]),
        lambda a, b: ops.where(a > b, a, b),
        lambda a, b: ops.logaddexp(a, b),
        lambda a, b: ops.arctan2(a, b) / 2 - b**2,
        lambda a, b: layers.Concatenate(axis=1)([a, b]),
        lambda a, b: ops.concatenate([a, b], axis=2),
        lambda a, b: ops.stack([a, b], axis=1),
        lambda a, b: ops.stack([a, b], axis=-1),
    ],
)
def test_elementwise_merges_unify(merge):
    given, (written,), _ = flow_of(merge, IMAGE, IMAGE)
    assert_same(given[0], given[1])
    assert_same(written, given[0])
    assert_apart(written)


def test_stack_moves_the_channel_axis():
    for axis, expected in ((1, 4), (3, 4), (-1, 3)):
        _, _, graph = flow_of(
            lambda a, b, axis=axis: ops.stack([a, b], axis=axis), IMAGE, IMAGE
        )
        assert axis_of(graph) == expected


def test_concatenation_joins_channels():
    given, (written,), _ = flow_of(
        lambda a, b: layers.Concatenate()([a, b, a]), IMAGE, (4, 4, 3)
    )
    assert_same(written, np.concatenate([given[0], given[1], given[0]]))


def test_concatenated_constant_stays():
    (given,), (written,), graph = flow_of(
        lambda a: ops.concatenate([np.ones((1, 4, 4, 2), "float32"), a], -1),
        IMAGE,
    )
    assert_same(written[2:], given)
    assert not graph.prunable[written[:2]].any()


def test_vector_is_broadcast_over_positions():
    given, (written,), _ = flow_of(
        lambda a, b: a * layers.Reshape((1, 1, 6))(b), IMAGE, (6,)
    )
    assert_same(given[0], given[1])
    assert_same(written, given[0])


def test_one_channel_broadcast_over_many_is_frozen():
    given, (written,), graph = flow_of(lambda a, b: a * b, IMAGE, (4, 4, 1))
    assert_same(written, given[0])
    assert graph.prunable[given[0]].all()
    assert graph.reasons[int(given[1][0])] == BROADCAST


def test_sums_of_different_axes_freeze():
    given, _, graph = flow_of(
        lambda a, b: a + layers.Permute((2, 1))(b), (4, 4), (4, 4)
    )
    assert not graph.prunable[np.concatenate(given)].any()
    assert "different axes" in reason_of(graph)


@pytest.mark.parametrize("shape", [(6,), (1, 1, 6), (1, 4, 1, 6), (4, 1), ()])
def test_constants_are_cut_with_the_channels(shape):
    constant = np.ones(shape, "float32")
    (given,), (written,), _ = flow_of(lambda a: a + constant, IMAGE)
    assert_same(written, given)


def test_constant_with_a_value_per_sample_freezes():
    constant = np.ones((2, 1, 1, 6), "float32")
    (given,), _, graph = flow_of(lambda a: ops.add(a, constant), IMAGE)
    assert not graph.prunable[given].any()
    assert reason_of(graph) == CONSTANT


def test_frozen_operand_freezes_the_others():
    given, _, graph = flow_of(
        lambda a, b: a + layers.LayerNormalization()(b), IMAGE, IMAGE
    )
    assert not graph.prunable[np.concatenate(given)].any()


def test_an_array_among_the_tensors_of_a_merge_keeps_its_channels():
    constant = np.ones((1, 4, 4, 6), "float32")
    _, _, graph = flow_of(lambda a: layers.Add()([a, constant]), IMAGE)
    assert reason_of(graph) == CONSTANT
