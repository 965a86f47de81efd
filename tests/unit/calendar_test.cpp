#include "model/data/calendar.h"

#include <gtest/gtest.h>

#include <functional>
#include <initializer_list>
#include <string>
#include <vector>

#include "core/error.h"

namespace samformer::model {
namespace {

struct Dates {
  DateFormat format;
  std::vector<Stamp> stamps;
};

Dates read(const std::vector<std::string>& texts, const std::string& pattern = "", Digits digits = Digits::years) {
  Dates dates;
  dates.format.pattern = pattern;
  dates.format.digits = digits;
  for (const std::string& text : texts) {
    Stamp stamp;
    EXPECT_TRUE(parse_stamp(text, dates.format, stamp)) << text;
    dates.stamps.push_back(stamp);
  }
  return dates;
}

// The step found in the dates and the dates that follow, written as the dates are.
std::pair<std::string, std::vector<std::string>> follow(const std::vector<std::string>& texts, int count,
                                                        const std::string& freq = "", const std::string& pattern = "") {
  const Dates dates = read(texts, pattern);
  const Step step = freq.empty() ? infer_step(dates.stamps) : parse_freq(freq, dates.stamps);
  std::vector<std::string> next;
  for (const Stamp& stamp : continue_dates(dates.stamps.back(), step, count)) {
    next.push_back(format_stamp(stamp, dates.format));
  }
  return {step.name(), next};
}

using Found = std::pair<std::string, std::vector<std::string>>;

bool is_date(const std::string& text, const std::string& pattern = "") {
  DateFormat format;
  format.pattern = pattern;
  Stamp stamp;
  return parse_stamp(text, format, stamp);
}

TEST(Calendar, WritesWhatItReads) {
  for (const char* text :
       {"2016-07-01 00:00:00", "2016-07-01T00:00:00", "2016-07-01", "2016-07", "2016-07-01 05:15", "1990/1/1 0:00",
        "2016/07/01 09:05:07", "2016-07-01T12:00:00Z", "2016-07-01T12:00:00+02:00", "2016-07-01 12:00:00-0330",
        "2016-07-01 12:00+02", "2016-07-01 12:00:00.5", "2016-07-01T12:00:00.123456789Z", "1970-01-01 00:00:00.000",
        "1969-12-31 23:59:59", "0001-01-01", "9999-12-31 23:59", "2000-02-29", "2016-07-0110:00"}) {
    const Dates dates = read({text});
    EXPECT_EQ(format_stamp(dates.stamps[0], dates.format), text);
  }
}

TEST(Calendar, SecondsAreUnixSeconds) {
  EXPECT_EQ(read({"2016-07-01 00:00:00"}).stamps[0].seconds, 1467331200);
  EXPECT_EQ(read({"2016-07-01T02:00:00+02:00"}).stamps[0].utc_seconds(), 1467331200);
  EXPECT_EQ(read({"1900-03-01"}).stamps[0].seconds, -2203891200);
}

TEST(Calendar, FormatLearnsFromEveryDate) {
  const Dates dates = read({"1990/10/10 10:00", "1990/1/1 0:00", "1990/10/10 10:00"});
  EXPECT_EQ(format_stamp(dates.stamps[1], dates.format), "1990/1/1 0:00");
  const Dates fractions = read({"2020-01-01 00:00:00", "2020-01-01 00:00:00.250"});
  EXPECT_EQ(format_stamp(fractions.stamps[0], fractions.format), "2020-01-01 00:00:00.000");
  const Dates zones = read({"2020-01-01T00:00+02:00", "2020-01-01T00:00Z"});
  EXPECT_EQ(format_stamp(zones.stamps[0], zones.format), "2020-01-01T00:00+02:00");
  EXPECT_EQ(format_stamp(zones.stamps[1], zones.format), "2020-01-01T00:00+00:00");
}

TEST(Calendar, RefusesWhatIsNoDate) {
  for (const char* text : {"",
                           "x",
                           "2016",
                           "5.8",
                           "2016-13-01",
                           "2016-00-01",
                           "2016-02-30",
                           "2015-02-29",
                           "2100-02-29",
                           "2016-07-32",
                           "01/07/2016",
                           "7/1/2016 0:00",
                           "2016-07/01",
                           "2016-7-110:00",
                           "2020-12 - 2020-12-31",
                           "2020-12 - 2020-12-31 24:00",
                           "2016-7-0110:00",
                           "2016-07-01 24:01",
                           "2016-07-01 25:00",
                           "2016Q5",
                           "2016Q0",
                           "2016H3",
                           "2016M13",
                           "2016-W54",
                           "2021-W53",
                           "2016w05",
                           "2016-W05-8",
                           "2015-366",
                           "Mon, 05 Jan 2024",
                           "32 Jan 2016",
                           "5 Jan 16",
                           "Jan 16",
                           "Foo 2016",
                           "13/2016",
                           "2016-07-01 13:00 PM",
                           "2016-07-01 0:00 AM",
                           "2016-07-01/2016-06-01",
                           "2016-07-01/",
                           "2016-07-01 00:00+02:00[Europe",
                           "1467331200",
                           "1467331200000",
                           "42552",
                           "201607",
                           "2016-07-01 00:60",
                           "2016-07-01 00:00:60",
                           "2016-07-01 00",
                           "2016-07-01  00:00",
                           "2016-07-01T",
                           "2016-07-01 00:00x",
                           "2016-07-01 00:00:00.",
                           "2016-07-01 00:00:00.1234567890",
                           "2016-07-01 00:00+",
                           "2016-07-01 00:00+1",
                           "2016-07-01 00:00+19:00",
                           "2016-07-01 00:00+01:60",
                           "2016/7",
                           "20160701",
                           "2016-07-01 00:00:00Z ",
                           "12016-07-01"}) {
    EXPECT_FALSE(is_date(text)) << text;
  }
}

// The dates after these, in the same notation.
TEST(Calendar, NotationsWithOneReading) {
  const auto next = [](const std::vector<std::string>& texts) { return follow(texts, 2).second; };
  using Texts = std::vector<std::string>;
  for (const auto& [dates, expected] : std::initializer_list<std::pair<Texts, Texts>>{
           {{"2003Q3", "2003Q4"}, {"2004Q1", "2004Q2"}},
           {{"2003-Q3", "2003-Q4"}, {"2004-Q1", "2004-Q2"}},
           {{"2003 Q3", "2003 Q4"}, {"2004 Q1", "2004 Q2"}},
           {{"2003:Q3", "2003:Q4"}, {"2004:Q1", "2004:Q2"}},
           {{"Q3 2003", "Q4 2003"}, {"Q1 2004", "Q2 2004"}},
           {{"Q3-2003", "Q4-2003"}, {"Q1-2004", "Q2-2004"}},
           {{"3Q2003", "4Q2003"}, {"1Q2004", "2Q2004"}},
           {{"2003q3", "2003q4"}, {"2004q1", "2004q2"}},
           {{"2003H1", "2003H2"}, {"2004H1", "2004H2"}},
           {{"2003-S1", "2003-S2"}, {"2004-S1", "2004-S2"}},
           {{"2003h1", "2003h2"}, {"2004h1", "2004h2"}},
           {{"2003M11", "2003M12"}, {"2004M01", "2004M02"}},
           {{"2003-M11", "2003-M12"}, {"2004-M01", "2004-M02"}},
           {{"2003m8", "2003m9"}, {"2003m10", "2003m11"}},
           {{"May 2003", "Jun 2003"}, {"Jul 2003", "Aug 2003"}},
           {{"May 2003", "June 2003"}, {"July 2003", "August 2003"}},
           {{"Nov-2003", "Dec-2003"}, {"Jan-2004", "Feb-2004"}},
           {{"2003 Nov", "2003 Dec"}, {"2004 Jan", "2004 Feb"}},
           {{"NOV2003", "DEC2003"}, {"JAN2004", "FEB2004"}},
           {{"11/2003", "12/2003"}, {"01/2004", "02/2004"}},
           {{"11-2003", "12-2003"}, {"01-2004", "02-2004"}},
           {{"2020-W52", "2020-W53"}, {"2021-W01", "2021-W02"}},
           {{"2020W52", "2020W53"}, {"2021W01", "2021W02"}},
           {{"W52-2020", "W53-2020"}, {"W01-2021", "W02-2021"}},
           {{"2020-W53-6", "2020-W53-7"}, {"2021-W01-1", "2021-W01-2"}},
           {{"2020-365", "2020-366"}, {"2021-001", "2021-002"}},
           {{"2020365", "2020366"}, {"2021001", "2021002"}},
           {{"20200228", "20200229"}, {"20200301", "20200302"}},
           {{"202011", "202012"}, {"202101", "202102"}},
           {{"1999", "2000"}, {"2001", "2002"}},
           {{"11.2003", "12.2003"}, {"01.2004", "02.2004"}},
           {{"20201231T2200", "20201231T2300"}, {"20210101T0000", "20210101T0100"}},
           {{"20201231T235958Z", "20201231T235959Z"}, {"20210101T000000Z", "20210101T000001Z"}},
           {{"20201231 22:00", "20201231 23:00"}, {"20210101 00:00", "20210101 01:00"}},
           {{"20201231220000", "20201231230000"}, {"20210101000000", "20210101010000"}},
           {{"2020.12.30", "2020.12.31"}, {"2021.01.01", "2021.01.02"}},
           {{"2020.12.31 22:00", "2020.12.31 23:00"}, {"2021.01.01 00:00", "2021.01.01 01:00"}},
           {{"8 Jan 2021", "9 Jan 2021"}, {"10 Jan 2021", "11 Jan 2021"}},
           {{"08-Jan-2021", "09-Jan-2021"}, {"10-Jan-2021", "11-Jan-2021"}},
           {{"31-Dec-2020 22:00", "31-Dec-2020 23:00"}, {"01-Jan-2021 00:00", "01-Jan-2021 01:00"}},
           {{"31DEC2020:22:00:00", "31DEC2020:23:00:00"}, {"01JAN2021:00:00:00", "01JAN2021:01:00:00"}},
           {{"31dec2020 22:00:00", "31dec2020 23:00:00"}, {"01jan2021 00:00:00", "01jan2021 01:00:00"}},
           {{"31/Dec/2020:22:00:00 +0100", "31/Dec/2020:23:00:00 +0100"},
            {"01/Jan/2021:00:00:00 +0100", "01/Jan/2021:01:00:00 +0100"}},
           {{"Dec 7, 2020", "Dec 8, 2020"}, {"Dec 9, 2020", "Dec 10, 2020"}},
           {{"December 30, 2020", "December 31, 2020"}, {"January 01, 2021", "January 02, 2021"}},
           {{"Jan 1, 2021, 10:00 PM", "Jan 1, 2021, 11:00 PM"}, {"Jan 2, 2021, 12:00 AM", "Jan 2, 2021, 01:00 AM"}},
           {{"Wed, 30 Dec 2020 00:00:00 +0000", "Thu, 31 Dec 2020 00:00:00 +0000"},
            {"Fri, 01 Jan 2021 00:00:00 +0000", "Sat, 02 Jan 2021 00:00:00 +0000"}},
           {{"Wed, 30 Dec 2020 00:00:00 GMT", "Thu, 31 Dec 2020 00:00:00 GMT"},
            {"Fri, 01 Jan 2021 00:00:00 GMT", "Sat, 02 Jan 2021 00:00:00 GMT"}},
           {{"2020-12-31 10:00 AM", "2020-12-31 11:00 AM"}, {"2020-12-31 12:00 PM", "2020-12-31 01:00 PM"}},
           {{"2020-12-31 10:00:00pm", "2020-12-31 11:00:00pm"}, {"2021-01-01 12:00:00am", "2021-01-01 01:00:00am"}},
           {{"2020-12-31T22", "2020-12-31T23"}, {"2021-01-01T00", "2021-01-01T01"}},
           {{"2020-12-31 22h", "2020-12-31 23h"}, {"2021-01-01 00h", "2021-01-01 01h"}},
           {{"2020-12-31 22:00:00,250", "2020-12-31 22:00:00,500"},
            {"2020-12-31 22:00:00,750", "2020-12-31 22:00:01,000"}},
           {{"2020-12-31 22:00:00 UTC", "2020-12-31 23:00:00 UTC"},
            {"2021-01-01 00:00:00 UTC", "2021-01-01 01:00:00 UTC"}},
           {{"2020-12-31 22:00 +01:00", "2020-12-31 23:00 +01:00"},
            {"2021-01-01 00:00 +01:00", "2021-01-01 01:00 +01:00"}},
           {{"2020-12-31T22:00+01:00[Europe/Oslo]", "2020-12-31T23:00+01:00[Europe/Oslo]"},
            {"2021-01-01T00:00+01:00[Europe/Oslo]", "2021-01-01T01:00+01:00[Europe/Oslo]"}},
           {{"2020-12-31 22:00", "2020-12-31 23:00", "2020-12-31 24:00"}, {"2021-01-01 01:00", "2021-01-01 02:00"}},
           {{"2020-12-31T22:45", "2020-12-31T23:00"}, {"2020-12-31T23:15", "2020-12-31T23:30"}},
           {{"2020-12-31 22:00 - 2020-12-31 23:00", "2020-12-31 23:00 - 2020-12-31 24:00"},
            {"2021-01-01 00:00 - 2021-01-01 01:00", "2021-01-01 01:00 - 2021-01-01 02:00"}},
           {{"2020-12-14/2020-12-20", "2020-12-21/2020-12-27"}, {"2020-12-28/2021-01-03", "2021-01-04/2021-01-10"}},
           {{"2019-11-01/2019-11-30", "2019-12-01/2019-12-31"}, {"2020-01-01/2020-01-31", "2020-02-01/2020-02-29"}},
           {{"1609455600", "1609459200"}, {"1609462800", "1609466400"}},
           {{"1609455600000", "1609455600250"}, {"1609455600500", "1609455600750"}},
           {{"1609455600000001", "1609455600000002"}, {"1609455600000003", "1609455600000004"}},
           {{"1609455600000000000", "1609459200000000000"}, {"1609462800000000000", "1609466400000000000"}},
           {{"1609455600.5", "1609455601.0"}, {"1609455601.5", "1609455602.0"}},
       }) {
    EXPECT_EQ(next(dates), expected) << dates[0];
  }
  EXPECT_EQ(read({"2020-W53-5"}).stamps, read({"2021-01-01"}).stamps);
  EXPECT_EQ(read({"2021-01-01T24:00"}).stamps, read({"2021-01-02T00:00"}).stamps);
  EXPECT_EQ(read({"1609455600500"}).stamps, read({"2020-12-31 23:00:00.500"}).stamps);
  EXPECT_EQ(read({"2H2020"}, "%hH%Y").stamps, read({"2020-07-01"}).stamps);
  EXPECT_EQ(follow({"2020-01-01 22:00", "2020-01-01 23:00", "2020-01-01 24:00"}, 24).second.back(), "2020-01-02 24:00");
}

TEST(Calendar, DigitsAloneAreDatesOnlyWhereTheColumnIsOne) {
  const auto reads = [](const std::string& text, Digits digits) {
    DateFormat format;
    format.digits = digits;
    Stamp stamp;
    return parse_stamp(text, format, stamp);
  };
  for (const char* text : {"1609455600", "1609455600000", "20200229", "202002291200", "1609455600.25"}) {
    EXPECT_FALSE(reads(text, Digits::none)) << text;
    EXPECT_TRUE(reads(text, Digits::moments)) << text;
  }
  for (const char* text : {"1990", "199012", "1990365", "12.1990"}) {
    EXPECT_FALSE(reads(text, Digits::moments)) << text;
    EXPECT_TRUE(reads(text, Digits::years)) << text;
  }
  // Measurements; a day number of a spreadsheet; seconds of 2033 or an hour of 2016; 12 July or 7 December.
  for (const char* text :
       {"0", "17", "1013.25", "45292", "45292.5", "2016070105", "12072016", "99999999", "0101", "1990.5"}) {
    EXPECT_FALSE(reads(text, Digits::years)) << text;
  }
}

TEST(Calendar, PatternsThatReadEveryDate) {
  using Texts = std::vector<std::string>;
  for (const auto& [dates, patterns] : std::initializer_list<std::pair<Texts, Texts>>{
           {{"01/08/2016", "13/08/2016"}, {"%d/%m/%Y"}},
           {{"1/8/2016 0:00", "1/13/2016 0:00"}, {"%m/%d/%Y %H:%M"}},
           {{"01.08.2016 12:00:00", "02.08.2016 12:00:00"}, {"%d.%m.%Y %H:%M:%S", "%m.%d.%Y %H:%M:%S"}},
           {{"31-12-99"}, {"%d-%m-%y"}},
           {{"Jan-05", "Dec-31"}, {"%b-%y"}},
           {{"2016070105"}, {"%Y%m%d%H", "%s"}},
           {{"31122016"}, {"%d%m%Y"}},
           {{"01.01.2024 00:00 - 01.01.2024 01:00", "13.01.2024 00:00 - 13.01.2024 01:00"}, {"%d.%m.%Y %H:%M"}},
           {{"01/08/2016", "x"}, {}},
           {{"45292"}, {}},
       }) {
    EXPECT_EQ(possible_patterns(dates), patterns) << dates[0];
  }
}

TEST(Calendar, AllDatesOrNoneHaveAnOffset) {
  DateFormat format;
  Stamp stamp;
  EXPECT_TRUE(parse_stamp("2016-07-01T00:00Z", format, stamp));
  EXPECT_FALSE(parse_stamp("2016-07-01T01:00", format, stamp));
  EXPECT_TRUE(parse_stamp("2016-07-01T01:00+01:00", format, stamp));
}

TEST(Calendar, PatternsReadAndWrite) {
  for (const auto& [pattern, text] : std::initializer_list<std::pair<const char*, const char*>>{
           {"%d.%m.%Y %H:%M", "01.07.2016 05:00"},
           {"%d/%m/%y", "1/7/16"},
           {"%b %d, %Y %I:%M:%S %p", "Jul 01, 2016 12:30:00 AM"},
           {"%d %B %Y", "29 February 2020"},
           {"%Y%m%d%H", "2016070105"},
           {"%Y-%m-%dT%H:%M:%S.%f%z", "2016-07-01T05:00:00.250+02:00"},
           {"%s", "1467331200"},
           {"%Y", "1990"},
           {"%Y%%", "1990%"},
           {"%9s", "-1500000000"},
           {"%3s", "5"},
           {"%A %d-%B-%Y", "FRIDAY 01-JANUARY-2021"},
           {"week %V of %G", "week 53 of 2020"},
           {"%d.%m.%Y %H:%M", "01.07.2016 24:00"}}) {
    check_date_pattern(pattern);
    const Dates dates = read({text}, pattern);
    EXPECT_EQ(format_stamp(dates.stamps[0], dates.format), text) << pattern;
  }
  EXPECT_EQ(read({"31/12/68"}, "%d/%m/%y").stamps[0], read({"2068-12-31"}).stamps[0]);
  EXPECT_EQ(read({"jan 5 1999 12:00 pm"}, "%b %d %Y %I:%M %p").stamps[0], read({"1999-01-05 12:00"}).stamps[0]);
  EXPECT_EQ(read({"1467331200"}, "%s").stamps[0], read({"2016-07-01"}).stamps[0]);
  EXPECT_FALSE(is_date("01.07.2016", "%d.%m.%Y %H:%M"));
  EXPECT_FALSE(is_date("01.07.2016x", "%d.%m.%Y"));
  EXPECT_FALSE(is_date("13:00 AM 2016-01-01", "%I:%M %p %Y-%m-%d"));
  for (const char* bad : {"%Q", "%2s", "%3", "%G", "%V %Y", "%d.%m", "%Y %d", "%Y-%m-%d %I", "%Y%", ""}) {
    EXPECT_THROW(check_date_pattern(bad), Error) << bad;
  }
}

TEST(Calendar, StepsFollowTheCalendar) {
  EXPECT_EQ(follow({"2016-07-01 23:15:00", "2016-07-01 23:30:00", "2016-07-01 23:45:00"}, 2),
            Found("15 minutes", {"2016-07-02 00:00:00", "2016-07-02 00:15:00"}));
  EXPECT_EQ(follow({"2016-12-31 22:00", "2016-12-31 23:00"}, 1), Found("1 hour", {"2017-01-01 00:00"}));
  EXPECT_EQ(follow({"2020-02-27", "2020-02-28"}, 2), Found("1 day", {"2020-02-29", "2020-03-01"}));
  EXPECT_EQ(follow({"2019-02-27", "2019-02-28"}, 1), Found("1 day", {"2019-03-01"}));
  EXPECT_EQ(follow({"1990/1/1 0:00", "1990/1/2 0:00"}, 1), Found("1 day", {"1990/1/3 0:00"}));
  EXPECT_EQ(follow({"2020-02-15", "2020-02-22"}, 2), Found("1 week", {"2020-02-29", "2020-03-07"}));
  EXPECT_EQ(follow({"2020-01-01 00:00:00.25", "2020-01-01 00:00:00.50"}, 3),
            Found("250 milliseconds", {"2020-01-01 00:00:00.75", "2020-01-01 00:00:01.00", "2020-01-01 00:00:01.25"}));
  EXPECT_EQ(follow({"2020-01-01 00:00", "2020-01-02 12:00", "2020-01-04 00:00"}, 1),
            Found("36 hours", {"2020-01-05 12:00"}));
}

TEST(Calendar, MonthsEndStartOrClamp) {
  EXPECT_EQ(follow({"2019-11-30", "2019-12-31", "2020-01-31"}, 3),
            Found("1 month (end)", {"2020-02-29", "2020-03-31", "2020-04-30"}));
  EXPECT_EQ(follow({"2018-12-31", "2019-01-31"}, 2), Found("1 month (end)", {"2019-02-28", "2019-03-31"}));
  EXPECT_EQ(follow({"2019-11-01", "2019-12-01"}, 2), Found("1 month (start)", {"2020-01-01", "2020-02-01"}));
  EXPECT_EQ(follow({"2018-11-30", "2018-12-30", "2019-01-30"}, 3),
            Found("1 month (day 30)", {"2019-02-28", "2019-03-30", "2019-04-30"}));
  EXPECT_EQ(follow({"2019-01-30", "2019-02-28"}, 1), Found("1 month (day 30)", {"2019-03-30"}));
  EXPECT_EQ(follow({"2019-03-31", "2019-06-30", "2019-09-30"}, 2),
            Found("1 quarter (end)", {"2019-12-31", "2020-03-31"}));
  EXPECT_EQ(follow({"2019-01-01 06:00", "2019-07-01 06:00"}, 1), Found("2 quarters (start)", {"2020-01-01 06:00"}));
  EXPECT_EQ(follow({"2012-02-29", "2013-02-28", "2014-02-28"}, 2), Found("1 year (end)", {"2015-02-28", "2016-02-29"}));
  EXPECT_EQ(follow({"2019-11", "2019-12"}, 2), Found("1 month (start)", {"2020-01", "2020-02"}));
  EXPECT_EQ(follow({"1990", "1991"}, 1, "", "%Y"), Found("1 year (start)", {"1992"}));
}

TEST(Calendar, BusinessDaysSkipWeekends) {
  EXPECT_EQ(follow({"2024-02-28", "2024-02-29", "2024-03-01", "2024-03-04", "2024-03-05", "2024-03-06", "2024-03-07",
                    "2024-03-08"},
                   2),
            Found("1 business day", {"2024-03-11", "2024-03-12"}));
  // Without a weekend in sight the days are plain days.
  EXPECT_EQ(follow({"2024-03-06", "2024-03-07", "2024-03-08"}, 1), Found("1 day", {"2024-03-09"}));
  EXPECT_EQ(follow({"2024-03-06", "2024-03-07", "2024-03-08"}, 2, "b"),
            Found("1 business day", {"2024-03-11", "2024-03-12"}));
  EXPECT_EQ(follow({"2024-03-09"}, 1, "b"), Found("1 business day", {"2024-03-11"}));
  EXPECT_EQ(follow({"1969-12-26"}, 3, "b"), Found("1 business day", {"1969-12-29", "1969-12-30", "1969-12-31"}));
}

// Rows of so many weeks from Monday 2023-01-02 on at these hours of these days; `but` leaves some out.
std::vector<std::string> weeks_of(
    const std::vector<std::vector<int>>& hours_of_days, int weeks,
    const std::function<bool(int)>& but = [](int) { return false; }) {
  std::vector<std::string> rows;
  DateFormat format;
  Stamp stamp;
  int row = 0;
  parse_stamp("2023-01-02 00:00", format, stamp);
  const std::int64_t monday = stamp.seconds;
  for (int week = 0; week < weeks; ++week) {
    for (std::size_t day = 0; day < hours_of_days.size(); ++day) {
      for (const int hour : hours_of_days[day]) {
        stamp.seconds = monday + (week * 7 + static_cast<int>(day)) * 86400 + hour * 3600;
        if (!but(row++)) rows.push_back(format_stamp(stamp, format));
      }
    }
  }
  return rows;
}

TEST(Calendar, SlotsOfAWeek) {
  const std::vector<int> none, midnight = {0}, twice = {8, 20}, shop = {10, 11, 12, 13, 14, 15, 16, 17},
                               half = {10, 11, 12};
  std::vector<int> all_day;
  for (int hour = 0; hour < 24; ++hour) all_day.push_back(hour);
  const auto repeat = [](const std::vector<int>& hours, int days) {
    return std::vector<std::vector<int>>(static_cast<std::size_t>(days), hours);
  };
  const auto check = [](const std::vector<std::string>& rows, const Found& found, const std::string& freq, int season) {
    const std::vector<Stamp> dates = read(rows).stamps;
    const Step step = infer_step(dates);
    EXPECT_EQ(follow(rows, static_cast<int>(found.second.size())), found);
    EXPECT_EQ(step.freq(), freq);
    EXPECT_EQ(parse_freq(step.freq(), dates), step);
    EXPECT_EQ(step.season(), season);
    EXPECT_EQ(steps_between(dates.front(), dates.back(), step), std::ssize(dates) - 1) << freq;
  };
  check(weeks_of(repeat(midnight, 6), 4),
        {"1 day, Monday to Saturday",
         {"2023-01-30 00:00", "2023-01-31 00:00", "2023-02-01 00:00", "2023-02-02 00:00", "2023-02-03 00:00",
          "2023-02-04 00:00", "2023-02-06 00:00"}},
        "mon-sat@00:00", 6);
  check(weeks_of({midnight, midnight, midnight, midnight, none, none, midnight}, 4),
        {"1 day, Monday to Thursday, Sunday",
         {"2023-01-30 00:00", "2023-01-31 00:00", "2023-02-01 00:00", "2023-02-02 00:00", "2023-02-05 00:00"}},
        "mon-thu,sun@00:00", 5);
  check(weeks_of(repeat(shop, 5), 3),
        {"1 hour, Monday to Friday 10:00 to 17:00", {"2023-01-23 10:00", "2023-01-23 11:00"}}, "mon-fri@10:00-17:00/1h",
        8);
  check(weeks_of({shop, shop, shop, shop, shop, half}, 3),
        {"1 hour, Monday to Friday 10:00 to 17:00; Saturday 10:00 to 12:00", {"2023-01-23 10:00"}},
        "mon-fri@10:00-17:00/1h+sat@10:00-12:00/1h", 43);
  check(weeks_of(repeat(twice, 7), 3), {"12 hours", {"2023-01-23 08:00", "2023-01-23 20:00"}}, "12h", 0);
  check(
      weeks_of(repeat({7, 12, 22}, 7), 3),
      {"21 rows a week, Monday to Sunday 07:00 to 22:00", {"2023-01-23 07:00", "2023-01-23 12:00", "2023-01-23 22:00"}},
      "mon-sun@07:00,12:00,22:00", 3);
  check(weeks_of(repeat(twice, 5), 3),
        {"10 rows a week, Monday to Friday 08:00 and 20:00", {"2023-01-23 08:00", "2023-01-23 20:00"}},
        "mon-fri@08:00,20:00", 2);
  // 119 of 120 differences are an hour, and yet no row is ever on a weekend.
  check(weeks_of(repeat(all_day, 5), 3), {"1 hour, Monday to Friday 00:00 to 23:00", {"2023-01-23 00:00"}},
        "mon-fri@00:00-23:00/1h", 24);
  check(weeks_of({{9}, none, none, {14}}, 4),
        {"1 day, Monday 09:00; Thursday 14:00", {"2023-01-30 09:00", "2023-02-02 14:00"}}, "mon@09:00+thu@14:00", 2);

  // Holes are counted in slots, and up to a tenth of the rows may be absent.
  const auto holidays = [](int row) { return row == 7 || row == 20; };
  const std::vector<Stamp> dates = read(weeks_of(repeat(midnight, 6), 6, holidays)).stamps;
  EXPECT_EQ(infer_step(dates).freq(), "mon-sat@00:00");
  EXPECT_EQ(steps_between(dates[6], dates[7], infer_step(dates)), 2);
  // A plain step with rows that are absent here and there is a plain step.
  EXPECT_EQ(infer_step(read(weeks_of(repeat(all_day, 7), 3, [](int row) { return row % 50 == 7; })).stamps).name(),
            "1 hour");
  // Two weeks must show it.
  EXPECT_FALSE(infer_step(read(weeks_of(repeat(shop, 5), 2)).stamps).known());

  const std::vector<Stamp> at_nine = read({"2023-01-06 09:00"}).stamps;
  EXPECT_EQ(follow({"2023-01-07 09:00"}, 2, "Mon-Sat").second,
            (std::vector<std::string>{"2023-01-09 09:00", "2023-01-10 09:00"}));
  EXPECT_EQ(parse_freq("sun-thu", at_nine).freq(), "mon-thu,sun@09:00");
  EXPECT_EQ(parse_freq("fri@9:30-10:00/15min,18:00:30", {}).freq(), "fri@09:30,09:45,10:00,18:00:30");
  for (const char* bad : {"mo", "mon@25:00", "mon@9:00-8:00/1h", "mon@9:00-10:00", "mon@9:00-10:00/1d", "mon+x",
                          "mon@9:00-10:00/1ns", "2mon"}) {
    EXPECT_THROW(parse_freq(bad, {}), Error) << bad;
  }
}

TEST(Calendar, WeekdaysOfMonths) {
  EXPECT_EQ(follow({"2024-01-19", "2024-02-16", "2024-03-15", "2024-04-19", "2024-05-17"}, 2),
            Found("1 month (3rd Friday)", {"2024-06-21", "2024-07-19"}));
  EXPECT_EQ(follow({"2024-01-26", "2024-02-23", "2024-03-29", "2024-04-26", "2024-05-31"}, 2),
            Found("1 month (last Friday)", {"2024-06-28", "2024-07-26"}));
  EXPECT_EQ(follow({"2024-06-28", "2024-07-31", "2024-08-30", "2024-09-30", "2024-10-31", "2024-11-29"}, 2),
            Found("1 month (last business day)", {"2024-12-31", "2025-01-31"}));
  EXPECT_EQ(follow({"2024-04-01", "2024-05-01", "2024-06-03", "2024-07-01", "2024-08-01", "2024-09-02"}, 3),
            Found("1 month (first business day)", {"2024-10-01", "2024-11-01", "2024-12-02"}));
  EXPECT_EQ(follow({"2024-01-05", "2024-02-02", "2024-03-01"}, 1), Found("4 weeks", {"2024-03-29"}));
}

TEST(Calendar, JitteringTimes) {
  const std::vector<std::string> rows = {"2024-06-01T00:00:00.000", "2024-06-01T00:00:30.210",
                                         "2024-06-01T00:00:59.870", "2024-06-01T00:01:30.400",
                                         "2024-06-01T00:02:00.100"};
  EXPECT_EQ(follow(rows, 2), Found("30 seconds", {"2024-06-01T00:02:30.100", "2024-06-01T00:03:00.100"}));
  const std::vector<Stamp> dates = read(rows).stamps;
  EXPECT_TRUE(jitters(dates, parse_freq("30s", dates)));
  EXPECT_FALSE(jitters(dates, parse_freq("29s", dates)) && jitters(dates, parse_freq("20s", dates)));
  EXPECT_EQ(nearest_steps(dates[0], dates[1], parse_freq("30s", {})), 1);
  EXPECT_EQ(nearest_steps(dates[0], dates[3], parse_freq("30s", {})), 3);
  EXPECT_EQ(nearest_steps(dates[3], dates[0], parse_freq("30s", {})), -3);
  EXPECT_EQ(follow({"2024-06-01 07:55", "2024-06-02 08:20", "2024-06-03 07:40", "2024-06-04 08:00"}, 1),
            Found("1 day", {"2024-06-05 08:00"}));
  // Seven per cent off, and not round.
  EXPECT_FALSE(infer_step(read({"2024-06-01 00:00", "2024-06-01 00:32", "2024-06-01 01:00", "2024-06-01 01:32"}).stamps)
                   .known());
  EXPECT_FALSE(
      infer_step(
          read({"2024-06-01 00:00:00", "2024-06-01 00:00:44", "2024-06-01 00:01:29", "2024-06-01 00:02:13"}).stamps)
          .known());
}

TEST(Calendar, AGridThatHolesHide) {
  EXPECT_EQ(grid_of(read({"2024-06-01 00:00", "2024-06-01 01:00", "2024-06-01 02:00", "2024-06-01 04:00",
                          "2024-06-01 05:00", "2024-06-01 09:00"})
                        .stamps)
                .freq(),
            "1h");
  // The 1st and the 15th.
  EXPECT_FALSE(
      grid_of(read({"2024-01-01", "2024-01-15", "2024-02-01", "2024-02-15", "2024-03-01", "2024-03-15"}).stamps)
          .known());
}

TEST(Calendar, OffsetsAreKept) {
  // Europe, spring: 01:00+01:00 is followed by 03:00+02:00.
  EXPECT_EQ(follow({"2024-03-31T00:00:00+01:00", "2024-03-31T01:00:00+01:00", "2024-03-31T03:00:00+02:00"}, 2),
            Found("1 hour", {"2024-03-31T04:00:00+02:00", "2024-03-31T05:00:00+02:00"}));
  EXPECT_EQ(follow({"2024-03-30T00:00+01:00", "2024-03-31T00:00+01:00", "2024-04-01T00:00+02:00"}, 1),
            Found("1 day", {"2024-04-02T00:00+02:00"}));
  EXPECT_EQ(follow({"2024-03-31T00:00Z", "2024-03-31T01:00Z"}, 1), Found("1 hour", {"2024-03-31T02:00Z"}));
  const Dates autumn = read({"2024-10-27T02:30+02:00", "2024-10-27T02:30+01:00"});
  EXPECT_LT(compare(autumn.stamps[0], autumn.stamps[1]), 0);
  EXPECT_EQ(steps_between(autumn.stamps[0], autumn.stamps[1], parse_freq("h", {})), 1);
}

TEST(Calendar, ClocksOfAPlace) {
  const TimeZone oslo("Europe/Oslo"), chatham("Pacific/Chatham");
  const auto at = [](const char* text) { return read({text}).stamps[0]; };
  Stamp stamp = at("2024-07-01 12:00");
  EXPECT_EQ(oslo.locate(stamp), TimeZone::Hour::unique);
  EXPECT_EQ(stamp.offset_minutes, 120);
  EXPECT_EQ(chatham.locate(stamp), TimeZone::Hour::unique);
  EXPECT_EQ(stamp.offset_minutes, 765);
  stamp = at("2024-10-27 02:30");
  EXPECT_EQ(oslo.locate(stamp), TimeZone::Hour::repeated);
  EXPECT_EQ(stamp.offset_minutes, 120);
  oslo.locate_after(stamp);
  EXPECT_EQ(stamp.offset_minutes, 60);
  stamp = at("2024-03-31 02:30");
  EXPECT_EQ(oslo.locate(stamp), TimeZone::Hour::absent);
  oslo.locate_after(stamp);
  EXPECT_EQ(stamp, at("2024-03-31 03:30+02:00"));
  stamp = at("2024-01-01T00:00Z");
  oslo.convert(stamp);
  EXPECT_EQ(stamp, at("2024-01-01 01:00+01:00"));

  for (const auto& [name, nearest] : {std::pair("Europe/Osllo", "'Europe/Oslo'"), std::pair("oslo", "'Europe/Oslo'"),
                                      std::pair("Atlantis", "IANA")}) {
    EXPECT_FALSE(TimeZone::exists(name));
    try {
      const TimeZone none(name);
      FAIL();
    } catch (const Error& error) {
      EXPECT_EQ(error.code, Exit::usage);
      EXPECT_NE(error.advice.find(nearest), std::string::npos) << error.advice;
    }
  }

  const auto follow_in = [](const TimeZone& zone, const std::string& last, const char* freq) {
    const Dates dates = read({last});
    Stamp stamp = dates.stamps[0];
    zone.locate(stamp);
    std::vector<std::string> next;
    for (const Stamp& s : continue_dates(stamp, parse_freq(freq, dates.stamps), 3, &zone)) {
      next.push_back(format_stamp(s, dates.format));
    }
    return next;
  };
  using Texts = std::vector<std::string>;
  EXPECT_EQ(follow_in(oslo, "2024-03-31 00:00", "h"),
            (Texts{"2024-03-31 01:00", "2024-03-31 03:00", "2024-03-31 04:00"}));
  EXPECT_EQ(follow_in(oslo, "2024-10-27 01:00", "h"),
            (Texts{"2024-10-27 02:00", "2024-10-27 02:00", "2024-10-27 03:00"}));
  EXPECT_EQ(follow_in(oslo, "2024-03-30 02:30", "d"),
            (Texts{"2024-03-31 03:30", "2024-04-01 02:30", "2024-04-02 02:30"}));
}

TEST(Calendar, ChangesOfClocks) {
  const auto zone = [](const char* before, const char* after) {
    const std::vector<Stamp> dates = read({before, after}).stamps;
    return zone_of_change(dates[0], dates[1]);
  };
  EXPECT_EQ(zone("2023-03-26 01:00", "2023-03-26 03:00"), "Europe/Berlin");
  EXPECT_EQ(zone("2023-03-26 01:45", "2023-03-26 03:00"), "Europe/Berlin");
  EXPECT_EQ(zone("2023-03-26 00:30", "2023-03-26 02:30"), "Europe/London");
  EXPECT_EQ(zone("2023-03-26 02:00", "2023-03-26 04:00"), "Europe/Athens");
  EXPECT_EQ(zone("2023-03-12 01:00", "2023-03-12 03:00"), "America/New_York");
  EXPECT_EQ(zone("2023-10-29 02:00", "2023-10-29 02:00"), "Europe/Berlin");
  EXPECT_EQ(zone("2023-10-29 02:45", "2023-10-29 02:00"), "Europe/Berlin");
  EXPECT_EQ(zone("2023-11-05 01:30", "2023-11-05 01:00"), "America/New_York");
  EXPECT_EQ(zone("2023-03-19 01:00", "2023-03-19 03:00"), "");
  EXPECT_EQ(zone("2023-03-26 01:00", "2023-03-26 04:00"), "");
  EXPECT_EQ(zone("2023-10-29 02:00", "2023-10-29 03:00"), "");
  EXPECT_EQ(zone("2023-10-22 02:00", "2023-10-22 02:00"), "");
  EXPECT_EQ(zone("2023-03-25 01:00", "2023-03-26 03:00"), "");
}

TEST(Calendar, NinetyPercentMustAgree) {
  std::vector<Stamp> dates;
  for (int i = 0; i < 21; ++i) dates.push_back({3600 * i});
  dates[5].seconds += 600;  // spoils two of twenty differences
  EXPECT_EQ(infer_step(dates).name(), "1 hour");
  dates[9].seconds += 600;
  EXPECT_FALSE(infer_step(dates).known());
  try {
    continue_dates(dates.back(), infer_step(dates), 1);
    FAIL();
  } catch (const Error& error) {
    EXPECT_EQ(error.code, Exit::data);
    EXPECT_NE(error.advice.find("--freq"), std::string::npos);
  }
  EXPECT_FALSE(infer_step({}).known());
  EXPECT_FALSE(infer_step(std::vector<Stamp>{{0}}).known());
  EXPECT_FALSE(infer_step(std::vector<Stamp>{{0}, {0}, {0}}).known());
  EXPECT_FALSE(infer_step(std::vector<Stamp>{{7200}, {3600}, {0}}).known());
}

TEST(Calendar, FrequenciesAndSeasons) {
  const std::vector<Stamp> ends = read({"2024-01-31", "2024-02-29"}).stamps;
  for (const auto& [freq, name, season] :
       std::initializer_list<std::tuple<const char*, const char*, int>>{{"15min", "15 minutes", 96},
                                                                        {"15t", "15 minutes", 96},
                                                                        {"h", "1 hour", 24},
                                                                        {"60min", "1 hour", 24},
                                                                        {"1H", "1 hour", 24},
                                                                        {"24h", "1 day", 7},
                                                                        {"d", "1 day", 7},
                                                                        {"b", "1 business day", 5},
                                                                        {"w", "1 week", 52},
                                                                        {"7d", "1 week", 52},
                                                                        {"m", "1 month (end)", 12},
                                                                        {"Q", "1 quarter (end)", 4},
                                                                        {"3m", "1 quarter (end)", 4},
                                                                        {"y", "1 year (end)", 0},
                                                                        {"30s", "30 seconds", 0},
                                                                        {"2h", "2 hours", 0},
                                                                        {"5min", "5 minutes", 0}}) {
    const Step step = parse_freq(freq, ends);
    EXPECT_EQ(step.name(), name) << freq;
    EXPECT_EQ(step.season(), season) << freq;
    EXPECT_EQ(parse_freq(step.freq(), ends), step) << freq;
  }
  for (const char* freq : {"500000000ns", "1500000000ns"}) EXPECT_EQ(parse_freq(freq, {}).freq(), freq);
  EXPECT_EQ(Step().season(), 0);
  EXPECT_EQ(Step().name(), "unknown");
  for (const char* bad : {"", "x", "0h", "-1h", "h1", "1.5h", "99999999999999999999h", "1000000000h",
                          "1000000000000000001ns", "15", "hh", " h"}) {
    EXPECT_THROW(parse_freq(bad, {}), Error) << bad;
  }
  EXPECT_EQ(format_stamp(continue_dates({}, parse_freq("83333333y", {}), 3).back(), read({"1970-01-01"}).format),
            "250001969-01-01");
}

TEST(Calendar, StepsBetween) {
  const auto between = [](const char* a, const char* b, const char* freq) {
    const std::vector<Stamp> dates = read({a, b}).stamps;
    return steps_between(dates[0], dates[1], parse_freq(freq, dates)).value_or(-99);
  };
  EXPECT_EQ(between("2024-01-01 00:00", "2024-01-01 05:00", "h"), 5);
  EXPECT_EQ(between("2024-01-01 05:00", "2024-01-01 00:00", "h"), -5);
  EXPECT_EQ(between("2024-01-01 00:00", "2024-01-01 00:30", "h"), -99);
  EXPECT_EQ(between("2024-01-31", "2024-04-30", "m"), 3);
  EXPECT_EQ(between("2024-01-15", "2024-04-15", "q"), 1);
  EXPECT_EQ(between("2024-03-01", "2024-03-04", "b"), 1);
  EXPECT_EQ(between("2024-03-01", "2024-03-03", "b"), -99);
  EXPECT_EQ(between("2024-03-01", "2024-03-03 01:00", "d"), -99);
  EXPECT_EQ(between("0001-01-01 00:00", "9999-01-01 00:00", "1ns"), -99);
}

}  // namespace
}  // namespace samformer::model
