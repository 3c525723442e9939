/* The component's side of the interpreter: the contract's exports, and what `library/` needs that
   JavaScript cannot do, or not fast. Columns cross as whole buffers: `ArrayBuffer`s on the way in,
   those and typed arrays on the way out. Everything else is JavaScript, in `library/`. */

#include <stdlib.h>
#include <string.h>

#include "quickjs.h"
#include "abi.h"

static JSRuntime *runtime;
static JSContext *context;
static JSValue guest; /* The library's module that answers the host. */

static _Noreturn void die(const char *message) {
    log_write(ERROR, message, strlen(message));
    JSValue error = context ? JS_GetException(context) : JS_UNDEFINED;
    size_t length = 0;
    const char *text = context ? JS_ToCStringLen(context, &length, error) : NULL;
    if (text) log_write(ERROR, text, length);
    __builtin_trap();
}

static void *must(void *pointer, const char *message) {
    if (!pointer) die(message);
    return pointer;
}

static JSValue made(JSValue value) {
    if (JS_IsException(value)) die("the interpreter cannot go on");
    return value;
}

/* ---- The canonical ABI ---- */

/* Without frames on the stack, for the sake of `memory.c`. */
EXPORT("cabi_realloc")
void *cabi_realloc(void *old, size_t old_size, size_t align, size_t new_size) {
    (void)old_size;
    void *place = wafer_allocate(old, align, new_size);
    if (!place) __builtin_trap();
    return place;
}

static void release(list_t list) {
    if (list.length) free((void *)list.at);
}

/* What the answer of the latest call points to: values whose buffers are not copied, and blocks. */
static JSValue *held;
static size_t held_count, held_room;
static void **blocks;
static size_t block_count, block_room;

static void *block(size_t size) {
    if (block_count == block_room) {
        block_room = block_room ? block_room * 2 : 16;
        blocks = must(realloc(blocks, block_room * sizeof *blocks), "out of memory");
    }
    void *taken = must(malloc(size ? size : 1), "out of memory");
    blocks[block_count++] = taken;
    return taken;
}

static void hold(JSValue value) {
    if (held_count == held_room) {
        held_room = held_room ? held_room * 2 : 16;
        held = must(realloc(held, held_room * sizeof *held), "out of memory");
    }
    held[held_count++] = value;
}

void wafer_done(void) {
    while (held_count) JS_FreeValue(context, held[--held_count]);
    while (block_count) free(blocks[--block_count]);
}

static JSValue text(list_t list) {
    return made(JS_NewStringLen(context, list.length ? list.at : "", list.length));
}

static void *resize(JSRuntime *at, void *opaque, void *bytes, size_t size) {
    (void)at, (void)opaque;
    if (size) return realloc(bytes, size);
    free(bytes);
    return NULL;
}

/* Takes over a list of the host. */
static JSValue taken(list_t list, size_t size) {
    if (!list.length) return made(JS_NewArrayBufferCopy(context, NULL, 0));
    return made(JS_NewArrayBuffer(context, (uint8_t *)list.at, list.length * size, 0, resize, NULL, false));
}

static JSValue array(size_t count, JSValue *values) {
    return made(JS_NewArrayFrom(context, count, values));
}

/* Makes an array of values that it makes room for, and then gives them up. */
static JSValue *room(size_t count) {
    return must(malloc((count ? count : 1) * sizeof(JSValue)), "out of memory");
}

static JSValue array_of_room(size_t count, JSValue *values) {
    JSValue list = array(count, values);
    free(values);
    return list;
}

static JSValue column_in(column_t *column) {
    if (column->tag >= ARROW) die("a column of a type that JavaScript functions do not describe");
    int lists = column->tag == VECTOR ? 1 : SHAPES[column->tag].lists;
    JSValue values[5] = {JS_NewInt32(context, column->tag),
                         column->has_validity ? taken(column->validity, 1) : JS_NULL};
    if (column->tag == VECTOR) values[2] = taken(column->vectors.values, 4);
    else
        for (int i = 0; i < lists; i++)
            values[2 + i] = taken(column->lists[i], SHAPES[column->tag].sizes[i]);
    return array(2 + lists, values);
}

static JSValue columns_in(column_t *columns, size_t count) {
    JSValue *values = room(count);
    for (size_t i = 0; i < count; i++) values[i] = column_in(&columns[i]);
    if (count) free(columns);
    return array_of_room(count, values);
}

