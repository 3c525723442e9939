//! The time limit of a call.
//!
//! A limit counts the processor time of the thread that makes the call, which is what the function
//! used: it can neither sleep nor wait for anything. On a machine with too much to do, a thread may
//! get little of a processor for long, and the function is not to blame for that. Time that passes
//! is limited as well, more loosely, and exceeding that is nobody's limit but a want of processors.
//!
//! The epoch of the engine (`engine.rs`) interrupts a call when its limit would be over if it had a
//! processor for itself. Only then is it asked how much the call has used.

use std::time::Instant;

use wafer_core::Duration;
use wasmtime::{Store, StoreContextMut, UpdateDeadline};

use crate::engine::ticks;
use crate::state::State;

/// How many times as long as its limit a call may take, by time that passes.
const PATIENCE: i64 = 20;

/// The time of a call, from its start on.
#[derive(Clone, Copy, Debug)]
pub(crate) struct CallTime {
    limit: Duration,
    started: Instant,
    /// The processor time of the thread when the call started.
    used_before: Option<Duration>,
    /// Whether the call was ended for want of a processor, and not because of its limit.
    pub(crate) is_starved: bool,
}

/// Starts the time of a call, which has `limit` of processor time. The call must be made on this
/// thread.
pub(crate) fn start_time(store: &mut Store<State>, limit: Duration) {
    store.data_mut().time = Some(CallTime {
        limit,
        started: Instant::now(),
        used_before: processor_time(),
        is_starved: false,
    });
    store.set_epoch_deadline(ticks(limit));
    store.epoch_deadline_callback(extend);
}

/// Gives a call that was interrupted the rest of its time, if there is any.
fn extend(mut context: StoreContextMut<'_, State>) -> wasmtime::Result<UpdateDeadline> {
    let Some(time) = &mut context.data_mut().time else {
        return Ok(UpdateDeadline::Interrupt);
    };
    let elapsed = i64::try_from(time.started.elapsed().as_micros()).unwrap_or(i64::MAX);
    let elapsed = Duration::from_micros(elapsed);
    let used = match (time.used_before, processor_time()) {
        (Some(before), Some(now)) => Duration::from_micros(now.as_micros() - before.as_micros()),
        _ => elapsed,
    };
    match left(time.limit, used, elapsed) {
        Left::Time(left) => Ok(UpdateDeadline::Continue(ticks(left))),
        Left::Nothing => Ok(UpdateDeadline::Interrupt),
        Left::Starved => {
            time.is_starved = true;
            Ok(UpdateDeadline::Interrupt)
        }
    }
}

/// The time that a call has left.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Left {
    Time(Duration),
    Nothing,
    Starved,
}

/// Returns what is left after `used` of processor time, while `elapsed` has passed.
fn left(limit: Duration, used: Duration, elapsed: Duration) -> Left {
    if used >= limit {
        return Left::Nothing;
    }
    if elapsed.as_micros() >= limit.as_micros().saturating_mul(PATIENCE) {
        return Left::Starved;
    }
    Left::Time(Duration::from_micros(limit.as_micros() - used.as_micros()))
}

/// Returns the processor time that this thread has used, or `None` on a system that cannot tell.
#[allow(unsafe_code, reason = "a clock of the C library")]
fn processor_time() -> Option<Duration> {
    let mut time = libc::timespec {
        tv_sec: 0,
        tv_nsec: 0,
    };
    // SAFETY: `clock_gettime` writes one `timespec`, to a place that is one.
    let result = unsafe { libc::clock_gettime(libc::CLOCK_THREAD_CPUTIME_ID, &raw mut time) };
    let micros = time.tv_sec * 1_000_000 + time.tv_nsec / 1_000;
    (result == 0).then_some(Duration::from_micros(micros))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn time_limits_count_processor_time_until_a_call_is_starved() {
        let ms = |ms: i64| Duration::from_micros(ms * 1_000);
        for (used, elapsed, wanted) in [
            (0, 100, Left::Time(ms(100))),
            (30, 100, Left::Time(ms(70))),
            (99, 1_999, Left::Time(ms(1))),
            (100, 100, Left::Nothing),
            (150, 5_000, Left::Nothing),
            (99, 2_000, Left::Starved),
        ] {
            assert_eq!(
                left(ms(100), ms(used), ms(elapsed)),
                wanted,
                "{used} {elapsed}"
            );
        }
    }

    #[test]
    fn processor_time_does_not_pass_while_a_thread_sleeps() {
        let before = processor_time().unwrap();
        std::thread::sleep(std::time::Duration::from_millis(50));
        let used = processor_time().unwrap().as_micros() - before.as_micros();
        assert!((0..50_000).contains(&used), "{used}");
    }
}
