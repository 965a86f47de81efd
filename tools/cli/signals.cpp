#include "tools/cli/signals.h"

#include <signal.h>
#include <unistd.h>

#include <atomic>

#include "core/error.h"

namespace samformer::tools {

namespace {

// A handler can reach nothing but statics.
std::atomic<int> received{0};
std::atomic<int> catchers{0};
static_assert(std::atomic<int>::is_always_lock_free);

void handle(int signal) {
  if (catchers > 0 && received.exchange(signal) == 0) return;
  _exit(static_cast<int>(Exit::interrupted));
}

}  // namespace

void install_signal_handlers() {
  struct sigaction action = {};
  action.sa_handler = SIG_IGN;
  sigaction(SIGPIPE, &action, nullptr);
  sigaction(SIGXFSZ, &action, nullptr);
  action.sa_handler = handle;
  action.sa_flags = SA_RESTART;  // a save in progress must not see EINTR
  sigaction(SIGINT, &action, nullptr);
  sigaction(SIGTERM, &action, nullptr);
  struct sigaction before = {};
  sigaction(SIGHUP, nullptr, &before);
  if (before.sa_handler != SIG_IGN) sigaction(SIGHUP, &action, nullptr);
}

CatchSignals::CatchSignals() { ++catchers; }
CatchSignals::~CatchSignals() { --catchers; }

bool interrupted() { return received != 0; }

void stop_when_interrupted() {
  if (interrupted()) throw Error(Exit::interrupted, "interrupted");
}

std::string_view signal_name() {
  switch (received) {
    case SIGINT:
      return "SIGINT";
    case SIGTERM:
      return "SIGTERM";
    case SIGHUP:
      return "SIGHUP";
  }
  return "";
}

}  // namespace samformer::tools
