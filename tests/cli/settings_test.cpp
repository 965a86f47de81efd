// Settings: defaults, presets, merging, origins, refusals, round trips (design/cli.md). Seeds are fixed.
#include "tools/cli/settings.h"
#include "core/text.h"

#include <gtest/gtest.h>
#include <unistd.h>

#include <fstream>
#include <locale>
#include <random>
#include <set>

#include "core/error.h"
#include "tools/commands/commands.h"

namespace samformer::tools {
namespace {

using Differences = std::map<std::string, std::string>;

Resolved from_flags(const Flags& flags, const Environment& environment = {}) { return resolve(flags, environment); }

// Every stored option whose value is not the default, as TOML text.
Differences differences(const Settings& settings) {
  const auto lines = [](const std::string& toml) {
    Differences result;
    std::istringstream text(toml);
    for (std::string line; std::getline(text, line);) {
      const std::size_t equals = line.find(" = ");
      if (equals != std::string::npos) result[line.substr(0, equals)] = line.substr(equals + 3);
    }
    return result;
  };
  const Differences defaults = lines(to_toml(Settings{}));
  Differences result;
  for (const auto& [name, value] : lines(to_toml(settings))) {
    if (defaults.at(name) != value) result[name] = value;
  }
  return result;
}

// The Error that `f` throws; an Error with an empty message when it throws none.
template <typename F>
Error error_of(F&& f) {
  try {
    f();
  } catch (const Error& error) {
    return error;
  }
  ADD_FAILURE() << "nothing was thrown";
  return Error(Exit::internal, "");
}

Error flag_error(const std::string& name, const std::string& text) {
  return error_of([&] { from_flags({{name, text}}); });
}

testing::AssertionResult contains(const std::string& text, const std::string& part) {
  if (text.find(part) != std::string::npos) return testing::AssertionSuccess();
  return testing::AssertionFailure() << "'" << text << "' does not hold '" << part << "'";
}

class SettingsFile : public testing::Test {
 protected:
  void SetUp() override {
    folder_ = std::filesystem::temp_directory_path() / ("samformer-settings-" + std::to_string(getpid()));
    std::filesystem::create_directories(folder_);
  }
  void TearDown() override { std::filesystem::remove_all(folder_); }
  std::string write(const std::string& text, const std::string& name = "a.toml") {
    const std::string path = (folder_ / name).string();
    std::ofstream(path, std::ios::binary) << text;
    return path;
  }
  Resolved from_file(const std::string& text) { return from_flags({{"config", write(text)}}); }
  Error file_error(const std::string& text) {
    return error_of([&] { from_file(text); });
  }
  std::filesystem::path folder_;
};

TEST(Settings, DefaultsAreTheContracts) {
  const Settings s = from_flags({}).settings;
  EXPECT_EQ(s, Settings{});
  EXPECT_EQ(s.data, "seasonal");
  EXPECT_EQ(s.model, "samformer");
  EXPECT_EQ(s.model_option<std::string>("value"), "low-rank");
  EXPECT_EQ(s.model_option<std::int64_t>("d-model"), 16);
  EXPECT_EQ(s.lookback, 0);  // auto
  EXPECT_EQ(s.horizon, 0);
  EXPECT_EQ(s.features, "M");
  EXPECT_EQ(s.split, "auto");
  EXPECT_EQ(s.optimizer, "adam");
  EXPECT_EQ(s.lr, 1e-3);
  EXPECT_EQ(s.weight_decay, 0);
  EXPECT_EQ(s.beta1, 0.9);
  EXPECT_EQ(s.beta2, 0.999);
  EXPECT_EQ(s.epsilon, 1e-8);
  EXPECT_EQ(s.momentum, 0.9);
  EXPECT_EQ(s.adam_form, "pytorch");
  EXPECT_EQ(s.rho, 0.7);
  EXPECT_FALSE(s.adaptive);
  EXPECT_EQ(s.stats_mix, 0.5);
  EXPECT_EQ(s.center, "mean");
  EXPECT_EQ(s.init, "glorot");
  EXPECT_EQ(s.head_init, "zero");
  EXPECT_EQ(s.ema, 0.998);
  EXPECT_EQ(s.schedule, "cosine-restart");
  EXPECT_EQ(s.batch, 32);
  EXPECT_EQ(s.epochs, 100);
  EXPECT_EQ(s.patience, 5);
  EXPECT_EQ(s.select, "best");
  EXPECT_EQ(s.select_by, "own");
  EXPECT_EQ(s.seed, 1);
  EXPECT_TRUE(s.seeds.empty());
  EXPECT_FALSE(s.refit);
  EXPECT_EQ(s.device, "auto");
  EXPECT_EQ(s.threads, 0);
  EXPECT_EQ(s.precision, "float32");
  EXPECT_EQ(find_option("rows")->default_value(), Value(std::int64_t{0}));
  EXPECT_EQ(find_option("channels")->default_value(), Value(std::int64_t{0}));
}

TEST(Settings, PresetsResolveToExactlyThis) {
  const auto preset = [](const std::string& name) { return differences(from_flags({{"preset", name}}).settings); };
  EXPECT_EQ(preset("default"), Differences{});
  EXPECT_EQ(preset("paper"),
            (Differences{{"preset", "\"paper\""}, {"stats-mix", "0"}, {"head-init", "\"as-init\""}, {"ema", "0"}}));
  EXPECT_EQ(preset("authors-tensorflow"), (Differences{{"preset", "\"authors-tensorflow\""},
                                                       {"stats-mix", "1"},
                                                       {"init", "\"keras\""},
                                                       {"head-init", "\"as-init\""},
                                                       {"ema", "0"},
                                                       {"adam-form", "\"keras\""},
                                                       {"epsilon", "1e-07"},
                                                       {"select-by", "\"mixed\""}}));
  // Its 100 epochs are the default's.
  EXPECT_EQ(preset("authors-pytorch"), (Differences{{"preset", "\"authors-pytorch\""},
                                                    {"value", "\"full\""},
                                                    {"init", "\"pytorch\""},
                                                    {"stats-mix", "0"},
                                                    {"head-init", "\"as-init\""},
                                                    {"ema", "0"},
                                                    {"batch", "256"},
                                                    {"rho", "0.5"},
                                                    {"weight-decay", "1e-05"},
                                                    {"schedule", "\"constant\""},
                                                    {"patience", "0"},
                                                    {"select", "\"last\""}}));
  EXPECT_TRUE(contains(flag_error("preset", "papper").advice, "'paper'"));
}

TEST(Settings, SmallRateForLargeSeries) {
  for (const std::string preset : {"paper", "authors-tensorflow"}) {
    for (const std::string data : {"weather", "/data/Weather.csv", "ELECTRICITY.csv", "x/traffic.CSV"}) {
      const Resolved r = from_flags({{"preset", preset}, {"data", data}});
      EXPECT_EQ(r.settings.lr, 1e-4) << preset << ' ' << data;
      EXPECT_TRUE(contains(r.origin("lr").text, preset));
      ASSERT_EQ(r.notices.size(), 1u);
      EXPECT_TRUE(contains(r.notices[0], "1e-4"));
      EXPECT_FALSE(r.given("lr"));
      EXPECT_EQ(from_flags({{"preset", preset}, {"data", data}, {"lr", "0.001"}}).settings.lr, 1e-3);
    }
    EXPECT_EQ(from_flags({{"preset", preset}, {"data", "ETTh1"}}).settings.lr, 1e-3);
    EXPECT_EQ(from_flags({{"preset", preset}, {"data", "weather2.csv"}}).settings.lr, 1e-3);
  }
  for (const std::string preset : {"default", "authors-pytorch"}) {
    EXPECT_EQ(from_flags({{"preset", preset}, {"data", "weather.csv"}}).settings.lr, 1e-3);
  }
}

TEST(Settings, InitFollowsValueUnlessGiven) {
  EXPECT_EQ(from_flags({{"value", "full"}}).settings.init, "pytorch");
  EXPECT_EQ(from_flags({{"value", "full"}}).origin("init").text, "default for --value full");
  EXPECT_EQ(from_flags({{"value", "full"}, {"init", "glorot"}}).settings.init, "glorot");
  EXPECT_EQ(from_flags({{"value", "full"}, {"preset", "authors-tensorflow"}}).settings.init, "keras");
}

TEST(Settings, TransformerIsSamformerWithoutSam) {
  const Resolved r = from_flags({{"model", "transformer"}});
  EXPECT_EQ(r.settings.rho, 0);
  EXPECT_EQ(r.settings.stats_mix, 0);
  EXPECT_EQ(from_flags({{"model", "transformer"}, {"stats-mix", "0.25"}}).settings.stats_mix, 0.25);
  const Settings preset = from_flags({{"model", "transformer"}, {"preset", "authors-pytorch"}}).settings;
  EXPECT_EQ(preset.rho, 0);
  EXPECT_EQ(preset.batch, 256);
  EXPECT_EQ(from_flags({{"model", "transformer"}, {"preset", "authors-tensorflow"}}).settings.stats_mix, 1);
  EXPECT_EQ(from_flags({{"model", "transformer"}, {"rho", "0"}}).settings.rho, 0);
  const Error error = error_of([] { from_flags({{"model", "transformer"}, {"rho", "0.5"}}); });
  EXPECT_EQ(error.code, Exit::usage);
  EXPECT_TRUE(contains(error.what(), "flag --rho"));
  EXPECT_EQ(flag_error("model", "tsmxer").code, Exit::usage);
}

TEST(Settings, ModelsHaveTheirOwnDefaultsAndRefuseWhatTheyLack) {
  for (const std::string model : {"random-transformer", "sigma-reparam", "tsmixer"}) {
    const Settings s = from_flags({{"model", model}}).settings;
    EXPECT_EQ(s.rho, 0) << model;
    EXPECT_EQ(s.stats_mix, 0) << model;
    EXPECT_EQ(from_flags({{"model", model}, {"rho", "0.5"}}).settings.rho, 0.5) << model;
  }
  for (const std::string model : {"identity", "temporal", "linear"}) {
    EXPECT_EQ(from_flags({{"model", model}}).settings.rho, 0.7) << model;
  }
  const auto refused = [](const std::string& model, const std::string& flag, const std::string& value) {
    const Error error = error_of([&] { from_flags({{"model", model}, {flag, value}}); });
    EXPECT_EQ(error.code, Exit::usage) << model;
    EXPECT_TRUE(contains(error.what(), "flag --" + flag)) << error.what();
  };
  refused("random-transformer", "stats-mix", "0.5");  // it has no RevIN
  refused("random-transformer", "center", "last");
  refused("temporal", "value", "full");
  refused("tsmixer", "d-model", "8");
  refused("linear", "d-model", "8");
  refused("samformer", "blocks", "3");
  refused("sigma-reparam", "shared", "true");
  refused("tsmixer", "precision", "bf16");
}

TEST(Settings, PublishedSettingsAreTheModels) {
  const auto published = [](Flags flags) {
    flags.push_back({"preset", "published"});
    return from_flags(flags).settings;
  };
  const Settings s = published({{"model", "dlinear"}, {"data", "ETTh1.csv"}, {"horizon", "96"}, {"epochs", "3"}});
  EXPECT_EQ(s.lookback, 336);
  EXPECT_EQ(s.lr, 0.005);
  EXPECT_EQ(s.schedule, "halve");
  EXPECT_EQ(s.ema, 0);
  EXPECT_EQ(s.epochs, 3);
  const auto batch = [&](const char* horizon) {
    return published({{"model", "dlinear"}, {"data", "exchange_rate.csv"}, {"horizon", horizon}}).batch;
  };
  EXPECT_EQ(batch("96"), 8);
  EXPECT_EQ(batch("336"), 32);
  const Settings wide = published({{"model", "itransformer"}, {"horizon", "336"}, {"data", "ETTh1.csv"}});
  EXPECT_EQ(wide.model_option<std::int64_t>("d-model"), 512);
  EXPECT_EQ(wide.lookback, 96);
  const Settings patches = published({{"model", "patchtst"}, {"data", "x/ETTh1.csv"}, {"dropout", "0.1"}});
  EXPECT_EQ(patches.schedule, "decay");
  EXPECT_EQ(patches.model_option<std::int64_t>("heads"), 4);
  EXPECT_EQ(patches.model_option<double>("dropout"), 0.1);
  EXPECT_EQ(published({{"model", "patchtst"}, {"data", "ETTm1.csv"}}).model_option<std::int64_t>("heads"), 16);
  // Those of SAMformer's paper.
  EXPECT_EQ(differences(published({{"model", "linear"}})).size(),
            differences(from_flags({{"model", "linear"}, {"preset", "paper"}}).settings).size());
}

TEST(Settings, TsMixerFollowsTheSeries) {
  const auto check = [](const std::string& data, std::int64_t blocks, std::int64_t ff, double dropout) {
    const Settings s = from_flags({{"model", "tsmixer"}, {"data", data}}).settings;
    EXPECT_EQ(s.model_option<std::int64_t>("blocks"), blocks) << data;
    EXPECT_EQ(s.model_option<std::int64_t>("ff"), ff) << data;
    EXPECT_EQ(s.model_option<double>("dropout"), dropout) << data;
  };
  check("ETTh1.csv", 2, 64, 0.9);
  check("some/Weather.csv", 4, 32, 0.3);
  check("electricity.csv", 4, 64, 0.7);
  check("traffic.csv", 8, 64, 0.7);
  check("exchange_rate.csv", 8, 64, 0.7);
  const Flags two{{"model", "tsmixer"}, {"data", "weather.csv"}, {"blocks", "2"}};
  EXPECT_EQ(from_flags(two).settings.model_option<std::int64_t>("blocks"), 2);
}

// Only the options that the model names are its own; the others are refused by the parser, whatever the model.
TEST_F(SettingsFile, AModelsOwnOptions) {
  for (const model::ModelRow& row : model::models()) {
    const std::string name(row.name);
    const std::string toml = to_toml(from_flags({{"model", name}}));
    for (const Option& option : options()) {
      if (!option.of_models) continue;
      const bool own = row.find_option(option.name) != nullptr;
      EXPECT_EQ(toml.find(fmt::format("\n{} = ", option.name)) != toml.npos, own) << name << ' ' << option.name;
      const Value otherwise = option.default_value();
      const auto* plain = std::get_if<std::string>(&otherwise);
      const std::string text =
          plain ? *plain : std::visit([](const auto& v) { return nlohmann::json(v).dump(); }, otherwise);
      const Flags flags{{"model", name}, {std::string(option.name), text}};
      if (own) {
        EXPECT_NO_THROW(from_flags(flags));
        continue;
      }
      const Error error = error_of([&] { from_flags(flags); });
      EXPECT_EQ(error.code, Exit::usage);
      EXPECT_TRUE(contains(error.what(), fmt::format("--model {} has no --{}", name, option.name)));
    }
  }
  // Files of earlier versions hold the options of all models.
  EXPECT_EQ(from_file("model = \"linear\"\nvalue = \"low-rank\"\nblocks = 2\n").settings.model, "linear");
  EXPECT_TRUE(contains(file_error("model = \"linear\"\nblocks = 3\n").what(), "--model linear has no --blocks"));
  // A preset's value for another model's option is left out.
  EXPECT_EQ(from_flags({{"model", "linear"}, {"preset", "authors-pytorch"}}).settings.init, "glorot");
}

TEST(Settings, AnUnknownModelIsAnError) {
  EXPECT_EQ(error_of([] { model::make_model("lstm", {1, 2, 3}, {}); }).code, Exit::usage);
  EXPECT_TRUE(contains(error_of([] { model::model_row("linaer"); }).advice, "'linear'"));
}

// Every word that a command takes names an option or a group.
TEST(Settings, CommandsTakeWhatIsThere) {
  for (const Command& command : commands()) {
    for (const std::string_view word : command.takes) {
      const bool group = std::ranges::find(options(), word, &Option::group) != options().end();
      EXPECT_TRUE(group || std::ranges::find(options(), word, &Option::name) != options().end())
          << command.name << ' ' << word;
    }
    for (const Option& option : command.options) EXPECT_FALSE(find_option(option.name)->stored) << option.name;
  }
}

TEST(Settings, OnARunOnlySomeOptionsCount) {
  const Settings run =
      from_flags({{"data", "/a.csv"}, {"device", "cuda"}, {"lr", "0.5"}, {"delimiter", "tab"}}).settings;
  const Settings same = settings_on_run(run, from_flags({{"lr", "0.1"}, {"horizon", "3"}}));
  EXPECT_EQ(same.lr, 0.5);
  EXPECT_EQ(same.horizon, 0);
  EXPECT_EQ(same.data, "/a.csv");
  EXPECT_EQ(same.delimiter, "tab");
  EXPECT_EQ(same.device, "auto");  // this machine, not the run's
  const Settings other = settings_on_run(run, from_flags({{"data", "/b.csv"}, {"delimiter", "auto"}, {"freq", "h"}}));
  EXPECT_EQ(other.data, "/b.csv");
  EXPECT_EQ(other.delimiter, "auto");
  EXPECT_EQ(other.freq, "h");
}

TEST_F(SettingsFile, LaterLayersWinAndOriginsAreKept) {
  const std::string path = write("preset = \"paper\"\nema = 0.5\nbatch = 8\nlr = 0.5\nhorizon = 24\n");
  const Environment environment{{"SAMFORMER_CONFIG", path},
                                {"SAMFORMER_BATCH", "16"},
                                {"SAMFORMER_LR", "0.25"},
                                {"SAMFORMER_STATS_MIX", ""},
                                {"SAMFORMER_DATA_DIR", "/somewhere"},
                                {"PATH", "/bin"}};
  const Resolved r = from_flags({{"lr", "0.125"}}, environment);
  EXPECT_EQ(r.settings.lookback, 0);
  EXPECT_EQ(r.origin("lookback").text, "default");
  EXPECT_EQ(r.settings.stats_mix, 0);
  EXPECT_EQ(r.origin("stats-mix").text, "preset paper");
  EXPECT_EQ(r.settings.ema, 0.5);
  EXPECT_EQ(r.origin("ema").text, path + ":2");
  EXPECT_EQ(r.settings.batch, 16);
  EXPECT_EQ(r.origin("batch").text, "environment SAMFORMER_BATCH");
  EXPECT_EQ(r.settings.lr, 0.125);
  EXPECT_EQ(r.origin("lr").text, "flag --lr");
  EXPECT_TRUE(r.given("ema") && r.given("batch") && r.given("lr"));
  EXPECT_FALSE(r.given("lookback") || r.given("stats-mix"));

  // The last layer that names a preset chooses it; its values still rank below the file's.
  const Resolved other = from_flags({{"preset", "authors-tensorflow"}}, {{"SAMFORMER_CONFIG", path}});
  EXPECT_EQ(other.settings.stats_mix, 1);
  EXPECT_EQ(other.settings.ema, 0.5);
  // The last of a repeated flag wins.
  EXPECT_EQ(from_flags({{"lr", "1"}, {"lr", "2"}}).settings.lr, 2);
}

// A model that has the option.
std::string model_with(const Option& option) {
  for (const model::ModelRow& row : model::models()) {
    if (row.find_option(option.name)) return std::string(row.name);
  }
  return "samformer";
}

Takes everything() {
  Takes groups;
  for (const Option& option : options()) groups.push_back(option.group);
  return groups;
}

// Another value than the default, as a flag and as TOML.
std::pair<std::string, std::string> another_value(const Option& option) {
  const Value value = option.default_value();
  if (std::holds_alternative<std::int64_t>(value)) return {"3", "3"};
  if (std::holds_alternative<double>(value)) return {"0.125", "0.125"};
  if (std::holds_alternative<bool>(value)) return {"true", "true"};
  if (std::holds_alternative<std::vector<std::string>>(value)) return {"a,b c", "[\"a\", \"b c\"]"};
  if (std::holds_alternative<std::vector<std::uint64_t>>(value)) return {"2..4", "[2, 3, 4]"};
  const std::string text = !option.choices.empty()        ? std::string(option.choices.back())
                           : option.name == "device"      ? "cuda:1"
                           : option.name == "data-sha256" ? std::string(64, 'a')
                                                          : "some-text";
  return {text, '"' + text + '"'};
}

// Each option, set to another value through each way in, changes its own member and no other.
TEST_F(SettingsFile, EveryOptionWorksAsFlagKeyAndVariable) {
  std::set<std::string> spellings;
  for (const Option& option : options()) {
    SCOPED_TRACE(std::string(option.name));
    EXPECT_TRUE(spellings.insert(std::string(option.name)).second);
    for (const auto alias : option.aliases) EXPECT_TRUE(spellings.insert(std::string(alias)).second);
    if (option.name == "config" || option.name == "resume") continue;
    const auto [text, toml] = another_value(option);
    Flags flags{{std::string(option.name), text}};
    std::string prefix;
    if (option.name == "target") flags.push_back({"features", "S"}), prefix = "features = \"S\"\n";
    const std::string model = option.name == "model" ? text : model_with(option);
    if (option.of_models) flags.push_back({"model", model}), prefix = fmt::format("model = \"{}\"\n", model);
    const Settings by_flag = resolve(flags, {}, everything()).settings;
    EXPECT_NE(by_flag, Settings{});
    std::string variable = "SAMFORMER_";
    for (const char c : option.name) variable += c == '-' ? '_' : static_cast<char>(std::toupper(c));
    Environment environment{{variable, text}};
    if (option.name == "target") environment["SAMFORMER_FEATURES"] = "S";
    if (option.of_models) environment["SAMFORMER_MODEL"] = model;
    EXPECT_EQ(resolve({}, environment, everything()).settings, by_flag);
    const std::string path = write(fmt::format("{}{} = {}\n", prefix, option.name, toml));
    Settings by_file = resolve({{"config", path}}, {}, everything()).settings;
    by_file.config.clear();
    EXPECT_EQ(by_file, by_flag);
    for (const auto alias : option.aliases) {
      EXPECT_EQ(find_option(alias), &option);
      EXPECT_EQ(resolve({{std::string(alias), text}}, {}, everything()).settings, by_flag);
      std::string upper = "SAMFORMER_";
      for (const char c : alias) upper += static_cast<char>(std::toupper(c));
      EXPECT_EQ(resolve({}, {{upper, text}}, everything()).settings, by_flag);
    }
    if (option.stored) {
      EXPECT_EQ(settings_from_toml(to_toml(by_flag), "round trip"), by_flag);
    }
  }
}

TEST(Settings, ResearchersAliases) {
  const Settings s = from_flags({{"seq_len", "336"},
                                 {"pred_len", "192"},
                                 {"batch_size", "16"},
                                 {"learning_rate", "0.01"},
                                 {"train_epochs", "7"}})
                         .settings;
  EXPECT_EQ(s.lookback, 336);
  EXPECT_EQ(s.horizon, 192);
  EXPECT_EQ(s.batch, 16);
  EXPECT_EQ(s.lr, 0.01);
  EXPECT_EQ(s.epochs, 7);
}

TEST(Settings, RangesAndChoices) {
  const std::vector<std::pair<std::string, std::vector<std::string>>> refused = {
      {"stats-mix", {"-0.1", "1.1", "nan", "inf", "", "x", "0.5x", "1e999", "0,5", " 1", "0x1"}},
      {"horizon", {"0", "-1", "1.5", "1e2", "99999999999999999999", "2147483648", ""}},
      {"lookback", {"0"}},
      {"d-model", {"0"}},
      {"batch", {"0"}},
      {"epochs", {"0"}},
      {"patience", {"-1"}},
      {"lr", {"0", "-1", "inf", "nan"}},
      {"rho", {"-0.5", "inf"}},
      {"weight-decay", {"-1e-9"}},
      {"beta1", {"1", "-0.1"}},
      {"beta2", {"1"}},
      {"momentum", {"1"}},
      {"ema", {"1", "-1"}},
      {"epsilon", {"0"}},
      {"season", {"-1"}},
      {"threads", {"-1", "5000"}},
      {"seed", {"-1", "9223372036854775808"}},
      {"seeds", {"5..1", "1,1", "1..3,2", "1..", "..3", "a", "1,,2", "-1", "1..999999999999", "1...3"}},
      {"adaptive", {"maybe", ""}},
      {"features", {"m", "SM", ""}},
      {"model", {"lstm", ""}},
      {"optimizer", {"Adam"}},
      {"device", {"gpu", "cuda:", "cuda:x", "cuda:-1", "cuda:+1", "cuda:1.0", ""}},
      {"delimiter", {"|", ""}},
      {"data", {"", std::string("a\0b", 3)}},
      {"config", {""}},
      {"resume", {""}},
      {"data-sha256", {"abc", std::string(64, 'g')}},
      {"columns", {"a,,b", ","}},
      {"date-column", {"\xff"}},
  };
  for (const auto& [name, texts] : refused) {
    for (const std::string& text : texts) {
      const Error error = flag_error(name, text);
      EXPECT_EQ(error.code, Exit::usage) << name << ' ' << text;
      EXPECT_TRUE(contains(error.what(), "--" + name));
    }
  }
  const std::vector<std::pair<std::string, std::vector<std::string>>> accepted = {
      {"stats-mix", {"0", "1", "1.0", "+0.5", "5e-1", "-0"}},
      {"horizon", {"1", "2147483647"}},
      {"patience", {"0"}},
      {"rho", {"0"}},
      {"beta1", {"0", "0.99999"}},
      {"ema", {"0"}},
      {"device", {"cpu", "cuda", "cuda:0", "cuda:12"}},
      {"seed", {"0", "9223372036854775807"}},
      {"delimiter", {",", ";", "\t", "tab"}},
      {"data-sha256", {std::string(64, 'A')}},
      {"columns", {""}},
      {"date-column", {"", "Zeit \xc3\xbc"}},
  };
  for (const auto& [name, texts] : accepted) {
    for (const std::string& text : texts) EXPECT_NO_THROW(from_flags({{name, text}})) << name << ' ' << text;
  }
  EXPECT_STREQ(flag_error("stats-mix", "1.5").what(), "--stats-mix: expected a number from 0 to 1, found '1.5'");
  EXPECT_STREQ(flag_error("beta1", "1").what(), "--beta1: expected a number from 0 and below 1, found '1'");
  EXPECT_STREQ(flag_error("lr", "0").what(), "--lr: expected a number above 0, found '0'");
  EXPECT_STREQ(flag_error("horizon", "0").what(),
               "--horizon: expected auto or a whole number from 1 to 2147483647, found '0'");
  EXPECT_STREQ(flag_error("features", "X").what(), "--features: expected one of M, S, MS, found 'X'");
  EXPECT_TRUE(contains(flag_error("optimizer", "adma").advice, "'adam'"));
  EXPECT_EQ(from_flags({{"data-sha256", std::string(64, 'A')}}).settings.data_sha256, std::string(64, 'a'));
  EXPECT_EQ(delimiter_character(from_flags({{"delimiter", ";"}}).settings), ';');
  EXPECT_EQ(delimiter_character(from_flags({{"delimiter", "\t"}}).settings), '\t');
  EXPECT_EQ(delimiter_character(from_flags({{"delimiter", "comma"}}).settings), ',');
  EXPECT_EQ(delimiter_character(Settings{}), '\0');
}

TEST(Settings, VariablesAreCheckedLikeFlags) {
  const auto variable_error = [](const std::string& name, const std::string& text) {
    return error_of([&] { from_flags({}, {{name, text}}); });
  };
  const Error unknown = variable_error("SAMFORMER_STAT_MIX", "1");
  EXPECT_EQ(unknown.code, Exit::usage);
  EXPECT_TRUE(contains(unknown.what(), "SAMFORMER_STAT_MIX"));
  EXPECT_TRUE(contains(unknown.advice, "'SAMFORMER_STATS_MIX'?"));
  EXPECT_TRUE(contains(variable_error("SAMFORMER_", "1").what(), "unknown"));
  EXPECT_TRUE(contains(variable_error("SAMFORMER_lr", "1").advice, "SAMFORMER_LR"));
  EXPECT_STREQ(variable_error("SAMFORMER_LR", "fast").what(), "SAMFORMER_LR: expected a number above 0, found 'fast'");
  // Known, but of another command: not looked at.
  EXPECT_EQ(resolve({}, {{"SAMFORMER_LR", "fast"}}, {"seed", "out"}).settings, Settings{});
}

TEST_F(SettingsFile, UnknownKeysNameTheNearest) {
  const Error error = file_error("horizon = 24\n\n  stats_mix = 0.5\n");
  EXPECT_EQ(error.code, Exit::usage);
  EXPECT_STREQ(error.what(), "unknown key 'stats_mix'");
  EXPECT_TRUE(contains(error.advice, "'stats-mix'"));
  EXPECT_EQ(error.file, (folder_ / "a.toml").string());
  EXPECT_EQ(error.line, 3);
  EXPECT_EQ(error.column, 3);
  EXPECT_TRUE(contains(file_error("[train]\nlr = 1\n").what(), "unknown key 'train'"));
  EXPECT_TRUE(contains(file_error("origin = \"2020-01-01\"\n").what(), "unknown key 'origin'"));
  // The first mistake in the file, not in the alphabet.
  EXPECT_TRUE(contains(file_error("zzz = 1\naaa = 1\n").what(), "zzz"));
}

TEST_F(SettingsFile, TypeErrorsNameThePlace) {
  for (const std::string line : {"lr = \"fast\"",
                                 "lr = true",
                                 "lr = nan",
                                 "lr = -inf",
                                 "lr = [1]",
                                 "lr = 2020-01-01",
                                 "batch = 32.0",
                                 "batch = \"32\"",
                                 "batch = -1",
                                 "batch = {a = 1}",
                                 "adaptive = 1",
                                 "adaptive = \"true\"",
                                 "model = 3",
                                 "model = \"none\"",
                                 "target = [1]",
                                 "target = 7",
                                 "seeds = [1.5]",
                                 "seeds = [1, 1]",
                                 "seeds = [-1]",
                                 "seeds = true",
                                 "data = \"\"",
                                 "split = 3",
                                 "data = \"a\\u0000b\""}) {
    const Error error = file_error("# settings\n" + line + "\n");
    EXPECT_EQ(error.code, Exit::usage) << line;
    EXPECT_EQ(error.file, (folder_ / "a.toml").string());
    EXPECT_EQ(error.line, 2) << line;
    EXPECT_EQ(error.column, static_cast<std::int64_t>(line.find('=')) + 3) << line;
    EXPECT_TRUE(contains(error.what(), line.substr(0, line.find(' ')))) << line;
  }
  EXPECT_STREQ(file_error("batch = 32.5").what(), "batch: expected a whole number from 1 to 2147483647, found '32.5'");
  EXPECT_EQ(from_file("lr = 1\nseeds = \"1..3\"\ntarget = \"a,b\"\nfeatures = \"S\"").settings.lr, 1);
  const Error twice = file_error("lookback = 96\nseq_len = 96\n");
  EXPECT_TRUE(contains(twice.what(), "twice"));
  EXPECT_EQ(twice.line, 2);
}

TEST_F(SettingsFile, BrokenFilesAreRefused) {
  for (const std::string text : {"lr = ", "lr = 1\nlr = 2", "= 3", "[", "a = \"\xff\"", "lr 0.1"}) {
    const Error error = file_error(text);
    EXPECT_EQ(error.code, Exit::usage) << text;
    EXPECT_TRUE(contains(error.what(), "not valid TOML"));
    EXPECT_GE(error.line, 1);
  }
  EXPECT_TRUE(contains(file_error("a = " + std::string(5000, '[')).what(), "not valid TOML"));
  EXPECT_TRUE(contains(file_error(std::string((1 << 20) + 1, '#')).what(), "1 MiB"));
  EXPECT_TRUE(contains(flag_error("config", "/no/such/file.toml").what(), "No such file"));
  EXPECT_TRUE(contains(flag_error("config", folder_.string()).what(), "folder"));
  EXPECT_EQ(from_file("").settings.lr, 1e-3);
  EXPECT_EQ(from_file("\xef\xbb\xbflr = 0.5\r\n").settings.lr, 0.5);
}

// Tables nested so deep would end the program where they are freed.
TEST_F(SettingsFile, DottedKeysAreBounded) {
  std::string bare = "a", quoted = "\"a,=\"";
  for (int i = 0; i < 50000; ++i) {
    bare += ".a";
    quoted += i % 2 ? ".'b#]'" : " . \"c\\\"\"";
  }
  for (const std::string& key : {bare, quoted}) {
    const std::string set = key + " = 1";
    for (const std::string& text :
         {set, "[" + key + "]", "[[" + key + "]]", "data = { " + set + " }", "columns = [{" + set + "}]",
          "data = \"\"\"a\"\"\"\"\"\n" + set, "data = \"\"\n" + set, "data = '''b\\'''\n" + set, "data = 'b\\'\n" + set,
          "# a \"\"\" comment\n" + set, key}) {
      const std::string begin = text.substr(0, 60);
      const Error by_flag = error_of([&] { from_file(text); });
      EXPECT_EQ(by_flag.code, Exit::usage) << begin;
      EXPECT_EQ(by_flag.line, std::ranges::count(text, '\n') + 1) << begin;
      EXPECT_TRUE(contains(by_flag.what(), "dots")) << by_flag.what();
      const Error stored = error_of([&] { settings_from_toml(text, "a checkpoint"); });
      EXPECT_EQ(stored.code, Exit::data) << begin;
      EXPECT_EQ(stored.file, "a checkpoint");
    }
  }
  const std::string dots(100, '.');
  const Settings plain =
      settings_from_toml("data = \"" + dots + "\" # " + dots + "\nlr = 0.5\ntarget = '''" + dots + "'''", "x");
  EXPECT_EQ(plain.data, dots);
  EXPECT_EQ(plain.target, std::vector{dots});
  EXPECT_EQ(plain.lr, 0.5);
  EXPECT_EQ(error_of([&] { settings_from_toml(std::string(2 << 20, '#'), "x"); }).code, Exit::data);
}

TEST_F(SettingsFile, MutatedFilesNeverCrash) {
  std::mt19937 random(7);
  const std::string whole = to_toml(from_flags({{"seeds", "1..3"}, {"columns", "a,b"}}));
  int accepted = 0;
  for (int round = 0; round < 2000; ++round) {
    std::string text = whole;
    for (int k = 0; k < 3; ++k) {
      const std::size_t at = random() % text.size();
      switch (random() % 3) {
        case 0:
          text[at] = static_cast<char>(random());
          break;
        case 1:
          text.erase(at, 1 + random() % 8);
          break;
        case 2:
          text.insert(at, 1, "[]{}\"'#=.,\n0e-"[random() % 14]);
          break;
      }
    }
    try {
      settings_from_toml(text, "mutated");
      ++accepted;
    } catch (const Error& error) {
      EXPECT_EQ(error.code, Exit::data);
      EXPECT_EQ(error.file, "mutated");
    }
  }
  EXPECT_GT(accepted, 0);
  EXPECT_LT(accepted, 2000);
}

TEST_F(SettingsFile, PrintedConfigurationGivesTheSameSettings) {
  std::mt19937_64 random(11);
  for (int round = 0; round < 200; ++round) {
    Flags flags;
    for (const Option& option : options()) {
      const bool samformers = !option.of_models || model_with(option) == "samformer";
      if (!option.stored || option.name == "model" || !samformers || random() % 2) continue;
      std::string text;
      const Value value = option.default_value();
      if (std::holds_alternative<std::string>(value)) {
        if (option.choices.empty()) continue;
        text = option.choices[random() % option.choices.size()];
      } else if (std::holds_alternative<std::int64_t>(value)) {
        text = std::to_string(1 + random() % 1000);
      } else if (std::holds_alternative<double>(value)) {
        text = fmt::format("{}", std::uniform_real_distribution<>(0.001, 0.999)(random));
      } else if (std::holds_alternative<bool>(value)) {
        text = random() % 2 ? "true" : "false";
      } else if (std::holds_alternative<std::vector<std::string>>(value)) {
        text = "A,\"quoted\" \\ name,\xc3\xbc\x01";
      } else {
        continue;
      }
      flags.push_back({std::string(option.name), text});
    }
    flags.push_back({"data", "/tmp/a \"b\"\t\n\\c.csv"});
    if (random() % 2) flags.push_back({random() % 2 ? "date-format" : "freq", "%d.%m \x7f"});
    std::erase_if(flags, [&](const auto& flag) { return flag.first == "no-date"; });
    const Resolved printed = from_flags(flags);
    Settings back = from_file(to_toml(printed)).settings;
    back.config.clear();
    ASSERT_EQ(back, printed.settings) << "round " << round << '\n' << to_toml(printed);
    ASSERT_EQ(settings_from_toml(to_toml(printed.settings), "x"), printed.settings);
  }
  for (const std::string preset : {"paper", "authors-tensorflow", "authors-pytorch"}) {
    const Resolved printed = from_flags({{"preset", preset}, {"data", "weather.csv"}, {"seeds", "1..3,9"}});
    Settings back = from_file(to_toml(printed)).settings;
    back.config.clear();
    EXPECT_EQ(back, printed.settings);
  }
  for (const Flags& flags : {Flags{{"model", "transformer"}, {"preset", "authors-pytorch"}},
                             Flags{{"model", "tsmixer"}, {"blocks", "3"}, {"norm", "layer"}, {"shared", "true"}}}) {
    const Resolved printed = from_flags(flags);
    EXPECT_EQ(settings_from_toml(to_toml(printed), "x"), printed.settings);
  }
}

TEST(Settings, PrintedConfigurationNamesOrigins) {
  const std::string toml = to_toml(from_flags({{"preset", "paper"}, {"horizon", "24"}}, {{"SAMFORMER_LR", "0.1"}}));
  const auto line_of = [&](const std::string& name) {
    const std::size_t begin = toml.find("\n" + name + " = ") + 1;
    return toml.substr(begin, toml.find('\n', begin) - begin);
  };
  EXPECT_TRUE(contains(line_of("horizon"), "horizon = 24 "));
  EXPECT_TRUE(contains(line_of("horizon"), "# flag --horizon"));
  EXPECT_TRUE(contains(line_of("lr"), "# environment SAMFORMER_LR"));
  EXPECT_TRUE(contains(line_of("ema"), "# preset paper"));
  EXPECT_TRUE(contains(line_of("rho"), "# default"));
  const auto json = to_json(from_flags({{"horizon", "24"}}));
  EXPECT_EQ(json["horizon"]["value"], 24);
  EXPECT_EQ(json["horizon"]["origin"], "flag --horizon");
  EXPECT_EQ(json["adaptive"]["value"], false);
}

class CommaNumbers : public std::numpunct<char> {
  char do_decimal_point() const override { return ','; }
  char do_thousands_sep() const override { return '.'; }
  std::string do_grouping() const override { return "\3"; }
};

TEST_F(SettingsFile, NumbersDoNotFollowTheLocale) {
  const std::locale before = std::locale::global(std::locale(std::locale(), new CommaNumbers));
  const Settings s = from_flags({{"lr", "0.25"}, {"batch", "1234567"}}).settings;
  const std::string toml = to_toml(s);
  Settings back = from_file(toml).settings;
  std::locale::global(before);
  EXPECT_EQ(s.lr, 0.25);
  EXPECT_TRUE(contains(toml, "lr = 0.25\n"));
  EXPECT_TRUE(contains(toml, "batch = 1234567\n"));
  back.config.clear();
  EXPECT_EQ(back, s);
}

TEST(Settings, Seeds) {
  using Seeds = std::vector<std::uint64_t>;
  EXPECT_EQ(parse_seeds("1..5"), (Seeds{1, 2, 3, 4, 5}));
  EXPECT_EQ(parse_seeds("1,3,9"), (Seeds{1, 3, 9}));
  EXPECT_EQ(parse_seeds("9,1..3,0"), (Seeds{9, 1, 2, 3, 0}));
  EXPECT_EQ(parse_seeds("4..4"), (Seeds{4}));
  EXPECT_EQ(parse_seeds("9223372036854775807"), (Seeds{9223372036854775807u}));
  EXPECT_EQ(parse_seeds("1..10000").size(), 10000u);
  EXPECT_THROW(parse_seeds("0..10000"), Error);
  EXPECT_THROW(parse_seeds("0..18446744073709551615"), Error);
  for (const std::string text : {"1..5", "1,3,9", "9,1..3,0", "4", "1,2", "7,6,5"}) {
    EXPECT_EQ(format_seeds(parse_seeds(text)), text);
  }
  EXPECT_TRUE(contains(flag_error("seeds", "1..3,2").what(), "2 is there twice"));
}

TEST_F(SettingsFile, SeedAndSeedsExcludeEachOther) {
  EXPECT_EQ(error_of([] { from_flags({{"seed", "3"}, {"seeds", "1..2"}}); }).code, Exit::usage);
  EXPECT_TRUE(from_flags({{"seed", "3"}}, {{"SAMFORMER_SEEDS", "1..2"}}).settings.seeds.empty());
  EXPECT_EQ(from_flags({{"seeds", "1..2"}}, {{"SAMFORMER_SEED", "3"}}).settings.seeds.size(), 2u);
  EXPECT_EQ(from_file("seed = 3\nseeds = \"1..2\"\n").settings.seeds.size(), 2u);
}

TEST(Settings, RulesBetweenSettings) {
  EXPECT_EQ(error_of([] { from_flags({{"no-date", "true"}, {"date-column", "d"}}); }).code, Exit::usage);
  EXPECT_EQ(error_of([] { from_flags({{"no-date", "true"}, {"date-format", "%Y"}}); }).code, Exit::usage);
  const Resolved r = from_flags({{"target", "OT"}});
  ASSERT_EQ(r.notices.size(), 1u);
  EXPECT_TRUE(contains(r.notices[0], "--features M"));
  EXPECT_TRUE(from_flags({{"target", "OT"}, {"features", "MS"}}).notices.empty());
}

// The hash guards the file that it was written for.
TEST_F(SettingsFile, HashGoesWithItsData) {
  const std::string path = write("data = \"/a.csv\"\ndata-sha256 = \"" + std::string(64, 'a') + "\"\n");
  EXPECT_EQ(from_flags({{"config", path}}).settings.data_sha256, std::string(64, 'a'));
  EXPECT_EQ(from_flags({{"config", path}, {"data", "/b.csv"}}).settings.data_sha256, "");
  EXPECT_EQ(
      from_flags({{"config", path}, {"data", "/b.csv"}, {"data-sha256", std::string(64, 'b')}}).settings.data_sha256,
      std::string(64, 'b'));
}

class Resume : public SettingsFile {
 protected:
  void SetUp() override {
    SettingsFile::SetUp();
    run_ = from_flags({{"preset", "paper"}, {"lr", "0.5"}, {"epochs", "10"}, {"data", "/a.csv"}}).settings;
    run_.data_sha256 = std::string(64, 'c');
    write(to_toml(run_), "config.toml");
  }
  Resolved resume(Flags flags, const Environment& environment = {}) {
    flags.push_back({"resume", folder_.string()});
    return from_flags(flags, environment);
  }
  Settings run_;
};

TEST_F(Resume, GoesOnWithTheRunsSettings) {
  Settings expected = run_;
  expected.resume = folder_.string();
  EXPECT_EQ(resume({}).settings, expected);
  EXPECT_EQ(read_run_settings(folder_), run_);
  // What the shell says now is not what the run began with.
  EXPECT_EQ(resume({}, {{"SAMFORMER_LR", "0.1"}, {"SAMFORMER_THREADS", "1"}, {"SAMFORMER_OVERWRITE", "1"}}).settings,
            expected);
  EXPECT_TRUE(resume({}, {{"SAMFORMER_JSON", "1"}}).settings.json);
}

TEST_F(Resume, OnlyAFewFlagsMayBeGiven) {
  const Settings s = resume({{"epochs", "20"},
                             {"patience", "0"},
                             {"threads", "2"},
                             {"device", "cpu"},
                             {"data", "/moved/a.csv"},
                             {"json", "true"},
                             {"quiet", "true"}})
                         .settings;
  EXPECT_EQ(s.epochs, 20);
  EXPECT_EQ(s.patience, 0);
  EXPECT_EQ(s.threads, 2);
  EXPECT_EQ(s.device, "cpu");
  EXPECT_EQ(s.data, "/moved/a.csv");
  EXPECT_EQ(s.data_sha256, run_.data_sha256) << "moved data must still have the run's hash";
  const std::set<std::string_view> allowed = {"epochs", "patience",     "threads", "device",    "data",       "json",
                                              "quiet",  "print-config", "resume",  "intervals", "calibration"};
  for (const Option& option : options()) {
    EXPECT_EQ(option.on_resume, allowed.contains(option.name)) << option.name;
    if (option.on_resume) continue;
    const Error error = error_of([&] { check_resume_flags({{std::string(option.name), "x"}}); });
    EXPECT_EQ(error.code, Exit::usage);
    EXPECT_TRUE(contains(error.what(), fmt::format("--{} ", option.name)));
    EXPECT_TRUE(contains(error.advice, "--data, --epochs, --patience, --device, --threads"));
  }
  EXPECT_EQ(error_of([&] { resume({{"lr", "0.5"}}); }).code, Exit::usage);
  const Error fewer = error_of([&] { resume({{"epochs", "9"}}); });
  EXPECT_EQ(fewer.code, Exit::usage);
  EXPECT_TRUE(contains(fewer.what(), "at least the run's 10"));
}

TEST_F(Resume, DamagedOrMissingRunsAreDataErrors) {
  EXPECT_EQ(error_of([] { from_flags({{"resume", "/no/such/run"}}); }).code, Exit::data);
  EXPECT_TRUE(contains(error_of([] { read_run_settings("/no/such/run"); }).what(), "no run"));
  for (const std::string text : {"lr = \n", "lr = \"x\"\n", "unknown = 1\n", "device = \"gpu\"\n"}) {
    write(text, "config.toml");
    const Error error = error_of([&] { resume({}); });
    EXPECT_EQ(error.code, Exit::data) << text;
    EXPECT_EQ(error.file, (folder_ / "config.toml").string());
  }
}

TEST(Nearest, FindsSlipsAndBeginnings) {
  const std::vector<std::string> words = {"stats-mix", "lookback", "lr", "learning_rate", "center"};
  EXPECT_EQ(nearest_name("stats_mix", words), "stats-mix");
  EXPECT_EQ(nearest_name("lokback", words), "lookback");
  EXPECT_EQ(nearest_name("rl", words), "lr");
  EXPECT_EQ(nearest_name("learn", words), "learning_rate");
  for (const std::string& far : {std::string(), std::string("x"), std::string("momentum"), std::string(100000, 'x')}) {
    EXPECT_EQ(nearest_name(far, words), "") << far.substr(0, 10);
  }
}

}  // namespace
}  // namespace samformer::tools
