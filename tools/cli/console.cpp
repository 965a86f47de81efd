#include "tools/cli/console.h"

#include <fmt/format.h>
#include <sys/ioctl.h>
#include <unistd.h>

#include <algorithm>
#include <chrono>
#include <cstdlib>
#include <limits>

#include "core/text.h"

namespace samformer::tools {

namespace {

constexpr double line_seconds = 10;   // between epoch lines elsewhere than on a terminal
constexpr double beat_seconds = 60;   // between heartbeats inside an epoch
constexpr double draw_seconds = 0.1;  // between redraws of the bar
constexpr int bar_width = 24;
constexpr std::string_view clear_line = "\r\x1b[K";

bool starts_character(char c) { return (static_cast<unsigned char>(c) & 0xc0) != 0x80; }

std::size_t width_of(std::string_view text) {
  return static_cast<std::size_t>(std::ranges::count_if(text, starts_character));
}

std::string_view cut_to_width(std::string_view text, std::size_t width) {
  for (std::size_t i = 0; i < text.size(); ++i) {
    if (starts_character(text[i]) && width-- == 0) return text.substr(0, i);
  }
  return text;
}

std::size_t terminal_width(std::FILE* stream) {
  winsize size = {};
  return ioctl(fileno(stream), TIOCGWINSZ, &size) == 0 && size.ws_col > 1 ? size.ws_col : 80;
}

void put(std::FILE* stream, const std::string& text) {
  std::fwrite(text.data(), 1, text.size(), stream);
  std::fflush(stream);
}

}  // namespace

Console::Console(std::FILE* stream, bool is_terminal, bool quiet, bool colour)
    : stream_(stream), is_terminal_(is_terminal), quiet_(quiet), colour_(colour) {}

Console Console::standard(bool quiet) {
  const auto variable = [](const char* name) {
    const char* text = std::getenv(name);
    return std::string_view(text ? text : "");
  };
  const bool is_terminal = isatty(STDERR_FILENO) && variable("TERM") != "dumb";
  return {stderr, is_terminal, quiet, is_terminal && variable("NO_COLOR").empty()};
}

Console Console::of_part(const std::string& name) const {
  Console part(stream_, false, quiet_, colour_);
  part.part_ = name + ": ";
  part.before_ = before_;
  part.logged_ = true;
  return part;
}

void Console::info(std::string_view text) {
  const std::string line = shown(text);
  log(line);
  if (!quiet_) write("", "", line);
}

void Console::warning(std::string_view text) {
  const std::string line = shown(text);
  log(fmt::format("warning: {}", line));
  write("warning: ", "33", line);
}

void Console::error(std::string_view text) {
  const std::string lines = shown_lines(text);
  log(fmt::format("error: {}", lines));
  write("error: ", "31", lines);
}

void Console::set_log(std::function<void(std::string_view)> log) {
  log_ = std::move(log);
  if (log_) replay(log_);
}

void Console::replay(const std::function<void(std::string_view)>& log) {
  logged_ = true;
  for (const std::string& line : before_) log(line);
}

void Console::log(std::string_view text) {
  const std::string lines = shown_lines(text);
  if (log_) log_(lines);
  if (!logged_) before_.push_back(lines);
}

void Console::status(std::string_view text) {
  if (!is_terminal_ || quiet_) return;
  put(stream_, fmt::format("{}{}", clear_line, cut_to_width(shown(text), terminal_width(stream_) - 1)));
}

// A terminal's line may hold a status, which the message replaces.
void Console::write(std::string_view label, std::string_view code, std::string_view text) {
  const std::string head =
      colour_ && !label.empty() ? fmt::format("\x1b[1;{}m{}\x1b[0m", code, label) : std::string(label);
  put(stream_, fmt::format("{}{}{}{}\n", is_terminal_ ? clear_line : "", head, part_, text));
}

double monotonic_seconds() {
  return std::chrono::duration<double>(std::chrono::steady_clock::now().time_since_epoch()).count();
}

Progress::Progress(Console& console, Clock clock) : console_(console), clock_(std::move(clock)) {}

void Progress::epoch_begin(int epoch, int epochs, std::int64_t steps) {
  epoch_ = epoch;
  epochs_ = epochs;
  steps_ = steps;
  last_beat_ = clock_();
  last_drawn_ = -std::numeric_limits<double>::infinity();
  step(0);
}

void Progress::step(std::int64_t done) {
  const double now = clock_();
  if (console_.is_terminal()) {
    if (now - last_drawn_ < draw_seconds) return;
    last_drawn_ = now;
    draw(done);
  } else if (now - last_beat_ >= beat_seconds) {
    last_beat_ = now;
    console_.info(fmt::format("epoch {}/{}: step {}/{}", epoch_, epochs_, done, steps_));
  }
}

void Progress::draw(std::int64_t done) {
  const auto filled =
      static_cast<std::size_t>(steps_ > 0 ? std::clamp<std::int64_t>(bar_width * done / steps_, 0, bar_width) : 0);
  console_.status(fmt::format("epoch {}/{} [{}{}] {}/{}  {}", epoch_, epochs_, std::string(filled, '#'),
                              std::string(bar_width - filled, '.'), done, steps_, summary_));
}

void Progress::epoch_end(std::string_view line, bool last) {
  const double now = clock_();
  const bool due = !console_.is_terminal() && (first_ || now - last_line_ >= line_seconds);
  first_ = false;
  summary_ = line;
  if (!due && !last) {
    console_.log(line);
    return;
  }
  last_line_ = now;
  console_.info(line);
}

Table::Table(std::string alignment, std::vector<std::string> heading) : alignment_(std::move(alignment)) {
  row(std::move(heading));
}

void Table::row(std::vector<std::string> cells) {
  cells.resize(alignment_.size());
  for (std::string& cell : cells) cell = shown(cell);
  rows_.push_back(std::move(cells));
}

std::string Table::str() const {
  std::vector<std::size_t> widths(alignment_.size(), 0);
  for (const auto& row : rows_) {
    for (std::size_t i = 0; i < row.size(); ++i) widths[i] = std::max(widths[i], width_of(row[i]));
  }
  std::string result;
  const auto write = [&](const std::vector<std::string>& row) {
    std::string line;
    for (std::size_t i = 0; i < row.size(); ++i) {
      const std::string space(widths[i] - width_of(row[i]), ' ');
      line += (i > 0 ? "  " : "") + (alignment_[i] == 'r' ? space + row[i] : row[i] + space);
    }
    line.erase(line.find_last_not_of(' ') + 1);
    result += line + '\n';
  };
  write(rows_[0]);
  std::vector<std::string> rule;
  for (const std::size_t width : widths) rule.emplace_back(width, '-');
  write(rule);
  for (std::size_t i = 1; i < rows_.size(); ++i) write(rows_[i]);
  return result;
}

}  // namespace samformer::tools
