//! Copies source files to the object storage of a deployed project.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use bytes::Bytes;
use serde::{Deserialize, Serialize};
use url::Url;
use wafer_catalog::{Definitions, Location, SourceKind};
use wafer_core::Digest;
use wafer_store::{Error, Expect, Kind, Result};

use crate::service::Pipelines;
use crate::source::digest_file;
use crate::source::files::find_files;

/// The files of a source that were copied, by URL, with the digests of their contents. It is
/// kept in the metadata store so that unchanged files are not copied again.
#[derive(Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
struct CopiedFiles(BTreeMap<String, Digest>);

impl Pipelines {
    /// Copies the files of sources that are on this machine to `sources/` in a folder on S3, and
    /// changes the definitions so that they read the copies. Files whose copies are current are
    /// skipped. Returns the URLs of the files that were copied.
    ///
    /// # Errors
    /// Returns an error when a file cannot be read or written.
    pub async fn copy_sources(
        &self,
        definitions: &mut Definitions,
        objects: &Url,
    ) -> Result<Vec<Url>> {
        let mut copied = Vec::new();
        for (name, source) in &mut definitions.sources {
            let Some(Location::Here(path)) = &source.files else {
                continue;
            };
            if let SourceKind::Delta { .. } = source.kind {
                return Err(Error::invalid(format!(
                    "source `{name}` is a Delta table on this machine, which a deployment does not \
                     read; export what it needs to files, or push the rows as events"
                )));
            }
            let folder = format!("{}/sources/{name}/", objects.as_str().trim_end_matches('/'));
            let folder = Url::parse(&folder).map_err(|e| {
                Error::caused(
                    Kind::Invalid,
                    format!("`{folder}` is not a folder on S3"),
                    e,
                )
            })?;
            copied.extend(self.copy_source(name, find_files(path)?, &folder).await?);
            source.files = Some(Location::Remote(folder.into()));
        }
        Ok(copied)
    }

    /// Copies the new and changed files of one source and removes the copies of files that are
    /// gone.
    async fn copy_source(
        &self,
        source: &str,
        files: Vec<PathBuf>,
        folder: &Url,
    ) -> Result<Vec<Url>> {
        let (remote, metadata) = (
            &self.context.components().remote,
            &self.context.components().stores.metadata,
        );
        let object_name = format!("{}/copied/{source}", self.context.project());
        let before = metadata.get(&object_name).await?;
        let mut before: CopiedFiles = before
            .and_then(|stored| serde_json::from_slice(&stored.value).ok())
            .unwrap_or_default();
        let (mut now, mut copied) = (CopiedFiles::default(), Vec::new());
        for file in files {
            let url = folder.join(&file_name(&file)?).map_err(|e| {
                let message = format!("{} has a name that cannot be part of a URL", file.display());
                Error::caused(Kind::Invalid, message, e)
            })?;
            let digest = digest_file(&file)?;
            if before.0.get(url.as_str()) != Some(&digest) {
                // The noted digest is dropped before the copy is overwritten, so that an upload
                // that is interrupted is repeated the next time.
                if before.0.remove(url.as_str()).is_some() {
                    self.save_copied(&object_name, &before).await?;
                }
                remote.put(&file, &url).await?;
                copied.push(url.clone());
            }
            now.0.insert(url.into(), digest);
        }
        for gone in before.0.keys().filter(|url| !now.0.contains_key(*url)) {
            if let Ok(url) = Url::parse(gone) {
                remote.remove(&url).await?;
            }
        }
        self.save_copied(&object_name, &now).await?;
        Ok(copied)
    }

    /// Records which files of a source were copied.
    async fn save_copied(&self, name: &str, copied: &CopiedFiles) -> Result<()> {
        let json =
            Bytes::from(serde_json::to_vec(copied).expect("names and digests are plain data"));
        let metadata = &self.context.components().stores.metadata;
        metadata.put(name, json, Expect::Anything).await?;
        Ok(())
    }
}

/// Returns the name of a file, encoded for a URL.
fn file_name(path: &Path) -> Result<String> {
    let name = path.file_name().and_then(|name| name.to_str());
    let name = name.ok_or_else(|| {
        Error::invalid(format!(
            "the name of {} is not valid Unicode",
            path.display()
        ))
    })?;
    // The URL encodes the name as one path segment, even if it contains characters such as `?`.
    let mut url = Url::parse("s3://x").expect("the text is a URL");
    url.path_segments_mut()
        .expect("an s3 URL has a path")
        .push(name);
    Ok(url.path().trim_start_matches('/').to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn file_name_is_encoded_as_one_url_segment() {
        for (name, wanted) in [("a.csv", "a.csv"), ("a b?#.csv", "a%20b%3F%23.csv")] {
            assert_eq!(
                file_name(Path::new("/x").join(name).as_path()).unwrap(),
                wanted
            );
        }
    }
}
