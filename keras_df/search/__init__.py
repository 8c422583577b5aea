"""The search: which filters and which ranks, learned by gradient."""

from keras_df.search.callback import DFCallback as DFCallback
from keras_df.search.config import SearchConfig as SearchConfig
from keras_df.search.model import SearchModel as SearchModel
from keras_df.search.wrapper import CompressibleLayer as CompressibleLayer
