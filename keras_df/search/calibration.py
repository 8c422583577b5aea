"""Calibrating a search: what each kernel reads, measured before step one."""

import inspect
import itertools

from keras_df.calibration import metric_of_scheme
from keras_df.calibration import second_moments
from keras_df.calibration import take_batches
from keras_df.search.replicas import from_first_host

STEPS = 12


def calibrate(network, wrappers, data, batch_size):
    """Sets the metrics that the wrappers' kernels are decomposed in.

    Args:
        network: The network of `build_network`.
        wrappers: Dict from path to `CompressibleLayer`.
        data: What was passed to `fit` as `x`.
        batch_size: Number of samples per batch, for arrays.

    Returns:
        Data that yields all of `data`: a generator is put together anew from
        the batches that were read and the rest.
    """
    read = data
    if inspect.isgenerator(data):
        read = list(itertools.islice(data, STEPS))
        data = _resumed(read, data)
    elif isinstance(data, (list, tuple)):
        read = (data,)  # The arrays of several inputs, not batches of one.
    batches = take_batches(read, STEPS, batch_size)
    paths = [path for path, x in wrappers.items() if x.moment is not None]
    for path, moment in second_moments(network, batches, paths).items():
        wrapper = wrappers[path]
        metric = metric_of_scheme(wrapper.layer, wrapper.view.scheme, moment)
        moment, mixing = from_first_host(metric)
        wrapper.moment.assign(moment)
        if mixing is not None:
            wrapper.mixing.assign(mixing)
    return data


def _resumed(read, generator):
    yield from read
    yield from generator
