#include "optim/analysis/sharpness.h"

#include <algorithm>
#include <cmath>

namespace samformer::optim {
namespace {

// Rows (windows times channels) of a batch: 16 MiB of dual numbers at L = 512.
constexpr std::int64_t batch_rows = 2048;

}  // namespace

TrainingLoss::TrainingLoss(const model::Model& model, kernels::Center center, const Problem& problem,
                           std::span<const std::int32_t> starts, double stats_mix, std::function<void()> before_batch)
    : model_(model),
      center_(model.center(center)),
      problem_(&problem),
      starts_(starts),
      stats_mix_(stats_mix),
      before_batch_(std::move(before_batch)) {
  SAMFORMER_CHECK(!starts.empty(), "the training loss needs a window");
  for (const model::Parameter& p : model.parameters().all()) {
    for (std::int64_t i = 0; p.trained && i < p.shape.count(); ++i)
      places_.push_back(static_cast<std::size_t>(p.offset + i));
  }
  const auto slab = static_cast<std::size_t>(model.parameters().slab_size());
  real_.weights.resize(slab);
  real_.gradient.resize(slab);
  dual_.weights.resize(slab);
  dual_.gradient.resize(slab);
  if (stats_mix == 0) return;
  moments_.resize(static_cast<std::size_t>(5 * problem.D));
  const std::size_t most = static_cast<std::size_t>(std::max<std::int64_t>(1, batch_rows / problem.D));
  for (std::size_t first = 0; first < starts.size(); first += most) {
    const auto batch = starts.subspan(first, std::min(most, starts.size() - first));
    real_.arena.rewind({});
    real_.tape.clear();
    const Normalised<double> n = revin(real_.tape, load(real_, batch), model.shape().L, center_);
    kernels::add_moments(moments_.data(), n.stats, n.N(), problem.D);
  }
  for (double& m : moments_) m /= static_cast<double>(starts.size());
  real_.moments.assign(moments_.begin(), moments_.end());
  dual_.moments.assign(moments_.begin(), moments_.end());
}

std::vector<double> TrainingLoss::compact(std::span<const float> slab) {
  std::copy(slab.begin(), slab.end(), real_.weights.begin());
  std::copy(slab.begin(), slab.end(), dual_.weights.begin());
  std::vector<double> out;
  for (const std::size_t place : places_) out.push_back(static_cast<double>(slab[place]));
  return out;
}

void TrainingLoss::scatter(std::span<const double> v, std::span<double> slab) const {
  for (std::size_t i = 0; i < places_.size(); ++i) slab[places_[i]] = v[i];
}

template <class T>
kernels::Windows<T> TrainingLoss::load(Pass<T>& pass, std::span<const std::int32_t> batch) const {
  const std::int64_t length = model_.shape().L + model_.shape().H;
  const std::int64_t rows = problem_->D + problem_->marks + problem_->known.rows(problem_->D);
  const auto N = static_cast<std::int64_t>(batch.size());
  pass.windows.resize(std::max(pass.windows.size(), static_cast<std::size_t>(N * rows * length)));
  pass.starts.clear();
  for (std::int64_t n = 0; n < N; ++n) {
    pass.starts.push_back(static_cast<std::int32_t>(n * rows * length));
    for (std::int64_t d = 0; d < rows; ++d) {
      const float* from = problem_->values.data() + d * problem_->rows + batch[static_cast<std::size_t>(n)];
      std::copy(from, from + length, pass.windows.begin() + (n * rows + d) * length);
    }
  }
  return model_.seen(kernels::Windows<T>{pass.windows.data(), length, pass.starts.data(), N, problem_->D, nullptr, 0,
                                         problem_->marks, problem_->known});
}

template <class T>
T TrainingLoss::evaluate(Pass<T>& pass, std::span<const std::int32_t> starts, std::span<T> total) {
  const std::int64_t L = model_.shape().L;
  const std::size_t most =
      static_cast<std::size_t>(std::max<std::int64_t>(1, batch_rows / model_.rows_per_window(Cpu{})));
  T loss{};
  for (std::size_t first = 0; first < starts.size(); first += most) {
    before_batch_();
    const auto batch = starts.subspan(first, std::min(most, starts.size() - first));
    const T share = static_cast<T>(static_cast<double>(batch.size()) / static_cast<double>(starts.size()));
    pass.arena.rewind({});
    pass.tape.clear();
    const kernels::Windows<T> x = load(pass, batch);
    kernels::Windows<T> y = x;
    y.base += L;
    Normalised<T> input = revin(pass.tape, x, L, center_);
    if (!pass.moments.empty()) input.moments = pass.moments.data();
    const auto output = model_.forward(pass.tape, pass.weights.data(), total.empty() ? nullptr : pass.gradient.data(),
                                       input, model::Pass{});
    const Var<T> mean = forecast_loss(
        output.z, output.affine, input,
        Truth<T>{y, problem_->targets.data(), static_cast<std::int64_t>(problem_->targets.size())}, stats_mix_);
    loss += mean.value().data[0] * share;
    if (total.empty()) continue;
    pass.tape.backward(mean);
    for (std::size_t i = 0; i < total.size(); ++i) total[i] += share * pass.gradient[i];
  }
  return loss;
}

double TrainingLoss::value(std::span<const double> weights) {
  scatter(weights, real_.weights);
  return evaluate<double>(real_, starts_, {});
}

double TrainingLoss::gradient(std::span<const double> weights, std::span<double> gradient) {
  scatter(weights, real_.weights);
  std::vector<double> total(real_.weights.size());
  const double loss = evaluate<double>(real_, starts_, total);
  for (std::size_t i = 0; i < places_.size(); ++i) gradient[i] = total[places_[i]];
  return loss;
}

double TrainingLoss::hessian_product(std::span<const double> weights, std::span<const double> v,
                                     std::span<double> out) {
  for (std::size_t i = 0; i < places_.size(); ++i) dual_.weights[places_[i]] = {weights[i], v[i]};
  std::vector<Dual<double>> total(dual_.weights.size());
  const Dual<double> loss = evaluate<Dual<double>>(dual_, starts_, total);
  for (std::size_t i = 0; i < places_.size(); ++i) out[i] = total[places_[i]].d;
  return loss.v;
}

std::vector<double> TrainingLoss::m_sharpness(std::span<const double> weights, std::span<const double> rhos,
                                              std::int64_t m) {
  std::vector<double> mean(rhos.size()), total(real_.weights.size());
  const auto size = static_cast<std::size_t>(m);
  for (std::size_t first = 0; first < starts_.size(); first += size) {
    const auto group = starts_.subspan(first, std::min(size, starts_.size() - first));
    scatter(weights, real_.weights);
    std::ranges::fill(total, 0.0);
    const double loss = evaluate<double>(real_, group, total);
    double squares = 0;
    for (const double g : total) squares += g * g;
    for (std::size_t k = 0; k < rhos.size(); ++k) {
      const double scale = rhos[k] / (std::sqrt(squares) + 1e-12);
      for (std::size_t i = 0; i < places_.size(); ++i) {
        real_.weights[places_[i]] = weights[i] + scale * total[places_[i]];
      }
      mean[k] += (evaluate<double>(real_, group, {}) - loss) * static_cast<double>(group.size()) /
                 static_cast<double>(starts_.size());
    }
  }
  return mean;
}

}  // namespace samformer::optim
