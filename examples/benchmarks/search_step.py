"""What a step of a search costs, next to a plain step of the same network.

A plain step is the forward and backward pass of the frozen network: the same
layers on the same batch, and the gradient of the loss with respect to every
kernel, without an update. Steps of all kinds are interleaved in one process.

    python examples/benchmarks/search_step.py
    python examples/benchmarks/search_step.py --models=scaling
    python examples/benchmarks/search_step.py --table

One line per model is appended to a JSON lines file; models that are in it, with
the same settings, are not timed again.
"""

import functools
import gc
import itertools
import statistics
import time

import keras
import numpy as np
import records
from absl import app
from absl import flags
from keras import layers
from keras import ops
from networks import residual_network

import keras_df as kdf

FLAGS = flags.FLAGS
flags.DEFINE_list(
    "models",
    ["ResNet20", "ResNet56", "MobileNetV2", "ResNet50"],
    "Names in this file or of `keras.applications`, or `scaling`.",
)
flags.DEFINE_list(
    "spectra",
    ["cached", "exact", "svd"],
    "Values of `SearchConfig.spectra` to time.",
)
flags.DEFINE_integer("repeats", 5, "Interleaved repetitions.", lower_bound=1)
flags.DEFINE_bool("jit", False, "Compile the steps with XLA.")
flags.DEFINE_string(
    "out", "examples/benchmarks/results/search_step.jsonl", "File to append."
)
flags.DEFINE_bool("table", False, "Only print the table of the results.")

WIDTHS = {64: 56, 128: 28, 256: 14, 512: 7, 1024: 7, 2048: 7}
"""Width of a chain of convolutions -> height and width of its feature maps."""


def chain(width, depth, kernel_size=3):
    """A plain chain of convolutions, on feature maps of the usual size."""
    x = inputs = keras.Input((WIDTHS[width], WIDTHS[width], width))
    for _ in range(depth):
        x = layers.Conv2D(width, kernel_size, padding="same")(x)
        x = layers.BatchNormalization()(x)
        x = layers.Activation("relu")(x)
    x = layers.GlobalAveragePooling2D()(x)
    return keras.Model(inputs, layers.Dense(10)(x))


def cases(name):
    """Yields `(label, constructor, batch size)` of a name in `models`."""
    if name == "scaling":
        for width, size in itertools.product(WIDTHS, (1, 3)):
            label = f"width {width}, depth 2, {size} x {size}"
            yield label, functools.partial(chain, width, 2, size), 32
        for depth in (4, 16, 64):
            label = f"width 64, depth {depth}, 3 x 3"
            yield label, functools.partial(chain, 64, depth), 8
    elif name in ("ResNet20", "ResNet56"):
        depth = int(name.removeprefix("ResNet"))
        yield name, functools.partial(residual_network, depth), 128
    else:
        constructor = getattr(keras.applications, name)
        yield name, functools.partial(constructor, weights=None), 32


class Observer(keras.optimizers.Optimizer):
    """Looks at gradients, so that they are computed, and updates nothing."""

    def build(self, variables):
        super().build(variables)
        self.squares = self.add_variable((), name="squares")

    def update_step(self, gradient, variable, learning_rate):
        self.squares.assign_add(ops.sum(ops.square(gradient)))


class PlainModel(keras.Model):
    """The frozen network of a search, as it is."""

    def __init__(self, search):
        super().__init__()
        self.network = search.network
        wrappers = search.wrappers.values()
        self.kernels = [getattr(x.layer, x.view.attribute) for x in wrappers]

    @property
    def trainable_variables(self):
        return self.kernels

    trainable_weights = trainable_variables

    @property
    def non_trainable_variables(self):
        kernels = {id(kernel) for kernel in self.kernels}
        return [x for x in self.variables if id(x) not in kernels]

    non_trainable_weights = non_trainable_variables

    def call(self, inputs, training=None):
        return self.network(inputs, training=training)


