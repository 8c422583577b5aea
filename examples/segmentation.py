"""A U-Net that labels every pixel, at a quarter of its arithmetic.

Nothing in keras_df is about classifiers. A U-Net joins early and late layers
by concatenation, its loss is one per pixel, and what counts is the overlap of
what it finds with what is there: the mean intersection over union (IoU).

    python examples/segmentation.py

The images, discs, squares and triangles in noise, are drawn by this script.
Everything is written to `segmentation_out/`.
"""

import os

import digits_data
import keras
import numpy as np
from absl import app
from absl import flags
from absl import logging
from keras import layers
from outcome import print_report
from outcome import write_outcome

import keras_df as kdf

FLAGS = flags.FLAGS
flags.DEFINE_float("budget", 0.25, "Share of the MACs that may remain.")
flags.DEFINE_integer("images", 1500, "Number of images to train on.")
flags.DEFINE_integer("train_steps", 200, "Steps that train the network.")
flags.DEFINE_integer("search_steps", 100, "Steps of the search.")
flags.DEFINE_integer("finetune_steps", 100, "Steps of fine-tuning.")
flags.DEFINE_string("out", "segmentation_out", "Folder to write.")

SIZE = 32
CLASSES = 4
LOSS = keras.losses.SparseCategoricalCrossentropy(from_logits=True)


def draw(count, seed):
    """Images of three shapes each, and the class of every pixel.

    Returns:
        Images of shape `(count, 32, 32, 1)`, float32, and labels of shape
        `(count, 32, 32)`: 0 for the background, 1 for discs, 2 for squares,
        3 for triangles.
    """
    rng = np.random.default_rng(seed)
    rows, columns = np.mgrid[:SIZE, :SIZE]
    labels = np.zeros((count, SIZE, SIZE), "int32")
    images = rng.normal(0, 0.4, (count, SIZE, SIZE, 1)).astype("float32")
    for label, image in zip(labels, images):
        for kind in rng.permutation(np.arange(1, CLASSES)):
            y, x = rng.uniform(6, SIZE - 6, 2)
            radius = rng.uniform(4, 7)
            down, across = rows - y, abs(columns - x)
            inside = {
                1: down**2 + across**2 < radius**2,
                2: np.maximum(abs(down), across) < radius * 0.85,
                3: (abs(down) < radius) & (across < (down + radius) / 2),
            }[int(kind)]
            label[inside] = kind
            image[inside, 0] += rng.uniform(0.6, 1.2)
    return images, labels


def double_convolution(x, filters, name):
    for step in (1, 2):
        x = layers.Conv2D(
            filters,
            3,
            padding="same",
            use_bias=False,
            name=f"{name}_conv{step}",
        )(x)
        x = layers.BatchNormalization(momentum=0.9, name=f"{name}_bn{step}")(x)
        x = layers.ReLU(name=f"{name}_relu{step}")(x)
    return x


def build_model(widths=(16, 32, 64)):
    """A U-Net: down, and up again beside what was seen on the way."""
    inputs = keras.Input((SIZE, SIZE, 1))
    x, seen = inputs, []
    for depth, filters in enumerate(widths[:-1]):
        x = double_convolution(x, filters, f"down{depth}")
        seen.append(x)
        x = layers.MaxPooling2D(name=f"pool{depth}")(x)
    x = double_convolution(x, widths[-1], "bottom")
    for depth, filters in reversed(list(enumerate(widths[:-1]))):
        x = layers.UpSampling2D(name=f"enlarge{depth}")(x)
        x = layers.Concatenate(name=f"join{depth}")([x, seen[depth]])
        x = double_convolution(x, filters, f"up{depth}")
    outputs = layers.Conv2D(CLASSES, 1, name="logits")(x)
    return keras.Model(inputs, outputs, name="unet")


def mean_iou(model, images, labels):
    metric = keras.metrics.MeanIoU(CLASSES, sparse_y_pred=False)
    metric.update_state(labels, model.predict(images, verbose=0))
    return float(metric.result())


def train(model, data, steps, learning_rate):
    """The recipe for compressed networks suits this one from the start."""
    kdf.fine_tune(
        model,
        data,
        LOSS,
        epochs=1,
        learning_rate=learning_rate,
        metrics=["accuracy"],
        steps_per_epoch=steps,
        shuffle=False,
        verbose=2,
    )
    kdf.recalibrate(model, data, steps=20)


def main(argv):
    del argv
    logging.set_verbosity(logging.WARNING)
    keras.utils.set_random_seed(0)
    os.makedirs(FLAGS.out, exist_ok=True)
    images, labels = draw(FLAGS.images, seed=1)
    test = draw(300, seed=2)
    data = digits_data.batches(images, labels)

    print("1. Train a U-Net.")
    model = build_model()
    train(model, data, FLAGS.train_steps, learning_rate=0.1)
    report = {"iou_before": mean_iou(model, *test)}

    print("2. Search filters and ranks under the loss per pixel.")
    search = kdf.SearchModel(
        model,
        budget=kdf.MACs(FLAGS.budget),
        # It is cheap, and a class that it cannot tell apart is lost.
        constraints=kdf.Constraints(skip=["logits"]),
    )
    search.compile(keras.optimizers.Adam(2e-2), LOSS, metrics=["accuracy"])
    search.fit(
        data, steps_per_epoch=FLAGS.search_steps, shuffle=False, verbose=2
    )
    plan = search.plan()
    print(plan.summary())

    print("3. Rebuild the U-Net without the rest, and fine-tune it.")
    small = kdf.compress(model, plan, calibration=images)
    kdf.recalibrate(small, data, steps=20)
    report["iou_recalibrated"] = mean_iou(small, *test)
    train(small, data, FLAGS.finetune_steps, learning_rate=0.05)
    report["iou_finetuned"] = mean_iou(small, *test)

    report = write_outcome(FLAGS.out, model, small, plan, report, test[0][:200])
    print_report(report, metric="iou")
    print(f"Everything is in {FLAGS.out}/")


if __name__ == "__main__":
    app.run(main)
