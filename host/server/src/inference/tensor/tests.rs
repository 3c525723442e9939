use std::sync::Arc;

use arrow_array::builder::{Float64Builder, ListBuilder};
use arrow_array::{Float64Array, Int64Array, StringArray};

use super::*;

/// An integer that is not a float.
const LARGE: i64 = (1 << 53) + 1;

fn tensor(datatype: &str, shape: &[u64], data: Json) -> Tensor {
    let json = json!({"name": "x", "datatype": datatype, "shape": shape, "data": data});
    serde_json::from_value(json).unwrap()
}

#[test]
fn flat_and_nested_data_are_read() {
    for (datatype, shape, data, wanted, rows) in [
        ("INT64", &[2][..], json!([1, 2]), "int64", json!([1, 2])),
        (
            "INT64",
            &[2],
            json!([LARGE, i64::MIN + 1]),
            "int64",
            json!([LARGE, i64::MIN + 1]),
        ),
        ("INT32", &[2, 1], json!([[1], [2]]), "int64", json!([1, 2])),
        ("UINT8", &[2, 1], json!([1, 2]), "float64", json!([1, 2])),
        (
            "FP32",
            &[1, 2],
            json!([[0.5, 1.5]]),
            "vector(2)",
            json!([[0.5, 1.5]]),
        ),
        (
            "FP64",
            &[2, 2],
            json!([1.0, 2.0, 3.0, 4.0]),
            "list<float64>",
            json!([[1.0, 2.0], [3.0, 4.0]]),
        ),
        (
            "FP64",
            &[2],
            json!(["NaN", null]),
            "float64",
            json!(["NaN", null]),
        ),
        (
            "BYTES",
            &[1],
            json!(["2013-01-01T00:00:00Z"]),
            "timestamp",
            json!(["2013-01-01T00:00:00Z"]),
        ),
        ("BOOL", &[1], json!([true]), "boolean", json!([true])),
        ("FP64", &[2, 0], json!([]), "list<float64>", json!([[], []])),
        ("FP32", &[1, 0], json!([[]]), "vector(3)", json!([[]])),
        (
            "UINT64",
            &[2],
            json!([0, u64::MAX]),
            "float64",
            json!([0, u64::MAX]),
        ),
    ] {
        let found = tensor(datatype, shape, data).into_rows(&wanted.parse().unwrap());
        assert_eq!(json!(found.unwrap()), rows);
    }
}

#[test]
fn floats_in_json_are_those_of_a_binary_tensor() {
    // What a client writes of a float32 as a float64, and as itself.
    let (wide, short) = ("0.10000000149011612", "0.1");
    let largest = "3.4028235e38";
    for (datatype, text, bytes) in [
        ("FP32", wide, 0.1f32.to_le_bytes().to_vec()),
        ("FP32", short, 0.1f32.to_le_bytes().to_vec()),
        ("FP32", "16777216", 16_777_216f32.to_le_bytes().to_vec()),
        ("FP32", "-0.0", (-0.0f32).to_le_bytes().to_vec()),
        ("FP32", "1e-45", f32::from_bits(1).to_le_bytes().to_vec()),
        ("FP32", largest, f32::MAX.to_le_bytes().to_vec()),
        ("FP32", "\"NaN\"", f32::NAN.to_le_bytes().to_vec()),
        (
            "FP32",
            "\"-Infinity\"",
            f32::NEG_INFINITY.to_le_bytes().to_vec(),
        ),
        ("FP64", short, 0.1f64.to_le_bytes().to_vec()),
        ("FP64", "7", 7f64.to_le_bytes().to_vec()),
        ("FP64", "5e-324", f64::from_bits(1).to_le_bytes().to_vec()),
        ("FP64", "\"Infinity\"", f64::INFINITY.to_le_bytes().to_vec()),
    ] {
        for (wanted, shape) in [("float64", &[1][..]), ("vector(1)", &[1, 1])] {
            let data = serde_json::from_str(&format!("[{text}]")).unwrap();
            let data_type: DataType = wanted.parse().unwrap();
            let written = tensor(datatype, shape, data).into_rows(&data_type);
            let binary = binary_tensor(datatype, shape, &bytes).unwrap();
            let binary = binary.into_rows(&data_type);
            let [written, binary] = [written, binary].map(|rows| json!(rows.unwrap()));
            // The texts of JSON tell zeros apart, which are equal as numbers.
            assert_eq!(written.to_string(), binary.to_string(), "{datatype} {text}");
        }
    }
}

