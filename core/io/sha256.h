// SHA-256 (FIPS 180-4) of bytes that arrive in pieces, by OpenSSL; results are 64 lower-case hex digits,
// as sha256sum prints them.
#pragma once

#include <filesystem>
#include <memory>
#include <string>

#include "core/io/file.h"

struct SHA256state_st;

namespace samformer {

class Sha256 {
 public:
  Sha256();
  Sha256& update(Bytes bytes);
  // Ends the message: call it once.
  std::string hex();

 private:
  struct Free {
    void operator()(SHA256state_st* context) const;
  };
  std::unique_ptr<SHA256state_st, Free> context_;
};

std::string sha256(Bytes bytes);
std::string sha256_file(const std::filesystem::path& path, Exit on_failure = Exit::data);

}  // namespace samformer
