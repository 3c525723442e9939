//! Random numbers that can be repeated.

/// Numbers from a seed: a linear congruential generator (D. Knuth, MMIX).
pub(crate) struct Random(u64);

impl Random {
    /// Returns a generator with the seed of the environment variable `WAFER_TEST_SEED`, by which a
    /// failure can be repeated, or else with one from the clock. Prints the seed.
    pub(crate) fn new() -> Self {
        let seed = std::env::var("WAFER_TEST_SEED")
            .ok()
            .and_then(|text| text.parse().ok());
        let seed = seed.unwrap_or_else(|| {
            let since = std::time::SystemTime::UNIX_EPOCH.elapsed().unwrap();
            u64::from(since.subsec_nanos())
        });
        println!("WAFER_TEST_SEED={seed}");
        Self(seed)
    }

    /// Returns a number less than `end`.
    pub(crate) fn below(&mut self, end: u64) -> u64 {
        self.0 = self
            .0
            .wrapping_mul(6_364_136_223_846_793_005)
            .wrapping_add(1_442_695_040_888_963_407);
        (self.0 >> 33) % end
    }
}
