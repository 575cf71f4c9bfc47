/* What is wrong with a version, or what its machine is told, for the tests of upgrades: loaded by LD_PRELOAD.
 *
 * ILL_CLOCK=FILE      the wall clock is off by the seconds in FILE, read at each look
 * ILL_BOOT=FILE       the machine's start has the id in FILE
 * ILL_UNREACHABLE=1   nothing can be connected to by an address of the internet
 * ILL_EATS=1          memory is taken until its limit, where the process is killed
 */
#define _GNU_SOURCE
#include <arpa/inet.h>
#include <dlfcn.h>
#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <signal.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <time.h>
#include <unistd.h>

static long seconds_off(void) {
    const char *path = getenv("ILL_CLOCK");
    char text[32] = {0};
    int file = path == NULL ? -1 : (int)syscall(SYS_openat, AT_FDCWD, path, O_RDONLY | O_CLOEXEC);
    if (file < 0) {
        return 0;
    }
    ssize_t length = read(file, text, sizeof text - 1);
    close(file);
    return length > 0 ? atol(text) : 0;
}

int clock_gettime(clockid_t clock, struct timespec *now) {
    int answer = (int)syscall(SYS_clock_gettime, clock, now);
    if (answer == 0 && clock == CLOCK_REALTIME) {
        int error = errno;
        now->tv_sec += seconds_off();
        errno = error;
    }
    return answer;
}

static const char *instead_of(const char *path) {
    const char *boot = getenv("ILL_BOOT");
    return boot != NULL && strcmp(path, "/proc/sys/kernel/random/boot_id") == 0 ? boot : path;
}

static int opened(const char *path, int flags, unsigned mode) {
    return (int)syscall(SYS_openat, AT_FDCWD, instead_of(path), flags, mode);
}

int open(const char *path, int flags, ...) {
    va_list rest;
    va_start(rest, flags);
    unsigned mode = va_arg(rest, unsigned);
    va_end(rest);
    return opened(path, flags, mode);
}

int open64(const char *path, int flags, ...) {
    va_list rest;
    va_start(rest, flags);
    unsigned mode = va_arg(rest, unsigned);
    va_end(rest);
    return opened(path, flags | O_LARGEFILE, mode);
}

int connect(int socket, const struct sockaddr *address, socklen_t length) {
    if (getenv("ILL_UNREACHABLE") != NULL && address->sa_family != AF_UNIX) {
        errno = ECONNREFUSED;
        return -1;
    }
    return (int)syscall(SYS_connect, socket, address, length);
}

/* Until the limit, where the system kills whoever is above it. */
static void *eat(void *unused) {
    (void)unused;
    for (;;) {
        size_t piece = 8 << 20;
        char *memory = malloc(piece);
        if (memory == NULL) {
            raise(SIGKILL);
        }
        memset(memory, 1, piece);
        usleep(10000);
    }
    return NULL;
}

__attribute__((constructor)) static void begin(void) {
    if (getenv("ILL_EATS") != NULL) {
        pthread_t thread;
        pthread_create(&thread, NULL, eat, NULL);
    }
}
