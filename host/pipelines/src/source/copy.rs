//! Copies source files to the object storage of a deployed project.

use std::collections::BTreeMap;
use std::path::{Component, Path, PathBuf};

use bytes::Bytes;
use serde::{Deserialize, Serialize};
use url::Url;
use wafer_catalog::{Definitions, Location};
use wafer_core::Digest;
use wafer_store::{Error, Expect, RemoteFilesExt as _, Result};

use crate::source::find::{find_files, split_pattern};
use crate::source::partition::is_partition;
use crate::source::{Sources, digest_file};

/// The files of a source that were copied, by URL, with the digests of their contents. It is
/// kept in the metadata store so that unchanged files are not copied again.
#[derive(Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
struct CopiedFiles(BTreeMap<String, Digest>);

impl Sources {
    /// Copies the files of sources that are on this machine to `sources/` in the folder `objects`,
    /// and changes the definitions so that they read the copies. Files whose copies are current are
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
            if !source.kind.reads_files_one_by_one() {
                return Err(Error::invalid(format!(
                    "source `{name}` is {} on this machine, which a deployment does not read; set its \
                     `path` to a table on S3, export what it needs to files, or push the rows as events",
                    source.kind.noun()
                )));
            }
            let folder = format!("{}/sources/{name}/", objects.as_str().trim_end_matches('/'));
            let folder = self.context.components().remote.url(&folder)?;
            let files = copies(path, find_files(path)?, &folder)?;
            // Only a pattern finds folders that are not partitions.
            let are_partitions = files.iter().all(|(_, url)| {
                let below = url
                    .as_str()
                    .strip_prefix(folder.as_str())
                    .unwrap_or_default();
                let folders = below.rsplit_once('/').map_or("", |(folders, _)| folders);
                folders
                    .split('/')
                    .all(|folder| folder.is_empty() || is_partition(folder))
            });
            copied.extend(self.copy_source(name, files).await?);
            let pattern = if are_partitions { "" } else { "**/*" };
            source.files = Some(Location::Remote(format!("{folder}{pattern}")));
        }
        Ok(copied)
    }

    /// Copies the new and changed files of one source and removes the copies of files that are
    /// gone.
    async fn copy_source(&self, source: &str, files: Vec<(PathBuf, Url)>) -> Result<Vec<Url>> {
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
        for (file, url) in files {
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

/// Returns the files of a source, each with the URL of its copy in a folder. The copies are in the
/// same folders below it as the files are below the path of the source, and in those above that are
/// partitions.
fn copies(path: &Path, files: Vec<PathBuf>, folder: &Url) -> Result<Vec<(PathBuf, Url)>> {
    let above = match path.is_file() {
        true => path.parent().unwrap_or(path).to_owned(),
        false => split_pattern(path).0,
    };
    let is_part = |part: &Component<'_>| is_partition(&part.as_os_str().to_string_lossy());
    let parts = above.components().count();
    let kept = above
        .components()
        .position(|part| is_part(&part))
        .unwrap_or(parts);
    let files = files.into_iter().map(|file| {
        let mut url = folder.clone();
        {
            let names = file.components().skip(kept);
            let names: Option<Vec<&str>> = names.map(|name| name.as_os_str().to_str()).collect();
            let names = names.ok_or_else(|| {
                let file = file.display();
                Error::invalid(format!("the name of {file} is not valid Unicode"))
            })?;
            let segments = url.path_segments_mut();
            let mut segments = segments
                .map_err(|()| Error::invalid(format!("`{folder}` is not the URL of a folder")))?;
            // Each name is encoded as one segment, even if it contains characters such as `?`.
            segments.pop_if_empty().extend(names);
        }
        Ok((file, url))
    });
    files.collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn copies_have_the_names_and_the_folders_of_the_files() {
        let folder = Url::parse("s3://b/p/sources/s/").unwrap();
        for (path, file, wanted) in [
            ("/x/*.csv", "/x/a b?#.csv", "a%20b%3F%23.csv"),
            ("/x/*/*.csv", "/x/day=1/a.csv", "day=1/a.csv"),
            ("/x/day=1/*.csv", "/x/day=1/a.csv", "day=1/a.csv"),
            ("/x/**/*.csv", "/x/y/z/a.csv", "y/z/a.csv"),
        ] {
            let copied = copies(Path::new(path), vec![PathBuf::from(file)], &folder).unwrap();
            assert_eq!(copied[0].1.as_str(), format!("{folder}{wanted}"));
        }
    }
}
