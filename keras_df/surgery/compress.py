"""compress: a model and a plan -> an ordinary, smaller Keras model."""

import keras

from keras_df.calibration import as_fit_reads
from keras_df.calibration import flat_inputs
from keras_df.calibration import second_moments
from keras_df.calibration import take_batches
from keras_df.checks import check_choice
from keras_df.checks import check_positive_integer
from keras_df.checks import check_type
from keras_df.graph import analyze
from keras_df.graph.scales import output_scales
from keras_df.graph.weights import check_weights
from keras_df.plan import CompressionPlan
from keras_df.surgery.reconstruction import Reconstruction
from keras_df.surgery.surgeon import Surgeon

_RECONSTRUCTIONS = ("sequential", "independent")


def compress(
    model: keras.Model,
    plan: CompressionPlan,
    calibration=None,
    steps: int = 12,
    reconstruction: str = "sequential",
) -> keras.Model:
    """Carries out a plan on a model.

    Filters that the plan removes are cut out of every layer that writes or
    reads them, and kernels that it decomposes become two layers,
    `<name>_lowrank_in` (numbered if the model has that name already) and
    `<name>_lowrank_out`; the second of a pair that makes an output of the
    model keeps the name of the layer, and so that of the output. A pair has
    the regularizers of the kernel that it replaces, and none of its
    constraints.

    Args:
        model: A built Functional or Sequential model. It is not modified.
        plan: `CompressionPlan` made for this model.
        calibration: Optional training data, as `Model.fit` takes it (targets
            are ignored). With it, kernels are chosen so that the error is
            smallest on these inputs, and after the BatchNormalization that
            follows; without it, they are sliced, and decomposed so that the
            kernels' own error is smallest.
        steps: Number of batches of `calibration` to read, of arrays from all
            over them.
        reconstruction: How kernels are chosen with `calibration`.
            `"sequential"` fits each, in order of execution, to what the
            original layer writes, given what the compressed layers before it
            write; BatchNormalization statistics follow. It fits `Conv2D`
            without groups and at most 4096 weights per filter, `Dense`, and
            `SeparableConv2D`, where they are called once; other kernels are
            chosen as by `"independent"`, which only decomposes, given what
            the original layers write.

    Returns:
        A `keras.Model` of stock Keras layers with the weights of `model`, not
        compiled. Nested models stay nested.

    Raises:
        TypeError: If `plan` is not a `CompressionPlan`.
        ValueError: If the plan does not fit the model, `reconstruction` is
            unknown, or `model` or `calibration` holds values that are not
            finite.

    Example:

    ```python
    plan = keras_df.baselines.magnitude(model, keras_df.FLOPs(0.5))
    small = keras_df.compress(model, plan)
    small.save("small.keras")
    ```

    Reference: the last paragraph of Section 5.1.3 of the paper. Sequential
    reconstruction is due to Zhang et al., Accelerating very deep
    convolutional networks for classification and detection, 2015.
    """
    check_type(
        "plan",
        plan,
        CompressionPlan,
        "a `keras_df.CompressionPlan`; `CompressionPlan.load` reads one",
    )
    check_positive_integer("steps", steps)
    check_choice("reconstruction", reconstruction, _RECONSTRUCTIONS)
    graph = analyze(model)
    check_weights(graph)
    surgeon = Surgeon(graph, plan.selection(graph))
    if calibration is None:
        small = surgeon.rebuild(model)
        _decompose(surgeon, graph, {}, {})
        return small
    batches = take_batches(as_fit_reads(model, calibration), steps)
    scales = output_scales(graph)
    moments = second_moments(model, batches, surgeon.selection.ranks)
    small = surgeon.rebuild(model)
    _decompose(surgeon, graph, moments, scales)
    if reconstruction == "sequential":
        inputs = [flat_inputs(model, batch) for batch in batches]
        Reconstruction(surgeon, graph, scales).run(model, inputs)
    return small


def _decompose(surgeon, graph, moments, scales):
    """Sets the kernels of every pair, each layer by itself."""
    for path in surgeon.selection.ranks:
        node = graph.nodes[path]
        surgeon.set_matrix(
            node,
            surgeon.matrix(node),
            surgeon.kept_moment(node, moments.get(path)),
            surgeon.kept_scale(node, scales.get(path)),
        )
