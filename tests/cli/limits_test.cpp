// No memory and no thread to be had: exit 4 with words that help, in every command.
#include <sys/resource.h>
#include <sys/stat.h>

#include "tests/cli_fixture.h"

namespace samformer {
namespace {

class Limits : public ProgramTest {
 protected:
  void SetUp() override {
#if defined(__SANITIZE_ADDRESS__) || defined(__SANITIZE_THREAD__)
    GTEST_SKIP() << "a sanitizer needs more memory than any limit leaves";
#endif
    ASSERT_EQ(run(small("run")).code, 0);
  }
};

// From where the loader refuses (127; the libraries alone take some 70 MB of addresses) to where there is room.
TEST_F(Limits, NoMemoryIsExitFour) {
  const std::vector<Words> commands{small("again", {"--overwrite", "--threads", "2"}),
                                    {"eval", path("run")},
                                    {"predict", path("run"), "--data", path("small.csv")},
                                    {"attention", path("run"), "--out", path("attention")},
                                    {"doctor"}};
  for (const Words& command : commands) {
    int refused = 0;
    bool worked = false;
    for (std::uint64_t megabytes = 64; megabytes < 4000 && !worked; megabytes += megabytes / 12) {
      Surroundings s;
      s.in_child = [megabytes] {
        const rlimit limit{megabytes << 20, megabytes << 20};
        setrlimit(RLIMIT_AS, &limit);
      };
      const Outcome o = run(command + Words{"--json"}, s);
      if (o.code == 127) continue;
      worked = o.code == 0;
      if (worked) continue;
      ++refused;
      ASSERT_EQ(o.code, 4) << command[0] << " within " << megabytes << " MB: " << o.err;
      EXPECT_EQ(o.json()["error"]["exit_code"], 4) << o.out;
      EXPECT_NE(o.err.find("hint: "), std::string::npos) << o.err;
    }
    EXPECT_TRUE(worked) << command[0];
    EXPECT_GT(refused, 0) << command[0];
  }
}

TEST_F(Limits, NoThreadIsExitFour) {
  ASSERT_EQ(chmod(scratch_.path().c_str(), 0777), 0);
  Surroundings s;
  s.in_child = [] {
    // The limit does not hold for root.
    const rlimit limit{0, 0};
    setrlimit(RLIMIT_NPROC, &limit);
    if (getuid() == 0 && setuid(65534) != 0) _exit(126);
  };
  for (const Words& command : {small("again", {"--threads", "2"}), Words{"eval", path("run"), "--threads", "2"}}) {
    const Outcome o = run(command + Words{"--json"}, s);
    if (o.code >= 126) GTEST_SKIP() << "another user may not run the program";
    EXPECT_EQ(o.code, 4) << o.err;
    EXPECT_EQ(o.json()["error"]["exit_code"], 4) << o.out;
    EXPECT_NE(o.err.find("--threads"), std::string::npos) << o.err;
  }
}

}  // namespace
}  // namespace samformer
