//! Parquet files: metadata from the end of the file, then batches of rows. Times of the old type
//! INT96 are read by `parquet/int96.rs`.

mod int96;

use std::fs::File;
use std::sync::Arc;

use arrow_array::RecordBatchReader as _;
use parquet::arrow::ProjectionMask;
use parquet::arrow::arrow_reader::ParquetRecordBatchReaderBuilder;
use wafer_runtime::CHUNK_ROWS;
use wafer_store::{Error, Kind, Result};

use self::int96::Int96Columns;
use super::{Decoded, DecodedBatch, Projection, Request, check_width, metadata_only};
use crate::unreadable;

/// Opens a Parquet file.
pub(super) fn open(request: &Request, file: File) -> Result<Decoded> {
    let path = request.path();
    let copy = file.try_clone().map_err(|e| unreadable(path, e))?;
    let builder =
        ParquetRecordBatchReaderBuilder::try_new(file).map_err(|e| unreadable(path, e))?;
    let rows = u64::try_from(builder.metadata().file_metadata().num_rows()).ok();
    let schema = Arc::clone(builder.schema());
    check_width(request, &schema)?;
    let Some(columns) = &request.columns else {
        return Ok(metadata_only(schema, rows));
    };
    let found = Projection::new(request, &schema, columns)?;
    let roots: Vec<usize> = found.positions.into_iter().flatten().collect();
    let mut int96 = Int96Columns::open(path, copy, &builder, &roots)?;
    let mask = ProjectionMask::roots(builder.parquet_schema(), roots);
    let reader = builder
        .with_projection(mask)
        .with_batch_size(CHUNK_ROWS)
        .build()
        .map_err(|e| unreadable(path, e))?;
    // The batches have only the columns that are read, in the order of the file.
    let projection = Projection::new(request, &reader.schema(), columns)?;
    let schema = match &int96 {
        None => Arc::clone(&projection.schema),
        Some(int96) => int96.schema(&projection.schema),
    };
    let (request, mut first) = (request.clone(), 0);
    let batches = reader.map(move |batch| {
        let batch = batch.map_err(|e| {
            let message = format!("{} cannot be read after row {first}", request.path);
            Error::caused(Kind::Invalid, message, e)
        })?;
        first += batch.num_rows() as u64;
        let batch = projection.apply(&request, &batch)?;
        match &mut int96 {
            None => Ok(DecodedBatch::from(batch)),
            Some(int96) => int96.replace(&request, &batch),
        }
    });
    Ok(Decoded {
        schema,
        rows,
        batches: Box::new(batches),
    })
}
