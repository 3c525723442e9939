/* A function in C, as clang and wasi-libc make it: the input `x` and the output `y`, both int64,
 * where y = x + the number in its asset. Negative inputs ask the C library for something instead.
 *
 * The contract of `wit/` is written out by hand here, in the layout of the canonical ABI. A
 * generator of bindings would write it otherwise. `tests/sandbox/wasi.rs` compiles this file. */
#include <errno.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#define EXPORT(name) __attribute__((export_name(name)))
#define TRANSFORM "wafer:function/transform@0.1.0#"

typedef struct {
    void *at;
    uint32_t length;
} list;

typedef struct {
    list name;
    uint8_t type;
    uint8_t padding[11];
    bool nullable;
    list doc;
} field;

typedef struct {
    list inputs, outputs;
    uint8_t mapping;
    list doc;
} signature;

typedef struct {
    uint8_t type;
    list values;
    uint8_t padding[28];
} column;

typedef struct {
    uint32_t is_error;
    uint32_t rows;
    list columns;
    uint32_t has_source_rows;
    list source_rows;
    list row_errors;
} output;

_Static_assert(sizeof(field) == 32, "a field has 32 bytes");
_Static_assert(sizeof(signature) == 28, "a signature has 28 bytes");
_Static_assert(sizeof(column) == 40, "a column has 40 bytes");
_Static_assert(sizeof(output) == 36, "an output has 36 bytes");

enum { INT64 = 1 };

static char asset[32];
static int64_t more;

EXPORT("cabi_realloc")
void *cabi_realloc(void *old, size_t old_size, size_t align, size_t size) {
    (void)old_size;
    if (size == 0) {
        return (void *)align;
    }
    void *new = realloc(old, size);
    if (new == NULL) {
        abort();
    }
    return new;
}

EXPORT(TRANSFORM "load")
void load(char *name, uint32_t name_length, char *chunk, uint32_t length, uint32_t last) {
    (void)name, (void)name_length, (void)last;
    size_t begun = strlen(asset);
    size_t room = sizeof asset - 1 - begun;
    memcpy(asset + begun, chunk, length < room ? length : room);
}

EXPORT(TRANSFORM "init")
uint32_t *init(void *parameters, uint32_t count) {
    (void)parameters, (void)count;
    static uint32_t result[4];
    more = strtoll(asset, NULL, 10);
    fprintf(stderr, "initialised with %lld\n", (long long)more);
    return result;
}

EXPORT(TRANSFORM "describe")
signature *describe(void) {
    static field x = {.name = {"x", 1}, .type = INT64};
    static field y = {.name = {"y", 1}, .type = INT64};
    static signature described = {.inputs = {&x, 1}, .outputs = {&y, 1}};
    return &described;
}

/* What the C library answers. */
static int64_t asked(int64_t what) {
    uint64_t random;
    switch (what) {
    case -1:
        return time(NULL);
    case -2:
        return getentropy(&random, sizeof random) == 0 ? (int64_t)(random >> 1) : -1;
    case -3:
        return fopen("/etc/passwd", "r") == NULL ? errno != 0 : -1;
    case -4:
        return getenv("PATH") == NULL;
    case -5:
        return getchar() == EOF;
    case -6:
        return sleep(1);
    case -7:
        fputs("no row is like this", stderr);
        exit(3);
    default:
        return what + more;
    }
}

EXPORT(TRANSFORM "call")
output *call(uint32_t rows, column *columns, uint32_t count) {
    static output result;
    int64_t *values = columns[0].values.at;
    for (uint32_t row = 0; row < rows; row++) {
        values[row] = asked(values[row]);
        printf("row %u is %lld\n", row, (long long)values[row]);
    }
    fflush(stdout);
    result.rows = rows;
    result.columns = (list){columns, count};
    return &result;
}
