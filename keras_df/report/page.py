"""html: one page on a compression, that opens anywhere."""

from html import escape
from importlib import resources
from string import Template

import keras

from keras_df.budgets.cost import RESOURCES
from keras_df.budgets.latency import LATENCY
from keras_df.files import replacing
from keras_df.plan import CompressionPlan
from keras_df.report.charts import bar_chart
from keras_df.report.charts import column_chart
from keras_df.report.charts import line_chart
from keras_df.report.layers import layer_changes
from keras_df.report.outcome import Outcome
from keras_df.version import __version__

_OPPOSITES = {"fewer": "more", "smaller": "larger", "faster": "slower"}


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
    if not isinstance(plan, CompressionPlan):
        raise TypeError(
            "`plan` must be a `keras_df.CompressionPlan`. Received: "
            f"{plan!r} (of type {type(plan)})"
        )
    outcome = Outcome() if outcome is None else outcome
    if not isinstance(outcome, Outcome):
        raise TypeError(
            "`outcome` must be a `keras_df.report.Outcome`. Received: "
            f"{outcome!r} (of type {type(outcome)})"
        )
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
        tiles="".join(_tiles(plan, outcome)),
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
        rows=_rows(changes),
        totals=_totals(changes),
        version=escape(__version__),
    )


def short(number):
    """Writes a number with three digits and a prefix: 20263936 -> 20.3 M."""
    for size, prefix in ((1e9, " G"), (1e6, " M"), (1e3, " k")):
        if abs(number) >= 0.9995 * size:
            return f"{number / size:.3g}{prefix}"
    return f"{number:.3g}"


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


def _tiles(plan, outcome):
    costs = plan.costs
    yield _ratio_tile("MACs", costs["macs"], short, "fewer")
    yield _ratio_tile("FLOPs", costs["flops"], short, "fewer")
    yield _ratio_tile("Parameters", costs["params"], short, "fewer")
    size = _ends(outcome.size)
    if size:
        yield _ratio_tile("File size", size, _bytes, "smaller")
    latency = _ends({k: x.median for k, x in outcome.latency.items()})
    if latency:
        yield _ratio_tile("Latency", latency, _milliseconds, "faster")
    scores = _ends(outcome.accuracy)
    if scores:
        yield _score_tile(outcome.metric, scores)


def _ends(values):
    """The original's value and the final one, None if there are not two."""
    found = list(values.values())
    return (found[0], found[-1]) if len(found) > 1 else None


def _ratio_tile(label, values, show, word):
    before, after = values
    if not before or not after:
        return _tile(label, values, show, "", "same")
    if after <= before:
        return _tile(
            label, values, show, f"{before / after:.2f}× {word}", "better"
        )
    change = f"{after / before:.2f}× {_OPPOSITES[word]}"
    return _tile(label, values, show, change, "same")


def _score_tile(metric, values):
    show, difference = _score(metric), values[1] - values[0]
    change = f"{difference:+.3g}"
    if _is_share(metric):
        change = f"{100 * difference:+.2f} points"
    change = change.replace("-", "\N{MINUS SIGN}")
    return _tile(_metric_name(metric), values, show, change, "same")


def _tile(label, values, show, change, kind):
    before, after = values
    return (
        f'<div class="tile"><dt>{escape(label)}</dt>'
        f"<dd><b>{escape(show(after))}</b>"
        f'<span class="{kind}">{escape(change)}</span>'
        f"<small>from {escape(show(before))}</small></dd></div>"
    )


def _bytes(value):
    return f"{short(value)}B"


def _milliseconds(value):
    return f"{value:.3g} ms"


def _is_share(metric):
    return "accuracy" in metric


def _score(metric):
    """How to write a value of a metric: a function."""
    return "{:.2%}".format if _is_share(metric) else "{:.4g}".format


def _metric_name(metric):
    return metric.replace("_", " ").capitalize()