static JSValue parameters_in(parameter_t *parameters, size_t count) {
    JSValue *values = room(count);
    for (size_t i = 0; i < count; i++) {
        JSValue pair[2] = {text(parameters[i].name), text(parameters[i].value)};
        values[i] = array(2, pair);
        release(parameters[i].name);
        release(parameters[i].value);
    }
    if (count) free(parameters);
    return array_of_room(count, values);
}

/* Returns the bytes of an `ArrayBuffer` or a typed array, or NULL. */
static uint8_t *bytes_of(JSValue value, size_t *length) {
    if (JS_GetTypedArrayType(value) < 0) {
        return JS_IsArrayBuffer(value) ? JS_GetArrayBuffer(context, length, value) : NULL;
    }
    size_t offset = 0, all = 0;
    JSValue buffer = JS_GetTypedArrayBuffer(context, value, &offset, length, NULL);
    if (JS_IsException(buffer)) return NULL;
    uint8_t *at = JS_GetArrayBuffer(context, &all, buffer);
    JS_FreeValue(context, buffer);
    return at && offset + *length <= all ? at + offset : NULL;
}

/* Points to the bytes of a buffer, as items of a size, which it takes over. */
static list_t buffer_out(JSValue value, size_t size) {
    size_t length = 0;
    uint8_t *at = bytes_of(value, &length);
    hold(value);
    list_t list = {(char *)at, length / size};
    if (!list.length) list.at = (const char *)size;
    else if (!at) die("an output column is not a buffer");
    else if ((uintptr_t)at % size) {
        char *copy = block(length);
        memcpy(copy, at, length);
        list.at = copy;
    }
    return list;
}

/* JavaScript's texts may have halves of surrogate pairs, which are no UTF-8: three bytes that
   begin with 0xED. They become replacement characters, which have as many. */
static void mend(char *at, size_t length) {
    for (size_t i = 0; i + 2 < length; i++)
        if ((uint8_t)at[i] == 0xED && (uint8_t)at[i + 1] >= 0xA0) memcpy(at + i, "\xEF\xBF\xBD", 3);
}

/* Copies a text, which it takes over. */
static list_t text_out(JSValue value) {
    size_t length = 0;
    const char *at = JS_ToCStringLen(context, &length, value);
    if (!at) die("an answer is not a text");
    char *copy = block(length);
    memcpy(copy, at, length);
    mend(copy, length);
    JS_FreeCString(context, at);
    JS_FreeValue(context, value);
    list_t list = {copy, length};
    return list;
}


static JSValue item(JSValue list, uint32_t index) {
    return made(JS_GetPropertyUint32(context, list, index));
}

static double number(JSValue list, uint32_t index) {
    double found = 0;
    JSValue value = item(list, index);
    if (!JS_IsNumber(value) || JS_ToFloat64(context, &found, value)) die("an answer is not a number");
    return found;
}

static size_t length_of(JSValue list) {
    int64_t length = 0;
    if (!JS_IsArray(list) || JS_GetLength(context, list, &length)) die("an answer is not a list");
    return length;
}

static bool truth(JSValue list, uint32_t index) {
    JSValue value = item(list, index);
    bool is_true = JS_ToBool(context, value) == 1;
    JS_FreeValue(context, value);
    return is_true;
}

static void column_out(JSValue answer, column_t *column) {
    memset(column, 0, sizeof *column);
    column->tag = number(answer, 0);
    if (column->tag >= ARROW) die("an output column has an unknown type");
    JSValue validity = item(answer, 1);
    column->has_validity = !JS_IsNull(validity);
    if (column->has_validity) column->validity = buffer_out(validity, 1);
    if (column->tag == VECTOR) {
        column->vectors.dimension = number(answer, 3);
        column->vectors.values = buffer_out(item(answer, 2), 4);
        return;
    }
    for (int i = 0; i < SHAPES[column->tag].lists; i++)
        column->lists[i] = buffer_out(item(answer, 2 + i), SHAPES[column->tag].sizes[i]);
}

/* Makes a list of records of one size, each by a function. */
static list_t records_out(JSValue list, size_t size, void (*out)(JSValue, void *)) {
    size_t count = length_of(list);
    char *records = block(count * size);
    memset(records, 0, count * size);
    for (size_t i = 0; i < count; i++) {
        JSValue record = item(list, i);
        out(record, records + i * size);
        JS_FreeValue(context, record);
    }
    JS_FreeValue(context, list);
    list_t all = {records, count};
    return all;
}

