#include "tools/run/result.h"

#include <sys/resource.h>

#include <cmath>
#include <fstream>

#include "core/text.h"
#include "optim/baselines.h"
#include "optim/least_squares.h"
#include "tools/run/ensemble.h"

namespace samformer::tools {
namespace {

// What `summarise` averages.
constexpr const char* metrics[] = {"train_loss",
                                   "val_mse",
                                   "test_mse",
                                   "test_mae",
                                   "skill",
                                   "wape",
                                   "mase",
                                   "rmsse",
                                   "bias",
                                   "epochs_run",
                                   "best_epoch",
                                   "seconds_training",
                                   "seconds_per_epoch",
                                   "seconds_evaluating",
                                   "peak_memory_bytes"};

std::string plain(const Json& value) { return value.is_string() ? value.get<std::string>() : value.dump(); }

// The name of a model's option in a document.
std::string field_of(const model::ModelOption& option) {
  std::string name(option.name);
  std::ranges::replace(name, '-', '_');
  return name;
}

// Of train --auto: the mean of several models.
bool of_members(const Json& d) { return d.contains("members"); }

// " (value low-rank, d-model 16)": what tells two models of one name apart.
std::string variant(const Json& d) {
  if (of_members(d)) {
    return fmt::format(" (mean of {})", join(d["members"].get<std::vector<std::string>>(), ", "));
  }
  std::string text;
  for (const model::ModelOption& option : model::model_row(plain(d["model"])).options) {
    const std::string field = field_of(option);
    if (d.contains(field)) text += fmt::format("{}{} {}", text.empty() ? " (" : ", ", option.name, plain(d[field]));
  }
  return text + (text.empty() ? "" : ")");
}

void add_original(Json& to, const optim::OriginalErrors& errors) {
  to["wape"] = number_or_null(errors.wape);
  to["mase"] = number_or_null(errors.mase);
  to["rmsse"] = number_or_null(errors.rmsse);
  to["bias"] = number_or_null(errors.bias);
}

Json baseline(const Scores& scores, const optim::ErrorSums& errors, std::int64_t season) {
  Json of = {{"test_mse", number_or_null(errors.mse())}, {"test_mae", number_or_null(errors.mae())}};
  if (season > 0) of["season"] = season;
  add_original(of, scores.original.all(errors));
  return of;
}

// ---- Documents that are read back ---------------------------------------------------------------------------------

void numbers(const StoredJson& value, std::initializer_list<const char*> names) {
  for (const char* name : names) value.at(name).number_or_nan();
}

void check_text(const StoredJson& value) { value.text(); }
void check_whole(const StoredJson& value) { value.whole(); }
void check_number(const StoredJson& value) { value.number(); }
void check_number_or_null(const StoredJson& value) { value.number_or_nan(); }
void check_flag(const StoredJson& value) { value.flag(); }
void check_whole_or_null(const StoredJson& value) {
  if (!value.is_null()) value.whole();
}
void check_text_or_null(const StoredJson& value) {
  if (!value.is_null()) value.text();
}
void check_model(const StoredJson& value) {
  const std::string name = value.text();
  if (name != "auto" && std::ranges::none_of(model::models(), [&](const auto& row) { return row.name == name; })) {
    throw value.expected("a model of this version");
  }
}
void check_splits(const StoredJson& value) {
  if (value.is_null()) return;
  for (const char* name : {"train", "val", "test"}) {
    const StoredJson part = value.at(name);
    for (const char* row : {"first_row", "last_row"}) part.at(row).whole();
    for (const char* date : {"first_date", "last_date"}) check_text_or_null(part.at(date));
  }
}
void check_baselines(const StoredJson& value) {
  numbers(value.at("naive"), {"test_mse", "test_mae"});
  if (const StoredJson seasonal = value.at("seasonal_naive"); !seasonal.is_null()) {
    numbers(seasonal, {"test_mse", "test_mae"});
    seasonal.at("season").whole();
  }
  for (const char* name : {"least_squares", "ridge"}) {
    const auto fit = value.find(name);
    if (fit && !fit->is_null()) numbers(*fit, {"test_mse", "test_mae"});
  }
}
void check_tune(const StoredJson& value) {
  if (value.is_null()) return;
  value.at("center").text();
  value.at("stats_mix").number();
  for (const StoredJson& candidate : value.at("candidates").list()) {
    candidate.at("center").text();
    candidate.at("stats_mix").number();
    candidate.at("val_mse").number_or_nan();
  }
}
void check_members(const StoredJson& value) {
  for (const StoredJson& member : value.list()) member.text();
}
void check_selection(const StoredJson& value) {
  for (const StoredJson& member : value.list()) {
    member.at("member").text();
    member.at("val_mse").number_or_nan();
    member.at("chosen").flag();
    member.at("weight").number();
  }
}
void check_toy(const StoredJson& value) {
  for (const StoredJson& row : value.list()) {
    row.at("model").text();
    numbers(row, {"train_mse", "val_mse", "test_mse", "lambda_max"});
  }
}

// Whose results have the field.
enum class In { some, every_run, tested_run };
struct Field {
  const char* name;
  void (*check)(const StoredJson&);
  In in = In::some;
};
constexpr Field fields[] = {
    {"run_dir", check_text_or_null, In::every_run},
    {"dataset", check_text, In::every_run},
    {"data_sha256", check_text},
    {"rows", check_whole, In::every_run},
    {"step", check_text, In::every_run},
    {"channels", check_whole, In::every_run},
    {"splits", check_splits, In::every_run},
    {"model", check_model, In::every_run},
    {"lookback", check_whole, In::every_run},
    {"horizon", check_whole, In::every_run},
    {"seed", check_whole, In::every_run},
    {"rho", check_number, In::every_run},
    {"adaptive", check_flag, In::every_run},
    {"stats_mix", check_number, In::every_run},
    {"stats_mix_step", check_number, In::every_run},
    {"center", check_text, In::every_run},
    {"ema", check_number, In::every_run},
    {"optimizer", check_text, In::every_run},
    {"device", check_text, In::every_run},
    {"precision", check_text, In::every_run},
    {"threads", check_whole, In::every_run},
    {"parameters", check_whole, In::every_run},
    {"train_windows", check_whole_or_null, In::every_run},
    {"val_windows", check_whole_or_null, In::every_run},
    {"test_windows", check_whole_or_null, In::every_run},
    {"epochs_run", check_whole, In::every_run},
    {"best_epoch", check_whole, In::every_run},
    {"stopped_by", check_text, In::every_run},
    {"train_loss", check_number_or_null},
    {"val_mse", check_number_or_null, In::every_run},
    {"test_mse", check_number_or_null, In::tested_run},
    {"test_mse_std", check_number_or_null},
    {"test_mae", check_number_or_null, In::tested_run},
    {"test_mae_std", check_number_or_null},
    {"skill", check_number_or_null, In::tested_run},
    {"wape", check_number_or_null},
    {"mase", check_number_or_null},
    {"rmsse", check_number_or_null},
    {"bias", check_number_or_null},
    {"scaled_channels", check_whole},
    {"baselines", check_baselines, In::tested_run},
    {"tune", check_tune},
    {"selection", check_selection},
    {"members", check_members},
    {"models", check_toy},
    {"seconds_training", check_number_or_null, In::every_run},
    {"seconds_per_epoch", check_number_or_null, In::every_run},
};

// Of one run; with its test where `tested`.
void check_run(const StoredJson& document, bool tested) {
  if (const auto part = document.find("part")) part->text();
  std::vector<const char*> needed;
  for (const Field& field : fields) {
    if (field.in == In::every_run || (tested && field.in == In::tested_run)) needed.push_back(field.name);
  }
  if (const auto model = document.find("model"); model && model->text() == "auto") needed.push_back("members");
  check_fields(document, needed);
}

}  // namespace

void check_fields(const StoredJson& document, std::span<const char* const> needed) {
  for (const char* name : needed) document.at(name);
  for (const auto& [name, check, in] : fields) {
    const auto value = document.find(name);
    // Earlier versions wrote null where a field was not known yet.
    const bool unknown = value && value->is_null() && std::ranges::find(needed, std::string_view(name)) == needed.end();
    if (value && !unknown) check(*value);
  }
}

Json read_result(const std::filesystem::path& folder, bool several) {
  const StoredJson document = read_json(folder / "result.json", "remove the file: --resume writes it again");
  if (!several) {
    check_run(document, document.find("test_mse").has_value());
    if (document.find("runs")) throw document.at("runs").expected("the result of one run");
    return document.json();
  }
  check_text_or_null(document.at("run_dir"));
  const std::vector<StoredJson> runs = document.at("runs").list();
  if (runs.empty()) throw document.at("runs").expected("a list of runs");
  const bool tested = runs[0].find("test_mse").has_value();
  for (const StoredJson& run : runs) check_run(run, tested);
  for (const char* name : {"mean", "std"}) numbers(document.at(name), {"test_mse", "test_mae", "skill"});
  if (const auto together = document.find("ensemble"); together && !together->is_null()) {
    numbers(*together, {"test_mse", "test_mae"});
  }
  return document.json();
}

std::int64_t peak_memory_bytes() {
  // ru_maxrss outlives exec: it may be the launching process's.
  std::ifstream status("/proc/self/status");
  for (std::string word; status >> word;) {
    std::int64_t kib = 0;
    if (word == "VmHWM:" && status >> kib) return kib * 1024;
  }
  rusage usage{};
  getrusage(RUSAGE_SELF, &usage);
  return std::int64_t{usage.ru_maxrss} * 1024;
}

Scores score(std::span<const Checkpoint> models, const Experiment& experiment, std::span<const std::int32_t> starts,
             const Settings& settings, const ChosenDevice& device) {
  const optim::Problem problem = experiment.tested_problem();
  const std::int64_t L = settings.lookback, H = settings.horizon;
  const Ensemble together(models, problem, device);
  const double begin = monotonic_seconds();
  optim::ErrorSums errors = together.errors(starts);
  const double seconds = monotonic_seconds() - begin;
  std::optional<optim::ErrorSums> seasonal;
  if (has_season(experiment, L)) {
    seasonal = optim::seasonal_naive_errors(problem, starts, L, H, experiment.season);
  }
  std::optional<optim::ErrorSums> oracle;
  std::vector<float> fit = fit_least_squares(experiment, settings);
  if (!fit.empty()) {
    oracle = optim::Evaluator(linear_model(settings, experiment), kernels::Center::mean).errors(fit, problem, starts);
  }
  const std::int64_t season = std::max<std::int64_t>(1, experiment.season);
  return {std::move(errors),
          optim::naive_errors(problem, starts, L, H),
          std::move(seasonal),
          std::move(oracle),
          seconds,
          {experiment.series, experiment.scaler, experiment.targets, starts, L, H, experiment.splits.train, season},
          std::move(fit)};
}

std::vector<float> fit_least_squares(const Experiment& e, const Settings& s) {
  return optim::least_squares_slab(model::Linear({e.D(), s.lookback, s.horizon}), e.problem(),
                                   model::unbroken(e.series, e.splits.train));
}

double Scores::best_baseline_mse() const {
  double best = naive.mse();
  for (const auto& other : {seasonal, oracle, ridge}) {
    if (other && other->mse() < best) best = other->mse();
  }
  return best;
}

Json describe(const std::string& command, const Settings& s, const Experiment& e, const model::Model& model,
              const ChosenDevice& device) {
  // eval on another file: a part may begin too early for its look-back, the run's rule may not fit at all.
  const bool split = e.splits.test.last > 0;
  const auto windows = [&](model::Span span) {
    if (!split) return Json();
    return Json(span.first < 0 ? 0 : model::window_count(e.series, span, s.lookback, s.horizon));
  };
  Json result = document(command);
  result.update(Json{{"run_dir", nullptr},
                     {"dataset", e.series.name},
                     {"data_path", s.data == "seasonal" ? Json(nullptr) : Json(s.data)},
                     {"data_sha256", e.series.sha256},
                     {"rows", e.series.rows},
                     {"step", e.series.step.name()},
                     {"channels", e.D()},
                     {"targets", e.target_names()},
                     {"splits", split ? splits_json(e) : Json()},
                     {"model", s.model},
                     {"value", s.model_option<std::string>("value")},
                     {"preset", s.preset},
                     {"lookback", s.lookback},
                     {"horizon", s.horizon},
                     {"seed", s.seed},
                     {"rho", s.rho},
                     {"adaptive", s.adaptive},
                     {"stats_mix", s.stats_mix},
                     {"stats_mix_step", s.stats_mix_step},
                     {"center", s.center},
                     {"ema", s.ema},
                     {"optimizer", s.optimizer},
                     {"lr", s.lr},
                     {"batch", s.batch},
                     {"device", device.name},
                     {"precision", s.precision},
                     {"threads", thread_count(s)},
                     {"parameters", model.parameters().count()},
                     {"train_windows", windows(e.splits.train)},
                     {"val_windows", windows(model::with_lookback(e.splits.val, s.lookback))},
                     {"test_windows", windows(model::with_lookback(e.splits.test, s.lookback))}});
  for (const model::ModelOption& option : model::model_row(s.model).options) {
    const model::OptionValue value = model::option_value(s.model, s.model_options, option.name);
    std::visit([&](const auto& v) { result[field_of(option)] = v; }, value);
  }
  return result;
}

void add_scores(Json& document, const Scores& scores, const Experiment& e) {
  const optim::ErrorSums& m = scores.model;
  document["test_mse"] = number_or_null(m.mse());
  document["test_mae"] = number_or_null(m.mae());
  add_original(document, scores.original.all(m));
  document["scaled_channels"] = scores.original.scaled_channels();
  Json channels = Json::array(), steps = Json::array();
  for (std::int64_t t = 0; t < m.targets; ++t) {
    const auto d = static_cast<std::size_t>(e.targets[static_cast<std::size_t>(t)]);
    const double unit = e.scaler.std[d];
    channels.push_back({{"name", e.series.channels[d]},
                        {"mse", number_or_null(m.channel_mse(t))},
                        {"mae", number_or_null(m.channel_mae(t))},
                        {"mae_original", number_or_null(m.channel_mae(t) * unit)},
                        {"rmse_original", number_or_null(std::sqrt(m.channel_mse(t)) * unit)}});
    add_original(channels.back(), scores.original.channel(m, t));
  }
  for (std::int64_t h = 0; h < m.H; ++h) {
    steps.push_back({{"step", h + 1},
                     {"mse", number_or_null(m.step_mse(h))},
                     {"mae", number_or_null(m.step_mae(h))},
                     {"naive_mse", number_or_null(scores.naive.step_mse(h))}});
    Json& step = steps.back();
    if (scores.seasonal) step["seasonal_naive_mse"] = number_or_null(scores.seasonal->step_mse(h));
    if (scores.oracle) step["least_squares_mse"] = number_or_null(scores.oracle->step_mse(h));
  }
  document["per_channel"] = std::move(channels);
  document["per_step"] = std::move(steps);
  Json baselines = {{"naive", baseline(scores, scores.naive, 1)}, {"seasonal_naive", nullptr}};
  if (scores.seasonal) baselines["seasonal_naive"] = baseline(scores, *scores.seasonal, e.season);
  baselines["least_squares"] = scores.oracle ? baseline(scores, *scores.oracle, 0) : Json(nullptr);
  if (scores.ridge) baselines["ridge"] = baseline(scores, *scores.ridge, 0);
  document["baselines"] = std::move(baselines);
  document["skill"] = number_or_null(1 - m.mse() / scores.best_baseline_mse());
  if (!e.left_out_of_test.empty()) {
    Json names = Json::array();
    for (std::size_t t = 0; t < e.left_out_of_test.size(); ++t) {
      if (e.left_out_of_test[t] != 0) names.push_back(e.series.channels[static_cast<std::size_t>(e.targets[t])]);
    }
    document["left_out"] = names;
  }
  document["pooled_channels"] = m.targets - std::ranges::count(m.left_out, 1);
  document["seconds_evaluating"] = scores.seconds;
}

Json ensemble(std::span<const Checkpoint> runs, const Experiment& experiment, std::span<const std::int32_t> starts,
              const ChosenDevice& device) {
  const optim::Problem problem = experiment.tested_problem();
  const optim::ErrorSums errors = Ensemble(runs, problem, device).errors(starts);
  return {
      {"models", runs.size()}, {"test_mse", number_or_null(errors.mse())}, {"test_mae", number_or_null(errors.mae())}};
}

Json summarise(const std::string& command, const std::string& folder, std::vector<Json> runs) {
  Json result = document(command);
  result["run_dir"] = folder;
  Json mean = Json::object(), deviation = Json::object();
  for (const char* name : metrics) {
    std::vector<double> values;
    for (const Json& run : runs) {
      if (run.contains(name) && run[name].is_number()) values.push_back(run[name]);
    }
    if (values.size() != runs.size()) {
      mean[name] = deviation[name] = nullptr;
      continue;
    }
    double total = 0, squares = 0;
    for (const double v : values) total += v;
    const double n = static_cast<double>(values.size()), average = total / n;
    for (const double v : values) squares += (v - average) * (v - average);
    mean[name] = number_or_null(average);
    deviation[name] = n > 1 ? number_or_null(std::sqrt(squares / (n - 1))) : Json(nullptr);
  }
  result["runs"] = std::move(runs);
  result["mean"] = std::move(mean);
  result["std"] = std::move(deviation);
  return result;
}

void print_result_table(std::ostream& out, const Json& document) {
  const bool several = document.contains("runs");
  const Json& d = several ? document["runs"][0] : document;
  Table table("ll", {"what", "value"});
  const auto part = [&](const char* title, const char* name) {
    if (d["splits"].is_null()) return;
    const Json& s = d["splits"][name];
    const std::string span = s["first_date"].is_null()
                                 ? fmt::format("rows {}..{}", s["first_row"].dump(), s["last_row"].dump())
                                 : fmt::format("{} .. {}", plain(s["first_date"]), plain(s["last_date"]));
    table.row({title, fmt::format("{}, {} windows", span, d[fmt::format("{}_windows", name)].dump())});
  };
  table.row({"data", fmt::format("{}, {} rows, {} channels, step {}", plain(d["dataset"]), d["rows"].dump(),
                                 d["channels"].dump(), plain(d["step"]))});
  part("train", "train");
  part("validation", "val");
  part("test", "test");
  table.row({"model", fmt::format("{}{}, {} parameters, {} -> {} steps", plain(d["model"]), variant(d),
                                  d["parameters"].dump(), d["lookback"].dump(), d["horizon"].dump())});
  const std::string sam =
      d["rho"].get<double>() > 0
          ? fmt::format("{} rho {} over ", d["adaptive"].get<bool>() ? "ASAM" : "SAM", d["rho"].dump())
          : "";
  const double share = d["stats_mix"], step = d["stats_mix_step"];
  const std::string mix =
      share > 0 && share < 1 && step > 0 ? fmt::format("{} at step {}", share, step) : fmt::format("{}", share);
  for (const Json& member : d.value("selection", Json::array())) {
    table.row({"  " + plain(member["member"]), member["val_mse"].is_number()
                                                   ? fmt::format("validation mse {}{}", fixed(member["val_mse"], 4),
                                                                 member["chosen"].get<bool>() ? ", in the mean" : "")
                                                   : std::string("too few rows to compare")});
  }
  if (!of_members(d))
    table.row({"objective", fmt::format("mse, {}{}, stats-mix {}, center {}, ema {}", sam, plain(d["optimizer"]), mix,
                                        plain(d["center"]), d["ema"].dump())});
  for (const Json& run : several ? document["runs"] : Json::array({document})) {
    const Json tuned = run.value("tune", Json());
    if (!tuned.is_object()) continue;
    std::string errors;
    for (const Json& c : tuned["candidates"]) {
      errors += fmt::format("{}{} {}: {}", errors.empty() ? "" : ", ", plain(c["center"]), c["stats_mix"].dump(),
                            fixed(c["val_mse"], 5));
    }
    table.row({several ? fmt::format("tuned, seed {}", run["seed"].dump()) : "tuned",
               fmt::format("center {}, stats-mix {}; validation mse of {}", plain(tuned["center"]),
                           tuned["stats_mix"].dump(), errors)});
  }
  table.row(
      {"device", fmt::format("{}, {} threads, {}", plain(d["device"]), d["threads"].dump(), plain(d["precision"]))});
  if (!several && d.contains("epochs_run") && d["epochs_run"].is_number()) {
    const std::string seconds = fixed(d["seconds_training"], 1);
    table.row({"trained", of_members(d)
                              ? fmt::format("{} epochs of all members, {} s", d["epochs_run"].dump(), seconds)
                              : fmt::format("{} epochs (best {}, stopped by {}), {} s, {} s an epoch",
                                            d["epochs_run"].dump(), d["best_epoch"].dump(), plain(d["stopped_by"]),
                                            seconds, fixed(d["seconds_per_epoch"], 3))});
  }
  if (d.contains("test_mse")) {
    const auto errors = [&](const std::string& name, const Json& of) {
      table.row({name, fmt::format("mse {}  mae {}", fixed(of["test_mse"], 4), fixed(of["test_mae"], 4))});
    };
    const std::string rows = d.value("part", "test") + " error";
    if (several) {
      for (const Json& run : document["runs"]) errors(fmt::format("{}, seed {}", rows, run["seed"].dump()), run);
      errors(rows + ", mean", document["mean"]);
      errors(rows + ", std", document["std"]);
      if (const Json mean = document.value("ensemble", Json()); mean.is_object()) {
        errors(rows + ", mean forecast", mean);
      }
    } else {
      errors(rows, d);
    }
    if (d.contains("left_out")) {
      table.row({"", fmt::format("errors are means over {} of {} channels", d["pooled_channels"].dump(),
                                 d["per_channel"].size())});
    }
    // Results of earlier versions have none of these.
    const auto original = [&](const char* name) { return (several ? document["mean"] : d).value(name, Json()); };
    if (original("wape").is_number() || original("mase").is_number()) {
      const auto number = [](const Json& value, const char* format, double factor) {
        return value.is_number() ? fmt::format(fmt::runtime(format), factor * value.get<double>()) : std::string("-");
      };
      std::string text =
          fmt::format("wape {}  mase {}  rmsse {}  bias {}", number(original("wape"), "{:.2f} %", 100),
                      fixed(original("mase"), 4), fixed(original("rmsse"), 4), number(original("bias"), "{:+.4g}", 1));
      const Json counted = d.value("scaled_channels", Json());
      const std::size_t all = d.value("targets", Json()).size();
      if (counted.is_number() && counted < all) {
        text += fmt::format("; mase and rmsse of {} of {} channels", counted.dump(), all);
      }
      table.row({"  in original units", text});
    }
    const Json& seasonal = d["baselines"]["seasonal_naive"];
    errors("naive (last value)", d["baselines"]["naive"]);
    if (seasonal.is_object()) errors(fmt::format("seasonal naive ({} steps)", seasonal["season"].dump()), seasonal);
    if (const Json oracle = d["baselines"].value("least_squares", Json()); oracle.is_object()) {
      errors("linear least squares", oracle);
    }
    if (const Json ridge = d["baselines"].value("ridge", Json()); ridge.is_object()) errors("ridge regression", ridge);
    const Json& skill = several ? document["mean"]["skill"] : d["skill"];
    if (skill.is_number()) {
      const double percent = 100 * skill.get<double>();
      table.row({"skill", percent >= 0 ? fmt::format("{:.1f} % lower error than the best baseline", percent)
                                       : fmt::format("the best baseline beats the model: its error is {:.1f} % higher",
                                                     -percent)});
    }
  }
  out << table.str();
  print_intervals(out, document);
}

void print_intervals(std::ostream& out, const Json& document) {
  if (const Json intervals = document.value("intervals", Json()); intervals.is_object()) {
    const bool seasonal = intervals.contains("seasonal_naive");
    const Json& naive = intervals[seasonal ? "seasonal_naive" : "naive"];
    Table widths("lrrrrrr", {"interval", "cover", "width", "Winkler",
                             seasonal ? "seasonal naive: cover" : "naive: cover", "width", "Winkler"});
    for (std::size_t k = 0; k < intervals["levels"].size(); ++k) {
      std::vector<std::string> row = {fmt::format("{:.6g} %", intervals["levels"][k]["level"].get<double>())};
      for (const Json& of : {intervals["levels"][k], naive["levels"][k]}) {
        row.push_back(fmt::format("{:.1f} %", 100 * of["cover"].get<double>()));
        row.push_back(fixed(of["width"], 3));
        row.push_back(fixed(of["winkler"], 3));
      }
      widths.row(row);
    }
    out << fmt::format("\n{}WIS {}, {} {}; of {} windows, standardised\n", widths.str(), fixed(intervals["wis"], 4),
                       seasonal ? "seasonal naive" : "naive", fixed(naive["wis"], 4), intervals["windows"].dump());
  }
}

void print_result(std::ostream& out, const Json& document) {
  print_result_table(out, document);
  const Json& folder = document["run_dir"];
  out << (folder.is_string() ? fmt::format("\nnext: samformer predict {} --out forecast.csv\n",
                                           shell_quoted(folder.get<std::string>()))
                             : "\nnext: the same command without --dry-run\n");
}

}  // namespace samformer::tools
