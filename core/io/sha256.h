// SHA-256 (FIPS 180-4) of bytes that arrive in pieces, by OpenSSL's EVP interface; results are 64 lower-case hex
// digits, as sha256sum prints them.
#pragma once

#include <filesystem>
#include <memory>
#include <string>

#include "core/io/file.h"

struct evp_md_ctx_st;

namespace samformer {

class Sha256 {
 public:
  Sha256();
  Sha256& update(Bytes bytes);
  // Ends the message: call it once.
  std::string hex();

 private:
  struct Free {
    void operator()(evp_md_ctx_st* context) const;
  };
  std::unique_ptr<evp_md_ctx_st, Free> context_;
};

std::string sha256(Bytes bytes);
std::string sha256_file(const std::filesystem::path& path, Exit on_failure = Exit::data);

}  // namespace samformer
