//! Tests of the formats of definitions and of stored summaries, byte by byte: they never change.

use super::*;

/// Every function, how definitions write it, and how it is called in the names of features.
const FUNCTIONS: [(Function, &str, &str); 15] = [
    (Function::Count, r#""count""#, "count"),
    (Function::Sum, r#""sum""#, "sum"),
    (Function::Mean, r#""mean""#, "mean"),
    (Function::Min, r#""min""#, "min"),
    (Function::Max, r#""max""#, "max"),
    (Function::First, r#""first""#, "first"),
    (Function::Last, r#""last""#, "last"),
    (Function::Stddev, r#""stddev""#, "stddev"),
    (Function::Variance, r#""variance""#, "variance"),
    (Function::FirstK(3), r#"{"first_k":3}"#, "first_3"),
    (Function::LastK(2), r#"{"last_k":2}"#, "last_2"),
    (
        Function::CountDistinct,
        r#""count_distinct""#,
        "count_distinct",
    ),
    (
        Function::ApproxCountDistinct,
        r#""approx_count_distinct""#,
        "approx_count_distinct",
    ),
    (
        Function::ApproxQuantile(999_000),
        r#"{"approx_quantile":999000}"#,
        "p99_9",
    ),
    (Function::TopK(5), r#"{"top_k":5}"#, "top_5"),
];

#[test]
fn functions_keep_their_json_and_labels() {
    for (function, json, label) in FUNCTIONS {
        assert_eq!(serde_json::to_string(&function).unwrap(), json);
        assert_eq!(serde_json::from_str::<Function>(json).unwrap(), function);
        assert_eq!(function.label(), label);
    }
    let names: Vec<_> = functions::all().map(Function::name).collect();
    assert_eq!(names, FUNCTIONS.map(|(function, ..)| function.name()));
}

/// Five events in three tiles of five minutes. Two are at the same time.
fn events() -> Vec<Event> {
    let event = |minute: i64, id, int, float, text| Event {
        event: minute * MINUTE,
        available: minute * MINUTE,
        arrival: Arrival::unknown(id),
        int,
        float,
        text,
    };
    vec![
        event(3, 0x0102_0304_0506_0708, Some(7), Some(0.1), Some("a")),
        event(3, 9, Some(-2), Some(f64::NAN), Some("bc")),
        event(9, 8, Some(i64::MAX), Some(-1e300), None),
        event(8, 7, None, None, Some("a")),
        event(12, 6, Some(7), Some(0.1), Some("")),
    ]
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

/// The stored item of the events for one function over one column and window.
fn item(function: Function, column: Option<usize>, window: &str, events: &[Event]) -> Vec<u8> {
    let aggregate = Aggregate {
        function,
        column,
        window: Window::aligned(window).unwrap(),
    };
    whole(&ItemLayout::new(&[aggregate], &TYPES), events)
}

#[test]
fn items_keep_their_bytes() {
    for (function, column, window, wanted) in ITEMS {
        let found = item(function, column, window, &events());
        assert_eq!(
            hex(&found),
            wanted,
            "{function:?} of {column:?} over {window}"
        );
        let single = |event: &Event| item(function, column, window, std::slice::from_ref(event));
        let merged = events()
            .iter()
            .map(single)
            .reduce(|a, b| merge_items(&a, &b).unwrap());
        assert_eq!(hex(&merged.unwrap()), wanted, "{function:?}, merged");
    }
}

const ITEMS: [(Function, Option<usize>, &str, &str); 18] = [
    (
        Function::Count,
        None,
        "lifetime",
        "020054ea2a00000000010100010001000105",
    ),
    (
        Function::Sum,
        Some(0),
        "lifetime",
        "020054ea2a00000000010100010101000c040002440b00000000000080",
    ),
    (
        Function::Mean,
        Some(1),
        "3h",
        "020054ea2a000000000180c6868f0181d8eb9d28010103020f02020242009a99999999991901000004100101036100009c7500883ce417000000060c01000242009a999999999919",
    ),
    (
        Function::Stddev,
        Some(0),
        "lifetime",
        "020054ea2a00000000010100010201001f040002440b000000000000800004446700000000000000ffffffffffffff3f",
    ),
    (
        Function::Variance,
        Some(1),
        "3h",
        "020054ea2a000000000180c6868f0181d8eb9d28010203022502020242009a9999999999190100000204400000a4703d0ad7a3708fc2f5285c8f0201000004230101036100009c7500883ce41700000000047f10f707f6157efdfba5505cce3a020000061f01000242009a9999999999190004400000a4703d0ad7a3708fc2f5285c8f02",
    ),
    (
        Function::Min,
        Some(1),
        "3h",
        "020054ea2a000000000180c6868f0181d8eb9d280103030209029a9999999999b93f0409029c7500883ce437fe0609029a9999999999b93f",
    ),
    (
        Function::Max,
        Some(0),
        "3h",
        "020054ea2a000000000180c6868f0181d8eb9d280104030202010e040b01feffffffffffffffff010602010e",
    ),
    (
        Function::First,
        Some(2),
        "3h",
        "020054ea2a000000000180c6868f0181d8eb9d280105010302120180d4d4ab0109000000000000000302626304110180e0e1c903070000000000000003016106100180d0d2ae0506000000000000000300",
    ),
    (
        Function::Last,
        Some(1),
        "lifetime",
        "020054ea2a000000000101000106010100170180d0d2ae050600000000000000029a9999999999b93f",
    ),
    (
        Function::FirstK(3),
        Some(0),
        "lifetime",
        "020054ea2a000000000101000105030100370380d4d4ab010900000000000000010380d4d4ab010807060504030201010e80fcfd8204080000000000000001feffffffffffffffff01",
    ),
    (
        Function::LastK(300),
        Some(2),
        "3h",
        "020054ea2a000000000180c6868f0181d8eb9d280106ac020302220280d4d4ab01080706050403020103016180d4d4ab0109000000000000000302626304110180e0e1c903070000000000000003016106100180d0d2ae0506000000000000000300",
    ),
    (
        Function::CountDistinct,
        Some(2),
        "3h",
        "020054ea2a000000000180c6868f0181d8eb9d28010703020a0203016101030262630104050103016101060401030001",
    ),
    (
        Function::TopK(2),
        Some(1),
        "lifetime",
        "020054ea2a00000000010100010701001f03029c7500883ce437fe01029a9999999999b93f0202000000000000f87f01",
    ),
    (
        Function::ApproxCountDistinct,
        Some(2),
        "3h",
        "020054ea2a000000000180c6868f0181d8eb9d28010803020702b10a019d0302040401b10a01060401a20705",
    ),
    (
        Function::ApproxCountDistinct,
        Some(0),
        "lifetime",
        "020054ea2a000000000101000108010009032301c60901e60201",
    ),
    (
        Function::ApproxQuantile(500_000),
        Some(1),
        "3h",
        "020054ea2a000000000180c6868f0181d8eb9d280109030209029aef0401e8f20401040501d38c09010605019aef0401",
    ),
    (
        Function::Count,
        None,
        "20m",
        "020054ea2a00000000010081989abc04000580d4d4ab0108080706050403020180d4d4ab0108090000000000000080e0e1c90308070000000000000080fcfd820408080000000000000080d0d2ae05080600000000000000",
    ),
    (
        Function::TopK(2),
        Some(2),
        "20m",
        "020054ea2a00000000010081989abc04000580d4d4ab010b080706050403020103016180d4d4ab010c09000000000000000302626380e0e1c9030b070000000000000003016180fcfd82040908000000000000000080d0d2ae050a06000000000000000300",
    ),
];

/// Two events of one time that came in one after the other, at a time before 1970 and after it.
fn arrived() -> Vec<Event> {
    let arrival = |created, order| Arrival {
        created: Timestamp::from_micros(created),
        order,
    };
    let [first, second, ..] = &events()[..] else {
        unreachable!("there are five events")
    };
    vec![
        Event {
            arrival: arrival(64, 2),
            ..first.clone()
        },
        Event {
            arrival: arrival(-1, 3),
            ..second.clone()
        },
    ]
}

#[test]
fn items_of_events_with_an_arrival_keep_their_bytes() {
    for (function, window, wanted) in ARRIVED {
        let found = item(function, Some(0), window, &arrived());
        assert_eq!(hex(&found), wanted, "{function:?} over {window}");
    }
}

const ARRIVED: [(Function, &str, &str); 3] = [
    (
        Function::LastK(2),
        "lifetime",
        "020095ba0a000000000101000106020100240280d4d4ab010200000000000000048001010e80d4d4ab01030000000000000004010103",
    ),
    (
        Function::Last,
        "20m",
        "020095ba0a00000000010081989abc04000280d4d4ab010c0200000000000000010e800180d4d4ab010b0300000000000000010301",
    ),
    // A function that does not depend on the order of events needs no creation time.
    (
        Function::Max,
        "20m",
        "020095ba0a00000000010081989abc04000280d4d4ab010a0200000000000000010e80d4d4ab010a03000000000000000103",
    ),
];

#[test]
fn items_without_values_keep_their_bytes() {
    let empty = Event {
        float: None,
        ..events()[0].clone()
    };
    for (function, wanted) in EMPTY {
        let found = item(function, Some(1), "lifetime", std::slice::from_ref(&empty));
        assert_eq!(hex(&found), wanted, "{function:?}");
    }
}

const EMPTY: [(Function, &str); 10] = [
    (Function::Count, "020095ba0a00000000010100010001000100"),
    (Function::Sum, "020095ba0a000000000101000101010003000000"),
    (
        Function::Variance,
        "020095ba0a0000000001010001020100050000000000",
    ),
    (Function::Min, "020095ba0a00000000010100010301000100"),
    (Function::Max, "020095ba0a00000000010100010401000100"),
    (
        Function::FirstK(3),
        "020095ba0a0000000001010001050301000100",
    ),
    (Function::Last, "020095ba0a0000000001010001060101000100"),
    (
        Function::CountDistinct,
        "020095ba0a00000000010100010701000100",
    ),
    (
        Function::ApproxCountDistinct,
        "020095ba0a00000000010100010801000100",
    ),
    (
        Function::ApproxQuantile(1),
        "020095ba0a00000000010100010901000100",
    ),
];
