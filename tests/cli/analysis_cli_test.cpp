// sharpness, attention, landscape and the reports of runs, through the program.
#include <gtest/gtest.h>

#include "tests/cli_fixture.h"
#include "tools/run/events.h"

namespace samformer {
namespace {

class AnalysisTest : public ProgramTest {
 protected:
  void train(const std::string& out, const Words& more = {}) {
    const Outcome outcome = run(small(out, more));
    ASSERT_EQ(outcome.code, 0) << outcome.err;
  }
  // The first character behind `begin` and the first one of the `end` that follows.
  static std::pair<std::size_t, std::size_t> between(const std::string& text, const std::string& begin,
                                                     const std::string& end) {
    const std::size_t first = text.find(begin);
    if (first == text.npos) return {0, 0};
    return {first + begin.size(), text.find(end, first)};
  }
  static std::pair<std::size_t, std::size_t> gallery_of(const std::string& page) {
    return between(page, "<script type=\"application/json\">", "</script>");
  }
  // A page that needs nothing but itself, with `charts` drawings, and the channels' list of a run.
  void expect_report(const std::string& name, std::size_t charts, bool list = false) {
    SCOPED_TRACE(name);
    ASSERT_TRUE(exists(name));
    std::string page = read(name);
    const auto [first, last] = gallery_of(page);
    EXPECT_EQ(last > first, list);
    page.erase(first, last - first);  // its 64 digits may spell anything
    EXPECT_EQ(count(page, "<script"), list ? 2u : 0u);
    EXPECT_TRUE(page.starts_with("<!doctype html>"));
    EXPECT_NE(page.find("width=device-width"), std::string::npos);
    EXPECT_NE(page.find("prefers-color-scheme:dark"), std::string::npos);
    EXPECT_EQ(count(page, "<svg "), charts);
    EXPECT_EQ(count(page, "<svg "), count(page, "</svg>"));
    for (const char* foreign : {"src=", "url(", "@import", "<link"}) EXPECT_EQ(count(page, foreign), 0u);
    EXPECT_EQ(count(page, "http"), charts);  // the name of SVG's namespace
    EXPECT_EQ(page.find("nan"), std::string::npos);
  }
  static std::size_t count(const std::string& text, const std::string& part) {
    std::size_t n = 0;
    for (std::size_t at = text.find(part); at != std::string::npos; at = text.find(part, at + 1)) ++n;
    return n;
  }
};

TEST_F(AnalysisTest, SharpnessReportsTheTrainingLoss) {
  train("run");
  const Json all = document({"sharpness", path("run"), "--windows", "all", "--density"});
  EXPECT_EQ(all["windows"], 251);
  const Json trained = document({"eval", path("run"), "--part", "train"});
  EXPECT_NEAR(all["loss"].get<double>(), trained["test_mse"].get<double>(), 1e-6 * trained["test_mse"].get<double>());
  EXPECT_EQ(all["weights_sha256"], trained["weights_sha256"]);
  EXPECT_TRUE(all["converged"].get<bool>());
  EXPECT_GT(all["lambda_max"], 0);
  EXPECT_LE(all["residual"].get<double>(), 1e-6 * all["lambda_max"].get<double>());
  EXPECT_LE(all["residual_min"].get<double>(), 1e-6 * std::fabs(all["lambda_min"].get<double>()));
  EXPECT_LT(all["lambda_min"], all["lambda_max"]);
  EXPECT_GT(all["trace_standard_error"], 0);
  for (std::size_t i = 1; i < all["m_sharpness"].size(); ++i) {
    EXPECT_GT(all["m_sharpness"][i]["rise"], all["m_sharpness"][i - 1]["rise"]);
  }
  double weight = 0;
  for (const Json& p : all["density"]) weight += p["weight"].get<double>();
  EXPECT_NEAR(weight, 1, 1e-12);
  expect_report("run/sharpness/report.html", 2);
  EXPECT_EQ(Json::parse(read("run/sharpness/sharpness.json")), all);

  const Json mixed =
      document({"sharpness", path("run"), "--stats-mix", "1", "--windows", "50", "--out", path("other")});
  EXPECT_EQ(mixed["windows"], 50);
  EXPECT_NE(mixed["loss_is"].get<std::string>().find("50 of 251"), std::string::npos);
  EXPECT_NE(mixed["loss_is"].get<std::string>().find("mixed"), std::string::npos);
  const Json own = document({"sharpness", path("run"), "--windows", "50", "--out", path("other")});
  EXPECT_GT(std::fabs(mixed["loss"].get<double>() - own["loss"].get<double>()), 1e-4);
  EXPECT_GT(std::fabs(mixed["lambda_max"].get<double>() - own["lambda_max"].get<double>()), 1e-4);
  expect_report("other/report.html", 1);

  fails(2, {"sharpness", path("run"), "--windows", "0"}, {"--windows", "'0'"});
  fails(3, {"sharpness", path("nothing")}, {"no run"});
}

TEST_F(AnalysisTest, AttentionMapsAreProbabilities) {
  train("run");
  const Json d = document({"attention", path("run")});
  ASSERT_EQ(d["map"].size(), 3u);
  double entropy_of_mean = 0;
  for (const Json& row : d["map"]) {
    double total = 0;
    for (const Json& a : row) {
      total += a.get<double>();
      entropy_of_mean -= a.get<double>() * std::log(a.get<double>()) / 3;
    }
    EXPECT_NEAR(total, 1, 1e-5);
  }
  EXPECT_GT(d["entropy"], 0);
  EXPECT_LE(d["entropy"].get<double>(), entropy_of_mean + 1e-6);  // entropy is concave
  EXPECT_NEAR(d["entropy_share"].get<double>(), d["entropy"].get<double>() / std::log(3.0), 1e-12);
  EXPECT_GE(d["nuclear_norm"], 1);  // the all-ones vector is kept: one singular value is 1 at least
  EXPECT_LE(d["nuclear_norm"], 3);
  EXPECT_EQ(d["nuclear_norm_windows"], d["windows"]);
  const std::string csv = read("run/attention/attention.csv");
  EXPECT_TRUE(csv.starts_with("channel,c0,c1,c2\nc0,")) << csv;
  EXPECT_EQ(d["top_pairs"].size(), 6u);
  const Json& top = d["top_pairs"][0];
  double most = 0;
  for (std::size_t i = 0; i < 3; ++i) {
    for (std::size_t j = 0; j < 3; ++j) {
      if (i != j) most = std::max(most, d["map"][i][j].get<double>());
    }
  }
  EXPECT_EQ(top["weight"], most);
  expect_report("run/attention/report.html", 1);

  // One window: its map's norm by hand, |A - I|_F / sqrt(D).
  const Json one = document({"attention", path("run"), "--origin", hourly(300)});
  EXPECT_EQ(one["windows"], 1);
  double squares = 0;
  for (std::size_t i = 0; i < 3; ++i) {
    for (std::size_t j = 0; j < 3; ++j) squares += std::pow(one["map"][i][j].get<double>() - (i == j), 2);
  }
  EXPECT_NEAR(one["identity_distance"].get<double>(), std::sqrt(squares / 3), 1e-12);
  EXPECT_NE(one["map"], d["map"]);
  fails(3, {"attention", path("run"), "--origin", hourly(5)}, {"look-back"});
}

TEST_F(AnalysisTest, WideMapsAreOneImage) {
  series("wide.csv", 400, 70);
  train("run", {"--data", path("wide.csv"), "--epochs", "1"});
  const Json d = document({"attention", path("run")});
  EXPECT_FALSE(d.contains("map"));
  EXPECT_LE(d["nuclear_norm_windows"], 64);
  EXPECT_EQ(count(read("run/attention/attention.csv"), "\n"), 71u);
  expect_report("run/attention/report.html", 1);
  const std::string page = read("run/attention/report.html");
  EXPECT_EQ(count(page, "data:image/bmp;base64,Qk"), 1u);
  EXPECT_NE(page.find(d["top_pairs"][0]["from"].get<std::string>() + " → "), std::string::npos);
}

TEST_F(AnalysisTest, TheLandscapesCentreIsTheRunsLoss) {
  train("sam");
  train("plain", {"--model", "transformer"});
  const Json d = document({"landscape", path("sam"), "--windows", "all", "--against", path("plain")});
  ASSERT_EQ(d["slices"].size(), 2u);
  for (std::size_t i = 0; i < 2; ++i) {
    const Json trained = document({"eval", path(i == 0 ? "sam" : "plain"), "--part", "train"});
    const double expected = trained["test_mse"];
    const Json &line = d["slices"][i]["line"], &square = d["slices"][i]["square"];
    EXPECT_EQ(d["at"][line.size() / 2], 0);
    EXPECT_NEAR(line[line.size() / 2].get<double>(), expected, 1e-6 * expected);
    EXPECT_EQ(square[square.size() / 2], line[line.size() / 2]);
    // The square's middle row is the line, at every second point.
    const std::size_t side = d["square_at"].size();
    EXPECT_EQ(square[side / 2 * side], line[0]);
    EXPECT_NE(line[0], line[line.size() / 2]);
  }
  EXPECT_EQ(d["loss"], d["slices"][0]["loss"]);
  expect_report("sam/landscape/report.html", 3);
  // The same seed gives the same slices, another one others.
  EXPECT_EQ(document({"landscape", path("plain"), "--windows", "all"})["slices"][0]["line"], d["slices"][1]["line"]);
  EXPECT_NE(document({"landscape", path("plain"), "--windows", "all", "--seed", "2"})["slices"][0]["line"],
            d["slices"][1]["line"]);
  train("longer", {"--horizon", "7"});
  fails(2, {"landscape", path("sam"), "--against", path("longer")}, {"differ in look-back, horizon or channels"});
}

TEST_F(AnalysisTest, ADeviceThatIsNotThereIsRefused) {
  train("run");
  for (const char* command : {"attention", "landscape", "sharpness"}) {
    const Outcome o = run({command, path("run"), "--device", "cuda:4095"});
    EXPECT_EQ(o.code, 4) << command << ": " << o.err;
    EXPECT_NE(o.err.find("cuda:4095"), std::string::npos) << o.err;
  }
  EXPECT_EQ(run({"toy", "--out", path("toy"), "--device", "cuda:4095"}).code, 4);
}

// What the page draws of a channel is what predict forecasts of it, as exactly as its pixels.
TEST_F(AnalysisTest, TheReportShowsTheForecastAhead) {
  series("small.csv", 400, 3);
  std::string text = read("small.csv"), more;
  std::istringstream rows(text);
  for (std::string line; std::getline(rows, line);) more += line + (more.empty() ? ",</script>,k\n" : ",1,7\n");
  train("run", {"--data", write("more.csv", more), "--refit"});
  const std::string page = read("run/report.html");
  const auto [first, last] = gallery_of(page);
  const Json gallery = Json::parse(page.substr(first, last - first));
  const Json forecast = document({"predict", path("run")})["forecast"];
  std::vector<Json> channels = Json::parse(read("run/result.json"))["per_channel"];
  std::erase_if(channels, [](const Json& c) { return !c["name"].get<std::string>().starts_with('c'); });
  std::ranges::sort(channels, std::greater(), [](const Json& c) { return c["mse"].get<double>(); });
  ASSERT_EQ(gallery["series"].size(), 3u);  // without the constant ones
  const std::string digits = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
  for (std::size_t i = 0; i < 3; ++i) {
    const Json& drawn = gallery["series"][i];
    EXPECT_EQ(drawn[0], channels[i]["name"]);  // the worst first
    const auto column = static_cast<std::size_t>(drawn[0].get<std::string>()[1] - '0');
    // Two levels of the axis give its scale.
    const Json &levels = drawn[2][0], &plot = gallery["plots"][0];
    const double y0 = levels.front()[0], y1 = levels.back()[0];
    const double v0 = std::stod(levels.front()[1].get<std::string>()),
                 v1 = std::stod(levels.back()[1].get<std::string>());
    const std::string curve = drawn[2][2];
    ASSERT_EQ(curve.size(), 2u * (1 + 6));  // from the last known value on
    for (std::size_t h = 0; h < 6; ++h) {
      const double at = 64.0 * static_cast<double>(digits.find(curve[2 * h + 2])) +
                        static_cast<double>(digits.find(curve[2 * h + 3]));
      const double y = plot["top"].get<double>() + at / 4095 * plot["height"].get<double>();
      const double value = v0 + (y - y0) / (y1 - y0) * (v1 - v0);
      EXPECT_TRUE(std::abs(value - forecast[h]["values"][column].get<double>()) <= 0.02) << value << ' ' << h;
    }
  }
  for (const char* part : {"the weights refitted on all rows", "forecast from ", "linear least squares",
                           "least squares", "2 constant ones are left out", "WAPE"}) {
    EXPECT_NE(page.find(part), std::string::npos) << part;
  }
  EXPECT_NE(page.find("forecast from " + hourly(400)), std::string::npos);
}

TEST_F(AnalysisTest, APageOfManyChannelsIsSmall) {
  const Outcome made =
      run({"data", "synth", "seasonal", "--channels", "862", "--rows", "1000", "--out", path("w.csv")});
  ASSERT_EQ(made.code, 0) << made.err;
  const Outcome trained = run({"train", "--data", path("w.csv"), "--model", "linear", "--lookback", "96", "--horizon",
                               "96", "--epochs", "1", "--out", path("run")});
  ASSERT_EQ(trained.code, 0) << trained.err;
  const std::string page = read("run/report.html");
  EXPECT_LT(page.size(), 2u << 20);
  EXPECT_NE(page.find("one step of 2 is drawn"), std::string::npos);
  const auto [first, last] = gallery_of(page);
  EXPECT_EQ(Json::parse(page.substr(first, last - first))["series"].size(), 862u);
}

TEST_F(AnalysisTest, EveryRunHasAReport) {
  train("run", {"--seeds", "1,2"});
  expect_report("run/report.html", 0);
  EXPECT_NE(read("run/report.html").find("seed-2/report.html"), std::string::npos);
  expect_report("run/seed-1/report.html", 7, true);
  const Json eval = document({"eval", path("run"), "--part", "val"});
  EXPECT_EQ(eval["runs"].size(), 2u);
  expect_report("run/seed-2/eval/report.html", 7, true);
  // A report that cannot be written is said, not fatal.
  write("run/seed-1/blocked", "");
  std::filesystem::remove_all(path("run/seed-1/eval"));
  write("run/seed-1/eval", "a file in the way");
  const Outcome blocked = run({"eval", path("run/seed-1")});
  EXPECT_EQ(blocked.code, 0);
  EXPECT_NE(blocked.err.find("no report.html"), std::string::npos) << blocked.err;
}

TEST_F(AnalysisTest, TrackedEpochs) {
  train("run", {"--track-sharpness", "2", "--tensorboard"});
  const std::vector<Json> epochs = lines(read("run/metrics.jsonl"));
  ASSERT_EQ(epochs.size(), 4u);
  for (std::size_t e = 0; e < 4; ++e) {
    EXPECT_EQ(epochs[e].contains("lambda_max"), e % 2 == 1);
    EXPECT_EQ(epochs[e].contains("attention_entropy"), e % 2 == 1);
  }
  EXPECT_GT(epochs[3]["lambda_max"], 0);
  EXPECT_LE(epochs[3]["lambda_max_residual"].get<double>(), 1e-3 * epochs[3]["lambda_max"].get<double>());
  expect_report("run/report.html", 9, true);
  // The same weights as without: tracking only looks.
  train("plain");
  EXPECT_EQ(hash_of("run/best.safetensors"), hash_of("plain/best.safetensors"));
  EXPECT_FALSE(exists("plain/events.out.tfevents.samformer"));
}

// A second reading of the format, field by field.
TEST_F(AnalysisTest, TensorBoardEvents) {
  EXPECT_EQ(tools::crc32c("123456789"), 0xe3069283u);
  train("run", {"--tensorboard", "--refit"});
  const std::string file = read("run/events.out.tfevents.samformer");
  const auto number = [&](std::size_t at, int bytes) {
    std::uint64_t value = 0;
    for (int i = bytes; i-- > 0;)
      value = value << 8 | static_cast<unsigned char>(file.at(at + static_cast<std::size_t>(i)));
    return value;
  };
  const auto masked = [](const std::string& bytes) {
    const std::uint32_t crc = tools::crc32c(bytes);
    return static_cast<std::uint32_t>((crc >> 15 | crc << 17) + 0xa282ead8u);
  };
  std::map<std::string, std::vector<float>> values;
  std::size_t records = 0;
  for (std::size_t at = 0; at < file.size(); ++records) {
    const std::uint64_t length = number(at, 8);
    ASSERT_EQ(number(at + 8, 4), masked(file.substr(at, 8)));
    const std::string event = file.substr(at + 12, length);
    ASSERT_EQ(number(at + 12 + length, 4), masked(event));
    if (records == 0) {
      EXPECT_NE(event.find("brain.Event:2"), std::string::npos);
    } else {
      const std::size_t tag = event.find('\x0a', event.find('\x2a'));  // the value's first field, in the summary
      const std::size_t inner = event.find('\x0a', tag + 1);
      const auto size = static_cast<unsigned char>(event.at(inner + 1));
      float value = 0;
      ASSERT_EQ(event.at(inner + 2 + size), '\x15');
      std::memcpy(&value, event.data() + inner + 3 + size, 4);
      values[event.substr(inner + 2, size)].push_back(value);
    }
    at += 16 + length;
  }
  const std::vector<Json> epochs = lines(read("run/metrics.jsonl"));
  ASSERT_EQ(values["train/val_mse"].size(), 4u);
  std::size_t e = 0;
  for (const Json& line : epochs) {
    if (line["phase"] != "train") continue;
    EXPECT_EQ(values["train/val_mse"][e++], line["val_mse"].get<float>());
  }
  EXPECT_EQ(values["refit/train_loss"].size(), epochs.size() - 4);
}

}  // namespace
}  // namespace samformer
