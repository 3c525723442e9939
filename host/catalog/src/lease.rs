//! Leases on pieces of work, and their renewal while the work goes on.
//!
//! A lease is claimed with [`Context::lease`]. Work that takes longer than [`LEASE`] hands it to
//! [`Context::renewed`], which renews it in the background. If the process dies, renewal stops and
//! another process can claim the lease once it has run out; on the same machine at once, because
//! the next claim finds that the holder's process has ended. A process that could not renew its
//! lease in time stops the work ([`RenewedLease::during`]), because another one may do it now.

use std::future::Future;
use std::sync::Arc;
use std::sync::atomic::Ordering;

use tokio::sync::watch;
use wafer_core::Duration;
use wafer_store::{Error, Kind, Lease, Leased, MetadataStore, Result};

use crate::context::{Components, Context};

/// How long a lease that is renewed in the background lasts after each renewal.
pub const LEASE: Duration = Duration::from_secs(15);
/// The time between two renewals: short enough that a lease survives a failed one.
const RENEWAL: std::time::Duration = std::time::Duration::from_secs(5);

impl Context {
    /// Claims a piece of work for a time. Returns [`Leased::HeldBy`] if somebody
    /// else has claimed it. A lease of a process of this machine that has ended is taken over.
    ///
    /// # Errors
    /// Returns the errors of the metadata store.
    pub async fn lease(&self, name: &str, duration: Duration) -> Result<Leased> {
        let Components { stores, holder, .. } = self.components();
        let number = self.lease_numbers().0.fetch_add(1, Ordering::Relaxed);
        let holder = &format!("{holder}/{number}");
        let name = format!("{}/{name}", self.project());
        let claim = || {
            Lease::acquire(
                stores.metadata.as_ref(),
                &name,
                holder,
                self.machine_now(),
                duration,
            )
        };
        match claim().await? {
            Leased::HeldBy(other) if has_ended(&other, holder) => {
                // Acquiring the lease in its holder's name for zero time frees it.
                let now = self.machine_now();
                let _ =
                    Lease::acquire(stores.metadata.as_ref(), &name, &other, now, Duration::ZERO)
                        .await?;
                claim().await
            }
            leased => Ok(leased),
        }
    }

    /// Returns whether somebody has claimed a piece of work.
    ///
    /// # Errors
    /// Returns the errors of the metadata store.
    pub async fn is_leased(&self, name: &str) -> Result<bool> {
        let metadata = self.components().stores.metadata.as_ref();
        let name = format!("{}/{name}", self.project());
        Lease::is_held(metadata, &name, self.machine_now()).await
    }

    /// Renews a lease in the background until the returned guard is taken or ended.
    pub fn renewed(&self, mut lease: Lease) -> RenewedLease {
        let (stop, mut stopped) = tokio::sync::oneshot::channel::<()>();
        let metadata = Arc::clone(&self.components().stores.metadata);
        let clock = Arc::clone(&self.components().machine_clock);
        let store = Arc::clone(&metadata);
        let (tell, lost) = watch::channel(false);
        let task = tokio::spawn(async move {
            let mut ends = clock.now().plus(LEASE);
            while tokio::time::timeout(RENEWAL, &mut stopped).await.is_err() {
                let now = clock.now();
                let Err(error) = lease.renew(store.as_ref(), now, LEASE).await else {
                    ends = now.plus(LEASE);
                    continue;
                };
                tracing::warn!("the lease of a run could not be renewed: {}", error.chain());
                if error.kind() == Kind::Conflict || clock.now() >= ends {
                    let _ = tell.send(true);
                    break;
                }
            }
            lease
        });
        RenewedLease {
            stop,
            lost,
            task,
            metadata,
        }
    }
}

/// A lease that is renewed in the background.
#[derive(Debug)]
pub struct RenewedLease {
    stop: tokio::sync::oneshot::Sender<()>,
    /// Becomes true when the lease was lost.
    lost: watch::Receiver<bool>,
    task: tokio::task::JoinHandle<Lease>,
    metadata: Arc<dyn MetadataStore>,
}

