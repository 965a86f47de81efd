// SIGKILL at random moments, with a fixed seed: no child outlives its command, nothing is torn, and going on gives the
// bits and the ledger of an undisturbed run. A few moments; FAULTS=all: 200 over the commands and 50 early ones.
#include <algorithm>
#include <chrono>

#include "tests/faults/faults_fixture.h"

namespace samformer {
namespace {

using Seconds = std::chrono::duration<double>;

class Kill : public FaultsTest {
 protected:
  // Processes with this test's folder among their arguments.
  int processes() const {
    int count = 0;
    for (const auto& entry : fs::directory_iterator("/proc")) {
      std::ifstream arguments(entry.path() / "cmdline");
      const std::string text(std::istreambuf_iterator<char>(arguments), {});
      count += text.find(scratch_.path()) != std::string::npos;
    }
    return count;
  }

  void kill_after(const Command& c, Seconds delay) {
    begin(c);
    const pid_t child = start(c.words);
    std::this_thread::sleep_for(delay);
    kill(child, SIGKILL);
    finish(child);
  }

  void goes_on(const Command& c, const Leftovers& whole) {
    const Outcome again = go_on(c);
    EXPECT_EQ(again.code, 0) << again.err;
    EXPECT_FALSE(again.json().contains("error")) << again.out;
    same(leftovers(), whole);
  }
};

class KillEach : public Kill, public testing::WithParamInterface<std::string> {};

TEST_P(KillEach, AtRandomMoments) {
  const Command c = command(GetParam());
  begin(c);
  const auto started = std::chrono::steady_clock::now();
  EXPECT_EQ(run(c.words).code, 0);
  const Seconds duration = std::chrono::steady_clock::now() - started;
  const Leftovers whole = leftovers();
  std::mt19937 random(faults_seed);
  const int moments = all_faults() ? 34 : 4;
  for (int moment = 0; moment < moments; ++moment) {
    const Seconds delay = duration * (static_cast<double>(random()) / static_cast<double>(random.max()));
    SCOPED_TRACE(
        fmt::format("seed {}, moment {}: {:.4f} s of {:.4f} s", faults_seed, moment, delay.count(), duration.count()));
    kill_after(c, delay);
    int alive = processes();
    for (int i = 0; i < 1000 && alive > 0; ++i) {  // a killed process takes a moment to end
      std::this_thread::sleep_for(std::chrono::milliseconds(10));
      alive = processes();
    }
    EXPECT_EQ(alive, 0) << "a child has outlived the command";
    nothing_is_torn();
    goes_on(c, whole);
  }
  std::printf("seed %u: %d moments\n", faults_seed, moments);
}

INSTANTIATE_TEST_SUITE_P(All, KillEach, testing::Values("train", "refit", "seeds", "tune", "sweep", "reproduce"),
                         [](const auto& test) { return test.param; });

// Before the first trial has said that it is there; the same command at once.
TEST_F(Kill, EarlyInASweep) {
  const Command c = command("sweep");
  EXPECT_EQ(run(c.words).code, 0);
  const Leftovers whole = leftovers();
  std::mt19937 random(faults_seed);
  const int moments = all_faults() ? 50 : 5;
  for (int moment = 0; moment < moments; ++moment) {
    const Seconds delay(0.05 * static_cast<double>(random()) / static_cast<double>(random.max()));
    SCOPED_TRACE(fmt::format("seed {}, moment {}: {:.4f} s", faults_seed, moment, delay.count()));
    kill_after(c, delay);
    goes_on(c, whole);
  }
  std::printf("seed %u: %d moments\n", faults_seed, moments);
}

}  // namespace
}  // namespace samformer
