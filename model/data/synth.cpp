#include "model/data/synth.h"

#include <fmt/format.h>

#include <algorithm>
#include <array>
#include <charconv>
#include <cmath>
#include <limits>
#include <numbers>
#include <ostream>

#include "core/error.h"
#include "core/random.h"

namespace samformer::model {
namespace {

constexpr std::uint32_t kStream = 3, kLoadStream = 7, kSalesStream = 8, kMonthlyStream = 9, kPromoStream = 10;
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

// Of an AR(1) series with this coefficient and deviation of the innovations, `step` steps ahead.
double ar_floor(double phi, double deviation, std::int64_t step) {
  return deviation * deviation * (1 - std::pow(phi, 2.0 * static_cast<double>(step))) / (1 - phi * phi);
}

// Expected squared error of the best forecast `step` steps ahead.
double floor_at(std::int64_t channel, std::int64_t channels, std::int64_t step) {
  const Recipe r = recipe_of(channel, channels);
  const double own = ar_floor(r.phi, r.deviation, step);
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

void check_size(std::int64_t rows, std::int64_t channels) {
  check_channels(channels);
  if (rows < 1 || rows > (std::int64_t{1} << 28) / channels) {
    throw Error(Exit::usage, fmt::format("--rows {}: expected at least 1 and at most 2^28 values in all", rows));
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
  check_size(options.rows, options.channels);
  Series series;
  series.path = series.name = "seasonal";
  series.rows = options.rows;
  series.step = {StepUnit::second, 3600};
  series.date_format.learned = series.date_format.day = series.date_format.time = true;
  series.date_format.minutes = series.date_format.seconds = true;
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

namespace {

constexpr double kTurn = 2 * std::numbers::pi;

// The random numbers of one channel.
struct Source {
  std::uint64_t seed;
  std::uint32_t stream;
  std::int64_t channel;
  enum Kind : std::uint32_t { noise, setting, event };

  PhiloxBlock block(Kind kind, std::int64_t index) const {
    return random_block(seed, stream, static_cast<std::uint32_t>(channel * 4 + kind),
                        static_cast<std::uint64_t>(index));
  }
  double normal(Kind kind, std::int64_t index) const { return normal_pair(block(kind, index))[0]; }
  double uniform(Kind kind, std::int64_t index) const {
    const PhiloxBlock words = block(kind, index);
    return uniform01(words[0], words[1]);
  }
};

// A stationary AR(1) series.
std::vector<double> autoregression(const Source& source, std::int64_t rows, double phi, double deviation) {
  std::vector<double> e;
  double last = source.normal(Source::setting, 0) * deviation / std::sqrt(1 - phi * phi);
  for (std::int64_t t = 0; t < rows; ++t) e.push_back(last = phi * last + deviation * source.normal(Source::noise, t));
  return e;
}

void add_channel(Synthetic& s, std::string name, const std::vector<double>& values, double decimals) {
  s.series.channels.push_back(std::move(name));
  for (const double value : values) s.series.values.push_back(std::round(value * decimals) / decimals);
}

void add_ar_floor(Synthetic& s, double phi, double deviation) {
  double sum = 0;
  for (std::int64_t h = 1; h <= s.horizon; ++h) sum += ar_floor(phi, deviation, h);
  s.one_step.push_back(ar_floor(phi, deviation, 1));
  s.mean.push_back(sum / static_cast<double>(s.horizon));
}

void make_built_in(const SynthOptions& o, Synthetic& s) {
  s.series = make_seasonal({o.rows, o.channels, o.seed});
  s.one_step = seasonal_innovation_variance(o.channels);
  s.mean = seasonal_noise_floor(o.channels, s.horizon);
}

void make_load(const SynthOptions& o, Synthetic& s) {
  constexpr double year = 365.25 * 24;
  std::vector<double> temperature = autoregression({o.seed, kLoadStream, 0}, o.rows, 0.97, 0.5);
  add_ar_floor(s, 0.97, 0.5);
  for (std::int64_t t = 0; t < o.rows; ++t) {
    const auto hour = static_cast<double>(t);
    temperature[static_cast<std::size_t>(t)] +=
        11 - 10 * std::cos(kTurn * (hour / year - 0.07)) - 4 * std::cos(kTurn * (hour - 3) / 24);
  }
  add_channel(s, "temperature", temperature, 1e2);
  for (std::int64_t c = 0; c < o.channels; ++c) {
    const Source source{o.seed, kLoadStream, c + 1};
    const double size = 50.0 + 25.0 * static_cast<double>(c % 6), phase = source.uniform(Source::setting, 1);
    const double phi = 0.7, deviation = 0.025 * size;
    std::vector<double> values = autoregression(source, o.rows, phi, deviation);
    add_ar_floor(s, phi, deviation);
    for (std::int64_t t = 0; t < o.rows; ++t) {
      const auto k = static_cast<std::size_t>(t);
      const double hour = static_cast<double>(t % 24) + 3 * phase;
      const double day = -0.25 * std::cos(kTurn * (hour - 4) / 24) - 0.1 * std::cos(kTurn * (hour - 2) / 12);
      const bool weekend = t / 24 % 7 == 6 || t / 24 % 7 == 0;  // the first day is a Sunday
      values[k] += size * (1 + day - (weekend ? 0.15 : 0) + 0.015 * std::max(0.0, 15 - temperature[k]) +
                           0.03 * std::max(0.0, temperature[k] - 22));
    }
    add_channel(s, fmt::format("site_{}", c + 1), values, 1e2);
  }
}

// The smallest count whose distribution function exceeds a uniform number.
double poisson(double rate, double uniform) {
  double p = std::exp(-rate), sum = p, count = 0;
  while (sum <= uniform && count < 1000) sum += p *= rate / ++count;
  return count;
}

constexpr std::array<double, 7> kWeek = {1.3, 0.6, 0.8, 0.9, 0.9, 1.1, 1.4};  // from a Saturday on

// 1 on holidays.
std::vector<double> holidays_of(const Series& series) {
  constexpr std::array<std::string_view, 9> holidays = {"01-01", "01-06", "05-01", "08-15", "10-03",
                                                        "11-01", "12-24", "12-25", "12-26"};
  std::vector<double> holiday;
  for (std::int64_t t = 0; t < series.rows; ++t) {
    const std::string date = series.date(t);  // YYYY-MM-DD
    holiday.push_back(static_cast<double>(std::ranges::count(holidays, std::string_view(date).substr(5))));
  }
  return holiday;
}

void add_known(Synthetic& s, const std::vector<std::vector<double>>& promotions, const std::vector<double>& holiday) {
  for (std::size_t c = 0; c < promotions.size(); ++c) add_channel(s, fmt::format("promo_{}", c + 1), promotions[c], 1);
  add_channel(s, "holiday", holiday, 1);
  s.one_step.resize(s.series.channels.size(), std::numeric_limits<double>::quiet_NaN());
  s.mean.resize(s.series.channels.size(), std::numeric_limits<double>::quiet_NaN());
}

void make_promo(const SynthOptions& o, Synthetic& s) {
  const std::vector<double> holiday = holidays_of(s.series);
  std::vector<std::vector<double>> promotions;
  for (std::int64_t c = 0; c < o.channels; ++c) {
    const Source source{o.seed, kPromoStream, c};
    const double size = 50.0 + 25.0 * static_cast<double>(c % 6), phi = 0.3, deviation = 0.1 * size;
    std::vector<double> values = autoregression(source, o.rows, phi, deviation), promotion(values.size());
    add_ar_floor(s, phi, deviation);
    for (std::int64_t t = 0; t < o.rows; ++t) {
      const auto k = static_cast<std::size_t>(t);
      promotion[k] = source.uniform(Source::event, t / 3) < 0.2;
      values[k] += size * (kWeek[k % 7] + 0.6 * promotion[k] - 0.5 * holiday[k]);
    }
    add_channel(s, fmt::format("item_{}", c + 1), values, 1e2);
    promotions.push_back(std::move(promotion));
  }
  add_known(s, promotions, holiday);
}

void make_sales(const SynthOptions& o, Synthetic& s) {
  const auto rows = static_cast<std::size_t>(o.rows);
  const std::int64_t unsold = o.channels * 6 / 40, late = o.channels >= 10 ? o.channels - unsold - 1 : -1;
  const std::int64_t test = o.rows - o.rows / 5;
  const std::vector<double> holiday = holidays_of(s.series);
  std::vector<std::vector<double>> promotions;
  for (std::int64_t c = 0; c < o.channels; ++c) {
    const Source source{o.seed, kSalesStream, c};
    const double share = static_cast<double>(c) / static_cast<double>(std::max<std::int64_t>(1, o.channels - 1));
    const double level = c == late ? 40 : c >= o.channels - unsold ? 0 : 0.4 * std::pow(150, share);
    const double phase = source.uniform(Source::setting, 0);
    std::vector<double> values(rows), promotion(rows);
    double variance = 0;
    for (std::int64_t t = 0; t < o.rows; ++t) {
      const auto k = static_cast<std::size_t>(t);
      promotion[k] = source.uniform(Source::event, t / 7) < 0.15;
      double rate = level * kWeek[k % 7] * (1 + 0.2 * std::sin(kTurn * (static_cast<double>(t) / 365.25 + phase)));
      if (promotion[k] > 0) rate *= 1.8;
      if (holiday[k] > 0) rate *= 0.3;
      if (c == late && t < test) rate = 0;
      values[k] = poisson(rate, source.uniform(Source::noise, t));
      if (t >= test) variance += rate / static_cast<double>(o.rows - test);
    }
    add_channel(s, fmt::format("item_{}", c + 1), values, 1);
    s.one_step.push_back(variance);
    promotions.push_back(std::move(promotion));
  }
  s.mean = s.one_step;
  add_known(s, promotions, holiday);
}

void make_monthly(const SynthOptions& o, Synthetic& s) {
  for (std::int64_t c = 0; c < o.channels; ++c) {
    const Source source{o.seed, kMonthlyStream, c};
    const double level = 100.0 + 20.0 * static_cast<double>(c % 5), phi = 0.4, deviation = 0.03 * level;
    const double trend = level * (0.002 + 0.004 * source.uniform(Source::setting, 1));
    const double phase = source.uniform(Source::setting, 2);
    std::vector<double> values = autoregression(source, o.rows, phi, deviation);
    add_ar_floor(s, phi, deviation);
    for (std::int64_t t = 0; t < o.rows; ++t) {
      const auto month = static_cast<double>(t);
      values[static_cast<std::size_t>(t)] +=
          level + trend * month +
          level * (0.2 * std::sin(kTurn * (month / 12 + phase)) + 0.06 * std::sin(kTurn * month / 6));
    }
    add_channel(s, fmt::format("region_{}", c + 1), values, 1e2);
  }
}

struct SynthRow {
  std::string_view name;
  std::int64_t rows, channels, horizon;
  Stamp before;  // one step before the first row
  Step step;
  void (*make)(const SynthOptions&, Synthetic&);
};
constexpr std::array<SynthRow, 5> synth_rows = {{
    {"seasonal", 6000, 7, 24, {}, {StepUnit::second, 3600}, make_built_in},
    {"load", 17544, 12, 24, {1672531200 - 3600}, {StepUnit::second, 3600}, make_load},  // 2023-01-01, a Sunday
    {"sales", 1096, 40, 28, {1640995200 - 86400}, {StepUnit::day, 1}, make_sales},      // 2022-01-01, a Saturday
    {"promo", 1461, 20, 28, {1640995200 - 86400}, {StepUnit::day, 1}, make_promo},      // as sales
    {"monthly", 180, 8, 12, {1259625600}, {StepUnit::month, 1}, make_monthly},          // 2010-01-01
}};

// As training with the split `ratio` sees it.
double standardised_floor(const Synthetic& s) {
  const auto train = static_cast<std::int64_t>(0.7 * static_cast<double>(s.series.rows));
  if (train == 0) return std::numeric_limits<double>::quiet_NaN();
  const Scaler scaler = fit_scaler(s.series, {0, train});
  double sum = 0, count = 0;
  for (std::size_t c = 0; c < s.mean.size(); ++c) {
    const auto values = s.series.channel(static_cast<std::int64_t>(c)).first(static_cast<std::size_t>(train));
    if (std::isnan(s.mean[c]) || std::ranges::count(values, values[0]) == train) continue;
    sum += s.mean[c] / (scaler.std[c] * scaler.std[c]);
    ++count;
  }
  return sum / count;
}

struct Cut {
  double at;  // share of the rows
  std::int64_t rows;
};
constexpr std::array<Cut, 3> cuts = {{{0.2, 30}, {0.4, 4}, {0.55, 3}}};

// Rows of the holes.
std::vector<bool> absent_rows(std::int64_t rows) {
  std::vector<bool> absent(static_cast<std::size_t>(rows));
  for (const auto& [at, length] : cuts) {
    const auto first = static_cast<std::int64_t>(at * static_cast<double>(rows));
    for (std::int64_t t = first; t < first + length; ++t) absent[static_cast<std::size_t>(t)] = true;
  }
  return absent;
}

void spoil_cells(Series& series, std::uint64_t seed, const std::vector<bool>& absent) {
  const Source source{seed, kLoadStream, 0};
  constexpr int cells = 23;
  const double nan = std::numeric_limits<double>::quiet_NaN();
  for (std::int64_t i = 0, spoiled = 0; spoiled < cells; ++i) {
    const PhiloxBlock words = source.block(Source::event, i);
    const auto row = static_cast<std::size_t>(uniform01(words[0], words[1]) * 0.7 * static_cast<double>(series.rows));
    const auto channel =
        1 + static_cast<std::size_t>(uniform01(words[2], words[3]) * static_cast<double>(series.channels.size() - 1));
    double& value = series.values[channel * static_cast<std::size_t>(series.rows) + row];
    if (absent[row] || std::isnan(value)) continue;
    value = ++spoiled == cells ? -9999 : nan;
  }
}

void cut(Series& series, const std::vector<bool>& absent) {
  const auto keep = [&](auto& values) {
    std::size_t kept = 0;
    for (std::size_t i = 0; i < values.size(); ++i) {
      if (!absent[i % absent.size()]) values[kept++] = values[i];
    }
    values.resize(kept);
  };
  keep(series.dates);
  keep(series.values);
  series.rows = static_cast<std::int64_t>(series.dates.size());
}

}  // namespace

std::span<const std::string_view> synthetic_names() {
  static constexpr auto names = [] {
    std::array<std::string_view, synth_rows.size()> all;
    for (std::size_t i = 0; i < all.size(); ++i) all[i] = synth_rows[i].name;
    return all;
  }();
  return names;
}

Synthetic make_synthetic(std::string_view name, const SynthOptions& options) {
  const auto row = std::ranges::find(synth_rows, name, &SynthRow::name);
  if (row == synth_rows.end()) throw Error(Exit::usage, fmt::format("'{}' is no built-in series", name));
  SynthOptions o = options;
  if (o.rows == 0) o.rows = row->rows;
  if (o.channels == 0) o.channels = row->channels;
  check_size(o.rows, o.channels);
  if (o.holes || o.bad_cells) {
    constexpr std::int64_t least = 1000;
    if (name != "load") throw Error(Exit::usage, "--cut-holes and --bad-cells are of the series load");
    if (o.rows < least) {
      throw Error(Exit::usage, fmt::format("--rows {}: with holes or bad cells at least {} expected", o.rows, least));
    }
  }
  Synthetic s;
  s.horizon = row->horizon;
  s.series.path = s.series.name = name;
  s.series.rows = o.rows;
  s.series.step = row->step;
  DateFormat& format = s.series.date_format;
  format.learned = format.day = true;
  format.time = format.minutes = format.seconds = row->step.unit == StepUnit::second;
  Stamp before = row->before;
  if (!o.timezone.empty()) {
    s.series.zone = std::make_shared<TimeZone>(o.timezone);
    s.series.zone->locate(before);
  }
  s.series.dates = continue_dates(before, row->step, o.rows, s.series.zone.get());
  row->make(o, s);
  s.standardised = standardised_floor(s);
  const std::vector<bool> absent = absent_rows(o.rows);
  if (o.bad_cells) spoil_cells(s.series, o.seed, absent);
  if (o.holes) cut(s.series, absent);
  return s;
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
