/* The heap, in the layout that `memory.c` looks through, which is dlmalloc's: chunks one after the
   other up to the end of the memory, each with its size and flags in its second word. Free chunks
   that touch are one, and those of similar sizes are in a list. */

#include <stdint.h>
#include <stddef.h>

extern void *memcpy(void *, const void *, size_t);
extern void *memset(void *, int, size_t);
extern unsigned char __heap_base;

enum { BEFORE_IN_USE = 1, IN_USE = 2, FLAGS = 7, OVERHEAD = 4, TO_BLOCK = 8, ALIGN = 8, LEAST = 16 };
enum { SMALL = 256, BINS = 128, PAGE = 64 << 10, GROWTH = 4 };
static const size_t MOST = 1 << 30;

typedef struct chunk {
    size_t before; /* The size of the chunk before this one, if that is free. */
    size_t head;
    struct chunk *next, *previous; /* Of a free chunk; the block of another begins here. */
} chunk_t;

/* Chunks of sizes below `SMALL` have a list for each size, others four for each power of two. */
static chunk_t *bins[BINS];
static uint32_t filled[BINS / 32]; /* A bit for each list that is not empty. */
static chunk_t *top; /* The last chunk, which is free and in no list. */

static size_t size_of(const chunk_t *chunk) { return chunk->head & ~(size_t)FLAGS; }
static chunk_t *at(const chunk_t *chunk, size_t offset) { return (chunk_t *)((char *)chunk + offset); }
static chunk_t *of_block(const void *block) { return (chunk_t *)((char *)block - TO_BLOCK); }
static void *block_of(chunk_t *chunk) { return (char *)chunk + TO_BLOCK; }

static int bin_of(size_t size) {
    if (size < SMALL) return size / ALIGN;
    int power = 31 - __builtin_clz(size);
    return SMALL / ALIGN + (power - 8) * 4 + (size >> (power - 2) & 3);
}

static void enlist(chunk_t *chunk) {
    int bin = bin_of(size_of(chunk));
    chunk->next = bins[bin];
    chunk->previous = NULL;
    if (chunk->next) chunk->next->previous = chunk;
    bins[bin] = chunk;
    filled[bin / 32] |= 1u << bin % 32;
}

static void unlist(chunk_t *chunk) {
    int bin = bin_of(size_of(chunk));
    if (chunk->next) chunk->next->previous = chunk->previous;
    if (chunk->previous) chunk->previous->next = chunk->next;
    else bins[bin] = chunk->next;
    if (!bins[bin]) filled[bin / 32] &= ~(1u << bin % 32);
}

/* Returns the first list from a number on that is not empty, or `BINS`. */
static int next_filled(int bin) {
    for (int word = bin / 32; word < BINS / 32; word++) {
        uint32_t bits = filled[word] & (word == bin / 32 ? ~0u << bin % 32 : ~0u);
        if (bits) return word * 32 + __builtin_ctz(bits);
    }
    return BINS;
}

/* Makes the last chunk at least so large. Nothing else grows the memory but `memory.c`, which
   gives it what another instance had. */
static int grow(size_t wanted) {
    if (!top) {
        top = (chunk_t *)(((size_t)&__heap_base + ALIGN - 1) & ~(size_t)(ALIGN - 1));
        top->head = ((__builtin_wasm_memory_size(0) << 16) - (size_t)top) | BEFORE_IN_USE;
    }
    if (size_of(top) >= wanted) return 1;
    size_t pages = (wanted - size_of(top) + PAGE - 1) / PAGE;
    size_t more = pages < GROWTH ? GROWTH : pages;
    if (__builtin_wasm_memory_grow(0, more) == (size_t)-1) {
        more = pages;
        if (__builtin_wasm_memory_grow(0, more) == (size_t)-1) return 0;
    }
    top->head += more * PAGE;
    return 1;
}

