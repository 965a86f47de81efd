#include "tools/run/run_folder.h"

#include <algorithm>
#include <cmath>
#include <limits>
#include <set>

#include "core/io/sha256.h"
#include "tools/cli/signals.h"
#include "tools/cli/text_format.h"
#include "tools/run/forecasting.h"
#include "tools/run/stored_json.h"
#include "tools/run/tracking.h"
#include "tools/run/watch.h"

namespace samformer::tools {
namespace fs = std::filesystem;
namespace {

constexpr double save_every = 60;  // seconds between states inside an epoch
constexpr const char* own_files[] = {"config.toml",       "metrics.jsonl",     "best.safetensors",
                                     "final.safetensors", "state.safetensors", "result.json",
                                     "log.txt",           "report.html",       "events.out.tfevents.samformer"};

bool is_seed_folder(const fs::path& path) { return path.filename().string().starts_with("seed-"); }

// A series has at most 2^31 - 1 rows, which bounds steps and windows too.
constexpr std::int64_t most_rows = std::numeric_limits<std::int32_t>::max();

Json to_json(const optim::EpochReport& r) {
  return {{"epoch", r.epoch},
          {"lr", r.lr},
          {"train_loss", number_or_null(r.train_loss)},
          {"val_mse", number_or_null(r.val_mse)},
          {"val_mae", number_or_null(r.val_mae)},
          {"val_mixed", number_or_null(r.val_mixed)},
          {"selected", r.selected}};
}

// Of an epoch from `first` on, `last` at most.
optim::EpochReport report_from(const StoredJson& j, std::int64_t first, std::int64_t last) {
  return {j.at("epoch").whole(first, last),
          j.at("lr").number(),
          j.at("train_loss").number_or_nan(),
          j.at("val_mse").number_or_nan(),
          j.at("val_mae").number_or_nan(),
          j.at("val_mixed").number_or_nan(),
          j.at("selected").flag()};
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

// Of a training of at most `epochs`. Every epoch is the best so far or adds a stale one, and the first is tested.
optim::State state_from(const StoredJson& j, std::int64_t epochs) {
  optim::State s;
  s.epoch = j.at("epoch").whole(0, epochs);
  s.step = j.at("step").whole(0, most_rows);
  s.loss_sum = j.at("loss_sum").number();
  const std::int64_t first = std::min<std::int64_t>(s.epoch, 1);
  s.best_epoch = j.at("best_epoch").whole(first, s.epoch);
  s.best_score = j.at("best_score").number_or_nan();
  s.stale_epochs = j.at("stale_epochs").whole(s.epoch - s.best_epoch, s.epoch - s.best_epoch);
  s.tested = report_from(j.at("tested"), first, s.epoch);
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
    // Those of a panel begin anew with every series.
    const auto dates =
        std::span(series.dates).subspan(static_cast<std::size_t>(span.first), static_cast<std::size_t>(span.size()));
    const auto earlier = [](const model::Stamp& a, const model::Stamp& b) { return model::compare(a, b) < 0; };
    const bool rises = series.long_form.id.empty();
    const auto [first, last] = rises ? std::pair(dates.begin(), std::prev(dates.end()))
                                     : std::minmax_element(dates.begin(), dates.end(), earlier);
    j["first_date"] = model::format_stamp(*first, series.date_format);
    j["last_date"] = model::format_stamp(*last, series.date_format);
  }
  return j;
}

model::Span span_from(const StoredJson& j) {
  const std::int64_t first = j.at("first_row").whole(1, most_rows) - 1;
  return {first, j.at("last_row").whole(first, most_rows)};
}

constexpr const char* retrain = "the file is not as it was written: train again, or take another copy of it";
constexpr const char* restart = "the run cannot go on from here: train again, with --overwrite";

// A metadata value that must be JSON of our own making.
StoredJson parse_metadata(const model::Safetensors& file, std::string_view key, const char* hint) {
  return {file.metadata(key), {file.path().string(), hint, 1, fmt::format("metadata '{}'", key)}};
}

Error damaged(const fs::path& path, const std::string& what, const char* hint) {
  return Error(Exit::data, "damaged: " + what).at(path.string()).hint(hint);
}

bool all_finite(const auto& values) {
  return std::ranges::all_of(values, [](auto value) { return std::isfinite(value); });
}

// Of the appended files.
Json lengths_from(const StoredJson& j) {
  return {{"metrics_bytes", j.at("metrics_bytes").whole()}, {"log_bytes", j.at("log_bytes").whole()}};
}

std::vector<double> numbers_of(const StoredJson& list) {
  std::vector<double> numbers;
  for (const StoredJson& item : list.list()) numbers.push_back(item.number());
  return numbers;
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

void restore(const model::Safetensors& file, const StoredJson& counters, const std::string& phase,
             optim::Trainer& trainer) {
  const std::int64_t an_epoch = trainer.steps_per_epoch();
  const optim::State state = state_from(counters, trainer.epochs());
  if (state.step > an_epoch) throw counters.at("step").expected(fmt::format("a step of {}", an_epoch));
  const std::int64_t done = state.epoch * an_epoch + state.step;
  const std::int64_t steps = counters.at("steps").whole(done, done);
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
  if (run.panel) {
    options.panel = model::PanelForm::global;
    options.columns.clear();  // any series of such a file is forecast
  } else {
    options.panel = model::PanelForm::channels;
    options.columns = run.columns;
    const std::vector<std::string> known = run.basis.names();
    options.columns.insert(options.columns.end(), known.begin(), known.end());
  }
  options.columns_of_model = true;
  return options;
}

bool training_done(const fs::path& folder, const Settings& settings) {
  const model::Safetensors file = model::Safetensors::open(folder / "state.safetensors");
  const StoredJson counters = parse_metadata(file, "counters", restart);
  return optim::done(state_from(counters.at("train"), settings.epochs), trainer_settings(settings));
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
    const std::string name = entry.path().filename();
    const bool part = is_seed_folder(entry.path()) || name.starts_with("tune-") || name.starts_with("member-");
    if (entry.is_symlink() || !entry.is_directory() || !part || !holds_run(entry.path())) continue;
    remove_temporaries(entry.path());
    remove_run(entry.path());
    std::error_code not_empty;
    fs::remove(entry.path(), not_empty);
  }
  for (const char* name : own_files) fs::remove(folder / name);
}

Json splits_json(const Experiment& e) {
  if (e.panel) {
    // From the first series' first row of a part to the last one's last; rows are those of the channel.
    const auto span = [&](model::Span rows, model::Span model::Splits::*part) {
      Json j = {
          {"first_row", rows.first + 1}, {"last_row", rows.last}, {"first_date", nullptr}, {"last_date", nullptr}};
      const model::Series& file = e.panel->file;
      const model::Stamp *first = nullptr, *last = nullptr;
      for (const model::Splits& own : e.panel->parts) {
        const model::Span of = own.*part;
        if (of.size() <= 0) continue;
        const model::Stamp &a = file.dates[static_cast<std::size_t>(of.first)],
                           &b = file.dates[static_cast<std::size_t>(of.last - 1)];
        if (first == nullptr || model::compare(a, *first) < 0) first = &a;
        if (last == nullptr || model::compare(b, *last) > 0) last = &b;
      }
      if (first == nullptr) return j;
      j["first_date"] = model::format_stamp(*first, file.date_format);
      j["last_date"] = model::format_stamp(*last, file.date_format);
      return j;
    };
    return {{"train", span(e.splits.train, &model::Splits::train)},
            {"val", span(e.splits.val, &model::Splits::val)},
            {"test", span(e.splits.test, &model::Splits::test)}};
  }
  return {{"train", span_json(e.series, e.splits.train)},
          {"val", span_json(e.series, e.splits.val)},
          {"test", span_json(e.series, e.splits.test)}};
}

namespace {

Json to_json(const model::Basis& basis) {
  Json stored = {{"shared", Json::array()}, {"own", Json::array()}, {"own_of", basis.own_of}};
  for (const auto& [columns, name] : {std::pair(&basis.shared, "shared"), std::pair(&basis.own, "own")}) {
    for (const model::Basis::Column& c : *columns) {
      stored[name].push_back({{"name", c.name}, {"nodes", c.nodes}, {"mean", c.mean}, {"deviation", c.deviation}});
    }
  }
  return stored;
}

// What all models of a file share.
model::Metadata metadata_of(const Settings& settings, const Experiment& e, std::int64_t epoch,
                            model::Span trained_rows) {
  const Json trained = span_json(e.series, trained_rows);
  model::Metadata panel;
  if (e.panel) {
    const PanelScale scale = e.panel->scale();
    panel["panel"] = Json({{"ids", scale.ids},
                           {"mean", scale.scaler.mean},
                           {"std", scale.scaler.std},
                           {"until", scale.until},
                           {"late", scale.late}})
                         .dump();
  }
  model::Metadata all = {
      {"format", "pt"},  // what safetensors' own torch writer says
      {"samformer", SAMFORMER_VERSION},
      {"config", to_toml(settings)},
      {"scaler", Json({{"mean", e.scaler.mean}, {"std", e.scaler.std}}).dump()},
      {"covariates", to_json(e.basis).dump()},
      {"columns", Json(e.series.channels).dump()},
      {"targets", Json(e.targets).dump()},
      {"left_out", Json(e.left_out_of_test).dump()},
      {"splits", Json({{"rule", e.splits.rule}, {"parts", splits_json(e)}}).dump()},
      {"step", e.series.step.freq()},
      {"epoch", std::to_string(epoch)},
      {"trained_from", trained["first_date"].is_null() ? "" : trained["first_date"].get<std::string>()},
      {"trained_until", trained["last_date"].is_null() ? "" : trained["last_date"].get<std::string>()}};
  all.merge(panel);
  return all;
}

void add_tensors(std::vector<model::TensorSource>& tensors, const std::string& prefix, const model::Model& model,
                 std::span<const float> slab) {
  for (const model::Parameter& p : model.parameters().all()) {
    tensors.push_back(model::tensor_source(prefix + p.name, dimensions(p.shape), slab.data() + p.offset));
  }
}

}  // namespace

void write_checkpoint(const fs::path& path, const Settings& settings, const Experiment& e, const model::Model& model,
                      std::span<const float> slab, std::int64_t epoch, model::Span trained_rows) {
  std::vector<model::TensorSource> tensors;
  add_tensors(tensors, "", model, slab);
  model::write_safetensors(path, tensors, metadata_of(settings, e, epoch, trained_rows));
}

void write_members(const fs::path& path, const Settings& settings, const Experiment& e,
                   std::span<const ModelMember> members, model::Span trained_rows) {
  std::vector<model::TensorSource> tensors;
  Json list = Json::array();
  for (const ModelMember& m : members) {
    add_tensors(tensors, m.name + "/", m.model, m.slab);
    list.push_back({{"name", m.name}, {"config", to_toml(m.settings)}});
  }
  model::Metadata metadata = metadata_of(settings, e, 0, trained_rows);
  metadata["members"] = list.dump();
  model::write_safetensors(path, tensors, metadata);
}

std::vector<float> read_weights(const model::Model& model, const fs::path& path) {
  never_replace(path);
  std::vector<float> slab(static_cast<std::size_t>(model.parameters().slab_size()));
  const model::Safetensors file = model::Safetensors::open(path);
  for (const model::Parameter& p : model.parameters().all()) {
    const auto refuse = [&](const std::string& what) {
      return Error(Exit::data, fmt::format("the tensor '{}' {}", p.name, what))
          .at(path.string())
          .hint("give --model and its options, --lookback and --horizon as they were when it was trained");
    };
    if (!p.constant.empty() && !file.has(p.name)) {  // another program's file
      std::ranges::copy(p.constant, slab.begin() + p.offset);
      continue;
    }
    const model::Safetensors::Tensor& stored = file.tensor(p.name);
    if (stored.shape != dimensions(p.shape)) {
      throw refuse(fmt::format("has another shape than {}", p.shape.to_string()));
    }
    const std::span<float> to =
        std::span(slab).subspan(static_cast<std::size_t>(p.offset), static_cast<std::size_t>(p.shape.count()));
    if (stored.dtype == model::Dtype::f64) {
      std::ranges::transform(file.read<double>(p.name), to.begin(), [](double v) { return static_cast<float>(v); });
    } else {
      file.read<float>(p.name, stored.shape, to);
    }
    if (!all_finite(to)) throw refuse("has numbers that are not finite");
    if (!p.constant.empty() && !std::ranges::equal(to, p.constant)) throw refuse("has other numbers than the model");
  }
  return slab;
}

namespace {

// What a checkpoint has of a basis, the calendar apart, which is read for the rows that are forecast.
model::Basis basis_of(const model::Safetensors& file, const Settings& settings, std::int64_t D) {
  model::Basis basis;
  basis.calendar = settings.calendar;
  for (std::string& term : basis.calendar) term = term.substr(0, term.find(':'));
  if (!file.metadata().contains("covariates")) return basis;  // not before it was written
  const StoredJson stored = parse_metadata(file, "covariates", retrain);
  const auto read = [](const StoredJson& column) {
    model::Basis::Column c{column.at("name").text(), numbers_of(column.at("nodes")), column.at("mean").number(),
                           column.at("deviation").number()};
    const bool rising = std::ranges::adjacent_find(c.nodes, std::greater_equal<>()) == c.nodes.end();
    if (!rising) throw column.at("nodes").expected("rising numbers");
    if (!(c.deviation > 0)) throw column.at("deviation").expected("a number above 0");
    return c;
  };
  for (const StoredJson& column : stored.at("shared").list()) basis.shared.push_back(read(column));
  for (const StoredJson& column : stored.at("own").list()) {
    basis.own.push_back(read(column));
    basis.own_features = std::max(basis.own_features, basis.own.back().features());
  }
  for (const StoredJson& place : stored.at("own_of").list()) {
    if (place.json() == -1) {
      basis.own_of.push_back(-1);
    } else {
      basis.own_of.push_back(place.whole(0, std::ssize(basis.own) - 1));
    }
  }
  if (std::ssize(basis.own_of) != (basis.own.empty() ? 0 : D)) {
    throw stored.at("own_of").expected("one for every channel");
  }
  return basis;
}

// The model whose tensors begin with `prefix`.
Checkpoint read_model(const model::Safetensors& file, const std::string& member, const std::string& config) {
  const fs::path& path = file.path();
  const std::string prefix = member.empty() ? "" : member + "/";
  Settings settings = settings_from_toml(config, path.string());
  std::vector<std::string> names;
  for (const StoredJson& name : parse_metadata(file, "columns", retrain).list()) names.push_back(name.text());
  const auto D = static_cast<std::int64_t>(names.size());
  // The file's own shapes bound the sizes before anything is allocated for the settings'.
  const model::ModelRow& row = model::model_row(settings.model);
  const bool is_other = !row.other_head.empty() && file.has(prefix + std::string(row.other_head));
  const std::vector<std::int64_t>& head = file.tensor(prefix + std::string(is_other ? row.other_head : row.head)).shape;
  constexpr std::int64_t longest = 1 << 24;
  using HeadRows = model::ModelRow::HeadRows;
  const std::int64_t rows = row.head_rows == HeadRows::steps      ? settings.horizon
                            : row.head_rows == HeadRows::channels ? D
                                                                  : settings.horizon * D;
  if (D == 0 || head.size() != 2 || settings.horizon > longest || head[0] != rows ||
      (row.head_reads_window ? head[1] != settings.lookback : settings.lookback > longest)) {
    throw damaged(
        path,
        fmt::format("tensors do not fit {} columns, look-back {}, horizon {}", D, settings.lookback, settings.horizon),
        retrain);
  }
  const std::string marks_weight = prefix + std::string(row.marks_weight);
  const std::int64_t marks =
      row.marks_weight.empty() || !file.has(marks_weight) ? 0 : file.tensor(marks_weight).shape.back();
  model::Basis basis = basis_of(file, settings, D);
  model::Model model = settings.make_model(D, marks).with_covariates(basis.features());
  for (const model::Parameter& p : model.parameters().all()) {
    if (file.tensor(prefix + p.name).shape == dimensions(p.shape)) continue;
    throw damaged(path,
                  fmt::format("'{}' does not fit --model {} with {} columns, look-back {}, horizon {}: {} expected",
                              p.name, settings.model, D, settings.lookback, settings.horizon, p.shape.to_string()),
                  retrain);
  }
  std::vector<float> slab(static_cast<std::size_t>(model.parameters().slab_size()));
  for (const model::Parameter& p : model.parameters().all()) {
    file.read<float>(
        prefix + p.name, dimensions(p.shape),
        std::span(slab).subspan(static_cast<std::size_t>(p.offset), static_cast<std::size_t>(p.shape.count())));
  }
  if (!all_finite(slab)) throw damaged(path, "weights are not finite", retrain);
  for (const model::Parameter& p : model.parameters().all()) {
    if (!std::equal(p.constant.begin(), p.constant.end(), slab.begin() + p.offset)) {
      throw damaged(path, fmt::format("'{}' has other numbers than the model", p.name), retrain);
    }
  }

  const StoredJson statistics = parse_metadata(file, "scaler", retrain);
  const model::Scaler scaler{numbers_of(statistics.at("mean")), numbers_of(statistics.at("std"))};
  const bool positive = std::ranges::all_of(scaler.std, [](double std) { return std > 0; });
  if (std::ssize(scaler.mean) != D || std::ssize(scaler.std) != D || !positive) {
    throw damaged(path, fmt::format("the scaler is not {} means and deviations above 0", D), retrain);
  }
  std::vector<std::int32_t> targets;
  std::set<std::int32_t> distinct;
  for (const StoredJson& target : parse_metadata(file, "targets", retrain).list()) {
    targets.push_back(static_cast<std::int32_t>(target.whole(0, D - 1)));
    if (!distinct.insert(targets.back()).second) throw target.expected("another one than before");
  }
  if (targets.empty()) throw damaged(path, "there are no targets", retrain);
  std::vector<std::uint8_t> left_out;
  if (file.metadata().contains("left_out")) {  // not before it was written
    const StoredJson list = parse_metadata(file, "left_out", retrain);
    for (const StoredJson& out : list.list()) left_out.push_back(static_cast<std::uint8_t>(out.whole(0, 1)));
    const bool some = std::ranges::find(left_out, 0) != left_out.end();
    if (!left_out.empty() && (left_out.size() != targets.size() || !some)) {
      throw list.expected("0 or 1 for every target, one of them 0");
    }
  }
  std::optional<PanelScale> panel;
  if (file.metadata().contains("panel")) {
    const StoredJson stored = parse_metadata(file, "panel", retrain);
    panel.emplace();
    for (const StoredJson& id : stored.at("ids").list()) panel->ids.push_back(id.text());
    for (const StoredJson& date : stored.at("until").list()) panel->until.push_back(date.text());
    for (const StoredJson& late : stored.at("late").list())
      panel->late.push_back(static_cast<std::uint8_t>(late.whole(0, 1)));
    panel->scaler = {numbers_of(stored.at("mean")), numbers_of(stored.at("std"))};
    const std::size_t n = panel->ids.size();
    if (panel->until.size() != n || panel->late.size() != n || panel->scaler.mean.size() != n ||
        panel->scaler.std.size() != n || D != 1 ||
        std::ranges::any_of(panel->scaler.std, [](double std) { return !(std > 0); })) {
      throw stored.at("std").expected("a deviation above 0, a mean and a date for each of its series");
    }
  }
  const StoredJson splits = parse_metadata(file, "splits", retrain), parts = splits.at("parts");
  const std::string rule = splits.at("rule").text(), hash = weights_sha256(model, slab);
  return {member,
          path,
          settings,
          std::move(model),
          std::move(slab),
          scaler,
          std::move(basis),
          std::move(names),
          std::move(targets),
          std::move(left_out),
          rule,
          {rule, span_from(parts.at("train")), span_from(parts.at("val")), span_from(parts.at("test"))},
          file.metadata("step"),
          file.metadata("trained_from"),
          file.metadata("trained_until"),
          settings.data_sha256,
          hash,
          std::move(panel)};
}

}  // namespace

std::vector<Checkpoint> read_checkpoints(const fs::path& path) {
  const model::Safetensors file = model::Safetensors::open(path);
  if (!file.metadata().contains("samformer")) {
    throw Error(Exit::data, "not a samformer checkpoint: its metadata has no settings")
        .at(path.string())
        .hint("give a run's folder, or the best.safetensors in it");
  }
  std::vector<Checkpoint> all;
  if (!file.metadata().contains("members")) {
    all.push_back(read_model(file, "", file.metadata("config")));
    return all;
  }
  std::set<std::string> names;
  const StoredJson members = parse_metadata(file, "members", retrain);
  for (const StoredJson& member : members.list()) {
    const std::string name = member.at("name").text();
    if (name.empty() || !names.insert(name).second) throw member.at("name").expected("another name than before");
    all.push_back(read_model(file, name, member.at("config").text()));
    const Settings &one = all.back().settings, &first = all.front().settings;
    if (one.lookback != first.lookback || one.horizon != first.horizon) {
      throw damaged(path, "its models differ in look-back or horizon", retrain);
    }
  }
  if (all.empty()) throw members.expected("a list of members");
  return all;
}

Checkpoint read_checkpoint(const fs::path& path) {
  std::vector<Checkpoint> all = read_checkpoints(path);
  if (!all.front().member.empty()) {
    throw Error(Exit::usage, fmt::format("'{}' holds {} models, one is needed", path.string(), all.size()))
        .hint(fmt::format("name a member's folder, like {}",
                          (path.parent_path() / ("member-" + all.back().member)).string()));
  }
  return std::move(all.front());
}

model::Series series_of(const Checkpoint& run, const DataSettings& settings, const model::SeriesOptions& options,
                        Console& console) {
  return at_step_of(run, settings, load_series(settings, options), console);
}

model::Series at_step_of(const Checkpoint& run, const DataSettings& settings, model::Series series, Console& console) {
  model::require_clean(series);
  if (run.step.empty() || series.dates.size() < 2 || series.step.freq() == run.step) return series;
  const model::Step step = model::parse_freq(run.step, series.dates);
  const bool asked = settings.freq != run.settings.freq;
  const std::string differ = fmt::format("the model was trained on steps of {}, this file has {}", step.name(),
                                         series.step.known() ? series.step.name() : "no regular step");
  if (asked) {
    console.warning(differ);
  } else if (!model::take_step(series, step)) {
    throw Error(Exit::data, differ)
        .at(series.path)
        .hint("give a file with the model's step, or say with --freq that this one's is meant");
  }
  if (settings.holes == "close") close_holes(series);
  return series;
}

model::Basis basis_for(const Checkpoint& run, const DataSettings& settings, const model::Series& series) {
  model::Basis basis = run.basis;
  basis.calendar.clear();
  model::read_calendar(basis, settings.calendar, series);
  if (basis.calendar != run.basis.calendar) {
    throw Error(Exit::usage, fmt::format("--calendar: the model was trained with {}", join(run.basis.calendar, ",")))
        .hint("give the same, with the list of holidays where it is now");
  }
  return basis;
}

Experiment experiment_of(const Checkpoint& run, const DataSettings& settings, Console& console, bool all_rows) {
  std::future<void> prepared = prepare_products();
  Experiment e;
  e.series = series_of(run, settings, series_options(run, settings), console);
  say_findings(e.series, console);
  if (run.panel) {
    DataSettings own = settings;
    std::vector<model::Splits> parts = panel_splits(e.series, own);
    e = panel_experiment(std::move(e.series), std::move(parts), settings, &*run.panel);
    if (all_rows) e = panel_of_all_rows(*e.panel, e.season, &*run.panel);
    prepared.get();
    return e;
  }
  e.targets = run.targets;
  e.left_out = e.left_out_of_test = run.left_out;
  try {
    e.splits = model::split_rows(settings.split, e.series);
  } catch (const Error&) {
    if (!all_rows) throw;
  }
  e.scaler = run.scaler;
  e.basis = basis_for(run, settings, e.series);
  fill_values(e);
  e.season = settings.season > 0 ? settings.season : e.series.step.season();
  prepared.get();
  return e;
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
    return read_checkpoints(path);
  }
  const auto weights_in = [&](const fs::path& folder) {
    fs::path file = folder / (which.empty() ? "final.safetensors" : which + ".safetensors");
    if (which.empty() && !fs::exists(file)) file = folder / "best.safetensors";
    return fs::exists(file) ? file : fs::path();
  };
  std::vector<Checkpoint> all;
  if (const fs::path file = weights_in(path); !file.empty()) {
    return read_checkpoints(file);
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
  if (seeds.size() == 1) return read_checkpoints(seeds[0]);
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
    const StoredJson session = parse_metadata(state, "session", restart);
    seconds_ = session.at("seconds").number();
    partial_epoch_ = session.at("partial_epoch").number();
    epoch_seconds_ = numbers_of(session.at("epoch_seconds"));
    if (const StoredJson end = session.at("train_end"); !end.is_null()) train_end_ = lengths_from(end);
    open_logs(lengths_from(session.at("lengths")));
    read_metrics(folder_ / "metrics.jsonl");  // what the report would refuse at the end
  }
  console_.set_log([this](std::string_view text) { log_line(*log_, text); });
}

// Cuts the appended files back to `lengths`.
void RunFolder::open_logs(const Json& lengths) {
  cut_file(folder_ / "metrics.jsonl", lengths.at("metrics_bytes"));
  cut_file(folder_ / "log.txt", lengths.at("log_bytes"));
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
    if (const auto counters = parse_metadata(file, "counters", restart).find(name_of(phase_))) {
      restore(file, *counters, name_of(phase_), trainer);
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
  tell_watch(nullptr);
  if (interrupted() || stop_asked) return optim::Action::stop;
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
  const std::string metrics = line.dump();
  metrics_->append_line(metrics);
  tell_watch(metrics.c_str());
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
