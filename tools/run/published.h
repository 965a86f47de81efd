// What the paper prints, as data: test MSE (mean and standard deviation of five runs; look-back 512) and parameter
// counts. Sources: arXiv 2402.10198 and the authors' slides; rows of temporal and identity attention from the slides'
// picture. A deviation or a value that is not printed is NaN.
#pragma once

#include <cstdint>
#include <span>
#include <string_view>

namespace samformer::tools {

constexpr std::int64_t published_horizons[] = {96, 192, 336, 720};
constexpr int published_seeds = 5;

struct Published {
  std::string_view series, model;  // "Exchange", "TSMixer+SAM"
  double mse[4], deviation[4];     // at published_horizons
};
std::span<const Published> published();

struct PublishedValue {
  double mse, deviation;
};
// NaN where nothing is printed.
PublishedValue published(std::string_view series, std::string_view model, std::int64_t horizon);
// As the paper prints a model of ours that it quotes: "FEDformer" of fedformer; empty where it does not.
std::string published_system(std::string_view model);
// Of a system's printed numbers: "512", "96", "the best of several" (PatchTST's authors tried).
std::string_view published_lookback(std::string_view system);
// "Exchange" of exchange_rate; empty where the paper has no such series.
std::string_view published_series(std::string_view dataset);

// The printed parameter table, a formula: 4 d_m^2 + (L + 1) H for SAMformer; 0 where there is none.
std::int64_t published_parameters(std::string_view series, std::string_view model, std::int64_t horizon);

}  // namespace samformer::tools
