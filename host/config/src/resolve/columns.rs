//! Resolves pipelines without a function or a model: the columns of the source that become columns
//! of the group.

use wafer_catalog::{FoundColumn, MadeBy, PassedColumn, nearest};
use wafer_core::{Field, Schema};
use wafer_store::{Error, Result};

use crate::pipelines::{ColumnConfig, PipelineConfig};
use crate::project::Project;
use crate::values::nullable_fields;

/// Returns the columns that a pipeline passes from its source to its group. `found` are the columns
/// of the files of the source, which count where the source does not declare its columns.
pub(crate) fn passed_columns(
    project: &Project,
    found: Option<&Vec<FoundColumn>>,
    pipeline: &str,
    config: &PipelineConfig,
) -> Result<MadeBy> {
    let known = SourceColumns::of(project, found, &config.source);
    let key = format!("pipelines.{pipeline}.columns");
    let columns = match &config.columns {
        Some(columns) => columns
            .iter()
            .map(|(name, value)| {
                let column = ColumnConfig::of(value);
                let column = column.expect("columns were checked when the file was read");
                known.passed(&key, name, &column, wanted_type(project, config, name))
            })
            .collect::<Result<Vec<_>>>()?,
        None => known.all(pipeline)?,
    };
    check_readings(&key, &columns)?;
    let fields = columns.iter().map(|column| column.field.clone());
    Schema::new(fields.collect()).map_err(|e| {
        Error::invalid(format!(
            "{key}: {e}; give the column another name: columns = {{ new_name = \"its name in the \
             source\" }}"
        ))
    })?;
    Ok(MadeBy::Columns(columns))
}

/// Returns the type that a column of a group has, if it is a join key or the event time.
fn wanted_type<'a>(project: &'a Project, config: &PipelineConfig, name: &str) -> Option<&'a str> {
    let group = project.groups.get(&config.group)?;
    let keys = &project.entities.get(&group.entity)?.keys;
    match keys.get(name) {
        Some(data_type) => data_type.as_str(),
        None => (group.event_time == name).then_some("timestamp"),
    }
}

/// What is known of the columns of a source.
struct SourceColumns<'a> {
    source: &'a str,
    columns: Vec<FoundColumn>,
}

impl<'a> SourceColumns<'a> {
    fn of(project: &Project, found: Option<&Vec<FoundColumn>>, source: &'a str) -> Self {
        let declared = |table| {
            let key = format!("sources.{source}.columns");
            let fields = nullable_fields(table, &key);
            fields.expect("types were checked when the file was read")
        };
        let column = |field: Field| FoundColumn {
            name: field.name,
            data_type: Ok(Some(field.data_type)),
            nullable: field.nullable,
        };
        let columns = match &project.sources[source].columns {
            Some(table) => declared(table).into_iter().map(column).collect(),
            None => found.cloned().unwrap_or_default(),
        };
        Self { source, columns }
    }

    /// Passes all columns on.
    fn all(&self, pipeline: &str) -> Result<Vec<PassedColumn>> {
        if self.columns.is_empty() {
            return Err(Error::invalid(format!(
                "pipelines.{pipeline}: without a `function`, the columns of source `{}` are passed \
                 on, and their types are not known; declare them in the source: columns = {{ id = \
                 \"int64\", note = \"utf8?\" }} (`wafer new NAME --from FILE` writes them)",
                self.source
            )));
        }
        let key = format!("pipelines.{pipeline}");
        let columns = self.columns.iter().map(|column| {
            let field = self.field(&key, &column.name, column)?;
            Ok(PassedColumn::same(&field))
        });
        columns.collect()
    }

    /// Returns a column by a new name, with its type in the source.
    fn field(&self, key: &str, name: &str, column: &FoundColumn) -> Result<Field> {
        let source = self.source;
        match &column.data_type {
            Ok(Some(data_type)) => Ok(Field::new(name, data_type.clone(), column.nullable)),
            Ok(None) => Err(Error::invalid(format!(
                "{key}: column `{}` of source `{source}` has nothing but nulls, so its type is not \
                 known; set it: columns = {{ {name} = {{ from = \"{}\", type = \"float64?\" }} }}",
                column.name, column.name
            ))),
            Err(message) => Err(Error::invalid(format!(
                "{key}: source `{source}`: {message}; or leave the column out: name those that are \
                 passed on in `columns`"
            ))),
        }
    }

    /// Resolves one column of `columns`. The error for a type that is not known proposes `wanted`.
    fn passed(
        &self,
        key: &str,
        name: &str,
        config: &ColumnConfig,
        wanted: Option<&str>,
    ) -> Result<PassedColumn> {
        let from = config.from.as_deref().unwrap_or(name);
        let known = self.columns.iter().find(|column| column.name == from);
        if known.is_none() && !self.columns.is_empty() {
            return Err(self.unknown(&format!("{key}.{name}"), from));
        }
        let typed = config.field(name);
        let typed = typed.expect("types were checked when the file was read");
        let field = match (typed, known) {
            (Some(field), _) => field,
            (None, Some(column)) => self.field(key, name, column)?,
            (None, None) => {
                let typed = match wanted {
                    Some(wanted) => format!("write {{ from = \"{from}\", type = \"{wanted}\" }}"),
                    None => format!("write {{ from = \"{from}\", type = … }} with its type"),
                };
                return Err(Error::invalid(format!(
                    "{key}.{name}: the type of column `{from}` of source `{}` is not known; \
                     {typed}, or declare the `columns` of the source",
                    self.source
                )));
            }
        };
        Ok(PassedColumn {
            from: from.to_owned(),
            field,
        })
    }

    fn unknown(&self, key: &str, from: &str) -> Error {
        let names = self.columns.iter().map(|column| column.name.as_str());
        let hint = match nearest(from, names) {
            Some(nearest) => format!("; did you mean `{nearest}`?"),
            None => "; a type is written as { type = \"float64\" }".to_owned(),
        };
        Error::invalid(format!(
            "{key}: source `{}` has no column `{from}`{hint}",
            self.source
        ))
    }
}

/// Checks that no column of the source is read as two types.
fn check_readings(key: &str, columns: &[PassedColumn]) -> Result<()> {
    for (index, column) in columns.iter().enumerate() {
        let before = columns[..index]
            .iter()
            .find(|other| other.from == column.from);
        if let Some(before) = before
            && before.field.data_type != column.field.data_type
        {
            return Err(Error::invalid(format!(
                "{key}.{}: column `{}` is read as {} already, for `{}`",
                column.field.name, column.from, before.field.data_type, before.field.name
            )));
        }
    }
    Ok(())
}
