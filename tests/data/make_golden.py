"""Makes the golden files of this folder: SAMformer in plain Python, its gradients by reverse-mode differentiation of
scalars, in double precision. Independent of the engine and of any library; the random numbers are Python's.

Usage: python3 make_golden.py [folder]          (the default is this file's own folder)

Shapes: x [N, D, L], y and prediction [N, D, H], every weight [out, in]. One file a model and number of channels:

    parameter.*                       the weights of everything below; the official PyTorch module's names
    forward.mean, .sigma, .attention  RevIN's statistics [N, D], the attention map [N, D, D]
    prediction, loss, gradient.*      the mean squared error and its gradient
    gradient_norm, rho, loss_perturbed, gradient_perturbed.*      at w + rho g / (|g| + 1e-12)
    loss_mixed, gradient_mixed.*      the mean over all pairs (i, j): sample j's output with sample i's statistics
    prediction_last, loss_last, gradient_last.*                   RevIN around the last value
"""
import json
import math
import os
import random
import struct
import sys

EPS = 1e-5


class Number:
    """A value, what it was made from and the slopes; `tape` holds all of them in the order of creation."""
    tape = []
    __slots__ = ("value", "inputs", "grad")

    def __init__(self, value, inputs=()):
        self.value, self.inputs, self.grad = value, inputs, 0.0
        Number.tape.append(self)

    def __add__(self, other):
        if isinstance(other, Number):
            return Number(self.value + other.value, ((self, 1.0), (other, 1.0)))
        return Number(self.value + other, ((self, 1.0),))

    def __mul__(self, other):
        if isinstance(other, Number):
            return Number(self.value * other.value, ((self, other.value), (other, self.value)))
        return Number(self.value * other, ((self, other),))

    __radd__, __rmul__ = __add__, __mul__

    def __neg__(self):
        return self * -1.0

    def __sub__(self, other):
        return self + -other

    def inverse(self):
        return Number(1 / self.value, ((self, -1 / self.value ** 2),))

    def exp(self):
        e = math.exp(self.value)
        return Number(e, ((self, e),))


def dot(a, b):
    """Sum of products as one number, so that the tape stays short."""
    inputs = []
    for x, y in zip(a, b):
        if isinstance(x, Number):
            inputs.append((x, y.value if isinstance(y, Number) else y))
        if isinstance(y, Number):
            inputs.append((y, x.value if isinstance(x, Number) else x))
    plain = lambda v: v.value if isinstance(v, Number) else v
    return Number(math.fsum(plain(x) * plain(y) for x, y in zip(a, b)), inputs)


def total(numbers):
    return Number(math.fsum(n.value for n in numbers), [(n, 1.0) for n in numbers])


def differentiate(result):
    result.grad = 1.0
    for node in reversed(Number.tape):
        for source, slope in node.inputs:
            source.grad += slope * node.grad


def linear(rows, weight, bias):
    return [[dot(row, w) + b for w, b in zip(weight, bias)] for row in rows]


def statistics(window, center):
    mean = math.fsum(window) / len(window)
    variance = math.fsum((v - mean) ** 2 for v in window) / len(window)
    return (mean if center == "mean" else window[-1]), math.sqrt(variance + EPS)


def samformer(p, x, center="mean"):
    """z [N][D][H] before RevIN's inverse, (level, sigma) [N][D], the attention map."""
    low_rank = "output_projection.weight" in p
    width = len(p["compute_queries.weight"])
    z, stats, maps = [], [], []
    for sample in x:
        own = [statistics(window, center) for window in sample]
        u = [[p["revin.affine_weight"][d] * ((v - level) / sigma) + p["revin.affine_bias"][d] for v in window]
             for d, (window, (level, sigma)) in enumerate(zip(sample, own))]
        q, k, v = (linear(u, p[f"compute_{n}.weight"], p[f"compute_{n}.bias"]) for n in ("queries", "keys", "values"))
        attention = []
        for row in q:
            scores = [dot(row, key) * (1 / math.sqrt(width)) for key in k]
            most = max(s.value for s in scores)
            e = [(s + -most).exp() for s in scores]
            scale = total(e).inverse()
            attention.append([n * scale for n in e])
        context = [[dot(row, [values[i] for values in v]) for i in range(len(v[0]))] for row in attention]
        if low_rank:
            context = linear(context, p["output_projection.weight"], p["output_projection.bias"])
        joined = [[a + b for a, b in zip(r, c)] for r, c in zip(u, context)]
        z.append(linear(joined, p["linear_forecaster.weight"], p["linear_forecaster.bias"]))
        stats.append(own)
        maps.append(attention)
    return z, stats, maps


def inverse(p, z, d, level, sigma):
    guard = 0.0 if "output_projection.weight" in p else EPS * EPS
    factor = (p["revin.affine_weight"][d] + guard).inverse() * sigma
    return [(v - p["revin.affine_bias"][d]) * factor + level for v in z]