#[test]
fn tensors_that_do_not_fit_are_refused() {
    for (datatype, shape, data, wanted, message) in [
        (
            "FP64",
            &[1][..],
            json!([1.0]),
            "int64",
            "`x` is FP64, and int64 is read from INT64",
        ),
        (
            "FP16",
            &[1],
            json!([1.0]),
            "float64",
            "datatype `FP16` is not supported",
        ),
        (
            "INT8",
            &[2],
            json!([-128, 300]),
            "int64",
            "element 1 is 300, and not INT8",
        ),
        (
            "UINT64",
            &[1],
            json!([-1]),
            "int64",
            "element 0 is -1, and not UINT64",
        ),
        (
            "QUAD",
            &[1],
            json!([1.0]),
            "float64",
            "datatype `QUAD` is not supported",
        ),
        (
            "INT64",
            &[2],
            json!([1]),
            "int64",
            "has 1 elements, and shape [2] says 2",
        ),
        (
            "INT64",
            &[1, 2],
            json!([1, 2]),
            "int64",
            "int64 has [rows] or [rows, 1]",
        ),
        (
            "INT64",
            &[1, 1, 1],
            json!([1]),
            "int64",
            "[rows] or [rows, 1]",
        ),
        (
            "FP32",
            &[2],
            json!([1, 2]),
            "vector(2)",
            "vector(2) has [rows, k]",
        ),
        (
            "INT64",
            &[1],
            json!([1.5]),
            "int64",
            "element 0 is 1.5, and not INT64",
        ),
        (
            "BOOL",
            &[1],
            json!([1]),
            "boolean",
            "element 0 is 1, and not BOOL",
        ),
        (
            "BYTES",
            &[1],
            json!([1]),
            "utf8",
            "element 0 is 1, and not BYTES",
        ),
        (
            "FP32",
            &[2],
            json!([1, 1e39]),
            "float64",
            "`x`: element 1 does not fit FP32: 1e+39 is not float32, because it is beyond its range",
        ),
        (
            "FP32",
            &[1, 2],
            json!([[0, -1e39]]),
            "vector(2)",
            "element 1 does not fit FP32: -1e+39 is not float32",
        ),
        (
            "FP32",
            &[1],
            json!([1e-60]),
            "float64",
            "element 0 does not fit FP32: 1e-60 is not float32, because the nearest one is 0",
        ),
        (
            "FP32",
            &[1],
            json!([16_777_217]),
            "float64",
            "element 0 does not fit FP32: 16777217 is not float32, because it has more digits",
        ),
        (
            "FP64",
            &[2],
            json!([0, LARGE]),
            "float64",
            "element 1 does not fit FP64: 9007199254740993 is not float64",
        ),
        (
            "FP64",
            &[1],
            json!(["nan"]),
            "float64",
            "element 0 does not fit FP64: \"nan\" is not float64",
        ),
        ("INT64", &[u64::MAX, 2], json!([1]), "int64", "is too large"),
        ("INT64", &[], json!([1]), "int64", "has no shape"),
    ] {
        let found = tensor(datatype, shape, data).into_rows(&wanted.parse().unwrap());
        let found = found.unwrap_err();
        assert!(found.contains(message), "{found}");
    }
}

fn binary_tensor(datatype: &str, shape: &[u64], bytes: &[u8]) -> Result<Tensor, String> {
    let json = json!({"name": "x", "datatype": datatype, "shape": shape,
        "parameters": {"binary_data_size": bytes.len()}});
    let mut inputs = [serde_json::from_value(json).unwrap()];
    take_binary(&mut inputs, bytes)?;
    let [input] = inputs;
    Ok(input)
}

