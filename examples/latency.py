"""Measures a latency table, plans for a latency, and checks the prediction.

    python examples/latency.py --model MobileNetV2 --image_size 96 --target 0.6
    python examples/latency.py --model resnet20.keras --table resnet20.json

The table is written to `--table`, and read from there the next time; another
model or image size needs a table of its own.
"""

import os
import tempfile

import keras
from absl import app
from absl import flags
from absl import logging

import keras_df as kdf

FLAGS = flags.FLAGS
flags.DEFINE_string(
    "model", "MobileNetV2", "A `.keras` file or a `keras.applications` name."
)
flags.DEFINE_integer("image_size", 96, "Image size, for applications.")
flags.DEFINE_float("target", 0.6, "Share of the latency that may remain.")
flags.DEFINE_enum(
    "method",
    "magnitude",
    ["magnitude", "geometric_median", "random", "uniform_rank", "energy"],
    "Baseline that makes the plan.",
)
flags.DEFINE_integer("round_to", 8, "Kept counts are multiples of this.")
flags.DEFINE_integer("threads", 1, "Threads that LiteRT uses.")
flags.DEFINE_string("table", "latency.json", "File of the latency table.")


def load_model():
    if FLAGS.model.endswith(".keras"):
        return keras.models.load_model(FLAGS.model)
    shape = (FLAGS.image_size, FLAGS.image_size, 3)
    return getattr(keras.applications, FLAGS.model)(
        weights=None, input_shape=shape
    )


def load_table(model):
    if os.path.exists(FLAGS.table):
        return kdf.LatencyTable.load(FLAGS.table)
    return kdf.export.measure_latency(model, FLAGS.table, FLAGS.threads)


def measure(*models):
    """Latencies of models on LiteRT, interleaved, in milliseconds."""
    with tempfile.TemporaryDirectory() as folder:
        paths = []
        for number, model in enumerate(models):
            paths.append(os.path.join(folder, f"{number}.tflite"))
            kdf.export.litert(model, paths[-1])
        timings = kdf.export.benchmark(
            *paths, threads=FLAGS.threads, repeats=300
        )
    return [timing.median for timing in timings]


def main(argv):
    del argv
    logging.set_verbosity(logging.WARNING)
    model = load_model()
    table = load_table(model)
    print("whole networks the table was calibrated on, in microseconds:")
    for measured, predicted in table.networks:
        print(f"  measured {measured:8.0f}   predicted {predicted:8.0f}")
    plan = getattr(kdf.baselines, FLAGS.method)(
        model,
        kdf.Latency(FLAGS.target, table),
        constraints=kdf.Constraints(round_to=FLAGS.round_to),
    )
    before, after = plan.costs["latency"]
    big, small = measure(model, kdf.compress(model, plan))
    print(f"{'':10}{'before':>12}{'after':>12}{'share':>10}")
    for name, pair in (
        ("predicted", (before / 1e3, after / 1e3)),
        ("measured", (big, small)),
    ):
        share = pair[1] / pair[0]
        print(f"{name:10}{pair[0]:9.3f} ms{pair[1]:9.3f} ms{share:10.1%}")


if __name__ == "__main__":
    app.run(main)
