#include "tools/run/run_folder.h"

#include <algorithm>
#include <cmath>
#include <limits>
#include <set>

#include "core/io/sha256.h"
#include "tools/cli/signals.h"
#include "tools/cli/text_format.h"
#include "tools/run/tracking.h"

namespace samformer::tools {
namespace fs = std::filesystem;
namespace {

constexpr double save_every = 60;  // seconds between states inside an epoch
constexpr const char* own_files[] = {"config.toml",       "metrics.jsonl",     "best.safetensors",
                                     "final.safetensors", "state.safetensors", "result.json",
                                     "log.txt",           "report.html",       "events.out.tfevents.samformer"};

bool is_seed_folder(const fs::path& path) { return path.filename().string().starts_with("seed-"); }

double number_of(const Json& value) {
  return value.is_number() ? value.get<double>() : std::numeric_limits<double>::quiet_NaN();
}

Json to_json(const optim::EpochReport& r) {
  return {{"epoch", r.epoch},
          {"lr", r.lr},
          {"train_loss", number_or_null(r.train_loss)},
          {"val_mse", number_or_null(r.val_mse)},
          {"val_mae", number_or_null(r.val_mae)},
          {"val_mixed", number_or_null(r.val_mixed)},
          {"selected", r.selected}};
}

optim::EpochReport report_from(const Json& j) {
  return {j.at("epoch"),
          j.at("lr"),
          number_of(j.at("train_loss")),
          number_of(j.at("val_mse")),
          number_of(j.at("val_mae")),
          number_of(j.at("val_mixed")),
          j.at("selected")};
}

Json to_json(const optim::State& s) {
  return {{"epoch", s.epoch},
          {"step", s.step},
          {"loss_sum", s.loss_sum},
          {"best_epoch", s.best_epoch},
          {"best_score", number_or_null(s.best_score)},
          {"stale_epochs", s.stale_epochs},
          {"tested", to_json(s.tested)}};
}

optim::State state_from(const Json& j) {
  optim::State s;
  s.epoch = j.at("epoch");
  s.step = j.at("step");
  s.loss_sum = j.at("loss_sum");
  s.best_epoch = j.at("best_epoch");
  s.best_score = number_of(j.at("best_score"));
  s.stale_epochs = j.at("stale_epochs");
  s.tested = report_from(j.at("tested"));
  return s;
}

std::vector<std::int64_t> dimensions(const Shape& shape) {
  std::vector<std::int64_t> sizes;
  for (int i = 0; i < shape.rank(); ++i) sizes.push_back(shape[i]);
  return sizes;
}

Json span_json(const model::Series& series, model::Span span) {
  Json j = {{"first_row", span.first + 1}, {"last_row", span.last}, {"first_date", nullptr}, {"last_date", nullptr}};
  if (!series.dates.empty() && span.size() > 0) {
    j["first_date"] = series.date(span.first);
    j["last_date"] = series.date(span.last - 1);
  }
  return j;
}

model::Span span_from(const Json& j) { return {j.at("first_row").get<std::int64_t>() - 1, j.at("last_row")}; }

// A metadata value that must be JSON of our own making.
Json parse_metadata(const model::Safetensors& file, std::string_view key) {
  try {
    return Json::parse(file.metadata(key));
  } catch (const Json::exception& e) {
    throw Error(Exit::data, fmt::format("the metadata '{}' is not what samformer writes: {}", key, e.what()))
        .at(file.path().string());
  }
}

// The slabs of a training by name; `visit(name, slab)`.
template <class Visit>
void for_slabs(optim::Training<float>& t, const std::string& phase, const Visit& visit) {
  visit(phase + ".weights", t.weights());
  visit(phase + ".first_moment", t.first_moment());
  if (!t.second_moment().empty()) visit(phase + ".second_moment", t.second_moment());
  if (!t.averaged().empty()) visit(phase + ".averaged", t.averaged());
}

void store(std::vector<model::TensorSource>& tensors, Json& counters, const std::string& phase,
           optim::Trainer& trainer) {
  for_slabs(trainer.training(), phase, [&](const std::string& name, std::span<float> slab) {
    tensors.push_back(model::tensor_source(name, {static_cast<std::int64_t>(slab.size())}, slab.data()));
  });
  counters[phase] = to_json(trainer.state());
  counters[phase]["steps"] = trainer.training().steps();
}

void restore(const model::Safetensors& file, const Json& counters, const std::string& phase, optim::Trainer& trainer) {
  optim::State state;
  std::int64_t steps = 0;
  try {
    state = state_from(counters);
    steps = counters.at("steps");
  } catch (const Json::exception& e) {
    throw Error(Exit::data, fmt::format("damaged metadata: {}", e.what())).at(file.path().string());
  }
  if (state.epoch < 0 || state.step < 0 || state.step > trainer.steps_per_epoch() || steps < 0) {
    throw Error(Exit::data, fmt::format("damaged metadata: epoch {}, step {} of {}", state.epoch, state.step,
                                        trainer.steps_per_epoch()))
        .at(file.path().string());
  }
  for_slabs(trainer.training(), phase, [&](const std::string& name, std::span<float> slab) {
    const std::int64_t shape[] = {static_cast<std::int64_t>(slab.size())};
    file.read<float>(name, shape, slab);
  });
  trainer.state() = state;
  trainer.training().set_steps(steps);
}

}  // namespace

model::SeriesOptions series_options(const Checkpoint& run, const DataSettings& settings) {
  model::SeriesOptions options = series_options(settings);
  options.columns = run.columns;
  options.drop.clear();
  options.columns_of_model = true;
  return options;
}

bool training_done(const fs::path& folder, const Settings& settings) {
  const model::Safetensors file = model::Safetensors::open(folder / "state.safetensors");
  try {
    return optim::done(state_from(parse_metadata(file, "counters").at("train")), trainer_settings(settings));
  } catch (const Json::exception& e) {
    throw Error(Exit::data, fmt::format("damaged metadata: {}", e.what())).at(file.path().string());
  }
}

void write_config(const fs::path& folder, const Settings& settings) {
  const std::string text = to_toml(settings);
  const fs::path path = folder / "config.toml";
  if (!fs::exists(path) || read_file(path) != text) write_atomic(path, text);
}

void log_line(AppendFile& log, std::string_view text) {
  log.append_line(fmt::format("{} {}", utc_text("%Y-%m-%dT%H:%M:%SZ"), text));
}

bool holds_run(const fs::path& folder) {
  return std::ranges::any_of(own_files, [&](const char* name) { return fs::exists(folder / name); });
}

void remove_run(const fs::path& folder) {
  if (!fs::is_directory(folder)) return;
  require_no_input(folder, own_files);
  for (const fs::directory_entry& entry : fs::directory_iterator(folder)) {
    const bool part = is_seed_folder(entry.path()) || entry.path().filename().string().starts_with("tune-");
    if (entry.is_symlink() || !entry.is_directory() || !part || !holds_run(entry.path())) continue;
    remove_temporaries(entry.path());
    remove_run(entry.path());
    std::error_code not_empty;
    fs::remove(entry.path(), not_empty);
  }
  for (const char* name : own_files) fs::remove(folder / name);
}

Json splits_json(const Experiment& e) {
  return {{"train", span_json(e.series, e.splits.train)},
          {"val", span_json(e.series, e.splits.val)},
          {"test", span_json(e.series, e.splits.test)}};
}

void write_checkpoint(const fs::path& path, const Settings& settings, const Experiment& e, const model::Model& model,
                      std::span<const float> slab, std::int64_t epoch, model::Span trained_rows) {
  std::vector<model::TensorSource> tensors;
  for (const model::Parameter& p : model.parameters().all()) {
    tensors.push_back(model::tensor_source(p.name, dimensions(p.shape), slab.data() + p.offset));
  }
  const Json trained = span_json(e.series, trained_rows);
  const model::Metadata metadata = {
      {"format", "pt"},  // what safetensors' own torch writer says
      {"samformer", SAMFORMER_VERSION},
      {"config", to_toml(settings)},
      {"scaler", Json({{"mean", e.scaler.mean}, {"std", e.scaler.std}}).dump()},
      {"columns", Json(e.series.channels).dump()},
      {"targets", Json(e.targets).dump()},
      {"splits", Json({{"rule", e.splits.rule}, {"parts", splits_json(e)}}).dump()},
      {"step", e.series.step.freq()},
      {"epoch", std::to_string(epoch)},
      {"trained_from", trained["first_date"].is_null() ? "" : trained["first_date"].get<std::string>()},
      {"trained_until", trained["last_date"].is_null() ? "" : trained["last_date"].get<std::string>()}};
  model::write_safetensors(path, tensors, metadata);
}

Checkpoint read_checkpoint(const fs::path& path) {
  const model::Safetensors file = model::Safetensors::open(path);
  if (!file.metadata().contains("samformer")) {
    throw Error(Exit::data, "not a samformer checkpoint: its metadata has no settings")
        .at(path.string())
        .hint("give a run's folder, or the best.safetensors in it");
  }
  Settings settings = settings_from_toml(file.metadata("config"), path.string());
  const Json scaler = parse_metadata(file, "scaler"), columns = parse_metadata(file, "columns");
  const Json targets = parse_metadata(file, "targets"), splits = parse_metadata(file, "splits");
  try {
    const auto names = columns.get<std::vector<std::string>>();
    const auto D = static_cast<std::int64_t>(names.size());
    // The file's own shapes bound the sizes before anything is allocated for the settings'.
    if (D == 0 || file.tensor("linear_forecaster.weight").shape != std::vector{settings.horizon, settings.lookback}) {
      throw Error(Exit::data, fmt::format("damaged: tensors do not fit {} columns, look-back {}, horizon {}", D,
                                          settings.lookback, settings.horizon))
          .at(path.string());
    }
    model::Model model = settings.make_model(D);
    for (const model::Parameter& p : model.parameters().all()) {
      if (file.tensor(p.name).shape == dimensions(p.shape)) continue;
      throw Error(Exit::data,
                  fmt::format("damaged: '{}' does not fit --model {} with {} columns, look-back {}, "
                              "horizon {}: {} expected",
                              p.name, settings.model, D, settings.lookback, settings.horizon, p.shape.to_string()))
          .at(path.string());
    }
    std::vector<float> slab(static_cast<std::size_t>(model.parameters().slab_size()));
    for (const model::Parameter& p : model.parameters().all()) {
      file.read<float>(
          p.name, dimensions(p.shape),
          std::span(slab).subspan(static_cast<std::size_t>(p.offset), static_cast<std::size_t>(p.shape.count())));
    }
    const Json& parts = splits.at("parts");
    const std::string hash = weights_sha256(model, slab);
    Checkpoint c{
        path,
        settings,
        std::move(model),
        std::move(slab),
        {scaler.at("mean"), scaler.at("std")},
        names,
        targets.get<std::vector<std::int32_t>>(),
        splits.at("rule"),
        {splits.at("rule"), span_from(parts.at("train")), span_from(parts.at("val")), span_from(parts.at("test"))},
        file.metadata("step"),
        file.metadata("trained_from"),
        file.metadata("trained_until"),
        settings.data_sha256,
        hash};
    const bool fits = static_cast<std::int64_t>(c.scaler.mean.size()) == D &&
                      static_cast<std::int64_t>(c.scaler.std.size()) == D && !c.targets.empty() &&
                      std::ranges::all_of(c.targets, [&](std::int32_t t) { return t >= 0 && t < D; });
    if (!fits) {
      throw Error(Exit::data, fmt::format("damaged: scaler and targets do not fit its {} columns", D))
          .at(path.string());
    }
    return c;
  } catch (const Json::exception& e) {
    throw Error(Exit::data, fmt::format("damaged metadata: {}", e.what())).at(path.string());
  }
}

std::vector<Checkpoint> read_run_to_keep(const std::string& run, const std::string& which) {
  std::vector<Checkpoint> all = read_run(run, which);
  std::set<fs::path> folders{run};
  for (const Checkpoint& c : all) {
    never_replace(c.path);
    never_replace(c.settings.data);
    folders.insert(c.path.parent_path());
  }
  for (const fs::path& folder : folders) {
    for (const char* name : own_files) never_replace(folder / name);
  }
  return all;
}

std::vector<Checkpoint> read_run(const std::string& run, const std::string& which) {
  const fs::path path = run;
  if (!fs::exists(path)) {
    throw Error(Exit::data, fmt::format("no run '{}'", run))
        .hint("give the folder that `samformer train --out` wrote, or a .safetensors file");
  }
  if (!fs::is_directory(path)) {
    std::vector<Checkpoint> one;
    one.push_back(read_checkpoint(path));
    return one;
  }
  const auto weights_in = [&](const fs::path& folder) {
    fs::path file = folder / (which.empty() ? "final.safetensors" : which + ".safetensors");
    if (which.empty() && !fs::exists(file)) file = folder / "best.safetensors";
    return fs::exists(file) ? file : fs::path();
  };
  std::vector<Checkpoint> all;
  if (const fs::path file = weights_in(path); !file.empty()) {
    all.push_back(read_checkpoint(file));
    return all;
  }
  std::vector<fs::path> seeds;
  for (const fs::directory_entry& entry : fs::directory_iterator(path)) {
    if (!entry.is_directory() || !is_seed_folder(entry.path())) continue;
    if (const fs::path file = weights_in(entry.path()); !file.empty()) seeds.push_back(file);
  }
  std::ranges::sort(seeds, [](const fs::path& a, const fs::path& b) {
    const std::string x = a.parent_path().filename(), y = b.parent_path().filename();
    return x.size() != y.size() ? x.size() < y.size() : x < y;
  });
  for (const fs::path& seed : seeds) all.push_back(read_checkpoint(seed));
  if (all.empty()) {
    throw Error(Exit::data, fmt::format("no {}.safetensors in '{}'", which.empty() ? "best" : which, run))
        .hint(which == "final" ? "only runs trained with --refit have one" : "train first, or finish it with --resume");
  }
  return all;
}

std::string weights_sha256(const model::Model& model, std::span<const float> slab) {
  static_assert(std::endian::native == std::endian::little);
  std::vector<const model::Parameter*> by_name;
  for (const model::Parameter& p : model.parameters().all()) by_name.push_back(&p);
  std::ranges::sort(by_name, {}, &model::Parameter::name);
  Sha256 hash;
  for (const model::Parameter* p : by_name) {
    hash.update(
        std::as_bytes(slab.subspan(static_cast<std::size_t>(p->offset), static_cast<std::size_t>(p->shape.count()))));
  }
  return hash.hex();
}

RunFolder::RunFolder(fs::path folder, const Settings& settings, const Experiment& experiment, const model::Model& model,
                     Console& console, bool resume, Clock clock)
    : folder_(std::move(folder)),
      settings_(settings),
      experiment_(&experiment),
      model_(model),
      console_(console),
      clock_(std::move(clock)),
      progress_(console, clock_) {
  if (!resume || !fs::exists(folder_ / "state.safetensors")) {
    open_logs({{"metrics_bytes", 0}, {"log_bytes", 0}});
  } else {
    const model::Safetensors state = model::Safetensors::open(folder_ / "state.safetensors");
    const Json session = parse_metadata(state, "session");
    try {
      seconds_ = session.at("seconds");
      partial_epoch_ = session.at("partial_epoch");
      epoch_seconds_ = session.at("epoch_seconds").get<std::vector<double>>();
      train_end_ = session.at("train_end");
      open_logs(session.at("lengths"));
    } catch (const Json::exception& e) {
      throw Error(Exit::data, fmt::format("damaged metadata: {}", e.what())).at(state.path().string());
    }
  }
  console_.set_log([this](std::string_view text) { log_line(*log_, text); });
}

// Cuts the appended files back to `lengths`.
void RunFolder::open_logs(const Json& lengths) {
  try {
    cut_file(folder_ / "metrics.jsonl", lengths.at("metrics_bytes"));
    cut_file(folder_ / "log.txt", lengths.at("log_bytes"));
  } catch (const Json::exception& e) {
    throw Error(Exit::data, fmt::format("damaged metadata: {}", e.what())).at((folder_ / "state.safetensors").string());
  }
  metrics_.emplace(folder_ / "metrics.jsonl");
  log_.emplace(folder_ / "log.txt");
}

RunFolder::~RunFolder() { console_.set_log({}); }

double RunFolder::seconds_per_epoch() const {
  if (epoch_seconds_.empty()) return std::numeric_limits<double>::quiet_NaN();
  std::vector<double> sorted = epoch_seconds_;
  std::ranges::sort(sorted);
  const std::size_t n = sorted.size();
  return n % 2 ? sorted[n / 2] : (sorted[n / 2 - 1] + sorted[n / 2]) / 2;
}

void RunFolder::train(optim::Trainer& trainer) {
  phase_ = Phase::train;
  training_ = &trainer;
  run(trainer);
}

void RunFolder::refit(optim::Trainer& trainer, const Experiment& experiment) {
  phase_ = Phase::refit;
  experiment_ = &experiment;
  if (train_end_.is_null()) train_end_ = log_lengths();
  run(trainer);
}

// Takes this phase's stored state up, if there is one, then trains on.
void RunFolder::run(optim::Trainer& trainer) {
  trainer_ = &trainer;
  const bool refitting = phase_ == Phase::refit;
  if (const fs::path path = folder_ / "state.safetensors"; fs::exists(path)) {
    const model::Safetensors file = model::Safetensors::open(path);
    const Json counters = parse_metadata(file, "counters");
    if (counters.contains(name_of(phase_))) {
      restore(file, counters[name_of(phase_)], name_of(phase_), trainer);
      console_.info(fmt::format("resumed {}after epoch {}, step {}", refitting ? "the refit " : "",
                                trainer.state().epoch, trainer.state().step));
    }
  }
  // More epochs than the refit's training had: that refit no longer counts.
  if (!refitting && !train_end_.is_null() && !trainer.done()) {
    open_logs(train_end_);
    train_end_ = nullptr;
    partial_epoch_ = 0;
  }
  resumed_ = last_save_ = clock_();
  trainer.run(*this);
  if (!refitting) seconds_ += clock_() - resumed_;
}

void RunFolder::epoch_begins(std::int64_t epoch, std::int64_t steps) {
  epoch_started_ = clock_();
  const std::int64_t epochs = phase_ == Phase::refit ? trainer_->epochs() : settings_.epochs;
  progress_.epoch_begin(static_cast<int>(epoch), static_cast<int>(epochs), steps);
}

optim::Action RunFolder::step_done(std::int64_t step) {
  progress_.step(step);
  if (interrupted()) return optim::Action::stop;
  return clock_() - last_save_ >= save_every ? optim::Action::save : optim::Action::go_on;
}

void RunFolder::steps_done() {
  const double now = clock_();
  if (phase_ == Phase::train) epoch_seconds_.push_back(partial_epoch_ + now - epoch_started_);
  partial_epoch_ = 0;
  epoch_started_ = now;
}

void RunFolder::epoch_ends(const optim::EpochReport& report) {
  const bool refitting = phase_ == Phase::refit, last = trainer_->done();
  if (!refitting && report.selected) {
    write_checkpoint(folder_ / "best.safetensors", settings_, *experiment_, model_, trainer_->training().tested(),
                     report.epoch, experiment_->splits.train);
  }
  if (refitting && last) {
    write_checkpoint(folder_ / "final.safetensors", settings_, *experiment_, model_, trainer_->training().tested(),
                     report.epoch, {0, experiment_->series.rows});
  }
  Json line = to_json(report);
  line["phase"] = refitting ? "refit" : "train";
  track(line, settings_, *experiment_, model_, trainer_->training().tested());
  metrics_->append_line(line.dump());
  write_tensorboard(folder_, settings_);
  std::string text = fmt::format("epoch {}/{}  train loss {:.4f}", report.epoch, trainer_->epochs(), report.train_loss);
  if (refitting) {
    text = "refit: " + text;
  } else {
    text += fmt::format("  val mse {:.4f}{}", report.val_mse, report.selected ? "  (best so far)" : "");
    if (std::isfinite(report.val_mixed)) text += fmt::format("  val mixed {:.4f}", report.val_mixed);
  }
  progress_.epoch_end(text, last);
  save_state();
}

// Without these the run could not be resumed.
void RunFolder::restore_files() {
  const bool config = !fs::exists(folder_ / "config.toml");
  if (config) write_config(folder_, settings_);
  for (const auto& [name, restored] :
       {std::pair("config.toml", config), std::pair("metrics.jsonl", metrics_->restore()),
        std::pair("log.txt", log_->restore())}) {
    if (!restored) continue;
    console_.warning(fmt::format("{} was removed while the run went on: written again", (folder_ / name).string()));
  }
}

void RunFolder::save_state() {
  restore_files();
  metrics_->sync();
  log_->sync();
  const double now = clock_();
  const bool refitting = phase_ == Phase::refit;
  std::vector<model::TensorSource> tensors;
  Json counters = Json::object();
  store(tensors, counters, name_of(Phase::train), *training_);
  if (refitting) store(tensors, counters, name_of(Phase::refit), *trainer_);
  const Json session = {{"lengths", log_lengths()},
                        {"train_end", train_end_},
                        {"seconds", seconds_ + (refitting ? 0 : now - resumed_)},
                        {"partial_epoch", trainer_->state().step > 0 ? partial_epoch_ + now - epoch_started_ : 0},
                        {"epoch_seconds", epoch_seconds_}};
  model::write_safetensors(folder_ / "state.safetensors", tensors,
                           {{"counters", counters.dump()}, {"session", session.dump()}});
  last_save_ = clock_();
}

}  // namespace samformer::tools
