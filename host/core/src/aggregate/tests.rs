use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use arrow_array::{ArrayRef, Float64Array, Int64Array, StringArray};
use proptest::prelude::*;

use super::*;
use crate::exact::ExactSum;
use crate::rules::{Arrival, is_expired};
use crate::{Duration, Timestamp};

mod formats;

const MINUTE: i64 = 60_000_000;
const TYPES: [DataType; 3] = [DataType::Int64, DataType::Float64, DataType::Utf8];

/// An event with an integer, a float and a text, each of which may be missing.
#[derive(Clone, Debug)]
struct Event {
    event: i64,
    available: i64,
    arrival: Arrival,
    int: Option<i64>,
    float: Option<f64>,
    text: Option<&'static str>,
}

impl Event {
    fn active(&self) -> i64 {
        self.event.max(self.available)
    }

    fn cell(&self, column: Option<usize>) -> Option<Cell> {
        match column {
            None => Some(Cell::Int(0)),
            Some(0) => self.int.map(Cell::Int),
            Some(1) => self.float.map(Cell::Float),
            _ => self.text.map(|text| Cell::Bytes(text.as_bytes().into())),
        }
    }
}

/// Every function over every column that it takes, and over windows of every kind.
fn aggregates() -> Vec<Aggregate> {
    let functions = [
        Function::Count,
        Function::Sum,
        Function::Mean,
        Function::Min,
        Function::Max,
        Function::First,
        Function::Last,
        Function::Stddev,
        Function::Variance,
        Function::FirstK(3),
        Function::LastK(2),
        Function::CountDistinct,
        Function::ApproxCountDistinct,
        Function::ApproxQuantile(500_000),
        Function::TopK(2),
    ];
    let windows = [
        Window::aligned("20m"),
        Window::aligned("2h"),
        Window::aligned("3h"),
        Window::exact("3h"),
        Window::aligned("13h"),
        Window::aligned("12d"),
        Window::aligned("lifetime"),
    ];
    let mut all = Vec::new();
    for window in windows.map(Result::unwrap) {
        for function in functions {
            for column in [None, Some(0), Some(1), Some(2)] {
                let input = column.map(|column: usize| &TYPES[column]);
                if function.output(input).is_ok() {
                    all.push(Aggregate {
                        function,
                        column,
                        window,
                    });
                }
            }
        }
    }
    all
}

