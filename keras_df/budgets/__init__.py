"""Budgets, and what a model costs."""

from keras_df.budgets.budget import Budget as Budget
from keras_df.budgets.budget import FLOPs as FLOPs
from keras_df.budgets.budget import MACs as MACs
from keras_df.budgets.budget import Params as Params
from keras_df.budgets.budget import as_budgets as as_budgets
from keras_df.budgets.count import Count as Count
from keras_df.budgets.count import LayerCount as LayerCount
from keras_df.budgets.count import count as count
from keras_df.budgets.latency import Latency as Latency
from keras_df.budgets.latency import LatencyTable as LatencyTable
from keras_df.budgets.model_cost import ModelCost as ModelCost
