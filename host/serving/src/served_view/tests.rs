use arrow_array::{Int64Array, StringArray};
use serde_json::json;
use wafer_core::DataType;
use wafer_core::rules::RowVersion;

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
fn only_present_values_can_be_null() {
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
        stored: Stored::Row(Vec::new()),
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

#[test]
fn stored_rows_count_as_often_as_a_request_asks_for_them() {
    let row = OnlineRow {
        values: vec![0; 1 << 20].into(),
        ..row(1)
    };
    let size = |entity_indices: Vec<Option<u32>>| {
        check_size(&LookupResult {
            alias: "last".to_owned(),
            entity_indices,
            rows: vec![Some(row.clone()), None],
            status: vec![Status::Present, Status::NotFound],
        })
    };
    assert!(size(vec![Some(0); 32]).is_ok());
    assert!(size([vec![Some(1); 10_000], vec![None; 10_000]].concat()).is_ok());
    let refused = size(vec![Some(0); 33]).unwrap_err();
    assert_eq!(refused.kind(), Kind::Invalid);
    assert_eq!(
        refused.to_string(),
        "the stored values of `last` for the 33 rows of the request take 33 MiB, and may take 32 MiB; \
         ask for fewer rows at once"
    );
}
