"""Cached relaxation against the exact one, and against its own differences."""

import keras
import numpy as np
import pytest
from keras import layers
from keras import ops
from search_helpers import set_mixing
from search_helpers import set_moment
from search_helpers import tall_layer
from search_helpers import wide_layer
from search_helpers import wrapped

import keras_df as kdf
from keras_df.search.cached import TOLERANCE
from keras_df.search.cached import CachedRelaxation
from keras_df.search.exact import ExactRelaxation
from keras_df.search.factors import SMALLEST_MASK

CASES = {
    "tall": (tall_layer, 1, None, None),
    "tall, patches, scaled outputs": (
        tall_layer,
        1,
        45,
        np.linspace(0.2, 3, 6),
    ),
    "tall, scheme 2": (tall_layer, 2, None, None),
    "tall, scheme 2, shared moment": (tall_layer, 2, 5, None),
    "wide": (wide_layer, 1, None, None),
    "wide, moment, scaled outputs": (
        wide_layer,
        1,
        5,
        np.linspace(0.2, 3, 24),
    ),
    "stays dense": (tall_layer, None, None, None),
    "stays dense, moment": (tall_layer, None, 5, None),
    "stays dense, patches": (wide_layer, None, 5, None),
}
COLUMNS = (tall_layer, 2, 15, np.linspace(0.2, 3, 6))
cases = pytest.mark.parametrize("case", CASES.values(), ids=CASES.keys())
shrinkages = pytest.mark.parametrize("shrinkage", ["tanh", "svt"])


def array(tensor):
    return np.asarray(ops.convert_to_numpy(tensor), float)


def pair_of(case, shrinkage="tanh"):
    """A cached and an exact relaxation of one layer, and random masks."""
    layer, scheme, size, scale = case
    wrapper, graph = wrapped(layer(), scheme, size, scale)
    if size is not None and wrapper.moment is not None:
        set_moment(wrapper)
        set_mixing(wrapper)
    config = kdf.SearchConfig(shrinkage=shrinkage)
    exact = ExactRelaxation([wrapper], config)
    exact.refresh()
    mask = np.random.default_rng(3).uniform(0.2, 1, graph.unit_count)
    return CachedRelaxation([wrapper], config), exact, mask.astype("float32")


def relaxed(relaxation, mask, threshold):
    count = sum(x.view.scheme is not None for x in relaxation._wrappers)
    (kernel,), ranks = relaxation.relax(
        ops.convert_to_tensor(mask), ops.full((count,), threshold), 5.0
    )
    return array(kernel), array(ranks)


def check_refreshed(case, threshold, shrinkage):
    cached, exact, mask = pair_of(case, shrinkage)
    cached.refresh(mask)
    for actual, expected in zip(
        relaxed(cached, mask, threshold), relaxed(exact, mask, threshold)
    ):
        np.testing.assert_allclose(actual, expected, rtol=1e-3, atol=3e-4)


@shrinkages
@pytest.mark.parametrize("threshold", [0.0, 0.3, 1.0])
@cases
def test_a_refreshed_kernel_is_exact(case, threshold, shrinkage):
    check_refreshed(case, threshold, shrinkage)


@shrinkages
@pytest.mark.parametrize("threshold", [0.0, 0.3])
def test_a_refreshed_kernel_measured_by_columns_is_exact(threshold, shrinkage):
    check_refreshed(COLUMNS, threshold, shrinkage)


@cases
def test_before_the_first_refresh_nothing_is_removed(case):
    cached, _, mask = pair_of(case)
    kernel, _ = relaxed(cached, np.ones_like(mask), 0.0)
    wrapper = cached._wrappers[0]
    np.testing.assert_allclose(kernel, array(wrapper.kernel), rtol=1e-3)


