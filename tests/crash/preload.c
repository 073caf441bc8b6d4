/* Preloaded into a process: counts the calls that change files below a path, kills it at the n-th.
 *
 * The last call is torn: nothing, half or all of it is done before the process dies. Armed per
 * process, by `crash_arm`; until then, and in children that exec, every call just goes through.
 */
#define _GNU_SOURCE
#include <dlfcn.h>
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <signal.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stdio.h>
#include <string.h>
#include <sys/sendfile.h>
#include <sys/uio.h>
#include <unistd.h>

enum { NOTHING, HALF, ALL };

static atomic_long num_calls;
static long last_call;          /* 0: count, never kill */
static unsigned last_part;      /* how much of the last call is done */
static char watched[PATH_MAX];  /* part of the paths that count; empty until armed */

void crash_arm(long n, const char *substring, unsigned seed)
{
    num_calls = 0;
    last_call = n;
    last_part = seed % 3;
    snprintf(watched, sizeof watched, "%s", substring);
}

long crash_count(void) { return num_calls; }

static bool is_watched(const char *path) { return *watched && strstr(path, watched); }

static bool is_watched_fd(int fd)
{
    char link[64], path[PATH_MAX];
    int error = errno;

    if (!*watched)
        return false;
    snprintf(link, sizeof link, "/proc/self/fd/%d", fd);
    ssize_t length = readlink(link, path, sizeof path - 1);
    errno = error;
    path[length < 0 ? 0 : length] = '\0';
    return is_watched(path);
}

static void die(void)
{
    kill(getpid(), SIGKILL);
    for (;;)
        pause();
}

/* Count a call that is about to be made; true for the last one. */
static bool begin(bool counts)
{
    bool is_last = counts && atomic_fetch_add(&num_calls, 1) + 1 == last_call;
    if (is_last && last_part == NOTHING)
        die();
    return is_last;
}

static ssize_t end(bool is_last, ssize_t result)
{
    if (is_last)
        die();
    return result;
}

/* The bytes (or, of a vector, the buffers) that a call may still move. */
#define CUT(n) (is_last && last_part == HALF ? (n) / 2 : (n))

#define REAL(name) ((__typeof__(name) *)dlsym(RTLD_NEXT, #name))

#define INTERPOSE(type, name, counts, parameters, arguments)     \
    type name parameters                                         \
    {                                                            \
        bool is_last = begin(counts);                            \
        return (type)end(is_last, REAL(name) arguments);         \
    }

#define FD is_watched_fd(fd)
#define PATHS (is_watched(from) || is_watched(to))
#define AT(directory, path) (is_watched(path) || is_watched_fd(directory))
typedef const struct iovec *Vector;

INTERPOSE(ssize_t, write, FD, (int fd, const void *data, size_t n), (fd, data, CUT(n)))
INTERPOSE(ssize_t, pwrite, FD, (int fd, const void *data, size_t n, off_t offset),
          (fd, data, CUT(n), offset))
INTERPOSE(ssize_t, pwrite64, FD, (int fd, const void *data, size_t n, off64_t offset),
          (fd, data, CUT(n), offset))
INTERPOSE(ssize_t, writev, FD, (int fd, Vector data, int n), (fd, data, CUT(n)))
INTERPOSE(ssize_t, pwritev, FD, (int fd, Vector data, int n, off_t offset),
          (fd, data, CUT(n), offset))
INTERPOSE(ssize_t, pwritev64, FD, (int fd, Vector data, int n, off64_t offset),
          (fd, data, CUT(n), offset))
INTERPOSE(ssize_t, sendfile, FD, (int fd, int from, off_t *offset, size_t n),
          (fd, from, offset, CUT(n)))
INTERPOSE(ssize_t, sendfile64, FD, (int fd, int from, off64_t *offset, size_t n),
          (fd, from, offset, CUT(n)))
INTERPOSE(ssize_t, copy_file_range, FD,
          (int from, off64_t *start, int fd, off64_t *offset, size_t n, unsigned flags),
          (from, start, fd, offset, CUT(n), flags))

INTERPOSE(int, ftruncate, FD, (int fd, off_t size), (fd, size))
INTERPOSE(int, ftruncate64, FD, (int fd, off64_t size), (fd, size))
INTERPOSE(int, fallocate, FD, (int fd, int mode, off_t start, off_t n), (fd, mode, start, n))
INTERPOSE(int, fallocate64, FD, (int fd, int mode, off64_t start, off64_t n), (fd, mode, start, n))
INTERPOSE(int, posix_fallocate, FD, (int fd, off_t start, off_t n), (fd, start, n))
INTERPOSE(int, posix_fallocate64, FD, (int fd, off64_t start, off64_t n), (fd, start, n))
INTERPOSE(int, fsync, FD, (int fd), (fd))
INTERPOSE(int, fdatasync, FD, (int fd), (fd))

INTERPOSE(int, rename, PATHS, (const char *from, const char *to), (from, to))
INTERPOSE(int, link, PATHS, (const char *from, const char *to), (from, to))
INTERPOSE(int, renameat, (AT(a, from) || AT(b, to)),
          (int a, const char *from, int b, const char *to), (a, from, b, to))
INTERPOSE(int, unlink, is_watched(path), (const char *path), (path))
INTERPOSE(int, unlinkat, AT(directory, path), (int directory, const char *path, int flags),
          (directory, path, flags))
