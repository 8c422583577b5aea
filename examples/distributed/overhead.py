"""What a step of a search costs on several devices, next to training.

    python examples/distributed/overhead.py --virtual_devices=2

The same network is trained and searched by turns, with `fit`, on random
images: whatever `fit` does is in the times, renewed singular vectors too.
"""

import json
import statistics
import time

import devices
import keras
import numpy as np
from absl import app
from absl import flags
from absl import logging

import keras_df as kdf

FLAGS = flags.FLAGS
flags.DEFINE_string("network", "ResNet50", "Name in `keras.applications`.")
flags.DEFINE_integer("image_size", 64, "Height and width of the images.")
flags.DEFINE_integer("device_batch", 8, "Samples per step and device.")
flags.DEFINE_integer("steps", 10, "Steps per turn.", lower_bound=2)
flags.DEFINE_integer(
    "turns", 5, "Turns of each; 0 to count memory only.", lower_bound=0
)


class Stopwatch(keras.callbacks.Callback):
    """Notes when steps begin."""

    def on_train_begin(self, logs=None):
        self.moments = []

    def on_train_batch_begin(self, batch, logs=None):
        self.moments.append(time.perf_counter())

    def on_train_end(self, logs=None):
        self.moments.append(time.perf_counter())


def images(batch_size):
    import tensorflow as tf

    shape = (batch_size, FLAGS.image_size, FLAGS.image_size, 3)
    batch = np.random.default_rng(0).normal(size=shape).astype("float32")
    labels = np.arange(batch_size) % 1000
    return (
        tf.data.Dataset.from_tensor_slices((batch, labels))
        .repeat()
        .batch(batch_size, drop_remainder=True)
    )


def compiled(model):
    loss = keras.losses.SparseCategoricalCrossentropy()
    model.compile(keras.optimizers.Adam(1e-3), loss)
    return model


def turn(model, data, *callbacks):
    """Runs some steps. Returns the mean seconds of all but the first."""
    watch = Stopwatch()
    model.fit(
        data,
        steps_per_epoch=FLAGS.steps,
        shuffle=False,
        verbose=0,
        callbacks=[watch, *callbacks],
    )
    return (watch.moments[-1] - watch.moments[1]) / (FLAGS.steps - 1)


def mebibytes(variables):
    return sum(np.prod(x.shape) for x in variables) * 4 / 2**20


def factors(search):
    """What the search keeps of each kernel, beside the network itself."""
    network = {id(x) for x in search.network.variables}
    return [x for x in search.relaxation.variables if id(x) not in network]


def times(network, search, data):
    """Median seconds per step of both, and the median of their ratios."""
    compiled(network)
    compiled(search)
    horizon = kdf.DFCallback(steps=(FLAGS.turns + 1) * FLAGS.steps)
    seconds = [
        (turn(network, data), turn(search, data, horizon))
        for _ in range(FLAGS.turns + 1)
    ][1:]
    return {
        "training_step": statistics.median(a for a, _ in seconds),
        "search_step": statistics.median(b for _, b in seconds),
        "ratio": statistics.median(b / a for a, b in seconds),
    }


def main(argv):
    del argv
    logging.set_verbosity(logging.WARNING)
    count = max(FLAGS.virtual_devices, 1)
    shape = (FLAGS.image_size, FLAGS.image_size, 3)
    with devices.scope():
        data = images(count * FLAGS.device_batch)
        network = getattr(keras.applications, FLAGS.network)(
            weights=None, input_shape=shape
        )
        search = kdf.SearchModel(network, kdf.MACs(0.5))
        record = {
            "network": FLAGS.network,
            "image_size": FLAGS.image_size,
            "backend": keras.config.backend(),
            "devices": count,
            "device_batch": FLAGS.device_batch,
            "network_mib": mebibytes(network.variables),
            "search_mib": mebibytes(search.variables),
            "factors_mib": mebibytes(factors(search)),
        }
        if FLAGS.turns:
            record.update(times(network, search, data))
    print(json.dumps(record))


if __name__ == "__main__":
    app.run(main)
