/* The component's side of the interpreter: the contract's exports, in the canonical ABI of
   https://github.com/WebAssembly/component-model/blob/main/design/mvp/CanonicalABI.md, and what the
   C library asks a system for. The structures below have the layout that the ABI prescribes for
   the types of `wit/types.wit`.

   Columns cross as whole buffers: bytes objects on the way in, anything with the buffer protocol on
   the way out. Everything else is Python, in `library/wafer/`. */

#include <stdint.h>
#include <stddef.h>

/* ---- Python's stable ABI ---- */

typedef struct PyObject PyObject;
typedef ptrdiff_t Py_ssize_t;
typedef struct {
    void *buf;
    PyObject *obj;
    Py_ssize_t len;
    Py_ssize_t itemsize;
    int readonly;
    int ndim;
    char *format;
    Py_ssize_t *shape;
    Py_ssize_t *strides;
    Py_ssize_t *suboffsets;
    void *internal;
} Py_buffer;
typedef PyObject *(*PyCFunction)(PyObject *, PyObject *);
typedef int (*visit_t)(PyObject *, void *);
typedef int (*traverse_t)(PyObject *, visit_t, void *);
typedef struct {
    const char *ml_name;
    PyCFunction ml_meth;
    int ml_flags;
    const char *ml_doc;
} PyMethodDef;
typedef struct {
    Py_ssize_t refcnt;
    void *type;
    PyObject *(*m_init)(void);
    Py_ssize_t m_index;
    PyObject *m_copy;
    const char *m_name;
    const char *m_doc;
    Py_ssize_t m_size;
    PyMethodDef *m_methods;
    void *m_slots, *m_traverse, *m_clear, *m_free;
} PyModuleDef;
typedef struct PyInitConfig PyInitConfig;
struct _frozen {
    const char *name;
    const unsigned char *code;
    int size;
    int is_package;
};

extern PyInitConfig *PyInitConfig_Create(void);
extern int PyInitConfig_SetInt(PyInitConfig *, const char *, int64_t);
extern int PyInitConfig_SetStr(PyInitConfig *, const char *, const char *);
extern int PyInitConfig_SetStrList(PyInitConfig *, const char *, size_t, char *const *);
extern int PyInitConfig_GetError(PyInitConfig *, const char **);
extern int Py_InitializeFromInitConfig(PyInitConfig *);
extern int PyImport_AppendInittab(const char *, PyObject *(*)(void));
extern PyObject *PyImport_ImportModule(const char *);
extern PyObject *PyImport_AddModuleRef(const char *);
extern PyObject *PyModule_Create2(PyModuleDef *, int);
extern PyObject *PyModule_GetDict(PyObject *);
extern PyObject *PyObject_GetAttrString(PyObject *, const char *);
extern PyObject *PyObject_CallFunctionObjArgs(PyObject *, ...);
extern int PyObject_GetBuffer(PyObject *, Py_buffer *, int);
extern void PyBuffer_Release(Py_buffer *);
extern int PyObject_IsTrue(PyObject *);
extern PyObject *PyBytes_FromStringAndSize(const char *, Py_ssize_t);
extern char *PyBytes_AsString(PyObject *);
extern Py_ssize_t PyBytes_Size(PyObject *);
extern PyObject *PyUnicode_FromStringAndSize(const char *, Py_ssize_t);
extern const char *PyUnicode_AsUTF8AndSize(PyObject *, Py_ssize_t *);
extern PyObject *PyLong_FromLong(long);
extern PyObject *PyLong_FromUnsignedLong(unsigned long);
extern unsigned long PyLong_AsUnsignedLong(PyObject *);
extern unsigned long long PyLong_AsUnsignedLongLong(PyObject *);
extern double PyFloat_AsDouble(PyObject *);
extern PyObject *PyTuple_New(Py_ssize_t);
extern int PyTuple_SetItem(PyObject *, Py_ssize_t, PyObject *);
extern PyObject *PyTuple_GetItem(PyObject *, Py_ssize_t);
extern Py_ssize_t PyTuple_Size(PyObject *);
extern PyObject *PyList_New(Py_ssize_t);
extern int PyList_SetItem(PyObject *, Py_ssize_t, PyObject *);
extern PyObject *PyList_GetItem(PyObject *, Py_ssize_t);
extern Py_ssize_t PyList_Size(PyObject *);
extern PyObject *PyErr_Occurred(void);
extern void PyErr_Clear(void);
extern void PyErr_Print(void);
extern PyObject *PyErr_GetRaisedException(void);
extern PyObject *PyObject_Str(PyObject *);
extern PyObject *Py_GetConstant(unsigned int);
extern PyObject *Py_TYPE(PyObject *);
extern void *PyType_GetSlot(PyObject *, int);
extern int PyObject_IS_GC(PyObject *);
extern void Py_IncRef(PyObject *);
extern void Py_DecRef(PyObject *);
extern PyObject *Py_CompileString(const char *, const char *, int);
extern PyObject *PyMarshal_WriteObjectToString(PyObject *, int);
extern const struct _frozen *PyImport_FrozenModules;