/// The definition of an aggregate, which looks at every event.
fn naive(
    aggregate: &Aggregate,
    events: &[Event],
    time: i64,
    ttl: Option<Duration>,
) -> AggregateValue {
    let now = Timestamp::from_micros(time);
    let visible: Vec<&Event> = events.iter().filter(|e| e.active() <= time).collect();
    let Some(newest) = visible.iter().map(|e| e.event).max() else {
        return AggregateValue::Null;
    };
    if is_expired(Timestamp::from_micros(newest), ttl, now) {
        return AggregateValue::Null;
    }
    let start = aggregate.window.start(now).as_micros();
    let lifetime = aggregate.window.width.is_none();
    let mut values: Vec<(i64, Arrival, Cell)> = visible
        .iter()
        .filter(|e| lifetime || e.event > start)
        .filter_map(|e| Some((e.event, e.arrival, e.cell(aggregate.column)?)))
        .collect();
    values.sort();
    let cells = || values.iter().map(|(.., cell)| cell.clone());
    let number = |cell: Cell| match cell {
        Cell::Int(value) => value as f64,
        Cell::Float(value) => value,
        Cell::Bytes(_) => unreachable!(),
    };
    let exact = || {
        let mut sum = ExactSum::default();
        for cell in cells() {
            match cell {
                Cell::Int(value) => sum.add_int(value),
                other => sum.add(number(other)),
            }
        }
        sum
    };
    let one = |cell: Option<Cell>| cell.map_or(AggregateValue::Null, AggregateValue::One);
    let float = |value| AggregateValue::One(Cell::Float(value));
    let count = values.len();
    match aggregate.function {
        Function::Count => AggregateValue::One(Cell::Int(count as i64)),
        Function::Sum if count == 0 => AggregateValue::Null,
        Function::Sum if aggregate.column == Some(0) => {
            let sum: i128 = cells()
                .map(|cell| match cell {
                    Cell::Int(value) => i128::from(value),
                    _ => unreachable!(),
                })
                .sum();
            one(i64::try_from(sum).ok().map(Cell::Int))
        }
        Function::Sum => float(exact().to_f64()),
        Function::Mean if count == 0 => AggregateValue::Null,
        Function::Mean => float(exact().mean(count as u64)),
        Function::Min => one(cells().min()),
        Function::Max => one(cells().max()),
        Function::First => one(cells().next()),
        Function::Last => one(cells().next_back()),
        Function::Stddev | Function::Variance if count < 2 => AggregateValue::Null,
        Function::Stddev | Function::Variance => {
            let mut squares = ExactSum::default();
            for cell in cells() {
                match cell {
                    Cell::Int(value) => squares.add_int_square(value),
                    other => squares.add_square(number(other)),
                }
            }
            let n = count as f64;
            let deviations = exact().deviations(&squares, count as u64);
            let variance = deviations.over(n * (n - 1.0));
            float(if aggregate.function == Function::Stddev {
                variance.sqrt().to_f64()
            } else {
                variance.to_f64()
            })
        }
        Function::FirstK(k) => AggregateValue::Many(cells().take(k as usize).collect()),
        Function::LastK(k) => AggregateValue::Many(cells().rev().take(k as usize).collect()),
        Function::CountDistinct => {
            AggregateValue::One(Cell::Int(cells().collect::<BTreeSet<_>>().len() as i64))
        }
        Function::TopK(k) => {
            let mut counts: BTreeMap<Cell, i64> = BTreeMap::new();
            cells().for_each(|cell| *counts.entry(cell).or_default() += 1);
            let mut counts: Vec<_> = counts.into_iter().collect();
            counts.sort_by(|a, b| b.1.cmp(&a.1).then(a.0.cmp(&b.0)));
            AggregateValue::Many(
                counts
                    .into_iter()
                    .take(k as usize)
                    .map(|(c, _)| c)
                    .collect(),
            )
        }
        // The definition of an approximate function is the sketch over all values.
        Function::ApproxCountDistinct => {
            let mut sketch = states::Hll::default();
            cells().for_each(|cell| sketch.add_hash(cell.as_ref().hash64()));
            AggregateValue::One(Cell::Int(sketch.estimate() as i64))
        }
        Function::ApproxQuantile(millionths) => {
            let mut sketch = states::Quantiles::default();
            cells().for_each(|cell| sketch.add_value(number(cell)));
            sketch
                .quantile(f64::from(millionths) / 1e6)
                .map_or(AggregateValue::Null, float)
        }
    }
}

/// What the online store would answer at each time. Events are added when they become active, and
/// in the given order if they become active at the same time.
fn online(events: &[Event], times: &[i64], ttl: Option<Duration>) -> Vec<Vec<AggregateValue>> {
    let aggregates = aggregates();
    let layout = ItemLayout::new(&aggregates, &TYPES);
    let mut order: Vec<&Event> = events.iter().collect();
    order.sort_by_key(|event| event.active());
    let mut stored: Option<Vec<u8>> = None;
    let mut next = 0;
    let mut answers = Vec::new();
    for time in times {
        while next < order.len() && order[next].active() <= *time {
            let contribution = single(&layout, order[next]);
            stored = Some(match stored {
                None => contribution,
                Some(stored) => merge_items(&stored, &contribution).unwrap(),
            });
            next += 1;
        }
        let now = Timestamp::from_micros(*time);
        let answer = match &stored {
            Some(item) if !is_expired(newest_event(item).unwrap(), ttl, now) => {
                read(&layout, item, now).unwrap()
            }
            _ => vec![AggregateValue::Null; aggregates.len()],
        };
        answers.push(answer);
    }
    answers
}

fn single(layout: &ItemLayout, event: &Event) -> Vec<u8> {
    whole(layout, std::slice::from_ref(event))
}

