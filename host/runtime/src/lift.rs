//! Lifting: converts the output of a guest to Arrow columns, and validates it first.
//!
//! Numbers are not copied. Every NaN is replaced by one canonical NaN, because the bits of a NaN
//! that an operation produces depend on the machine.

use std::sync::Arc;

use arrow_array::types::{
    ArrowPrimitiveType, Date32Type, Float32Type, Float64Type, Int64Type, TimestampMicrosecondType,
};
use arrow_array::{
    Array, ArrayRef, BinaryArray, BooleanArray, FixedSizeListArray, Float32Array, ListArray,
    PrimitiveArray, StringArray, make_array,
};
use arrow_buffer::{BooleanBuffer, Buffer, NullBuffer, OffsetBuffer, ScalarBuffer};
use arrow_data::ArrayDataBuilder;
use arrow_schema::ffi::{FFI_ArrowSchema, Flags};
use arrow_schema::{DataType as ArrowType, Field as ArrowField};
use wafer_core::{
    DataType, Field, Mapping, Schema, Signature, Timestamp, cut_to, is_storable_date,
};

use crate::bindings::types as wit;

/// The validated output of a call; see [`Output`](crate::Output).
#[derive(Debug)]
pub(crate) struct Lifted {
    pub(crate) columns: Vec<ArrayRef>,
    pub(crate) rows: usize,
    pub(crate) source_rows: Option<Vec<u32>>,
    pub(crate) row_errors: Vec<(u32, String)>,
}

impl Lifted {
    /// Returns the estimated bytes that the output takes in memory.
    pub(crate) fn bytes(&self) -> u64 {
        let columns = self.columns.iter();
        let columns = columns.map(|column| column.get_array_memory_size());
        let sources = self
            .source_rows
            .as_ref()
            .map_or(0, |rows| size_of_val(&rows[..]));
        let errors = self.row_errors.iter();
        let errors = errors.map(|(_, message)| size_of::<(u32, String)>() + message.len());
        columns.chain([sources]).chain(errors).sum::<usize>() as u64
    }
}

/// Maximum length of the message of a row error; longer ones are cut.
const ROW_ERROR_BYTES: usize = 1_024;

/// Validates an output against the signature and the number of input rows, and converts it.
pub(crate) fn output(
    output: wit::Output,
    signature: &Signature,
    rows_in: usize,
) -> Result<Lifted, String> {
    let rows = output.batch.rows as usize;
    let fields = signature.outputs.fields();
    if output.batch.columns.len() != fields.len() {
        return Err(format!(
            "{} columns where the signature has {}",
            output.batch.columns.len(),
            fields.len()
        ));
    }
    let row_errors = row_errors(output.row_errors, rows_in)?;
    let source_rows = source_rows(
        output.source_rows,
        signature.mapping,
        rows,
        rows_in,
        &row_errors,
    )?;
    let columns = output
        .batch
        .columns
        .into_iter()
        .zip(fields)
        .map(|(column, field)| {
            let lifted = self::column(column, &field.data_type, rows)
                .map_err(|message| format!("column `{}`: {message}", field.name))?;
            check_nulls(&lifted, field, signature.mapping, &row_errors)?;
            Ok(lifted)
        })
        .collect::<Result<_, String>>()?;
    Ok(Lifted {
        columns,
        rows,
        source_rows,
        row_errors,
    })
}

fn row_errors(errors: Vec<wit::RowError>, rows_in: usize) -> Result<Vec<(u32, String)>, String> {
    let mut last = None;
    errors
        .into_iter()
        .map(|error| {
            if error.row as usize >= rows_in {
                return Err(format!("a row error for row {} of {rows_in}", error.row));
            }
            if last.is_some_and(|last| last >= error.row) {
                return Err(format!(
                    "row errors are not in ascending order at row {}",
                    error.row
                ));
            }
            last = Some(error.row);
            Ok((error.row, cut_to(error.message, ROW_ERROR_BYTES)))
        })
        .collect()
}

