// bench from outside, at tiny shapes: the document's fields, its counts against the formulas, the other formats. No
// time is judged: a time only has to be positive, and ratios have to follow from the times beside them.
#include <gtest/gtest.h>

#include <algorithm>
#include <map>
#include <set>
#include <sstream>

#include "kernels/cpu/bf16.h"
#include "tests/cli_fixture.h"

namespace samformer {
namespace {

using Bench = ProgramTest;

constexpr double kL = 512, kWidth = 16, kN = 32;

struct Expected {
  double flops, bytes;
};

Expected product(double M, double N, double K) { return {2 * M * N * K, 4 * (M * K + K * N + M * N)}; }
Expected operator*(double times, Expected e) { return {times * e.flops, times * e.bytes}; }
Expected operator+(Expected a, Expected b) { return {a.flops + b.flops, a.bytes + b.bytes}; }

double parameters(double D, double H, bool full) {
  const double d = kWidth, v = full ? kL : d;
  const auto slab = [](double n) { return std::ceil(n / 16) * 16; };
  const double output = full ? 0 : slab(kL * d) + slab(kL);
  return slab((v + 2 * d + H) * kL) + slab(v + 2 * d + H) + output + 2 * slab(D);
}

// Of a SAM step: two passes, the windows normalised once.
std::map<std::string, Expected> expected_operations(double D, double H, bool full, bool folded) {
  const double R = kN * D, scores = kN * D * D, d = kWidth, P = parameters(D, H, full);
  const double d_v = !full ? d : folded ? H : kL;
  Expected project{}, project_backward{};
  const auto add_projection = [&](double O) {
    project = project + Expected{2 * R * O * kL + 4 * R * O + O * kL, 4 * (R * kL + O * kL + 2 * R * O)};
    project_backward =
        project_backward + Expected{2 * R * O * kL + 8 * R * O + O * kL, 4 * (R * kL + 2 * O * kL + 3 * R * O)};
  };
  add_projection(2 * d + H + (full && folded ? 0 : d_v));
  if (full && folded) add_projection(H);  // the values' own product
  std::map<std::string, Expected> list = {
      {"projection", project},
      {"projection_backward", project_backward},
      {"attention", {scores * (2 * d + 2 * d_v + 4), 4 * R * (2 * d + 2 * d_v + 1)}},
      {"attention_backward", {scores * (6 * d + 4 * d_v + 5), 4 * R * (6 * d + 5 * d_v + 1)}},
      {"loss", {19 * R * H, 8 * R * H}},
      {"loss_backward", {17 * R * H, 16 * R * H}},
      {"gradient_norm", {2 * P, 4 * P}}};
  if (folded) {
    list["compose"] = product(H, (full ? kL : d) + 1, kL);
    list["compose_backward"] = 2 * list["compose"];
  }
  if (full && folded) {
    list["add"] = {R * H, 12 * R * H};
    list["add_backward"] = {};
  } else {
    list["add_linear"] = product(R, H, d_v);
    list["add_linear_backward"] = 2 * list["add_linear"];
  }
  const Expected revin{6 * R * kL, 4 * (2 * R * kL + 2 * R)};
  Expected evaluation = revin + Expected{9 * R * H, 16 * R * H};
  for (const char* name : {"compose", "projection", "attention", "add", "add_linear"}) {
    if (list.contains(name)) evaluation = evaluation + list[name];
  }
  for (auto& [name, counts] : list) counts = 2 * counts;
  list.insert({{"evaluation", evaluation},
               {"revin", revin},
               {"moments", {8 * R, 8 * R}},
               {"perturb", {2 * P, 16 * P}},
               {"update", {19 * P, 36 * P}}});
  return list;
}

// One shape's part of a document.
void check_shape(const Json& document, int D, int H, bool full, bool folded) {
  SCOPED_TRACE(fmt::format("D {}, H {}", D, H));
  const auto here = [&](const Json& row) { return row.at("D") == D && row.at("H") == H && row.at("batch") == kN; };
  double fastest = 0, copied = 0, floor = 0;
  for (const Json& row : document.at("peaks").at("products")) {
    if (!here(row)) continue;
    const double M = row.at("M"), N = row.at("N"), K = row.at("K"), seconds = row.at("median_seconds");
    EXPECT_GT(seconds, 0);
    EXPECT_EQ(row.at("flops"), 2 * M * N * K) << row;
    EXPECT_DOUBLE_EQ(row.at("gflops"), 2e-9 * M * N * K / seconds);
    fastest = std::max(fastest, 2 * M * N * K / seconds);
    floor += 2 * seconds;
  }
  for (const Json& row : document.at("peaks").at("copies")) {
    if (!here(row)) continue;
    EXPECT_EQ(row.at("bytes"), 8 * kN * D * kL);
    copied = row.at("bytes").get<double>() / row.at("median_seconds").get<double>();
  }
  ASSERT_TRUE(fastest > 0 && copied > 0);
  EXPECT_LE(fastest * 1e-9, document.at("peaks").at("gemm_gflops").get<double>() * (1 + 1e-12));
  EXPECT_LE(copied * 1e-9, document.at("peaks").at("copy_gbs").get<double>() * (1 + 1e-12));

  auto expected = expected_operations(D, H, full, folded);
  for (const Json& row : document.at("operations")) {
    if (!here(row)) continue;
    const auto found = expected.extract(row.at("op").get<std::string>());
    ASSERT_TRUE(found) << "unknown or twice: " << row;
    const Expected counts = found.mapped();
    EXPECT_EQ(row.at("flops"), counts.flops) << row;
    EXPECT_EQ(row.at("bytes"), counts.bytes) << row;
    const double seconds = row.at("median_seconds");
    EXPECT_GT(seconds, 0);
    const double share = std::max(counts.flops / fastest, counts.bytes / copied) / seconds;
    EXPECT_NEAR(row.at("share_of_peak"), share, 1e-9 * share) << row;
  }
  for (const auto& [name, counts] : expected) ADD_FAILURE() << "not measured: " << name;

  const double R = kN * D, d_v = !full ? kWidth : folded ? H : kL;
  floor += 12 * R * D * (kWidth + d_v) / fastest +
           (4 * (2 * R * kL + 2 * R) + 24 * R * H + 56 * parameters(D, H, full)) / copied;
  int steps = 0;
  for (const Json& row : document.at("steps")) {
    if (!here(row)) continue;
    ++steps;
    EXPECT_EQ(row.at("value"), full ? "full" : "low-rank");
    EXPECT_NEAR(row.at("floor_seconds"), floor, 1e-9 * floor);
    const double efficiency = row.at("floor_seconds").get<double>() / row.at("seconds").get<double>();
    EXPECT_NEAR(row.at("efficiency"), efficiency, 1e-9 * efficiency);
    const double over = row.at("seconds").get<double>() / row.at("library_seconds").get<double>();
    EXPECT_NEAR(row.at("over_library"), over, 1e-9 * over);
    EXPECT_GT(row.at("products_speedup"), 0);
    EXPECT_GT(row.at("core_to_core_seconds"), 0);
  }
  EXPECT_EQ(steps, 1);
  std::vector<int> threads;
  for (const Json& row : document.at("scaling")) {
    if (here(row)) threads.push_back(row.at("threads"));
  }
  EXPECT_EQ(threads, (std::vector<int>{1, 2, 3}));
  std::vector<std::string> precisions;
  double float32 = 0;
  for (const Json& row : document.at("precisions")) {
    if (!here(row)) continue;
    precisions.push_back(row.at("precision"));
    const double seconds = row.at("seconds");
    if (precisions.size() == 1) float32 = seconds;
    EXPECT_EQ(row.at("threads"), 3);
    EXPECT_NEAR(row.at("speedup"), float32 / seconds, 1e-9 * float32 / seconds);
  }
  EXPECT_EQ(precisions, kernels::bf16_available() ? (Words{"float32", "bf16"}) : Words{"float32"});
  int read = 0;
  for (const Json& row : document.at("csv")) {
    if (!here(row)) continue;
    ++read;
    // A header and L + H + 255 rows, each a date and D values.
    EXPECT_GT(row.at("bytes"), (kL + H + 255) * (19 + 4 * D));
    const double rate = 1e-6 * row.at("bytes").get<double>() / row.at("median_seconds").get<double>();
    EXPECT_NEAR(row.at("mbs"), rate, 1e-9 * rate);
  }
  EXPECT_EQ(read, 1);
}

TEST_F(Bench, CountsAreTheFormulas) {
  const Outcome low_rank = run({"bench", "--shapes", "2x4,3x17", "--threads", "3", "--format", "json"});
  ASSERT_EQ(low_rank.code, 0) << low_rank.err;
  const Json document = low_rank.json();
  ASSERT_TRUE(document.is_object()) << low_rank.out;
  EXPECT_EQ(document.at("schema_version"), 1);
  EXPECT_EQ(document.at("command"), "bench");
  EXPECT_EQ(document.at("threads"), 3);
  EXPECT_EQ(document.at("lookback"), kL);
  check_shape(document, 2, 4, false, true);
  check_shape(document, 3, 17, false, true);
}

// Long horizons change the order of the products.
TEST_F(Bench, FullValuesInBothOrders) {
  const Outcome full = run({"bench", "--shapes", "2x4,1x90", "--threads", "3", "--value", "full", "--json"});
  ASSERT_EQ(full.code, 0) << full.err;
  check_shape(full.json(), 2, 4, true, true);
  check_shape(full.json(), 1, 90, true, false);
}

// The floor of another model's step lies between what either peak alone and both in turn would allow; SAM's second pass
// costs what the first does.
TEST_F(Bench, OtherModels) {
  std::map<std::string, double> products;
  for (const std::string rho : {"0", "0.5"}) {
    const Words tiny = {"--model", "informer", "--d-model", "8", "--d-ff", "8", "--heads", "2", "--lookback", "24"};
    Words words = {"bench", "--shapes",  "2x4", "--label", "8", "--batch",
                   "4",     "--threads", "3",   "--rho",   rho, "--json"};
    words.insert(words.end(), tiny.begin(), tiny.end());
    const Outcome outcome = run(words);
    ASSERT_EQ(outcome.code, 0) << outcome.err;
    const Json document = outcome.json();
    EXPECT_EQ(document.at("model"), "informer");
    EXPECT_FALSE(document.contains("value"));
    const double flops_peak = document.at("peaks").at("gemm_gflops").get<double>() * 1e9;
    const double bytes_peak = document.at("peaks").at("copy_gbs").get<double>() * 1e9;
    double flops = 0, bytes = 0;
    for (const Json& row : document.at("operations")) {
      if (row.at("op") == "linear") products[rho] = row.at("flops");
      if (row.at("op") == "evaluation") continue;
      flops += row.at("flops").get<double>(), bytes += row.at("bytes").get<double>();
    }
    EXPECT_TRUE(flops > 0 && bytes > 0);
    const Json& step = document.at("steps").at(0);
    const double floor = step.at("floor_seconds");
    EXPECT_GE(floor * (1 + 1e-9), std::max(flops / flops_peak, bytes / bytes_peak));
    EXPECT_LE(floor, (flops / flops_peak + bytes / bytes_peak) * (1 + 1e-9));
    EXPECT_FALSE(step.contains("library_seconds"));
    EXPECT_EQ(document.at("precisions").size(), 1u);
  }
  EXPECT_GT(products["0"], 0);
  EXPECT_EQ(products["0.5"], 2 * products["0"]);
}

TEST_F(Bench, TextMarkdownAndCsvSayTheSame) {
  const Outcome text = run({"bench", "--shapes", "1x2", "--threads", "1"});
  EXPECT_EQ(text.code, 0) << text.err;
  const Outcome markdown = run({"bench", "--shapes", "1x2", "--threads", "1", "--format", "md", "--quiet"});
  EXPECT_EQ(markdown.code, 0);
  EXPECT_EQ(markdown.err, "");
  for (const char* word : {"samformer ", "GFLOP/s", "gradient_norm", "efficiency", "speed-up"}) {
    EXPECT_NE(text.out.find(word), std::string::npos) << text.out;
    EXPECT_NE(markdown.out.find(word), std::string::npos) << markdown.out;
  }
  EXPECT_NE(markdown.out.find("\n| operation | D | H |"), std::string::npos) << markdown.out;
  EXPECT_NE(markdown.out.find("\n|---|---:|---:|"), std::string::npos);

  const Outcome csv = run({"bench", "--shapes", "1x2", "--threads", "1", "--format", "csv"});
  EXPECT_EQ(csv.code, 0);
  std::istringstream lines(csv.out);
  std::string line;
  std::getline(lines, line);
  EXPECT_TRUE(line.starts_with("kind,name,D,H,batch,")) << line;
  const auto commas = std::count(line.begin(), line.end(), ',');
  std::set<std::string> kinds;
  while (std::getline(lines, line)) {
    EXPECT_EQ(std::count(line.begin(), line.end(), ','), commas) << line;
    kinds.insert(line.substr(0, line.find(',')));
  }
  EXPECT_EQ(kinds, (std::set<std::string>{"product", "copy", "operation", "step", "scaling", "precision", "csv"}));
}

TEST_F(Bench, RefusesWhatIsNoShape) {
  for (const char* shape :
       {"7", "7x", "x96", "0x96", "7x0", "7x96x2", "-7x96", "7x96 ", "1e3x4", "100001x1", "99999999999999999999x1"}) {
    const Outcome outcome = run({"bench", fmt::format("--shapes={}", shape)});
    EXPECT_EQ(outcome.code, 2) << shape << outcome.out;
    EXPECT_NE(outcome.err.find("--shapes"), std::string::npos) << outcome.err;
  }
  EXPECT_EQ(run({"bench", "--format", "xml"}).code, 2);
  EXPECT_EQ(run({"bench", "--value", "half"}).code, 2);
}

}  // namespace
}  // namespace samformer
