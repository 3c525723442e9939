use arrow_array::{Int64Array, StringArray};
use serde_json::json;
use wafer_catalog::AggregateDef;
use wafer_core::aggregate::{Aggregate, CellRef, Function, Item};
use wafer_core::encode_row;
use wafer_core::rules::{Arrival, RowVersion};
use wafer_core::window::Window;

use super::*;

fn row(event: i64) -> OnlineRow {
    OnlineRow {
        version: RowVersion {
            event: Timestamp::from_micros(event),
            created: Timestamp::from_micros(event),
            order: 0,
        },
        fingerprint: 0,
        values: Vec::<u8>::new().into(),
    }
}

#[test]
fn the_status_of_an_entity_follows_from_its_row_and_the_ttl() {
    for (event, ttl, now, wanted) in [
        (None, None, 100, Status::NotFound),
        (None, Some(10), 100, Status::NotFound),
        (Some(0), None, 100, Status::Present),
        (Some(90), Some(10), 100, Status::Present),
        (Some(89), Some(10), 100, Status::Expired),
    ] {
        let row = event.map(row);
        let ttl = ttl.map(Duration::from_micros);
        let status = entity_status(row.as_ref(), ttl, Timestamp::from_micros(now));
        assert_eq!(status, wanted, "event {event:?}, ttl {ttl:?}");
    }
}

#[test]
fn null_values_have_the_status_null_only_if_they_are_present() {
    let values: ArrayRef = Arc::new(Int64Array::from(vec![Some(1), None]));
    for (status, row, wanted) in [
        (Status::Present, 0, Status::Present),
        (Status::Present, 1, Status::Null),
        (Status::NotFound, 1, Status::NotFound),
        (Status::Expired, 1, Status::Expired),
    ] {
        assert_eq!(
            with_null(status, &values, row),
            wanted,
            "{status:?} of row {row}"
        );
    }
}

fn view(inputs: Vec<Field>) -> ViewDef {
    ViewDef {
        inputs,
        lookups: Vec::new(),
        functions: Vec::new(),
        doc: String::new(),
    }
}

#[test]
fn rows_of_a_request_are_decoded_or_refused_with_the_row_and_the_field() {
    let view = view(vec![
        Field::new("id", DataType::Int64, true),
        Field::new("amount", DataType::Float64, false),
    ]);
    let good = json!({"id": null, "amount": 1.5, "other": "is ignored"});
    let decoded = decode(&view, std::slice::from_ref(&good)).unwrap();
    assert_eq!((decoded.rows, decoded.columns.len()), (1, 2));
    assert!(decoded.columns[0].is_null(0) && decoded.columns[1].is_valid(0));
    for (bad, wanted) in [
        (json!([1]), "row 1 is not a JSON object"),
        (
            json!({"amount": 1}),
            "row 1: field `id` (int64): is missing",
        ),
        (
            json!({"id": 1, "amont": 1}),
            "row 1: field `amount` (float64): is missing; is `amont` meant?",
        ),
        (
            json!({"id": 1, "amount": null}),
            "row 1: field `amount` (float64): is null, and a function needs it",
        ),
    ] {
        let refused = decode(&view, &[good.clone(), bad]).err();
        assert_eq!(refused.unwrap().to_string(), wanted);
    }
    let text = json!({"id": "x", "amount": 1});
    let refused = decode(&view, &[text]).err().unwrap().to_string();
    assert!(
        refused.starts_with("row 0: field `id` (int64): "),
        "{refused}"
    );
}

fn lookup(keys: Vec<usize>) -> Lookup {
    Lookup {
        alias: "last".to_owned(),
        group: GroupDef::new("g", "e", "at"),
        table: "g_v1".to_owned(),
        form: OnlineForm::Row(Vec::new()),
        keys,
        features: Vec::new(),
    }
}

#[test]
fn each_entity_of_a_request_is_read_once_and_null_keys_are_not_read() {
    let ids: ArrayRef = Arc::new(Int64Array::from(vec![Some(7), None, Some(8), Some(7)]));
    let names: ArrayRef = Arc::new(StringArray::from(vec!["a", "a", "a", "b"]));
    let request = RequestColumns {
        rows: 4,
        columns: vec![ids, names],
    };
    for (keys, wanted, entities) in [
        (vec![0], [Some(0), None, Some(1), Some(0)], 2),
        (vec![1], [Some(0), Some(0), Some(0), Some(1)], 2),
        (vec![0, 1], [Some(0), None, Some(1), Some(2)], 3),
    ] {
        let mut read = Vec::new();
        let indices = add_entity_keys(&lookup(keys.clone()), &request, &mut read);
        assert_eq!(indices, wanted, "{keys:?}");
        assert_eq!(read.len(), entities, "{keys:?}");
        assert!(read.iter().all(|key| key.group == "g_v1"));
    }
}

