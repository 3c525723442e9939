//! Records of training sets: everything that one was made of.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};
use wafer_core::{Digest, Hasher, Timestamp};
use wafer_store::{Error, Kind, Result};

use crate::context::Context;
use crate::definitions::Format;
use crate::objects::read;
use crate::records::{Reject, Split};

/// Everything that a training set was made of, so that it can be made again.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct TrainingSet {
    /// Its name: a digest of all below but `created` and what came out.
    pub id: String,
    /// When it was made, machine time.
    pub created: Timestamp,
    /// The view's name.
    pub view: String,
    /// Which version of it: a digest of its definition, and of all that it uses.
    pub view_version: String,
    /// Digest of the labels' file, which is kept among the artifacts.
    pub labels: Digest,
    /// Its format.
    pub labels_format: Format,
    /// Name that the file had.
    pub labels_name: String,
    /// Column of the labels' time.
    pub time: String,
    /// The time that the tables' versions were asked for.
    pub as_of: Option<Timestamp>,
    /// Versions of the offline tables that were read; they are kept until the
    /// training set is deleted.
    pub versions: BTreeMap<String, u64>,
    /// Digests of the functions.
    pub functions: BTreeMap<String, Digest>,
    /// Parts that rows were shared out to.
    pub split: Option<Split>,
    /// Format of the result.
    pub format: Format,
    /// Digest of the result.
    pub digest: Digest,
    /// Rows of labels, and of the result.
    pub rows: u64,
    /// What is in the columns.
    pub columns: Vec<ColumnStatistics>,
    /// Rows that a function failed on: its features are null there.
    pub function_errors: u64,
    /// The first of them.
    pub errors: Vec<Reject>,
}

impl Context {
    /// Training sets that were made and not deleted, newest first.
    ///
    /// # Errors
    /// Those of the metadata store.
    pub async fn training_sets(&self) -> Result<Vec<TrainingSet>> {
        let prefix = format!("{}/training_set/", self.project());
        let stored = self.components().metadata.list(&prefix).await?;
        let mut sets: Vec<TrainingSet> = stored
            .iter()
            .map(|(name, object)| read(name, &object.value))
            .collect::<Result<_>>()?;
        sets.sort_by_key(|set| std::cmp::Reverse(set.created));
        Ok(sets)
    }

    /// The record of a training set.
    ///
    /// # Errors
    /// [`Kind::NotFound`] for an unknown one.
    pub async fn training_set_record(&self, id: &str) -> Result<TrainingSet> {
        let name = format!("{}/training_set/{id}", self.project());
        let stored = self.components().metadata.get(&name).await?;
        let missing = || Error::new(Kind::NotFound, format!("there is no training set `{id}`"));
        read(&name, &stored.ok_or_else(missing)?.value)
    }
}

impl TrainingSet {
    /// Whether rows were shared out to a part of this name.
    pub fn has_part(&self, part: &str) -> bool {
        let split = self.split.as_ref();
        split.is_some_and(|split| split.parts.iter().any(|(name, _)| name == part))
    }

    /// Checks that the training set, made again, is the same.
    ///
    /// # Errors
    /// [`Kind::Internal`] when it is not.
    pub fn check_digest(&self, digest: Digest) -> Result<()> {
        if digest == self.digest {
            return Ok(());
        }
        let message = format!(
            "training set `{}` came out as {digest}, and was {} when it was made: another version of \
             wafer, or another machine, made it",
            self.id, self.digest
        );
        Err(Error::new(Kind::Internal, message))
    }

    /// A digest of all that determines it: its name.
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

/// What is in a column of a training set.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct ColumnStatistics {
    /// Its name.
    pub name: String,
    /// Its type.
    #[serde(rename = "type")]
    pub data_type: String,
    /// Values that are missing.
    pub nulls: u64,
    /// Least value, of numbers.
    pub min: Option<f64>,
    /// Greatest value, of numbers.
    pub max: Option<f64>,
    /// Mean, of numbers that are finite.
    pub mean: Option<f64>,
    /// Sample standard deviation, of numbers that are finite.
    pub stddev: Option<f64>,
}
