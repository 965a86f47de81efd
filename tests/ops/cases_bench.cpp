// How long each row of tests/cases.h takes on the CPU in float, forward and backward, beside the costs that its
// operations state: `cases_bench [rows that contain this]`. The shapes are small: for comparing two builds in turns,
// not for a machine's limits (samformer bench).
#include <algorithm>
#include <chrono>
#include <cstdio>

#include "tests/cases.h"

int main(int argc, char** argv) {
  using namespace samformer;
  std::printf("%-55s %10s %10s %10s\n", "row", "us", "kFLOP", "kB");
  for (const cases::Case& c : cases::table()) {
    if (argc > 1 && c.name.find(argv[1]) == c.name.npos) continue;
    std::vector<double> seconds;
    Cost cost{};
    for (int turn = 0; turn < 21; ++turn) {
      Profile profile;
      cases::run<float>(c, {}, {}, false, &profile);
      seconds.push_back(0);
      cost = {};
      for (const Profile::Entry& e : profile.entries) {
        seconds.back() += e.seconds, cost.flops += e.cost.flops, cost.bytes += e.cost.bytes;
      }
    }
    std::nth_element(seconds.begin(), seconds.begin() + 10, seconds.end());
    std::printf("%-55s %10.2f %10.2f %10.2f\n", c.name.c_str(), seconds[10] * 1e6, cost.flops * 1e-3,
                cost.bytes * 1e-3);
  }
}
