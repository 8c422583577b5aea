"""Search on several devices, and on several hosts.

On all GPUs of this host; TensorFlow or JAX, as KERAS_BACKEND says:

    python examples/distributed/search.py --data_dir=tensorflow_datasets

On two hosts, JAX only. The same on each, but for `--process_id`:

    KERAS_BACKEND=jax python examples/distributed/search.py --hosts=2 \\
        --process_id=0 --coordinator=10.0.0.1:1234 --out=/shared/search

Without GPUs and ImageNet, a small network on two virtual CPU devices:

    python examples/distributed/search.py --synthetic --virtual_devices=2

Started again after a crash, it goes on where it was. See the README beside.
"""

import os

import devices
import keras
import numpy as np
from absl import app
from absl import flags
from absl import logging
from keras import layers

import keras_df as kdf

FLAGS = flags.FLAGS
flags.DEFINE_float("budget", 0.5, "Share of the MACs that may remain.")
flags.DEFINE_integer("batch_size", 256, "Samples per step, of all devices.")
flags.DEFINE_integer("epochs", 2, "Number of epochs.", lower_bound=1)
flags.DEFINE_integer(
    "epoch_steps", 500, "Steps of an epoch, each on new images.", lower_bound=1
)
flags.DEFINE_integer("save_freq", 100, "Steps from one backup to the next.")
flags.DEFINE_string("data_dir", None, "Folder with imagenet2012 of tfds.")
flags.DEFINE_bool("synthetic", False, "A small network on made-up images.")
flags.DEFINE_enum(
    "normalization",
    "none",
    ["none", "batch", "inference"],
    "BatchNormalization of the small network, and its statistics.",
)
flags.DEFINE_string("out", "distributed_out", "Folder to write.")

IMAGE_SIZE = 224


def small_network():
    x = inputs = keras.Input((16, 16, 3))
    for name, width in (("first", 16), ("second", 32), ("third", 32)):
        x = layers.Conv2D(width, 3, name=name)(x)
        if FLAGS.normalization != "none":
            x = layers.BatchNormalization(name=f"{name}_norm")(x)
        x = layers.ReLU(name=f"{name}_relu")(x)
    x = layers.GlobalAveragePooling2D(name="pool")(x)
    return keras.Model(inputs, layers.Dense(10, name="logits")(x))


def synthetic_images():
    """Images whose mean colours give their classes away."""
    import tensorflow as tf

    rng = np.random.default_rng(0)
    labels = rng.integers(10, size=FLAGS.batch_size * FLAGS.epoch_steps)
    colours = rng.normal(size=(10, 3))[labels]
    images = rng.normal(size=(len(labels), 16, 16, 3))
    images = (images + colours[:, None, None]).astype("float32")
    return tf.data.Dataset.from_tensor_slices((images, labels))


def imagenet():
    """Training images as ResNet50 takes them, in the same order every time."""
    import tensorflow as tf
    import tensorflow_datasets as tfds

    def prepare(image, label):
        scale = 256 / tf.reduce_min(tf.shape(image)[:2])
        size = tf.cast(
            scale * tf.cast(tf.shape(image)[:2], scale.dtype), "int32"
        )
        image = tf.image.resize(image, tf.maximum(size, IMAGE_SIZE))
        image = tf.image.resize_with_crop_or_pad(image, IMAGE_SIZE, IMAGE_SIZE)
        return keras.applications.resnet50.preprocess_input(image), label

    images = tfds.load(
        "imagenet2012",
        split="train",
        data_dir=FLAGS.data_dir,
        as_supervised=True,
        shuffle_files=True,
        read_config=tfds.ReadConfig(shuffle_seed=0),
    )
    return images.map(prepare, num_parallel_calls=tf.data.AUTOTUNE)


def main(argv):
    del argv
    logging.set_verbosity(logging.WARNING)
    keras.utils.set_random_seed(0)
    os.makedirs(FLAGS.out, exist_ok=True)
    with devices.scope():
        search()


def search():
    if FLAGS.synthetic:
        model, images = small_network(), synthetic_images()
        from_logits = True
    else:
        model, images = keras.applications.ResNet50(), imagenet()
        from_logits = False
    # The same order after a restart, another one in every pass.
    train = images.repeat().shuffle(
        10 * FLAGS.batch_size, seed=0, reshuffle_each_iteration=False
    )
    train = train.batch(FLAGS.batch_size, drop_remainder=True)
    config = kdf.SearchConfig(
        normalization="inference"
        if FLAGS.normalization == "inference"
        else "batch"
    )
    search = kdf.SearchModel(model, kdf.MACs(FLAGS.budget), config=config)
    search.compile(
        optimizer=keras.optimizers.Adam(1e-2),
        loss=keras.losses.SparseCategoricalCrossentropy(from_logits),
        metrics=["accuracy"],
    )
    backup = keras.callbacks.BackupAndRestore(
        os.path.join(FLAGS.out, "backup"), save_freq=FLAGS.save_freq
    )
    search.fit(
        train.prefetch(2),
        epochs=FLAGS.epochs,
        steps_per_epoch=FLAGS.epoch_steps,
        callbacks=[backup],
        shuffle=False,
        verbose=2 * (FLAGS.process_id == 0),
    )
    plan = search.plan()
    # On every host: Keras makes variables, on all of them, while it saves.
    search.save(os.path.join(FLAGS.out, "search.keras"))
    plan.save(os.path.join(FLAGS.out, "plan.json"))
    if FLAGS.process_id == 0:
        print(plan.summary())


if __name__ == "__main__":
    app.run(main)