/// The item of some events at once, as a backfill makes it.
fn whole(layout: &ItemLayout, events: &[Event]) -> Vec<u8> {
    let mut item = Item::new(layout);
    for event in events {
        let cells: Vec<Option<Cell>> = (0..3).map(|column| event.cell(Some(column))).collect();
        item.add(
            layout,
            Timestamp::from_micros(event.event),
            event.arrival,
            |column| cells[column].as_ref().map(Cell::as_ref),
        );
    }
    item.encode(layout)
}

fn offline(events: &[Event], times: &[i64], ttl: Option<Duration>) -> Vec<Vec<AggregateValue>> {
    let aggregates = aggregates();
    let mut sorted: Vec<&Event> = events.iter().collect();
    sorted.sort_by_key(|e| (e.event, e.arrival));
    let columns: [ArrayRef; 3] = [
        Arc::new(sorted.iter().map(|e| e.int).collect::<Int64Array>()),
        Arc::new(sorted.iter().map(|e| e.float).collect::<Float64Array>()),
        Arc::new(sorted.iter().map(|e| e.text).collect::<StringArray>()),
    ];
    let columns: Vec<Cells> = columns.iter().map(|c| Cells::new(c).unwrap()).collect();
    let values = |value: fn(&Event) -> i64| {
        let values = sorted.iter().map(|e| Timestamp::from_micros(value(e)));
        values.collect::<Vec<_>>()
    };
    let times: Vec<Timestamp> = times.iter().copied().map(Timestamp::from_micros).collect();
    let entity = EntityEvents {
        events: &values(|e| e.event),
        arrivals: &sorted.iter().map(|e| e.arrival).collect::<Vec<_>>(),
        active: &values(Event::active),
        first: 0,
        columns: &columns,
    };
    let mut answers = vec![vec![AggregateValue::Null; aggregates.len()]; times.len()];
    slide(
        &aggregates,
        &TYPES,
        &entity,
        &times,
        ttl,
        |time, index, answer| {
            answers[time][index] = answer;
        },
    );
    answers
}

fn event() -> impl Strategy<Value = Event> {
    // Few distinct times and arrivals, so that there are ties. Times are on the edges of hops and
    // just beside them. Some events are from before the order of arrival was kept.
    let time = (0i64..400, -1i64..=1).prop_map(|(five, beside)| five * 5 * MINUTE + beside);
    let late = prop_oneof![3 => Just(0), 1 => (0i64..40).prop_map(|n| n * 10 * MINUTE)];
    let int = prop_oneof![
        Just(None),
        (-3i64..3).prop_map(Some),
        Just(Some((1 << 53) + 1)),
        Just(Some(i64::MAX))
    ];
    let float = prop_oneof![
        Just(None),
        (-3i32..3).prop_map(|n| Some(f64::from(n) * 0.1)),
        Just(Some(1e300)),
        Just(Some(-1e-300)),
        Just(Some(f64::NAN)),
        Just(Some(f64::INFINITY)),
        Just(Some(-0.0)),
    ];
    let text = prop_oneof![Just(None), Just(Some("a")), Just(Some("b")), Just(Some(""))];
    let arrival = (0u64..4, prop_oneof![Just(None), (-1i64..2).prop_map(Some)]);
    let arrival = arrival.prop_map(|(order, created)| match created {
        None => Arrival::unknown(order),
        Some(created) => Arrival {
            created: Timestamp::from_micros(created),
            order,
        },
    });
    (time, late, arrival, int, float, text).prop_map(|(event, late, arrival, int, float, text)| {
        Event {
            event,
            available: event + late,
            arrival,
            int,
            float,
            text,
        }
    })
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(200))]

    /// For every function and window, the online answer, the offline answer and the definition are
    /// equal, bit for bit.
    #[test]
    fn online_offline_and_the_definition_agree(
        events in prop::collection::vec(event(), 0..40),
        queries in prop::collection::vec((0i64..5_000, -1i64..=1), 1..12),
        ttl in prop_oneof![Just(None), (1i64..100).prop_map(|n| Some(Duration::from_mins(n * 10)))],
    ) {
        let mut times: Vec<i64> = queries.iter().map(|(n, beside)| n * 5 * MINUTE + beside).collect();
        times.sort_unstable();
        let aggregates = aggregates();
        let (online, offline) = (online(&events, &times, ttl), offline(&events, &times, ttl));
        for (position, time) in times.iter().enumerate() {
            for (index, aggregate) in aggregates.iter().enumerate() {
                let wanted = naive(aggregate, &events, *time, ttl);
                prop_assert_eq!(&offline[position][index], &wanted, "offline {:?} at {}", aggregate, time);
                prop_assert_eq!(&online[position][index], &wanted, "online {:?} at {}", aggregate, time);
            }
        }
    }

    /// An item is a function of the set of events: built at once, or merged in any
    /// order and grouping, it has the same bytes.
    #[test]
    fn items_do_not_depend_on_order(events in prop::collection::vec(event(), 1..30), seed: u64) {
        let layout = ItemLayout::new(&aggregates(), &TYPES);
        let mut order: Vec<usize> = (0..events.len()).collect();
        order.sort_by_key(|n| (*n as u64 + 1).wrapping_mul(seed | 1).rotate_left(17));
        let merged = order
            .chunks(3)
            .map(|part| whole(&layout, &part.iter().map(|n| events[*n].clone()).collect::<Vec<_>>()))
            .reduce(|a, b| merge_items(&a, &b).unwrap())
            .unwrap();
        prop_assert_eq!(whole(&layout, &events), merged);
    }

    #[test]
    fn damaged_items_are_errors(events in prop::collection::vec(event(), 1..6), cut in 0usize..2_000, flip in 0usize..2_000) {
        let layout = ItemLayout::new(&aggregates(), &TYPES);
        let item = whole(&layout, &events);
        let now = Timestamp::from_micros(i64::MAX / 2);
        if cut < item.len() {
            prop_assert!(read(&layout, &item[..cut], now).is_err());
            prop_assert!(merge_items(&item[..cut], &item).is_err());
        }
        let mut damaged = item.clone();
        let flip = flip % item.len();
        damaged[flip] ^= 0x40;
        // The results do not matter, as long as nothing panics.
        let _ = read(&layout, &damaged, now);
        let _ = merge_items(&damaged, &item);
    }
}

