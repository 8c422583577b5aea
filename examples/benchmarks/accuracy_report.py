"""What `accuracy.py` found, as a table and as plots."""

import collections
import itertools
import operator
import statistics

STEPS = 600
"""Steps of a search, where a row does not name another number."""
COLORS = [f"C{index}" for index in range(10)]


def table(records):
    """Mean and standard deviation over the seeds, as Markdown."""
    rows = _by_method(records)
    columns = _columns(records)
    lines = [
        f"| network | MACs | method | {' | '.join(columns)} | runs |",
        "|---" * (4 + len(columns)) + "|",
    ]
    for (network, share, method), runs in sorted(
        rows.items(), key=lambda row: (row[0][0], -row[0][1])
    ):
        cells = [_cell([x[k] for x in runs if k in x]) for k in columns]
        lines.append(
            f"| {network} | {share:.0%} | {method} | {' | '.join(cells)} | "
            f"{len(runs)} |"
        )
    return "\n".join(lines)


def plot(records, prefix):
    """Draws accuracy over cost, one file per network.

    What was measured at one cost only is left out.

    Args:
        records: Lines of the results file.
        prefix: Path that the files `<prefix>_<network>.png` begin with.
    """
    from matplotlib.figure import Figure

    rows = _by_method(records)
    methods = dict.fromkeys(method for *_, method in rows)
    styles = dict(zip(methods, itertools.product("os^v", COLORS)))
    for network in sorted({network for network, *_ in rows}):
        panels = {x: _lines(rows, network, x) for x in _columns(records)}
        panels = {x: y for x, y in panels.items() if _is_curve(y)}
        if not panels:
            continue
        size = (5 * len(panels) + 3, 4.5)
        figure = Figure(figsize=size, layout="constrained")
        plots = figure.subplots(1, len(panels), squeeze=False)[0]
        for axes, (column, lines) in zip(plots, panels.items()):
            for method, points in lines.items():
                x, y = zip(*sorted(points))
                marker, color = styles[method]
                axes.plot(x, y, color, marker=marker, label=method)
            axes.set_title(column)
            axes.set_xlabel("share of the multiply-accumulates, %")
            axes.set_ylabel("test accuracy, %")
        handles, labels = plots[0].get_legend_handles_labels()
        figure.legend(handles, labels, loc="outside right center", fontsize=8)
        figure.savefig(f"{prefix}_{network}.png", dpi=100)


def _is_curve(lines):
    return any(len(points) > 1 for points in lines.values())


def _lines(rows, network, column):
    """Dict from method to its points, in percent."""
    lines = collections.defaultdict(list)
    for (of_network, share, method), runs in rows.items():
        values = [run[column] for run in runs if column in run]
        if of_network == network and values:
            point = 100 * share, 100 * statistics.mean(values)
            lines[method].append(point)
    return lines


def _by_method(records):
    """Accuracies by network, budget and method: a list with one dict a seed.

    Runs that differ in how they were fine-tuned are one run of the seed.
    """
    rows = collections.defaultdict(lambda: collections.defaultdict(dict))
    for record in records:
        place = record["network"], record["budget"], _label(record)
        rows[place][record["seed"]] |= {
            "recalibrated": record["recalibrated"],
            _recipe(record): record["fine_tuned"],
        }
    return {place: list(runs.values()) for place, runs in rows.items()}


def _recipe(record):
    epochs, rate = record["epochs"], record["learning_rate"]
    name = f"{epochs} epoch{'s' if epochs > 1 else ''} at {rate:g}"
    return f"{name}, teacher" if record["teacher"] else name


def _label(record):
    label = record["method"]
    if record["search_steps"] not in (0, STEPS):
        label += f", {record['search_steps']} steps"
    return label


def _columns(records):
    """What was measured: first without a teacher, and short before long."""
    order = operator.itemgetter("teacher", "epochs", "learning_rate")
    recipes = map(_recipe, sorted(records, key=order))
    return ["recalibrated", *dict.fromkeys(recipes)]


def _cell(values):
    if not values:
        return "-"
    mean = f"{100 * statistics.mean(values):.1f}"
    if len(values) == 1:
        return mean
    return f"{mean} ± {100 * statistics.stdev(values):.1f}"
