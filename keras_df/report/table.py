"""The table of a report: one row per layer."""

from html import escape


def rows(changes):
    """One row for each layer with a kernel or MACs, one for all others."""
    shown = [x for x in changes if x.channels or x.macs[0]]
    rest = [x for x in changes if not x.channels and not x.macs[0]]
    found = [_row(layer.name, layer.kind, [layer], layer) for layer in shown]
    if rest:
        kinds = ", ".join(dict.fromkeys(layer.kind for layer in rest))
        found.append(_row(f"{len(rest)} other layers", kinds, rest))
    return "".join(found)


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


def totals(changes):
    """The cells of the last row."""
    return _cell("") + _cell("") + _amounts(changes)


def _cell(text, share=None):
    if share is None:
        return f"<td>{text}</td>"
    return f'<td class="bar" style="--share:{min(share, 1):.3f}">{text}</td>'
