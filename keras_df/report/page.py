"""html: one page on a compression, that opens anywhere."""

from html import escape
from importlib import resources
from string import Template

import keras

from keras_df.budgets.cost import RESOURCES
from keras_df.budgets.latency import LATENCY
from keras_df.checks import check_type
from keras_df.files import replacing
from keras_df.plan import CompressionPlan
from keras_df.report.charts import bar_chart
from keras_df.report.charts import column_chart
from keras_df.report.charts import line_chart
from keras_df.report.formats import as_bytes
from keras_df.report.formats import as_milliseconds
from keras_df.report.formats import is_share
from keras_df.report.formats import metric_format
from keras_df.report.formats import metric_name
from keras_df.report.formats import short
from keras_df.report.layers import layer_changes
from keras_df.report.outcome import Outcome
from keras_df.report.table import rows
from keras_df.report.table import totals
from keras_df.report.tiles import tiles
from keras_df.version import __version__

MASKS = {"masks_settled": "near 0 or 1", "masks": "mean mask"}
RANKS = {"ranks": "soft rank, share of the largest"}
"""Metrics of a search -> labels of their curves."""


def html(
    model: keras.Model,
    plan: CompressionPlan,
    filepath: str,
    outcome: Outcome | None = None,
) -> None:
    """Writes a report on a compression as one HTML file.

    It shows what the model costs before and after, what becomes of each
    layer and, where `outcome` has them, latency, accuracy and the curves of
    the search. The file refers to nothing outside itself.

    Args:
        model: The original model, which the plan was made for.
        plan: `CompressionPlan`.
        filepath: Path of the file. It is replaced only once the new one is
            complete.
        outcome: `keras_df.report.Outcome`, what was measured.

    Raises:
        TypeError: If an argument is of the wrong type.
        ValueError: If the plan does not fit the model.

    Example:

    ```python
    recorder = keras_df.report.SearchRecorder()
    search.fit(train, epochs=2, callbacks=[recorder])
    plan = search.plan()
    outcome = keras_df.report.Outcome(history=recorder.history)
    keras_df.report.html(model, plan, "report.html", outcome)
    ```
    """
    check_type("plan", plan, CompressionPlan, "a `keras_df.CompressionPlan`")
    outcome = Outcome() if outcome is None else outcome
    check_type("outcome", outcome, Outcome, "a `keras_df.report.Outcome`")
    content = render(model, plan, outcome)
    with replacing(filepath) as new, open(new, "w", encoding="utf-8") as file:
        file.write(content)


def render(model, plan, outcome):
    """Returns the page as a string."""
    changes = layer_changes(model, plan)
    template = resources.files("keras_df.report").joinpath("template.html")
    return Template(template.read_text(encoding="utf-8")).substitute(
        title=escape(f"{model.name}, compressed"),
        name=escape(model.name),
        budget=escape(", ".join(plan.budget) or "no budget"),
        summary=_summary(plan),
        tiles="".join(tiles(plan, outcome)),
        notes="".join(f"<li>{escape(note)}</li>" for note in plan.notes),
        measured=_measured(outcome),
        search=_search(plan, outcome.history),
        chart=column_chart(
            "Multiply-accumulates, layer by layer",
            [x.name for x in changes if x.macs[0]],
            [x.macs[0] for x in changes if x.macs[0]],
            [x.macs[1] for x in changes if x.macs[0]],
            short,
        ),
        rows=rows(changes),
        totals=totals(changes),
        version=escape(__version__),
    )


def _share(value):
    return f"{value:.0%}"


def _summary(plan):
    layers = plan.layers.values()
    filters = sum(layer.channels for layer in layers)
    gone = filters - sum(len(layer.kept) for layer in layers)
    pairs = sum(layer.rank is not None for layer in layers)
    return (
        f"{gone:,} of {filters:,} filters are removed, {pairs:,} of "
        f"{len(layers):,} kernels become low-rank pairs."
    )


def _measured(outcome):
    """Latency, accuracy and file size, side by side."""
    latency = [
        (
            label,
            x.median,
            as_milliseconds(x.median),
            f"{x.low:.3g} to {x.high:.3g}",
        )
        for label, x in outcome.latency.items()
    ]
    show = metric_format(outcome.metric)
    scores = [(k, x, show(x), "") for k, x in outcome.accuracy.items()]
    sizes = [(k, x, as_bytes(x), "") for k, x in outcome.size.items()]
    charts = {
        "Latency": latency,
        metric_name(outcome.metric): scores,
        "File size": sizes,
    }
    body = "".join(bar_chart(k, bars) for k, bars in charts.items() if bars)
    return _section("measured", "What was measured", body, "pair")


def _search(plan, history):
    """The curves of the search."""
    history = dict(history)
    steps = history.pop("step", None)
    length = max(map(len, history.values()), default=0)
    x = list(steps) if steps else list(range(1, length + 1))
    if len(x) < 2:
        return ""
    # Within an epoch, Keras shows the mean of all steps so far.
    x_name, mean = ("step", ", mean of the epoch so far")
    if not steps:
        x_name, mean = ("epoch", "")
    known = {k: y for k, y in history.items() if len(y) == len(x)}

    def chart(title, labels, show=_share, ceiling=1.0, mark=None):
        series = {labels[k]: known[k] for k in labels if k in known}
        if not series:
            return ""
        return line_chart(title, x_name, x, series, show, ceiling, mark)

    def metric(name):
        labels = {name: f"{name}{mean}", f"val_{name}": f"{name}, validation"}
        if is_share(name):
            return chart(metric_name(name), labels)
        return chart(metric_name(name), labels, "{:.3g}".format, None)

    costs = [name for name in (*RESOURCES, LATENCY) if name in known]
    shown = {"loss", *costs, *MASKS, *RANKS}
    others = [k for k in known if k not in shown and not k.startswith("val_")]
    charts = [
        chart(
            "Budget, share of the original",
            dict(zip(costs, costs)),
            mark=_mark(plan, costs),
        ),
        metric("loss"),
        chart("Masks settling", MASKS),
        chart("Ranks falling", RANKS),
        *map(metric, others),
    ]
    return _section("search", "The search", "".join(charts), "curves")


def _mark(plan, costs):
    """Where the plan leaves the first cost that it knows, and a label."""
    for name in costs:
        if name in plan.costs:
            before, after = plan.costs[name]
            share = after / max(before, 1)
            return share, f"plan, {name} {share:.1%}"
    return None


def _section(name, title, body, kind):
    if not body:
        return ""
    return (
        f'<section aria-labelledby="{name}"><h2 id="{name}">{title}</h2>'
        f'<div class="{kind}">{body}</div></section>'
    )
