//! The child processes that decode Arrow and Parquet files.
//!
//! A worker is this program, started with the arguments that [`decode_in_child`] was told. It
//! decodes one file after the other: over a socket it gets each open file with a [`Request`], and
//! answers with frames, of which one has the metadata of the file and the others a batch each, in
//! the Arrow IPC format, with what is wrong with its rows. Its memory is limited in proportion to
//! the file, and so is the time of each step. A worker that ended by itself has met a file that it
//! did not survive, which is refused. One whose answer is not read to the end is ended.

use std::collections::BTreeMap;
use std::fs::File;
use std::io::{self, Cursor, IoSlice, IoSliceMut, Read, Write};
use std::mem::MaybeUninit;
use std::os::fd::{AsFd as _, OwnedFd};
use std::os::unix::net::UnixStream;
use std::os::unix::process::CommandExt as _;
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, OnceLock, PoisonError};
use std::time::Duration;

use arrow_array::cast::AsArray as _;
use arrow_array::{ArrayRef, RecordBatch, RecordBatchOptions};
use arrow_ipc::reader::StreamReader;
use arrow_ipc::writer::StreamWriter;
use arrow_schema::{ArrowError, DataType as ArrowType, Schema, SchemaRef};
use rustix::net::{
    RecvAncillaryBuffer, RecvAncillaryMessage, RecvFlags, SendAncillaryBuffer,
    SendAncillaryMessage, SendFlags, recvmsg, sendmsg,
};
use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
use serde::{Deserialize, Serialize};
use wafer_store::{Error, Kind, Result};

use super::{Batches, Decoded, DecodedBatch, Request, guarded};
use crate::plain_size::first_rows;
use crate::unreadable;

/// The memory that a worker may use beside what the file is allowed, in bytes. The program itself
/// takes a part of it.
const MEMORY_BYTES: u64 = 512 << 20;
/// The part of it that the program itself takes, and what it sends.
const PROGRAM_BYTES: u64 = 256 << 20;
/// How much address space the allocator of the program reserves at once, if it is mimalloc. By
/// default it reserves 1 GiB before `main` is called, which is more than a worker may have:
/// <https://microsoft.github.io/mimalloc/environment.html>.
const ALLOCATOR_RESERVE: (&str, &str) = ("MIMALLOC_ARENA_RESERVE", "32MiB");
/// What a worker may use for each byte of a file. Decoded rows take more room than encoded ones.
const MEMORY_PER_BYTE: u64 = 8;
/// The longest time that a worker may take to open a file, or for one batch of it.
const STEP_SECONDS: u64 = 60;
/// The exit code of a worker that took too much time.
const TOO_SLOW: i32 = 75;
/// The number of workers that wait for the next file.
const MAX_IDLE: usize = 4;
/// What a frame may have beside values and the bytes of the file: the descriptions of columns, and
/// what is wrong with rows.
const FRAME_ROOM: u64 = 4 << 20;
/// The greatest length of a request. It names the columns of a file.
const MAX_REQUEST_BYTES: u64 = 64 << 20;

/// The kinds of frames.
const OPENED: u8 = 1;
const BATCH: u8 = 2;
const END: u8 = 3;
const FAILED: u8 = 4;

/// How a worker is started.
#[derive(Debug)]
pub(super) struct Program {
    path: PathBuf,
    arguments: Vec<String>,
}

static PROGRAM: OnceLock<Program> = OnceLock::new();
static IDLE: Mutex<Vec<Worker>> = Mutex::new(Vec::new());

/// Lets this process decode Arrow and Parquet files in child processes: the program at `path`,
/// started with `arguments`, must call [`decode_worker`]. Until this is called, files are decoded
/// in the process itself, where only panics become errors. Further calls have no effect.
pub fn decode_in_child(path: PathBuf, arguments: Vec<String>) {
    let _ = PROGRAM.set(Program { path, arguments });
}

/// Returns a path by which this program can be started again, even if its file was replaced.
///
/// # Errors
/// Returns an error when the system does not tell.
pub fn this_program() -> io::Result<PathBuf> {
    let running = PathBuf::from("/proc/self/exe");
    match running.exists() {
        true => Ok(running),
        false => std::env::current_exe(),
    }
}

