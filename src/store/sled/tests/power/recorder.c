/* Records what a process does to the files below one directory, for the tests of power loss.
 *
 * Loaded by LD_PRELOAD. Every call that changes a file or a directory below $POWER_ROOT, and every sync, is written
 * to $POWER_TRACE in the order in which it took effect: one lock is held over the call and its record. Syncs are
 * recorded but not carried out, since nothing here survives a real power cut anyway. A call that the reader could
 * not replay is recorded by its name, and the reader refuses the trace.
 *
 * A record is a `struct head` followed by the path, the second path and the data; paths are relative to the root.
 */
#define _GNU_SOURCE
#include <dlfcn.h>
#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <stdarg.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/uio.h>
#include <unistd.h>

enum kind { CREATE, WRITE, TRUNCATE, RENAME, UNLINK, MKDIR, RMDIR, SYNC, DATA_SYNC, RANGE_SYNC, UNKNOWN };

struct head {
    uint32_t kind, path_len, other_len, pad;
    uint64_t offset, data_len;
};

#define PATH_BYTES 4096
#define REAL(name) ((__typeof__(&name))real(#name))

static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;
static char root[PATH_BYTES];
static int trace = -1;

static void *real(const char *name) {
    void *symbol = dlsym(RTLD_NEXT, name);
    if (!symbol) abort();
    return symbol;
}

static void put(const void *bytes, size_t count) {
    while (count > 0) {
        ssize_t written = syscall(SYS_write, trace, bytes, count);
        if (written <= 0) abort();
        bytes = (const char *)bytes + written;
        count -= (size_t)written;
    }
}

static void record(enum kind kind, const char *path, const char *other, uint64_t offset, const void *data, size_t data_len) {
    struct head head = {kind, strlen(path), strlen(other), 0, offset, data_len};
    put(&head, sizeof head);
    put(path, head.path_len);
    put(other, head.other_len);
    put(data, data_len);
}

__attribute__((constructor)) static void start(void) {
    const char *directory = getenv("POWER_ROOT"), *file = getenv("POWER_TRACE");
    if (!directory || !file) return;
    snprintf(root, sizeof root, "%s/", directory);
    trace = syscall(SYS_openat, AT_FDCWD, file, O_WRONLY | O_CREAT | O_APPEND | O_CLOEXEC, 0600);
    if (trace < 0) abort();
}

/* The part of an absolute path below the root; NULL for any other. */
static const char *below(const char *path) {
    size_t length = strlen(root);
    return trace >= 0 && strncmp(path, root, length) == 0 ? path + length : NULL;
}

/* Where an open file or directory lies now. */
static const char *of_fd(int fd, char *buffer) {
    char link[64];
    if (trace < 0) return NULL;
    snprintf(link, sizeof link, "/proc/self/fd/%d", fd);
    ssize_t length = syscall(SYS_readlinkat, AT_FDCWD, link, buffer, PATH_BYTES - 1);
    if (length < 0) return NULL;
    buffer[length] = 0;
    /* What is written to a removed file is lost in any case. */
    if (strstr(buffer, " (deleted)")) return NULL;
    return below(buffer);
}

/* The path that a call names by a directory's descriptor and a path. */
static const char *of_path(int directory, const char *path, char *buffer) {
    if (path[0] == '/') return below(path);
    if (directory == AT_FDCWD || !of_fd(directory, buffer)) return NULL;
    size_t length = strlen(buffer);
    snprintf(buffer + length, PATH_BYTES - length, "/%s", path);
    return below(buffer);
}

static int exists(int directory, const char *path) {
    int error = errno;
    int found = faccessat(directory, path, F_OK, AT_SYMLINK_NOFOLLOW) == 0;
    errno = error;
    return found;
}

static int opened(int directory, const char *path, int flags, mode_t mode) {
    char buffer[PATH_BYTES];
    pthread_mutex_lock(&lock);
    const char *name = of_path(directory, path, buffer);
    int existed = name && exists(directory, path);
    int fd = REAL(openat)(directory, path, flags, mode);
    if (fd >= 0 && name) {
        if (flags & (O_DSYNC | O_SYNC | O_DIRECT) || (flags & O_TMPFILE) == O_TMPFILE) record(UNKNOWN, "open", "", 0, "", 0);
        if (flags & O_CREAT && !existed) record(CREATE, name, "", 0, "", 0);
        if (flags & O_TRUNC && existed) record(TRUNCATE, name, "", 0, "", 0);
    }
    pthread_mutex_unlock(&lock);
    return fd;
}

#define MODE(last)                                                    \
    mode_t mode = 0;                                                  \
    if (flags & O_CREAT || (flags & O_TMPFILE) == O_TMPFILE) {        \
        va_list list;                                                 \
        va_start(list, last);                                         \
        mode = va_arg(list, mode_t);                                  \
        va_end(list);                                                 \
    }

