//! Checks that the files that a URL stands for are not those of a table format, of which some hold
//! rows that the table no longer has.

use std::sync::Arc;

use wafer_files::TableFormat;
use wafer_store::{RemoteFiles, RemoteFilesExt as _, Result};

use crate::source::files::block_on;

/// Checks that the files that a URL stands for are not those of a table, like
/// [`check_no_table`](wafer_files::check_no_table). Of the folders above, those are looked at that
/// partitions of a table or its data can be in. Blocks the thread.
///
/// # Errors
/// Returns [`Kind::Invalid`](wafer_store::Kind::Invalid) with the format and the URL of the table,
/// and the errors of the remote files.
pub(crate) fn check_remote(text: &str, remote: &Arc<dyn RemoteFiles>) -> Result<()> {
    for folder in remote_folders(text) {
        for format in TableFormat::ALL {
            let mark = format!("{folder}{}/", format.mark());
            // What is not of the form that is read is refused when its files are looked for.
            let Ok(url) = remote.url(&mark) else {
                continue;
            };
            let files = block_on(remote.list(&url))?;
            let mut names = files
                .iter()
                .filter_map(|file| file.url.path().rsplit('/').next());
            if names.any(|name| format.is_marked_by(name)) {
                return Err(format.refused(folder.trim_end_matches('/')));
            }
        }
    }
    Ok(())
}

/// Returns the URLs, each with a slash at its end, of the folder that a URL of files names, and of
/// those above it as long as they are folders of partitions (`day=2024-01-01`) or of data.
fn remote_folders(text: &str) -> Vec<String> {
    let Some((scheme, path)) = text.split_once("://") else {
        return Vec::new();
    };
    let plain = path.split('*').next().unwrap_or_default();
    let mut parts: Vec<&str> = plain.split('/').filter(|part| !part.is_empty()).collect();
    // What is before a pattern in the same part is the start of a name, not a folder.
    if path.contains('*') && !plain.ends_with('/') {
        parts.pop();
    }
    let mut folders = Vec::new();
    // The first part is the bucket.
    while !parts.is_empty() {
        folders.push(format!("{scheme}://{}/", parts.join("/")));
        let last = parts.pop().unwrap_or_default();
        let is_file = folders.len() == 1 && last.contains('.');
        if !is_file && !last.contains('=') && last != "data" {
            break;
        }
    }
    folders
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn folders_of_a_url_that_may_be_a_table_are_looked_at() {
        for (url, wanted) in [
            ("s3://b/t", &["s3://b/t/"][..]),
            ("s3://b/t/", &["s3://b/t/"]),
            ("s3://b/x/t/*.parquet", &["s3://b/x/t/"]),
            ("s3://b/x/t/part-*.parquet", &["s3://b/x/t/"]),
            ("s3://b/t/a.parquet", &["s3://b/t/a.parquet/", "s3://b/t/"]),
            ("s3://b/t/day=1/*", &["s3://b/t/day=1/", "s3://b/t/"]),
            (
                "s3://b/t/data/day=1/",
                &["s3://b/t/data/day=1/", "s3://b/t/data/", "s3://b/t/"],
            ),
            ("s3://b", &["s3://b/"]),
        ] {
            assert_eq!(remote_folders(url), wanted, "{url}");
        }
    }
}
