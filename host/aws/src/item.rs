//! Items of the online store: their content and its encoding as DynamoDB attributes.
//!
//! | attribute | type | content |
//! | --- | --- | --- |
//! | `n` | N | version of the item: rises with each write, and conditional writes compare it |
//! | `ver` | B | version of the row: event time and creation time (microseconds, big endian, sign bit flipped) and event identity, so that the bytes sort like row versions |
//! | `val` | B | fingerprint of the schema (8 bytes, little endian), then the packed features or the summary |
//! | `due` | B | early rows, which are not due yet, in MessagePack |
//! | `by` | B | [marks](Mark) of the commits that were added to the summary: 8 bytes name of the writer, 4 bytes number of the commit, 4 bytes minute, whose highest bit is [`Mark::alone`] (big endian) |
//! | `lost` | B | the version of the newest row for which the item had no room, in the form of `ver`: it holds less than was written, and is not answered |
//! | `parts` | S | `ID/COUNT`: `val` and `due` do not fit in one item, and are in items of the partitions `p/ID/…` |
//! | `expires` | N | time (seconds since the Unix epoch) after which DynamoDB may delete the item |

use aws_sdk_dynamodb::types::AttributeValue;
use bytes::Bytes;
use wafer_core::aggregate::is_item;
use wafer_core::rules::{RowVersion, replaces};
use wafer_core::{Duration, Timestamp};
use wafer_store::{Error, Kind, OnlineRow, Result, combine};

use crate::table::{Item, Key, MAX_VALUE, bytes, bytes_of, number, number_of, text, text_of};

/// Maximum number of parts of one item.
const MAX_PARTS: usize = 16;
/// Maximum size of an entity's state in all parts of its item, in bytes.
pub(crate) const MAX_STATE: usize = MAX_VALUE * MAX_PARTS;
/// Maximum size of the values of one row, in bytes. What summaries have beside the values of an
/// event fits into the rest of [`MAX_STATE`].
pub(crate) const MAX_ROW_BYTES: u64 = 4 << 20;

/// How many minutes an item keeps the mark of a commit after the commit is removed. Must exceed
/// the difference between the clocks of writers.
const KEEP_MARKS_FOR: u32 = 15;

/// Records in an item that a commit was added to its summary, so that it is not added twice.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Mark {
    /// Name of the writer.
    pub(crate) writer: u64,
    /// Number of the commit among those of its writer.
    pub(crate) number: u32,
    /// When the commit was added, in minutes since the Unix epoch by the machine's clock.
    pub(crate) minute: u32,
    /// Whether the mark says nothing about earlier commits of the writer.
    ///
    /// A writer makes one commit after the other, so usually the mark of its last commit
    /// implies the earlier ones. But commits reach an epoch that is being filled in any order.
    pub(crate) alone: bool,
}

/// Bit of an encoded minute that holds [`Mark::alone`].
const ALONE: u32 = 1 << 31;

/// When DynamoDB may delete an item: a second since the Unix epoch, as its time to live counts.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Expiry(i64);

impl Expiry {
    /// Returns the first second that begins after a time.
    pub(crate) fn after(time: Timestamp) -> Self {
        Self(Self::second_of(time) + 1)
    }

    /// Returns the expiry so much later.
    pub(crate) fn plus(self, duration: Duration) -> Self {
        Self(self.0 + duration.as_micros() / 1_000_000)
    }

    /// Returns whether the second has begun at a time.
    pub(crate) fn has_begun(self, now: Timestamp) -> bool {
        self.0 <= Self::second_of(now)
    }

    /// Returns whether the second has passed at a time.
    pub(crate) fn has_passed(self, now: Timestamp) -> bool {
        self.0 < Self::second_of(now)
    }

    /// Returns the value of the attribute.
    pub(crate) fn value(self) -> AttributeValue {
        number(self.0)
    }

    fn second_of(time: Timestamp) -> i64 {
        time.as_micros().div_euclid(1_000_000)
    }
}

/// A decoded item of the online store.
#[derive(Clone, Debug, Default, PartialEq)]
pub(crate) struct StoredItem {
    /// Version of the item; `None` if the item does not exist.
    pub(crate) version: Option<u64>,
    pub(crate) row: Option<OnlineRow>,
    /// Early rows with their due times, in ascending order.
    pub(crate) due: Vec<(Timestamp, OnlineRow)>,
    marks: Vec<Mark>,
    /// The version of the newest row that the item had no room for, until it has one that is as
    /// new.
    lost: Option<RowVersion>,
    /// When DynamoDB may delete the item; `None` means never.
    pub(crate) ttl: Option<Expiry>,
    pub(crate) parts: Option<Parts>,
}

