//! Records of training sets: everything that a training set was made of.
//!
//! A training set can be made again from its record, byte by byte: the record names the labels,
//! the version of the view and the versions of all tables, and [`TrainingSet::check_digest`]
//! compares the result.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};
use wafer_core::{DataType, Digest, Hasher, Timestamp, Zone};
use wafer_store::{Error, Kind, Result};

use crate::context::Context;
use crate::definitions::{Cuts, Format};
use crate::records::{Reject, Split};

/// The record of a training set: everything that is needed to make it again.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct TrainingSet {
    /// The id: a digest of what determines the training set. See [`TrainingSet::identity`].
    pub id: String,
    /// When the training set was made, by the machine's clock.
    pub created: Timestamp,
    /// The name of the view.
    pub view: String,
    /// The version of the view: a digest of its definition and of everything that it uses.
    pub view_version: String,
    /// The digest of the file of labels, which is stored as an artifact.
    pub labels: Digest,
    /// The format of the file of labels.
    pub labels_format: Format,
    /// The path that the file of labels had, or `request body (csv)` if they came over HTTP. The
    /// end of the path says how the labels are compressed.
    pub labels_name: String,
    /// The column of the labels' time.
    pub time: String,
    /// The types, given or guessed, of the columns of labels in CSV or NDJSON that the view does
    /// not read. [`TrainingSet::types_of_labels`] has those of earlier records as well.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub types: BTreeMap<String, DataType>,
    /// The time zone of times of the labels that the view reads and that name none. Records from
    /// before it was declared took them as UTC.
    #[serde(default = "utc", skip_serializing_if = "is_utc")]
    pub zone: Option<Zone>,
    /// Whether an empty join key of labels in CSV is the empty text. Earlier versions, which
    /// recorded neither this nor `types`, read it as null.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub has_empty_keys: bool,
    /// Whether the rows that are read and written together end by their bytes too, and not by their
    /// number alone. They do not in training sets of earlier versions, which have to be made again
    /// with the same bytes.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub is_cut_by_bytes: bool,
    /// The time that table versions were requested for. `None` means the newest versions.
    pub as_of: Option<Timestamp>,
    /// The versions of the offline tables that were read, by table. Compaction keeps them until
    /// the training set is deleted.
    pub versions: BTreeMap<String, u64>,
    /// The digests of the functions, by name.
    pub functions: BTreeMap<String, Digest>,
    /// How rows were divided into parts.
    pub split: Option<Split>,
    /// The format of the training set's file.
    pub format: Format,
    /// The digest of the training set's file.
    pub digest: Digest,
    /// The number of labels, which is also the number of rows of the training set.
    pub rows: u64,
    /// The statistics of the columns.
    pub columns: Vec<ColumnStatistics>,
    /// The number of rows that a function failed on. The function's features are null in these
    /// rows.
    pub function_errors: u64,
    /// The first of these rows.
    pub errors: Vec<Reject>,
    /// For each lookup, by its alias, the number of labels whose time is the event time of an event
    /// that they were joined with. Lookups without such labels are left out.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub coincident: BTreeMap<String, u64>,
}

impl TrainingSet {
    /// Reads the records of all training sets that were not deleted, newest first.
    ///
    /// # Errors
    /// Returns the errors of the metadata store.
    pub async fn read_all(context: &Context) -> Result<Vec<Self>> {
        let stored = context.objects("training_set").await?;
        let mut sets: Vec<Self> = stored.into_iter().map(|(_, set)| set).collect();
        sets.sort_by_key(|set| std::cmp::Reverse(set.created));
        Ok(sets)
    }

    /// Reads the record of a training set.
    ///
    /// # Errors
    /// Returns [`Kind::NotFound`] when there is no training set of that id.
    pub async fn read(context: &Context, id: &str) -> Result<Self> {
        let stored = context.object(&format!("training_set/{id}")).await?;
        let missing = || Error::new(Kind::NotFound, format!("there is no training set `{id}`"));
        Ok(stored.ok_or_else(missing)?.0)
    }

    /// Returns whether the training set has a part of this name.
    pub fn has_part(&self, part: &str) -> bool {
        let split = self.split.as_ref();
        split.is_some_and(|split| split.parts.iter().any(|(name, _)| name == part))
    }

    /// Returns the types of the columns of labels that the view does not read, and possibly of
    /// features, if the format of the labels has no types. Earlier versions recorded them only in
    /// the statistics of the columns, and guessed nothing but int64, float64, boolean and utf8.
    pub fn types_of_labels(&self) -> BTreeMap<String, DataType> {
        if self.has_empty_keys || self.labels_format.has_types() {
            return self.types.clone();
        }
        let guessed = [
            DataType::Boolean,
            DataType::Int64,
            DataType::Float64,
            DataType::Utf8,
        ];
        let recorded = self.columns.iter().filter_map(|column| {
            let is_type = |known: &&DataType| known.to_arrow().to_string() == column.data_type;
            let data_type = guessed.iter().find(is_type)?;
            Some((column.name.clone(), data_type.clone()))
        });
        recorded.collect()
    }

    /// Returns where the rows end that are read and written together.
    pub fn cuts(&self) -> Cuts {
        match self.is_cut_by_bytes {
            true => Cuts::ByBytes,
            false => Cuts::ByRows,
        }
    }

