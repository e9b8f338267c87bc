/* A disk that tells what was written to it and when it was synced: preloaded, below SQLite.

   Calls that concern files of the folder in DISK_FOLDER are carried out, and then appended to a record in memory:
   one letter, the number of the file, two numbers, and the bytes that were written.  `disk_record` reads it;
   `disk_set_sync_us` makes the disk slow.  So does the file that DISK_CONTROL names, which another process may write
   at any time: microseconds that a sync takes longer, and the errno of every write, 0 for none.

   The file that DISK_RECORD names gets the same record, for a process that is killed; the names of the files, a line
   each, go to the one with `.names` behind that. */
#define _GNU_SOURCE
#include <dlfcn.h>
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <pthread.h>
#include <stdarg.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/types.h>
#include <sys/uio.h>
#include <time.h>
#include <unistd.h>

enum { FILES_MAX = 64, DESCRIPTORS_MAX = 4096, SLICE_US = 10000 };

static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;
static char *record;
static size_t length, room;
static char names[FILES_MAX][PATH_MAX];
static int files;
static int file_of[DESCRIPTORS_MAX]; /* number of the file + 1 */
static volatile long sync_us;

/* The descriptor of a file beside the record, or -1: by the kernel's own calls, since ours are about the disk. */
static int beside(const char *suffix) {
    const char *path = getenv("DISK_RECORD");
    char whole[PATH_MAX];
    if (!path) return -1;
    snprintf(whole, sizeof whole, "%s%s", path, suffix);
    return syscall(SYS_openat, AT_FDCWD, whole, O_WRONLY | O_CREAT | O_APPEND | O_CLOEXEC, 0600);
}

static void tell(char kind, const int64_t *head, const void *data, size_t size) {
    static int descriptor = -2;
    if (descriptor == -2) descriptor = beside("");
    if (descriptor < 0) return;
    struct iovec parts[3] = {{&kind, 1}, {(void *)head, 3 * sizeof *head}, {(void *)data, size}};
    if (syscall(SYS_writev, descriptor, parts, 3) < 0) abort();
}

static void *real(const char *name) { return dlsym(RTLD_NEXT, name); }

/* The number of a file below the folder, the folder itself being 0; or -1. */
static int number_of(const char *path) {
    const char *folder = getenv("DISK_FOLDER");
    if (!folder || !path || strncmp(path, folder, strlen(folder)) != 0) return -1;
    const char *name = path + strlen(folder);
    if (*name == '/') name++;
    else if (*name) return -1;
    for (int i = 0; i < files; i++)
        if (!strcmp(names[i], name)) return i;
    if (files == FILES_MAX) abort();
    strncpy(names[files], name, PATH_MAX - 1);
    static int descriptor = -2;
    if (descriptor == -2) descriptor = beside(".names");
    if (descriptor >= 0) {
        struct iovec line[2] = {{names[files], strlen(names[files])}, {"\n", 1}};
        if (syscall(SYS_writev, descriptor, line, 2) < 0) abort();
    }
    return files++;
}

static void note(char kind, int file, int64_t first, int64_t second, const void *data, size_t size) {
    int64_t head[3] = {file, first, second};
    pthread_mutex_lock(&lock);
    if (length + sizeof head + 1 + size > room) {
        room = 2 * (length + sizeof head + 1 + size) + 65536;
        record = realloc(record, room);
        if (!record) abort();
    }
    record[length] = kind;
    memcpy(record + length + 1, head, sizeof head);
    if (size) memcpy(record + length + 1 + sizeof head, data, size);
    length += 1 + sizeof head + size;
    tell(kind, head, data, size);
    pthread_mutex_unlock(&lock);
}

size_t disk_length(void) {
    pthread_mutex_lock(&lock);
    size_t now = length;
    pthread_mutex_unlock(&lock);
    return now;
}
void disk_record(char *into, size_t size) {
    pthread_mutex_lock(&lock);
    memcpy(into, record, size);
    pthread_mutex_unlock(&lock);
}
const char *disk_name(int file) { return file < files ? names[file] : NULL; }
void disk_set_sync_us(long us) { sync_us = us; }

/* The errno of writing, or 0; and what a sync takes longer. */
static int control(long *slow_us) {
    const char *path = getenv("DISK_CONTROL");
    FILE *file = path ? fopen(path, "re") : NULL;
    long us = 0;
    int error = 0;
    if (file) {
        if (fscanf(file, "%ld %d", &us, &error) != 2) us = error = 0;
        fclose(file);
    }
    *slow_us = us > sync_us ? us : sync_us;
    return error;
}