int open(const char *path, int flags, ...) { MODE(flags) return opened(AT_FDCWD, path, flags, mode); }
int open64(const char *path, int flags, ...) { MODE(flags) return opened(AT_FDCWD, path, flags, mode); }
int openat(int at, const char *path, int flags, ...) { MODE(flags) return opened(at, path, flags, mode); }
int openat64(int at, const char *path, int flags, ...) { MODE(flags) return opened(at, path, flags, mode); }
int creat(const char *path, mode_t mode) { return opened(AT_FDCWD, path, O_CREAT | O_WRONLY | O_TRUNC, mode); }
int creat64(const char *path, mode_t mode) { return creat(path, mode); }

static ssize_t written_at(int fd, const void *data, size_t count, off_t offset) {
    char buffer[PATH_BYTES];
    pthread_mutex_lock(&lock);
    const char *name = of_fd(fd, buffer);
    ssize_t written = REAL(pwrite64)(fd, data, count, offset);
    if (written > 0 && name) record(WRITE, name, "", offset, data, written);
    pthread_mutex_unlock(&lock);
    return written;
}

ssize_t pwrite(int fd, const void *data, size_t count, off_t offset) { return written_at(fd, data, count, offset); }
ssize_t pwrite64(int fd, const void *data, size_t count, off64_t offset) { return written_at(fd, data, count, offset); }

ssize_t write(int fd, const void *data, size_t count) {
    char buffer[PATH_BYTES];
    if (!of_fd(fd, buffer)) return REAL(write)(fd, data, count);
    pthread_mutex_lock(&lock);
    const char *name = of_fd(fd, buffer);
    off_t offset = lseek(fd, 0, fcntl(fd, F_GETFL) & O_APPEND ? SEEK_END : SEEK_CUR);
    ssize_t written = REAL(write)(fd, data, count);
    if (written > 0 && name) record(WRITE, name, "", offset, data, written);
    pthread_mutex_unlock(&lock);
    return written;
}

static int truncated(int fd, off_t length) {
    char buffer[PATH_BYTES];
    pthread_mutex_lock(&lock);
    const char *name = of_fd(fd, buffer);
    int result = REAL(ftruncate64)(fd, length);
    if (result == 0 && name) record(TRUNCATE, name, "", length, "", 0);
    pthread_mutex_unlock(&lock);
    return result;
}

int ftruncate(int fd, off_t length) { return truncated(fd, length); }
int ftruncate64(int fd, off64_t length) { return truncated(fd, length); }

static int renamed(int from_at, const char *from, int to_at, const char *to, unsigned flags) {
    char from_buffer[PATH_BYTES], to_buffer[PATH_BYTES];
    pthread_mutex_lock(&lock);
    const char *name = of_path(from_at, from, from_buffer), *other = of_path(to_at, to, to_buffer);
    int result = syscall(SYS_renameat2, from_at, from, to_at, to, flags);
    if (result == 0 && name && other && flags == 0) record(RENAME, name, other, 0, "", 0);
    else if (result == 0 && (name || other)) record(UNKNOWN, "rename", "", 0, "", 0);
    pthread_mutex_unlock(&lock);
    return result;
}

int rename(const char *from, const char *to) { return renamed(AT_FDCWD, from, AT_FDCWD, to, 0); }
int renameat(int a, const char *from, int b, const char *to) { return renamed(a, from, b, to, 0); }
int renameat2(int a, const char *from, int b, const char *to, unsigned flags) { return renamed(a, from, b, to, flags); }

static int removed(int at, const char *path, int flags) {
    char buffer[PATH_BYTES];
    pthread_mutex_lock(&lock);
    const char *name = of_path(at, path, buffer);
    int result = REAL(unlinkat)(at, path, flags);
    if (result == 0 && name) record(flags & AT_REMOVEDIR ? RMDIR : UNLINK, name, "", 0, "", 0);
    pthread_mutex_unlock(&lock);
    return result;
}

int unlink(const char *path) { return removed(AT_FDCWD, path, 0); }
int rmdir(const char *path) { return removed(AT_FDCWD, path, AT_REMOVEDIR); }
int unlinkat(int at, const char *path, int flags) { return removed(at, path, flags); }

static int made(int at, const char *path, mode_t mode) {
    char buffer[PATH_BYTES];
    pthread_mutex_lock(&lock);
    const char *name = of_path(at, path, buffer);
    int result = REAL(mkdirat)(at, path, mode);
    if (result == 0 && name) record(MKDIR, name, "", 0, "", 0);
    pthread_mutex_unlock(&lock);
    return result;
}

int mkdir(const char *path, mode_t mode) { return made(AT_FDCWD, path, mode); }
int mkdirat(int at, const char *path, mode_t mode) { return made(at, path, mode); }

