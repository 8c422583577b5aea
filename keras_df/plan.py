"""CompressionPlan: which channels stay, which rank each layer gets.

The hinge of the house: searches and baselines make plans, the surgeon
carries them out, and neither knows the other.
"""

import dataclasses
import difflib
import math
import reprlib
from dataclasses import dataclass
from dataclasses import field

from keras_df.budgets.allocation import Selection
from keras_df.budgets.latency import table_of
from keras_df.budgets.model_cost import ModelCost
from keras_df.checks import check_type
from keras_df.checks import shown
from keras_df.files import read_json
from keras_df.files import write_json
from keras_df.graph import analyze
from keras_df.plan_checks import check_channels
from keras_df.plan_checks import check_follows
from keras_df.plan_checks import check_layers
from keras_df.plan_checks import check_numbers
from keras_df.plan_checks import check_rank
from keras_df.plan_checks import costs_entry
from keras_df.plan_checks import entry
from keras_df.plan_checks import texts_entry

VERSION = 1
UNUSED = 0.01
"""Share of the original cost that may be left unused without a note."""


@dataclass(frozen=True)
class LayerPlan:
    """What becomes of one layer.

    Attributes:
        channels: Number of output channels of the original layer.
        kept: Tuple of the output channels that stay, ascending.
        rank: Rank of the layer's low-rank pair, or None if it stays dense.
        max_rank: Largest rank of the original kernel by the scheme of the
            pair, 0 if the layer stays dense.
        scheme: Scheme of the pair (paper, Section 3.2).
    """

    channels: int
    kept: tuple
    rank: int | None = None
    max_rank: int = 0
    scheme: int = 1


