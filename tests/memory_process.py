"""What a run keeps of memory, measured where nothing else has run before.

    python memory_process.py search
    python memory_process.py training

It prints the megabytes that one more run takes, and keeps.
"""

import gc
import os
import sys
import weakref

import numpy as np
from search_helpers import compiled
from search_helpers import separable_data
from search_helpers import small_network

import keras_df as kdf


def resident_megabytes():
    gc.collect()
    with open("/proc/self/statm") as file:
        pages = int(file.read().split()[1])
    return pages * os.sysconf("SC_PAGE_SIZE") / 2**20


def network_search(kind=kdf.SearchModel, **options):
    config = kdf.SearchConfig(refresh_steps=2)
    model = small_network()
    return compiled(kind(model, kdf.MACs(0.6), config=config), **options)


def trained(model):
    model.fit(*separable_data(), batch_size=32, epochs=2, verbose=0)
    return model


def a_search(**options):
    """Searches; returns a weak reference to what ought to be gone."""
    search = network_search(**options)
    trained(search).plan()
    return weakref.ref(search)


def a_training():
    """Trains as `a_search` does, but the network itself."""
    return weakref.ref(trained(compiled(small_network())))


def median_growth(run):
    """The median, as an allocator that grows its arena shows up once only."""
    sizes = []
    for _ in range(7):
        left = run()
        sizes.append(resident_megabytes())
        assert left() is None
    return np.median(np.diff(sizes[1:]))


if __name__ == "__main__":
    runs = {"search": a_search, "training": a_training}
    print(median_growth(runs[sys.argv[1]]))
