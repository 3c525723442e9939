use arrow_array::cast::AsArray as _;
use arrow_array::types::Int64Type;
use arrow_array::{Array as _, Int64Array};
use wafer_catalog::Progress;
use wafer_core::aggregate::Function;
use wafer_core::join::SortedLabels;
use wafer_core::window::Window;

use super::*;

fn at(second: i64) -> Timestamp {
    Timestamp::from_millis(second * 1_000)
}

/// An event: the number of its entity, its time, the time when it was available, and its value.
type Row = (u32, i64, i64, i64);

fn events(rows: &[Row]) -> EventColumns {
    let values: ArrayRef = Arc::new(Int64Array::from_iter_values(rows.iter().map(|row| row.3)));
    EventColumns {
        entities: rows.iter().map(|row| row.0).collect(),
        events: rows.iter().map(|row| at(row.1)).collect(),
        active: rows.iter().map(|row| at(row.1.max(row.2))).collect(),
        arrivals: rows.iter().map(|_| Arrival::unknown(0)).collect(),
        columns: vec![vec![values]],
    }
}

fn values(events: &EventColumns) -> Vec<i64> {
    let column = events.columns[0][0].as_primitive::<Int64Type>();
    column.values().to_vec()
}

/// A plan for the sum of ten seconds and the number of all events, whose answers may take `room`
/// bytes.
fn plan(room: u64) -> WindowPlan {
    let progress: Arc<dyn Progress> = Arc::new(());
    let field = |name: &str| Field::new(name, DataType::Int64, true);
    WindowPlan {
        aggregates: vec![
            Aggregate {
                function: Function::Sum,
                column: Some(0),
                window: Window::exact("10s").unwrap(),
            },
            Aggregate {
                function: Function::Count,
                column: None,
                window: Window::LIFETIME,
            },
        ],
        identities: None,
        columns: vec![field("x")],
        fields: vec![field("sum"), field("count")],
        ttl: None,
        workers: 2,
        room: Room::new(room),
        given_up: GivenUp::new(&progress),
    }
}

/// Labels, each the number of an entity and a time. Entities are numbered as they come.
fn band(labels: &[(u32, i64)]) -> Band {
    let keys = labels.iter().map(|(entity, _)| i64::from(*entity));
    let keys: ArrayRef = Arc::new(Int64Array::from_iter_values(keys));
    let times: Vec<Timestamp> = labels.iter().map(|(_, time)| at(*time)).collect();
    let (mut index, mut entities) = (EntityIndex::default(), Vec::new());
    index.number(&[keys], labels.len(), &mut entities);
    let own: Vec<u32> = labels.iter().map(|(entity, _)| *entity).collect();
    assert_eq!(entities, own, "entities are numbered as they come");
    let sorted = Arc::new(SortedLabels::new(&entities, &times, index.len()));
    Band {
        first: 0,
        times,
        index,
        sorted,
    }
}

/// Joins labels with events, with the entities divided into some parts.
fn slide_parts(plan: &WindowPlan, rows: &[Row], band: &Band, parts: u32) -> FoundFeatures {
    let mut found = FoundFeatures {
        coincident: 0,
        types: vec![DataType::Int64; 2],
        batches: Vec::new(),
        locations: Locations::Direct(vec![None; band.times.len()]),
    };
    for part in 0..parts {
        let own = rows.iter().copied().filter(|row| row.0 % parts == part);
        let own: Vec<Row> = own.collect();
        found = plan.slide_all(events(&own), band, (part, parts), found);
    }
    found
}

/// Returns the answers for a label, or `None` if none were found.
fn answers(found: &FoundFeatures, label: usize) -> Option<(Option<i64>, Option<i64>)> {
    let FoundPlace { batch, row } = found.locations.get(label)?;
    let value = |column: usize| {
        let columns = found.batches[batch as usize].columns();
        let values = columns[column].as_primitive::<Int64Type>();
        values
            .is_valid(row as usize)
            .then(|| values.value(row as usize))
    };
    Some((value(0), value(1)))
}

