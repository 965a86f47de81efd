#include "core/io/sha256.h"

#include <openssl/evp.h>

#include <array>

namespace samformer {

void Sha256::Free::operator()(evp_md_ctx_st* context) const { EVP_MD_CTX_free(context); }

Sha256::Sha256() : context_(EVP_MD_CTX_new()) {
  SAMFORMER_CHECK(context_ && EVP_DigestInit_ex(context_.get(), EVP_sha256(), nullptr) == 1,
                  "OpenSSL offers no SHA-256");
}

Sha256& Sha256::update(Bytes bytes) {
  SAMFORMER_CHECK(EVP_DigestUpdate(context_.get(), bytes.data(), bytes.size()) == 1, "SHA-256: update failed");
  return *this;
}

std::string Sha256::hex() {
  std::array<unsigned char, 32> digest;
  SAMFORMER_CHECK(EVP_DigestFinal_ex(context_.get(), digest.data(), nullptr) == 1, "SHA-256: hex() called twice");
  std::string text;
  for (const unsigned char byte : digest) text += fmt::format("{:02x}", byte);
  return text;
}

std::string sha256(Bytes bytes) { return Sha256().update(bytes).hex(); }

std::string sha256_file(const std::filesystem::path& path, Exit on_failure) {
  return sha256(MappedFile(path, on_failure).bytes());
}

}  // namespace samformer
