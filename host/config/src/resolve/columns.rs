//! Resolves pipelines without a function or a model: the columns of the source that become columns
//! of the group.

use wafer_catalog::{MadeBy, PassedColumn, nearest};
use wafer_core::{Field, Schema};
use wafer_store::{Error, Result};

use crate::pipelines::{ColumnConfig, PipelineConfig};
use crate::project::Project;
use crate::values::nullable_fields;

/// Returns the columns that a pipeline passes from its source to its group. `found` are the columns
/// of the files of the source, which count where the source does not declare its columns.
pub(crate) fn passed_columns(
    project: &Project,
    found: Option<&Vec<Field>>,
    pipeline: &str,
    config: &PipelineConfig,
) -> Result<MadeBy> {
    let source = &project.sources[&config.source];
    let known = match &source.columns {
        Some(columns) => {
            let key = format!("sources.{}.columns", config.source);
            nullable_fields(columns, &key).expect("types were checked when the file was read")
        }
        None => found.cloned().unwrap_or_default(),
    };
    let key = format!("pipelines.{pipeline}.columns");
    let columns = match &config.columns {
        Some(columns) => columns
            .iter()
            .map(|(name, value)| {
                let column =
                    ColumnConfig::of(value).expect("columns were checked when the file was read");
                passed(&known, &config.source, &key, name, &column)
            })
            .collect::<Result<Vec<_>>>()?,
        None if known.is_empty() => {
            return Err(Error::invalid(format!(
                "pipelines.{pipeline}: without a `function`, the columns of source `{}` are passed \
                 on, and their types are not known; declare them in the source: columns = {{ id = \
                 \"int64\", note = \"utf8?\" }} (`wafer new NAME --from FILE` writes them)",
                config.source
            )));
        }
        None => known.iter().map(PassedColumn::same).collect(),
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

/// Resolves one column of `columns`.
fn passed(
    known: &[Field],
    source: &str,
    key: &str,
    name: &str,
    config: &ColumnConfig,
) -> Result<PassedColumn> {
    let from = config.from.as_deref().unwrap_or(name);
    let declared = known.iter().find(|field| field.name == from);
    if declared.is_none() && !known.is_empty() {
        let names = known.iter().map(|field| field.name.as_str());
        let hint = match nearest(from, names) {
            Some(nearest) => format!("; did you mean `{nearest}`?"),
            None => "; a type is written as { type = \"float64\" }".to_owned(),
        };
        return Err(Error::invalid(format!(
            "{key}.{name}: source `{source}` has no column `{from}`{hint}"
        )));
    }
    let typed = config
        .field(name)
        .expect("types were checked when the file was read");
    let field = typed.or_else(|| {
        declared.map(|field| Field {
            name: name.to_owned(),
            ..field.clone()
        })
    });
    let field = field.ok_or_else(|| {
        Error::invalid(format!(
            "{key}.{name}: the type of column `{from}` of source `{source}` is not known; write \
             {{ from = \"{from}\", type = \"float64\" }}, or declare the `columns` of the source"
        ))
    })?;
    Ok(PassedColumn {
        from: from.to_owned(),
        field,
    })
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
