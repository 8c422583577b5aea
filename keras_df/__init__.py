"""keras_df: structured compression of Keras models, learned by gradient."""

from keras_df import export as export
from keras_df import graph as graph
from keras_df import interop as interop
from keras_df import report as report
from keras_df.budgets import Budget as Budget
from keras_df.budgets import FLOPs as FLOPs
from keras_df.budgets import Latency as Latency
from keras_df.budgets import LatencyTable as LatencyTable
from keras_df.budgets import MACs as MACs
from keras_df.budgets import Params as Params
from keras_df.budgets import count as count
from keras_df.budgets.constraints import Constraints as Constraints
from keras_df.plan import CompressionPlan as CompressionPlan
from keras_df.report import inspect as inspect
from keras_df.search import DFCallback as DFCallback
from keras_df.search import SearchConfig as SearchConfig
from keras_df.search import SearchModel as SearchModel
from keras_df.surgery import baselines as baselines
from keras_df.surgery import compress as compress
from keras_df.surgery import fine_tune as fine_tune
from keras_df.surgery import recalibrate as recalibrate
from keras_df.version import __version__ as __version__