static void field_out(JSValue answer, void *at) {
    field_t *field = at;
    field->name = text_out(item(answer, 0));
    field->type.tag = number(answer, 1);
    field->type.dimension = number(answer, 2);
    field->nullable = truth(answer, 3);
    field->doc = text_out(item(answer, 4));
}

static list_t fields_out(JSValue list) { return records_out(list, sizeof(field_t), field_out); }

/* ---- JavaScript's side ---- */

/* Calls a function of the guest, which answers errors of the author's as a value. */
static JSValue answer(const char *name, int count, JSValue *arguments) {
    if (!context) die("the interpreter was not prepared");
    JS_UpdateStackTop(runtime);
    JSValue callee = made(JS_GetPropertyStr(context, guest, name));
    JSValue value = made(JS_Call(context, callee, JS_UNDEFINED, count, arguments));
    JS_FreeValue(context, callee);
    for (int i = 0; i < count; i++) JS_FreeValue(context, arguments[i]);
    return value;
}

static void load(char *asset, size_t asset_length, char *chunk, size_t length, int last) {
    list_t name = {asset, asset_length}, content = {chunk, length};
    JSValue arguments[] = {text(name), taken(content, 1), JS_NewBool(context, last)};
    release(name);
    JS_FreeValue(context, answer("load", 3, arguments));
}

TRANSFORM("load")
void transform_load(char *asset, size_t asset_length, char *chunk, size_t length, int last) {
    load(asset, asset_length, chunk, length, last);
}

static listed_t listed;

static listed_t *error_or_nothing(JSValue value) {
    listed.is_error = !JS_IsNull(value);
    if (listed.is_error) listed.value = text_out(value);
    return &listed;
}

/* So many bytes may be taken before cycles of objects are looked for. Few calls do: that visits all
   objects, and so writes to their memory. */
enum { COLLECT_AFTER = 64 << 20 };

/* Frees what nothing refers to any more. */
static void settle(void) {
    JS_RunGC(runtime);
    JSMemoryUsage usage;
    JS_ComputeMemoryUsage(runtime, &usage);
    JS_SetGCThreshold(runtime, usage.malloc_size + COLLECT_AFTER);
}

TRANSFORM("init")
listed_t *transform_init(parameter_t *parameters, size_t count) {
    wafer_done();
    JSValue arguments[] = {parameters_in(parameters, count)};
    JSValue value = answer("init", 1, arguments);
    settle();
    wafer_initialised();
    return error_or_nothing(value);
}

TRANSFORM("describe")
signature_t *transform_describe(void) {
    static signature_t signature;
    wafer_done();
    JSValue value = answer("describe", 0, NULL);
    signature.inputs = fields_out(item(value, 0));
    signature.outputs = fields_out(item(value, 1));
    signature.mapping = number(value, 2);
    signature.doc = text_out(item(value, 3));
    JS_FreeValue(context, value);
    return &signature;
}

static void row_error_out(JSValue answer, void *at) {
    row_error_t *error = at;
    error->row = number(answer, 0);
    error->message = text_out(item(answer, 1));
}

static void one_column_out(JSValue answer, void *at) { column_out(answer, at); }

static void output_out(JSValue value, output_t *output) {
    output->batch.rows = number(value, 0);
    output->batch.columns = records_out(item(value, 1), sizeof(column_t), one_column_out);
    JSValue sources = item(value, 2);
    output->has_sources = !JS_IsNull(sources);
    if (output->has_sources) output->sources = buffer_out(sources, 4);
    output->row_errors = records_out(item(value, 3), sizeof(row_error_t), row_error_out);
}

/* The case `failed` of `call-error`. */
enum { FAILED = 1 };

TRANSFORM("call")
called_t *transform_call(uint32_t rows, column_t *columns, size_t count) {
    static called_t called;
    wafer_done();
    JSValue arguments[] = {JS_NewUint32(context, rows), columns_in(columns, count)};
    JSValue value = answer("call", 2, arguments);
    called.is_error = JS_IsString(value);
    if (called.is_error) {
        called.error.tag = FAILED;
        called.error.message = text_out(value);
    } else {
        output_out(value, &called.output);
        JS_FreeValue(context, value);
    }
    return &called;
}

TRAINING("load")
void training_load(char *asset, size_t asset_length, char *chunk, size_t length, int last) {
    load(asset, asset_length, chunk, length, last);
}

