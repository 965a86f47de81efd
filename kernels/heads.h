// Multi-head attention (Vaswani et al. 2017) of T_q queries over T_k keys, for each of N samples and h heads, head a
// being the columns aE .. (a + 1)E - 1 of q, k, v and C:
//
//   S = Q K' / sqrt(E) + S_prev,   P = softmax_rows(S),   C = dropout(P) V
//   dV = dropout(P)' dC,   dS = P * (dropout(dC V') - rowsum(dC * C)) + dS_out,   dQ = dS K / sqrt(E),
//   dK = dS' Q / sqrt(E),   dS_prev = dS
//
// Keys that the mask forbids a query have S = -1e30, and so P = 0; every query has a key that it may see; tiles of keys
// behind all that a causal mask allows are left out. S_prev: an earlier layer's scores, or none (RealFormer, He et al.
// 2021; PatchTST); S_out = S, where a later one wants them. Tiles with a running row maximum and sum, as in
// kernels/attention.h: without S_prev and S_out no T_q x T_k matrix exists. Shapes: Q, C [N T_q][h E], K, V [N T_k][h E],
// rows ld apart; S [N h][T_k][T_q], keys down; lse, the row log-sum-exp, [N h][T_q], saved beside C. Sums are one
// thread's or one warp's, in the order of keys or queries.
#pragma once

#include <cstdint>

#include "kernels/elementwise.h"
#include "kernels/projection.h"

namespace samformer::kernels {

struct HeadsShape {
  std::int64_t N, heads, queries, keys, width;  // h, T_q, T_k, E
  constexpr std::int64_t samples() const { return N * heads; }
  constexpr std::int64_t scores() const { return N * heads * queries * keys; }
  // Dropout's numbers lie as the scores do, rows of queries padded to whole Philox blocks.
  constexpr std::int64_t padded_queries() const { return (queries + 3) / 4 * 4; }
};

inline constexpr std::int64_t most_head_width = 128;  // of a device

// Which keys a query may see, by formula; query i and key j are cells of one sequence.
//
//   causal       j <= i
//   log_sparse   of n cells (LogTrans, Li et al. 2019), g = ceil(log2 sub): all j <= i where floor(n / sub) 2g > i. Else,
//                for r = i, i - sub, i - 2 sub, .. >= 0: cells 0 .. r - 1 where r < g - 1; else r - g + 1 .. r, and
//                r - g + 1 - 2^a for a < g, where that is at least 0 and at most sub below r
//   pyramid      of levels of cells, one behind the other (Pyraformer, Liu et al. 2022): cells of one level at most
//                `radius` apart, and parents and children: cell i of level l has the parent floor(i / window_l) of the
//                next, or its last
struct HeadsMask {
  enum class Kind { none, causal, log_sparse, pyramid };
  static constexpr int most_levels = 8;
  Kind kind = Kind::none;
  int cells = 0, sub = 0;           // log_sparse
  int radius = 0, levels = 0;       // pyramid
  int first[most_levels + 1] = {};  // cell of a level, and the number of all
  int window[most_levels] = {};     // children of a cell of the next level

  constexpr bool allows(std::int64_t i, std::int64_t j) const {
    if (kind == Kind::pyramid) return neighbours(static_cast<int>(i), static_cast<int>(j));
    if (kind == Kind::none) return true;
    return j <= i && (kind == Kind::causal || logarithmic(static_cast<int>(i), static_cast<int>(j)));
  }
  // Of keys 0 .. keys - 1 how many there are up to the last that a cell up to i may see: tiles behind are left out.
  constexpr std::int64_t reach(std::int64_t i, std::int64_t keys) const {
    const bool looks_back = kind == Kind::causal || kind == Kind::log_sparse;
    return looks_back && i + 1 < keys ? i + 1 : keys;
  }
  constexpr bool logarithmic(int i, int j) const {
    int g = 0;
    while ((1 << g) < sub) ++g;
    if (cells / sub * 2 * g > i) return true;
    // Of the rows of the pattern only the nearest at or above j, and the one above that, reach it.
    const int r = i - (i - j) / sub * sub;
    return reaches(r, j, g) || (r < i && reaches(r + sub, j, g));
  }
  constexpr bool neighbours(int i, int j) const {
    const int a = level_of(i), b = level_of(j);
    const int own = i - first[a], other = j - first[b];
    if (a == b) return own - other <= radius && other - own <= radius;
    if (a + 1 == b) return parent(own, a) == other;
    return b + 1 == a && parent(other, b) == own;
  }
  constexpr int level_of(int cell) const {
    int level = 0;
    while (cell >= first[level + 1]) ++level;
    return level;
  }
  // Of the cell of a level, both counted within their levels.
  constexpr int parent(int cell, int level) const {
    const int up = cell / window[level], last = first[level + 2] - first[level + 1] - 1;
    return up < last ? up : last;
  }

