"""fine_tune: the training that a compressed model needs, with a teacher."""

import contextlib
import math

import keras
import numpy as np

from keras_df.calibration import batch_count
from keras_df.checks import check_positive_integer
from keras_df.checks import check_type
from keras_df.checks import is_finite_number
from keras_df.checks import shown
from keras_df.surgery.distilled import Distilled
from keras_df.surgery.matching import match_outputs

WARM_UP = 0.05


def fine_tune(
    model: keras.Model,
    data,
    loss,
    epochs: int = 5,
    learning_rate: float = 0.02,
    teacher: keras.Model | None = None,
    distillation=None,
    metrics=None,
    **fit_options,
) -> keras.callbacks.History:
    """Fine-tunes a compressed model by a recipe that suits most networks.

    Stochastic gradient descent with Nesterov momentum; the learning rate
    rises over the first 5 % of the steps and then falls to zero along a
    cosine. With a teacher, usually the model before it was compressed, the
    model also learns to give the teacher's outputs, which costs a forward
    pass of the teacher per step.

    This is `compile` and `fit` of stock Keras, and no more: where a network
    was trained by another optimizer, compile and fit it as you did then. After
    a short fine-tuning, `recalibrate` once more: with a momentum of 0.99, the
    averages of BatchNormalization lag hundreds of steps behind.

    Args:
        model: A compressed model, recalibrated. It is compiled and trained in
            place; compile it again to train it further.
        data: Training data, as `Model.fit` takes it; arrays as a tuple
            `(x, y)` or `(x, y, sample_weight)`.
        loss: Loss, as `Model.compile` takes it.
        epochs: Number of epochs.
        learning_rate: The largest learning rate, of all layers. A decomposed
            network takes a smaller one than it was trained with: a step
            moves the product of a pair along a singular vector by twice its
            singular value times what it would move one kernel.
        teacher: Optional model with the inputs and outputs of `model`. It is
            not modified.
        distillation: How to compare outputs with the teacher's: a
            `keras.distillation.DistillationLoss`, by default the mean
            squared error of every output, for a softmax or a sigmoid that of
            the logits. It has half of the weight, `loss` the other half.
            `LogitsDistillation` takes logits only, and needs its loss as an
            object, `LogitsDistillation(4.0, keras.losses.KLDivergence())`:
            given by name, as by default, Keras 3.15 does not turn logits
            into probabilities.
        metrics: Metrics, as `Model.compile` takes them.
        **fit_options: Further arguments of `Model.fit`, such as
            `validation_data`. An endless data set needs `steps_per_epoch`.
            With a teacher, a `ModelCheckpoint` has to save whole models, of
            which it keeps `model` alone: weights alone are saved with the
            teacher's.

    Returns:
        The `History` that `fit` returns.

    Raises:
        FloatingPointError: If the loss became NaN or infinite. The weights
            are lost then; `compress` makes them anew.
        TypeError: If `model` or `teacher` is not a `keras.Model`, or
            `distillation` not a loss of that kind.
        ValueError: If the number of steps is unknown or 0, a number is not
            positive, `teacher` has other inputs or outputs than `model`, one
            of both ends in probabilities and `distillation` is not given, or
            `distillation` is given without a teacher or compares layers
            inside the models.

    Example:

    ```python
    small = keras_df.compress(model, plan)
    keras_df.recalibrate(small, train)
    keras_df.fine_tune(
        small, train, "sparse_categorical_crossentropy", teacher=model
    )
    ```

    Reference: Hinton et al., Distilling the knowledge in a neural network,
    2015; Kim et al., Comparing Kullback-Leibler divergence and mean squared
    error loss in knowledge distillation, 2021.
    """
    _check(model, teacher, distillation, epochs, learning_rate)
    first = fit_options.get("initial_epoch") or 0
    steps = max(epochs - first, 0) * _steps_per_epoch(data, fit_options)
    if steps == 0:
        raise ValueError(
            "The data set is empty, or `initial_epoch` is not below `epochs`: "
            f"nothing is left to train on. Received: data={data!r}, "
            f"epochs={epochs}, initial_epoch={first}"
        )
    # Both share the optimizer, so that `model` ends compiled either way.
    optimizer = _optimizer(learning_rate, steps)
    trained = model
    if teacher is not None:
        distillation = distillation or match_outputs(model, teacher)
        trained = Distilled(model, teacher, distillation)
        trained.compile(optimizer, loss, metrics=metrics)
        optimizer = trained.optimizer
    model.compile(optimizer, loss, metrics=metrics)
    x, y, sample_weight = keras.utils.unpack_x_y_sample_weight(data)
    with _unharmed(teacher):
        history = trained.fit(
            x, y, sample_weight=sample_weight, epochs=epochs, **fit_options
        )
    _check_finite(history, learning_rate)
    return history


def _optimizer(learning_rate, steps):
    warm_up = int(WARM_UP * steps)
    schedule = keras.optimizers.schedules.CosineDecay(
        0.0 if warm_up else learning_rate,
        steps - warm_up,
        warmup_target=learning_rate if warm_up else None,
        warmup_steps=warm_up,
    )
    return keras.optimizers.SGD(schedule, momentum=0.9, nesterov=True)


@contextlib.contextmanager
def _unharmed(teacher):
    """Gives a teacher back the values that a step that fails leaves it without.

    JAX trains on the values of all variables, and Keras has none meanwhile.
    """
    variables = teacher.variables if teacher is not None else []
    values = [np.array(keras.ops.convert_to_numpy(x)) for x in variables]
    try:
        yield
    except BaseException:
        for variable, value in zip(variables, values):
            variable.assign(value)
        raise


def _steps_per_epoch(data, options):
    sizes = options.get("batch_size"), options.get("validation_split")
    steps = options.get("steps_per_epoch") or batch_count(data, *sizes)
    if steps is None:
        raise ValueError(
            "The data set does not say how many batches it has. Pass "
            f"`steps_per_epoch`. Received: data={data!r}"
        )
    return steps


def _check_finite(history, learning_rate):
    losses = history.history.get("loss", [])
    if not all(map(math.isfinite, losses)):
        raise FloatingPointError(
            f"The fine-tuning diverged: the loss of its epochs is {losses}. "
            "Compress the model anew, and lower `learning_rate` or scale the "
            f"targets to about 1. Received: learning_rate={learning_rate}"
        )


def _check(model, teacher, distillation, epochs, learning_rate):
    for name, value in (("model", model), ("teacher", teacher or model)):
        check_type(name, value, keras.Model, "a `keras.Model`")
    check_positive_integer("epochs", epochs)
    if not is_finite_number(learning_rate) or learning_rate <= 0:
        raise ValueError(
            "`learning_rate` must be a positive number. Received: "
            f"learning_rate={shown(learning_rate)}"
        )
    if teacher is None and distillation is not None:
        raise ValueError(
            "`distillation` compares with a teacher: pass the original model "
            "as `teacher`. Received: teacher=None"
        )
    _check_distillation(distillation)


def _check_distillation(distillation):
    kind = keras.distillation.DistillationLoss
    wanted = "a `keras.distillation.DistillationLoss`"
    check_type("distillation", distillation, kind, wanted, optional=True)
    names = (
        getattr(distillation, f"{whose}_layer_name", None)
        for whose in ("teacher", "student")
    )
    if any(names):
        raise ValueError(
            "`distillation` must compare outputs of whole models. Received a "
            f"{type(distillation).__name__} of layers inside; "
            "`keras.distillation.Distiller` trains with that."
        )