/// The parts of an item that is too large for one DynamoDB item.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Parts {
    id: String,
    count: u16,
}

impl Parts {
    pub(crate) fn new(id: u64, count: usize) -> Self {
        Self {
            id: format!("{id:016x}"),
            count: count as u16,
        }
    }

    fn parse(text: &str) -> Option<Self> {
        let (id, count) = text.split_once('/')?;
        Some(Self {
            id: id.to_owned(),
            count: count.parse().ok()?,
        })
    }

    /// Returns the parts of an item, if it has any.
    pub(crate) fn of(item: &Item) -> Option<Self> {
        Self::parse(text_of(item, "parts")?)
    }

    pub(crate) fn keys(&self) -> Vec<Key> {
        // Each part has its own partition key, because all parts together would exceed the write
        // throughput of one partition.
        let part = |index: u16| Key::single(format!("p/{}/{index}", self.id));
        (0..self.count).map(part).collect()
    }
}

/// Encodes a row version so that the bytes sort like row versions.
pub(crate) fn version_bytes(version: RowVersion) -> [u8; 24] {
    let time = |time: Timestamp| (time.as_micros() ^ i64::MIN).to_be_bytes();
    let mut bytes = [0; 24];
    bytes[..8].copy_from_slice(&time(version.event));
    bytes[8..16].copy_from_slice(&time(version.created));
    bytes[16..].copy_from_slice(&version.order.to_be_bytes());
    bytes
}

pub(crate) fn version_of(bytes: &[u8]) -> Option<RowVersion> {
    let time = |at: usize| -> Option<Timestamp> {
        let bytes = bytes.get(at..at + 8)?.try_into().ok()?;
        Some(Timestamp::from_micros(i64::from_be_bytes(bytes) ^ i64::MIN))
    };
    Some(RowVersion {
        event: time(0)?,
        created: time(8)?,
        order: u64::from_be_bytes(bytes.get(16..24)?.try_into().ok()?),
    })
}

pub(crate) fn value_bytes(row: &OnlineRow) -> Vec<u8> {
    [&row.fingerprint.to_le_bytes()[..], &row.values].concat()
}

impl StoredItem {
    /// Decodes an item. If the item is in parts, `payload` is their content; without it, the
    /// row and the early rows are left empty. Returns `None` if the item is damaged.
    pub(crate) fn read(item: &Item, payload: Option<&[u8]>) -> Option<Self> {
        let parts = match text_of(item, "parts") {
            Some(text) => Some(Parts::parse(text)?),
            None => None,
        };
        let (value, due) = match (&parts, payload) {
            (Some(_), Some(payload)) => {
                let (length, rest) = payload.split_first_chunk::<4>()?;
                let length = u32::from_le_bytes(*length) as usize;
                let (value, due) = rest.split_at_checked(length)?;
                (Some(value), Some(due))
            }
            // The caller did not read the parts.
            (Some(_), None) => (None, None),
            (None, _) => (bytes_of(item, "val"), bytes_of(item, "due")),
        };
        let row = match (bytes_of(item, "ver"), value) {
            (Some(version), Some(value)) => {
                let (fingerprint, values) = value.split_first_chunk::<8>()?;
                Some(OnlineRow {
                    version: version_of(version)?,
                    fingerprint: u64::from_le_bytes(*fingerprint),
                    values: Bytes::copy_from_slice(values),
                })
            }
            _ => None,
        };
        Some(Self {
            version: Some(number_of(item, "n")?),
            row,
            due: match due {
                Some(due) if !due.is_empty() => rmp_serde::from_slice(due).ok()?,
                _ => Vec::new(),
            },
            marks: read_marks(bytes_of(item, "by").unwrap_or_default())?,
            lost: match bytes_of(item, "lost") {
                Some(version) => Some(version_of(version)?),
                None => None,
            },
            ttl: number_of(item, "expires").map(Expiry),
            parts,
        })
    }

    /// Encodes the row and the early rows as the content of parts: 4 bytes length of `val`
    /// (little endian), `val`, `due`.
    pub(crate) fn payload(&self) -> Vec<u8> {
        let value = self.row.as_ref().map_or_else(Vec::new, value_bytes);
        [
            &(value.len() as u32).to_le_bytes()[..],
            &value,
            &self.due_bytes(),
        ]
        .concat()
    }

