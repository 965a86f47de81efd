#include "model/data/series.h"

#include <fmt/format.h>
#include <gtest/gtest.h>

#include <array>
#include <cmath>
#include <filesystem>
#include <numeric>
#include <string>
#include <vector>

#include "core/error.h"
#include "core/text.h"
#include "model/data/csv.h"
#include "model/data/readers.h"
#include "tests/shared_data.h"

namespace samformer::model {
namespace {

Series make(std::int64_t rows, const std::string& name = "mine",
            const std::vector<std::string>& channels = {"a", "b", "c"}) {
  Series series;
  series.path = name + ".csv";
  series.name = name;
  series.rows = rows;
  series.channels = channels;
  series.values.resize(static_cast<std::size_t>(rows) * channels.size());
  std::iota(series.values.begin(), series.values.end(), 0.0);
  for (std::int64_t t = 0; t < rows; ++t) series.dates.push_back({1577836800 + 3600 * t});
  series.date_format.day = series.date_format.time = true;
  series.step = {StepUnit::second, 3600};
  return series;
}

template <class Call>
Error error_of(const Call& call) {
  try {
    call();
  } catch (const Error& error) {
    return error;
  }
  return {Exit::internal, "no error"};
}

bool says(const Error& error, const std::string& part) {
  return (std::string(error.what()) + "|" + error.advice).find(part) != std::string::npos;
}

// dataset,rows,train_end,val_end,test_end, then train, val, test windows at horizons 96, 192, 336, 720.
constexpr std::array<std::array<std::int64_t, 16>, 8> kPaper = {{
    {17420, 8640, 11520, 14400, 8033, 2785, 2785, 7937, 2689, 2689, 7793, 2545, 2545, 7409, 2161, 2161},
    {17420, 8640, 11520, 14400, 8033, 2785, 2785, 7937, 2689, 2689, 7793, 2545, 2545, 7409, 2161, 2161},
    {69680, 34560, 46080, 57600, 33953, 11425, 11425, 33857, 11329, 11329, 33713, 11185, 11185, 33329, 10801, 10801},
    {69680, 34560, 46080, 57600, 33953, 11425, 11425, 33857, 11329, 11329, 33713, 11185, 11185, 33329, 10801, 10801},
    {26304, 18412, 21044, 26304, 17805, 2537, 5165, 17709, 2441, 5069, 17565, 2297, 4925, 17181, 1913, 4541},
    {7588, 5311, 6071, 7588, 4704, 665, 1422, 4608, 569, 1326, 4464, 425, 1182, 4080, 41, 798},
    {17544, 12280, 14036, 17544, 11673, 1661, 3413, 11577, 1565, 3317, 11433, 1421, 3173, 11049, 1037, 2789},
    {52696, 36887, 42157, 52696, 36280, 5175, 10444, 36184, 5079, 10348, 36040, 4935, 10204, 35656, 4551, 9820},
}};
constexpr std::array<const char*, 8> kNames = {"ETTh1",       "etth2",         "ETTm1",   "EttM2",
                                               "electricity", "exchange_rate", "traffic", "weather"};

TEST(Splits, ReproduceThePapersWindows) {
  constexpr std::int64_t kLookback = 512;
  for (std::size_t i = 0; i < kPaper.size(); ++i) {
    SCOPED_TRACE(kNames[i]);
    Series series = make(kPaper[i][0], kNames[i], {"a"});
    const Splits splits = split_rows("auto", series);
    EXPECT_EQ(splits.train, (Span{0, kPaper[i][1]}));
    EXPECT_EQ(splits.val, (Span{kPaper[i][1], kPaper[i][2]}));
    EXPECT_EQ(splits.test, (Span{kPaper[i][2], kPaper[i][3]}));
    const std::array<std::int64_t, 4> horizons = {96, 192, 336, 720};
    for (std::size_t h = 0; h < 4; ++h) {
      const std::array<Span, 3> parts = {splits.train, with_lookback(splits.val, kLookback),
                                         with_lookback(splits.test, kLookback)};
      for (std::size_t p = 0; p < 3; ++p) {
        EXPECT_EQ(window_count(parts[p], kLookback, horizons[h]), kPaper[i][4 + 3 * h + p])
            << horizons[h] << " part " << p;
      }
    }
    const Splits again = split_rows(splits.rule, series);
    EXPECT_EQ(again.rule, splits.rule);
    EXPECT_EQ(again.test, splits.test);
  }
}

TEST(Splits, WindowsCsvOfThePaper) {
  SAMFORMER_REQUIRE_SHARED_DATA("paper/windows.csv");
  const Series table = read_series(shared_data("paper/windows.csv"), {.drop = {"dataset"}, .no_date = true});
  ASSERT_EQ(table.rows, 8);
  ASSERT_EQ(table.width(), 16);
  for (std::size_t i = 0; i < 8; ++i) {
    for (std::size_t k = 0; k < 16; ++k) EXPECT_EQ(table.values[k * 8 + i], static_cast<double>(kPaper[i][k]));
  }
}

TEST(Splits, WindowStarts) {
  EXPECT_EQ(window_starts({0, 10}, 4, 3), (std::vector<std::int32_t>{0, 1, 2, 3}));
  EXPECT_EQ(window_starts(with_lookback({10, 14}, 4), 4, 3), (std::vector<std::int32_t>{6, 7}));
  EXPECT_TRUE(window_starts({0, 6}, 4, 3).empty());
}

TEST(Splits, Rules) {
  const Series series = make(100);
  EXPECT_EQ(split_rows("auto", series).rule, "ratio:0.7,0.1,0.2");
  EXPECT_EQ(split_rows("ratio", series).val, (Span{70, 80}));
  EXPECT_EQ(split_rows("ratio:0.6,0.2,0.2", series).val, (Span{60, 80}));
  EXPECT_EQ(split_rows("rows:50,20,10", series).test, (Span{70, 80}));
  const Splits later = split_rows("rows:50,20,10@20", series);
  EXPECT_EQ(later.train, (Span{20, 70}));
  EXPECT_EQ(later.val, (Span{70, 90}));
  EXPECT_EQ(later.test, (Span{90, 100}));
  EXPECT_EQ(split_rows(later.rule, series).train, later.train);
  const Splits dates = split_rows("dates:2020-01-03,2020-01-04 06:00", series);
  EXPECT_EQ(dates.train, (Span{0, 48}));
  EXPECT_EQ(dates.val, (Span{48, 78}));
  EXPECT_EQ(dates.test, (Span{78, 100}));
  EXPECT_EQ(split_rows("dates:2020-01-03,2020-01-04,2020-01-05", series).test, (Span{72, 96}));
  for (const char* bad : {"",
                          "auto2",
                          "ratio:",
                          "ratio:0.7,0.3",
                          "ratio:0.7,0.1,0.3",
                          "ratio:1,0,0",
                          "ratio:a,b,c",
                          "ratio:nan,nan,nan",
                          "ratio:0.9995,0.0004,0.0001",
                          "rows:1,2",
                          "rows:50,20,0",
                          "rows:50,-1,2",
                          "rows:1,2,3x",
                          "rows:1,2,3@",
                          "rows:1,2,3@-1",
                          "rows:1,2,3@x",
                          "dates:2020-01-03",
                          "dates:x,y",
                          "dates:2020-01-04,2020-01-03",
                          "dates:1/2/2020,2/2/2020",
                          "dates:a,b,c,d"}) {
    EXPECT_EQ(error_of([&] { split_rows(bad, series); }).code, Exit::usage) << bad;
  }
  EXPECT_TRUE(says(error_of([&] { split_rows("ratios:1", series); }), "'ratio'"));
  EXPECT_EQ(error_of([&] { split_rows("rows:50,40,11", series); }).code, Exit::data);
  EXPECT_EQ(error_of([&] { split_rows("rows:50,20,10@21", series); }).code, Exit::data);
  EXPECT_EQ(error_of([&] { split_rows("rows:50,20,10@9223372036854775807", series); }).code, Exit::data);
  EXPECT_EQ(error_of([&] { split_rows("rows:9223372036854775807,9223372036854775807,5", series); }).code, Exit::data);
  EXPECT_EQ(error_of([&] { split_rows("ett-hour", series); }).code, Exit::data);
  EXPECT_EQ(error_of([&] { split_rows("auto", make(14399, "ETTh1", {"a"})); }).code, Exit::data);
}

TEST(Splits, TooShortSaysWhatWouldFit) {
  const Series series = make(1000);
  const Splits splits = split_rows("ratio", series);
  EXPECT_NO_THROW(check_length(series, splits, 604, 96));
  const Error lookback = error_of([&] { check_length(series, splits, 605, 96); });
  EXPECT_EQ(lookback.code, Exit::data);
  EXPECT_TRUE(says(lookback, "too few rows: 1000,") && says(lookback, "needs 1002"));
  EXPECT_TRUE(says(lookback, "largest horizon at look-back 605 is 64"));
  EXPECT_TRUE(says(lookback, "largest look-back at horizon 96 is 573"));
  const Error horizon = error_of([&] { check_length(series, splits, 100, 101); });
  EXPECT_TRUE(says(horizon, "largest horizon at look-back 100 is 100") &&
              says(horizon, "no look-back fits horizon 101"));
  EXPECT_TRUE(says(error_of([&] { check_length(series, splits, 900, 1); }), "no horizon fits look-back 900"));
  EXPECT_TRUE(says(error_of([&] { check_length(series, splits, 1'000'000'000, 1'000'000'000); }), "needs"));
  const Series needed = make(1002);
  EXPECT_NO_THROW(check_length(needed, split_rows("ratio", needed), 605, 96));
}

TEST(Series, Targets) {
  Series series = make(4);
  EXPECT_EQ(select_targets(series, Features::m, {}), (std::vector<int>{0, 1, 2}));
  EXPECT_EQ(select_targets(series, Features::ms, {}), (std::vector<int>{2}));
  EXPECT_EQ(select_targets(series, Features::ms, {"c", "a"}), (std::vector<int>{2, 0}));
  EXPECT_EQ(series.width(), 3);
  EXPECT_EQ(error_of([&] { select_targets(series, Features::m, {"a"}); }).code, Exit::usage);
  EXPECT_EQ(error_of([&] { select_targets(series, Features::s, {"a", "a"}); }).code, Exit::usage);
  const Error unknown = error_of([&] { select_targets(series, Features::s, {"B"}); });
  EXPECT_EQ(unknown.code, Exit::usage);
  EXPECT_TRUE(says(unknown, "'b'"));
  EXPECT_EQ(error_of([&] { select_targets(series, Features::s, {"sales"}); }).advice, "there are: a, b, c");
  EXPECT_EQ(select_targets(series, Features::s, {"c", "a"}), (std::vector<int>{0, 1}));
  EXPECT_EQ(series.channels, (std::vector<std::string>{"c", "a"}));
  EXPECT_EQ(series.values, (std::vector<double>{8, 9, 10, 11, 0, 1, 2, 3}));
}

TEST(Series, FindRow) {
  const Series series = make(30);
  EXPECT_EQ(find_row(series, "2020-01-02"), 24);
  EXPECT_EQ(find_row(series, "2020-01-01 05:00"), 5);
  EXPECT_EQ(find_row(series, "2020-01-01T05:00:00"), 5);
  for (const char* bad : {"2020-01-01 05:30", "2019-01-01", "2021-01-01", "x", ""}) {
    EXPECT_EQ(error_of([&] { find_row(series, bad); }).code, Exit::usage) << bad;
  }
  Series plain = make(30);
  plain.dates.clear();
  EXPECT_EQ(find_row(plain, "30"), 29);
  EXPECT_EQ(error_of([&] { find_row(plain, "31"); }).code, Exit::usage);

  const Series offset =
      parse_csv("date,a\n2024-10-27T02:30+02:00,1\n2024-10-27T02:30+01:00,2\n2024-10-27T03:30+01:00,2\n", "o.csv", {});
  EXPECT_EQ(find_row(offset, "2024-10-27T02:30+01:00"), 1);
  EXPECT_EQ(find_row(offset, "2024-10-27T01:30Z"), 1);
  EXPECT_EQ(find_row(offset, "2024-10-27T02:30"), 0);
}

TEST(Series, ScalerStandardisesTheGivenRows) {
  Series series = make(4, "s", {"a", "flat"});
  series.values = {1, 3, 5, 100, 0.1, 0.1, 0.1, 7};
  const Scaler scaler = fit_scaler(series, {0, 3});
  EXPECT_EQ(scaler.mean, (std::vector<double>{3, 0.1}));
  EXPECT_TRUE(std::abs(scaler.std[0] - std::sqrt(8.0 / 3)) <= 1e-15);
  EXPECT_EQ(scaler.std[1], 1);
  const std::vector<float> standardised = standardise(series, scaler);
  EXPECT_EQ(standardised[1], 0.0F);
  EXPECT_EQ(standardised[0], static_cast<float>(-2 / std::sqrt(8.0 / 3)));
  EXPECT_EQ(standardised[4], 0.0F);
  for (std::size_t d = 0; d < 2; ++d) {
    for (std::size_t t = 0; t < 4; ++t) {
      EXPECT_TRUE(std::abs(scaler.restore(standardised[d * 4 + t], d) - series.values[d * 4 + t]) <= 1e-5);
    }
  }
  series.values = {1e-300, 2e-300, 1e-300, 0, 1e100, -1e100, 1e100, 0};
  const Scaler extreme = fit_scaler(series, {0, 4});
  EXPECT_EQ(extreme.std[0], 1);  // its squares vanish
  EXPECT_TRUE(std::isfinite(extreme.std[1]));
  EXPECT_THROW(fit_scaler(series, {0, 5}), Error);
  EXPECT_THROW(fit_scaler(series, {2, 2}), Error);
}

TEST(Series, NearestName) {
  const std::vector<std::string> known = {"HUFL", "HULL", "OT"};
  EXPECT_EQ(nearest_name("hulx", known), "HULL");
  EXPECT_EQ(nearest_name("ot", known), "OT");
  EXPECT_EQ(nearest_name("HUFLL", known), "HUFL");
  EXPECT_EQ(nearest_name("", known), "");
  EXPECT_EQ(nearest_name("load", known), "");
  EXPECT_EQ(nearest_name("a", {}), "");
}

}  // namespace
}  // namespace samformer::model
