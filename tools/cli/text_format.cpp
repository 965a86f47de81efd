#include "tools/cli/text_format.h"

#include <fmt/format.h>

#include <charconv>
#include <cmath>
#include <ctime>

namespace samformer::tools {

std::string shortest(double value) {
  char text[32];
  return {text, std::to_chars(text, text + sizeof text, value).ptr};
}

std::string fixed(const nlohmann::ordered_json& value, int digits, std::string_view otherwise) {
  return value.is_number() ? fmt::format("{:.{}f}", value.get<double>(), digits) : std::string(otherwise);
}

nlohmann::ordered_json number_or_null(double value) {
  return std::isfinite(value) ? nlohmann::ordered_json(value) : nlohmann::ordered_json(nullptr);
}

std::string utc_text(const char* format) {
  const std::time_t now = std::time(nullptr);
  std::tm parts{};
  gmtime_r(&now, &parts);
  char text[64];
  return {text, std::strftime(text, sizeof text, format, &parts)};
}

std::string place_text(const std::string& file, std::int64_t line, std::int64_t column) {
  std::string place = file;
  if (line > 0) place += fmt::format(":{}", line);
  if (column > 0) place += fmt::format(":{}", column);
  return place;
}

}  // namespace samformer::tools