static int opened(int descriptor, const char *path, int flags, int was_there) {
    if (descriptor < 0 || descriptor >= DESCRIPTORS_MAX) return descriptor;
    int file = number_of(path);
    file_of[descriptor] = file + 1;
    if (file >= 0 && (flags & O_CREAT) && !was_there) note('C', file, 0, 0, NULL, 0);
    return descriptor;
}

#define OPEN(name)                                                                      \
    int name(const char *path, int flags, ...) {                                        \
        va_list more;                                                                   \
        va_start(more, flags);                                                          \
        mode_t mode = (flags & O_CREAT) ? va_arg(more, mode_t) : 0;                     \
        va_end(more);                                                                   \
        struct stat found;                                                              \
        int was_there = number_of(path) < 0 || stat(path, &found) == 0;                 \
        int (*call)(const char *, int, ...) = real(#name);                              \
        return opened(call(path, flags, mode), path, flags, was_there);                 \
    }
OPEN(open)
OPEN(open64)

int close(int descriptor) {
    if (descriptor >= 0 && descriptor < DESCRIPTORS_MAX) file_of[descriptor] = 0;
    int (*call)(int) = real("close");
    return call(descriptor);
}

static int file_at(int descriptor) {
    return descriptor >= 0 && descriptor < DESCRIPTORS_MAX ? file_of[descriptor] - 1 : -1;
}

#define PWRITE(name, offset_type)                                                       \
    ssize_t name(int descriptor, const void *data, size_t size, offset_type offset) {   \
        int file = file_at(descriptor);                                                 \
        long slow_us;                                                                   \
        int failing = file >= 0 ? control(&slow_us) : 0;                                \
        if (failing) { errno = failing; return -1; }                                    \
        ssize_t (*call)(int, const void *, size_t, offset_type) = real(#name);          \
        ssize_t written = call(descriptor, data, size, offset);                         \
        if (file >= 0 && written > 0) note('W', file, offset, written, data, written);  \
        return written;                                                                 \
    }
PWRITE(pwrite, off_t)
PWRITE(pwrite64, off64_t)

ssize_t write(int descriptor, const void *data, size_t size) {
    ssize_t (*call)(int, const void *, size_t) = real("write");
    int file = file_at(descriptor);
    if (file < 0) return call(descriptor, data, size);
    long slow_us;
    int failing = control(&slow_us);
    if (failing) { errno = failing; return -1; }
    off_t offset = lseek(descriptor, 0, SEEK_CUR);
    ssize_t written = call(descriptor, data, size);
    if (written > 0) note('W', file, offset, written, data, written);
    return written;
}

#define TRUNCATE(name, size_type)                                                       \
    int name(int descriptor, size_type size) {                                          \
        int (*call)(int, size_type) = real(#name);                                      \
        int result = call(descriptor, size);                                            \
        if (result == 0 && file_at(descriptor) >= 0) note('T', file_at(descriptor), size, 0, NULL, 0); \
        return result;                                                                  \
    }
TRUNCATE(ftruncate, off_t)
TRUNCATE(ftruncate64, off64_t)

#define SYNC(name)                                                                      \
    int name(int descriptor) {                                                          \
        int (*call)(int) = real(#name);                                                 \
        int file = file_at(descriptor);                                                 \
        /* What is written by another thread meanwhile is not covered. */               \
        int64_t covers = file >= 0 ? (int64_t)disk_length() : 0;                        \
        long slow_us = 0;                                                               \
        if (file >= 0) control(&slow_us);                                               \
        for (long waited = 0; waited < slow_us; waited += SLICE_US) {                   \
            long left = slow_us - waited < SLICE_US ? slow_us - waited : SLICE_US;      \
            struct timespec slice = {0, left * 1000};                                   \
            nanosleep(&slice, NULL);                                                    \
            control(&slow_us); /* it may be over */                                     \
        }                                                                               \
        int result = call(descriptor);                                                  \
        if (result == 0 && file >= 0) note('S', file, covers, 0, NULL, 0);              \
        return result;                                                                  \
    }
SYNC(fsync)
SYNC(fdatasync)

int unlink(const char *path) {
    int (*call)(const char *) = real("unlink");
    int result = call(path);
    int file = number_of(path);
    if (result == 0 && file >= 0) note('U', file, 0, 0, NULL, 0);
    return result;
}

int rename(const char *from, const char *to) {
    int (*call)(const char *, const char *) = real("rename");
    int result = call(from, to);
    int file = number_of(from);
    if (result == 0 && file >= 0) note('R', file, number_of(to), 0, NULL, 0);
    return result;
}