fn source_rows(
    source_rows: Option<Vec<u32>>,
    mapping: Mapping,
    rows: usize,
    rows_in: usize,
    row_errors: &[(u32, String)],
) -> Result<Option<Vec<u32>>, String> {
    match (mapping, source_rows) {
        (Mapping::OneToOne, None) if rows == rows_in => Ok(None),
        (Mapping::OneToOne, None) => Err(format!(
            "{rows} rows where {rows_in} went in, and the signature says one to one"
        )),
        (Mapping::OneToOne, Some(_)) => {
            Err("source-rows, although the signature says one to one".to_owned())
        }
        (Mapping::OneToMany, None) => {
            Err("no source-rows, although the signature says one to many".to_owned())
        }
        (Mapping::OneToMany, Some(sources)) => {
            if sources.len() != rows {
                return Err(format!("{} source-rows for {rows} rows", sources.len()));
            }
            if let Some(at) = (1..rows).find(|at| sources[at - 1] > sources[*at]) {
                return Err(format!("source-rows decrease at row {at}"));
            }
            if let Some(at) = sources
                .iter()
                .position(|source| *source as usize >= rows_in)
            {
                return Err(format!("source-rows name row {} of {rows_in}", sources[at]));
            }
            let failed = row_errors
                .iter()
                .find(|(row, _)| sources.binary_search(row).is_ok());
            match failed {
                Some((row, _)) => Err(format!("input row {row} has both an error and output rows")),
                None => Ok(Some(sources)),
            }
        }
    }
}

/// Returns an error if a column that is not nullable has a null in a row that did not fail.
fn check_nulls(
    column: &ArrayRef,
    field: &Field,
    mapping: Mapping,
    row_errors: &[(u32, String)],
) -> Result<(), String> {
    if field.nullable || column.null_count() == 0 {
        return Ok(());
    }
    let failed = |row: usize| {
        mapping == Mapping::OneToOne
            && row_errors
                .binary_search_by_key(&(row as u32), |(row, _)| *row)
                .is_ok()
    };
    match (0..column.len()).find(|row| column.is_null(*row) && !failed(*row)) {
        Some(row) => Err(format!(
            "column `{}`: row {row} is null, and the column is not nullable",
            field.name
        )),
        None => Ok(()),
    }
}

fn column(
    column: wit::ColumnResult,
    data_type: &DataType,
    rows: usize,
) -> Result<ArrayRef, String> {
    use wit::DataResult as D;
    let nulls = match (&column.data, column.validity) {
        (D::Arrow(_), Some(_)) => {
            return Err("a validity bit map beside an arrow column".to_owned());
        }
        (_, validity) => validity
            .map(|bytes| bits(bytes, rows).map(NullBuffer::new))
            .transpose()?,
    };
    Ok(match (column.data, data_type) {
        (D::Boolean(bytes), DataType::Boolean) => {
            Arc::new(BooleanArray::new(bits(bytes, rows)?, nulls))
        }
        (D::Int64(v), DataType::Int64) => primitive::<Int64Type>(v, rows, nulls)?,
        (D::Float64(mut v), DataType::Float64) => {
            canonical_f64(&mut v);
            primitive::<Float64Type>(v, rows, nulls)?
        }
        (D::Float32(mut v), DataType::Float32) => {
            canonical_f32(&mut v);
            primitive::<Float32Type>(v, rows, nulls)?
        }
        (D::Timestamp(v), DataType::Timestamp) => {
            check_length(v.len(), rows)?;
            let wrong = |micros: &i64| !Timestamp::from_micros(*micros).is_storable();
            check_years(&v, nulls.as_ref(), wrong)?;
            let times = PrimitiveArray::<TimestampMicrosecondType>::new(v.into(), nulls);
            Arc::new(times.with_data_type(data_type.to_arrow()))
        }
        (D::Date(v), DataType::Date) => {
            check_years(&v, nulls.as_ref(), |days| !is_storable_date(*days))?;
            primitive::<Date32Type>(v, rows, nulls)?
        }
        (D::Utf8(v), DataType::Utf8) => Arc::new(strings(v, rows, nulls)?),
        (D::Binary(v), DataType::Binary) => {
            let offsets = offsets(v.offsets, rows, v.bytes.len())?;
            Arc::new(BinaryArray::new(offsets, v.bytes.into(), nulls))
        }
        (D::Vector(v), DataType::Vector(n)) => vectors(v, *n, rows, nulls)?,
        (D::ListInt64(v), DataType::ListInt64) => {
            let offsets = offsets(v.offsets, rows, v.values.len())?;
            let items = primitive::<Int64Type>(v.values, offsets_end(&offsets), None)?;
            list(data_type, offsets, items, nulls)
        }
        (D::ListFloat64(mut v), DataType::ListFloat64) => {
            canonical_f64(&mut v.values);
            let offsets = offsets(v.offsets, rows, v.values.len())?;
            let items = primitive::<Float64Type>(v.values, offsets_end(&offsets), None)?;
            list(data_type, offsets, items, nulls)
        }
        (D::ListUtf8(v), DataType::ListUtf8) => {
            let count = v.items.offsets.len().saturating_sub(1);
            let offsets = offsets(v.offsets, rows, count)?;
            let items = strings(v.items, count, None).map_err(|m| format!("items: {m}"))?;
            list(data_type, offsets, Arc::new(items), nulls)
        }
        (D::Arrow(v), DataType::Arrow(arrow)) => arrow_column(v, arrow, rows)?,
        (found, wanted) => {
            return Err(format!("{} where the signature has {wanted}", case(&found)));
        }
    })
}