/* Returns a free chunk that is in no list any more, or NULL. */
static chunk_t *found(size_t size) {
    int bin = bin_of(size);
    for (chunk_t *chunk = bins[bin]; chunk; chunk = chunk->next)
        if (size_of(chunk) >= size) return unlist(chunk), chunk;
    bin = next_filled(bin + 1);
    if (bin == BINS) return NULL;
    chunk_t *chunk = bins[bin];
    unlist(chunk);
    return chunk;
}

/* Makes a chunk free that is in use or was in no list, together with those that touch it. */
static void set_free(chunk_t *chunk) {
    size_t size = size_of(chunk);
    if (!(chunk->head & BEFORE_IN_USE)) {
        size += chunk->before;
        chunk = at(chunk, -chunk->before);
        unlist(chunk);
    }
    chunk_t *next = at(chunk, size);
    if (next == top) {
        top = chunk;
        top->head = (size + size_of(next)) | BEFORE_IN_USE;
        return;
    }
    if (!(next->head & IN_USE)) {
        unlist(next);
        size += size_of(next);
        next = at(chunk, size);
    }
    chunk->head = size | BEFORE_IN_USE;
    next->before = size;
    next->head &= ~(size_t)BEFORE_IN_USE;
    enlist(chunk);
}

/* Puts a chunk of more than enough bytes to use, and frees what is left over. */
static void use(chunk_t *chunk, size_t have, size_t size) {
    size_t before = chunk->head & BEFORE_IN_USE;
    if (have - size < LEAST) size = have;
    chunk->head = size | IN_USE | before;
    chunk_t *next = at(chunk, size);
    if (size == have) {
        next->head |= BEFORE_IN_USE;
        return;
    }
    next->head = (have - size) | IN_USE | BEFORE_IN_USE;
    set_free(next);
}

static size_t needed(size_t size) {
    size_t chunk = (size + OVERHEAD + ALIGN - 1) & ~(size_t)(ALIGN - 1);
    return chunk < LEAST ? LEAST : chunk;
}

/* Cuts the beginning off the last chunk, which is large enough. */
static chunk_t *from_top(size_t size) {
    chunk_t *chunk = top;
    top = at(chunk, size);
    top->head = (size_of(chunk) - size) | BEFORE_IN_USE;
    chunk->head = size | IN_USE | BEFORE_IN_USE;
    return chunk;
}

void *malloc(size_t size) {
    if (size > MOST) return NULL;
    size = needed(size);
    chunk_t *chunk = found(size);
    if (chunk) use(chunk, size_of(chunk), size);
    else if (grow(size + LEAST)) chunk = from_top(size);
    return chunk ? block_of(chunk) : NULL;
}

void free(void *block) {
    if (block) set_free(of_block(block));
}

void *calloc(size_t count, size_t size) {
    if (size && count > MOST / size) return NULL;
    void *block = malloc(count * size);
    return block ? memset(block, 0, count * size) : NULL;
}

size_t malloc_usable_size(void *block) {
    return block ? size_of(of_block(block)) - OVERHEAD : 0;
}

/* Makes a chunk larger by what is free behind it. Returns whether that is enough. */
static int extend(chunk_t *chunk, size_t size) {
    size_t have = size_of(chunk);
    chunk_t *next = at(chunk, have);
    if (next == top) {
        if (!grow(size - have + LEAST)) return 0;
        from_top(size - have);
        chunk->head += size - have;
        return 1;
    }
    if (next->head & IN_USE || have + size_of(next) < size) return 0;
    unlist(next);
    use(chunk, have + size_of(next), size);
    return 1;
}

void *realloc(void *block, size_t size) {
    if (!block) return malloc(size);
    if (size > MOST) return NULL;
    chunk_t *chunk = of_block(block);
    size_t had = size_of(chunk), want = needed(size);
    if (want <= had) {
        use(chunk, had, want);
        return block;
    }
    if (extend(chunk, want)) return block;
    void *moved = malloc(size);
    if (!moved) return NULL;
    memcpy(moved, block, had - OVERHEAD);
    free(block);
    return moved;
}