extern void *malloc(size_t);
extern void *realloc(void *, size_t);
extern void free(void *);
extern void *memcpy(void *, const void *, size_t);
extern void *memset(void *, int, size_t);
extern size_t strlen(const char *);

#include "abi.h"

/* In `system.c`. */
extern int wafer_is_preparing;

static void log_text(PyObject *object) {
    Py_ssize_t length = 0;
    PyObject *text = object ? PyObject_Str(object) : NULL;
    const char *at = text ? PyUnicode_AsUTF8AndSize(text, &length) : NULL;
    while (length && at[length - 1] == '\n') length--;
    if (at) log_write(ERROR, at, length);
}

/* Logs the traceback of an error, which ends with the error, or the error alone. */
static void log_error(PyObject *error) {
    PyObject *traceback = PyImport_ImportModule("traceback");
    PyObject *format = traceback ? PyObject_GetAttrString(traceback, "format_exception") : NULL;
    PyObject *parts = format ? PyObject_CallFunctionObjArgs(format, error, NULL) : NULL;
    PyErr_Clear();
    for (Py_ssize_t i = 0; parts && i < PyList_Size(parts); i++) log_text(PyList_GetItem(parts, i));
    if (!parts) log_text(error);
}

static _Noreturn void die(const char *message) {
    log_write(ERROR, message, strlen(message));
    if (PyErr_Occurred()) log_error(PyErr_GetRaisedException());
    __builtin_trap();
}

static void *must(void *pointer, const char *message) {
    if (!pointer) die(message);
    return pointer;
}

/* ---- The canonical ABI ---- */

/* Without frames on the stack, for the sake of `memory.c`. */
EXPORT("cabi_realloc")
void *cabi_realloc(void *old, size_t old_size, size_t align, size_t new_size) {
    (void)old_size;
    return must(wafer_allocate(old, align, new_size), "out of memory");
}

static void release(list_t list) {
    if (list.length) free((void *)list.at);
}

/* What the answer of the latest call points to. Bytes that Python holds are not copied: their
   buffers stay exported until the host has read them. */
static Py_buffer *held;
static size_t held_count, held_room;
static void **blocks;
static size_t block_count, block_room;

static void *block(size_t size) {
    if (block_count == block_room) {
        block_room = block_room ? block_room * 2 : 16;
        blocks = must(realloc(blocks, block_room * sizeof *blocks), "out of memory");
    }
    void *made = must(malloc(size ? size : 1), "out of memory");
    blocks[block_count++] = made;
    return made;
}

void wafer_done(void) {
    while (held_count) PyBuffer_Release(&held[--held_count]);
    while (block_count) free(blocks[--block_count]);
}