fn case(data: &wit::DataResult) -> &'static str {
    use wit::DataResult as D;
    match data {
        D::Boolean(_) => "boolean",
        D::Int64(_) => "int64",
        D::Float64(_) => "float64",
        D::Float32(_) => "float32",
        D::Utf8(_) => "utf8",
        D::Binary(_) => "binary",
        D::Timestamp(_) => "timestamp",
        D::Date(_) => "date",
        D::Vector(_) => "a vector",
        D::ListInt64(_) => "list<int64>",
        D::ListFloat64(_) => "list<float64>",
        D::ListUtf8(_) => "list<utf8>",
        D::Arrow(_) => "an arrow column",
    }
}

fn check_length(found: usize, rows: usize) -> Result<(), String> {
    if found == rows {
        Ok(())
    } else {
        Err(format!("{found} values for {rows} rows"))
    }
}

/// Returns an error if a time or date is outside the years 1 to 9999, which tables and texts cannot
/// represent.
fn check_years<T>(
    values: &[T],
    nulls: Option<&NullBuffer>,
    wrong: impl Fn(&T) -> bool,
) -> Result<(), String> {
    let is_present =
        |row: usize| nulls.is_none_or(|nulls| row < nulls.len() && nulls.is_valid(row));
    match (0..values.len()).find(|row| wrong(&values[*row]) && is_present(*row)) {
        Some(row) => Err(format!("row {row} is outside the years 1 to 9999")),
        None => Ok(()),
    }
}

fn bits(bytes: Vec<u8>, rows: usize) -> Result<BooleanBuffer, String> {
    if bytes.len() == rows.div_ceil(8) {
        Ok(BooleanBuffer::new(Buffer::from_vec(bytes), 0, rows))
    } else {
        Err(format!(
            "a bit map of {} bytes for {rows} rows",
            bytes.len()
        ))
    }
}

fn primitive<T: ArrowPrimitiveType>(
    values: Vec<T::Native>,
    rows: usize,
    nulls: Option<NullBuffer>,
) -> Result<ArrayRef, String> {
    check_length(values.len(), rows)?;
    Ok(Arc::new(PrimitiveArray::<T>::new(
        ScalarBuffer::from(values),
        nulls,
    )))
}

fn offsets(offsets: Vec<i32>, rows: usize, end: usize) -> Result<OffsetBuffer<i32>, String> {
    if offsets.len() != rows + 1 {
        return Err(format!("{} offsets for {rows} rows", offsets.len()));
    }
    if offsets[0] != 0 {
        return Err(format!("the first offset is {}, not 0", offsets[0]));
    }
    if let Some(row) = (0..rows).find(|row| offsets[*row] > offsets[row + 1]) {
        return Err(format!("offsets decrease at row {row}"));
    }
    if offsets[rows] as usize != end {
        return Err(format!(
            "the last offset is {}, and there are {end} values",
            offsets[rows]
        ));
    }
    Ok(OffsetBuffer::new(offsets.into()))
}