 private:
  constexpr bool reaches(int r, int j, int g) const {
    const int below = r - j, beyond = below - (g - 1);
    if (r < g - 1) return below > 0;
    if (beyond <= 0) return true;
    return below <= sub && (beyond & (beyond - 1)) == 0 && beyond <= (1 << g) / 2;
  }
};

// What forward reads. A device's q, k and v may lack their biases; scores null: not wanted, previous null: none.
template <class T>
struct HeadsInput {
  Projected<T> q, k, v;
  const T* previous = nullptr;
  HeadsShape shape{};
  Dropout dropout{};
  HeadsMask mask{};
  const std::int32_t* picked = nullptr;  // [N h][T_q]: which cell a query is, for the mask; null: its own number
};
// Where gradients go, scores' from: null: not wanted, or none.
template <class T>
struct HeadsGradients {
  Sink<T> dq, dk, dv, dprevious;  // dprevious dense
  const T* dscores = nullptr;
};

// Scalars of workspace.
std::int64_t heads_scratch(const Cuda& on, const HeadsShape& a);
std::int64_t heads_backward_scratch(const Cuda& on, const HeadsShape& a);
void multi_head_attention(const Cuda& on, float* C, float* lse, float* scores, const HeadsInput<float>& in,
                          float* scratch);
void multi_head_attention_backward(const Cuda& on, const HeadsGradients<float>& to, const float* dC, std::int64_t lddc,
                                   const float* C, const float* lse, const HeadsInput<float>& in, float* scratch);

}  // namespace samformer::kernels

#ifndef __CUDACC__
#include <algorithm>
#include <cmath>

#include "kernels/attention.h"
#include "kernels/cpu/simd.h"

