"""Plots of a plan. Needs matplotlib (the extra `examples`)."""

import os

from keras_df.checks import check_type
from keras_df.files import check_target
from keras_df.files import replacing
from keras_df.plan import CompressionPlan


def plot_plan(plan: CompressionPlan, filepath: str) -> None:
    """Draws what a plan keeps of each layer.

    Args:
        plan: `CompressionPlan`.
        filepath: Path of the image; its ending names the format, PNG if it
            has none.

    Raises:
        TypeError: If `plan` is not a `CompressionPlan`.
        OSError: If the file cannot be written.
        ImportError: If matplotlib is not installed.

    Example:

    ```python
    keras_df.report.plot_plan(plan, "plan.png")
    ```
    """
    check_type("plan", plan, CompressionPlan, "a `keras_df.CompressionPlan`")
    check_target(filepath)
    try:
        from matplotlib.figure import Figure
    except ImportError as error:
        raise ImportError(
            "Plots need matplotlib: `pip install keras_df[examples]`."
        ) from error
    names = list(plan.layers)
    layers = list(plan.layers.values())
    filters = [len(layer.kept) / layer.channels for layer in layers]
    ranks = [
        layer.rank / layer.max_rank if layer.rank else 1.0 for layer in layers
    ]
    figure = Figure(figsize=(7, 1.2 + 0.32 * len(names)), layout="constrained")
    axes = figure.add_subplot()
    rows = range(len(names))
    axes.barh([r - 0.2 for r in rows], filters, 0.4, label="filters kept")
    axes.barh([r + 0.2 for r in rows], ranks, 0.4, label="rank kept")
    axes.set_yticks(list(rows), names, fontsize=8)
    axes.invert_yaxis()
    axes.set_xlim(0, 1)
    axes.set_xlabel("share of the original (a dense layer keeps its rank)")
    before, after = plan.costs["macs"]
    axes.set_title(f"{after / before:.1%} of the multiply-accumulates remain")
    figure.legend(loc="outside lower center", ncols=2)
    kind = os.path.splitext(os.fspath(filepath))[1][1:] or "png"
    with replacing(filepath) as new:
        figure.savefig(new, format=kind, dpi=120)
