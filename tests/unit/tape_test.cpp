// The tape itself: accumulation, aliases, in-place results, memory, errors.
#include "core/tape.h"

#include <gtest/gtest.h>

#include <functional>
#include <string>

#include "core/dual.h"
#include "core/ops/ops.h"
#include "tests/numeric.h"

namespace samformer {
namespace {

constexpr std::uint64_t seed = 11;

// A tensor of normals in the arena.
Tensor<double> random_tensor(Arena& arena, Shape shape, std::uint32_t sub) {
  const Tensor<double> out = arena.tensor<double>(shape);
  const std::vector<double> values = numeric::normals(shape.count(), seed, sub);
  std::copy(values.begin(), values.end(), out.data);
  return out;
}
std::vector<double> copy_of(Tensor<double> t) {
  std::vector<double> out;
  for (std::int64_t r = 0; r < t.rows(); ++r) out.insert(out.end(), t.row(r), t.row(r) + t.cols());
  return out;
}
std::string message_of(const std::function<void()>& action) {
  try {
    action();
  } catch (const Error& error) {
    EXPECT_EQ(error.code, Exit::internal);
    return error.what();
  }
  return "nothing was thrown";
}

TEST(Tape, ReadmeExample) {
  Arena arena;
  Tape<float> tape(arena);
  std::vector<float> x{-1, -0.5, 0, 0.5, 1}, y{1, 0.25, 0, 0.25, 1};       // y = x^2
  std::vector<float> w1{1, -1, 0.5, -0.5}, b1(4), w2{0.5, 0.5, 0.5, 0.5};  // 1 -> 4 -> 1
  float loss = 0;
  for (int step = 0; step < 500; ++step) {
    const Arena::Mark start = arena.mark();
    const Var<float> in = tape.constant({x.data(), {5, 1}}), truth = tape.constant({y.data(), {5, 1}});
    const Var<float> a = tape.leaf({w1.data(), {4, 1}}), b = tape.leaf({b1.data(), {4}}),
                     c = tape.leaf({w2.data(), {1, 4}});
    const Var<float> error = mse(linear(tanh(linear(in, a, b)), c), truth);
    tape.backward(error);
    for (const Var<float> w : {a, b, c}) {
      for (std::int64_t i = 0; i < w.value().count(); ++i) w.value().data[i] -= 0.3f * w.gradient().data[i];
    }
    loss = error.value().data[0];
    tape.clear();
    arena.rewind(start);
  }
  EXPECT_TRUE(loss <= 0.02f) << loss;
}

TEST(Tape, SharedNodesAccumulate) {
  Arena arena;
  Tape<double> tape(arena);
  const Var<double> a = tape.leaf(random_tensor(arena, {2, 3}, 0));
  const Var<double> b = a + a;
  const Var<double> c = b + b;
  const Tensor<double> weight = random_tensor(arena, {2, 3}, 1);
  tape.backward(c, weight);
  for (int i = 0; i < 6; ++i) {
    EXPECT_EQ(b.gradient().data[i], 2 * weight.data[i]);
    EXPECT_EQ(a.gradient().data[i], 4 * weight.data[i]);
  }
  const Var<double> square = a * a;
  tape.backward(square, weight);
  for (int i = 0; i < 6; ++i) EXPECT_EQ(a.gradient().data[i], 2 * weight.data[i] * a.value().data[i]);
}

TEST(Tape, UnusedInputsHaveZeroGradients) {
  Arena arena;
  Tape<double> tape(arena);
  const Var<double> a = tape.leaf(random_tensor(arena, {4}, 0)), unused = tape.leaf(random_tensor(arena, {4}, 1));
  const Var<double> dead_end = unused * a;
  tape.backward(mse(a, tape.constant(random_tensor(arena, {4}, 2))));
  for (int i = 0; i < 4; ++i) {
    EXPECT_EQ(unused.gradient().data[i], 0);
    EXPECT_EQ(dead_end.gradient().data[i], 0);
    EXPECT_NE(a.gradient().data[i], 0);
  }
}

TEST(Tape, ASecondBackwardGivesTheSameBits) {
  Arena arena;
  Tape<double> tape(arena);
  const Var<double> x = tape.constant(random_tensor(arena, {6, 5}, 0));
  const Var<double> w = tape.leaf(random_tensor(arena, {4, 5}, 1)), b = tape.leaf(random_tensor(arena, {4}, 2));
  const Var<double> hidden = relu(linear(x, w, b));
  const Var<double> loss = mse(hidden * tanh(hidden), tape.constant(random_tensor(arena, {6, 4}, 3)));
  tape.backward(loss);
  const std::vector<double> first_w = copy_of(w.gradient()), first_b = copy_of(b.gradient());
  tape.backward(loss);
  EXPECT_TRUE(numeric::same_bits(first_w, copy_of(w.gradient())));
  EXPECT_TRUE(numeric::same_bits(first_b, copy_of(b.gradient())));
  EXPECT_GT(numeric::largest(first_b), 0);
}

TEST(Tape, OneHundredThousandNodesInAChain) {
  Arena arena;
  Tape<double> tape(arena);
  double one = 1, step = 1e-5;
  const Var<double> start = tape.leaf({&one, Shape{}}), increment = tape.leaf({&step, Shape{}});
  Var<double> at = start;
  for (int i = 0; i < 100'000; ++i) at = at + increment;
  tape.backward(at);
  EXPECT_NEAR(at.value().data[0], 2, 1e-9);
  EXPECT_EQ(start.gradient().data[0], 1);
  EXPECT_EQ(increment.gradient().data[0], 100'000);
}

TEST(Tape, AliasesShareMemoryAndGradient) {
  Arena arena;
  Tape<double> tape(arena);
  const Var<double> a = tape.leaf(random_tensor(arena, {4, 6}, 0));
  const Var<double> part = rows(columns(a, 1, 3), 2, 2);  // rows 2..3, columns 1..3
  EXPECT_EQ(part.value().data, a.value().data + 2 * 6 + 1);
  const Tensor<double> weight = random_tensor(arena, {2, 3}, 1);
  tape.backward(part + part, weight);
  EXPECT_EQ(part.gradient().data, a.gradient().data + 2 * 6 + 1);
  for (int r = 0; r < 4; ++r) {
    for (int c = 0; c < 6; ++c) {
      const bool inside = r >= 2 && c >= 1 && c < 4;
      EXPECT_EQ(a.gradient()(r, c), inside ? 2 * weight(r - 2, c - 1) : 0) << r << ' ' << c;
    }
  }
}

TEST(Tape, OverlappingAliasesAccumulate) {
  Arena arena;
  Tape<double> tape(arena);
  const Var<double> a = tape.leaf(random_tensor(arena, {2, 4}, 0));
  const Tensor<double> weight = random_tensor(arena, {2, 3}, 1);
  tape.backward(columns(a, 0, 3) + columns(a, 1, 3), weight);
  for (int r = 0; r < 2; ++r) {
    EXPECT_EQ(a.gradient()(r, 0), weight(r, 0));
    EXPECT_EQ(a.gradient()(r, 1), weight(r, 1) + weight(r, 0));
    EXPECT_EQ(a.gradient()(r, 3), weight(r, 2));
  }
}

TEST(Tape, GradientsOfSlabLeavesLieInTheSlab) {
  Arena arena;
  Tape<double> tape(arena);
  std::vector<double> weights = numeric::normals(8, seed), gradients(8, 7.0);
  const Var<double> a = tape.leaf({weights.data(), {4}}, {gradients.data(), {4}});
  const Var<double> b = tape.leaf({weights.data() + 4, {4}}, {gradients.data() + 4, {4}});
  tape.backward(mse(a, b));
  for (int i = 0; i < 4; ++i) {
    EXPECT_EQ(gradients[i], 0.5 * (weights[i] - weights[4 + i]));
    EXPECT_EQ(gradients[4 + i], -gradients[i]);
  }
}

TEST(Tape, InPlaceResultsPassTheGradientThrough) {
  Arena arena;
  Tape<double> tape(arena);
  const Var<double> x = tape.leaf(random_tensor(arena, {3, 2}, 0)), y = tape.leaf(random_tensor(arena, {3, 2}, 1));
  const Var<double> bias = tape.leaf(random_tensor(arena, {2}, 2));
  const std::vector<double> expected = copy_of((x * y + y).value());
  const Var<double> product = x * y;
  const Var<double> sum = add_bias(add_in_place(product, y), bias);
  EXPECT_EQ(sum.value().data, product.value().data);
  for (int r = 0; r < 3; ++r) {
    for (int c = 0; c < 2; ++c) EXPECT_EQ(sum.value()(r, c), expected[r * 2 + c] + bias.value().data[c]);
  }
  const Tensor<double> weight = random_tensor(arena, {3, 2}, 3);
  tape.backward(sum, weight);
  for (int r = 0; r < 3; ++r) {
    for (int c = 0; c < 2; ++c) {
      EXPECT_EQ(x.gradient()(r, c), weight(r, c) * y.value()(r, c));
      EXPECT_NEAR(y.gradient()(r, c), weight(r, c) * x.value()(r, c) + weight(r, c), 1e-15);
    }
  }
  for (int c = 0; c < 2; ++c) EXPECT_EQ(bias.gradient().data[c], weight(0, c) + weight(1, c) + weight(2, c));
}

TEST(Tape, ConstantsGetNoGradient) {
  Arena arena;
  Tape<double> tape(arena);
  const Var<double> a = tape.leaf(random_tensor(arena, {2, 2}, 0)),
                    fixed = tape.constant(random_tensor(arena, {2, 2}, 1));
  const Var<double> of_constants = fixed * fixed;
  EXPECT_FALSE(of_constants.needs_gradient());
  EXPECT_TRUE((a * fixed).needs_gradient());
  EXPECT_FALSE(columns(fixed, 0, 1).needs_gradient());
  tape.backward(mse(a * of_constants, fixed));
  EXPECT_NE(message_of([&] { fixed.gradient(); }).find("constant"), std::string::npos);
}

TEST(Tape, NothingIsAllocatedAfterTheFirstStep) {
  Arena arena;
  Tape<double> tape(arena);
  const Tensor<double> weight = random_tensor(arena, {40, 30}, 0), truth = random_tensor(arena, {200, 40}, 1);
  const Tensor<double> input = random_tensor(arena, {200, 30}, 2);
  const Arena::Mark start = arena.mark();
  std::size_t capacity = 0;
  for (int step = 0; step < 4; ++step) {
    const Var<double> w = tape.leaf(weight);
    tape.backward(mse(tanh(linear(tape.constant(input), w)), tape.constant(truth)));
    if (step == 0) capacity = arena.capacity();
    EXPECT_EQ(arena.capacity(), capacity) << "step " << step;
    tape.clear();
    arena.rewind(start);
  }
  EXPECT_GT(capacity, std::size_t{1} << 18);  // more than one chunk: the rewind crosses them
}

TEST(Arena, AddressesAreAlignedAndStayApart) {
  Arena arena;
  std::vector<std::pair<char*, std::int64_t>> blocks;
  for (const std::int64_t n : {1, 63, 64, 65, 1 << 20, 3}) {
    blocks.emplace_back(arena.allocate<char>(n), n);
    EXPECT_EQ(reinterpret_cast<std::uintptr_t>(blocks.back().first) % 64, 0u);
    std::fill_n(blocks.back().first, n, static_cast<char>(blocks.size()));
  }
  for (std::size_t i = 0; i < blocks.size(); ++i) {
    const auto [at, n] = blocks[i];
    EXPECT_TRUE(std::all_of(at, at + n, [i](char c) { return c == static_cast<char>(i + 1); })) << "block " << i;
  }
}

TEST(Tape, ErrorsNameTheOperationAndTheShapes) {
  Arena arena;
  Tape<double> tape(arena);
  const auto leaf = [&](Shape shape) { return tape.leaf(random_tensor(arena, shape, 0)); };
  const Var<double> a = leaf({2, 3}), b = leaf({3, 4}), c = leaf({5});
  const AffineVars<double> affine{leaf({2}), leaf({2}), 0};
  const Tensor<double> stats = random_tensor(arena, {3}, 1);
  const std::vector<std::pair<std::function<void()>, std::vector<std::string>>> cases{
      {[&] { a + b; }, {"add", "[2, 3]", "[3, 4]"}},
      {[&] { a - b; }, {"subtract", "[2, 3]", "[3, 4]"}},
      {[&] { a* b; }, {"multiply", "[2, 3]", "[3, 4]"}},
      {[&] { matmul(b, a); }, {"matmul", "[3, 4]", "[2, 3]"}},
      {[&] { linear(a, b); }, {"linear", "[2, 3]", "[3, 4]"}},
      {[&] { add_bias(a, c); }, {"add_bias", "3", "[5]"}},
      {[&] { mse(a, b); }, {"mse", "[2, 3]", "[3, 4]"}},
      {[&] { mae(a, b); }, {"mae", "[2, 3]", "[3, 4]"}},
      {[&] { mse(leaf({0}), leaf({0})); }, {"mse", "[0]"}},
      {[&] { columns(a, 2, 2); }, {"columns", "2..4", "[2, 3]"}},
      {[&] { rows(a, -1, 1); }, {"rows", "-1..0", "[2, 3]"}},
      {[&] { revin(a, kernels::Center::mean); }, {"revin", "[2, 3]"}},
      {[&] {
         project(Normalised<double>{tape.constant(b.value()), {}, {}}, a, c, affine);
       },
       {"project", "[3, 4]", "[2, 3]", "[5]"}},
      {[&] { channel_attention(a, a, b, 2); }, {"channel_attention", "[2, 3]", "[3, 4]", "D = 2"}},
      {[&] { channel_attention(b, b, b, 2); }, {"channel_attention", "[3, 4]", "D = 2"}},
      {[&] { add_linear(a, b, b); }, {"add_linear", "[2, 3]", "[3, 4]"}},
      {[&] { add_in_place(a, b); }, {"add_in_place", "[2, 3]", "[3, 4]"}},
      {[&] { add_at(c, b, 0); }, {"add_at", "0..12", "[5]"}},
      {[&] { revin_inverse(a, affine, stats, stats); }, {"revin_inverse", "[2, 3]", "[3]"}},
      {[&] {
         forecast_loss(a, affine, stats, stats, {{nullptr, 0, nullptr, 1, 2}, nullptr, 0}, 0);
       },
       {"forecast_loss", "N = 1", "D = 2", "[3]"}},
      {[&] { tape.backward(a); }, {"backward", "scalar", "[2, 3]"}},
      {[&] { tape.backward(a, b.value()); }, {"backward", "[2, 3]", "[3, 4]"}},
      {[&] { tape.backward(tape.constant(stats), stats); }, {"backward", "gradient"}},
      {[&] { tape.leaf(a.value(), b.value()); }, {"leaf", "[2, 3]", "[3, 4]"}},
      {[&] { tape.leaf(a.value().columns(0, 2)); }, {"leaf", "contiguous"}},
      {[&] {
         Shape{1, 2, 3, 4, 5};
       },
       {"4 dimensions", "5"}},
      {[&] {
         Shape{1, -2};
       },
       {"dimension 1", "-2"}},
  };
  for (std::size_t i = 0; i < cases.size(); ++i) {
    const std::string message = message_of(cases[i].first);
    for (const std::string& part : cases[i].second) {
      EXPECT_NE(message.find(part), std::string::npos) << "case " << i << ": '" << part << "' not in: " << message;
    }
  }
}

TEST(Tape, ValuesOfAnotherTapeAreRefused) {
  Arena arena;
  Tape<double> tape(arena), other(arena);
  const Var<double> a = tape.leaf(random_tensor(arena, {2}, 0)), b = other.leaf(random_tensor(arena, {2}, 1));
  EXPECT_NE(message_of([&] { a + b; }).find("another tape"), std::string::npos);
  tape.clear();
  EXPECT_NE(message_of([&] { a.value(); }).find("clear"), std::string::npos);
}

// The tangent of the gradient: d/dt of d(w^3)/dw at w = 2 along 1 is 6 w = 12.
TEST(Tape, DualNumbersDifferentiateTheGradient) {
  Arena arena;
  Tape<Dual<double>> tape(arena);
  Dual<double> w(2.0, 1.0);
  const Var<Dual<double>> x = tape.leaf({&w, Shape{}});
  tape.backward(x * x * x);
  EXPECT_EQ(x.gradient().data[0].v, 12);
  EXPECT_EQ(x.gradient().data[0].d, 12);
}

}  // namespace
}  // namespace samformer
