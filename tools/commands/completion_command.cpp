// `samformer completion bash|zsh|fish`: the script that makes the shell complete samformer's commands and flags.
#include "tools/cli/completion.h"
#include "tools/commands/commands.h"

namespace samformer::tools {
namespace {

int print_completion(const Invocation& invocation) {
  invocation.out << completion(invocation.arguments[0], commands());
  return 0;
}

}  // namespace

Command completion_command() {
  return {.name = "completion",
          .handler = print_completion,
          .arguments = {"bash|zsh|fish"},
          .summary = "prints the script with which a shell completes commands and flags",
          .example = "samformer completion bash > ~/.local/share/bash-completion/completions/samformer"};
}

}  // namespace samformer::tools
