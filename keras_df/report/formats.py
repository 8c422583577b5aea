"""How a report writes numbers."""


def short(number):
    """Writes a number with three digits and a prefix: 20263936 -> 20.3 M."""
    for size, prefix in ((1e9, " G"), (1e6, " M"), (1e3, " k")):
        if abs(number) >= 0.9995 * size:
            return f"{number / size:.3g}{prefix}"
    return f"{number:.3g}"


def as_bytes(value):
    return f"{short(value)}B"


def as_milliseconds(value):
    return f"{value:.3g} ms"


def is_share(metric):
    return "accuracy" in metric


def metric_format(metric):
    """How to write a value of a metric: a function."""
    return "{:.2%}".format if is_share(metric) else "{:.4g}".format


def metric_name(metric):
    return metric.replace("_", " ").capitalize()
