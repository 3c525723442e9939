/* The contract's exports in the canonical ABI of
   https://github.com/WebAssembly/component-model/blob/main/design/mvp/CanonicalABI.md: what the glue
   of each interpreter has in common. The structures have the layout that the ABI prescribes for the
   types of `wit/types.wit`. */

#include <stdint.h>
#include <stddef.h>

#define EXPORT(name) __attribute__((export_name(name)))
#define TRANSFORM(name) EXPORT("wafer:function/transform@0.1.0#" name)
#define TRAINING(name) EXPORT("wafer:function/training@0.1.0#" name)

enum { TRACE, DEBUG, INFO, WARN, ERROR };

__attribute__((import_module("wafer:function/log@0.1.0"), import_name("write")))
extern void log_write(int level, const char *message, size_t length);

/* In `memory.c`. */
extern void *wafer_allocate(void *, size_t, size_t);
extern void wafer_heap_begins(void);
extern void wafer_prepared(void);
extern void wafer_initialised(void);

typedef struct { const char *at; size_t length; } list_t;
typedef struct { list_t name, value; } parameter_t;
typedef struct { uint8_t tag; union { uint32_t dimension; list_t nodes; }; } type_t;
typedef struct { list_t name; type_t type; uint8_t nullable; list_t doc; } field_t;
typedef struct {
    uint8_t tag;
    union {
        list_t list;
        list_t lists[3];
        struct { uint32_t dimension; list_t values; } vectors;
    };
    uint8_t has_validity;
    list_t validity;
} column_t;
typedef struct { uint32_t rows; list_t columns; } batch_t;
typedef struct { uint32_t row; list_t message; } row_error_t;
typedef struct {
    batch_t batch;
    uint8_t has_sources;
    list_t sources;
    list_t row_errors;
} output_t;
typedef struct {
    uint8_t is_error;
    union { output_t output; struct { uint8_t tag; list_t message; } error; };
} called_t;
typedef struct { uint8_t is_error; list_t value; } listed_t;
typedef struct { uint8_t is_error; union { uint8_t more; list_t message; }; } passed_t;
typedef struct { list_t inputs, outputs; uint8_t mapping; list_t doc; } signature_t;
typedef struct { list_t name; double value; } metric_t;
typedef struct { list_t name; uint64_t size; } artifact_t;
typedef struct {
    uint8_t is_error;
    union { struct { list_t artifacts, metrics; } trained; list_t message; };
} finished_t;

_Static_assert(sizeof(column_t) == 40, "layout of a column");
_Static_assert(sizeof(field_t) == 32, "layout of a field");
_Static_assert(sizeof(called_t) == 36, "layout of an answer");
_Static_assert(sizeof(signature_t) == 28, "layout of a signature");
_Static_assert(sizeof(metric_t) == 16 && sizeof(artifact_t) == 16, "layout of a metric");

/* Cases of `data`, and how many lists each has with which sizes of items. */
enum { BOOLEAN, INT64, FLOAT64, FLOAT32, UTF8, BINARY, TIMESTAMP, DATE, VECTOR,
       LIST_INT64, LIST_FLOAT64, LIST_UTF8, ARROW };
static const struct { uint8_t lists, sizes[3]; } SHAPES[] = {
    {1, {1}}, {1, {8}}, {1, {8}}, {1, {4}}, {2, {4, 1}}, {2, {4, 1}}, {1, {8}}, {1, {4}}, {1, {4}},
    {2, {4, 8}}, {2, {4, 8}}, {3, {4, 4, 1}}, {0, {0}},
};
