//! Recognises the folders of table formats, which hold files with rows that the table no longer
//! has. Read as plain files, such a folder would bring removed rows back.

use std::collections::{HashMap, HashSet};
use std::path::{Path, PathBuf};

use wafer_store::{Error, Result};

/// A table format, by what marks the folder of a table.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum TableFormat {
    /// Delta Lake.
    Delta,
    /// Apache Hudi.
    Hudi,
    /// Apache Iceberg.
    Iceberg,
}

impl TableFormat {
    /// All of them.
    pub const ALL: [Self; 3] = [Self::Delta, Self::Hudi, Self::Iceberg];

    /// The folder inside of a table's folder that marks it.
    pub fn mark(self) -> &'static str {
        match self {
            Self::Delta => "_delta_log",
            Self::Hudi => ".hoodie",
            Self::Iceberg => "metadata",
        }
    }

    /// Whether a file in the marking folder is one of the format's. Folders of the name `metadata`
    /// are found elsewhere too.
    pub fn is_marked_by(self, file: &str) -> bool {
        match self {
            Self::Delta | Self::Hudi => true,
            Self::Iceberg => file.ends_with(".metadata.json") || file == "version-hint.text",
        }
    }

    /// Whether a folder below a table's folder holds data of the table. `inside` is the first part
    /// of its path, and `None` for the table's folder itself.
    pub fn holds_data(self, inside: Option<&str>) -> bool {
        match self {
            Self::Delta | Self::Hudi => true,
            Self::Iceberg => inside.is_none_or(|inside| inside == "data"),
        }
    }

    /// The error for reading files of the table in a folder as plain files.
    pub fn refused(self, table: &str) -> Error {
        let (name, hint) = match self {
            Self::Delta => (
                "a Delta",
                "read it with `type = \"delta\"` and this folder as `path`",
            ),
            Self::Hudi => ("a Hudi", "read an export of it, in a folder of its own"),
            Self::Iceberg => ("an Iceberg", "read an export of it, in a folder of its own"),
        };
        Error::invalid(format!(
            "{table} is {name} table, whose files also hold rows that were removed; {hint}"
        ))
    }
}

/// Checks that the files that a local path stands for are not those of a table: a folder, files in
/// it, or files in a folder of its partitions. A pattern can begin above the folder of a table, so
/// the files that it finds are checked by [`check_files_of_no_table`].
///
/// # Errors
/// Returns [`Kind::Invalid`](wafer_store::Kind::Invalid) with the format and the folder of the
/// table.
pub fn check_no_table(path: &Path) -> Result<()> {
    let is_pattern = path.to_string_lossy().contains('*');
    let plain: PathBuf = match is_pattern {
        // The folders before the first pattern.
        true => path
            .components()
            .take_while(|part| !part.as_os_str().to_string_lossy().contains('*'))
            .collect(),
        false => path.to_owned(),
    };
    // A path that is not there is an error of its own.
    match here_if_empty(&plain).canonicalize() {
        Ok(folder) => MarkedFolders::default().check(&folder),
        Err(_) => Ok(()),
    }
}

/// Checks that none of the files that a pattern or a folder with partitions has led to is one of a
/// table, wherever on the way to it the folder of the table is. A link counts as the file that it
/// leads to.
///
/// # Errors
/// Returns [`Kind::Invalid`](wafer_store::Kind::Invalid) with the format and the folder of the
/// table.
pub fn check_files_of_no_table(files: &[PathBuf]) -> Result<()> {
    let mut marked = MarkedFolders::default();
    let mut checked: HashSet<PathBuf> = HashSet::new();
    for file in files {
        let linked = file.is_symlink().then(|| file.canonicalize().ok());
        let file = linked.flatten().unwrap_or_else(|| file.clone());
        let folder = here_if_empty(file.parent().unwrap_or(&file));
        if checked.contains(folder) {
            continue;
        }
        // A folder that is gone by now is an error of whoever reads the file.
        if let Ok(folder) = folder.canonicalize() {
            marked.check(&folder)?;
        }
        checked.insert(folder.to_owned());
    }
    Ok(())
}

/// Returns a folder, where a path without parts is the current one.
pub fn here_if_empty(path: &Path) -> &Path {
    match path.as_os_str().is_empty() {
        true => Path::new("."),
        false => path,
    }
}

/// The table formats that mark each of the local folders that were looked at.
#[derive(Debug, Default)]
struct MarkedFolders(HashMap<PathBuf, Vec<TableFormat>>);

