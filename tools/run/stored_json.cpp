#include "tools/run/stored_json.h"

#include <algorithm>
#include <iterator>
#include <set>

#include "core/io/file.h"

namespace samformer::tools {
namespace {

constexpr std::size_t most_levels = 32;
constexpr std::size_t most_keys = 1000;  // of an object, which finds them one by one

// Over a text, for the parser; `seen` is behind the last character that it has taken.
struct Cursor {
  using iterator_category = std::input_iterator_tag;
  using value_type = char;
  using difference_type = std::ptrdiff_t;
  using pointer = const char*;
  using reference = const char&;
  const char* at;
  const char** seen;
  reference operator*() const { return *at; }
  Cursor& operator++() {
    *seen = ++at;
    return *this;
  }
  Cursor operator++(int) {
    const Cursor before = *this;
    ++*this;
    return before;
  }
  bool operator==(const Cursor& other) const { return at == other.at; }
};

// As a message shows it: escaped, of one line, short.
std::string shown(const Json& value) {
  if (value.is_object()) return "an object";
  if (value.is_array()) return "a list";
  const std::string text = value.dump(-1, ' ', true, Json::error_handler_t::replace);
  return text.size() <= 40 ? text : text.substr(0, 37) + "...";
}

// Finds `wanted` at or below `value`: its number in the order of the text, and its name, "runs[0].model".
bool locate(const Json& value, const Json* wanted, std::size_t& number, std::string& name) {
  if (&value == wanted) return true;
  if (!value.is_structured()) return false;
  std::size_t index = 0;
  for (auto item = value.begin(); item != value.end(); ++item, ++index) {
    ++number;
    const std::string before = name;
    name += value.is_array() ? fmt::format("[{}]", index) : (name.empty() ? "" : ".") + item.key();
    if (locate(*item, wanted, number, name)) return true;
    name = before;
  }
  return false;
}

}  // namespace

struct StoredJson::Source {
  Json document;
  std::vector<std::int64_t> lines;  // of the values, in the order of the text
  TextOrigin origin;

  Error error(std::int64_t line, std::string_view what) const {
    return Error(Exit::data, fmt::format("damaged: {}", what))
        .at(origin.file, origin.part.empty() ? line : 0)
        .hint(origin.hint);
  }
};

StoredJson::StoredJson(std::string_view text, TextOrigin origin) {
  const auto source = std::make_shared<Source>();
  source->origin = std::move(origin);
  const std::string& part = source->origin.part;
  const char *seen = text.data(), *counted = seen, *const end = seen + text.size();
  std::int64_t line = source->origin.line;
  // Of the last character that was taken, which may be one behind a number.
  const auto line_now = [&] {
    if (seen != counted) line += std::count(counted, seen - 1, '\n');
    counted = std::max(counted, seen - (seen != text.data()));
    return line;
  };
  const auto refuse = [&](std::string_view what) -> Error {
    return source->error(line_now(), part.empty() ? std::string(what) : fmt::format("{}: {}", part, what));
  };
  // The parser would take a zero byte for the end, and not look at what follows.
  const char* const zero = std::find(text.data(), end, '\0');
  std::vector<std::set<std::string>> keys;  // of the values that are open
  const auto watch = [&](int depth, Json::parse_event_t event, Json& value) {
    using Event = Json::parse_event_t;
    if (event == Event::key) {
      std::set<std::string>& known = keys.back();
      if (!known.insert(value.get<std::string>()).second) throw refuse(fmt::format("{} is there twice", shown(value)));
      if (known.size() > most_keys) throw refuse(fmt::format("an object of more than {} keys", most_keys));
    } else if (event == Event::object_end || event == Event::array_end) {
      keys.pop_back();
    } else {
      source->lines.push_back(line_now());
      if (event == Event::value) return true;
      if (static_cast<std::size_t>(depth) >= most_levels) {
        throw refuse(fmt::format("nested deeper than {} levels", most_levels));
      }
      keys.emplace_back();
    }
    return true;
  };
  try {
    source->document = Json::parse(Cursor{text.data(), &seen}, Cursor{end, &seen}, watch);
  } catch (const Json::exception&) {
    throw refuse("not valid JSON");
  }
  if (zero != end) {
    seen = zero + 1;
    throw refuse("a zero byte");
  }
  source_ = source;
  value_ = &source->document;
}

Error StoredJson::damaged(std::string_view what) const {
  std::size_t number = 0;
  std::string subject;
  locate(source_->document, value_, number, subject);
  const std::string& part = source_->origin.part;
  if (!subject.empty()) subject = fmt::format("'{}'{}{}", subject, part.empty() ? "" : " of ", part);
  if (subject.empty()) subject = part.empty() ? "it" : part;
  return source_->error(source_->lines[number], fmt::format("{} {}", subject, what));
}

Error StoredJson::expected(std::string_view what) const {
  return damaged(fmt::format("is {}, {} was expected", shown(*value_), what));
}

StoredJson StoredJson::at(std::string_view key) const {
  if (std::optional<StoredJson> found = find(key)) return *std::move(found);
  throw damaged(fmt::format("has no '{}'", key));
}

std::optional<StoredJson> StoredJson::find(std::string_view key) const {
  if (!value_->is_object()) throw expected("an object");
  const auto found = value_->find(std::string(key));
  return found == value_->end() ? std::nullopt : std::optional(StoredJson(source_, *found));
}

std::vector<StoredJson> StoredJson::list() const {
  if (!value_->is_array()) throw expected("a list");
  std::vector<StoredJson> items;
  for (const Json& item : *value_) items.push_back(StoredJson(source_, item));
  return items;
}

std::string StoredJson::text() const {
  if (!value_->is_string()) throw expected("a text");
  return value_->get<std::string>();
}

bool StoredJson::flag() const {
  if (!value_->is_boolean()) throw expected("true or false");
  return value_->get<bool>();
}

std::int64_t StoredJson::whole(std::int64_t least, std::int64_t most) const {
  // Unsigned are those without a sign.
  const bool fits = value_->is_number_integer() &&
                    (!value_->is_number_unsigned() || value_->get<std::uint64_t>() <= std::uint64_t{INT64_MAX});
  const std::int64_t number = fits ? value_->get<std::int64_t>() : 0;
  if (fits && number >= least && number <= most) return number;
  throw expected(most == INT64_MAX ? fmt::format("a whole number of at least {}", least)
                                   : fmt::format("a whole number from {} to {}", least, most));
}

double StoredJson::number() const {
  if (!value_->is_number()) throw expected("a number");
  return value_->get<double>();
}

double StoredJson::number_or_nan() const {
  return is_null()             ? std::numeric_limits<double>::quiet_NaN()
         : value_->is_number() ? value_->get<double>()
                               : throw expected("a number or null");
}

StoredJson read_json(const std::filesystem::path& file, const std::string& hint) {
  return {read_file(file), {file.string(), hint}};
}

std::vector<StoredJson> read_json_lines(const std::filesystem::path& file, const std::string& hint) {
  std::vector<StoredJson> rows;
  if (!std::filesystem::exists(file)) return rows;
  const std::string text = read_file(file);
  std::int64_t line = 0;
  for (std::size_t begin = 0, end; (end = text.find('\n', begin)) != std::string::npos; begin = end + 1) {
    rows.emplace_back(std::string_view(text).substr(begin, end - begin), TextOrigin{file.string(), hint, ++line});
  }
  return rows;
}

}  // namespace samformer::tools
