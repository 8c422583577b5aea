"""CIFAR-10 as the examples read it."""

import tensorflow as tf
import tensorflow_datasets as tfds

BATCH = 128


def load_data(split, data_dir=""):
    """Loads one split.

    Args:
        split: `"train"` or `"test"`.
        data_dir: Folder of prepared tfds data; empty to download it.

    Returns:
        Images of shape `(n, 32, 32, 3)`, float32 in 0-255, and labels.
    """
    options = {"batch_size": -1}
    if data_dir:
        options |= {"data_dir": data_dir, "download": False}
    data = tfds.as_numpy(tfds.load("cifar10", split=split, **options))
    return data["image"].astype("float32"), data["label"]


def batches(x, y, seed):
    """Endless shuffled batches, shifted by up to 4 pixels and mirrored."""

    def augment(images, labels):
        padded = tf.pad(images, [[0, 0], [4, 4], [4, 4], [0, 0]], "REFLECT")
        shifted = tf.image.random_crop(padded, tf.shape(images))
        return tf.image.random_flip_left_right(shifted), labels

    data = tf.data.Dataset.from_tensor_slices((x, y))
    data = data.shuffle(len(x), seed=seed).repeat().batch(BATCH)
    return data.map(augment, num_parallel_calls=2).prefetch(2)
