/* Lets one call of the system fail, for the tests of failing_calls.rs: loaded into a program by LD_PRELOAD, with
 * FAILING_CALL=NAME:N, it answers the N-th call of NAME (counted from 1, over fsync, fdatasync or rename) with EIO, and makes
 * the file that FAILED_CALL names, so that a test knows. Like a disk that lost the data, a failed fsync does not sync. */
#define _GNU_SOURCE
#include <dlfcn.h>
#include <errno.h>
#include <fcntl.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

static atomic_long seen;

static int fails(const char *name) {
    const char *wanted = getenv("FAILING_CALL");
    size_t length = strlen(name);
    if (wanted == NULL || strncmp(wanted, name, length) != 0 || wanted[length] != ':') {
        return 0;
    }
    if (atomic_fetch_add(&seen, 1) + 1 != atol(wanted + length + 1)) {
        return 0;
    }
    const char *told = getenv("FAILED_CALL");
    int file = told == NULL ? -1 : open(told, O_CREAT | O_WRONLY, 0600);
    if (file >= 0) {
        close(file);
    }
    return 1;
}

int fsync(int fd) {
    if (fails("fsync")) {
        errno = EIO;
        return -1;
    }
    return ((int (*)(int))dlsym(RTLD_NEXT, "fsync"))(fd);
}

int fdatasync(int fd) {
    if (fails("fdatasync")) {
        errno = EIO;
        return -1;
    }
    return ((int (*)(int))dlsym(RTLD_NEXT, "fdatasync"))(fd);
}

int rename(const char *from, const char *to) {
    if (fails("rename")) {
        errno = EIO;
        return -1;
    }
    return ((int (*)(const char *, const char *))dlsym(RTLD_NEXT, "rename"))(from, to);
}
