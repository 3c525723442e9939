//! Records of training sets: everything that a training set was made of.
//!
//! A training set can be made again from its record, byte by byte: the record names the labels,
//! the version of the view and the versions of all tables, and [`TrainingSet::check_digest`]
//! compares the result.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};
use wafer_core::{Digest, Hasher, Timestamp};
use wafer_store::{Error, Kind, Result};

use crate::context::Context;
use crate::definitions::Format;
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
    /// The name that the file of labels had.
    pub labels_name: String,
    /// The column of the labels' time.
    pub time: String,
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

impl Context {
    /// Reads the records of all training sets that were not deleted, newest first.
    ///
    /// # Errors
    /// Returns the errors of the metadata store.
    pub async fn training_sets(&self) -> Result<Vec<TrainingSet>> {
        let stored = self.objects("training_set").await?;
        let mut sets: Vec<TrainingSet> = stored.into_iter().map(|(_, set)| set).collect();
        sets.sort_by_key(|set| std::cmp::Reverse(set.created));
        Ok(sets)
    }

    /// Reads the record of a training set.
    ///
    /// # Errors
    /// Returns [`Kind::NotFound`] when there is no training set of that id.
    pub async fn training_set_record(&self, id: &str) -> Result<TrainingSet> {
        let stored = self.object(&format!("training_set/{id}")).await?;
        let missing = || Error::new(Kind::NotFound, format!("there is no training set `{id}`"));
        Ok(stored.ok_or_else(missing)?.0)
    }
}

impl TrainingSet {
    /// Returns whether the training set has a part of this name.
    pub fn has_part(&self, part: &str) -> bool {
        let split = self.split.as_ref();
        split.is_some_and(|split| split.parts.iter().any(|(name, _)| name == part))
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
        hasher.finish().short()
    }
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