/* True when the file is one of ours: then the caller need not sync it. */
static int synced(int fd, enum kind kind) {
    char buffer[PATH_BYTES];
    pthread_mutex_lock(&lock);
    const char *name = of_fd(fd, buffer);
    if (name) record(kind, name, "", 0, "", 0);
    pthread_mutex_unlock(&lock);
    return name != NULL;
}

int fsync(int fd) { return synced(fd, SYNC) ? 0 : REAL(fsync)(fd); }
int fdatasync(int fd) { return synced(fd, DATA_SYNC) ? 0 : REAL(fdatasync)(fd); }
int sync_file_range(int fd, off64_t offset, off64_t count, unsigned flags) {
    return synced(fd, RANGE_SYNC) ? 0 : REAL(sync_file_range)(fd, offset, count, flags);
}

/* What the reader cannot replay. */
static void unknown_fd(int fd, const char *call) {
    char buffer[PATH_BYTES];
    pthread_mutex_lock(&lock);
    if (fd >= 0 && of_fd(fd, buffer)) record(UNKNOWN, call, "", 0, "", 0);
    pthread_mutex_unlock(&lock);
}

static void unknown_path(int at, const char *path, const char *call) {
    char buffer[PATH_BYTES];
    pthread_mutex_lock(&lock);
    if (of_path(at, path, buffer)) record(UNKNOWN, call, "", 0, "", 0);
    pthread_mutex_unlock(&lock);
}

#define UNKNOWN_FD(result, name, parameters, arguments, fd) \
    result name parameters { unknown_fd(fd, #name); return REAL(name) arguments; }
#define UNKNOWN_PATH(name, parameters, arguments, at, path) \
    int name parameters { unknown_path(at, path, #name); return REAL(name) arguments; }

UNKNOWN_FD(ssize_t, writev, (int fd, const struct iovec *parts, int count), (fd, parts, count), fd)
UNKNOWN_FD(ssize_t, pwritev, (int fd, const struct iovec *p, int n, off_t at), (fd, p, n, at), fd)
UNKNOWN_FD(ssize_t, pwritev64, (int fd, const struct iovec *p, int n, off64_t at), (fd, p, n, at), fd)
UNKNOWN_FD(ssize_t, pwritev2, (int fd, const struct iovec *p, int n, off_t at, int f), (fd, p, n, at, f), fd)
UNKNOWN_FD(ssize_t, copy_file_range, (int in, off64_t *i, int out, off64_t *o, size_t n, unsigned f), (in, i, out, o, n, f), out)
UNKNOWN_FD(ssize_t, sendfile, (int out, int in, off_t *at, size_t n), (out, in, at, n), out)
UNKNOWN_FD(ssize_t, sendfile64, (int out, int in, off64_t *at, size_t n), (out, in, at, n), out)
UNKNOWN_FD(ssize_t, splice, (int in, off64_t *i, int out, off64_t *o, size_t n, unsigned f), (in, i, out, o, n, f), out)
UNKNOWN_FD(int, posix_fallocate, (int fd, off_t at, off_t n), (fd, at, n), fd)
UNKNOWN_FD(int, posix_fallocate64, (int fd, off64_t at, off64_t n), (fd, at, n), fd)
UNKNOWN_FD(int, syncfs, (int fd), (fd), fd)
UNKNOWN_PATH(truncate, (const char *path, off_t length), (path, length), AT_FDCWD, path)
UNKNOWN_PATH(truncate64, (const char *path, off64_t length), (path, length), AT_FDCWD, path)
UNKNOWN_PATH(link, (const char *from, const char *to), (from, to), AT_FDCWD, to)
UNKNOWN_PATH(linkat, (int a, const char *from, int b, const char *to, int f), (a, from, b, to, f), b, to)
UNKNOWN_PATH(symlink, (const char *from, const char *to), (from, to), AT_FDCWD, to)
UNKNOWN_PATH(symlinkat, (const char *from, int at, const char *to), (from, at, to), at, to)

/* Room that is reserved behind a file's end changes nothing that a reader could see. */
static int allocated(int fd, int mode, off_t offset, off_t count) {
    if (mode != FALLOC_FL_KEEP_SIZE) unknown_fd(fd, "fallocate");
    return REAL(fallocate64)(fd, mode, offset, count);
}

int fallocate(int fd, int mode, off_t offset, off_t count) { return allocated(fd, mode, offset, count); }
int fallocate64(int fd, int mode, off64_t offset, off64_t count) { return allocated(fd, mode, offset, count); }

static void *mapped(void *at, size_t count, int protection, int flags, int fd, off_t offset) {
    if (fd >= 0 && flags & MAP_SHARED && protection & PROT_WRITE) unknown_fd(fd, "mmap");
    return (void *)syscall(SYS_mmap, at, count, protection, flags, fd, offset);
}

void *mmap(void *a, size_t n, int p, int f, int fd, off_t o) { return mapped(a, n, p, f, fd, o); }
void *mmap64(void *a, size_t n, int p, int f, int fd, off64_t o) { return mapped(a, n, p, f, fd, o); }