/// Two entities with events, the first of which is available late.
const ROWS: [Row; 4] = [(0, 1, 1, 5), (1, 3, 3, 1), (0, 8, 12, 7), (1, 3, 3, 2)];

#[test]
fn labels_get_the_events_of_their_windows_that_counted_by_then() {
    let labels = [
        (0, 0),
        (1, 3),
        (2, 9),
        (0, 9),
        (0, 11),
        (0, 12),
        (1, 13),
        (0, 3),
    ];
    let wanted = [
        // Before all events, at the time of two of them, and of an entity without events.
        Some((None, None)),
        Some((Some(3), Some(2))),
        None,
        // An event that is not available yet does not count; one that is too old counts only for
        // the window without an end.
        Some((Some(5), Some(1))),
        Some((None, Some(1))),
        Some((Some(7), Some(2))),
        Some((None, Some(2))),
        Some((Some(5), Some(1))),
    ];
    let band = band(&labels);
    for parts in 1..=4 {
        let found = slide_parts(&plan(1 << 20), &ROWS, &band, parts);
        for (label, wanted) in wanted.into_iter().enumerate() {
            let got = answers(&found, label);
            assert_eq!(got, wanted, "{:?} in {parts} parts", labels[label]);
        }
        // Only the label of entity 1 at 3 has the time of one of its events.
        assert_eq!(found.coincident, 1, "{parts}");
    }
}

#[test]
fn answers_that_take_more_than_their_room_are_noticed() {
    let band = band(&[(0, 2), (1, 4)]);
    for (room, is_exceeded) in [(0, true), (1 << 20, false)] {
        let plan = plan(room);
        slide_parts(&plan, &ROWS, &band, 1);
        assert_eq!(plan.room.is_exceeded(), is_exceeded, "{room}");
    }
}

#[test]
fn a_label_coincides_with_an_event_that_counts_at_its_time() {
    let events = events(&[(0, 1, 1, 0), (0, 5, 9, 0), (0, 5, 5, 0), (0, 8, 12, 0)]);
    let entity = events.at(0..4);
    for (time, wanted) in [(0, false), (1, true), (2, false), (5, true), (8, false)] {
        assert_eq!(has_event_at(&entity, at(time)), wanted, "{time}");
    }
    // The only event of the time counts later.
    assert!(!has_event_at(&events.at(1..2), at(5)));
}

#[test]
fn events_of_workers_become_one_batch_that_can_be_put_into_another_order() {
    let plan = plan(0);
    let pieces = vec![events(&ROWS[..3]), events(&[]), events(&ROWS[3..])];
    let all = EventColumns::concat(pieces, &plan);
    assert_eq!((all.entities.len(), all.columns.len()), (4, 1));
    assert_eq!(values(&all), [5, 1, 7, 2]);
    let reordered = all.reordered(&[2, 0, 3]);
    assert_eq!(values(&reordered), [7, 5, 2]);
    assert_eq!(reordered.events, [at(8), at(1), at(3)]);
    assert_eq!(reordered.active, [at(12), at(1), at(3)]);
    assert!(reordered.entities.is_empty());

    let none = EventColumns::concat(Vec::new(), &plan);
    assert!(none.events.is_empty() && values(&none).is_empty());
}

#[test]
fn arrivals_are_read_for_functions_of_order_and_for_identities() {
    let of = |change: fn(&mut WindowPlan)| {
        let mut plan = plan(0);
        change(&mut plan);
        plan.needs_arrivals()
    };
    assert!(!of(|_| {}));
    assert!(of(|plan| plan.aggregates[0].function = Function::Last));
    assert!(of(|plan| {
        let layout = ItemLayout::new(&plan.aggregates, &[DataType::Int64]);
        plan.identities = Some(layout);
    }));
}
