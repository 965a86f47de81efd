#include "optim/evaluator.h"

#include <algorithm>
#include <cstring>

#include "kernels/correlation.h"
#include "optim/device_model.h"

namespace samformer::optim {
namespace {

// Rows (windows times channels) evaluated at once: on the CPU 4 MiB of normalised windows at L = 512 stay near the
// cores; on a device, of a model's widest matrices.
constexpr std::int64_t evaluation_rows(Cpu) { return 2048; }
constexpr std::int64_t evaluation_rows(const Cuda&) { return 16384; }
// Consecutive windows are never normalised; the more of them, the better their transforms pay. Of z and y at most:
constexpr std::int64_t sliding_floats = std::int64_t{12} << 20;

}  // namespace

double mean_of(const std::vector<double>& sums, std::int64_t windows, std::int64_t H,
               std::span<const std::uint8_t> left_out, std::int64_t t0, std::int64_t t1, std::int64_t h0,
               std::int64_t h1) {
  double total = 0;
  std::int64_t counted = 0;
  for (std::int64_t t = t0; t < t1; ++t) {
    if (t1 - t0 > 1 && !left_out.empty() && left_out[static_cast<std::size_t>(t)] != 0) continue;
    ++counted;
    for (std::int64_t h = h0; h < h1; ++h) total += sums[static_cast<std::size_t>(t * H + h)];
  }
  return total / static_cast<double>(windows * counted * (h1 - h0));
}

template <class On>
bool Evaluation<On>::slides(std::int64_t together, std::span<const std::int32_t> starts) const {
  return std::is_same_v<On, Cpu> && model_.only_projects() && kernels::correlation_pays(together, model_.shape().L) &&
         std::adjacent_find(starts.begin(), starts.end(), [](auto a, auto b) { return b != a + 1; }) == starts.end();
}

template <class On>
typename Evaluation<On>::Forward Evaluation<On>::forward(const Resident& at, std::int64_t first,
                                                         std::span<const std::int32_t> starts, bool slide,
                                                         bool mixing) {
  arena_.rewind({});
  tape_.clear();
  const std::int64_t L = model_.shape().L, N = static_cast<std::int64_t>(starts.size());
  const kernels::Windows<float> windows = model_.seen(at.windows(first, N));
  Normalised<float, On> input;
  if constexpr (std::is_same_v<On, Cpu>) {
    if (slide && slides(N, starts)) input = revin_sliding(tape_, windows, L, center_);
  }
  if (!input.xhat) input = revin(tape_, windows, L, center_, mixing);
  return {model_.forward(tape_, at.weights, static_cast<float*>(nullptr), input, model::Pass{}), input};
}

template <class On>
template <class Body>
void Evaluation<On>::for_batches(const Resident& at, std::span<const std::int32_t> starts, const Body& body) {
  const auto [D, L, H, marks] = model_.shape();
  const std::int64_t together = std::min(kernels::correlation_windows(L), sliding_floats / (2 * D * H));
  const std::int64_t rows = model_.rows_per_window(tape_.on());
  const auto most = static_cast<std::size_t>(
      slides(together, starts) ? together : std::max<std::int64_t>(1, evaluation_rows(tape_.on()) / rows));
  for (std::size_t first = 0; first < starts.size(); first += most) {
    const auto batch = starts.subspan(first, std::min(most, starts.size() - first));
    const Forward f = forward(at, static_cast<std::int64_t>(first), batch, true, false);
    body(static_cast<std::int64_t>(first), static_cast<std::int64_t>(batch.size()),
         revin_inverse(f.output.z, f.output.affine, f.input));
  }
}

template <class On>
const float* Evaluation<On>::fetch(const float* from, std::int64_t count) {
  if constexpr (std::is_same_v<On, Cpu>) {
    return from;
  } else {
    fetched_.resize(static_cast<std::size_t>(count));
    kernels::download(fetched_.data(), from, fetched_.size() * sizeof(float), tape_.on().stream);
    kernels::synchronise(tape_.on().stream);
    return fetched_.data();
  }
}

template <class On>
ErrorSums Evaluation<On>::errors(const Resident& at, std::span<const std::int32_t> starts) {
  const auto [D, L, H, marks] = model_.shape();
  ErrorSums sums(at.target_count, H);
  sums.windows = static_cast<std::int64_t>(starts.size());
  double *squared = sums.squared.data(), *absolute = sums.absolute.data(), *difference = sums.difference.data();
  std::conditional_t<std::is_same_v<On, Cuda>, DeviceArray<double>, int> sums_there{};
  const auto n = static_cast<std::int64_t>(sums.squared.size());
  if constexpr (std::is_same_v<On, Cuda>) {
    sums_there = {3 * n, "error sums"};
    sums_there.upload(std::vector<double>(static_cast<std::size_t>(3 * n)), tape_.on().stream);
    kernels::synchronise(tape_.on().stream);
    squared = sums_there.data(), absolute = squared + n, difference = absolute + n;
  }
  for_batches(at, starts, [&, L = L, H = H](std::int64_t first, std::int64_t N, Tensor<float> y) {
    kernels::error_sums(tape_.on(), squared, absolute, difference, static_cast<const float*>(y.data),
                        at.windows(first, N, L), H, at.targets, at.target_count);
  });
  if constexpr (std::is_same_v<On, Cuda>) {
    for (auto [to, from] :
         {std::pair(&sums.squared, squared), {&sums.absolute, absolute}, {&sums.difference, difference}}) {
      kernels::download(to->data(), from, to->size() * sizeof(double), tape_.on().stream);
    }
    kernels::synchronise(tape_.on().stream);
  }
  return sums;
}

template <class On>
double Evaluation<On>::mixed_loss(const Resident& at, std::span<const std::int32_t> starts, kernels::StatsMix mix,
                                  std::int64_t batch) {
  const std::int64_t all = static_cast<std::int64_t>(starts.size());
  double total = 0;
  for (std::int64_t first = 0; first < all; first += batch) {
    const std::int64_t N = std::min(batch, all - first);
    const Forward f = forward(at, first, starts.subspan(static_cast<std::size_t>(first), static_cast<std::size_t>(N)),
                              false, mix.any());
    const Truth<float> truth{at.windows(first, N, model_.shape().L), at.targets, at.target_count, at.channel_weight};
    const Var<float, On> loss = forecast_loss(f.output.z, f.output.affine, f.input, truth, mix);
    const std::int64_t parts = kernels::loss_size(tape_.on(), N * at.D);
    const float* const values = fetch(loss.value().data, parts);
    for (std::int64_t i = 0; i < parts; i += 2) total += static_cast<double>(values[i]) * static_cast<double>(N);
  }
  return total / static_cast<double>(all);
}

template <class On>
std::vector<float> Evaluation<On>::forecast(const Resident& at, std::span<const std::int32_t> starts) {
  const std::int64_t H = model_.shape().H;
  std::vector<std::int32_t> targets(static_cast<std::size_t>(at.target_count));
  if constexpr (std::is_same_v<On, Cpu>) {
    std::copy_n(at.targets, targets.size(), targets.begin());
  } else {
    kernels::download(targets.data(), at.targets, targets.size() * sizeof(std::int32_t), tape_.on().stream);
  }
  std::vector<float> all;
  all.reserve(starts.size() * targets.size() * static_cast<std::size_t>(H));
  for_batches(at, starts, [&](std::int64_t, std::int64_t N, Tensor<float> y) {
    const float* const values = fetch(y.data, y.count());
    for (std::int64_t n = 0; n < N; ++n) {
      for (const std::int32_t d : targets) {
        const float* row = values + (n * at.D + d) * H;
        all.insert(all.end(), row, row + H);
      }
    }
  });
  return all;
}

template <class On>
void Evaluation<On>::attention(const Resident& at, std::span<const std::int32_t> starts, const Maps& body) {
  const auto all = static_cast<std::int64_t>(starts.size()), steps = std::ssize(model_.map_steps());
  const std::int64_t most = std::max<std::int64_t>(1, evaluation_rows(tape_.on()) / model_.rows_per_window(tape_.on()));
  for (std::int64_t first = 0; first < all; first += most) {
    const std::int64_t N = std::min(most, all - first);
    const Forward f =
        forward(at, first, starts.subspan(static_cast<std::size_t>(first), static_cast<std::size_t>(N)), false, false);
    const model::MapParts<float, On>& map = f.output.map;
    const std::int64_t R = map.q.z.value().rows(), tokens = steps > 0 ? steps : R / N, maps = R / tokens;
    const std::int64_t sums = R * map.heads, scores = map.previous ? sums * tokens : 0;
    const float* const previous = map.previous ? map.previous.value().data : nullptr;
    const auto give = [&](Tensor<const float> q, Tensor<const float> k, const float* lse, const float* before) {
      body(first, N, {q, k, lse, map.heads, tokens, maps, map.mask, before});
    };
    if constexpr (std::is_same_v<On, Cpu>) {
      const auto seen = [](Tensor<float> t) { return Tensor<const float>(t.data, t.shape, t.stride); };
      give(seen(map.q.z.value()), seen(map.k.z.value()), map.lse.data, previous);
    } else {
      const auto copy = [&](const float* from, std::int64_t n, float otherwise = 0) {
        if (!from) return std::vector<float>(static_cast<std::size_t>(n), otherwise);
        const float* const v = fetch(from, n);
        return std::vector<float>(v, v + n);
      };
      // What the kernels fold while they read, here on the host: gamma_d p + (beta_d s + b).
      const auto complete = [&](const Projected<float, On>& x) {
        const Tensor<float> p = x.z.value();
        const std::int64_t columns = p.cols();
        const std::vector<float> gamma = copy(x.pending.gamma, tokens, 1), beta = copy(x.pending.beta, tokens);
        const std::vector<float> s = copy(x.pending.s, columns), b = copy(x.pending.b, columns);
        std::vector<float> out(static_cast<std::size_t>(R * columns));
        const float* const rows = fetch(p.data, (R - 1) * p.stride + columns);
        for (std::int64_t r = 0; r < R; ++r) {
          for (std::int64_t c = 0; c < columns; ++c) {
            const auto d = static_cast<std::size_t>(r % tokens), i = static_cast<std::size_t>(c);
            out[static_cast<std::size_t>(r * columns + c)] =
                gamma[d] * rows[r * p.stride + c] + (beta[d] * s[i] + b[i]);
          }
        }
        return out;
      };
      const std::vector<float> Q = complete(map.q), K = complete(map.k), lse = copy(map.lse.data, sums);
      const std::vector<float> before = copy(previous, scores);
      const Shape shape{R, map.q.z.value().cols()};
      give({Q.data(), shape}, {K.data(), shape}, lse.data(), previous ? before.data() : nullptr);
    }
  }
}

template class Evaluation<Cpu>;
#ifndef SAMFORMER_NO_DEVICE
template class Evaluation<Cuda>;
#endif

namespace {

// Without gradients and outside training the weights are only read.
Resident on_the_host(std::span<const float> weights, const Problem& p, std::span<const std::int32_t> starts) {
  return {
      const_cast<float*>(weights.data()),          p.values.data(), p.rows,        p.D,    p.marks, p.targets.data(),
      static_cast<std::int64_t>(p.targets.size()), nullptr,         starts.data(), p.known};
}

}  // namespace

ErrorSums Evaluator::errors(std::span<const float> weights, const Problem& problem,
                            std::span<const std::int32_t> starts) {
  ErrorSums sums =
      device_ ? device_->errors(weights, starts) : evaluation_.errors(on_the_host(weights, problem, starts), starts);
  sums.left_out.assign(problem.left_out.begin(), problem.left_out.end());
  return sums;
}
double Evaluator::mixed_loss(std::span<const float> weights, const Problem& problem,
                             std::span<const std::int32_t> starts, kernels::StatsMix mix, std::int64_t batch) {
  if (device_) return device_->mixed_loss(weights, starts, mix, batch);
  return evaluation_.mixed_loss(on_the_host(weights, problem, starts), starts, mix, batch);
}
std::vector<float> Evaluator::forecast(std::span<const float> weights, const Problem& problem,
                                       std::span<const std::int32_t> starts) {
  if (device_) return device_->forecast(weights, starts);
  return evaluation_.forecast(on_the_host(weights, problem, starts), starts);
}
void Evaluator::attention(std::span<const float> weights, const Problem& problem, std::span<const std::int32_t> starts,
                          const Evaluation<Cpu>::Maps& body) {
  if (device_) return device_->attention(weights, starts, body);
  evaluation_.attention(on_the_host(weights, problem, starts), starts, body);
}

}  // namespace samformer::optim
