"""Latency: a budget of time, from a table measured on the target."""

import dataclasses
import math
from dataclasses import dataclass
from dataclasses import field

import keras

from keras_df.budgets.budget import Budget
from keras_df.budgets.cost import RESOURCES
from keras_df.budgets.cost import NodeCost
from keras_df.budgets.cost import Rates
from keras_df.checks import check_positive_integer
from keras_df.checks import is_finite_number
from keras_df.checks import shown
from keras_df.files import read_json
from keras_df.files import write_json

LATENCY = "latency"
FORMAT = "keras_df.LatencyTable"
VERSION = 2


@dataclass(frozen=True)
class LatencyTable:
    """How long the layers of a model take, for any channels and ranks.

    Made by `keras_df.export.measure_latency`. All times are microseconds per
    sample. An operator's time is a function of its channel counts with four
    coefficients (`Rates`), fitted to what was measured.

    Attributes:
        kernels: Dict from the path of a layer with a kernel to a dict: under
            `"dense"` the four coefficients of its operator, under each
            scheme's number (a string) those of the pair's two operators.
        operators: Dict from the path of another layer that multiplies, such
            as a depthwise convolution, to its time per multiply-accumulate.
        per_flop: Time per FLOP of everything else.
        fixed: Time that no layer accounts for.
        tile: Number of output channels that the runtime computes together.
        networks: List of `(measured, predicted)` times of whole networks: the
            model itself, and compressed ones.
        macs: Dict from the path of a layer that can be decomposed to its
            multiply-accumulates per pair of an input and an output channel,
            which tell for what size of input the table was measured. Where a
            layer has no entry, any size is taken.

    Example:

    ```python
    table = keras_df.export.measure_latency(model, "latency.json")
    table = keras_df.LatencyTable.load("latency.json")
    plan = keras_df.baselines.magnitude(model, keras_df.Latency(0.5, table))
    ```
    """

    kernels: dict
    operators: dict
    per_flop: float
    fixed: float
    tile: int
    networks: list = field(default_factory=list)
    macs: dict = field(default_factory=dict)

    def add_to(self, costs):
        """Returns `NodeCost`s of the table's model with latency added.

        Args:
            costs: List of `NodeCost`.

        Raises:
            ValueError: If the table was measured for another model, or for
                inputs of another size, or lacks a scheme.
        """
        self._check_fit([cost for cost in costs if cost.outputs is not None])
        rest = {name: [] for name in RESOURCES} | {
            LATENCY: [(self.fixed, None)]
        }
        overhead = NodeCost("", None, None, {}, {}, rest, {})
        return [*map(self._with_latency, costs), overhead]

    def _check_fit(self, costs):
        paths = {cost.path for cost in costs}
        if paths != set(self.kernels):
            raise ValueError(
                "The latency table was measured for another model. It lacks "
                f"the layers: {', '.join(paths - set(self.kernels)) or 'none'}"
                "; the model lacks the layers: "
                f"{', '.join(set(self.kernels) - paths) or 'none'}."
            )
        for cost in costs:
            lacking = set(map(str, cost.pairs)) - set(self.kernels[cost.path])
            if lacking:
                raise ValueError(
                    f"The latency table has no times for layer '{cost.path}' "
                    f"as a pair of Scheme {min(lacking)}. "
                    "`keras_df.export.measure_latency` makes one that has."
                )
            here = cost.dense["macs"].product
            there = self.macs.get(cost.path, here)
            if there != here:
                raise ValueError(
                    "The latency table was measured for inputs of another "
                    f"size: layer '{cost.path}' has {here:,} multiply-"
                    "accumulates per pair of channels, in the table "
                    f"{there:,}. `keras_df.export.measure_latency` makes one."
                )

    def _with_latency(self, cost):
        linear = cost.linear | {LATENCY: list(self._beside_kernel(cost))}
        if cost.outputs is None:
            return dataclasses.replace(cost, linear=linear)
        known = self.kernels[cost.path]
        pairs = {
            scheme: resources
            | {LATENCY: tuple(map(self._rates, known[str(scheme)]))}
            for scheme, resources in cost.pairs.items()
        }
        dense = cost.dense | {LATENCY: self._rates(known["dense"])}
        return dataclasses.replace(
            cost, dense=dense, pairs=pairs, linear=linear
        )

    def _rates(self, coefficients):
        return Rates(*coefficients, tile=self.tile)

    def _beside_kernel(self, cost):
        per_mac = self.operators.get(cost.path, 0.0)
        # FLOPs that are not two per multiply-accumulate.
        for amount, ids in cost.linear["flops"]:
            yield self.per_flop * amount, ids
        for amount, ids in cost.linear["macs"]:
            yield (per_mac - 2 * self.per_flop) * amount, ids

    def get_config(self):
        """Returns the table as a dict of plain values."""
        config = dataclasses.asdict(self)
        return {"format": FORMAT, "version": VERSION, **config}

    @classmethod
    def from_config(cls, config):
        """Makes a table of what `get_config` returned.

        Raises:
            ValueError: If `config` is not a table of this version.
        """
        config = dict(config) if isinstance(config, dict) else {}
        kind, version = config.pop("format", None), config.pop("version", None)
        if (kind, version) != (FORMAT, VERSION):
            raise ValueError(
                f"This is not a latency table of version {VERSION}. "
                "`keras_df.export.measure_latency` makes one."
            )
        try:
            table = cls(**config)
        except TypeError as error:
            raise ValueError(f"The table is damaged: {error}.") from error
        _check_table(table)
        return table

    def save(self, filepath):
        """Writes the table as JSON, replacing the file once complete.

        Args:
            filepath: Path of the file.
        """
        write_json(filepath, self.get_config())

    @classmethod
    def load(cls, filepath):
        """Reads a table that `save` wrote.

        Args:
            filepath: Path of the file.

        Raises:
            ValueError: If the file is no table, or damaged.
        """
        return read_json(filepath, cls.from_config)


