//! The form of stored objects: JSON.

use serde::de::DeserializeOwned;
use wafer_store::{Error, Kind, Result};

/// Decodes the stored object of the given name.
///
/// # Errors
/// Returns [`Kind::Corrupt`] when it cannot be decoded.
pub fn read<T: DeserializeOwned>(name: &str, value: &[u8]) -> Result<T> {
    serde_json::from_slice(value).map_err(|e| {
        let message = format!(
            "stored object `{name}` cannot be read: it is damaged, or a later version of wafer wrote it"
        );
        Error::caused(Kind::Corrupt, message, e)
    })
}