    pub(crate) fn size(&self) -> usize {
        let value = self.row.as_ref().map_or(0, |row| row.values.len() + 8);
        let due = match self.due.is_empty() {
            true => 0,
            false => self.due_bytes().len(),
        };
        value + due
    }

    fn due_bytes(&self) -> Vec<u8> {
        match self.due.is_empty() {
            true => Vec::new(),
            false => rmp_serde::to_vec(&self.due).expect("plain data"),
        }
    }

    /// Encodes the item with the next version. If `parts` is given, `val` and `due` are left
    /// out, because the parts hold them.
    pub(crate) fn write(&self, key: &Key, parts: Option<&Parts>) -> Item {
        let mut item = key.item();
        item.insert("n".to_owned(), number(self.version.unwrap_or(0) + 1));
        if let Some(row) = &self.row {
            item.insert("ver".to_owned(), bytes(&version_bytes(row.version)));
            if parts.is_none() {
                item.insert("val".to_owned(), bytes(&value_bytes(row)));
            }
        }
        if !self.due.is_empty() && parts.is_none() {
            item.insert("due".to_owned(), bytes(&self.due_bytes()));
        }
        if !self.marks.is_empty() {
            item.insert("by".to_owned(), bytes(&mark_bytes(&self.marks)));
        }
        if let Some(lost) = self.lost {
            item.insert("lost".to_owned(), bytes(&version_bytes(lost)));
        }
        if let Some(ttl) = self.ttl {
            item.insert("expires".to_owned(), ttl.value());
        }
        if let Some(Parts { id, count }) = parts {
            item.insert("parts".to_owned(), text(&format!("{id}/{count}")));
        }
        item
    }

    /// Returns the row of a group as it is at `now`, with due early rows applied.
    ///
    /// # Errors
    /// Returns [`Kind::Invalid`] for an item that [lacks rows](Self::lose).
    pub(crate) fn into_row_at(mut self, group: &str, now: Timestamp) -> Result<Option<OnlineRow>> {
        self.take_due(now)?;
        match self.is_whole() {
            true => Ok(self.row),
            false => Err(incomplete(group)),
        }
    }

    /// Returns whether the item lacks none of the rows that were written.
    pub(crate) fn is_whole(&self) -> bool {
        self.lost.is_none()
    }

    /// Applies the early rows that are due at `now`.
    pub(crate) fn take_due(&mut self, now: Timestamp) -> Result<()> {
        let due: Vec<_> = self.due.extract_if(.., |(due, _)| *due <= now).collect();
        for (_, early) in due {
            if let Some(combined) = combine(self.row.as_ref(), &early)? {
                self.set(combined);
            }
        }
        Ok(())
    }

    /// Replaces the row. A row that is as new as all that the item lacks makes up for them. A
    /// summary never does, because it would need all of them.
    fn set(&mut self, row: OnlineRow) {
        let is_lacking = |lost: &RowVersion| is_item(&row.values) || row.version < *lost;
        self.lost = self.lost.filter(is_lacking);
        self.row = Some(row);
    }

    /// Drops what the item holds, because there is no room for all of it, or for a row of the
    /// version `newest`. Reads of the item fail then, instead of being answered by older rows.
    pub(crate) fn lose(&mut self, newest: Option<RowVersion>, ttl: Option<Expiry>) {
        self.keep(ttl);
        let due = std::mem::take(&mut self.due);
        let rows = self.row.take().into_iter();
        let rows = rows.chain(due.into_iter().map(|(_, row)| row));
        let versions = rows.map(|row| row.version).chain(newest);
        self.lost = versions.chain(self.lost).max();
    }

    /// Adds a row or a summary by [`combine`], and returns whether that changed anything.
    pub(crate) fn add(&mut self, row: &OnlineRow, ttl: Option<Expiry>) -> Result<bool> {
        let Some(combined) = combine(self.row.as_ref(), row)? else {
            return Ok(false);
        };
        self.keep(ttl);
        self.set(combined);
        Ok(true)
    }

    /// Adds an early row.
    pub(crate) fn add_early(&mut self, due: Timestamp, row: OnlineRow, ttl: Option<Expiry>) {
        self.keep(ttl);
        self.due.push((due, row));
        self.due.sort_by_key(|(due, _)| *due);
    }

