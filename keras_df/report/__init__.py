"""What a person looks at: tables, plots and pages."""

from keras_df.report.inspection import Inspection as Inspection
from keras_df.report.inspection import LayerInspection as LayerInspection
from keras_df.report.inspection import inspect as inspect
from keras_df.report.layers import LayerChange as LayerChange
from keras_df.report.layers import layer_changes as layer_changes
from keras_df.report.outcome import Outcome as Outcome
from keras_df.report.page import html as html
from keras_df.report.plots import plot_plan as plot_plan
from keras_df.report.recorder import SearchRecorder as SearchRecorder
