//! The allocator, and what a server tells it to give back.
//!
//! The allocator keeps what is freed for a second, in case that it is asked for again, and looks at
//! what it keeps only when pages of it are freed. So a server that has nothing to do would keep the
//! memory of its last requests, and one under load two times the buffers that it needs.
//!
//! The functions are those of mimalloc 3, which the crate `libmimalloc-sys` compiles:
//! <https://microsoft.github.io/mimalloc/>. It declares them only with a crate of C types beside
//! it.

use std::ffi::{c_int, c_long};
use std::time::Duration;

/// A fifth of the time of a small request was spent in glibc's allocator (`docs/benchmarks.md`).
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

/// The number of the option for the largest object that is kept in the memory that threads share,
/// in KiB: `mi_option_arena_max_object_size`. Larger ones are mapped by themselves, and given back
/// as soon as they are freed.
const ARENA_MAX_OBJECT_SIZE: c_int = 45;

/// The size in KiB from which on a server gives a buffer back as soon as it is freed. To map one of
/// this size takes less time than to fill it. After a push of 26 MiB and some requests that answer
/// it, a server kept 65 to 240 MiB beside what is mapped of its store, and keeps 8 MiB.
const LARGE_BUFFER_KIB: c_long = 1 << 10;

/// How often a server gives back what was freed and is not asked for again: as long as the
/// allocator keeps it.
const PAUSE: Duration = Duration::from_secs(1);

#[allow(
    unsafe_code,
    reason = "functions of the allocator, which is written in C"
)]
unsafe extern "C" {
    /// Sets an option. The write is not atomic, so no other thread may allocate at the same time.
    fn mi_option_set(option: c_int, value: c_long);
    /// Gives back what was freed so long ago that it is due, and with `force` everything.
    fn mi_collect(force: bool);
    #[cfg(test)]
    fn mi_option_get(option: c_int) -> c_long;
}

/// Makes the allocator give back large buffers as soon as they are freed. It must be called before
/// the program starts a thread.
#[allow(
    unsafe_code,
    reason = "an option of the allocator, which is written in C"
)]
pub(crate) fn give_back_large_buffers() {
    // SAFETY: the function takes two numbers, and refuses that of an unknown option. The option is
    // about what is allocated from here on; each allocation knows by itself how it is freed. There
    // is no other thread that could read it at the same time.
    unsafe { mi_option_set(ARENA_MAX_OBJECT_SIZE, LARGE_BUFFER_KIB) };
}

/// Gives back what was freed and is not asked for again, for as long as it is awaited.
pub(crate) async fn give_back_what_is_freed() {
    let mut pauses = tokio::time::interval(PAUSE);
    loop {
        pauses.tick().await;
        collect();
    }
}

/// Gives back what is due of the memory that all threads share, and of that of this thread.
#[allow(
    unsafe_code,
    reason = "a function of the allocator, which is written in C"
)]
fn collect() {
    // SAFETY: the function takes no pointers, and may be called by any thread at any time. It gives
    // back memory that nobody uses.
    unsafe { mi_collect(false) };
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The number is that of the version that is compiled, whose default no other option has.
    #[test]
    #[allow(
        unsafe_code,
        reason = "an option of the allocator, which is written in C"
    )]
    fn option_has_the_number_of_the_version_that_is_compiled() {
        // SAFETY: the function takes a number, and returns one.
        let get = |option| unsafe { mi_option_get(option) };
        let two_gib = 2 << 20;
        let found: Vec<c_int> = (0..64).filter(|option| get(*option) == two_gib).collect();
        assert_eq!(found, [ARENA_MAX_OBJECT_SIZE]);
    }

    #[test]
    fn memory_can_be_given_back_at_any_time() {
        let kept = vec![7_u8; 3 << 20];
        drop(vec![1_u8; 3 << 20]);
        collect();
        assert!(kept.iter().all(|byte| *byte == 7));
    }
}
