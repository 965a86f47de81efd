"""SAMformer as a forecaster of sktime: pip install samformer[sktime]."""

import pandas as pd
from sktime.forecasting.base import BaseForecaster

from ._forecaster import SAMformer
from ._library import UsageError


class SAMformerForecaster(BaseForecaster):
    """`flags`: a dict of SAMformer's. Forecasts steps 1 to `horizon`, with intervals; X is not used."""

    _tags = {
        "y_inner_mtype": "pd.DataFrame",
        "scitype:y": "both",
        "capability:multivariate": True,
        "capability:exogenous": False,
        "requires-fh-in-fit": False,
        "capability:insample": False,
        "capability:pred_int": True,
        "capability:pred_int:insample": False,
    }

    def __init__(self, horizon=96, lookback="auto", flags=None):
        self.horizon = horizon
        self.lookback = lookback
        self.flags = flags
        super().__init__()
        self.set_config(remember_data=True)  # what update() brings is forecast from

    def _fit(self, y, X, fh):
        self.samformer_ = SAMformer(self.horizon, self.lookback, **(self.flags or {})).fit(y)
        return self

    def _forecast(self, fh, intervals=None):
        steps = fh.to_relative(self.cutoff).to_numpy()
        if steps.min() < 1 or steps.max() > self.horizon:
            raise UsageError(f"steps {steps.min()} to {steps.max()}: the model forecasts 1 to {self.horizon}")
        forecast = self.samformer_.predict(self._y, intervals=intervals).iloc[steps - 1]
        return forecast.set_axis(fh.to_absolute_index(self.cutoff), axis=0)

    def _predict(self, fh, X):
        return self._forecast(fh)

    def _predict_interval(self, fh, X, coverage):
        names = self._y.columns
        ends = self._forecast(fh, [f"{100 * level:.10g}" for level in sorted(coverage)]).iloc[:, len(names) :]
        ends.columns = pd.MultiIndex.from_product([names, sorted(coverage), ["lower", "upper"]])
        return ends[[(name, level, end) for name in names for level in coverage for end in ("lower", "upper")]]

    @classmethod
    def get_test_params(cls, parameter_set="default"):
        return {"horizon": 3, "lookback": 4, "flags": {"epochs": 1, "threads": 1, "model": "linear"}}
