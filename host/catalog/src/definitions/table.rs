//! Offline tables: their columns, and the entities that their rows describe.

use serde::{Deserialize, Serialize};
use wafer_core::aggregate::Aggregate;
use wafer_core::{DataType, Field, Schema, SchemaError, cut};
use wafer_store::ARRIVAL_ORDER;

/// A table of the offline store. Every table has the [`SYSTEM_COLUMNS`] between its key columns
/// and its other columns.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct TableDef {
    /// The name of the table.
    pub name: String,
    /// The name of the entity that the rows describe, or that rejected rows would have described.
    /// It is empty for raw events.
    #[serde(default)]
    pub entity: String,
    /// The columns that identify the entity.
    pub keys: Vec<Field>,
    /// All other columns, without the [`SYSTEM_COLUMNS`].
    pub columns: Vec<Field>,
    /// The aggregates by which rows are summed up online; empty if they are not. They never
    /// change.
    #[serde(default)]
    pub aggregates: Vec<Aggregate>,
    /// Further entities that the rows are about. Rows are deleted along with any of them.
    #[serde(default)]
    pub subjects: Vec<Subject>,
}

/// An entity that rows of a table are about, although the rows are not its features.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Subject {
    /// The name of the entity.
    pub entity: String,
    /// The join keys of the entity.
    pub keys: Vec<Field>,
    /// For each join key, the column of the table that holds it.
    pub columns: Vec<String>,
}

/// The end of the names of late tables.
pub const LATE: &str = "_late";

impl TableDef {
    /// Returns whether this is a late table, whose rows wait to be healed.
    pub fn is_late(&self) -> bool {
        !self.keys.is_empty() && self.name.ends_with(LATE)
    }

    /// Returns all columns of the table: keys, times, event identity, order of arrival, and the
    /// others.
    pub fn schema(&self) -> Schema {
        self.checked_schema()
            .expect("names were checked when the table was made up")
    }

    /// Returns all columns of the table, as [`schema`](Self::schema) does.
    ///
    /// # Errors
    /// Returns an error when there are too many columns, or when a name is invalid or used twice.
    pub(crate) fn checked_schema(&self) -> Result<Schema, SchemaError> {
        Self::checked(&self.keys, &self.columns)
            .or_else(|_| Self::with_system(&self.keys, before_arrival_order(), &self.columns))
    }

    /// Checks a definition that is stored under the name of a table. Services take its name and its
    /// columns without asking whether they are those of a table.
    ///
    /// # Errors
    /// Returns what is wrong with it.
    pub fn check_stored(&self, name: &str) -> Result<(), String> {
        if self.name != name {
            return Err(format!("it defines table `{}`", cut(&self.name)));
        }
        let schema = self.checked_schema();
        let schema = schema.map_err(|error| format!("its columns are not valid: {error}"))?;
        let keys_of_subjects = self.subjects.iter().flat_map(|subject| &subject.keys);
        let mut fields = schema.fields().iter().chain(keys_of_subjects);
        match fields.find(|field| !field.data_type.is_storable()) {
            None => Ok(()),
            Some(Field {
                name, data_type, ..
            }) => Err(format!(
                "its column `{}` is {data_type}, which is not stored",
                cut(name)
            )),
        }
    }

    /// Returns whether the table holds the order of arrival of its rows. A table that was defined
    /// before every table had it does not if a column of its own has the name, or if it has as many
    /// columns as there can be. Its rows are ordered by the identities of their events.
    pub fn is_ordered(&self) -> bool {
        Self::checked(&self.keys, &self.columns).is_ok()
    }

    /// Returns all columns of a table with these keys and other columns.
    ///
    /// # Errors
    /// Returns an error when there are too many columns, or when a name is invalid or used twice.
    pub fn checked(keys: &[Field], columns: &[Field]) -> Result<Schema, SchemaError> {
        let order = Field::new(ARRIVAL_ORDER, DataType::Int64, true);
        let system = before_arrival_order().into_iter().chain([order]);
        Self::with_system(keys, system, columns)
    }