/* The columns that a view has are not told to JavaScript, whose trainers name what they need. */
TRAINING("begin")
listed_t *training_begin(parameter_t *parameters, size_t count, field_t *fields, size_t columns,
                         char *label, size_t label_length) {
    (void)fields, (void)columns;
    wafer_done();
    list_t name = {label, label_length};
    JSValue arguments[] = {parameters_in(parameters, count), text(name)};
    release(name);
    JSValue value = answer("begin", 2, arguments);
    listed.is_error = JS_IsString(value);
    listed.value = listed.is_error ? text_out(value) : fields_out(value);
    return &listed;
}

TRAINING("feed")
listed_t *training_feed(uint32_t role, uint32_t rows, column_t *columns, size_t count) {
    wafer_done();
    JSValue arguments[] = {JS_NewUint32(context, role), JS_NewUint32(context, rows),
                           columns_in(columns, count)};
    return error_or_nothing(answer("feed", 3, arguments));
}

TRAINING("next-pass")
passed_t *training_next_pass(void) {
    static passed_t passed;
    wafer_done();
    JSValue value = answer("nextPass", 0, NULL);
    passed.is_error = JS_IsString(value);
    if (passed.is_error) passed.message = text_out(value);
    else passed.more = JS_ToBool(context, value) == 1;
    return &passed;
}

static void artifact_out(JSValue answer, void *at) {
    artifact_t *artifact = at;
    artifact->name = text_out(item(answer, 0));
    artifact->size = number(answer, 1);
}

static void metric_out(JSValue answer, void *at) {
    metric_t *metric = at;
    metric->name = text_out(item(answer, 0));
    metric->value = number(answer, 1);
}

TRAINING("finish")
finished_t *training_finish(void) {
    static finished_t finished;
    wafer_done();
    JSValue value = answer("finish", 0, NULL);
    finished.is_error = JS_IsString(value);
    if (finished.is_error) {
        finished.message = text_out(value);
        return &finished;
    }
    finished.trained.artifacts = records_out(item(value, 0), sizeof(artifact_t), artifact_out);
    finished.trained.metrics = records_out(item(value, 1), sizeof(metric_t), metric_out);
    JS_FreeValue(context, value);
    return &finished;
}

TRAINING("read")
list_t *training_read(char *artifact, size_t length, uint64_t offset) {
    static list_t read;
    wafer_done();
    list_t name = {artifact, length};
    JSValue arguments[] = {text(name), JS_NewFloat64(context, offset)};
    release(name);
    read = buffer_out(answer("read", 2, arguments), 1);
    return &read;
}

/* ---- The module `wafer:native` ---- */

#define NATIVE(name) \
    static JSValue name(JSContext *at, JSValueConst self, int count, JSValueConst *arguments)
#define UNUSED (void)self, (void)count

NATIVE(native_log) {
    UNUSED;
    int32_t level = 0;
    size_t length = 0;
    if (JS_ToInt32(at, &level, arguments[0])) return JS_EXCEPTION;
    const char *message = JS_ToCStringLen(at, &length, arguments[1]);
    if (!message) return JS_EXCEPTION;
    mend((char *)message, length);
    log_write(level, message, length);
    JS_FreeCString(at, message);
    return JS_UNDEFINED;
}

/* Runs what promises wait for, and returns what one was fulfilled with, or throws. */
NATIVE(native_settled) {
    UNUSED;
    for (int more = 1; more;) {
        more = JS_ExecutePendingJob(runtime, NULL);
        if (more < 0) return JS_EXCEPTION;
    }
    switch (JS_PromiseState(at, arguments[0])) {
    case JS_PROMISE_FULFILLED: return JS_PromiseResult(at, arguments[0]);
    case JS_PROMISE_REJECTED: return JS_Throw(at, JS_PromiseResult(at, arguments[0]));
    default: return JS_UNDEFINED;
    }
}

/* Evaluates a script of the library's. */
NATIVE(native_evaluated) {
    UNUSED;
    size_t length = 0;
    const char *source = JS_ToCStringLen(at, &length, arguments[0]);
    if (!source) return JS_EXCEPTION;
    JSValue value = JS_Eval(at, source, length, "wafer:loop", JS_EVAL_TYPE_GLOBAL | JS_EVAL_FLAG_STRICT);
    JS_FreeCString(at, source);
    return value;
}

