// Messages, progress and tables. Time is a variable of the test.
#include "tools/cli/console.h"

#include <fmt/format.h>
#include <gtest/gtest.h>
#include <stdlib.h>

#include <algorithm>

namespace samformer::tools {
namespace {

class ConsoleTest : public testing::Test {
 protected:
  ConsoleTest() : file_(std::tmpfile()) {}
  ~ConsoleTest() override { std::fclose(file_); }
  // What was written since the last call.
  std::string written() {
    std::fflush(file_);
    std::string text(static_cast<std::size_t>(std::ftell(file_)), '\0');
    std::rewind(file_);
    text.resize(std::fread(text.data(), 1, text.size(), file_));
    std::rewind(file_);
    return text;
  }
  Clock clock() {
    return [this] { return now_; };
  }
  std::FILE* file_;
  double now_ = 1000;
};

TEST_F(ConsoleTest, QuietKeepsWarningsAndErrors) {
  for (const bool quiet : {false, true}) {
    Console console(file_, false, quiet, false);
    console.info("one");
    console.warning("two");
    console.error("three");
    EXPECT_EQ(written(), quiet ? "warning: two\nerror: three\n" : "one\nwarning: two\nerror: three\n");
  }
}

TEST_F(ConsoleTest, LogGetsEverythingEvenWhenQuiet) {
  Console console(file_, false, true, false);
  std::vector<std::string> log;
  console.set_log([&](std::string_view line) { log.emplace_back(line); });
  console.info("one");
  console.warning("two");
  console.error("three");
  console.log("four");
  console.set_log({});
  console.info("five");
  EXPECT_EQ(log, (std::vector<std::string>{"one", "warning: two", "error: three", "four"}));
}

// Each log gets what was said before the first one, and nothing of what was said between two of them.
TEST_F(ConsoleTest, ReplayGivesWhatWasSaidBefore) {
  Console console(file_, false, true, false);
  console.info("one");
  std::vector<std::string> common, own;
  console.replay([&](std::string_view line) { common.emplace_back(line); });
  console.info("two");
  console.set_log([&](std::string_view line) { own.emplace_back(line); });
  console.info("three");
  EXPECT_EQ(common, (std::vector<std::string>{"one"}));
  EXPECT_EQ(own, (std::vector<std::string>{"one", "three"}));
}

TEST_F(ConsoleTest, NamesFromOutsideCommandNoTerminal) {
  Console console(file_, true, false, false);
  std::string log;
  console.set_log([&](std::string_view line) { log += fmt::format("{}|", line); });
  console.info("\x1b[2J\nx");
  console.warning("\xc2\x9b\xff");
  console.error("\x07\n  hint: \x7f");  // its lines are its own
  EXPECT_EQ(written(), "\r\x1b[K?[2J?x\n\r\x1b[Kwarning: ??\n\r\x1b[Kerror: ?\n  hint: ?\n");
  EXPECT_EQ(log, "?[2J?x|warning: ??|error: ?\n  hint: ?|");
  console.status("\x1b[2J");
  EXPECT_EQ(written(), "\r\x1b[K?[2J");
}

TEST_F(ConsoleTest, ColourIsForLabelsOnly) {
  Console console(file_, true, false, true);
  console.warning("two");
  EXPECT_EQ(written(), "\r\x1b[K\x1b[1;33mwarning: \x1b[0mtwo\n");
  console.info("one");
  EXPECT_EQ(written(), "\r\x1b[Kone\n");
}

TEST_F(ConsoleTest, StatusIsForTerminalsAndFitsTheLine) {
  Console plain(file_, false, false, false), quiet(file_, true, true, false), terminal(file_, true, false, false);
  plain.status("bar");
  quiet.status("bar");
  EXPECT_EQ(written(), "");
  std::string wide;
  for (int i = 0; i < 200; ++i) wide += "\xc3\xbc";
  terminal.status(wide);
  EXPECT_EQ(written(), "\r\x1b[K" + wide.substr(0, 2 * 79));
}

TEST_F(ConsoleTest, LinesAreTenSecondsApartFirstAndLastAlways) {
  Console console(file_, false, false, false);
  std::vector<std::string> log;
  console.set_log([&](std::string_view line) { log.emplace_back(line); });
  Progress progress(console, clock());
  std::string lines;
  for (int epoch = 1; epoch <= 9; ++epoch) {
    progress.epoch_begin(epoch, 100, 10);
    for (int step = 1; step <= 10; ++step) progress.step(step);
    now_ += 4;
    progress.epoch_end(std::to_string(epoch), epoch == 9);
  }
  EXPECT_EQ(written(), "1\n4\n7\n9\n");
  EXPECT_EQ(log.size(), 9u) << "the log has every epoch, once";
}

TEST_F(ConsoleTest, HeartbeatEverySixtySecondsInsideLongEpochs) {
  Console console(file_, false, false, false);
  Progress progress(console, clock());
  progress.epoch_begin(3, 10, 200);
  for (int step = 1; step <= 200; ++step) {
    now_ += 1;
    progress.step(step);
  }
  EXPECT_EQ(written(), "epoch 3/10: step 60/200\nepoch 3/10: step 120/200\nepoch 3/10: step 180/200\n");
  progress.epoch_begin(4, 10, 200);
  now_ += 59;
  progress.step(59);
  EXPECT_EQ(written(), "") << "the beat starts anew with each epoch";
}

TEST_F(ConsoleTest, QuietShowsNoProgress) {
  for (const bool terminal : {false, true}) {
    Console console(file_, terminal, true, false);
    Progress progress(console, clock());
    progress.epoch_begin(1, 1, 2);
    now_ += 100;
    progress.step(1);
    progress.epoch_end("done", true);
    EXPECT_EQ(written(), "");
  }
}

TEST_F(ConsoleTest, TerminalHasABarAndOneLineAtTheEnd) {
  Console console(file_, true, false, false);
  Progress progress(console, clock());
  progress.epoch_begin(1, 2, 4);
  EXPECT_EQ(written(), "\r\x1b[Kepoch 1/2 [........................] 0/4  ");
  progress.step(1);
  EXPECT_EQ(written(), "") << "redrawn too soon";
  now_ += 1;
  progress.step(2);
  EXPECT_EQ(written(), "\r\x1b[Kepoch 1/2 [############............] 2/4  ");
  progress.epoch_end("val 0.5", false);
  EXPECT_EQ(written(), "");
  progress.epoch_begin(2, 2, 4);
  EXPECT_EQ(written(), "\r\x1b[Kepoch 2/2 [........................] 0/4  val 0.5");
  progress.epoch_end("val 0.4", true);
  EXPECT_EQ(written(), "\r\x1b[Kval 0.4\n");
}

TEST_F(ConsoleTest, AnEpochWithoutStepsDrawsABar) {
  Console console(file_, true, false, false);
  Progress progress(console, clock());
  progress.epoch_begin(1, 1, 0);
  EXPECT_NE(written().find("0/0"), std::string::npos);
}

TEST(Clock, DoesNotRunBackwards) {
  const double before = monotonic_seconds();
  EXPECT_TRUE(monotonic_seconds() >= before);
}

TEST(Table, AlignsColumns) {
  Table table("lrr", {"model", "MSE", "MAE"});
  table.row({"samformer", "0.363", "0.39"});
  table.row({"n\xc3\xa4ive", "1.2", "0.713"});
  table.row({"short"});
  EXPECT_EQ(table.str(),
            "model        MSE    MAE\n"
            "---------  -----  -----\n"
            "samformer  0.363   0.39\n"
            "n\xc3\xa4ive        1.2  0.713\n"
            "short\n");
}

TEST(Table, ACellIsOneLine) {
  Table table("ll", {"name", "\x1b[2J"});
  table.row({"a\nb", "\xc2\x9b"});
  EXPECT_EQ(table.str(), "name  ?[2J\n----  ----\na?b   ?\n");
}

}  // namespace
}  // namespace samformer::tools
