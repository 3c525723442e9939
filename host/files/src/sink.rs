//! A file that is written and digested on threads of its own.
//!
//! The caller fills buffers. One thread writes them to the file and passes them on to a second
//! thread, which digests them, so that encoding, writing and digesting go on at the same time.
//! Both queues are bounded.

use std::io::{Error, Result, Write};
use std::sync::mpsc::{SyncSender, sync_channel};
use std::thread::JoinHandle;

use wafer_core::{Digest, Hasher};

/// The size of a buffer, in bytes.
const BUFFER: usize = 1 << 20;

/// The maximum number of full buffers that wait for each thread.
const WAITING: usize = 4;

/// The bytes of a file, which threads of its own write and digest.
pub struct Sink {
    buffer: Vec<u8>,
    sender: SyncSender<Vec<u8>>,
    /// `None` once the thread has stopped at an error.
    writing: Option<JoinHandle<Result<Digest>>>,
}

impl std::fmt::Debug for Sink {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Sink").finish_non_exhaustive()
    }
}

impl Sink {
    /// Starts the threads that write and digest a file.
    pub fn new(mut file: impl Write + Send + 'static) -> Self {
        let (sender, buffers) = sync_channel::<Vec<u8>>(WAITING);
        let (written, digested) = sync_channel::<Vec<u8>>(WAITING);
        let digesting = std::thread::spawn(move || {
            let mut hasher = Hasher::new();
            digested.iter().for_each(|buffer| hasher.piece(&buffer));
            hasher.finish()
        });
        let writing = std::thread::spawn(move || {
            for buffer in buffers {
                file.write_all(&buffer)?;
                let taken = written.send(buffer);
                taken.map_err(|_| Error::other("the thread that digests the file has ended"))?;
            }
            drop(written);
            let digest = digesting.join();
            Ok(digest.unwrap_or_else(|panic| std::panic::resume_unwind(panic)))
        });
        Self {
            buffer: Vec::with_capacity(BUFFER),
            sender,
            writing: Some(writing),
        }
    }

    /// Writes the remaining bytes, and returns the digest of all bytes.
    ///
    /// # Errors
    /// Returns the error of the first write that failed, also if it belongs to earlier bytes.
    pub fn finish(mut self) -> Result<Digest> {
        let rest = std::mem::take(&mut self.buffer);
        self.send(rest)?;
        let Self {
            sender, writing, ..
        } = self;
        drop(sender);
        join_writer(writing)
    }

    /// Passes bytes on to the thread that writes. If it has stopped, returns its error.
    fn send(&mut self, bytes: Vec<u8>) -> Result<()> {
        if self.sender.send(bytes).is_ok() {
            return Ok(());
        }
        join_writer(self.writing.take()).map(drop)
    }
}

/// Waits for the thread that writes and returns its result. A panic of the thread is passed on.
fn join_writer(writing: Option<JoinHandle<Result<Digest>>>) -> Result<Digest> {
    let ended = writing.map(JoinHandle::join);
    match ended {
        Some(Ok(result)) => result,
        Some(Err(panic)) => std::panic::resume_unwind(panic),
        None => Err(Error::other("an earlier part of the file was not written")),
    }
}

impl Write for Sink {
    fn write(&mut self, bytes: &[u8]) -> Result<usize> {
        self.buffer.extend_from_slice(bytes);
        if self.buffer.len() >= BUFFER {
            let full = std::mem::replace(&mut self.buffer, Vec::with_capacity(BUFFER));
            self.send(full)?;
        }
        Ok(bytes.len())
    }

    fn flush(&mut self) -> Result<()> {
        // Nothing needs to be flushed early: readers find the file only after it is finished and
        // renamed.
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use std::fs::File;

    use super::*;

    #[test]
    fn the_written_file_and_its_digest_are_complete() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("file");
        let mut sink = Sink::new(File::create(&path).unwrap());
        let mut wanted = Vec::new();
        for round in 0..1_000u32 {
            let bytes = round.to_le_bytes().repeat(1 + round as usize * 7 % 5_000);
            sink.write_all(&bytes).unwrap();
            wanted.extend(bytes);
        }
        assert_eq!(sink.finish().unwrap(), Digest::of(&wanted));
        assert_eq!(std::fs::read(&path).unwrap(), wanted);
    }

    #[test]
    fn a_full_disk_is_an_error() {
        let mut sink = Sink::new(File::options().write(true).open("/dev/full").unwrap());
        let written = (0..64).try_for_each(|_| sink.write_all(&[0; 300_000]));
        assert_eq!(written.unwrap_err().kind(), std::io::ErrorKind::StorageFull);
        let mut sink = Sink::new(File::options().write(true).open("/dev/full").unwrap());
        sink.write_all(b"little").unwrap();
        let error = sink.finish().unwrap_err();
        assert_eq!(error.kind(), std::io::ErrorKind::StorageFull);
    }
}
