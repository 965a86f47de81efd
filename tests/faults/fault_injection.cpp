// A library for LD_PRELOAD that lets one call of a program fail.
//
//   FAULT_CLASS   open, write, fsync, rename, read, mmap or alloc: the calls that are counted
//   FAULT_AT      the number of the call that fails, from 1; 0: none, they are counted alone
//   FAULT_KIND    EIO, ENOSPC, EINTR, ENOMEM: that call fails so, once
//                 full: ENOSPC, and so for every later call
//                 short: it moves half of the bytes (write, read)
//   FAULT_UNDER   only calls on files below this folder are counted (not for alloc)
//   FAULT_STATE   a file of sizeof(State) bytes, mapped by all processes
//
// A program's children inherit it all. They count in the same State: the n-th call is that of the whole family, in the
// order of time, and with `full` the disk is full for all of them. State tells the test how many there were.
//
// The system is called directly and glibc's allocator by its own names: nothing here allocates. What glibc calls within
// itself (fopen's open, malloc's mmap) is not counted, nor what happens before main(): CUDA's runtime, linked into the
// program, writes to the null pointer that its initialiser is given. ENOSPC and full leave alone what opens a file
// without creating it, EINTR what opens a folder. oneDNN's own calls of the allocator are left alone: while it generates
// its kernels it writes to the null pointer that it was given (kernels/cpu/onednn.cpp looks for room before).
#include "tests/faults/fault_injection.h"

#include <dlfcn.h>
#include <fcntl.h>
#include <link.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <sys/uio.h>
#include <unistd.h>

#include <cerrno>

extern "C" {
void* __libc_malloc(size_t);
void* __libc_calloc(size_t, size_t);
void* __libc_realloc(void*, size_t);
void* __libc_memalign(size_t, size_t);
}

