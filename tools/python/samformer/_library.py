"""libsamformer.so through its C interface, tools/c/samformer.h."""

import ctypes
import functools
import json
import os
import threading
import warnings
import weakref

import numpy as np

_float_pointer = ctypes.POINTER(ctypes.c_float)
_texts_pointer = ctypes.POINTER(ctypes.c_char_p)


class Table(ctypes.Structure):
    _fields_ = [
        ("values", _float_pointer),
        ("rows", ctypes.c_int64),
        ("columns", ctypes.c_int64),
        ("names", _texts_pointer),
        ("dates", _texts_pointer),
        ("ids", _texts_pointer),
    ]

    def __init__(self, values, names, dates=None, ids=None):
        """`values`: float32 [rows, columns], C-contiguous, not copied; the rest are texts of Texts."""
        super().__init__(values.ctypes.data_as(_float_pointer), *values.shape)
        self._kept = values, names, dates, ids
        for field, texts in (("names", names), ("dates", dates), ("ids", ids)):
            if texts is not None:
                setattr(self, field, texts.pointer)


class Texts:
    """An array of texts as C has them."""

    def __init__(self, texts):
        texts = np.asarray(texts)
        if texts.dtype.kind != "S":
            texts = np.char.encode(texts.astype(str), "utf-8")
        self._bytes = np.ascontiguousarray(texts, dtype=f"S{texts.dtype.itemsize + 1}")  # and the 0 behind each
        self._places = self._bytes.ctypes.data + np.arange(len(texts), dtype=np.uintp) * self._bytes.itemsize
        self.pointer = ctypes.cast(self._places.ctypes.data, _texts_pointer)


class Forecast(ctypes.Structure):
    _fields_ = [
        ("values", ctypes.POINTER(ctypes.c_double)),
        ("rows", ctypes.c_int64),
        ("columns", ctypes.c_int64),
        ("names", _texts_pointer),
        ("dates", _texts_pointer),
        ("ids", _texts_pointer),
    ]


_Progress = ctypes.CFUNCTYPE(ctypes.c_int, ctypes.c_char_p, ctypes.c_void_p)


class Watch(ctypes.Structure):
    _fields_ = [("progress", _Progress), ("user", ctypes.c_void_p), ("stop", ctypes.POINTER(ctypes.c_int))]


@functools.cache
def _library():
    library = ctypes.CDLL(os.path.join(os.path.dirname(__file__), "libsamformer.so"))
    if library.samformer_abi() != 1:
        raise ImportError("libsamformer.so has another binary interface than this package")
    text, handle, table = ctypes.c_char_p, ctypes.c_void_p, ctypes.POINTER(Table)
    for name, arguments in {
        "train": [table, text, ctypes.POINTER(Watch), ctypes.POINTER(handle)],
        "resume": [text, text, ctypes.POINTER(Watch), ctypes.POINTER(handle)],
        "load": [text, text, ctypes.POINTER(handle)],
        "predict": [handle, table, table, text, ctypes.POINTER(ctypes.POINTER(Forecast))],
        "backtest": [table, text, ctypes.POINTER(Watch), ctypes.POINTER(text)],
        "info": [handle, ctypes.POINTER(text)],
    }.items():
        getattr(library, f"samformer_{name}").argtypes = arguments
    library.samformer_free.argtypes = [handle]
    library.samformer_free.restype = None
    library.samformer_free_forecast.argtypes = [ctypes.POINTER(Forecast)]
    library.samformer_free_forecast.restype = None
    library.samformer_error.restype = text
    library.samformer_error_json.restype = text
    library.samformer_warnings.restype = text
    return library


class Error(Exception):
    """What samformer has failed with: `code`, the program's exit code; `kind`; `hint`, what to do; `file`, `line`,
    `column`, where they are known."""

    code, kind = 1, "internal"
    hint = file = line = column = None


class UsageError(Error, ValueError):
    """A setting that there is not, or that does not go with others."""


class DataError(Error, ValueError):
    """Values that cannot be trained on or forecast from."""


class DeviceError(Error):
    """No memory, or no such device."""


class DivergedError(Error):
    """The training has diverged, or a forecast overflows."""