/* Returns the texts between offsets: `texts(offsets, bytes)`. */
NATIVE(native_texts) {
    UNUSED;
    size_t size = 0, length = 0;
    const int32_t *offsets = (int32_t *)bytes_of(arguments[0], &size);
    const char *bytes = (const char *)bytes_of(arguments[1], &length);
    size_t texts = size / sizeof *offsets;
    JSValue list = JS_NewArray(at);
    for (size_t i = 0; i + 1 < texts; i++) {
        uint32_t from = offsets[i], to = offsets[i + 1];
        if (from > to || to > length) return JS_ThrowRangeError(at, "offsets of texts");
        JSValue value = JS_NewStringLen(at, to > from ? bytes + from : "", to - from);
        if (JS_IsException(value)) return value;
        if (JS_DefinePropertyValueUint32(at, list, i, value, JS_PROP_C_W_E) < 0) return JS_EXCEPTION;
    }
    return list;
}

/* Returns the bits of a bit map as bytes: `unpackedBits(bits, rows)`. */
NATIVE(native_unpacked_bits) {
    UNUSED;
    size_t length = 0;
    uint32_t rows = 0;
    const uint8_t *bits = bytes_of(arguments[0], &length);
    if (JS_ToUint32(at, &rows, arguments[1])) return JS_EXCEPTION;
    if (rows > length * 8) return JS_ThrowRangeError(at, "the bits of a column");
    uint8_t *bytes = malloc(rows ? rows : 1);
    if (!bytes) return JS_ThrowOutOfMemory(at);
    for (uint32_t i = 0; i < rows; i++) bytes[i] = bits[i / 8] >> i % 8 & 1;
    return JS_NewUint8Array(at, bytes, rows, resize, NULL, false);
}

/* Returns a bit map of bytes: `packedBits(bytes)`. */
NATIVE(native_packed_bits) {
    UNUSED;
    size_t length = 0;
    const uint8_t *bytes = bytes_of(arguments[0], &length);
    uint8_t *bits = calloc(length / 8 + 1, 1);
    if (!bits) return JS_ThrowOutOfMemory(at);
    for (size_t i = 0; i < length; i++) bits[i / 8] |= (bytes[i] != 0) << i % 8;
    return JS_NewUint8Array(at, bits, (length + 7) / 8, resize, NULL, false);
}

/* How numbers are packed. `SAFE` are numbers that become 64-bit integers. */
enum { PACK_BOOLEAN, PACK_BIG, PACK_DOUBLE, PACK_FLOAT, PACK_SAFE, PACK_INT32 };
static const struct { uint8_t size, type; } PACKED[] = {
    {1, JS_TYPED_ARRAY_UINT8}, {8, JS_TYPED_ARRAY_BIG_INT64}, {8, JS_TYPED_ARRAY_FLOAT64},
    {4, JS_TYPED_ARRAY_FLOAT32}, {8, JS_TYPED_ARRAY_BIG_INT64}, {4, JS_TYPED_ARRAY_INT32},
};
static const double MOST_SAFE = 9007199254740991.0;
/* Numbers that are nearer to infinity than to the largest one of 32 bits. */
static const double BEYOND_FLOAT = 3.4028235677973366e38;

/* Writes a number. Returns 0 if it does not fit. */
static int pack(int kind, JSValue value, void *to, size_t i) {
    if (kind == PACK_BOOLEAN) {
        if (!JS_IsBool(value)) return 0;
        ((uint8_t *)to)[i] = JS_VALUE_GET_BOOL(value);
        return 1;
    }
    if (kind == PACK_BIG) {
        int64_t found = 0;
        if (!JS_IsBigInt(value) || JS_ToBigInt64(context, &found, value)) return 0;
        JSValue same = JS_NewBigInt64(context, found);
        int fits = JS_IsStrictEqual(context, same, value);
        JS_FreeValue(context, same);
        ((int64_t *)to)[i] = found;
        return fits;
    }
    double found = 0;
    if (!JS_IsNumber(value) || JS_ToFloat64(context, &found, value)) return 0;
    switch (kind) {
    case PACK_DOUBLE: ((double *)to)[i] = found; return 1;
    case PACK_FLOAT: {
        double size = __builtin_fabs(found);
        ((float *)to)[i] = found;
        return !(size >= BEYOND_FLOAT && size != __builtin_inf());
    }
    case PACK_SAFE:
        if (!(__builtin_fabs(found) <= MOST_SAFE) || found != (double)(int64_t)found) return 0;
        ((int64_t *)to)[i] = found;
        return 1;
    default:
        if (!(found >= INT32_MIN && found <= INT32_MAX) || found != (int32_t)found) return 0;
        ((int32_t *)to)[i] = found;
        return 1;
    }
}

