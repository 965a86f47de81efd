// Signals, each in a child process of its own.
#include "tools/cli/signals.h"

#include <gtest/gtest.h>
#include <signal.h>
#include <sys/resource.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cerrno>
#include <functional>

namespace samformer::tools {
namespace {

// Exit status of a child that runs `body`, or 1000 + the signal that killed it.
int status_of(const std::function<int()>& body) {
  const pid_t child = fork();
  if (child == 0) _exit(body());
  int status = 0;
  waitpid(child, &status, 0);
  return WIFEXITED(status) ? WEXITSTATUS(status) : 1000 + WTERMSIG(status);
}

TEST(Signals, EndTheProgramWith130) {
  for (const int signal : {SIGINT, SIGTERM, SIGHUP}) {
    EXPECT_EQ(status_of([&] {
                install_signal_handlers();
                raise(signal);
                return 0;
              }),
              130);
  }
}

TEST(Signals, TheFirstSetsAFlagTheSecondEnds) {
  for (const auto& [signal, name] : {std::pair(SIGINT, "SIGINT"), {SIGTERM, "SIGTERM"}, {SIGHUP, "SIGHUP"}}) {
    EXPECT_EQ(status_of([&, signal = signal, name = name] {
                install_signal_handlers();
                const CatchSignals guard;
                if (interrupted() || !signal_name().empty()) return 1;
                raise(signal);
                if (!interrupted() || signal_name() != name) return 2;
                raise(SIGTERM);
                return 3;
              }),
              130);
  }
}

TEST(Signals, AfterTheGuardOneSignalEnds) {
  EXPECT_EQ(status_of([] {
              install_signal_handlers();
              { const CatchSignals guard; }
              raise(SIGINT);
              return 0;
            }),
            130);
}

TEST(Signals, NohupIsKept) {
  EXPECT_EQ(status_of([] {
              ::signal(SIGHUP, SIG_IGN);
              install_signal_handlers();
              raise(SIGHUP);
              return 7;
            }),
            7);
}

TEST(Signals, BrokenPipesAndFileSizeLimitsAreErrorsOfWrite) {
  EXPECT_EQ(status_of([] {
              install_signal_handlers();
              int ends[2];
              if (pipe(ends) != 0) return 1;
              close(ends[0]);
              return write(ends[1], "x", 1) == -1 && errno == EPIPE ? 7 : 2;
            }),
            7);
  EXPECT_EQ(status_of([] {
              install_signal_handlers();
              const rlimit none{0, 0};
              setrlimit(RLIMIT_FSIZE, &none);
              std::FILE* file = std::tmpfile();
              return file && write(fileno(file), "x", 1) == -1 && errno == EFBIG ? 7 : 2;
            }),
            7);
}

}  // namespace
}  // namespace samformer::tools