#[test]
fn binary_data_is_read() {
    for (datatype, shape, bytes, wanted) in [
        (
            "INT64",
            &[2][..],
            [(-2i64).to_le_bytes(), 3i64.to_le_bytes()].concat(),
            json!([-2, 3]),
        ),
        ("INT64", &[1], LARGE.to_le_bytes().to_vec(), json!([LARGE])),
        ("INT8", &[2], vec![0xfe, 3], json!([-2, 3])),
        ("UINT8", &[2], vec![0xfe, 3], json!([254, 3])),
        ("FP32", &[1], 0.5f32.to_le_bytes().to_vec(), json!([0.5])),
        (
            "FP64",
            &[1],
            f64::NAN.to_le_bytes().to_vec(),
            json!(["NaN"]),
        ),
        ("BOOL", &[2], vec![0, 1], json!([false, true])),
        (
            "BYTES",
            &[2],
            b"\x02\0\0\0hi\0\0\0\0".to_vec(),
            json!(["hi", ""]),
        ),
    ] {
        let found = binary_tensor(datatype, shape, &bytes).unwrap().data;
        assert_eq!(json!(found), wanted, "{datatype}");
    }
    for (datatype, bytes, wanted) in [
        ("INT64", &[0; 7][..], "has 7 bytes of data"),
        ("BYTES", b"\x09\0\0\0hi", "element 0 is cut off"),
        ("BYTES", b"\x01\0\0\0\xff", "element 0 is not UTF-8"),
        (
            "BOOL",
            b"\x02",
            "`x`: element 0 is the byte 2, and a BOOL is 0 or 1",
        ),
        ("BOOL", b"\xff", "element 0 is the byte 255"),
    ] {
        let message = binary_tensor(datatype, &[1], bytes).unwrap_err();
        assert!(message.contains(wanted), "{message}");
    }
    let mut none: [Tensor; 0] = [];
    assert!(
        take_binary(&mut none, b"x")
            .unwrap_err()
            .contains("1 bytes of binary data belong to no input")
    );
}

fn output(data_type: &str, column: ArrayRef, binary: Option<&mut Vec<u8>>) -> Result<Json, String> {
    let field = Field::new("y", data_type.parse().unwrap(), true);
    let binary = binary.map(|bytes| bytes as &mut dyn Write);
    Output::of(&field, &column, binary).map(|output| json!(output))
}

#[test]
fn columns_are_encoded() {
    let lists = |rows: &[&[f64]]| -> ArrayRef {
        let mut builder = ListBuilder::new(Float64Builder::new());
        for row in rows {
            builder.append_value(row.iter().map(|v| Some(*v)));
        }
        Arc::new(builder.finish())
    };
    let numbers: ArrayRef = Arc::new(Float64Array::from(vec![Some(0.5), None]));
    let large: ArrayRef = Arc::new(Int64Array::from(vec![LARGE]));
    for (data_type, column, wanted) in [
        (
            "int64",
            large,
            json!({"name": "y", "datatype": "INT64", "shape": [1], "data": [LARGE]}),
        ),
        (
            "float64",
            Arc::clone(&numbers),
            json!({"name": "y", "datatype": "FP64", "shape": [2], "data": [0.5, null]}),
        ),
        (
            "list<float64>",
            lists(&[&[1.0, 2.0], &[3.0, 4.0]]),
            json!({"name": "y", "datatype": "FP64", "shape": [2, 2], "data": [1.0, 2.0, 3.0, 4.0]}),
        ),
        (
            "list<float64>",
            lists(&[&[1.0], &[]]),
            json!({"name": "y", "datatype": "BYTES", "shape": [2], "data": ["[1.0]", "[]"]}),
        ),
    ] {
        assert_eq!(output(data_type, column, None).unwrap(), wanted);
    }
    let mut bytes = Vec::new();
    let wanted = json!({"name": "y", "datatype": "FP64", "shape": [2], "parameters": {"binary_data_size": 16}});
    assert_eq!(
        output("float64", numbers, Some(&mut bytes)).unwrap(),
        wanted
    );
    assert_eq!(bytes[..8], 0.5f64.to_le_bytes());
    assert!(f64::from_le_bytes(bytes[8..].try_into().unwrap()).is_nan());
    let mut bytes = Vec::new();
    let texts: ArrayRef = Arc::new(StringArray::from(vec!["hi"]));
    output("utf8", texts, Some(&mut bytes)).unwrap();
    assert_eq!(bytes, b"\x02\0\0\0hi");
    let gap: ArrayRef = Arc::new(Int64Array::from(vec![None::<i64>]));
    assert!(
        output("int64", gap, Some(&mut bytes))
            .unwrap_err()
            .contains("has a null")
    );
}
