//! Rows of offline tables and of Parquet files.

use std::path::Path;

use arrow_array::{ArrayRef, RecordBatch};
use futures::TryStreamExt as _;
use serde_json::Value as Json;
use url::Url;
use wafer_core::{DataType, Digest, cell_to_json, coerce};
use wafer_store::{AsOf, OfflineTables};

use super::Project;
#[cfg(feature = "aws")]
use super::cloud::Cloud;

impl Project {
    /// Returns all rows of an offline table as JSON texts, sorted, and without the columns that say
    /// when and by what a row was written.
    pub(crate) fn offline(&self, table: &str) -> Vec<String> {
        let rows = self.offline_rows(table).into_iter().map(|mut row| {
            let object = row.as_object_mut().unwrap();
            for column in [
                "available_timestamp",
                "created_timestamp",
                "event_id",
                "arrival_order",
            ] {
                assert!(object.remove(column).is_some());
            }
            row.to_string()
        });
        let mut rows: Vec<String> = rows.collect();
        rows.sort();
        rows
    }

    /// Returns all rows of an offline table as JSON objects.
    pub(crate) fn offline_rows(&self, table: &str) -> Vec<Json> {
        let runtime = tokio::runtime::Runtime::new().unwrap();
        let batches: Vec<_> = runtime.block_on(async {
            let tables = self.offline_tables().await;
            let snapshot = tables.snapshot(table, AsOf::Latest).await.unwrap();
            snapshot.rows().try_collect().await.unwrap()
        });
        batches.iter().flat_map(json_rows).collect()
    }

    /// Returns the number of rows of an offline table and their digest, for comparing large tables.
    pub(crate) fn offline_digest(&self, table: &str) -> (usize, Digest) {
        let rows = self.offline(table);
        (rows.len(), Digest::of(rows.join("\n").as_bytes()))
    }

    #[cfg(feature = "aws")]
    async fn offline_tables(&self) -> OfflineTables {
        let Some(Cloud { objects, .. }) = &self.cloud else {
            return self.embedded_tables();
        };
        let account = wafer_aws::Account::from_environment(None).await.unwrap();
        let bucket = wafer_aws::Bucket::open(&account, &Url::parse(objects).unwrap()).unwrap();
        OfflineTables::in_bucket(bucket.url("offline"), bucket.root()).unwrap()
    }

    #[cfg(not(feature = "aws"))]
    #[allow(clippy::unused_async, reason = "as with the feature")]
    async fn offline_tables(&self) -> OfflineTables {
        self.embedded_tables()
    }

    fn embedded_tables(&self) -> OfflineTables {
        let url = Url::from_directory_path(self.path().join(".wafer/offline")).unwrap();
        OfflineTables::open(url).unwrap()
    }
}

/// Returns the rows of a Parquet file as JSON objects.
pub(crate) fn rows_of(path: &Path) -> Vec<Json> {
    let file = std::fs::File::open(path).unwrap();
    let reader = parquet::arrow::arrow_reader::ParquetRecordBatchReaderBuilder::try_new(file);
    let batches = reader.unwrap().build().unwrap();
    batches
        .flat_map(|batch| json_rows(&batch.unwrap()))
        .collect()
}

/// Writes rows as a Parquet file. Integers are kept, and all other values are written as text.
pub(crate) fn write_parquet(path: &Path, rows: &[Json]) {
    use arrow_array::{Int64Array, StringArray};
    let names = rows[0].as_object().unwrap().keys().cloned();
    let columns = names.map(|name| {
        let values = || rows.iter().map(|row| &row[&name]);
        let column: ArrayRef = if values().any(Json::is_i64) {
            std::sync::Arc::new(values().map(Json::as_i64).collect::<Int64Array>())
        } else if name == "event_timestamp" {
            let times = values().map(|time| time.as_str()?.parse::<wafer_core::Timestamp>().ok());
            let times = times.map(|time| time.map(|time| time.as_micros()));
            let times: arrow_array::TimestampMicrosecondArray = times.collect();
            std::sync::Arc::new(times.with_timezone("UTC"))
        } else {
            std::sync::Arc::new(values().map(Json::as_str).collect::<StringArray>())
        };
        (name, column)
    });
    let batch = RecordBatch::try_from_iter(columns.collect::<Vec<_>>()).unwrap();
    write_batch(path, &batch);
}

/// Writes columns as a Parquet file.
pub(crate) fn write_batch(path: &Path, batch: &RecordBatch) {
    let file = std::fs::File::create(path).unwrap();
    let mut writer = parquet::arrow::ArrowWriter::try_new(file, batch.schema(), None).unwrap();
    writer.write(batch).unwrap();
    writer.close().unwrap();
}

/// Writes columns as an Arrow file.
pub(crate) fn write_arrow(path: &Path, batch: &RecordBatch) {
    let file = std::fs::File::create(path).unwrap();
    let mut writer = arrow_ipc::writer::FileWriter::try_new(file, &batch.schema()).unwrap();
    writer.write(batch).unwrap();
    writer.finish().unwrap();
}

fn json_rows(batch: &RecordBatch) -> Vec<Json> {
    let schema = batch.schema();
    let names: Vec<&str> = schema.fields().iter().map(|f| f.name().as_str()).collect();
    let plain = |column: &ArrayRef| match column.data_type() {
        arrow_schema::DataType::Timestamp(..) => coerce(column, &DataType::Timestamp).unwrap(),
        _ => std::sync::Arc::clone(column),
    };
    let columns: Vec<ArrayRef> = batch.columns().iter().map(plain).collect();
    objects(&names, &columns)
}

/// Returns the rows of columns with these names as JSON objects.
pub(crate) fn objects(names: &[&str], columns: &[ArrayRef]) -> Vec<Json> {
    let object = |row: usize| {
        let cells = names.iter().zip(columns);
        let cells = cells.map(|(name, column)| ((*name).to_owned(), cell_to_json(column, row)));
        Json::Object(cells.collect())
    };
    let rows = columns.first().map_or(0, |column| column.len());
    (0..rows).map(object).collect()
}
