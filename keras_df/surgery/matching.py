"""How far the outputs of a model are from those of its teacher."""

import keras
from keras import ops
from keras import tree
from keras.distillation import FeatureDistillation

from keras_df.graph.outputs import activation_of
from keras_df.graph.outputs import made_by
from keras_df.graph.walk import graph_of
from keras_df.graph.walk import is_graph


def match_outputs(model, teacher):
    """The mean squared error of every output, of probabilities in logits.

    Probabilities differ little where logits differ much: with a thousand
    classes, their squared error would teach next to nothing.

    Args:
        model: A Functional or Sequential model.
        teacher: A model whose outputs mean the same.

    Returns:
        A `keras.distillation.DistillationLoss`.

    Raises:
        ValueError: If one has probabilities where the other has none.

    Reference: Kim et al., Comparing Kullback-Leibler divergence and mean
    squared error loss in knowledge distillation, 2021.
    """
    if is_graph(teacher):
        pairs = zip(graph_of(model).outputs, graph_of(teacher).outputs)
        for index, (output, other) in enumerate(pairs):
            _check_alike(index, activation_of(output), activation_of(other))
    outputs = graph_of(model).output
    if isinstance(outputs, (list, tuple)) and len(outputs) == 1:
        outputs = outputs[0]  # So does Keras when it calls the model.
    return FeatureDistillation(tree.map_structure(_error_of, outputs))


def _check_alike(index, learned, taught):
    if learned != taught and {learned, taught} & set(_LOGITS):
        raise ValueError(
            f"Output {index} of `teacher` ends in '{taught}', that of `model` "
            f"in '{learned}', so their squared error means nothing. Say how "
            "to compare them by `distillation`, or give both one activation."
        )


def _error_of(output):
    logits = _LOGITS.get(activation_of(output))
    if logits is None:
        return keras.losses.MeanSquaredError()
    axis = getattr(made_by(output), "axis", -1)

    return _ErrorOfLogits(logits, axis)


class _ErrorOfLogits(keras.losses.MeanSquaredError):
    """A `Loss`, so that Keras divides it by the number of replicas."""

    def __init__(self, logits, axis):
        super().__init__()
        self._logits, self._axis = logits, axis

    def call(self, y_true, y_pred):
        taught, learned = (
            self._logits(x, self._axis) for x in (y_true, y_pred)
        )
        return super().call(taught, learned)


def _logits_of_classes(probabilities, axis):
    """Logits up to their mean, which a softmax does not keep."""
    logits = _log(probabilities)
    return logits - ops.mean(logits, axis, keepdims=True)


def _logits_of_events(probabilities, axis):
    del axis  # Events do not exclude each other.
    return _log(probabilities) - _log(1 - probabilities)


def _log(probabilities):
    # In float32, because half precision rounds small probabilities to zero.
    probabilities = ops.cast(probabilities, "float32")
    return ops.log(probabilities + keras.config.epsilon())


# Activation that makes probabilities -> function that takes logits back.
_LOGITS = {"softmax": _logits_of_classes, "sigmoid": _logits_of_events}
