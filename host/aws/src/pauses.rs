//! Pauses between the attempts of a request to S3.

use std::time::Duration;

/// Upper bound of all pauses.
const LONGEST_PAUSE: Duration = Duration::from_secs(5);

/// The pauses between a limited number of attempts. Each is twice as long as the one before.
#[derive(Debug)]
pub(crate) struct Pauses {
    /// How many attempts are left, the current one included.
    left: u32,
    next: Duration,
}

impl Pauses {
    /// Creates the pauses between at most `attempts` attempts. `first` is the first of them.
    pub(crate) const fn new(attempts: u32, first: Duration) -> Self {
        Self {
            left: attempts,
            next: first,
        }
    }

    /// Pauses before another attempt. Returns false, without a pause, if none is left.
    pub(crate) async fn pause(&mut self) -> bool {
        self.left = self.left.saturating_sub(1);
        if self.left == 0 {
            return false;
        }
        tokio::time::sleep(self.next).await;
        self.next = (self.next * 2).min(LONGEST_PAUSE);
        true
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn attempts_are_limited_and_pauses_grow() {
        for attempts in 1..4 {
            let mut pauses = Pauses::new(attempts, Duration::from_micros(1));
            let mut made = 1;
            while pauses.pause().await {
                made += 1;
            }
            assert_eq!(made, attempts);
            assert_eq!(pauses.next, Duration::from_micros(1 << (attempts - 1)));
            assert!(!pauses.pause().await);
        }
    }
}
