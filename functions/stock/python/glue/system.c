/* What Python and the C library ask a system for. A function has none: no clock, no randomness, no
   files, no environment, no processes, no sockets. Python makes a `PermissionError` of `EPERM`,
   which `library/wafer/_errors.py` explains. What is not here and in no library traps.

   The names of the C library are replaced by those of this file, because it is linked first. */

#include <stdint.h>
#include <stddef.h>

__attribute__((import_module("wafer:function/log@0.1.0"), import_name("write")))
extern void log_write(int level, const char *message, size_t length);

extern int errno;
extern void *malloc(size_t);
extern size_t strlen(const char *);
extern void *memset(void *, int, size_t);
extern void *memcpy(void *, const void *, size_t);
enum { EBADF = 8, EPERM = 63 };

static int refused(void) {
    errno = EPERM;
    return -1;
}

/* Each has its own type, since a call is checked against it. */
int clock_getres(int a, void *b) { (void)a, (void)b; return refused(); }
int gettimeofday(void *a, void *b) { (void)a, (void)b; return refused(); }
int nanosleep(const void *a, void *b) { (void)a, (void)b; return refused(); }
int clock_nanosleep(int a, int b, const void *c, void *d) { (void)a, (void)b, (void)c, (void)d; return refused(); }
int open(const char *a, int b, int c) { (void)a, (void)b, (void)c; return refused(); }
int openat(int a, const char *b, int c, int d) { (void)a, (void)b, (void)c, (void)d; return refused(); }
int stat(const char *a, void *b) { (void)a, (void)b; return refused(); }
int lstat(const char *a, void *b) { (void)a, (void)b; return refused(); }
int fstat(int a, void *b) { (void)a, (void)b; return refused(); }
int fstatat(int a, const char *b, void *c, int d) { (void)a, (void)b, (void)c, (void)d; return refused(); }
int access(const char *a, int b) { (void)a, (void)b; return refused(); }
int faccessat(int a, const char *b, int c, int d) { (void)a, (void)b, (void)c, (void)d; return refused(); }
int readlink(const char *a, char *b, size_t c) { (void)a, (void)b, (void)c; return refused(); }
int readlinkat(int a, const char *b, char *c, size_t d) { (void)a, (void)b, (void)c, (void)d; return refused(); }
int chdir(const char *a) { (void)a; return refused(); }
int mkdir(const char *a, int b) { (void)a, (void)b; return refused(); }
int rmdir(const char *a) { (void)a; return refused(); }
int unlink(const char *a) { (void)a; return refused(); }
int rename(const char *a, const char *b) { (void)a, (void)b; return refused(); }
int symlink(const char *a, const char *b) { (void)a, (void)b; return refused(); }
int truncate(const char *a, int64_t b) { (void)a, (void)b; return refused(); }
int setenv(const char *a, const char *b, int c) { (void)a, (void)b, (void)c; return refused(); }
int unsetenv(const char *a) { (void)a; return refused(); }
int socket(int a, int b, int c) { (void)a, (void)b, (void)c; return refused(); }
int select(int a, void *b, void *c, void *d, void *e) { (void)a, (void)b, (void)c, (void)d, (void)e; return refused(); }
int poll(void *a, int b, int c) { (void)a, (void)b, (void)c; return refused(); }

/* While the interpreter is prepared, modules may be imported that begin with a random state or
   the time; the library replaces what would use it. */
int wafer_is_preparing;
int getentropy(void *at, size_t length) {
    if (!wafer_is_preparing) return refused();
    memset(at, 0, length);
    return 0;
}
int clock_gettime(int clock, void *time) {
    (void)clock;
    if (!wafer_is_preparing) return refused();
    memset(time, 0, 16);
    return 0;
}

/* Python asks how large its stack is, and ends a recursion of C functions before its end. Such
   functions need more of the call stack, which is outside of the memory, than of this one. */
enum { STACK = 192 << 10 };
int pthread_getattr_np(void *thread, void *attributes) { (void)thread, (void)attributes; return 0; }
int pthread_attr_getguardsize(const void *attributes, size_t *size) {
    (void)attributes;
    *size = 0;
    return 0;
}
extern char __stack_high;
int pthread_attr_getstack(const void *attributes, void **low, size_t *size) {
    (void)attributes;
    *low = &__stack_high - STACK;
    *size = STACK;
    return 0;
}
int pthread_attr_destroy(void *attributes) { (void)attributes; return 0; }

