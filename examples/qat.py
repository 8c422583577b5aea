"""Compression, then quantization-aware fine-tuning with tfmot, then int8.

    python examples/qat.py
    python examples/qat.py --model resnet20.keras \\
        --data_dir ~/tensorflow_datasets --qat_steps 400

A compressed Keras 3 model becomes a `tf_keras` model, which TensorFlow Model
Optimization (tfmot) makes aware of its quantization. Three files are written
to `qat_out/` and tested with LiteRT: float32; int8 by quantization after
training (PTQ); int8 by quantization-aware training (QAT). Both int8 files hold
integers alone, from input to output.

Without `--data_dir` it trains a small network on scikit-learn's digits. With
it, `--model` is a network for CIFAR-10 that takes images in 0-255 and returns
10 logits.

tfmot 0.8 works on `tf_keras` beside Keras 3. It sets `TF_USE_LEGACY_KERAS=1`
when it is imported, which redirects `tf.keras` for what has not used it yet;
so it is imported last, and `TF_USE_LEGACY_KERAS` need not be set by you.
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

import keras_df as kdf
from keras_df.export.interpreter import make_interpreter
from keras_df.export.interpreter import run

FLAGS = flags.FLAGS
flags.DEFINE_string(
    "data_dir", "", "Folder of prepared tfds data; empty for the digits."
)
flags.DEFINE_string("model", "", "A network trained on CIFAR-10, `.keras`.")
flags.DEFINE_float("budget", 0.5, "Share of the MACs that may remain.")
flags.DEFINE_integer("train_steps", 140, "Steps of training, on the digits.")
flags.DEFINE_integer("finetune_steps", 150, "Steps of fine-tuning in float.")
flags.DEFINE_integer("qat_steps", 100, "Steps of fine-tuning with tfmot.")
flags.DEFINE_float("qat_learning_rate", 0.002, "Where its schedule starts.")
flags.DEFINE_integer("test_samples", 10_000, "Test images to use at most.")
flags.DEFINE_integer("seed", 0, "Seed of everything random.")
flags.DEFINE_string("out", "qat_out", "Folder to write.")


def cifar10():
    """A trained model, training batches, training images, and test data."""
    from cifar10_data import batches
    from cifar10_data import load_data

    x, y = load_data("train", FLAGS.data_dir)
    model = keras.models.load_model(FLAGS.model)
    test = load_data("test", FLAGS.data_dir)
    return model, batches(x, y, FLAGS.seed), x, test


def digits():
    """The same for 1,797 images of 8 x 8 pixels, values in 0-16."""
    from sklearn.datasets import load_digits
    from sklearn.model_selection import train_test_split

    images, labels = load_digits(return_X_y=True)
    images = images.reshape(-1, 8, 8, 1).astype("float32")
    x, x_test, y, y_test = train_test_split(
        images, labels, test_size=0.25, random_state=0, stratify=labels
    )
    data = tf.data.Dataset.from_tensor_slices((x, y))
    train = data.shuffle(len(x), seed=FLAGS.seed).repeat().batch(64).prefetch(2)
    model = digits_model()
    fine_tune(model, train, FLAGS.train_steps, learning_rate=0.05)
    return model, train, x, (x_test, y_test)


def digits_model():
    inputs = keras.Input((8, 8, 1))
    x = layers.Rescaling(1 / 16)(inputs)
    x = normed(layers.Conv2D(32, 3, padding="same", use_bias=False)(x))
    y = normed(layers.Conv2D(32, 3, padding="same", use_bias=False)(x))
    y = layers.Conv2D(32, 3, padding="same", use_bias=False)(y)
    y = layers.BatchNormalization(momentum=0.9)(y)
    x = layers.ReLU()(layers.Add()([x, y]))
    x = normed(layers.Conv2D(64, 3, 2, "same", use_bias=False)(x))
    x = layers.GlobalAveragePooling2D()(x)
    return keras.Model(inputs, layers.Dense(10)(x), name="digits")


def normed(x):
    return layers.ReLU()(layers.BatchNormalization(momentum=0.9)(x))


def compressed(model, train, samples):
    """Half of the arithmetic gone, fine-tuned."""
    budget = kdf.MACs(FLAGS.budget)
    plan = kdf.baselines.energy(model, budget, calibration=samples)
    small = kdf.compress(model, plan, calibration=samples)
    kdf.recalibrate(small, train, steps=50)
    fine_tune(small, train, FLAGS.finetune_steps)
    return small


def quantization_aware(small, train):
    """Fine-tunes with the errors of 8 bits; returns a `tf_keras` model.

    Ranges are calibrated first: by itself, tfmot takes thousands of steps.
    """
    import tensorflow_model_optimization as tfmot
    import tf_keras

    annotated = kdf.interop.quantize_annotate(kdf.interop.to_tf_keras(small))
    with tfmot.quantization.keras.quantize_scope():
        aware = tfmot.quantization.keras.quantize_apply(annotated)
    kdf.interop.calibrate_ranges(aware, train)
    schedule = tf_keras.optimizers.schedules.CosineDecay(
        FLAGS.qat_learning_rate, FLAGS.qat_steps
    )
    aware.compile(
        optimizer=tf_keras.optimizers.SGD(schedule, momentum=0.9),
        loss=tf_keras.losses.SparseCategoricalCrossentropy(from_logits=True),
        metrics=["accuracy"],
    )
    aware.fit(train, epochs=1, steps_per_epoch=FLAGS.qat_steps, verbose=2)
    return aware


def write_integers(aware, filepath):
    """Writes a quantization-aware model as a full-integer `.tflite` file."""
    converter = tf.lite.TFLiteConverter.from_keras_model(aware)
    converter.optimizations = [tf.lite.Optimize.DEFAULT]
    converter.inference_input_type = tf.int8
    converter.inference_output_type = tf.int8
    with open(filepath, "wb") as file:
        file.write(converter.convert())


def file_accuracy(path, x, y):
    """Share of samples that a `.tflite` file classifies correctly."""
    with open(path, "rb") as file:
        interpreter = make_interpreter(file.read())
    hits = [
        np.argmax(run(interpreter, [image[None]])[0]) == label
        for image, label in zip(x, y)
    ]
    return float(np.mean(hits))


def is_all_integers(path):
    with open(path, "rb") as file:
        interpreter = make_interpreter(file.read())
    kinds = {x["dtype"] for x in interpreter.get_tensor_details()}
    return all(np.issubdtype(kind, np.integer) for kind in kinds)


def main(argv):
    del argv
    if bool(FLAGS.model) != bool(FLAGS.data_dir):
        raise app.UsageError("--model and --data_dir belong together.")
    logging.set_verbosity(logging.WARNING)
    keras.utils.set_random_seed(FLAGS.seed)
    os.makedirs(FLAGS.out, exist_ok=True)
    paths = {
        name: os.path.join(FLAGS.out, f"{name}.tflite")
        for name in ("float32", "ptq_int8", "qat_int8")
    }
    model, train, x, (x_test, y_test) = cifar10() if FLAGS.model else digits()
    x_test, y_test = x_test[: FLAGS.test_samples], y_test[: FLAGS.test_samples]

    print("1. Compress, and fine-tune in float.")
    small = compressed(model, train, x[: 12 * 128])
    kdf.export.litert(small, paths["float32"], calibration=x_test[:8])
    kdf.export.litert(
        small, paths["ptq_int8"], "int8", calibration=x, io_dtype="int8"
    )

    print("2. Fine-tune with quantization, in tfmot.")
    write_integers(quantization_aware(small, train), paths["qat_int8"])

    before, after = kdf.count(model).macs, kdf.count(small).macs
    print(f"MACs {before:,} -> {after:,} ({after / before:.1%})")
    print(f"{'accuracy':22}{'':10}{'bytes':>10}   integers alone")
    print(f"{'original, Keras':22}{accuracy(model, x_test, y_test):10.4f}")
    for name, path in paths.items():
        print(
            f"{name + ', LiteRT':22}{file_accuracy(path, x_test, y_test):10.4f}"
            f"{os.path.getsize(path):10,}   {is_all_integers(path)}"
        )


if __name__ == "__main__":
    app.run(main)
