/* Preloaded into a server (LD_PRELOAD): a disk that is full, slow or loses what was not flushed,
 * and a clock that steps.
 *
 * TORTURE_CONTROL names a file with the settings, which the torture test changes meanwhile.
 * TORTURE_FILES is the folder of the files that are meant. What a write replaces there goes to
 * FILE.undo first, which is emptied when FILE is flushed: so the torture test can restore, after
 * it has killed the server, what a power cut would have left. */
#define _GNU_SOURCE
#include <dlfcn.h>
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <sys/time.h>
#include <time.h>
#include <unistd.h>

struct control {
    volatile int32_t full;
    volatile int32_t slow_us;
    volatile int64_t clock_ns;
    volatile int64_t flush_us;
};

/* Before the bytes that a write replaces: where they are, how many, and the size of the file. */
struct undo {
    int64_t offset, length, size;
};

static struct control nothing, *control = &nothing;
static const char *folder;
static size_t folder_length;

static ssize_t (*real_write)(int, const void *, size_t);
static ssize_t (*real_pwrite)(int, const void *, size_t, off_t);
static int (*real_ftruncate)(int, off_t);
static int (*real_fsync)(int);
static int (*real_fdatasync)(int);
static int (*real_unlink)(const char *);
static int (*real_clock_gettime)(clockid_t, struct timespec *);

__attribute__((constructor)) static void begin(void) {
    real_write = dlsym(RTLD_NEXT, "write");
    real_pwrite = dlsym(RTLD_NEXT, "pwrite64");
    real_ftruncate = dlsym(RTLD_NEXT, "ftruncate64");
    real_fsync = dlsym(RTLD_NEXT, "fsync");
    real_fdatasync = dlsym(RTLD_NEXT, "fdatasync");
    real_unlink = dlsym(RTLD_NEXT, "unlink");
    real_clock_gettime = dlsym(RTLD_NEXT, "clock_gettime");
    /* A copy: Redis writes its title over the environment. */
    folder = getenv("TORTURE_FILES");
    folder = folder ? strdup(folder) : NULL;
    folder_length = folder ? strlen(folder) : 0;
    const char *path = getenv("TORTURE_CONTROL");
    int fd = path ? open(path, O_RDWR | O_CLOEXEC) : -1;
    if (fd >= 0) {
        void *mapped = mmap(NULL, sizeof *control, PROT_READ, MAP_SHARED, fd, 0);
        if (mapped != MAP_FAILED)
            control = mapped;
        close(fd);
    }
}

static int is_ours(const char *path) {
    size_t length = strlen(path);
    return folder_length && strncmp(path, folder, folder_length) == 0 &&
           !(length > 4 && strcmp(path + length - 4, "-shm") == 0);
}

/* Whether the descriptor is of a file that is meant; its path with ".undo", and its size. */
static int find(int fd, char *path, int64_t *size) {
    struct stat state;
    char link[64];
    if (!folder_length || !real_write || fstat(fd, &state) < 0 || !S_ISREG(state.st_mode))
        return 0;
    snprintf(link, sizeof link, "/proc/self/fd/%d", fd);
    ssize_t length = readlink(link, path, PATH_MAX - 6);
    if (length < 0)
        return 0;
    path[length] = 0;
    if (!is_ours(path))
        return 0;
    strcpy(path + length, ".undo");
    *size = state.st_size;
    return 1;
}

static void slow(void) {
    if (control->slow_us)
        usleep(control->slow_us);
}

/* Keep what is at this place of the file. Returns -1, with errno, if the disk is full. */
static int keep(int fd, const char *path, int64_t size, int64_t offset, int64_t length) {
    if (control->full) {
        errno = ENOSPC;
        return -1;
    }
    struct undo undo = {offset, 0, size};
    char *record = malloc(sizeof undo + length);
    if (!record)
        return -1;
    ssize_t got = pread(fd, record + sizeof undo, length, offset);
    undo.length = got > 0 ? got : 0;
    memcpy(record, &undo, sizeof undo);
    int file = open(path, O_WRONLY | O_CREAT | O_APPEND | O_CLOEXEC, 0600);
    if (file >= 0) {
        real_write(file, record, sizeof undo + undo.length);
        close(file);
    }
    free(record);
    return file < 0 ? -1 : 0;
}

ssize_t pwrite64(int fd, const void *data, size_t length, off_t offset) {
    char path[PATH_MAX];
    int64_t size;
    if (find(fd, path, &size)) {
        slow();
        if (keep(fd, path, size, offset, length) < 0)
            return -1;
    }
    return real_pwrite(fd, data, length, offset);
}

ssize_t pwrite(int fd, const void *data, size_t length, off_t offset) {
    return pwrite64(fd, data, length, offset);
}

ssize_t write(int fd, const void *data, size_t length) {
    char path[PATH_MAX];
    int64_t size;
    if (find(fd, path, &size)) {
        slow();
        int64_t place = fcntl(fd, F_GETFL) & O_APPEND ? size : lseek(fd, 0, SEEK_CUR);
        if (keep(fd, path, size, place, length) < 0)
            return -1;
    }
    return real_write(fd, data, length);
}

int ftruncate64(int fd, off_t length) {
    char path[PATH_MAX];
    int64_t size;
    if (find(fd, path, &size) && size > length &&
        keep(fd, path, size, length, size - length) < 0)
        return -1;
    return real_ftruncate(fd, length);
}

int ftruncate(int fd, off_t length) {
    return ftruncate64(fd, length);
}

static int flushed(int fd, int result) {
    char path[PATH_MAX];
    int64_t size;
    if (result == 0 && find(fd, path, &size)) {
        slow();
        if (control->flush_us)
            usleep(control->flush_us);
        int file = open(path, O_WRONLY | O_TRUNC | O_CLOEXEC);
        if (file >= 0)
            close(file);
    }
    return result;
}

int fsync(int fd) {
    return flushed(fd, real_fsync(fd));
}

int fdatasync(int fd) {
    return flushed(fd, real_fdatasync(fd));
}

int unlink(const char *path) {
    char undo[PATH_MAX];
    int result = real_unlink(path);
    if (result == 0 && is_ours(path) && strlen(path) < PATH_MAX - 6) {
        int error = errno;
        snprintf(undo, sizeof undo, "%s.undo", path);
        real_unlink(undo);
        errno = error;
    }
    return result;
}

int clock_gettime(clockid_t clock, struct timespec *now) {
    if (!real_clock_gettime)
        real_clock_gettime = dlsym(RTLD_NEXT, "clock_gettime");
    int result = real_clock_gettime(clock, now);
    if (result == 0 && clock == CLOCK_REALTIME && control->clock_ns) {
        int64_t moment = now->tv_sec * 1000000000LL + now->tv_nsec + control->clock_ns;
        now->tv_sec = moment / 1000000000LL;
        now->tv_nsec = moment % 1000000000LL;
    }
    return result;
}

int gettimeofday(struct timeval *restrict now, void *restrict zone) {
    (void)zone;
    struct timespec moment;
    int result = clock_gettime(CLOCK_REALTIME, &moment);
    now->tv_sec = moment.tv_sec;
    now->tv_usec = moment.tv_nsec / 1000;
    return result;
}

time_t time(time_t *now) {
    struct timespec moment;
    clock_gettime(CLOCK_REALTIME, &moment);
    if (now)
        *now = moment.tv_sec;
    return moment.tv_sec;
}