@keras.saving.register_keras_serializable(package="keras_df")
class Latency(Budget):
    """A budget of time per sample on the machine that a table describes.

    Args:
        target: Number. At most 1: the share of the original's latency that
            may remain. Above 1: milliseconds.
        table: `LatencyTable` of the model.

    Example:

    ```python
    table = keras_df.export.measure_latency(model)
    search = keras_df.SearchModel(model, keras_df.Latency(0.6, table))
    ```
    """

    resource = LATENCY

    def __init__(self, target, table):
        super().__init__(target)
        if not isinstance(table, LatencyTable):
            raise TypeError(
                "`Latency` needs a `keras_df.LatencyTable` of the model; "
                "`keras_df.export.measure_latency(model)` makes one. "
                f"Received: table={shown(table)}"
            )
        self.table = table

    def limit(self, total):
        """Returns the most microseconds allowed, an integer.

        Args:
            total: Microseconds that the original model takes.
        """
        if self.target <= 1:
            return super().limit(total)
        return math.floor(1000 * self.target)

    def get_config(self):
        return {"target": self.target, "table": self.table.get_config()}

    @classmethod
    def from_config(cls, config):
        table = LatencyTable.from_config(config["table"])
        return cls(config["target"], table)


def table_of(budgets):
    """Returns the latency table that budgets share, None if they need none.

    Raises:
        ValueError: If they come with different tables.
    """
    tables = [x.table for x in budgets if isinstance(x, Latency)]
    if any(table != tables[0] for table in tables):
        raise ValueError(
            "The `Latency` budgets have different tables. Search for one "
            "target at a time."
        )
    return tables[0] if tables else None


def _check_table(table):
    check_positive_integer("tile", table.tile)
    for name, kind in (
        ("kernels", dict),
        ("operators", dict),
        ("networks", list),
        ("macs", dict),
    ):
        if not isinstance(getattr(table, name), kind):
            _refuse(name, getattr(table, name))
    for path, known in table.kernels.items():
        if not isinstance(known, dict) or "dense" not in known:
            _refuse(path, known)
        for key, times in known.items():
            operators = [times] if key == "dense" else times
            count = 1 if key == "dense" else 2
            if not isinstance(operators, (list, tuple)):
                _refuse(path, times)
            if len(operators) != count or not all(map(_is_rates, operators)):
                _refuse(path, times)
    rates = {"per_flop": table.per_flop, "fixed": table.fixed}
    for numbers in (rates, table.operators, table.macs):
        for name, number in numbers.items():
            if not is_finite_number(number):
                _refuse(name, number)


def _is_rates(times):
    """Whether these are the four coefficients of an operator's time."""
    return (
        isinstance(times, (list, tuple))
        and len(times) == 4
        and all(map(is_finite_number, times))
    )


def _refuse(name, value):
    raise ValueError(
        f"The table is damaged: its entry '{name}' is {shown(value)}. "
        "`keras_df.export.measure_latency` makes one."
    )
