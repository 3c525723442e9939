//! Loads on simulated tables, in simulated time.

use std::cmp::Reverse;
use std::collections::BinaryHeap;

use super::*;
use crate::random::Random;

/// The largest number of calls of a process at the same time.
const CALLS: u64 = 32;
/// The time that a call takes.
const LATENCY: Duration = Duration::from_millis(5);
const HALF_AN_HOUR: usize = 1_800;

/// A table on demand: it takes its first throughput, or twice the most that it took in any second
/// until half an hour ago, whichever is more.
struct SimulatedTable {
    first_units: f64,
    /// The units that were written in each second.
    written: Vec<f64>,
    /// The largest number of units in any second until half an hour ago.
    former_peak: f64,
    /// The units of calls that were throttled.
    throttled: f64,
}

impl SimulatedTable {
    fn new(first_units: f64) -> Self {
        Self {
            first_units,
            written: Vec::new(),
            former_peak: 0.0,
            throttled: 0.0,
        }
    }

    /// Writes units and returns true, or throttles the call.
    fn write(&mut self, units: f64, time: Duration) -> bool {
        let second = time.as_secs() as usize;
        while self.written.len() <= second {
            if let Some(former) = self.written.len().checked_sub(HALF_AN_HOUR) {
                self.former_peak = self.former_peak.max(self.written[former]);
            }
            self.written.push(0.0);
        }
        let throughput = self.first_units.max(2.0 * self.former_peak);
        let is_taken = self.written[second] + units <= throughput;
        match is_taken {
            true => self.written[second] += units,
            false => self.throttled += units,
        }
        is_taken
    }

    /// Returns the throttled units as a part of those that were written.
    fn throttled_part(&self) -> f64 {
        self.throttled / self.written.iter().sum::<f64>()
    }

    /// Returns the mean number of units a second from one second, included, to another, excluded.
    fn mean(&self, from: usize, to: usize) -> f64 {
        self.written[from..to].iter().sum::<f64>() / (to - from) as f64
    }
}

/// A process that writes to the table.
struct Process {
    pace: Pace,
    /// The number of writes that have not begun, and the units of each.
    waiting: (u64, f64),
    /// The number of calls that wait for their turn or are being made.
    calls: u64,
    /// Whether a call waits for its turn.
    has_next: bool,
}

/// Something that happens to a call of a process: it is sent with its units, after so many
/// attempts before, or is over.
#[derive(Clone, Copy)]
enum Step {
    Send(f64, u32),
    Over,
}

/// Processes that write to a table, in simulated time.
struct Simulation {
    start: Instant,
    now: Duration,
    table: SimulatedTable,
    processes: Vec<Process>,
    /// What will happen: time, number that makes it unique, process.
    agenda: BinaryHeap<Reverse<(Duration, u64, usize)>>,
    steps: Vec<Step>,
    random: Random,
}

impl Simulation {
    fn new(table: SimulatedTable) -> Self {
        Self {
            start: Instant::now(),
            now: Duration::ZERO,
            table,
            processes: Vec::new(),
            agenda: BinaryHeap::new(),
            steps: Vec::new(),
            random: Random::new(1),
        }
    }

    /// Adds a process with so many writes of so many units, which is told that so many processes
    /// share the load.
    fn with(mut self, shares: usize, writes: u64, units: f64) -> Self {
        let mut pace = Pace::new(2_000.0, self.start);
        pace.share(shares);
        self.processes.push(Process {
            pace,
            waiting: (writes, units),
            calls: 0,
            has_next: false,
        });
        self
    }

    /// Runs until everything is written. Returns the number of seconds.
    fn run(&mut self) -> usize {
        for process in 0..self.processes.len() {
            self.begin(process);
        }
        while let Some(Reverse((time, number, process))) = self.agenda.pop() {
            self.now = time;
            match self.steps[number as usize] {
                Step::Over => self.processes[process].calls -= 1,
                Step::Send(units, attempts) => self.send(process, units, attempts),
            }
            self.begin(process);
        }
        self.now.as_secs() as usize
    }

    /// Lets the next write of a process wait for its turn, if no other one does.
    fn begin(&mut self, number: usize) {
        let process = &mut self.processes[number];
        let (writes, units) = process.waiting;
        if writes == 0 || process.calls == CALLS || process.has_next {
            return;
        }
        process.waiting.0 -= 1;
        process.calls += 1;
        process.has_next = true;
        let wait = process.pace.wait(units, self.start + self.now);
        // A timer of Tokio counts in milliseconds, and is late.
        let late = match wait.is_zero() {
            true => 0,
            false => wait.as_millis() as u64 + 2,
        };
        self.plan(Duration::from_millis(late), number, Step::Send(units, 0));
    }

