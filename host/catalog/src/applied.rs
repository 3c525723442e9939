//! Applying: writes definitions as a generation, and makes it live or staged.
//!
//! An apply writes all definitions as one artifact under a new number
//! ([`Context::write_generation`]), and then moves the pointer to it ([`Context::point`]). Nothing
//! reads a generation before the pointer names it, so all definitions of a project change at once.
//! Moving the pointer is conditional on what was read before: of two processes that apply at the
//! same time, one fails.
//!
//! Artifacts of earlier generations stay where they are, as those of functions do. A process that
//! has an older pointer still finds them, and nobody has to know which processes there are.

use std::sync::Arc;

use bytes::Bytes;
use wafer_store::{Error, Expect, Kind, MetadataStore, Result, Stores};

use crate::context::Context;
use crate::definitions::Definitions;
use crate::generations::{
    Applied, Generation, NUMBERS, POINTER, Pointer, artifact, earlier, read_pointer,
};
use crate::objects::ATTEMPTS;

impl Context {
    /// Writes definitions as a new generation, whose number no other apply has. They have no effect
    /// until the pointer names it. The numbers are the versions of one small object.
    ///
    /// # Errors
    /// Returns [`Kind::Invalid`] when the definitions are too large together, and the errors of the
    /// stores.
    pub async fn write_generation(&self, definitions: &Definitions) -> Result<Generation> {
        let stores = &self.components().stores;
        let definitions = Arc::new(definitions.clone());
        let artifact = artifact::write(stores.artifacts.as_ref(), definitions).await?;
        let name = format!("{}/{NUMBERS}", self.project());
        let value = Bytes::from_static(b"{}");
        let number = stores.metadata.put(&name, value, Expect::Anything).await?;
        Ok(Generation {
            number,
            artifact: Some(artifact),
        })
    }

    /// Moves the pointer, by which its generations become the live and the staged one, and reads
    /// the applied definitions again. `based_on` is what was applied when this apply began.
    ///
    /// # Errors
    /// Returns [`Kind::Conflict`] when another process applied definitions since, and the errors of
    /// the stores.
    pub async fn point(&self, pointer: Pointer, based_on: &Applied) -> Result<()> {
        let stores = &self.components().stores;
        move_pointer(stores, self.project(), pointer, based_on).await?;
        self.read_applied().await.map(drop)
    }

    /// Counts a change of endpoints in the pointer, by which all processes find out that they must
    /// read them again.
    ///
    /// # Errors
    /// Returns the errors of the metadata store. An endpoint that was changed before is then read
    /// when the next change is counted, when endpoints are read anyway, or by the next process.
    pub async fn count_endpoint_change(&self) -> Result<()> {
        let counted = self.change_object(POINTER, |pointer: Option<Pointer>| {
            let mut pointer = pointer.unwrap_or_default();
            pointer.endpoints += 1;
            Ok(pointer)
        });
        counted.await.map(drop)
    }
}

/// Moves the pointer of a project, and then removes the objects that earlier versions of Wafer
/// wrote. Generations that are in such objects are written as artifacts before.
pub(crate) async fn move_pointer(
    stores: &Stores,
    project: &str,
    pointer: Pointer,
    based_on: &Applied,
) -> Result<()> {
    let live = in_artifact(stores, pointer.live, based_on).await?;
    let staged = match pointer.staged {
        None => None,
        Some(staged) => Some(in_artifact(stores, staged, based_on).await?),
    };
    let pointer = Pointer {
        live,
        staged,
        ..pointer
    };
    let metadata = stores.metadata.as_ref();
    put_pointer(metadata, project, pointer, based_on).await?;
    // The definitions are applied by now. Nothing reads the objects of earlier versions any more,
    // so the next apply can remove those that are left.
    if let Err(error) = earlier::remove(metadata, project).await {
        tracing::warn!(
            "the definitions are applied, but those of an earlier version of Wafer, below `{project}/`, \
             could not be removed: {}",
            error.chain()
        );
    }
    Ok(())
}

/// Returns a generation that is in an artifact. If it is in objects, it is written as an artifact.
async fn in_artifact(
    stores: &Stores,
    generation: Generation,
    based_on: &Applied,
) -> Result<Generation> {
    if !generation.is_in_objects() {
        return Ok(generation);
    }
    let definitions = based_on.definitions_of(generation).ok_or_else(|| {
        let number = generation.number;
        let message = format!("generation {number} of the definitions was not read before");
        Error::new(Kind::Internal, message)
    })?;
    let artifact = artifact::write(stores.artifacts.as_ref(), definitions).await?;
    Ok(Generation {
        artifact: Some(artifact),
        ..generation
    })
}

/// Writes the pointer, unless another process applied definitions since `based_on` was read. That
/// endpoints were changed meanwhile does not matter.
async fn put_pointer(
    metadata: &dyn MetadataStore,
    project: &str,
    mut pointer: Pointer,
    based_on: &Applied,
) -> Result<()> {
    let name = format!("{project}/{POINTER}");
    let (mut endpoints, mut version) = (based_on.pointer.endpoints, based_on.version);
    for _ in 0..ATTEMPTS {
        pointer.endpoints = endpoints;
        let json = serde_json::to_vec(&pointer).expect("a pointer is plain data");
        let expect = match version {
            0 => Expect::Absent,
            version => Expect::Version(version),
        };
        let conflict = match metadata.put(&name, json.into(), expect).await {
            Err(e) if e.kind() == Kind::Conflict => e,
            written => return written.map(drop),
        };
        let (present, present_version) = read_pointer(metadata, project).await?;
        if !present.has_definitions_of(&based_on.pointer) {
            let message =
                "another process applied the project at the same time; run the command again";
            return Err(Error::caused(Kind::Conflict, message, conflict));
        }
        (endpoints, version) = (present.endpoints, present_version);
    }
    let message = format!("`{name}` is changed by too many processes at once; try again");
    Err(Error::new(Kind::Unavailable, message))
}
