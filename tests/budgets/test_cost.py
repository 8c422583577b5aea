import math

import keras
import numpy as np
import pytest
from keras import layers
from keras import ops

from keras_df.budgets.cost import Rates
from keras_df.budgets.cost import kernel_cost
from keras_df.budgets.cost import node_costs
from keras_df.budgets.cost import whole_tiles
from keras_df.graph import analyze

WINDOW, POINT = Rates(9), Rates(1)


def cost_of(layer, shape):
    inputs = keras.Input(shape)
    graph = analyze(keras.Model(inputs, layer(inputs)))
    return node_costs(graph)[-1]


def test_a_dense_kernel_by_hand():
    assert kernel_cost(WINDOW, WINDOW, POINT, 16, 32) == 9 * 16 * 32


def test_a_pair_by_hand():
    cost = kernel_cost(WINDOW, WINDOW, POINT, 16, 32, rank=8)
    assert cost == 8 * (9 * 16 + 32)


def test_the_formula_is_linear_in_soft_counts():
    inputs = np.array([3.5, 4.0])
    soft = kernel_cost(WINDOW, WINDOW, POINT, inputs, 2.5, rank=1.5)
    np.testing.assert_allclose(soft, 1.5 * (9 * inputs + 2.5))


def test_rates_by_hand():
    rates = Rates(product=2.0, reads=3.0, writes=5.0, fixed=7.0, tile=4)
    # 6 output channels are computed as 8, but written as 6.
    assert rates.cost(10, 6) == 2 * 10 * 8 + 3 * 10 + 5 * 6 + 7


@pytest.mark.parametrize("tile", [1, 4, 16])
@pytest.mark.parametrize("count", [1, 4, 15, 16, 17, 33])
def test_tiles_are_counted_whole(tile, count):
    expected = math.ceil(count / tile) * tile
    assert whole_tiles(count, tile) == expected
    assert whole_tiles(np.array([count]), tile).tolist() == [expected]
    soft = whole_tiles(ops.convert_to_tensor(count - 0.5), tile)
    assert float(soft) == pytest.approx(expected if tile > 1 else count - 0.5)


@pytest.mark.skipif(
    keras.config.backend() != "tensorflow", reason="uses GradientTape"
)
def test_the_gradient_passes_through_tiles():
    import tensorflow as tf

    count = tf.Variable(5.5)
    with tf.GradientTape() as tape:
        cost = Rates(product=3.0, tile=4).cost(2.0, count)
    assert float(cost) == 3 * 2 * 8
    assert float(tape.gradient(cost, count)) == 3 * 2


@pytest.mark.parametrize(
    "scheme, macs, params",
    [
        # 3x3 with stride 2, then 1x1, both on 4x5 outputs.
        (1, 2 * (20 * 9 * 3 + 20 * 6), 2 * (9 * 3 + 6)),
        # 3x1 striding over rows alone on 4x10, then 1x3 on 4x5.
        (2, 2 * (40 * 3 * 3 + 20 * 3 * 6), 2 * (3 * 3 + 3 * 6)),
    ],
)
def test_a_strided_pair_by_hand(scheme, macs, params):
    layer = layers.Conv2D(6, 3, strides=2, padding="same", use_bias=False)
    cost = cost_of(layer, (8, 10, 3))
    assert cost.amount("macs", rank=2, scheme=scheme) == macs
    assert cost.amount("flops", rank=2, scheme=scheme) == 2 * macs
    assert cost.amount("params", rank=2, scheme=scheme) == params


@pytest.mark.parametrize(
    "layer, shape, limit",
    [
        (layers.Conv2D(6, 3), (8, 8, 1), {1: 6, 2: 3}),
        (layers.Conv2D(40, 3), (8, 8, 4), {1: 36, 2: 12}),
        (layers.Dense(4), (7,), {1: 4}),
        (layers.Conv1D(40, 3), (8, 5), {1: 15}),
        (layers.Conv2D(8, 3, groups=2), (8, 8, 4), {}),
    ],
)
def test_the_largest_ranks(layer, shape, limit):
    assert cost_of(layer, shape).limit == limit


def test_the_count_of_channels_decides_the_cost():
    cost = cost_of(layers.Conv2D(6, 3), (8, 8, 3))
    amount = cost.amount("params", count=lambda ids: {3: 3, 6: 4}[len(ids)])
    assert amount == 9 * 3 * 4 + 4


def test_a_pair_keeps_the_bias():
    cost = cost_of(layers.Dense(6), (5,))
    assert cost.amount("params", rank=2) == 2 * (5 + 6) + 6
    assert cost.amount("flops", rank=2) == 2 * 2 * (5 + 6) + 6


def test_macs_of_a_layer_called_twice_count_twice():
    shared = layers.Conv2D(3, 3, padding="same", name="shared")
    inputs = keras.Input((8, 8, 3))
    graph = analyze(keras.Model(inputs, shared(shared(inputs))))
    cost = node_costs(graph)[-1]
    assert cost.amount("macs") == 2 * 64 * 81
    assert cost.amount("params") == 81 + 3
    assert cost.amount("macs", rank=2) == 2 * 64 * 2 * (27 + 3)
