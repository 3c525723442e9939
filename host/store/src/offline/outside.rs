//! Delta tables that others write, as sources of rows.
//!
//! Only the files that the log names as live at one version are read, with the values of the
//! partition columns, which only the log has. A table whose rows cannot be told from its files
//! alone, such as one with deletion vectors, is refused with the name of what it uses.
//!
//! The library reads the log here, in this process, where panics become errors; whoever opens a
//! table looks at its log first. The data files are not read here at all.

use std::collections::HashMap;
use std::panic::AssertUnwindSafe;
use std::sync::Arc;

use arrow_array::{ArrayRef, BooleanArray, Date32Array, Int64Array, StringArray};
use arrow_schema::{DataType as ArrowType, Field};
use deltalake::DeltaTable;
use futures::FutureExt as _;
use serde_json::Value as Json;
use url::Url;
use wafer_core::{ColumnBuilder, DataType, Quoting};

use super::library::LibraryError;
use super::snapshot::{AsOf, DataFile, TableSnapshot};
use super::{OfflineTables, failed};
use crate::{Error, Kind, Place, Result};

/// What may be in a table so that its live files still hold its rows. Deletion vectors are looked
/// for file by file.
const READABLE: [&str; 5] = [
    "columnMapping",
    "deletionVectors",
    "timestampNtz",
    "v2Checkpoint",
    "vacuumProtocolCheck",
];

/// What the log says of a table that others write, beside what it says of every table.
#[derive(Debug)]
pub(super) struct Outside {
    /// The identity of the table, which another table at the same place does not share.
    id: String,
    /// The folder of the table, without links.
    place: Place,
    files: HashMap<String, OutsideFile>,
}

/// What the log says of a file.
#[derive(Debug)]
struct OutsideFile {
    /// When the file was written, in milliseconds since the Unix epoch.
    modified: i64,
    /// The values of the partition columns, as text.
    partition: HashMap<String, Option<String>>,
}

impl OfflineTables {
    /// Opens a version of a Delta table that others write, or its newest version.
    ///
    /// # Errors
    /// Returns [`Kind::NotFound`] when there is no Delta table or no such version, and
    /// [`Kind::Invalid`] when the table uses something that this reader does not know, or the
    /// reader of its log panics.
    pub async fn open_outside(folder: &Place, version: Option<u64>) -> Result<TableSnapshot> {
        survived(folder, Self::load_outside(folder, version)).await
    }

    async fn load_outside(folder: &Place, version: Option<u64>) -> Result<TableSnapshot> {
        let (tables, name, found) = Self::around(folder).await?;
        let as_of = version.map_or(AsOf::Latest, AsOf::Version);
        let delta = tables.load_as_of(&name, as_of).await.map_err(|e| {
            let message = match version {
                Some(version) => {
                    format!("version {version} of the Delta table {folder} cannot be read")
                }
                None => format!("the Delta table {folder} cannot be read"),
            };
            Error::caused(e.kind(), message, e)
        })?;
        let outside = Outside::new(found, &delta)?;
        TableSnapshot::new(&tables, &name, &delta, Some(outside))
    }

    /// Returns the tables among which a table of others is, its name there, and its folder without
    /// links.
    async fn around(folder: &Place) -> Result<(Self, String, Place)> {
        let no_log = || {
            let message = format!("{folder} is not a Delta table: it has no folder `_delta_log`");
            Error::new(Kind::NotFound, message)
        };
        match folder {
            Place::Here(path) => {
                let path = path
                    .canonicalize()
                    .map_err(|e| Error::io("find", path, e))?;
                if !path.join("_delta_log").is_dir() {
                    return Err(no_log());
                }
                let (root, name) = divided(folder, Url::from_file_path(&path).ok())?;
                // The folder belongs to others, so that nothing in it is closed to them.
                Ok((Self::below(root), name, Place::Here(path)))
            }
            Place::Remote(url, files) => {
                let (root, name) = divided(folder, Some(url.clone()))?;
                let tables = files.tables(&root).await?;
                if !tables.is_in_bucket(&name).await? {
                    return Err(no_log());
                }
                Ok((tables, name, folder.clone()))
            }
        }
    }
}

