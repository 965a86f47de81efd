// Every row of tests/cases.h on a device against double: on the SIMT emulator with warps forward, in reverse and
// shuffled, the same bits each time; built with nvcc, on a GPU, twice.
#include <gtest/gtest.h>

#define SAMFORMER_CASES_ON_A_DEVICE
#include "tests/cases.h"
#ifdef SAMFORMER_ON_EMULATOR
#include "kernels/simt/simt.h"
#endif

namespace samformer::cases {
namespace {

class OnADevice : public testing::TestWithParam<Case> {};

TEST_P(OnADevice, AgainstDouble) {
  std::string none;
  if (kernels::devices(none).empty()) GTEST_SKIP() << none;
  const Case& c = GetParam();
  const DeviceStream stream(kernels::stream_create());
  const DeviceBlas blas(kernels::blas_create(stream.get(), false));
  const Cuda on{stream.get(), blas.get(), false};
  const Outcome<double> want = run<double>(c);
  const Outcome<float> first = run<float, Cuda>(c, on);
  const double error = worst_error(first, want);
  EXPECT_TRUE(error <= c.tolerance) << error;
  EXPECT_TRUE(first.guards_intact);
  for (const int again : {1, 2}) {
#ifdef SAMFORMER_ON_EMULATOR
    kernels::simt::options() = {again == 1 ? kernels::simt::Order::reverse : kernels::simt::Order::shuffled, seed};
#endif
    const Outcome<float> other = run<float, Cuda>(c, on);
    EXPECT_TRUE(numeric::same_bits(other.value, first.value)) << again;
    for (std::size_t i = 0; i < first.gradients.size(); ++i) {
      EXPECT_TRUE(numeric::same_bits(other.gradients[i], first.gradients[i])) << again << ", input " << i;
    }
  }
#ifdef SAMFORMER_ON_EMULATOR
  kernels::simt::options() = {};
#endif
}

INSTANTIATE_TEST_SUITE_P(Table, OnADevice, testing::ValuesIn(table()), [](const auto& info) {
  std::string name;
  for (const char c : info.param.name) name += std::isalnum(static_cast<unsigned char>(c)) ? c : '_';
  return name;
});

}  // namespace
}  // namespace samformer::cases
