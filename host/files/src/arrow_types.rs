//! The types of Arrow, for tests of what becomes of columns of each type.

use std::sync::Arc;

use arrow_schema::{
    DataType as ArrowType, Field as ArrowField, IntervalUnit, TimeUnit, UnionFields, UnionMode,
};

/// The items of lists of a type.
pub(crate) fn item(data_type: ArrowType) -> Arc<ArrowField> {
    Arc::new(ArrowField::new("item", data_type, true))
}

/// A dictionary of values of a type.
pub(crate) fn dictionary(values: ArrowType) -> ArrowType {
    ArrowType::Dictionary(Box::new(ArrowType::Int16), Box::new(values))
}

/// A map of texts to integers.
pub(crate) fn map(key_is_nullable: bool) -> ArrowType {
    let fields = vec![
        ArrowField::new("key", ArrowType::Utf8, key_is_nullable),
        ArrowField::new("value", ArrowType::Int64, true),
    ];
    let entries = ArrowField::new("entries", ArrowType::Struct(fields.into()), false);
    ArrowType::Map(Arc::new(entries), false)
}

/// Types that Parquet holds as they are.
pub(crate) fn held_by_parquet() -> Vec<ArrowType> {
    use ArrowType as A;
    let mut types = vec![
        A::Null,
        A::Boolean,
        A::Int8,
        A::Int16,
        A::Int32,
        A::Int64,
        A::UInt8,
        A::UInt16,
        A::UInt32,
        A::UInt64,
        A::Float16,
        A::Float32,
        A::Float64,
        A::Utf8,
        A::LargeUtf8,
        A::Utf8View,
        A::Binary,
        A::LargeBinary,
        A::BinaryView,
        A::FixedSizeBinary(3),
        A::Duration(TimeUnit::Second),
        A::Date32,
        A::Time32(TimeUnit::Millisecond),
        A::Time64(TimeUnit::Microsecond),
        A::Time64(TimeUnit::Nanosecond),
        A::Decimal128(10, 2),
        A::Decimal128(38, 0),
        A::Decimal256(10, 2),
        A::Decimal256(76, 10),
        dictionary(A::Utf8),
        dictionary(A::LargeBinary),
        A::List(item(A::Int32)),
        A::LargeList(item(A::Utf8View)),
        A::FixedSizeList(item(A::Float64), 2),
        A::List(item(A::Struct(
            vec![ArrowField::new("x", A::Int8, true)].into(),
        ))),
        map(false),
    ];
    for unit in [
        TimeUnit::Millisecond,
        TimeUnit::Microsecond,
        TimeUnit::Nanosecond,
    ] {
        types.push(A::Duration(unit));
        types.push(A::Timestamp(unit, None));
        types.push(A::Timestamp(unit, Some("Europe/Oslo".into())));
    }
    types
}

/// Types that Parquet does not hold.
pub(crate) fn not_held_by_parquet() -> Vec<ArrowType> {
    use ArrowType as A;
    let union = UnionFields::from_fields([ArrowField::new("x", A::Int64, true)]);
    let ends = ArrowField::new("run_ends", A::Int32, false);
    let values = ArrowField::new("values", A::Utf8, true);
    vec![
        A::Interval(IntervalUnit::YearMonth),
        A::Interval(IntervalUnit::DayTime),
        A::Interval(IntervalUnit::MonthDayNano),
        A::Union(union, UnionMode::Sparse),
        A::Decimal128(10, -2),
        A::Decimal32(5, 2),
        A::Decimal64(12, 2),
        A::ListView(item(A::Int8)),
        A::LargeListView(item(A::Int8)),
        A::RunEndEncoded(Arc::new(ends), Arc::new(values)),
        A::Timestamp(TimeUnit::Second, None),
        A::Timestamp(TimeUnit::Second, Some("UTC".into())),
        A::Time32(TimeUnit::Second),
        A::Date64,
        dictionary(A::Int64),
    ]
}
