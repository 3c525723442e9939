/* The memory of the interpreter, for a host that keeps what an initialised one has different from a
   new one, and gives it to new ones: `wit/interpreter/memory.wit`. */

#include <stdint.h>
#include <stddef.h>

extern void *malloc(size_t);
extern void *realloc(void *, size_t);
extern void *memset(void *, int, size_t);

#define MEMORY(name) __attribute__((export_name("wafer:interpreter/memory@0.1.0#" name)))

/* In `wafer.c`: gives back what the latest answer points to. */
extern void wafer_done(void);

/* What `expect` and `write` need. It is zero before and after, and so far away from all memory that
   changes that no run reaches it. The functions from `expect` to `write` must not use the stack: it
   is in the memory that is being written. */
enum { APART = 4 << 10, MOST_RUNS = 16384, RUN = 12 };
static struct {
    char before[APART];
    char *free; /* Where there is room for the next list; NULL if no `write` is expected. */
    size_t runs; /* How many runs have their place. */
    /* First the address of each run, and then where the host puts it and how long it is. */
    uint32_t lists[MOST_RUNS * RUN / sizeof(uint32_t)];
    char after[APART];
} expected;

/* Says where the host puts what it passes to `write`: lists are what is aligned. */
static void *place(size_t align, size_t size) {
    if (align == 1 && expected.runs < MOST_RUNS) return (void *)expected.lists[expected.runs++];
    char *at = expected.free;
    if (align != 4 || size > (size_t)(expected.after - at)) __builtin_trap();
    expected.free = at + size;
    return at;
}

/* Returns memory for what the host passes, or NULL if there is none. */
void *wafer_allocate(void *old, size_t align, size_t size) {
    if (size == 0) return (void *)align;
    return expected.free ? place(align, size) : realloc(old, size);
}

MEMORY("expect")
void memory_expect(size_t pages) {
    size_t there = __builtin_wasm_memory_size(0);
    if (pages > there && __builtin_wasm_memory_grow(0, pages - there) == (size_t)-1)
        __builtin_trap();
    expected.free = (char *)expected.lists;
}

MEMORY("write")
void memory_write(uint32_t *addresses, size_t count, void *runs, size_t run_count) {
    (void)addresses, (void)count, (void)runs, (void)run_count;
    memset(expected.lists, 0, expected.free - (char *)expected.lists);
    expected.free = NULL;
    expected.runs = 0;
}

/* ---- The heap ---- */

/* The C library's allocator, dlmalloc, lays out memory as chunks, one after the other. The second
   word of a chunk is its size, with flags in the lowest bits; a block begins after it. A free chunk
   has links at its beginning. The last chunk before the end of the heap is free as well. */
enum { TO_BLOCK = 8, OVERHEAD = 4, IN_USE = 2, FLAGS = 7, SMALL = 256, LINKS = 16, MORE_LINKS = 32 };
typedef struct { size_t before, head; } chunk_t;

/* Memory of the C library's own may be before this chunk. */
static chunk_t *first;

static size_t size_of(const chunk_t *chunk) { return chunk->head & ~(size_t)FLAGS; }

static chunk_t *after(chunk_t *chunk) {
    chunk_t *next = (chunk_t *)((char *)chunk + size_of(chunk));
    char *end = (char *)(__builtin_wasm_memory_size(0) << 16);
    return size_of(chunk) >= LINKS && (char *)next + LINKS < end ? next : NULL;
}

/* Remembers where the heap begins. */
void wafer_heap_begins(void) {
    if (!first) first = (chunk_t *)((char *)malloc(1) - TO_BLOCK);
}

/* Zeroes free memory. */
static void scrub_heap(void) {
    for (chunk_t *chunk = first; chunk; chunk = after(chunk)) {
        size_t links = size_of(chunk) < SMALL ? LINKS : MORE_LINKS;
        if (!(chunk->head & IN_USE) && size_of(chunk) > links)
            memset((char *)chunk + links, 0, size_of(chunk) - links);
    }
}

/* Takes the free memory between blocks for ever, so that what is allocated from now on is together
   at the end of the heap. A block of the size of a free chunk is made of a chunk of that size, but
   not always of the same one. Each page that a call writes to costs more than the memory. */
static void fill_holes(void) {
    for (size_t filled = 1; filled;) {
        filled = 0;
        for (chunk_t *chunk = first; after(chunk); chunk = after(chunk))
            if (!(chunk->head & IN_USE) && after(after(chunk)))
                filled += malloc(size_of(chunk) - OVERHEAD) != NULL;
    }
}

extern char __stack_low;

/* Zeroes the stack, which is empty when the host calls. */
static void scrub_stack(void) {
    memset(&__stack_low, 0, (char *)__builtin_frame_address(0) - &__stack_low);
}

/* Whether the interpreter was prepared or initialised since its memory was last read. */
static int is_changed;
void wafer_initialised(void) { is_changed = 1; }
void wafer_prepared(void) {
    scrub_heap();
    fill_holes();
    is_changed = 1;
}

/* What was freed and what is left on the stack is zeroed first, since it would be kept. An instance
   that is new, or was given its memory, has nothing to zero: it must stay as it is. */
MEMORY("read")
void *memory_read(void) {
    static struct { const char *at; size_t length; } all;
    if (is_changed) {
        is_changed = 0;
        wafer_done();
        scrub_heap();
        all.length = __builtin_wasm_memory_size(0) << 16;
        scrub_stack();
    }
    return &all;
}
