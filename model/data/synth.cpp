#include "model/data/synth.h"

#include <fmt/format.h>

#include <array>
#include <charconv>
#include <cmath>
#include <numbers>
#include <ostream>

#include "core/error.h"
#include "core/random.h"

namespace samformer::model {
namespace {

constexpr std::uint32_t kStream = 3;
constexpr std::int64_t kStart = 1577836800;  // 2020-01-01 00:00:00
constexpr double kGain = 0.8;
constexpr double kShiftsPerHour = 1.0 / 1000;
constexpr double kShiftDeviation = 1.5;
constexpr std::array<std::int64_t, 2> kLag = {6, 24};
constexpr std::int64_t kHistory = 24;  // hours before the first row, for the followers

// What a channel is made of, fixed by its number; the seed sets phases, shifts and noise.
struct Recipe {
  double base, day, week, phi, deviation;
  int leader;  // -1: follows none
  std::int64_t lag;
};

Recipe recipe_of(std::int64_t channel, std::int64_t channels) {
  Recipe recipe{10.0 + 5.0 * static_cast<double>(channel % 5),
                2.0 + 0.5 * static_cast<double>(channel % 4),
                0.8 + 0.2 * static_cast<double>(channel % 3),
                0.5 + 0.1 * static_cast<double>(channel % 4),
                0.4 + 0.1 * static_cast<double>(channel % 3),
                -1,
                0};
  if (channels >= 4 && channel >= channels - 2) {
    recipe.leader = static_cast<int>(channel - (channels - 2));
    recipe.lag = kLag[static_cast<std::size_t>(recipe.leader)];
  }
  return recipe;
}

// Expected squared error of the best forecast `step` steps ahead.
double floor_at(std::int64_t channel, std::int64_t channels, std::int64_t step) {
  const Recipe r = recipe_of(channel, channels);
  const double own =
      r.deviation * r.deviation * (1 - std::pow(r.phi, 2.0 * static_cast<double>(step))) / (1 - r.phi * r.phi);
  if (r.leader < 0 || step <= r.lag) return own;
  return own + kGain * kGain * floor_at(r.leader, channels, step - r.lag);
}

// One channel from kHistory hours before the first row on.
std::vector<double> simulate(std::int64_t channel, const SeasonalOptions& options) {
  enum Draw : std::uint32_t { noise, shift, setting };
  const Recipe r = recipe_of(channel, options.channels);
  const auto block = [&](Draw draw, std::int64_t index) {
    return random_block(options.seed, kStream, static_cast<std::uint32_t>(channel * 4 + draw),
                        static_cast<std::uint64_t>(index));
  };
  const double turn = 2 * std::numbers::pi;
  const PhiloxBlock phases = block(setting, 0);
  const double day_phase = turn * uniform01(phases[0], phases[1]);
  const double week_phase = turn * uniform01(phases[2], phases[3]);
  double level = r.base;
  double error = normal_pair(block(setting, 1))[0] * r.deviation / std::sqrt(1 - r.phi * r.phi);  // stationary
  std::vector<double> values;
  values.reserve(static_cast<std::size_t>(options.rows + kHistory));
  for (std::int64_t t = 0; t < options.rows + kHistory; ++t) {
    error = r.phi * error + r.deviation * normal_pair(block(noise, t))[0];
    if (r.leader >= 0) {
      values.push_back(error);
      continue;
    }
    const PhiloxBlock jump = block(shift, 2 * t);
    if (uniform01(jump[0], jump[1]) < kShiftsPerHour)
      level += kShiftDeviation * normal_pair(block(shift, 2 * t + 1))[0];
    const auto hour = static_cast<double>(t);
    values.push_back(
        level + r.day * (std::sin(turn * hour / 24 + day_phase) + 0.4 * std::sin(turn * hour / 12 + 2 * day_phase)) +
        r.week * std::sin(turn * hour / 168 + week_phase) + error);
  }
  return values;
}

void check_channels(std::int64_t channels) {
  if (channels < 1 || channels > (1 << 20)) {
    throw Error(Exit::usage, fmt::format("--channels {}: expected 1 to {}", channels, 1 << 20));
  }
}

// As CSV wants it: in quotes where it holds a delimiter, a quote or a line end.
void append_quoted(std::string& line, const std::string& text) {
  if (text.find_first_of(",;\t\"\r\n") == std::string::npos) {
    line += text;
    return;
  }
  line += '"';
  for (const char c : text) line += c == '"' ? std::string("\"\"") : std::string(1, c);
  line += '"';
}

}  // namespace

Series make_seasonal(const SeasonalOptions& options) {
  check_channels(options.channels);
  if (options.rows < 1 || options.rows > (std::int64_t{1} << 28) / options.channels) {
    throw Error(Exit::usage,
                fmt::format("--rows {}: expected at least 1 and at most 2^28 values in all", options.rows));
  }
  Series series;
  series.path = series.name = "seasonal";
  series.rows = options.rows;
  series.step = {StepUnit::second, 3600};
  series.date_format.learned = series.date_format.day = series.date_format.time = series.date_format.seconds = true;
  for (std::int64_t t = 0; t < options.rows; ++t) series.dates.push_back({kStart + 3600 * t});
  const std::array<std::vector<double>, 2> leaders = {
      simulate(0, options), options.channels > 1 ? simulate(1, options) : std::vector<double>()};
  for (std::int64_t c = 0; c < options.channels; ++c) {
    const Recipe recipe = recipe_of(c, options.channels);
    series.channels.push_back(fmt::format("channel_{}", c + 1));
    const std::vector<double> own = c < 2 ? leaders[static_cast<std::size_t>(c)] : simulate(c, options);
    for (std::int64_t t = kHistory; t < kHistory + options.rows; ++t) {
      double value = own[static_cast<std::size_t>(t)];
      if (recipe.leader >= 0) {
        value += kGain * leaders[static_cast<std::size_t>(recipe.leader)][static_cast<std::size_t>(t - recipe.lag)];
      }
      series.values.push_back(std::round(value * 1e4) / 1e4);
    }
  }
  return series;
}

std::vector<double> seasonal_innovation_variance(std::int64_t channels) { return seasonal_noise_floor(channels, 1); }

std::vector<double> seasonal_noise_floor(std::int64_t channels, std::int64_t horizon) {
  check_channels(channels);
  SAMFORMER_CHECK(horizon > 0, "horizon {}", horizon);
  std::vector<double> floor;
  for (std::int64_t c = 0; c < channels; ++c) {
    double sum = 0;
    for (std::int64_t step = 1; step <= horizon; ++step) sum += floor_at(c, channels, step);
    floor.push_back(sum / static_cast<double>(horizon));
  }
  return floor;
}

void write_csv(std::ostream& out, const Series& series) {
  std::string line = series.dates.empty() ? "" : "date";
  for (std::size_t d = 0; d < series.channels.size(); ++d) {
    if (d > 0 || !series.dates.empty()) line += ',';
    append_quoted(line, series.channels[d]);
  }
  line += '\n';
  std::array<char, 32> digits{};
  for (std::int64_t t = 0; t < series.rows; ++t) {
    if (!series.dates.empty()) append_quoted(line, series.date(t));
    for (std::int64_t d = 0; d < series.width(); ++d) {
      if (d > 0 || !series.dates.empty()) line += ',';
      const double value = series.channel(d)[static_cast<std::size_t>(t)];
      if (std::isnan(value)) continue;
      line.append(digits.data(), std::to_chars(digits.data(), digits.data() + digits.size(), value).ptr);
    }
    line += '\n';
    if (line.size() > (1U << 16)) {
      out.write(line.data(), static_cast<std::streamsize>(line.size()));
      line.clear();
    }
  }
  out.write(line.data(), static_cast<std::streamsize>(line.size()));
}

}  // namespace samformer::model
