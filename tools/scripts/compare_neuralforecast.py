#!/usr/bin/env python3
"""A backtest with refits of samformer beside neuralforecast's, in one run: python3 tools/scripts/compare_neuralforecast.py FILE

Both forecast the same channels from the same origins, each with models that were trained on the rows before: samformer
`backtest --refits each`, neuralforecast `cross_validation(refit=True)` with PatchTST, its defaults but for --max-steps
and the look-back. The last 300 rows before an origin are validation in both (neuralforecast does not stop early by
default). Errors are mean squared ones over all origins, channels and steps, in the scale of all rows before the first
origin. A date and numbers are in the file's columns; the step is found from its first two rows.

--max-steps: PatchTST takes 5000 by default, hours on two cores; what it was is printed beside its time. Needs
neuralforecast; exits with 2 without it.
"""
import argparse
import importlib.util
import json
import os
import resource
import subprocess
import sys
import tempfile
import time


def ours(options, dates, folder, split):
    with open(os.path.join(folder, "origins.txt"), "w") as file:
        file.write("\n".join(dates) + "\n")
    words = [options.binary, "backtest", "--data", options.file, "--horizon", str(options.horizon)]
    words += ["--lookback", str(options.lookback), "--split", split, "--origins", f"dates:{file.name}"]
    words += ["--refits", "each", "--out", os.path.join(folder, "backtest"), "--json", "--quiet"]
    begin = time.perf_counter()
    done = subprocess.run(words, capture_output=True, text=True)
    seconds = time.perf_counter() - begin
    if done.returncode != 0:
        sys.exit(f"error: {' '.join(words)}: exit code {done.returncode}\n{done.stderr}")
    return seconds, json.loads(done.stdout)["test_mse"]


def theirs(options, frame, deviation):
    import pandas
    from neuralforecast import NeuralForecast
    from neuralforecast.models import PatchTST

    long = frame.melt(id_vars="ds", var_name="unique_id", value_name="y")
    step = pandas.tseries.frequencies.to_offset(frame["ds"][1] - frame["ds"][0]).freqstr
    model = PatchTST(h=options.horizon, input_size=options.lookback, max_steps=options.max_steps, random_seed=1)
    begin = time.perf_counter()
    nf = NeuralForecast(models=[model], freq=step)
    table = nf.cross_validation(
        long, n_windows=options.origins, step_size=options.stride, val_size=300, refit=True, verbose=False
    )
    seconds = time.perf_counter() - begin
    scale = table["unique_id"].map(deviation)
    return seconds, float((((table["PatchTST"] - table["y"]) / scale) ** 2).mean())


def main():
    root = os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__))))
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("file", metavar="FILE", help="CSV: a date and numbers")
    parser.add_argument("--origins", type=int, default=12, metavar="N", help="%(default)s")
    parser.add_argument("--stride", type=int, default=720, metavar="ROWS", help="between origins (%(default)s)")
    parser.add_argument("--horizon", type=int, default=96, metavar="N", help="%(default)s")
    parser.add_argument("--lookback", type=int, default=512, metavar="N", help="%(default)s")
    parser.add_argument("--max-steps", type=int, default=5000, metavar="N", help="of PatchTST (%(default)s)")
    parser.add_argument("--binary", default=os.path.join(root, "build", "release", "samformer"), help="%(default)s")
    options = parser.parse_args()
    if importlib.util.find_spec("neuralforecast") is None:
        print(f"error: {sys.executable} has no neuralforecast (pip install neuralforecast)", file=sys.stderr)
        sys.exit(2)
    import pandas

    frame = pandas.read_csv(options.file)
    frame = frame.rename(columns={frame.columns[0]: "ds"})
    texts = list(frame["ds"])
    frame["ds"] = pandas.to_datetime(frame["ds"])
    rows, H = len(frame), options.horizon
    last = rows - H - 1
    origins = [last - i * options.stride for i in reversed(range(options.origins))]
    first = origins[0] + 1
    if first < options.lookback + H + 300 + 1:
        sys.exit("error: too few rows before the first origin: take fewer --origins or a smaller --stride")
    split = f"rows:{first - 300},300,{rows - first}"
    numbers = frame.drop(columns="ds")[: first - 300]
    deviation = numbers.std(ddof=0)
    with tempfile.TemporaryDirectory() as folder:
        own_seconds, own_mse = ours(options, [texts[o] for o in origins], folder, split)
    print(f"{options.origins} origins every {options.stride} rows, horizon {H}, look-back {options.lookback}")
    print(f"samformer backtest --refits each      {own_seconds:9.1f} s  mse {own_mse:.4f}", flush=True)
    seconds, mse = theirs(options, frame, deviation)
    memory = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20
    print(f"neuralforecast PatchTST, {options.max_steps:5} steps  {seconds:9.1f} s  mse {mse:.4f}  ({memory:.1f} GiB)")
    print(f"ratio of times {seconds / own_seconds:.1f}, of errors {own_mse / mse:.3f}")


if __name__ == "__main__":
    main()