/* Returns a typed array over memory that it takes over. */
static JSValue typed(void *bytes, size_t length, JSTypedArrayEnum type) {
    JSValue buffer = JS_NewArrayBuffer(context, bytes, length, 0, resize, NULL, false);
    if (JS_IsException(buffer)) return buffer;
    JSValue arguments[] = {buffer, JS_UNDEFINED, JS_UNDEFINED};
    JSValue value = JS_NewTypedArray(context, 3, arguments, type);
    JS_FreeValue(context, buffer);
    return value;
}

/* Returns an array of values as numbers in memory, or the index of the first that does not fit:
   `packed(kind, values)`. */
NATIVE(native_packed) {
    UNUSED;
    int32_t kind = 0;
    int64_t length = 0;
    if (JS_ToInt32(at, &kind, arguments[0]) || JS_GetLength(at, arguments[1], &length)) return JS_EXCEPTION;
    void *bytes = calloc(length ? length : 1, PACKED[kind].size);
    if (!bytes) return JS_ThrowOutOfMemory(at);
    for (int64_t i = 0; i < length; i++) {
        JSValue value = JS_GetPropertyUint32(at, arguments[1], i);
        int fits = !JS_IsException(value) && pack(kind, value, bytes, i);
        JS_FreeValue(at, value);
        if (!fits) {
            free(bytes);
            JS_FreeValue(at, JS_GetException(at));
            return JS_NewFloat64(at, i);
        }
    }
    return typed(bytes, length * PACKED[kind].size, PACKED[kind].type);
}

/* Replaces nulls by a value, and returns where there were some, as bytes of 0 and 1, or null:
   `withoutNulls(values, zero)`. */
NATIVE(native_without_nulls) {
    UNUSED;
    int64_t length = 0;
    uint8_t *valid = NULL;
    if (JS_GetLength(at, arguments[0], &length)) return JS_EXCEPTION;
    for (int64_t i = 0; i < length; i++) {
        JSValue value = JS_GetPropertyUint32(at, arguments[0], i);
        bool is_null = JS_IsNull(value);
        JS_FreeValue(at, value);
        if (!is_null) continue;
        if (!valid) {
            valid = malloc(length);
            if (!valid) return JS_ThrowOutOfMemory(at);
            memset(valid, 1, length);
        }
        valid[i] = 0;
        if (JS_SetPropertyUint32(at, arguments[0], i, JS_DupValue(at, arguments[1])) < 0) return JS_EXCEPTION;
    }
    return valid ? JS_NewUint8Array(at, valid, length, resize, NULL, false) : JS_NULL;
}

/* The most bytes of the texts of a column, whose offsets have 32 bits. */
static const size_t MOST_BYTES = INT32_MAX;

/* Returns the offsets and the bytes of texts, or the index of the first value that is no text in
   Unicode: `packedTexts(texts)`. */
NATIVE(native_packed_texts) {
    UNUSED;
    int64_t length = 0;
    if (JS_GetLength(at, arguments[0], &length)) return JS_EXCEPTION;
    int32_t *offsets = malloc((length + 1) * sizeof *offsets);
    size_t used = 0, have = length * 16 + 16;
    char *bytes = malloc(have);
    if (!offsets || !bytes) return free(offsets), free(bytes), JS_ThrowOutOfMemory(at);
    offsets[0] = 0;
    for (int64_t i = 0; i < length; i++) {
        JSValue value = JS_GetPropertyUint32(at, arguments[0], i);
        size_t size = 0;
        const char *found = JS_IsString(value) ? JS_ToCStringLen(at, &size, value) : NULL;
        int fits = found && size <= MOST_BYTES - used;
        for (size_t byte = 0; fits && byte + 2 < size; byte++)
            fits = !((uint8_t)found[byte] == 0xED && (uint8_t)found[byte + 1] >= 0xA0);
        while (fits && used + size > have) {
            char *more = realloc(bytes, have * 2);
            if (!more) return free(offsets), free(bytes), JS_ThrowOutOfMemory(at);
            bytes = more;
            have *= 2;
        }
        if (fits) memcpy(bytes + used, found, size);
        used += size;
        if (found) JS_FreeCString(at, found);
        JS_FreeValue(at, value);
        if (!fits) return free(offsets), free(bytes), JS_NewFloat64(at, i);
        offsets[i + 1] = used;
    }
    JSValue parts[] = {typed(offsets, (length + 1) * sizeof *offsets, JS_TYPED_ARRAY_INT32),
                       typed(bytes, used, JS_TYPED_ARRAY_UINT8)};
    return array(2, parts);
}

