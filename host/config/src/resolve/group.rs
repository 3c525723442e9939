//! Resolves `[groups]`: join keys, event time, stored columns and expectations.

use std::borrow::Cow;

use wafer_catalog::{Definitions, GroupDef, MadeBy, SYSTEM_COLUMNS, nearest, predicted};
use wafer_core::expect::{Expectation, Policy, Rule};
use wafer_core::{DataType, Field, Schema};
use wafer_store::{Error, Result};

use crate::groups::{ExpectationConfig, GroupConfig};
use crate::pipelines::PipelineConfig;
use crate::project::Project;
use crate::resolve::aggregates::aggregates;
use crate::resolve::{signature, suggestion};
use crate::values::typed_fields;

/// What fills a group: the function or the model of a pipeline, or the columns of its source.
struct Producer<'a> {
    /// The pipeline and its function or model, as errors name them.
    place: String,
    /// The outputs, among them the join keys and the event time.
    outputs: Cow<'a, Schema>,
}

/// The join keys of an entity with their types.
type EntityKeys = [(String, DataType)];

/// Resolves the group that a pipeline fills, from the outputs of the pipeline's function or model.
pub(crate) fn group(
    project: &Project,
    definitions: &Definitions,
    (pipeline, made_by): (&str, &MadeBy),
    config: &PipelineConfig,
    applied: &Definitions,
) -> Result<GroupDef> {
    let name = &config.group;
    let group: &GroupConfig = &project.groups[name];
    let entity_key = format!("entities.{}.keys", group.entity);
    let entity = typed_fields(&project.entities[&group.entity].keys, &entity_key)
        .expect("types were checked when the file was read");
    check_event_time_is_no_key(name, group, &entity)?;
    let producer = producer(definitions, pipeline, made_by, group, &entity)?;
    let keys = join_keys(group, &entity, &producer)?;
    check_event_time(name, group, &producer)?;
    let features = features(group, &keys, &producer);
    let mut columns = stored_columns(name, group, &features, &producer.place)?;
    keep_applied_order(&mut columns, name, group, applied);
    for field in columns.iter().chain(&keys) {
        check_storable(field, &producer.place)?;
    }
    Ok(GroupDef {
        name: name.clone(),
        version: group.version,
        entity: group.entity.clone(),
        keys,
        event_time: group.event_time.clone(),
        aggregates: aggregates(name, group, &columns)?,
        expectations: expectations(name, group, &columns)?,
        columns,
        ttl: group.ttl,
        doc: group.doc.clone(),
    })
}

/// Checks that the event time of a group is not also a join key.
fn check_event_time_is_no_key(name: &str, group: &GroupConfig, entity: &EntityKeys) -> Result<()> {
    if entity.iter().any(|(key, _)| *key == group.event_time) {
        return Err(Error::invalid(format!(
            "groups.{name}.event_time: `{}` is a join key of entity `{}`",
            group.event_time, group.entity
        )));
    }
    Ok(())
}

/// Returns what fills a group, with its outputs.
fn producer<'a>(
    definitions: &'a Definitions,
    pipeline: &str,
    made_by: &MadeBy,
    group: &GroupConfig,
    entity: &EntityKeys,
) -> Result<Producer<'a>> {
    Ok(match made_by {
        MadeBy::Function(function) => Producer {
            outputs: Cow::Borrowed(&signature(definitions, function)?.outputs),
            place: format!("pipelines.{pipeline}: function `{function}`"),
        },
        MadeBy::Model(model) => Producer {
            outputs: Cow::Owned(predictions(entity, &group.event_time)?),
            place: format!("pipelines.{pipeline}: model `{model}`"),
        },
        MadeBy::Columns(columns) => {
            let fields = columns.iter().map(|column| column.field.clone());
            let outputs = Schema::new(fields.collect());
            Producer {
                outputs: Cow::Owned(outputs.map_err(|e| Error::invalid(e.to_string()))?),
                place: format!("pipelines.{pipeline}: the source"),
            }
        }
    })
}

/// Returns the outputs that are the join keys of the entity.
fn join_keys(
    group: &GroupConfig,
    entity: &EntityKeys,
    producer: &Producer<'_>,
) -> Result<Vec<Field>> {
    let Producer { place, outputs } = producer;
    let key = |(name, data_type): &(String, DataType)| {
        let field = outputs.field(name).ok_or_else(|| {
            Error::invalid(format!(
                "{place} has no output `{name}`, the join key of entity `{}`{}",
                group.entity,
                suggestion(outputs, name)
            ))
        })?;
        if field.data_type != *data_type {
            return Err(Error::invalid(format!(
                "{place}: output `{name}` is {}, and the join key of entity `{}` is {data_type}",
                field.data_type, group.entity
            )));
        }
        // A row with a null key is rejected, whatever the function declares.
        Ok(Field {
            nullable: false,
            ..field.clone()
        })
    };
    entity.iter().map(key).collect()
}