    fn with_system(
        keys: &[Field],
        system: impl IntoIterator<Item = Field>,
        columns: &[Field],
    ) -> Result<Schema, SchemaError> {
        let fields = keys.iter().cloned().chain(system);
        Schema::new(fields.chain(columns.iter().cloned()).collect())
    }

    /// Returns the table of the raw events of a stream: each event as it came in, and the tables
    /// that it was written to. The event time of a row is the time when the event came in.
    pub fn archive(source: &str) -> Self {
        let field = |name, doc: &str| Field {
            doc: doc.to_owned(),
            ..Field::new(name, DataType::Utf8, false)
        };
        Self {
            name: format!("{source}_events"),
            entity: String::new(),
            keys: Vec::new(),
            columns: vec![
                field("payload", "The event as it came in, JSON."),
                field(
                    "tables",
                    "Tables that it was written to, separated by commas.",
                ),
            ],
            aggregates: Vec::new(),
            subjects: Vec::new(),
        }
    }
}

/// The columns that every offline table has beside its own.
pub const SYSTEM_COLUMNS: [&str; 5] = [
    "event_timestamp",
    "available_timestamp",
    "created_timestamp",
    "event_id",
    ARRIVAL_ORDER,
];

/// The system columns that tables had before the order of arrival was kept.
fn before_arrival_order() -> [Field; 4] {
    let time = |name| Field::new(name, DataType::Timestamp, false);
    let [event, available, created, id, _] = SYSTEM_COLUMNS;
    [
        time(event),
        time(available),
        time(created),
        Field::new(id, DataType::Utf8, false),
    ]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn stored_definitions_that_are_none_of_their_table_are_found() {
        let field = |name: &str| Field::new(name, DataType::Int64, true);
        let odd = |name: &str| -> Field {
            let field = serde_json::json!({"name": name, "type": {"arrow": "Date64"}});
            serde_json::from_value(field).unwrap()
        };
        let table = TableDef {
            name: "t".to_owned(),
            keys: vec![field("id")],
            columns: vec![field("x")],
            ..TableDef::archive("s")
        };
        assert_eq!(table.check_stored("t"), Ok(()));
        let with = |columns: Vec<Field>| TableDef {
            columns,
            ..table.clone()
        };
        let subject = Subject {
            entity: "e".to_owned(),
            keys: vec![odd("k")],
            columns: vec!["x".to_owned()],
        };
        let about = TableDef {
            subjects: vec![subject],
            ..table.clone()
        };
        for (stored, name, wanted) in [
            (&table, "u", "it defines table `t`"),
            (&with(vec![field("id")]), "t", "column `id` is there twice"),
            (&with(vec![field("a b")]), "t", "`a b` is not a column name"),
            (&with(vec![odd("y")]), "t", "its column `y` is"),
            (&about, "t", "its column `k` is"),
        ] {
            let error = stored.check_stored(name).unwrap_err();
            assert!(error.contains(wanted), "{error}");
        }
    }

    #[test]
    fn tables_have_an_order_of_arrival_unless_an_earlier_definition_leaves_no_place_for_it() {
        let field = |name: &str| Field::new(name, DataType::Int64, true);
        let table = |columns: Vec<Field>| TableDef {
            keys: vec![field("id")],
            columns,
            ..TableDef::archive("s")
        };
        let many = |count: usize| table((0..count).map(|n| field(&format!("c{n}"))).collect());
        for (table, is_ordered) in [
            (table(vec![field("x")]), true),
            (table(vec![field(ARRIVAL_ORDER)]), false),
            (many(1_024 - 6), true),
            (many(1_024 - 5), false),
        ] {
            assert_eq!(table.is_ordered(), is_ordered);
            let schema = table.schema();
            let names: Vec<_> = schema.fields().iter().map(|f| f.name.as_str()).collect();
            let own = 1 + SYSTEM_COLUMNS.len() - usize::from(!is_ordered);
            assert_eq!(names[1..own], SYSTEM_COLUMNS[..own - 1]);
            assert_eq!(names.len(), own + table.columns.len());
        }
    }
}