namespace {

using samformer::FaultState;

enum class Class { none, open, write, fsync, rename, read, mmap, alloc };
Class asked = Class::none, counted = Class::none;  // the second from main() on
std::uint64_t at = 0;
int error = 0;
bool from_then_on = false, shortened = false;
const char* under = nullptr;
FaultState* state = nullptr;

constexpr const char* names[] = {"", "open", "write", "fsync", "rename", "read", "mmap", "alloc"};

// The addresses of oneDNN's code.
std::uintptr_t onednn_begin = 0, onednn_end = 0;

int find_onednn(dl_phdr_info* library, size_t, void*) {
  if (!strstr(library->dlpi_name, "/libdnnl.")) return 0;
  onednn_begin = library->dlpi_addr;
  for (int i = 0; i < library->dlpi_phnum; ++i) {
    const auto& part = library->dlpi_phdr[i];
    const std::uintptr_t end = onednn_begin + part.p_vaddr + part.p_memsz;
    if (part.p_type == PT_LOAD && end > onednn_end) onednn_end = end;
  }
  return 1;
}

__attribute__((constructor)) void start() {
  const char *name = getenv("FAULT_CLASS"), *kind = getenv("FAULT_KIND"), *file = getenv("FAULT_STATE");
  if (!name || !kind || !file) return;
  const int fd = static_cast<int>(syscall(SYS_openat, AT_FDCWD, file, O_RDWR | O_CLOEXEC));
  const long mapped = syscall(SYS_mmap, nullptr, sizeof(FaultState), PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
  syscall(SYS_close, fd);
  if (mapped < 0) {
    constexpr char text[] = "fault_injection: cannot map FAULT_STATE\n";
    syscall(SYS_write, STDERR_FILENO, text, sizeof text - 1);
    _exit(125);
  }
  state = reinterpret_cast<FaultState*>(mapped);
  dl_iterate_phdr(find_onednn, nullptr);
  under = getenv("FAULT_UNDER");
  const char* const n = getenv("FAULT_AT");
  at = n ? strtoull(n, nullptr, 10) : 0;
  from_then_on = strcmp(kind, "full") == 0;
  shortened = strcmp(kind, "short") == 0;
  error = strcmp(kind, "EIO") == 0      ? EIO
          : strcmp(kind, "EINTR") == 0  ? EINTR
          : strcmp(kind, "ENOMEM") == 0 ? ENOMEM
                                        : ENOSPC;
  for (int i = 1; i < 8; ++i) {
    if (strcmp(name, names[i]) == 0) asked = static_cast<Class>(i);
  }
}

bool below(const char* path) {
  const size_t length = strlen(under);
  return strncmp(path, under, length) == 0 && (path[length] == '/' || path[length] == '\0');
}

// The file behind a descriptor, without an end where it is cut; "" where it has no name.
struct Name {
  char text[512];
  explicit Name(const char* link) {
    const long n = syscall(SYS_readlinkat, AT_FDCWD, link, text, sizeof text - 1);
    text[n > 0 ? n : 0] = '\0';
  }
};

Name name_of(int fd) {
  if (fd == AT_FDCWD) return Name("/proc/self/cwd");
  char link[32] = "/proc/self/fd/", *end = link + sizeof link - 1;
  char digits[12];
  int count = 0;
  for (unsigned rest = static_cast<unsigned>(fd); count == 0 || rest > 0; rest /= 10)
    digits[count++] = static_cast<char>('0' + rest % 10);
  char* to = link + strlen(link);
  while (count > 0 && to < end) *to++ = digits[--count];
  *to = '\0';
  return Name(link);
}

// Whether this call, one of the class, is to fail; `path` as far as it is known.
bool hit(const char* path) {
  const std::uint64_t n = __atomic_add_fetch(&state->calls, 1, __ATOMIC_RELAXED);
  if (at == 0 || (from_then_on ? n < at : n != at)) return false;
  if (__atomic_fetch_add(&state->failed, 1, __ATOMIC_RELAXED) == 0) {
    strncpy(state->path, path, sizeof state->path - 1);
    state->process = getpid();
  }
  errno = error;
  return true;
}

bool fails(Class called, int fd) {
  if (called != counted) return false;
  const int before = errno;
  const Name name = name_of(fd);
  errno = before;
  return (!under || below(name.text)) && hit(name.text);
}

bool fails(Class called, int folder, const char* path) {
  if (called != counted) return false;
  if (path[0] == '/' || !under) return (!under || below(path)) && hit(path);
  const int before = errno;
  const Name name = name_of(folder);
  errno = before;
  return below(name.text) && hit(path);
}

bool opening_fails(int folder, const char* path, int flags) {
  if (error == ENOSPC && !(flags & O_CREAT)) return false;
  if (error == EINTR && (flags & O_DIRECTORY)) return false;
  return fails(Class::open, folder, path);
}

bool allocation_fails(void* caller) {
  const auto address = reinterpret_cast<std::uintptr_t>(caller);
  return counted == Class::alloc && !(onednn_begin <= address && address < onednn_end) && hit("");
}

int open_at(int folder, const char* path, int flags, mode_t mode) {
  if (opening_fails(folder, path, flags)) return -1;
  return static_cast<int>(syscall(SYS_openat, folder, path, flags, mode));
}

// A read or write of one part, with the number of bytes that it is to move.
template <typename Call>
ssize_t moved(Class called, int fd, size_t size, Call call) {
  if (!fails(called, fd)) return call(size);
  if (!shortened) return -1;
  return call(size > 1 ? size / 2 : size);
}

// Of several parts a short call moves half of the first.
template <typename Call>
ssize_t moved(Class called, int fd, const iovec* parts, int count, Call call) {
  if (!fails(called, fd)) return call(parts, count);
  if (!shortened) return -1;
  const iovec half{parts->iov_base, parts->iov_len > 1 ? parts->iov_len / 2 : parts->iov_len};
  return call(&half, 1);
}

mode_t mode_of(int flags, va_list arguments) {
  return (flags & O_CREAT) || (flags & O_TMPFILE) == O_TMPFILE ? va_arg(arguments, mode_t) : 0;
}

}  // namespace

#define EXPORTED extern "C" __attribute__((visibility("default")))
#define OPEN_AT(name, folder, ...)                 \
  EXPORTED int name(__VA_ARGS__, int flags, ...) { \
    va_list arguments;                             \
    va_start(arguments, flags);                    \
    const mode_t mode = mode_of(flags, arguments); \
    va_end(arguments);                             \
    return open_at(folder, path, flags, mode);     \
  }

using Main = int (*)(int, char**, char**);
static Main program_main = nullptr;
static int counted_main(int count, char** arguments, char** environment) {
  counted = asked;
  return program_main(count, arguments, environment);
}
EXPORTED int __libc_start_main(Main main, int count, char** arguments, void (*begin)(), void (*end)(), void (*unload)(),
                               void* stack) {
  program_main = main;
  const auto glibc = reinterpret_cast<decltype(&__libc_start_main)>(dlsym(RTLD_NEXT, "__libc_start_main"));
  return glibc(counted_main, count, arguments, begin, end, unload, stack);
}

OPEN_AT(open, AT_FDCWD, const char* path)
OPEN_AT(open64, AT_FDCWD, const char* path)
OPEN_AT(openat, folder, int folder, const char* path)
OPEN_AT(openat64, folder, int folder, const char* path)
EXPORTED int creat(const char* path, mode_t mode) {
  return open_at(AT_FDCWD, path, O_CREAT | O_WRONLY | O_TRUNC, mode);
}
EXPORTED int creat64(const char* path, mode_t mode) { return creat(path, mode); }

EXPORTED ssize_t write(int fd, const void* from, size_t size) {
  return moved(Class::write, fd, size, [&](size_t n) { return syscall(SYS_write, fd, from, n); });
}
EXPORTED ssize_t pwrite(int fd, const void* from, size_t size, off_t offset) {
  return moved(Class::write, fd, size, [&](size_t n) { return syscall(SYS_pwrite64, fd, from, n, offset); });
}
EXPORTED ssize_t pwrite64(int fd, const void* from, size_t size, off64_t offset) {
  return pwrite(fd, from, size, offset);
}
EXPORTED ssize_t writev(int fd, const iovec* parts, int count) {
  return moved(Class::write, fd, parts, count, [&](const iovec* p, int n) { return syscall(SYS_writev, fd, p, n); });
}
EXPORTED ssize_t pwritev(int fd, const iovec* parts, int count, off_t offset) {
  return moved(Class::write, fd, parts, count,
               [&](const iovec* p, int n) { return syscall(SYS_pwritev, fd, p, n, offset, 0L); });
}
EXPORTED ssize_t pwritev64(int fd, const iovec* parts, int count, off64_t offset) {
  return pwritev(fd, parts, count, offset);
}

EXPORTED ssize_t read(int fd, void* to, size_t size) {
  return moved(Class::read, fd, size, [&](size_t n) { return syscall(SYS_read, fd, to, n); });
}
EXPORTED ssize_t pread(int fd, void* to, size_t size, off_t offset) {
  return moved(Class::read, fd, size, [&](size_t n) { return syscall(SYS_pread64, fd, to, n, offset); });
}
EXPORTED ssize_t pread64(int fd, void* to, size_t size, off64_t offset) { return pread(fd, to, size, offset); }
EXPORTED ssize_t readv(int fd, const iovec* parts, int count) {
  return moved(Class::read, fd, parts, count, [&](const iovec* p, int n) { return syscall(SYS_readv, fd, p, n); });
}

EXPORTED int fsync(int fd) { return fails(Class::fsync, fd) ? -1 : static_cast<int>(syscall(SYS_fsync, fd)); }
EXPORTED int fdatasync(int fd) { return fails(Class::fsync, fd) ? -1 : static_cast<int>(syscall(SYS_fdatasync, fd)); }

EXPORTED int renameat2(int from_folder, const char* from, int to_folder, const char* to, unsigned flags) {
  if (fails(Class::rename, to_folder, to)) return -1;
  return static_cast<int>(syscall(SYS_renameat2, from_folder, from, to_folder, to, flags));
}
EXPORTED int renameat(int from_folder, const char* from, int to_folder, const char* to) {
  return renameat2(from_folder, from, to_folder, to, 0);
}
EXPORTED int rename(const char* from, const char* to) { return renameat2(AT_FDCWD, from, AT_FDCWD, to, 0); }

// Files alone: without a folder to look below, what has no file counts too.
EXPORTED void* mmap(void* address, size_t size, int protection, int flags, int fd, off_t offset) {
  if (fails(Class::mmap, fd)) return MAP_FAILED;
  return reinterpret_cast<void*>(syscall(SYS_mmap, address, size, protection, flags, fd, offset));
}
EXPORTED void* mmap64(void* address, size_t size, int protection, int flags, int fd, off64_t offset) {
  return mmap(address, size, protection, flags, fd, offset);
}

EXPORTED void* malloc(size_t size) {
  return allocation_fails(__builtin_return_address(0)) ? nullptr : __libc_malloc(size);
}
EXPORTED void* calloc(size_t count, size_t size) {
  return allocation_fails(__builtin_return_address(0)) ? nullptr : __libc_calloc(count, size);
}
EXPORTED void* realloc(void* old, size_t size) {
  return allocation_fails(__builtin_return_address(0)) ? nullptr : __libc_realloc(old, size);
}
EXPORTED void* memalign(size_t alignment, size_t size) {
  return allocation_fails(__builtin_return_address(0)) ? nullptr : __libc_memalign(alignment, size);
}
EXPORTED void* aligned_alloc(size_t alignment, size_t size) {
  return allocation_fails(__builtin_return_address(0)) ? nullptr : __libc_memalign(alignment, size);
}
EXPORTED int posix_memalign(void** to, size_t alignment, size_t size) {
  if (allocation_fails(__builtin_return_address(0))) return ENOMEM;
  void* const result = __libc_memalign(alignment, size);
  if (!result) return ENOMEM;
  *to = result;
  return 0;
}