pub(super) fn program() -> Option<&'static Program> {
    PROGRAM.get()
}

/// What the first frame of an answer begins with. The schema of the file follows.
#[derive(Serialize, Deserialize)]
struct Opening {
    rows: Option<u64>,
}

/// An error that a worker found.
#[derive(Serialize, Deserialize)]
struct WorkerFailure {
    message: String,
    cause: Option<String>,
}

// The side of the reading process.

/// Opens a file in a worker.
pub(super) fn open(program: &Program, request: &Request, file: &File) -> Result<Decoded> {
    let bytes = file.metadata().map_err(|e| unreadable(request.path(), e))?;
    let mut answer = WorkerRows {
        request: request.clone(),
        limit: memory_limit(bytes.len()),
        most_frame: frame_limit(request, bytes.len()),
        worker: Some(Worker::take(program, request, file)?),
    };
    let (kind, frame) = answer.frame()?;
    if kind != OPENED {
        return Err(answer.broken());
    }
    let first = guarded(request, || Ok(opened(&frame)))?;
    let (opening, schema) = first.ok_or_else(|| answer.broken())?;
    let batches: Batches = Box::new(answer);
    Ok(Decoded {
        schema,
        rows: opening.rows,
        batches,
    })
}

/// A child process that waits for a request, or answers one.
#[derive(Debug)]
struct Worker {
    child: Child,
    socket: UnixStream,
}

impl Drop for Worker {
    fn drop(&mut self) {
        // It fails if the child has ended already.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

impl Worker {
    /// Hands a file to a worker that waits, or to a new one.
    fn take(program: &Program, request: &Request, file: &File) -> Result<Self> {
        while let Some(mut worker) = next_idle() {
            // It may have been ended from outside.
            if matches!(worker.child.try_wait(), Ok(None)) && worker.send(request, file).is_ok() {
                return Ok(worker);
            }
        }
        let failed = |e: io::Error| {
            let message = "the child process that decodes files cannot be started";
            Error::caused(Kind::Unavailable, message, e)
        };
        let worker = Self::start(program).map_err(failed)?;
        worker.send(request, file).map_err(failed)?;
        Ok(worker)
    }

    fn start(program: &Program) -> io::Result<Self> {
        let (socket, theirs) = UnixStream::pair()?;
        let child = Command::new(&program.path)
            .args(&program.arguments)
            .env(ALLOCATOR_RESERVE.0, ALLOCATOR_RESERVE.1)
            .stdin(Stdio::from(OwnedFd::from(theirs)))
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            // An interrupt from the terminal goes to this process alone, which ends its work in
            // order. A worker ends when its socket is closed.
            .process_group(0)
            .spawn()?;
        Ok(Self { child, socket })
    }

    /// Sends a file and what is to be read from it.
    fn send(&self, request: &Request, file: &File) -> io::Result<()> {
        let request = serde_json::to_vec(request)?;
        let files = [file.as_fd()];
        let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(1))];
        let mut control = SendAncillaryBuffer::new(&mut space);
        if !control.push(SendAncillaryMessage::ScmRights(&files)) {
            return Err(io::Error::other("no room for an open file"));
        }
        let length = (request.len() as u64).to_le_bytes();
        // A part of so few bytes is never sent.
        sendmsg(
            &self.socket,
            &[IoSlice::new(&length)],
            &mut control,
            SendFlags::NOSIGNAL,
        )?;
        (&self.socket).write_all(&request)
    }

    /// Says why the process ended, after it has, and what to do. A file need not be damaged to take
    /// too much time or memory.
    fn end(&mut self, limit: u64) -> String {
        let status = self.child.wait();
        match status.map(|status| status.code()) {
            Ok(Some(TOO_SLOW)) => format!(
                "a part of it takes more than {STEP_SECONDS} s to read: write it again, in smaller \
                 row groups or batches"
            ),
            _ => format!(
                "a part of it takes more than {} MiB of memory to read, which is the most for a \
                 file of this size, or it is damaged and its reader did not survive it: write it \
                 again, in smaller row groups or batches",
                limit >> 20
            ),
        }
    }
}

