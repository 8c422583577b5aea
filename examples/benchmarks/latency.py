"""Measures what compression buys on LiteRT, beside what MACs promise.

Networks are halved in MACs by pruning alone, by low-rank pairs alone and by
both, none of them trained; some also meet a budget of latency. tfmot's
magnitude pruning of the same networks, which leaves zeros where weights were,
is measured beside them. All files of a network are timed in turns.

    python examples/benchmarks/latency.py
    python examples/benchmarks/latency.py --networks=ResNet56 --tfmot=false
    python examples/benchmarks/latency.py --operators
    python examples/benchmarks/latency.py --table

One line per file is appended to a JSON lines file when all files of a network
are measured; networks that are in it, with the same settings, are not measured
again.
"""

import functools
import itertools
import os
import tempfile

import keras
import numpy as np
import records
from absl import app
from absl import flags
from absl import logging
from keras import layers
from networks import residual_network

import keras_df as kdf
from keras_df.export.latency import interleaved_times
from keras_df.export.operators import Operator
from keras_df.export.operators import operator_file

FLAGS = flags.FLAGS
flags.DEFINE_list(
    "networks",
    ["VGG16", "ResNet50", "WideResNet20", "ResNet56", "MobileNetV2"],
    "Names in this file.",
)
flags.DEFINE_float("share", 0.5, "Share of the MACs that remains.")
flags.DEFINE_float(
    "latency", 0.6, "Share of the time that remains, where it is the budget."
)
flags.DEFINE_integer("round_to", 8, "Kept counts are multiples of this.")
flags.DEFINE_integer("threads", 1, "Threads that LiteRT uses.")
flags.DEFINE_integer("repeats", 100, "Interleaved repetitions.")
flags.DEFINE_bool("tfmot", True, "Whether to measure tfmot's pruning too.")
flags.DEFINE_bool("operators", False, "Measure single convolutions instead.")
flags.DEFINE_bool("table", False, "Only print the table of the results.")
flags.DEFINE_string(
    "out", "examples/benchmarks/results/latency.jsonl", "File to append."
)

IMAGE = (96, 96, 3)
TIMED = ("ResNet56", "MobileNetV2")
"""Networks on which MACs mislead: they get a budget of latency as well."""
SPARSITIES = (0.5, 0.8)


def vgg16():
    """Its convolutions, with one layer as the classifier.

    That of ImageNet has 73 % of the parameters and 1.4 % of the MACs.
    """
    base = keras.applications.VGG16(
        include_top=False, weights=None, input_shape=IMAGE, pooling="avg"
    )
    return keras.Model(base.inputs, layers.Dense(1000)(base.outputs[0]))


NETWORKS = {
    "VGG16": vgg16,
    "ResNet50": functools.partial(
        keras.applications.ResNet50, weights=None, input_shape=IMAGE
    ),
    "WideResNet20": functools.partial(residual_network, 20, (64, 128, 256)),
    "ResNet56": functools.partial(residual_network, 56),
    "MobileNetV2": functools.partial(
        keras.applications.MobileNetV2, weights=None, input_shape=IMAGE
    ),
}


def pruned(model, budget):
    plan = kdf.baselines.magnitude(model, budget, constraints=constraints())
    return kdf.compress(model, plan)


def paired(model, budget):
    plan = kdf.baselines.uniform_rank(model, budget, constraints=constraints())
    return kdf.compress(model, plan)


def pruned_and_paired(model, share):
    """Each halves the logarithm of what the other leaves."""
    most = int(share * kdf.count(model).macs)
    return paired(pruned(model, kdf.MACs(share**0.5)), kdf.MACs(most))


def constraints():
    return kdf.Constraints(round_to=FLAGS.round_to)


def networks_of(name):
    """Yields `(method, model)`, the original first."""
    model = NETWORKS[name]()
    yield "original", model
    yield "prune", pruned(model, kdf.MACs(FLAGS.share))
    yield "pairs", paired(model, kdf.MACs(FLAGS.share))
    yield "both", pruned_and_paired(model, FLAGS.share)
    if name in TIMED:
        table = kdf.export.measure_latency(
            model, threads=FLAGS.threads, verbose=False
        )
        budget = kdf.Latency(FLAGS.latency, table)
        yield "prune, latency", pruned(model, budget)
        try:
            yield "pairs, latency", paired(model, budget)
        except ValueError as error:
            logging.warning("%s, pairs alone: %s", name, error)


