"""Distilled: a model that learns from data and from a teacher."""

import keras
from keras import ops
from keras import tree

from keras_df.graph.walk import graph_of


class Distilled(keras.Model):
    """Trains a model on the mean of its loss and a distillation loss.

    The losses of `keras.distillation` are used, its `Distiller` is not: that
    one ignores sample weights, loss weights and regularizers, takes no dict of
    metrics, and freezes the teacher for good.

    Args:
        student: The Functional or Sequential model to train.
        teacher: A model of the same inputs and outputs, not modified.
        distillation: `keras.distillation.DistillationLoss`. Sample weights do
            not weigh it.
    """

    def __init__(self, student, teacher, distillation):
        super().__init__(
            name=f"{student.name}_distilled", dtype=student.dtype_policy
        )
        self.autocast = False  # The first layer may compute in float32.
        _check_tensors("inputs", student, teacher)
        _check_tensors("outputs", student, teacher)
        distillation.validate_model_compatibility(teacher, student)
        self.student = student
        self.teacher = teacher
        self.distillation = distillation
        self.output_names = graph_of(student).output_names
        self.built = True

    @property
    def trainable_variables(self):
        """Those of the student; the teacher's flags are not touched."""
        return self.student.trainable_variables

    @property
    def trainable_weights(self):
        return self.trainable_variables

    @property
    def non_trainable_variables(self):
        known = {id(variable) for variable in self.trainable_variables}
        return [x for x in self.variables if id(x) not in known]

    @property
    def non_trainable_weights(self):
        return self.non_trainable_variables

    @property
    def losses(self):
        """Regularizers of the student: the teacher's would change nothing."""
        return self.student.losses

    def call(self, inputs, training=None):
        return self.student(inputs, training=training)

    def compute_loss(
        self, x=None, y=None, y_pred=None, sample_weight=None, training=True
    ):
        own = super().compute_loss(x, y, y_pred, sample_weight, training)
        if not training:  # Validation is about the data alone.
            return own
        taught = tree.map_structure(
            ops.stop_gradient, self.teacher(x, training=False)
        )
        self.distillation.validate_outputs(taught, y_pred)
        return (own + self.distillation.compute_loss(taught, y_pred)) / 2

    def save(self, *args, **kwargs):
        """Saves the student: what a `ModelCheckpoint` is meant to keep."""
        return self.student.save(*args, **kwargs)


def _check_tensors(name, student, teacher):
    given = getattr(teacher, name, None)
    if given is None:  # A subclassed teacher says so when it is called.
        return
    shapes = [
        [tuple(x.shape) for x in y] for y in (given, getattr(student, name))
    ]
    if len(shapes[0]) != len(shapes[1]) or not all(map(_fit, *shapes)):
        raise ValueError(
            f"`teacher` must have the {name} of `model`. Received: a teacher "
            f"with {name} of shapes {shapes[0]}, a model with {name} of shapes "
            f"{shapes[1]}"
        )


def _fit(first, second):
    return len(first) == len(second) and all(
        a == b or None in (a, b) for a, b in zip(first, second)
    )
