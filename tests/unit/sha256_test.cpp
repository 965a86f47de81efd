// The example vectors of FIPS 180-4 (NIST), in one piece and in many, and a file.
#include "core/io/sha256.h"

#include <gtest/gtest.h>

#include "tests/scratch_folder.h"

namespace samformer {
namespace {

constexpr std::string_view abc = "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad";
constexpr std::string_view two_blocks = "abcdbcdecdefdefgefghfghighijhijkijkljklmklmnlmnomnopnopq";

TEST(Sha256, NistVectors) {
  EXPECT_EQ(sha256({}), "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855");
  EXPECT_EQ(sha256(bytes_of("abc")), abc);
  EXPECT_EQ(sha256(bytes_of(two_blocks)), "248d6a61d20638b8e5c026930c3e6039a33ce45964ff2167f6ecedd419db06c1");
}

TEST(Sha256, PiecesOfAnySizeGiveTheSameHash) {
  const std::string message(1'000'000, 'a');
  constexpr std::string_view expected = "cdc76e5c9914fb9281a1c7e284d73e67f1809a48a497200e046d39ccc7112cd0";
  for (const std::size_t piece : {1, 63, 64, 65, 999'999, 1'000'000}) {
    Sha256 hash;
    for (std::size_t i = 0; i < message.size(); i += piece)
      hash.update(bytes_of(message).subspan(i, std::min(piece, message.size() - i)));
    EXPECT_EQ(hash.hex(), expected) << "pieces of " << piece;
  }
}

TEST(Sha256, File) {
  const ScratchFolder folder;
  write_atomic(folder / "abc", "abc");
  EXPECT_EQ(sha256_file(folder / "abc"), abc);
  EXPECT_THROW(sha256_file(folder / "missing"), Error);
}

}  // namespace
}  // namespace samformer