fn offsets_end(offsets: &OffsetBuffer<i32>) -> usize {
    offsets.last().map_or(0, |end| *end as usize)
}

fn strings(
    v: wit::VaryingResult,
    rows: usize,
    nulls: Option<NullBuffer>,
) -> Result<StringArray, String> {
    let offsets = offsets(v.offsets, rows, v.bytes.len())?;
    let bytes = Buffer::from_vec(v.bytes);
    StringArray::try_new(offsets.clone(), bytes.clone(), nulls).map_err(|_| {
        let value = |row: usize| &bytes[offsets[row] as usize..offsets[row + 1] as usize];
        let row = (0..rows)
            .find(|row| std::str::from_utf8(value(*row)).is_err())
            .unwrap_or(0);
        format!("row {row} is not valid UTF-8")
    })
}

fn vectors(
    v: wit::VectorsResult,
    n: u32,
    rows: usize,
    nulls: Option<NullBuffer>,
) -> Result<ArrayRef, String> {
    if v.dimension != n {
        return Err(format!(
            "vectors of {} numbers where the signature has vector({n})",
            v.dimension
        ));
    }
    check_length(v.values.len(), rows * n as usize)?;
    let mut values = v.values;
    canonical_f32(&mut values);
    let ArrowType::FixedSizeList(item, length) = DataType::Vector(n).to_arrow() else {
        unreachable!("a vector is a list of fixed size")
    };
    let items = Arc::new(Float32Array::from(values));
    Ok(Arc::new(
        FixedSizeListArray::try_new(item, length, items, nulls).map_err(|e| e.to_string())?,
    ))
}

fn list(
    data_type: &DataType,
    offsets: OffsetBuffer<i32>,
    items: ArrayRef,
    nulls: Option<NullBuffer>,
) -> ArrayRef {
    let ArrowType::List(item) = data_type.to_arrow() else {
        unreachable!("a list type")
    };
    Arc::new(ListArray::new(item, offsets, items, nulls))
}

fn canonical_f64(values: &mut [f64]) {
    for value in values {
        if value.is_nan() {
            *value = f64::from_bits(0x7ff8_0000_0000_0000);
        }
    }
}

fn canonical_f32(values: &mut [f32]) {
    for value in values {
        if value.is_nan() {
            *value = f32::from_bits(0x7fc0_0000);
        }
    }
}

/// Builds an Arrow column from its nodes. The Arrow library validates it completely.
fn arrow_column(
    v: wit::ArrowArrayResult,
    data_type: &ArrowType,
    rows: usize,
) -> Result<ArrayRef, String> {
    if v.lengths.first().map(|l| *l as usize) != Some(rows) {
        return Err(format!(
            "{} rows for {rows}",
            v.lengths.first().copied().unwrap_or(0)
        ));
    }
    let mut lengths = v.lengths.into_iter();
    let mut buffers = v.buffers.into_iter();
    // The library checks the content of buffers, and panics at some that it did not expect.
    let column = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| {
        arrow_node(data_type, &mut lengths, &mut buffers).map(make_array)
    }));
    let column =
        column.unwrap_or_else(|_| Err(format!("its buffers are not those of {data_type}")))?;
    match (lengths.next(), buffers.next()) {
        (None, None) => Ok(column),
        _ => Err(format!("more nodes or buffers than {data_type} has")),
    }
}

