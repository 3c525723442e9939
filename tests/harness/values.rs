//! Random rows of every type that can be stored, and the same rows in every format of files.

use std::path::Path;
use std::sync::Arc;

use arrow_array::builder::{ListBuilder, StringBuilder};
use arrow_array::types::{Float32Type, Float64Type, Int64Type};
use arrow_array::{
    ArrayRef, BinaryArray, BooleanArray, Date32Array, FixedSizeListArray, Float32Array,
    Float64Array, Int64Array, ListArray, RecordBatch, StringArray, TimestampMicrosecondArray,
};
use arrow_ipc::CompressionType;
use arrow_ipc::writer::{FileWriter, IpcWriteOptions};
use serde_json::{Value as Json, json};
use wafer_core::{Timestamp, cell_to_json};

use super::{Random, write_batch};

/// The formats of files, by their extensions. Of those of Arrow, `feather` files are compressed by
/// LZ4, as pandas writes them, and `ipc` files by Zstandard.
pub(crate) const FORMATS: [&str; 6] = ["csv", "ndjson", "parquet", "arrow", "feather", "ipc"];

/// Random values of each type, some of which are missing.
pub(crate) struct RandomRows {
    rows: usize,
    int64: Vec<Option<i64>>,
    float64: Vec<Option<f64>>,
    float32: Vec<Option<f32>>,
    boolean: Vec<Option<bool>>,
    utf8: Vec<Option<String>>,
    binary: Vec<Option<Vec<u8>>>,
    timestamp: Vec<Option<i64>>,
    date: Vec<Option<i32>>,
    vector: Vec<Option<[f32; 2]>>,
    ints: Vec<Option<Vec<i64>>>,
    floats: Vec<Option<Vec<f64>>>,
    texts: Vec<Option<Vec<String>>>,
}

