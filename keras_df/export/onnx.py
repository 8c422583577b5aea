"""onnx: an ONNX file."""

import os

import keras
import numpy as np
from keras import tree

from keras_df.export.portable import at_inference
from keras_df.export.portable import in_float32
from keras_df.export.portable import is_reduced
from keras_df.export.portable import without_constants
from keras_df.export.verification import check
from keras_df.export.verification import example_inputs
from keras_df.export.verification import expected_outputs
from keras_df.export.verification import require_packages
from keras_df.export.verification import require_tensorflow
from keras_df.files import replacing
from keras_df.graph.walk import graph_of

TOLERANCE = 1e-4
# Where Keras itself computes in 16 bits.
REDUCED_TOLERANCE = 2e-2
_PACKAGES = ("onnx", "onnxruntime", "tf2onnx")


def onnx(
    model: keras.Model, filepath: str, opset_version: int | None = None
) -> float:
    """Writes a model as an ONNX file, once ONNX Runtime has verified it.

    `keras.Model.export` makes the file; it computes in float32 and takes
    batches of any size.

    Args:
        model: `keras.Model`. It is not modified.
        filepath: Path of the file, ending in `.onnx`.
        opset_version: Version of the ONNX operators, None for the default of
            `tf2onnx`.

    Returns:
        Float, the largest absolute difference from the outputs of Keras.

    Raises:
        ImportError: If a package of the extra `keras_df[onnx]` is missing.
        TypeError: If `model` is not a `keras.Model`.
        ValueError: If `filepath` does not end in `.onnx`, or `model` is
            subclassed or not built.
        RuntimeError: If the file does not compute what the model computes, or
            if Keras does not run on TensorFlow. No file is written then.

    Example:

    ```python
    keras_df.export.onnx(small, "small.onnx")
    ```
    """
    require_tensorflow("Exporting to ONNX")
    filepath = os.fspath(filepath)
    if not filepath.endswith(".onnx"):
        raise ValueError(
            f"`filepath` must end in '.onnx'. Received: filepath={filepath}"
        )
    require_packages("Exporting to ONNX", _PACKAGES, "onnx")
    _add_erfc()
    signature = tree.map_structure(
        lambda x: keras.InputSpec(shape=x.shape, dtype=x.dtype, name=x.name),
        graph_of(model).input,
    )
    with replacing(filepath) as new:
        at_inference(without_constants(in_float32(model))).export(
            new,
            format="onnx",
            input_signature=[signature],
            opset_version=opset_version,
            verbose=False,
        )
        return _verify(model, new)


def _add_erfc():
    """Lets `tf2onnx` convert the exact GELU, whose operator it lacks."""
    from tf2onnx import constants
    from tf2onnx import utils
    from tf2onnx.handler import tf_op

    opsets = tf_op.get_opsets().get(constants.ONNX_DOMAIN, ())
    if any("Erfc" in known for known in opsets):
        return

    @tf_op("Erfc")
    class Erfc:
        @classmethod
        def version_9(cls, ctx, node, **kwargs):
            del kwargs
            inputs, outputs = node.input, node.output
            kind = ctx.get_dtype(outputs[0])
            types = {"shapes": [ctx.get_shape(outputs[0])], "dtypes": [kind]}
            ctx.remove_node(node.name)
            one = np.array(1, utils.map_onnx_to_numpy_type(kind))
            one = ctx.make_const(utils.make_name("one"), one)
            erf = ctx.make_node("Erf", inputs, **types)
            ctx.make_node(
                "Sub",
                [one.output[0], erf.output[0]],
                outputs=outputs,
                name=node.name,
                **types,
            )


def _session(path):
    import onnxruntime

    try:
        return onnxruntime.InferenceSession(
            path, providers=["CPUExecutionProvider"]
        )
    except Exception as error:  # Its classes have no base of their own.
        raise RuntimeError(
            f"ONNX Runtime cannot read the ONNX file: {error} Nothing was "
            "written."
        ) from error


def _verify(model, path):
    session = _session(path)
    arrays = example_inputs(model)
    names = [tensor.name for tensor in graph_of(model).inputs]
    wanted = [detail.name for detail in session.get_inputs()]
    if sorted(wanted) != sorted(names):
        raise RuntimeError(
            f"The ONNX file takes the inputs {wanted}; those of the Keras "
            f"model are {names}. A layer may hold tensors that are not its "
            "weights. Nothing was written."
        )
    actual = session.run(None, dict(zip(names, arrays)))
    expected = expected_outputs(model, arrays)
    tolerance = REDUCED_TOLERANCE if is_reduced(model) else TOLERANCE
    return check(
        expected, [np.asarray(x) for x in actual], tolerance, "The ONNX file"
    )
