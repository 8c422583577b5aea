"""The rules, one module per family of layers. Importing registers them."""

from keras_df.graph.rules import attention as attention
from keras_df.graph.rules import convolution as convolution
from keras_df.graph.rules import core as core
from keras_df.graph.rules import elementwise as elementwise
from keras_df.graph.rules import merging as merging
from keras_df.graph.rules import normalization as normalization
from keras_df.graph.rules import pooling as pooling
from keras_df.graph.rules import products as products
from keras_df.graph.rules import recurrent as recurrent
from keras_df.graph.rules import reshaping as reshaping
from keras_df.graph.rules import slicing as slicing
from keras_df.graph.rules import wrappers as wrappers
