"""MobileNetV2 for a phone: fewer FLOPs, whole blocks of channels, int8.

A phone's processor works on 8 or 16 channels at a time, so a layer of 37
channels costs what one of 40 does: `round_to=8` makes a plan keep multiples of
8. Quantization to int8 makes weights four times smaller again. Whether it is
also faster is up to the processor and to the size of the layers, so measure it
where it will run.

    python examples/phone.py

Everything is written to `phone_out/`; the latencies are those of one thread on
the machine that it runs on, measured by LiteRT, which is what a phone runs.
"""

import json
import os

import digits_data
import keras
import numpy as np
from absl import app
from absl import flags
from absl import logging
from outcome import accuracy
from outcome import file_accuracy

import keras_df as kdf

FLAGS = flags.FLAGS
flags.DEFINE_integer("image_size", 48, "Width and height of the images.")
flags.DEFINE_float("alpha", 0.5, "Width of the MobileNetV2.")
flags.DEFINE_float("budget", 0.4, "Share of the FLOPs that may remain.")
flags.DEFINE_integer("round_to", 8, "Kept counts are multiples of this.")
flags.DEFINE_integer("train_steps", 200, "Steps that train the network.")
flags.DEFINE_integer("search_steps", 100, "Steps of the search.")
flags.DEFINE_integer("finetune_steps", 100, "Steps of fine-tuning.")
flags.DEFINE_string("out", "phone_out", "Folder to write.")

LOSS = keras.losses.SparseCategoricalCrossentropy(from_logits=True)


def build_model():
    """MobileNetV2 on images with values in 0-255, logits out."""
    inputs = keras.Input((FLAGS.image_size, FLAGS.image_size, 3))
    x = keras.layers.Rescaling(1 / 127.5, offset=-1, name="rescale")(inputs)
    backbone = keras.applications.MobileNetV2(
        input_tensor=x, alpha=FLAGS.alpha, include_top=False, weights=None
    )
    x = keras.layers.GlobalAveragePooling2D(name="pool")(backbone.output)
    outputs = keras.layers.Dense(10, name="logits")(x)
    return keras.Model(inputs, outputs, name="phone")


def train(model, data, steps):
    model.compile(keras.optimizers.Adam(2e-3), LOSS, metrics=["accuracy"])
    model.fit(data, steps_per_epoch=steps, shuffle=False, verbose=2)
    # A short training leaves the moving averages of BatchNormalization behind.
    kdf.recalibrate(model, data, steps=20)


def compress(model, data, x):
    """Searches, rebuilds and fine-tunes."""
    search = kdf.SearchModel(
        model,
        budget=kdf.FLOPs(FLAGS.budget),
        constraints=kdf.Constraints(round_to=FLAGS.round_to),
    )
    search.compile(keras.optimizers.Adam(2e-2), LOSS, metrics=["accuracy"])
    search.fit(
        data, steps_per_epoch=FLAGS.search_steps, shuffle=False, verbose=2
    )
    small = kdf.compress(model, search.plan(), calibration=x)
    kdf.recalibrate(small, data, steps=20)
    kdf.fine_tune(
        small,
        data,
        LOSS,
        epochs=1,
        teacher=model,
        metrics=["accuracy"],
        steps_per_epoch=FLAGS.finetune_steps,
        shuffle=False,
        verbose=2,
    )
    kdf.recalibrate(small, data, steps=20)
    return small


def write_files(models, x):
    """Writes every model in float32 and int8; returns the paths by name."""
    paths = {}
    for name, model in models.items():
        for precision, quantize in (("float32", None), ("int8", "int8")):
            path = os.path.join(FLAGS.out, f"{name}_{precision}.tflite")
            kdf.export.litert(model, path, quantize, calibration=x)
            paths[f"{name}, {precision}"] = path
    return paths


def examine(paths, x_test, y_test):
    """Size, latency and accuracy of every file."""
    timings = kdf.export.benchmark(*paths.values(), repeats=300)
    return {
        name: {
            "bytes": os.path.getsize(path),
            "latency_ms": timing.median,
            "accuracy": file_accuracy(path, x_test, y_test),
        }
        for (name, path), timing in zip(paths.items(), timings)
    }


def main(argv):
    del argv
    logging.set_verbosity(logging.WARNING)
    keras.utils.set_random_seed(0)
    os.makedirs(FLAGS.out, exist_ok=True)
    x, x_test, y, y_test = digits_data.load_data(FLAGS.image_size)
    data = digits_data.batches(x, y)

    print("1. Train a network, as anybody would.")
    model = build_model()
    train(model, data, FLAGS.train_steps)

    print("2. Compress it, in whole blocks of channels.")
    small = compress(model, data, x)
    small.save(os.path.join(FLAGS.out, "small.keras"))

    print("3. Write the files of both, in two precisions.")
    paths = write_files({"original": model, "small": small}, x)
    report = {
        "flops_before": kdf.count(model).flops,
        "flops_after": kdf.count(small).flops,
        "accuracy_before": accuracy(model, x_test, y_test),
        "accuracy_after": accuracy(small, x_test, y_test),
        "files": examine(paths, np.asarray(x_test), y_test),
    }
    with open(
        os.path.join(FLAGS.out, "report.json"), "w", encoding="utf-8"
    ) as file:
        json.dump(report, file, indent=1)

    share = report["flops_after"] / report["flops_before"]
    print(f"{share:.1%} of the FLOPs remain.")
    print(f"{'':20}{'bytes':>10}{'latency':>12}{'speed':>8}{'accuracy':>10}")
    base = report["files"]["original, float32"]["latency_ms"]
    for name, row in report["files"].items():
        print(
            f"{name:20}{row['bytes']:>10,}{row['latency_ms']:>9.3f} ms"
            f"{base / row['latency_ms']:>7.2f}x{row['accuracy']:>10.4f}"
        )


if __name__ == "__main__":
    app.run(main)
