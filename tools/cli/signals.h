// SIGINT, SIGTERM and SIGHUP end the program with exit code 130. A command that has something to save first holds a
// CatchSignals: the first signal then only sets a flag that the command polls, the second one ends at once.
// SIGPIPE and SIGXFSZ are ignored, so that a closed pipe or a file-size limit is an error of write(2) that can be
// reported (exit code 7). A SIGHUP that was ignored from the start (nohup) stays ignored.
#pragma once

#include <string_view>

namespace samformer::tools {

void install_signal_handlers();

class CatchSignals {
 public:
  CatchSignals();
  ~CatchSignals();
  CatchSignals(const CatchSignals&) = delete;
  CatchSignals& operator=(const CatchSignals&) = delete;
};

bool interrupted();
// Throws Error(Exit::interrupted) then.
void stop_when_interrupted();
std::string_view signal_name();  // of the signal that interrupted; empty: none

}  // namespace samformer::tools
