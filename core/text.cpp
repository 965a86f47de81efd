#include "core/text.h"

#include <fmt/format.h>

#include <algorithm>
#include <array>
#include <cctype>
#include <charconv>
#include <cstdint>
#include <unordered_set>
#include <vector>

namespace samformer {
namespace {

std::size_t edit_distance(std::string_view a, std::string_view b) {
  std::array<std::vector<std::size_t>, 3> row;
  for (auto& r : row) r.resize(b.size() + 1);
  for (std::size_t j = 0; j <= b.size(); ++j) row[0][j] = j;
  for (std::size_t i = 1; i <= a.size(); ++i) {
    auto &now = row[i % 3], &before = row[(i + 2) % 3], &two_before = row[(i + 1) % 3];
    now[0] = i;
    for (std::size_t j = 1; j <= b.size(); ++j) {
      now[j] = std::min({before[j] + 1, now[j - 1] + 1, before[j - 1] + (a[i - 1] != b[j - 1])});
      if (i > 1 && j > 1 && a[i - 1] == b[j - 2] && a[i - 2] == b[j - 1]) {
        now[j] = std::min(now[j], two_before[j - 2] + 1);
      }
    }
  }
  return row[a.size() % 3][b.size()];
}

// The first 64 letters, small: a longer word is near to nothing, and must not cost its square.
std::string folded(std::string_view name) {
  std::string out(name.substr(0, 64));
  for (char& c : out) c = static_cast<char>(std::tolower(static_cast<unsigned char>(c)));
  return out;
}

// The bytes of the UTF-8 character that begins at `i`; 0 where none does.
std::size_t character_bytes(std::string_view text, std::size_t i) {
  const auto byte = [&](std::size_t k) { return i + k < text.size() ? static_cast<unsigned char>(text[i + k]) : 0u; };
  const unsigned lead = byte(0);
  const std::size_t length = lead < 0x80                   ? 1
                             : lead >= 0xc2 && lead < 0xe0 ? 2
                             : lead >= 0xe0 && lead < 0xf0 ? 3
                             : lead >= 0xf0 && lead < 0xf5 ? 4
                                                           : 0;
  for (std::size_t k = 1; k < length; ++k) {
    if ((byte(k) & 0xc0) != 0x80) return 0;
  }
  const bool overlong = (lead == 0xe0 && byte(1) < 0xa0) || (lead == 0xf0 && byte(1) < 0x90);
  const bool surrogate = lead == 0xed && byte(1) >= 0xa0;
  return overlong || surrogate || (lead == 0xf4 && byte(1) >= 0x90) ? 0 : length;
}

std::string shown(std::string_view text, std::size_t most, bool lines) {
  std::string result;
  for (std::size_t i = 0; i < text.size();) {
    const std::size_t length = character_bytes(text, i), step = std::max<std::size_t>(length, 1);
    if (i + step > most) return result + "...";
    const auto lead = static_cast<unsigned char>(text[i]);
    const bool control =
        lead < 0x20 || lead == 0x7f || (lead == 0xc2 && length == 2 && static_cast<unsigned char>(text[i + 1]) < 0xa0);
    if (length == 0 || (control && !(lines && lead == '\n'))) {
      result += '?';
    } else {
      result += text.substr(i, step);
    }
    i += step;
  }
  return result;
}

}  // namespace

bool is_utf8(std::string_view text) {
  for (std::size_t i = 0; i < text.size();) {
    const std::size_t length = character_bytes(text, i);
    if (length == 0) return false;
    i += length;
  }
  return true;
}

std::string shown(std::string_view text, std::size_t most) { return shown(text, most, false); }
std::string shown_lines(std::string_view text) { return shown(text, std::string_view::npos, true); }

std::string lower(std::string_view text) {
  std::string out(text);
  std::transform(out.begin(), out.end(), out.begin(), [](char c) { return c >= 'A' && c <= 'Z' ? c + 32 : c; });
  return out;
}

std::string to_utf8(std::string_view text) {
  if (is_utf8(text)) return std::string(text);
  // Windows-1252 differs from Latin-1 in 0x80..0x9F alone; its five unused bytes stay C1 controls, as on the web.
  static constexpr std::array<std::uint16_t, 32> high = {
      0x20AC, 0x81,   0x201A, 0x0192, 0x201E, 0x2026, 0x2020, 0x2021, 0x02C6, 0x2030, 0x0160,
      0x2039, 0x0152, 0x8D,   0x017D, 0x8F,   0x90,   0x2018, 0x2019, 0x201C, 0x201D, 0x2022,
      0x2013, 0x2014, 0x02DC, 0x2122, 0x0161, 0x203A, 0x0153, 0x9D,   0x017E, 0x0178};
  std::string out;
  for (const char c : text) {
    const auto byte = static_cast<unsigned char>(c);
    const std::uint32_t point = byte >= 0x80 && byte < 0xA0 ? high[byte - 0x80U] : byte;
    if (point < 0x80) {
      out += c;
    } else if (point < 0x800) {
      out += {static_cast<char>(0xC0U | point >> 6), static_cast<char>(0x80U | (point & 0x3FU))};
    } else {
      out += {static_cast<char>(0xE0U | point >> 12), static_cast<char>(0x80U | (point >> 6 & 0x3FU)),
              static_cast<char>(0x80U | (point & 0x3FU))};
    }
  }
  return out;
}

std::string shell_quoted(const std::string& word) {
  if (shown(word) != word) {  // the quotes of bash, zsh and ksh that name bytes
    std::string result = "$'";
    for (const char c : word) {
      const bool plain = c >= ' ' && c < 0x7f && c != '\'' && c != '\\';
      result += plain ? std::string(1, c) : fmt::format("\\x{:02x}", static_cast<unsigned char>(c));
    }
    return result + "'";
  }
  constexpr std::string_view plain = "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789_./,:+=@%-";
  if (!word.empty() && word.find_first_not_of(plain) == std::string::npos) return word;
  std::string result = "'";
  for (const char c : word) result += c == '\'' ? std::string("'\\''") : std::string(1, c);
  return result + "'";
}

std::vector<std::string> split_names(std::string_view list) {
  std::vector<std::string> names;
  while (!list.empty() || !names.empty()) {
    std::size_t end = list.find(',');
    std::string name(list.substr(0, end));
    if (list.starts_with('"')) {
      std::string unquoted;
      std::size_t i = 1;
      for (; i < list.size() && (list[i] != '"' || list.substr(i).starts_with("\"\"")); ++i) {
        unquoted += list[i];
        if (list[i] == '"') ++i;
      }
      const bool closed = i < list.size() && (i + 1 == list.size() || list[i + 1] == ',');
      if (closed) name = unquoted, end = i + 1 == list.size() ? std::string_view::npos : i + 1;
    }
    names.push_back(std::move(name));
    if (end == std::string_view::npos) break;
    list.remove_prefix(end + 1);
  }
  return names;
}

std::int64_t whole_number(std::string_view text) {
  std::int64_t n = 0;
  const auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), n);
  return error == std::errc() && end == text.data() + text.size() && n > 0 ? n : 0;
}

