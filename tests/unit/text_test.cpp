// What a terminal is shown of text from outside.
#include "core/text.h"

#include <gtest/gtest.h>

namespace samformer {
namespace {

TEST(Text, ControlCharactersAreNotShown) {
  EXPECT_EQ(shown("\x1b]0;title\x07 a\tb\r\nc\x7f"), "?]0;title? a?b??c?");
  EXPECT_EQ(shown(std::string_view("\0a", 2)), "?a");
  EXPECT_EQ(shown("\xc2\x80|\xc2\x9b[2J|\xc2\x9f"), "?|?[2J|?") << "U+0080 to U+009F";
  EXPECT_EQ(shown("~ \xc2\xa0\xc3\xa9\xe2\x82\xac\xf0\x9f\x98\x80"), "~ \xc2\xa0\xc3\xa9\xe2\x82\xac\xf0\x9f\x98\x80");
  EXPECT_EQ(shown_lines("a\n\x1b\r\n"), "a\n??\n");
}

TEST(Text, BytesThatAreNoUtf8) {
  // A lone byte, a cut character, overlong, a surrogate, beyond U+10FFFF.
  for (const std::string_view bad :
       {"\x9b", "\xc3", "\xe2\x82", "\xc0\xaf", "\xe0\x80\x80", "\xed\xa0\x80", "\xf4\x90\x80\x80"}) {
    EXPECT_FALSE(is_utf8(bad)) << bad.size();
    EXPECT_EQ(shown(bad), std::string(bad.size(), '?'));
    EXPECT_EQ(shown(std::string(bad) + "a"), std::string(bad.size(), '?') + "a");
  }
  EXPECT_TRUE(is_utf8("a\n\x1b\xc2\x9b\xed\x9f\xbf\xf4\x8f\xbf\xbf"));
  EXPECT_TRUE(is_utf8(""));
}

TEST(Text, LongTextIsCutBetweenCharacters) {
  EXPECT_EQ(shown("abc", 3), "abc");
  EXPECT_EQ(shown("abcd", 3), "abc...");
  EXPECT_EQ(shown("ab\xc3\xa9", 3), "ab...");
}

TEST(Text, GuessesAreNearOrAList) {
  const std::vector<std::string> known = {"HUFL", "OT"};
  EXPECT_EQ(guess("to", known), "did you mean 'OT'?");
  EXPECT_EQ(guess("sales", known), "there are: HUFL, OT");
  EXPECT_EQ(guess("sales", known, "none"), "none");
  EXPECT_EQ(guess("hufll", known, "none", "--"), "did you mean '--HUFL'?");
  std::vector<std::string> many(13, "a");
  EXPECT_EQ(listed(many), "a, a, a, a, a, a, a, a, a, a, a, a, ...");
  many.pop_back();
  EXPECT_EQ(listed(many), "a, a, a, a, a, a, a, a, a, a, a, a");
}

}  // namespace
}  // namespace samformer
