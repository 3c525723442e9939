use arrow_array::TimestampMicrosecondArray;
use wafer_catalog::AggregateDef;
use wafer_core::aggregate::{Aggregate, Function};
use wafer_core::window::Window;

use super::*;

fn at(micros: i64) -> Timestamp {
    Timestamp::from_micros(micros)
}

fn group(ttl: Option<i64>) -> GroupDef {
    GroupDef {
        keys: vec![Field::new("id", DataType::Int64, false)],
        columns: vec![Field::new("x", DataType::Int64, true)],
        ttl: ttl.map(Duration::from_micros),
        ..GroupDef::new("g", "e", "at")
    }
}

fn with_aggregate(group: GroupDef) -> GroupDef {
    let aggregate = Aggregate {
        function: Function::Count,
        column: None,
        window: Window::LIFETIME,
    };
    GroupDef {
        aggregates: vec![AggregateDef {
            field: Field::new("n", DataType::Int64, true),
            aggregate,
        }],
        ..group
    }
}

/// A batch of a table with the join keys 7 and 8, and these times.
fn batch(columns: &[(&str, [i64; 2])]) -> RecordBatch {
    let ids: ArrayRef = Arc::new(Int64Array::from(vec![7, 8]));
    let event_ids: ArrayRef = Arc::new(StringArray::from(vec!["a", "b"]));
    let times = columns.iter().map(|(name, times)| {
        let times = TimestampMicrosecondArray::from_iter_values(*times);
        let times: ArrayRef = Arc::new(times.with_timezone("UTC"));
        (*name, times)
    });
    let others = [("id", ids), ("event_id", event_ids)];
    RecordBatch::try_from_iter(others.into_iter().chain(times)).unwrap()
}

#[test]
fn rows_can_affect_labels_up_to_the_last_one_and_back_to_the_ttl() {
    for (group, labels, from, to) in [
        (group(None), &[5, 3, 9][..], Timestamp::MIN, at(10)),
        (group(Some(2)), &[5, 3, 9], at(1), at(10)),
        // An event before all windows still shows that the entity is known.
        (
            with_aggregate(group(Some(2))),
            &[5, 3, 9],
            Timestamp::MIN,
            at(10),
        ),
        (group(Some(2)), &[], at(-2), at(1)),
    ] {
        let times: Vec<Timestamp> = labels.iter().map(|micros| at(*micros)).collect();
        let wanted = Interval { from, to };
        assert_eq!(event_interval(&group, &times), wanted, "{labels:?}");
    }
}

#[test]
fn rows_count_from_the_later_of_their_event_time_and_their_available_time() {
    let batch = batch(&[(EVENT_TIME, [10, 20]), ("available_timestamp", [15, 5])]);
    let rows = KeysAndTimes::new(&group(None), &batch).unwrap();
    let times = |row: usize| (rows.event(row), rows.active(row));
    assert_eq!(times(0), (at(10), at(15)));
    assert_eq!(times(1), (at(20), at(20)));
    let keys = rows.keys[0].as_primitive::<arrow_array::types::Int64Type>();
    assert_eq!(keys.values().to_vec(), [7, 8]);
}

#[test]
fn rows_without_an_order_of_arrival_are_ordered_by_created_time_and_identity() {
    let batch = batch(&[("created_timestamp", [3, 4])]);
    let order = RowOrder::new(&group(None).rows_table(), &batch).unwrap();
    for (row, created, id) in [(0, at(3), "a"), (1, at(4), "b")] {
        let wanted = RowVersion::new(at(9), created, None, id);
        assert_eq!(order.version(row, at(9)), wanted);
        assert_eq!(order.arrival(row), Arrival::new(created, None, id));
    }
}

#[test]
fn a_column_of_times_that_is_missing_is_an_error() {
    let batch = batch(&[(EVENT_TIME, [1, 2])]);
    let table = group(None).rows_table();
    assert_eq!(
        Times::read(&table, &batch, EVENT_TIME).unwrap().of(1),
        at(2)
    );
    assert!(Times::read(&table, &batch, "created_timestamp").is_err());
}

#[test]
fn values_are_estimated_by_their_types() {
    for (data_type, wanted) in [
        (DataType::Boolean, 1),
        (DataType::Date, 4),
        (DataType::Float64, 8),
        (DataType::Timestamp, 8),
        (DataType::Vector(3), 12),
        (DataType::Utf8, 32),
        (DataType::ListInt64, 32),
    ] {
        assert_eq!(estimated_width(&data_type), wanted, "{data_type}");
    }
}