/// Waits for the library that reads the log of a table. A damaged log may make it panic, which is
/// an error of the table.
pub(super) async fn survived<T>(
    folder: &Place,
    reading: impl Future<Output = Result<T>>,
) -> Result<T> {
    let read = AssertUnwindSafe(reading).catch_unwind().await;
    read.unwrap_or_else(|_| {
        Err(Error::invalid(format!(
            "the log of the Delta table {folder} cannot be read: it is damaged (its reader \
             panicked; where is in the log of this program)"
        )))
    })
}

/// Returns the URL of the folder above a table, and the name of the table in it as part of a URL.
/// `own` is the URL of the table, if it has one.
fn divided(folder: &Place, own: Option<Url>) -> Result<(Url, String)> {
    let unnamed = || {
        Error::invalid(format!(
            "{folder} is not a path of a table: name a folder in it that is one"
        ))
    };
    let own = own.ok_or_else(unnamed)?;
    let root = own.join(".").map_err(|_| unnamed())?;
    let name = own.path_segments().and_then(Iterator::last);
    let name = name.filter(|name| !name.is_empty()).ok_or_else(unnamed)?;
    // A name with a colon would be taken for a URL.
    let prefix = if name.contains(':') { "./" } else { "" };
    Ok((root, format!("{prefix}{name}")))
}

impl Outside {
    fn new(place: Place, delta: &DeltaTable) -> Result<Arc<Self>> {
        let shown = place.to_string();
        let state = delta.snapshot().map_err(|e| failed("read", &shown, e))?;
        let damaged = |e| {
            let message = format!("the log of the Delta table {shown} is damaged");
            Error::caused(Kind::Corrupt, message, e)
        };
        let protocol = serde_json::to_value(state.protocol()).map_err(damaged)?;
        let metadata = serde_json::to_value(state.metadata()).map_err(damaged)?;
        check_features(&shown, &protocol, &metadata)?;
        let mut files = HashMap::new();
        for file in state.log_data().iter() {
            if file.deletion_vector_descriptor().is_some() {
                return Err(Error::invalid(format!(
                    "the Delta table {shown} has deletion vectors: file {} holds rows that were \
                     removed, and is not read; rewrite its files with \
                     `REORG TABLE … APPLY (PURGE)`, or read a copy of the table",
                    file.path()
                )));
            }
            let known = OutsideFile {
                modified: file.modification_time(),
                partition: file.partition_values_map(),
            };
            files.insert(file.path().into_owned(), known);
        }
        let id = metadata["id"].as_str().unwrap_or_default().to_owned();
        Ok(Arc::new(Self { id, place, files }))
    }

    /// The folder of the table, without links.
    pub(super) fn place(&self) -> &Place {
        &self.place
    }
}

/// Checks that everything that readers of a table have to know is known here.
fn check_features(table: &str, protocol: &Json, metadata: &Json) -> Result<()> {
    let refused = |feature: &str| {
        Error::invalid(format!(
            "the Delta table {table} uses `{feature}`, which Wafer does not read; read a copy of \
             the table without it"
        ))
    };
    let features = protocol["readerFeatures"].as_array().into_iter().flatten();
    for feature in features.filter_map(Json::as_str) {
        if !READABLE.contains(&feature) {
            return Err(refused(feature));
        }
    }
    let mapping = &metadata["configuration"]["delta.columnMapping.mode"];
    match mapping.as_str() {
        None | Some("none") => Ok(()),
        Some(_) => Err(refused("columnMapping")),
    }
}

impl TableSnapshot {
    /// The identity of a table that others write; `None` for a table of Wafer.
    pub fn outside_id(&self) -> Option<&str> {
        self.outside.as_ref().map(|outside| outside.id.as_str())
    }

    /// The folder of a table that others write; `None` for a table of Wafer.
    pub fn outside_folder(&self) -> Option<&Place> {
        self.outside.as_deref().map(Outside::place)
    }

    /// Puts the files of a table that others write in the order in which they were written.
    pub(super) fn in_order_of_writing(outside: &Outside, files: &mut [DataFile]) {
        let written = |file: &DataFile| {
            let known = outside.files.get(&file.path);
            (
                known.map_or(i64::MAX, |known| known.modified),
                file.path.clone(),
            )
        };
        files.sort_by_cached_key(written);
    }