static PyObject *text(list_t list) {
    return must(PyUnicode_FromStringAndSize(list.length ? list.at : "", list.length), "text");
}

static PyObject *bytes(const char *at, size_t length) {
    return must(PyBytes_FromStringAndSize(length ? at : "", length), "bytes");
}

/* Takes over a list of the host. */
static PyObject *taken(list_t list, size_t size) {
    PyObject *made = bytes(list.at, list.length * size);
    release(list);
    return made;
}

static PyObject *none(void) { return Py_GetConstant(0); }

static PyObject *column_in(column_t *column) {
    if (column->tag >= ARROW) die("a column of a type that Python functions do not describe");
    int lists = SHAPES[column->tag].lists;
    PyObject *made = must(PyTuple_New(2 + lists), "tuple");
    PyTuple_SetItem(made, 0, PyLong_FromLong(column->tag));
    PyTuple_SetItem(made, 1, column->has_validity ? taken(column->validity, 1) : none());
    if (column->tag == VECTOR) {
        PyTuple_SetItem(made, 2, taken(column->vectors.values, 4));
        return made;
    }
    for (int i = 0; i < lists; i++)
        PyTuple_SetItem(made, 2 + i, taken(column->lists[i], SHAPES[column->tag].sizes[i]));
    return made;
}

static PyObject *columns_in(column_t *columns, size_t count) {
    PyObject *made = must(PyList_New(count), "list");
    for (size_t i = 0; i < count; i++) PyList_SetItem(made, i, column_in(&columns[i]));
    if (count) free(columns);
    return made;
}

static PyObject *parameters_in(parameter_t *parameters, size_t count) {
    PyObject *made = must(PyList_New(count), "list");
    for (size_t i = 0; i < count; i++) {
        PyObject *pair = must(PyTuple_New(2), "tuple");
        PyTuple_SetItem(pair, 0, text(parameters[i].name));
        PyTuple_SetItem(pair, 1, text(parameters[i].value));
        PyList_SetItem(made, i, pair);
        release(parameters[i].name);
        release(parameters[i].value);
    }
    if (count) free(parameters);
    return made;
}

/* Points to the bytes of a buffer, as items of a size. */
static list_t buffer_out(PyObject *object, size_t size) {
    list_t list = {0};
    if (held_count == held_room) {
        held_room = held_room ? held_room * 2 : 16;
        held = must(realloc(held, held_room * sizeof *held), "out of memory");
    }
    Py_buffer *buffer = &held[held_count];
    if (PyObject_GetBuffer(object, buffer, 0)) die("an output column is not a buffer");
    held_count++;
    list.at = buffer->buf;
    list.length = buffer->len / size;
    if (!list.length) list.at = (const char *)size;
    else if ((uintptr_t)list.at % size) {
        char *copy = block(buffer->len);
        memcpy(copy, list.at, buffer->len);
        list.at = copy;
    }
    return list;
}

/* Copies a text, so that the object that holds it may go. */
static list_t text_out(PyObject *object) {
    Py_ssize_t length = 0;
    const char *at = must((void *)PyUnicode_AsUTF8AndSize(object, &length), "an answer is not a text");
    char *copy = block(length);
    memcpy(copy, at, length);
    list_t list = {copy, length};
    return list;
}

static PyObject *item(PyObject *tuple, Py_ssize_t index) {
    return must(PyTuple_GetItem(tuple, index), "an answer is too short");
}

static unsigned long number(PyObject *tuple, Py_ssize_t index) {
    return PyLong_AsUnsignedLong(item(tuple, index));
}

static int is_none(PyObject *object) {
    static PyObject *value;
    if (!value) value = none();
    return object == value;
}

