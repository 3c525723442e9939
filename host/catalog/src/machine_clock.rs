//! Guards against a machine's clock that was set back.
//!
//! Times that are written are never corrected afterwards. So the latest time that the project has
//! seen is kept as an object, and a process whose clock is clearly behind that time is refused.

use bytes::Bytes;
use wafer_core::{Duration, Timestamp};
use wafer_store::{Error, Expect, Kind, MetadataStore, Result};

use crate::context::Context;

/// How much the clocks of several machines may differ.
const TOLERANCE: Duration = Duration::from_mins(5);

/// How old the kept time must be to be replaced.
const PERIOD: Duration = Duration::from_mins(1);

/// Returns the name of the object that holds the latest time.
fn object_name(project: &str) -> String {
    format!("{project}/clock")
}

/// The latest time that the project has seen, and what a write of a later one expects.
struct Latest {
    /// The time. An unreadable object counts as missing, and is replaced by the next write.
    time: Option<Timestamp>,
    expect: Expect,
}

async fn read_latest(metadata: &dyn MetadataStore, project: &str) -> Result<Latest> {
    let Some(stored) = metadata.get(&object_name(project)).await? else {
        return Ok(Latest {
            time: None,
            expect: Expect::Absent,
        });
    };
    let text = std::str::from_utf8(&stored.value).ok();
    Ok(Latest {
        time: text.and_then(|text| text.parse().ok()),
        expect: Expect::Version(stored.version),
    })
}

/// Checks that the clock is not behind the latest time of the project, and returns that time.
/// Writes nothing.
///
/// # Errors
/// Returns [`Kind::Invalid`] with both times when the clock is behind by more than the tolerance.
async fn compare(metadata: &dyn MetadataStore, project: &str, now: Timestamp) -> Result<Latest> {
    let found = read_latest(metadata, project).await?;
    if let Some(latest) = found.time
        && now.plus(TOLERANCE) < latest
    {
        let behind = latest.since(now);
        return Err(Error::new(
            Kind::Invalid,
            format!(
                "the machine's clock says {now}, which is {behind} before project `{project}` was \
                 last used, at {latest}: what is written now would have wrong times. Correct the \
                 clock; or, if it was wrong then, run `wafer doctor --accept-clock`"
            ),
        ));
    }
    Ok(found)
}

/// Checks the clock like [`compare`], and stores the present as the latest time if that is old.
async fn check(metadata: &dyn MetadataStore, project: &str, now: Timestamp) -> Result<()> {
    let Latest { time, expect } = compare(metadata, project, now).await?;
    if time.is_some_and(|latest| now < latest.plus(PERIOD)) {
        return Ok(());
    }
    let value = Bytes::from(now.to_string());
    match metadata.put(&object_name(project), value, expect).await {
        // Of many processes that start at the same time, one is enough.
        Err(e) if e.kind() == Kind::Conflict => Ok(()),
        stored => stored.map(drop),
    }
}

/// Stores a time as the latest time of the project, also if it is earlier than the stored one.
async fn accept(metadata: &dyn MetadataStore, project: &str, now: Timestamp) -> Result<()> {
    let value = Bytes::from(now.to_string());
    metadata
        .put(&object_name(project), value, Expect::Anything)
        .await?;
    Ok(())
}

impl Context {
    /// Checks that the machine's clock was not set back since the project was last used, and stores
    /// the present as the time of its last use, unless that was stored within the last minute.
    ///
    /// # Errors
    /// Returns [`Kind::Invalid`] when it was, and the errors of the metadata store.
    pub async fn check_clock(&self) -> Result<()> {
        let now = self.machine_now();
        check(
            self.components().stores.metadata.as_ref(),
            self.project(),
            now,
        )
        .await
    }

    /// Checks the machine's clock like [`check_clock`](Self::check_clock), but does not store the
    /// present: for processes that only read, whose clock nobody else goes by.
    ///
    /// # Errors
    /// Returns the same errors.
    pub async fn compare_clock(&self) -> Result<()> {
        let metadata = self.components().stores.metadata.as_ref();
        compare(metadata, self.project(), self.machine_now()).await?;
        Ok(())
    }

    /// Accepts the machine's clock as correct, whatever time the project has seen before.
    ///
    /// # Errors
    /// Returns the errors of the metadata store.
    pub async fn accept_clock(&self) -> Result<()> {
        let now = self.machine_now();
        accept(
            self.components().stores.metadata.as_ref(),
            self.project(),
            now,
        )
        .await
    }
}

#[cfg(test)]
mod tests {
    use wafer_store::{Lmdb, LmdbConfig};

    use super::*;

    #[tokio::test]
    async fn a_clock_that_was_set_back_is_refused() {
        let folder = tempfile::tempdir().unwrap();
        let store = Lmdb::open(&LmdbConfig {
            path: folder.path().to_owned(),
            map_size: 1 << 24,
        });
        let store = store.unwrap();
        let at = |text: &str| text.parse::<Timestamp>().unwrap();
        let check = |now: &'static str| check(&store, "p", at(now));
        check("2026-01-01T12:00:00Z").await.unwrap();
        // The difference is within the tolerance for several machines.
        check("2026-01-01T11:56:00Z").await.unwrap();
        let error = check("2026-01-01T11:00:00Z").await.unwrap_err();
        assert_eq!(error.kind(), Kind::Invalid);
        let message = error.to_string();
        for part in [
            "says 2026-01-01T11:00:00Z",
            "1h before",
            "at 2026-01-01T12:00:00Z",
        ] {
            assert!(message.contains(part), "{message}");
        }
        // A later time is accepted, and stored as the new latest time.
        check("2026-01-01T13:00:00Z").await.unwrap();
        // Within a minute, no time is stored again.
        let version = async || store.get(&object_name("p")).await.unwrap().unwrap().version;
        let before = version().await;
        check("2026-01-01T13:00:59Z").await.unwrap();
        assert_eq!(version().await, before);
        check("2026-01-01T13:01:00Z").await.unwrap();
        assert_eq!(version().await, before + 1);
        // Comparing stores nothing, so a reader with a wrong clock does not stop the others.
        let wrong = at("2036-01-01T13:00:00Z");
        assert!(compare(&store, "p", wrong).await.is_ok());
        check("2026-01-01T13:00:00Z").await.unwrap();
        check("2026-01-01T12:00:00Z").await.unwrap_err();
        accept(&store, "p", at("2026-01-01T12:00:00Z"))
            .await
            .unwrap();
        check("2026-01-01T12:00:00Z").await.unwrap();
        // Another project has no latest time yet.
        super::check(&store, "q", at("2020-01-01T00:00:00Z"))
            .await
            .unwrap();
    }
}