fn next_idle() -> Option<Worker> {
    idle().pop()
}

fn idle() -> std::sync::MutexGuard<'static, Vec<Worker>> {
    IDLE.lock().unwrap_or_else(PoisonError::into_inner)
}

/// The answer of a worker.
struct WorkerRows {
    request: Request,
    /// The memory that the worker may use.
    limit: u64,
    /// The greatest length of a frame.
    most_frame: u64,
    /// `None` once the answer has ended.
    worker: Option<Worker>,
}

impl WorkerRows {
    /// Reads the next frame: its kind and content.
    fn frame(&mut self) -> Result<(u8, Vec<u8>)> {
        let Some(worker) = &self.worker else {
            return Ok((END, Vec::new()));
        };
        match read_frame(&worker.socket, self.most_frame) {
            Ok((END, frame)) => {
                self.keep_worker();
                Ok((END, frame))
            }
            Ok((FAILED, frame)) => {
                self.keep_worker();
                Err(failure(&frame))
            }
            Ok(frame) => Ok(frame),
            Err(error) => Err(self.ended(error)),
        }
    }

    /// Lets the worker wait for the next file, unless enough of them do.
    fn keep_worker(&mut self) {
        let mut idle = idle();
        if idle.len() < MAX_IDLE {
            idle.extend(self.worker.take());
        }
        drop(idle);
        self.worker = None;
    }

    /// Returns the error of a worker that has closed its socket.
    fn ended(&mut self, error: io::Error) -> Error {
        use io::ErrorKind::{ConnectionReset, UnexpectedEof};
        let is_gone = matches!(error.kind(), UnexpectedEof | ConnectionReset);
        match self.worker.take() {
            Some(mut worker) if is_gone => {
                let why = worker.end(self.limit);
                Error::invalid(format!("{} cannot be read: {why}", self.request.path))
            }
            _ => unreadable(self.request.path(), error),
        }
    }

    /// Returns the error of an answer that this process does not understand.
    fn broken(&mut self) -> Error {
        self.worker = None;
        let message = "the child process that decodes files is not of this version of Wafer";
        Error::new(Kind::Internal, message)
    }

    fn batch(&mut self) -> Result<Option<DecodedBatch>> {
        match self.frame()? {
            (END, _) => Ok(None),
            (BATCH, frame) => {
                let batch = guarded(&self.request, || Ok(decoded(&frame)))?;
                batch.map(Some).ok_or_else(|| self.broken())
            }
            _ => Err(self.broken()),
        }
    }
}

impl Iterator for WorkerRows {
    type Item = Result<DecodedBatch>;

    fn next(&mut self) -> Option<Self::Item> {
        let batch = self.batch();
        if batch.is_err() {
            self.worker = None;
        }
        batch.transpose()
    }
}

/// Reads the content of the first frame.
fn opened(frame: &[u8]) -> Option<(Opening, SchemaRef)> {
    let (opening, schema) = parts(frame)?;
    let schema = StreamReader::try_new(Cursor::new(schema), None).ok()?;
    Some((serde_json::from_slice(opening).ok()?, schema.schema()))
}

/// Reads the batch of a frame.
fn decoded(frame: &[u8]) -> Option<DecodedBatch> {
    let (faults, rows) = parts(frame)?;
    let faults: BTreeMap<usize, String> = serde_json::from_slice(faults).ok()?;
    let mut reader = StreamReader::try_new(Cursor::new(rows), None).ok()?;
    let rows = reader.next()?.ok()?;
    Some(DecodedBatch { rows, faults })
}

/// Splits a frame into its JSON, whose length is before it, and an Arrow IPC stream.
fn parts(frame: &[u8]) -> Option<(&[u8], &[u8])> {
    let (length, rest) = frame.split_at_checked(8)?;
    let length = u64::from_le_bytes(length.try_into().ok()?);
    rest.split_at_checked(usize::try_from(length).ok()?)
}

fn failure(frame: &[u8]) -> Error {
    match serde_json::from_slice(frame) {
        Ok(WorkerFailure {
            message,
            cause: Some(cause),
        }) => Error::caused(Kind::Invalid, message, cause),
        Ok(WorkerFailure { message, .. }) => Error::invalid(message),
        Err(error) => Error::caused(Kind::Internal, "an error cannot be read", error),
    }
}

