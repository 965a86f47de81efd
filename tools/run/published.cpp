#include "tools/run/published.h"

#include <algorithm>
#include <cctype>
#include <limits>
#include <string>

namespace samformer::tools {
namespace {

constexpr double none = std::numeric_limits<double>::quiet_NaN();

// clang-format off
constexpr Published table[] = {
    {"ETTh1", "SAMformer", {0.381, 0.409, 0.423, 0.427}, {0.003, 0.002, 0.001, 0.002}},
    {"ETTh1", "TSMixer+SAM", {0.388, 0.421, 0.430, 0.440}, {0.001, 0.002, 0.002, 0.005}},
    {"ETTh1", "Transformer", {0.509, 0.535, 0.570, 0.601}, {0.031, 0.043, 0.016, 0.036}},
    {"ETTh1", "TSMixer", {0.398, 0.426, 0.435, 0.498}, {0.001, 0.003, 0.003, 0.076}},
    {"ETTh1", "Informer", {0.941, 1.007, 1.038, 1.144}, {none, none, none, none}},
    {"ETTh1", "Autoformer", {0.435, 0.456, 0.486, 0.515}, {none, none, none, none}},
    {"ETTh1", "FEDformer", {0.376, 0.423, 0.444, 0.469}, {none, none, none, none}},
    {"ETTh1", "Pyraformer", {0.664, 0.790, 0.891, 0.963}, {none, none, none, none}},
    {"ETTh1", "LogTrans", {0.878, 1.037, 1.238, 1.135}, {none, none, none, none}},
    {"ETTh1", "SAMformer-temporal-attention", {0.496, 0.510, 0.549, 0.604}, {0.009, 0.014, 0.017, 0.017}},
    {"ETTh1", "SAMformer-identity-attention", {0.477, 0.467, 0.512, 0.505}, {0.059, 0.074, 0.070, 0.107}},
    {"ETTh2", "SAMformer", {0.295, 0.340, 0.350, 0.391}, {0.002, 0.002, 0.000, 0.001}},
    {"ETTh2", "TSMixer+SAM", {0.305, 0.350, 0.360, 0.402}, {0.007, 0.002, 0.002, 0.002}},
    {"ETTh2", "Transformer", {0.396, 0.413, 0.414, 0.424}, {0.017, 0.010, 0.002, 0.009}},
    {"ETTh2", "TSMixer", {0.308, 0.352, 0.360, 0.409}, {0.003, 0.004, 0.002, 0.006}},
    {"ETTh2", "Informer", {1.549, 3.792, 4.215, 3.656}, {none, none, none, none}},
    {"ETTh2", "Autoformer", {0.332, 0.426, 0.477, 0.453}, {none, none, none, none}},
    {"ETTh2", "FEDformer", {0.332, 0.407, 0.400, 0.412}, {none, none, none, none}},
    {"ETTh2", "Pyraformer", {0.645, 0.788, 0.907, 0.963}, {none, none, none, none}},
    {"ETTh2", "LogTrans", {2.116, 4.315, 1.124, 3.188}, {none, none, none, none}},
    {"ETTh2", "SAMformer-temporal-attention", {0.401, 0.414, 0.396, 0.396}, {0.011, 0.020, 0.014, 0.010}},
    {"ETTh2", "SAMformer-identity-attention", {0.346, 0.374, 0.372, 0.405}, {0.055, 0.031, 0.024, 0.012}},
    {"ETTm1", "SAMformer", {0.329, 0.353, 0.382, 0.429}, {0.001, 0.006, 0.001, 0.000}},
    {"ETTm1", "TSMixer+SAM", {0.327, 0.356, 0.387, 0.441}, {0.002, 0.004, 0.004, 0.002}},
    {"ETTm1", "Transformer", {0.384, 0.400, 0.461, 0.463}, {0.022, 0.026, 0.017, 0.046}},
    {"ETTm1", "TSMixer", {0.336, 0.362, 0.391, 0.450}, {0.004, 0.006, 0.003, 0.006}},
    {"ETTm1", "Informer", {0.626, 0.725, 1.005, 1.133}, {none, none, none, none}},
    {"ETTm1", "Autoformer", {0.510, 0.514, 0.510, 0.527}, {none, none, none, none}},
    {"ETTm1", "FEDformer", {0.326, 0.365, 0.392, 0.446}, {none, none, none, none}},
    {"ETTm1", "Pyraformer", {0.543, 0.557, 0.754, 0.908}, {none, none, none, none}},
    {"ETTm1", "LogTrans", {0.600, 0.837, 1.124, 1.153}, {none, none, none, none}},
    {"ETTm1", "SAMformer-temporal-attention", {0.542, 0.615, 0.620, 0.694}, {0.063, 0.056, 0.046, 0.055}},
    {"ETTm1", "SAMformer-identity-attention", {0.345, 0.384, 0.408, 0.466}, {0.027, 0.042, 0.032, 0.043}},
    {"ETTm2", "SAMformer", {0.181, 0.233, 0.285, 0.375}, {0.005, 0.002, 0.001, 0.001}},
    {"ETTm2", "TSMixer+SAM", {0.190, 0.250, 0.301, 0.389}, {0.003, 0.002, 0.003, 0.002}},
    {"ETTm2", "Transformer", {0.200, 0.273, 0.310, 0.426}, {0.036, 0.013, 0.022, 0.025}},
    {"ETTm2", "TSMixer", {0.211, 0.252, 0.303, 0.390}, {0.014, 0.005, 0.004, 0.003}},
    {"ETTm2", "Informer", {0.355, 0.595, 1.270, 3.001}, {none, none, none, none}},
    {"ETTm2", "Autoformer", {0.205, 0.278, 0.343, 0.414}, {none, none, none, none}},
    {"ETTm2", "FEDformer", {0.180, 0.252, 0.324, 0.410}, {none, none, none, none}},
    {"ETTm2", "Pyraformer", {0.435, 0.730, 1.201, 3.625}, {none, none, none, none}},
    {"ETTm2", "LogTrans", {0.768, 0.989, 1.334, 3.048}, {none, none, none, none}},
    {"ETTm2", "SAMformer-temporal-attention", {0.330, 0.394, 0.436, 0.469}, {0.034, 0.033, 0.081, 0.005}},
    {"ETTm2", "SAMformer-identity-attention", {0.201, 0.248, 0.303, 0.397}, {0.035, 0.016, 0.022, 0.029}},
    {"Electricity", "SAMformer", {0.155, 0.168, 0.183, 0.219}, {0.002, 0.001, 0.000, 0.000}},
    {"Electricity", "TSMixer+SAM", {0.171, 0.191, 0.198, 0.230}, {0.001, 0.010, 0.006, 0.005}},
    {"Electricity", "Transformer", {0.182, 0.202, 0.212, 0.238}, {0.006, 0.041, 0.017, 0.016}},
    {"Electricity", "TSMixer", {0.173, 0.204, 0.217, 0.242}, {0.004, 0.027, 0.018, 0.015}},
    {"Electricity", "Informer", {0.304, 0.327, 0.333, 0.351}, {none, none, none, none}},
    {"Electricity", "Autoformer", {0.196, 0.211, 0.214, 0.236}, {none, none, none, none}},
    {"Electricity", "FEDformer", {0.186, 0.197, 0.213, 0.233}, {none, none, none, none}},
    {"Electricity", "Pyraformer", {0.386, 0.386, 0.378, 0.376}, {none, none, none, none}},
    {"Electricity", "LogTrans", {0.258, 0.266, 0.280, 0.283}, {none, none, none, none}},
    {"Electricity", "SAMformer-temporal-attention", {0.291, 0.294, 0.290, 0.307}, {0.025, 0.024, 0.016, 0.014}},
    {"Electricity", "SAMformer-identity-attention", {0.175, 0.189, 0.211, 0.233}, {0.015, 0.022, 0.019, 0.019}},
    {"Exchange", "SAMformer", {0.161, 0.246, 0.368, 1.003}, {0.007, 0.009, 0.006, 0.018}},
    {"Exchange", "TSMixer+SAM", {0.233, 0.342, 0.474, 1.078}, {0.016, 0.031, 0.014, 0.179}},
    {"Exchange", "Transformer", {0.292, 0.372, 0.494, 1.323}, {0.045, 0.035, 0.033, 0.192}},
    {"Exchange", "TSMixer", {0.343, 0.342, 0.484, 1.204}, {0.082, 0.031, 0.062, 0.028}},
    {"Exchange", "Informer", {0.847, 1.204, 1.672, 2.478}, {none, none, none, none}},
    {"Exchange", "Autoformer", {0.197, 0.300, 0.509, 1.447}, {none, none, none, none}},
    {"Exchange", "FEDformer", {0.139, 0.256, 0.426, 1.090}, {none, none, none, none}},
    {"Exchange", "LogTrans", {0.968, 1.040, 1.659, 1.941}, {none, none, none, none}},
    {"Exchange", "SAMformer-temporal-attention", {0.684, 0.434, 0.473, 1.097}, {0.218, 0.063, 0.014, 0.084}},
    {"Exchange", "SAMformer-identity-attention", {0.179, 0.320, 0.443, 1.123}, {0.031, 0.070, 0.071, 0.076}},
    {"Traffic", "SAMformer", {0.407, 0.415, 0.421, 0.456}, {0.001, 0.005, 0.001, 0.003}},
    {"Traffic", "TSMixer+SAM", {0.409, 0.433, 0.424, 0.488}, {0.016, 0.009, 0.000, 0.028}},
    {"Traffic", "Transformer", {0.420, 0.441, 0.501, 0.468}, {0.041, 0.039, 0.154, 0.021}},
    {"Traffic", "TSMixer", {0.409, 0.637, 0.747, 0.688}, {0.016, 0.444, 0.277, 0.287}},
    {"Traffic", "Informer", {0.733, 0.777, 0.776, 0.827}, {none, none, none, none}},
    {"Traffic", "Autoformer", {0.597, 0.607, 0.623, 0.639}, {none, none, none, none}},
    {"Traffic", "FEDformer", {0.576, 0.610, 0.608, 0.621}, {none, none, none, none}},
    {"Traffic", "Pyraformer", {2.085, 0.867, 0.869, 0.881}, {none, none, none, none}},
    {"Traffic", "LogTrans", {0.684, 0.685, 0.734, 0.717}, {none, none, none, none}},
    {"Traffic", "SAMformer-temporal-attention", {0.933, 0.647, 0.656, none}, {0.188, 0.131, 0.113, none}},
    {"Traffic", "SAMformer-identity-attention", {0.416, 0.437, 0.500, 0.468}, {0.037, 0.041, 0.155, 0.021}},
    {"Weather", "SAMformer", {0.197, 0.235, 0.276, 0.334}, {0.001, 0.000, 0.001, 0.000}},
    {"Weather", "TSMixer+SAM", {0.189, 0.228, 0.271, 0.331}, {0.003, 0.004, 0.001, 0.001}},
    {"Weather", "Transformer", {0.227, 0.256, 0.278, 0.353}, {0.012, 0.018, 0.001, 0.002}},
    {"Weather", "TSMixer", {0.214, 0.231, 0.279, 0.343}, {0.004, 0.003, 0.007, 0.024}},
    {"Weather", "Informer", {0.354, 0.419, 0.583, 0.916}, {none, none, none, none}},
    {"Weather", "Autoformer", {0.249, 0.325, 0.351, 0.415}, {none, none, none, none}},
    {"Weather", "FEDformer", {0.238, 0.275, 0.339, 0.389}, {none, none, none, none}},
    {"Weather", "Pyraformer", {0.896, 0.622, 0.739, 1.004}, {none, none, none, none}},
    {"Weather", "LogTrans", {0.458, 0.658, 0.797, 0.869}, {none, none, none, none}},
    {"Weather", "SAMformer-temporal-attention", {0.225, 0.254, 0.292, 0.346}, {0.005, 0.001, 0.000, 0.000}},
    {"Weather", "SAMformer-identity-attention", {0.206, 0.236, 0.277, 0.338}, {0.019, 0.002, 0.003, 0.009}},
};

struct Counts {
  std::string_view series, model;
  std::int64_t parameters[4];
};
constexpr Counts counts[] = {
    {"ETT", "SAMformer", {50272, 99520, 173392, 369904}},
    {"ETT", "TSMixer", {124142, 173390, 247262, 444254}},
    {"Exchange", "SAMformer", {50272, 99520, 173392, 369904}},
    {"Exchange", "TSMixer", {349344, 398592, 472464, 669456}},
    {"Weather", "SAMformer", {50272, 99520, 173392, 369904}},
    {"Weather", "TSMixer", {121908, 171156, 245028, 442020}},
    {"Electricity", "SAMformer", {50272, 99520, 173392, 369904}},
    {"Electricity", "TSMixer", {280676, 329924, 403796, 600788}},
    {"Traffic", "SAMformer", {50272, 99520, 173392, 369904}},
    {"Traffic", "TSMixer", {793424, 842672, 916544, 1113536}},
};
// clang-format on

// 4 where the paper has no such horizon.
std::size_t horizon_index(std::int64_t horizon) {
  return static_cast<std::size_t>(std::ranges::find(published_horizons, horizon) - std::begin(published_horizons));
}

bool starts_alike(std::string_view text, std::string_view prefix) {
  return text.size() >= prefix.size() && std::ranges::equal(text.substr(0, prefix.size()), prefix, [](char a, char b) {
           return std::tolower(static_cast<unsigned char>(a)) == std::tolower(static_cast<unsigned char>(b));
         });
}

}  // namespace

std::span<const Published> published() { return table; }

PublishedValue published(std::string_view series, std::string_view model, std::int64_t horizon) {
  const std::size_t h = horizon_index(horizon);
  for (const Published& row : table) {
    if (h < 4 && row.series == series && row.model == model) return {row.mse[h], row.deviation[h]};
  }
  return {none, none};
}

std::string published_system(std::string_view model) {
  for (const Published& row : table) {
    if (std::ranges::equal(row.model, model, [](char a, char b) { return std::tolower(a) == b; })) {
      return std::string(row.model);
    }
  }
  return {};
}

std::string_view published_lookback(std::string_view system) {
  if (system == "Pyraformer" || system == "LogTrans") return "96";
  for (const std::string_view best : {"Informer", "Autoformer", "FEDformer"}) {
    if (system == best) return "the best of several";
  }
  return "512";
}

std::string_view published_series(std::string_view dataset) {
  for (const Published& row : table) {
    if (starts_alike(dataset, row.series)) return row.series;
  }
  return {};
}

std::int64_t published_parameters(std::string_view series, std::string_view model, std::int64_t horizon) {
  const std::size_t h = horizon_index(horizon);
  for (const Counts& row : counts) {
    // One row for the four ETT series.
    if (h < 4 && starts_alike(series, row.series) && row.model == model) return row.parameters[h];
  }
  return 0;
}

}  // namespace samformer::tools
