// Every row of tests/cases.h on the CPU: the adjoint identity <u, J v> = <J'u, v> in double (dual numbers give J v),
// float against double, nothing written outside the gradients, and the costs that operations state of themselves.
#include <gtest/gtest.h>

#include "tests/cases.h"

namespace samformer::cases {
namespace {

class Operations : public testing::TestWithParam<Case> {};

// <u, J v> and <J'u, v>, and the sum of the latter's magnitudes.
struct Adjoint {
  double forward = 0, backward = 0, scale = 0;
};
Adjoint adjoint(const Case& c, double planted = 1) {
  const Outcome<double> reverse = run<double>(c);
  std::vector<std::vector<Dual<double>>> moving;
  Adjoint a;
  for (std::size_t i = 0; i < c.inputs.size(); ++i) {
    const std::vector<double> x = numbers(c.inputs[i], i);
    const std::vector<double> v = direction(c.inputs[i].shape.count(), static_cast<std::uint32_t>(1 + i));
    moving.emplace_back();
    for (std::size_t k = 0; k < x.size(); ++k) {
      const bool moves = c.inputs[i].differentiated;
      moving.back().push_back({x[k], moves ? v[k] : 0});
      const double part = moves ? planted * reverse.gradients[i][k] * v[k] : 0;
      a.backward += part, a.scale += std::abs(part);
    }
  }
  const Outcome<Dual<double>> forward = run<Dual<double>>(c, {}, moving, true);
  const std::vector<double> u =
      c.loss_rows > 0 ? std::vector<double>{1} : direction(static_cast<std::int64_t>(forward.value.size()), 0);
  for (std::size_t k = 0; k < u.size(); ++k) a.forward += u[k] * forward.value[k].d;
  return a;
}

TEST_P(Operations, AdjointIdentity) {
  const Adjoint a = adjoint(GetParam());
  EXPECT_TRUE(std::abs(a.forward - a.backward) <= 1e-12 * a.scale) << a.forward << " " << a.backward;
}

TEST_P(Operations, APlantedErrorShows) {
  const Adjoint a = adjoint(GetParam(), 1.001);
  EXPECT_FALSE(std::abs(a.forward - a.backward) <= 1e-12 * a.scale);
}

TEST_P(Operations, FloatAgainstDouble) {
  const Case& c = GetParam();
  const Outcome<float> got = run<float>(c);
  const double error = worst_error(got, run<double>(c));
  EXPECT_TRUE(error <= c.tolerance) << error;
  EXPECT_TRUE(got.guards_intact);
}

// Forward and backward of each named operation state what they cost.
TEST_P(Operations, Costs) {
  Profile profile;
  const Outcome<float> out = run<float>(GetParam(), {}, {}, false, &profile);
  double bytes = 0;
  int backward = 0;
  for (const Profile::Entry& e : profile.entries) {
    EXPECT_TRUE(e.cost.flops >= 0 && e.cost.bytes >= 0 && std::isfinite(e.cost.flops + e.cost.bytes)) << e.name;
    backward += e.name.ends_with("_backward");
    bytes += e.cost.bytes;
  }
  EXPECT_GT(backward, 0);
  EXPECT_GE(bytes, 4 * static_cast<double>(out.value.size()));
}

INSTANTIATE_TEST_SUITE_P(Table, Operations, testing::ValuesIn(table()), [](const auto& info) {
  std::string name;
  for (const char c : info.param.name) name += std::isalnum(static_cast<unsigned char>(c)) ? c : '_';
  return name;
});

}  // namespace
}  // namespace samformer::cases