    /// Deletes the entity: replaces all rows up to the time `deleted` by a tombstone. A newer row
    /// stays; a summary is removed as a whole. The item lacks what it lacked of later rows: whether
    /// these were in a summary is not known any more.
    pub(crate) fn delete_up_to(&mut self, deleted: Timestamp) {
        self.due.retain(|(_, row)| row.version.event > deleted);
        self.lost = self.lost.filter(|lost| lost.event > deleted);
        let stays = |row: &OnlineRow| !is_item(&row.values) && row.version.event > deleted;
        if !self.row.as_ref().is_some_and(stays) {
            self.row = Some(OnlineRow::tombstone(deleted));
            self.ttl = None;
        }
    }

    /// Adds a tombstone to an entity that was rebuilt from rows without the deleted ones: a newer
    /// row or summary stays.
    pub(crate) fn add_tombstone(&mut self, deleted: Timestamp) {
        self.due.retain(|(_, row)| row.version.event > deleted);
        self.lost = self.lost.filter(|lost| lost.event > deleted);
        let tombstone = OnlineRow::tombstone(deleted);
        let stored = self.row.as_ref().map(|row| row.version);
        if replaces(tombstone.version, stored) {
            self.row = Some(tombstone);
            self.ttl = None;
        }
    }

    /// Extends the time to live of the item to that of a row that is added. The item lives as
    /// long as the longest-lived row in it.
    fn keep(&mut self, ttl: Option<Expiry>) {
        let is_new = self.row.is_none() && self.due.is_empty() && self.lost.is_none();
        self.ttl = match (self.ttl, ttl) {
            (Some(stored), Some(ttl)) => Some(stored.max(ttl)),
            (None, Some(ttl)) if is_new => Some(ttl),
            _ => None,
        };
    }

    /// Returns whether a commit was already added to this item.
    pub(crate) fn has(&self, mark: Mark) -> bool {
        let marks = self.marks.iter();
        marks
            .filter(|m| m.writer == mark.writer)
            .any(|m| m.number == mark.number || m.number > mark.number && !m.alone)
    }

    /// Adds the mark of a commit. Removes marks that it implies, and those that are older than
    /// `settled`, the minute before which all commits are removed, by [`KEEP_MARKS_FOR`].
    pub(crate) fn mark(&mut self, mark: Mark, settled: u32) {
        self.marks.retain(|m| {
            let is_implied = m.writer == mark.writer && !mark.alone;
            !is_implied && m.minute.saturating_add(KEEP_MARKS_FOR) >= settled
        });
        self.marks.push(mark);
    }
}

fn mark_bytes(marks: &[Mark]) -> Vec<u8> {
    let mut bytes = Vec::with_capacity(marks.len() * 16);
    for mark in marks {
        bytes.extend_from_slice(&mark.writer.to_be_bytes());
        bytes.extend_from_slice(&mark.number.to_be_bytes());
        let minute = mark.minute | if mark.alone { ALONE } else { 0 };
        bytes.extend_from_slice(&minute.to_be_bytes());
    }
    bytes
}

fn read_marks(bytes: &[u8]) -> Option<Vec<Mark>> {
    let (marks, rest) = bytes.as_chunks::<16>();
    let mark = |bytes: &[u8; 16]| {
        let part =
            |at: usize| -> [u8; 4] { [bytes[at], bytes[at + 1], bytes[at + 2], bytes[at + 3]] };
        Mark {
            writer: u64::from(u32::from_be_bytes(part(0))) << 32
                | u64::from(u32::from_be_bytes(part(4))),
            number: u32::from_be_bytes(part(8)),
            minute: u32::from_be_bytes(part(12)) & !ALONE,
            alone: bytes[12] & 0x80 != 0,
        }
    };
    rest.is_empty().then(|| marks.iter().map(mark).collect())
}

/// Returns the error for an entity whose content is too large to store.
pub(crate) fn too_large(group: &str, size: usize) -> Error {
    let message = format!(
        "what table `{group}` holds of one entity takes {size} bytes; at most {MAX_STATE} fit in DynamoDB \
         (items of 400 KB, {MAX_STATE} bytes in parts): use fewer or shorter windows, a smaller k, or shorter values"
    );
    Error::new(Kind::Invalid, message)
}

/// Returns the error for a read of an entity whose item lacks rows.
fn incomplete(group: &str) -> Error {
    let message = format!(
        "what table `{group}` holds of an entity that was asked for had no room in DynamoDB, where at most \
         {MAX_STATE} bytes of one fit, and older values are not answered in its place: use fewer or shorter \
         windows, a smaller k, or shorter values, and then `wafer materialize`"
    );
    Error::new(Kind::Invalid, message)
}

