#include "tools/cli/failure.h"

#include <filesystem>
#include <new>
#include <system_error>

#include "core/text.h"
#include "tools/cli/text_format.h"

namespace samformer::tools {

std::string error_block(const Error& error) {
  const std::string place = place_text(error.file, error.line, error.column);
  std::string result = shown(place.empty() ? error.what() : fmt::format("{}: {}", place, error.what()));
  if (!error.advice.empty()) result += fmt::format("\n  hint: {}", shown(error.advice));
  return result;
}

Error out_of_memory() {
  return Error(Exit::device, "out of memory").hint("a smaller --batch or --lookback needs less");
}

Error current_failure() {
  try {
    throw;
  } catch (const Error& error) {
    return error;
  } catch (const std::bad_alloc&) {
    return out_of_memory();
  } catch (const std::length_error&) {
    return out_of_memory();
  } catch (const std::filesystem::filesystem_error& error) {
    return Error(Exit::io, fmt::format("cannot use this path: {}", error.code().message()))
        .at(error.path1().string())
        .hint("is a name too long, a link one that leads to itself, or a folder closed to you? give another path");
  } catch (const std::system_error& error) {
    return Error(Exit::device, fmt::format("cannot start a thread: {}", error.code().message()))
        .hint("give a smaller --threads, or raise the limits on processes and memory (ulimit -u, ulimit -v)");
  } catch (const std::exception& error) {
    return Error(Exit::internal, error.what()).hint("this is a bug in samformer, please report it");
  }
}

}  // namespace samformer::tools
