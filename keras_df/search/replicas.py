"""Replicas of a search, each on a device of its own, on one or more hosts."""

import keras


def replica_id():
    """Returns which replica runs this code, None if none in particular."""
    if keras.config.backend() != "tensorflow":
        return None
    import tensorflow as tf

    context = tf.distribute.get_replica_context()
    if context is None or context.num_replicas_in_sync == 1:
        return None
    return int(tf.get_static_value(context.replica_id_in_sync_group))


def replica_count():
    """Returns how many replicas share the samples of a step."""
    if keras.config.backend() != "tensorflow":
        return 1
    import tensorflow as tf

    return tf.distribute.get_strategy().num_replicas_in_sync


def from_first_host(arrays):
    """Returns what the first host of several found, on all of them.

    Hosts that differ round differently, and JAX takes no value for all of
    them that is not the same to the last bit.

    Args:
        arrays: Array, or a tuple of arrays, of the same shapes on all hosts.
    """
    if keras.config.backend() != "jax":
        return arrays
    import jax
    from jax.experimental import multihost_utils

    if jax.process_count() == 1:
        return arrays
    return multihost_utils.broadcast_one_to_all(arrays)


def add_state(
    layer, name, shape, initializer="zeros", aggregation="only_first_replica"
):
    """Adds a float32 weight to a layer, not trained, alike on all replicas."""
    return layer.add_weight(
        shape=shape,
        initializer=initializer,
        trainable=False,
        name=name,
        dtype="float32",
        aggregation=aggregation,
    )


def check_strategy():
    """Refuses strategies that Keras 3 cannot train under.

    Raises:
        ValueError: If a strategy other than `tf.distribute.MirroredStrategy`
            and `tf.distribute.OneDeviceStrategy` is in scope.
    """
    if keras.config.backend() != "tensorflow":
        return
    import tensorflow as tf

    if not tf.distribute.has_strategy():
        return
    strategy = tf.distribute.get_strategy()
    known = (tf.distribute.MirroredStrategy, tf.distribute.OneDeviceStrategy)
    if isinstance(strategy, known):
        return
    raise ValueError(
        "Keras 3 trains on several devices of one host under "
        "`tf.distribute.MirroredStrategy`, and not under "
        "`MultiWorkerMirroredStrategy` or other strategies "
        "(keras-team/keras#20585). For several hosts, use the JAX backend "
        "with `keras.distribution.initialize` and "
        "`keras.distribution.DataParallel`. Received: a strategy of type "
        f"{type(strategy).__name__}"
    )
