// Atomic writes, logs, locks and mapped files: what they leave on disk when all goes well, and when it does not. Full
// disks are made with RLIMIT_FSIZE in a forked child.
#include "core/io/file.h"

#include <gtest/gtest.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include <array>
#include <csignal>
#include <fstream>
#include <functional>
#include <thread>

#include "tests/scratch_folder.h"

namespace samformer {
namespace {

// Runs the body in a child that may write no file beyond `limit` bytes; 0 means that the body returned true.
int in_child(rlim_t limit, const std::function<bool()>& body) {
  const pid_t child = ::fork();
  if (child == 0) {
    std::signal(SIGXFSZ, SIG_IGN);
    const rlimit sizes{limit, limit};
    ::setrlimit(RLIMIT_FSIZE, &sizes);
    ::_exit(body() ? 0 : 1);
  }
  int status = -1;
  ::waitpid(child, &status, 0);
  return WIFEXITED(status) ? WEXITSTATUS(status) : 128 + WTERMSIG(status);
}

template <typename Body>
Error error_of(Body body) {
  try {
    body();
  } catch (const Error& error) {
    return error;
  }
  return Error(Exit::internal, "nothing was thrown");
}

TEST(WriteAtomic, CreatesReplacesAndLeavesNothingElse) {
  const ScratchFolder folder;
  const std::array parts{bytes_of("one "), bytes_of(""), bytes_of("two")};
  write_atomic(folder / "a", parts);
  EXPECT_EQ(read_file(folder / "a"), "one two");
  write_atomic(folder / "a", "three");
  EXPECT_EQ(read_file(folder / "a"), "three");
  write_atomic(folder / "empty", "");
  EXPECT_EQ(read_file(folder / "empty"), "");
  EXPECT_EQ(folder.entries(), 2);
}

TEST(WriteAtomic, PathWithoutAFolder) {
  const ScratchFolder folder;
  const std::filesystem::path here = std::filesystem::current_path();
  std::filesystem::current_path(folder.path());
  write_atomic("a", "text");
  std::filesystem::current_path(here);
  EXPECT_EQ(read_file(folder / "a"), "text");
}

TEST(WriteAtomic, ATemporaryOfADeadProcessIsNoObstacle) {
  const ScratchFolder folder;
  const std::filesystem::path stale = folder / fmt::format(".samformer.{}.tmp", ::gettid());
  std::ofstream(stale) << "stale";
  write_atomic(folder / "a", "text");
  EXPECT_EQ(read_file(folder / "a"), "text");
  EXPECT_EQ(folder.entries(), 1);
}

TEST(WriteAtomic, FullDiskKeepsTheOldFileAndSaysWhatIsNeeded) {
  const ScratchFolder folder;
  write_atomic(folder / "a", "old");
  const std::string large(100'000, 'x');
  const int status = in_child(50'000, [&] {
    const Error error = error_of([&] { write_atomic(folder / "a", large); });
    return error.code == Exit::io && error.file == (folder / "a").string() &&
           std::string(error.what()).find("100000 bytes") != std::string::npos &&
           error.advice.find("free 100000 bytes") != std::string::npos;
  });
  EXPECT_EQ(status, 0);
  EXPECT_EQ(read_file(folder / "a"), "old");
  EXPECT_EQ(folder.entries(), 1);
}

TEST(WriteAtomic, RefusesFoldersAndMissingFolders) {
  const ScratchFolder folder;
  std::filesystem::create_directory(folder / "sub");
  EXPECT_EQ(error_of([&] { write_atomic(folder / "sub", "text"); }).code, Exit::io);
  const Error missing = error_of([&] { write_atomic(folder / "none/a", "text"); });
  EXPECT_EQ(missing.code, Exit::io);
  EXPECT_NE(missing.advice.find("create the folder"), std::string::npos) << missing.advice;
  EXPECT_EQ(error_of([&] { write_atomic(folder / std::string(300, 'n'), "text"); }).code, Exit::io);
  EXPECT_EQ(folder.entries(), 1);
}

TEST(WriteAtomic, ReadOnlyFolder) {
  if (::geteuid() == 0) GTEST_SKIP() << "root may write everywhere";
  const ScratchFolder folder;
  write_atomic(folder / "a", "old");
  ::chmod(folder.path().c_str(), 0500);
  const Error error = error_of([&] { write_atomic(folder / "a", "new"); });
  ::chmod(folder.path().c_str(), 0700);
  EXPECT_EQ(error.code, Exit::io);
  EXPECT_NE(error.advice.find("choose a folder that can"), std::string::npos) << error.advice;
  EXPECT_EQ(read_file(folder / "a"), "old");
}

TEST(WriteAtomic, ThreadsDoNotDisturbEachOther) {
  const ScratchFolder folder;
  {
    std::array<std::jthread, 4> threads;
    for (std::size_t t = 0; t < threads.size(); ++t)
      threads[t] = std::jthread([&folder, t] {
        for (int i = 0; i < 20; ++i)
          write_atomic(folder / fmt::format("{}", t), std::string(1000, static_cast<char>('a' + t)));
      });
  }
  for (std::size_t t = 0; t < 4; ++t)
    EXPECT_EQ(read_file(folder / fmt::format("{}", t)), std::string(1000, static_cast<char>('a' + t)));
  EXPECT_EQ(folder.entries(), 4);
}

TEST(AppendFile, AppendsAndIsCutBack) {
  const ScratchFolder folder;
  std::uint64_t first = 0;
  {
    AppendFile log(folder / "log");
    log.append_line("one");
    first = log.size();
    log.append_line("");
    log.append_line("three");
    log.sync();
  }
  EXPECT_EQ(read_file(folder / "log"), "one\n\nthree\n");
  EXPECT_EQ(cut_file(folder / "log", 1000), 11u);
  EXPECT_EQ(cut_file(folder / "log", first), first);
  AppendFile log(folder / "log");
  EXPECT_EQ(log.size(), first);
  log.append_line("two");
  EXPECT_EQ(read_file(folder / "log"), "one\ntwo\n");
  EXPECT_EQ(cut_file(folder / "missing", 5), 0u);
  EXPECT_EQ(error_of([&] { AppendFile(folder / "none/log"); }).code, Exit::io);
}

TEST(AppendFile, ALineThatDoesNotFitIsTakenBack) {
  const ScratchFolder folder;
  const int status = in_child(10, [&] {
    AppendFile log(folder / "log");
    log.append_line("12345");
    return error_of([&] { log.append_line("6789012345"); }).code == Exit::io && log.size() == 6;
  });
  EXPECT_EQ(status, 0);
  EXPECT_EQ(read_file(folder / "log"), "12345\n");
}

TEST(AppendFile, ARemovedFileIsWrittenAgain) {
  const ScratchFolder folder;
  AppendFile log(folder / "log");
  log.append_line("one");
  EXPECT_FALSE(log.restore());
  for (const bool replaced : {false, true}) {
    std::filesystem::remove(folder / "log");
    if (replaced) std::ofstream(folder / "log") << "another's";
    EXPECT_TRUE(log.restore());
    log.append_line("more");
  }
  EXPECT_EQ(read_file(folder / "log"), "one\nmore\nmore\n");
}

// A folder from an archive: whatever lies there under the name that is to be written.
TEST(Links, NothingIsWrittenThroughOne) {
  const ScratchFolder folder, elsewhere;
  write_atomic(elsewhere / "letter", "a letter, not to be lost\n");
  std::filesystem::create_symlink(elsewhere / "letter", folder / ".lock");
  std::filesystem::create_symlink(elsewhere / "letter", folder / "log");
  std::filesystem::create_symlink(elsewhere / "new", folder / "dangling");
  std::filesystem::create_directory_symlink(elsewhere.path(), folder / "part");
  std::filesystem::create_directory_symlink(folder.path(), elsewhere / "root");
  const auto refused = [](const auto& body, const std::filesystem::path& link) {
    const Error error = error_of(body);
    EXPECT_EQ(error.code, Exit::io) << error.what();
    EXPECT_EQ(error.file, link.string());
    EXPECT_NE(error.advice.find("symbolic link"), std::string::npos) << error.advice;
  };
  refused([&] { FolderLock lock(folder.path()); }, folder / ".lock");
  refused([&] { AppendFile log(folder / "log"); }, folder / "log");
  refused([&] { AppendFile log(folder / "dangling"); }, folder / "dangling");
  refused([&] { cut_file(folder / "log", 3); }, folder / "log");
  refused([&] { open_emptied(folder / "log"); }, folder / "log");
  refused([&] { make_folders(folder.path(), "part/deeper"); }, folder / "part");
  // What replaces a file replaces the link. The folder that the user names may be a link.
  write_atomic(folder / "log", "ours");
  EXPECT_EQ(make_folders(elsewhere / "root", "a/b"), elsewhere / "root/a/b");
  EXPECT_TRUE(std::filesystem::is_directory(folder / "a/b"));
  EXPECT_EQ(read_file(elsewhere / "letter"), "a letter, not to be lost\n");
  EXPECT_EQ(elsewhere.entries(), 2);
}

TEST(Links, NorIntoAPipeOrADevice) {
  const ScratchFolder folder;
  EXPECT_EQ(error_of([] { AppendFile("/dev/full"); }).code, Exit::io);
  ASSERT_EQ(::mkfifo((folder / "log").c_str(), 0600), 0);
  EXPECT_EQ(error_of([&] { AppendFile log(folder / "log"); }).code, Exit::io);
  ASSERT_EQ(::mkfifo((folder / ".lock").c_str(), 0600), 0);
  EXPECT_EQ(error_of([&] { FolderLock lock(folder.path()); }).code, Exit::io);
}

TEST(FolderLock, OneHolderAtATime) {
  const ScratchFolder folder;
  {
    const FolderLock lock(folder.path());
    const Error error = error_of([&] { FolderLock second(folder.path()); });
    EXPECT_EQ(error.code, Exit::usage);
    const std::string what = error.what();
    EXPECT_NE(what.find(folder.path().string()), std::string::npos) << what;
    EXPECT_NE(what.find(fmt::format("process {}", ::getpid())), std::string::npos) << what;
    EXPECT_EQ(
        in_child(RLIM_INFINITY, [&] { return error_of([&] { FolderLock third(folder.path()); }).code == Exit::usage; }),
        0);
  }
  EXPECT_EQ(folder.entries(), 0) << "the lock file is removed";
  FolderLock again(folder.path());
  const FolderLock moved(std::move(again));
  EXPECT_EQ(error_of([&] { FolderLock second(folder.path()); }).code, Exit::usage);
}

TEST(FolderLock, ADeadHolderIsNoObstacleAndItsTemporariesGo) {
  const ScratchFolder folder;
  const int status = in_child(RLIM_INFINITY, [&] {
    const FolderLock lock(folder.path());
    std::ofstream(folder / ".samformer.1.tmp") << "half a state";
    ::raise(SIGKILL);
    return true;
  });
  EXPECT_EQ(status, 128 + SIGKILL);
  EXPECT_EQ(folder.entries(), 2);
  std::ofstream(folder / ".another-program.tmp") << "not ours";
  const FolderLock lock(folder.path());
  EXPECT_FALSE(std::filesystem::exists(folder / ".samformer.1.tmp"));
  EXPECT_TRUE(std::filesystem::exists(folder / ".another-program.tmp"));
}

TEST(FolderLock, AChildMayInheritIt) {
  const ScratchFolder folder;
  FolderLock lock(folder.path());
  const int descriptor = lock.descriptor();
  const pid_t child = ::fork();
  if (child == 0) {
    {
      const FolderLock inherited(folder.path(), Descriptor(descriptor));
      if (read_file(folder / ".lock") != fmt::format("{}\n", ::getpid())) ::_exit(2);
      std::this_thread::sleep_for(std::chrono::milliseconds(100));
    }
    ::_exit(std::filesystem::exists(folder / ".lock") ? 3 : 0);
  }
  lock.hand_down();
  EXPECT_EQ(error_of([&] { FolderLock second(folder.path()); }).code, Exit::usage);
  int status = -1;
  ::waitpid(child, &status, 0);
  EXPECT_EQ(status, 0);
  FolderLock again(folder.path());
  Descriptor inherited(::dup(again.descriptor()));
  std::filesystem::remove(folder / ".lock");
  EXPECT_EQ(error_of([&] { FolderLock late(folder.path(), std::move(inherited)); }).code, Exit::io);
}

TEST(FolderLock, MissingFolder) {
  const ScratchFolder folder;
  EXPECT_EQ(error_of([&] { FolderLock lock(folder / "none"); }).code, Exit::io);
}

TEST(ReadFile, ContentPipesAndRefusals) {
  const ScratchFolder folder;
  std::string content("a\0b\n", 4);
  content += std::string(300'000, 'x');
  write_atomic(folder / "a", content);
  EXPECT_EQ(read_file(folder / "a"), content);
  EXPECT_EQ(MappedFile(folder / "a").text(), content);
  write_atomic(folder / "empty", "");
  EXPECT_TRUE(MappedFile(folder / "empty").bytes().empty());

  ASSERT_EQ(::mkfifo((folder / "pipe").c_str(), 0600), 0);
  const std::jthread writer([&] { std::ofstream(folder / "pipe") << content; });
  EXPECT_EQ(read_file(folder / "pipe"), content);
  EXPECT_EQ(error_of([&] { MappedFile file(folder / "pipe"); }).code, Exit::data);

  for (const std::filesystem::path& path : {folder / "missing", folder.path(), folder / "a/b",
                                            std::filesystem::path("/dev/zero"), std::filesystem::path()}) {
    for (const Exit code : {Exit::data, Exit::io}) {
      const Error read = error_of([&] { read_file(path, code); });
      const Error mapped = error_of([&] { MappedFile file(path, code); });
      EXPECT_EQ(read.code, code) << path;
      EXPECT_EQ(mapped.code, code) << path;
      EXPECT_EQ(read.file, path.string());
      EXPECT_FALSE(read.advice.empty());
    }
  }
}

TEST(ReadFile, ADiskThatFailsIsNoDamagedFile) {
  // Reading the address 0 of a process gives EIO.
  const Error error = error_of([] { read_file("/proc/self/mem", Exit::data); });
  EXPECT_EQ(error.code, Exit::io) << error.what();
}

TEST(MappedFile, MovesItsView) {
  const ScratchFolder folder;
  write_atomic(folder / "a", "text");
  MappedFile first(folder / "a");
  MappedFile second(std::move(first));
  EXPECT_EQ(second.text(), "text");
  EXPECT_EQ(second.path(), folder / "a");
  second = MappedFile(folder / "a");
  EXPECT_EQ(second.text(), "text");
}

}  // namespace
}  // namespace samformer
