//! Recognises the folders of table formats, which hold files with rows that the table no longer
//! has. Read as plain files, such a folder would bring removed rows back.

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
    fn holds_data(self, inside: Option<&str>) -> bool {
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
/// it, or files in a folder of its partitions.
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
    // A pattern may begin right away, in the current folder.
    let plain = match plain.as_os_str().is_empty() {
        true => PathBuf::from("."),
        false => plain,
    };
    // A path that is not there is an error of its own.
    let Ok(folder) = plain.canonicalize() else {
        return Ok(());
    };
    for above in folder.ancestors() {
        let inside = folder.strip_prefix(above).ok();
        let inside = inside.and_then(|inside| inside.components().next());
        let inside = inside.map(|part| part.as_os_str().to_string_lossy().into_owned());
        let found = TableFormat::ALL.into_iter().find(|format| {
            format.holds_data(inside.as_deref()) && is_marked(*format, &above.join(format.mark()))
        });
        if let Some(format) = found {
            return Err(format.refused(&above.display().to_string()));
        }
    }
    Ok(())
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
            // What is beside the table is not part of it.
            assert!(check_no_table(root.path()).is_ok());
            write(root.path(), "other.parquet");
            assert!(check_no_table(&root.path().join("other.parquet")).is_ok());
            assert!(check_no_table(&root.path().join("absent")).is_ok());
        }
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