fn read_frame(mut socket: &UnixStream, limit: u64) -> io::Result<(u8, Vec<u8>)> {
    let mut head = [0; 9];
    socket.read_exact(&mut head)?;
    let [kind, length @ ..] = head;
    let length = u64::from_le_bytes(length);
    if length > limit {
        return Err(io::Error::other("a frame is longer than a worker may send"));
    }
    let mut frame = vec![0; usize::try_from(length).map_err(io::Error::other)?];
    socket.read_exact(&mut frame)?;
    Ok((kind, frame))
}

// The side of the child process.

/// Decodes files in a child process, until the process that started it closes the socket, which is
/// the standard input. Returns the exit code for the process.
pub fn decode_worker() -> i32 {
    // Panics are answered as errors.
    std::panic::set_hook(Box::new(|_| {}));
    let Ok(socket) = io::stdin().as_fd().try_clone_to_owned() else {
        return 1;
    };
    let socket = UnixStream::from(socket);
    let steps = Steps::watched();
    loop {
        let answered = match receive(&socket) {
            Ok(Some((request, file))) => answer(&socket, &steps, request, file),
            Ok(None) => return 0,
            Err(error) => Err(error),
        };
        if answered.is_err() {
            return 1;
        }
    }
}

/// Receives a file and what is to be read from it; `None` when the socket was closed.
fn receive(mut socket: &UnixStream) -> io::Result<Option<(Request, File)>> {
    let mut length = [0; 8];
    let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(1))];
    let mut control = RecvAncillaryBuffer::new(&mut space);
    let received = recvmsg(
        socket,
        &mut [IoSliceMut::new(&mut length)],
        &mut control,
        RecvFlags::empty(),
    )?;
    if received.bytes == 0 {
        return Ok(None);
    }
    let file = control.drain().find_map(|message| match message {
        RecvAncillaryMessage::ScmRights(mut files) => files.next(),
        _ => None,
    });
    let file = file.ok_or_else(|| io::Error::other("a request without a file"))?;
    socket.read_exact(&mut length[received.bytes..])?;
    let mut request = Vec::new();
    let length = u64::from_le_bytes(length).min(MAX_REQUEST_BYTES);
    socket.take(length).read_to_end(&mut request)?;
    Ok(Some((serde_json::from_slice(&request)?, File::from(file))))
}

/// Why the answer to a request ended early.
enum Ended {
    /// The file cannot be read.
    File(Error),
    /// The other process does not listen.
    Socket(io::Error),
}

impl From<Error> for Ended {
    fn from(error: Error) -> Self {
        Self::File(error)
    }
}

impl From<io::Error> for Ended {
    fn from(error: io::Error) -> Self {
        Self::Socket(error)
    }
}

/// Decodes a file and sends what it has.
fn answer(socket: &UnixStream, steps: &Steps, request: Request, file: File) -> io::Result<()> {
    let file_bytes = file.metadata()?.len();
    limit_memory(file_bytes);
    let most_frame = frame_limit(&request, file_bytes);
    match send_file(socket, steps, request, (file, most_frame)) {
        Ok(()) => send_frame(socket, END, &[]),
        Err(Ended::File(error)) => send_failure(socket, &error),
        Err(Ended::Socket(error)) => Err(error),
    }
}

fn send_file(
    socket: &UnixStream,
    steps: &Steps,
    request: Request,
    (file, most_frame): (File, u64),
) -> Result<(), Ended> {
    let Decoded {
        schema,
        rows,
        mut batches,
    } = steps.step(|| request.clone().open_here(file))?;
    let first = steps.step(|| guarded(&request, || opening(&request, rows, &schema)))?;
    send_frame(socket, OPENED, &first)?;
    let mut fields = schema.fields().iter();
    let most = match fields.any(|field| has_union(field.data_type())) {
        true => PieceSize::Whole,
        false => PieceSize::Bounded,
    };
    let mut next_row = 0;
    while let Some(batch) = steps.step(|| batches.next()) {
        let mut rest = batch?;
        while rest.rows.num_rows() > 0 {
            let (first, left) = (next_row, rest.rows.num_rows());
            let encode = || {
                let piece = first_piece(&request, &mut rest, most);
                request.check_rows(first, &piece.rows)?;
                frame(&request, &piece.faults, &schema, Some(&piece.rows))
            };
            let frame = steps.step(|| guarded(&request, encode))?;
            check_frame(&request, first, frame.len() as u64, most_frame)?;
            send_frame(socket, BATCH, &frame)?;
            next_row += (left - rest.rows.num_rows()) as u64;
        }
    }
    Ok(())
}

