// What the JSON documents on stdout, and the CSV files, have in common.
#pragma once

#include <filesystem>
#include <nlohmann/json.hpp>
#include <ostream>
#include <string_view>

#include "core/error.h"

namespace samformer::tools {

using Json = nlohmann::ordered_json;

// {schema_version, version, command}
Json document(std::string_view command);

// The object `error`: exit_code, kind, message, file, line, column, hint; null where unknown.
Json error_json(const Error& error);

// File names need not be UTF-8, JSON must be: other bytes become U+FFFD.
void print(const Json& document, std::ostream& out);
// The same as a file, written atomically.
void write_json(const std::filesystem::path& path, const Json& document);

// Text of a cell, quoted where it holds more than plain characters.
std::string csv_field(const std::string& text);

}  // namespace samformer::tools
