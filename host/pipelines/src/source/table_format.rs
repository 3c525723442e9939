//! Checks that the files that a URL stands for are not those of a table format, of which some hold
//! rows that the table no longer has.

use std::collections::BTreeMap;
use std::sync::Arc;

use wafer_files::TableFormat;
use wafer_store::{RemoteFile, RemoteFiles, RemoteFilesExt as _, Result};

use crate::source::files::block_on;
use crate::source::find::parts;

/// Checks that the files that a URL stands for are not those of a table, like
/// [`check_no_table`](wafer_files::check_no_table). Of the folders above, those are looked at that
/// partitions of a table or its data can be in; for those below see [`ListedTables`]. Blocks the
/// thread.
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
            let files = block_on(remote.list(&url))?.all()?;
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

/// The folders of tables among listed files, each by the decoded parts of its path, with the
/// formats that mark it. A pattern can begin above the folder of a table, and a folder can have
/// partitions that are tables.
#[derive(Debug, Default)]
pub(super) struct ListedTables(BTreeMap<Vec<String>, Vec<TableFormat>>);

impl ListedTables {
    /// Finds the folders of tables. `files` are all files that were listed, with those that mark a
    /// table.
    pub(super) fn of(files: &[RemoteFile]) -> Self {
        let mut tables = Self::default();
        for file in files {
            let path = parts(&file.url);
            let Some((name, folders)) = path.split_last() else {
                continue;
            };
            for (above, folder) in folders.iter().enumerate() {
                let mut formats = TableFormat::ALL.into_iter();
                let Some(format) = formats.find(|format| format.mark() == folder) else {
                    continue;
                };
                if format.is_marked_by(name) {
                    let known = tables.0.entry(folders[..above].to_vec()).or_default();
                    if !known.contains(&format) {
                        known.push(format);
                    }
                }
            }
        }
        tables
    }

    /// Checks that none of the files that were found is one of a table.
    ///
    /// # Errors
    /// Returns [`Kind::Invalid`](wafer_store::Kind::Invalid) with the format and the URL of the
    /// table.
    pub(super) fn check(&self, found: &[RemoteFile]) -> Result<()> {
        if self.0.is_empty() {
            return Ok(());
        }
        for file in found {
            let path = parts(&file.url);
            let folders = path.split_last().map(|(_, folders)| folders);
            let folders: &[String] = folders.unwrap_or_default();
            for above in 0..=folders.len() {
                let (table, below) = folders.split_at(above);
                let inside = below.first().map(String::as_str);
                let mut formats = self.0.get(table).into_iter().flatten();
                if let Some(format) = formats.find(|format| format.holds_data(inside)) {
                    let (scheme, host) = (file.url.scheme(), file.url.host_str());
                    let (bucket, folder) = (host.unwrap_or_default(), table.join("/"));
                    return Err(format.refused(&format!("{scheme}://{bucket}/{folder}")));
                }
            }
        }
        Ok(())
    }
}

/// Returns the URLs, each with a slash at its end, of the folder that a URL of files names, and of
/// those above it as long as they are folders of partitions (`day=2024-01-01`, or `2024` as Hudi
/// names them) or of data.
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
        let is_date = last.chars().all(|c| c.is_ascii_digit() || c == '-');
        if !is_file && !is_date && !last.contains('=') && last != "data" {
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
            (
                "s3://b/t/2024/01-02/*",
                &["s3://b/t/2024/01-02/", "s3://b/t/2024/", "s3://b/t/"],
            ),
            ("s3://b", &["s3://b/"]),
        ] {
            assert_eq!(remote_folders(url), wanted, "{url}");
        }
    }

    #[test]
    fn files_of_tables_are_recognised_by_what_is_listed_beside_them() {
        let file = |key: &str| RemoteFile {
            url: format!("s3://b/{key}").parse().unwrap(),
            bytes: 1,
            version: String::new(),
        };
        for (mark, data, wanted) in [
            (
                "lake/my%20t/_delta_log/0.json",
                "lake/my%20t/a.parquet",
                Some("s3://b/lake/my t is a Delta table"),
            ),
            (
                "t/_delta_log/0.json",
                "t/x=1/y=2/a.parquet",
                Some("s3://b/t is a Delta table"),
            ),
            (
                "in/day=1/_delta_log/0.json",
                "in/day=1/a.parquet",
                Some("s3://b/in/day=1 is a Delta table"),
            ),
            (
                "t/.hoodie/hoodie.properties",
                "t/2024/a.parquet",
                Some("s3://b/t is a Hudi table"),
            ),
            (
                "t/metadata/v1.metadata.json",
                "t/data/a.parquet",
                Some("s3://b/t is an Iceberg table"),
            ),
            ("_delta_log/0.json", "a.parquet", Some("is a Delta table")),
            ("t/metadata/v1.metadata.json", "t/other/a.parquet", None),
            ("t/metadata/readme.json", "t/data/a.parquet", None),
            ("t/_delta_log/0.json", "t2/a.parquet", None),
            ("t/_delta_log.json", "t/a.parquet", None),
        ] {
            let (mark, data) = (file(mark), file(data));
            let tables = ListedTables::of(&[mark, data.clone()]);
            match (tables.check(std::slice::from_ref(&data)), wanted) {
                (Ok(()), None) => {}
                (Err(error), Some(wanted)) => {
                    assert!(error.to_string().contains(wanted), "{error}");
                }
                (found, wanted) => panic!("{}: {found:?}, wanted {wanted:?}", data.url),
            }
        }
    }
}