impl MarkedFolders {
    /// Checks that a folder, given by its canonical path, holds no data of a table.
    fn check(&mut self, folder: &Path) -> Result<()> {
        for above in folder.ancestors() {
            let inside = folder.strip_prefix(above).ok();
            let inside = inside.and_then(|inside| inside.components().next());
            let inside = inside.map(|part| part.as_os_str().to_string_lossy());
            let mut formats = self.formats_of(above).iter();
            if let Some(format) = formats.find(|format| format.holds_data(inside.as_deref())) {
                return Err(format.refused(&above.display().to_string()));
            }
        }
        Ok(())
    }

    fn formats_of(&mut self, folder: &Path) -> &[TableFormat] {
        self.0.entry(folder.to_owned()).or_insert_with(|| {
            let formats = TableFormat::ALL.into_iter();
            let formats = formats.filter(|format| is_marked(*format, &folder.join(format.mark())));
            formats.collect()
        })
    }
}

/// Returns whether a local folder marks a table.
fn is_marked(format: TableFormat, mark: &Path) -> bool {
    let entries = std::fs::read_dir(mark).into_iter().flatten().flatten();
    let mut names = entries.map(|entry| entry.file_name().to_string_lossy().into_owned());
    names.any(|name| format.is_marked_by(&name))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn write(root: &Path, file: &str) {
        let path = root.join(file);
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        std::fs::write(path, b"").unwrap();
    }

    #[test]
    fn folders_of_tables_and_files_in_them_are_refused_by_name() {
        for (mark, data, format) in [
            (
                "_delta_log/00000000000000000000.json",
                "a.parquet",
                "a Delta table",
            ),
            (
                "_delta_log/00000000000000000000.json",
                "day=1/a.parquet",
                "a Delta table",
            ),
            (
                ".hoodie/hoodie.properties",
                "2024/01/a.parquet",
                "a Hudi table",
            ),
            (
                "metadata/v1.metadata.json",
                "data/a.parquet",
                "an Iceberg table",
            ),
            (
                "metadata/version-hint.text",
                "data/day=1/a.parquet",
                "an Iceberg table",
            ),
        ] {
            let root = tempfile::tempdir().unwrap();
            write(root.path(), &format!("t/{mark}"));
            write(root.path(), &format!("t/{data}"));
            let file = root.path().join("t").join(data);
            let folder = file.parent().unwrap().to_owned();
            let paths = [
                root.path().join("t"),
                root.path().join("t/"),
                folder.join("*.parquet"),
                root.path().join("t/*/*.parquet"),
                folder,
                file,
            ];
            for path in paths {
                let message = check_no_table(&path).unwrap_err().to_string();
                let is_named = message.contains(format) && message.contains("/t is ");
                assert!(is_named, "{}: {message}", path.display());
            }
            // The file was found by a pattern that begins above the table.
            let plain = root.path().join("plain.parquet");
            write(root.path(), "plain.parquet");
            let found = [plain.clone(), root.path().join("t").join(data)];
            let message = check_files_of_no_table(&found).unwrap_err().to_string();
            assert!(
                message.contains(format) && message.contains("/t is "),
                "{message}"
            );
            assert!(check_files_of_no_table(&[plain]).is_ok());
            // What is beside the table is not part of it.
            assert!(check_no_table(root.path()).is_ok());
            write(root.path(), "other.parquet");
            assert!(check_no_table(&root.path().join("other.parquet")).is_ok());
            assert!(check_no_table(&root.path().join("absent")).is_ok());
        }
    }

    #[cfg(unix)]
    #[test]
    fn links_to_files_of_a_table_are_refused() {
        let root = tempfile::tempdir().unwrap();
        write(root.path(), "t/_delta_log/00000000000000000000.json");
        write(root.path(), "t/a.parquet");
        write(root.path(), "links/b.parquet");
        let link = root.path().join("links/a.parquet");
        std::os::unix::fs::symlink(root.path().join("t/a.parquet"), &link).unwrap();
        let files = [root.path().join("links/b.parquet"), link];
        assert!(check_files_of_no_table(&files[..1]).is_ok());
        let message = check_files_of_no_table(&files).unwrap_err().to_string();
        assert!(message.contains("/t is a Delta table"), "{message}");
    }

    #[test]
    fn other_folders_of_the_same_names_are_no_tables() {
        let root = tempfile::tempdir().unwrap();
        write(root.path(), "metadata/readme.txt");
        write(root.path(), "data/a.csv");
        assert!(check_no_table(&root.path().join("data")).is_ok());
        // A project may be beside the metadata of a table.
        write(root.path(), "metadata/v1.metadata.json");
        write(root.path(), "project/a.csv");
        assert!(check_no_table(&root.path().join("project/a.csv")).is_ok());
        assert!(check_no_table(&root.path().join("data")).is_err());
    }
}
