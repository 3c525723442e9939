//! Applying: writes definitions as a generation, and makes it live or staged.
//!
//! An apply draws a number ([`Context::next_generation`]), writes every definition as an object
//! below that number ([`Context::write_generation`]), and then moves the pointer
//! ([`Context::point`]). Nothing reads a generation before the pointer names it, so all
//! definitions of a project change at once. Moving the pointer is conditional on the version that
//! was read before: of two processes that apply at the same time, one fails.

use bytes::Bytes;
use wafer_store::{Error, Expect, Kind, Result};

use crate::context::Context;
use crate::definitions::Definitions;
use crate::generations::{KINDS, Pointer, generation_prefix, objects, pointer_name, read};

impl Context {
    /// Returns a generation number that no other apply has. The numbers are the versions of one
    /// small object, which each call writes.
    ///
    /// # Errors
    /// Returns the errors of the metadata store.
    pub async fn next_generation(&self) -> Result<u64> {
        let name = format!("{}/generation", self.project());
        let value = Bytes::from_static(b"{}");
        let store = &self.components().stores.metadata;
        store.put(&name, value, Expect::Anything).await
    }

    /// Writes the definitions of a generation. They have no effect until the pointer names it.
    ///
    /// # Errors
    /// Returns the errors of the metadata store.
    pub async fn write_generation(&self, generation: u64, definitions: &Definitions) -> Result<()> {
        let store = &self.components().stores.metadata;
        let prefix = generation_prefix(self.project(), generation);
        for ((kind, object), json) in &objects(definitions) {
            let bytes = Bytes::from(serde_json::to_vec(json).expect("definitions are plain data"));
            let name = format!("{prefix}{}/{object}", KINDS[*kind]);
            store.put(&name, bytes, Expect::Anything).await?;
        }
        Ok(())
    }

    /// Moves the pointer, which makes its generations count; then removes all other generations
    /// and reads the applied definitions again. `version` is the version of the pointer that this
    /// apply is based on; 0 if there is none yet.
    ///
    /// # Errors
    /// Returns [`Kind::Conflict`] when another process moved the pointer since that version, and
    /// the errors of the metadata store.
    pub async fn point(&self, pointer: Pointer, version: u64) -> Result<()> {
        let store = &self.components().stores.metadata;
        let json = serde_json::to_vec(&pointer).expect("numbers are plain data");
        let expect = match version {
            0 => Expect::Absent,
            version => Expect::Version(version),
        };
        let put = store
            .put(&pointer_name(self.project()), json.into(), expect)
            .await;
        put.map_err(|e| match e.kind() {
            Kind::Conflict => {
                let message =
                    "another process applied the project at the same time; run the command again";
                Error::caused(Kind::Conflict, message, e)
            }
            _ => e,
        })?;
        let prefix = format!("{}/definitions/", self.project());
        let is_kept = |name: &str| {
            let generations = [Some(pointer.live), pointer.staged];
            generations
                .into_iter()
                .flatten()
                .any(|g| name.starts_with(&generation_prefix(self.project(), g)))
        };
        for (name, _) in store.list(&prefix).await? {
            if !is_kept(&name) {
                store.delete(&name, Expect::Anything).await?;
            }
        }
        self.replace_applied(read(store.as_ref(), self.project()).await?);
        Ok(())
    }
}
