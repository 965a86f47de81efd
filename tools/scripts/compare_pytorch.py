#!/usr/bin/env python3
"""SAM steps a second of samformer beside PyTorch's, measured in turns in one run: python3 tools/scripts/compare_pytorch.py

Four programs train on the same series (`samformer data synth`), with the same batches in the same order, float32, the
same number of threads, L 512, SAM (rho 0.7) over Adam (lr 1e-3), mean squared error:

  samformer, samformer full   `samformer train --preset paper [--value full]`, its own seconds_per_epoch
  official                    the architecture of the authors' PyTorch module, written from its description: W_V L x L,
                              no W_O, RevIN with scale and shift, nn.Linear, SAM parameter by parameter, eager
  low-rank                    the paper's (W_V L x 16, W_O 16 x L) written well: one product for Q, K, V, fused
                              attention, Adam and SAM over all parameters at once, torch.compile where it works

--model itransformer|patchtst: instead of these `samformer train --model M` with its default sizes, and the same network
written well in PyTorch (one product for Q, K, V, fused attention where there is no score residual), `eager` and
`compiled`, with the same dropout.

--device cuda: the same on a GPU, where the low-rank or compiled one is also captured whole, both passes and the update, in a CUDA
graph. Float32 products are float32 on both sides (no TF32). An epoch is 256 steps (64 for many channels): ours carries
its weights to the device and back once an epoch, which is in its time.

Each runs in a process of its own; in every repeat each takes its turn, and the medians over the repeats are reported.
Memory is the peak of the whole process. Needs an installed torch; exits with 2 without one.
"""
import argparse
import csv
import importlib.util
import json
import math
import os
import resource
import statistics
import subprocess
import sys
import tempfile
import time

L, WIDTH, BATCH, RHO, EPOCHS = 512, 16, 32, 0.7, 3
PAPER = ["--preset", "paper", "--value"]
PLAIN = ["--stats-mix", "0", "--ema", "0", "--epoch-steps", "1", "--model"]
OURS = {
    "samformer": {"samformer": [*PAPER, "low-rank"], "samformer full": [*PAPER, "full"]},
    "itransformer": {"samformer": [*PLAIN, "itransformer"]},
    "patchtst": {"samformer": [*PLAIN, "patchtst"]},
}
THEIRS = {"samformer": ("official", "low-rank"), "itransformer": ("eager", "compiled"), "patchtst": ("eager", "compiled")}


