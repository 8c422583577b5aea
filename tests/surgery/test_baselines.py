import keras
import numpy as np
import pytest
from keras import layers

import keras_df as kdf


def chain(filters=(8, 8)):
    inputs = keras.Input((6, 6, 3))
    x = layers.Conv2D(filters[0], 3, name="first")(inputs)
    x = layers.BatchNormalization(name="norm")(x)
    x = layers.Conv2D(filters[1], 3, name="second")(x)
    x = layers.GlobalAveragePooling2D()(x)
    return keras.Model(inputs, layers.Dense(2, name="head")(x))


def scaled(model, name, factors):
    """Multiplies the filters of a layer by given factors."""
    layer = model.get_layer(name)
    kernel = np.ones(layer.kernel.shape) * factors
    layer.kernel.assign(kernel)


@pytest.mark.parametrize("norm", [1, 2])
def test_magnitude_keeps_the_largest_filters(norm):
    model = chain()
    scaled(model, "first", [1, 8, 2, 7, 3, 6, 4, 5])
    plan = kdf.baselines.magnitude(model, kdf.MACs(0.5), norm=norm)
    kept = plan.layers["first"].kept
    assert set(kept) == set(np.argsort([1, 8, 2, 7, 3, 6, 4, 5])[-len(kept) :])


def test_uniform_allocation_takes_the_same_share_of_every_layer():
    model = chain((16, 32))
    scaled(model, "first", np.linspace(10, 20, 16))
    plan = kdf.baselines.magnitude(model, kdf.MACs(0.4))
    shares = [
        len(plan.layers[n].kept) / w for n, w in (("first", 16), ("second", 32))
    ]
    assert shares[0] == pytest.approx(shares[1], abs=1 / 16)


def test_geometric_median_drops_duplicates_first():
    model = chain()
    rng = np.random.default_rng(0)
    kernel = rng.normal(size=model.get_layer("first").kernel.shape)
    kernel[..., :4] = 0.01 * kernel[..., :4] + kernel[..., :1]
    model.get_layer("first").kernel.assign(kernel)
    plan = kdf.baselines.geometric_median(model, kdf.MACs(0.5))
    assert set(plan.layers["first"].kept) & {4, 5, 6, 7}
    assert len(set(plan.layers["first"].kept) & {0, 1, 2, 3}) < 4


def test_batch_norm_scale_drops_what_is_scaled_down():
    model = chain()
    gamma = np.array([0.1, 1, 0.2, 1, 0.1, 1, 1, 1])
    model.get_layer("norm").gamma.assign(gamma)
    plan = kdf.baselines.batch_norm_scale(model, kdf.MACs(0.7))
    gone = set(range(8)) - set(plan.layers["first"].kept)
    assert gone and gone <= {0, 2, 4} or {0, 2, 4} <= gone


def test_the_same_seed_gives_the_same_plan():
    model = chain()
    plans = [
        kdf.baselines.random(model, kdf.MACs(0.5), seed=seed)
        for seed in (1, 1, 2)
    ]
    assert plans[0] == plans[1] != plans[2]


def test_uniform_rank_takes_the_same_share_of_every_rank():
    model = chain((24, 24))
    plan = kdf.baselines.uniform_rank(model, kdf.MACs(0.4))
    assert len(plan.layers["first"].kept) == 24
    first, second = plan.layers["first"], plan.layers["second"]
    assert first.rank / first.max_rank == pytest.approx(
        second.rank / second.max_rank, abs=2 / 24
    )


def test_energy_gives_a_low_rank_kernel_a_low_rank():
    model = chain((24, 24))
    kernel = model.get_layer("second").kernel
    rng = np.random.default_rng(0)
    product = rng.normal(size=(9 * 24, 2)) @ rng.normal(size=(2, 24))
    kernel.assign(product.reshape(kernel.shape))
    energy = kdf.baselines.energy(model, kdf.MACs(0.3))
    uniform = kdf.baselines.uniform_rank(model, kdf.MACs(0.3))
    assert energy.layers["second"].rank < uniform.layers["second"].rank
    assert energy.layers["first"].rank != uniform.layers["first"].rank


def test_energy_on_real_inputs_ignores_what_they_never_show():
    """Kernel rows that read silent channels carry no energy."""
    inputs = keras.Input((16,))
    x = layers.Dense(16, name="first", use_bias=False)(inputs)
    model = keras.Model(inputs, layers.Dense(2, name="head")(x))
    rng = np.random.default_rng(0)
    model.get_layer("first").kernel.assign(rng.normal(size=(16, 16)))
    x = rng.normal(size=(64, 16)).astype("float32")
    x[:, 3:] = 0
    plan = kdf.baselines.energy(model, kdf.MACs(0.6), calibration=x)
    small = kdf.compress(model, plan, calibration=x)
    assert plan.layers["first"].rank is not None
    np.testing.assert_allclose(
        np.asarray(model(x)), np.asarray(small(x)), atol=1e-3
    )


@pytest.mark.parametrize("options", [{"norm": 3}, {"allocation": "local"}])
def test_unknown_options_are_refused(options):
    (name,) = options
    with pytest.raises(ValueError, match=f"`{name}`"):
        kdf.baselines.magnitude(chain(), kdf.MACs(0.5), **options)


def upsampling(order):
    """A transposed convolution whose outputs, in some order, differ in size."""
    model = keras.Sequential(
        [
            keras.Input((5, 5, 4)),
            layers.Conv2D(16, 3, padding="same", name="conv"),
            layers.Conv2DTranspose(16, 3, use_bias=False, name="up"),
            layers.BatchNormalization(name="norm"),
            layers.Conv2D(16, 3, name="end"),
        ]
    )
    rng = np.random.default_rng(0)
    for layer in ("conv", "end"):
        kernel = model.get_layer(layer).kernel
        kernel.assign(rng.normal(size=kernel.shape))
    kernel = rng.normal(size=(3, 3, 16, 16)) * np.linspace(0.1, 1, 16)
    gamma = np.geomspace(0.01, 10, 16) ** rng.choice([-1, 1], 16)
    model.get_layer("up").kernel.assign(kernel[:, :, order])
    model.get_layer("norm").gamma.assign(gamma[order])
    end = model.get_layer("end").kernel
    end.assign(np.asarray(end)[:, :, order])
    return model


def test_the_order_of_outputs_says_nothing_about_the_ranks():
    x = np.random.default_rng(1).normal(size=(32, 5, 5, 4)).astype("float32")
    orders = (np.arange(16), np.random.default_rng(2).permutation(16))
    for share in (0.2, 0.3, 0.4, 0.5):
        ranks = [
            kdf.baselines.energy(
                upsampling(order), kdf.MACs(share), calibration=x
            )
            .layers["up"]
            .rank
            for order in orders
        ]
        assert ranks[0] == ranks[1]


def test_energy_takes_a_list_with_an_array_per_input():
    first, second = keras.Input((8,)), keras.Input((6,))
    x = layers.Concatenate()([first, second])
    x = layers.Dense(16, name="hidden")(x)
    model = keras.Model([first, second], layers.Dense(8, name="head")(x))
    rng = np.random.default_rng(0)
    arrays = [rng.normal(size=(64, n)).astype("float32") for n in (8, 6)]
    plans = [
        kdf.baselines.energy(model, kdf.MACs(0.6), calibration=data)
        for data in (arrays, (arrays, np.zeros(64)))
    ]
    assert plans[0] == plans[1]