    /// Checks the digest of a training set that was made again.
    ///
    /// # Errors
    /// Returns [`Kind::Internal`] when it differs from the recorded one.
    pub fn check_digest(&self, digest: Digest) -> Result<()> {
        if digest == self.digest {
            return Ok(());
        }
        let message = format!(
            "training set `{}` now has the digest {digest}, and had {} when it was first made: it \
             was made by another version of wafer or on another machine",
            self.id, self.digest
        );
        Err(Error::new(Kind::Internal, message))
    }

    /// Computes the id of the training set: a digest of everything that determines it.
    pub fn identity(&self) -> String {
        let mut hasher = Hasher::new();
        let versions = serde_json::to_vec(&self.versions).expect("plain data");
        let split = serde_json::to_vec(&self.split).expect("plain data");
        hasher
            .part(self.labels.as_bytes())
            .part(self.time.as_bytes())
            .part(&versions)
            .part(&split)
            .part(self.view_version.as_bytes())
            .part(format!("{:?} {:?}", self.labels_format, self.format).as_bytes());
        if !self.types.is_empty() {
            hasher.part(&serde_json::to_vec(&self.types).expect("plain data"));
        }
        if let Some(zone) = self.zone {
            hasher.part(zone.to_string().as_bytes());
        }
        if self.is_cut_by_bytes {
            hasher.part(b"cut by bytes");
        }
        hasher.finish().short()
    }
}

fn utc() -> Option<Zone> {
    Some(Zone::UTC)
}

/// Whether a zone is the one of records that have none.
fn is_utc(zone: &Option<Zone>) -> bool {
    *zone == utc()
}

/// The statistics of one column of a training set.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct ColumnStatistics {
    /// The name of the column.
    pub name: String,
    /// The Arrow type of the column.
    #[serde(rename = "type")]
    pub data_type: String,
    /// The number of nulls.
    pub nulls: u64,
    /// The smallest value of a numeric column.
    pub min: Option<f64>,
    /// The greatest value of a numeric column.
    pub max: Option<f64>,
    /// The mean of the finite values of a numeric column.
    pub mean: Option<f64>,
    /// The sample standard deviation of the finite values of a numeric column.
    pub stddev: Option<f64>,
    /// Quantiles of the finite values of a numeric column: the fraction of the values that are not
    /// greater, and the value, which is exact to one part in 256. Training sets of earlier versions
    /// have none.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub quantiles: Vec<(f64, f64)>,
    /// The number of different values, if it is at most [`MAX_DISTINCT`].
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub distinct: Option<u64>,
    /// The most frequent values of a column with at most [`MAX_DISTINCT`] different ones, as texts,
    /// and how often each occurs. A long text is cut.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub top: Vec<(String, u64)>,
}

/// The greatest number of different values of a column that are counted one by one.
pub const MAX_DISTINCT: usize = 1_000;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn earlier_records_have_the_types_that_were_guessed_then() {
        let stored = serde_json::json!({
            "id": "x", "created": "2024-01-01T00:00:00Z", "view": "v", "view_version": "w",
            "labels": Digest::of(b"l").to_string(), "labels_format": "csv", "labels_name": "l.csv",
            "time": "t", "as_of": null, "versions": {}, "functions": {}, "split": null,
            "format": "parquet", "digest": Digest::of(b"d").to_string(), "rows": 1,
            "columns": [
                { "name": "zip", "type": "Int64", "nulls": 0 },
                { "name": "note", "type": "Utf8", "nulls": 0 },
                { "name": "f_last", "type": "List(non-null Int64, field: 'element')", "nulls": 0 },
            ],
            "function_errors": 0, "errors": [],
        });
        let set: TrainingSet = serde_json::from_value(stored).unwrap();
        let types = [("note", DataType::Utf8), ("zip", DataType::Int64)];
        let types = types.map(|(name, data_type)| (name.to_owned(), data_type));
        assert_eq!(set.types_of_labels(), BTreeMap::from(types.clone()));
        assert_eq!(set.zone, Some(Zone::UTC));
        assert_eq!(set.cuts(), Cuts::ByRows);
        let stored = serde_json::to_value(&set).unwrap();
        assert!(stored.get("is_cut_by_bytes").is_none());
        let cut_by_bytes = TrainingSet {
            is_cut_by_bytes: true,
            ..set.clone()
        };
        assert_eq!(cut_by_bytes.cuts(), Cuts::ByBytes);
        assert_ne!(cut_by_bytes.identity(), set.identity());
        let stored = serde_json::to_value(&cut_by_bytes).unwrap();
        let read: TrainingSet = serde_json::from_value(stored).unwrap();
        assert_eq!(read, cut_by_bytes);
        let newer = TrainingSet {
            types: BTreeMap::from([("zip".to_owned(), DataType::Utf8)]),
            has_empty_keys: true,
            ..set.clone()
        };
        assert_eq!(newer.types_of_labels(), newer.types);
        assert_ne!(newer.identity(), set.identity());
        let binary = TrainingSet {
            labels_format: Format::Parquet,
            ..set
        };
        assert!(binary.types_of_labels().is_empty());
    }
}