@dataclass(frozen=True)
class CompressionPlan:
    """A decision on every layer of a model, as plain data.

    Attributes:
        layers: Dict from the path of each layer with a kernel to its
            `LayerPlan`.
        costs: Dict from `"macs"`, `"flops"` and `"params"` to a tuple of
            integers `(before, after)`, counted on the real layers. A plan
            for a `Latency` budget also has `"latency"`, in microseconds.
        budget: List of strings, the budgets that the plan was made for. After
            "then", shares are of what the plans before it leave.
        notes: List of strings that the summary repeats.

    Example:

    ```python
    plan = keras_df.baselines.magnitude(model, keras_df.FLOPs(0.5))
    plan.save("plan.json")
    small = keras_df.compress(model, keras_df.CompressionPlan.load("plan.json"))
    ```
    """

    layers: dict
    costs: dict
    budget: list = field(default_factory=list)
    notes: list = field(default_factory=list)

    @classmethod
    def from_selection(cls, graph, selection, budgets=(), notes=()):
        """Makes a plan of a `Selection` on a `ChannelGraph`."""
        keep = graph.keep(selection.kept)
        cost = ModelCost(graph, selection.schemes, table_of(budgets))
        limits = dict(zip(cost.paths, cost.limits))
        layers = {}
        for path, node in graph.kernels().items():
            ids = node.kernel.outputs[1]
            layers[path] = LayerPlan(
                channels=len(ids),
                kept=tuple(keep.positions(ids).tolist()),
                rank=selection.ranks.get(path),
                max_rank=int(limits[path]),
                scheme=selection.schemes.get(path, 1),
            )
        after = cost.count_selection(selection)
        costs = {name: (cost.totals[name], after[name]) for name in after}
        notes = [*notes, *_unused(budgets, costs)]
        return cls(layers, costs, [repr(b) for b in budgets], notes)

    def selection(self, graph):
        """Returns the plan as a `Selection` on a model's `ChannelGraph`.

        Raises:
            ValueError: If the plan does not fit the model.
        """
        for path, layer in self.layers.items():
            check_numbers(path, layer)
        check_layers(self.layers, graph.kernels())
        kept = graph.units_kept(
            {path: layer.kept for path, layer in self.layers.items()}
        )
        keep = graph.keep(kept)
        for path, layer in self.layers.items():
            check_channels(path, layer, graph, keep)
        for path, tensors in graph.tensors.items():
            if not all(kept[units].any() for units in tensors):
                raise ValueError(
                    f"The plan removes every channel of layer '{path}'."
                )
        ranks = {
            path: layer.rank
            for path, layer in self.layers.items()
            if layer.rank is not None
        }
        schemes = {path: self.layers[path].scheme for path in ranks}
        for path in ranks:
            check_rank(path, self.layers[path], graph.kernels()[path], keep)
        return Selection(kept, ranks, schemes)

    def then(self, other):
        """Joins this plan and one for the model that it leads to.

        The kernels that a second search finds ranks for may so have been
        fitted, by `compress`, to what the first one left of their inputs.

        Args:
            other: `CompressionPlan` for `compress(model, self)`. This plan
                must not decompose any layer.

        Returns:
            A `CompressionPlan` for the original model, its largest ranks
            those of the kernels that this plan leaves.

        Raises:
            TypeError: If `other` is not a `CompressionPlan`.
            ValueError: If this plan decomposes a layer, or `other` was made
                for another model.

        Example:

        ```python
        pruned = keras_df.compress(model, filters, calibration=train)
        ranks = keras_df.baselines.energy(pruned, keras_df.MACs(0.5))
        small = keras_df.compress(model, filters.then(ranks), calibration=train)
        ```
        """
        check_type("other", other, CompressionPlan, "a `CompressionPlan`")
        check_follows(self.layers, other.layers)
        layers = {}
        for path, layer in self.layers.items():
            later = other.layers[path]
            layers[path] = dataclasses.replace(
                layer,
                kept=tuple(layer.kept[index] for index in later.kept),
                rank=later.rank,
                max_rank=later.max_rank,
                scheme=later.scheme,
            )
        costs = {
            name: (self.costs[name][0], after)
            for name, (_, after) in other.costs.items()
            if name in self.costs
        }
        budget = [*self.budget, *(f"then {text}" for text in other.budget)]
        notes = [f"of the first plan: {note}" for note in self.notes]
        notes += [f"of the second plan: {note}" for note in other.notes]
        return CompressionPlan(layers, costs, budget, notes)

    def validate(self, model):
        """Checks that the plan fits a model.

        Args:
            model: A built Functional or Sequential model.

        Raises:
            ValueError: If it does not, naming the layer.
        """
        self.selection(analyze(model))

    def get_config(self):
        """Returns the plan as a dict of plain values."""
        return {
            "format": "keras_df.CompressionPlan",
            "version": VERSION,
            "budget": list(self.budget),
            "costs": {name: list(pair) for name, pair in self.costs.items()},
            "notes": list(self.notes),
            "layers": {
                path: dataclasses.asdict(layer)
                for path, layer in self.layers.items()
            },
        }

    @classmethod
    def from_config(cls, config):
        """Makes a plan of what `get_config` returned.

        Raises:
            ValueError: If `config` is not a plan of this version.
        """
        if not isinstance(config, dict) or config.get("format") != (
            "keras_df.CompressionPlan"
        ):
            raise ValueError(
                "This is not a compression plan: the entry 'format' is "
                "missing or wrong."
            )
        version = config.get("version")
        if type(version) is not int or version != VERSION:
            raise ValueError(
                f"The plan has version {reprlib.repr(version)}; this "
                f"keras_df reads version {VERSION}. Make the plan anew, or "
                "install the keras_df that wrote it."
            )
        layers = {
            path: _layer_from_config(path, layer)
            for path, layer in entry(config, "layers", dict).items()
        }
        costs = costs_entry(config)
        budget, notes = (
            texts_entry(config, key) for key in ("budget", "notes")
        )
        return cls(layers, costs, budget, notes)

    def save(self, filepath):
        """Writes the plan as JSON.

        Args:
            filepath: Path of the file. It is replaced only once the new one
                is complete.
        """
        write_json(filepath, self.get_config())

    @classmethod
    def load(cls, filepath):
        """Reads a plan that `save` wrote.

        Args:
            filepath: Path of the file.

        Raises:
            ValueError: If the file is no plan, damaged, or of another version.
        """
        return read_json(filepath, cls.from_config)

    def summary(self):
        """Returns the plan as a table."""
        rows = [("layer", "channels", "rank", "scheme")]
        for path, layer in self.layers.items():
            rank = "dense" if layer.rank is None else str(layer.rank)
            rows.append(
                (
                    path,
                    f"{len(layer.kept)} of {layer.channels}",
                    f"{rank} of {layer.max_rank}" if layer.rank else rank,
                    str(layer.scheme) if layer.rank else "",
                )
            )
        widths = [max(len(row[i]) for row in rows) for i in range(4)]
        lines = [
            "  ".join(cell.ljust(width) for cell, width in zip(row, widths))
            for row in rows
        ]
        lines = [line.rstrip() for line in lines]
        lines.insert(1, "-" * max(map(len, lines)))
        lines.append("")
        for name, (before, after) in self.costs.items():
            share = after / before if before else 1.0
            lines.append(f"{name:7}{before:>16,} -> {after:>16,}  {share:7.2%}")
        if self.budget:
            lines.append(f"budget: {', '.join(self.budget)}")
        return "\n".join(lines + [f"note: {note}" for note in self.notes])

    def __str__(self):
        return self.summary()

    def explain(self, layer):
        """Returns what becomes of one layer, in words.

        Args:
            layer: Path of the layer.

        Raises:
            ValueError: If the plan has no such layer.
        """
        check_type("layer", layer, str, "the path of a layer")
        if layer not in self.layers:
            close = difflib.get_close_matches(layer, self.layers, n=3)
            raise ValueError(
                f"The plan has no layer {layer!r}. "
                f"Close matches: {', '.join(close) or 'none'}. Its layers "
                f"are: {', '.join(self.layers)}"
            )
        plan = self.layers[layer]
        gone = plan.channels - len(plan.kept)
        text = f"{layer}: {gone} of {plan.channels} filters go"
        if plan.rank is None:
            return f"{text}; the kernel stays dense."
        return (
            f"{text}; the kernel becomes a pair of rank {plan.rank} (of at "
            f"most {plan.max_rank}), Scheme {plan.scheme}."
        )

    def diff(self, other):
        """Lists where another plan decides differently.

        Args:
            other: `CompressionPlan`.

        Returns:
            Dict from the paths of layers that differ to tuples of two
            `LayerPlan` (None where a plan lacks the layer).
        """
        check_type("other", other, CompressionPlan, "a `CompressionPlan`")
        mine, theirs = self.layers, other.layers
        pairs = {p: (mine.get(p), theirs.get(p)) for p in {**mine, **theirs}}
        return {path: (a, b) for path, (a, b) in pairs.items() if a != b}


