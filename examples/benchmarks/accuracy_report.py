"""What `accuracy.py` found, as a table and as plots."""

import collections
import operator
import statistics

STEPS = 600
"""Steps of a search, where a row does not name another number."""


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

    Args:
        records: Lines of the results file.
        prefix: Path that the files `<prefix>_<network>.png` begin with.
    """
    from matplotlib.figure import Figure

    rows = _by_method(records)
    columns = _columns(records)
    methods = dict.fromkeys(method for *_, method in rows)
    colors = {method: f"C{index}" for index, method in enumerate(methods)}
    for network in sorted({network for network, *_ in rows}):
        figure = Figure(figsize=(5 * len(columns), 4.5), layout="constrained")
        plots = figure.subplots(1, len(columns), squeeze=False)[0]
        for axes, column in zip(plots, columns):
            for method, points in _lines(rows, network, column).items():
                x, y = zip(*sorted(points))
                axes.plot(x, y, colors[method], marker="o", label=method)
            axes.set_title(column)
            axes.set_xlabel("share of the multiply-accumulates, %")
            axes.set_ylabel("test accuracy, %")
        handles, labels = plots[0].get_legend_handles_labels()
        figure.legend(handles, labels, loc="outside lower center", fontsize=8)
        figure.savefig(f"{prefix}_{network}.png", dpi=100)


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