_classes = {2: UsageError, 3: DataError, 4: DeviceError, 5: DivergedError}


def _check(code):
    library = _library()
    for line in library.samformer_warnings().decode().splitlines():
        warnings.warn(line.replace("warning: ", "", 1), stacklevel=4)  # of whoever calls predict()
    if code == 0:
        return
    error = _classes.get(code, Error)(library.samformer_error().decode())
    error.code = code
    document = library.samformer_error_json()
    for name, value in (json.loads(document) if document else {"kind": "device"}).items():
        if name in ("kind", "hint", "file", "line", "column"):
            setattr(error, name, value)
    raise error


def _settings(settings):
    def plain(value):
        return value.item() if isinstance(value, np.generic) else os.fspath(value)

    given = {name.replace("_", "-"): value for name, value in settings.items() if value is not None}
    given = {name: list(value) if isinstance(value, (tuple, np.ndarray)) else value for name, value in given.items()}
    return json.dumps(given, default=plain).encode()


def _followed(call, progress):
    """call(watch) in a thread of its own, so that Ctrl-C is seen meanwhile: the training stops at its next step. So it
    does where `progress`, which gets a dict an epoch, raises something."""
    stop = ctypes.c_int(0)
    raised = []

    def each_epoch(line, _):
        try:
            if progress is not None:
                progress(json.loads(line))
        except BaseException as error:
            raised.append(error)
        return len(raised)

    watch = Watch(_Progress(each_epoch), None, ctypes.pointer(stop))
    result, failure = [], []
    done = threading.Event()

    def work():
        try:
            result.append(call(ctypes.byref(watch)))
        except BaseException as error:
            failure.append(error)
        done.set()

    threading.Thread(target=work, daemon=True).start()
    while not done.is_set():
        try:
            done.wait(0.05)  # another thread may have got the signal: it wakes nobody
        except KeyboardInterrupt as interrupt:
            stop.value = 1
            if raised:  # the second time: waits no longer
                raise
            raised.append(interrupt)
    if raised:
        raise raised[0]
    if failure:
        raise failure[0]
    return result[0]


class Forecaster:
    """A handle; `info`: what samformer_info() says."""

    def __init__(self, handle):
        self._handle = handle
        self._free = weakref.finalize(self, _library().samformer_free, handle)
        text = ctypes.c_char_p()
        _check(_library().samformer_info(handle, ctypes.byref(text)))
        self.info = json.loads(text.value)

    def predict(self, table, future, settings):
        """(values [rows, columns], names, dates, ids or None)"""
        library = _library()
        result = ctypes.POINTER(Forecast)()
        table = None if table is None else ctypes.byref(table)
        future = None if future is None else ctypes.byref(future)
        _check(library.samformer_predict(self._handle, table, future, _settings(settings), ctypes.byref(result)))
        try:
            f = result.contents
            values = np.ctypeslib.as_array(f.values, (f.rows, f.columns)).copy()
            names, dates, ids = (
                [texts[i].decode() for i in range(count)] if texts else None
                for texts, count in ((f.names, f.columns), (f.dates, f.rows), (f.ids, f.rows))
            )
            return values, names, dates, ids
        finally:
            library.samformer_free_forecast(result)


def _made(function, *arguments):
    handle = ctypes.c_void_p()
    _check(function(*arguments, ctypes.byref(handle)))
    return Forecaster(handle)


def train(table, settings, progress):
    settings = _settings(settings)
    return _followed(lambda watch: _made(_library().samformer_train, ctypes.byref(table), settings, watch), progress)


def resume(run, settings, progress):
    run, settings = os.fsencode(run), _settings(settings)
    return _followed(lambda watch: _made(_library().samformer_resume, run, settings, watch), progress)


def load(run, settings):
    return _made(_library().samformer_load, os.fsencode(run), _settings(settings))


def backtest(table, settings, progress):
    settings = _settings(settings)

    def call(watch):
        text = ctypes.c_char_p()
        _check(_library().samformer_backtest(ctypes.byref(table), settings, watch, ctypes.byref(text)))
        return json.loads(text.value)

    return _followed(call, progress)