def run(values, x, y, center="mean", mixed=False):
    """Prediction, loss, gradient and what the forward pass saw, at plain numbers `values`."""
    Number.tape.clear()
    leaf = lambda v: [leaf(w) for w in v] if isinstance(v, list) else Number(v)
    p = {name: leaf(v) for name, v in values.items()}
    z, stats, maps = samformer(p, x, center)
    errors, prediction = [], []
    for j, sample in enumerate(z):
        prediction.append([])
        for d, row in enumerate(sample):
            own = inverse(p, row, d, *stats[j][d])
            prediction[-1].append([n.value for n in own])
            for i in range(len(z)) if mixed else [j]:
                guess = inverse(p, row, d, *stats[i][d])
                errors += [e * e for e in (g + -t for g, t in zip(guess, y[j][d]))]
    loss = total(errors) * (1 / len(errors))
    differentiate(loss)
    gradient = lambda v: [gradient(w) for w in v] if isinstance(v, list) else v.grad
    seen = {"mean": [[s[0] for s in sample] for sample in stats], "sigma": [[s[1] for s in sample] for sample in stats],
            "attention": [[[a.value for a in row] for row in sample] for sample in maps]}
    return prediction, loss.value, {name: gradient(v) for name, v in p.items()}, seen


def flatten(v):
    return [w for part in v for w in flatten(part)] if isinstance(v, list) else [v]


def shape(v):
    return [len(v)] + shape(v[0]) if isinstance(v, list) else []


def normals(r, *sizes, mean=0.0, scale=1.0):
    if not sizes:
        return r.gauss(mean, scale)
    return [normals(r, *sizes[1:], mean=mean, scale=scale) for _ in range(sizes[0])]


def parameters(r, D, L, H, width, low_rank):
    p = {"revin.affine_weight": normals(r, D, mean=1.0, scale=0.1), "revin.affine_bias": normals(r, D, scale=0.1)}
    layers = [("compute_keys", width, L), ("compute_queries", width, L),
              ("compute_values", width if low_rank else L, L), ("linear_forecaster", H, L)]
    if low_rank:
        layers.append(("output_projection", L, width))
    for name, out, into in layers:
        p[name + ".weight"] = normals(r, out, into, scale=1 / math.sqrt(into))
        p[name + ".bias"] = normals(r, out, scale=0.1)
    return p


def case(D, low_rank, rho=0.6, N=3, L=11, H=4, width=3):
    r = random.Random(f"samformer {D} {low_rank}")
    p = parameters(r, D, L, H, width, low_rank)
    x, y = normals(r, N, D, L), normals(r, N, D, H)
    if D == 9:
        x[0][4] = [2.0] * L  # a constant channel: sigma = sqrt(1e-5)
    t = {"x": x, "y": y, "rho": [rho]}
    t.update({"parameter." + k: v for k, v in p.items()})

    def add(suffix, prediction, loss, gradient):
        if prediction:
            t["prediction" + suffix] = prediction
        t["loss" + suffix] = [loss]
        t.update({f"gradient{suffix}." + k: v for k, v in gradient.items()})

    prediction, loss, gradient, seen = run(p, x, y)
    add("", prediction, loss, gradient)
    t.update({"forward." + k: v for k, v in seen.items()})
    norm = math.sqrt(math.fsum(g * g for v in gradient.values() for g in flatten(v)))
    t["gradient_norm"] = [norm]
    shift = lambda w, g: [shift(a, b) for a, b in zip(w, g)] if isinstance(w, list) else w + rho * g / (norm + 1e-12)
    add("_perturbed", None, *run({k: shift(p[k], gradient[k]) for k in p}, x, y)[1:3])
    add("_mixed", None, *run(p, x, y, mixed=True)[1:3])
    add("_last", *run(p, x, y, center="last")[:3])
    return t


def store(path, tensors):
    header, data = {}, b""
    for name in sorted(tensors):
        values = flatten(tensors[name])
        header[name] = {"dtype": "F64", "shape": shape(tensors[name]), "data_offsets": [len(data), len(data) + 8 * len(values)]}
        data += struct.pack(f"<{len(values)}d", *values)
    text = json.dumps(header, separators=(",", ":")).encode()
    text += b" " * (-len(text) % 8)
    with open(path, "wb") as f:
        f.write(struct.pack("<Q", len(text)) + text + data)
    print(f"{os.path.basename(path)}: {os.path.getsize(path)} bytes, loss {tensors['loss'][0]!r}")


def main():
    folder = sys.argv[1] if len(sys.argv) > 1 else os.path.dirname(os.path.abspath(__file__))
    for low_rank, name in ((True, "low_rank"), (False, "full")):
        for D in (1, 3, 9):
            store(os.path.join(folder, f"samformer_{name}_{D}.safetensors"), case(D, low_rank))


if __name__ == "__main__":
    main()
