//! The change feed: the data files that were added and removed between two versions of a
//! table.

use std::collections::HashMap;

use deltalake::DeltaTable;
use deltalake::kernel::{Action, Add};

use super::outside::survived;
use super::snapshot::{AsOf, DataFile, TableSnapshot};
use super::{OfflineTables, failed};
use crate::{Error, Kind, Result};

/// A data file whose rows were added or removed by one version of a table.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TableChange {
    /// Version of the table.
    pub version: u64,
    /// The data file that holds the rows.
    pub file: DataFile,
    /// Whether the rows were removed, as opposed to added.
    pub is_removal: bool,
}

impl OfflineTables {
    /// Returns the changes after version `after`, up to and including version `through`, in
    /// order of the versions.
    ///
    /// Files whose rows were only moved to other files, as compaction does, are not included.
    ///
    /// # Errors
    /// Returns [`Kind::NotFound`] when the log does not reach back that far.
    pub async fn changes(&self, table: &str, after: u64, through: u64) -> Result<Vec<TableChange>> {
        if after >= through {
            return Ok(Vec::new());
        }
        let delta = self.load(table).await?;
        let before = self.snapshot(table, AsOf::Version(after)).await?;
        // A remove action does not describe its file; the earlier add action does.
        let mut known: HashMap<String, DataFile> = HashMap::new();
        for file in before.files() {
            known.insert(file.path.clone(), file.clone());
        }
        let mut changes = Vec::new();
        for version in after + 1..=through {
            for action in read_commit(table, &delta, version).await? {
                let (file, is_removal, counts) = match action {
                    Action::Add(add) => {
                        let file = data_file(&add);
                        known.insert(file.path.clone(), file.clone());
                        (file, false, add.data_change)
                    }
                    Action::Remove(remove) => {
                        let file = known.remove(&remove.path);
                        let file = file.unwrap_or_else(|| DataFile::unknown(remove.path));
                        (file, true, remove.data_change)
                    }
                    _ => continue,
                };
                if counts {
                    changes.push(TableChange {
                        version,
                        file,
                        is_removal,
                    });
                }
            }
        }
        Ok(changes)
    }
}

impl TableSnapshot {
    /// Returns the changes of the table after version `after`, up to and including this one, like
    /// [`OfflineTables::changes`].
    ///
    /// # Errors
    /// Returns the errors of [`OfflineTables::changes`].
    pub async fn changes_since(&self, after: u64) -> Result<Vec<TableChange>> {
        let changes = self.tables.changes(&self.table, after, self.version());
        let Some(outside) = &self.outside else {
            return changes.await;
        };
        let mut changes = survived(outside.place(), changes).await?;
        for TableChange { file, .. } in &mut changes {
            (file.events, file.available) = (None, None);
        }
        Ok(changes)
    }
}

fn data_file(add: &Add) -> DataFile {
    DataFile::new(add.path.clone(), add.size, None, add.stats.as_deref())
}

async fn read_commit(table: &str, delta: &DeltaTable, version: u64) -> Result<Vec<Action>> {
    let entry = delta.log_store().read_commit_entry(version).await;
    let entry = entry.map_err(|e| failed("read the log of", table, e))?;
    let entry = entry.ok_or_else(|| {
        let message = format!("the log of table `{table}` has no version {version}");
        Error::new(Kind::NotFound, message)
    })?;
    let lines = entry.split(|byte| *byte == b'\n').filter(|l| !l.is_empty());
    lines
        .map(|line| {
            serde_json::from_slice(line).map_err(|e| {
                let message = format!("version {version} in the log of table `{table}` is damaged");
                Error::caused(Kind::Corrupt, message, e)
            })
        })
        .collect()
}
