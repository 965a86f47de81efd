// One system call or allocation of a command fails, in it or in the runs that it starts: it succeeds with the bits of
// an undisturbed one, or ends with the right exit code, path and hint, nothing torn and nothing lost; and going on
// gives the bits of an undisturbed one.
//
// A sample of the calls, with a fixed seed; FAULTS=all: every system call, and one allocation of a hundred.
#include "tests/faults/fault_injection.h"

#include <gtest/gtest.h>

#include "tests/faults/faults_fixture.h"

namespace samformer {
namespace {

struct CallClass {
  const char* name;
  Words kinds;
  friend std::ostream& operator<<(std::ostream& out, const CallClass& c) { return out << c.name; }
};
const CallClass classes[] = {{"open", {"EIO", "ENOSPC", "full", "EINTR"}},
                             {"write", {"EIO", "ENOSPC", "full", "EINTR", "short"}},
                             {"fsync", {"EIO", "ENOSPC", "full", "EINTR"}},
                             {"rename", {"EIO", "ENOSPC", "full"}},
                             {"read", {"EIO", "EINTR", "short"}},
                             {"mmap", {"ENOMEM", "EIO"}},
                             {"alloc", {"ENOMEM"}}};

class Fault : public FaultsTest, public testing::WithParamInterface<std::tuple<std::string, CallClass>> {
 protected:
  Surroundings failing(const std::string& kind, std::uint64_t n) {
    write("state", std::string(sizeof(FaultState), '\0'));
    Surroundings s;
    s.environment = {{"LD_PRELOAD", SAMFORMER_FAULT_INJECTION},
                     {"FAULT_CLASS", std::get<1>(GetParam()).name},
                     {"FAULT_KIND", kind},
                     {"FAULT_AT", std::to_string(n)},
                     {"FAULT_UNDER", scratch_.path()},
                     {"FAULT_STATE", path("state")}};
    return s;
  }

  FaultState state() const {
    FaultState result;
    std::memcpy(&result, read("state").data(), sizeof result);
    return result;
  }

  bool allocations() const { return std::string(std::get<1>(GetParam()).name) == "alloc"; }

  // The calls to let fail, of `count`.
  std::vector<std::uint64_t> chosen(std::uint64_t count, std::mt19937& random) const {
    if (!all_faults()) {
      if (!allocations()) return {1 + random() % count};
      return {1, 1 + random() % count, 1 + random() % count, count - random() % (count / 4)};
    }
    const std::uint64_t step = allocations() ? 100 : 1;
    std::vector<std::uint64_t> result;
    for (std::uint64_t n = 1 + random() % step; n <= count; n += step) result.push_back(n);
    return result;
  }

  void fails_well(const Outcome& o, const std::string& kind) {
    if (kind == "EINTR" || kind == "short") {
      EXPECT_EQ(o.code, 0) << "not tried again";
      return;
    }
    EXPECT_EQ(o.code, kind == "ENOMEM" ? 4 : 7);
    if (allocations() && o.out.empty()) return;  // before it knew that JSON was asked for
    const Json document = o.json();
    ASSERT_TRUE(document.is_object() && document.contains("error")) << o.out;
    EXPECT_EQ(document["error"]["exit_code"], o.code) << o.out;
    if (allocations()) return;
    EXPECT_NE(o.err.find(scratch_.path()), std::string::npos) << "no path";
    EXPECT_NE(o.err.find("hint: "), std::string::npos) << "no hint";
  }
};

TEST_P(Fault, LosesNothing) {
  const auto& [name, calls] = GetParam();
  const Command c = command(name);
  begin(c);
  EXPECT_EQ(run(c.words).code, 0);
  const Leftovers whole = leftovers();
  std::mt19937 random(faults_seed);
  int runs = 0;
  for (const std::string& kind : calls.kinds) {
    begin(c);
    EXPECT_EQ(run(c.words, failing(kind, 0)).code, 0);
    const std::uint64_t count = state().calls;
    ASSERT_GT(count, 0u);
    for (const std::uint64_t n : chosen(count, random)) {
      begin(c);
      const Outcome o = run(c.words, failing(kind, n));
      SCOPED_TRACE(
          fmt::format("{} {} {} of {}, {}: exit code {}, {}", calls.name, kind, n, count, state().path, o.code, o.err));
      if (o.code != 0) {
        fails_well(o, kind);
        nothing_is_torn();
        const Outcome again = go_on(c);
        EXPECT_EQ(again.code, 0) << "going on: " << again.err;
      }
      same(leftovers(), whole);
      ++runs;
    }
  }
  std::printf("seed %u: %d runs\n", faults_seed, runs);
}

INSTANTIATE_TEST_SUITE_P(All, Fault,
                         testing::Combine(testing::Values("refit", "seeds", "tune", "resume", "sweep", "reproduce"),
                                          testing::ValuesIn(classes)),
                         [](const auto& test) { return std::get<0>(test.param) + "_" + std::get<1>(test.param).name; });

}  // namespace
}  // namespace samformer
