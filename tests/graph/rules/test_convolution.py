"""Channels through convolutions."""

import numpy as np
import pytest
from keras import layers
from rules_helpers import assert_apart
from rules_helpers import assert_same
from rules_helpers import axis_of
from rules_helpers import flow_of
from rules_helpers import node_of

import keras_df as kdf

IMAGE = (6, 6, 4)


@pytest.mark.parametrize(
    "layer, shape",
    [
        (layers.Conv1D(5, 3), (6, 4)),
        (layers.Conv2D(5, 3), IMAGE),
        (layers.Conv3D(5, 3), (6, 6, 6, 4)),
        (layers.Conv1DTranspose(5, 3), (6, 4)),
        (layers.Conv2DTranspose(5, 3), IMAGE),
        (layers.Conv3DTranspose(5, 3), (6, 6, 6, 4)),
        (layers.SeparableConv1D(5, 3), (6, 4)),
        (layers.SeparableConv2D(5, 3), IMAGE),
    ],
)
def test_convolution_reads_its_input_and_writes_units_of_its_own(layer, shape):
    (given,), (written,), graph = flow_of(layer, shape)
    kernel = node_of(graph).kernel
    assert_same(graph.units[kernel.inputs[1]], given)
    assert_apart(np.concatenate([given, written]))
    assert len(written) == 5
    assert axis_of(graph) == len(shape)


def test_depthwise_repeats_its_input():
    layer = layers.DepthwiseConv2D(3, depth_multiplier=2)
    (given,), (written,), _ = flow_of(layer, IMAGE)
    assert_same(written, np.repeat(given, 2))


def test_separable_reads_repeated_channels():
    layer = layers.SeparableConv2D(5, 3, depth_multiplier=3)
    (given,), _, graph = flow_of(layer, IMAGE)
    read = graph.units[node_of(graph).kernel.inputs[1]]
    assert_same(read, np.repeat(given, 3))


def test_few_groups_lose_the_same_positions():
    layer = layers.Conv2D(6, 1, groups=2)
    (given,), (written,), _ = flow_of(layer, (4, 4, 8))
    assert_same(given[:4], given[4:])
    assert_same(written[:3], written[3:])
    assert_apart(np.concatenate([given[:4], written[:3]]))


def test_many_groups_go_as_a_whole():
    layer = layers.Conv2D(12, 1, groups=4)
    (given,), (written,), _ = flow_of(layer, (4, 4, 8))
    assert_same(given, np.repeat(given[::2], 2))
    assert_same(written, np.repeat(given[::2], 3))
    assert_apart(given[::2])


def test_grouped_convolutions_stay_dense():
    _, _, graph = flow_of(layers.Conv2D(8, 1, groups=4), (4, 4, 8))
    assert not node_of(graph).kernel.schemes
    assert "grouped" in node_of(graph).kernel.reason


@pytest.mark.parametrize("groups", [1, 2, 4, 8])
def test_multiply_accumulates_of_groups(groups):
    import keras

    inputs = keras.Input((6, 6, 8))
    model = keras.Model(inputs, layers.Conv2D(16, 3, groups=groups)(inputs))
    assert kdf.count(model).macs == 4 * 4 * 9 * 8 // groups * 16


def test_channels_first_carries_channels_on_axis_1():
    layer = layers.Conv2D(5, 3, data_format="channels_first")
    (given,), (written,), graph = flow_of(
        lambda x: layer(layers.Permute((3, 1, 2))(x)), IMAGE
    )
    assert axis_of(graph) == 1 and len(written) == 5
    kernel = graph.nodes[layer.name].kernel
    assert_same(graph.units[kernel.inputs[1]], given)


def test_only_plain_2d_convolutions_have_two_schemes():
    for layer, schemes in (
        (layers.Conv2D(5, 3), {1, 2}),
        (layers.Conv2DTranspose(5, 3), {1}),
        (layers.SeparableConv2D(5, 3), {1}),
    ):
        _, _, graph = flow_of(layer, IMAGE)
        assert set(node_of(graph).kernel.schemes) == schemes


def test_fused_softmax_freezes_what_is_written():
    (given,), (written,), graph = flow_of(
        layers.Conv2D(5, 3, activation="softmax", name="soft"), IMAGE
    )
    assert not graph.prunable[written].any()
    assert graph.prunable[given].all()
    assert "'softmax' of `soft`" in graph.reasons[int(written[0])]
