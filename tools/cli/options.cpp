// The table of all options; see settings.h.
#include <algorithm>
#include <limits>

#include "tools/cli/settings.h"

namespace samformer::tools {

namespace {

using S = Settings;

constexpr double kInfinity = std::numeric_limits<double>::infinity();
constexpr Range kPositive{.low = 0, .high = kInfinity, .low_open = true, .high_open = true};
constexpr Range kNotNegative{.low = 0, .high = kInfinity, .high_open = true};
constexpr Range kBelowOne{.low = 0, .high = 1, .high_open = true};
constexpr Range kFromOne{.low = 1};
constexpr Range kSeed{.low = 0, .high = 9223372036854775807.0};

constexpr unsigned kRead = kTrain | kCheck | kEval | kPredict;
constexpr unsigned kAnalyse = kSharpness | kAttention | kLandscape;

std::vector<std::string_view> names(std::span<const Bundle> bundles) {
  std::vector<std::string_view> result;
  for (const Bundle& bundle : bundles) result.push_back(bundle.name);
  return result;
}

const std::vector<Option>& table() {
  // clang-format off
  static const std::vector<Option> rows = {
      {.name = "data", .member = &S::data, .group = "Data", .takes = kTrain | kEval | kPredict | kAnalyse | kReproduce,
       .value_name = "FILE|NAME",
       .help = "CSV file or name of a series (in $SAMFORMER_DATA_DIR, ./data, the user's cache); predict: - is stdin; "
               "reproduce: several with commas, or a folder",
       .default_text = "; built in; reproduce the paper's that are found", .run_default = "the run's own", .on_resume = true},
      {.name = "data-sha256", .member = &S::data_sha256, .group = "Data", .value_name = "HEX",
       .help = "refuse a file with another SHA-256", .default_text = "any"},
      {.name = "features", .member = &S::features, .group = "Data", .takes = kTrain | kCheck,
       .help = "M: all channels; S: targets alone; MS: all are inputs, targets are forecast",
       .choices = {"M", "S", "MS"}},
      {.name = "target", .member = &S::target, .group = "Data", .takes = kTrain | kCheck, .value_name = "A[,B]",
       .help = "targets of S and MS", .default_text = "the last column"},
      {.name = "columns", .member = &S::columns, .group = "Data", .takes = kTrain | kCheck, .value_name = "A[,B]",
       .help = "the channels to read", .default_text = "all"},
      {.name = "drop", .member = &S::drop, .group = "Data", .takes = kTrain | kCheck, .value_name = "A[,B]",
       .help = "columns to leave out", .default_text = "none"},
      {.name = "date-column", .member = &S::date_column, .group = "Data", .takes = kRead, .value_name = "NAME",
       .help = "column that holds the dates", .default_text = "found"},
      {.name = "date-format", .member = &S::date_format, .group = "Data", .takes = kRead, .value_name = "FORMAT",
       .help = "as in strptime: %d.%m.%Y %H:%M", .default_text = "found"},
      {.name = "freq", .member = &S::freq, .group = "Data", .takes = kRead, .value_name = "STEP",
       .help = "time between rows: 15min, h, d, b, w, m, q, y", .default_text = "inferred"},
      {.name = "no-date", .member = &S::no_date, .group = "Data", .takes = kRead, .help = "the file has no dates"},
      {.name = "delimiter", .member = &S::delimiter, .group = "Data", .takes = kRead, .help = "between cells",
       .choices = {"auto", "comma", "semicolon", "tab"}},
      {.name = "split", .member = &S::split, .group = "Data", .takes = kTrain | kCheck, .value_name = "RULE",
       .help = "auto, ett-hour, ett-minute, ratio[:A,B,C], rows:A,B,C, dates:VAL,TEST[,END]"},
      {.name = "lookback", .member = &S::lookback, .group = "Data", .takes = kTrain | kCheck | kToy | kReproduce,
       .value_name = "L",
       .help = "rows a forecast looks back on", .range = kFromOne, .aliases = {"seq_len"}},
      {.name = "horizon", .member = &S::horizon, .group = "Data", .takes = kTrain | kCheck | kPredict | kToy,
       .value_name = "H", .help = "steps to forecast; predict: up to the run's", .run_default = "the run's",
       .range = kFromOne, .aliases = {"pred_len"}},
      {.name = "season", .member = &S::season, .group = "Data", .value_name = "N",
       .help = "rows in a season, for the seasonal naive forecast", .default_text = "from the step"},

      {.name = "model", .member = &S::model, .group = "Model",
       .help = "the network; transformer is samformer without SAM, random-transformer has no RevIN",
       .choices = names(models())},
      {.name = "value", .member = &S::value, .group = "Model", .takes = kTrain | kBench,
       .help = "low-rank: the paper's W_V W_O; full: one L x L matrix", .choices = {"low-rank", "full"}},
      {.name = "d-model", .member = &S::d_model, .group = "Model", .takes = kTrain | kToy, .value_name = "N", .help = "attention width",
       .range = kFromOne},
      {.name = "blocks", .member = &S::blocks, .group = "Model", .value_name = "N", .help = "of tsmixer",
       .default_text = "; by the series: Weather, Electricity 4, Traffic, Exchange 8",
       .range = {.low = 1, .high = 64}},
      {.name = "ff", .member = &S::ff, .group = "Model", .value_name = "N",
       .help = "width of tsmixer's mixing of channels", .default_text = "; Weather 32", .range = kFromOne},
      {.name = "dropout", .member = &S::dropout, .group = "Model", .value_name = "X", .help = "of tsmixer",
       .default_text = "; Weather 0.3, Electricity, Traffic, Exchange 0.7", .range = kBelowOne},
      {.name = "norm", .member = &S::norm, .group = "Model", .help = "of tsmixer", .choices = {"batch", "layer"}},
      {.name = "activation", .member = &S::activation, .group = "Model", .help = "of tsmixer",
       .choices = {"relu", "gelu"}},
      {.name = "shared", .member = &S::shared, .group = "Model",
       .help = "tsmixer: all blocks use one set of layers, as in SAMformer's official repository"},
      {.name = "init", .member = &S::init, .group = "Model", .takes = kTrain | kToy,
       .help = "limits of the initial weights", .default_text = "; for --value full pytorch, for toy keras", .choices = {"glorot", "keras", "pytorch"}},
      {.name = "head-init", .member = &S::head_init, .group = "Model",
       .help = "zero: untrained, it forecasts the window's level", .choices = {"zero", "as-init"}},
      {.name = "center", .member = &S::center, .group = "Model",
       .help = "the level that RevIN takes out and puts back: the window's mean or last value",
       .choices = {"mean", "last"}},

      {.name = "preset", .member = &S::preset, .group = "Training",
       .help = "paper: the published loss and protocol; authors-*: what their code does", .choices = names(presets())},
      {.name = "rho", .member = &S::rho, .group = "Training", .takes = kTrain | kToy, .value_name = "X",
       .help = "SAM's radius; 0: no SAM, one pass a step",
       .default_text = "; 0 for transformer, random-transformer, sigma-reparam, tsmixer",
       .range = kNotNegative},
      {.name = "adaptive", .member = &S::adaptive, .group = "Training", .help = "ASAM"},
      {.name = "stats-mix", .member = &S::stats_mix, .group = "Training", .takes = kTrain | kSharpness,
       .value_name = "LAMBDA", .help = "share of the batch's statistics in the training loss, a regulariser",
       .default_text = "; 0 where --rho is 0 by default", .run_default = "0", .range = {.low = 0, .high = 1}},
      {.name = "stats-mix-step", .member = &S::stats_mix_step, .group = "Training", .value_name = "K",
       .help = "the step h that has this share: LAMBDA h^2 / (LAMBDA h^2 + (1 - LAMBDA) K^2); 0: every step has it",
       .range = kNotNegative},
      {.name = "ema", .member = &S::ema, .group = "Training", .value_name = "DECAY",
       .help = "averaged weights are tested; 0: the last ones", .range = kBelowOne},
      {.name = "optimizer", .member = &S::optimizer, .group = "Training", .choices = {"adam", "sgd", "adamw"}},
      {.name = "lr", .member = &S::lr, .group = "Training", .takes = kTrain | kToy, .value_name = "X", .help = "learning rate",
       .range = kPositive, .aliases = {"learning_rate"}},
      {.name = "weight-decay", .member = &S::weight_decay, .group = "Training", .value_name = "X",
       .help = "adam, sgd: in the gradient; adamw: decoupled", .range = kNotNegative},
      {.name = "beta1", .member = &S::beta1, .group = "Training", .value_name = "X", .range = kBelowOne},
      {.name = "beta2", .member = &S::beta2, .group = "Training", .value_name = "X", .range = kBelowOne},
      {.name = "epsilon", .member = &S::epsilon, .group = "Training", .value_name = "X", .help = "of adam and adamw",
       .range = kPositive},
      {.name = "momentum", .member = &S::momentum, .group = "Training", .value_name = "X", .help = "of sgd",
       .range = kBelowOne},
      {.name = "adam-form", .member = &S::adam_form, .group = "Training",
       .help = "keras: epsilon beside the uncorrected root", .choices = {"pytorch", "keras"}},
      {.name = "schedule", .member = &S::schedule, .group = "Training", .help = "period 5 epochs, floor 1e-6",
       .choices = {"cosine-restart", "constant"}},
      {.name = "batch", .member = &S::batch, .group = "Training", .takes = kTrain | kToy | kReproduce, .value_name = "N", .help = "windows a step",
       .range = kFromOne, .aliases = {"batch_size"}},
      {.name = "epochs", .member = &S::epochs, .group = "Training", .takes = kTrain | kToy | kReproduce, .value_name = "N", .help = "at most",
       .range = kFromOne, .aliases = {"train_epochs"}, .on_resume = true},
      {.name = "patience", .member = &S::patience, .group = "Training", .value_name = "N",
       .help = "epochs without a better validation error before stopping; 0: never", .on_resume = true},
      {.name = "select", .member = &S::select, .group = "Training", .help = "the epoch that is tested",
       .choices = {"best", "last"}},
      {.name = "select-by", .member = &S::select_by, .group = "Training",
       .help = "validation loss with each window's own statistics, or mixed over 32 windows",
       .choices = {"own", "mixed"}},
      {.name = "seed", .member = &S::seed, .group = "Training", .takes = kTrain | kSynth | kSharpness | kLandscape | kToy,
       .value_name = "N", .help = "of initialisation, order and dropout; of the built-in series; of probes and directions",
       .range = kSeed},
      {.name = "seeds", .member = &S::seeds, .group = "Training", .takes = kTrain | kReproduce, .value_name = "LIST",
       .help = "1..5 or 1,3,9: trains each, reports mean and deviation", .default_text = "the one seed, reproduce 1..5"},
      {.name = "refit", .member = &S::refit, .group = "Training", .help = "then train on all rows, for predict"},
      {.name = "track-sharpness", .member = &S::track_sharpness, .group = "Training", .value_name = "N",
       .help = "every N epochs the largest eigenvalue of the Hessian (512 windows) and the attention's entropy; 0: never"},
      {.name = "tensorboard", .member = &S::tensorboard, .group = "Training",
       .help = "an event file for TensorBoard in the run's folder"},
      {.name = "tune", .member = &S::tune, .group = "Training",
       .help = "chooses --center and --stats-mix of mean 0, mean 0.5, last 0, last 0.25 by validation error"},
      {.name = "no-test", .member = &S::no_test, .group = "Training",
       .help = "leave the test split alone: validation only, no report"},
      {.name = "device", .member = &S::device, .group = "Machine",
       .takes = kTrain | kEval | kPredict | kAnalyse | kReproduce,
       .value_name = "auto|cpu|cuda[:N]", .help = "where to compute", .on_resume = true},
      {.name = "threads", .member = &S::threads, .group = "Machine",
       .takes = kTrain | kEval | kPredict | kDoctor | kBench | kAnalyse | kToy | kReproduce, .value_name = "N", .help = "CPU threads", .default_text = "all cores, reproduce 1 a run", .range = {.low = 0, .high = 4096},
       .on_resume = true},
      {.name = "precision", .member = &S::precision, .group = "Machine",
       .help = "of a step's large products; bf16: CPUs with AVX512-BF16", .choices = {"float32", "tf32", "bf16"}},

      {.name = "weights", .member = &S::weights, .group = "Run", .takes = kEval | kPredict,
       .help = "best: the tested ones; final: refitted on all rows",
       .default_text = "eval best, predict final if there", .choices = {"best", "final"}, .stored = false},
      {.name = "part", .member = &S::part, .group = "Run", .takes = kEval, .help = "which rows of the file",
       .choices = {"test", "val", "train", "all"}, .stored = false},
      {.name = "origin", .member = &S::origin, .group = "Run", .takes = kPredict | kAttention, .value_name = "DATE",
       .help = "predict: forecast after this row; attention: of the one window that ends there",
       .default_text = "predict the last row, attention the test split", .stored = false},
      {.name = "windows", .member = &S::windows, .group = "Run", .takes = kSharpness | kLandscape,
       .value_name = "N|all", .help = "training windows that the loss is of, evenly spaced",
       .default_text = "2048, or all where there are fewer", .stored = false},
      {.name = "tolerance", .member = &S::tolerance, .group = "Run", .takes = kSharpness, .value_name = "X",
       .help = "stop at a residual of X times the eigenvalue", .range = kPositive, .stored = false},
      {.name = "density", .member = &S::density, .group = "Run", .takes = kSharpness,
       .help = "the Hessian's spectral density too", .stored = false},
      {.name = "grid", .member = &S::grid, .group = "Run", .takes = kSweep, .value_name = "KEY=V1,V2",
       .help = "values of a flag: a list, A..B..STEP or log:A..B:N; may be given several times", .default_text = "none",
       .stored = false},
      {.name = "random", .member = &S::random, .group = "Run", .takes = kSweep, .value_name = "N",
       .help = "N combinations of the grid, drawn with --seed", .default_text = "all", .stored = false},
      {.name = "jobs", .member = &S::jobs, .group = "Run", .takes = kSweep | kReproduce, .value_name = "N",
       .help = "runs at a time; times --threads at most the cores", .range = kFromOne, .stored = false},
      {.name = "metric", .member = &S::metric, .group = "Run", .takes = kSweep, .help = "what trials are ranked by",
       .choices = {"val_mse", "train_loss"}, .stored = false},
      {.name = "horizons", .member = &S::horizons, .group = "Run", .takes = kReproduce, .value_name = "H[,H]",
       .help = "of the table", .default_text = "96,192,336,720", .stored = false},
      {.name = "models", .member = &S::models, .group = "Run", .takes = kReproduce, .value_name = "A[,B]",
       .help = "the table's columns: samformer, samformer/paper, tsmixer-sam, ...", .default_text = "all",
       .stored = false},
      {.name = "against", .member = &S::against, .group = "Run", .takes = kLandscape, .value_name = "RUN2",
       .help = "a second run, on the same scale, loss and pair of seeds", .default_text = "none", .stored = false},
      {.name = "rows", .member = &S::rows, .group = "Run", .takes = kSynth, .value_name = "N", .range = kFromOne,
       .stored = false},
      {.name = "channels", .member = &S::channels, .group = "Run", .takes = kSynth, .value_name = "N",
       .range = kFromOne, .stored = false},
      {.name = "url", .member = &S::url, .group = "Run", .takes = kFetch, .value_name = "URL",
       .help = "download from here; the hash must still match", .default_text = "the publisher's", .stored = false},
      {.name = "steps", .member = &S::steps, .group = "Run", .takes = kProfile, .value_name = "N",
       .help = "training steps to profile", .range = kFromOne, .stored = false},
      {.name = "trace", .member = &S::trace, .group = "Run", .takes = kProfile, .value_name = "FILE",
       .help = "the steps as a Chrome trace, for ui.perfetto.dev", .default_text = "none", .stored = false},
      {.name = "noise", .member = &S::noise, .group = "Run", .takes = kToy, .value_name = "X",
       .help = "standard deviation of the noise on the targets", .range = kNotNegative, .stored = false},
      {.name = "samples", .member = &S::samples, .group = "Run", .takes = kToy, .value_name = "N",
       .help = "to train on; half as many to validate, a fifth to test", .range = kFromOne, .stored = false},
      {.name = "ablation", .member = &S::ablation, .group = "Run", .takes = kToy,
       .help = "the transformer under SGD and AdamW instead of the other models", .default_text = "none",
       .choices = {"optimizers"}, .stored = false},
      {.name = "format", .member = &S::format, .group = "Run", .takes = kBench, .help = "of the report; md: for issues",
       .choices = {"text", "md", "csv", "json"}, .stored = false},
      {.name = "shapes", .member = &S::shapes, .group = "Run", .takes = kBench, .value_name = "DxH[,DxH]",
       .help = "channels and horizons to measure", .default_text = "7, 21, 321, 862 x 96, 720", .stored = false},
      {.name = "out", .member = &S::out, .group = "Run", .takes = kTrain | kPredict | kSynth | kEval | kAnalyse | kToy | kReproduce,
       .value_name = "PATH", .help = "train: the run's folder; predict, data synth: the CSV file; else where results go",
       .default_text = "train runs/UTC time-name; predict, data synth stdout; else RUN/<command>", .stored = false},
      {.name = "overwrite", .member = &S::overwrite, .group = "Run", .help = "replace the run in --out",
       .stored = false},
      {.name = "resume", .member = &S::resume, .group = "Run", .value_name = "DIR",
       .help = "go on with an interrupted run, to the same bits", .default_text = "none", .stored = false,
       .on_resume = true},
      {.name = "dry-run", .member = &S::dry_run, .group = "Run", .takes = kTrain | kReproduce, .help = "stop before the first step", .stored = false},

      {.name = "config", .member = &S::config, .group = "Program", .takes = kTrain | kCheck, .value_name = "FILE.toml",
       .help = "read settings; the keys are the flags' names", .default_text = "none", .stored = false},
      {.name = "print-config", .member = &S::print_config, .group = "Program", .takes = kTrain | kCheck,
       .help = "write the merged settings as TOML and exit", .stored = false, .on_resume = true},
      {.name = "json", .member = &S::json, .group = "Program", .takes = kEvery,
       .help = "stdout is exactly one JSON document", .stored = false, .on_resume = true},
      {.name = "quiet", .member = &S::quiet, .group = "Program", .takes = kEvery,
       .help = "only warnings and errors on stderr", .stored = false, .on_resume = true},
  };
  // clang-format on
  return rows;
}

}  // namespace

std::span<const Option> options() { return table(); }

std::span<const Bundle> presets() {
  static const std::vector<Bundle> rows = {
      {.name = "default"},
      {.name = "paper", .settings = {{"stats-mix", "0"}, {"head-init", "as-init"}, {"ema", "0"}}, .small_rate = true},
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
  };
  return rows;
}

std::span<const Bundle> models() {
  using Values = Bundle::Values;
  const auto all = [](std::initializer_list<Values> parts) {
    Values result;
    for (const Values& part : parts) result.insert(result.end(), part.begin(), part.end());
    return result;
  };
  // Without SAM, and without its own regulariser.
  static const Values plain = {{"stats-mix", "0"}, {"rho", "0"}};
  // What other models' flags are for these.
  static const Values no_mixer = {{"blocks", "2"},   {"ff", "64"},           {"dropout", "0.9"},
                                  {"norm", "batch"}, {"activation", "relu"}, {"shared", "false"}};
  static const Values low_rank = {{"value", "low-rank"}, {"precision", "float32"}};
  static const Values no_attention = {{"value", "low-rank"}, {"d-model", "16"}};
  static const std::vector<Bundle> rows = {
      {.name = "samformer", .fixed = no_mixer},
      {.name = "transformer", .settings = {{"stats-mix", "0"}}, .fixed = all({no_mixer, {{"rho", "0"}}})},
      {.name = "random-transformer",
       .settings = {{"rho", "0"}},
       .fixed = all({no_mixer, low_rank, {{"stats-mix", "0"}, {"center", "mean"}}})},
      {.name = "identity", .fixed = all({no_mixer, low_rank})},
      {.name = "temporal", .fixed = all({no_mixer, low_rank})},
      {.name = "linear", .fixed = all({no_mixer, no_attention})},
      {.name = "sigma-reparam", .settings = plain, .fixed = all({no_mixer, low_rank})},
      {.name = "tsmixer", .settings = plain, .fixed = all({no_attention, {{"precision", "float32"}}})},
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
