// JSON as it is read back: a run's result.json and metrics.jsonl, a ledger, what a run has printed, the metadata of a
// checkpoint. Others may have written or cut such a text, so nothing is taken on trust: valid UTF-8, no key twice, at
// most 32 levels of nesting (nlohmann-json prints and frees recursively), and a value is what the caller asks for, or
//
//   Error(Exit::data)   damaged: 'runs[0].model' is 7, a text was expected      with file, line and what to do
#pragma once

#include <cstdint>
#include <filesystem>
#include <limits>
#include <memory>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "tools/cli/document.h"

namespace samformer::tools {

struct TextOrigin {
  std::string file, hint;
  std::int64_t line = 1;  // of the text's beginning
  std::string part = {};  // where the text is no lines of the file: "metadata 'scaler'"
};

// A value of a text, and its place in it.
class StoredJson {
 public:
  StoredJson(std::string_view text, TextOrigin origin);

  const Json& json() const { return *value_; }
  bool is_null() const { return value_->is_null(); }
  StoredJson at(std::string_view key) const;                   // of an object
  std::optional<StoredJson> find(std::string_view key) const;  // nothing where an object has no such key
  std::vector<StoredJson> list() const;
  std::string text() const;
  bool flag() const;
  std::int64_t whole(std::int64_t least = 0, std::int64_t most = std::numeric_limits<std::int64_t>::max()) const;
  double number() const;         // finite
  double number_or_nan() const;  // null: NaN
  // What a caller expected of this value, if it throws it.
  Error expected(std::string_view what) const;

 private:
  struct Source;
  StoredJson(std::shared_ptr<const Source> source, const Json& value) : source_(std::move(source)), value_(&value) {}
  Error damaged(std::string_view what) const;
  std::shared_ptr<const Source> source_;
  const Json* value_;
};

StoredJson read_json(const std::filesystem::path& file, const std::string& hint);
// A value a line; a last line without its end is torn and left out. Empty where the file is missing.
std::vector<StoredJson> read_json_lines(const std::filesystem::path& file, const std::string& hint);

}  // namespace samformer::tools
