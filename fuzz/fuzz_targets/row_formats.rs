//! Files of sources: rows that are read as declared types.
#![no_main]

use wafer_core::{DataType, Field};

/// The types as which the columns of a file are read, one after the other. Inputs that were found
/// before name them by their places, which are not those of `DataType::storable`.
const TYPES: [DataType; 12] = [
    DataType::Int64,
    DataType::Float64,
    DataType::Float32,
    DataType::Boolean,
    DataType::Timestamp,
    DataType::Date,
    DataType::Utf8,
    DataType::Binary,
    DataType::Vector(2),
    DataType::ListInt64,
    DataType::ListFloat64,
    DataType::ListUtf8,
];

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| {
    // The second byte chooses the type of the first column.
    let first = usize::from(bytes.get(1).copied().unwrap_or_default());
    wafer_fuzz::read_file(bytes, |found| {
        let names = found.into_iter().map(|field| field.name).enumerate();
        let field = |(index, name): (usize, String)| {
            let data_type = TYPES[(first + index) % TYPES.len()].clone();
            Field::new(name, data_type, index % 2 == 0)
        };
        names.map(field).collect()
    });
});
