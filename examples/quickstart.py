"""The main job in under a minute and a half: half of a network removed.

A small residual network learns scikit-learn's handwritten digits. keras_df
then finds which filters to prune and which kernels to decompose so that half
of the multiply-accumulates remain, rebuilds the network without them, and
exports it.

    python examples/quickstart.py

Everything is written to `quickstart_out/`.
"""

import os

import keras
import numpy as np
import tensorflow as tf
from absl import app
from absl import flags
from absl import logging
from keras import layers
from outcome import accuracy
from outcome import fine_tune
from outcome import print_report
from outcome import write_outcome
from sklearn.datasets import load_digits
from sklearn.model_selection import train_test_split

import keras_df as kdf

FLAGS = flags.FLAGS
flags.DEFINE_string("out", "quickstart_out", "Folder to write.")
flags.DEFINE_float("budget", 0.5, "Share of the MACs that may remain.")
flags.DEFINE_integer("seed", 0, "Seed of everything random.")

LOSS = keras.losses.SparseCategoricalCrossentropy(from_logits=True)
BATCH = 64


def load_data():
    """1,797 images of 8 x 8 pixels, values in 0-16."""
    images, labels = load_digits(return_X_y=True)
    images = images.reshape(-1, 8, 8, 1).astype("float32")
    return train_test_split(
        images, labels, test_size=0.25, random_state=0, stratify=labels
    )


def batches(x, y):
    """Endless shuffled batches."""
    data = tf.data.Dataset.from_tensor_slices((x, y))
    return data.shuffle(len(x)).repeat().batch(BATCH).prefetch(2)


def residual_block(x, filters, strides, name):
    """Two convolutions around a shortcut."""
    shortcut = x
    if strides > 1 or x.shape[-1] != filters:
        shortcut = layers.Conv2D(
            filters, 1, strides, use_bias=False, name=f"{name}_shortcut"
        )(x)
    x = layers.Conv2D(
        filters, 3, strides, "same", use_bias=False, name=f"{name}_conv1"
    )(x)
    x = layers.BatchNormalization(momentum=0.9, name=f"{name}_bn1")(x)
    x = layers.ReLU(name=f"{name}_relu1")(x)
    x = layers.Conv2D(
        filters, 3, 1, "same", use_bias=False, name=f"{name}_conv2"
    )(x)
    x = layers.BatchNormalization(momentum=0.9, name=f"{name}_bn2")(x)
    x = layers.Add(name=f"{name}_add")([x, shortcut])
    return layers.ReLU(name=f"{name}_relu2")(x)


def build_model():
    inputs = keras.Input((8, 8, 1))
    x = layers.Rescaling(1 / 16, name="rescale")(inputs)
    x = layers.UpSampling2D(2, interpolation="bilinear", name="enlarge")(x)
    x = layers.Conv2D(32, 3, padding="same", name="stem")(x)
    x = residual_block(x, 32, 1, "block1")
    x = residual_block(x, 64, 2, "block2")
    x = residual_block(x, 64, 1, "block3")
    x = layers.GlobalAveragePooling2D(name="pool")(x)
    outputs = layers.Dense(10, name="logits")(x)
    return keras.Model(inputs, outputs, name="digits")


def main(argv):
    del argv
    logging.set_verbosity(logging.WARNING)
    keras.utils.set_random_seed(FLAGS.seed)
    os.makedirs(FLAGS.out, exist_ok=True)
    x, x_test, y, y_test = load_data()
    train = batches(x, y)

    print("1. Train a network, as anybody would.")
    model = build_model()
    fine_tune(model, train, steps=140, learning_rate=0.05)
    report = {"accuracy_before": accuracy(model, x_test, y_test)}

    print("2. Search filters and ranks, its weights frozen.")
    search = kdf.SearchModel(model, budget=kdf.MACs(FLAGS.budget))
    search.compile(
        optimizer=keras.optimizers.Adam(2e-2), loss=LOSS, metrics=["accuracy"]
    )
    search.fit(train, epochs=1, steps_per_epoch=100, shuffle=False, verbose=2)
    plan = search.plan()
    print(plan.summary())

    print("3. Rebuild the network without what the plan removes.")
    small = kdf.compress(model, plan, calibration=x)
    kdf.recalibrate(small, train, steps=20)
    report["accuracy_recalibrated"] = accuracy(small, x_test, y_test)

    print("4. Fine-tune it, as any Keras model.")
    fine_tune(small, train, steps=100, teacher=model)
    report["accuracy_finetuned"] = accuracy(small, x_test, y_test)

    print("5. Export, verify and time it.")
    report = write_outcome(
        FLAGS.out, model, small, plan, report, np.asarray(x_test)
    )
    print_report(report)
    print(f"Everything is in {FLAGS.out}/")


if __name__ == "__main__":
    app.run(main)