/// A group whose entities have a long text, as a column of the newest row or in the last events of
/// a window, and a stored row of it.
fn long_texts(is_window: bool, bytes: usize) -> (Lookup, OnlineRow) {
    let mut group = GroupDef {
        columns: vec![Field::new("text", DataType::Utf8, true)],
        ..GroupDef::new("g", "e", "at")
    };
    let text = "x".repeat(bytes);
    if !is_window {
        let column: ArrayRef = Arc::new(StringArray::from(vec![text]));
        let mut values = Vec::new();
        encode_row(&[column], 0, &mut values);
        let lookup = Lookup {
            form: OnlineForm::Row((0..=1).map(|n| fingerprint(&group.columns[..n])).collect()),
            features: vec![(0, "last_text".to_owned())],
            group: group.clone(),
            ..lookup(vec![0])
        };
        let stored = OnlineRow {
            fingerprint: group.fingerprint(),
            values: values.into(),
            ..row(1)
        };
        return (lookup, stored);
    }
    group.aggregates = vec![AggregateDef {
        field: Field::new("texts", DataType::ListUtf8, true),
        aggregate: Aggregate {
            function: Function::LastK(4),
            column: Some(0),
            window: Window::aligned("lifetime").unwrap(),
        },
    }];
    let layout = group.layout().unwrap();
    let mut item = Item::new(&layout);
    for at in 1..=4 {
        let quarter = &text.as_bytes()[..bytes / 4];
        let value = |_| Some(CellRef::Bytes(quarter));
        let at = Timestamp::from_micros(at);
        item.add(&layout, at, Arrival::unknown(0), value);
    }
    let stored = OnlineRow {
        values: item.encode(&layout).into(),
        ..row(4)
    };
    let lookup = Lookup {
        form: OnlineForm::Item(layout),
        features: vec![(0, "last_texts".to_owned())],
        group,
        ..lookup(vec![0])
    };
    (lookup, stored)
}

/// Adds lookups to vectors, each of which finds a stored row and nothing for these entities.
fn added(
    lookup: &Lookup,
    stored: &OnlineRow,
    lookups: &[Vec<Option<u32>>],
) -> Result<(Vectors, u64)> {
    let mut vectors = Vectors {
        rows: lookups[0].len(),
        features: Vec::new(),
        lookups: Vec::new(),
        errors: Vec::new(),
        found_bytes: 0,
        made_bytes: 0,
    };
    let stored_bytes = (stored.values.len() * lookups.len()) as u64;
    let mut size = RequestSize::new(RequestMemory::default(), stored_bytes, lookups[0].len());
    for indices in lookups {
        let entities = FoundEntities {
            indices: indices.clone(),
            rows: vec![Some(stored.clone()), None],
        };
        let now = Timestamp::from_micros(10);
        add_lookup(&mut vectors, lookup, entities, now, &mut size)?;
    }
    Ok((vectors, size.bytes()))
}

#[test]
fn looked_up_values_count_as_often_as_a_request_asks_for_them_in_all_its_lookups() {
    for is_window in [false, true] {
        let (lookup, stored) = long_texts(is_window, 1 << 20);
        let size = |lookups: &[Vec<Option<u32>>]| added(&lookup, &stored, lookups);
        let (vectors, bytes) = size(&[vec![Some(0); 31]]).unwrap();
        assert_eq!(vectors.features[0].values.len(), 31);
        assert!((31 << 20..32 << 20).contains(&bytes), "{bytes}");
        let nothing = [vec![Some(1); 10_000], vec![None; 10_000]].concat();
        assert!(size(&[nothing]).is_ok());
        // One lookup asks too often, or two do together.
        for lookups in [
            &[vec![Some(0); 32]][..],
            &[vec![Some(0); 20], vec![Some(0); 20]],
        ] {
            let refused = size(lookups).unwrap_err();
            assert_eq!(refused.kind(), Kind::Invalid);
            let wanted = "of the request take more than 32 MiB; ask for fewer rows at once";
            assert!(refused.to_string().ends_with(wanted), "{refused}");
        }
    }
}

/// Together these values would not fit the offsets of a column.
#[test]
fn values_that_no_column_can_hold_are_refused_before_a_column_is_made() {
    let (lookup, stored) = long_texts(true, 1 << 20);
    let refused = added(&lookup, &stored, &[vec![Some(0); 7_000]]).unwrap_err();
    assert_eq!(refused.kind(), Kind::Invalid);
}

#[test]
fn null_vectors_of_rows_without_a_key_count_as_what_they_take() {
    let vector = Field::new("v", DataType::Vector(1 << 20), true);
    let lookup = Lookup {
        features: vec![(0, "last_v".to_owned())],
        group: GroupDef {
            columns: vec![vector],
            ..GroupDef::new("g", "e", "at")
        },
        ..lookup(vec![0])
    };
    let refused = added(&lookup, &row(1), &[vec![None; 9]]).unwrap_err();
    assert_eq!(refused.kind(), Kind::Invalid);
}

#[test]
fn the_values_of_a_row_are_held_once() {
    let (lookup, stored) = long_texts(false, 1 << 20);
    let (vectors, _) = added(&lookup, &stored, &[vec![Some(0)]]).unwrap();
    assert!(vectors.bytes() >= 1 << 20 && vectors.bytes() < 3 << 20);
    let row = vectors.lookups[0].rows[0].as_ref().unwrap();
    assert!(row.values.is_empty());
    let identity = Some(stored.version.identity());
    assert_eq!(vectors.lookups[0].identities(), [identity]);
}
