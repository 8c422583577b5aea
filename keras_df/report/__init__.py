"""What a person looks at: tables and plots."""

from keras_df.report.inspection import Inspection as Inspection
from keras_df.report.inspection import LayerInspection as LayerInspection
from keras_df.report.inspection import inspect as inspect
from keras_df.report.plots import plot_plan as plot_plan