def _measured(outcome):
    """Latency and accuracy, side by side."""
    charts = []
    if outcome.latency:
        rows = [
            (label, x.median, f"{x.median:.3g} ms ({x.low:.3g}–{x.high:.3g})")
            for label, x in outcome.latency.items()
        ]
        charts.append(bar_chart("Latency", rows))
    if outcome.accuracy:
        show = _score(outcome.metric)
        rows = [(k, x, show(x)) for k, x in outcome.accuracy.items()]
        charts.append(bar_chart(_metric_name(outcome.metric), rows))
    if outcome.size:
        rows = [(k, x, _bytes(x)) for k, x in outcome.size.items()]
        charts.append(bar_chart("File size", rows))
    return _section("measured", "What was measured", "".join(charts), "pair")


def _search(plan, history):
    """The curves of the search."""
    history = dict(history)
    steps = history.pop("step", None)
    length = max(map(len, history.values()), default=0)
    x = list(steps) if steps else list(range(1, length + 1))
    if len(x) < 2:
        return ""
    x_name = "step" if steps else "epoch"
    known = {k: y for k, y in history.items() if len(y) == len(x)}

    def chart(title, labels, show=_share, ceiling=1.0, mark=None):
        series = {labels[k]: known[k] for k in labels if k in known}
        if not series:
            return ""
        return line_chart(title, x_name, x, series, show, ceiling, mark)

    costs = {name: name for name in (*RESOURCES, LATENCY) if name in known}
    mark = None
    if costs:
        before, after = plan.costs[next(iter(costs))]
        mark = (after / max(before, 1), f"plan, {after / max(before, 1):.1%}")
    charts = [
        chart("Budget, share of the original", costs, mark=mark),
        chart("Loss", {"loss": "loss"}, lambda y: f"{y:.3g}", None),
        chart(
            "Masks settling",
            {"masks_settled": "near 0 or 1", "masks": "mean mask"},
        ),
        chart("Ranks falling", {"ranks": "soft rank, share of the largest"}),
        chart("Accuracy during the search", {"accuracy": "accuracy"}),
    ]
    return _section("search", "The search", "".join(charts), "curves")


def _section(name, title, body, kind):
    if not body:
        return ""
    return (
        f'<section aria-labelledby="{name}"><h2 id="{name}">{title}</h2>'
        f'<div class="{kind}">{body}</div></section>'
    )


def _rows(changes):
    """One row for each layer with a kernel or MACs, one for all others."""
    shown = [x for x in changes if x.channels or x.macs[0]]
    rest = [x for x in changes if not x.channels and not x.macs[0]]
    rows = [_row(layer.name, layer.kind, [layer], layer) for layer in shown]
    if rest:
        kinds = ", ".join(dict.fromkeys(layer.kind for layer in rest))
        rows.append(_row(f"{len(rest)} other layers", kinds, rest))
    return "".join(rows)


def _row(name, kind, layers, one=None):
    return (
        f'<tr><th scope="row">{escape(name)}<small>{escape(kind)}</small></th>'
        f"{_decision(one)}{_amounts(layers)}</tr>"
    )


def _decision(layer):
    """Cells of the channels and the rank."""
    if layer is None or not layer.channels:
        return _cell("") + _cell("")
    channels = _cell(
        f"{layer.kept} of {layer.channels}", layer.kept / layer.channels
    )
    if layer.rank is None:
        return channels + _cell("dense")
    rank = f"{layer.rank} of {layer.max_rank}"
    return channels + _cell(rank, layer.rank / layer.max_rank)


def _amounts(layers):
    """Cells of the MACs, what is kept of them, and the parameters."""
    (old, new), params = (
        [sum(getattr(x, name)[i] for x in layers) for i in (0, 1)]
        for name in ("macs", "params")
    )
    kept = _cell(f"{new / old:.1%}", new / old) if old else _cell("")
    return f"{_cell(f'{old:,}')}{_cell(f'{new:,}')}{kept}" + "".join(
        _cell(f"{x:,}") for x in params
    )


def _totals(changes):
    return _cell("") + _cell("") + _amounts(changes)


def _cell(text, share=None):
    if share is None:
        return f"<td>{text}</td>"
    return f'<td class="bar" style="--share:{min(share, 1):.3f}">{text}</td>'
