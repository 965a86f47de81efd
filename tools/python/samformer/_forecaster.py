"""The estimator."""

import json
import os
import shutil
import tempfile
import weakref
import zlib
from collections import namedtuple

from . import _frames, _library

_of_frames = ("id", "date_column", "value_column")  # flags that say how a frame is read, here
_of_forecaster = ("device", "threads")
# What forecasts and their intervals need of a run.
_kept = ("config.toml", "result.json", "best.safetensors", "final.safetensors")

Backtest = namedtuple("Backtest", "result forecasts")
Backtest.__doc__ = "`result`: the document of `samformer backtest`; `forecasts`: each of them, a row a step and series."


class SAMformer:
    """Trains as `samformer train` does and forecasts as `samformer predict`.

    `flags` are those of `samformer train --help` without the dashes, `epochs=10, seeds=[1, 2], refit=True`; `out` names
    the folder of the run, otherwise a temporary one. Of a frame `id`, `date_column` and `value_column` name columns that
    are not found by their names or types.

    A series is an array [time, channels], or a frame of pandas or polars, a column a channel, with dates as index or
    column; or a long one, `unique_id, ds, y`. NaN is a missing value.
    """

    def __init__(self, horizon=96, lookback="auto", **flags):
        self.horizon = horizon
        self.lookback = lookback
        self._flags = flags

    def fit(self, X, y=None, *, progress=None):
        """`progress` is called after each epoch with its line of metrics.jsonl, a dict. Ctrl-C stops at the next step:
        the run is kept, for `SAMformer.resume`. `y` is there for pipelines and not read."""
        table, form = self._read(X)
        out, temporary = _folder(self._flags.get("out"))
        settings = {**self._settings(), "out": out}
        try:
            forecaster = _library.train(table, settings, progress)
        except KeyboardInterrupt:
            raise KeyboardInterrupt(f"the run is kept: SAMformer.resume({out!r})") from None
        except BaseException:
            if temporary:
                shutil.rmtree(out, ignore_errors=True)
            raise
        return self._take(out, forecaster, form, temporary)

    @classmethod
    def load(cls, run, **flags):
        """The forecaster of a run's folder, which `fit` or the program has left; flags: weights, member, device,
        threads."""
        forecaster = _library.load(run, flags)
        return cls._of_run(run, forecaster, {name: value for name, value in flags.items() if name in _of_forecaster})

    @classmethod
    def resume(cls, run, *, progress=None, **flags):
        """Goes on with a run that was stopped; flags: epochs, patience, device, threads."""
        return cls._of_run(run, _library.resume(run, flags, progress), flags)

    def predict(self, X=None, future=None, intervals=None, **flags):
        """The steps after the end of X, by default of what was fitted, in the form of X: an array [steps, targets], or
        a frame with dates and names. `intervals`, a list of percents, adds columns NAME_lo_80, NAME_hi_80; an array
        becomes [steps, targets, 1 + 2 * intervals]: the value, then the ends of each. `future`: rows of what is known
        ahead, where X does not go on with it. Flags: horizon, origin, calibration, min, max, decimals, integers, ..."""
        forecaster = self._fitted()
        table, form = (None, self._form) if X is None else self._read(X)
        ahead = None if future is None else self._read(future, forecaster.info["known_ahead"])[0]
        forecast = forecaster.predict(table, ahead, {**flags, "intervals": intervals})
        return form.of(*forecast, len(self.targets_))

    def backtest(self, X, *, progress=None, **flags):
        """`samformer backtest` on X: forecasts from many origins, each by a model of the rows before it. Flags: origins,
        refits, gap, train_window, intervals, ...; `out` names the folder, where a backtest that was stopped goes on."""
        table, form = self._read(X)
        out, temporary = _folder(flags.get("out"))
        settings = {**self._settings(), **flags, "out": out}
        try:
            result = _library.backtest(table, settings, progress)
            return Backtest(result, _csv(os.path.join(out, "forecasts.csv"), form))
        finally:
            if temporary:
                shutil.rmtree(out, ignore_errors=True)

    def get_params(self, deep=True):
        return {"horizon": self.horizon, "lookback": self.lookback, **self._flags}

    def set_params(self, **params):
        for name, value in params.items():
            if name in ("horizon", "lookback"):
                setattr(self, name, value)
            else:
                self._flags[name] = value
        return self

    def __repr__(self):
        return f"SAMformer({', '.join(f'{name}={value!r}' for name, value in self.get_params().items())})"

    def __sklearn_is_fitted__(self):
        return hasattr(self, "_run")

    def __sklearn_tags__(self):
        from sklearn.utils import Tags, TargetTags  # asked by scikit-learn alone

        return Tags(estimator_type=None, target_tags=TargetTags(required=False))

    # Of a fitted one the files that forecasts need: weights as safetensors bytes, settings, the values.
    def __getstate__(self):
        state = {name: value for name, value in self.__dict__.items() if name not in ("_forecaster", "_clean")}
        if hasattr(self, "_run"):
            state["_run"] = _files(self._run)
        return state

    def __setstate__(self, state):
        self.__dict__.update(state)
        files = self.__dict__.pop("_run", None)
        if files is None:
            return
        out, _ = _folder(None)
        for name, data in files.items():
            path = os.path.join(out, name)
            os.makedirs(os.path.dirname(path), exist_ok=True)
            with open(path, "wb") as file:
                file.write(zlib.decompress(data))
        self._keep(out, None, temporary=True)

    def _read(self, X, known=None):
        return _frames.read(X, known, **{name: self._flags[name] for name in _of_frames if name in self._flags})

    def _settings(self):
        return {name: value for name, value in self.get_params().items() if name not in _of_frames}

    @classmethod
    def _of_run(cls, run, forecaster, flags):
        self = cls(forecaster.info["horizon"], forecaster.info["lookback"], **flags)
        form = _frames.Form()
        form.dtype = float
        return self._take(os.fspath(run), forecaster, form, False)

    def _take(self, run, forecaster, form, temporary):
        self._form = form
        self.weights_sha256_ = forecaster.info["weights_sha256"]
        self.channels_ = forecaster.info["channels"]
        self.targets_ = forecaster.info["targets"]
        path = os.path.join(run, "result.json")
        self.result_ = None
        if os.path.exists(path):
            with open(path, encoding="utf-8") as file:
                self.result_ = json.load(file)
        self._keep(run, forecaster, temporary)
        return self

    def _keep(self, run, forecaster, temporary):
        if "_clean" in self.__dict__:
            self._clean()
            del self._clean
        self._run, self._forecaster = run, forecaster
        if temporary:
            self._clean = weakref.finalize(self, shutil.rmtree, run, ignore_errors=True)

    def _fitted(self):
        if not hasattr(self, "_run"):
            raise _library.UsageError("this SAMformer is not fitted: call fit(X) first")
        if self._forecaster is None:  # unpickled
            flags = {name: self._flags[name] for name in _of_forecaster if name in self._flags}
            self._forecaster = _library.load(self._run, flags)
        return self._forecaster


def _folder(out):
    return (tempfile.mkdtemp(prefix="samformer-"), True) if out is None else (os.fspath(out), False)


def _files(run):
    files = {}
    for folder, _, names in os.walk(run):
        for name in names:
            if name in _kept or name.startswith("series-"):
                path = os.path.join(folder, name)
                with open(path, "rb") as file:
                    files[os.path.relpath(path, run)] = zlib.compress(file.read(), 1)
    return files


def _csv(path, form):
    if form.kind == "pandas":
        import pandas as pd

        dated = ["origin", "date"] if form.date_type is not None else False
        return pd.read_csv(path, parse_dates=dated)
    if form.kind == "polars":
        import polars as pl

        return pl.read_csv(path, try_parse_dates=form.date_type is not None)
    import numpy as np

    return np.genfromtxt(path, delimiter=",", names=True, dtype=None, encoding="utf-8")