/// Checks that the event time of a group is an output of the right type.
fn check_event_time(name: &str, group: &GroupConfig, producer: &Producer<'_>) -> Result<()> {
    let Producer { place, outputs } = producer;
    let event_time = outputs.field(&group.event_time).ok_or_else(|| {
        Error::invalid(format!(
            "groups.{name}.event_time: {place} has no output `{}`{}",
            group.event_time,
            suggestion(outputs, &group.event_time)
        ))
    })?;
    if event_time.data_type != DataType::Timestamp {
        return Err(Error::invalid(format!(
            "groups.{name}.event_time: output `{}` is {}, not timestamp",
            event_time.name, event_time.data_type
        )));
    }
    Ok(())
}

/// Returns the outputs that are neither join keys nor the event time.
fn features(group: &GroupConfig, keys: &[Field], producer: &Producer<'_>) -> Vec<Field> {
    let is_feature = |field: &&Field| {
        field.name != group.event_time && !keys.iter().any(|key| key.name == field.name)
    };
    let features = producer.outputs.fields().iter().filter(is_feature);
    features.cloned().collect()
}

/// Brings columns into the order in which the same version of the group is applied. New columns
/// come last.
fn keep_applied_order(
    columns: &mut [Field],
    name: &str,
    group: &GroupConfig,
    applied: &Definitions,
) {
    let used = applied.groups.get(name);
    let Some(used) = used.filter(|used| used.version == group.version) else {
        return;
    };
    let place = |field: &Field| used.columns.iter().position(|c| c.name == field.name);
    columns.sort_by_key(|field| place(field).unwrap_or(usize::MAX));
}

/// Checks that an output can be a column of a table.
fn check_storable(field: &Field, place: &str) -> Result<()> {
    if !field.data_type.is_storable() {
        return Err(Error::invalid(format!(
            "{place}: output `{}` is {}, which cannot be stored",
            field.name, field.data_type
        )));
    }
    if SYSTEM_COLUMNS.contains(&field.name.as_str()) {
        return Err(Error::invalid(format!(
            "{place}: output `{}` has the name of a column that every table has; rename it",
            field.name
        )));
    }
    Ok(())
}

/// Returns the columns that a model outputs.
fn predictions(entity: &EntityKeys, event_time: &str) -> Result<Schema> {
    let keys = entity.iter();
    let keys: Vec<Field> = keys
        .map(|(name, data_type)| Field::new(name, data_type.clone(), false))
        .collect();
    Schema::new(predicted(&keys, event_time)).map_err(|e| Error::invalid(e.to_string()))
}

/// Returns the outputs that a group stores.
fn stored_columns(
    name: &str,
    group: &GroupConfig,
    outputs: &[Field],
    place: &str,
) -> Result<Vec<Field>> {
    let read: Vec<&String> = group
        .aggregates
        .iter()
        .filter_map(|a| a.column.as_ref())
        .collect();
    let wanted: Vec<&String> = match &group.columns {
        Some(columns) => columns.iter().collect(),
        None if group.aggregates.is_empty() => outputs.iter().map(|f| &f.name).collect(),
        None => {
            let expected = group.expectations.iter().map(|e| &e.column);
            read.iter().copied().chain(expected).collect()
        }
    };
    for column in wanted.iter().chain(&read) {
        if !outputs.iter().any(|field| field.name == **column) {
            let known = outputs.iter().map(|f| f.name.as_str());
            let hint = nearest(column, known)
                .map_or_else(String::new, |n| format!("; did you mean `{n}`?"));
            let message = format!("groups.{name}: {place} has no output `{column}`{hint}");
            return Err(Error::invalid(message));
        }
    }
    let stored = |field: &&Field| {
        wanted
            .iter()
            .chain(&read)
            .any(|column| **column == field.name)
    };
    let columns: Vec<Field> = outputs.iter().filter(stored).cloned().collect();
    if columns.is_empty() && group.aggregates.is_empty() {
        let message = format!("{place} has no outputs beside keys and event time");
        return Err(Error::invalid(message));
    }
    Ok(columns)
}

/// Resolves and checks the expectations of a group.
fn expectations(name: &str, group: &GroupConfig, columns: &[Field]) -> Result<Vec<Expectation>> {
    let one = |(index, config): (usize, &ExpectationConfig)| {
        let key = format!("groups.{name}.expectations[{index}]");
        let wrong = |message: String| Error::invalid(format!("{key}: {message}"));
        let field = columns.iter().find(|field| field.name == config.column);
        let field = field.ok_or_else(|| {
            let known = columns.iter().map(|f| f.name.as_str());
            let hint = nearest(&config.column, known)
                .map_or_else(String::new, |n| format!("; did you mean `{n}`?"));
            wrong(format!(
                "the group stores no column `{}`{hint}",
                config.column
            ))
        })?;
        let rule = config.rule().map_err(wrong)?;
        rule.check(&field.data_type).map_err(wrong)?;
        if config.policy == Policy::Reject && matches!(rule, Rule::NullFraction(_)) {
            let message = "a fraction is of all rows, none can be rejected; use policy = \"warn\" or \"fail\"";
            return Err(wrong(message.to_owned()));
        }
        Ok(Expectation {
            column: config.column.clone(),
            rule,
            policy: config.policy,
        })
    };
    group.expectations.iter().enumerate().map(one).collect()
}
