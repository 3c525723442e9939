//! Tests of which rows of a function's output become rows of a group.

use arrow_array::{Int64Array, StringArray};
use wafer_catalog::AggregateDef;
use wafer_core::aggregate::{Aggregate, Function};
use wafer_core::expect::{Bound, Expectation, Rule};
use wafer_core::window::Window;
use wafer_core::{DataType, Field};

use super::*;

fn at(micros: i64) -> Timestamp {
    Timestamp::from_micros(micros)
}

/// Returns a group with the key `k` and the column `x`, which is from 0, warns above 10 and fails
/// a run above 100.
fn target() -> Target {
    let range = |min, max, policy| Expectation {
        column: "x".to_owned(),
        rule: Rule::Range { min, max },
        policy,
    };
    let group = GroupDef {
        keys: vec![Field::new("k", DataType::Utf8, false)],
        columns: vec![Field::new("x", DataType::Int64, true)],
        expectations: vec![
            range(None, Some(Bound::Int(10)), Policy::Warn),
            range(Some(Bound::Int(0)), None, Policy::Reject),
            range(None, Some(Bound::Int(100)), Policy::Fail),
        ],
        ..GroupDef::new("g", "e", "t")
    };
    Target::new(group, &Deletions::default(), u64::MAX)
}

fn outputs() -> Schema {
    Schema::new(vec![
        Field::new("t", DataType::Timestamp, true),
        Field::new("x", DataType::Int64, true),
        Field::new("k", DataType::Utf8, true),
    ])
    .unwrap()
}

fn output(rows: &[(Option<&str>, Option<i64>, i64)]) -> Output {
    let times = TimestampMicrosecondArray::from_iter(rows.iter().map(|(_, time, _)| *time));
    Output {
        columns: vec![
            Arc::new(times.with_timezone("UTC")),
            Arc::new(Int64Array::from_iter_values(
                rows.iter().map(|(_, _, x)| *x),
            )),
            Arc::new(StringArray::from_iter(rows.iter().map(|(key, _, _)| *key))),
        ],
        rows: rows.len(),
        source_rows: None,
        row_errors: Vec::new(),
    }
}

/// Rows from 100 to 200 are covered. Now is 150, and rows may be 20 in the future.
const GATE: Gate = Gate {
    interval: Interval {
        from: Timestamp::from_micros(100),
        to: Timestamp::from_micros(200),
    },
    now: Timestamp::from_micros(150),
    skew: Duration::from_micros(20),
};

#[test]
fn row_is_kept_or_left_out_or_refused_with_the_reason() {
    let table = [
        ((Some("a"), Some(100), 1), "kept"),
        ((Some("a"), Some(170), 1), "kept"),
        ((Some("a"), Some(150), 11), "kept"),
        ((Some("a"), Some(99), 1), "outside"),
        ((Some("a"), Some(200), 1), "outside"),
        ((Some("a"), None, 1), "event time `t` is null"),
        ((Some("a"), Some(171), 1), "is in the future"),
        ((None, Some(150), 1), "join key `k` is null"),
        ((Some("a"), Some(150), -1), "`x` is -1"),
        ((Some("a"), Some(150), 101), "fails: `x` is 101"),
        // The entity `gone` was deleted at 120.
        ((Some("gone"), Some(120), 1), "deleted"),
        ((Some("gone"), Some(121), 1), "kept"),
        // A row that is outside is not looked at any further.
        ((None, Some(99), -1), "outside"),
    ];
    let output = output(&table.map(|(row, _)| row));
    let mut target = target();
    let gone: ArrayRef = Arc::new(StringArray::from(vec!["gone"]));
    let gone = entity_key(&[gone], 0).unwrap();
    target.deleted = Deleted::from_iter([(gone, at(120))]);
    let rows = target.rows_of(&outputs(), &output, GATE);
    for (row, (input, wanted)) in table.iter().enumerate() {
        let refused = rows.rejects.iter().find(|reject| reject.row == row);
        let found = match refused {
            Some(reject) if reject.fails => format!("fails: {}", reject.reason),
            Some(reject) => reject.reason.clone(),
            None if rows.sources.contains(&row) => "kept".to_owned(),
            None if rows.deleted.contains(&row) => "deleted".to_owned(),
            None => "outside".to_owned(),
        };
        let is_same = match *wanted {
            "kept" | "outside" | "deleted" => found == *wanted,
            reason => refused.is_some() && found.contains(reason),
        };
        assert!(is_same, "{input:?}: {found}, not {wanted}");
    }
    assert_eq!((rows.outside, rows.warnings, rows.rejects.len()), (3, 1, 5));
    let kept: Vec<i64> = rows.events.iter().map(|time| time.as_micros()).collect();
    assert_eq!(kept, [100, 170, 150, 121]);
    assert_eq!(
        (rows.len(), rows.entities.len(), rows.columns[0].len()),
        (4, 4, 4)
    );
}

