#!/usr/bin/env python3
"""`samformer export` beside `samformer eval --forecasts`, by ONNX Runtime: tests/onnx_test.py PROGRAM

Every forecast of the test part of small runs, of samformer (low-rank, full, centred on the last value, with targets) and
linear, differs by less than 1e-4 of its channel's deviation. Exits with 77 where onnxruntime or numpy is not installed.
"""
import csv
import json
import os
import subprocess
import sys
import tempfile

try:
    import numpy
    import onnxruntime
except ImportError as error:
    print(f"skipped: {error}")
    sys.exit(77)

L, H = 48, 12
RUNS = {
    "low-rank": ["--value", "low-rank"],
    "full": ["--value", "full"],
    "last": ["--center", "last"],
    "targets": ["--features", "MS", "--target", "channel_3,channel_1"],
    "linear": ["--model", "linear"],
}


def compare(program, folder, flags):
    def call(*words):
        done = subprocess.run([program, *words], capture_output=True, text=True, cwd=folder)
        if done.returncode != 0:
            sys.exit(f"{' '.join(words)}: exit code {done.returncode}\n{done.stderr}")
        return done.stdout

    call("train", "--data", "series.csv", "--lookback", str(L), "--horizon", str(H), "--epochs", "2", "--threads", "1",
         "--quiet", "--no-test", "--out", "run", "--overwrite", *flags)
    about = json.loads(call("export", "run", "--out", "model.onnx", "--json"))
    call("eval", "run", "--threads", "1", "--quiet", "--forecasts", "forecasts.csv")
    with open(os.path.join(folder, "series.csv"), newline="") as file:
        rows = list(csv.reader(file))
    dates = {row[0]: t for t, row in enumerate(rows[1:])}
    order = [rows[0].index(name) for name in about["input"]["channels"]]
    values = numpy.array([[row[c] for c in order] for row in rows[1:]], dtype=numpy.float32)
    deviation = dict(zip(about["input"]["channels"], values.std(0)))
    targets = about["output"]["channels"]

    session = onnxruntime.InferenceSession(os.path.join(folder, "model.onnx"), providers=["CPUExecutionProvider"])
    custom = session.get_modelmeta().custom_metadata_map
    assert json.loads(custom["channels"]) == about["input"]["channels"] and json.loads(custom["targets"]) == targets
    assert custom["weights_sha256"] == about["weights_sha256"]
    with open(os.path.join(folder, "forecasts.csv"), newline="") as file:
        cells = list(csv.DictReader(file))
    origins = sorted({dates[cell["origin"]] for cell in cells})
    windows = numpy.stack([values[t - L + 1 : t + 1] for t in origins])
    forecast = session.run(["forecast"], {"values": windows})[0]
    assert forecast.shape == (len(origins), H, len(targets)), forecast.shape
    place = {t: n for n, t in enumerate(origins)}
    worst = 0.0
    for cell in cells:
        own = forecast[place[dates[cell["origin"]]], int(cell["step"]) - 1, targets.index(cell["series"])]
        apart = abs(own - float(cell["forecast"])) / deviation[cell["series"]]
        assert apart < 1e-4, f"{flags}: {cell} {own}"  # False for NaN, too
        worst = max(worst, apart)
    assert len(cells) == forecast.size, (len(cells), forecast.size)
    print(f"{' '.join(flags)}: {len(cells)} forecasts, at most {worst:.1e} deviations apart")


def main():
    program = os.path.abspath(sys.argv[1])
    with tempfile.TemporaryDirectory() as folder:
        subprocess.run([program, "data", "synth", "seasonal", "--channels", "4", "--rows", "500", "--seed", "7", "--out",
                        os.path.join(folder, "series.csv")], check=True, capture_output=True)
        for flags in RUNS.values():
            compare(program, folder, flags)


main()
