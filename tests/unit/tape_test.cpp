// The tape itself: accumulation, aliases, in-place results, memory, errors.
#include "core/tape.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <functional>
#include <numeric>
#include <string>

#include "core/dual.h"
#include "core/ops/ops.h"
#include "tests/numeric.h"

namespace samformer {
namespace {

constexpr std::uint64_t seed = 11;

// A tensor of normals in the arena.
Tensor<double> random_tensor(Arena<>& arena, Shape shape, std::uint32_t sub) {
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
// Operations of this file's own: <weight, x>, a scalar, and x * y by elements, of any strides.
template <class T>
Var<T> inner(Var<T> x, Tensor<T> weight) {
  Tape<T>& tape = *x.tape;
  const Tensor<T> X = x.value(), out = tape.arena().template tensor<T>(Shape{});
  out.data[0] = T{};
  for (std::int64_t r = 0; r < X.rows(); ++r) {
    for (std::int64_t c = 0; c < X.cols(); ++c) out.data[0] += weight(r, c) * X(r, c);
  }
  return tape.record(out, {x}, [=](Backward<T, Cpu>& g) {
    const T seed = g.self().data[0];
    const Sink<T> dx = g.into(x);
    for (std::int64_t r = 0; r < X.rows(); ++r) {
      for (std::int64_t c = 0; c < X.cols(); ++c) {
        T& to = dx.data[r * dx.ld + c];
        to = (dx.add ? to : T{}) + seed * weight(r, c);
      }
    }
  });
}
template <class T>
Var<T> operator*(Var<T> x, Var<T> y) {
  Tape<T>& tape = *x.tape;
  const Tensor<T> X = x.value(), Y = y.value(), out = tape.arena().template tensor<T>(X.shape);
  for (std::int64_t r = 0; r < X.rows(); ++r) {
    for (std::int64_t c = 0; c < X.cols(); ++c) out(r, c) = X(r, c) * Y(r, c);
  }
  return tape.record(out, {x, y}, [=](Backward<T, Cpu>& g) {
    const Tensor<T> dz = g.self();
    const auto give = [&](Var<T> to, Tensor<T> other) {
      const Sink<T> d = g.into(to);
      for (std::int64_t r = 0; d && r < X.rows(); ++r) {
        for (std::int64_t c = 0; c < X.cols(); ++c) {
          T& at = d.data[r * d.ld + c];
          at = (d.add ? at : T{}) + dz(r, c) * other(r, c);
        }
      }
    };
    give(x, Y), give(y, X);
  });
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
  Arena<> arena;
  Tape<float> tape(arena);
  std::vector<float> x{-1, -0.5, 0, 0.5, 1}, y{1, 0.25, 0, 0.25, 1};       // y = x^2
  std::vector<float> w1{1, -1, 0.5, -0.5}, b1(4), w2{0.5, 0.5, 0.5, 0.5};  // 1 -> 4 -> 1
  float loss = 0;
  for (int step = 0; step < 500; ++step) {
    const Arena<>::Mark start = arena.mark();
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
  Arena<> arena;
  Tape<double> tape(arena);
  const Var<double> a = tape.leaf(random_tensor(arena, {2, 3}, 0));
  const Var<double> b = a + a;
  const Var<double> c = b + b;
  const Tensor<double> weight = random_tensor(arena, {2, 3}, 1);
  tape.backward(c, weight);
  for (int i = 0; i < 6; ++i) EXPECT_EQ(a.gradient().data[i], 4 * weight.data[i]);
  const Var<double> square = a * a;
  tape.backward(square, weight);
  for (int i = 0; i < 6; ++i) EXPECT_EQ(a.gradient().data[i], 2 * weight.data[i] * a.value().data[i]);
}

TEST(Tape, UnusedInputsHaveZeroGradients) {
  Arena<> arena;
  Tape<double> tape(arena);
  const Var<double> a = tape.leaf(random_tensor(arena, {4}, 0)), unused = tape.leaf(random_tensor(arena, {4}, 1));
  unused* a;  // leads nowhere
  tape.backward(mse(a, tape.constant(random_tensor(arena, {4}, 2))));
  for (int i = 0; i < 4; ++i) {
    EXPECT_EQ(unused.gradient().data[i], 0);
    EXPECT_NE(a.gradient().data[i], 0);
  }
}

TEST(Tape, ASecondBackwardGivesTheSameBits) {
  Arena<> arena;
  Tape<double> tape(arena);
  const Var<double> x = tape.constant(random_tensor(arena, {6, 5}, 0));
  const Var<double> w = tape.leaf(random_tensor(arena, {4, 5}, 1)), b = tape.leaf(random_tensor(arena, {4}, 2));
  const Var<double> hidden = relu(linear(x, w, b)), sum = hidden + tanh(hidden);
  const Var<double> both = add_term<double, Cpu>(sum * hidden, hidden).z;
  const Var<double> loss = mse(both, tape.constant(random_tensor(arena, {6, 4}, 3))) +
                           inner(columns(hidden, 1, 2), random_tensor(arena, {6, 2}, 4));
  tape.backward(loss);
  const std::vector<double> first_w = copy_of(w.gradient()), first_b = copy_of(b.gradient());
  tape.backward(loss);
  EXPECT_TRUE(numeric::same_bits(first_w, copy_of(w.gradient())));
  EXPECT_TRUE(numeric::same_bits(first_b, copy_of(b.gradient())));
  EXPECT_GT(numeric::largest(first_b), 0);
}

TEST(Tape, OneHundredThousandNodesInAChain) {
  Arena<> arena;
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
  Arena<> arena;
  Tape<double> tape(arena);
  const Var<double> a = tape.leaf(random_tensor(arena, {4, 6}, 0));
  const Tensor<double> weight = random_tensor(arena, {4, 6}, 1);
  const Var<double> of_columns = columns(columns(a, 1, 4), 1, 2), of_rows = rows(rows(a, 1, 3), 1, 2);
  EXPECT_EQ(of_columns.value().data, a.value().data + 2);
  EXPECT_EQ(of_rows.value().data, a.value().data + 2 * 6);
  tape.backward(inner(of_columns, weight) + inner(of_columns, weight));
  EXPECT_EQ(of_columns.gradient().data, a.gradient().data + 2);
  for (int r = 0; r < 4; ++r) {
    for (int c = 0; c < 6; ++c) EXPECT_EQ(a.gradient()(r, c), c == 2 || c == 3 ? 2 * weight(r, c - 2) : 0);
  }
  tape.backward(inner(of_rows, weight));
  EXPECT_EQ(of_rows.gradient().data, a.gradient().data + 2 * 6);
  for (int r = 0; r < 4; ++r) {
    for (int c = 0; c < 6; ++c) EXPECT_EQ(a.gradient()(r, c), r >= 2 ? weight(r - 2, c) : 0);
  }
}

TEST(Tape, GradientsOfSlabLeavesLieInTheSlab) {
  Arena<> arena;
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
  Arena<> arena;
  Tape<double> tape(arena);
  const Var<double> x = tape.leaf(random_tensor(arena, {3, 2}, 0)), y = tape.leaf(random_tensor(arena, {3, 2}, 1));
  const Var<double> bias = tape.leaf(random_tensor(arena, {2}, 2));
  const std::vector<double> expected = copy_of((x * y + y).value());
  const Var<double> product = x * y;
  const Tensor<double> memory = product.value();
  const Var<double> sum = add_term<double, Cpu>(product, y).z;
  EXPECT_EQ(sum.value().data, memory.data);
  EXPECT_NE(message_of([&] { product + y; }).find("overwritten: use its result"), std::string::npos);
  const Var<double> shifted = bias_activation(sum, bias, Activation::none);
  for (int r = 0; r < 3; ++r) {
    for (int c = 0; c < 2; ++c) EXPECT_EQ(shifted.value()(r, c), expected[r * 2 + c] + bias.value().data[c]);
  }
  const Tensor<double> weight = random_tensor(arena, {3, 2}, 3);
  tape.backward(shifted, weight);
  for (int r = 0; r < 3; ++r) {
    for (int c = 0; c < 2; ++c) {
      EXPECT_EQ(x.gradient()(r, c), weight(r, c) * y.value()(r, c));
      EXPECT_NEAR(y.gradient()(r, c), weight(r, c) * x.value()(r, c) + weight(r, c), 1e-15);
    }
  }
  for (int c = 0; c < 2; ++c) EXPECT_EQ(bias.gradient().data[c], weight(0, c) + weight(1, c) + weight(2, c));
}

// ---- Values with several consumers --------------------------------------------------------------------------------

// make(order) for every order of `count` consumers: they are made in it, and run backwards in reverse.
template <class Make>
void in_every_order(int count, const Make& make) {
  std::vector<int> order(static_cast<std::size_t>(count));
  std::iota(order.begin(), order.end(), 0);
  do {
    SCOPED_TRACE(fmt::format("order {}", fmt::join(order, " ")));
    make(order);
  } while (std::next_permutation(order.begin(), order.end()));
}

// y = h + tanh(h + bias), beside h alone, h + h and h + h W': residual, input, and more uses.
TEST(Tape, AValueMayBeResidualAndInputAndMore) {
  constexpr int R = 5, C = 70;  // several tiles of the product
  in_every_order(4, [](const std::vector<int>& order) {
    for (const bool computed : {false, true}) {
      Arena<> arena;
      Tape<double> tape(arena);
      const Var<double> x = tape.leaf(random_tensor(arena, {R, C}, 0)), bias = tape.leaf(random_tensor(arena, {C}, 1));
      const Tensor<double> W = random_tensor(arena, {C, C}, 2);
      const Var<double> h = computed ? tanh(x) : x;
      std::vector<Tensor<double>> u;
      for (std::uint32_t k = 0; k < 4; ++k) u.push_back(random_tensor(arena, {R, C}, 3 + k));
      Var<double> loss;
      for (const int k : order) {
        const Var<double> y = k == 0   ? bias_activation(h, bias, Activation::tanh, h)
                              : k == 1 ? h
                              : k == 2 ? h + h
                                       : h + linear(h, tape.constant(W));
        const Var<double> part = inner(y, u[static_cast<std::size_t>(k)]);
        loss = loss ? loss + part : part;
      }
      tape.backward(loss);
      std::vector<double> dx, dbias(C);
      for (int r = 0; r < R; ++r) {
        for (int c = 0; c < C; ++c) {
          const double v = std::tanh(h.value()(r, c) + bias.value().data[c]), slope = 1 - v * v;
          double dh = u[0](r, c) * (1 + slope) + u[1](r, c) + 2 * u[2](r, c) + u[3](r, c);
          for (int k = 0; k < C; ++k) dh += u[3](r, k) * W(k, c);
          dx.push_back(computed ? dh * (1 - h.value()(r, c) * h.value()(r, c)) : dh);
          dbias[c] += u[0](r, c) * slope;
        }
      }
      EXPECT_TRUE(numeric::error(copy_of(x.gradient()), dx) <= 1e-14) << computed;
      EXPECT_TRUE(numeric::error(copy_of(bias.gradient()), dbias) <= 1e-14) << computed;
    }
  });
}

// y = x + a hands its gradient to both; what else uses x or a, before or after y, adds to its own alone.
TEST(Tape, PassedGradientsAreNotCorrupted) {
  in_every_order(4, [](const std::vector<int>& order) {
    for (const bool computed : {false, true}) {
      for (const bool late : {false, true}) {  // a is made after the first consumer of x
        Arena<> arena;
        Tape<double> tape(arena);
        const Tensor<double> x_value = random_tensor(arena, {4, 3}, 0), a_value = random_tensor(arena, {4, 3}, 1);
        std::vector<Tensor<double>> weight;
        for (std::uint32_t k = 0; k < 4; ++k) weight.push_back(random_tensor(arena, {4, 3}, 2 + k));
        const auto leaf = [&](Tensor<double> value) { return tape.leaf(value); };
        const Var<double> x_leaf = leaf(x_value), x = computed ? tanh(x_leaf) : x_leaf;
        Var<double> a, loss;
        if (!late) a = leaf(a_value);
        for (const int k : order) {
          if (k != 0 && !a) a = leaf(a_value);
          const Var<double> part = k == 0   ? inner(x * x, weight[0])
                                   : k == 1 ? inner(x + a, weight[1])
                                   : k == 2 ? inner(a + x, weight[2])
                                            : inner(a * a, weight[3]);
          loss = loss ? loss + part : part;
        }
        tape.backward(loss);
        std::vector<double> dx, da;
        for (int i = 0; i < 12; ++i) {
          const double sum = weight[1].data[i] + weight[2].data[i], v = x.value().data[i];
          const double d = 2 * weight[0].data[i] * v + sum;
          dx.push_back(computed ? d * (1 - v * v) : d);
          da.push_back(sum + 2 * weight[3].data[i] * a_value.data[i]);
        }
        EXPECT_TRUE(numeric::error(copy_of(x_leaf.gradient()), dx) <= 1e-15) << computed << late;
        EXPECT_TRUE(numeric::error(copy_of(a.gradient()), da) <= 1e-15) << computed << late;
      }
    }
  });
}

// One gradient passes through a chain of sums to a value that each of them uses, and to where the chain began.
TEST(Tape, AChainOfSumsHandsOneGradientOn) {
  for (const bool swapped : {false, true}) {
    Arena<> arena;
    Tape<double> tape(arena);
    const Var<double> start = tape.leaf(random_tensor(arena, {2, 3}, 0)),
                      term = tape.leaf(random_tensor(arena, {2, 3}, 1));
    Var<double> at = start;
    for (int i = 0; i < 3; ++i) at = swapped ? term + at : at + term;
    const Tensor<double> weight = random_tensor(arena, {2, 3}, 2);
    tape.backward(inner(at, weight));
    for (int i = 0; i < 6; ++i) {
      EXPECT_EQ(start.gradient().data[i], weight.data[i]) << swapped;
      EXPECT_NEAR(term.gradient().data[i], 3 * weight.data[i], 1e-15) << swapped;
    }
  }
}

// A projection scales its gradient in place; the term that was added to its result has its own.
TEST(Tape, GradientsScaledInPlaceAreNobodyElses) {
  for (const bool late : {false, true}) {
    for (const bool in_place : {false, true}) {
      Arena<> arena;
      Tape<double> tape(arena);
      const Tensor<double> term_value = random_tensor(arena, {6, 4}, 0), weight = random_tensor(arena, {6, 4}, 1);
      Var<double> term;
      if (!late) term = tape.leaf(term_value);
      ProjectionInput<double, Cpu> w;
      w.weight = tape.leaf(random_tensor(arena, {4, 5}, 2)), w.bias = tape.leaf(random_tensor(arena, {4}, 3));
      Normalised<double> input;
      input.xhat = tape.constant(random_tensor(arena, {2, 3, 5}, 4));
      const auto affine =
          affine_vars(tape.leaf(random_tensor(arena, {3}, 5)), tape.leaf(random_tensor(arena, {3}, 6)), 0.0, 2);
      const Projected<double> z = project(input, w, affine).rest;
      if (late) term = tape.leaf(term_value);
      tape.backward(inner(in_place ? add_term(z, term).z : z.z + term, weight));
      EXPECT_TRUE(numeric::same_bits(copy_of(term.gradient()), copy_of(weight))) << late << in_place;
    }
  }
}

// A gradient that is handed on from columns has gaps between its rows, whatever reads it.
TEST(Tape, GradientsFromColumnsReachEveryOperation) {
  const auto expect = [](const char* name, const auto& make) {
    std::vector<std::vector<double>> found;
    for (const bool handed_on : {false, true}) {
      Arena<> arena;
      Tape<double> tape(arena);
      const Var<double> x = tape.leaf(random_tensor(arena, {6, 4}, 0)),
                        wide = tape.leaf(random_tensor(arena, {6, 9}, 1));
      const Var<double> copy = wide + tape.constant(random_tensor(arena, {6, 9}, 2));
      const Var<double> y = make(arena, tape, x);
      const Tensor<double> weight = random_tensor(arena, {6, 4}, 3);
      tape.backward(inner(handed_on ? add_term(Projected(columns(copy, 3, 4)), y).z : y, weight));
      found.push_back(copy_of(x.gradient()));
    }
    EXPECT_GT(numeric::largest(found[0]), 0) << name;
    EXPECT_TRUE(numeric::error(found[1], found[0]) <= 1e-15) << name;
  };
  expect("bias_activation", [](Arena<>&, Tape<double>&, Var<double> x) { return tanh(x); });
  expect("transpose", [](Arena<>&, Tape<double>&, Var<double> x) { return transpose(transpose(x, 1), 1); });
  expect("linear", [](Arena<>& arena, Tape<double>& tape, Var<double> x) {
    return linear(x, tape.constant(random_tensor(arena, {4, 4}, 4)));
  });
  expect("layer_norm", [](Arena<>& arena, Tape<double>& tape, Var<double> x) {
    return layer_norm(x, tape.leaf(random_tensor(arena, {3, 4}, 4)), tape.leaf(random_tensor(arena, {3, 4}, 5)));
  });
  expect("batch_norm", [](Arena<>& arena, Tape<double>& tape, Var<double> x) {
    return batch_norm(x, tape.leaf(random_tensor(arena, {3, 4}, 4)), tape.leaf(random_tensor(arena, {3, 4}, 5)),
                      {random_tensor(arena, {12}, 6), random_tensor(arena, {12}, 7), true, false});
  });
  expect("channel_attention", [](Arena<>&, Tape<double>&, Var<double> x) {
    return channel_attention(Projected(x), Projected(tanh(x)), Projected(x), 3);
  });
  expect("project", [](Arena<>& arena, Tape<double>& tape, Var<double> x) {
    ProjectionInput<double, Cpu> w;
    w.weight = transpose(x, 1), w.bias = tape.leaf(random_tensor(arena, {4}, 4));
    Normalised<double> input;
    input.xhat = tape.constant(random_tensor(arena, {2, 3, 6}, 5));
    const auto affine =
        affine_vars(tape.leaf(random_tensor(arena, {3}, 6)), tape.leaf(random_tensor(arena, {3}, 7)), 0.0, 2);
    return project(input, w, affine).rest.z;
  });
}

// Parts that overlap, the whole, and a column or row that nobody uses: what each writes first, adds to or leaves.
TEST(Tape, PartsAddUpInEveryOrder) {
  using Axis = Tape<double>::Axis;
  struct Range {
    std::int64_t first, count;
  };
  const std::vector<Range> ranges{{0, 2}, {1, 3}, {5, 1}, {0, 6}};  // 4: only the whole's
  for (const Axis axis : {Axis::columns, Axis::rows}) {
    for (const int consumers : {3, 4}) {
      in_every_order(consumers, [&](const std::vector<int>& order) {
        for (const bool slab : {false, true}) {
          Arena<> arena;
          Tape<double> tape(arena);
          std::vector<double> gradient(36, 7.0);  // what a slab holds from before
          const Tensor<double> value = random_tensor(arena, {6, 6}, 0);
          const Var<double> a = slab ? tape.leaf(value, {gradient.data(), {6, 6}}) : tape.leaf(value);
          const Var<double> whole = slab ? a : tanh(a);
          Var<double> loss;
          std::vector<double> expected(36);
          for (const int k : order) {
            const auto [first, count] = ranges[static_cast<std::size_t>(k)];
            const Tensor<double> weight = random_tensor(arena, {6, 6}, static_cast<std::uint32_t>(1 + k));
            const Var<double> used = axis == Axis::columns ? columns(whole, first, count) : rows(whole, first, count);
            const Var<double> part = inner(used, weight);
            loss = loss ? loss + part : part;
            for (std::int64_t r = 0; r < used.value().rows(); ++r) {
              for (std::int64_t c = 0; c < used.value().cols(); ++c) {
                const std::int64_t at = axis == Axis::columns ? r * 6 + first + c : (first + r) * 6 + c;
                const double v = whole.value().data[at];
                expected[static_cast<std::size_t>(at)] += weight(r, c) * (slab ? 1 : 1 - v * v);
              }
            }
          }
          tape.backward(loss);
          const std::vector<double> found = copy_of(a.gradient());
          EXPECT_TRUE(numeric::error(found, expected) <= 1e-15) << slab;
          for (int i = 0; i < 6 && consumers == 3; ++i) EXPECT_EQ(found[axis == Axis::columns ? i * 6 + 4 : 24 + i], 0);
        }
      });
    }
  }
}

// Whatever the result is: a leaf, a part, or in place with nothing of its own to give.
TEST(Tape, BackwardBeginsAtAnyValue) {
  Arena<> arena;
  Tape<double> tape(arena);
  const Var<double> x = tape.leaf(random_tensor(arena, {3, 4}, 0)), twice = x + x;
  const Tensor<double> weight = random_tensor(arena, {3, 4}, 1), narrow = random_tensor(arena, {3, 2}, 2);
  tape.backward(x, weight);
  EXPECT_EQ(copy_of(x.gradient()), copy_of(weight));
  const Var<double> part = columns(twice, 1, 2);
  tape.backward(part, narrow);
  for (int r = 0; r < 3; ++r) {
    for (int c = 0; c < 4; ++c) EXPECT_EQ(x.gradient()(r, c), c == 1 || c == 2 ? 2 * narrow(r, c - 1) : 0);
  }
  const Var<double> sum = add_term<double, Cpu>(twice, tape.constant(random_tensor(arena, {3, 4}, 3))).z;
  tape.backward(sum, weight);
  for (int i = 0; i < 12; ++i) EXPECT_EQ(x.gradient().data[i], 2 * weight.data[i]);
}

TEST(Tape, ALeafAskedForTwiceGetsTheSum) {
  Arena<> arena;
  Tape<double> tape(arena);
  std::vector<double> weights = numeric::normals(4, seed), gradients(4, 7.0), others = weights;
  const auto leaf = [&] { return tape.leaf({weights.data(), {4}}, {gradients.data(), {4}}); };
  const Tensor<double> one = random_tensor(arena, {4}, 1), two = random_tensor(arena, {4}, 2);
  const Var<double> first = leaf(), a = inner(first, one), second = leaf(), b = inner(second, two);
  tape.backward(a + b);
  for (int i = 0; i < 4; ++i) EXPECT_EQ(gradients[i], two.data[i] + one.data[i]);
  EXPECT_NE(message_of([&] {
              tape.leaf({others.data(), {4}}, {gradients.data(), {4}});
            }).find("two values"),
            std::string::npos);
}

TEST(Tape, ConstantsGetNoGradient) {
  Arena<> arena;
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
  Arena<> arena;
  Tape<double> tape(arena);
  const Tensor<double> weight = random_tensor(arena, {40, 30}, 0), truth = random_tensor(arena, {200, 40}, 1);
  const Tensor<double> input = random_tensor(arena, {200, 30}, 2);
  const Arena<>::Mark start = arena.mark();
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
  Arena<> arena;
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
  Arena<> arena;
  Tape<double> tape(arena);
  const auto leaf = [&](Shape shape) { return tape.leaf(random_tensor(arena, shape, 0)); };
  const Var<double> a = leaf({2, 3}), b = leaf({3, 4}), c = leaf({5});
  const AffineVars<double> affine{leaf({2}), leaf({2})};
  const Tensor<double> stats = random_tensor(arena, {3}, 1);
  const auto constant = [&](Shape shape) { return tape.constant(random_tensor(arena, shape, 0)); };
  Normalised<double> input, windows;
  input.xhat = constant({3, 4}), windows.xhat = constant({1, 2, 4});
  ProjectionInput<double, Cpu> w;
  w.weight = a, w.bias = c;
  const Projected<double> A(a), B(b);
  const Truth<double> truth{{nullptr, 0, nullptr, 1, 3}, nullptr, 0};
  const std::vector<std::pair<std::function<void()>, std::vector<std::string>>> cases{
      {[&] { a + b; }, {"bias_activation", "[2, 3]", "[3, 4]"}},
      {[&] { bias_activation(a, c, Activation::relu); }, {"bias_activation", "[2, 3]", "[5]"}},
      {[&] { bias_activation(a, {}, Activation::relu, {}, {.rate = 1}); }, {"dropout", "1"}},
      {[&] { relu(columns(a, 0, 2)); }, {"bias_activation", "[2, 2]"}},
      {[&] { linear(a, b); }, {"linear", "[2, 3]", "[3, 4]"}},
      {[&] {
         layers(a, {Layer<double, Cpu>{leaf({4, 3}), c}});
       },
       {"linear", "[4, 3]", "[5]"}},
      {[&] { transpose(b, 2); }, {"transpose", "2", "[3, 4]"}},
      {[&] { mse(a, b); }, {"mse", "[2, 3]", "[3, 4]"}},
      {[&] { mse(leaf({0}), leaf({0})); }, {"mse", "[0]"}},
      {[&] { columns(a, 2, 2); }, {"columns", "2..4", "[2, 3]"}},
      {[&] { rows(a, -1, 1); }, {"rows", "-1..0", "[2, 3]"}},
      {[&] { rows(columns(b, 0, 2), 0, 2); }, {"rows of columns"}},
      {[&] { revin_affine(a, affine); }, {"revin_affine", "constant"}},
      {[&] {
         revin_affine(constant({3, 4}), affine);
       },
       {"revin_affine", "[3, 4]", "[2]"}},
      {[&] { project(input, w, affine); }, {"project", "[3, 4]", "[2, 3]", "[5]"}},
      {[&] { compose(a, b, c, true); }, {"compose", "[2, 3]", "[3, 4]", "[5]"}},
      {[&] { channel_attention(A, A, B, 2); }, {"channel_attention", "[2, 3]", "[3, 4]", "D = 2"}},
      {[&] { channel_attention(B, B, B, 2); }, {"channel_attention", "[3, 4]", "D = 2"}},
      {[&] { add_linear(A, b, b); }, {"add_linear", "[2, 3]", "[3, 4]"}},
      {[&] { add_term(A, b); }, {"add_term", "[2, 3]", "[3, 4]"}},
      {[&] { revin_inverse(B, affine, windows); }, {"revin_inverse", "[2, H]", "[3, 4]"}},
      {[&] { revin_inverse(A, affine, windows); }, {"revin_inverse", "not differentiated"}},
      {[&] { forecast_loss(A, affine, windows, truth, 0); }, {"forecast_loss", "N = 1", "D = 3", "[2, 3]"}},
      {[&] { batch_norm(a, c, c, {}); }, {"batch_norm", "[2, 3]", "[5]"}},
      {[&] { layer_norm(a, c, c); }, {"layer_norm", "[2, 3]", "[5]"}},
      {[&] {
         spectral_reparam({Scaled<double, Cpu>{a, c}});
       },
       {"spectral_reparam", "[2, 3]", "[5]"}},
      {[&] { tape.backward(a); }, {"backward", "scalar", "[2, 3]"}},
      {[&] { tape.backward(a, b.value()); }, {"backward", "[2, 3]", "[3, 4]"}},
      {[&] { tape.backward(tape.constant(stats), stats); }, {"backward", "gradient"}},
      {[&] { tape.leaf(a.value(), b.value()); }, {"leaf", "[2, 3]", "[3, 4]"}},
      {[&] { tape.leaf(a.value().columns(0, 2)); }, {"leaf", "contiguous"}},
      {[&] { Shape{1, 2, 3, 4, 5, 6}; }, {"5 dimensions", "6"}},
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
  Arena<> arena;
  Tape<double> tape(arena), other(arena);
  const Var<double> a = tape.leaf(random_tensor(arena, {2}, 0)), b = other.leaf(random_tensor(arena, {2}, 1));
  EXPECT_NE(message_of([&] { a + b; }).find("another tape"), std::string::npos);
  tape.clear();
  EXPECT_NE(message_of([&] { a.value(); }).find("clear"), std::string::npos);
}

// The tangent of the gradient: d/dt of d(w^3)/dw at w = 2 along 1 is 6 w = 12.
TEST(Tape, DualNumbersDifferentiateTheGradient) {
  Arena<> arena;
  Tape<Dual<double>> tape(arena);
  Dual<double> w(2.0, 1.0);
  const Var<Dual<double>> x = tape.leaf({&w, Shape{}});
  tape.backward(x * x * x);
  EXPECT_EQ(x.gradient().data[0].v, 12);
  EXPECT_EQ(x.gradient().data[0].d, 12);
}

}  // namespace
}  // namespace samformer