#[test]
fn a_row_that_no_request_could_look_up_is_told_from_others() {
    let text = DataType::Utf8;
    let group = GroupDef {
        keys: vec![Field::new("k", DataType::Utf8, false)],
        columns: vec![
            Field::new("x", text.clone(), true),
            Field::new("y", text, true),
        ],
        // All rows break it, and only those that are kept are counted.
        expectations: vec![Expectation {
            column: "y".to_owned(),
            rule: Rule::Values(vec!["y".to_owned()]),
            policy: Policy::Warn,
        }],
        ..GroupDef::new("g", "e", "t")
    };
    let outputs = Schema::new(vec![
        Field::new("t", DataType::Timestamp, true),
        Field::new("x", DataType::Utf8, true),
        Field::new("y", DataType::Utf8, true),
        Field::new("k", DataType::Utf8, true),
    ]);
    // Beside its bytes, each text takes eight.
    let most = MAX_FOUND_BYTES as usize - 16;
    let texts = |lengths: [usize; 3]| -> ArrayRef {
        let texts = lengths.map(|length| "x".repeat(length));
        Arc::new(StringArray::from_iter_values(texts))
    };
    let times = TimestampMicrosecondArray::from(vec![150; 3]).with_timezone("UTC");
    let output = Output {
        columns: vec![
            Arc::new(times),
            texts([most, most, 1]),
            texts([0, 1, 1]),
            texts([1, 1, 1]),
        ],
        rows: 3,
        source_rows: None,
        row_errors: Vec::new(),
    };
    let outputs = outputs.unwrap();
    // The refused rows, and the number of the others.
    let refused = |target: &Target| {
        let rows = target.rows_of(&outputs, &output, GATE);
        assert_eq!(rows.warnings, rows.len() as u64);
        (rows.rejects.clone(), rows.len())
    };
    let target = Target::new(group, &Deletions::default(), u64::MAX);
    let (rejects, kept) = refused(&target);
    assert_eq!((rejects.len(), rejects[0].row, kept), (1, 1, 2));
    let reason = &rejects[0].reason;
    let wanted =
        "its row of group `g` takes 33554433 bytes, and a request may look up at most 32 MiB";
    assert!(reason.starts_with(wanted), "{reason}");
    assert!(!rejects[0].fails);
    // The summary of an entity holds the first text in two windows.
    let aggregate = |width: &str| AggregateDef {
        field: Field::new(width, DataType::Utf8, true),
        aggregate: Aggregate {
            function: Function::Last,
            column: Some(0),
            window: Window::aligned(width).unwrap(),
        },
    };
    let group = GroupDef {
        aggregates: vec![aggregate("1d"), aggregate("lifetime")],
        ..target.group
    };
    let (rejects, kept) = refused(&Target::new(group, &Deletions::default(), u64::MAX));
    let rows: Vec<usize> = rejects.iter().map(|refused| refused.row).collect();
    assert_eq!((rows, kept), (vec![0, 1], 1));
}

#[test]
fn rows_name_the_source_rows_that_they_were_made_from() {
    let row = (Some("a"), Some(150), 1);
    let refused = || vec![(1, "no".to_owned())];
    for (what, source_rows, row_errors, sources, rejects) in [
        ("one to one", None, vec![], vec![0, 1, 2], vec![]),
        // The row that the function returned for the refused one is meaningless.
        (
            "one to one, one refused",
            None,
            refused(),
            vec![0, 2],
            vec![1],
        ),
        (
            "any number",
            Some(vec![0, 0, 2]),
            vec![],
            vec![0, 0, 2],
            vec![],
        ),
        (
            "any number, one refused",
            Some(vec![0, 2, 2]),
            refused(),
            vec![0, 2, 2],
            vec![1],
        ),
    ] {
        let output = Output {
            source_rows,
            row_errors,
            ..output(&[row, row, row])
        };
        let mut rows = target().rows_of(&outputs(), &output, GATE);
        // The order of arrival is that of the rows that the function returned, refused ones
        // included.
        rows.first_order = 70;
        let orders: Vec<u64> = (0..rows.len()).map(|row| rows.order(row)).collect();
        let places: &[u64] = if rows.len() == 2 {
            &[70, 72]
        } else {
            &[70, 71, 72]
        };
        assert_eq!((&orders[..], rows.output_rows), (places, 3), "{what}");
        assert_eq!(rows.take_rows(&[1]).order(0), orders[1], "{what}");
        let refused: Vec<usize> = rows.rejects.iter().map(|reject| reject.row).collect();
        assert_eq!((rows.sources, refused), (sources, rejects), "{what}");
    }
}