#[test]
fn aggregate_functions_have_types_and_parameters() {
    let parse = |name, k, quantile| Function::parse(name, k, quantile).map_err(|e| e.to_string());
    assert_eq!(parse("last_k", Some(5), None), Ok(Function::LastK(5)));
    assert_eq!(
        parse("approx_quantile", None, Some(0.99)),
        Ok(Function::ApproxQuantile(990_000))
    );
    for (name, k, quantile, wanted) in [
        (
            "avg",
            None,
            None,
            "`avg` is not an aggregate function; use one of count, sum, mean",
        ),
        ("last_k", None, None, "last_k needs `k`"),
        ("top_k", Some(0), None, "top_k needs `k`, from 1 to 1000"),
        ("sum", Some(3), None, "sum has no `k`"),
        ("sum", None, Some(0.5), "sum has no `quantile`"),
        (
            "approx_quantile",
            None,
            Some(1.5),
            "needs `quantile`, from 0 to 1",
        ),
    ] {
        let message = parse(name, k, quantile).unwrap_err();
        assert!(message.contains(wanted), "{message}");
    }
    for name in functions::all().map(Function::name) {
        let k = name.ends_with("_k").then_some(3);
        let quantile = (name == "approx_quantile").then_some(0.5);
        assert_eq!(parse(name, k, quantile).unwrap().name(), name);
    }
    for (function, input, wanted) in [
        (Function::Count, None, Ok(DataType::Int64)),
        (Function::Sum, Some(DataType::Int64), Ok(DataType::Int64)),
        (
            Function::Sum,
            Some(DataType::Float32),
            Ok(DataType::Float64),
        ),
        (Function::Max, Some(DataType::Date), Ok(DataType::Date)),
        (
            Function::TopK(1),
            Some(DataType::Utf8),
            Ok(DataType::ListUtf8),
        ),
        (Function::Sum, None, Err("sum needs a `column`")),
        (
            Function::Mean,
            Some(DataType::Utf8),
            Err("mean is not defined for utf8; it takes int64"),
        ),
        (
            Function::Max,
            Some(DataType::Utf8),
            Err("max is not defined for utf8"),
        ),
        (
            Function::LastK(1),
            Some(DataType::Boolean),
            Err("last_k is not defined for boolean"),
        ),
        (
            Function::First,
            Some(DataType::ListInt64),
            Err("not lists or vectors"),
        ),
    ] {
        match (function.output(input.as_ref()), wanted) {
            (Ok(found), Ok(wanted)) => assert_eq!(found, wanted),
            (Err(error), Err(wanted)) => assert!(error.to_string().contains(wanted), "{error}"),
            (found, wanted) => panic!("{function:?}: {found:?}, wanted {wanted:?}"),
        }
    }
}