/* Returns a text of bytes, or null if they are no UTF-8: `decoded(bytes)`. */
NATIVE(native_decoded) {
    UNUSED;
    size_t length = 0;
    const char *bytes = (const char *)bytes_of(arguments[0], &length);
    JSValue value = JS_NewStringLen(at, length ? bytes : "", length);
    if (JS_IsException(value)) return value;
    /* What was no UTF-8 was replaced, and is not the same any more. */
    size_t same = 0;
    const char *back = JS_ToCStringLen(at, &same, value);
    if (!back) return JS_EXCEPTION;
    bool is_same = same == length && !memcmp(back, bytes, length);
    for (size_t i = 0; is_same && i + 2 < length; i++)
        is_same = !((uint8_t)bytes[i] == 0xED && (uint8_t)bytes[i + 1] >= 0xA0);
    JS_FreeCString(at, back);
    if (is_same) return value;
    JS_FreeValue(at, value);
    return JS_NULL;
}

/* Returns how deep brackets are nested in a text of JSON, outside of its strings:
   `nesting(text)`. Where the text is no JSON, it is at least what a parser gets to see. */
NATIVE(native_nesting) {
    UNUSED;
    size_t length = 0;
    const char *text = JS_ToCStringLen(at, &length, arguments[0]);
    if (!text) return JS_EXCEPTION;
    int64_t depth = 0, deepest = 0;
    bool is_string = false;
    for (size_t i = 0; i < length; i++) {
        char byte = text[i];
        if (byte == '"') is_string = !is_string;
        else if (is_string) i += byte == '\\';
        else if (byte == '[' || byte == '{') {
            if (++depth > deepest) deepest = depth;
        } else if (byte == ']' || byte == '}') depth--;
    }
    JS_FreeCString(at, text);
    return JS_NewInt64(at, deepest);
}

static const JSCFunctionListEntry FUNCTIONS[] = {
    JS_CFUNC_DEF("log", 2, native_log),
    JS_CFUNC_DEF("settled", 1, native_settled),
    JS_CFUNC_DEF("evaluated", 1, native_evaluated),
    JS_CFUNC_DEF("texts", 2, native_texts),
    JS_CFUNC_DEF("unpackedBits", 2, native_unpacked_bits),
    JS_CFUNC_DEF("packedBits", 1, native_packed_bits),
    JS_CFUNC_DEF("packed", 2, native_packed),
    JS_CFUNC_DEF("packedTexts", 1, native_packed_texts),
    JS_CFUNC_DEF("withoutNulls", 2, native_without_nulls),
    JS_CFUNC_DEF("decoded", 1, native_decoded),
    JS_CFUNC_DEF("nesting", 1, native_nesting),
};
enum { FUNCTION_COUNT = sizeof FUNCTIONS / sizeof *FUNCTIONS };

static int native(JSContext *at, JSModuleDef *module) {
    return JS_SetModuleExportList(at, module, FUNCTIONS, FUNCTION_COUNT);
}

/* ---- Modules ---- */

static bool is_library(const char *name) {
    return !strcmp(name, "wafer") || !strncmp(name, "wafer:", 6);
}

/* Calls a function of the guest's on two texts. */
static JSValue asked(const char *name, const char *first, const char *second) {
    JSValue callee = JS_GetPropertyStr(context, guest, name);
    JSValue arguments[] = {JS_NewString(context, first), JS_NewString(context, second)};
    JSValue value = JS_Call(context, callee, JS_UNDEFINED, 2, arguments);
    JS_FreeValue(context, callee);
    JS_FreeValue(context, arguments[0]);
    JS_FreeValue(context, arguments[1]);
    return value;
}

/* The library names its modules as they are. For the author's modules the guest says which is
   meant. */
static char *module_name(JSContext *at, const char *base, const char *name, void *opaque) {
    (void)opaque;
    if (is_library(base)) return js_strdup(at, name);
    JSValue found = asked("resolved", base, name);
    const char *path = JS_IsException(found) ? NULL : JS_ToCString(at, found);
    char *copy = path ? js_strdup(at, path) : NULL;
    if (path) JS_FreeCString(at, path);
    JS_FreeValue(at, found);
    return copy;
}

