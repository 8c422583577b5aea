import keras
from keras import layers
from keras import ops

import keras_df as kdf


class Block(layers.Layer):
    """Two convolutions, and layers of the same name, in one layer."""

    def __init__(self, filters, **kwargs):
        super().__init__(**kwargs)
        options = {"padding": "same", "name": "conv"}
        self.convolutions = [
            layers.Conv2D(filters, 3, **options) for _ in range(2)
        ]

    def build(self, shape):
        for conv in self.convolutions:
            conv.build(shape)
            shape = conv.compute_output_shape(shape)
        self.built = True

    def call(self, x):
        batch = ops.shape(x)[0]
        for conv in self.convolutions:
            x = ops.relu(conv(x))
        return ops.reshape(x, (batch, -1))


class Unreadable(layers.Layer):
    def call(self, x):
        return keras.tree.map_structure(_of_arrays_only, x)

    def compute_output_spec(self, x):
        return keras.KerasTensor(x.shape, dtype=x.dtype)


def _of_arrays_only(x):
    if isinstance(x, keras.KerasTensor):
        raise TypeError("This layer takes no symbolic tensors.")
    return x


def macs_of(layer, shape=(4, 4, 3)):
    inputs = keras.Input(shape)
    return kdf.count(keras.Model(inputs, layer(inputs))).macs


def test_layers_inside_a_layer_without_a_rule_cost():
    assert macs_of(Block(8)) == 16 * 9 * (3 * 8 + 8 * 8)


def test_a_layer_inside_a_layer_inside_costs():
    class Outer(Block):
        def call(self, x):
            return super().call(x) + 1.0

    assert macs_of(layers.Lambda(lambda x: ops.einsum("bhwc->bc", x))) == 48
    assert macs_of(Outer(8)) == macs_of(Block(8))


def test_each_call_costs_what_it_reads():
    block = Block(8)
    inputs = [keras.Input((4, 4, 3)), keras.Input((2, 2, 3))]
    model = keras.Model(inputs, [block(x) for x in inputs])
    assert kdf.count(model).macs == 20 * 9 * (3 * 8 + 8 * 8)


def test_counting_leaves_no_trace():
    block = Block(8)
    inputs = keras.Input((4, 4, 3))
    model = keras.Model(inputs, block(inputs))
    kdf.count(model)
    assert not any(conv._inbound_nodes for conv in block.convolutions)
    assert len(block._inbound_nodes) == 1


def test_a_layer_that_cannot_be_traced_costs_nothing():
    assert macs_of(Unreadable()) == 0