@cases
def test_masks_at_zero_and_one_are_exact(case):
    """As far as factors know a mask of zero, which they are not taken at."""
    cached, exact, mask = pair_of(case)
    mask = np.round(mask)
    cached.refresh(mask)
    compensated = cached._wrappers[0].view.reads is not None
    tolerance = 10 * SMALLEST_MASK if compensated else 1e-3
    for actual, expected in zip(
        relaxed(cached, mask, 0.2), relaxed(exact, mask, 0.2)
    ):
        np.testing.assert_allclose(
            actual, expected, rtol=tolerance, atol=tolerance
        )


@shrinkages
@cases
def test_the_error_of_kept_factors_is_bounded(case, shrinkage):
    """Masks move by the tolerance; the kernel is off by a few times that."""
    cached, exact, mask = pair_of(case, shrinkage)
    cached.refresh(mask)
    rng = np.random.default_rng(4)
    for _ in range(5):
        moved = mask + TOLERANCE * rng.choice([-1.0, 1.0], mask.shape)
        moved = moved.astype("float32")
        (kernel, rank), (wanted, exact_rank) = (
            relaxed(x, moved, 0.3) for x in (cached, exact)
        )
        error = np.linalg.norm(kernel - wanted) / np.linalg.norm(wanted)
        assert error < 5 * TOLERANCE
        np.testing.assert_allclose(rank, exact_rank, rtol=3 * TOLERANCE)


def test_only_kernels_whose_masks_moved_are_renewed():
    (first, graph), (second, _) = wrapped(tall_layer()), wrapped(wide_layer())
    cached = CachedRelaxation([first, second], kdf.SearchConfig())
    mask = np.ones(graph.unit_count + 24, "float32")
    assert cached.refresh(mask) == 2
    assert cached.refresh(mask, TOLERANCE) == 0
    others = np.setdiff1d(first.view.axes[3], second.view.axes[2])
    alone = np.setdiff1d(second.view.axes[3], first.view.axes[3])
    mask[alone[0]] = 0.5
    assert cached.refresh(mask, TOLERANCE) == 1
    mask[others] -= TOLERANCE / 2
    assert cached.refresh(mask, TOLERANCE) == 0
    assert cached.refresh(mask, 0.0) > 0


def loss_of(relaxation, weights):
    """A scalar function of masks and thresholds, through one kernel."""

    def loss(mask, thresholds):
        (kernel,), ranks = relaxation.relax(mask, thresholds, 5.0)
        return ops.sum(kernel * weights) + ops.sum(ranks)

    return loss


def between_singular_values(cached):
    """A threshold away from where the gain of a direction has its kink."""
    sigma = array(cached.sigma)
    middle = len(sigma) // 2
    return sigma[middle - 1 : middle + 1].mean() / sigma[-1] if middle else 0.3


@shrinkages
@cases
def test_gradients_are_the_differences_of_the_cached_kernel(
    case, shrinkage, gradients
):
    cached, _, mask = pair_of(case, shrinkage)
    cached.refresh(mask)
    wrapper = cached._wrappers[0]
    weights = np.random.default_rng(5).normal(size=wrapper.kernel.shape)
    loss = loss_of(cached, weights.astype("float32"))
    at = mask, np.full(1, between_singular_values(cached), "float32")
    step = 1e-3
    for index, gradient in enumerate(gradients(loss, *at)):
        direction = np.sign(gradient).astype("float32")
        ends = []
        for sign in (1, -1):
            moved = list(at)
            moved[index] = at[index] + sign * step * direction
            ends.append(float(loss(*map(ops.convert_to_tensor, moved))))
        difference = (ends[0] - ends[1]) / (2 * step)
        assert np.abs(gradient).sum() == pytest.approx(difference, rel=2e-2)


@cases
def test_the_gradients_of_thresholds_and_ranks_are_exact(case, gradients):
    cached, exact, mask = pair_of(case)
    if case[1] is None:
        pytest.skip("it has no threshold")
    cached.refresh(mask)
    weights = np.random.default_rng(5).normal(
        size=cached._wrappers[0].kernel.shape
    )
    thresholds = np.full(1, 0.3, "float32")
    of_kernels = [
        gradients(loss_of(x, weights.astype("float32")), mask, thresholds)
        for x in (cached, exact)
    ]
    np.testing.assert_allclose(of_kernels[0][1], of_kernels[1][1], rtol=1e-2)
    of_ranks = [
        gradients(loss_of(x, np.float32(0)), mask, thresholds)
        for x in (cached, exact)
    ]
    for got, wanted in zip(*of_ranks, strict=True):
        np.testing.assert_allclose(got, wanted, rtol=2e-2, atol=2e-3)


