#include "tools/cli/document.h"

#include "core/io/file.h"
#include "core/text.h"

namespace samformer::tools {
namespace {

std::string_view kind_of(Exit code) {
  switch (code) {
    case Exit::internal:
      return "internal";
    case Exit::usage:
      return "usage";
    case Exit::data:
      return "data";
    case Exit::device:
      return "device";
    case Exit::diverged:
      return "diverged";
    case Exit::check:
      return "check";
    case Exit::io:
      return "io";
    case Exit::interrupted:
      return "interrupted";
  }
  return "internal";
}

std::string text_of(const Json& document) {
  return document.dump(2, ' ', false, Json::error_handler_t::replace) + "\n";
}

}  // namespace

Json document(std::string_view command) {
  return {{"schema_version", 1}, {"version", SAMFORMER_VERSION}, {"command", command}};
}

Json error_json(const Error& error) {
  const auto or_null = [](const auto& value, bool known) { return known ? Json(value) : Json(); };
  return {{"exit_code", static_cast<int>(error.code)},
          {"kind", kind_of(error.code)},
          {"message", error.what()},
          {"file", or_null(error.file, !error.file.empty())},
          {"line", or_null(error.line, error.line > 0)},
          {"column", or_null(error.column, error.column > 0)},
          {"hint", or_null(error.advice, !error.advice.empty())}};
}

void print(const Json& document, std::ostream& out) { out << text_of(document); }

void write_json(const std::filesystem::path& path, const Json& document) { write_atomic(path, text_of(document)); }

std::string csv_field(const std::string& text) {
  if (shown(text) == text && text.find_first_of(",;\"") == std::string::npos) return text;
  std::string quoted = "\"";
  for (const char c : text) quoted += c == '"' ? "\"\"" : std::string(1, c);
  return quoted + '"';
}

}  // namespace samformer::tools
