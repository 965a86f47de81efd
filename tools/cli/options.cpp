// The table of all options; see settings.h.
#include <algorithm>

#include "tools/cli/settings.h"
#include "tools/commands/commands.h"

namespace samformer::tools {

namespace {

template <class Rows>
std::vector<std::string_view> names(const Rows& rows) {
  std::vector<std::string_view> result;
  for (const auto& row : rows) result.push_back(row.name);
  return result;
}

// clang-format off
std::vector<Option> data() {
  return {
      {.name = "data", .member = at(&DataSettings::data), .value_name = "FILE|NAME",
       .help = "CSV file or name of a series (in $SAMFORMER_DATA_DIR, ./data, the user's cache)",
       .default_text = "; built in", .run_default = "the run's own",
       .on_resume = true, .overrides = Overrides::when_given},
      {.name = "data-sha256", .member = at(&DataSettings::data_sha256), .value_name = "HEX",
       .help = "refuse a file with another SHA-256", .default_text = "any"},
      {.name = "features", .member = at(&DataSettings::features),
       .help = "M: all channels; S: targets alone; MS: all are inputs, targets are forecast",
       .choices = {"M", "S", "MS"}},
      {.name = "target", .member = at(&DataSettings::target), .value_name = "A[,B]", .help = "targets of S and MS",
       .default_text = "the last column"},
      {.name = "past", .member = at(&DataSettings::past), .value_name = "A[,B]",
       .help = "channels that are inputs alone, as with MS", .default_text = "none"},
      {.name = "future", .member = at(&DataSettings::future), .value_name = "P[,Q]",
       .help = "columns whose values are known for the horizon", .default_text = "none"},
      {.name = "future-for", .member = at(&DataSettings::future_for), .value_name = "A=P",
       .help = "such a column for each channel of its own: 'item_*=promo_*'", .default_text = "none"},
      {.name = "calendar", .member = at(&DataSettings::calendar), .value_name = "A[,B]",
       .help = "what dates say of the horizon: hour,dow,month,doy,holidays:FILE", .default_text = "none",
       .overrides = Overrides::when_given},
      {.name = "future-basis", .member = at(&DataSettings::future_basis), .value_name = "BASIS",
       .help = "what a known value becomes: hinge:N, bent at N quantiles of the training rows, or linear"},
      {.name = "columns", .member = at(&DataSettings::columns), .value_name = "A[,B]", .help = "the channels to read",
       .default_text = "all"},
      {.name = "drop", .member = at(&DataSettings::drop), .value_name = "A[,B]", .help = "columns to leave out",
       .default_text = "none"},
      {.name = "date-column", .member = at(&DataSettings::date_column), .value_name = "A[,B]",
       .help = "column that holds the dates, or columns that hold their parts: Date,Time", .default_text = "found", .overrides = Overrides::when_given},
      {.name = "date-format", .member = at(&DataSettings::date_format), .value_name = "FORMAT",
       .help = "as in strptime: %d.%m.%Y %H:%M; also %q quarter, %h half-year, %3s ms since 1970 (%6s, %9s)",
       .default_text = "found", .overrides = Overrides::when_given},
      {.name = "freq", .member = at(&DataSettings::freq), .value_name = "STEP",
       .help = "time between rows: 15min, h, d, b, w, m, q, y", .default_text = "inferred",
       .overrides = Overrides::when_given},
      {.name = "timezone", .member = at(&DataSettings::timezone), .value_name = "ZONE",
       .help = "of local times without offsets: Europe/Berlin", .default_text = "none",
       .overrides = Overrides::when_given},
      {.name = "no-date", .member = at(&DataSettings::no_date), .help = "the file has no dates",
       .overrides = Overrides::when_given},
      {.name = "delimiter", .member = at(&DataSettings::delimiter), .help = "between cells",
       .choices = {"auto", "comma", "semicolon", "tab"}, .overrides = Overrides::when_given},
      {.name = "decimal", .member = at(&DataSettings::decimal),
       .help = "what numbers have; point, comma: blanks, ' and the other one may part groups of three digits",
       .choices = {"auto", "point", "comma"}, .overrides = Overrides::when_given},
      {.name = "id", .member = at(&DataSettings::id), .value_name = "COLUMN",
       .help = "long form, a row a series and date: the column that names the series",
       .default_text = "found: unique_id, item_id, id, series", .overrides = Overrides::when_given},
      {.name = "value-column", .member = at(&DataSettings::value_column), .value_name = "COLUMN",
       .help = "long form: the column of the values", .default_text = "found: y, value, target, sales, the only one",
       .overrides = Overrides::when_given},
      {.name = "panel", .member = at(&DataSettings::panel),
       .help = "long form: channels: a channel each; global: one model of single series; auto: channels where all have "
               "the same dates",
       .choices = {"auto", "channels", "global"}},
      {.name = "split", .member = at(&DataSettings::split), .value_name = "RULE",
       .help = "auto, ett-hour, ett-minute, ratio[:A,B,C], rows:A,B,C[@FIRST], dates:VAL,TEST[,END]"},
      {.name = "lookback", .member = at(&DataSettings::lookback), .value_name = "L",
       .help = "rows a forecast looks back on; auto: up to 512, as many as leave enough training windows",
       .default_text = "auto", .run_default = "the run's", .range = from_one, .automatic = true, .aliases = {"seq_len"}},
      {.name = "horizon", .member = at(&DataSettings::horizon), .value_name = "H",
       .help = "steps to forecast; auto, by the rows' step: hours and less 96, days 28, "
               "business days 20, weeks 13, months 12, quarters 8, years 3",
       .default_text = "auto", .run_default = "the run's", .range = from_one, .automatic = true, .aliases = {"pred_len"}},
      {.name = "season", .member = at(&DataSettings::season), .value_name = "N",
       .help = "rows in a season, for the seasonal naive forecast", .default_text = "from the step"},
      {.name = "holes", .member = at(&DataSettings::holes),
       .help = "skip: no window crosses absent rows; close: rows are taken as evenly spaced",
       .choices = {"skip", "close"}, .overrides = Overrides::when_given},
      {.name = "late", .member = at(&DataSettings::late),
       .help = "channels that hardly vary in the training rows: leave-out of mean errors, or in the mean",
       .choices = {"leave-out", "mean"}},
  };
}

std::vector<Option> model_of_run() {
  return {
      {.name = "model", .member = at(&ModelSettings::model), .value_name = "NAME",
       .help = "the network, one of those below",
       .choices = names(model::models())},
  };
}

std::vector<Option> model_start() {
  return {
      {.name = "init", .member = at(&ModelSettings::init), .help = "limits of the initial weights",
       .choices = {"glorot", "keras", "pytorch"}},
      {.name = "head-init", .member = at(&ModelSettings::head_init),
       .help = "zero: untrained, it forecasts the window's level", .choices = {"zero", "as-init"}},
      {.name = "center", .member = at(&ModelSettings::center),
       .help = "the level that RevIN takes out and puts back: the window's mean or last value",
       .choices = {"mean", "last"}},
  };
}

std::vector<Option> training() {
  return {
      {.name = "preset", .member = at(&TrainSettings::preset),
       .help = "paper: the published loss and protocol; authors-*: what their code does; published: a model's own",
       .choices = names(presets())},
      {.name = "rho", .member = at(&TrainSettings::rho), .value_name = "X",
       .help = "SAM's radius; 0: no SAM, one pass a step", .range = not_negative},
      {.name = "adaptive", .member = at(&TrainSettings::adaptive), .help = "ASAM"},
      {.name = "stats-mix", .member = at(&TrainSettings::stats_mix), .value_name = "LAMBDA",
       .help = "share of the batch's statistics in the training loss, a regulariser", .run_default = "0",
       .range = {.low = 0, .high = 1}},
      {.name = "stats-mix-step", .member = at(&TrainSettings::stats_mix_step), .value_name = "K",
       .help = "the step h that has this share: LAMBDA h^2 / (LAMBDA h^2 + (1 - LAMBDA) K^2); 0: every step has it",
       .range = not_negative},
      {.name = "ema", .member = at(&TrainSettings::ema), .value_name = "DECAY",
       .help = "averaged weights are tested; 0: the last ones", .range = below_one},
      {.name = "optimizer", .member = at(&TrainSettings::optimizer), .choices = {"adam", "sgd", "adamw"}},
      {.name = "lr", .member = at(&TrainSettings::lr), .value_name = "X", .help = "learning rate", .range = positive,
       .aliases = {"learning_rate"}},
      {.name = "weight-decay", .member = at(&TrainSettings::weight_decay), .value_name = "X",
       .help = "adam, sgd: in the gradient; adamw: decoupled", .range = not_negative},
      {.name = "beta1", .member = at(&TrainSettings::beta1), .value_name = "X", .range = below_one},
      {.name = "beta2", .member = at(&TrainSettings::beta2), .value_name = "X", .range = below_one},
      {.name = "epsilon", .member = at(&TrainSettings::epsilon), .value_name = "X", .help = "of adam and adamw",
       .range = positive},
      {.name = "momentum", .member = at(&TrainSettings::momentum), .value_name = "X", .help = "of sgd",
       .range = below_one},
      {.name = "adam-form", .member = at(&TrainSettings::adam_form),
       .help = "keras: epsilon beside the uncorrected root", .choices = {"pytorch", "keras"}},
      {.name = "schedule", .member = at(&TrainSettings::schedule),
       .help = "cosine-restart: period 5 epochs, floor 1e-6; halve, decay: by 0.5 or 0.9 an epoch, from the third or "
               "fifth",
       .choices = {"cosine-restart", "constant", "halve", "decay"}},
      {.name = "batch", .member = at(&TrainSettings::batch), .value_name = "N", .help = "windows a step",
       .range = from_one, .aliases = {"batch_size"}},
      {.name = "epochs", .member = at(&TrainSettings::epochs), .value_name = "N", .help = "at most", .range = from_one,
       .aliases = {"train_epochs"}, .on_resume = true},
      {.name = "epoch-steps", .member = at(&TrainSettings::epoch_steps), .value_name = "N",
       .help = "steps of an epoch at least: one with fewer batches goes through the windows again", .range = from_one},
      {.name = "patience", .member = at(&TrainSettings::patience), .value_name = "N",
       .help = "epochs without a better validation error before stopping; 0: never", .on_resume = true},
      {.name = "select", .member = at(&TrainSettings::select), .help = "the epoch that is tested",
       .choices = {"best", "last"}},
      {.name = "select-by", .member = at(&TrainSettings::select_by),
       .help = "validation loss with each window's own statistics, or mixed over 32 windows",
       .choices = {"own", "mixed"}},
      {.name = "seed", .member = at(&TrainSettings::seed), .value_name = "N",
       .help = "of initialisation, order and dropout",
       .range = {.low = 0, .high = 9223372036854775807.0}},
      {.name = "seeds", .member = at(&TrainSettings::seeds), .value_name = "LIST",
       .help = "1..5 or 1,3,9: trains each, on a CPU side by side, reports mean and deviation", .default_text = "the one seed"},
      {.name = "weights-from", .member = at(&TrainSettings::weights_from), .value_name = "FILE.safetensors",
       .help = "weights to begin with, under the official module's names; its other tensors are left alone",
       .default_text = "drawn"},
      {.name = "refit", .member = at(&TrainSettings::refit), .help = "then train on all rows, for predict"},
      {.name = "track-sharpness", .member = at(&TrainSettings::track_sharpness), .value_name = "N",
       .help = "every N epochs the largest eigenvalue of the Hessian (512 windows) and the attention's entropy; 0: "
               "never"},
      {.name = "tensorboard", .member = at(&TrainSettings::tensorboard),
       .help = "an event file for TensorBoard in the run's folder"},
      {.name = "tune", .member = at(&TrainSettings::tune),
       .help = "chooses --center and --stats-mix of mean 0, mean 0.5, last 0, last 0.25 by validation error"},
      {.name = "auto", .member = at(&TrainSettings::automatic),
       .help = "the mean of the members that are near the best by validation error, naive forecasts among them"},
      {.name = "members", .member = at(&TrainSettings::members), .value_name = "A[,B]",
       .help = "of --auto: naive, seasonal-naive, weekly-naive, ridge, samformer-mean, samformer-last, or any --model",
       .default_text = "the first six, where they fit"},
      {.name = "within", .member = at(&TrainSettings::within), .value_name = "PERCENT",
       .help = "of --auto: how near the best", .range = not_negative},
      {.name = "no-test", .member = at(&TrainSettings::no_test),
       .help = "leave the test split alone: validation only, no report"},
  };
}

std::vector<Option> machine() {
  return {
      {.name = "device", .member = at(&MachineSettings::device), .value_name = "auto|cpu|cuda[:N]",
       .help = "where to compute", .on_resume = true, .overrides = Overrides::always},
      {.name = "threads", .member = at(&MachineSettings::threads), .value_name = "N", .help = "CPU threads",
       .default_text = "all cores", .range = {.low = 0, .high = 4096}, .on_resume = true,
       .overrides = Overrides::always},
      {.name = "precision", .member = at(&MachineSettings::precision),
       .help = "of a step's large products; bf16: CPUs with AMX-BF16 or AVX512-BF16", .choices = {"float32", "tf32", "bf16"},
       .overrides = Overrides::always},
  };
}

std::vector<Option> run() {
  return {
      {.name = "weights", .member = at(&FolderSettings::weights),
       .help = "best: the tested ones; final: refitted on all rows",
       .choices = {"best", "final"}},
      {.name = "member", .member = at(&FolderSettings::member), .value_name = "NAME",
       .help = "one model of a run of --auto", .default_text = "the mean of all"},
      {.name = "origin", .member = at(&FolderSettings::origin), .value_name = "DATE",
       .help = "forecast after this row", .default_text = "the last row"},
      {.name = "intervals", .member = at(&FolderSettings::intervals), .value_name = "PERCENT[,P]",
       .help = "80,95: intervals that hold so many of the values", .default_text = "none",
       .on_resume = true},
      {.name = "calibration", .member = at(&FolderSettings::calibration), .value_name = "N",
       .help = "of --intervals: the last windows whose errors make them", .range = from_one,
       .on_resume = true},
      {.name = "windows", .member = at(&FolderSettings::windows), .value_name = "N|all",
       .help = "training windows that the loss is of, evenly spaced",
       .default_text = "2048, or all where there are fewer"},
      {.name = "models", .member = at(&FolderSettings::models), .value_name = "A[,B]", .help = "which models"},
      {.name = "jobs", .member = at(&FolderSettings::jobs), .value_name = "N",
       .help = "runs at a time; times --threads at most the cores; auto: one on a GPU, on the CPU as many as cores",
       .default_text = "auto", .range = from_one, .automatic = true},
      {.name = "out", .member = at(&FolderSettings::out), .value_name = "PATH",
       .help = "the run's folder", .default_text = "runs/UTC time-name"},
      {.name = "overwrite", .member = at(&FolderSettings::overwrite),
       .help = "replace the run in --out"},
      {.name = "resume", .member = at(&FolderSettings::resume), .value_name = "DIR",
       .help = "go on with an interrupted run, to the same bits", .default_text = "none", .on_resume = true},
      {.name = "dry-run", .member = at(&FolderSettings::dry_run), .help = "stop before the first step"},
  };
}

std::vector<Option> program() {
  return {
      {.name = "config", .member = at(&ProgramSettings::config), .value_name = "FILE.toml",
       .help = "read settings; the keys are the flags' names", .default_text = "none"},
      {.name = "print-config", .member = at(&ProgramSettings::print_config),
       .help = "write the merged settings as TOML and exit", .on_resume = true},
      {.name = "json", .member = at(&ProgramSettings::json), .help = "stdout is exactly one JSON document",
       .on_resume = true, .everywhere = true},
      {.name = "quiet", .member = at(&ProgramSettings::quiet), .help = "only warnings and errors on stderr",
       .on_resume = true, .everywhere = true},
  };
}
// clang-format on

// "; weather 4, traffic, exchange 8 by the file's name"
std::string series_text(const model::ModelOption& option) {
  std::string text;
  for (auto row = option.by_series.begin(); row != option.by_series.end(); ++row) {
    text += fmt::format("{}{}", text.empty() ? "; " : ", ", row->first);
    const auto next = std::next(row);
    if (next == option.by_series.end() || next->second != row->second) text += ' ' + model::text_of(row->second);
  }
  return text + (text.empty() ? "" : " by the file's name");
}

// Each option of a model once, with the models that have it.
std::vector<Option> models_own() {
  std::vector<Option> rows;
  for (const model::ModelRow& model : model::models()) {
    for (const model::ModelOption& o : model.options) {
      if (std::ranges::find(rows, o.name, &Option::name) != rows.end()) continue;
      std::vector<std::string_view> having;
      for (const model::ModelRow& other : model::models()) {
        if (other.find_option(o.name)) having.push_back(other.name);
      }
      const Member member{
          [name = o.name](const Settings& s) {
            return std::visit([](const auto& v) { return Value(v); },
                              model::option_value(s.model, s.model_options, name));
          },
          [name = o.name, kind = o.otherwise](Settings& s, const Value& value) {
            s.model_options.set(
                name, std::visit([&]<class T>(const T&) -> model::OptionValue { return std::get<T>(value); }, kind));
          }};
      rows.push_back({.name = o.name,
                      .member = member,
                      .value_name = o.value_name,
                      .help = fmt::format("{}{}of {}", o.help, o.help.empty() ? "" : "; ", join(having, ", ")),
                      .default_text = series_text(o),
                      .choices = o.choices,
                      .range = o.range,
                      .of_models = true});
    }
  }
  return rows;
}

std::vector<Option> commands_own() {
  std::vector<Option> rows;
  for (const Command& command : commands()) rows.insert(rows.end(), command.options.begin(), command.options.end());
  return rows;
}

}  // namespace

std::span<const Option> options() {
  static const std::vector<Option> rows = [] {
    std::vector<Option> all;
    const auto add = [&](std::string_view group, bool stored, std::vector<Option> part) {
      for (Option& option : part) {
        option.group = group;
        option.stored = stored;
        all.push_back(std::move(option));
      }
    };
    add("Data", true, data());
    add("Model", true, model_of_run());
    add("Model", true, models_own());
    add("Model", true, model_start());
    add("Training", true, training());
    add("Machine", true, machine());
    add("Run", false, commands_own());
    add("Run", false, run());
    add("Program", false, program());
    return all;
  }();
  return rows;
}

bool takes(const Takes& taken, const Option& option) {
  const auto has = [&](std::string_view word) { return std::ranges::find(taken, word) != taken.end(); };
  return option.everywhere || has(option.name) || has(option.group);
}

Takes takes_of_training(std::initializer_list<std::string_view> more) {
  Takes taken = {"Data",      "Model",  "Training", "Machine", "out",
                 "overwrite", "resume", "dry-run",  "config",  "print-config"};
  taken.insert(taken.end(), more);
  return taken;
}

std::span<const Preset> presets() {
  static const model::ModelRow::Settings paper = {{"stats-mix", "0"}, {"head-init", "as-init"}, {"ema", "0"}};
  static const std::vector<Preset> rows = {
      {.name = "default"},
      {.name = "paper", .settings = paper, .small_rate = true},
      {.name = "authors-tensorflow",
       .settings = {{"stats-mix", "1"},
                    {"init", "keras"},
                    {"head-init", "as-init"},
                    {"ema", "0"},
                    {"adam-form", "keras"},
                    {"epsilon", "1e-7"},
                    {"select-by", "mixed"}},
       .small_rate = true},
      {.name = "authors-pytorch",
       .settings = {{"value", "full"},
                    {"stats-mix", "0"},
                    {"head-init", "as-init"},
                    {"ema", "0"},
                    {"batch", "256"},
                    {"rho", "0.5"},
                    {"weight-decay", "1e-5"},
                    {"schedule", "constant"},
                    {"epochs", "100"},
                    {"patience", "0"},
                    {"select", "last"}}},
      {.name = "published", .settings = paper, .small_rate = true, .of_model = true},
  };
  return rows;
}

const Option* find_option(std::string_view name) {
  for (const Option& option : options()) {
    if (option.name == name || std::ranges::find(option.aliases, name) != option.aliases.end()) return &option;
  }
  return nullptr;
}

}  // namespace samformer::tools
