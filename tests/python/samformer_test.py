"""The wheel, installed: what it trains and forecasts is what the program does with a file of the same values.

TEST_PROGRAM: the program; TEST_SHARED: a folder with data/ETTh1.csv, may be empty.
"""

import copy
import io
import json
import os
import pathlib
import pickle
import re
import shutil
import signal
import subprocess
import sys
import threading
import tracemalloc

import numpy as np
import pandas as pd
import polars as pl
import pytest
from pandas.testing import assert_frame_equal

import samformer
from samformer import SAMformer, _frames, _library

PROGRAM = os.environ["TEST_PROGRAM"]
ROOT = pathlib.Path(__file__).parents[2]
SMALL = dict(horizon=6, lookback=24, epochs=3, patience=0, epoch_steps=1, threads=1)


def values(rows=400, columns=3, seed=0):
    noise = np.random.default_rng(seed).standard_normal((rows, columns))
    season = 5 * np.sin(2 * np.pi * (np.arange(rows)[:, None] + 3 * np.arange(columns)) / 24)
    return np.ascontiguousarray(20 + season + noise, np.float32)


def dated(array, freq="h"):
    index = pd.date_range("2020-01-01", periods=len(array), freq=freq, name="date")
    return pd.DataFrame(array, index, [f"c{d}" for d in range(array.shape[1])])


def panel():
    series = {"a": (0, 200), "b": (10, 190), "short": (195, 200)}
    y = values(200, 1)[:, 0]
    days = pd.date_range("2020-01-01", periods=200)
    parts = [pd.DataFrame({"unique_id": i, "ds": days[a:b], "y": y[a:b]}) for i, (a, b) in series.items()]
    return pd.concat(parts, ignore_index=True)


def of_polars(frame):
    return pl.DataFrame(
        {name: column.tolist() if column.dtype == object else column.to_numpy() for name, column in frame.items()}
    )


def write(path, frame):
    """As the program reads the same float32 numbers."""
    frame = frame.astype({name: float for name in frame.columns if frame[name].dtype == np.float32})
    frame.to_csv(path, date_format="%Y-%m-%d %H:%M:%S")