def _unused(budgets, costs):
    """Says how much a plan leaves of its tightest budget, if it is much."""
    left = {}
    for budget in budgets:
        before, after = costs[budget.resource]
        limit = min(budget.limit(before), before)
        left[budget.resource] = (limit - after) / max(before, 1)
    tightest = min(left, key=left.get, default=None)
    if tightest is not None and left[tightest] > UNUSED:
        yield (
            f"{left[tightest]:.1%} of the {tightest} that the budget allows "
            "are left unused: no further filter or rank fits, in the steps "
            "that coupled layers and the constraints leave"
        )


def _layer_from_config(path, entry):
    known = {field.name for field in dataclasses.fields(LayerPlan)}
    keys = set(entry) if isinstance(entry, dict) else None
    if keys is None or not {"channels", "kept"} <= keys <= known:
        raise ValueError(
            f"The plan is damaged: layer '{path}' is {shown(entry)}; it must "
            f"have {', '.join(sorted(known))}."
        )
    kept = entry["kept"]
    if isinstance(kept, (list, tuple)):
        kept = tuple(kept)
    layer = LayerPlan(**{**entry, "kept": kept})
    check_numbers(path, layer)
    limit = layer.max_rank or math.inf  # 0 where a plan does not say.
    if layer.rank is not None and not 1 <= layer.rank <= limit:
        raise ValueError(
            f"Layer '{path}' of the plan has rank {layer.rank}; it must be "
            f"between 1 and {limit}, or null for a dense layer."
        )
    return layer