    /// Returns where a data file of a table is that others write.
    ///
    /// # Errors
    /// Returns [`Kind::Invalid`] when the file is not below the folder of the table, or the table
    /// is one of Wafer.
    pub fn outside_file(&self, file: &DataFile) -> Result<Place> {
        let folder = self.outside_folder().ok_or_else(|| {
            Error::invalid(format!(
                "table `{}` is not one that others write",
                self.table
            ))
        })?;
        let path = object_store::path::Path::parse(&file.path).map_err(|e| {
            let path = &file.path;
            let message = format!("file {path} of the Delta table {folder} is not in its folder");
            Error::caused(Kind::Invalid, message, LibraryError::new(&e))
        })?;
        Ok(folder.below(path.as_ref()))
    }

    /// Returns the columns whose values are in the log of a table that others write and not in its
    /// file, each with its value as the only row.
    ///
    /// # Errors
    /// Returns [`Kind::Invalid`] for a value that is not of the type of its column.
    pub fn partition_values(
        &self,
        file: &DataFile,
        fields: &[Field],
    ) -> Result<HashMap<String, ArrayRef>> {
        let Some(outside) = &self.outside else {
            return Ok(HashMap::new());
        };
        let Some(known) = outside.files.get(&file.path) else {
            return Ok(HashMap::new());
        };
        let of_partition = |field: &&Field| known.partition.contains_key(field.name());
        let value = |field: &Field| {
            let text = known.partition[field.name()].as_deref();
            // The log writes nulls as empty texts as well.
            let text = text.filter(|text| !text.is_empty());
            let value = partition_value(text, field.data_type()).map_err(|wrong| {
                Error::invalid(format!(
                    "file {} of the Delta table {}: partition column `{}` {wrong}",
                    file.path,
                    outside.place,
                    field.name()
                ))
            })?;
            Ok((field.name().clone(), value))
        };
        fields.iter().filter(of_partition).map(value).collect()
    }
}

/// Parses a float as texts of every format are read: it is not infinite unless it is written so.
fn float(text: Option<&str>, data_type: &DataType) -> Result<ArrayRef, String> {
    let mut column = ColumnBuilder::new(data_type, 1);
    match text {
        None => column.append_null(),
        Some(text) => column
            .append_text(text, Quoting::Unquoted)
            .map_err(|message| format!("has a value that cannot be read: {message}"))?,
    }
    Ok(column.finish())
}

/// Parses a value of a partition column. Returns what is wrong with it otherwise.
fn partition_value(text: Option<&str>, data_type: &ArrowType) -> Result<ArrayRef, String> {
    fn parsed<T: std::str::FromStr>(text: Option<&str>, what: &str) -> Result<Option<T>, String> {
        let wrong = |text: &str| format!("has the value `{text}`, which is not {what}");
        text.map(|text| text.parse().map_err(|_| wrong(text)))
            .transpose()
    }
    Ok(match data_type {
        ArrowType::Utf8 | ArrowType::LargeUtf8 | ArrowType::Utf8View => {
            Arc::new(StringArray::from(vec![text]))
        }
        ArrowType::Int8 | ArrowType::Int16 | ArrowType::Int32 | ArrowType::Int64 => {
            Arc::new(Int64Array::from(vec![parsed(text, "an integer")?]))
        }
        ArrowType::Float32 => float(text, &DataType::Float32)?,
        ArrowType::Float64 => float(text, &DataType::Float64)?,
        ArrowType::Boolean => Arc::new(BooleanArray::from(vec![parsed(text, "a boolean")?])),
        ArrowType::Date32 => {
            let day: Option<chrono::NaiveDate> = parsed(text, "a date")?;
            let days = day.map(|day| day.signed_duration_since(chrono::NaiveDate::default()));
            let days = days.map(|days| i32::try_from(days.num_days()));
            let days = days.transpose().map_err(|_| "is out of range".to_owned())?;
            Arc::new(Date32Array::from(vec![days]))
        }
        other => {
            return Err(format!(
                "is {other}: of partition columns Wafer reads texts, integers, floats, booleans \
                 and dates"
            ));
        }
    })
}