static void column_out(PyObject *made, column_t *column) {
    memset(column, 0, sizeof *column);
    column->tag = number(made, 0);
    if (column->tag >= ARROW) die("an output column has an unknown type");
    PyObject *validity = item(made, 1);
    column->has_validity = !is_none(validity);
    if (column->has_validity) column->validity = buffer_out(validity, 1);
    if (column->tag == VECTOR) {
        column->vectors.dimension = number(made, 3);
        column->vectors.values = buffer_out(item(made, 2), 4);
        return;
    }
    for (int i = 0; i < SHAPES[column->tag].lists; i++)
        column->lists[i] = buffer_out(item(made, 2 + i), SHAPES[column->tag].sizes[i]);
}

static list_t fields_out(PyObject *list) {
    size_t count = PyList_Size(list);
    field_t *fields = block(count * sizeof *fields);
    for (size_t i = 0; i < count; i++) {
        PyObject *made = PyList_GetItem(list, i);
        fields[i].name = text_out(item(made, 0));
        fields[i].type.tag = number(made, 1);
        fields[i].type.dimension = number(made, 2);
        fields[i].nullable = PyObject_IsTrue(item(made, 3));
        fields[i].doc = text_out(item(made, 4));
    }
    list_t out = {(char *)fields, count};
    return out;
}

/* ---- Python's side ---- */

static PyObject *guest;

static PyObject *method(const char *name) {
    if (!guest) die("the interpreter was not prepared");
    return must(PyObject_GetAttrString(guest, name), name);
}

/* Calls a function of the guest, which answers errors of the author's as a value. */
static PyObject *answer(const char *name, PyObject *a, PyObject *b, PyObject *c) {
    PyObject *callee = method(name);
    PyObject *made = PyObject_CallFunctionObjArgs(callee, a, b, c, NULL);
    if (!made) die("the function ended Python");
    Py_DecRef(callee);
    if (a) Py_DecRef(a);
    if (b) Py_DecRef(b);
    if (c) Py_DecRef(c);
    return made;
}

static void load(char *asset, size_t asset_length, char *chunk, size_t length, int last) {
    list_t name = {asset, asset_length}, content = {chunk, length};
    PyObject *named = text(name);
    release(name);
    Py_DecRef(answer("load", named, taken(content, 1), PyLong_FromLong(last)));
}

TRANSFORM("load")
void transform_load(char *asset, size_t asset_length, char *chunk, size_t length, int last) {
    load(asset, asset_length, chunk, length, last);
}

static listed_t listed;

TRANSFORM("init")
listed_t *transform_init(parameter_t *parameters, size_t count) {
    wafer_done();
    PyObject *made = answer("init", parameters_in(parameters, count), NULL, NULL);
    listed.is_error = !is_none(made);
    if (listed.is_error) listed.value = text_out(made);
    wafer_initialised();
    return &listed;
}

TRANSFORM("describe")
signature_t *transform_describe(void) {
    static signature_t signature;
    wafer_done();
    PyObject *made = answer("describe", NULL, NULL, NULL);
    signature.inputs = fields_out(item(made, 0));
    signature.outputs = fields_out(item(made, 1));
    signature.mapping = number(made, 2);
    signature.doc = text_out(item(made, 3));
    return &signature;
}

static list_t row_errors_out(PyObject *list) {
    size_t count = PyList_Size(list);
    row_error_t *errors = block(count * sizeof *errors);
    for (size_t i = 0; i < count; i++) {
        PyObject *made = PyList_GetItem(list, i);
        errors[i].row = number(made, 0);
        errors[i].message = text_out(item(made, 1));
    }
    list_t out = {(char *)errors, count};
    return out;
}

static void output_out(PyObject *made, output_t *output) {
    output->batch.rows = number(made, 0);
    PyObject *list = item(made, 1);
    size_t count = PyList_Size(list);
    column_t *columns = block(count * sizeof *columns);
    for (size_t i = 0; i < count; i++) column_out(PyList_GetItem(list, i), &columns[i]);
    output->batch.columns.at = (char *)columns;
    output->batch.columns.length = count;
    PyObject *sources = item(made, 2);
    output->has_sources = !is_none(sources);
    if (output->has_sources) output->sources = buffer_out(sources, 4);
    output->row_errors = row_errors_out(item(made, 3));
}

