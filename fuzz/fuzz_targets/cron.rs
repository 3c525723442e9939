//! Cron expressions and time zones of schedules, on two lines.
#![no_main]

use wafer_catalog::{Overlap, ScheduleDef, Ticks};
use wafer_core::{Duration, Timestamp};

libfuzzer_sys::fuzz_target!(|text: &str| {
    let (cron, timezone) = text.split_once('\n').unwrap_or((text, "UTC"));
    let schedule = ScheduleDef {
        cron: cron.to_owned(),
        timezone: timezone.to_owned(),
        delay: Duration::ZERO,
        start_after: Duration::ZERO,
        catch_up: 1,
        overlap: Overlap::Wait,
        retries: 0,
        backoff: Duration::ZERO,
        time_limit: None,
    };
    let Ok(ticks) = Ticks::new(&schedule) else {
        return;
    };
    let mut time = Timestamp::from_micros(1_700_000_000_000_000);
    for _ in 0..3 {
        let Some(next) = ticks.after(time) else {
            return;
        };
        assert!(next > time, "{next} after {time}");
        // It is the first one after any time before it, and in zones without two of an hour, the
        // last one before any time after it.
        let just_before = next.minus(Duration::MICROSECOND);
        assert_eq!(ticks.after(just_before), Some(next), "after {just_before}");
        if timezone == "UTC" {
            let just_after = next.plus(Duration::MICROSECOND);
            assert_eq!(ticks.before(just_after), Some(next), "before {just_after}");
        }
        time = next;
    }
});