#[cfg(test)]
mod tests {
    use wafer_core::aggregate::{Aggregate, Function, Item as Summary, ItemLayout};
    use wafer_core::window::Window;

    use super::*;

    fn layout() -> ItemLayout {
        let count = Aggregate {
            function: Function::Count,
            column: None,
            window: Window::LIFETIME,
        };
        ItemLayout::new(&[count], &[])
    }

    fn row(event: i64, values: &'static [u8]) -> OnlineRow {
        OnlineRow {
            version: RowVersion {
                event: Timestamp::from_micros(event),
                created: Timestamp::from_micros(-5),
                order: u64::MAX - 1,
            },
            fingerprint: 7,
            values: Bytes::from_static(values),
        }
    }

    fn at(micros: i64) -> Timestamp {
        Timestamp::from_micros(micros)
    }

    #[test]
    fn items_round_trip() {
        let mut stored = StoredItem {
            row: Some(row(-3, b"now")),
            ..StoredItem::default()
        };
        stored.add_early(at(9), row(9, b"later"), None);
        let mark = |writer, number, minute| Mark {
            writer,
            number,
            minute,
            alone: writer == 9,
        };
        stored.mark(mark(9, 2, 100), 0);
        stored.mark(mark(9, 5, 100), 0);
        stored.mark(mark(u64::MAX - 7, 3, 100), 0);
        stored.mark(mark(1, 2, 101), 0);
        let key = Key::new("o/g/0/00", b"k");
        let item = stored.write(&key, None);
        stored.version = Some(1);
        assert_eq!(StoredItem::read(&item, None), Some(stored.clone()));
        let parts = Parts::new(5, 2);
        let item = stored.write(&key, Some(&parts));
        let read = StoredItem::read(&item, Some(&stored.payload())).unwrap();
        assert_eq!(
            (&read.row, &read.due, &read.parts),
            (&stored.row, &stored.due, &Some(parts))
        );
        assert!(read.has(mark(1, 2, 0)) && read.has(mark(u64::MAX - 7, 1, 0)));
        assert!(!read.has(mark(1, 3, 0)) && !read.has(mark(2, 0, 0)));
        // A mark that is `alone` does not imply earlier commits.
        let alone = [1, 2, 3, 4, 5].map(|number| read.has(mark(9, number, 0)));
        assert_eq!(alone, [false, true, false, false, true]);
        // A damaged item is not decoded.
        let mut damaged = item;
        damaged.insert("by".to_owned(), bytes(&[1, 2, 3]));
        assert_eq!(StoredItem::read(&damaged, None), None);
    }

    #[test]
    fn marks_of_removed_commits_are_dropped() {
        let mark = |writer, minute| Mark {
            writer,
            number: 1,
            minute,
            alone: false,
        };
        let mut stored = StoredItem::default();
        stored.mark(mark(1, 100), 90);
        stored.mark(mark(2, 110), 115);
        assert!(stored.has(mark(1, 0)), "not long enough ago");
        stored.mark(mark(3, 120), 116);
        assert!(!stored.has(mark(1, 0)));
        assert!(stored.has(mark(2, 0)) && stored.has(mark(3, 0)));
    }

    #[test]
    fn version_bytes_sort_like_row_versions() {
        let version = |event, created, order| RowVersion {
            event: at(event),
            created: at(created),
            order,
        };
        let sorted = [
            version(i64::MIN, 0, 0),
            version(-1, 5, 0),
            version(0, -1, 9),
            version(0, 0, 0),
            version(0, 0, u64::MAX),
            version(1, i64::MIN, 0),
            version(i64::MAX, i64::MAX, u64::MAX),
        ];
        let bytes: Vec<_> = sorted.iter().copied().map(version_bytes).collect();
        assert!(bytes.is_sorted());
        for (version, bytes) in sorted.iter().zip(&bytes) {
            assert_eq!(version_of(bytes), Some(*version));
        }
    }

    #[test]
    fn item_ttl_is_that_of_its_longest_lived_row() {
        let mut stored = StoredItem::default();
        stored.add(&row(1, b"a"), Some(Expiry(10))).unwrap();
        assert_eq!(stored.ttl, Some(Expiry(10)));
        stored.add(&row(2, b"b"), Some(Expiry(5))).unwrap();
        assert_eq!(stored.ttl, Some(Expiry(10)));
        stored.add(&row(3, b"c"), None).unwrap();
        assert_eq!(stored.ttl, None);
        stored.add(&row(4, b"d"), Some(Expiry(50))).unwrap();
        assert_eq!(stored.ttl, None);
    }