/// Checks the length of a frame before it is sent.
///
/// # Errors
/// Returns [`Kind::Invalid`] for one that is too long: rows refer to more than their own values,
/// such as a dictionary, or cannot be divided.
fn check_frame(request: &Request, first: u64, length: u64, most: u64) -> Result<()> {
    match length > most {
        true => Err(Error::invalid(format!(
            "{}: row {first}: what it and the next rows refer to takes {} MiB; at most {} MiB are \
             read at once: write plain columns instead of dictionaries and unions, or smaller batches",
            request.path,
            length >> 20,
            most >> 20
        ))),
        false => Ok(()),
    }
}

/// How much of a batch is sent at once.
#[derive(Clone, Copy)]
enum PieceSize {
    /// All of it.
    Whole,
    /// As much as the other process should hold.
    Bounded,
}

/// Takes the first rows of a batch.
fn first_piece(request: &Request, rest: &mut DecodedBatch, most: PieceSize) -> DecodedBatch {
    let count = match most {
        PieceSize::Whole => rest.rows.num_rows(),
        PieceSize::Bounded => first_rows(&rest.rows, usize::MAX, request.piece_bytes).num_rows(),
    };
    let mut piece = rest.take_first(count);
    piece.rows = compact(piece.rows);
    piece
}

/// Returns rows whose views refer to no more than their own values. The parts of a batch share its
/// buffers, and each part would be sent with all of them.
fn compact(rows: RecordBatch) -> RecordBatch {
    let columns = rows.columns().iter().map(|column| {
        let compacted: ArrayRef = match column.data_type() {
            ArrowType::Utf8View => Arc::new(column.as_string_view().gc()),
            ArrowType::BinaryView => Arc::new(column.as_binary_view().gc()),
            _ => Arc::clone(column),
        };
        compacted
    });
    let columns = columns.collect();
    let options = RecordBatchOptions::new().with_row_count(Some(rows.num_rows()));
    let compacted = RecordBatch::try_new_with_options(rows.schema(), columns, &options);
    compacted.expect("the types and lengths are the same")
}

/// Returns whether a type has a union in it, whose arrays are not written correctly in parts.
fn has_union(data_type: &ArrowType) -> bool {
    match data_type {
        ArrowType::Union(..) => true,
        ArrowType::Struct(fields) => fields.iter().any(|field| has_union(field.data_type())),
        ArrowType::List(item)
        | ArrowType::LargeList(item)
        | ArrowType::ListView(item)
        | ArrowType::LargeListView(item)
        | ArrowType::FixedSizeList(item, _)
        | ArrowType::Map(item, _) => has_union(item.data_type()),
        _ => false,
    }
}

fn opening(request: &Request, rows: Option<u64>, schema: &Schema) -> Result<Vec<u8>> {
    frame(request, &Opening { rows }, schema, None)
}

/// Encodes a frame of JSON, with its length before it, and an Arrow IPC stream.
fn frame(
    request: &Request,
    json: &impl Serialize,
    schema: &Schema,
    batch: Option<&RecordBatch>,
) -> Result<Vec<u8>> {
    let json = serde_json::to_vec(json).map_err(|e| unreadable(request.path(), e))?;
    let mut frame = (json.len() as u64).to_le_bytes().to_vec();
    frame.extend_from_slice(&json);
    frame.extend_from_slice(&encoded(request, schema, batch)?);
    Ok(frame)
}

