"""Comparing an exported file with the Keras model it was made of."""

import importlib.util

import keras
import numpy as np
from keras import tree

from keras_df.graph.analysis import UNKNOWN_SIZE
from keras_df.graph.walk import graph_of

BATCH = 4
SHORT = 32
"""Unknown size of what is no image, such as the length of a sequence."""


def require_tensorflow(what):
    """Raises RuntimeError unless Keras runs on TensorFlow."""
    backend = keras.config.backend()
    if backend != "tensorflow":
        raise RuntimeError(
            f"{what} needs the TensorFlow backend; Keras is running on "
            f"'{backend}'. Save the model as `.keras`, and load and export it "
            "in a process with KERAS_BACKEND=tensorflow."
        )


def require_packages(what, packages, extra):
    """Raises ImportError unless the packages of an extra are installed."""
    missing = [x for x in packages if importlib.util.find_spec(x) is None]
    if missing:
        raise ImportError(
            f"{what} needs the packages {', '.join(missing)}: "
            f"`pip install keras_df[{extra}]`."
        )


def example_inputs(model, batch_size=BATCH):
    """Makes random inputs for a model.

    Args:
        model: `keras.Model`. Unknown sizes beside the batch become 224 in
            images, 32 elsewhere.
        batch_size: Number of samples, where an input has no fixed one.

    Returns:
        List of arrays, one per input: floats in [0, 1), integers 0 and 1,
        empty strings.
    """
    rng = np.random.default_rng(0)
    arrays = []
    for tensor in graph_of(model).inputs:
        shape = tensor.shape[1:]
        # Deep networks leave nothing of a small image.
        unknown = UNKNOWN_SIZE if len(shape) == 3 else SHORT
        shape = [unknown if size is None else size for size in shape]
        shape = (tensor.shape[0] or batch_size, *shape)
        if tensor.dtype == "string":
            arrays.append(np.full(shape, "", object))
        elif "int" in tensor.dtype:
            # Any vocabulary has them, and not all of a text is padding.
            array = rng.integers(0, 2, shape)
            array[:, :1] = 1
            arrays.append(array.astype(tensor.dtype))
        else:
            arrays.append(rng.uniform(size=shape).astype(tensor.dtype))
    return arrays


def expected_outputs(model, inputs):
    """Runs a Keras model in inference mode on a list of arrays."""
    struct = tree.pack_sequence_as(graph_of(model).input, inputs)
    with keras.StatelessScope():  # A recurrent layer may keep its state.
        outputs = model(struct, training=False)
    return [keras.ops.convert_to_numpy(x) for x in tree.flatten(outputs)]


def max_difference(expected, actual):
    """Largest absolute difference, and the largest absolute value.

    Outputs are paired by shape where an exporter has reordered them.
    """
    if len(expected) != len(actual):
        raise ValueError(
            f"The exported model has {len(actual)} outputs; Keras has "
            f"{len(expected)}."
        )
    actual = list(actual)
    worst, scale = 0.0, 0.0
    for wanted in expected:
        fitting = [x for x in actual if x.shape == wanted.shape]
        if not fitting:
            shapes = [x.shape for x in actual]
            raise ValueError(
                f"No exported output has the shape {wanted.shape}; theirs are "
                f"{shapes}."
            )
        differences = [
            float(np.max(np.abs(x.astype(float) - wanted), initial=0.0))
            for x in fitting
        ]
        best = int(np.argmin(differences))
        # Unlike `max`, it passes a NaN on.
        worst = float(np.maximum(worst, differences[best]))
        scale = max(scale, float(np.max(np.abs(wanted), initial=0.0)))
        position = next(i for i, x in enumerate(actual) if x is fitting[best])
        del actual[position]
    return worst, scale


def check(expected, actual, tolerance, what):
    """Raises RuntimeError unless exported outputs agree with Keras.

    Args:
        expected: List of arrays, the outputs of Keras.
        actual: List of arrays, the outputs of the exported model.
        tolerance: Largest difference, as a share of the largest output or of
            1, whichever is larger.
        what: Name of the exported file, for the message.

    Returns:
        The largest absolute difference.
    """
    if not all(np.isfinite(x).all() for x in expected):
        raise RuntimeError(
            f"{what} cannot be compared with the Keras model, whose own "
            "outputs are NaN or infinite: look for weights that are, as after "
            "a training that diverged. Nothing was written."
        )
    worst, scale = max_difference(expected, actual)
    if not worst <= tolerance * max(scale, 1.0):
        raise RuntimeError(
            f"{what} does not compute what the Keras model computes: the "
            f"largest difference is {worst:.3g}, outputs reach {scale:.3g}, "
            f"and at most {tolerance * max(scale, 1.0):.3g} is allowed. "
            "Nothing was written."
        )
    return worst
