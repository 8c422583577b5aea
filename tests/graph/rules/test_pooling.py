"""Channels through pooling, padding, cropping and resizing."""

import pytest
from keras import layers
from keras import ops
from rules_helpers import assert_same
from rules_helpers import axis_of
from rules_helpers import flow_of

LINE, IMAGE, VOLUME = (6, 4), (6, 6, 4), (6, 6, 6, 4)


@pytest.mark.parametrize(
    "layer, shape",
    [
        (layers.MaxPooling1D(2), LINE),
        (layers.AveragePooling2D(2), IMAGE),
        (layers.MaxPooling3D(2), VOLUME),
        (layers.ZeroPadding1D(1), LINE),
        (layers.ZeroPadding2D(1), IMAGE),
        (layers.ZeroPadding3D(1), VOLUME),
        (layers.Cropping1D(1), LINE),
        (layers.Cropping2D(1), IMAGE),
        (layers.Cropping3D(1), VOLUME),
        (layers.UpSampling1D(2), LINE),
        (layers.UpSampling2D(2), IMAGE),
        (layers.UpSampling3D(2), VOLUME),
        (layers.Resizing(3, 3), IMAGE),
        (layers.CenterCrop(3, 3), IMAGE),
        (layers.RandomFlip(), IMAGE),
        (layers.GlobalAveragePooling2D(keepdims=True), IMAGE),
        (lambda x: ops.max_pool(x, 2), IMAGE),
        (lambda x: ops.average_pool(x, (2, 3)), IMAGE),
        (lambda x: ops.image.resize(x, (3, 3)), IMAGE),
    ],
)
def test_channels_pass_on_their_axis(layer, shape):
    (given,), (written,), graph = flow_of(layer, shape)
    assert_same(written, given)
    assert axis_of(graph) == len(shape)


@pytest.mark.parametrize(
    "layer, shape",
    [
        (layers.GlobalAveragePooling1D(), LINE),
        (layers.GlobalMaxPooling2D(), IMAGE),
        (layers.GlobalAveragePooling3D(), VOLUME),
    ],
)
def test_global_pooling_leaves_channels_alone(layer, shape):
    (given,), (written,), graph = flow_of(layer, shape)
    assert_same(written, given)
    assert axis_of(graph) == 1


@pytest.mark.skipif(
    not hasattr(layers, "AdaptiveMaxPooling2D"), reason="an older Keras"
)
def test_adaptive_pooling_passes_channels():
    layer = layers.AdaptiveMaxPooling2D(2)
    (given,), (written,), _ = flow_of(layer, IMAGE)
    assert_same(written, given)


def test_pooling_along_the_channels_freezes():
    (given,), _, graph = flow_of(
        lambda x: layers.MaxPooling1D(2)(layers.Permute((2, 1))(x)), LINE
    )
    assert not graph.prunable[given].any()
