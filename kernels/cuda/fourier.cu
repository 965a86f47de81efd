// Frequencies on the GPU; kernels/fourier.h has the formulas. A thread has a complex number of the result.
#include "kernels/cuda/blocks.h"
#include "kernels/fourier.h"

namespace samformer::kernels {
namespace {
using namespace simt;

struct Complex {
  float re = 0, im = 0;
};
SIMT_DEVICE Complex complex_at(In<float> p, std::int64_t i) { return {p[2 * i], p[2 * i + 1]}; }
SIMT_DEVICE void add_product(Complex& to, Complex a, Complex b) {
  to.re += a.re * b.re - a.im * b.im;
  to.im += a.re * b.im + a.im * b.re;
}
SIMT_DEVICE void add_conjugate_product(Complex& to, Complex a, Complex b) {
  to.re += a.re * b.re + a.im * b.im;
  to.im += a.re * b.im - a.im * b.re;
}
SIMT_DEVICE void write(Out<float> p, std::int64_t i, Complex v, bool adds = false) {
  p[2 * i] = (adds ? static_cast<float>(p[2 * i]) : 0.0f) + v.re;
  p[2 * i + 1] = (adds ? static_cast<float>(p[2 * i + 1]) : 0.0f) + v.im;
}
SIMT_DEVICE Complex complex_tanh(Complex z) {
  const double half_turns = static_cast<double>(z.im) * 0.31830988618379067;
  const float a = fabsf(z.re), cosine = static_cast<float>(cos_pi(half_turns)), e = expm1f(-2 * a), r = 1 + e;
  const float den = e * e + 4 * r * cosine * cosine;
  return {copysignf(-expm1f(-4 * a), z.re) / den, 2 * r * static_cast<float>(sin_pi(2 * half_turns)) / den};
}

struct Basis {
  int modes, steps;
  bool inverse;
  float share;
};
__global__ void __launch_bounds__(256) fourier_basis_kernel(Out<float> to, In<float> modes, Basis a) {
  const int i = static_cast<int>(blockIdx.x * 256 + threadIdx.x);
  if (i >= a.modes * a.steps) return;
  const int j = i % a.modes, t = i / a.modes, mode = modes ? static_cast<int>(static_cast<float>(modes[j])) : j;
  const int turn = static_cast<int>(static_cast<std::int64_t>(mode) * t % a.steps);
  const double half_turns = 2.0 * turn / a.steps;
  const float re = static_cast<float>(cos_pi(half_turns)), im = static_cast<float>(-sin_pi(half_turns));
  if (a.inverse) {
    const float share = mode == 0 || 2 * mode == a.steps ? a.share : 2 * a.share;
    write(to, i, {share * re, share * im});
  } else {
    to[2 * j * a.steps + t] = re;
    to[(2 * j + 1) * a.steps + t] = im;
  }
}

struct Modes {
  int heads, in, out, modes;
};
__global__ void __launch_bounds__(256)
    mode_products_kernel(Out<float> y, In<float> x, In<float> w, std::int64_t count, Modes a) {
  const std::int64_t e = static_cast<std::int64_t>(blockIdx.x) * 256 + threadIdx.x;
  if (e >= count) return;
  const int m = static_cast<int>(e % a.modes), o = static_cast<int>(e / a.modes % a.out);
  const std::int64_t head = e / a.modes / a.out;  // of a sample
  Complex sum;
  for (int i = 0; i < a.in; ++i) {
    add_product(sum, complex_at(x, (head * a.in + i) * a.modes + m),
                complex_at(w, ((head % a.heads * a.in + i) * a.out + o) * a.modes + m));
  }
  write(y, e, sum);
}
__global__ void __launch_bounds__(256) mode_products_dx_kernel(Out<float> dx, std::int64_t ld, bool adds, In<float> dy,
                                                               In<float> w, std::int64_t count, Modes a) {
  const std::int64_t e = static_cast<std::int64_t>(blockIdx.x) * 256 + threadIdx.x;
  if (e >= count) return;
  const int m = static_cast<int>(e % a.modes), i = static_cast<int>(e / a.modes % a.in);
  const std::int64_t head = e / a.modes / a.in;
  Complex sum;
  for (int o = 0; o < a.out; ++o) {
    add_conjugate_product(sum, complex_at(w, ((head % a.heads * a.in + i) * a.out + o) * a.modes + m),
                          complex_at(dy, (head * a.out + o) * a.modes + m));
  }
  write(dx + e / a.modes * ld, m, sum, adds);
}
__global__ void __launch_bounds__(256) mode_products_dw_kernel(Out<float> dw, bool adds, In<float> dy, In<float> x,
                                                               std::int64_t count, int samples, Modes a) {
  const std::int64_t e = static_cast<std::int64_t>(blockIdx.x) * 256 + threadIdx.x;
  if (e >= count) return;
  const int m = static_cast<int>(e % a.modes), o = static_cast<int>(e / a.modes % a.out);
  const std::int64_t row = e / a.modes / a.out, h = row / a.in, i = row % a.in;
  Complex sum;
  for (int n = 0; n < samples; ++n) {
    const std::int64_t head = static_cast<std::int64_t>(n) * a.heads + h;
    add_conjugate_product(sum, complex_at(x, (head * a.in + i) * a.modes + m),
                          complex_at(dy, (head * a.out + o) * a.modes + m));
  }
  write(dw, e, sum, adds);
}

struct Scores {
  int width, queries, keys;
};
__global__ void __launch_bounds__(256)
    mode_scores_kernel(Out<float> scores, In<float> xq, In<float> xk, std::int64_t count, Scores a) {
  const std::int64_t e = static_cast<std::int64_t>(blockIdx.x) * 256 + threadIdx.x;
  if (e >= count) return;
  const int y = static_cast<int>(e % a.keys), x = static_cast<int>(e / a.keys % a.queries);
  const std::int64_t first = e / a.keys / a.queries * a.width;
  Complex sum;
  for (int f = 0; f < a.width; ++f) {
    add_product(sum, complex_at(xq, (first + f) * a.queries + x), complex_at(xk, (first + f) * a.keys + y));
  }
  write(scores, e, complex_tanh(sum));
}
__global__ void __launch_bounds__(256)
    mode_context_kernel(Out<float> z, In<float> scores, In<float> xk, std::int64_t count, Scores a) {
  const std::int64_t e = static_cast<std::int64_t>(blockIdx.x) * 256 + threadIdx.x;
  if (e >= count) return;
  const int x = static_cast<int>(e % a.queries);
  const std::int64_t row = e / a.queries, head = row / a.width;
  Complex sum;
  for (int y = 0; y < a.keys; ++y) {
    add_product(sum, complex_at(scores, (head * a.queries + x) * a.keys + y), complex_at(xk, row * a.keys + y));
  }
  write(z, e, sum);
}
__global__ void __launch_bounds__(256)
    mode_slopes_kernel(Out<float> slopes, In<float> dz, In<float> scores, In<float> xk, std::int64_t count, Scores a) {
  const std::int64_t e = static_cast<std::int64_t>(blockIdx.x) * 256 + threadIdx.x;
  if (e >= count) return;
  const int y = static_cast<int>(e % a.keys), x = static_cast<int>(e / a.keys % a.queries);
  const std::int64_t first = e / a.keys / a.queries * a.width;
  Complex sum, own;
  for (int f = 0; f < a.width; ++f) {
    add_conjugate_product(sum, complex_at(xk, (first + f) * a.keys + y), complex_at(dz, (first + f) * a.queries + x));
  }
  const Complex t = complex_at(scores, e);
  add_conjugate_product(own, {1 - (t.re * t.re - t.im * t.im), -2 * t.re * t.im}, sum);
  write(slopes, e, own);
}
__global__ void __launch_bounds__(256)
    mode_queries_backward_kernel(Out<float> dxq, std::int64_t ld, bool adds, In<float> slopes, In<float> xk,
                                 std::int64_t count, Scores a) {
  const std::int64_t e = static_cast<std::int64_t>(blockIdx.x) * 256 + threadIdx.x;
  if (e >= count) return;
  const int x = static_cast<int>(e % a.queries);
  const std::int64_t row = e / a.queries, head = row / a.width;
  Complex sum;
  for (int y = 0; y < a.keys; ++y) {
    add_conjugate_product(sum, complex_at(xk, row * a.keys + y),
                          complex_at(slopes, (head * a.queries + x) * a.keys + y));
  }
  write(dxq + row * ld, x, sum, adds);
}
__global__ void __launch_bounds__(256)
    mode_keys_backward_kernel(Out<float> dxk, std::int64_t ld, bool adds, In<float> dz, In<float> scores,
                              In<float> slopes, In<float> xq, std::int64_t count, Scores a) {
  const std::int64_t e = static_cast<std::int64_t>(blockIdx.x) * 256 + threadIdx.x;
  if (e >= count) return;
  const int y = static_cast<int>(e % a.keys);
  const std::int64_t row = e / a.keys, head = row / a.width;
  Complex sum;
  for (int x = 0; x < a.queries; ++x) {
    const std::int64_t score = (head * a.queries + x) * a.keys + y;
    add_conjugate_product(sum, complex_at(scores, score), complex_at(dz, row * a.queries + x));
    add_conjugate_product(sum, complex_at(xq, row * a.queries + x), complex_at(slopes, score));
  }
  write(dxk + row * ld, y, sum, adds);
}

Modes modes_of(const ModeShape& a) {
  return {static_cast<int>(a.heads), static_cast<int>(a.in), static_cast<int>(a.out), static_cast<int>(a.modes)};
}
Scores scores_of(const ModeAttentionShape& a) {
  return {static_cast<int>(a.width), static_cast<int>(a.queries), static_cast<int>(a.keys)};
}

}  // namespace

void fourier_basis(const Cuda& on, float* to, const float* modes, const BasisShape& a) {
  launch(on, "fourier_basis", fourier_basis_kernel, grid_of(a.modes * a.steps, 256), to, modes,
         Basis{static_cast<int>(a.modes), static_cast<int>(a.steps), a.inverse,
               static_cast<float>(a.scale / static_cast<double>(a.steps))});
}

void mode_products(const Cuda& on, float* y, const float* x, const float* w, const ModeShape& a) {
  const std::int64_t count = a.N * a.heads * a.out * a.modes;
  launch(on, "mode_products", mode_products_kernel, grid_of(count, 256), y, x, w, count, modes_of(a));
}
void mode_products_backward(const Cuda& on, Sink<float> dx, Sink<float> dw, const float* dy, const float* x,
                            const float* w, const ModeShape& a) {
  const std::int64_t inputs = a.N * a.heads * a.in * a.modes, weights = a.heads * a.in * a.out * a.modes;
  if (dx) {
    launch(on, "mode_products_dx", mode_products_dx_kernel, grid_of(inputs, 256), dx.data, dx.ld, dx.add, dy, w, inputs,
           modes_of(a));
  }
  if (dw) {
    launch(on, "mode_products_dw", mode_products_dw_kernel, grid_of(weights, 256), dw.data, dw.add, dy, x, weights,
           static_cast<int>(a.N), modes_of(a));
  }
}

void mode_attention(const Cuda& on, float* z, float* scores, const float* xq, const float* xk,
                    const ModeAttentionShape& a) {
  const std::int64_t results = a.N * a.heads * a.width * a.queries;
  launch(on, "mode_scores", mode_scores_kernel, grid_of(a.scores(), 256), scores, xq, xk, a.scores(), scores_of(a));
  launch(on, "mode_context", mode_context_kernel, grid_of(results, 256), z, scores, xk, results, scores_of(a));
}
void mode_attention_backward(const Cuda& on, Sink<float> dxq, Sink<float> dxk, const float* dz, const float* scores,
                             const float* xq, const float* xk, const ModeAttentionShape& a, float* scratch) {
  const std::int64_t rows = a.N * a.heads * a.width;
  launch(on, "mode_slopes", mode_slopes_kernel, grid_of(a.scores(), 256), scratch, dz, scores, xk, a.scores(),
         scores_of(a));
  if (dxq) {
    launch(on, "mode_queries_backward", mode_queries_backward_kernel, grid_of(rows * a.queries, 256), dxq.data, dxq.ld,
           dxq.add, scratch, xk, rows * a.queries, scores_of(a));
  }
  if (dxk) {
    launch(on, "mode_keys_backward", mode_keys_backward_kernel, grid_of(rows * a.keys, 256), dxk.data, dxk.ld, dxk.add,
           dz, scores, scratch, xq, rows * a.keys, scores_of(a));
  }
}

}  // namespace samformer::kernels
