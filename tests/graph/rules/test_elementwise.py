"""Channels through activations and the like."""

import keras
import numpy as np
import pytest
from keras import layers
from keras import ops
from rules_helpers import assert_same
from rules_helpers import flow_of
from rules_helpers import reason_of

IMAGE = (4, 4, 6)


@pytest.mark.parametrize(
    "function",
    [
        layers.ReLU(),
        layers.LeakyReLU(),
        layers.ELU(),
        layers.Activation("swish"),
        layers.Activation(layers.LeakyReLU()),
        layers.Activation(ops.relu),
        layers.Dropout(0.5),
        layers.SpatialDropout2D(0.5),
        layers.GaussianNoise(0.1),
        layers.Identity(),
        layers.Rescaling(2.0, 1.0),
        layers.Softmax(axis=1),
        layers.PReLU(),
        ops.exp,
        ops.abs,
        ops.stop_gradient,
        ops.log_sigmoid,
        ops.sparse_sigmoid,
        lambda x: ops.cast(x, "float16"),
        lambda x: ops.clip(x, 0, 1),
        lambda x: ops.leaky_relu(x, 0.3),
        lambda x: ops.normalize(x, axis=1),
        lambda x: ops.cumsum(x, axis=2),
        lambda x: ops.log_softmax(x, axis=1),
        lambda x: ops.round(-x),
    ],
)
def test_channels_pass(function):
    (given,), (written,), graph = flow_of(function, IMAGE)
    assert_same(written, given)


@pytest.mark.parametrize(
    "function, words",
    [
        (layers.Softmax(name="it"), "`it` reads across channels"),
        (layers.Softmax(axis=(1, 3), name="it"), "across channels"),
        (layers.Activation("softmax", name="it"), "across channels"),
        (layers.Activation(lambda x: x, name="it"), "not known"),
        (layers.Rescaling(np.ones(6), name="it"), "for each channel"),
        (lambda x: ops.softmax(x), "across channels"),
        (lambda x: ops.sort(x, axis=-1), "across channels"),
        (lambda x: ops.clip(x, np.zeros(6), 1.0), "array argument"),
    ],
)
def test_what_reads_across_channels_freezes(function, words):
    (given,), (written,), graph = flow_of(function, IMAGE)
    assert written is None and words in reason_of(graph)
    assert not graph.prunable[given].any()


def test_prelu_weights_follow_channels():
    _, _, graph = flow_of(layers.PReLU(shared_axes=[1, 2], name="it"), IMAGE)
    (axis,) = graph.nodes["it"].flow.weights["alpha"]
    assert axis == 2
    _, _, graph = flow_of(layers.PReLU(shared_axes=[3], name="it"), IMAGE)
    assert graph.nodes["it"].flow.weights == {}


def test_constant_input_stays_opaque():
    inputs = keras.Input((4,))
    from keras_df.graph import analyze

    graph = analyze(keras.Model(inputs, ops.relu(inputs)))
    assert "model input" in graph.outputs[0].reason


@pytest.mark.parametrize(
    "shape, is_frozen", [((None, 1, 1, 6), True), ((None, 1, 1, 1), False)]
)
def test_noise_that_has_a_shape(shape, is_frozen):
    _, _, graph = flow_of(layers.Dropout(0.5, noise_shape=shape), IMAGE)
    assert bool(reason_of(graph)) == is_frozen
