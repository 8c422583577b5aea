"""calibrate_ranges: the quantization ranges of a model from tfmot."""

import numpy as np

from keras_df.calibration import take_batches

_ENDS = ("_min:0", "_max:0")
_NAMES = tuple(
    f"{tensor}{end}"
    for tensor in ("pre_activation", "post_activation", "output")
    for end in _ENDS
)
# The moving averages of tfmot move by this share of the way in a step.
_MOTION = 0.001


def calibrate_ranges(model, data, steps: int = 12):
    """Sets the ranges of a quantization-aware model to those of data.

    tfmot starts the range of every activation at [-6, 6] and moves it by a
    thousandth of the way per training step, so it takes thousands of steps
    until a range fits; what lies outside is cut off until then. This
    calculates from each step where the range was headed, and sets it there.
    Every step corrects the layers that the one before has fed wrongly, so
    `steps` should not be much smaller than the depth of what lies outside
    [-6, 6].

    Args:
        model: `tf_keras.Model` that `tfmot.quantization.keras.quantize_apply`
            returned. Its ranges are changed, and no other weight.
        data: Training data, as `Model.fit` takes it; targets are ignored.
        steps: Number of batches to read. The ranges become the mean of the
            last half.

    Raises:
        ValueError: If the model has no ranges, or `data` is empty.

    Example:

    ```python
    aware = tfmot.quantization.keras.quantize_apply(annotated)
    keras_df.interop.calibrate_ranges(aware, train)
    aware.compile(...)
    aware.fit(train, epochs=1)
    ```
    """
    import tensorflow as tf

    ranges = [x for x in model.weights if x.name.endswith(_NAMES)]
    if not ranges:
        raise ValueError(
            "The model has no ranges to calibrate. Pass what "
            "`tfmot.quantization.keras.quantize_apply` returns."
        )
    # Ranges of inputs and kernels are those of the last batch as they are.
    others = [x for x in model.weights if not x.name.endswith(_ENDS)]
    before = [x.numpy() for x in others]

    @tf.function
    def run(inputs):
        model(inputs, training=True)

    batches = take_batches(data, steps)
    found = []
    for batch in batches:
        start = [x.numpy() for x in ranges]
        run(batch)
        found.append(
            [a + (x.numpy() - a) / _MOTION for a, x in zip(start, ranges)]
        )
        _assign(ranges, found[-1])
    _assign(ranges, np.mean(found[len(found) // 2 :], axis=0))
    _assign(others, before)


def _assign(variables, values):
    for variable, value in zip(variables, values):
        variable.assign(value)
