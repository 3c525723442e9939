//! Definitions that earlier versions of Wafer wrote: one object of the metadata store for each,
//! under `PROJECT/definitions/N/KIND/NAME`, where N is the number of the generation.

use std::collections::BTreeMap;

use serde::de::DeserializeOwned;
use wafer_store::{Error, Expect, Kind, MetadataStore, Result};

use super::lost;
use crate::definitions::Definitions;
use crate::stored;

/// Returns how the names of all of these objects begin.
fn all_generations(project: &str) -> String {
    format!("{project}/definitions/")
}

/// Returns how the names of the objects of a generation begin.
pub(super) fn prefix(project: &str, generation: u64) -> String {
    format!("{}{generation:08}/", all_generations(project))
}

/// Reads the definitions of a generation. A project that has tables had groups, so that there are
/// objects.
///
/// # Errors
/// Returns [`Kind::Corrupt`] when they are gone, or name what is not there, and the errors of the
/// metadata store.
pub(super) async fn read(
    metadata: &dyn MetadataStore,
    project: &str,
    generation: u64,
) -> Result<Definitions> {
    let prefix = prefix(project, generation);
    let read = Definitions {
        sources: read_kind(metadata, &prefix, "source").await?,
        functions: read_kind(metadata, &prefix, "function").await?,
        groups: read_kind(metadata, &prefix, "group").await?,
        pipelines: read_kind(metadata, &prefix, "pipeline").await?,
        views: read_kind(metadata, &prefix, "view").await?,
        models: read_kind(metadata, &prefix, "model").await?,
    };
    let damaged = |reason: String| Err(Error::new(Kind::Corrupt, reason));
    if read == Definitions::default() && !lost::tables(metadata, project).await?.is_empty() {
        return damaged("none of its objects are there".to_owned());
    }
    match read.check_references() {
        Err(reason) => damaged(reason),
        Ok(()) => Ok(read),
    }
}

async fn read_kind<T: DeserializeOwned>(
    metadata: &dyn MetadataStore,
    generation: &str,
    kind: &str,
) -> Result<BTreeMap<String, T>> {
    let prefix = format!("{generation}{kind}/");
    let stored = metadata.list(&prefix).await?;
    stored
        .into_iter()
        .map(|(name, object)| {
            let definition = stored::read(&name, &object.value)?;
            Ok((name[prefix.len()..].to_owned(), definition))
        })
        .collect()
}

/// Removes all of these objects.
pub(crate) async fn remove(metadata: &dyn MetadataStore, project: &str) -> Result<()> {
    for (name, _) in metadata.list(&all_generations(project)).await? {
        metadata.delete(&name, Expect::Anything).await?;
    }
    Ok(())
}