/* Compiles a module of the author's. Those of the library are there. */
static JSModuleDef *module_loaded(JSContext *at, const char *name, void *opaque) {
    (void)opaque;
    JSValue source = asked("source", name, "");
    if (JS_IsException(source)) return NULL;
    size_t length = 0;
    const char *text = JS_ToCStringLen(at, &length, source);
    JS_FreeValue(at, source);
    if (!text) return NULL;
    JSValue module = JS_Eval(at, text, length, name, JS_EVAL_TYPE_MODULE | JS_EVAL_FLAG_COMPILE_ONLY);
    JS_FreeCString(at, text);
    if (JS_IsException(module)) return NULL;
    JSModuleDef *definition = JS_VALUE_GET_PTR(module);
    JS_FreeValue(at, module);
    return definition;
}

/* ---- Preparing, while the component is built ---- */

EXPORT("wafer_prepare:allocate")
void *prepare_allocate(size_t size) {
    wafer_heap_begins();
    return malloc(size);
}

/* How much of the stack in the memory JavaScript may use, of four times as much. Functions that call
   each other need less of the host's call stack, of 1 MiB, than is there then. What is nested
   thousands deep may need more: that ends the call by a trap. */
enum { STACK = 256 << 10 };

static void *engine_calloc(void *opaque, size_t count, size_t size) { (void)opaque; return calloc(count, size); }
static void *engine_malloc(void *opaque, size_t size) { (void)opaque; return malloc(size); }
static void engine_free(void *opaque, void *at) { (void)opaque; free(at); }
static void *engine_realloc(void *opaque, void *at, size_t size) { (void)opaque; return realloc(at, size); }
extern size_t malloc_usable_size(void *);
static size_t engine_size(const void *at) { return malloc_usable_size((void *)at); }

/* Makes the interpreter. Weak references and shared memory are left out: what they show depends on
   when memory is freed, and on threads. */
EXPORT("wafer_prepare:begin")
void prepare_begin(void) {
    static const JSMallocFunctions HEAP = {
        engine_calloc, engine_malloc, engine_free, engine_realloc, engine_size,
    };
    runtime = must(JS_NewRuntime2(&HEAP, NULL), "the interpreter");
    JS_SetMaxStackSize(runtime, STACK);
    JS_SetModuleLoaderFunc(runtime, module_name, module_loaded, NULL);
    context = must(JS_NewContextRaw(runtime), "the interpreter");
    if (JS_AddIntrinsicBaseObjects(context) || JS_AddIntrinsicDate(context) ||
        JS_AddIntrinsicEval(context) || JS_AddIntrinsicRegExp(context) ||
        JS_AddIntrinsicJSON(context) || JS_AddIntrinsicProxy(context) ||
        JS_AddIntrinsicMapSet(context) || JS_AddIntrinsicTypedArrays(context) ||
        JS_AddIntrinsicPromise(context) || JS_AddIntrinsicAToB(context))
        die("the interpreter's objects");
    JSModuleDef *module = must(JS_NewCModule(context, "wafer:native", native), "wafer:native");
    JS_AddModuleExportList(context, module, FUNCTIONS, FUNCTION_COUNT);
}

/* Evaluates a module of the library. The latest one is the guest. */
EXPORT("wafer_prepare:module")
void prepare_module(const char *name, const char *source) {
    JS_UpdateStackTop(runtime);
    int flags = JS_EVAL_TYPE_MODULE | JS_EVAL_FLAG_COMPILE_ONLY;
    JSValue module = made(JS_Eval(context, source, strlen(source), name, flags));
    JSModuleDef *definition = JS_VALUE_GET_PTR(module);
    JSValue promise = made(JS_EvalFunction(context, module));
    JSValue result = made(native_settled(context, JS_UNDEFINED, 1, &promise));
    JS_FreeValue(context, result);
    JS_FreeValue(context, promise);
    guest = made(JS_GetModuleNamespace(context, definition));
}

/* Makes and calls some functions, and ends the preparation. */
EXPORT("wafer_prepare:end")
void prepare_end(void) {
    JS_FreeValue(context, answer("rehearse", 0, NULL));
    wafer_done();
    settle();
    wafer_prepared();
}
