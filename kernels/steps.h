// Over the steps of tokens [N T][d], by feature: what FEDformer (Zhou et al. 2022) and Autoformer (Wu et al. 2021) call
// a decomposition, its trend a mixture of moving averages, and means over all steps:
//
//   m_i,t = 1/w_i sum_{j = 0..w_i-1} x_{clip(t + j - front_i)},   p = softmax_i(a_i x + b_i),   one width: p = 1
//   trend = sum_i p_i m_i,   seasonal = x - trend                                 front, clip: kernels/decompose.h
//
//   h = dtrend - dseasonal,   dz_i = p_i h (m_i - trend),   da_i = sum dz_i x,   db_i = sum dz_i,
//   dx_s = dseasonal_s + sum_i a_i dz_i,s + sum_i 1/w_i sum_t c_i(s, t) (p_i h)_t
//
//   step_means: y_t = own x_t + share mean_t x, and its gradient, which is the same of g
//
// y and dy of a decomposition: [2][N T][d], seasonal and trend. Nothing is saved. Sums over elements: parts by block,
// added in order.
#pragma once

#include <cstdint>

#include "kernels/decompose.h"

namespace samformer::kernels {

inline constexpr int most_averages = 8;
template <class T>
struct StepAverages {
  std::int64_t N, steps, d;
  int count = 0;
  std::int64_t widths[most_averages] = {};
  const T *scale = nullptr, *shift = nullptr;  // a, b [count]; null: one width

  constexpr std::int64_t size() const { return N * steps * d; }
};

// Scalars of workspace.
std::int64_t decompose_steps_scratch(const Cuda& on, const StepAverages<float>& a);
void decompose_steps(const Cuda& on, float* y, const float* x, const StepAverages<float>& a);
void decompose_steps_backward(const Cuda& on, Sink<float> dx, Sink<float> da, Sink<float> db, const float* dy,
                              const float* x, const StepAverages<float>& a, float* scratch);

void step_means(const Cuda& on, Sink<float> y, const float* x, std::int64_t N, std::int64_t steps, std::int64_t d,
                float own, float share);

}  // namespace samformer::kernels

#ifndef __CUDACC__
#include <algorithm>

#include "kernels/cpu/simd.h"

