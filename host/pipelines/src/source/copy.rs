//! Copies of source files beside the objects of a deployed project.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use bytes::Bytes;
use serde::{Deserialize, Serialize};
use url::Url;
use wafer_catalog::{Definitions, Location};
use wafer_core::Digest;
use wafer_store::{Error, Expect, Kind, Result};

use crate::service::Pipelines;
use crate::source::digest_file;
use crate::source::files::find_files;

/// The files of a source that were copied, with the digests of their contents.
#[derive(Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
struct Copied(BTreeMap<String, Digest>);

impl Pipelines {
    /// Copies the files of sources that are on this machine to `sources/` of a folder on
    /// S3, as far as they are not there, and has the definitions read them there.
    /// Returns the URLs of what was copied.
    ///
    /// # Errors
    /// When a file cannot be read or written.
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
            let folder = format!("{}/sources/{name}/", objects.as_str().trim_end_matches('/'));
            let folder = Url::parse(&folder).map_err(|e| {
                Error::caused(Kind::Invalid, format!("`{folder}` is no folder on S3"), e)
            })?;
            copied.extend(self.copy_source(name, find_files(path)?, &folder).await?);
            source.files = Some(Location::Remote(folder.into()));
        }
        Ok(copied)
    }

    async fn copy_source(
        &self,
        source: &str,
        files: Vec<PathBuf>,
        folder: &Url,
    ) -> Result<Vec<Url>> {
        let (remote, metadata) = (
            &self.context.components().remote,
            &self.context.components().metadata,
        );
        let noted = format!("{}/copied/{source}", self.context.project());
        let before = metadata.get(&noted).await?;
        let mut before: Copied = before
            .and_then(|stored| serde_json::from_slice(&stored.value).ok())
            .unwrap_or_default();
        let (mut now, mut copied) = (Copied::default(), Vec::new());
        for file in files {
            let url = folder.join(&file_name(&file)?).map_err(|e| {
                let message = format!("{} has a name that is no part of a URL", file.display());
                Error::caused(Kind::Invalid, message, e)
            })?;
            let digest = digest_file(&file)?;
            if before.0.get(url.as_str()) != Some(&digest) {
                // Whatever becomes of this, it is not what was noted.
                if before.0.remove(url.as_str()).is_some() {
                    self.note_copied(&noted, &before).await?;
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
        self.note_copied(&noted, &now).await?;
        Ok(copied)
    }

    async fn note_copied(&self, name: &str, copied: &Copied) -> Result<()> {
        let json = Bytes::from(serde_json::to_vec(copied).expect("it is plain data"));
        let metadata = &self.context.components().metadata;
        metadata.put(name, json, Expect::Anything).await?;
        Ok(())
    }
}

fn file_name(path: &Path) -> Result<String> {
    let name = path.file_name().and_then(|name| name.to_str());
    let name = name.ok_or_else(|| {
        Error::invalid(format!(
            "the name of {} is not valid Unicode",
            path.display()
        ))
    })?;
    // A name is one segment of the URL, whatever is in it.
    let mut url = Url::parse("s3://x").expect("it is one");
    url.path_segments_mut().expect("it has a path").push(name);
    Ok(url.path().trim_start_matches('/').to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn file_names_are_one_segment() {
        for (name, wanted) in [("a.csv", "a.csv"), ("a b?#.csv", "a%20b%3F%23.csv")] {
            assert_eq!(
                file_name(Path::new("/x").join(name).as_path()).unwrap(),
                wanted
            );
        }
    }
}