fn arrow_node(
    data_type: &ArrowType,
    lengths: &mut impl Iterator<Item = u32>,
    buffers: &mut impl Iterator<Item = Vec<u8>>,
) -> Result<arrow_data::ArrayData, String> {
    let missing = || format!("fewer nodes or buffers than {data_type} has");
    let length = lengths.next().ok_or_else(missing)? as usize;
    let validity = buffers.next().ok_or_else(missing)?;
    let mut builder = ArrayDataBuilder::new(data_type.clone()).len(length);
    if !validity.is_empty() {
        builder = builder.null_bit_buffer(Some(bits(validity, length)?.into_inner()));
    }
    for _ in &arrow_data::layout(data_type).buffers {
        builder = builder.add_buffer(Buffer::from_vec(buffers.next().ok_or_else(missing)?));
    }
    for child in children(data_type) {
        builder = builder.add_child_data(arrow_node(child.data_type(), lengths, buffers)?);
    }
    builder
        .align_buffers(true)
        .build()
        .map_err(|e| e.to_string())
}

fn children(data_type: &ArrowType) -> Vec<&ArrowField> {
    match data_type {
        ArrowType::Struct(fields) => fields.iter().map(AsRef::as_ref).collect(),
        ArrowType::List(item)
        | ArrowType::LargeList(item)
        | ArrowType::FixedSizeList(item, _)
        | ArrowType::Map(item, _) => vec![item],
        _ => Vec::new(),
    }
}

/// Maximum size of a signature, with its names, types and documentation. It is kept with the
/// definitions of every generation, whose objects have the same limit.
const MAX_SIGNATURE_BYTES: usize = 256 << 10;

/// What each column, and each node of an Arrow type, counts beside its texts.
const COLUMN_CHARGE: usize = 64;

/// Returns what the host keeps of columns.
fn charge(fields: &[wit::FieldResult]) -> usize {
    let field = |field: &wit::FieldResult| {
        let nodes: usize = match &field.data_type {
            wit::DataTypeResult::Arrow(nodes) => nodes.iter().map(node_charge).sum(),
            _ => 0,
        };
        COLUMN_CHARGE + field.name.len() + field.doc.len() + nodes
    };
    fields.iter().map(field).sum()
}

fn node_charge(node: &wit::ArrowFieldResult) -> usize {
    COLUMN_CHARGE + node.format.len() + node.name.len()
}

/// Returns an error if what the host would keep of a signature is too much.
fn check_size(bytes: usize) -> Result<(), String> {
    if bytes <= MAX_SIGNATURE_BYTES {
        return Ok(());
    }
    Err(format!(
        "its columns and their documentation take {bytes} bytes, with {COLUMN_CHARGE} for each \
         column; at most {MAX_SIGNATURE_BYTES}: describe them in fewer words"
    ))
}

/// Validates and converts the signature that a function described.
pub(crate) fn signature(signature: wit::Signature) -> Result<Signature, String> {
    check_size(charge(&signature.inputs) + charge(&signature.outputs) + signature.doc.len())?;
    Ok(Signature {
        inputs: schema(signature.inputs, "inputs")?,
        outputs: schema(signature.outputs, "outputs")?,
        mapping: match signature.mapping {
            wit::Mapping::OneToOne => Mapping::OneToOne,
            wit::Mapping::OneToMany => Mapping::OneToMany,
        },
        doc: signature.doc,
    })
}

/// Validates and converts the columns that a trainer asks for.
pub(crate) fn columns(fields: Vec<wit::FieldResult>) -> Result<Schema, String> {
    check_size(charge(&fields))?;
    schema(fields, "columns")
}

/// Validates and converts a list of fields. `what` names the list in error messages.
fn schema(fields: Vec<wit::FieldResult>, what: &str) -> Result<Schema, String> {
    let fields = fields.into_iter().map(field).collect::<Result<_, String>>();
    fields
        .and_then(|fields| Schema::new(fields).map_err(|e| e.to_string()))
        .map_err(|message| format!("{what}: {message}"))
}

fn field(field: wit::FieldResult) -> Result<Field, String> {
    let data_type = data_type(field.data_type)
        .map_err(|message| format!("column `{}`: {message}", field.name))?;
    Ok(Field {
        name: field.name,
        data_type,
        nullable: field.nullable,
        doc: field.doc,
    })
}

