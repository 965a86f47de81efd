"""What users hold series in, numpy arrays and frames of pandas and polars, as tables of the library, and back."""

import numpy as np

from ._library import DataError, Table, Texts

_ids = ("unique_id", "item_id")
_ids_of_texts = ("id", "series")
_dates = ("date", "ds", "timestamp", "time", "datetime")
_values = ("y", "value", "target", "sales", "values", "demand", "quantity", "load")


class Form:
    """How a series is held: what a forecast of it is built like."""

    kind = "numpy"
    flat = False  # a vector
    dtype = None  # of an array
    labels = {}  # of the columns whose names are no texts, by what the library calls them
    index = False  # dates are the index of a frame
    date = id = None  # their columns
    date_type = id_type = None  # None: texts
    zone = period = None

    def of(self, values, names, dates, ids, targets):
        """What Forecaster.predict() gives of so many targets, in this form."""
        if self.kind == "numpy":
            return self._array(values, targets)
        labels = [self.labels.get(name, name) for name in names]
        if self.kind == "polars":
            return self._polars(values, labels, dates, ids)
        import pandas as pd

        frame = pd.DataFrame(values, columns=labels)
        if self.date_type is not None:
            dates = pd.DatetimeIndex(np.array(dates, "M8[s]"))
            if self.period is not None:
                dates = dates.to_period(self.period)
            elif self.zone is not None:
                dates = dates.tz_localize("UTC").tz_convert(self.zone)
            dates = dates.astype(self.date_type)
        if self.index:
            return frame.set_axis(dates.rename(self.date), axis=0)
        if self.date is None:
            return frame.set_axis(pd.RangeIndex(int(dates[0]) - 1, int(dates[-1])), axis=0)
        frame.insert(0, self.date, dates)
        if ids is not None:
            frame.insert(0, self.id, np.array(ids, self.id_type) if self.id_type else ids)
        return frame

    def _array(self, values, targets):
        ends = values[:, targets:].reshape(len(values), targets, -1)
        if ends.shape[2] > 0:
            values = np.concatenate([values[:, :targets, None], ends], axis=2)
        if self.flat and targets == 1:
            values = values[:, 0]
        return values.astype(self.dtype)

    def _polars(self, values, labels, dates, ids):
        import polars as pl

        columns = {label: values[:, i] for i, label in enumerate(labels)}
        if self.date is not None:
            column = pl.Series(self.date, dates)
            if self.date_type is not None:
                column = pl.Series(self.date, np.array(dates, "M8[ms]"))
                if self.zone is not None:
                    column = column.dt.replace_time_zone("UTC").dt.convert_time_zone(self.zone)
                column = column.cast(self.date_type)
            columns = {self.date: column, **columns}
        if ids is not None:
            columns = {self.id: pl.Series(self.id, ids).cast(self.id_type or pl.String), **columns}
        return pl.DataFrame(columns)


def read(data, known=None, id=None, date_column=None, value_column=None):
    """(table, form) of a user's series; `known`: only these columns, where some of them are there."""
    kind = type(data).__module__.partition(".")[0]
    form = Form()
    if kind not in ("pandas", "polars"):
        return _array(np.asarray(data), known, form)
    form.kind = kind
    frame, dates = _pandas(data, form) if kind == "pandas" else (_polars(data), None)
    names = list(frame.columns)
    kinds = {name: _kind(frame[name]) for name in names}
    lower = {name: name.lower() if isinstance(name, str) else "" for name in names}

    def find(asked, *choices):
        if asked is not None:
            if asked not in names:
                raise DataError(f"there is no column {asked!r}")
            return asked
        return next((name for wanted in choices for name in names if wanted(name)), None)

    if dates is None:
        form.date = find(
            date_column,
            lambda name: kinds[name] == "date",
            lambda name: lower[name] in _dates and kinds[name] == "text",
        )
        form.id = find(
            id,
            lambda name: lower[name] in _ids,
            lambda name: lower[name] in _ids_of_texts and kinds[name] == "text",
        )
    channels = [name for name in names if name not in (form.date, form.id)]
    ids = None
    if form.id is not None:
        value = find(
            value_column, lambda name: lower[name] in _values and name in channels, lambda name: kinds[name] == "number"
        )
        channels = [value]
        form.id_type = None if kinds[form.id] == "text" else frame[form.id].dtype
        column = frame[form.id]
        ids = Texts(np.asarray(column.fillna("") if kind == "pandas" and column.hasnans else column).astype(str))
    if known is not None and any(name in known for name in channels):
        channels = [name for name in channels if name in known]
    for name in channels:
        if kinds.get(name) != "number":
            raise DataError(f"column {name!r} holds no numbers")
    if form.date is not None and not form.index:
        dates = _dates_of(frame[form.date], form)
    if kind == "pandas":
        values = frame[channels].to_numpy(np.float32, na_value=np.nan)
    else:
        values = frame.select(channels).to_numpy()
    texts = [name if isinstance(name, str) else f"x{name}" for name in channels]
    form.labels = {text: name for text, name in zip(texts, channels) if text != name}
    return Table(_floats(values), Texts(texts), None if dates is None else Texts(dates), ids), form


