"""Products, attention, recurrence and wrappers: frozen, but counted."""

import keras
import numpy as np
import pytest
from keras import layers
from keras import ops
from rules_helpers import flow_of
from rules_helpers import reason_of

import keras_df as kdf
from keras_df.graph.rules.products import einsum_macs

SEQUENCE = (5, 6)


@pytest.mark.parametrize(
    "equation, shapes, macs",
    [
        ("abc,cd->abd", [(None, 5, 6), (6, 3)], 5 * 6 * 3),
        ("...x,xy->...y", [(None, 5, 6), (6, 3)], 5 * 6 * 3),
        ("aecd,abcd->acbe", [(None, 4, 2, 3), (None, 5, 2, 3)], 4 * 5 * 6),
        ("ab -> ba", [(None, 7)], 7),
    ],
)
def test_einsum_costs_the_product_of_its_sizes(equation, shapes, macs):
    assert einsum_macs(equation, shapes) == macs


@pytest.mark.parametrize(
    "function, macs",
    [
        (lambda x: ops.matmul(x, ops.transpose(x, (0, 2, 1))), 5 * 5 * 6),
        (lambda x: ops.matmul(x, np.ones((6, 3), "float32")), 5 * 6 * 3),
        (lambda x: ops.einsum("btc,cd->btd", x, np.ones((6, 3))), 5 * 6 * 3),
        (lambda x: ops.tensordot(x, np.ones((6, 3)), axes=1), 5 * 6 * 3),
        (lambda x: ops.tensordot(x, np.ones((5, 6, 3)), axes=2), 5 * 6 * 3),
        (lambda x: layers.Dot((2, 2))([x, x]), 5 * 5 * 6),
        (lambda x: layers.Dot(1)([x, x]), 6 * 6 * 5),
        (lambda x: ops.conv(x, np.ones((3, 6, 4))), 3 * 4 * 3 * 6),
        (lambda x: layers.Attention()([x, x]), 5 * 5 * 12),
        (
            lambda x: layers.EinsumDense("abc,cd->abd", (None, 3))(x),
            5 * 6 * 3,
        ),
        (lambda x: layers.MultiHeadAttention(2, 3)(x, x), 4 * 5 * 36 + 25 * 12),
        (
            lambda x: layers.GroupQueryAttention(3, 4, 2)(x, x),
            5 * 6 * 12 * 2 + 5 * 6 * 6 * 2 + 25 * 24,
        ),
        (lambda x: layers.SimpleRNN(3)(x), 5 * (18 + 9)),
        (lambda x: layers.Bidirectional(layers.LSTM(3))(x), 2 * 5 * 9 * 12),
        (lambda x: layers.TimeDistributed(layers.Dense(3))(x), 5 * 6 * 3),
    ],
)
def test_what_is_left_alone_is_counted(function, macs):
    (given,), written, graph = flow_of(function, SEQUENCE)
    assert written[0] is None and reason_of(graph)
    assert not graph.prunable[given].any()
    inputs = keras.Input(SEQUENCE)
    model = keras.Model(inputs, function(inputs))
    assert kdf.count(model).macs == macs


def test_sizes_that_einsum_dense_leaves_open_come_from_its_input():
    inputs = keras.Input(SEQUENCE)
    x = layers.EinsumDense("abc,cd->abd", (None, 3))(inputs)
    model = keras.Model(inputs, layers.Dense(2, name="dense")(x))
    counts = {layer.name: layer.macs for layer in kdf.count(model).layers}
    assert counts["dense"] == 5 * 3 * 2
