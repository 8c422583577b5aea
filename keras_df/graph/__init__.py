"""Channel units: which channels of a model have to go together."""

from keras_df.graph import rules as rules
from keras_df.graph.analysis import ChannelGraph as ChannelGraph
from keras_df.graph.analysis import Node as Node
from keras_df.graph.analysis import analyze as analyze
from keras_df.graph.call import Call as Call
from keras_df.graph.channels import Channels as Channels
from keras_df.graph.keep import Keep as Keep
from keras_df.graph.registry import Flow as Flow
from keras_df.graph.registry import Kernel as Kernel
from keras_df.graph.registry import register_rule as register_rule
