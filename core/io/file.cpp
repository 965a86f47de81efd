#include "core/io/file.h"

#include <fcntl.h>
#include <sys/file.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <sys/uio.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <cerrno>
#include <charconv>
#include <system_error>

namespace samformer {
namespace fs = std::filesystem;
namespace {

constexpr std::string_view temporary_prefix = ".samformer.", temporary_suffix = ".tmp";

std::string words(int error) { return std::generic_category().message(error); }

std::string write_hint(int error, std::uint64_t bytes, const fs::path& folder) {
  switch (error) {
    case ENOSPC:
    case EDQUOT:
      return fmt::format("free {} bytes on the disk of '{}', or choose a folder elsewhere", bytes, folder.string());
    case EFBIG:
      return fmt::format("free {} bytes: the limit on the size of a file (ulimit -f) or of this file system is reached",
                         bytes);
    case EACCES:
    case EPERM:
    case EROFS:
      return fmt::format("'{}' cannot be written to: choose a folder that can", folder.string());
    case ENOENT:
      return fmt::format("create the folder '{}' first", folder.string());
    default:
      return fmt::format("check the folder '{}' and its disk", folder.string());
  }
}

fs::path folder_of(const fs::path& path) { return path.has_parent_path() ? path.parent_path() : fs::path("."); }

[[noreturn]] void write_failed(const fs::path& path, std::string_view action, int error, std::uint64_t bytes) {
  throw Error(Exit::io, fmt::format("cannot {} ({} bytes): {}", action, bytes, words(error)))
      .at(path.string())
      .hint(write_hint(error, bytes, folder_of(path)));
}

// Retries where a signal came in between.
template <typename Call>
auto retried(Call call) {
  auto result = call();
  while (result < 0 && errno == EINTR) result = call();
  return result;
}

// 0, or the errno that stopped it.
int write_all(int fd, Bytes bytes) {
  while (!bytes.empty()) {
    const ssize_t written = retried([&] { return ::write(fd, bytes.data(), bytes.size()); });
    if (written < 0) return errno;
    bytes = bytes.subspan(static_cast<std::size_t>(written));
  }
  return 0;
}

bool is_temporary(std::string_view name) {
  return name.size() > temporary_prefix.size() + temporary_suffix.size() && name.starts_with(temporary_prefix) &&
         name.ends_with(temporary_suffix);
}

Descriptor open_to_read(const fs::path& path, int flags, mode_t& kind, std::uint64_t& size, Exit on_failure) {
  Descriptor file(retried([&] { return ::open(path.c_str(), O_RDONLY | O_CLOEXEC | flags); }));
  struct stat status {};
  if (file.get() < 0 || ::fstat(file.get(), &status) != 0) {
    const int error = errno;
    throw Error(on_failure, fmt::format("cannot open this file: {}", words(error)))
        .at(path.string())
        .hint(error == ENOENT || error == ENOTDIR ? "check the spelling and the folder"
              : error == EACCES                   ? "you have no permission to read it"
                                                  : "check that it is a readable file");
  }
  kind = status.st_mode & S_IFMT;
  size = static_cast<std::uint64_t>(status.st_size);
  if (kind == S_IFDIR)
    throw Error(on_failure, "a file was expected, this is a folder").at(path.string()).hint("name a file inside it");
  return file;
}

[[noreturn]] void not_regular(const fs::path& path, std::string_view expected, Exit on_failure) {
  throw Error(on_failure, fmt::format("{} was expected, this is a device, pipe or socket", expected))
      .at(path.string())
      .hint("copy its content to a file first");
}

}  // namespace

Descriptor::~Descriptor() {
  if (fd_ >= 0) ::close(fd_);
}

void write_atomic(const fs::path& path, std::span<const Bytes> parts) {
  std::uint64_t total = 0;
  for (const Bytes part : parts) total += part.size();
  const fs::path folder = folder_of(path);
  // Thread ids are unique among all live threads of the machine: a temporary of the same name is a dead process's.
  const fs::path temporary = folder / fmt::format("{}{}{}", temporary_prefix, ::gettid(), temporary_suffix);
  ::unlink(temporary.c_str());
  Descriptor file(retried([&] { return ::open(temporary.c_str(), O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, 0666); }));
  if (file.get() < 0) write_failed(path, "create a file in its folder", errno, total);

  int error = 0;
  for (const Bytes part : parts)
    if (error == 0) error = write_all(file.get(), part);
  std::string_view action = "write";
  if (error == 0 && retried([&] { return ::fsync(file.get()); }) != 0) {
    action = "flush to the disk";
    error = errno;
  }
  if (error == 0 && ::rename(temporary.c_str(), path.c_str()) != 0) {
    action = "rename the finished file to this name";
    error = errno;
  }
  if (error != 0) {
    ::unlink(temporary.c_str());
    write_failed(path, action, error, total);
  }

  const Descriptor directory(::open(folder.c_str(), O_RDONLY | O_DIRECTORY | O_CLOEXEC));
  // Some file systems cannot flush folders and say EINVAL; a folder without read permission cannot be opened for it.
  if (directory.get() >= 0 && retried([&] { return ::fsync(directory.get()); }) != 0 && errno != EINVAL)
    write_failed(path, "flush its folder to the disk", errno, total);
}

void write_atomic(const fs::path& path, std::string_view text) {
  const std::array parts{bytes_of(text)};
  write_atomic(path, parts);
}

AppendFile::AppendFile(fs::path path) : path_(std::move(path)) {
  file_ = Descriptor(retried([&] { return ::open(path_.c_str(), O_WRONLY | O_CREAT | O_APPEND | O_CLOEXEC, 0666); }));
  struct stat status {};
  if (file_.get() < 0 || ::fstat(file_.get(), &status) != 0) write_failed(path_, "open for appending", errno, 0);
  size_ = static_cast<std::uint64_t>(status.st_size);
}

void AppendFile::append_line(std::string_view line) {
  char end = '\n';
  const std::array<iovec, 2> parts{iovec{const_cast<char*>(line.data()), line.size()}, iovec{&end, 1}};
  const std::size_t total = line.size() + 1;
  const ssize_t written = retried([&] { return ::writev(file_.get(), parts.data(), static_cast<int>(parts.size())); });
  int error = written < 0 ? errno : 0;
  if (written >= 0 && static_cast<std::size_t>(written) < total) {
    const auto done = static_cast<std::size_t>(written);
    if (done < line.size()) error = write_all(file_.get(), bytes_of(line.substr(done)));
    if (error == 0) error = write_all(file_.get(), bytes_of({&end, 1}));
  }
  if (error != 0) {
    // Half a line would make the whole log unreadable; where even the cut fails, the write's error is the one to tell.
    if (::ftruncate(file_.get(), static_cast<off_t>(size_)) != 0) errno = error;
    write_failed(path_, "append a line", error, total);
  }
  size_ += total;
}

void AppendFile::sync() {
  if (retried([&] { return ::fdatasync(file_.get()); }) != 0) write_failed(path_, "flush to the disk", errno, size_);
}

std::uint64_t cut_file(const fs::path& path, std::uint64_t size) {
  const Descriptor file(retried([&] { return ::open(path.c_str(), O_WRONLY | O_CLOEXEC); }));
  if (file.get() < 0 && errno == ENOENT) return 0;
  struct stat status {};
  if (file.get() < 0 || ::fstat(file.get(), &status) != 0) write_failed(path, "open to cut it back", errno, size);
  const auto found = static_cast<std::uint64_t>(status.st_size);
  if (found <= size) return found;
  if (retried([&] { return ::ftruncate(file.get(), static_cast<off_t>(size)); }) != 0)
    write_failed(path, "cut back", errno, size);
  return size;
}

FolderLock::FolderLock(fs::path folder) : path_(std::move(folder) / ".lock") {
  for (;;) {
    Descriptor file(retried([&] { return ::open(path_.c_str(), O_RDWR | O_CREAT | O_CLOEXEC, 0666); }));
    if (file.get() < 0) write_failed(path_, "create the lock file", errno, 0);
    if (retried([&] { return ::flock(file.get(), LOCK_EX | LOCK_NB); }) != 0) {
      if (errno != EWOULDBLOCK) write_failed(path_, "lock", errno, 0);
      std::array<char, 20> holder;
      const ssize_t length = ::pread(file.get(), holder.data(), holder.size(), 0);
      int pid = 0;
      if (length > 0) std::from_chars(holder.data(), holder.data() + length, pid);
      throw Error(Exit::usage, fmt::format("the folder '{}' is in use by {}", path_.parent_path().string(),
                                           pid > 0 ? fmt::format("process {}", pid) : "another process"))
          .at(path_.string())
          .hint("wait until it has finished, or choose another folder");
    }
    // Between open and flock the last holder may have removed the file: then the lock on it protects nothing.
    struct stat ours {
    }, current{};
    if (::fstat(file.get(), &ours) == 0 && ::stat(path_.c_str(), &current) == 0 && ours.st_dev == current.st_dev &&
        ours.st_ino == current.st_ino) {
      file_ = std::move(file);
      break;
    }
  }
  // The process id only serves the message above: a full disk is no reason to refuse the lock.
  if (::ftruncate(file_.get(), 0) == 0) write_all(file_.get(), bytes_of(fmt::format("{}\n", ::getpid())));

  std::error_code ignored;
  for (fs::directory_iterator entry(path_.parent_path(), ignored), end; !ignored && entry != end;
       entry.increment(ignored))
    if (is_temporary(entry->path().filename().native())) ::unlink(entry->path().c_str());
}

FolderLock::~FolderLock() {
  if (file_.get() >= 0) ::unlink(path_.c_str());
}

std::string read_file(const fs::path& path, Exit on_failure) {
  mode_t kind = 0;
  std::uint64_t size = 0;
  const Descriptor file = open_to_read(path, 0, kind, size, on_failure);
  if (kind != S_IFREG && kind != S_IFIFO) not_regular(path, "a file or a pipe", on_failure);
  std::string content;
  // One byte more than the size makes the read that finds the end fit without growing.
  std::size_t room = static_cast<std::size_t>(size) + 1, done = 0;
  for (;;) {
    if (done == content.size()) content.resize(done == 0 ? std::max<std::size_t>(room, 4096) : 2 * done);
    const ssize_t count = retried([&] { return ::read(file.get(), content.data() + done, content.size() - done); });
    if (count < 0)
      throw Error(on_failure, fmt::format("cannot read this file after {} bytes: {}", done, words(errno)))
          .at(path.string())
          .hint("check the disk it lies on");
    if (count == 0) break;
    done += static_cast<std::size_t>(count);
  }
  content.resize(done);
  return content;
}

MappedFile::MappedFile(fs::path path, Exit on_failure) : path_(std::move(path)) {
  mode_t kind = 0;
  std::uint64_t size = 0;
  // Without O_NONBLOCK a pipe that nobody writes to would hang here, before it can be refused.
  const Descriptor file = open_to_read(path_, O_NONBLOCK, kind, size, on_failure);
  if (kind != S_IFREG) not_regular(path_, "a regular file", on_failure);
  if (size == 0) return;
  void* const address = ::mmap(nullptr, size, PROT_READ, MAP_PRIVATE, file.get(), 0);
  if (address == MAP_FAILED)
    throw Error(on_failure, fmt::format("cannot map this file's {} bytes: {}", size, words(errno)))
        .at(path_.string())
        .hint("check the memory limit (ulimit -v) and the file system");
  bytes_ = {static_cast<const std::byte*>(address), static_cast<std::size_t>(size)};
}

MappedFile::~MappedFile() {
  if (!bytes_.empty()) ::munmap(const_cast<std::byte*>(bytes_.data()), bytes_.size());
}

}  // namespace samformer