TRANSFORM("call")
called_t *transform_call(uint32_t rows, column_t *columns, size_t count) {
    static called_t called;
    wafer_done();
    PyObject *batch = columns_in(columns, count);
    PyObject *made = answer("call", PyLong_FromUnsignedLong(rows), batch, NULL);
    called.is_error = PyTuple_Size(made) == 2;
    if (called.is_error) {
        called.error.tag = number(made, 0);
        called.error.message = text_out(item(made, 1));
    } else {
        output_out(made, &called.output);
    }
    /* The buffers of the answer keep their objects alive. */
    Py_DecRef(made);
    return &called;
}

TRAINING("load")
void training_load(char *asset, size_t asset_length, char *chunk, size_t length, int last) {
    load(asset, asset_length, chunk, length, last);
}

static PyObject *fields_in(field_t *fields, size_t count) {
    PyObject *made = must(PyList_New(count), "list");
    for (size_t i = 0; i < count; i++) {
        PyObject *field = must(PyTuple_New(5), "tuple");
        PyTuple_SetItem(field, 0, text(fields[i].name));
        PyTuple_SetItem(field, 1, PyLong_FromLong(fields[i].type.tag));
        uint32_t dimension = fields[i].type.tag == VECTOR ? fields[i].type.dimension : 0;
        PyTuple_SetItem(field, 2, PyLong_FromUnsignedLong(dimension));
        PyTuple_SetItem(field, 3, PyLong_FromLong(fields[i].nullable));
        PyTuple_SetItem(field, 4, text(fields[i].doc));
        PyList_SetItem(made, i, field);
    }
    return made;
}

TRAINING("begin")
listed_t *training_begin(parameter_t *parameters, size_t count, field_t *fields, size_t columns,
                         char *label, size_t label_length) {
    wafer_done();
    list_t name = {label, label_length};
    PyObject *made = answer("begin", parameters_in(parameters, count), fields_in(fields, columns),
                            text(name));
    listed.is_error = PyList_Size(made) < 0;
    PyErr_Clear();
    listed.value = listed.is_error ? text_out(made) : fields_out(made);
    Py_DecRef(made);
    return &listed;
}

TRAINING("feed")
listed_t *training_feed(uint32_t role, uint32_t rows, column_t *columns, size_t count) {
    wafer_done();
    PyObject *batch = columns_in(columns, count);
    PyObject *made = answer("feed", PyLong_FromUnsignedLong(role), PyLong_FromUnsignedLong(rows),
                            batch);
    listed.is_error = !is_none(made);
    if (listed.is_error) listed.value = text_out(made);
    Py_DecRef(made);
    return &listed;
}

TRAINING("next-pass")
passed_t *training_next_pass(void) {
    static passed_t passed;
    wafer_done();
    PyObject *made = answer("next_pass", NULL, NULL, NULL);
    passed.is_error = !is_none(item(made, 1));
    if (passed.is_error) passed.message = text_out(item(made, 1));
    else passed.more = PyObject_IsTrue(item(made, 0));
    Py_DecRef(made);
    return &passed;
}

static list_t artifacts_out(PyObject *list) {
    size_t count = PyList_Size(list);
    artifact_t *artifacts = block(count * sizeof *artifacts);
    for (size_t i = 0; i < count; i++) {
        PyObject *made = PyList_GetItem(list, i);
        artifacts[i].name = text_out(item(made, 0));
        artifacts[i].size = PyLong_AsUnsignedLongLong(item(made, 1));
    }
    list_t out = {(char *)artifacts, count};
    return out;
}

