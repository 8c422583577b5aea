"""Plans by search: in one go, or filters first and then ranks."""

import keras

import keras_df as kdf


def search_plan(model, train, budget, steps, **options):
    """Finds filters and ranks by gradient, the weights frozen.

    Args:
        model: A classifier that returns logits.
        train: `tf.data.Dataset` of batches that repeats.
        budget: A budget, such as `keras_df.MACs(0.5)`.
        steps: Number of steps.
        **options: `constraints` and `config` of `keras_df.SearchModel`.

    Returns:
        A `keras_df.CompressionPlan`.
    """
    search = kdf.SearchModel(model, budget, **options)
    search.compile(
        optimizer=keras.optimizers.Adam(1e-2),
        loss=keras.losses.SparseCategoricalCrossentropy(from_logits=True),
        metrics=["accuracy"],
    )
    search.fit(train, epochs=1, steps_per_epoch=steps, shuffle=False)
    return search.plan()


def two_stage_plan(model, train, share, steps, samples):
    """Prunes half of the way, then finds the ranks of what is left.

    The kernels that ranks are searched for have been fitted to the inputs
    that pruning left them.

    Args:
        model: A classifier that returns logits.
        train: `tf.data.Dataset` of batches that repeats.
        share: Share of the MACs that may remain.
        steps: Number of steps, of both stages together.
        samples: Images to fit the kernels on.

    Returns:
        A `keras_df.CompressionPlan`.
    """
    filters = search_plan(
        model,
        train,
        kdf.MACs(share**0.5),
        steps // 2,
        constraints=kdf.Constraints(decompose=False),
    )
    pruned = kdf.compress(model, filters, calibration=samples)
    kdf.recalibrate(pruned, train, steps=50)
    ranks = search_plan(
        pruned,
        train,
        kdf.MACs(int(share * kdf.count(model).macs)),
        steps // 2,
        constraints=kdf.Constraints(prune=False),
    )
    return filters.then(ranks)
