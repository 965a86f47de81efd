// ProbSparse attention (Informer, Zhou et al. 2021): for each of N samples and h heads, head a being the columns
// aE .. (a + 1)E - 1, only u of T queries attend to the S keys. Which, by a measure of U keys of each query,
//
//   I [T][U] drawn from 0 .. S - 1 with replacement, one draw for all samples and heads
//   measure_t = max_j q_t . k_I(t,j) - (1 / S) sum_j q_t . k_I(t,j);   picked: the u largest, of equal ones the first
//
//   pick     picked [N h][u], rising, and place [N h][T], the place of a query in it, or -1; indices, without gradients
//   select   y [N u][h E] = x [N T][h E] at the picked queries; dx is dy there and 0 elsewhere
//   context  y = attended at the picked queries; elsewhere the mean of v over S, or, `cumulative`, v_0 + .. + v_t
//            (T = S). y [N][T][h][E], or `heads_first` [N][h][T][E]
//
// The draw's address (kernels/philox.h): element e = t U + j has word e % 4 of block (site << 40) + e / 4, sub = the
// step; the key is floor(word S / 2^32). All arrays are dense.
#pragma once

#include <cstdint>

#include "kernels/device.h"
#include "kernels/philox.h"

namespace samformer::kernels {

struct ProbSparseShape {
  std::int64_t N, heads, queries, keys, width;  // h, T, S, E
  std::int64_t sampled, active;                 // U, u
  constexpr std::int64_t columns() const { return heads * width; }
};

// Where the sampled keys come from: the step counts from 0, and where there is a `progress` it is that one's. `given`
// [T][U], of the CPU: instead of a draw.
struct KeySampling {
  std::uint64_t seed = 0;
  std::int64_t step = 0;
  int site = 0;
  const Progress* progress = nullptr;
  const std::int32_t* given = nullptr;
};
constexpr std::uint32_t sampled_keys_stream = 10;
constexpr std::int64_t sampled_key(std::uint64_t seed, std::int64_t step, int site, std::int64_t element,
                                   std::int64_t keys) {
  const PhiloxBlock words =
      random_block(seed, sampled_keys_stream, static_cast<std::uint32_t>(step),
                   (static_cast<std::uint64_t>(site) << 40) + static_cast<std::uint64_t>(element) / 4);
  const std::int64_t which = element % 4;
  const std::uint32_t word = which == 0 ? words[0] : which == 1 ? words[1] : which == 2 ? words[2] : words[3];
  return static_cast<std::int64_t>((std::uint64_t{word} * static_cast<std::uint64_t>(keys)) >> 32);
}

// measure [N h][T]: workspace.
void pick_queries(const Cuda& on, std::int32_t* picked, std::int32_t* place, float* measure, const float* q,
                  const float* k, const ProbSparseShape& a, const KeySampling& sampling);
void select_queries(const Cuda& on, float* y, const float* x, const std::int32_t* picked, const ProbSparseShape& a);
void select_queries_backward(const Cuda& on, Sink<float> dx, const float* dy, const std::int32_t* place,
                             const ProbSparseShape& a);
void sparse_context(const Cuda& on, float* y, const float* attended, const float* v, const std::int32_t* place,
                    const ProbSparseShape& a, bool cumulative, bool heads_first);
void sparse_context_backward(const Cuda& on, Sink<float> dattended, Sink<float> dv, const float* dy,
                             const std::int32_t* picked, const std::int32_t* place, const ProbSparseShape& a,
                             bool cumulative, bool heads_first);

// Element of y and dy at query t and column c.
constexpr std::int64_t context_element(const ProbSparseShape& a, std::int64_t n, std::int64_t t, std::int64_t c,
                                       bool heads_first) {
  if (!heads_first) return (n * a.queries + t) * a.columns() + c;
  return ((n * a.heads + c / a.width) * a.queries + t) * a.width + c % a.width;
}

}  // namespace samformer::kernels

#ifndef __CUDACC__
#include <algorithm>

#include "kernels/elementwise.h"

