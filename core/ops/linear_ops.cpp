#include <cmath>
#include <numbers>

#include "core/dual.h"
#include "core/dual_gemm.h"
#include "core/ops/ops.h"
#include "kernels/elementwise.h"

namespace samformer {
namespace {

template <class T>
Tensor<T> same_shape(const char* op, Var<T> a, Var<T> b) {
  SAMFORMER_CHECK(a.value().shape == b.value().shape, "{}: equal shapes expected, found {} and {}", op,
                  a.value().shape.to_string(), b.value().shape.to_string());
  return a.tape->arena().template tensor<T>(a.value().shape);
}

// to += factor(r, c) * from over all elements.
template <class T, class Factor>
void add_scaled(Tensor<T> to, Tensor<T> from, const Factor factor) {
  kernels::for_rows<T>(to.rows(), to.cols(), [=](std::int64_t r) {
#pragma omp simd
    for (std::int64_t c = 0; c < to.cols(); ++c) to(r, c) += factor(r, c) * from(r, c);
  });
}

// y = f(x) element by element; slope(x, y) is dy/dx.
template <class T, class Function, class Slope>
Var<T> elementwise(const char* op, Var<T> x, const Function f, const Slope slope) {
  const std::int64_t n = x.value().count();
  const Operation<T> operation(*x.tape, op, float_cost(n, 2 * n), float_cost(2 * n, 4 * n));
  const Tensor<T> in = x.value(), out = x.tape->arena().template tensor<T>(in.shape);
  kernels::for_rows<T>(in.rows(), in.cols(), [=](std::int64_t r) {
#pragma omp simd
    for (std::int64_t c = 0; c < in.cols(); ++c) out(r, c) = f(in(r, c));
  });
  return x.tape->record(out, {x}, [=](Var<T> self) {
    add_scaled(x.gradient(), self.gradient(),
               [=](std::int64_t r, std::int64_t c) { return slope(in(r, c), out(r, c)); });
  });
}

}  // namespace

template <class T>
Var<T> operator+(Var<T> a, Var<T> b) {
  const std::int64_t n = a.value().count();
  const Operation<T> operation(*a.tape, "add", float_cost(n, 3 * n), float_cost(4 * n, 6 * n));
  const Tensor<T> out = same_shape("add", a, b), x = a.value(), y = b.value();
  kernels::for_rows<T>(out.rows(), out.cols(), [=](std::int64_t r) {
#pragma omp simd
    for (std::int64_t c = 0; c < out.cols(); ++c) out(r, c) = x(r, c) + y(r, c);
  });
  return a.tape->record(out, {a, b}, [=](Var<T> self) {
    const auto one = [](std::int64_t, std::int64_t) { return static_cast<T>(1); };
    if (a.needs_gradient()) add_scaled(a.gradient(), self.gradient(), one);
    if (b.needs_gradient()) add_scaled(b.gradient(), self.gradient(), one);
  });
}

template <class T>
Var<T> operator-(Var<T> a, Var<T> b) {
  const std::int64_t n = a.value().count();
  const Operation<T> operation(*a.tape, "subtract", float_cost(n, 3 * n), float_cost(4 * n, 6 * n));
  const Tensor<T> out = same_shape("subtract", a, b), x = a.value(), y = b.value();
  kernels::for_rows<T>(out.rows(), out.cols(), [=](std::int64_t r) {
#pragma omp simd
    for (std::int64_t c = 0; c < out.cols(); ++c) out(r, c) = x(r, c) - y(r, c);
  });
  return a.tape->record(out, {a, b}, [=](Var<T> self) {
    const auto sign = [](double s) { return [s](std::int64_t, std::int64_t) { return static_cast<T>(s); }; };
    if (a.needs_gradient()) add_scaled(a.gradient(), self.gradient(), sign(1));
    if (b.needs_gradient()) add_scaled(b.gradient(), self.gradient(), sign(-1));
  });
}

template <class T>
Var<T> operator*(Var<T> a, Var<T> b) {
  const std::int64_t n = a.value().count();
  const Operation<T> operation(*a.tape, "multiply", float_cost(n, 3 * n), float_cost(4 * n, 8 * n));
  const Tensor<T> out = same_shape("multiply", a, b), x = a.value(), y = b.value();
  kernels::for_rows<T>(out.rows(), out.cols(), [=](std::int64_t r) {
#pragma omp simd
    for (std::int64_t c = 0; c < out.cols(); ++c) out(r, c) = x(r, c) * y(r, c);
  });
  return a.tape->record(out, {a, b}, [=](Var<T> self) {
    const auto times = [](Tensor<T> f) { return [f](std::int64_t r, std::int64_t c) { return f(r, c); }; };
    if (a.needs_gradient()) add_scaled(a.gradient(), self.gradient(), times(y));
    if (b.needs_gradient()) add_scaled(b.gradient(), self.gradient(), times(x));
  });
}

template <class T>
Var<T> relu(Var<T> x) {
  return elementwise(
      "relu", x, [](T v) { return v > static_cast<T>(0) ? v : static_cast<T>(0); },
      [](T v, T) { return static_cast<T>(v > static_cast<T>(0) ? 1 : 0); });
}

template <class T>
Var<T> tanh(Var<T> x) {
  return elementwise(
      "tanh", x,
      [](T v) {
        using std::tanh;
        return tanh(v);
      },
      [](T, T y) { return static_cast<T>(1) - y * y; });
}

template <class T>
Var<T> gelu(Var<T> x) {
  const auto distribution = [](T v) {
    using std::erf;
    return static_cast<T>(0.5) * (static_cast<T>(1) + erf(v * static_cast<T>(std::numbers::sqrt2 / 2)));
  };
  return elementwise(
      "gelu", x, [=](T v) { return v * distribution(v); },
      [=](T v, T) {
        using kernels::exponential;
        const T density = static_cast<T>(std::numbers::inv_sqrtpi * std::numbers::sqrt2 / 2) *
                          exponential(static_cast<T>(-0.5) * v * v);
        return distribution(v) + v * density;
      });
}

template <class T>
Var<T> matmul(Var<T> a, Var<T> b) {
  const Tensor<T> A = a.value(), B = b.value();
  SAMFORMER_CHECK(A.cols() == B.rows(), "matmul: [M, K] [K, N] expected, found {} and {}", A.shape.to_string(),
                  B.shape.to_string());
  const Cost once = product_cost(A.rows(), B.cols(), A.cols());
  const Operation<T> operation(*a.tape, "matmul", once, {2 * once.flops, 2 * once.bytes});
  const Tensor<T> C = a.tape->arena().template tensor<T>(Shape{A.rows(), B.cols()});
  gemm(false, false, C.rows(), C.cols(), A.cols(), A.data, A.stride, B.data, B.stride, C.data, C.stride, false);
  return a.tape->record(C, {a, b}, [=](Var<T> self) {
    const Tensor<T> g = self.gradient();
    if (a.needs_gradient()) {
      const Tensor<T> to = a.gradient();
      gemm(false, true, A.rows(), A.cols(), B.cols(), g.data, g.stride, B.data, B.stride, to.data, to.stride, true);
    }
    if (b.needs_gradient()) {
      const Tensor<T> to = b.gradient();
      gemm(true, false, B.rows(), B.cols(), A.rows(), A.data, A.stride, g.data, g.stride, to.data, to.stride, true);
    }
  });
}

template <class T>
Var<T> linear(Var<T> x, Var<T> weight) {
  const Tensor<T> X = x.value(), W = weight.value();
  SAMFORMER_CHECK(X.cols() == W.cols(), "linear: x [rows, in] and weight [out, in] expected, found {} and {}",
                  X.shape.to_string(), W.shape.to_string());
  const Cost once = product_cost(X.rows(), W.rows(), X.cols());
  const Operation<T> operation(*x.tape, "linear", once, {2 * once.flops, 2 * once.bytes});
  const Tensor<T> Y = x.tape->arena().template tensor<T>(Shape{X.rows(), W.rows()});
  gemm(false, true, Y.rows(), Y.cols(), X.cols(), X.data, X.stride, W.data, W.stride, Y.data, Y.stride, false);
  return x.tape->record(Y, {x, weight}, [=](Var<T> self) {
    const Tensor<T> g = self.gradient();
    if (x.needs_gradient()) {
      const Tensor<T> to = x.gradient();
      gemm(false, false, X.rows(), X.cols(), W.rows(), g.data, g.stride, W.data, W.stride, to.data, to.stride, true);
    }
    if (weight.needs_gradient()) {
      const Tensor<T> to = weight.gradient();
      gemm(true, false, W.rows(), W.cols(), X.rows(), g.data, g.stride, X.data, X.stride, to.data, to.stride, true);
    }
  });
}

template <class T>
Var<T> add_bias(Var<T> x, Var<T> bias) {
  const Tensor<T> X = x.value(), b = bias.value();
  SAMFORMER_CHECK(b.count() == X.cols(), "add_bias: a bias of {} expected, found {}", X.cols(), b.shape.to_string());
  const std::int64_t n = X.count();
  const Operation<T> operation(*x.tape, "add_bias", float_cost(n, 2 * n), float_cost(n, n));
  kernels::for_rows<T>(X.rows(), X.cols(), [=](std::int64_t r) {
#pragma omp simd
    for (std::int64_t c = 0; c < X.cols(); ++c) X(r, c) += b.data[c];
  });
  return x.tape->record_in_place(x, {bias}, [=](Var<T> self) {
    if (!bias.needs_gradient()) return;
    const Tensor<T> g = self.gradient();
    kernels::add_column_sums(bias.gradient().data, g.data, g.stride, g.rows(), g.cols());
  });
}

template <class T>
Var<T> linear(Var<T> x, Var<T> weight, Var<T> bias) {
  return add_bias(linear(x, weight), bias);
}

namespace {

template <class T, class Measure, class Slope>
Var<T> mean_difference(const char* op, Var<T> a, Var<T> b, const Measure measure, const Slope slope) {
  const Tensor<T> x = a.value(), y = b.value();
  SAMFORMER_CHECK(x.shape == y.shape && x.count() > 0, "{}: equal, non-empty shapes expected, found {} and {}", op,
                  x.shape.to_string(), y.shape.to_string());
  Arena& arena = a.tape->arena();
  const Tensor<T> out = arena.tensor<T>(Shape{});
  out.data[0] = kernels::mean_difference(x.data, x.stride, y.data, y.stride, x.rows(), x.cols(), measure,
                                         arena.allocate<T>(x.rows()));
  return a.tape->record(out, {a, b}, [=](Var<T> self) {
    const T scale = self.gradient().data[0] / static_cast<T>(static_cast<double>(x.count()));
    for (const double sign : {1.0, -1.0}) {
      const Var<T> input = sign > 0 ? a : b;
      if (!input.needs_gradient()) continue;
      const Tensor<T> to = input.gradient();
      const T factor = scale * static_cast<T>(sign);
      kernels::for_rows<T>(to.rows(), to.cols(), [=](std::int64_t r) {
        for (std::int64_t c = 0; c < to.cols(); ++c) to(r, c) += factor * slope(x(r, c) - y(r, c));
      });
    }
  });
}

}  // namespace

template <class T>
Var<T> mse(Var<T> prediction, Var<T> target) {
  return mean_difference(
      "mse", prediction, target, [](T e) { return e * e; }, [](T e) { return static_cast<T>(2) * e; });
}

template <class T>
Var<T> mae(Var<T> prediction, Var<T> target) {
  const T zero = static_cast<T>(0);
  return mean_difference(
      "mae", prediction, target, [=](T e) { return e < zero ? zero - e : e; },
      [=](T e) {
        return static_cast<T>(e > zero ? 1 : e < zero ? -1 : 0);
      });
}

// The three scalars of the engine.
#define INSTANTIATE(T)                                          \
  template Var<T> operator+(Var<T> a, Var<T> b);                \
  template Var<T> operator-(Var<T> a, Var<T> b);                \
  template Var<T> operator*(Var<T> a, Var<T> b);                \
  template Var<T> relu(Var<T> x);                               \
  template Var<T> tanh(Var<T> x);                               \
  template Var<T> gelu(Var<T> x);                               \
  template Var<T> matmul(Var<T> a, Var<T> b);                   \
  template Var<T> linear(Var<T> x, Var<T> weight);              \
  template Var<T> add_bias(Var<T> x, Var<T> bias);              \
  template Var<T> linear(Var<T> x, Var<T> weight, Var<T> bias); \
  template Var<T> mse(Var<T> prediction, Var<T> target);        \
  template Var<T> mae(Var<T> prediction, Var<T> target);

INSTANTIATE(float)
INSTANTIATE(double)
INSTANTIATE(Dual<double>)
#undef INSTANTIATE

}  // namespace samformer
