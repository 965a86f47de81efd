#include "core/dual.h"
#include "core/dual_gemm.h"
#include "core/ops/ops.h"

namespace samformer {

template <class T, class On>
Var<T, On> bias_activation(Var<T, On> a, Var<T, On> bias, Activation activation, Var<T, On> residual,
                           const Dropout& dropout) {
  const Tensor<T> A = a.value();
  const std::int64_t n = A.count(), rows = A.rows(), cols = A.cols();
  SAMFORMER_CHECK(A.contiguous() && (!bias || bias.value().count() == cols) &&
                      (!residual || (residual.value().contiguous() && residual.value().count() == n)),
                  "bias_activation: a [R, C], bias [C] and residual [R, C] expected, found {}, {}, {}",
                  A.shape.to_string(), bias ? bias.value().shape.to_string() : "none",
                  residual ? residual.value().shape.to_string() : "none");
  SAMFORMER_CHECK(dropout.rate >= 0 && dropout.rate < 1, "dropout: a rate of at least 0 and below 1, not {}",
                  dropout.rate);
  Operation<T, On> op(*a.tape,
                      bias       ? "bias_activation"
                      : residual ? "add"
                                 : "activation",
                      float_cost(4 * n, (2 + (residual ? 1 : 0)) * n), float_cost(4 * n, 3 * n));
  const Tensor<T> Y = op.output(A.shape);
  T* const mask = op.saved(kernels::dropout_saved(op.on(), n, dropout));
  const T* const b = bias ? bias.value().data : nullptr;
  kernels::bias_activation(op.on(), Y.data, mask, A.data, b, residual ? residual.value().data : nullptr, rows, cols,
                           activation, dropout);
  return a.tape->record(Y, {a, bias, residual}, [=](Backward<T, On>& g) {
    const bool passes = activation == Activation::none && dropout.rate == 0;
    const Tensor<T> dy = passes ? g.self() : g.self_dense();
    const T* da = dy.data;
    std::int64_t ld = dy.stride;
    if (passes) {
      g.pass(a);
    } else if (a.needs_gradient() || bias.needs_gradient()) {
      const Sink<T> to = g.write(a, rows, cols);
      kernels::bias_activation_backward(g.on(), to, dy.data, mask, A.data, b, rows, cols, activation, dropout);
      da = to.data, ld = to.ld;
    }
    if (const Sink<T> db = g.into(bias)) {
      kernels::add_column_sums(g.on(), db, da, ld, rows, cols, g.scratch(kernels::column_sums_scratch(g.on(), cols)));
    }
    g.pass(residual);
  });
}

template <class T, class On>
Var<T, On> linear(Var<T, On> x, Var<T, On> weight) {
  return layers(x, {Layer<T, On>{weight, {}}}).z;
}

template <class T, class On>
Var<T, On> transpose(Var<T, On> x, std::int64_t N, Var<T, On> add) {
  const Tensor<T> X = x.value();
  SAMFORMER_CHECK(N > 0 && X.rows() % N == 0 && X.contiguous() && (!add || add.value().count() == X.count()),
                  "transpose: {} samples of whole rows expected, found {}", N, X.shape.to_string());
  const std::int64_t A = X.rows() / N, B = X.cols();
  Operation<T, On> op(*x.tape, "transpose", float_cost(add ? X.count() : 0, (add ? 3 : 2) * X.count()),
                      float_cost(X.count(), 3 * X.count()));
  const Tensor<T> Y = op.output(Shape{N * B, A});
  kernels::transpose(op.on(), Y.data, X.data, add ? static_cast<const T*>(add.value().data) : nullptr, N, A, B);
  return x.tape->record(Y, {x, add}, [=](Backward<T, On>& g) {
    const Tensor<T> dy = g.self_dense();
    if (const Sink<T> dx = g.into(x)) {
      kernels::transpose(g.on(), dx.data, static_cast<const T*>(dy.data),
                         dx.add ? static_cast<const T*>(dx.data) : nullptr, N, B, A);
    }
    g.pass(add);
  });
}

template <class T, class On>
Var<T, On> mse(Var<T, On> prediction, Var<T, On> target) {
  const Tensor<T> x = prediction.value(), y = target.value();
  SAMFORMER_CHECK(x.shape == y.shape && x.count() > 0 && x.contiguous() && y.contiguous(),
                  "mse: equal, non-empty shapes expected, found {} and {}", x.shape.to_string(), y.shape.to_string());
  Operation<T, On> op(*prediction.tape, "mse", float_cost(3 * x.count(), 2 * x.count()),
                      float_cost(3 * x.count(), 3 * x.count()));
  const Tensor<T> out = op.output(Shape{});
  kernels::mean_squares(op.on(), out.data, x.data, y.data, x.rows(), x.cols(), op.scratch(x.rows()));
  return prediction.tape->record(out, {prediction, target}, [=](Backward<T, On>& g) {
    const T* const seed = g.self().data;
    const Sink<T> dx = g.into(prediction), dy = g.into(target);
    kernels::mean_squares_backward(g.on(), dx, dy, seed, x.data, y.data, x.rows(), x.cols());
  });
}

namespace {

// Neighbours in memory, so that one kernel serves both.
template <class T, class On>
bool follows(const Layer<T, On>& a, const Layer<T, On>& b) {
  const Tensor<T> A = a.weight.value(), B = b.weight.value();
  return B.data == A.data + A.count() && b.column == a.column + A.rows() &&
         static_cast<bool>(a.bias) == static_cast<bool>(b.bias) &&
         (!a.bias || b.bias.value().data == a.bias.value().data + A.rows());
}

constexpr int most_layers = 4;

}  // namespace

template <class T, class On>
Projected<T, On> layers(Var<T, On> x, std::initializer_list<Layer<T, On>> all) {
  const Tensor<T> X = x.value();
  const std::int64_t R = X.rows(), in = X.cols();
  std::array<Layer<T, On>, most_layers> list{};
  const int count = static_cast<int>(all.size());
  SAMFORMER_CHECK(count >= 1 && count <= most_layers, "linear: 1 to {} layers side by side, not {}", most_layers,
                  count);
  std::copy(all.begin(), all.end(), list.begin());
  if constexpr (std::is_same_v<On, Cuda>) {  // in the order of their columns
    for (int i = 0; i < count; ++i) {
      for (int j = i + 1; j < count; ++j) {
        if (list[j].column < list[i].column) std::swap(list[i], list[j]);
      }
    }
  }
  std::int64_t O = 0;
  Cost forward{}, backward{};
  bool joined = true;  // the layers are one, in the order of their columns
  for (int i = 0; i < count; ++i) {
    const Tensor<T> W = list[i].weight.value();
    SAMFORMER_CHECK(W.cols() == in && W.contiguous() && (!list[i].bias || list[i].bias.value().count() == W.rows()),
                    "linear: x [rows, in], weight [out, in] and bias [out] expected, found {}, {}, {}",
                    X.shape.to_string(), W.shape.to_string(),
                    list[i].bias ? list[i].bias.value().shape.to_string() : "none");
    O += W.rows();
    const Cost once = product_cost(R, W.rows(), in);
    forward = {forward.flops + once.flops, forward.bytes + once.bytes};
    backward = {backward.flops + 2 * once.flops, backward.bytes + 2 * once.bytes};
    joined &= i == 0 || follows(list[i - 1], list[i]);
  }
  Tape<T, On>& tape = *x.tape;
  Operation<T, On> op(tape, "linear", forward, backward);
  const Tensor<T> Y = op.output(Shape{R, O});
  constexpr bool leaves_bias = std::is_same_v<On, Cuda>;
  if constexpr (leaves_bias) {
    SAMFORMER_CHECK(joined, "linear: layers one behind another in memory expected");
    kernels::gemm(op.on(), false, true, R, O, in, X.data, X.stride, list[0].weight.value().data, in, Y.data, O, false);
  } else {
    for (int i = 0; i < count; ++i) {
      const Tensor<T> W = list[i].weight.value();
      T* const y = Y.data + list[i].column;
      gemm(op.on(), false, true, R, W.rows(), in, X.data, X.stride, W.data, in, y, O, false);
      if (!list[i].bias) continue;
      const T* const b = list[i].bias.value().data;
      const std::int64_t out = W.rows();
      kernels::for_rows<T>(R, out, [=](std::int64_t r) {
#pragma omp simd
        for (std::int64_t c = 0; c < out; ++c) y[r * O + c] += b[c];
      });
    }
  }
  // Up to four layers and x: inputs of no tape are none.
  const auto input = [&](int i) { return i < count ? list[i].weight : Var<T, On>{}; };
  const auto bias = [&](int i) { return i < count ? list[i].bias : Var<T, On>{}; };
  Projected<T, On> out(tape.record(
      Y, {x, input(0), input(1), input(2), input(3), bias(0), bias(1), bias(2), bias(3)}, [=](Backward<T, On>& g) {
        const Tensor<T> dy = g.self();
        Sink<T> dx = g.into(x);
        if constexpr (std::is_same_v<On, Cuda>) {
          // One product and one sum for neighbours whose gradients are neighbours too.
          std::array<Sink<T>, most_layers> dw{}, db{};
          for (int i = 0; i < count; ++i) dw[i] = g.into(list[i].weight);
          for (int i = 0; i < count; ++i) db[i] = g.into(list[i].bias);
          const auto for_runs = [&](const auto& sinks, std::int64_t width, const auto& body) {
            for (int i = 0; i < count;) {
              std::int64_t out_rows = list[i].weight.value().rows();
              const Sink<T> to = sinks[i];
              const std::int64_t column = list[i].column;
              for (++i; i < count && to && sinks[i].data == to.data + out_rows * width && sinks[i].add == to.add; ++i) {
                out_rows += list[i].weight.value().rows();
              }
              if (to) body(to, column, out_rows);
            }
          };
          for_runs(db, 1, [&](Sink<T> to, std::int64_t column, std::int64_t n) {
            kernels::add_column_sums(g.on(), to, dy.data + column, dy.stride, R, n,
                                     g.scratch(kernels::column_sums_scratch(g.on(), n)));
          });
          for_runs(dw, in, [&](Sink<T> to, std::int64_t column, std::int64_t n) {
            kernels::gemm(g.on(), true, false, n, in, R, dy.data + column, dy.stride, X.data, X.stride, to.data, in,
                          to.add);
          });
          if (dx) {
            kernels::gemm(g.on(), false, false, R, in, O, dy.data, dy.stride, list[0].weight.value().data, in, dx.data,
                          dx.ld, dx.add);
          }
        } else {
          for (int i = count; i-- > 0;) {
            const Tensor<T> W = list[i].weight.value();
            const T* const own = dy.data + list[i].column;
            if (const Sink<T> db = g.into(list[i].bias)) {
              kernels::add_column_sums(g.on(), db, own, dy.stride, R, W.rows(), static_cast<T*>(nullptr));
            }
            if (dx) {
              gemm(g.on(), false, false, R, in, W.rows(), own, dy.stride, W.data, in, dx.data, dx.ld, dx.add);
              dx.add = true;
            }
            if (const Sink<T> dw = g.into(list[i].weight)) {
              gemm(g.on(), true, false, W.rows(), in, R, own, dy.stride, X.data, X.stride, dw.data, in, dw.add);
            }
          }
        }
      }));
  if constexpr (leaves_bias) out.pending.b = list[0].bias ? list[0].bias.value().data : nullptr;
  return out;
}

#define INSTANTIATE(T, On)                                                                             \
  template Var<T, On> bias_activation(Var<T, On>, Var<T, On>, Activation, Var<T, On>, const Dropout&); \
  template Var<T, On> linear(Var<T, On>, Var<T, On>);                                                  \
  template Var<T, On> transpose(Var<T, On>, std::int64_t, Var<T, On>);                                 \
  template Var<T, On> mse(Var<T, On>, Var<T, On>);                                                     \
  template Projected<T, On> layers(Var<T, On>, std::initializer_list<Layer<T, On>>);
SAMFORMER_FOR_EACH_TAPE(INSTANTIATE)
#undef INSTANTIATE

}  // namespace samformer