def run(command, *words, **flags):
    given = [f"--{name.replace('_', '-')}={value}" for name, value in flags.items() if value is not True]
    given += [f"--{name.replace('_', '-')}" for name, value in flags.items() if value is True]
    done = subprocess.run([PROGRAM, command, *words, *given, "--quiet"], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    return done.stdout


def read(text, **more):
    return pd.read_csv(io.StringIO(text), float_precision="round_trip", **more)


def indexed(text):
    frame = read(text, parse_dates=["date"], index_col="date")
    frame.index = frame.index.as_unit("us")
    return frame


def as_us(frame):
    return frame.set_axis(frame.index.as_unit("us"), axis=0)


@pytest.fixture
def trained():
    """A forecaster, and the program's run of the same values in ./theirs."""
    frame = dated(values())
    write("c.csv", frame)
    document = json.loads(run("train", "--json", data="c.csv", out="theirs", refit=True, **SMALL))
    model = SAMformer(**SMALL, refit=True).fit(frame)
    for field in ("weights_sha256", "test_mse"):
        assert model.result_[field] == document[field]
    return model


@pytest.fixture(autouse=True)
def folder(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    return tmp_path


def test_forecasts_are_the_programs(trained):
    frame = dated(values())
    expected = run("predict", "theirs", threads=1)
    ours = trained.predict()
    assert_frame_equal(as_us(ours), indexed(expected), check_exact=True, check_freq=False)
    assert ours.to_numpy().tobytes() == indexed(expected).to_numpy().tobytes()
    assert trained.predict(frame).equals(ours)
    assert trained.predict(frame.iloc[-24:]).equals(ours)
    with_ends = trained.predict(intervals=[80, 50], calibration=40, min=19, decimals=2, horizon=4)
    flags = dict(intervals="80,50", calibration=40, min=19, decimals=2, horizon=4)
    assert_frame_equal(as_us(with_ends), indexed(run("predict", "theirs", threads=1, **flags)), check_freq=False)
    assert list(with_ends.columns[3:7]) == ["c0_lo_50", "c0_hi_50", "c0_lo_80", "c0_hi_80"]
    assert_frame_equal(SAMformer.load("theirs", threads=1).predict(frame), ours)


def test_arrays(trained):
    array = values()
    model = SAMformer(**SMALL, refit=True).fit(array)
    assert model.weights_sha256_ == trained.weights_sha256_
    forecast = model.predict()
    assert forecast.dtype == np.float32 and forecast.shape == (6, 3)
    assert np.array_equal(forecast, trained.predict().to_numpy(np.float32))
    assert np.array_equal(model.predict(array.astype(float)), model.predict(array.tolist()))
    ends = model.predict(intervals=[80], calibration=40)
    assert ends.shape == (6, 3, 3)
    assert np.array_equal(ends[:, :, 0], forecast)
    assert (ends[:, :, 1] < forecast).all() and (ends[:, :, 2] > forecast).all()
    one = SAMformer(**SMALL).fit(array[:, 0])
    assert one.predict().shape == (6,) and one.predict(intervals=[80]).shape == (6, 3)
    with pytest.raises(samformer.DataError, match="3 dimensions"):
        model.fit(array[None])


def test_frames_come_back_as_they_were(trained):
    frame = dated(values())
    expected = trained.predict()
    column = frame.reset_index()
    assert_frame_equal(SAMformer(**SMALL, refit=True).fit(column).predict(), expected.reset_index())
    texts = column.assign(date=column["date"].dt.strftime("%d.%m.%Y %H:%M"))
    as_texts = SAMformer(**SMALL, refit=True, date_format="%d.%m.%Y %H:%M").fit(texts).predict()
    assert list(as_texts["date"]) == list(expected.index.strftime("%d.%m.%Y %H:%M"))
    assert_frame_equal(as_texts[["c0", "c1", "c2"]], expected.reset_index(drop=True))
    for zone in ("UTC", "Europe/Berlin"):
        there = frame.tz_localize("UTC").tz_convert(zone)
        assert_frame_equal(
            SAMformer(**SMALL, refit=True)
            .fit(there)
            .predict()
            .tz_localize(None)
            .tz_localize(zone)
            .tz_convert("UTC")
            .tz_localize(None),
            expected,
        )
    periods = frame.set_axis(frame.index.to_period("h"), axis=0)
    of_periods = SAMformer(**SMALL, refit=True).fit(periods).predict()
    assert_frame_equal(of_periods, expected.set_axis(expected.index.to_period("h"), axis=0))
    undated = SAMformer(**SMALL, refit=True).fit(frame.reset_index(drop=True)).predict()
    assert_frame_equal(undated, expected.set_axis(range(400, 406), axis=0))
    numbered = frame.set_axis([10, 20, 30], axis=1)
    assert list(SAMformer(**SMALL, refit=True).fit(numbered).predict().columns) == [10, 20, 30]
    series = SAMformer(**SMALL).fit(frame["c0"]).predict()
    assert list(series.columns) == ["c0"]
    of_pandas = of_polars(column)
    forecast = SAMformer(**SMALL, refit=True).fit(of_pandas).predict(intervals=[80], calibration=40)
    assert isinstance(forecast, pl.DataFrame) and forecast.schema["date"] == of_pandas.schema["date"]
    assert forecast["date"].to_list() == expected.index.to_pydatetime().tolist()
    assert forecast["c1"].to_list() == expected["c1"].tolist()
    lazy = of_pandas.lazy()
    assert SAMformer(**SMALL, refit=True).fit(lazy).predict(lazy)["c1"].to_list() == expected["c1"].tolist()
    one = SAMformer(**SMALL).fit(of_pandas["c0"]).predict()
    assert one.columns == ["c0"] and len(one) == 6
    for wrong in (pd.NaT, pd.Timestamp("2020-01-01 00:00:00.5")):
        with pytest.raises(samformer.DataError, match="row 1: .* whole seconds"):
            SAMformer(**SMALL).fit(column.assign(date=column["date"].where(column.index > 0, wrong)))
    with pytest.raises(samformer.DataError, match="'shop' holds no numbers"):
        SAMformer(**SMALL).fit(column.assign(shop="x"))


@pytest.mark.parametrize("kind", ["pandas", "polars", "indexed"])
def test_many_series(kind):
    frame = panel()
    write("long.csv", frame.set_index("unique_id"))
    flags = {**SMALL, "lookback": 14}
    document = json.loads(run("train", "--json", data="long.csv", out="theirs", **flags))
    given = {
        "pandas": frame,
        "polars": of_polars(frame.astype({"unique_id": object})),
        "indexed": frame.set_index("unique_id"),
    }[kind]
    model = SAMformer(**flags).fit(given)
    assert model.weights_sha256_ == document["weights_sha256"]
    expected = read(run("predict", "theirs", threads=1, intervals=80))
    with pytest.warns(UserWarning, match=r"^1 series \('short'\) with fewer than the 14 rows"):
        forecasts = model.predict(intervals=[80]), model.predict(given, intervals=[80])
    for forecast in forecasts:
        forecast = pd.DataFrame(forecast.to_dict(as_series=False)) if kind == "polars" else forecast
        assert list(forecast["ds"].dt.strftime("%Y-%m-%d")) == [date[:10] for date in expected["ds"]]
        names = ["unique_id", "y", "lo_80", "hi_80"]
        assert forecast[names].astype({"unique_id": str}).values.tolist() == expected[names].values.tolist()


def test_other_names():
    frame = panel().rename(columns={"unique_id": "store", "ds": "when", "y": "sold"}).assign(price=1.5)
    flags = dict(id="store", value_column="sold")
    forecast = SAMformer(**{**SMALL, "lookback": 14}, **flags).fit(frame).predict()
    assert list(forecast.columns) == ["store", "when", "sold"]
    assert sorted(set(forecast["store"])) == ["a", "b", "short"]
    with pytest.raises(samformer.DataError, match="no column 'shop'"):
        SAMformer(id="shop").fit(frame)


def test_what_is_known_ahead():
    frame = dated(values())
    write("c.csv", frame)
    run("train", data="c.csv", out="theirs", future="c2", **SMALL)
    model = SAMformer(**SMALL, future="c2").fit(frame)
    ahead = dated(values(406, 3)).iloc[-6:]
    write("ahead.csv", ahead[["c2"]])
    expected = indexed(run("predict", "theirs", threads=1, future_data="ahead.csv"))
    forecast = model.predict(future=ahead)
    assert_frame_equal(as_us(forecast), expected, check_freq=False)
    assert list(forecast.columns) == ["c0", "c1"]
    longer = pd.concat([frame, ahead.assign(c0=np.nan, c1=np.nan)])
    assert model.predict(longer).equals(forecast)
    with pytest.raises(samformer.DataError, match="'c2', which the model knows ahead"):
        model.predict()


def test_backtest():
    frame = dated(values())
    write("c.csv", frame)
    flags = dict(origins=4, refits="every:2", intervals=50)
    document = json.loads(run("backtest", "--json", data="c.csv", out="theirs", **SMALL, **flags))
    seen = []
    result, forecasts = SAMformer(**SMALL).backtest(frame, progress=seen.append, **flags)
    assert [line["epoch"] for line in seen] == [1, 2, 3] * 2
    for field in ("test_mse", "origins", "intervals", "diebold_mariano"):
        assert result[field] == document[field]
    assert_frame_equal(forecasts, pd.read_csv("theirs/forecasts.csv", parse_dates=["origin", "date"]))
    SAMformer(**SMALL).backtest(frame, out="ours", **flags)
    assert pathlib.Path("ours/forecasts.csv").read_bytes() == pathlib.Path("theirs/forecasts.csv").read_bytes()
    others = SAMformer(**SMALL).backtest(of_polars(frame.reset_index()), **flags).forecasts
    assert others["forecast"].to_list() == list(forecasts["forecast"])
    assert others["date"].to_list() == forecasts["date"].tolist()
    undated = SAMformer(**SMALL).backtest(values(), **flags).forecasts
    assert undated.dtype.names[:5] == ("origin", "date", "step", "series", "actual") and len(undated) == 4 * 6 * 3


def test_values_are_not_copied():
    array = values(1 << 17, 8)
    assert _frames.read(array)[0].values.contents is not None
    table = _frames.read(array)[0]
    assert np.ctypeslib.as_array(table.values, (1,)).ctypes.data == array.ctypes.data
    tracemalloc.start()
    SAMformer(horizon=6, lookback=24, model="linear", epochs=1, epoch_steps=64, no_test=True).fit(array)
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert peak < 0.05 * array.nbytes


def test_python_goes_on_while_it_trains():
    counted, end, ends = [0], threading.Event(), []

    def count():
        while not end.is_set():
            counted[0] += 1

    def progress(_):
        ends.append((began.pop() if began else 0, counted[0]))
        began.append(counted[0])

    began = []
    thread = threading.Thread(target=count)
    thread.start()
    SAMformer(**{**SMALL, "epochs": 20, "epoch_steps": 50}).fit(values(2000), progress=progress)
    end.set()
    thread.join()
    # Between the end of one call and the beginning of the next no Python ran in the training thread.
    assert sum(now > before for before, now in ends) > 10


def test_ctrl_c_keeps_the_run():
    whole = SAMformer(**SMALL).fit(values())

    def interrupt(line):
        if line["epoch"] == 1:
            os.kill(os.getpid(), signal.SIGINT)

    def interrupt_first_epoch():
        while not os.path.exists("long/metrics.jsonl"):
            pass
        os.kill(os.getpid(), signal.SIGINT)

    threading.Thread(target=interrupt_first_epoch).start()
    with pytest.raises(KeyboardInterrupt):  # at the next step
        SAMformer(**{**SMALL, "epoch_steps": 300_000}, out="long").fit(values())
    assert os.path.exists("long/state.safetensors")
    with pytest.raises(KeyboardInterrupt, match="SAMformer.resume") as stopped:
        SAMformer(**{**SMALL, "epochs": 1_000_000}).fit(values(), progress=interrupt)
    kept = re.search("'(.*)'", str(stopped.value))[1]
    assert os.path.exists(kept + "/state.safetensors")
    shutil.rmtree(kept)
    with pytest.raises(KeyboardInterrupt):
        SAMformer(**SMALL, out="run").fit(values(), progress=interrupt)
    rest = []
    resumed = SAMformer.resume("run", threads=1, progress=rest.append)
    assert 0 < len(rest) < 3
    assert resumed.weights_sha256_ == whole.weights_sha256_
    assert np.array_equal(resumed.predict(values()), whole.predict())


def test_progress_may_raise():
    def stop(line):
        assert line["epoch"] == 1
        raise LookupError("enough")

    with pytest.raises(LookupError, match="enough"):
        SAMformer(**SMALL, out="run").fit(values(), progress=stop)
    assert not os.path.exists("run/result.json")


def test_errors(trained):
    with pytest.raises(samformer.UsageError, match="unknown key 'horizn'") as error:
        SAMformer(horizn=6).fit(values())
    assert (error.value.code, error.value.kind) == (2, "usage")
    assert error.value.hint == "did you mean 'horizon'?"
    assert isinstance(error.value, ValueError) and isinstance(error.value, samformer.Error)
    holed = values()
    holed[7, 1] = np.nan
    with pytest.raises(samformer.DataError, match="missing") as error:
        SAMformer(**SMALL).fit(holed)
    assert (error.value.code, error.value.kind, error.value.line) == (3, "data", 9)
    assert pickle.loads(pickle.dumps(error.value)).line == 9
    with pytest.raises(samformer.UsageError, match="not fitted"):
        SAMformer().predict()
    with pytest.raises(samformer.DataError, match="24"):
        trained.predict(dated(values(10)))
    with pytest.raises(samformer.DataError, match="no run"):
        SAMformer.load("nothing")
    SAMformer(**SMALL, out="mine").fit(values())
    with pytest.raises(samformer.UsageError, match="already holds a run"):
        SAMformer(**SMALL, out="mine").fit(values())


def test_pickle(trained):
    expected = trained.predict(intervals=[80], calibration=40)
    weights = pathlib.Path(trained._run, "final.safetensors").read_bytes()
    stored = pickle.dumps(trained)
    for other in (pickle.loads(stored), copy.deepcopy(trained), pickle.loads(pickle.dumps(pickle.loads(stored)))):
        assert other.predict(intervals=[80], calibration=40).equals(expected)
        assert pathlib.Path(other._run, "final.safetensors").read_bytes() == weights
        assert other.result_ == trained.result_
    pathlib.Path("model").write_bytes(stored)
    del trained, other
    # Neither the folder nor the process it was trained in is needed.
    code = "import pickle; print(pickle.load(open('model', 'rb')).predict(intervals=[80], calibration=40).to_json())"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == expected.to_json()
    seeds = SAMformer(**SMALL, seeds=[1, 2]).fit(values())
    assert np.array_equal(pickle.loads(pickle.dumps(seeds)).predict(), seeds.predict())
    assert not pickle.loads(pickle.dumps(SAMformer(horizon=7)))._flags


def test_folders_go_with_their_forecaster():
    model = SAMformer(**SMALL).fit(values())
    first = model._run
    assert os.path.exists(first)
    second = model.fit(values())._run
    assert os.path.exists(second) and not os.path.exists(first)
    del model
    assert not os.path.exists(second)


def test_scikit_learn():
    from sklearn.base import clone
    from sklearn.model_selection import ParameterGrid
    from sklearn.pipeline import make_pipeline
    from sklearn.preprocessing import StandardScaler

    model = SAMformer(**SMALL, seeds=[1, 2])
    other = clone(model)
    assert other is not model and other.get_params() == model.get_params()
    assert other.set_params(horizon=3, rho=0.1) is other
    assert (other.horizon, other.get_params()["rho"], "rho" in model.get_params()) == (3, 0.1, False)
    assert repr(SAMformer(4, rho=0.5)) == "SAMformer(horizon=4, lookback='auto', rho=0.5)"
    pipeline = clone(make_pipeline(StandardScaler(), SAMformer(**SMALL)))
    pipeline.set_params(samformer__epochs=2)
    scaled = StandardScaler().fit_transform(values())
    expected = SAMformer(**{**SMALL, "epochs": 2}).fit(scaled).predict()
    assert np.array_equal(pipeline.fit(values()).predict(values()), expected)
    for params in ParameterGrid({"rho": [0.0, 0.5]}):
        assert clone(model).set_params(**params).get_params()["rho"] == params["rho"]


def test_sktime():
    pytest.importorskip("sktime", reason="sktime is not installed")
    from samformer.sktime import SAMformerForecaster

    flags = {name: SMALL[name] for name in ("epochs", "patience", "epoch_steps", "threads")}
    forecaster = SAMformerForecaster(horizon=6, lookback=24, flags=flags)
    frame = dated(values())
    expected = SAMformer(**SMALL).fit(frame).predict(intervals=[80])
    forecast = forecaster.fit(frame).predict(fh=[1, 3, 6])
    assert_frame_equal(forecast, expected.iloc[[0, 2, 5], :3], check_freq=False, check_names=False)
    ends = forecaster.predict_interval(fh=[1, 2], coverage=[0.8])
    assert ends["c1"][0.8]["lower"].tolist() == expected["c1_lo_80"].tolist()[:2]
    forecaster.update(dated(values(406)).iloc[-6:], update_params=False)
    later = SAMformer(**SMALL).fit(frame).predict(forecaster._y)
    assert_frame_equal(forecaster.predict(fh=[1]), later.iloc[[0]], check_freq=False, check_names=False)
    with pytest.raises(ValueError, match="forecasts 1 to 6"):
        forecaster.predict(fh=[7])


def test_import_is_light():
    code = "import sys, samformer; print(*sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    modules = set(done.stdout.split())
    assert "numpy" in modules
    assert not modules & {"pandas", "polars", "sklearn", "scipy", "sktime", "torch"}
    assert _library._library().samformer_abi() == 1


def test_readme():
    shared = pathlib.Path(os.environ.get("TEST_SHARED") or "nowhere")
    if not (shared / "data/ETTh1.csv").exists():
        pytest.skip("no data/ETTh1.csv in TEST_SHARED")
    os.symlink(shared / "data/ETTh1.csv", "ETTh1.csv")
    example = re.search("```python\n(.*?)```", (ROOT / "README.md").read_text(), re.S)[1]
    names = {}
    exec(example, names)
    assert names["forecast"].shape == (96, 7)
    document = json.loads(run("train", "--json", data="ETTh1.csv", out="run", horizon=96))
    assert names["model"].weights_sha256_ == document["weights_sha256"]
    assert pathlib.Path("forecast.csv").read_text() == run("predict", "run")
