"""Channels through slices, splits, pads and repetitions."""

import numpy as np
import pytest
from keras import ops
from rules_helpers import assert_same
from rules_helpers import axis_of
from rules_helpers import flow_of
from rules_helpers import reason_of

IMAGE = (4, 4, 6)


@pytest.mark.parametrize(
    "key, axis",
    [
        (np.s_[..., 1:4], 3),
        (np.s_[..., ::-1], 3),
        (np.s_[..., -2:], 3),
        (np.s_[:, :, :, ::2], 3),
        (np.s_[:, 1:, ..., 4::-2], 3),
        (np.s_[:, 0, :, 2:], 2),
        (np.s_[:, None, 0, ..., 1:], 3),
        (np.s_[:, ..., None], 3),
        (np.s_[:, -1], 2),
    ],
)
def test_indexing_picks_units(key, axis):
    (given,), (written,), graph = flow_of(lambda x: x[key], IMAGE)
    last = key[-1] if isinstance(key, tuple) else slice(None)
    last = last if isinstance(last, slice) else slice(None)
    assert_same(written, given[last])
    assert axis_of(graph) == axis


@pytest.mark.parametrize("key", [np.s_[..., 2], np.s_[:1, :], np.s_[0]])
def test_single_channels_and_samples_freeze(key):
    def function(x):
        y = x[key]
        return y if y.shape[0] is None else ops.expand_dims(y, 0)

    (given,), (written,), graph = flow_of(function, IMAGE)
    assert written is None and not graph.prunable[given].any()


@pytest.mark.parametrize("indices", [[0, 5], [3, 3, 1], [-1, 2]])
def test_take_picks_units(indices):
    (given,), (written,), _ = flow_of(
        lambda x: ops.take(x, np.array(indices), axis=-1), IMAGE
    )
    assert_same(written, given[indices])


def test_take_of_positions_moves_the_axis():
    for indices, axis in ((1, 2), ([1, 2], 3), ([[0, 1]], 4)):
        (given,), (written,), graph = flow_of(
            lambda x, i=indices: ops.take(x, np.array(i), axis=1), IMAGE
        )
        assert_same(written, given)
        assert axis_of(graph) == axis


@pytest.mark.parametrize("sections", [2, 3, [2], [1, 5]])
def test_split_hands_out_units(sections):
    (given,), written, _ = flow_of(
        lambda x: ops.split(x, sections, axis=-1), IMAGE
    )
    for units, expected in zip(written, np.split(given, sections), strict=True):
        assert_same(units, expected)


def test_split_of_space_keeps_channels():
    (given,), written, _ = flow_of(lambda x: ops.split(x, 2, axis=1), IMAGE)
    for units in written:
        assert_same(units, given)


def test_gated_linear_unit_couples_values_and_gates():
    (given,), (written,), _ = flow_of(lambda x: ops.glu(x), IMAGE)
    assert_same(given[:3], given[3:])
    assert_same(written, given[:3])


def test_gated_linear_unit_of_space_keeps_channels():
    (given,), (written,), _ = flow_of(lambda x: ops.glu(x, axis=1), IMAGE)
    assert_same(written, given)


def test_unstack():
    (given,), written, graph = flow_of(lambda x: ops.unstack(x, axis=1), IMAGE)
    assert len(written) == 4 and axis_of(graph) == 2
    for units in written:
        assert_same(units, given)


def test_pad_adds_units_around():
    (given,), (written,), graph = flow_of(
        lambda x: ops.pad(x, [[0, 0], [1, 1], [0, 0], [2, 1]]), IMAGE
    )
    assert_same(written[2:-1], given)
    assert not set(written[[0, 1, -1]]) & set(given)


def test_pad_of_space_passes():
    (given,), (written,), _ = flow_of(
        lambda x: ops.pad(x, [[0, 0], [1, 1], [1, 1], [0, 0]], "reflect"), IMAGE
    )
    assert_same(written, given)


def test_pad_that_repeats_channels_freezes():
    (given,), (written,), graph = flow_of(
        lambda x: ops.pad(x, [[0, 0], [0, 0], [0, 0], [1, 1]], "symmetric"),
        IMAGE,
    )
    assert written is None and "repeats channels" in reason_of(graph)


@pytest.mark.parametrize(
    "function, expected",
    [
        (lambda x: ops.flip(x, axis=-1), lambda u: u[::-1]),
        (lambda x: ops.flip(x, axis=1), lambda u: u),
        (lambda x: ops.roll(x, 2, axis=-1), lambda u: np.roll(u, 2)),
        (lambda x: ops.roll(x, -7, axis=3), lambda u: np.roll(u, -7)),
        (lambda x: ops.roll(x, 2, axis=1), lambda u: u),
        (lambda x: ops.tile(x, (1, 2, 1, 3)), lambda u: np.tile(u, 3)),
        (lambda x: ops.tile(x, 2), lambda u: np.tile(u, 2)),
        (lambda x: ops.repeat(x, 2, axis=-1), lambda u: np.repeat(u, 2)),
        (lambda x: ops.repeat(x, 2, axis=1), lambda u: u),
    ],
)
def test_rearranged_channels(function, expected):
    (given,), (written,), _ = flow_of(function, IMAGE)
    assert_same(written, expected(given))