def zeroed(model, sparsity):
    """A `.tflite` file with tfmot's zeros, and the share of zeros in it."""
    import tensorflow as tf
    import tensorflow_model_optimization as tfmot
    import tf_keras

    sparse = tfmot.sparsity.keras
    schedule = sparse.ConstantSparsity(sparsity, begin_step=0, frequency=1)
    kinds = (tf_keras.layers.Conv2D, tf_keras.layers.Dense)

    def wrap(layer):
        if type(layer) not in kinds:
            return layer
        return sparse.prune_low_magnitude(layer, pruning_schedule=schedule)

    wrapped = tf_keras.models.clone_model(
        kdf.interop.to_tf_keras(model), clone_function=wrap
    )
    # A step with a learning rate of zero: masks are set while training.
    wrapped.compile(tf_keras.optimizers.SGD(0.0), "mse")
    x = np.zeros((1, *model.input_shape[1:]), "float32")
    y = np.zeros((1, *model.output_shape[1:]), "float32")
    wrapped.fit(x, y, verbose=0, callbacks=[sparse.UpdatePruningStep()])
    stripped = sparse.strip_pruning(wrapped)
    kernels = [x.numpy() for x in stripped.weights if "kernel" in x.name]
    zeros = sum(np.sum(x == 0) for x in kernels) / sum(x.size for x in kernels)
    content = tf.lite.TFLiteConverter.from_keras_model(stripped).convert()
    return content, float(zeros)


def write_files(name, folder):
    """Writes a file per method; yields a record and the file's path."""
    paths = (os.path.join(folder, f"{i}.tflite") for i in itertools.count())
    model = None
    for method, network in networks_of(name):
        model = model or network
        path = next(paths)
        kdf.export.litert(network, path)
        yield described(method, network, path), path
    for sparsity in SPARSITIES if FLAGS.tfmot else ():
        path = next(paths)
        content, zeros = zeroed(model, sparsity)
        with open(path, "wb") as file:
            file.write(content)
        record = described(f"tfmot, {sparsity:.0%} zeros", model, path)
        yield record | {"zeros": round(zeros, 4)}, path


def described(method, model, path):
    count = kdf.count(model)
    return {
        "method": method,
        "macs": count.macs,
        "params": count.params,
        "bytes": os.path.getsize(path),
    }


def measure(name):
    """Returns the records of one network."""
    with tempfile.TemporaryDirectory() as folder:
        found, paths = zip(*write_files(name, folder))
        timings = kdf.export.benchmark(
            *paths, threads=FLAGS.threads, repeats=FLAGS.repeats
        )
    for record, timing in zip(found, timings):
        for key in ("median", "low", "high"):
            record[f"{key}_ms"] = round(getattr(timing, key), 4)
        record["reduction"] = round(found[0]["macs"] / record["macs"], 3)
        record["speedup"] = round(timings[0].median / timing.median, 3)
    return [settings(name) | record for record in found]


def settings(name):
    names = ("share", "latency", "round_to", "threads", "repeats")
    return {"network": name} | {key: getattr(FLAGS, key) for key in names}


def convolutions(size, window, channels, counts):
    """Milliseconds of convolutions to each number of channels in `counts`."""

    def make(inputs, outputs):
        return layers.Conv2D(outputs, window, padding="same")

    operator = Operator("", make, (size, size), channels, channels)
    files = [operator_file(operator, channels, count) for count in counts]
    times = interleaved_times(files, FLAGS.threads, FLAGS.repeats)
    return 1e3 * np.median(times, axis=0)


def print_operators():
    """Prints how fast convolutions run, by window, width and rank."""
    ranks = (4, 8, 12, 16, 24, 32, 64, 128, 256)
    print("GMAC/s of a convolution from C channels to n, on S x S positions")
    print("window   S    C" + "".join(f"{rank:7}" for rank in ranks))
    for size, channels in ((32, 16), (32, 64), (16, 128), (8, 256)):
        for window in (3, 1):
            counts = [rank for rank in ranks if rank <= channels]
            times = convolutions(size, window, channels, counts)
            work = size**2 * window**2 * channels * np.array(counts) / 1e6
            rates = "".join(f"{rate:7.1f}" for rate in work / times)
            print(f"{window} x {window}{size:5}{channels:5}{rates}", flush=True)


def print_table():
    print(
        f"{'network':14}{'round':>5}  {'method':20}{'MACs':>7}{'MB':>8}"
        f"{'ms':>9}{'faster':>8}"
    )
    for record in records.read(FLAGS.out):
        print(
            f"{record['network']:14}{record['round_to']:5}  "
            f"{record['method']:20}{1 / record['reduction']:7.1%}"
            f"{record['bytes'] / 1e6:8.2f}{record['median_ms']:9.3f}"
            f"{record['speedup']:7.2f}x"
        )


def main(argv):
    del argv
    logging.set_verbosity(logging.WARNING)
    if FLAGS.operators:
        print_operators()
        return
    runs = [] if FLAGS.table else map(settings, FLAGS.networks)
    for run in records.missing(FLAGS.out, list(runs)):
        keras.utils.set_random_seed(0)
        for record in measure(run["network"]):
            records.append(FLAGS.out, record)
        keras.utils.clear_session(free_memory=True)
    print_table()


if __name__ == "__main__":
    app.run(main)
