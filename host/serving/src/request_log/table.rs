//! The tables that answers of endpoints are logged to.

use std::sync::Arc;

use arrow_array::{ArrayRef, BooleanArray, Int64Array, StringArray};
use wafer_catalog::{Recipe, SYSTEM_COLUMNS, Subject, TableDef};
use wafer_core::{DataType, Digest, Field, Timestamp, encode_row};
use wafer_store::{Error, OutboxRow, Result};
use wafer_tables::timestamps;

use crate::request_log::queue::Answered;

/// Columns that every log begins with.
const COLUMNS: [(&str, DataType, &str); 5] = [
    ("log_request", DataType::Utf8, "Name of the request."),
    ("log_row", DataType::Int64, "Row of the request, from 0."),
    ("log_release", DataType::Utf8, "Release that answered."),
    (
        "log_shadow",
        DataType::Boolean,
        "Whether it was asked as a shadow: nobody was told its answer.",
    ),
    (
        "log_error",
        DataType::Utf8,
        "Why there is no prediction, if there is none.",
    ),
];

/// The table that a release's answers are logged to: one for each endpoint and set of
/// columns, which are those of every log, inputs, features and outputs of the release, and
/// for each lookup the event time and identity of what was found.
#[derive(Debug)]
pub struct LogTable {
    pub(crate) definition: TableDef,
    /// How many inputs of requests it has.
    pub inputs: usize,
    /// How many features.
    pub features: usize,
    /// How many outputs of the model.
    pub outputs: usize,
    /// Inputs of the view that are join keys.
    pub keys: Vec<String>,
}

impl LogTable {
    /// # Errors
    /// [`Kind::Invalid`] when there are more columns than a table has, or
    /// a name is too long.
    pub fn new(endpoint: &str, recipe: &Recipe, outputs: &[Field]) -> Result<Self> {
        let view = &recipe.view;
        let mut columns = Columns::default();
        for (name, data_type, doc) in COLUMNS {
            columns.add("", name.to_owned(), data_type, doc);
        }
        let features = recipe.outputs();
        for (fields, prefix) in [
            (view.inputs.as_slice(), "input_"),
            (&features, "feature_"),
            (outputs, "output_"),
        ] {
            for field in fields {
                let (name, data_type) = (field.name.clone(), field.data_type.clone());
                columns.add(prefix, name, data_type, &field.doc);
            }
        }
        for lookup in &view.lookups {
            let time = format!("{}_event_timestamp", lookup.alias);
            let doc = "Event time of what was found.";
            columns.add("log_", time, DataType::Timestamp, doc);
            let identity = format!("{}_identity", lookup.alias);
            let doc = "Which row or events were read.";
            columns.add("log_", identity, DataType::Utf8, doc);
        }
        let columns = columns.0;
        TableDef::checked(&[], &columns).map_err(|error| {
            Error::invalid(format!(
                "what endpoint `{endpoint}` answers cannot be logged: {error}; log nothing with --log 0, or have \
                 the view take fewer features, under shorter names"
            ))
        })?;
        let is_key = |field: &&Field| view.lookups.iter().any(|l| l.keys.contains(&field.name));
        let keys = view.inputs.iter().filter(is_key);
        let json = serde_json::to_vec(&columns).expect("fields are plain data");
        Ok(Self {
            inputs: view.inputs.len(),
            features: features.len(),
            outputs: outputs.len(),
            keys: keys.map(|field| field.name.clone()).collect(),
            definition: TableDef {
                name: format!("{endpoint}_log_{}", &Digest::of(&json).hex()[..8]),
                entity: String::new(),
                keys: Vec::new(),
                subjects: subjects(recipe, &columns[COLUMNS.len()..]),
                columns,
                aggregates: Vec::new(),
            },
        })
    }

    /// The names of the view's inputs that are join keys.
    pub fn keys(&self) -> &[String] {
        &self.keys
    }

    /// What it holds.
    pub fn definition(&self) -> &TableDef {
        &self.definition
    }

    /// The columns of the view's inputs.
    pub fn inputs(&self) -> &[Field] {
        &self.values()[..self.inputs]
    }

    /// The columns of the view's features.
    pub fn features(&self) -> &[Field] {
        &self.values()[self.inputs..][..self.features]
    }

    /// The columns of what the model answers.
    pub fn outputs(&self) -> &[Field] {
        &self.values()[self.inputs + self.features..][..self.outputs]
    }

    /// For each lookup the columns of the event time and of the identity.
    pub fn lookups(&self) -> &[Field] {
        &self.values()[self.inputs + self.features + self.outputs..]
    }

    /// The columns after those that every log has.
    pub fn values(&self) -> &[Field] {
        &self.definition.columns[COLUMNS.len()..]
    }

