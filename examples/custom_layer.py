"""Teaching keras_df a layer of your own, in a few lines.

keras_df leaves layers that it does not know alone: nothing that they read or
write is removed. A rule says how channels flow through such a layer, and then
it is pruned, and decomposed, like any other.

    python examples/custom_layer.py
"""

import keras
import numpy as np
from absl import app
from keras import layers
from keras import ops

import keras_df as kdf
from keras_df.graph import Flow
from keras_df.graph import Kernel
from keras_df.graph import register_rule


@keras.saving.register_keras_serializable("examples")
class ChannelScale(layers.Layer):
    """Multiplies each channel by a weight."""

    def build(self, shape):
        self.scale = self.add_weight(
            shape=(shape[-1],), initializer="ones", name="scale"
        )

    def call(self, x):
        return x * self.scale


@register_rule(ChannelScale)
def channel_scale(call):
    """The channels of the input pass on; the weight has one value for each."""
    ids = call.read(call.inputs[0], -1)
    return Flow([call.output(-1, ids)], weights={"scale": {0: ids}})


@keras.saving.register_keras_serializable("examples")
class ScaledDense(layers.Layer):
    """A Dense layer whose output is normalized by its fan-in."""

    def __init__(self, units, **kwargs):
        super().__init__(**kwargs)
        self.units = units

    def build(self, shape):
        self.kernel = self.add_weight(shape=(shape[-1], self.units))
        self.bias = self.add_weight(shape=(self.units,), initializer="zeros")

    def call(self, x):
        return ops.matmul(x, self.kernel) / 4.0 + self.bias

    def get_config(self):
        return {**super().get_config(), "units": self.units}


@register_rule(ScaledDense)
def scaled_dense(call):
    """It reads channels on axis 0 of its kernel and writes them on axis 1."""
    layer = call.operation
    inputs = call.read(call.inputs[0], -1)
    outputs = call.units.fresh(layer.units)
    result = call.output(-1, outputs)
    return Flow(
        [result],
        # Which axes of its weights follow which channels.
        weights={
            "kernel": {0: inputs, 1: outputs},
            "bias": {0: outputs},
        },
        # Which entries of its config change when channels go.
        config={"units": lambda keep: keep.count(outputs)},
        # What is decomposed: kernel = first @ second, rows by columns.
        kernel=Kernel(
            "kernel",
            inputs=(0, inputs),
            outputs=(1, outputs),
            schemes={1: ((0,), (1,))},
            pair_areas={1: (1, 1)},
            pair=scaled_dense_pair,
        ),
        flops=call.each(2, channels=result),
    )


def scaled_dense_pair(layer, rank, units):
    """The two layers that a low-rank kernel becomes."""
    return (
        layers.Dense(rank, use_bias=False, name=f"{layer.name}_lowrank_in"),
        ScaledDense(units, name=f"{layer.name}_lowrank_out"),
    )


def build_model():
    inputs = keras.Input((32,))
    x = layers.Dense(64, activation="relu", name="dense")(inputs)
    x = ChannelScale(name="channel_scale")(x)
    x = ScaledDense(64, name="scaled_dense")(x)
    x = layers.ReLU(name="relu")(x)
    return keras.Model(inputs, layers.Dense(10, name="logits")(x))


def main(argv):
    del argv
    keras.utils.set_random_seed(0)
    model = build_model()
    print(kdf.inspect(model))

    plan = kdf.baselines.random(model, kdf.MACs(0.4))
    print(plan.summary())

    small = kdf.compress(model, plan)
    small.summary()

    x = np.random.default_rng(0).normal(size=(8, 32)).astype("float32")
    reference = kdf.surgery.zeroed_consumers(model, plan)
    difference = np.abs(np.asarray(small(x)) - np.asarray(reference(x))).max()
    print(f"differs from the zeroed original by {difference:.1e}")


if __name__ == "__main__":
    app.run(main)
