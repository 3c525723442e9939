/* What QuickJS and the C library ask a system for. A function has none: no clock, no randomness, no
   files, no time zone. `library/system.js` refuses what an author could ask for, so nothing here is
   reached but by the interpreter itself. */

#include <stdint.h>
#include <stddef.h>
#include <string.h>
#include <sys/time.h>
#include <time.h>

/* The state of `Math.random`, which is replaced, begins with the time. */
int gettimeofday(struct timeval *time, void *zone) {
    (void)zone;
    memset(time, 0, sizeof *time);
    return 0;
}

int clock_gettime(clockid_t clock, struct timespec *time) {
    (void)clock;
    memset(time, 0, sizeof *time);
    return 0;
}

/* Local time is UTC. QuickJS asks for nothing but its offset. */
struct tm *localtime_r(const time_t *time, struct tm *local) {
    (void)time;
    memset(local, 0, sizeof *local);
    return local;
}

/* QuickJS prints when it finds a mistake of its own, and then ends. */
int printf(const char *format, ...) { (void)format; return 0; }
int puts(const char *text) { (void)text; return 0; }
int putchar(int character) { return character; }
_Noreturn void abort(void) { __builtin_trap(); }
