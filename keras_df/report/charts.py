"""Charts as fragments of HTML: SVG draws, text stays text.

An SVG stretches to the width that a screen has. Its text would stretch with
it, so labels are HTML beside it.
"""

import math
from html import escape

SIZE = 100
"""Width and height of an SVG's own coordinates."""
MOST_POINTS = 600
"""Number of points from which a curve is thinned out."""


def line_chart(title, x_name, x, series, show, ceiling=None, mark=None):
    """Draws curves over the steps or epochs of a search.

    Args:
        title: String, the caption.
        x_name: What `x` counts, such as `"step"`.
        x: List of numbers, ascending, at least two.
        series: Dict from labels to lists with one number, or None, per entry
            of `x`.
        show: Function from a value to the string that labels it.
        ceiling: Top of the vertical axis; by default the largest value.
        mark: Optional tuple of a value and its label, for a dashed line.

    Returns:
        String of HTML.
    """
    values = [y for curve in series.values() for y in curve if _is_finite(y)]
    top = max(values, default=1.0) if ceiling is None else ceiling
    floor = min([0.0, *values])
    top = max(top, floor + 1e-12)

    def height(value):
        return SIZE * (1 - (value - floor) / (top - floor))

    lines = [
        _polyline(f"line s{number}", x, curve, height)
        for number, curve in enumerate(series.values())
    ]
    keys = [_key(f"s{number}", label) for number, label in enumerate(series)]
    if mark is not None:
        y = height(mark[0])
        lines.append(f'<path class="line mark" d="M0 {y:.2f}H{SIZE}"/>')
        keys.append(_key("mark", mark[1]))
    ends = ", ".join(
        f"{label} from {show(found[0])} to {show(found[-1])}"
        for label, curve in series.items()
        if (found := [y for y in curve if _is_finite(y)])
    )
    ticks = [show(floor + share * (top - floor)) for share in (1, 0.5, 0)]
    x_labels = [f"{x_name} {place:,.0f}" for place in (x[0], x[-1])]
    grid = f'<path class="grid" d="M0 0H{SIZE}M0 50H{SIZE}M0 100H{SIZE}"/>'
    summary = f"{title}: {ends}"
    return _figure(title, keys, summary, ticks, x_labels, [grid, *lines])


def column_chart(title, names, before, after, show):
    """Draws two columns per layer, one in front of the other.

    Args:
        title: String, the caption.
        names: List of the layers' names.
        before: List of numbers, what each layer was.
        after: List of numbers, what is left of it.
        show: Function from a number to the string that labels it.

    Returns:
        String of HTML.
    """
    top = max([*before, *after, 1])
    slot = SIZE / max(len(names), 1)
    columns = []
    for index, (name, old, new) in enumerate(zip(names, before, after)):
        tip = escape(f"{name}: {show(old)} → {show(new)}")
        columns.append(
            f"<g><title>{tip}</title>"
            + _column("old", index * slot, slot, SIZE * old / top)
            + _column("new", index * slot, slot, SIZE * new / top)
            + "</g>"
        )
    keys = [_key("old", "before"), _key("new", "after")]
    ticks = [show(top), show(top / 2), show(0)]
    grid = f'<path class="grid" d="M0 0H{SIZE}M0 50H{SIZE}M0 100H{SIZE}"/>'
    x_labels = [names[0], names[-1]] if names else []
    summary = f"{title}: {show(sum(before))} before, {show(sum(after))} after"
    return _figure(title, keys, summary, ticks, x_labels, [grid, *columns])


def bar_chart(title, rows):
    """Draws one bar per row, from 0 to the largest.

    Args:
        title: String, the caption.
        rows: List of tuples of a label, a number, the string that shows it
            and a string of what else there is to say.

    Returns:
        String of HTML.
    """
    top = max([x for _, x, *_ in rows if _is_finite(x)] + [1e-12])
    body = "".join(
        f'<tr><th scope="row">{escape(label)}</th>'
        f'<td class="bar" style="--share:{_clipped(value / top)}">'
        f"<span></span></td><td>{escape(text)}{_small(detail)}</td></tr>"
        for label, value, text, detail in rows
    )
    return (
        f'<div><table class="bars"><caption>{escape(title)}</caption>'
        f"<tbody>{body}</tbody></table></div>"
    )


def _small(text):
    return f"<small>{escape(text)}</small>" if text else ""


def _figure(title, keys, summary, ticks, x_labels, shapes):
    ticks = "".join(f"<span>{escape(tick)}</span>" for tick in ticks)
    labels = "".join(f"<span>{escape(str(label))}</span>" for label in x_labels)
    return (
        f'<figure><figcaption>{escape(title)}<span class="keys">'
        f'{"".join(keys)}</span></figcaption><div class="plot">'
        f'<div class="y" aria-hidden="true">{ticks}</div>'
        f'<svg viewBox="0 0 {SIZE} {SIZE}" preserveAspectRatio="none" '
        f'role="img" aria-label="{escape(summary)}">{"".join(shapes)}</svg>'
        f'<div class="x" aria-hidden="true">{labels}</div></div></figure>'
    )


def _key(kind, label):
    return f'<span class="key"><i class="{kind}"></i>{escape(label)}</span>'


def _column(kind, left, slot, height):
    x, width = left + 0.1 * slot, 0.8 * slot
    return (
        f'<rect class="{kind}" x="{x:.3f}" y="{SIZE - height:.3f}" '
        f'width="{width:.3f}" height="{height:.3f}"/>'
    )


def _polyline(kind, x, curve, height):
    """A curve, broken where a value is missing."""
    span = max(x[-1] - x[0], 1e-12)
    stride = -(-len(x) // MOST_POINTS)
    chosen = [*range(0, len(x) - 1, stride), len(x) - 1]
    path, pen = [], "M"
    for index in chosen:
        if not _is_finite(curve[index]):
            pen = "M"
            continue
        place = SIZE * (x[index] - x[0]) / span
        path.append(f"{pen}{place:.2f} {height(curve[index]):.2f}")
        pen = "L"
    return f'<path class="{kind}" d="{"".join(path)}"/>'


def _clipped(share):
    share = share if _is_finite(share) else 0.0
    return f"{min(max(share, 0.0), 1.0):.3f}"


def _is_finite(value):
    return value is not None and math.isfinite(value)