def _array(values, known, form):
    form.flat = values.ndim == 1
    form.dtype = values.dtype if values.dtype.kind == "f" else np.dtype(float)
    if values.ndim not in (1, 2):
        raise DataError(f"an array [time, channels] was expected, this one has {values.ndim} dimensions")
    if form.flat:
        values = values[:, None]
    names = known if known is not None and len(known) == values.shape[1] else [f"x{d}" for d in range(values.shape[1])]
    return Table(_floats(values), Texts(names)), form


def _floats(values):
    return np.ascontiguousarray(values, np.float32)  # itself where it is one


def _kind(column):
    if hasattr(column.dtype, "tz") or getattr(column.dtype, "kind", "") == "M":
        return "date"
    if hasattr(column.dtype, "is_temporal"):  # of polars
        return "date" if column.dtype.is_temporal() else "number" if column.dtype.is_numeric() else "text"
    return "number" if getattr(column.dtype, "kind", "O") in "biuf" else "text"


def _pandas(data, form):
    """The frame, and its dates where they are its index."""
    import pandas as pd

    if isinstance(data, pd.Series):
        data = data.to_frame("y" if data.name is None else data.name)
    index = data.index
    if isinstance(index, pd.PeriodIndex):
        form.period = index.freq
        index = index.to_timestamp()
    if isinstance(index, pd.DatetimeIndex):
        form.index, form.date = True, data.index.name
        return data, _dates_of(index.to_series(), form, data.index.dtype)
    if any(name in _ids + _ids_of_texts for name in index.names):
        data = data.reset_index()
    return data, None


def _polars(data):
    if hasattr(data, "collect"):
        data = data.collect()
    return data.to_frame() if hasattr(data, "to_frame") else data


def _dates_of(column, form, dtype=None):
    """As texts; what they are taken from is noted."""
    if _kind(column) != "date":
        return np.asarray(column).astype(str)
    form.date_type = column.dtype if dtype is None else dtype
    zone = getattr(column.dtype, "tz", None) or getattr(column.dtype, "time_zone", None)
    if zone is not None:  # in UTC: no hour is absent or comes twice
        form.zone = zone
        if form.kind == "pandas":
            column = column.dt.tz_convert("UTC").dt.tz_localize(None)
        else:
            column = column.dt.convert_time_zone("UTC").dt.replace_time_zone(None)
    dates = column.to_numpy()
    days, seconds = dates.astype("M8[D]"), dates.astype("M8[s]")
    if (seconds != dates).any():  # NaT equals nothing
        row = int(np.argmax(seconds != dates))
        raise DataError(f"row {row + 1}: the date is {dates[row]}, one in whole seconds was expected")
    if (days == dates).all():
        return np.datetime_as_string(days).astype("S")
    texts = np.datetime_as_string(seconds).astype("S19")
    texts.view(np.uint8).reshape(len(texts), 19)[:, 10] = ord(" ")  # where the T is
    return texts