    #[test]
    fn items_expire_in_the_second_after_their_time() {
        let second = 1_000_000;
        for (micros, wanted) in [(-1, 0), (0, 1), (second - 1, 1), (second, 2)] {
            assert_eq!(Expiry::after(at(micros)), Expiry(wanted), "{micros}");
        }
        let expiry = Expiry(7).plus(Duration::from_mins(1));
        assert_eq!(expiry, Expiry(67));
        for (now, has_begun, has_passed) in [
            (67 * second - 1, false, false),
            (67 * second, true, false),
            (68 * second - 1, true, false),
            (68 * second, true, true),
        ] {
            assert_eq!(expiry.has_begun(at(now)), has_begun, "{now}");
            assert_eq!(expiry.has_passed(at(now)), has_passed, "{now}");
        }
    }

    #[test]
    fn due_early_rows_are_applied() {
        let mut stored = StoredItem::default();
        stored.add(&row(1, b"a"), None).unwrap();
        stored.add_early(at(20), row(20, b"z"), None);
        stored.add_early(at(10), row(10, b"m"), None);
        let values = |stored: &StoredItem, now| {
            let row = stored.clone().into_row_at("g", at(now));
            row.unwrap().unwrap().values
        };
        assert_eq!(values(&stored, 9), "a");
        assert_eq!(values(&stored, 10), "m");
        assert_eq!(values(&stored, 20), "z");
        stored.take_due(at(10)).unwrap();
        assert_eq!((&values(&stored, 10)[..], stored.due.len()), (&b"m"[..], 1));
    }

    #[test]
    fn item_that_had_no_room_is_not_answered_until_a_row_is_as_new() {
        let mut stored = StoredItem::default();
        stored.add(&row(1, b"a"), Some(Expiry(10))).unwrap();
        stored.add_early(at(30), row(30, b"z"), Some(Expiry(20)));
        stored.lose(Some(row(5, b"").version), Some(Expiry(40)));
        let read = |stored: &StoredItem| stored.clone().into_row_at("g", at(100));
        let error = read(&stored).unwrap_err();
        assert_eq!(error.kind(), Kind::Invalid);
        let said = error.to_string();
        assert!(
            said.contains("table `g`") && said.contains("5242880"),
            "{said}"
        );
        // The early row was lost, too, and it is the newest one.
        let key = Key::new("o/g/0/00", b"k");
        let item = stored.write(&key, None);
        stored.version = Some(1);
        assert_eq!(StoredItem::read(&item, None), Some(stored.clone()));
        assert_eq!((stored.ttl, stored.size()), (Some(Expiry(40)), 0));
        stored.add(&row(29, b"b"), None).unwrap();
        assert!(read(&stored).is_err());
        let mut newer = stored.clone();
        newer.add(&row(30, b"c"), None).unwrap();
        assert_eq!(read(&newer).unwrap().unwrap().values, "c");
        let mut early = stored.clone();
        early.add_early(at(40), row(40, b"d"), None);
        assert_eq!(read(&early).unwrap().unwrap().values, "d");
        // What was lost never expires, and neither does what says so.
        let mut lasting = StoredItem::default();
        lasting.lose(Some(row(30, b"").version), None);
        lasting.add(&row(29, b"b"), Some(Expiry(40))).unwrap();
        assert_eq!((lasting.ttl, read(&lasting).is_err()), (None, true));
        // A deletion of all that was lost makes up for it.
        let mut deleted = stored.clone();
        deleted.delete_up_to(at(29));
        assert!(read(&deleted).is_err());
        deleted.delete_up_to(at(30));
        assert!(read(&deleted).unwrap().unwrap().is_tombstone());
        let mut deleted = stored.clone();
        deleted.add_tombstone(at(30));
        assert!(read(&deleted).unwrap().unwrap().is_tombstone());
        // A summary would need all that was lost.
        let summary = Summary::new(&layout()).encode(&layout());
        let summary = OnlineRow {
            values: summary.into(),
            ..row(50, b"")
        };
        stored.lose(None, None);
        stored.add(&summary, None).unwrap();
        assert!(read(&stored).is_err());
    }
}