namespace samformer::kernels {
namespace detail {

constexpr std::int64_t step_columns = 64;  // of a block

// The average i of `n` columns from x on, a sample's, around step t.
template <class T>
inline void average_at(T* to, const T* x, const StepAverages<T>& a, int i, std::int64_t t, std::int64_t n) {
  const std::int64_t first = t - average_front(a.widths[i]);
  std::fill_n(to, n, T{});
  for (std::int64_t j = 0; j < a.widths[i]; ++j) {
    const T* from = x + std::clamp<std::int64_t>(first + j, 0, a.steps - 1) * a.d;
#pragma omp simd
    for (std::int64_t c = 0; c < n; ++c) to[c] += from[c];
  }
  const T share = static_cast<T>(1 / static_cast<double>(a.widths[i]));
#pragma omp simd
  for (std::int64_t c = 0; c < n; ++c) to[c] *= share;
}

// The trend of `n` columns at step t, and where averages are mixed, these and their weights p.
template <class T>
inline void mixture_at(T (*m)[step_columns], T (*p)[step_columns], T* trend, const T* x, const StepAverages<T>& a,
                       std::int64_t t, std::int64_t n) {
  if (!a.scale) return average_at(trend, x, a, 0, t, n);
  for (int i = 0; i < a.count; ++i) average_at(m[i], x, a, i, t, n);
  for (std::int64_t c = 0; c < n; ++c) {
    T most{}, total{}, sum{};
    for (int i = 0; i < a.count; ++i) {
      p[i][c] = a.scale[i] * x[t * a.d + c] + a.shift[i];
      most = i == 0 || most < p[i][c] ? p[i][c] : most;
    }
    for (int i = 0; i < a.count; ++i) {
      p[i][c] = exponential(p[i][c] - most);
      total += p[i][c];
    }
    for (int i = 0; i < a.count; ++i) {
      p[i][c] = p[i][c] / total;
      sum += p[i][c] * m[i][c];
    }
    trend[c] = sum;
  }
}

template <class T>
constexpr std::int64_t step_blocks(const StepAverages<T>& a) {
  return a.N * blocks_of(a.d, step_columns);
}

}  // namespace detail

template <class T>
constexpr std::int64_t decompose_steps_scratch(Cpu, const StepAverages<T>& a) {
  return (a.count + 1) * a.size() + detail::step_blocks(a) * 2 * a.count;
}

template <class T>
void decompose_steps(Cpu, T* y, const T* x, const StepAverages<T>& a) {
  const std::int64_t across = blocks_of(a.d, detail::step_columns);
  parallel_for<T>(detail::step_blocks(a), [=](std::int64_t block) {
    const std::int64_t first = block / across * a.steps * a.d + block % across * detail::step_columns;
    const std::int64_t n = std::min(detail::step_columns, a.d - block % across * detail::step_columns);
    T m[most_averages][detail::step_columns], p[most_averages][detail::step_columns], trend[detail::step_columns];
    for (std::int64_t t = 0; t < a.steps; ++t) {
      detail::mixture_at(m, p, trend, x + first, a, t, n);
      const T* from = x + first + t * a.d;
      T *const seasonal = y + first + t * a.d, *const slow = seasonal + a.size();
#pragma omp simd
      for (std::int64_t c = 0; c < n; ++c) {
        slow[c] = trend[c];
        seasonal[c] = from[c] - trend[c];
      }
    }
  });
}

template <class T>
void decompose_steps_backward(Cpu, Sink<T> dx, Sink<T> da, Sink<T> db, const T* dy, const T* x,
                              const StepAverages<T>& a, T* scratch) {
  const std::int64_t across = blocks_of(a.d, detail::step_columns), size = a.size();
  T* const parts = scratch + (a.count + 1) * size;  // [block][da, db][count]
  parallel_for<T>(detail::step_blocks(a), [=](std::int64_t block) {
    constexpr std::int64_t width = detail::step_columns;
    const std::int64_t n = block / across, begin = block % across * width, columns = std::min(width, a.d - begin);
    const std::int64_t first = n * a.steps * a.d + begin;
    T m[most_averages][width], p[most_averages][width], trend[width];
    T sums[2 * most_averages] = {};
    for (std::int64_t t = 0; t < a.steps; ++t) {  // p_i h, and behind them what x_t itself gets
      const std::int64_t at = first + t * a.d;
      const T *const seasonal = dy + at, *const slow = seasonal + size;
      T* const direct = scratch + a.count * size + at;
      if (!a.scale) {
        for (std::int64_t c = 0; c < columns; ++c) scratch[at + c] = slow[c] - seasonal[c], direct[c] = seasonal[c];
        continue;
      }
      detail::mixture_at(m, p, trend, x + first, a, t, columns);
      for (std::int64_t c = 0; c < columns; ++c) direct[c] = seasonal[c];
      for (int i = 0; i < a.count; ++i) {
        for (std::int64_t c = 0; c < columns; ++c) {
          const T weighted = p[i][c] * (slow[c] - seasonal[c]), dz = weighted * (m[i][c] - trend[c]);
          scratch[i * size + at + c] = weighted;
          direct[c] += a.scale[i] * dz;
          sums[i] += dz * x[at + c];
          sums[a.count + i] += dz;
        }
      }
    }
    std::copy_n(sums, 2 * a.count, parts + block * 2 * a.count);
    for (std::int64_t s = 0; dx && s < a.steps; ++s) {
      T total[width];
      std::copy_n(scratch + a.count * size + first + s * a.d, columns, total);
      for (int i = 0; i < a.count; ++i) {
        const std::int64_t front = average_front(a.widths[i]), back = a.widths[i] - 1 - front;
        const double share = 1 / static_cast<double>(a.widths[i]);
        const std::int64_t end = std::min(a.steps, s + front + 1);
        for (std::int64_t t = std::max<std::int64_t>(0, s - back); t < end; ++t) {
          const int terms = average_terms(static_cast<int>(s), static_cast<int>(t), static_cast<int>(a.steps),
                                          static_cast<int>(a.widths[i]), static_cast<int>(front));
          const T factor = static_cast<T>(share * terms);
          const T* from = scratch + i * size + first + t * a.d;
#pragma omp simd
          for (std::int64_t c = 0; c < columns; ++c) total[c] += factor * from[c];
        }
      }
      T* to = dx.data + (n * a.steps + s) * dx.ld + begin;
      for (std::int64_t c = 0; c < columns; ++c) to[c] = dx.add ? to[c] + total[c] : total[c];
    }
  });
  for (int i = 0; i < a.count; ++i) {
    T scale{}, shift{};
    for (std::int64_t b = 0; b < detail::step_blocks(a); ++b) {
      scale += parts[b * 2 * a.count + i];
      shift += parts[b * 2 * a.count + a.count + i];
    }
    if (da) da.data[i] = da.add ? da.data[i] + scale : scale;
    if (db) db.data[i] = db.add ? db.data[i] + shift : shift;
  }
}

template <class T>
void step_means(Cpu, Sink<T> y, const T* x, std::int64_t N, std::int64_t steps, std::int64_t d, T own, T share) {
  const std::int64_t across = blocks_of(d, detail::step_columns);
  const T part = share * static_cast<T>(1 / static_cast<double>(steps));
  parallel_for<T>(N * across, [=](std::int64_t block) {
    const std::int64_t row = block / across * steps, begin = block % across * detail::step_columns;
    const std::int64_t n = std::min(detail::step_columns, d - begin);
    T mean[detail::step_columns] = {};
    for (std::int64_t t = row; t < row + steps; ++t) {
#pragma omp simd
      for (std::int64_t c = 0; c < n; ++c) mean[c] += x[t * d + begin + c];
    }
    for (std::int64_t t = row; t < row + steps; ++t) {
      T* to = y.data + t * y.ld + begin;
      for (std::int64_t c = 0; c < n; ++c) {
        const T value = own * x[t * d + begin + c] + part * mean[c];
        to[c] = y.add ? to[c] + value : value;
      }
    }
  });
}

}  // namespace samformer::kernels
#endif
