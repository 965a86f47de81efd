// Covariates that are known ahead: their basis, where its nodes come from, the map in closed form and in a model.
#include "model/data/covariates.h"

#include <gtest/gtest.h>

#include <cmath>

#include "model/data/marks.h"
#include "optim/covariate_fit.h"
#include "optim/evaluator.h"
#include "optim/least_squares.h"
#include "optim/ridge.h"
#include "tests/numeric.h"

namespace samformer {
namespace {

using model::Basis, model::CovariateOptions, model::Series;

constexpr std::int64_t rows = 400;

// Channels item_1, item_2 and "other", and behind them, known for ten rows more, what is known ahead: `level`, promo_1
// and promo_2. Daily from 2024-01-01.
Series example() {
  Series s;
  s.step = {model::StepUnit::day, 1};
  s.channels = {"item_1", "level", "item_2", "promo_1", "promo_2", "other"};
  s.rows = rows + 10;
  for (std::int64_t t = 0; t < s.rows; ++t) s.dates.push_back({1704067200 + t * 86400});
  const std::vector<double> noise = numeric::normals(6 * s.rows, 5);
  for (std::int64_t c = 0; c < 6; ++c) {
    for (std::int64_t t = 0; t < s.rows; ++t) {
      const double x = noise[static_cast<std::size_t>(c * s.rows + t)];
      const bool known = c == 1 || c == 3 || c == 4;
      s.values.push_back(t >= rows && !known ? std::nan("") : c > 2 && known ? (x > 0.8 ? 1 : 0) : x);
    }
  }
  return s;
}
const CovariateOptions all_options{{"level"}, {"item_*=promo_*"}, {"dow"}, 4};

TEST(Covariates, KnownColumnsLeaveTheChannels) {
  Series s = example();
  const Series before = s;
  model::take_known(s, all_options);
  EXPECT_EQ(s.channels, (std::vector<std::string>{"item_1", "item_2", "other"}));
  EXPECT_EQ(s.rows, rows);
  EXPECT_EQ(std::ssize(s.dates), rows);
  EXPECT_EQ(s.known.names, (std::vector<std::string>{"level", "promo_1", "promo_2"}));
  EXPECT_EQ(s.known.rows, rows + 10);
  EXPECT_EQ(s.channel(1)[rows - 1], before.channel(2)[rows - 1]);
  EXPECT_EQ(s.known.values[static_cast<std::size_t>(2 * s.known.rows + rows + 9)], before.channel(4)[rows + 9]);
}

// Nodes are quantiles of the training rows, whatever comes later; hats are 1 at their own node and 0 at the others, and
// the outer ones go on.
TEST(Covariates, NodesOfTheTrainingRows) {
  Series s = example();
  model::take_known(s, all_options);
  const Basis basis = model::fit_basis(all_options, s, {0, 200});
  Series later = s;
  for (std::int64_t t = 200; t < later.known.rows; ++t) later.known.values[static_cast<std::size_t>(t)] = 1e3;
  EXPECT_EQ(model::fit_basis(all_options, later, {0, 200}).shared[0].nodes, basis.shared[0].nodes);
  later.known.values[0] = 1e3;
  EXPECT_NE(model::fit_basis(all_options, later, {0, 200}).shared[0].nodes, basis.shared[0].nodes);

  std::vector<double> sorted(s.known.values.begin(), s.known.values.begin() + 200);
  std::ranges::sort(sorted);
  ASSERT_EQ(basis.shared[0].nodes,
            (std::vector<double>{sorted[0], sorted[39], sorted[79], sorted[119], sorted[159], sorted[199]}));
  const Basis::Column& level = basis.shared[0];
  ASSERT_EQ(level.features(), 5);
  const double step = level.nodes[5] - level.nodes[4];
  for (std::int64_t f = 0; f < 5; ++f) {
    for (std::size_t n = 0; n < 6; ++n) {
      EXPECT_NEAR(level.feature(f, level.nodes[n]), static_cast<std::int64_t>(n) == f + 1 ? 1 : 0, 1e-12);
    }
    EXPECT_NEAR(level.feature(f, level.nodes[5] + step), f == 4 ? 2 : f == 3 ? -1 : 0, 1e-9);
  }
  // Two values: the column itself. One: nothing, also without knots.
  EXPECT_EQ(basis.own[0].nodes, (std::vector<double>{0, 1}));
  EXPECT_EQ(basis.own[0].feature(0, 1), 1);
  EXPECT_EQ(basis.own_of, (std::vector<std::int64_t>{0, 1, -1}));
  EXPECT_EQ(basis.features(), 5 + 7 + 1);
  for (const std::int64_t knots : {0, 4}) {
    Series constant = s;
    std::fill_n(constant.known.values.begin(), rows, 3.0);
    const Basis of_one = model::fit_basis({{"level"}, {}, {}, knots}, constant, {0, 200});
    EXPECT_EQ(of_one.features(), 1);
    EXPECT_EQ(of_one.shared[0].feature(0, 3), 0);
  }
}

TEST(Covariates, CalendarRows) {
  Basis basis;
  basis.calendar = {"hour", "dow", "month", "doy", "holidays"};
  basis.holidays = {19782};  // 2024-02-29, a Thursday
  const std::vector<model::Stamp> dates{{19781 * 86400 + 13 * 3600}, {19782 * 86400}, {19783 * 86400}};
  std::vector<float> made;
  basis.append(made, {}, dates, 3, {model::StepUnit::second, 3600});
  ASSERT_EQ(std::ssize(made), 3 * (24 + 7 + 12 + 8 + 3));
  const auto column = [&](std::size_t f) { return std::vector<float>(&made[3 * f], &made[3 * f] + 3); };
  EXPECT_EQ(column(13), (std::vector<float>{1, 0, 0}));
  EXPECT_EQ(column(24 + 3), (std::vector<float>{0, 1, 0}));
  EXPECT_EQ(column(24 + 7 + 1), (std::vector<float>{1, 1, 0}));
  EXPECT_EQ(column(24 + 7 + 2), (std::vector<float>{0, 0, 1}));
  EXPECT_NEAR(column(24 + 7 + 12)[1], std::sin(2 * std::numbers::pi * 59 / 365.25), 1e-6);
  EXPECT_EQ(column(51), (std::vector<float>{1, 0, 0}));  // the day before one
  EXPECT_EQ(column(52), (std::vector<float>{0, 1, 0}));
  EXPECT_EQ(column(53), (std::vector<float>{0, 0, 1}));
  // Of a month the whole step: February has one, January comes before it.
  made.clear();
  basis.calendar = {"holidays"};
  basis.append(made, {}, std::vector<model::Stamp>{{19723 * 86400}, {19754 * 86400}}, 2, {model::StepUnit::month, 1});
  EXPECT_EQ(made, (std::vector<float>{1, 0, 0, 1, 0, 0}));
}

// Channels whose every value is known from the covariates: the forms in closed form find the map, and a model that has
// learned nothing is the model without.
class Mapped : public testing::Test {
 protected:
  Mapped() {
    s = example();
    model::take_known(s, all_options);
    const Basis basis = model::fit_basis(all_options, s, {0, 200});
    scaler = {{0, 0, 0}, {1, 1, 1}};
    std::vector<double> known;
    for (std::int64_t c = 0; c < 3; ++c) {
      const double* from = s.known.values.data() + c * s.known.rows;
      known.insert(known.end(), from, from + rows);
    }
    values = model::marked_values(s, scaler);
    values.add(basis, known, s.dates, s.step);
  }
  // The first channel becomes 10 plus a map's part.
  void replace() {
    for (std::int64_t t = 0; t < rows; ++t) {
      double x = 10;
      for (std::int64_t f = 0; f < values.known.features(); ++f) {
        const auto at = (values.known.first + values.known.row(0, f)) * rows + t;
        x += 0.1 * static_cast<double>(f + 1) * static_cast<double>(values.values[static_cast<std::size_t>(at)]);
      }
      values.values[static_cast<std::size_t>(t)] = static_cast<float>(x);
    }
  }
  Series s;
  model::Scaler scaler;
  model::MarkedValues values;
  const std::vector<std::int32_t> targets{0}, starts{200, 201, 250, 300, 340};
};

TEST_F(Mapped, ClosedFormsFindIt) {
  replace();
  const model::Linear net({3, 30, 7});
  const model::Problem problem = values.problem(targets);
  const model::Model whole = model::Model(net).with_covariates(values.known.features());
  optim::Evaluator evaluator(whole, kernels::Center::mean);
  const std::vector<model::Span> train{{0, 200}};
  EXPECT_LE(evaluator.errors(optim::least_squares_slab(net, problem, train), problem, starts).mse(), 1e-4);
  const optim::Ridge chosen = optim::choose_ridge(net, problem, s, 200);
  EXPECT_EQ(chosen.center, kernels::Center::mean);
  EXPECT_LE(evaluator.errors(optim::ridge_slab(net, problem, train, chosen), problem, starts).mse(), 1e-4);
  const std::vector<float> without = optim::with_covariates(
      net, std::span(optim::least_squares_slab(net, {problem.values, rows, 3, targets}, train)), problem, {});
  EXPECT_GE(evaluator.errors(without, problem, starts).mse(), 1e-2);
}

TEST_F(Mapped, UntrainedItIsTheModelWithout) {
  for (const model::Model& net :
       {model::Model(model::Samformer({model::Value::low_rank, 3, 30, 7, 4})),
        model::Model(model::TsMixer({3, 30, 7, 1, 8, 0.1})), model::Model(model::DLinear({3, 30, 7}))}) {
    const model::Model with = net.with_covariates(values.known.features());
    const auto forecast = [&](const model::Model& m) {
      std::vector<float> slab(static_cast<std::size_t>(m.parameters().slab_size()));
      m.initialise(slab.data(), 3, model::Init::pytorch, model::HeadInit::as_init);
      return optim::Evaluator(m, kernels::Center::mean).forecast(slab, values.problem(targets), starts);
    };
    EXPECT_EQ(forecast(with), forecast(net));
    EXPECT_EQ(with.parameters().count(), net.parameters().count() + 3 * values.known.features());
  }
}

}  // namespace
}  // namespace samformer
