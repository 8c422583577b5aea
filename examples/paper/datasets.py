"""CIFAR and ImageNet through tfds, with the standard augmentation."""

import dataclasses

import numpy as np
import tensorflow as tf

SMALL = 32
"""The size of CIFAR's images: they are shifted; larger ones are cropped."""


@dataclasses.dataclass(frozen=True)
class Data:
    """What an experiment reads.

    Attributes:
        train: Endless `tf.data.Dataset` of shuffled, augmented batches.
        test: `tf.data.Dataset` of batches, once through.
        images: Number of images to train on.
    """

    train: tf.data.Dataset
    test: tf.data.Dataset
    images: int


def load(experiment, data_dir):
    """Loads an experiment's data set.

    Args:
        experiment: `Experiment`.
        data_dir: Folder of prepared tfds data; empty to prepare it in the
            folder that tfds uses, downloading it where that is possible.

    Returns:
        `Data`.
    """
    import tensorflow_datasets as tfds

    # Images are shuffled while they are encoded, and small.
    options = {"decoders": {"image": tfds.decode.SkipDecoding()}}
    if data_dir:
        options |= {"data_dir": data_dir, "download": False}
    splits = ["train", experiment.test_split]
    (train, test), info = tfds.load(
        experiment.dataset,
        split=splits,
        as_supervised=True,
        shuffle_files=True,
        with_info=True,
        **options,
    )
    images = info.splits["train"].num_examples
    return _prepare(experiment, train, test, images)


def synthetic(experiment):
    """Random images of random classes, in place of the real ones."""
    rng = np.random.default_rng(0)
    count, size = 2 * experiment.batch, experiment.image_size
    x = rng.integers(0, 256, (count, size, size, 3)).astype("uint8")
    y = rng.integers(0, experiment.classes, count)
    data = tf.data.Dataset.from_tensor_slices((x, y))
    return _prepare(experiment, data, data, count)


def _prepare(experiment, train, test, images):
    size = experiment.image_size
    is_small = size == SMALL
    augment = shift if is_small else crop_at_random
    fit = as_it_is if is_small else crop_the_centre
    train = train.shuffle(min(images, 50_000 if is_small else 10_000)).repeat()
    train = train.map(
        lambda image, label: (augment(decoded(image), size), label),
        num_parallel_calls=tf.data.AUTOTUNE,
    )
    test = test.map(
        lambda image, label: (fit(decoded(image), size), label),
        num_parallel_calls=tf.data.AUTOTUNE,
    )
    batch = experiment.batch
    return Data(
        train.batch(batch).prefetch(tf.data.AUTOTUNE),
        test.batch(batch).prefetch(tf.data.AUTOTUNE),
        images,
    )


def decoded(image):
    if image.dtype != tf.string:
        return image
    return tf.io.decode_image(image, channels=3, expand_animations=False)


def shift(image, size):
    """A crop out of the image with 4 pixels around it, maybe mirrored."""
    image = tf.pad(tf.cast(image, "float32"), [[4, 4], [4, 4], [0, 0]])
    image = tf.image.random_crop(image, (size, size, 3))
    return tf.image.random_flip_left_right(image)


def crop_at_random(image, size):
    """8 to 100 % of the image, maybe mirrored.

    Reference: Szegedy et al., Going deeper with convolutions, 2014.
    """
    begin, extent, _ = tf.image.sample_distorted_bounding_box(
        tf.shape(image),
        tf.zeros((1, 0, 4)),
        aspect_ratio_range=(3 / 4, 4 / 3),
        area_range=(0.08, 1.0),
        use_image_if_no_bounding_boxes=True,
    )
    image = tf.slice(image, begin, extent)
    image = tf.image.resize(image, (size, size))
    return tf.ensure_shape(
        tf.image.random_flip_left_right(image), (size, size, 3)
    )


def as_it_is(image, size):
    return tf.ensure_shape(tf.cast(image, "float32"), (size, size, 3))


def crop_the_centre(image, size):
    """The middle of the image, whose shorter side is scaled to 8/7 of it."""
    shape = tf.cast(tf.shape(image)[:2], "float32")
    scale = tf.cast(size * 8 // 7, "float32") / tf.reduce_min(shape)
    image = tf.image.resize(image, tf.cast(tf.round(shape * scale), "int32"))
    image = tf.image.resize_with_crop_or_pad(image, size, size)
    return tf.ensure_shape(image, (size, size, 3))