/// Encodes a batch, or only the schema, as an Arrow IPC stream.
fn encoded(request: &Request, schema: &Schema, batch: Option<&RecordBatch>) -> Result<Vec<u8>> {
    let encode = || {
        let mut writer = StreamWriter::try_new(Vec::new(), schema)?;
        if let Some(batch) = batch {
            writer.write(batch)?;
        }
        writer.into_inner()
    };
    encode().map_err(|e: ArrowError| unreadable(request.path(), e))
}

fn send_failure(socket: &UnixStream, error: &Error) -> io::Result<()> {
    let cause = std::error::Error::source(error);
    let failure = WorkerFailure {
        message: error.to_string(),
        cause: cause.map(wafer_core::cut),
    };
    send_frame(socket, FAILED, &serde_json::to_vec(&failure)?)
}

fn send_frame(mut socket: &UnixStream, kind: u8, frame: &[u8]) -> io::Result<()> {
    let [a, b, c, d, e, f, g, h] = (frame.len() as u64).to_le_bytes();
    socket.write_all(&[kind, a, b, c, d, e, f, g, h])?;
    socket.write_all(frame)
}

/// Returns the greatest length of a frame for a file of this size: a piece or a row, with what it
/// refers to, and the schema, whose names and metadata are in the file as they are.
fn frame_limit(request: &Request, file_bytes: u64) -> u64 {
    let values = request.piece_bytes.max(request.row_bytes);
    values
        .saturating_mul(2)
        .saturating_add(file_bytes)
        .saturating_add(FRAME_ROOM)
}

/// Returns the memory that a worker may use for a file of this size.
fn memory_limit(file_bytes: u64) -> u64 {
    MEMORY_BYTES.saturating_add(file_bytes.saturating_mul(MEMORY_PER_BYTE))
}

/// Returns how much the buffers that are decompressed at once may take, of a file of this size:
/// what a worker has beside the program.
pub(super) fn decompressed_limit(file_bytes: u64) -> u64 {
    memory_limit(file_bytes) - PROGRAM_BYTES
}

/// Limits the memory of this process for a file of this size. What the system limits is address
/// space, of which the allocator reserves up to half as much again as it uses.
fn limit_memory(file_bytes: u64) {
    let maximum = getrlimit(Resource::As).maximum;
    let wanted = memory_limit(file_bytes).saturating_mul(3) / 2;
    let limit = Rlimit {
        current: Some(maximum.map_or(wanted, |maximum| maximum.min(wanted))),
        maximum,
    };
    // It fails where a system has no such limit. The other limits still hold there.
    let _ = setrlimit(Resource::As, limit);
}

/// Counts the steps of a worker, and ends the process when one takes too long.
struct Steps(&'static AtomicU64);

impl Steps {
    /// Starts the thread that watches the steps.
    fn watched() -> Self {
        // The number of steps that were begun and ended: it is odd during a step.
        static COUNT: AtomicU64 = AtomicU64::new(0);
        std::thread::spawn(|| {
            let (mut seen, mut seconds) = (0, 0);
            loop {
                std::thread::sleep(Duration::from_secs(1));
                let count = COUNT.load(Ordering::Relaxed);
                seconds = match count == seen && count % 2 == 1 {
                    true => seconds + 1,
                    false => 0,
                };
                seen = count;
                if seconds > STEP_SECONDS {
                    std::process::exit(TOO_SLOW);
                }
            }
        });
        Self(&COUNT)
    }

    fn step<T>(&self, work: impl FnOnce() -> T) -> T {
        self.0.fetch_add(1, Ordering::Relaxed);
        let result = work();
        self.0.fetch_add(1, Ordering::Relaxed);
        result
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_worker_that_ended_says_what_was_too_much_and_what_to_do() {
        for (code, wanted) in [
            (
                TOO_SLOW,
                "a part of it takes more than 60 s to read: write it again",
            ),
            (
                1,
                "a part of it takes more than 512 MiB of memory to read, which is the most",
            ),
        ] {
            let script = format!("exit {code}");
            let child = Command::new("sh").args(["-c", &script]).spawn().unwrap();
            let (socket, _) = UnixStream::pair().unwrap();
            let said = Worker { child, socket }.end(memory_limit(0));
            assert!(said.starts_with(wanted), "{said}");
        }
    }
}
