// OpenSSL 3 deprecates these calls in favour of providers that it loads at run time: more work at the start of every
// process, and a null pointer inside OpenSSL where memory ends meanwhile. These need nothing but their context.
#define OPENSSL_SUPPRESS_DEPRECATED
#include "core/io/sha256.h"

#include <openssl/sha.h>

#include <array>

namespace samformer {

void Sha256::Free::operator()(SHA256state_st* context) const { delete context; }

Sha256::Sha256() : context_(new SHA256_CTX) { SHA256_Init(context_.get()); }

Sha256& Sha256::update(Bytes bytes) {
  SAMFORMER_CHECK(context_, "SHA-256: update() after hex()");
  SHA256_Update(context_.get(), bytes.data(), bytes.size());
  return *this;
}

std::string Sha256::hex() {
  SAMFORMER_CHECK(context_, "SHA-256: hex() called twice");
  std::array<unsigned char, SHA256_DIGEST_LENGTH> digest;
  SHA256_Final(digest.data(), context_.get());
  context_.reset();
  std::string text;
  for (const unsigned char byte : digest) text += fmt::format("{:02x}", byte);
  return text;
}

std::string sha256(Bytes bytes) { return Sha256().update(bytes).hex(); }

std::string sha256_file(const std::filesystem::path& path, Exit on_failure) {
  return sha256(MappedFile(path, on_failure).bytes());
}

}  // namespace samformer