static list_t metrics_out(PyObject *list) {
    size_t count = PyList_Size(list);
    metric_t *metrics = block(count * sizeof *metrics);
    for (size_t i = 0; i < count; i++) {
        PyObject *made = PyList_GetItem(list, i);
        metrics[i].name = text_out(item(made, 0));
        metrics[i].value = PyFloat_AsDouble(item(made, 1));
    }
    list_t out = {(char *)metrics, count};
    return out;
}

TRAINING("finish")
finished_t *training_finish(void) {
    static finished_t finished;
    wafer_done();
    PyObject *made = answer("finish", NULL, NULL, NULL);
    finished.is_error = PyTuple_Size(made) < 0;
    PyErr_Clear();
    if (finished.is_error) {
        finished.message = text_out(made);
    } else {
        finished.trained.artifacts = artifacts_out(item(made, 0));
        finished.trained.metrics = metrics_out(item(made, 1));
    }
    Py_DecRef(made);
    return &finished;
}

TRAINING("read")
list_t *training_read(char *artifact, size_t length, uint64_t offset) {
    static list_t read;
    wafer_done();
    extern PyObject *PyLong_FromUnsignedLongLong(unsigned long long);
    list_t name = {artifact, length};
    PyObject *named = text(name);
    release(name);
    PyObject *made = answer("read", named, PyLong_FromUnsignedLongLong(offset), NULL);
    read = buffer_out(made, 1);
    Py_DecRef(made);
    return &read;
}

/* ---- The module `_wafer` ---- */

static PyObject *write_log(PyObject *self, PyObject *arguments) {
    (void)self;
    Py_ssize_t length = 0;
    const char *at = PyUnicode_AsUTF8AndSize(item(arguments, 1), &length);
    if (!at) return NULL;
    log_write(number(arguments, 0), at, length);
    return none();
}

/* The first word of an object counts who refers to it. Python does not count from this on, so that
   a call does not write to the memory of what it only reads: each page that it writes to costs more
   than the rest of a short call. */
enum { IMMORTAL = 5 << 28, TRAVERSE = 71 };

/* Objects that stay, and whose parts are still to be looked at. */
typedef struct { PyObject **objects; size_t count, room; } kept_t;

static int keep_one(PyObject *object, void *kept) {
    kept_t *list = kept;
    int32_t *references = (int32_t *)object;
    if (*references >= IMMORTAL) return 0;
    *references = IMMORTAL;
    if (list->count == list->room) {
        list->room = list->room ? list->room * 2 : 1024;
        list->objects = must(realloc(list->objects, list->room * sizeof object), "out of memory");
    }
    list->objects[list->count++] = object;
    return 0;
}

static void keep_parts(PyObject *object, kept_t *kept) {
    if (!PyObject_IS_GC(object)) return;
    traverse_t traverse = PyType_GetSlot(Py_TYPE(object), TRAVERSE);
    if (traverse) traverse(object, keep_one, kept);
}

/* What was kept before refers to nothing that was not, unless it was changed since: then its parts
   are counted as usual. */
static PyObject *keep(PyObject *self, PyObject *arguments) {
    (void)self;
    PyObject *list = item(arguments, 0);
    kept_t kept = {0};
    for (Py_ssize_t i = PyList_Size(list); i-- > 0;) {
        keep_one(PyList_GetItem(list, i), &kept);
        keep_parts(PyList_GetItem(list, i), &kept);
    }
    while (kept.count) keep_parts(kept.objects[--kept.count], &kept);
    free(kept.objects);
    return none();
}

static PyMethodDef METHODS[] = {
    {"keep", keep, 1, "Makes the objects of a list, and what they refer to, stay for ever."},
    {"log", write_log, 1, "Writes a message of a level to the log."},
    {0},
};

static PyModuleDef MODULE = {.refcnt = 1, .m_name = "_wafer", .m_size = -1, .m_methods = METHODS};

static PyObject *module(void) { return PyModule_Create2(&MODULE, 1013); }

/* ---- Preparing, while the component is built ---- */

