"""Transfer learning, then compression of what came of it.

A backbone that has seen a large data set and a new head on top: that is how
most image classifiers are made. The backbone knows far more than the new task
needs, so much of it can go. It is a model inside the model, and stays one.

    python examples/transfer_learning.py

Without a network connection there are no ImageNet weights, so the backbone
first learns digits that lie on their side, and the task is to tell those that
stand. For photographs of your own, in one folder per class:

    python examples/transfer_learning.py --weights imagenet \\
        --image_size 160 --alpha 1.0 --data_dir photographs

Everything is written to `transfer_learning_out/`.
"""

import os

import digits_data
import keras
import numpy as np
from absl import app
from absl import flags
from absl import logging
from keras import layers
from outcome import accuracy
from outcome import print_report
from outcome import write_outcome

import keras_df as kdf

FLAGS = flags.FLAGS
flags.DEFINE_enum(
    "weights", None, ["imagenet"], "Weights of the backbone to download."
)
flags.DEFINE_string("data_dir", "", "Folder with a folder of images per class.")
flags.DEFINE_integer("image_size", 32, "Width and height of the images.")
flags.DEFINE_float("alpha", 0.5, "Width of the MobileNet.")
flags.DEFINE_float("budget", 0.3, "Share of the FLOPs that may remain.")
flags.DEFINE_integer("pretrain_steps", 100, "Steps without ImageNet weights.")
flags.DEFINE_integer("head_steps", 40, "Steps that train the head.")
flags.DEFINE_integer("whole_steps", 100, "Steps that train all of it.")
flags.DEFINE_integer("search_steps", 80, "Steps of the search.")
flags.DEFINE_integer("finetune_steps", 100, "Steps of fine-tuning.")
flags.DEFINE_string("out", "transfer_learning_out", "Folder to write.")

LOSS = keras.losses.SparseCategoricalCrossentropy(from_logits=True)


def load_photographs():
    """A quarter of the images is kept to test on."""
    train, test = keras.utils.image_dataset_from_directory(
        FLAGS.data_dir,
        image_size=(FLAGS.image_size, FLAGS.image_size),
        batch_size=None,
        validation_split=0.25,
        subset="both",
        seed=0,
        verbose=False,
    )
    (x, y), (x_test, y_test) = (
        [np.stack(arrays) for arrays in zip(*data.as_numpy_iterator())]
        for data in (train, test)
    )
    return x, x_test, y, y_test


def build_backbone():
    return keras.applications.MobileNet(
        input_shape=(FLAGS.image_size, FLAGS.image_size, 3),
        alpha=FLAGS.alpha,
        include_top=False,
        pooling="avg",
        weights=FLAGS.weights,
        name="backbone",
    )


def add_head(backbone, classes):
    """A classifier of images with values in 0-255.

    The backbone is not called with `training=False`, as one might while the
    head learns: it would hold for good, and keep BatchNormalization from
    learning the statistics of the compressed network.
    """
    inputs = keras.Input(backbone.input_shape[1:])
    x = layers.Rescaling(1 / 127.5, offset=-1, name="rescale")(inputs)
    x = backbone(x)
    outputs = layers.Dense(classes, name="head")(x)
    return keras.Model(inputs, outputs, name="classifier")


def train(model, data, steps, learning_rate):
    model.compile(
        optimizer=keras.optimizers.Adam(learning_rate),
        loss=LOSS,
        metrics=["accuracy"],
    )
    model.fit(data, steps_per_epoch=steps, shuffle=False, verbose=2)
    # A short training leaves the moving averages of BatchNormalization behind.
    kdf.recalibrate(model, data, steps=20)


def pretrain(backbone):
    """What ImageNet is for, where it can be had."""
    x, _, y, _ = digits_data.load_data(FLAGS.image_size)
    data = digits_data.batches(np.rot90(x, axes=(1, 2)), y)
    train(add_head(backbone, 10), data, FLAGS.pretrain_steps, 2e-3)


def main(argv):
    del argv
    logging.set_verbosity(logging.WARNING)
    keras.utils.set_random_seed(0)
    os.makedirs(FLAGS.out, exist_ok=True)
    if FLAGS.data_dir:
        x, x_test, y, y_test = load_photographs()
    else:
        x, x_test, y, y_test = digits_data.load_data(FLAGS.image_size)
    data = digits_data.batches(x, y)

    print("1. A backbone that has learned something else.")
    backbone = build_backbone()
    if not FLAGS.weights:
        pretrain(backbone)

    print("2. A new head for the task, the backbone frozen; then all of it.")
    model = add_head(backbone, classes=int(y.max()) + 1)
    backbone.trainable = False
    train(model, data, FLAGS.head_steps, 1e-2)
    backbone.trainable = True
    train(model, data, FLAGS.whole_steps, 1e-3)
    report = {"accuracy_before": accuracy(model, x_test, y_test)}

    print("3. What of the backbone does the task need?")
    search = kdf.SearchModel(model, budget=kdf.FLOPs(FLAGS.budget))
    search.compile(
        optimizer=keras.optimizers.Adam(2e-2), loss=LOSS, metrics=["accuracy"]
    )
    search.fit(
        data, steps_per_epoch=FLAGS.search_steps, shuffle=False, verbose=2
    )
    plan = search.plan()

    print("4. Without the rest, fine-tuned.")
    small = kdf.compress(model, plan, calibration=x)
    kdf.recalibrate(small, data, steps=20)
    report["accuracy_recalibrated"] = accuracy(small, x_test, y_test)
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
    report["accuracy_finetuned"] = accuracy(small, x_test, y_test)
    small.summary()

    report = write_outcome(FLAGS.out, model, small, plan, report, x_test[:200])
    print_report(report)
    print(f"Everything is in {FLAGS.out}/")


if __name__ == "__main__":
    app.run(main)
