// What the program says on stderr: messages by level, a progress bar on a terminal, lines elsewhere, text tables.
//
// Whatever a message, a status or a cell holds of names from outside, a terminal is sent shown() of it (core/text.h).
// Quiet keeps warnings and errors. The log (a run's log.txt) gets every message, quiet or not, and every epoch.
// Elsewhere than on a terminal an epoch's line is written if 10 s have passed since the last one (the first and the
// last always), and a heartbeat every 60 s inside a long epoch. Time is passed in, so that tests do not sleep.
#pragma once

#include <cstdint>
#include <cstdio>
#include <functional>
#include <string>
#include <string_view>
#include <vector>

namespace samformer::tools {

class Console {
 public:
  // `colour` is for the words "warning" and "error"; see wants_colour().
  Console(std::FILE* stream, bool is_terminal, bool quiet, bool colour);
  // stderr as it is: a terminal or not, NO_COLOR and TERM=dumb honoured.
  static Console standard(bool quiet);

  // For a part of what goes on at the same time: its messages begin with its name, its log is its own and
  // begins with what was said before the first log here.
  Console of_part(const std::string& name) const;

  // Receives each message as one line without its newline, those from before the first log too; an empty function
  // ends it.
  void set_log(std::function<void(std::string_view)> log);

  // Gives the messages from before the first log to `log`, which counts as the first.
  void replay(const std::function<void(std::string_view)>& log);

  void set_quiet(bool quiet) { quiet_ = quiet; }

  void info(std::string_view text);
  void warning(std::string_view text);
  void error(std::string_view text);   // may span lines
  void log(std::string_view text);     // to the log alone
  void status(std::string_view text);  // a line that the next one overwrites; terminals only, not when quiet
  bool is_terminal() const { return is_terminal_; }

 private:
  void write(std::string_view label, std::string_view code, std::string_view text);

  std::FILE* stream_;
  bool is_terminal_;
  bool quiet_;
  bool colour_;
  std::string part_;  // "NAME: "
  std::function<void(std::string_view)> log_;
  bool logged_ = false;              // there was a log
  std::vector<std::string> before_;  // the messages until then
};

// Seconds of a monotonic clock.
using Clock = std::function<double()>;
double monotonic_seconds();

class Progress {
 public:
  explicit Progress(Console& console, Clock clock = monotonic_seconds);
  void epoch_begin(int epoch, int epochs, std::int64_t steps);  // epochs count from 1
  void step(std::int64_t done);                                 // steps of this epoch done so far
  void epoch_end(std::string_view line, bool last);             // `last` also when training stops early

 private:
  void draw(std::int64_t done);

  Console& console_;
  Clock clock_;
  int epoch_ = 0;
  int epochs_ = 0;
  std::int64_t steps_ = 0;
  bool first_ = true;
  double last_line_ = 0;   // when a line was last written
  double last_beat_ = 0;   // or a heartbeat, or this epoch began
  double last_drawn_ = 0;  // the bar
  std::string summary_;    // of the epoch before
};

// Columns as wide as their widest cell (in UTF-8 characters), two spaces between them, the heading underlined.
// `alignment` has one letter a column: l or r.
class Table {
 public:
  Table(std::string alignment, std::vector<std::string> heading);
  void row(std::vector<std::string> cells);
  std::string str() const;

 private:
  std::string alignment_;
  std::vector<std::vector<std::string>> rows_;
};

}  // namespace samformer::tools