/* The table of modules that are part of the interpreter; see `library/wafer/_prepare.py`. */
static struct _frozen *frozen;
static size_t frozen_count;

EXPORT("wafer_prepare:allocate")
void *prepare_allocate(size_t size) {
    wafer_heap_begins();
    return malloc(size);
}

/* Makes room for so many modules, and one that ends them. */
EXPORT("wafer_prepare:room")
void prepare_room(size_t count) {
    frozen = must(realloc(frozen, (count + 1) * sizeof *frozen), "out of memory");
}

/* Adds a module that is imported from memory, where its name and its marshalled code stay. */
EXPORT("wafer_prepare:code")
void prepare_code(const char *name, const char *code, size_t size, int is_package) {
    frozen[frozen_count++] = (struct _frozen){name, (unsigned char *)code, size, is_package};
    frozen[frozen_count] = (struct _frozen){0};
    PyImport_FrozenModules = frozen;
}

/* Compiles the source of a module, and adds it. Python's own compiler needs an interpreter, so the
   first one is initialised with what it has by itself. Returns 0 when the source is refused. */
EXPORT("wafer_prepare:module")
int prepare_module(const char *name, const char *source, const char *file, int is_package) {
    PyObject *code = Py_CompileString(source, file, 257);
    PyObject *marshalled = code ? PyMarshal_WriteObjectToString(code, 5) : NULL;
    if (!marshalled) {
        PyErr_Print();
        return 0;
    }
    prepare_code(name, PyBytes_AsString(marshalled), PyBytes_Size(marshalled), is_package);
    return 1;
}

EXPORT("wafer_prepare:at")
struct _frozen *prepare_at(size_t index) { return &frozen[index]; }

/* Initialises the interpreter. Without a name of a guest only its own modules are there. */
EXPORT("wafer_prepare:start")
void prepare_start(const char *guest_name) {
    int is_whole = strlen(guest_name) != 0;
    wafer_is_preparing = 1;
    PyImport_AppendInittab("_wafer", module);
    PyInitConfig *config = must(PyInitConfig_Create(), "config");
    static const struct { const char *name; int value; } SETTINGS[] = {
        {"isolated", 1}, {"use_environment", 0}, {"site_import", 0}, {"use_hash_seed", 1},
        {"hash_seed", 0}, {"write_bytecode", 0}, {"user_site_directory", 0}, {"utf8_mode", 1},
        {"install_signal_handlers", 0}, {"faulthandler", 0}, {"configure_c_stdio", 0},
        {"optimization_level", 0}, {"pathconfig_warnings", 0}, {"code_debug_ranges", 1},
        {"use_frozen_modules", 1}, {"buffered_stdio", 0},
    };
    for (size_t i = 0; i < sizeof SETTINGS / sizeof *SETTINGS; i++)
        if (PyInitConfig_SetInt(config, SETTINGS[i].name, SETTINGS[i].value))
            die(SETTINGS[i].name);
    PyInitConfig_SetInt(config, "_install_importlib", is_whole);
    static char *const paths[] = {"/library"};
    PyInitConfig_SetStr(config, "program_name", "wafer");
    PyInitConfig_SetStr(config, "executable", "wafer");
    PyInitConfig_SetStr(config, "prefix", "/");
    PyInitConfig_SetStr(config, "exec_prefix", "/");
    PyInitConfig_SetStr(config, "base_prefix", "/");
    PyInitConfig_SetStr(config, "base_exec_prefix", "/");
    PyInitConfig_SetStr(config, "stdlib_dir", "/library");
    PyInitConfig_SetStrList(config, "module_search_paths", 1, paths);
    if (Py_InitializeFromInitConfig(config)) {
        const char *message = "";
        PyInitConfig_GetError(config, &message);
        die(message ? message : "the interpreter cannot be initialised");
    }
    if (is_whole) guest = must(PyImport_ImportModule(guest_name), "the guest");
    wafer_is_preparing = 0;
    wafer_prepared();
}