fn data_type(data_type: wit::DataTypeResult) -> Result<DataType, String> {
    use wit::DataTypeResult as T;
    Ok(match data_type {
        T::Boolean => DataType::Boolean,
        T::Int64 => DataType::Int64,
        T::Float64 => DataType::Float64,
        T::Float32 => DataType::Float32,
        T::Utf8 => DataType::Utf8,
        T::Binary => DataType::Binary,
        T::Timestamp => DataType::Timestamp,
        T::Date => DataType::Date,
        T::Vector(n) if n > 0 && i32::try_from(n).is_ok() => DataType::Vector(n),
        T::Vector(n) => return Err(format!("a vector cannot have {n} numbers")),
        T::ListInt64 => DataType::ListInt64,
        T::ListFloat64 => DataType::ListFloat64,
        T::ListUtf8 => DataType::ListUtf8,
        T::Arrow(nodes) => {
            let mut nodes = nodes.into_iter();
            let column = arrow_type(&mut nodes, 0)?;
            if nodes.next().is_some() {
                return Err("more nodes than the type has".to_owned());
            }
            DataType::Arrow(Box::new(column.data_type().clone()))
        }
    })
}

/// Maximum nesting depth of an Arrow type.
const MAX_DEPTH: usize = 16;

fn arrow_type(
    nodes: &mut impl Iterator<Item = wit::ArrowFieldResult>,
    depth: usize,
) -> Result<ArrowField, String> {
    let node = nodes.next().ok_or("fewer nodes than the type has")?;
    if depth > MAX_DEPTH {
        return Err(format!("a type nested deeper than {MAX_DEPTH}"));
    }
    check_format(&node)?;
    let children = (0..node.children)
        .map(|_| arrow_type(nodes, depth + 1))
        .collect::<Result<Vec<_>, _>>()?;
    let ffi = |e: arrow_schema::ArrowError| format!("arrow format `{}`: {e}", node.format);
    let children = children
        .iter()
        .map(FFI_ArrowSchema::try_from)
        .collect::<Result<Vec<_>, _>>()
        .map_err(ffi)?;
    let flags = if node.nullable {
        Flags::NULLABLE
    } else {
        Flags::empty()
    };
    let schema = FFI_ArrowSchema::try_new(&node.format, children, None)
        .and_then(|schema| schema.with_name(&node.name))
        .and_then(|schema| schema.with_flags(flags))
        .map_err(ffi)?;
    let field = ArrowField::try_from(&schema).map_err(ffi)?;
    match is_valid_type(field.data_type()) {
        true => Ok(field),
        false => Err(format!(
            "arrow format `{}`: there is no such type",
            node.format
        )),
    }
}

/// Checks that a format is supported and has its children. The Arrow library takes the first child
/// of a list without looking whether there is one, and its formats are C strings.
fn check_format(node: &wit::ArrowFieldResult) -> Result<(), String> {
    let format = node.format.as_str();
    // Unions, run ends, and views.
    let is_refused = ["+u", "+r", "+v", "v"]
        .iter()
        .any(|start| format.starts_with(start));
    if is_refused || format.contains('\0') {
        return Err(format!("arrow format `{format}` is not supported"));
    }
    let wanted = match format {
        "+s" => return Ok(()),
        "+l" | "+L" | "+m" => 1,
        _ if format.starts_with("+w:") => 1,
        _ => 0,
    };
    if node.children != wanted {
        return Err(format!(
            "arrow format `{format}` with {} children, where it has {wanted}",
            node.children
        ));
    }
    Ok(())
}