std::vector<std::int64_t> whole_numbers(std::string_view list) {
  std::vector<std::int64_t> all;
  for (std::size_t at = 0; at <= list.size();) {
    const std::size_t comma = std::min(list.find(',', at), list.size());
    all.push_back(whole_number(list.substr(at, comma - at)));
    if (all.back() == 0) return {};
    at = comma + 1;
  }
  return all;
}

std::string names_list(std::span<const std::string> names) {
  std::string list;
  for (const std::string& name : names) {
    if (&name != names.data()) list += ',';
    // A word that begins with a minus would be taken for a flag.
    if (name.find(',') == std::string::npos && !name.starts_with('"') && !name.starts_with('-')) {
      list += name;
      continue;
    }
    list += '"';
    for (const char c : name) list += c == '"' ? std::string("\"\"") : std::string(1, c);
    list += '"';
  }
  return list;
}

std::string names_word(std::span<const std::string> names) { return shell_quoted(names_list(names)); }

std::vector<std::string> join_known(std::span<const std::string> names, std::span<const std::string> known) {
  std::unordered_set<std::string_view> with_comma;
  for (const std::string& name : known) {
    if (name.find(',') != std::string::npos) with_comma.insert(name);
  }
  std::vector<std::string> result;
  for (std::size_t i = 0; i < names.size();) {
    std::string joined = names[i], name = joined;
    std::size_t end = i + 1;
    for (std::size_t j = i + 1; j < names.size() && !with_comma.empty() && joined.size() <= 1024; ++j) {
      joined += ',' + names[j];
      if (with_comma.contains(joined)) name = joined, end = j + 1;
    }
    result.push_back(std::move(name));
    i = end;
  }
  return result;
}

std::string nearest_name(std::string_view name, std::span<const std::string> known) {
  const std::string word = folded(name);
  std::string nearest;
  std::size_t least = 3;
  for (const std::string& candidate : known) {
    const std::string other = folded(candidate);
    const std::size_t distance = word.size() > 2 && other.starts_with(word) ? 0 : edit_distance(word, other);
    if (distance < std::min(least, word.size())) nearest = candidate, least = distance;
  }
  return nearest;
}

std::string guess(std::string_view name, std::span<const std::string> known, std::string_view otherwise,
                  std::string_view before) {
  const std::string nearest = nearest_name(name, known);
  if (!nearest.empty()) return fmt::format("did you mean '{}{}'?", before, nearest);
  return otherwise.empty() ? "there are: " + listed(known) : std::string(otherwise);
}

std::string listed(std::span<const std::string> names) {
  constexpr std::size_t most = 12, longest = 64;
  std::string list;
  for (const std::string& name : names.first(std::min(names.size(), most))) {
    list += (list.empty() ? "" : ", ") + shown(name, longest);
  }
  return list + (names.size() > most ? ", ..." : "");
}

}  // namespace samformer
