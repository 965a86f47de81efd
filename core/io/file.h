// Files on disk: whole files replaced atomically, logs that can be cut back, one lock a folder, read-only views.
//
// A replaced file is written as `.samformer.<thread id>.tmp` in the same folder, flushed (fsync), renamed over the
// old one, and the folder flushed; after any failure the old file is intact and the temporary gone. Writing allocates
// nothing in proportion to the data, but for AppendFile::restore(). Write failures are Error(Exit::io) with path,
// system error, the bytes that were to be written, and hint.
// A folder may come from an archive of others: nothing is written through a symbolic link that lies in it, which is
// Error(Exit::io) naming the link. RLIMIT_FSIZE counts as a full disk only in a process that ignores SIGXFSZ: main()
// must do so.
#pragma once

#include <cstddef>
#include <cstdint>
#include <filesystem>
#include <span>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "core/error.h"

namespace samformer {

using Bytes = std::span<const std::byte>;

inline Bytes bytes_of(std::string_view text) { return std::as_bytes(std::span(text)); }

// Owns a POSIX file descriptor.
class Descriptor {
 public:
  explicit Descriptor(int fd = -1) : fd_(fd) {}
  Descriptor(Descriptor&& other) noexcept : fd_(std::exchange(other.fd_, -1)) {}
  Descriptor& operator=(Descriptor&& other) noexcept {
    std::swap(fd_, other.fd_);
    return *this;
  }
  ~Descriptor();
  int get() const { return fd_; }

 private:
  int fd_;
};

// A file that is replaced (or created) when all of it is there, piece by piece. `total`: the bytes to come, for messages.
class AtomicFile {
 public:
  explicit AtomicFile(std::filesystem::path path, std::uint64_t total = 0);
  AtomicFile(const AtomicFile&) = delete;
  AtomicFile& operator=(const AtomicFile&) = delete;
  ~AtomicFile();  // without commit() nothing has changed
  void write(Bytes bytes);
  void commit();

 private:
  [[noreturn]] void fail(std::string_view action, int error);
  std::filesystem::path path_, temporary_;
  std::uint64_t total_;
  Descriptor file_;
};

// Replaces (or creates) the file with the concatenation of the parts.
void write_atomic(const std::filesystem::path& path, std::span<const Bytes> parts);
void write_atomic(const std::filesystem::path& path, std::string_view text);

// A new or emptied regular file to write to, for a process that is about to be started.
Descriptor open_emptied(const std::filesystem::path& path);

// Replaces `to` with the content of `from`, as write_atomic() does.
void copy_atomic(const std::filesystem::path& from, const std::filesystem::path& to);

// Names an input of this command. Whatever would replace or cut it from now on, under this or another name, is
// Error(Exit::usage) and leaves it as it is. Of this thread; one that works for it takes its list over.
void never_replace(const std::filesystem::path& path);
struct InputFile {
  std::uint64_t device, number;
};
std::vector<InputFile>& never_replaced();
// That error, before any file of a folder is written.
void require_no_input(const std::filesystem::path& folder, std::span<const char* const> names);

// Makes the folder root/relative, every missing part of it. `root` is the user's to choose and may be a link; what is
// below it may not: Error(Exit::io).
std::filesystem::path make_folders(const std::filesystem::path& root, const std::filesystem::path& relative = {});

// Removes what killed processes have left of their writing. Only for a folder that this process alone writes to.
void remove_temporaries(const std::filesystem::path& folder);

// A log that grows by whole lines: a line that does not fit on the disk is taken back before the throw.
class AppendFile {
 public:
  explicit AppendFile(std::filesystem::path path);
  // Where somebody has removed or replaced the file since it was opened, writes it there again: true.
  bool restore();
  // Writes the line and a line end in one system call; other readers see it at once.
  void append_line(std::string_view line);
  // Flushes to the disk. Call it before a state file that records size().
  void sync();
  // Bytes, as the next append would find them: what cut_file() takes on resume.
  std::uint64_t size() const { return size_; }

 private:
  std::filesystem::path path_;
  Descriptor file_;
  std::uint64_t size_ = 0;
};

// Cuts the file back to at most `size` bytes; returns the size it then has, 0 where it is missing.
std::uint64_t cut_file(const std::filesystem::path& path, std::uint64_t size);

// Holds the exclusive lock `<folder>/.lock` (flock, contents: our process id) until destroyed, then removes the file.
// Whoever holds it owns the folder's temporaries, so those left behind by killed processes are removed.
// Throws Error(Exit::usage) naming the folder and the holder where another process (or lock) has it.
class FolderLock {
 public:
  explicit FolderLock(std::filesystem::path folder);
  // The lock that another process has taken and handed down: a descriptor that this process has inherited. Throws
  // Error(Exit::io) where somebody has removed its file meanwhile.
  FolderLock(std::filesystem::path folder, Descriptor inherited);
  FolderLock(FolderLock&&) noexcept = default;
  ~FolderLock();
  // For a child to inherit. The lock lasts until both have closed it.
  int descriptor() const { return file_.get(); }
  // Leaves lock and file to the child that has inherited the descriptor.
  void hand_down() { file_ = Descriptor(); }

 private:
  void take();
  std::filesystem::path path_;
  Descriptor file_;
};

// The whole content of a regular file or a pipe. A missing file, a folder, no permission: Error(on_failure). A disk
// that fails to read is Error(Exit::io), no memory Error(Exit::device), whatever the file.
std::string read_file(const std::filesystem::path& path, Exit on_failure = Exit::data);

// Read-only view of a regular file (mmap); failures as read_file(). The file must not shrink while it is mapped.
class MappedFile {
 public:
  explicit MappedFile(std::filesystem::path path, Exit on_failure = Exit::data);
  MappedFile(MappedFile&& other) noexcept
      : path_(std::move(other.path_)), bytes_(std::exchange(other.bytes_, Bytes())) {}
  MappedFile& operator=(MappedFile&& other) noexcept {
    std::swap(path_, other.path_);
    std::swap(bytes_, other.bytes_);
    return *this;
  }
  ~MappedFile();
  Bytes bytes() const { return bytes_; }
  std::string_view text() const { return {reinterpret_cast<const char*>(bytes_.data()), bytes_.size()}; }
  const std::filesystem::path& path() const { return path_; }

 private:
  std::filesystem::path path_;
  Bytes bytes_;
};

}  // namespace samformer
