// `samformer profile`: every operation of the steps, its calls, operations and bytes; the trace.
#include <map>

#include "tests/cli_fixture.h"

namespace samformer {
namespace {

class Profiling : public ProgramTest {
 protected:
  // small() without its folder.
  Words words(const Words& more = {}) {
    Words w = small("unused");
    w[0] = "profile";
    w.resize(w.size() - 2);
    return w + Words{"--device", "cpu", "--steps", "3"} + more;
  }
};

const Json& row(const Json& document, const std::string& name) {
  static const Json none;
  for (const Json& r : document.at("operations")) {
    if (r.at("op") == name) return r;
  }
  ADD_FAILURE() << "no " << name << " in " << document.at("operations");
  return none;
}

TEST_F(Profiling, CountsEveryOperation) {
  const Json d = document(words());
  // 32 windows of 3 channels, L 24, H 6, d_m 16; two passes a step.
  const double R = 96, L = 24, O = 3 * 16 + 6, steps = 3;
  EXPECT_EQ(row(d, "projection").at("calls"), 2 * steps);
  EXPECT_EQ(row(d, "projection").at("flops"), 2 * steps * (2 * R * O * L + 4 * R * O + O * L));
  EXPECT_EQ(row(d, "projection").at("bytes"), 2 * steps * 4 * (R * L + O * L + 2 * R * O));
  EXPECT_EQ(row(d, "projection_backward").at("calls"), 2 * steps);
  EXPECT_EQ(row(d, "revin").at("calls"), steps);
  EXPECT_EQ(row(d, "loss_backward").at("calls"), 2 * steps);
  EXPECT_EQ(row(d, "perturb").at("calls"), steps);
  EXPECT_EQ(row(d, "update").at("calls"), steps);
  EXPECT_EQ(d.at("device"), "cpu");
  double sum = 0;
  for (const Json& r : d.at("operations")) {
    EXPECT_GT(r.at("seconds"), 0) << r;
    EXPECT_GT(r.at("share_of_peak"), 0) << r;
    sum += r.at("seconds").get<double>();
  }
  EXPECT_GT(d.at("seconds_per_step"), 0);
  EXPECT_NEAR(d.at("seconds_per_step_of_operations").get<double>(), sum / steps, 1e-12);
}

TEST_F(Profiling, WithoutSamOnePass) {
  const Json d = document(words({"--rho", "0"}));
  EXPECT_EQ(row(d, "projection").at("calls"), 3);
  for (const Json& r : d.at("operations")) EXPECT_NE(r.at("op"), "perturb");
}

TEST_F(Profiling, CountsTheRelativesOperations) {
  const Json d = document(words({"--model", "tsmixer", "--blocks", "2"}));
  const std::map<std::string, int> passes{{"batch_norm", 4}, {"linear", 7}, {"bias_activation", 6}, {"transpose", 4}};
  for (const auto& [name, calls] : passes) {
    EXPECT_EQ(row(d, name).at("calls"), 3 * calls) << name;  // three steps
    EXPECT_EQ(row(d, name + "_backward").at("calls"), 3 * calls) << name;
  }
}

TEST_F(Profiling, Trace) {
  const Json d = document(words({"--trace", path("trace.json"), "--value", "full"}));
  double calls = 0;
  for (const Json& r : d.at("operations")) calls += r.at("calls").get<double>();
  const Json trace = Json::parse(read("trace.json"));
  double events = 0, last = 0;
  for (const Json& e : trace.at("traceEvents")) {
    if (e.at("ph") != "X") continue;
    ++events;
    EXPECT_GE(e.at("ts").get<double>() + 1e-3, last) << e;  // one after another
    last = e.at("ts").get<double>() + e.at("dur").get<double>();
  }
  EXPECT_EQ(events, calls);
}

TEST_F(Profiling, TableAndRefusals) {
  const Outcome o = run(words());
  EXPECT_EQ(o.code, 0) << o.err;
  for (const char* part : {"operation", "attention_backward", "% of roofline", "a step takes"}) {
    EXPECT_NE(o.out.find(part), std::string::npos) << o.out;
  }
  fails(2, words({"--seeds", "1..2"}), {"--seeds"});
  fails(2, words({"--steps", "0"}), {"--steps"});
}

}  // namespace
}  // namespace samformer