/// Whether a type that a format names can have arrays.
fn is_valid_type(data_type: &ArrowType) -> bool {
    let is_decimal = |precision: u8, scale: i8, most: u8| {
        (1..=most).contains(&precision) && scale.unsigned_abs() <= precision
    };
    match data_type {
        ArrowType::FixedSizeBinary(size) | ArrowType::FixedSizeList(_, size) => *size > 0,
        ArrowType::Decimal32(precision, scale) => is_decimal(*precision, *scale, 9),
        ArrowType::Decimal64(precision, scale) => is_decimal(*precision, *scale, 18),
        ArrowType::Decimal128(precision, scale) => is_decimal(*precision, *scale, 38),
        ArrowType::Decimal256(precision, scale) => is_decimal(*precision, *scale, 76),
        ArrowType::Map(entry, _) => match entry.data_type() {
            ArrowType::Struct(fields) => fields.len() == 2 && !fields[0].is_nullable(),
            _ => false,
        },
        _ => true,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn node(format: &str, name: &str, children: u32) -> wit::ArrowFieldResult {
        wit::ArrowFieldResult {
            format: format.to_owned(),
            name: name.to_owned(),
            nullable: true,
            children,
        }
    }

    #[test]
    fn arrow_types_are_read_from_their_nodes() {
        let nested = vec![
            node("+s", "", 2),
            node("d:10,2", "price", 0),
            node("+l", "tags", 1),
            node("u", "element", 0),
        ];
        let DataType::Arrow(parsed) = data_type(wit::DataTypeResult::Arrow(nested)).unwrap() else {
            panic!()
        };
        let element = Arc::new(ArrowField::new("element", ArrowType::Utf8, true));
        let wanted = ArrowType::Struct(
            vec![
                ArrowField::new("price", ArrowType::Decimal128(10, 2), true),
                ArrowField::new("tags", ArrowType::List(element), true),
            ]
            .into(),
        );
        assert_eq!(*parsed, wanted);
        for nodes in [
            vec![],
            vec![node("+s", "", 2), node("l", "a", 0)],
            vec![node("l", "", 0), node("l", "", 0)],
            vec![node("nonsense", "", 0)],
            vec![node("vu", "", 0)],
            // Texts with a zero byte, which C strings cannot have.
            vec![node("i\0", "", 0)],
            vec![node("\0", "", 0)],
            vec![node("l", "a\0b", 0)],
            vec![node("tsu:U\0TC", "", 0)],
            // Too few children, and too many.
            vec![node("+l", "", 0)],
            vec![node("+L", "", 0)],
            vec![node("+m", "", 0)],
            vec![node("+w:3", "", 0)],
            vec![node("+l", "", 2), node("l", "a", 0), node("l", "b", 0)],
            vec![node("l", "", 1), node("l", "a", 0)],
            // Types that are not supported, with and without children.
            vec![node("+vl", "", 0)],
            vec![node("+vL", "", 1), node("l", "a", 0)],
            vec![node("+r", "", 0)],
            vec![node("+r", "", 2), node("i", "a", 0), node("l", "b", 0)],
            vec![node("+ud:0", "", 0)],
            vec![node("+us:", "", 0)],
            // Sizes and precisions that no array has.
            vec![node("w:-1", "", 0)],
            vec![node("w:0", "", 0)],
            vec![node("w:99999999999", "", 0)],
            vec![node("+w:-1", "", 1), node("l", "a", 0)],
            vec![node("d:0,0", "", 0)],
            vec![node("d:39,0", "", 0)],
            vec![node("d:10,-128", "", 0)],
            vec![node("d:20,2,64", "", 0)],
            vec![node("d:", "", 0)],
            // A map whose entries are not pairs, or whose keys may be null.
            vec![node("+m", "", 1), node("l", "a", 0)],
            vec![node("+m", "", 1), node("+s", "a", 1), node("l", "b", 0)],
            vec![
                node("+m", "", 1),
                node("+s", "a", 2),
                node("l", "b", 0),
                node("l", "c", 0),
            ],
        ] {
            assert!(
                data_type(wit::DataTypeResult::Arrow(nodes.clone())).is_err(),
                "{nodes:?}"
            );
        }
        let deep = std::iter::repeat_n(node("+l", "x", 1), 40).collect();
        assert!(
            data_type(wit::DataTypeResult::Arrow(deep))
                .unwrap_err()
                .contains("nested deeper")
        );
    }

    #[test]
    fn arrow_columns_of_any_nodes_and_buffers_are_columns_or_errors() {
        let formats = [
            "n",
            "b",
            "c",
            "i",
            "l",
            "e",
            "g",
            "z",
            "Z",
            "u",
            "U",
            "tdD",
            "tdm",
            "tts",
            "ttn",
            "tDs",
            "tiM",
            "tiD",
            "tin",
            "w:3",
            "w:2147483647",
            "d:10,2",
            "d:10,2,256",
            "tss:",
            "tsu:nowhere",
        ];
        let list = |format: &str| vec![node(format, "", 1), node("u", "item", 0)];
        let key = wit::ArrowFieldResult {
            nullable: false,
            ..node("u", "key", 0)
        };
        let map = vec![
            node("+m", "", 1),
            node("+s", "entries", 2),
            key,
            node("n", "value", 0),
        ];
        let types = formats.iter().map(|format| vec![node(format, "", 0)]);
        let types = types.chain(["+l", "+L", "+w:2", "+w:2147483647", "+s"].map(list));
        for nodes in types.chain([map]) {
            let DataType::Arrow(data_type) = data_type(wit::DataTypeResult::Arrow(nodes)).unwrap()
            else {
                panic!("an Arrow type")
            };
            for count in 0..6 {
                for (length, fill) in [(0, 0), (1, 0xff), (3, 0x7f), (8, 0), (16, 1), (64, 0xff)] {
                    for rows in [0, 1, 3, 1 << 20] {
                        let column = wit::ArrowArrayResult {
                            lengths: vec![rows; count],
                            buffers: vec![vec![fill; length]; 2 * count],
                        };
                        let column = arrow_column(column, &data_type, rows as usize);
                        assert!(column.is_err() || column.unwrap().len() == rows as usize);
                    }
                }
            }
        }
    }

    #[test]
    fn nans_become_canonical() {
        let mut values = [f64::from_bits(0xfff0_0000_0000_0001), -0.0, f64::INFINITY];
        canonical_f64(&mut values);
        assert_eq!(
            values.map(f64::to_bits),
            [0x7ff8_0000_0000_0000, 1 << 63, 0x7ff0_0000_0000_0000]
        );
        let mut values = [f32::from_bits(0xffff_ffff), 1.0];
        canonical_f32(&mut values);
        assert_eq!(values[0].to_bits(), 0x7fc0_0000);
    }

    #[test]
    fn arrow_columns_round_trip() {
        use arrow_array::builder::{ListBuilder, StringBuilder};
        use arrow_array::{Decimal128Array, StructArray};

        let mut tags = ListBuilder::new(StringBuilder::new());
        for row in 0..9 {
            match row % 3 {
                0 => tags.append_null(),
                1 => tags.append_value([Some("a"), None]),
                _ => tags.append_value([Some("bc")]),
            }
        }
        let prices: Decimal128Array = (0..9).map(|n| (n % 4 != 0).then_some(n * 100)).collect();
        let flags: BooleanArray = (0..9).map(|n| (n != 5).then_some(n % 2 == 0)).collect();
        let columns: [(&str, ArrayRef); 3] = [
            (
                "price",
                Arc::new(prices.with_precision_and_scale(10, 2).unwrap()),
            ),
            ("flag", Arc::new(flags)),
            ("tags", Arc::new(tags.finish())),
        ];
        let fields: Vec<_> = columns
            .iter()
            .map(|(name, column)| ArrowField::new(*name, column.data_type().clone(), true))
            .collect();
        let nulls = NullBuffer::from((0..9).map(|n| n != 7).collect::<Vec<_>>());
        let arrays = columns.into_iter().map(|(_, column)| column).collect();
        let whole: ArrayRef = Arc::new(StructArray::new(fields.into(), arrays, Some(nulls)));
        for column in [whole.slice(0, 9), whole.slice(2, 6)] {
            let data_type = column.data_type().clone();
            let lowered =
                crate::lower::lower(&column, &DataType::Arrow(Box::new(data_type.clone())));
            let buffers = lowered.buffers();
            let wit::DataParam::Arrow(sent) = lowered.as_wit(&buffers).data else {
                panic!()
            };
            let received = wit::ArrowArrayResult {
                lengths: sent.lengths.to_vec(),
                buffers: sent.buffers.iter().map(|b| b.to_vec()).collect(),
            };
            assert_eq!(
                &arrow_column(received, &data_type, column.len()).unwrap(),
                &column
            );
        }
    }
}
