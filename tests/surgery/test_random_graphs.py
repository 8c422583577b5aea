"""Property tests: any graph of supported layers, any valid plan."""

import keras
import numpy as np
import pytest
from hypothesis import HealthCheck
from hypothesis import Phase
from hypothesis import given
from hypothesis import settings
from hypothesis import strategies as st
from invariant import TOLERANCE
from invariant import all_reasons
from invariant import difference
from invariant import random_inputs
from invariant import random_plan
from invariant import randomize
from keras import layers
from keras import ops

import keras_df as kdf
from keras_df.graph import analyze

SIZE = 4


class Builder:
    """Grows a random network on images of 4 x 4 pixels.

    Args:
        choose: Function `(low, high)` that returns an integer within.
        inputs: List of tensors to start from.
    """

    def __init__(self, choose, inputs):
        self.choose = choose
        self.tensors = list(inputs)
        self.layers = []

    def pick(self):
        """One of the tensors, mostly the last."""
        last = len(self.tensors) - 1
        back = self.choose(0, last) if self.choose(0, 2) == 0 else 0
        return self.tensors[last - back]

    def pick_other(self):
        """One of the tensors, with a layer of its own where it is the last."""
        x = self.tensors[self.choose(0, len(self.tensors) - 1)]
        return self.conv(x) if x is self.tensors[-1] else x

    def pick_like(self, tensor):
        """A tensor with the channels of another."""
        same = [x for x in self.tensors if x.shape == tensor.shape]
        if len(same) > 1:
            return same[self.choose(0, len(same) - 1)]
        return self.conv(self.pick_other(), tensor.shape[-1])

    def grow(self, steps, depth=0):
        kinds = STEPS if depth else [*STEPS, Builder.nested, Builder.nested]
        for _ in range(steps):
            step = kinds[self.choose(0, len(kinds) - 1)]
            self.tensors.append(step(self, self.pick()))
        return self.tensors[-1]

    def own(self, layer):
        self.layers.append(layer)
        return layer

    def conv(self, x, filters=None):
        return self.own(
            layers.Conv2D(
                filters or self.choose(2, 8),
                self.choose(1, 2),
                padding="same",
                use_bias=bool(self.choose(0, 1)),
                activation=(None, "relu", "silu")[self.choose(0, 2)],
            )
        )(x)

    def again(self, x):
        """Calls a layer for the second time."""
        fitting = [y for y in self.layers if y.input.shape == x.shape]
        if not fitting:
            return self.conv(x)
        return fitting[self.choose(0, len(fitting) - 1)](x)

    def depthwise(self, x):
        multiplier = self.choose(1, 2)
        layer = layers.DepthwiseConv2D(
            2, padding="same", depth_multiplier=multiplier
        )
        return self.own(layer)(x)

    def separable(self, x):
        layer = layers.SeparableConv2D(
            self.choose(2, 6),
            2,
            padding="same",
            depth_multiplier=self.choose(1, 2),
        )
        return self.own(layer)(x)

    def grouped(self, x):
        channels = x.shape[-1]
        groups = [g for g in range(1, channels + 1) if channels % g == 0]
        groups = groups[self.choose(0, len(groups) - 1)]
        return layers.Conv2D(
            groups * self.choose(1, 2), 2, padding="same", groups=groups
        )(x)

    def down_and_up(self, x):
        x = layers.Conv2D(self.choose(2, 6), 2, strides=2)(x)
        if self.choose(0, 1):
            return layers.UpSampling2D(2)(x)
        return layers.Conv2DTranspose(self.choose(2, 6), 2, strides=2)(x)

    def pool(self, x):
        kind = (layers.MaxPooling2D, layers.AveragePooling2D)
        return kind[self.choose(0, 1)](2, strides=1, padding="same")(x)

    def norm(self, x):
        return layers.BatchNormalization(scale=bool(self.choose(0, 1)))(x)

    def across(self, x):
        return layers.LayerNormalization()(x)

    def activate(self, x):
        kinds = (
            layers.ReLU(),
            layers.PReLU(shared_axes=[1, 2]),
            layers.Activation("tanh"),
            ops.sigmoid,
            lambda x: ops.clip(x, -1.0, 1.0),
        )
        return kinds[self.choose(0, len(kinds) - 1)](x)

    def merge(self, x):
        kinds = (layers.Add(), layers.Multiply(), layers.Maximum())
        return kinds[self.choose(0, 2)]([x, self.pick_like(x)])

    def operate(self, x):
        y = self.pick_like(x)
        kinds = (ops.add, ops.subtract, ops.minimum)
        return kinds[self.choose(0, 2)](x, y)

    def concatenate(self, x):
        parts = [x, self.pick_other()]
        if sum(y.shape[-1] for y in parts) > 16:
            return self.conv(x)
        return layers.Concatenate()(parts)

    def concatenate_in_space(self, x):
        y = layers.Concatenate(axis=1)([x, self.pick_like(x)])
        return y[:, 1::2]

    def excite(self, x):
        s = layers.GlobalAveragePooling2D(keepdims=True)(x)
        s = layers.Conv2D(x.shape[-1], 1, activation="sigmoid")(s)
        return layers.Multiply()([x, s])

    def gate(self, x):
        return x * layers.Conv2D(1, 1)(self.pick_other())

    def pad(self, x):
        widths = [[0, 0], [0, 0], [0, 0], [self.choose(0, 2), 1]]
        return ops.pad(x, widths)

    def slice(self, x):
        start, step = self.choose(0, x.shape[-1] - 1), self.choose(1, 2)
        if self.choose(0, 3) == 0:
            return x[..., ::-1]
        return x[:, ::-1, ..., start::step]

    def split(self, x):
        border = self.choose(1, max(x.shape[-1] - 1, 1))
        pieces = ops.split(x, [border], axis=-1)
        if x.shape[-1] == 1:
            return x
        if self.choose(0, 1):
            return pieces[0]
        return ops.concatenate(pieces[::-1], axis=-1)

    def move(self, x):
        kinds = (
            lambda x: ops.roll(x, 3, axis=-1),
            lambda x: ops.flip(x, axis=-1),
            lambda x: ops.take(x, [0, x.shape[-1] - 1], axis=-1),
            lambda x: ops.transpose(x, (0, 2, 1, 3)),
            lambda x: x * np.arange(1.0, x.shape[-1] + 1).astype("float32"),
            lambda x: layers.Permute((2, 1, 3))(x),
        )
        return kinds[self.choose(0, len(kinds) - 1)](x)

    def shuffle(self, x):
        channels = x.shape[-1]
        groups = [g for g in range(1, channels + 1) if channels % g == 0]
        groups = groups[self.choose(0, len(groups) - 1)]
        x = layers.Reshape((SIZE, SIZE, groups, channels // groups))(x)
        x = ops.transpose(x, (0, 1, 2, 4, 3))
        return ops.reshape(x, (-1, SIZE, SIZE, channels))

    def flat(self, x):
        x = layers.Reshape((SIZE * SIZE, x.shape[-1]))(x)
        x = layers.Dense(self.choose(2, 6))(x)
        return layers.Reshape((SIZE, SIZE, -1))(x)

    def dense_image(self, x):
        x = layers.GlobalMaxPooling2D()(x)
        channels = self.choose(1, 4)
        x = layers.Dense(SIZE * SIZE * channels, activation="relu")(x)
        return layers.Reshape((SIZE, SIZE, channels))(x)

    def nested(self, x):
        inputs = keras.Input(x.shape[1:])
        inner = Builder(self.choose, [inputs])
        model = keras.Model(inputs, inner.grow(self.choose(1, 3), depth=1))
        y = model(x)
        if self.choose(0, 1):
            y = ops.add(y, model(self.pick_like(x)))
        return y


STEPS = [
    Builder.conv,
    Builder.conv,
    Builder.conv,
    Builder.norm,
    Builder.activate,
    Builder.merge,
    Builder.merge,
    Builder.operate,
    Builder.concatenate,
    Builder.concatenate,
    Builder.split,
    Builder.slice,
    Builder.slice,
    Builder.pad,
    Builder.excite,
    Builder.again,
    Builder.depthwise,
    Builder.separable,
    Builder.grouped,
    Builder.down_and_up,
    Builder.pool,
    Builder.gate,
    Builder.move,
    Builder.move,
    Builder.shuffle,
    Builder.flat,
    Builder.dense_image,
    Builder.concatenate_in_space,
    Builder.across,
]


def random_network(seed, steps):
    """A network that a seed determines.

    Hypothesis draws the seed alone: its own draws repeat themselves too much
    to make many different graphs.
    """
    rng = np.random.default_rng(seed)

    def choose(low, high):
        return int(rng.integers(low, high + 1))

    inputs = [keras.Input((SIZE, SIZE, 2)) for _ in range(choose(3, 7) // 3)]
    builder = Builder(choose, inputs)
    builder.tensors = [builder.conv(x) for x in inputs]
    x = builder.grow(steps)
    pool = (layers.Flatten, layers.GlobalAveragePooling2D)[choose(0, 1)]
    # Every input needs a way to the outputs.
    rest = [layers.GlobalMaxPooling2D()(y) for y in builder.tensors[:2]]
    x = layers.Concatenate()([pool()(x), *rest])
    outputs = [layers.Dense(2)(layers.Dense(5, activation="relu")(x))]
    if choose(0, 5) == 0:
        outputs.append(builder.pick())
    return keras.Model(inputs, outputs)


def check_random_network(seed, steps):
    model = randomize(random_network(seed, steps), seed)
    plan = random_plan(model, seed)
    small = kdf.compress(model, plan)
    reference = kdf.surgery.zeroed_consumers(model, plan)
    inputs = random_inputs(model)
    assert difference(small, reference, inputs) <= TOLERANCE
    count = kdf.count(small)
    after = {name: pair[1] for name, pair in plan.costs.items()}
    assert after == {name: getattr(count, name) for name in after}
    failed = [r for r in all_reasons(analyze(model)) if "failed" in r]
    assert not failed


OPTIONS = {
    "deadline": None,
    "derandomize": True,
    "database": None,
    "suppress_health_check": list(HealthCheck),
    "phases": [Phase.generate, Phase.shrink],
}
SEEDS = st.integers(0, 2**32 - 1)


@settings(max_examples=300, **OPTIONS)
@given(SEEDS, st.integers(4, 9))
def test_random_network_keeps_the_invariant(seed, steps):
    check_random_network(seed, steps)


@pytest.mark.slow
@settings(max_examples=3000, **OPTIONS)
@given(SEEDS, st.integers(3, 16))
def test_many_random_networks_keep_the_invariant(seed, steps):
    check_random_network(seed, steps)