    fn send(&mut self, process: usize, units: f64, attempts: u32) {
        if attempts == 0 {
            self.processes[process].has_next = false;
        }
        if self.table.write(units, self.now) {
            self.plan(LATENCY, process, Step::Over);
            return;
        }
        let now = self.start + self.now;
        self.processes[process].pace.throttled(now);
        // As `Backoff` waits.
        let most = (20_000 << attempts.min(10)).min(2_000_000);
        let wait = LATENCY + Duration::from_micros(self.random.below(most));
        self.plan(wait, process, Step::Send(units, attempts + 1));
    }

    fn plan(&mut self, after: Duration, process: usize, step: Step) {
        let number = self.steps.len() as u64;
        self.steps.push(step);
        self.agenda
            .push(Reverse((self.now + after, number, process)));
    }
}

/// Simulates a load of so many processes on a table that takes so many units at first, and
/// returns the table and the number of seconds. Each process is told that so many share the load.
fn load(first_units: f64, processes: usize, shares: usize, units: f64) -> (SimulatedTable, usize) {
    let mut simulation = Simulation::new(SimulatedTable::new(first_units));
    for _ in 0..processes {
        let writes = (units / 25.0 / processes as f64) as u64;
        simulation = simulation.with(shares, writes, 25.0);
    }
    let seconds = simulation.run();
    let written: f64 = simulation.table.written.iter().sum();
    assert!(written > units * 0.99, "{written} of {units} units");
    (simulation.table, seconds)
}

#[test]
fn load_into_a_new_table_uses_what_it_takes_and_is_hardly_throttled() {
    let (table, seconds) = load(4_000.0, 1, 1, 25e6);
    let means = [table.mean(0, 1_800), table.mean(1_860, 3_600)];
    println!("{seconds} s, {means:.0?}, {:.4}", table.throttled_part());
    assert!(means[0] > 0.85 * 4_000.0, "{means:.0?}");
    assert!(
        means[1] > 0.85 * 8_000.0,
        "twice as much after half an hour"
    );
    assert!(table.throttled_part() < 0.01);
}

#[test]
fn load_into_a_table_that_was_warmed_soon_uses_what_it_takes() {
    let (table, seconds) = load(40_000.0, 1, 1, 25e6);
    println!("{seconds} s, {:.4}", table.throttled_part());
    assert!(table.mean(30, 600) > 0.75 * 40_000.0);
    assert!(table.throttled_part() < 0.01);
}

#[test]
fn processes_that_share_a_load_share_what_a_table_takes() {
    // A run of 10,000 partitions may be worked on by 100 processes or by 10.
    for (processes, shares) in [(10, 10), (100, 100), (100, 10_000), (10, 10_000)] {
        let (table, seconds) = load(4_000.0, processes, shares, 12e6);
        let (mean, throttled) = (table.mean(60, 1_800), table.throttled_part());
        println!("{processes} of {shares}: {seconds} s, {mean:.0}, {throttled:.4}");
        assert!(mean > 0.8 * 4_000.0, "{processes} of {shares}: {mean}");
        assert!(throttled < 0.08, "{processes} of {shares}: {throttled}");
    }
}

#[test]
fn load_goes_on_when_far_too_many_processes_share_a_table() {
    // Only the first 100 divide the pace. The others are slowed down by being throttled.
    let (table, seconds) = load(4_000.0, 1_000, 1_000, 5e6);
    println!("{seconds} s, {:.2}", table.throttled_part());
    assert!(table.mean(0, 1_000) > 0.7 * 4_000.0);
}

#[test]
fn several_throttled_writes_of_one_second_lower_the_pace_once() {
    let start = Instant::now();
    let mut pace = Pace::new(1_000.0, start);
    for (millis, wanted) in [(0, 800.0), (1, 800.0), (999, 800.0), (1_000, 640.0)] {
        pace.throttled(start + Duration::from_millis(millis));
        assert!((pace.units - wanted).abs() < 1e-6, "{millis} {pace:?}");
    }
    for seconds in 2..60 {
        pace.throttled(start + Duration::from_secs(seconds));
    }
    assert!((pace.units - LOWEST_UNITS).abs() < 1e-6, "{pace:?}");
}

#[test]
fn pace_that_holds_up_nothing_does_not_grow() {
    let start = Instant::now();
    let mut pace = Pace::new(100.0, start);
    for second in 1..100 {
        let wait = pace.wait(1.0, start + Duration::from_secs(second));
        assert_eq!(wait, Duration::ZERO);
    }
    assert!((pace.units - 100.0).abs() < 1e-6, "{pace:?}");
    // A write that is larger than what may be caught up holds up the next one.
    let now = start + Duration::from_secs(100);
    assert_eq!(pace.wait(50.0, now), Duration::ZERO);
    assert!(pace.wait(1.0, now) > Duration::from_millis(300));
}

#[test]
fn pace_is_divided_among_processes_and_put_together_again() {
    let mut pace = Pace::new(1_000.0, Instant::now());
    for (processes, wanted) in [(4, 250.0), (4, 250.0), (100_000, 10.0), (0, 1_000.0)] {
        pace.share(processes);
        assert!((pace.units - wanted).abs() < 1e-6, "{processes} {pace:?}");
    }
}
