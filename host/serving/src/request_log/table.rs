//! The offline tables that the answers of endpoints are logged to.

use wafer_catalog::{Recipe, SYSTEM_COLUMNS, Subject, TableDef};
use wafer_core::{DataType, Digest, Field};
use wafer_store::{Error, Result};

/// Name, type and description of the columns that every log table begins with.
///
/// The descriptions of columns are part of the digest that names a log table, so a changed text
/// makes endpoints log to another table.
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

/// The table that a release's answers are logged to.
///
/// There is one table for each endpoint and set of columns. The columns are those that every log
/// table has, the inputs, features and outputs of the release, and for each lookup the event time
/// and the identity of the row, or of the events, that was found.
#[derive(Debug)]
pub struct LogTable {
    pub(crate) definition: TableDef,
    /// The number of inputs of the view.
    pub inputs: usize,
    /// The number of features of the view.
    pub features: usize,
    /// The number of outputs of the model.
    pub outputs: usize,
    /// Names of the view's inputs that are join keys.
    pub keys: Vec<String>,
}

impl LogTable {
    /// Describes the log table of an endpoint and a version of a view, with a model that has these
    /// outputs.
    ///
    /// # Errors
    /// Returns [`Kind::Invalid`](wafer_store::Kind::Invalid) when a table cannot have that many
    /// columns, or a name is too long.
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
                "requests of endpoint `{endpoint}` cannot be logged: {error}; log nothing with --log 0, or have \
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

    /// Returns the names of the view's inputs that are join keys.
    pub fn keys(&self) -> &[String] {
        &self.keys
    }

    /// Returns the definition of the table.
    pub fn definition(&self) -> &TableDef {
        &self.definition
    }

    /// Returns the columns of the view's inputs.
    pub fn inputs(&self) -> &[Field] {
        &self.values()[..self.inputs]
    }

    /// Returns the columns of the view's features.
    pub fn features(&self) -> &[Field] {
        &self.values()[self.inputs..][..self.features]
    }

    /// Returns the columns of the model's outputs.
    pub fn outputs(&self) -> &[Field] {
        &self.values()[self.inputs + self.features..][..self.outputs]
    }

    /// Returns for each lookup the columns of the event time and of the identity.
    pub fn lookups(&self) -> &[Field] {
        &self.values()[self.inputs + self.features + self.outputs..]
    }

    /// Returns the columns after those that every log table has.
    pub fn values(&self) -> &[Field] {
        &self.definition.columns[COLUMNS.len()..]
    }
}

/// Returns the entities that the logged rows are about. When such an entity is deleted, its
/// logged rows are deleted as well.
fn subjects(recipe: &Recipe, inputs: &[Field]) -> Vec<Subject> {
    let view = &recipe.view;
    let column_of = |input: &String| {
        let index = view.inputs.iter().position(|field| field.name == *input);
        inputs[index.expect("the view was resolved with its keys")]
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

/// Returns whether a table is a log table of an endpoint.
pub fn is_log_of(table: &TableDef, endpoint: &str) -> bool {
    let digest = table.name.strip_prefix(endpoint);
    let digest = digest.and_then(|rest| rest.strip_prefix("_log_"));
    table
        .columns
        .first()
        .is_some_and(|field| field.name == COLUMNS[0].0)
        && digest.is_some_and(|digest| digest.len() == 8 && !digest.contains('_'))
}

/// A list of columns with unique names, which also differ from the names of the columns that
/// every table has.
#[derive(Default)]
pub(crate) struct Columns(Vec<Field>);

impl Columns {
    /// Adds a column. `prefix` is put before its name as often as is needed to make it unique.
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn log_columns_get_unique_names_by_prefixes() {
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