def steps_of(model, channels, device):
    """Steps of an epoch: few where a step is long."""
    if model != "samformer":
        return 64 if device == "cuda" else max(4, min(16, 112 // channels))
    if device == "cuda":
        return 256 if channels <= 100 else 64
    return max(4, min(64, 1920 // channels))


# ---- A PyTorch process: reads a number of steps from each line of stdin, answers with seconds and peak memory -------


def philox(counter, key):
    """Philox4x32-10 (Salmon et al., SC 2011), samformer's generator."""
    for _ in range(10):
        p0, p1 = 0xD2511F53 * counter[0], 0xCD9E8D57 * counter[2]
        counter = [p1 >> 32 ^ counter[1] ^ key[0], p1 & 0xFFFFFFFF, p0 >> 32 ^ counter[3] ^ key[1], p0 & 0xFFFFFFFF]
        key = [key[0] + 0x9E3779B9 & 0xFFFFFFFF, key[1] + 0xBB67AE85 & 0xFFFFFFFF]
    return counter


def shuffled(count, seed, epoch):
    """The order of the windows in an epoch (from 0) of `samformer train --seed`."""
    order = list(range(count))
    for i in range(count - 1, 0, -1):
        words = philox([i // 2, 0, epoch, 1], [seed, 0])
        bits = words[i % 2 * 2] << 32 | words[i % 2 * 2 + 1]
        j = bits * (i + 1) >> 64
        order[i], order[j] = order[j], order[i]
    return order


def marks_of(rows):
    """What iTransformer reads of hourly dates, [4][rows]."""
    import datetime

    dates = [datetime.datetime.fromisoformat(row[0]) for row in rows]
    days = [((d.day - 1) / 30 - 0.5, (d.timetuple().tm_yday - 1) / 365 - 0.5) for d in dates]
    clock = [(d.hour / 23 - 0.5, d.weekday() / 6 - 0.5) for d in dates]
    return [list(mark) for mark in zip(*((*a, *b) for a, b in zip(clock, days)))]


def worker(network, kind, path, device, horizon, steps, threads):
    import torch
    from torch import nn
    from torch.nn import functional as F

    torch.set_num_threads(threads)
    torch.manual_seed(1)
    with open(path, newline="") as file:
        rows = list(csv.reader(file))[1:]
    series = torch.tensor([[float(cell) for cell in row[1:]] for row in rows], dtype=torch.float64)
    marks = torch.tensor(marks_of(rows), dtype=torch.float32).to(device)
    del rows
    windows = steps * BATCH
    train = series[: windows + L + horizon - 1]
    deviation = train.std(0, unbiased=False)
    deviation[deviation == 0] = 1
    series = ((series - train.mean(0)) / deviation).float().T.contiguous().to(device)
    channels = series.shape[0]

    class RevIN(nn.Module):
        def __init__(self, guard):
            super().__init__()
            self.affine_weight = nn.Parameter(torch.ones(channels))
            self.affine_bias = nn.Parameter(torch.zeros(channels))
            self.guard = guard

        def normalise(self, x):
            mean = x.mean(-1, keepdim=True).detach()
            sigma = torch.sqrt(x.var(-1, keepdim=True, unbiased=False) + 1e-5).detach()
            return (x - mean) / sigma * self.affine_weight[:, None] + self.affine_bias[:, None], mean, sigma

        def inverse(self, z, mean, sigma):
            scale = self.affine_weight[:, None] + self.guard
            return (z - self.affine_bias[:, None]) / scale * sigma + mean

    class Official(nn.Module):
        def __init__(self):
            super().__init__()
            self.revin = RevIN(1e-10)
            self.compute_keys = nn.Linear(L, WIDTH)
            self.compute_queries = nn.Linear(L, WIDTH)
            self.compute_values = nn.Linear(L, L)
            self.linear_forecaster = nn.Linear(L, horizon)

        def forward(self, x):
            u, mean, sigma = self.revin.normalise(x)
            q, k, v = self.compute_queries(u), self.compute_keys(u), self.compute_values(u)
            attention = torch.softmax(q @ k.transpose(1, 2) / math.sqrt(WIDTH), -1)
            return self.revin.inverse(self.linear_forecaster(u + attention @ v), mean, sigma)

    class LowRank(nn.Module):
        def __init__(self):
            super().__init__()
            self.revin = RevIN(0.0)
            self.compute = nn.Linear(L, 3 * WIDTH)
            self.output_projection = nn.Linear(WIDTH, L)
            self.linear_forecaster = nn.Linear(L, horizon)

        def forward(self, x):
            u, mean, sigma = self.revin.normalise(x)
            q, k, v = self.compute(u)[:, None].chunk(3, -1)  # [N, 1, D, 16]: the fused attention wants heads
            context = F.scaled_dot_product_attention(q, k, v)[:, 0]
            return self.revin.inverse(self.linear_forecaster(u + self.output_projection(context)), mean, sigma)

    def normalised(x):
        mean = x.mean(-1, keepdim=True)
        sigma = torch.sqrt(x.var(-1, keepdim=True, unbiased=False) + 1e-5)
        return (x - mean) / sigma, mean, sigma

    class ITransformer(nn.Module):
        def __init__(self, d=256, f=256, heads=8, layers=2, dropout=0.1):
            super().__init__()
            self.heads, self.rate = heads, dropout
            self.embedding = nn.Linear(L, d)
            self.drop = nn.Dropout(dropout)
            part = lambda make: nn.ModuleList(make() for _ in range(layers))
            self.qkv, self.out = part(lambda: nn.Linear(d, 3 * d)), part(lambda: nn.Linear(d, d))
            self.first, self.second = part(lambda: nn.Linear(d, f)), part(lambda: nn.Linear(f, d))
            self.norm1, self.norm2 = part(lambda: nn.LayerNorm(d)), part(lambda: nn.LayerNorm(d))
            self.norm, self.projector = nn.LayerNorm(d), nn.Linear(d, horizon)

        def forward(self, x):
            x, seen = x  # [N, D, L], [N, 4, L]
            u, mean, sigma = normalised(x)
            z = self.drop(self.embedding(torch.cat([u, seen], 1)))
            N, T, d = z.shape
            for qkv, out, first, second, norm1, norm2 in zip(
                self.qkv, self.out, self.first, self.second, self.norm1, self.norm2
            ):
                q, k, v = qkv(z).view(N, T, 3, self.heads, d // self.heads).permute(2, 0, 3, 1, 4)
                context = F.scaled_dot_product_attention(q, k, v, dropout_p=self.rate)
                z = norm1(z + self.drop(out(context.transpose(1, 2).reshape(N, T, d))))
                z = norm2(z + self.drop(second(self.drop(F.gelu(first(z))))))
            return self.projector(self.norm(z[:, :channels])) * sigma + mean

    class PatchTST(nn.Module):
        def __init__(self, d=16, f=128, heads=4, layers=3, dropout=0.3, patch=16, stride=8):
            super().__init__()
            self.heads, self.patch, self.stride = heads, patch, stride
            n = (L - patch) // stride + 2
            self.embedding, self.position = nn.Linear(patch, d), nn.Parameter(torch.empty(n, d).uniform_(-0.02, 0.02))
            self.drop = nn.Dropout(dropout)
            part = lambda make: nn.ModuleList(make() for _ in range(layers))
            self.qkv, self.out = part(lambda: nn.Linear(d, 3 * d)), part(lambda: nn.Linear(d, d))
            self.first, self.second = part(lambda: nn.Linear(d, f)), part(lambda: nn.Linear(f, d))
            self.norm1, self.norm2 = part(lambda: nn.BatchNorm1d(d)), part(lambda: nn.BatchNorm1d(d))
            self.head = nn.Linear(d * n, horizon)

        def forward(self, x):
            u, mean, sigma = normalised(x[0])
            u = F.pad(u, (0, self.stride), mode="replicate").unfold(-1, self.patch, self.stride)
            z = self.drop(self.embedding(u.flatten(0, 1)) + self.position)
            N, T, d = z.shape
            scores = 0
            for qkv, out, first, second, norm1, norm2 in zip(
                self.qkv, self.out, self.first, self.second, self.norm1, self.norm2
            ):
                q, k, v = qkv(z).view(N, T, 3, self.heads, d // self.heads).permute(2, 0, 3, 1, 4)
                scores = q @ k.transpose(-1, -2) / math.sqrt(d // self.heads) + scores
                context = torch.softmax(scores, -1) @ v
                y = z + self.drop(self.drop(out(context.transpose(1, 2).reshape(N, T, d))))
                z = norm1(y.view(N * T, d)).view(N, T, d)
                y = z + self.drop(second(self.drop(F.gelu(first(z)))))
                z = norm2(y.view(N * T, d)).view(N, T, d)
            z = self.head(z.transpose(1, 2).flatten(1)).view(-1, channels, horizon)
            return z * sigma + mean

    official = kind == "official"
    made = {"itransformer": ITransformer, "patchtst": PatchTST, "samformer": Official if official else LowRank}
    plain = made[network]().to(device)
    on_gpu = device == "cuda"
    parameters = list(plain.parameters())
    adam = torch.optim.Adam(parameters, lr=1e-3, fused=not official, capturable=on_gpu and not official)

    def perturb():
        if official:
            saved = [p.detach().clone() for p in parameters]
            with torch.no_grad():
                norm = torch.norm(torch.stack([p.grad.norm(p=2) for p in parameters]), p=2)
                for p in parameters:
                    p.add_(p.grad * (RHO / (norm + 1e-12)))
            return saved
        with torch.no_grad():
            saved = [p.clone() for p in parameters]
            gradients = [p.grad for p in parameters]
            norm = torch.linalg.vector_norm(torch.stack(torch._foreach_norm(gradients)))
            torch._foreach_add_(parameters, torch._foreach_mul(gradients, RHO / (norm + 1e-12)))
        return saved

    def restore(saved):
        with torch.no_grad():
            if official:
                for p, before in zip(parameters, saved):
                    p.data = before
            else:
                torch._foreach_copy_(parameters, saved)

    def step(model, x, y):
        F.mse_loss(model(x), y).backward()
        saved = perturb()
        adam.zero_grad()
        F.mse_loss(model(x), y).backward()
        restore(saved)
        adam.step()
        adam.zero_grad()

    order = [start for epoch in range(EPOCHS) for start in shuffled(windows, 1, epoch)]
    at = 0

    def batch():
        nonlocal at
        starts = order[at : at + BATCH]
        at = (at + BATCH) % len(order)
        both = torch.stack([series[:, s : s + L + horizon] for s in starts])
        x, y = both[..., :L].contiguous(), both[..., L:].contiguous()
        if network == "samformer":
            return x, y
        return (x, torch.stack([marks[:, s : s + L] for s in starts])), y

    model, note = plain, "eager"
    if kind in ("low-rank", "compiled"):
        try:
            compiled = torch.compile(plain, dynamic=False)
            step(compiled, *batch())
            model, note = compiled, "compiled"
        except Exception as error:  # no compiler, no support on this machine: any of its many exceptions
            note = f"eager: torch.compile failed ({type(error).__name__})"
            adam.zero_grad()
    for _ in range(3):
        step(model, *batch())

    def run(x, y):
        step(model, x, y)

    if on_gpu and kind in ("low-rank", "compiled"):
        try:
            x, y = batch()
            inputs = x if isinstance(x, tuple) else (x,)
            torch.cuda.synchronize()
            side = torch.cuda.Stream()
            with torch.cuda.stream(side):  # a capture wants its warm-up on a stream of its own
                for _ in range(3):
                    step(model, x, y)
            torch.cuda.synchronize()
            graph = torch.cuda.CUDAGraph()
            with torch.cuda.graph(graph):
                step(model, x, y)

            def run(new_x, new_y):
                for old, new in zip(inputs, new_x if isinstance(new_x, tuple) else (new_x,)):
                    old.copy_(new)
                y.copy_(new_y)
                graph.replay()

            run(*batch())
            note += ", one CUDA graph"
        except Exception as error:  # as above
            note += f", no CUDA graph ({type(error).__name__}: {error})"
    print(json.dumps({"note": note, "torch": torch.__version__}), flush=True)
    for line in sys.stdin:
        batches = [batch() for _ in range(int(line))]  # gathering them is not the step's time
        if on_gpu:
            torch.cuda.synchronize()
        begin = time.perf_counter()
        for new_x, new_y in batches:
            run(new_x, new_y)
        if on_gpu:
            torch.cuda.synchronize()
        seconds = (time.perf_counter() - begin) / len(batches)
        memory = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024
        print(json.dumps({"seconds": seconds, "memory": memory}), flush=True)


# ---- The comparison -------------------------------------------------------------------------------------------------


def fail(text, code):
    print(f"error: {text}", file=sys.stderr)
    sys.exit(code)


class PyTorch:
    """One PyTorch process."""

    def __init__(self, network, kind, path, device, horizon, steps, threads):
        words = [sys.executable, __file__, "--worker", network, kind, path, device]
        words += [str(horizon), str(steps), str(threads)]
        environment = dict(os.environ, OMP_NUM_THREADS=str(threads), MKL_NUM_THREADS=str(threads))
        self.process = subprocess.Popen(words, env=environment, text=True, stdin=subprocess.PIPE, stdout=subprocess.PIPE)
        self.kind = kind
        self.about = self.answer()

    def answer(self):
        line = self.process.stdout.readline()
        if not line:
            fail(f"the PyTorch process ({self.kind}) ended early, exit code {self.process.wait()}", 1)
        return json.loads(line)

    def steps(self, count):
        print(count, file=self.process.stdin, flush=True)
        return self.answer()

    def close(self):
        self.process.kill()
        self.process.wait()


def program(words):
    done = subprocess.run(words, capture_output=True, text=True)
    if done.returncode != 0:
        fail(f"{' '.join(words)}: exit code {done.returncode}\n{done.stderr}", 1)
    return done.stdout


def our_steps(binary, flags, path, device, horizon, steps, threads, folder):
    train = L + horizon - 1 + steps * BATCH
    words = [binary, "train", "--data", path, *flags, "--lookback", str(L)]
    words += ["--horizon", str(horizon), "--split", f"rows:{train},{horizon},{horizon}", "--batch", str(BATCH)]
    words += ["--lr", "1e-3", "--rho", str(RHO), "--epochs", str(EPOCHS), "--patience", "0", "--seed", "1"]
    words += ["--device", device, "--threads", str(threads), "--out", os.path.join(folder, "run"), "--overwrite"]
    result = json.loads(program(words + ["--json", "--quiet"]))
    return {"seconds": result["seconds_per_epoch"] / steps, "memory": result["peak_memory_bytes"]}


def compare(binary, model, device, channels, horizon, repeats, threads):
    steps = steps_of(model, channels, device)
    with tempfile.TemporaryDirectory() as folder:
        path = os.path.join(folder, "series.csv")
        rows = L + 3 * horizon - 1 + steps * BATCH
        program([binary, "data", "synth", "seasonal", "--channels", str(channels), "--rows", str(rows), "--out", path])
        theirs = []
        try:
            for kind in THEIRS[model]:
                theirs.append(PyTorch(model, kind, path, device, horizon, steps, threads))
            turns = {name: [] for name in (*OURS[model], *THEIRS[model])}
            for _ in range(repeats):
                for name, flags in OURS[model].items():
                    turns[name].append(our_steps(binary, flags, path, device, horizon, steps, threads, folder))
                for other in theirs:
                    turns[other.kind].append(other.steps(steps))
        finally:
            for other in theirs:
                other.close()
    result = {"D": channels, "H": horizon, "L": L, "batch": BATCH, "threads": threads, "repeats": repeats}
    result["model"] = model
    result["device"] = device
    result["torch"] = theirs[0].about["torch"]
    result["second_is"] = theirs[1].about["note"]
    for name, list_of in turns.items():
        seconds = [turn["seconds"] for turn in list_of]
        result[name] = {
            "seconds": statistics.median(seconds),
            "fastest": min(seconds),
            "slowest": max(seconds),
            "memory": max(turn["memory"] for turn in list_of),
        }
    return result


def table(result):
    model = result["model"]
    first, second = THEIRS[model]
    lines = [f"{model}, D {result['D']}, H {result['H']}, {result['device']}: torch {result['torch']}"]
    lines[0] += f", {second} is {result['second_is']}"
    header = f"{'':16}{'ms a step':>10}{'(range)':>18}{'steps/s':>9}{'MiB':>7}"
    lines.append(header + f"{'x ' + first:>12}{'x ' + second:>12}")
    for name in (*OURS[model], *THEIRS[model]):
        own = result[name]
        spread = f"({own['fastest'] * 1e3:.2f}-{own['slowest'] * 1e3:.2f})"
        line = f"{name:16}{own['seconds'] * 1e3:10.2f}{spread:>18}{1 / own['seconds']:9.1f}{own['memory'] / 2**20:7.0f}"
        for other in THEIRS[model]:
            line += f"{result[other]['seconds'] / own['seconds']:12.2f}"
        lines.append(line)
    return "\n".join(lines)


def shape(text):
    channels, horizon = (int(part) for part in text.split("x"))
    if channels < 1 or horizon < 1:
        raise ValueError
    return channels, horizon


def main():
    root = os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__))))
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--shapes", default="7x96,21x96,321x96,862x96", metavar="DxH[,DxH]", help="%(default)s")
    parser.add_argument("--model", choices=tuple(OURS), default="samformer", help="%(default)s")
    parser.add_argument("--repeats", type=int, default=5, metavar="N", help="turns of each program (%(default)s)")
    parser.add_argument("--device", choices=("cpu", "cuda"), default="cpu", help="%(default)s")
    parser.add_argument("--threads", type=int, default=len(os.sched_getaffinity(0)), metavar="N", help="all cores")
    parser.add_argument("--binary", default=os.path.join(root, "build", "release", "samformer"), help="%(default)s")
    parser.add_argument("--json", action="store_true", help="one JSON document")
    options = parser.parse_args()
    try:
        shapes = [shape(text) for text in options.shapes.split(",")]
    except ValueError:
        parser.error(f"--shapes: channels x horizon such as 7x96,321x720 expected, found {options.shapes}")
    if options.repeats < 1 or options.threads < 1:
        parser.error("--repeats and --threads count from 1")
    if importlib.util.find_spec("torch") is None:
        fail(f"{sys.executable} has no torch; install it (pip install torch) and run this script with that Python", 2)
    if not os.access(options.binary, os.X_OK):
        fail(f"no program at {options.binary}; build it (cmake --build --preset release) or give --binary", 2)
    results = []
    for channels, horizon in shapes:
        one = (options.model, options.device, channels, horizon, options.repeats, options.threads)
        results.append(compare(options.binary, *one))
        if not options.json:
            print(table(results[-1]) + "\n", flush=True)
    if options.json:
        print(json.dumps(results, indent=2))


if __name__ == "__main__":
    if sys.argv[1:2] == ["--worker"]:
        worker(*sys.argv[2:6], *map(int, sys.argv[6:]))
    else:
        main()