namespace samformer::kernels {

template <class T>
void pick_queries(Cpu, std::int32_t* picked, std::int32_t* place, T* measure, const T* q, const T* k,
                  const ProbSparseShape& a, const KeySampling& s) {
  parallel_for<T>(a.N * a.heads, [=](std::int64_t block) {
    const std::int64_t n = block / a.heads, column = block % a.heads * a.width, ld = a.columns();
    T* const own = measure + block * a.queries;
    for (std::int64_t t = 0; t < a.queries; ++t) {
      const T* const query = q + (n * a.queries + t) * ld + column;
      T most{}, total{};
      for (std::int64_t j = 0; j < a.sampled; ++j) {
        const std::int64_t e = t * a.sampled + j;
        const std::int64_t key = s.given ? s.given[e] : sampled_key(s.seed, s.step, s.site, e, a.keys);
        const T score = dot(query, k + (n * a.keys + key) * ld + column, a.width);
        most = j == 0 || score > most ? score : most;
        total += score;
      }
      own[t] = most - total / static_cast<T>(static_cast<double>(a.keys));
    }
    std::int64_t found = 0;  // of NaNs too never fewer than wanted
    for (std::int64_t t = 0; t < a.queries; ++t) {
      std::int64_t before = 0;
      for (std::int64_t other = 0; other < a.queries; ++other) {
        before += own[other] > own[t] || (other < t && !(own[t] > own[other]));
      }
      const bool is_picked = found < a.active && (before < a.active || a.queries - t == a.active - found);
      place[block * a.queries + t] = static_cast<std::int32_t>(is_picked ? found : -1);
      if (is_picked) picked[block * a.active + found++] = static_cast<std::int32_t>(t);
    }
  });
}

template <class T>
void select_queries(Cpu, T* y, const T* x, const std::int32_t* picked, const ProbSparseShape& a) {
  for_rows<T>(a.N * a.active, a.columns(), [=](std::int64_t r) {
    const std::int64_t n = r / a.active;
    for (std::int64_t head = 0; head < a.heads; ++head) {
      const std::int64_t t = picked[(n * a.heads + head) * a.active + r % a.active];
      std::copy_n(x + (n * a.queries + t) * a.columns() + head * a.width, a.width,
                  y + r * a.columns() + head * a.width);
    }
  });
}

template <class T>
void select_queries_backward(Cpu, Sink<T> dx, const T* dy, const std::int32_t* place, const ProbSparseShape& a) {
  for_rows<T>(a.N * a.queries, a.columns(), [=](std::int64_t r) {
    const std::int64_t n = r / a.queries;
    for (std::int64_t c = 0; c < a.columns(); ++c) {
      const std::int64_t at = place[(n * a.heads + c / a.width) * a.queries + r % a.queries];
      const T g = at < 0 ? T{} : dy[(n * a.active + at) * a.columns() + c];
      T& to = dx.data[r * dx.ld + c];
      to = dx.add ? to + g : g;
    }
  });
}

template <class T>
void sparse_context(Cpu, T* y, const T* attended, const T* v, const std::int32_t* place, const ProbSparseShape& a,
                    bool cumulative, bool heads_first) {
  for_rows<T>(a.N * a.columns(), a.queries + a.keys, [=](std::int64_t i) {
    const std::int64_t n = i / a.columns(), c = i % a.columns();
    T total{};
    for (std::int64_t s = 0; !cumulative && s < a.keys; ++s) total += v[(n * a.keys + s) * a.columns() + c];
    if (!cumulative) total = total / static_cast<T>(static_cast<double>(a.keys));
    for (std::int64_t t = 0; t < a.queries; ++t) {
      if (cumulative) total += v[(n * a.keys + t) * a.columns() + c];
      const std::int64_t at = place[(n * a.heads + c / a.width) * a.queries + t];
      y[context_element(a, n, t, c, heads_first)] = at < 0 ? total : attended[(n * a.active + at) * a.columns() + c];
    }
  });
}

template <class T>
void sparse_context_backward(Cpu, Sink<T> dattended, Sink<T> dv, const T* dy, const std::int32_t* picked,
                             const std::int32_t* place, const ProbSparseShape& a, bool cumulative, bool heads_first) {
  for_rows<T>(a.N * a.columns(), a.queries + a.keys, [=](std::int64_t i) {
    const std::int64_t n = i / a.columns(), c = i % a.columns(), head = n * a.heads + c / a.width;
    for (std::int64_t at = 0; dattended && at < a.active; ++at) {
      const T g = dy[context_element(a, n, picked[head * a.active + at], c, heads_first)];
      T& to = dattended.data[(n * a.active + at) * dattended.ld + c];
      to = dattended.add ? to + g : g;
    }
    if (!dv) return;
    T total{};
    const auto give = [&](std::int64_t s) {
      T& to = dv.data[(n * a.keys + s) * dv.ld + c];
      to = dv.add ? to + total : total;
    };
    for (std::int64_t t = a.queries - 1; t >= 0; --t) {
      if (place[head * a.queries + t] < 0) total += dy[context_element(a, n, t, c, heads_first)];
      if (cumulative) give(t);
    }
    if (cumulative) return;
    total = total / static_cast<T>(static_cast<double>(a.keys));
    for (std::int64_t s = 0; s < a.keys; ++s) give(s);
  });
}

}  // namespace samformer::kernels
#endif
