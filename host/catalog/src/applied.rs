//! Writes definitions as a generation, and makes it live or staged.

use bytes::Bytes;
use wafer_store::{Error, Expect, Kind, Result};

use crate::context::Context;
use crate::definitions::Definitions;
use crate::generations::{KINDS, Pointer, generation_prefix, objects, pointer_name, read};

impl Context {
    /// A number that no other apply has: the versions of one small object.
    pub async fn next_generation(&self) -> Result<u64> {
        let name = format!("{}/generation", self.project());
        let value = Bytes::from_static(b"{}");
        let store = &self.components().metadata;
        store.put(&name, value, Expect::Anything).await
    }

    /// Writes the definitions of a generation, which nothing points to yet.
    pub async fn write_generation(&self, generation: u64, definitions: &Definitions) -> Result<()> {
        let store = &self.components().metadata;
        let prefix = generation_prefix(self.project(), generation);
        for ((kind, object), json) in &objects(definitions) {
            let bytes = Bytes::from(serde_json::to_vec(json).expect("definitions are plain data"));
            let name = format!("{prefix}{}/{object}", KINDS[*kind]);
            store.put(&name, bytes, Expect::Anything).await?;
        }
        Ok(())
    }

    /// Makes generations count, and removes those that no longer do.
    pub async fn point(&self, pointer: Pointer, version: u64) -> Result<()> {
        let store = &self.components().metadata;
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
                let message = "the project was applied by somebody else meanwhile; run it again";
                Error::caused(Kind::Conflict, message, e)
            }
            _ => e,
        })?;
        let prefix = format!("{}/definitions/", self.project());
        let kept = |name: &str| {
            let generations = [Some(pointer.live), pointer.staged];
            generations
                .into_iter()
                .flatten()
                .any(|g| name.starts_with(&generation_prefix(self.project(), g)))
        };
        for (name, _) in store.list(&prefix).await? {
            if !kept(&name) {
                store.delete(&name, Expect::Anything).await?;
            }
        }
        self.replace_applied(read(store.as_ref(), self.project()).await?);
        Ok(())
    }
}
