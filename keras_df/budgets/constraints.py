"""What a plan has to respect beside its budget."""

import dataclasses
import difflib
import fnmatch
import glob
import math
from dataclasses import dataclass
from dataclasses import field

import keras
import numpy as np

from keras_df.budgets.schemes import cheapest_scheme
from keras_df.checks import check_flag
from keras_df.checks import check_positive_integer
from keras_df.checks import check_type
from keras_df.checks import is_finite_number
from keras_df.checks import shown

ROUNDING = 1e-6
"""By how much a share times a size may miss the count that is meant."""


@keras.saving.register_keras_serializable(package="keras_df")
@dataclass(frozen=True)
class Constraints:
    """Hard guarantees of a plan.

    A layer is named by its path, its name, a pattern with `*` and `?`, its
    class, or a function of the layer that returns True. A path that begins
    with `/` names no layer of a nested model that happens to have that name.

    Args:
        prune: Whether filters may be removed.
        decompose: Whether kernels may be split into low-rank pairs. The
            cheapest layers, which have less than 1 % of what a budget counts
            together, stay dense unless a cap or the budget needs them.
        scheme: 1 or 2, the matricization of decomposed kernels (paper,
            Section 3.2): a window followed by a 1 x 1, or a column followed
            by a row. Or `"best"`, for each layer the one that is cheaper at
            equal error of its weights, whatever it reads; or a dict from
            layers to one of these, layers not named using Scheme 2. Layers
            without a second scheme, such as all but convolutions over windows
            of several rows and columns, use Scheme 1.
        round_to: Positive integer. Kept channels and ranks are multiples of
            it, or the layer's full width. Of a layer whose filters form
            several groups of coupled ones, each group keeps a multiple.
        min_channels: Smallest number of channels that a layer keeps.
        floors: Dict from layers to the smallest share of their channels and
            of their rank that remains, in `[0, 1]`.
        caps: Dict from layers to the largest share of their channels that
            remains, and of their rank if they become a pair, in `(0, 1]`.
            None may be below a floor of the same layer. The plan's notes
            name those that the other constraints leave no room for.
        skip: Layers that keep all their filters and stay dense. Their inputs
            may still shrink with the layers before them.

    Raises:
        TypeError: If a value is of the wrong type.
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
    scheme: int | str | dict = 2
    round_to: int = 1
    min_channels: int = 1
    floors: dict = field(default_factory=dict)
    caps: dict = field(default_factory=dict)
    skip: tuple = ()

    def __post_init__(self):
        check_flag("prune", self.prune)
        check_flag("decompose", self.decompose)
        if not (self.prune or self.decompose):
            raise ValueError(
                "With `prune=False` and `decompose=False` nothing can be "
                "compressed. Allow at least one of them."
            )
        for name in ("round_to", "min_channels"):
            value = check_positive_integer(name, getattr(self, name))
            object.__setattr__(self, name, value)
        object.__setattr__(self, "skip", _as_references(self.skip))
        _check_schemes(self.scheme)
        for name in ("floors", "caps"):
            _check_shares(name, getattr(self, name))
        for name, floor in self.floors.items():
            if floor > self.caps.get(name, 1.0):
                raise ValueError(_contradiction(name, floor, self.caps[name]))

    def get_config(self):
        return dataclasses.asdict(self)

    @classmethod
    def from_config(cls, config):
        return cls(**config)

    def check(self, graph):
        """Checks the constraints against a model's `ChannelGraph`.

        Raises:
            ValueError: If a named layer does not exist, or a layer's floor is
                above its cap.
        """
        names = [*self.skip, *self.floors, *self.caps]
        if isinstance(self.scheme, dict):
            names += self.scheme
        for name in names:
            if not any(matches(name, node) for node in graph.nodes.values()):
                raise ValueError(
                    f"The constraints name {name!r}, which matches no layer "
                    f"of the model. {_suggestion(name, graph.nodes)}"
                )
        for path, node in graph.kernels().items():
            low, high = self.share_range(node)
            if low > high:
                raise ValueError(_contradiction(path, low, high))

    def resolved(self, graph):
        """Returns constraints that say the same of a model's layers by name.

        They can be written to a file, which classes and functions cannot,
        and do not look at weights, as the scheme `"best"` does.

        Args:
            graph: `ChannelGraph` of the model.
        """
        nodes = {f"/{glob.escape(p)}": x for p, x in graph.nodes.items()}
        kernels = {name: x for name, x in nodes.items() if x.kernel is not None}
        schemes = {name: self.scheme_of(x) for name, x in kernels.items()}
        shares = {name: self.share_range(x) for name, x in nodes.items()}
        # Where it mattered, `check` has refused what contradicts itself.
        shares = {k: (low, up) for k, (low, up) in shares.items() if low <= up}
        return dataclasses.replace(
            self,
            scheme={name: x for name, x in schemes.items() if x is not None},
            floors={name: low for name, (low, _) in shares.items() if low > 0},
            caps={name: up for name, (_, up) in shares.items() if up < 1},
            skip=[name for name, x in nodes.items() if self.skips(x)],
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
                (s for name, s in wanted.items() if matches(name, node)), 2
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
        least = min(max(math.ceil(low * size - ROUNDING), minimum), size)
        most = high * size + ROUNDING
        allowed = counts[(counts >= least) & (counts <= most)]
        if not whole and len(allowed) > 1 and allowed[-1] % self.round_to:
            return allowed[:-1]
        if len(allowed):
            return allowed
        return counts[counts >= least][:1]


def as_constraints(constraints):
    """Returns constraints; those that allow everything for None.

    Raises:
        TypeError: If `constraints` is something else.
    """
    wanted = "`keras_df.Constraints`"
    check_type("constraints", constraints, Constraints, wanted, optional=True)
    return constraints or Constraints()


def _as_references(skip):
    single = isinstance(skip, str) or callable(skip)
    references = (skip,) if single else skip
    if not isinstance(references, (list, tuple, set, frozenset)):
        raise TypeError(
            "`skip` must be a layer's name, a pattern, a class, a function of "
            f"the layer, or a list of these. Received: skip={shown(skip)}"
        )
    for reference in references:
        _check_reference("skip", reference)
    return tuple(references)


def _check_reference(name, reference):
    if isinstance(reference, keras.Layer):
        raise TypeError(
            f"`{name}` names layers; it does not hold them. Pass "
            f"'{reference.name}', the layer's name. Received: {reference!r}"
        )
    if not isinstance(reference, str) and not callable(reference):
        raise TypeError(
            f"`{name}` names layers by their path, name, a pattern, their "
            f"class or a function of the layer. Received: {shown(reference)}"
        )


def _check_schemes(scheme):
    by_layer = scheme if isinstance(scheme, dict) else {}
    for reference in by_layer:
        _check_reference("scheme", reference)
    for one in by_layer.values() if isinstance(scheme, dict) else [scheme]:
        if type(one) not in (int, str) or one not in (1, 2, "best"):
            raise ValueError(
                "`scheme` must be 1, 2 or 'best', or a dict from layers to "
                f"one of these. Received: scheme={shown(one)}"
            )


def _check_shares(name, shares):
    check_type(name, shares, dict, "a dict from layers to shares")
    for layer, share in shares.items():
        _check_reference(name, layer)
        if (
            not is_finite_number(share)
            or not 0 <= share <= 1
            or (name == "caps" and not share)
        ):
            raise ValueError(
                f"`{name}` holds shares between 0 and 1. Received: "
                f"{shown(share)} for layer {layer!r}"
            )


def _contradiction(layer, floor, cap):
    return (
        f"`floors` and `caps` contradict each other: layer {layer!r} would "
        f"have to keep at least {floor:.1%} and at most {cap:.1%}. Lower the "
        "floor or raise the cap."
    )


def _suggestion(name, paths):
    close = difflib.get_close_matches(str(name), paths, n=3)
    if close:
        return f"Close matches: {', '.join(close)}."
    return f"Its layers are: {', '.join(paths)}."


def matches(name, node):
    """Tells whether a layer reference names a `Node`."""
    layer = node.operation
    if isinstance(name, type):
        return isinstance(layer, name)
    if callable(name):
        return _accepts(name, node)
    known = (node.path, layer.name)
    if name.startswith("/"):
        known = (f"/{node.path}",)
    return any(fnmatch.fnmatchcase(x, name) for x in known)


def _accepts(function, node):
    try:
        return bool(function(node.operation))
    except Exception as error:
        raise ValueError(
            f"The constraints' function {function!r} fails on layer "
            f"'{node.path}' (of type {type(node.operation).__name__}): "
            f"{error!r}. It is asked about every layer of the model."
        ) from error
