"""Channels through normalization layers."""

import numpy as np
import pytest
from keras import layers
from rules_helpers import assert_same
from rules_helpers import flow_of
from rules_helpers import node_of
from rules_helpers import reason_of

IMAGE = (4, 4, 6)


@pytest.mark.parametrize(
    "scale, center", [(True, True), (True, False), (False, False)]
)
def test_batch_normalization_passes_channels(scale, center):
    layer = layers.BatchNormalization(scale=scale, center=center)
    (given,), (written,), graph = flow_of(layer, IMAGE)
    assert_same(written, given)
    weights = node_of(graph).flow.weights
    assert len(weights) == 2 + scale + center == len(layer.weights)


def test_renormalization_has_statistics_for_each_channel():
    layer = layers.BatchNormalization(renorm=True)
    (given,), (written,), graph = flow_of(layer, IMAGE)
    assert_same(written, given)
    assert len(node_of(graph).flow.weights) == 7 == len(layer.weights)


@pytest.mark.parametrize("groups", [-1, 6])
def test_instance_normalization_passes_channels(groups):
    (given,), (written,), _ = flow_of(layers.GroupNormalization(groups), IMAGE)
    assert_same(written, given)


@pytest.mark.parametrize(
    "layer",
    [
        layers.LayerNormalization(),
        layers.GroupNormalization(2),
        layers.GroupNormalization(1),
        layers.RMSNormalization(),
        layers.UnitNormalization(),
        layers.Normalization(mean=np.zeros(6), variance=np.ones(6)),
    ],
)
def test_others_read_across_channels(layer):
    (given,), (written,), graph = flow_of(layer, IMAGE)
    assert written is None and f"`{layer.name}`" in reason_of(graph)
    assert not graph.prunable[given].any()


def test_batch_normalization_of_another_axis_freezes():
    layer = layers.BatchNormalization(axis=1)
    (given,), _, graph = flow_of(layer, IMAGE)
    assert not graph.prunable[given].any()
