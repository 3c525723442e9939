//! Stored rows and stored summaries of windows, which may be damaged.
#![no_main]

use wafer_core::aggregate::{Aggregate, Function, ItemLayout, merge_items, newest_event, read};
use wafer_core::window::Window;
use wafer_core::{ColumnBuilder, DataType, Timestamp, decode_leading, decode_row, encode_row};

/// Summaries of each kind over windows of several widths.
fn layout() -> ItemLayout {
    let functions = [
        "count",
        "sum",
        "min",
        "last",
        "stddev",
        "count_distinct",
        "approx_count_distinct",
    ];
    let windows = ["1h", "1d", "lifetime"];
    let pairs = functions
        .iter()
        .flat_map(|function| windows.map(|window| (function, window)));
    let aggregates = pairs.map(|(function, window)| Aggregate {
        function: Function::parse(function, None, None).expect("the function exists"),
        column: Some(0),
        window: Window::aligned(window).expect("the window is valid"),
    });
    ItemLayout::new(&aggregates.collect::<Vec<_>>(), &[DataType::Int64])
}

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| {
    // Not all that can be stored: inputs that were found before are rows of these columns.
    let types = [
        DataType::Boolean,
        DataType::Int64,
        DataType::Float64,
        DataType::Float32,
        DataType::Utf8,
        DataType::Binary,
        DataType::Timestamp,
        DataType::Date,
        DataType::Vector(2),
        DataType::ListInt64,
        DataType::ListUtf8,
    ];
    let columns = || -> Vec<ColumnBuilder> {
        types
            .iter()
            .map(|data_type| ColumnBuilder::new(data_type, 1))
            .collect()
    };
    let mut decoded = columns();
    if decode_row(bytes, &mut decoded).is_ok() {
        let decoded: Vec<_> = decoded.iter_mut().map(ColumnBuilder::finish).collect();
        // What was read is written and read again as the same.
        let mut packed = Vec::new();
        encode_row(&decoded, 0, &mut packed);
        let mut again = columns();
        decode_row(&packed, &mut again).expect("it was packed so");
        let again: Vec<_> = again.iter_mut().map(ColumnBuilder::finish).collect();
        let mut packed_again = Vec::new();
        encode_row(&again, 0, &mut packed_again);
        assert_eq!(packed_again, packed);
    }
    let _ = decode_leading(bytes, &mut columns()[..3]);

    let _ = newest_event(bytes);
    let _ = read(
        &layout(),
        bytes,
        Timestamp::from_micros(1_700_000_000_000_000),
    );
    let (left, right) = bytes.split_at(bytes.len() / 2);
    let _ = merge_items(left, right);
    if let Ok(merged) = merge_items(bytes, bytes) {
        let newest = newest_event(&merged).expect("it was merged so");
        assert_eq!(newest, newest_event(bytes).expect("it was merged"));
    }
});