/// The bits of an answer's floats, which equality does not tell apart.
fn bits(answer: &AggregateValue) -> Vec<u64> {
    let bits = |cell: &Cell| match cell {
        Cell::Float(value) => value.to_bits(),
        Cell::Int(value) => *value as u64,
        Cell::Bytes(_) => unreachable!("a number"),
    };
    match answer {
        AggregateValue::Null => Vec::new(),
        AggregateValue::One(cell) => vec![bits(cell)],
        AggregateValue::Many(cells) => cells.iter().map(bits).collect(),
    }
}

#[test]
fn zeros_are_one_value_and_answers_do_not_depend_on_their_order() {
    let floats = [0.0, -0.0, -0.0, 1.5, 1.5, f64::NAN, f64::NAN];
    let mut orders: Vec<Vec<f64>> = (0..floats.len())
        .map(|start| [&floats[start..], &floats[..start]].concat())
        .collect();
    orders.push(floats.iter().rev().copied().collect());
    for order in orders {
        let event = |(place, float): (usize, &f64)| Event {
            event: place as i64 + 1,
            available: place as i64 + 1,
            arrival: Arrival::unknown(place as u64),
            int: None,
            float: Some(*float),
            text: None,
        };
        let events: Vec<Event> = order.iter().enumerate().map(event).collect();
        let aggregates = aggregates();
        let time = 10;
        let both = [
            online(&events, &[time], None).remove(0),
            offline(&events, &[time], None).remove(0),
        ];
        for answers in both {
            let of_floats = aggregates.iter().zip(&answers).filter(|(aggregate, _)| {
                aggregate.column == Some(1) && aggregate.window.width.is_none()
            });
            for (aggregate, answer) in of_floats {
                let first = canonical_bits(order[0]);
                let wanted = match aggregate.function {
                    Function::CountDistinct | Function::ApproxCountDistinct => vec![3],
                    Function::TopK(2) => vec![0.0f64.to_bits(), 1.5f64.to_bits()],
                    Function::Min => vec![0.0f64.to_bits()],
                    Function::Max => vec![f64::NAN.to_bits()],
                    Function::First => vec![first],
                    _ => continue,
                };
                assert_eq!(
                    bits(answer),
                    wanted,
                    "{:?} of {order:?}",
                    aggregate.function
                );
            }
        }
    }
}

/// The bits of a float as columns are read: zeros keep their sign, and all NaNs are one.
fn canonical_bits(value: f64) -> u64 {
    if value.is_nan() {
        f64::NAN.to_bits()
    } else {
        value.to_bits()
    }
}

#[test]
fn summaries_of_earlier_versions_with_two_zeros_are_read_as_one() {
    let layout = ItemLayout::new(&aggregates(), &TYPES);
    let event = |minute: i64, float| Event {
        event: minute,
        available: minute,
        arrival: Arrival::unknown(minute as u64),
        int: None,
        float: Some(float),
        text: None,
    };
    // Merging decodes what is stored, and the zeros of both sides are counted together.
    let stored = single(&layout, &event(1, -0.0));
    let merged = merge_items(&stored, &single(&layout, &event(2, 0.0))).unwrap();
    let answers = read(&layout, &merged, Timestamp::from_micros(10)).unwrap();
    let distinct = aggregates()
        .into_iter()
        .zip(answers)
        .filter(|(aggregate, _)| {
            aggregate.function == Function::CountDistinct && aggregate.column == Some(1)
        });
    for (aggregate, answer) in distinct {
        assert_eq!(bits(&answer), [1], "{:?}", aggregate.window);
    }
}
