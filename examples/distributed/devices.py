"""All devices that a search is to run on, as flags say."""

import contextlib

import keras
from absl import app
from absl import flags

FLAGS = flags.FLAGS
flags.DEFINE_integer("hosts", 1, "Number of processes, one per host.")
flags.DEFINE_integer("process_id", 0, "Which of them this is.")
flags.DEFINE_string("coordinator", None, "Address and port of process 0.")
flags.DEFINE_integer(
    "virtual_devices", 0, "Split the CPU into as many devices, for a trial."
)


def scope():
    """What is made in this scope runs on all devices of all hosts.

    Enter it before anything is computed.
    """
    if FLAGS.virtual_devices:
        _split_cpu(FLAGS.virtual_devices)
    if keras.config.backend() == "jax":
        if FLAGS.hosts > 1:
            keras.distribution.initialize(
                FLAGS.coordinator, FLAGS.hosts, FLAGS.process_id
            )
        if len(keras.distribution.list_devices()) == 1:
            return contextlib.nullcontext()
        return keras.distribution.DataParallel().scope()
    import tensorflow as tf

    if FLAGS.hosts > 1:
        raise app.UsageError("Several hosts need KERAS_BACKEND=jax.")
    kind = "GPU" if tf.config.list_logical_devices("GPU") else "CPU"
    devices = [x.name for x in tf.config.list_logical_devices(kind)]
    return tf.distribute.MirroredStrategy(devices).scope()


def _split_cpu(count):
    if keras.config.backend() == "jax":
        import jax

        jax.config.update("jax_num_cpu_devices", count)
        return
    import tensorflow as tf

    cpu = tf.config.list_physical_devices("CPU")[0]
    devices = [tf.config.LogicalDeviceConfiguration()] * count
    tf.config.set_logical_device_configuration(cpu, devices)
