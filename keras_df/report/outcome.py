"""Outcome: what was measured before and after a compression."""

import math
import numbers
from dataclasses import asdict
from dataclasses import dataclass
from dataclasses import field

from keras_df.checks import check_type
from keras_df.export.latency import Timing
from keras_df.files import read_json
from keras_df.files import write_json

FORMAT = "keras_df.Outcome"
VERSION = 1
_NUMBER = (numbers.Real, type(None))


@dataclass(frozen=True)
class Outcome:
    """What was measured before and after a compression.

    Every part is optional. Where a part is a dict from labels, the first
    entry is the original model and the last one what came out.

    Attributes:
        accuracy: Dict from labels to the value of `metric`, a number.
        latency: Dict from labels to `keras_df.export.Timing`.
        size: Dict from labels to file sizes in bytes.
        history: Dict from names of metrics to lists of values during the
            search: `History.history`, or that of a `SearchRecorder`.
        metric: Name of what `accuracy` holds. A name that contains
            "accuracy" is shown in percent.

    Raises:
        TypeError: If a part holds something else.

    Example:

    ```python
    before, after = keras_df.export.benchmark("big.tflite", "small.tflite")
    outcome = keras_df.report.Outcome(
        accuracy={"original": 0.921, "compressed": 0.918},
        latency={"original": before, "compressed": after},
        history=search.fit(train, epochs=4).history,
    )
    ```
    """

    accuracy: dict = field(default_factory=dict)
    latency: dict = field(default_factory=dict)
    size: dict = field(default_factory=dict)
    history: dict = field(default_factory=dict)
    metric: str = "accuracy"

    def __post_init__(self):
        timing = "`keras_df.export.Timing`"
        _check("accuracy", self.accuracy, numbers.Real, "a number")
        _check("latency", self.latency, Timing, timing)
        _check("size", self.size, numbers.Real, "a number of bytes")
        _check("history", self.history, (list, tuple), "a list of numbers")
        for name, values in self.history.items():
            steps = dict(enumerate(values))
            _check(f"history[{name!r}]", steps, _NUMBER, "a number or None")

    def get_config(self):
        """Returns the outcome as a dict of plain values."""
        return {
            "format": FORMAT,
            "version": VERSION,
            "metric": self.metric,
            "accuracy": {k: _finite(x) for k, x in self.accuracy.items()},
            "latency": {k: asdict(x) for k, x in self.latency.items()},
            "size": {k: int(x) for k, x in self.size.items()},
            "history": {
                name: [_finite(x) for x in values]
                for name, values in self.history.items()
            },
        }

    @classmethod
    def from_config(cls, config):
        """Makes an outcome of what `get_config` returned.

        Raises:
            ValueError: If `config` is not an outcome of this version.
        """
        config = dict(config) if isinstance(config, dict) else {}
        kind, version = config.pop("format", None), config.pop("version", None)
        if (kind, version) != (FORMAT, VERSION):
            raise ValueError(f"This is not an outcome of version {VERSION}.")
        try:
            latency = config.pop("latency")
            accuracy = config.pop("accuracy")
            return cls(
                accuracy={
                    label: math.nan if value is None else value
                    for label, value in accuracy.items()
                },
                latency={k: Timing(**x) for k, x in latency.items()},
                **config,
            )
        except (TypeError, KeyError, AttributeError) as error:
            raise ValueError(f"The outcome is damaged: {error}.") from error

    def save(self, filepath):
        """Writes the outcome as JSON, replacing the file once complete.

        Args:
            filepath: Path of the file.
        """
        write_json(filepath, self.get_config())

    @classmethod
    def load(cls, filepath):
        """Reads an outcome that `save` wrote.

        Args:
            filepath: Path of the file.

        Raises:
            ValueError: If the file is no outcome, or damaged.
        """
        return read_json(filepath, cls.from_config)


def _check(name, values, kinds, what):
    check_type(name, values, dict, "a dict")
    for label, value in values.items():
        if not isinstance(value, kinds):
            raise TypeError(
                f"`{name}` must hold {what} for each entry. Received: "
                f"{value!r} for {label!r} (of type {type(value)})"
            )


def _finite(value):
    """JSON has no NaN: what is not finite becomes None."""
    if value is None or not math.isfinite(value):
        return None
    return float(value)