namespace samformer::kernels {

constexpr std::int64_t heads_scratch(Cpu, const HeadsShape& a) {
  return a.samples() * a.width * detail::padded(a.queries);
}
constexpr std::int64_t heads_backward_scratch(Cpu, const HeadsShape& a) {
  return a.samples() * (2 * a.width + 1) * detail::padded(a.queries);
}

namespace detail {

// Heads of few columns would leave most of gemm_tile's registers empty: their products run over vectors of queries,
// four columns, or a vector's number of keys, at a time. Tiles [keys][attention_queries] of queries, and columns
// [E][stride] of queries, padded to whole vectors.
constexpr std::int64_t widest_narrow_head = 16;
constexpr bool is_narrow(std::int64_t E) { return E <= widest_narrow_head && E % 4 == 0; }

// S[j][r] = sum over c of rows[j][c] columns[c][r].
template <class Target, class T>
inline void narrow_scores(T* S, const T* rows, std::int64_t ld, std::int64_t keys, const T* columns,
                          std::int64_t stride, std::int64_t filled, std::int64_t E) {
  using P = Pack<T, Target::bytes>;
  for (std::int64_t r = 0; r < filled; r += lanes<T, Target::bytes>) {
    for (std::int64_t c = 0; c < E; c += 4) {
      P q[4];
      for (int x = 0; x < 4; ++x) load(q[x], columns + (c + x) * stride + r);
      for (std::int64_t j = 0; j < keys; ++j) {
        const T* const a = rows + j * ld + c;
        P s{};
        if (c > 0) load(s, S + j * attention_queries + r);
        for (int x = 0; x < 4; ++x) s += a[x] * q[x];
        store(S + j * attention_queries + r, s);
      }
    }
  }
}
// sums[c][r] += sum over j of S[j][r] rows[j][c].
template <class Target, class T>
inline void narrow_sums(T* sums, const T* S, const T* rows, std::int64_t ld, std::int64_t keys, std::int64_t filled,
                        std::int64_t E) {
  using P = Pack<T, Target::bytes>;
  for (std::int64_t r = 0; r < filled; r += lanes<T, Target::bytes>) {
    for (std::int64_t c = 0; c < E; c += 4) {
      P sum[4];
      for (int x = 0; x < 4; ++x) load(sum[x], sums + (c + x) * attention_queries + r);
      for (std::int64_t j = 0; j < keys; ++j) {
        const T* const a = rows + j * ld + c;
        P s;
        load(s, S + j * attention_queries + r);
        for (int x = 0; x < 4; ++x) sum[x] += a[x] * s;
      }
      for (int x = 0; x < 4; ++x) store(sums + (c + x) * attention_queries + r, sum[x]);
    }
  }
}
// to[j][c] += sum over r of S[j][r] columns[c][r]. S is zero, or columns are, in what pads them.
template <class Target, class T>
inline void narrow_dots(T* to, std::int64_t ld, const T* S, std::int64_t keys, const T* columns, std::int64_t stride,
                        std::int64_t filled, std::int64_t E) {
  constexpr int side = lanes<T, Target::bytes>;
  using P = Pack<T, Target::bytes>;
  for (std::int64_t j = 0; j < keys; j += side) {
    const int some = static_cast<int>(std::min<std::int64_t>(side, keys - j));
    for (std::int64_t c = 0; c < E; ++c) {
      P sum[side] = {};
      for (std::int64_t r = 0; r < filled; r += side) {
        P x, s;
        load(x, columns + c * stride + r);
        for (int key = 0; key < some; ++key) {
          load(s, S + (j + key) * attention_queries + r);
          sum[key] += s * x;
        }
      }
      transpose_runs<1>(sum);  // a lane a key
      for (int key = 1; key < side; ++key) sum[0] += sum[key];
      T total[side];
      store(total, sum[0]);
      for (int key = 0; key < some; ++key) to[(j + key) * ld + c] += total[key];
    }
  }
}

// Scores [keys][attention_queries] of queries i and keys j of a sample's head: Q K' + S_prev.
template <class T, class Target>
inline void head_scores(Target target, T* S, const HeadsInput<T>& in, std::int64_t block, std::int64_t i,
                        std::int64_t rows, std::int64_t j, std::int64_t keys, const T* queries) {
  const HeadsShape& a = in.shape;
  const T* k = in.k.p + (block / a.heads * a.keys + j) * in.k.ld + block % a.heads * a.width;
  if (is_narrow(a.width)) {
    narrow_scores<Target>(S, k, in.k.ld, keys, queries + i, padded(a.queries), padded(rows), a.width);
  } else {
    gemm_tile(target, false, keys, padded(rows), a.width, k, in.k.ld, 1, queries + i, padded(a.queries), S,
              attention_queries, false);
  }
  for (std::int64_t key = 0; in.previous && key < keys; ++key) {
    const T* from = in.previous + (block * a.keys + j + key) * a.queries + i;
    T* s = S + key * attention_queries;
#pragma omp simd
    for (std::int64_t r = 0; r < rows; ++r) s[r] += from[r];
  }
  if (in.mask.kind == HeadsMask::Kind::none) return;
  const std::int32_t* const picked = in.picked ? in.picked + block * a.queries : nullptr;
  for (std::int64_t r = 0; r < rows; ++r) {
    const std::int64_t query = picked ? picked[i + r] : i + r;
    for (std::int64_t key = 0; key < keys; ++key) {
      if (!in.mask.allows(query, j + key)) S[key * attention_queries + r] = static_cast<T>(-1e30);
    }
  }
}

// Keys that `rows` queries from i on may see, of those up to the last of them.
template <class T>
inline std::int64_t keys_in_reach(const HeadsInput<T>& in, std::int64_t block, std::int64_t i, std::int64_t rows) {
  const std::int32_t* const picked = in.picked ? in.picked + block * in.shape.queries + i : nullptr;
  return in.mask.reach(picked ? *std::max_element(picked, picked + rows) : i + rows - 1, in.shape.keys);
}

// Dropout's factors of `filled` queries from i on and key j; i is a multiple of 4.
template <class T>
inline void head_dropout(T* factor, const HeadsInput<T>& in, std::int64_t block, std::int64_t i, std::int64_t j,
                         std::int64_t filled) {
  const Dropout& d = in.dropout;
  const std::uint64_t seed = d.seed,
                      first =
                          dropout_index(d.pass, d.site) +
                          static_cast<std::uint64_t>(((block * in.shape.keys + j) * in.shape.padded_queries() + i) / 4);
  const std::uint32_t threshold = dropout_threshold(d.rate), sub = static_cast<std::uint32_t>(d.step);
  const T kept = static_cast<T>(1 / (1 - d.rate));
  std::uint32_t words[attention_queries];
#pragma omp simd
  for (std::int64_t b = 0; b < filled / 4; ++b) {
    const PhiloxBlock four = random_block(seed, dropout_stream, sub, first + static_cast<std::uint64_t>(b));
    for (std::int64_t w = 0; w < 4; ++w) words[4 * b + w] = four[static_cast<std::size_t>(w)];
  }
#pragma omp simd
  for (std::int64_t r = 0; r < filled; ++r) factor[r] = words[r] < threshold ? T{} : kept;
}

}  // namespace detail

template <class T>
void multi_head_attention(Cpu, T* C, T* lse, T* scores, const HeadsInput<T>& in, T* work) {
  parallel_for<T>(in.shape.samples(), [=](std::int64_t block, auto target) {
    using std::log;
    constexpr std::int64_t TI = detail::attention_queries, TJ = detail::attention_keys;
    const HeadsShape& a = in.shape;
    const std::int64_t E = a.width, stride = detail::padded(a.queries), ldc = a.heads * E;
    const std::int64_t n = block / a.heads, column = block % a.heads * E;
    const bool narrow = detail::is_narrow(E);
    T* queries = work + block * E * stride;  // [E][stride], scaled
    detail::transpose_padded<T, decltype(target)>(queries, in.q.p + n * a.queries * in.q.ld + column, in.q.ld,
                                                  a.queries, E, static_cast<T>(1 / std::sqrt(double(E))));
    for (std::int64_t i = 0; i < a.queries; i += TI) {
      const std::int64_t rows = std::min(TI, a.queries - i), filled = detail::padded(rows);
      T* c = C + (n * a.queries + i) * ldc + column;
      T S[TJ * TI], most[TI] = {}, total[TI] = {}, before[TI], factor[TI];
      T sums[detail::widest_narrow_head * TI] = {};  // of a narrow head, its columns
      const std::int64_t reach = detail::keys_in_reach(in, block, i, rows);
      for (std::int64_t j = 0; j < reach; j += TJ) {
        const std::int64_t keys = std::min(TJ, a.keys - j);
        detail::head_scores(target, S, in, block, i, rows, j, keys, queries);
        for (std::int64_t k = 0; scores && k < keys; ++k) {
          std::copy_n(S + k * TI, rows, scores + (block * a.keys + j + k) * a.queries + i);
        }
        std::copy_n(j == 0 ? S : most, filled, before);
        std::copy_n(before, filled, most);
        for (std::int64_t k = 0; k < keys; ++k) {
#pragma omp simd
          for (std::int64_t r = 0; r < filled; ++r) most[r] = S[k * TI + r] > most[r] ? S[k * TI + r] : most[r];
        }
        if (j > 0) {  // what earlier tiles gave was relative to `before`
#pragma omp simd
          for (std::int64_t r = 0; r < filled; ++r) {
            before[r] = exponential(before[r] - most[r]);
            total[r] *= before[r];
          }
          for (std::int64_t v = 0; narrow && v < E; ++v) {
#pragma omp simd
            for (std::int64_t r = 0; r < filled; ++r) sums[v * TI + r] *= before[r];
          }
          for (std::int64_t r = 0; !narrow && r < rows; ++r) {
            for (std::int64_t v = 0; v < E; ++v) c[r * ldc + v] *= before[r];
          }
        }
        for (std::int64_t k = 0; k < keys; ++k) {
          T* s = S + k * TI;
#pragma omp simd
          for (std::int64_t r = 0; r < filled; ++r) {
            s[r] = exponential(s[r] - most[r]);
            total[r] += s[r];
          }
          if (in.dropout.rate == 0) continue;
          detail::head_dropout(factor, in, block, i, j + k, filled);
#pragma omp simd
          for (std::int64_t r = 0; r < filled; ++r) s[r] *= factor[r];
        }
        const T* const values = in.v.p + (n * a.keys + j) * in.v.ld + column;
        if (narrow) {
          detail::narrow_sums<decltype(target)>(sums, S, values, in.v.ld, keys, filled, E);
        } else {
          gemm_tile(target, false, rows, E, keys, S, 1, TI, values, in.v.ld, c, ldc, j > 0);
        }
      }
      for (std::int64_t r = 0; r < rows; ++r) {
        const T share = static_cast<T>(1) / total[r];
        for (std::int64_t v = 0; v < E; ++v) c[r * ldc + v] = (narrow ? sums[v * TI + r] : c[r * ldc + v]) * share;
        lse[block * a.queries + i + r] = most[r] + log(total[r]);
      }
    }
  });
}

template <class T>
void multi_head_attention_backward(Cpu, const HeadsGradients<T>& to, const T* dC, std::int64_t lddc, const T* C,
                                   const T* lse, const HeadsInput<T>& in, T* work) {
  parallel_for<T>(in.shape.samples(), [=](std::int64_t block, auto target) {
    constexpr std::int64_t TI = detail::attention_queries, TJ = detail::attention_keys;
    const HeadsShape& a = in.shape;
    const std::int64_t E = a.width, stride = detail::padded(a.queries), ldc = a.heads * E;
    const std::int64_t n = block / a.heads, column = block % a.heads * E;
    const std::int64_t first_query = n * a.queries, first_key = n * a.keys;
    const bool narrow = detail::is_narrow(E);
    const T scale = static_cast<T>(1 / std::sqrt(double(E)));
    T *const dQ = to.dq.data + first_query * to.dq.ld + column, *const dK = to.dk.data + first_key * to.dk.ld + column;
    T* const dV = to.dv.data + first_key * to.dv.ld + column;
    const T *const Q = in.q.p + first_query * in.q.ld + column, *const K = in.k.p + first_key * in.k.ld + column;
    const T *const V = in.v.p + first_key * in.v.ld + column, *const dc = dC + first_query * lddc + column;
    // What follows adds.
    for (std::int64_t r = 0; !to.dq.add && r < a.queries; ++r) std::fill_n(dQ + r * to.dq.ld, E, T{});
    for (std::int64_t r = 0; !to.dk.add && r < a.keys; ++r) std::fill_n(dK + r * to.dk.ld, E, T{});
    for (std::int64_t r = 0; !to.dv.add && r < a.keys; ++r) std::fill_n(dV + r * to.dv.ld, E, T{});
    T* queries = work + block * (2 * E + 1) * stride;  // [E][stride], scaled
    T* gradients = queries + E * stride;               // [E][stride]
    T* delta = gradients + E * stride;                 // [stride]
    detail::transpose_padded<T, decltype(target)>(queries, Q, in.q.ld, a.queries, E, scale);
    detail::transpose_padded<T, decltype(target)>(gradients, dc, lddc, a.queries, E, static_cast<T>(1));
    for (std::int64_t i = 0; i < a.queries; ++i) {
      delta[i] = dot(dc + i * lddc, C + (first_query + i) * ldc + column, E);
    }
    std::fill(delta + a.queries, delta + stride, T{});
    for (std::int64_t i = 0; i < a.queries; i += TI) {
      const std::int64_t rows = std::min(TI, a.queries - i), filled = detail::padded(rows);
      T S[TJ * TI], dS[TJ * TI], row_lse[TI], factor[TI];
      T sums[detail::widest_narrow_head * TI] = {};  // dQ of a narrow head, its columns
      std::copy_n(lse + block * a.queries + i, rows, row_lse);
      std::fill(row_lse + rows, row_lse + filled, T{});
      std::fill_n(factor, filled, static_cast<T>(1));
      const std::int64_t reach = detail::keys_in_reach(in, block, i, rows);
      for (std::int64_t j = 0; j < reach; j += TJ) {
        const std::int64_t keys = std::min(TJ, a.keys - j);
        detail::head_scores(target, S, in, block, i, rows, j, keys, queries);
        if (narrow) {
          detail::narrow_scores<decltype(target)>(dS, V + j * in.v.ld, in.v.ld, keys, gradients + i, stride, filled, E);
        } else {
          gemm_tile(target, false, keys, filled, E, V + j * in.v.ld, in.v.ld, 1, gradients + i, stride, dS, TI, false);
        }
        // One key: its probability is 1, the scores have no gradient, not even rounding noise.
        const T moves = static_cast<T>(a.keys > 1 ? 1 : 0);
        for (std::int64_t key = 0; key < keys; ++key) {
          T *const s = S + key * TI, *const ds = dS + key * TI;
          if (in.dropout.rate > 0) detail::head_dropout(factor, in, block, i, j + key, filled);
#pragma omp simd
          for (std::int64_t r = 0; r < filled; ++r) {
            const T p = exponential(s[r] - row_lse[r]);
            s[r] = p * factor[r];
            ds[r] = moves * p * (factor[r] * ds[r] - delta[i + r]);
          }
          const std::int64_t at = (block * a.keys + j + key) * a.queries + i;
          for (std::int64_t r = 0; to.dscores && r < rows; ++r) ds[r] += to.dscores[at + r];
          if (to.dprevious) {
            T* const before = to.dprevious.data + at;
            for (std::int64_t r = 0; r < rows; ++r) before[r] = to.dprevious.add ? before[r] + ds[r] : ds[r];
          }
          for (std::int64_t r = rows; r < filled; ++r) s[r] = ds[r] = T{};  // what pads them counts for nothing
          if (narrow) continue;
#pragma omp simd
          for (std::int64_t r = 0; r < filled; ++r) ds[r] *= scale;
        }
        if (narrow) {  // the queries are scaled
          detail::narrow_dots<decltype(target)>(dV + j * to.dv.ld, to.dv.ld, S, keys, gradients + i, stride, filled, E);
          detail::narrow_dots<decltype(target)>(dK + j * to.dk.ld, to.dk.ld, dS, keys, queries + i, stride, filled, E);
          detail::narrow_sums<decltype(target)>(sums, dS, K + j * in.k.ld, in.k.ld, keys, filled, E);
          continue;
        }
        gemm_tile(target, false, keys, E, rows, S, TI, 1, dc + i * lddc, lddc, dV + j * to.dv.ld, to.dv.ld, true);
        gemm_tile(target, false, keys, E, rows, dS, TI, 1, Q + i * in.q.ld, in.q.ld, dK + j * to.dk.ld, to.dk.ld, true);
        gemm_tile(target, false, rows, E, keys, dS, 1, TI, K + j * in.k.ld, in.k.ld, dQ + i * to.dq.ld, to.dq.ld, true);
      }
      for (std::int64_t r = 0; narrow && r < rows; ++r) {
        for (std::int64_t c = 0; c < E; ++c) dQ[(i + r) * to.dq.ld + c] += scale * sums[c * TI + r];
      }
    }
  });
}

}  // namespace samformer::kernels
#endif
