"""What a plan has to respect beside its budget."""

import dataclasses
import fnmatch
import math
import numbers
from dataclasses import dataclass
from dataclasses import field

import keras
import numpy as np

from keras_df.budgets.schemes import cheapest_scheme


@keras.saving.register_keras_serializable(package="keras_df")
@dataclass(frozen=True)
class Constraints:
    """Hard guarantees of a plan.

    A layer is named by its path, its name, a pattern with `*` and `?`, its
    class, or a function of the layer that returns True.

    Args:
        prune: Whether filters may be removed.
        decompose: Whether kernels may be split into low-rank pairs.
        scheme: 1 or 2, the matricization of decomposed kernels (paper,
            Section 3.2), or `"best"`, for each layer the one that is cheaper
            at equal error; or a dict from layers to one of these, layers not
            named using Scheme 1. Layers without a second scheme use Scheme 1.
        round_to: Positive integer. Kept channels and ranks are multiples of
            it, or the layer's full width. Of a layer whose filters form
            several groups of coupled ones, each group keeps a multiple.
        min_channels: Smallest number of channels that a layer keeps.
        floors: Dict from layers to the smallest share of their channels and
            of their rank that remains, in `[0, 1]`.
        caps: Dict from layers to the largest share of their channels and of
            their rank that remains, in `(0, 1]`. A floor wins over a cap.
        skip: Layers that keep all their filters and stay dense. Their inputs
            may still shrink with the layers before them.

    Raises:
        ValueError: If a value is out of range.

    Example:

    ```python
    constraints = keras_df.Constraints(round_to=8, skip=["block1_*"])
    search = keras_df.SearchModel(
        model, keras_df.FLOPs(0.5), constraints=constraints
    )
    ```
    """

    prune: bool = True
    decompose: bool = True
    scheme: int | str | dict = 1
    round_to: int = 1
    min_channels: int = 1
    floors: dict = field(default_factory=dict)
    caps: dict = field(default_factory=dict)
    skip: tuple = ()

    def __post_init__(self):
        single = isinstance(self.skip, str) or callable(self.skip)
        skip = (self.skip,) if single else tuple(self.skip)
        object.__setattr__(self, "skip", skip)
        if not (self.prune or self.decompose):
            raise ValueError(
                "With `prune=False` and `decompose=False` nothing can be "
                "compressed. Allow at least one of them."
            )
        for name in ("round_to", "min_channels"):
            value = getattr(self, name)
            if type(value) is not int or value < 1:
                raise ValueError(
                    f"`{name}` must be a positive integer. Received: "
                    f"{name}={value!r}"
                )
        schemes = [self.scheme]
        if isinstance(self.scheme, dict):
            schemes = self.scheme.values()
        for scheme in schemes:
            if scheme not in (1, 2, "best"):
                raise ValueError(
                    "`scheme` must be 1, 2 or 'best'. Received: "
                    f"scheme={scheme!r}"
                )
        for name in ("floors", "caps"):
            for layer, share in getattr(self, name).items():
                if not _is_share(share) or (name == "caps" and not share):
                    raise ValueError(
                        f"`{name}` holds shares between 0 and 1. Received: "
                        f"{share!r} for layer {layer!r}"
                    )

    def get_config(self):
        return dataclasses.asdict(self)

    @classmethod
    def from_config(cls, config):
        return cls(**config)

    def check(self, graph):
        """Raises ValueError if a named layer does not exist in `graph`."""
        names = [*self.skip, *self.floors, *self.caps]
        if isinstance(self.scheme, dict):
            names += self.scheme
        for name in names:
            if not any(matches(name, node) for node in graph.nodes.values()):
                raise ValueError(
                    f"The constraints name {name!r}, which matches no layer "
                    f"of the model. Its layers are: {', '.join(graph.nodes)}"
                )

    def skips(self, node):
        """Tells whether a `Node` is to be left alone."""
        return any(matches(name, node) for name in self.skip)

    def scheme_of(self, node):
        """Returns the scheme of a `Node`'s pair, None if it stays dense."""
        if not self.decompose or self.skips(node) or not node.kernel.schemes:
            return None
        wanted = self.scheme
        if isinstance(wanted, dict):
            wanted = next(
                (s for name, s in wanted.items() if matches(name, node)), 1
            )
        if wanted == "best":
            return cheapest_scheme(node)
        return wanted if wanted in node.kernel.schemes else 1

    def share_range(self, node):
        """Returns the smallest and largest share that a `Node` keeps."""
        floor = [s for n, s in self.floors.items() if matches(n, node)]
        cap = [s for n, s in self.caps.items() if matches(n, node)]
        return max(floor, default=0.0), min(cap, default=1.0)

    def steps(self, size, low, high, minimum, whole=True):
        """Lists the counts that a dimension may keep.

        Args:
            size: Full size of the dimension.
            low: Smallest share that remains.
            high: Largest share that remains.
            minimum: Smallest count that remains.
            whole: Whether the dimension is all of a layer's. If not, it stays
                at its full size only where no multiple is allowed.

        Returns:
            Ascending integer array, never empty.
        """
        counts = np.arange(self.round_to, size, self.round_to)
        counts = np.append(counts, size)
        least = min(max(math.ceil(low * size), minimum), size)
        allowed = counts[(counts >= least) & (counts <= high * size)]
        if not whole and len(allowed) > 1 and allowed[-1] % self.round_to:
            return allowed[:-1]
        if len(allowed):
            return allowed
        return counts[counts >= least][:1]


def _is_share(value):
    return isinstance(value, numbers.Real) and 0 <= value <= 1


def matches(name, node):
    """Tells whether a layer reference names a `Node`."""
    layer = node.operation
    if isinstance(name, type):
        return isinstance(layer, name)
    if callable(name):
        return bool(name(layer))
    return any(
        fnmatch.fnmatchcase(known, name) for known in (node.path, layer.name)
    )
