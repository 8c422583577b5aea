"""What a model was trained for: its loss, its metric, its accuracy."""

from dataclasses import dataclass

import keras
import numpy as np

from keras_df.cli.console import UsageError
from keras_df.cli.console import say
from keras_df.graph.outputs import PROBABILITIES
from keras_df.graph.outputs import activation_of
from keras_df.graph.outputs import made_by
from keras_df.graph.walk import graph_of

CROSSENTROPIES = {
    "sparse_categorical_crossentropy": (
        keras.losses.SparseCategoricalCrossentropy
    ),
    "categorical_crossentropy": keras.losses.CategoricalCrossentropy,
    "binary_crossentropy": keras.losses.BinaryCrossentropy,
}
REGRESSIONS = ("mean_squared_error", "mean_absolute_error", "huber")


@dataclass(frozen=True)
class Task:
    """A loss and the metric to report.

    Attributes:
        loss: Name of the loss.
        from_logits: Whether a cross-entropy takes logits.
    """

    loss: str
    from_logits: bool = False

    @property
    def metric(self):
        return self.loss if self.loss in REGRESSIONS else "accuracy"

    def compile(self, model, optimizer):
        """Compiles a model for the task."""
        model.compile(
            optimizer=optimizer,
            loss=self.make_loss(),
            metrics=[self.make_metric()],
        )

    def evaluate(self, model, batches):
        """Returns the metric of a model on batches."""
        self.compile(model, "sgd")
        scores = model.evaluate(batches, verbose=0, return_dict=True)
        return float(scores[self.metric])

    def make_loss(self):
        """Returns the loss, as `Model.compile` takes it."""
        if self.loss in CROSSENTROPIES:
            return CROSSENTROPIES[self.loss](from_logits=self.from_logits)
        return keras.losses.get(self.loss)

    def make_metric(self):
        """Returns the metric, as `Model.compile` takes it."""
        if self.loss in REGRESSIONS:
            function = getattr(keras.losses, self.loss)
            return keras.metrics.MeanMetricWrapper(function, self.loss)
        if self.loss != "binary_crossentropy":
            return self.metric
        threshold = 0.0 if self.from_logits else 0.5
        return keras.metrics.BinaryAccuracy("accuracy", threshold=threshold)


def find_task(args, model, data):
    """Finds the loss from the flags or, without them, from the model.

    Args:
        args: The parsed flags.
        model: `keras.Model` with one output.
        data: `Data`.

    Returns:
        A `Task`.

    Raises:
        UsageError: If the loss has to be named.
        ValueError: If the targets do not fit the model's output.
    """
    output = graph_of(model).outputs[0]
    last, activation = made_by(output), activation_of(output)
    guessed = _guess(model, data, activation)
    loss = args.loss or guessed
    if loss is None:
        raise UsageError(
            f"Say which --loss the model was trained with. It ends in "
            f"'{last.name}', activation '{activation}'; the targets are "
            f"{_describe(data.train.element_spec[1])}."
        )
    from_logits = args.from_logits
    if from_logits is None:
        from_logits = loss in CROSSENTROPIES and activation == "linear"
    task = Task(loss, from_logits)
    if loss == "sparse_categorical_crossentropy":
        _check_labels(model, data)
    say(
        args,
        f"Loss: {loss}, from_logits={from_logits}. The model ends in "
        f"'{last.name}', activation '{activation}'; --loss and "
        "--from_logits say otherwise.",
    )
    return task


def _guess(model, data, activation):
    """Name of the loss that the output and the targets call for, or None."""
    output = tuple(graph_of(model).outputs[0].shape[1:])
    target = data.train.element_spec[1]
    shape = tuple(target.shape[1:])
    is_integer = target.dtype.is_integer or target.dtype.is_bool
    if activation not in ("linear", *PROBABILITIES):
        return None
    if activation == "sigmoid":
        fits = shape == output or (*shape, 1) == output
        return "binary_crossentropy" if fits else None
    if (
        output[-1] > 1
        and is_integer
        and shape
        in (
            output[:-1],
            (*output[:-1], 1),
        )
    ):
        return "sparse_categorical_crossentropy"
    if output[-1] > 1 and shape == output and _is_one_hot(data):
        return "categorical_crossentropy"
    return None


def _is_one_hot(data):
    target = np.asarray(next(iter(data.train))[1])
    return bool(np.all(np.isin(target, (0, 1)))) and bool(
        np.all(target.sum(-1) == 1)
    )


def _check_labels(model, data):
    """Labels count from 0 to the number of outputs less 1."""
    classes = graph_of(model).outputs[0].shape[-1]
    for batches in (data.train.take(8), data.test.take(8)):
        for _, labels in batches:
            labels = np.asarray(labels)
            if labels.min() < 0 or labels.max() >= classes:
                raise ValueError(
                    f"The model has {classes} outputs, so labels must be "
                    f"within 0 and {classes - 1}. The data has labels within "
                    f"{labels.min()} and {labels.max()}."
                )


def _describe(spec):
    return f"of type {spec.dtype.name} and shape {tuple(spec.shape[1:])}"