#[cfg(test)]
mod tests {
    use arrow_array::{Array as _, RecordBatch};
    use arrow_schema::Schema;
    use async_trait::async_trait;
    use object_store::ObjectStore;
    use object_store::memory::InMemory;
    use serde_json::json;

    use super::*;
    use crate::{Follows, RemoteFile, RemoteFiles, RemoteListing, Txn};

    /// A bucket in memory of which only tables are read.
    #[derive(Debug)]
    struct InMemoryBucket(Arc<dyn ObjectStore>);

    fn only_tables() -> Error {
        Error::invalid("only tables are read")
    }

    #[async_trait]
    impl RemoteFiles for InMemoryBucket {
        fn form(&self) -> &'static str {
            "s3://BUCKET/FOLDER"
        }

        async fn list(&self, _url: &Url) -> Result<RemoteListing> {
            Err(only_tables())
        }

        async fn fetch(&self, _file: &RemoteFile, _to: &std::path::Path) -> Result<()> {
            Err(only_tables())
        }

        async fn put(&self, _from: &std::path::Path, _to: &Url) -> Result<()> {
            Err(only_tables())
        }

        async fn remove(&self, _url: &Url) -> Result<()> {
            Err(only_tables())
        }

        async fn tables(&self, url: &Url) -> Result<OfflineTables> {
            OfflineTables::in_bucket(url.clone(), Arc::clone(&self.0))
        }
    }

    /// Makes the table `my t` in a folder of a bucket, whose versions 1 and 2 add a file each.
    async fn write_versions(lake: &str, bucket: &Arc<dyn ObjectStore>) {
        let lake = Url::parse(lake).unwrap();
        let tables = OfflineTables::in_bucket(lake, Arc::clone(bucket)).unwrap();
        let schema = Arc::new(Schema::new(vec![Field::new("n", ArrowType::Int64, false)]));
        tables.ensure("my t", &schema).await.unwrap();
        for version in 1..=2 {
            let numbers: ArrayRef = Arc::new(Int64Array::from(vec![version]));
            let batch = RecordBatch::try_new(Arc::clone(&schema), vec![numbers]).unwrap();
            let writer = tables.writer("my t", &format!("w{version}")).await;
            let mut writer = writer.unwrap();
            writer.write(&batch).await.unwrap();
            let txn = Txn {
                app_id: "test".to_owned(),
                version,
                follows: Follows::Anything,
            };
            writer.commit(&txn, None).await.unwrap();
        }
    }

    #[tokio::test(flavor = "multi_thread")]
    async fn remote_tables_are_opened_at_a_version_and_tell_what_changed() {
        let bucket: Arc<dyn ObjectStore> = Arc::new(InMemory::new());
        write_versions("s3://others/lake", &bucket).await;
        let files: Arc<dyn RemoteFiles> = Arc::new(InMemoryBucket(bucket));
        let place = |text: &str| Place::remote(text, Arc::clone(&files)).unwrap();
        let table = place("s3://others/lake/my t/");
        for (version, wanted) in [(Some(0), 0), (Some(1), 1), (None, 2)] {
            let found = OfflineTables::open_outside(&table, version).await.unwrap();
            assert_eq!(found.files().len(), wanted, "{version:?}");
        }
        let found = OfflineTables::open_outside(&table, None).await.unwrap();
        let changes = found.changes_since(1).await.unwrap();
        let added: Vec<&str> = changes.iter().map(|c| c.file.path.as_str()).collect();
        assert!(
            matches!(added[..], [path] if path.starts_with("w2/")),
            "{added:?}"
        );
        let file = found.outside_file(&found.files()[0]).unwrap().to_string();
        assert!(file.starts_with("s3://others/lake/my%20t/w1/"), "{file}");
        for path in ["../u/a.parquet", "s3://others/u/a.parquet"] {
            let error = found.outside_file(&DataFile::unknown(path.to_owned()));
            let said = error.unwrap_err().to_string();
            assert!(said.contains("is not in its folder"), "{said}");
        }
        for (folder, version, wanted) in [
            ("s3://others/lake/u", None, "lake/u is not a Delta table"),
            (
                "s3://others/lake/my t",
                Some(9),
                "version 9 of the Delta table s3://others/lake/my",
            ),
            ("s3://others", None, "s3://others/ is not a path of a table"),
        ] {
            let found = OfflineTables::open_outside(&place(folder), version).await;
            let said = found.unwrap_err().to_string();
            assert!(said.contains(wanted), "{said}");
        }
    }

    #[test]
    fn tables_with_unknown_features_are_refused_by_name() {
        let none = json!({});
        for (protocol, metadata, refused) in [
            (none.clone(), none.clone(), None),
            (json!({"minReaderVersion": 1}), none.clone(), None),
            (
                json!({"readerFeatures": ["timestampNtz", "deletionVectors"]}),
                none.clone(),
                None,
            ),
            (
                json!({"readerFeatures": ["timestampNtz", "variantType"]}),
                none.clone(),
                Some("variantType"),
            ),
            (
                json!({"readerFeatures": ["columnMapping"]}),
                json!({"configuration": {"delta.columnMapping.mode": "none"}}),
                None,
            ),
            (
                json!({"minReaderVersion": 2}),
                json!({"configuration": {"delta.columnMapping.mode": "name"}}),
                Some("columnMapping"),
            ),
            (
                json!({"readerFeatures": ["typeWidening"]}),
                none.clone(),
                Some("typeWidening"),
            ),
        ] {
            let found = check_features("t", &protocol, &metadata).map_err(|e| e.to_string());
            match refused {
                None => assert_eq!(found, Ok(())),
                Some(feature) => assert!(
                    found.is_err_and(|message| message.contains(feature)),
                    "{protocol}"
                ),
            }
        }
    }

    #[test]
    fn partition_values_are_parsed_or_refused() {
        for (text, data_type, wanted) in [
            (Some("a b"), ArrowType::Utf8, Ok("a b")),
            (Some("-7"), ArrowType::Int32, Ok("-7")),
            (
                Some("9007199254740993"),
                ArrowType::Int64,
                Ok("9007199254740993"),
            ),
            (Some("1.5"), ArrowType::Float64, Ok("1.5")),
            (Some("1.0E10"), ArrowType::Float64, Ok("10000000000.0")),
            (Some("-Infinity"), ArrowType::Float64, Ok("-inf")),
            (Some("NaN"), ArrowType::Float32, Ok("NaN")),
            (Some("0.1"), ArrowType::Float32, Ok("0.1")),
            (None, ArrowType::Float32, Ok("")),
            (
                Some("1e400"),
                ArrowType::Float64,
                Err("`1e400` is not float64, because it is beyond its range"),
            ),
            (
                Some("1e39"),
                ArrowType::Float32,
                Err("`1e39` is not float32, because it is beyond its range"),
            ),
            (
                Some("9007199254740993"),
                ArrowType::Float64,
                Err("because it has more digits than that keeps"),
            ),
            (Some("a"), ArrowType::Float64, Err("`a` is not float64")),
            (Some("true"), ArrowType::Boolean, Ok("true")),
            (Some("2024-02-29"), ArrowType::Date32, Ok("2024-02-29")),
            (Some("1969-12-31"), ArrowType::Date32, Ok("1969-12-31")),
            (None, ArrowType::Date32, Ok("")),
            (
                Some("7.0"),
                ArrowType::Int64,
                Err("`7.0`, which is not an integer"),
            ),
            (
                Some("2024-02-30"),
                ArrowType::Date32,
                Err("which is not a date"),
            ),
            (
                Some("yes"),
                ArrowType::Boolean,
                Err("which is not a boolean"),
            ),
            (Some("1"), ArrowType::Binary, Err("is Binary")),
        ] {
            match (partition_value(text, &data_type), wanted) {
                (Ok(found), Ok(wanted)) => {
                    if matches!(data_type, ArrowType::Float32 | ArrowType::Date32) {
                        assert_eq!(*found.data_type(), data_type, "{text:?}");
                    }
                    assert_eq!(found.is_null(0), wanted.is_empty(), "{text:?}");
                    assert_eq!(found.len(), 1, "{text:?}");
                    let debugged = format!("{found:?}");
                    assert!(debugged.contains(wanted), "{text:?}: {debugged}");
                }
                (Err(found), Err(wanted)) => assert!(found.contains(wanted), "{found}"),
                (found, wanted) => panic!("{text:?}: {found:?}, not {wanted:?}"),
            }
        }
    }
}