impl RenewedLease {
    /// Does work under the lease, and then releases it. The work is stopped where it waits when
    /// the lease is lost, as if the process had died.
    ///
    /// # Errors
    /// Returns the error of the work, and [`Kind::Conflict`] when the lease was lost.
    pub async fn during<T>(self, work: impl Future<Output = Result<T>>) -> Result<T> {
        let mut lost = self.lost.clone();
        let was_lost = async move { lost.wait_for(|lost| *lost).await.is_ok() };
        let result = tokio::select! {
            result = work => result,
            true = was_lost => Err(Error::new(
                Kind::Conflict,
                "the work was stopped, because its lease could not be renewed in time and another \
                 process may have taken it over; `wafer runs` shows how it ended, and repeating it \
                 is safe",
            )),
        };
        self.end().await;
        result
    }

    /// Stops the renewal and returns the lease, or `None` when the process is stopping.
    pub async fn take(self) -> Option<Lease> {
        let _ = self.stop.send(());
        self.task.await.ok()
    }

    /// Stops the renewal and releases the lease. A failure is only logged, because the lease then
    /// runs out by itself.
    pub async fn end(self) {
        let metadata = Arc::clone(&self.metadata);
        if let Some(lease) = self.take().await
            && let Err(error) = lease.release(metadata.as_ref()).await
        {
            tracing::warn!("the lease of a run could not be released: {error}");
        }
    }
}

/// Returns whether a holder was a process of this machine that has ended. Names of holders are
/// `HOST/PROCESS/CLAIM`.
fn has_ended(holder: &str, own: &str) -> bool {
    let host_and_process = |holder: &str| -> Option<(String, u32)> {
        let mut parts = holder.split('/');
        let host = parts.next()?.to_owned();
        Some((host, parts.next()?.parse().ok()?))
    };
    match (host_and_process(holder), host_and_process(own)) {
        (Some((host, process)), Some((own_host, _))) if host == own_host => {
            std::path::Path::new("/proc/self").exists()
                && !std::path::Path::new(&format!("/proc/{process}")).exists()
        }
        _ => false,
    }
}

#[cfg(test)]
mod tests {
    use wafer_core::Timestamp;
    use wafer_store::MemoryStore;

    use super::*;

    #[tokio::test]
    async fn work_is_stopped_when_its_lease_is_lost_and_its_result_returned_otherwise() {
        let store: Arc<dyn MetadataStore> = Arc::new(MemoryStore::default());
        for is_lost in [true, false] {
            let now = Timestamp::from_micros(0);
            let leased = Lease::acquire(store.as_ref(), "p/l", "me", now, LEASE).await;
            let Leased::Mine(lease) = leased.unwrap() else {
                panic!("nobody else holds it")
            };
            let (stop, _stopped) = tokio::sync::oneshot::channel();
            let (_tell, lost) = watch::channel(is_lost);
            let renewed = RenewedLease {
                stop,
                lost,
                task: tokio::spawn(async move { lease }),
                metadata: Arc::clone(&store),
            };
            let work = async {
                if is_lost {
                    std::future::pending::<()>().await;
                }
                Ok(7)
            };
            let done = renewed.during(work).await.map_err(|e| e.kind());
            let wanted = match is_lost {
                true => Err(Kind::Conflict),
                false => Ok(7),
            };
            assert_eq!(done, wanted);
        }
    }

    #[test]
    fn only_an_ended_process_of_this_machine_loses_its_lease() {
        let own = format!("here/{}/7", std::process::id());
        // The kernel limits process numbers to 2^22.
        let gone = "here/99999999/0";
        for (holder, wanted) in [
            (gone, true),
            ("there/99999999/0", false),
            ("distributed run 20260101T000000.000000Z-p.1", false),
            (own.as_str(), false),
        ] {
            assert_eq!(has_ended(holder, &own), wanted, "{holder}");
        }
    }
}
