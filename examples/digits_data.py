"""scikit-learn's handwritten digits as if they were photographs."""

import numpy as np
import tensorflow as tf
from sklearn.datasets import load_digits
from sklearn.model_selection import train_test_split

BATCH = 64


def load_data(image_size=32):
    """Loads 1,797 digits, enlarged.

    Args:
        image_size: Width and height of the images.

    Returns:
        Images to train and to test on, of shape `(n, size, size, 3)`, float32
        in 0-255, and their labels: `x, x_test, y, y_test`.
    """
    images, labels = load_digits(return_X_y=True)
    images = images.reshape(-1, 8, 8, 1).astype("float32") * 255 / 16
    images = tf.image.resize(images, (image_size, image_size)).numpy()
    return train_test_split(
        np.repeat(images, 3, axis=-1),
        labels,
        test_size=0.25,
        random_state=0,
        stratify=labels,
    )


def batches(x, y):
    """Endless shuffled batches."""
    data = tf.data.Dataset.from_tensor_slices((x, y))
    return data.shuffle(len(x)).repeat().batch(BATCH).prefetch(2)
