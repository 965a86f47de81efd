// Names that people type, and text from outside: the encoding (RFC 3629) and what a terminal may be shown of it.
#pragma once

#include <cstddef>
#include <cstdint>
#include <span>
#include <string>
#include <string_view>
#include <vector>

namespace samformer {

// Whether every byte belongs to a well-formed UTF-8 character.
bool is_utf8(std::string_view text);

// Text that is not UTF-8 is read as Windows-1252.
std::string to_utf8(std::string_view text);
// ASCII letters in lower case.
std::string lower(std::string_view text);

// A name, a path or a cell as a terminal may show it: each control character (U+0000 to U+001F, U+007F to U+009F) and
// each byte that is no UTF-8 becomes `?`; of more than `most` bytes the first ones, and "...".
std::string shown(std::string_view text, std::size_t most = std::string_view::npos);
// The same for text of several lines: their ends stay.
std::string shown_lines(std::string_view text);

// A word as a shell reads it back, of printed characters alone.
std::string shell_quoted(const std::string& word);

// Names with commas between them; one that holds a comma or a quote may be in quotes, as in CSV.
std::vector<std::string> split_names(std::string_view list);
// A whole number of at least 1, and several with commas between them; 0 and none where the text is something else.
std::int64_t whole_number(std::string_view text);
std::vector<std::int64_t> whole_numbers(std::string_view list);
// The inverse of split_names, and as one word of a shell.
std::string names_list(std::span<const std::string> names);
std::string names_word(std::span<const std::string> names);
// Names that were split at their own commas, put together again: consecutive ones that are a known name with commas
// between them are that name.
std::vector<std::string> join_known(std::span<const std::string> names, std::span<const std::string> known);

// The known name with the smallest edit distance (Damerau: insertions, deletions, replacements, swaps of neighbours),
// capitals ignored; one that begins with `name` comes first. Empty where none is within two edits, or all of `name`
// would have to change: such a guess only misleads.
std::string nearest_name(std::string_view name, std::span<const std::string> known);
// A hint: "did you mean 'OT'?", or without a near name `otherwise`, by default "there are: HUFL, HULL, OT". `before`
// is what all names begin with ("--"), left out in `name` and `known`.
std::string guess(std::string_view name, std::span<const std::string> known, std::string_view otherwise = {},
                  std::string_view before = {});
// The first twelve names with commas between them, and "..." for the rest.
std::string listed(std::span<const std::string> names);

}  // namespace samformer
