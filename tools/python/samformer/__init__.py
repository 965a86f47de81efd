"""Trains SAMformer (ICML 2024) and forecasts long time series.

>>> forecast = samformer.SAMformer(horizon=24).fit(X).predict()
"""

from ._forecaster import Backtest, SAMformer
from ._library import DataError, DeviceError, DivergedError, Error, UsageError

__all__ = ["Backtest", "DataError", "DeviceError", "DivergedError", "Error", "SAMformer", "UsageError"]