impl RandomRows {
    /// The names of the columns, the types by which the function `pass` knows them, and the names
    /// of the types.
    pub(crate) const COLUMNS: [(&'static str, &'static str, &'static str); 12] = [
        ("n", "int64", "int64"),
        ("f", "float64", "float64"),
        ("s", "float32", "float32"),
        ("b", "bool", "boolean"),
        ("t", "utf8", "utf8"),
        ("y", "binary", "binary"),
        ("ts", "timestamp", "timestamp"),
        ("d", "date", "date"),
        ("v", "vector2", "vector(2)"),
        ("li", "ints", "list<int64>"),
        ("lf", "floats", "list<float64>"),
        ("lt", "texts", "list<utf8>"),
    ];

    pub(crate) fn new(random: &mut Random, rows: usize) -> Self {
        let mut some = |value: fn(&mut Random) -> Json| -> Vec<Option<Json>> {
            let cell = |_| (random.below(6) > 0).then(|| value(random));
            (0..rows).map(cell).collect()
        };
        // Bits of floats are carried as integers, since JSON has no NaN.
        let bits = |value: &Json| value.as_u64().unwrap();
        let list = |value: Json| value.as_array().unwrap().clone();
        let text = |value: Json| value.as_str().unwrap().to_owned();
        let int = |value: Json| value.as_i64().unwrap();
        Self {
            rows,
            int64: mapped(some(int64), int),
            float64: mapped(some(float64), |v| f64::from_bits(bits(&v))),
            float32: mapped(some(float32), |v| f32::from_bits(bits(&v) as u32)),
            boolean: mapped(some(|random| json!(random.below(2) == 0)), |v| {
                v.as_bool().unwrap()
            }),
            utf8: mapped(some(utf8), text),
            binary: mapped(some(utf8), |v| text(v).into_bytes()),
            timestamp: mapped(some(timestamp), int),
            date: mapped(some(date), |v| int(v) as i32),
            vector: mapped(
                some(|random| json!([float32(random), float32(random)])),
                |v| [0, 1].map(|i: usize| f32::from_bits(bits(&v[i]) as u32)),
            ),
            ints: mapped(some(|random| items(random, int64)), |v| {
                list(v).into_iter().map(int).collect()
            }),
            floats: mapped(some(|random| items(random, float64)), |v| {
                list(v).iter().map(|v| f64::from_bits(bits(v))).collect()
            }),
            texts: mapped(some(|random| items(random, utf8)), |v| {
                list(v).into_iter().map(text).collect()
            }),
        }
    }

    /// Writes the rows to a file of the format that its extension names, after columns that have
    /// the same values in every format: the keys, which count from 0, and a time.
    pub(crate) fn write(&self, path: &Path, time: &str, random: &mut Random) {
        match path.extension().unwrap().to_str().unwrap() {
            "csv" => std::fs::write(path, self.csv(time, random)).unwrap(),
            "ndjson" => std::fs::write(path, self.ndjson(time, random)).unwrap(),
            "parquet" => write_batch(path, &self.batch(time)),
            "feather" => {
                write_compressed(path, &self.batch(time), CompressionType::LZ4_FRAME);
            }
            "ipc" => write_compressed(path, &self.batch(time), CompressionType::ZSTD),
            _ => super::write_arrow(path, &self.batch(time)),
        }
    }

    fn csv(&self, time: &str, random: &mut Random) -> String {
        let names = Self::COLUMNS.map(|(name, _, _)| name).join(",");
        let mut lines = format!("id,{time},{names}\n");
        for row in 0..self.rows {
            let cells = self.json(row, random);
            let cells = cells.iter().map(|cell| match cell {
                None => String::new(),
                Some(json) => csv_field(json),
            });
            let cells: Vec<String> = cells.collect();
            lines += &format!("{row},2024-01-01T00:00:00Z,{}\n", cells.join(","));
        }
        lines
    }

    fn ndjson(&self, time: &str, random: &mut Random) -> String {
        let mut lines = String::new();
        for row in 0..self.rows {
            let cells = self.json(row, random);
            let cells = Self::COLUMNS.iter().zip(cells).map(|((name, _, _), cell)| {
                format!(", \"{name}\": {}", cell.as_deref().unwrap_or("null"))
            });
            let cells: String = cells.collect();
            lines += &format!("{{\"id\": {row}, \"{time}\": \"2024-01-01T00:00:00Z\"{cells}}}\n");
        }
        lines
    }

    /// The values of a row as JSON texts. Numbers are written in one of several ways.
    fn json(&self, row: usize, random: &mut Random) -> [Option<String>; 12] {
        let spelled = random.below(3);
        let int = |value: &i64| match spelled {
            0 => format!("{value}"),
            1 => format!("{value}.0"),
            _ => format!("{value}e0"),
        };
        let float64 = |value: &f64| match (value.is_finite(), spelled) {
            (true, 0) => format!("{value:e}"),
            (true, _) => format!("{value:?}"),
            (false, _) => not_finite(*value),
        };
        let float32 = |value: &f32| match (value.is_finite(), spelled) {
            (true, 0) => format!("{value:e}"),
            (true, _) => format!("{value:?}"),
            (false, _) => not_finite(f64::from(*value)),
        };
        let text = |value: &String| serde_json::to_string(value).unwrap();
        let hex = |bytes: &Vec<u8>| {
            let digits: String = bytes.iter().map(|byte| format!("{byte:02x}")).collect();
            format!("\"{digits}\"")
        };
        let day = |days: &i32| {
            let column: ArrayRef = Arc::new(Date32Array::from(vec![*days]));
            cell_to_json(&column, 0).to_string()
        };
        let list = |items: Vec<String>| format!("[{}]", items.join(", "));
        [
            self.int64[row].as_ref().map(int),
            self.float64[row].as_ref().map(float64),
            self.float32[row].as_ref().map(float32),
            self.boolean[row].map(|value| value.to_string()),
            self.utf8[row].as_ref().map(text),
            self.binary[row].as_ref().map(hex),
            self.timestamp[row].map(|micros| format!("\"{}\"", Timestamp::from_micros(micros))),
            self.date[row].as_ref().map(day),
            self.vector[row].map(|value| list(value.iter().map(float32).collect())),
            self.ints[row]
                .as_ref()
                .map(|value| list(value.iter().map(int).collect())),
            self.floats[row]
                .as_ref()
                .map(|value| list(value.iter().map(float64).collect())),
            self.texts[row]
                .as_ref()
                .map(|value| list(value.iter().map(text).collect())),
        ]
    }

    fn batch(&self, time: &str) -> RecordBatch {
        let ids = (0..self.rows as i64).collect::<Int64Array>();
        let new_year = 1_704_067_200_000_000;
        let times = TimestampMicrosecondArray::from(vec![new_year; self.rows]);
        let lists = self
            .ints
            .iter()
            .map(|list| Some(list.as_ref()?.iter().copied().map(Some)));
        let ints = ListArray::from_iter_primitive::<Int64Type, _, _>(lists);
        let lists = self
            .floats
            .iter()
            .map(|list| Some(list.as_ref()?.iter().copied().map(Some)));
        let floats = ListArray::from_iter_primitive::<Float64Type, _, _>(lists);
        let vectors = self
            .vector
            .iter()
            .map(|vector| Some(vector.as_ref()?.map(Some)));
        let vectors = FixedSizeListArray::from_iter_primitive::<Float32Type, _, _>(vectors, 2);
        let mut texts = ListBuilder::new(StringBuilder::new());
        for list in &self.texts {
            texts.append_option(list.as_ref().map(|list| list.iter().map(Some)));
        }
        let bytes = self.binary.iter().map(Option::as_deref);
        let times_of_rows = TimestampMicrosecondArray::from(self.timestamp.clone());
        let columns: Vec<(&str, ArrayRef)> = vec![
            ("id", Arc::new(ids)),
            (time, Arc::new(times.with_timezone("UTC"))),
            ("n", Arc::new(Int64Array::from(self.int64.clone()))),
            ("f", Arc::new(Float64Array::from(self.float64.clone()))),
            ("s", Arc::new(Float32Array::from(self.float32.clone()))),
            ("b", Arc::new(BooleanArray::from(self.boolean.clone()))),
            (
                "t",
                Arc::new(
                    self.utf8
                        .iter()
                        .map(Option::as_deref)
                        .collect::<StringArray>(),
                ),
            ),
            ("y", Arc::new(bytes.collect::<BinaryArray>())),
            ("ts", Arc::new(times_of_rows.with_timezone("UTC"))),
            ("d", Arc::new(Date32Array::from(self.date.clone()))),
            ("v", Arc::new(vectors)),
            ("li", Arc::new(ints)),
            ("lf", Arc::new(floats)),
            ("lt", Arc::new(texts.finish())),
        ];
        RecordBatch::try_from_iter(columns).unwrap()
    }
}

/// Writes columns as an Arrow file whose buffers are compressed.
fn write_compressed(path: &Path, batch: &RecordBatch, codec: CompressionType) {
    let options = IpcWriteOptions::default().try_with_compression(Some(codec));
    let file = std::fs::File::create(path).unwrap();
    let writer = FileWriter::try_new_with_options(file, &batch.schema(), options.unwrap());
    let mut writer = writer.unwrap();
    writer.write(batch).unwrap();
    writer.finish().unwrap();
}

fn mapped<T>(values: Vec<Option<Json>>, value: impl Fn(Json) -> T) -> Vec<Option<T>> {
    values.into_iter().map(|v| v.map(&value)).collect()
}

fn not_finite(value: f64) -> String {
    match value {
        f64::INFINITY => "\"Infinity\"",
        f64::NEG_INFINITY => "\"-Infinity\"",
        _ => "\"NaN\"",
    }
    .to_owned()
}

/// Writes the JSON text of a value as a field of CSV.
pub(crate) fn csv_field(json: &str) -> String {
    let text = match json.chars().next() {
        Some('"') => serde_json::from_str(json).unwrap(),
        Some('[') => json.to_owned(),
        _ => return json.to_owned(),
    };
    format!("\"{}\"", text.replace('"', "\"\""))
}

fn pick<T: Copy>(random: &mut Random, values: &[T]) -> T {
    values[random.below(values.len() as u64) as usize]
}

fn bits(random: &mut Random) -> u64 {
    random.below(1 << 31) << 33 ^ random.below(1 << 31) << 16 ^ random.below(1 << 31)
}

fn int64(random: &mut Random) -> Json {
    let near = 1i64 << 53;
    let known = [0, 1, -1, near, near + 1, -near - 1, i64::MAX, i64::MIN];
    match random.below(3) {
        0 => json!(pick(random, &known)),
        1 => json!(random.below(1_000) as i64 - 500),
        _ => json!(bits(random) as i64),
    }
}

fn float64(random: &mut Random) -> Json {
    let known = [
        0.0,
        -0.0,
        0.1,
        1e23,
        9_007_199_254_740_992.0,
        f64::MAX,
        f64::MIN_POSITIVE,
        f64::from_bits(1),
        f64::NAN,
        f64::INFINITY,
        f64::NEG_INFINITY,
    ];
    let random = match random.below(3) {
        0 => pick(random, &known),
        1 => (random.below(1 << 20) as f64 - 500_000.0) / 64.0,
        _ => f64::from_bits(bits(random)),
    };
    // There is one NaN.
    json!(if random.is_nan() {
        f64::NAN.to_bits()
    } else {
        random.to_bits()
    })
}

fn float32(random: &mut Random) -> Json {
    let known = [
        0.0,
        -0.0,
        0.1,
        f32::MAX,
        f32::from_bits(1),
        f32::NAN,
        f32::NEG_INFINITY,
    ];
    let random = match random.below(2) {
        0 => pick(random, &known),
        _ => f32::from_bits(bits(random) as u32),
    };
    json!(if random.is_nan() {
        f32::NAN.to_bits()
    } else {
        random.to_bits()
    })
}

fn utf8(random: &mut Random) -> Json {
    let pieces = [
        "", "a", "NaN", "null", "1e5", "02134", ",", "\"", "\n", "\r\n", "\r", " ", "\t", "ä",
        "日", "🛫", "\u{feff}", "\u{0}", "\\", "'", "[1]", "{}", "#", ";",
    ];
    let count = random.below(4);
    json!(
        (0..count)
            .map(|_| pick(random, &pieces))
            .collect::<String>()
    )
}

fn timestamp(random: &mut Random) -> Json {
    let known = [
        0_i64,
        -1,
        1,
        -62_135_596_800_000_000,
        253_402_300_799_999_999,
    ];
    match random.below(2) {
        0 => json!(pick(random, &known)),
        _ => json!((bits(random) % 200_000_000_000_000_000) as i64 - 50_000_000_000_000_000),
    }
}

fn date(random: &mut Random) -> Json {
    let known = [0, -1, 19_723, -719_162, 2_932_896];
    match random.below(2) {
        0 => json!(pick(random, &known)),
        _ => json!(random.below(3_000_000) as i64 - 700_000),
    }
}

fn items(random: &mut Random, item: fn(&mut Random) -> Json) -> Json {
    let count = random.below(4);
    (0..count).map(|_| item(random)).collect()
}
