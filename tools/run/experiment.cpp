#include "tools/run/experiment.h"

#include <omp.h>
#include <sys/resource.h>

#include <algorithm>
#include <filesystem>
#include <future>
#include <sstream>

#include "core/io/sha256.h"
#include "kernels/cpu/bf16.h"
#include "kernels/gemm.h"
#include "model/data/readers.h"
#include "model/data/synth.h"
#include "tools/cli/text_format.h"
#include "tools/run/datasets.h"

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

}  // namespace

std::future<void> prepare_products() {
  // The library does not survive the end of memory (kernels/cpu/onednn.cpp): where there is a limit, nothing else may
  // take some meanwhile.
  rlimit memory{};
  const bool limited = getrlimit(RLIMIT_AS, &memory) == 0 && memory.rlim_cur != RLIM_INFINITY;
  return std::async(limited ? std::launch::deferred : std::launch::async, kernels::prepare_products);
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
          .no_date = settings.no_date,
          .delimiter = delimiter_character(settings),
          .decimal = settings.decimal == "comma"   ? model::Decimal::comma
                     : settings.decimal == "point" ? model::Decimal::point
                                                   : model::Decimal::found};
}

model::Features features_of(const DataSettings& settings) {
  if (settings.features == "S") return model::Features::s;
  return settings.features == "MS" ? model::Features::ms : model::Features::m;
}

model::Series load_series(const DataSettings& settings, const model::SeriesOptions& options) {
  model::Series series;
  if (settings.data == "seasonal" && !std::filesystem::exists(settings.data)) {
    std::ostringstream text;
    text.exceptions(std::ios::badbit);  // std::bad_alloc
    model::write_csv(text, model::make_seasonal({}));
    series = read_hashed(text.str(), "seasonal", options);
  } else {
    const std::string path = settings.data == "-" ? settings.data : find_dataset(settings.data).string();
    never_replace(path == "-" ? "/dev/stdin" : path);
    series = read_hashed(model::read_bytes(path), path, options);
  }
  if (!settings.data_sha256.empty() && settings.data_sha256 != series.sha256) {
    throw Error(Exit::data,
                fmt::format("the data changed: SHA-256 {} expected, found {}", settings.data_sha256, series.sha256))
        .at(series.path)
        .hint("give the file that the run was trained on with --data");
  }
  return series;
}

Experiment load_experiment(const DataSettings& settings, Console& console) {
  std::future<void> prepared = prepare_products();
  Experiment e;
  e.series = load_series(settings, series_options(settings));
  model::require_clean(e.series);
  for (const model::Finding& f : e.series.findings) {
    console.warning(
        fmt::format("{}: {}{}{}", place_text(f.file, f.line, f.column), f.message, f.hint.empty() ? "" : "; ", f.hint));
  }
  const std::vector<int> targets = model::select_targets(e.series, features_of(settings), settings.target);
  e.targets.assign(targets.begin(), targets.end());
  e.splits = model::split_rows(settings.split, e.series);
  model::check_length(e.series, e.splits, settings.lookback, settings.horizon);
  e.season = settings.season > 0 ? settings.season : e.series.step.season();
  scale(e, e.splits.train);
  prepared.get();
  return e;
}

void scale(Experiment& e, model::Span rows) {
  e.scaler = model::fit_scaler(e.series, rows);
  e.values = model::standardise(e.series, e.scaler);
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
  t.schedule = s.schedule == "constant" ? optim::Schedule::constant : optim::Schedule::cosine_restart;
  t.lr = s.lr;
  t.batch = s.batch;
  t.epochs = s.epochs;
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
