//! Pointers that are gone, or name no definitions, although definitions were applied before; and
//! those that are damaged.
//!
//! Without a pointer, a project is taken for one to which nothing was applied yet. An apply leaves
//! records that tell the two apart: the counter of generations, and the tables of groups. They are
//! looked at only if the pointer names nothing.

use std::sync::Arc;

use serde_json::{Map, Value as Json};
use wafer_store::{Error, Kind, MetadataStore, Result, Stores, Versioned};

use super::{NUMBERS, POINTER, POINTER_FORM};
use crate::definitions::Definitions;

/// Returns the definitions of a project whose pointer does not name a generation. They are empty.
///
/// # Errors
/// Returns [`Kind::Corrupt`] when definitions were applied before, and the errors of the stores.
pub(super) async fn nothing(stores: &Stores, project: &str) -> Result<Arc<Definitions>> {
    match was_applied(stores, project).await? {
        true => Err(lost_pointer(stores.metadata.as_ref(), project)),
        false => Ok(Arc::default()),
    }
}

/// Makes the error for a stored pointer that no version of Wafer wrote: all of them write a JSON
/// object. Returns `None` for one that may be a pointer, or that of a later version, which nobody
/// may write over.
pub(super) fn damaged_pointer(
    metadata: &dyn MetadataStore,
    name: &str,
    stored: &Versioned,
) -> Option<Error> {
    let object: Result<Map<String, Json>, _> = serde_json::from_slice(&stored.value);
    let reason = object.err()?;
    let message = format!(
        "the pointer to the applied definitions, object `{name}` in {metadata}, is damaged: it is not a \
         JSON object such as {POINTER_FORM}. Restore the metadata store from a backup; or run `wafer apply`, which \
         makes the definitions of the project live again, unless rows could be lost to requests by that"
    );
    Some(Error::caused(Kind::Corrupt, message, reason))
}

/// Makes the error for a pointer that no longer names a generation.
pub(crate) fn lost_pointer(metadata: &dyn MetadataStore, project: &str) -> Error {
    let message = format!(
        "the pointer to the applied definitions, object `{project}/{POINTER}` in {metadata}, is gone or \
         names none, although definitions were applied before: restore the metadata store from a backup; \
         or run `wafer apply`, which makes the definitions of the project live again, unless rows could be \
         lost to requests by that"
    );
    Error::new(Kind::Corrupt, message)
}

/// Returns whether definitions were applied to a project before. Records of tables alone may be
/// those of a first apply that failed, which begins with them: their rows tell.
async fn was_applied(stores: &Stores, project: &str) -> Result<bool> {
    let numbers = format!("{project}/{NUMBERS}");
    if stores.metadata.get(&numbers).await?.is_some() {
        return Ok(true);
    }
    for table in tables(stores.metadata.as_ref(), project).await? {
        if has_rows(stores, &table).await? {
            return Ok(true);
        }
    }
    Ok(false)
}

/// Returns the names of all tables that definitions of the project ever wrote to.
pub(super) async fn tables(metadata: &dyn MetadataStore, project: &str) -> Result<Vec<String>> {
    let prefix = format!("{project}/table/");
    let stored = metadata.list(&prefix).await?;
    let names = stored.into_iter().map(|(name, _)| name);
    Ok(names.map(|name| name[prefix.len()..].to_owned()).collect())
}

async fn has_rows(stores: &Stores, table: &str) -> Result<bool> {
    match stores.offline.info(table).await {
        Err(e) if e.kind() == Kind::NotFound => Ok(false),
        info => Ok(info?.rows > 0),
    }
}
