#include "tools/run/experiment.h"

#include <omp.h>
#include <sys/resource.h>

#include <algorithm>
#include <charconv>
#include <cmath>
#include <filesystem>
#include <future>
#include <sstream>

#include "core/io/sha256.h"
#include "core/text.h"
#include "kernels/cpu/bf16.h"
#include "kernels/gemm.h"
#include "model/data/marks.h"
#include "model/data/readers.h"
#include "model/data/repair.h"
#include "model/data/synth.h"
#include "tools/cli/text_format.h"
#include "tools/run/datasets.h"
#include "tools/run/forecasting.h"
#include "tools/run/panel.h"

namespace samformer::tools {
namespace {

std::string sha256_of(std::string_view bytes) {
  Sha256 hash;
  hash.update(bytes_of(bytes));
  return hash.hex();
}

// Reads while another core hashes.
model::Series read_hashed(const std::string& bytes, const std::string& path, const model::SeriesOptions& options) {
  std::future<std::string> hash = std::async(std::launch::async, sha256_of, std::string_view(bytes));
  model::Series series = model::parse_series(bytes, path, options);
  series.sha256 = hash.get();
  return series;
}

// The targets among `late`, as Experiment::left_out; empty where there would be no others.
std::vector<std::uint8_t> without(const Experiment& e, const std::vector<model::LateChannel>& late) {
  std::vector<std::uint8_t> left_out;
  for (const std::int32_t t : e.targets)
    left_out.push_back(std::ranges::count(late, t, &model::LateChannel::channel) > 0);
  const auto out = std::ranges::count(left_out, 1);
  return out > 0 && out < std::ssize(left_out) ? left_out : std::vector<std::uint8_t>();
}

// Names the channels whose training rows say next to nothing of the later ones and leaves them out of pooled errors.
void leave_out_late(Experiment& e, Console& console) {
  const model::Splits& s = e.splits;
  const std::vector<model::LateChannel> late = model::late_channels(e.series, s.train, e.series.rows);
  e.left_out = without(e, model::late_channels(e.series, s.train, s.val.last));
  e.left_out_of_test = without(e, late);
  for (const auto& [channel, before, after] : late) {
    if (after == 0) continue;  // the reader has named it
    const bool out = !e.left_out_of_test.empty() &&
                     std::ranges::find(e.targets, static_cast<std::int32_t>(channel)) != e.targets.end();
    const std::string name = e.series.channels[static_cast<std::size_t>(channel)];
    console.warning((before == 0 ? fmt::format("channel '{}' is constant in the training rows and not after them", name)
                                 : fmt::format("channel '{}' varies {:.0f} times as much after the training rows as in "
                                               "them",
                                               name, after / before)) +
                    (out ? "; it is left out of mean errors, which --late mean takes back" : ""));
  }
}

}  // namespace

void close_holes(model::Series& series) {
  std::erase_if(series.holes, [](const model::Hole& hole) { return hole.absent > 0; });
}

std::future<void> prepare_products() {
  // The library does not survive the end of memory (kernels/cpu/onednn.cpp): where there is a limit, nothing else may
  // take some meanwhile.
  rlimit memory{};
  const bool limited = getrlimit(RLIMIT_AS, &memory) == 0 && memory.rlim_cur != RLIM_INFINITY;
  return std::async(limited ? std::launch::deferred : std::launch::async, kernels::prepare_products);
}

std::vector<std::string> Experiment::token_names(const model::Model& model, std::int64_t count) const {
  std::vector<std::string> names;
  for (const auto [first, last] : model.map_steps()) {
    names.push_back(first == last ? fmt::format("{}", last) : fmt::format("{}..{}", first, last));
  }
  if (!names.empty()) return names;
  names = series.channels;
  if (count > D()) std::ranges::copy(model::mark_names(series.step), std::back_inserter(names));
  return names;
}

std::vector<std::string> Experiment::target_names() const {
  std::vector<std::string> names;
  for (const std::int32_t t : targets) names.push_back(series.channels[static_cast<std::size_t>(t)]);
  return names;
}

model::SeriesOptions series_options(const DataSettings& settings) {
  return {.columns = settings.columns,
          .drop = settings.drop,
          .date_column = settings.date_column,
          .date_format = settings.date_format,
          .freq = settings.freq,
          .timezone = settings.timezone,
          .no_date = settings.no_date,
          .delimiter = delimiter_character(settings),
          .decimal = settings.decimal == "comma"   ? model::Decimal::comma
                     : settings.decimal == "point" ? model::Decimal::point
                                                   : model::Decimal::found,
          .id = settings.id,
          .value_column = settings.value_column,
          .panel = settings.panel == "global"     ? model::PanelForm::global
                   : settings.panel == "channels" ? model::PanelForm::channels
                                                  : model::PanelForm::found,
          .known_ahead = covariate_options(settings).columns()};
}

std::vector<int> select_targets(model::Series& series, const DataSettings& settings) {
  if (settings.past.empty()) return model::select_targets(series, features_of(settings), settings.target);
  if (settings.features != "M" || !settings.target.empty()) {
    throw Error(Exit::usage, "--past names the inputs, --features and --target the targets: give one of them");
  }
  for (const std::string& name : settings.past) {
    if (std::ranges::find(series.channels, name) != series.channels.end()) continue;
    throw Error(Exit::usage, fmt::format("--past '{}' is not a channel of {}", name, series.path))
        .hint(guess(name, series.channels));
  }
  std::vector<int> targets;
  for (std::size_t d = 0; d < series.channels.size(); ++d) {
    if (std::ranges::find(settings.past, series.channels[d]) == settings.past.end()) {
      targets.push_back(static_cast<int>(d));
    }
  }
  if (targets.empty()) throw Error(Exit::usage, "--past names all channels: there is nothing to forecast");
  return targets;
}

model::CovariateOptions covariate_options(const DataSettings& settings) {
  model::CovariateOptions options{settings.future, settings.future_for, settings.calendar, 0};
  const std::string& basis = settings.future_basis;
  constexpr std::string_view hinge = "hinge:";
  if (basis == "linear") return options;
  const char* const end = basis.data() + basis.size();
  const auto [read, error] = basis.starts_with(hinge)
                                 ? std::from_chars(basis.data() + hinge.size(), end, options.knots)
                                 : std::from_chars_result{basis.data(), std::errc::invalid_argument};
  if (error != std::errc() || read != end || options.knots < 1 || options.knots > 64) {
    throw Error(Exit::usage, fmt::format("--future-basis {}: hinge:N with N from 1 to 64, or linear", basis));
  }
  return options;
}

model::Model linear_model(const Settings& settings, const Experiment& e) {
  const model::Linear net({e.D(), settings.lookback, settings.horizon});
  return model::Model(net).with_covariates(e.basis.features());
}

model::Model make_model(const Settings& settings, const Experiment& e) {
  return settings.make_model(e.D(), e.values.marks).with_covariates(e.basis.features());
}

model::Features features_of(const DataSettings& settings) {
  if (settings.features == "S") return model::Features::s;
  return settings.features == "MS" ? model::Features::ms : model::Features::m;
}

namespace {

// Their columns stand beside one channel; of a panel no series has them as its own yet.
void refuse_covariates_of_panel(const model::Series& series, const DataSettings& settings) {
  if (series.long_form.id.empty()) return;
  const bool columns = !settings.future.empty() || !settings.future_for.empty() || !settings.past.empty();
  if (!columns && (series.panel.empty() || settings.calendar.empty())) return;
  throw Error(Exit::usage, fmt::format("--{}: not for a file in long form", columns ? "future and --past" : "calendar"))
      .at(series.path)
      .hint(fmt::format("write one row a date and one column for each value of {}", series.long_form.id));
}

}  // namespace

model::Series load_series(const DataSettings& settings, const model::SeriesOptions& options) {
  if (settings.data == "seasonal" && !std::filesystem::exists(settings.data)) {
    std::ostringstream text;
    text.exceptions(std::ios::badbit);  // std::bad_alloc
    model::write_csv(text, model::make_seasonal({}));
    return series_from(text.str(), "seasonal", settings, options);
  }
  const std::string path = settings.data == "-" ? settings.data : find_dataset(settings.data).string();
  never_replace(path == "-" ? "/dev/stdin" : path);
  return series_from(model::read_bytes(path), path, settings, options);
}

model::Series series_from(const std::string& bytes, const std::string& path, const DataSettings& settings,
                          const model::SeriesOptions& options) {
  model::Series series = read_hashed(bytes, path, options);
  if (settings.holes == "close") {
    close_holes(series);
    std::erase_if(series.findings, [](const model::Finding& f) { return f.kind == "gap"; });
  }
  if (settings.panel == "global" && series.panel.empty()) {
    throw Error(Exit::usage, "--panel global: the file is not in long form, a row a series and date")
        .at(series.path)
        .hint("name the column of the series' ids: --id");
  }
  refuse_covariates_of_panel(series, settings);
  if (std::ranges::none_of(series.findings,
                           [](const model::Finding& f) { return f.severity == model::Severity::refuse; })) {
    model::take_known(series, covariate_options(settings));
  }
  if (!settings.data_sha256.empty() && settings.data_sha256 != series.sha256) {
    throw Error(Exit::data,
                fmt::format("the data changed: SHA-256 {} expected, found {}", settings.data_sha256, series.sha256))
        .at(series.path)
        .hint("give the file that the run was trained on with --data");
  }
  return series;
}

void say_findings(const model::Series& series, Console& console) {
  for (const model::Finding& f : series.findings) {
    console.warning(
        fmt::format("{}: {}{}{}", place_text(f.file, f.line, f.column), f.message, f.hint.empty() ? "" : "; ", f.hint));
  }
}

model::Splits choose_shape(DataSettings& settings, const model::Series& series) {
  if (settings.horizon == 0) settings.horizon = model::default_horizon(series.step);
  model::Splits splits = model::split_rows(settings.split, series);
  if (settings.lookback == 0) settings.lookback = model::default_lookback(series, splits, settings.horizon);
  return splits;
}

std::string lost_windows_text(const model::Series& series, const model::Splits& splits, const DataSettings& settings) {
  const std::int64_t L = settings.lookback, H = settings.horizon;
  std::string text;
  for (const auto& [part, rows] :
       {std::pair{"training", splits.train}, std::pair{"validation", model::with_lookback(splits.val, L)},
        std::pair{"test", model::with_lookback(splits.test, L)}}) {
    const std::int64_t all = model::window_count(rows, L, H), lost = all - model::window_count(series, rows, L, H);
    if (lost == 0) continue;
    if (lost == all) {
      throw Error(Exit::data,
                  fmt::format("every window of look-back {} and horizon {} for {} crosses absent rows", L, H, part))
          .at(series.path)
          .hint(fmt::format(
              "fill the holes in: {}; or take a shorter --lookback, or rows as evenly spaced: --holes close",
              model::repair_command(series.path, series_options(settings))));
    }
    text += fmt::format("{}{} of {} for {}", text.empty() ? "" : ", ", lost, all, part);
  }
  return text.empty() ? text : "windows across absent rows are left out: " + text;
}

namespace {

// Look-back, horizon and too_few.
std::vector<model::Splits> shape_panel(Experiment& e, Settings& settings, PanelWindows& windows) {
  std::vector<model::Splits> parts = panel_splits(e.series, settings);
  windows = count_windows(e.series, parts, settings.lookback, settings.horizon);
  e.too_few = settings.automatic && (windows.train == 0 || windows.val == 0 || windows.test == 0);
  return parts;
}

void load_panel(Experiment& e, Settings& settings, Console& console) {
  if (settings.features != "M" || !settings.target.empty()) {
    throw Error(Exit::usage, "--features and --target are of channels: a panel has series of one")
        .at(e.series.path)
        .hint("leave them out; --columns names the series to read");
  }
  PanelWindows windows;
  std::vector<model::Splits> parts = shape_panel(e, settings, windows);
  if (e.too_few) {
    const std::int64_t season = settings.season > 0 ? settings.season : e.series.step.season();
    settings.lookback = std::max<std::int64_t>(season, 1);
    Panel all;
    all.late.assign(parts.size(), 0);
    all.file = std::move(e.series);
    all.parts = std::move(parts);
    e = panel_of_all_rows(all, season);
    e.too_few = true;
    return;
  }
  check_panel(e.series, parts, windows, settings.lookback, settings.horizon);
  if (const std::string text = panel_text(e.series, windows); !text.empty()) console.info(text);
  const std::int64_t tested = windows.tested;
  e = panel_experiment(std::move(e.series), std::move(parts), settings);
  if (e.panel->tested < tested) {
    console.warning(
        fmt::format("{} series hardly vary in their training rows; they are left out of errors, which "
                    "--late mean takes back",
                    tested - e.panel->tested));
  }
  if (e.splits.val.size() < settings.horizon || e.splits.test.size() < settings.horizon) {
    throw Error(Exit::data, "every series with validation and test windows hardly varies in its training rows")
        .at(e.series.path)
        .hint("look at the file, or take them all: --late mean");
  }
}

}  // namespace

void shape(Experiment& e, Settings& settings) {
  if (!e.series.panel.empty()) {
    PanelWindows windows;
    shape_panel(e, settings, windows);
    return;
  }
  e.splits = choose_shape(settings, e.series);
  e.season = settings.season > 0 ? settings.season : e.series.step.season();
  e.too_few = settings.automatic && !model::has_windows(e.series, e.splits, settings.lookback, settings.horizon);
  if (e.too_few) settings.lookback = e.season > 0 && e.season <= e.series.rows ? e.season : 1;
}

Experiment load_experiment(Settings& settings, Console& console) {
  std::future<void> prepared = prepare_products();
  Experiment e;
  e.series = load_series(settings, series_options(settings));
  model::require_clean(e.series);
  say_findings(e.series, console);
  if (!e.series.long_form.id.empty()) {
    settings.id = e.series.long_form.id;
    settings.value_column = e.series.long_form.value;
    settings.panel = e.series.panel.empty() ? "channels" : "global";
  }
  if (!e.series.panel.empty()) {
    load_panel(e, settings, console);
    prepared.get();
    return e;
  }
  const std::vector<int> targets = select_targets(e.series, settings);
  e.targets.assign(targets.begin(), targets.end());
  shape(e, settings);
  if (e.too_few) {
    fit(e, settings, {0, e.series.rows});
    prepared.get();
    return e;
  }
  model::check_length(e.series, e.splits, settings.lookback, settings.horizon);
  if (const std::string lost = lost_windows_text(e.series, e.splits, settings); !lost.empty()) console.warning(lost);
  const std::int64_t windows = model::window_count(e.series, e.splits.train, settings.lookback, settings.horizon);
  if (windows < model::few_windows) {
    console.warning(fmt::format("only {} training windows at look-back {} and horizon {}; {} and more can be trusted",
                                windows, settings.lookback, settings.horizon, model::few_windows));
  }
  fit(e, settings, e.splits.train);
  if (settings.late == "leave-out") leave_out_late(e, console);
  prepared.get();
  return e;
}

model::MarkedValues values_of(const model::Series& series, const model::Scaler& scaler, const model::Basis& basis) {
  model::MarkedValues all = model::marked_values(series, scaler);
  if (basis.features() == 0) return all;
  std::vector<double> known;
  for (std::size_t c = 0; c < series.known.names.size(); ++c) {
    const double* from = series.known.values.data() + static_cast<std::int64_t>(c) * series.known.rows;
    known.insert(known.end(), from, from + series.rows);
  }
  all.add(basis, known, series.dates, series.step);
  return all;
}

namespace {

// The columns of a basis in the rows that a forecast reads, [names][lookback + H].
std::vector<double> known_rows(const model::Basis& basis, const model::Series& series, std::int64_t origin,
                               std::int64_t lookback, std::span<const model::Stamp> ahead,
                               const model::Series* future) {
  const model::Series::Known& own = series.known;
  const std::vector<std::string>& names = future ? future->channels : own.names;
  const std::vector<model::Stamp>& dates = future ? future->dates : own.dates;
  const std::int64_t rows = future ? future->rows : own.rows;
  const std::vector<double>& values = future ? future->values : own.values;
  const auto place = [](const std::vector<std::string>& all, const std::string& name) {
    return static_cast<std::int64_t>(std::ranges::find(all, name) - all.begin());
  };
  std::vector<double> known;
  for (const std::string& name : basis.names()) {
    const double* past = own.values.data() + place(own.names, name) * own.rows;
    known.insert(known.end(), past + origin + 1 - lookback, past + origin + 1);
    const std::int64_t column = place(names, name);
    for (std::size_t h = 0; h < ahead.size(); ++h) {
      std::int64_t row = static_cast<std::int64_t>(h) + (future ? 0 : origin + 1);
      if (!series.dates.empty()) {
        const auto found =
            std::ranges::find_if(dates, [&](const model::Stamp& d) { return model::compare(d, ahead[h]) == 0; });
        row = found - dates.begin();
      }
      const bool there = column < std::ssize(names) && row < rows;
      const double value = there ? values[static_cast<std::size_t>(column * rows + row)] : std::nan("");
      if (std::isnan(value)) {
        throw Error(Exit::data,
                    fmt::format("'{}', which the model knows ahead, has no value for {}, step {} of {}", name,
                                series.dates.empty() ? fmt::format("row {}", origin + 2 + static_cast<std::int64_t>(h))
                                                     : model::format_stamp(ahead[h], series.date_format),
                                h + 1, ahead.size()))
            .at(future ? future->path : series.path)
            .hint(
                fmt::format("write {} for all {} steps behind the last row, or into a file of their own: --future-data "
                            "FILE",
                            join(basis.names(), ", "), ahead.size()));
      }
      known.push_back(value);
    }
  }
  return known;
}

}  // namespace

model::MarkedValues values_ahead(const model::Series& series, const model::Scaler& scaler, const model::Basis& basis,
                                 std::int64_t origin, std::int64_t lookback, std::span<const model::Stamp> ahead,
                                 const model::Series* future) {
  const model::Span known{origin + 1 - lookback, origin + 1};
  model::MarkedValues all = model::marked_values(series, scaler, known, ahead);
  if (basis.features() == 0) return all;
  std::vector<model::Stamp> dates;
  if (!series.dates.empty()) {
    dates.assign(series.dates.begin() + known.first, series.dates.begin() + known.last);
    dates.insert(dates.end(), ahead.begin(), ahead.end());
  }
  all.add(basis, known_rows(basis, series, origin, lookback, ahead, future), dates, series.step);
  return all;
}

void fill_values(Experiment& e) { e.values = values_of(e.series, e.scaler, e.basis); }

Experiment refitted(const Experiment& e) {
  if (e.panel) return panel_of_all_rows(*e.panel, e.season);
  Experiment all = e;
  scale(all, {0, all.series.rows});
  return all;
}

void scale(Experiment& e, model::Span rows) {
  e.scaler = model::fit_scaler(e.series, rows);
  fill_values(e);
}

void fit(Experiment& e, const DataSettings& settings, model::Span rows) {
  e.basis = model::fit_basis(covariate_options(settings), e.series, rows);
  scale(e, rows);
}

kernels::Center center_of(const ModelSettings& settings) {
  return settings.center == "last" ? kernels::Center::last : kernels::Center::mean;
}

optim::TrainerSettings trainer_settings(const Settings& s) {
  optim::TrainerSettings t;
  t.step.rule = {.rule = s.optimizer == "sgd"     ? kernels::Rule::sgd
                         : s.optimizer == "adamw" ? kernels::Rule::adamw
                                                  : kernels::Rule::adam,
                 .form = s.adam_form == "keras" ? kernels::AdamForm::keras : kernels::AdamForm::pytorch,
                 .weight_decay = s.weight_decay,
                 .beta1 = s.beta1,
                 .beta2 = s.beta2,
                 .epsilon = s.epsilon,
                 .momentum = s.momentum};
  t.step.rho = s.rho;
  t.step.adaptive = s.adaptive;
  t.step.stats_mix = {s.stats_mix, s.stats_mix_step};
  t.step.center = center_of(s);
  t.step.ema = s.ema;
  t.step.seed = static_cast<std::uint64_t>(s.seed);
  t.step.bf16 = s.precision == "bf16";
  t.schedule = s.schedule == "constant" ? optim::Schedule::constant
               : s.schedule == "halve"  ? optim::Schedule::halve
               : s.schedule == "decay"  ? optim::Schedule::decay
                                        : optim::Schedule::cosine_restart;
  t.lr = s.lr;
  t.batch = s.batch;
  t.epochs = s.epochs;
  t.epoch_steps = s.epoch_steps;
  t.patience = s.patience;
  t.select_last = s.select == "last";
  t.select_mixed = s.select_by == "mixed";
  t.seed = static_cast<std::uint64_t>(s.seed);
  return t;
}

void initialise(optim::Training<float>& training, const model::Model& model, const Settings& settings) {
  const model::Init init = settings.init == "keras"     ? model::Init::keras
                           : settings.init == "pytorch" ? model::Init::pytorch
                                                        : model::Init::glorot;
  model.initialise(training.weights().data(), static_cast<std::uint64_t>(settings.seed), init,
                   settings.head_init == "zero" ? model::HeadInit::zero : model::HeadInit::as_init);
  training.start_average();
}

int thread_count(const MachineSettings& settings) {
  return settings.threads > 0 ? static_cast<int>(settings.threads) : omp_get_num_procs();
}

ChosenDevice select_device(const MachineSettings& settings) {
  const bool tf32 = settings.precision == "tf32", bf16 = settings.precision == "bf16";
  omp_set_num_threads(thread_count(settings));
  int gpu = settings.device.starts_with("cuda:") ? std::stoi(settings.device.substr(5)) : 0;
  bool on_gpu = settings.device.starts_with("cuda");
  if (settings.device == "auto" && !bf16) {
    std::string none;
    const std::vector<optim::Gpu> all = optim::list_gpus(none);
    const auto found = std::ranges::find_if(all, [](const optim::Gpu& g) { return g.why_not.empty(); });
    on_gpu = found != all.end();
    gpu = static_cast<int>(found - all.begin());
  }
  if (on_gpu && bf16) {
    throw Error(Exit::device, fmt::format("--precision bf16: {} has float32 and tf32", settings.device))
        .hint("use --precision float32 or tf32, or --device cpu");
  }
  if (on_gpu) {
    std::unique_ptr<optim::Device> device = optim::open_gpu(gpu, tf32);
    return {device->name(), std::move(device)};
  }
  if (tf32 || (bf16 && !kernels::bf16_available())) {
    throw Error(Exit::device, fmt::format("--precision {}: {}", settings.precision,
                                          bf16 ? fmt::format("it needs the CPU's AVX512-BF16, kernels here run as {}",
                                                             kernels::isa_name())
                                               : "the device cpu has no TF32, a format of NVIDIA's GPUs"))
        .hint("use --precision float32");
  }
  return {"cpu", nullptr};
}

}  // namespace samformer::tools