def compiled(model, optimizer):
    loss = keras.losses.SparseCategoricalCrossentropy(from_logits=True)
    model.compile(optimizer, loss, jit_compile=FLAGS.jit)
    return model


def searches(model):
    """The models to time, by name; `plain` first."""
    found = {}
    for spectra in FLAGS.spectra:
        config = kdf.SearchConfig(spectra=spectra)
        search = kdf.SearchModel(model, kdf.MACs(0.5), config=config)
        search.refresh(tolerance=None)
        # In mid-search, where no gain is exactly 1.
        search.thresholds.assign(search.thresholds + 0.1)
        found[spectra] = compiled(search, keras.optimizers.Adam(1e-3))
    first = next(iter(found.values()))
    return {"plain": compiled(PlainModel(first), Observer(0.0)), **found}


def timed(function):
    start = time.perf_counter()
    function()
    return time.perf_counter() - start


def measure(label, model, batch_size):
    """Times one model. Returns a record for the results."""
    rng = np.random.default_rng(0)
    x = rng.normal(size=(batch_size, *model.input_shape[1:])).astype("float32")
    y = rng.integers(0, model.output_shape[-1], batch_size)
    models = searches(model)
    steps = {k: lambda m=m: m.train_on_batch(x, y) for k, m in models.items()}
    first = {name: timed(step) for name, step in steps.items()}
    seconds = {name: [] for name in steps}
    renewal = []
    for _ in range(FLAGS.repeats):
        # In another order each time: a step may slow the one behind it.
        for name in rng.permutation(list(steps)):
            seconds[name].append(timed(steps[name]))
        if "cached" in models:
            renewal.append(timed(lambda: models["cached"].refresh(None)))
    record = settings(label, batch_size) | {
        "first_step": first,
        "seconds": {k: statistics.median(v) for k, v in seconds.items()},
        "ratios": _ratios(seconds),
    }
    if renewal:
        record["renewal"] = statistics.median(renewal)
        # At worst every kernel is renewed whenever it is looked at.
        share = record["renewal"] / record["seconds"]["plain"]
        share /= kdf.SearchConfig().refresh_steps
        record["ratios"]["cached_and_renewed"] = (
            record["ratios"]["cached"] + share
        )
    return record


def settings(label, batch_size):
    return {
        "model": label,
        "batch_size": batch_size,
        "backend": keras.config.backend(),
        "jit": FLAGS.jit,
        "spectra": FLAGS.spectra,
        "repeats": FLAGS.repeats,
    }


def _ratios(seconds):
    """Medians over the repetitions of each step over the plain one."""
    return {
        name: statistics.median(
            one / plain for one, plain in zip(values, seconds["plain"])
        )
        for name, values in seconds.items()
        if name != "plain"
    }


def table(found):
    """The results as Markdown."""
    lines = [
        "| model | batch | plain step (s) | search step | all renewed | "
        "exact | SVD |",
        "|---|---|---|---|---|---|---|",
    ]
    for record in found:
        columns = ("cached", "cached_and_renewed", "exact", "svd")
        ratios = [
            f"{record['ratios'][x]:.2f}x" if x in record["ratios"] else "-"
            for x in columns
        ]
        plain = f"{record['seconds']['plain']:.3g}"
        cells = [record["model"], str(record["batch_size"]), plain, *ratios]
        lines.append(f"| {' | '.join(cells)} |")
    return "\n".join(lines)


def main(argv):
    del argv
    names = [] if FLAGS.table else FLAGS.models
    wanted = [case for name in names for case in cases(name)]
    runs = [settings(label, batch_size) for label, _, batch_size in wanted]
    missing = records.missing(FLAGS.out, runs)
    for run, (label, make, batch_size) in zip(runs, wanted):
        if run in missing:
            record = measure(label, make(), batch_size)
            records.append(FLAGS.out, record)
            print(table([record]).splitlines()[-1], flush=True)
            keras.utils.clear_session()
            gc.collect()
    print(table(records.read(FLAGS.out)))


if __name__ == "__main__":
    app.run(main)