void *opendir(const char *a) { (void)a; refused(); return NULL; }
void *fopen(const char *a, const char *b) { (void)a, (void)b; refused(); return NULL; }
char *getcwd(char *a, size_t b) { (void)a, (void)b; refused(); return NULL; }

/* Where nothing is, nothing is a link. */
char *realpath(const char *path, char *resolved) {
    size_t length = strlen(path) + 1;
    if (!resolved) resolved = malloc(length);
    return resolved ? memcpy(resolved, path, length) : NULL;
}

char *getenv(const char *a) { (void)a; return NULL; }
int64_t time(int64_t *a) { (void)a; return refused(); }
int64_t clock(void) { return refused(); }
int isatty(int a) { (void)a; return 0; }
int getpid(void) { return 1; }
int sleep(int a) { return a; }
void *dlopen(const char *a, int b) { (void)a, (void)b; return NULL; }
void *dlsym(void *a, const char *b) { (void)a, (void)b; return NULL; }
char *dlerror(void) { return "a function cannot load native code"; }

/* Python writes here when it ends because of an error of its own. */
int write(int file, const void *at, size_t length) {
    if (file != 1 && file != 2) {
        errno = EBADF;
        return -1;
    }
    log_write(file == 1 ? 2 : 4, at, length);
    return length;
}

/* ---- Interfaces of the system, which the C library itself calls ---- */

#define SYSTEM(interface, function) \
    __attribute__((export_name("wasi:" interface "@0.2.0#" function)))
typedef struct { const void *at; size_t length; } list_t;

SYSTEM("cli/environment", "get-environment")
void no_environment(list_t *list) { list->at = NULL, list->length = 0; }

SYSTEM("cli/environment", "get-arguments")
void no_arguments(list_t *list) { list->at = NULL, list->length = 0; }

SYSTEM("filesystem/preopens", "get-directories")
void no_directories(list_t *list) { list->at = NULL, list->length = 0; }

SYSTEM("cli/stdin", "get-stdin")
int standard_input(void) { return 0; }

SYSTEM("cli/stdout", "get-stdout")
int standard_output(void) { return 1; }

SYSTEM("cli/stderr", "get-stderr")
int standard_error(void) { return 2; }

SYSTEM("cli/terminal-stdin", "get-terminal-stdin")
void no_terminal_input(uint8_t *option) { *option = 0; }

SYSTEM("cli/terminal-stdout", "get-terminal-stdout")
void no_terminal_output(uint8_t *option) { *option = 0; }

SYSTEM("cli/terminal-stderr", "get-terminal-stderr")
void no_terminal_error(uint8_t *option) { *option = 0; }

SYSTEM("io/streams", "[method]output-stream.check-write")
void check_write(int stream, uint64_t *result) {
    (void)stream;
    ((uint8_t *)result)[0] = 0;
    result[1] = 4096;
}

SYSTEM("io/streams", "[method]output-stream.write")
void write_stream(int stream, const void *at, size_t length, uint8_t *result) {
    log_write(stream == 1 ? 2 : 4, at, length);
    *result = 0;
}

SYSTEM("io/streams", "[method]output-stream.blocking-write-and-flush")
void write_and_flush(int stream, const void *at, size_t length, uint8_t *result) {
    write_stream(stream, at, length, result);
}

SYSTEM("io/streams", "[method]output-stream.blocking-flush")
void flush_stream(int stream, uint8_t *result) { (void)stream, *result = 0; }

SYSTEM("io/streams", "[resource-drop]output-stream")
void drop_output(int stream) { (void)stream; }

SYSTEM("io/streams", "[resource-drop]input-stream")
void drop_input(int stream) { (void)stream; }

SYSTEM("random/random", "get-random-u64")
uint64_t no_random(void) { return 0; }

/* The guard of the stack takes bytes of here when the interpreter is prepared. */
SYSTEM("random/random", "get-random-bytes")
void no_random_bytes(uint64_t length, list_t *list) {
    uint8_t *made = malloc(length);
    for (size_t i = 0; made && i < length; i++) made[i] = (uint8_t)(i * 37 + 11);
    list->at = made;
    list->length = made ? length : 0;
}
