"""The headline of a report: one tile per number."""

from html import escape

from keras_df.report.formats import as_bytes
from keras_df.report.formats import as_milliseconds
from keras_df.report.formats import is_share
from keras_df.report.formats import metric_format
from keras_df.report.formats import metric_name
from keras_df.report.formats import short

_OPPOSITES = {"fewer": "more", "smaller": "larger", "faster": "slower"}


def tiles(plan, outcome):
    """Yields a fragment of HTML for each number, before and after."""
    costs = plan.costs
    yield _ratio_tile("MACs", costs["macs"], short, "fewer")
    yield _ratio_tile("FLOPs", costs["flops"], short, "fewer")
    yield _ratio_tile("Parameters", costs["params"], short, "fewer")
    size = _ends(outcome.size)
    if size:
        yield _ratio_tile("File size", size, as_bytes, "smaller")
    latency = _ends({k: x.median for k, x in outcome.latency.items()})
    if latency:
        yield _ratio_tile("Latency", latency, as_milliseconds, "faster")
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
    show, difference = metric_format(metric), values[1] - values[0]
    change = f"{difference:+.3g}"
    if is_share(metric):
        change = f"{100 * difference:+.2f} points"
    change = change.replace("-", "\N{MINUS SIGN}")
    return _tile(metric_name(metric), values, show, change, "same")


def _tile(label, values, show, change, kind):
    before, after = values
    return (
        f'<div class="tile"><dt>{escape(label)}</dt>'
        f"<dd><b>{escape(show(after))}</b>"
        f'<span class="{kind}">{escape(change)}</span>'
        f"<small>from {escape(show(before))}</small></dd></div>"
    )
