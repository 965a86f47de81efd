// The SIMT emulator finds each kind of bug that it promises to find, and stays silent on correct kernels.
#include "kernels/simt/simt.h"

#include <gtest/gtest.h>

#include <numeric>

namespace samformer::kernels::simt {
namespace {

// A buffer of the emulated device.
struct Buffer {
  Buffer(std::size_t count, float value) : region("buffer", count * 4, false) {
    std::fill_n(region.memory.get(), count, value);
    mark_set(region.begin(), count * 4, true);
  }
  float* data() { return region.memory.get(); }
  Region region;
};

template <class... P, class... A>
std::string fault_of(void (*kernel)(P...), unsigned threads, std::size_t shared_floats, A... arguments) {
  for (const Order order : {Order::forward, Order::reverse, Order::shuffled}) {
    options() = {order, 7};
    std::string message;
    try {
      launch("kernel", kernel, {2, 1, 1}, {threads, 1, 1}, shared_floats * 4, nullptr, arguments...);
      message = "no fault";
    } catch (const Fault& error) {
      message = error.what();
    }
    options() = {};
    if (message == "no fault" || order == Order::shuffled) return message;
  }
  return "";
}
#define EXPECT_FAULT(message, part) EXPECT_NE((message).find(part), std::string::npos) << (message)

// Each thread writes one element and reads its mirror image's.
template <bool barrier>
void mirror(Out<float> out) {
  SIMT_SHARED(float, tile, 64);
  tile[threadIdx.x] = static_cast<float>(threadIdx.x);
  if constexpr (barrier) __syncthreads();
  out[blockIdx.x * blockDim.x + threadIdx.x] = tile[blockDim.x - 1 - threadIdx.x];
}

TEST(Simt, SilentOnACorrectKernel) {
  Buffer out(128, 0);
  EXPECT_EQ(fault_of(mirror<true>, 64, 0, out.data()), "no fault");
  for (int i = 0; i < 128; ++i) EXPECT_EQ(out.data()[i], 63 - i % 64);
}

TEST(Simt, MissingBarrier) {
  Buffer out(128, 0);
  EXPECT_FAULT(fault_of(mirror<false>, 64, 0, out.data()), "read of");
}

// Written twice with only one barrier: the second write races with the first read.
void second_barrier_missing(Out<float> out) {
  SIMT_SHARED(float, total, 1);
  if (threadIdx.x == 0) total[0] = 1;
  __syncthreads();
  const float first = total[0];
  if (threadIdx.x == 0) total[0] = 2;
  __syncthreads();
  out[blockIdx.x * blockDim.x + threadIdx.x] = first + total[0];
}
TEST(Simt, MissingSecondBarrier) {
  Buffer out(128, 0);
  EXPECT_FAULT(fault_of(second_barrier_missing, 64, 0, out.data()), "race: ");
}

template <bool barrier>
void lanes_of_a_warp(Out<float> out) {
  SIMT_DYNAMIC_SHARED(tile);
  tile[threadIdx.x] = 1;
  if constexpr (barrier) __syncwarp();
  out[blockIdx.x * 32 + threadIdx.x] = tile[threadIdx.x ^ 1u];
  if constexpr (barrier) __syncwarp();
  tile[threadIdx.x] = 2;
}
TEST(Simt, WarpBarrier) {
  Buffer out(64, 0);
  EXPECT_EQ(fault_of(lanes_of_a_warp<true>, 32, 32, out.data()), "no fault");
  EXPECT_FAULT(fault_of(lanes_of_a_warp<false>, 32, 32, out.data()), "r");
}

void barrier_in_a_branch(Out<float> out) {
  if (threadIdx.x < 32) __syncthreads();
  out[blockIdx.x * blockDim.x + threadIdx.x] = 1;
}
void different_barriers(Out<float> out) {
  if (threadIdx.x < 32) {
    __syncthreads();
  } else {
    __syncthreads();
  }
  out[blockIdx.x * blockDim.x + threadIdx.x] = 1;
}
void shuffle_in_a_branch(Out<float> out) {
  float value = 1;
  if (threadIdx.x % 32 < 16) value = __shfl_xor_sync(0xffffffffu, value, 1);
  out[blockIdx.x * blockDim.x + threadIdx.x] = value;
}
TEST(Simt, Divergence) {
  Buffer out(128, 0);
  EXPECT_FAULT(fault_of(barrier_in_a_branch, 64, 0, out.data()), "divergent barrier");
  EXPECT_FAULT(fault_of(different_barriers, 64, 0, out.data()), "divergent barrier");
  EXPECT_FAULT(fault_of(shuffle_in_a_branch, 64, 0, out.data()), "divergent warp operation");
}

void unset(Out<float> out) {
  SIMT_DYNAMIC_SHARED(tile);
  if (threadIdx.x != 3) tile[threadIdx.x] = 1;
  out[blockIdx.x * blockDim.x + threadIdx.x] = tile[threadIdx.x];
}
TEST(Simt, UnsetMemory) {
  Buffer out(64, 0);
  EXPECT_FAULT(fault_of(unset, 32, 32, out.data()), "unset memory");
  Region fresh("fresh", 64 * 4, false);
  EXPECT_FAULT(fault_of(
                   +[](In<float> in, Out<float> to) { to[blockIdx.x * 32 + threadIdx.x] = in[threadIdx.x]; }, 32, 0,
                   static_cast<const float*>(fresh.memory.get()), out.data()),
               "unset memory");
}

TEST(Simt, OutOfBounds) {
  Buffer out(64, 0);
  const auto write = +[](Out<float> to, int shift) { to[blockIdx.x * 32 + threadIdx.x + shift] = 1; };
  EXPECT_EQ(fault_of(write, 32, 0, out.data(), 0), "no fault");
  EXPECT_FAULT(fault_of(write, 32, 0, out.data(), 1), "out of bounds: write");
  EXPECT_FAULT(fault_of(write, 32, 0, out.data(), -1), "out of bounds: write");
  const auto shared = +[](Out<float> to) {
    SIMT_DYNAMIC_SHARED(tile);
    tile[threadIdx.x] = 0;
    to[blockIdx.x * 32 + threadIdx.x] = tile[threadIdx.x == 31 ? 32 : threadIdx.x];
  };
  EXPECT_FAULT(fault_of(shared, 32, 32, out.data()), "out of bounds: read");
  const auto misaligned = +[](Out<float> to) {
    if (threadIdx.x == 0) store4(to + (blockIdx.x * 32 + 1), make_float4(1, 2, 3, 4));
  };
  EXPECT_FAULT(fault_of(misaligned, 32, 0, out.data()), "misaligned");
  EXPECT_THROW(launch("kernel", write, {1, 1, 1}, {32, 1, 1}, 0, nullptr, nullptr, 0), Fault);
}

TEST(Simt, RaceBetweenBlocks) {
  Buffer out(64, 0);
  const auto all_write = +[](Out<float> to) { to[threadIdx.x] = 1; };
  EXPECT_FAULT(fault_of(all_write, 32, 0, out.data()), "race between blocks");
  const auto read_neighbour = +[](Out<float> to) {
    const float value = to[(1 - blockIdx.x) * 32 + threadIdx.x];
    to[blockIdx.x * 32 + threadIdx.x] = value + 1;
  };
  EXPECT_FAULT(fault_of(read_neighbour, 32, 0, out.data()), "race between blocks");
}

TEST(Simt, ShufflesBallotsAndTheTensorCore) {
  Buffer out(64 * 3, 0);
  const auto kernel = +[](Out<float> to) {
    const int lane = static_cast<int>(threadIdx.x);
    float sum = static_cast<float>(lane);
    for (int step = 16; step > 0; step /= 2) sum += __shfl_xor_sync(0xffffffffu, sum, step);
    const unsigned odd = __ballot_sync(0xffffffffu, lane % 2 == 1);
    // a = row + 1, b = column + 1 (fragments of m16n8k8): d = 8 (row + 1) (column + 1).
    const auto bits = [](int x) { return std::bit_cast<std::uint32_t>(static_cast<float>(x)); };
    const std::uint32_t a[4] = {bits(lane / 4 + 1), bits(lane / 4 + 9), bits(lane / 4 + 1), bits(lane / 4 + 9)};
    const std::uint32_t b[2] = {bits(lane / 4 + 1), bits(lane / 4 + 1)};
    float d[4] = {};
    mma_tf32(d, a, b);
    to[blockIdx.x * 96 + threadIdx.x] = sum;
    to[blockIdx.x * 96 + 32 + threadIdx.x] = odd == 0xaaaaaaaau ? 1.0f : 0.0f;
    to[blockIdx.x * 96 + 64 + threadIdx.x] = d[3] - 8.0f * static_cast<float>((lane / 4 + 9) * (lane % 4 * 2 + 2));
  };
  EXPECT_EQ(fault_of(kernel, 32, 0, out.data()), "no fault");
  for (int i = 0; i < 192; ++i) EXPECT_EQ(out.data()[i], i / 32 % 3 == 0 ? 496.0f : i / 32 % 3 == 1 ? 1.0f : 0.0f);
}

}  // namespace
}  // namespace samformer::kernels::simt
