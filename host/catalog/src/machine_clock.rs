//! The machine's clock, compared with what it was when the project was last used: one
//! that was set back would date facts wrongly for good.

use bytes::Bytes;
use wafer_core::{Timestamp, duration_text};
use wafer_store::{Error, Expect, Kind, MetadataStore, Result};

use crate::context::Context;

/// Microseconds that clocks of several machines may differ by.
const TOLERANCE: i64 = 5 * 60 * 1_000_000;

/// The time is written down again after so many microseconds.
const PERIOD: i64 = 60 * 1_000_000;

fn object(project: &str) -> String {
    format!("{project}/clock")
}

async fn latest(metadata: &dyn MetadataStore, project: &str) -> Result<Option<Timestamp>> {
    let stored = metadata.get(&object(project)).await?;
    // One that cannot be read is as good as none: it is written anew.
    let text = stored.and_then(|stored| String::from_utf8(stored.value.to_vec()).ok());
    Ok(text.and_then(|text| text.parse().ok()))
}

/// Refuses a clock that is behind what it was before, and notes how late it is.
///
/// # Errors
/// [`Kind::Invalid`] says both times.
pub(crate) async fn check(
    metadata: &dyn MetadataStore,
    project: &str,
    now: Timestamp,
) -> Result<()> {
    let latest = latest(metadata, project).await?;
    if let Some(latest) = latest
        && now.plus_micros(TOLERANCE) < latest
    {
        let behind = duration_text(latest.as_micros() - now.as_micros());
        return Err(Error::new(
            Kind::Invalid,
            format!(
                "the machine's clock says {now}, which is {behind} before project `{project}` was last \
                 used, at {latest}: what is written now would be dated wrongly. Set the clock right; or \
                 if it was wrong then, say `wafer doctor --accept-clock`"
            ),
        ));
    }
    if latest.is_none_or(|latest| latest.plus_micros(PERIOD) <= now) {
        accept(metadata, project, now).await?;
    }
    Ok(())
}

async fn accept(metadata: &dyn MetadataStore, project: &str, now: Timestamp) -> Result<()> {
    let value = Bytes::from(now.to_string());
    metadata
        .put(&object(project), value, Expect::Anything)
        .await?;
    Ok(())
}

impl Context {
    /// Compares the machine's clock with what it was before, and notes it.
    ///
    /// # Errors
    /// [`Kind::Invalid`] when it was set back.
    pub async fn check_clock(&self) -> Result<()> {
        let now = self.machine_now();
        check(self.components().metadata.as_ref(), self.project(), now).await
    }

    /// Takes the machine's clock as right, whatever it was before.
    ///
    /// # Errors
    /// Those of the metadata store.
    pub async fn accept_clock(&self) -> Result<()> {
        let now = self.machine_now();
        accept(self.components().metadata.as_ref(), self.project(), now).await
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
        // As much as machines may differ.
        check("2026-01-01T11:56:00Z").await.unwrap();
        let error = check("2026-01-01T11:00:00Z").await.unwrap_err();
        assert_eq!(error.kind(), Kind::Invalid);
        let said = error.to_string();
        for part in [
            "says 2026-01-01T11:00:00Z",
            "1h before",
            "at 2026-01-01T12:00:00Z",
        ] {
            assert!(said.contains(part), "{said}");
        }
        // It goes on, and what it was then counts.
        check("2026-01-01T13:00:00Z").await.unwrap();
        check("2026-01-01T12:00:00Z").await.unwrap_err();
        accept(&store, "p", at("2026-01-01T12:00:00Z"))
            .await
            .unwrap();
        check("2026-01-01T12:00:00Z").await.unwrap();
        // Another project has seen nothing yet.
        super::check(&store, "q", at("2020-01-01")).await.unwrap();
    }
}
