"""Channels through Flatten, Reshape, Permute, reductions."""

import numpy as np
import pytest
from keras import layers
from keras import ops
from rules_helpers import assert_apart
from rules_helpers import assert_same
from rules_helpers import axis_of
from rules_helpers import flow_of
from rules_helpers import reason_of

IMAGE = (4, 4, 6)


def test_flatten_tiles():
    (given,), (written,), _ = flow_of(layers.Flatten(), IMAGE)
    assert_same(written, np.tile(given, 16))


@pytest.mark.parametrize(
    "target, axis", [((16, 6), 2), ((2, 8, 6), 3), ((-1, 6), 2), ((4, 4, 6), 3)]
)
def test_reshape_of_space_keeps_channels(target, axis):
    (given,), (written,), graph = flow_of(layers.Reshape(target), IMAGE)
    assert_same(written, given)
    assert axis_of(graph) == axis


def test_reshape_that_spreads_channels_couples_blocks():
    (given,), (written,), graph = flow_of(layers.Reshape((4, 4, 2, 3)), IMAGE)
    assert_same(given[:3], given[3:])
    assert_same(written, given[:3])
    assert_apart(written)
    assert axis_of(graph) == 4


def test_reshape_of_a_vector_to_an_image_couples_positions():
    (given,), (written,), _ = flow_of(layers.Reshape((2, 2, 5)), (20,))
    assert_same(given, np.tile(given[:5], 4))
    assert_same(written, given[:5])


def test_reshape_to_a_last_axis_of_one_keeps_the_widest():
    (given,), (written,), graph = flow_of(layers.Reshape((6, 1)), (6,))
    assert_same(written, given)
    assert axis_of(graph) == 1


def test_reshape_across_positions_and_channels():
    (given,), (written,), graph = flow_of(layers.Reshape((8, 3)), (4, 6))
    assert_same(given[:3], given[3:])
    assert_same(written, given[:3])
    (given,), (written,), _ = flow_of(layers.Reshape((2, 12)), (4, 6))
    assert_same(written, np.tile(given, 2))


def test_reshape_that_mixes_the_batch_freezes():
    (given,), (written,), graph = flow_of(
        lambda x: ops.reshape(x, (-1, 6)), IMAGE
    )
    assert written is None and "batch" in reason_of(graph)
    assert not graph.prunable[given].any()


@pytest.mark.parametrize(
    "function, axis",
    [
        (layers.Permute((2, 1, 3)), 3),
        (layers.Permute((3, 1, 2)), 1),
        (lambda x: ops.transpose(x, (0, 2, 3, 1)), 2),
        (lambda x: ops.moveaxis(x, -1, 1), 1),
        (lambda x: ops.moveaxis(x, [1, 2], [2, 3]), 1),
        (lambda x: ops.swapaxes(x, 2, 3), 2),
        (lambda x: ops.expand_dims(x, 1), 4),
        (lambda x: ops.squeeze(ops.expand_dims(x, -1), -1), 3),
    ],
)
def test_moved_axes_carry_their_channels(function, axis):
    (given,), (written,), graph = flow_of(function, IMAGE)
    assert_same(written, given)
    assert axis_of(graph) == axis


def test_moving_the_batch_freezes():
    (given,), (written,), graph = flow_of(
        lambda x: ops.transpose(ops.transpose(x)), (4, 6)
    )
    assert written is None and not graph.prunable[given].any()


@pytest.mark.parametrize(
    "function, axis",
    [
        (lambda x: ops.mean(x, axis=(1, 2)), 1),
        (lambda x: ops.max(x, axis=1), 2),
        (lambda x: ops.sum(x, axis=[1, 2], keepdims=True), 3),
        (lambda x: ops.var(x, axis=-2), 2),
        (lambda x: ops.logsumexp(x, axis=1), 2),
        (lambda x: ops.any(x > 0, axis=1), 2),
        (lambda x: ops.argmax(x, axis=1), 2),
        (lambda x: ops.norm(x, axis=2, keepdims=True), 3),
        (lambda x: ops.moments(x, axes=[1, 2])[1], 1),
    ],
)
def test_reductions_over_space_keep_channels(function, axis):
    (given,), (written,), graph = flow_of(function, IMAGE)
    assert_same(written, given)
    assert axis_of(graph) == axis


@pytest.mark.parametrize("axis", [-1, (1, 3), 0, (0, 1)])
def test_reductions_over_channels_or_the_batch_freeze(axis):
    (given,), (written,), graph = flow_of(
        lambda x: (
            ops.expand_dims(ops.mean(x, axis=axis), 0)
            if axis in (0, (0, 1))
            else ops.mean(x, axis=axis)
        ),
        IMAGE,
    )
    assert written is None and not graph.prunable[given].any()


def test_repeat_vector_adds_an_axis():
    (given,), (written,), graph = flow_of(layers.RepeatVector(3), (6,))
    assert_same(written, given)
    assert axis_of(graph) == 2


def test_pixel_unshuffle_repeats_channels():
    (given,), (written,), _ = flow_of(lambda x: ops.space_to_depth(x, 2), IMAGE)
    assert_same(written, np.tile(given, 4))


def test_pixel_shuffle_couples_blocks():
    (given,), (written,), _ = flow_of(
        lambda x: ops.depth_to_space(x, 2), (4, 4, 12)
    )
    assert_same(given, np.tile(given[:3], 4))
    assert_same(written, given[:3])