@cases
def test_the_gradient_of_masks_points_where_the_exact_one_does(case, gradients):
    """What it leaves out, the turning of singular vectors, is small."""
    cached, exact, mask = pair_of(case)
    cached.refresh(mask)
    rng = np.random.default_rng(6)
    for _ in range(5):
        weights = rng.normal(size=cached._wrappers[0].kernel.shape)
        got, wanted = (
            gradients(
                loss_of(x, weights.astype("float32")),
                mask,
                np.full(1, 0.3, "float32"),
            )[0]
            for x in (cached, exact)
        )
        cosine = np.sum(got * wanted)
        cosine /= np.linalg.norm(got) * np.linalg.norm(wanted)
        assert cosine > 0.7


KERNELS = {
    "zero": np.zeros((45, 6)),
    "orthogonal": np.linalg.qr(np.random.default_rng(0).normal(size=(45, 6)))[
        0
    ],
    "repeated": np.repeat(np.random.default_rng(1).normal(size=(45, 3)), 2, 1),
    "rank 1": np.outer(np.arange(45), np.ones(6)),
}


def search_of(kernel, policy="float32", **options):
    """A search over a network whose only large kernel is given."""
    inputs = keras.Input((6, 6, 5))
    x = layers.Conv2D(6, 3, dtype=policy, name="layer")(inputs)
    x = layers.GlobalAveragePooling2D(dtype=policy)(x)
    model = keras.Model(inputs, layers.Dense(2, dtype=policy)(x))
    model.get_layer("layer").kernel.assign(kernel.reshape(3, 3, 5, 6))
    search = kdf.SearchModel(
        model, kdf.MACs(0.5), config=kdf.SearchConfig(**options)
    )
    search.compile(keras.optimizers.Adam(1e-2), "mse")
    return search


def assert_stays_finite(search, steps):
    x = np.random.default_rng(0).normal(size=(8, 6, 6, 5)).astype("float32")
    # Exactly at a singular value, and masks exactly at 0 and 1.
    search.thresholds.assign(np.ones(search.thresholds.shape))
    logits = np.ones(search.logits.shape)
    logits[: len(logits) // 2] = 0
    search.logits.assign(logits)
    batch = x, np.ones((8, 2), "float32")
    data = (batch for _ in range(steps))
    search.fit(data, steps_per_epoch=steps, verbose=0)
    for variable in search.variables:
        value = ops.convert_to_numpy(variable)
        if value.dtype.kind == "f":
            assert np.isfinite(value).all(), variable.path


@pytest.mark.filterwarnings("ignore:`shuffle=True` was passed")
@pytest.mark.parametrize("spectra", ["cached", "exact"])
@pytest.mark.parametrize("shrinkage", ["tanh", "svt"])
@pytest.mark.parametrize("kernel", KERNELS.values(), ids=KERNELS.keys())
def test_degenerate_kernels_stay_finite(kernel, shrinkage, spectra):
    search = search_of(kernel, shrinkage=shrinkage, spectra=spectra)
    assert_stays_finite(search, steps=25)


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore:`shuffle=True` was passed")
@pytest.mark.parametrize("spectra", ["cached", "exact"])
@pytest.mark.parametrize(
    "policy", ["float32", "mixed_bfloat16", "mixed_float16"]
)
@pytest.mark.parametrize("kernel", KERNELS.values(), ids=KERNELS.keys())
def test_degenerate_kernels_stay_finite_for_2000_steps(kernel, policy, spectra):
    search = search_of(kernel, policy, spectra=spectra)
    assert_stays_finite(search, steps=2000)