    /// The rows of an answer that are to be logged.
    pub(crate) fn rows(&self, answered: &Answered) -> Vec<OutboxRow> {
        let Answered { call, rows, .. } = answered;
        let columns = self.columns(answered);
        let logged = rows.iter().map(|place| {
            let mut values = Vec::new();
            encode_row(&columns, *place, &mut values);
            let number = answered.part[*place];
            OutboxRow {
                table: self.definition.name.clone(),
                event: call.now,
                available: call.now,
                created: call.now,
                event_id: format!("{}-{}-{number}", call.own_id, answered.release()),
                values: values.into(),
            }
        });
        logged.collect()
    }

    /// All columns of an answer, those of rows that are not to be logged included.
    fn columns(&self, answered: &Answered) -> Vec<ArrayRef> {
        let (asked, count) = (&answered.asked, answered.part.len());
        let error = |row: usize| {
            let found = asked
                .answer
                .errors
                .binary_search_by_key(&(row as u32), |(row, _)| *row);
            Some(asked.answer.errors[found.ok()?].1.as_str())
        };
        let numbers = answered.part.iter().map(|row| *row as i64);
        let mut columns: Vec<ArrayRef> = vec![
            Arc::new(StringArray::from(vec![answered.call.id.as_str(); count])),
            Arc::new(Int64Array::from_iter_values(numbers)),
            Arc::new(StringArray::from(vec![answered.release(); count])),
            Arc::new(BooleanArray::from(vec![answered.is_shadow; count])),
            Arc::new((0..count).map(error).collect::<StringArray>()),
        ];
        columns.extend(asked.inputs.iter().cloned());
        columns.extend(asked.vectors.columns().cloned());
        columns.extend(asked.answer.outputs.iter().cloned());
        for found in asked.vectors.found() {
            columns.push(timestamps_or_null(&found.event_times()));
            columns.push(Arc::new(StringArray::from_iter(found.identities())));
        }
        columns
    }
}

/// The entities that rows are about: what is deleted with them.
fn subjects(recipe: &Recipe, inputs: &[Field]) -> Vec<Subject> {
    let view = &recipe.view;
    let column_of = |input: &String| {
        let place = view.inputs.iter().position(|field| field.name == *input);
        inputs[place.expect("the view was resolved with its keys")]
            .name
            .clone()
    };
    let mut subjects: Vec<Subject> = Vec::new();
    for lookup in &view.lookups {
        let group = &recipe.groups[&lookup.group];
        let subject = Subject {
            entity: group.entity.clone(),
            keys: group.keys.clone(),
            columns: lookup.keys.iter().map(column_of).collect(),
        };
        if !subjects.contains(&subject) {
            subjects.push(subject);
        }
    }
    subjects
}

/// Whether a table is one that an endpoint logs to.
pub fn is_log_of(table: &TableDef, endpoint: &str) -> bool {
    let digest = table.name.strip_prefix(endpoint);
    let digest = digest.and_then(|rest| rest.strip_prefix("_log_"));
    table
        .columns
        .first()
        .is_some_and(|field| field.name == COLUMNS[0].0)
        && digest.is_some_and(|digest| digest.len() == 8 && !digest.contains('_'))
}

/// Columns, whose names are made different from one another and from those that every table
/// has.
#[derive(Default)]
pub(crate) struct Columns(Vec<Field>);

impl Columns {
    pub(crate) fn add(&mut self, prefix: &str, mut name: String, data_type: DataType, doc: &str) {
        let is_taken = |name: &str| {
            SYSTEM_COLUMNS.contains(&name) || self.0.iter().any(|field| field.name == name)
        };
        while is_taken(&name) {
            name.insert_str(0, prefix);
        }
        self.0.push(Field {
            doc: doc.to_owned(),
            ..Field::new(name, data_type, true)
        });
    }
}

fn timestamps_or_null(times: &[Option<Timestamp>]) -> ArrayRef {
    let known: Vec<Timestamp> = times.iter().map(|t| t.unwrap_or(Timestamp::MIN)).collect();
    wafer_catalog::nulled(&timestamps(&known), &|row| times[row].is_none())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_of_columns_differ() {
        let mut columns = Columns::default();
        for (prefix, name) in [
            ("", "a"),
            ("feature_", "a"),
            ("output_", "a"),
            ("output_", "feature_a"),
            ("input_", "event_timestamp"),
        ] {
            columns.add(prefix, name.to_owned(), DataType::Int64, "");
        }
        let names: Vec<&str> = columns.0.iter().map(|field| field.name.as_str()).collect();
        let wanted = [
            "a",
            "feature_a",
            "output_a",
            "output_feature_a",
            "input_event_timestamp",
        ];
        assert_eq!(names, wanted);
    }
}
