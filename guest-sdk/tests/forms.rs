//! Every form of a function, called as the host would call it.

use wafer::bindings::types::{Batch, CallError, Mapping, Output};
use wafer::export::{call_columns, call_rows, columns_signature, rows_signature};
use wafer::{Column, Columns, Init, Row, Timestamp};

/// A number, and perhaps a name.
#[derive(Debug, Row)]
struct In {
    /// A number.
    ///
    /// Any number.
    n: i64,
    name: Option<String>,
}

#[derive(Debug, Row)]
struct Out {
    doubled: i64,
    at: Timestamp,
}

fn out(n: i64) -> Out {
    Out {
        doubled: n * 2,
        at: Timestamp::from_seconds(n),
    }
}

#[wafer::function]
fn one_to_one(row: In) -> Out {
    out(row.n)
}

#[test]
fn signatures_carry_types_and_documentation() {
    let signature = rows_signature(&one_to_one, "Doubles.");
    assert_eq!(signature.mapping, Mapping::OneToOne);
    assert_eq!(signature.doc, "Doubles.");
    let fields: Vec<_> = signature
        .inputs
        .iter()
        .map(|f| (f.name.as_str(), f.nullable, f.doc.as_str()))
        .collect();
    assert_eq!(
        fields,
        [("n", false, "A number.\nAny number."), ("name", true, "")]
    );
}

fn batch(numbers: &[Option<i64>]) -> Batch {
    let n: Column<Option<i64>> = numbers.iter().copied().collect();
    let name: Column<Option<String>> = numbers.iter().map(|_| None).collect();
    Batch {
        rows: numbers.len() as u32,
        columns: vec![n.into_wire(), name.into_wire()],
    }
}

/// Values, source rows and errors of an output.
type Made = (Vec<i64>, Option<Vec<u32>>, Vec<(u32, String)>);

fn doubled(output: Output) -> Made {
    let rows = output.batch.rows as usize;
    let mut columns = output.batch.columns.into_iter();
    let column = Column::<i64>::from_wire(columns.next(), rows, "doubled").unwrap();
    let errors = output
        .row_errors
        .into_iter()
        .map(|e| (e.row, e.message))
        .collect();
    (column.data().clone(), output.source_rows, errors)
}

fn call<T: wafer::IntoRows>(function: impl Fn(In) -> T, numbers: &[Option<i64>]) -> Made {
    doubled(call_rows(batch(numbers), function).unwrap())
}

const NULL: &str = "column `n` is null, and the function needs a value";

#[test]
fn functions_of_one_row_return_one_row_for_each_input() {
    let made = call(one_to_one, &[Some(1), None, Some(3)]);
    assert_eq!(made, (vec![2, 0, 6], None, vec![(1, NULL.to_owned())]));
}

#[test]
fn filters() {
    let made = call(
        |row: In| (row.n > 1).then(|| out(row.n)),
        &[Some(1), Some(2), None, Some(3)],
    );
    assert_eq!(
        made,
        (vec![4, 6], Some(vec![1, 3]), vec![(2, NULL.to_owned())])
    );
}

#[test]
fn any_number_of_rows() {
    let made = call(
        |row: In| (0..row.n).map(out).collect::<Vec<_>>(),
        &[Some(2), Some(0), Some(1)],
    );
    assert_eq!(made, (vec![0, 2, 0], Some(vec![0, 0, 2]), vec![]));
}

#[test]
fn fallible_of_every_kind() {
    let odd = |row: &In| {
        if row.n % 2 == 1 {
            Ok(())
        } else {
            Err(format!("{} is even", row.n))
        }
    };
    let numbers = [Some(1), Some(2), Some(3)];
    let error = vec![(1, "2 is even".to_owned())];
    let made = call(|row: In| odd(&row).map(|()| out(row.n)), &numbers);
    assert_eq!(made, (vec![2, 0, 6], None, error.clone()));
    let made = call(|row: In| odd(&row).map(|()| Some(out(row.n))), &numbers);
    assert_eq!(made, (vec![2, 6], Some(vec![0, 2]), error.clone()));
    let made = call(
        |row: In| odd(&row).map(|()| vec![out(row.n), out(0)]),
        &numbers,
    );
    assert_eq!(made, (vec![2, 0, 6, 0], Some(vec![0, 0, 2, 2]), error));
}

fn vectorised(rows: &Columns<In>) -> Columns<Out> {
    let n = rows.n.data();
    OutColumns {
        doubled: n.iter().map(|n| n * 2).collect::<Vec<_>>().into(),
        at: n.iter().map(|n| Timestamp::from_seconds(*n)).collect(),
    }
}

#[test]
fn whole_columns() {
    assert_eq!(
        columns_signature(&vectorised, "").mapping,
        Mapping::OneToOne
    );
    let made = doubled(call_columns(batch(&[Some(1), None, Some(3)]), vectorised).unwrap());
    assert_eq!(made, (vec![2, 0, 6], None, vec![(1, NULL.to_owned())]));
    let failing = |_: &InColumns| Err::<OutColumns, _>("not today");
    let refused = call_columns(batch(&[Some(1)]), failing).unwrap_err();
    assert!(matches!(refused, CallError::Failed(message) if message == "not today"));
}

#[test]
fn batches_that_do_not_fit_are_refused() {
    let mut short = batch(&[Some(1)]);
    short.columns.pop();
    let refused = call_rows(short, one_to_one).unwrap_err();
    assert!(matches!(refused, CallError::InvalidInput(m) if m == "column `name` is missing"));
    let mut other = batch(&[Some(1)]);
    other.columns.swap(0, 1);
    let refused = call_rows(other, one_to_one).unwrap_err();
    assert!(matches!(refused, CallError::InvalidInput(m) if m.starts_with("column `n` is not")));
}

/// Forms that the attribute takes; that they compile is the test.
#[allow(dead_code, reason = "compiling them is the test")]
mod attribute {
    use super::{Columns, In, Init, Out, out, vectorised};

    mod iterator {
        use super::{In, Out, out};
        #[wafer::function]
        fn iterator(row: In) -> impl Iterator<Item = Out> {
            (0..row.n).map(out)
        }
    }

    mod state {
        use super::{In, Init, Out, out};
        struct Table(i64);
        fn load(init: &Init) -> Result<Table, String> {
            let text = init.parameter("by").ok_or("parameter `by` is missing")?;
            text.parse()
                .map(Table)
                .map_err(|e| format!("parameter `by`: {e}"))
        }
        #[wafer::function(init = load)]
        fn with_state(row: In, table: &Table) -> Result<Option<Out>, String> {
            Ok(Some(out(row.n * table.0)))
        }
    }

    mod columns {
        use super::{Columns, In, Init, Out, vectorised};
        fn nothing(_: &Init) -> Result<(), std::convert::Infallible> {
            Ok(())
        }
        #[wafer::function(init = nothing)]
        fn columns(rows: &Columns<In>, _state: &()) -> Columns<Out> {
            vectorised(rows)
        }
    }

    mod plain_columns {
        use super::{Columns, In, Out, vectorised};
        #[wafer::function]
        fn columns(rows: &wafer::Columns<In>) -> Result<Columns<Out>, String> {
            Ok(vectorised(rows))
        }
    }
}
