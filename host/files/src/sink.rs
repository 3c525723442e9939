//! A file that is written, and digested, by threads of their own.

use std::fs::File;
use std::io::{Error, Result, Write};
use std::sync::mpsc::{SyncSender, sync_channel};
use std::thread::JoinHandle;

use wafer_core::{Digest, Hasher};

/// Bytes that go to the thread at once.
const BUFFER: usize = 1 << 20;

/// Buffers that may wait for it.
const WAITING: usize = 4;

/// Takes the bytes of a file, which threads of its own write and digest.
pub struct Sink {
    buffer: Vec<u8>,
    sender: SyncSender<Vec<u8>>,
    /// Absent once it has stopped at an error.
    writing: Option<JoinHandle<Result<Digest>>>,
}

impl std::fmt::Debug for Sink {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Sink").finish_non_exhaustive()
    }
}

impl Sink {
    /// Starts the threads that write and digest a file.
    pub fn new(mut file: File) -> Self {
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
                taken.map_err(|_| Error::other("the file's digest was given up"))?;
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

    /// Writes the bytes that are left; returns the digest of all bytes.
    ///
    /// # Errors
    /// Returns the error of the write that failed, whichever it was.
    pub fn finish(mut self) -> Result<Digest> {
        let rest = std::mem::take(&mut self.buffer);
        self.send(rest)?;
        let Self {
            sender, writing, ..
        } = self;
        drop(sender);
        stopped(writing)
    }

    fn send(&mut self, bytes: Vec<u8>) -> Result<()> {
        if self.sender.send(bytes).is_ok() {
            return Ok(());
        }
        stopped(self.writing.take()).map(drop)
    }
}

/// What a thread ended with.
fn stopped(writing: Option<JoinHandle<Result<Digest>>>) -> Result<Digest> {
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
        // Readers find the file under its name once it is finished.
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_file_has_what_was_written_and_its_digest() {
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
