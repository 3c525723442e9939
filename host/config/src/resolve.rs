//! Resolves a project: combines its file with the signatures of its functions.
//!
//! The file names functions, columns and groups; the resolved [`Definitions`] have their types.
//! Sources come first. Each pipeline then defines the group that it fills, from the outputs of its
//! function or model. Views are resolved against the groups, and models last. Every mismatch is an
//! error that names the key of the file.

pub(crate) mod aggregates;
pub(crate) mod columns;
pub(crate) mod group;
pub(crate) mod model;
pub(crate) mod view;

use std::collections::{BTreeMap, BTreeSet};

use wafer_catalog::{
    Definitions, FIVE_MINUTES, FoundColumn, HALF_OF_THE_ROWS, Location, MadeBy, Overlap,
    PipelineDef, ProjectFunctions, SEVEN_DAYS, ScheduleDef, SourceDef, SourceKind, Ticks, nearest,
};
use wafer_core::{DataType, DecimalReading, Duration, Field, Schema, Signature};
use wafer_store::{Error, Result};

use crate::file_options::{file_options, times};
use crate::pipelines::{PipelineConfig, ScheduleConfig, has_types};
use crate::project::Project;
use crate::resolve::columns::passed_columns;
use crate::resolve::group::group;
use crate::resolve::model::model;
use crate::resolve::view::view;
use crate::sources::{SourceConfig, SourceType};

/// The columns of the files of sources, by the name of the source.
pub type SourceColumns = BTreeMap<String, Vec<FoundColumn>>;

/// Returns the sources whose columns are passed on by a pipeline, and that do not declare them: the
/// types of their columns are those of their files, which [`resolve`] is given.
pub fn untyped_sources(project: &Project) -> BTreeSet<&String> {
    let pipelines = project.pipelines.values();
    let passing = pipelines.filter(|p| p.function.is_none() && p.model.is_none());
    let sources = passing
        .filter(|p| !has_types(p))
        .map(|pipeline| &pipeline.source);
    sources
        .filter(|source| project.sources[*source].columns.is_none())
        .filter(|source| project.sources[*source].path.is_some())
        .collect()
}

/// Returns the definition of a source of a project.
pub fn source_def(project: &Project, name: &str) -> SourceDef {
    source(project, &project.sources[name])
}

/// Resolves the definitions of a project, given its functions, and the columns of the files of
/// [sources that do not declare them](untyped_sources). `applied` are the definitions that are
/// live: the columns of a group version that is in use keep their order, and new ones come after
/// them.
///
/// # Errors
/// Returns [`Kind::Invalid`](wafer_store::Kind::Invalid). The message names the key and the column
/// that do not fit.
pub fn resolve(
    project: &Project,
    functions: ProjectFunctions,
    columns: &SourceColumns,
    applied: &Definitions,
) -> Result<Definitions> {
    let mut definitions = Definitions {
        functions: functions.registered,
        ..Definitions::default()
    };
    for (name, config) in &project.sources {
        definitions
            .sources
            .insert(name.clone(), source(project, config));
    }
    for (name, config) in &project.pipelines {
        let made_by = made_by(project, columns, name, config)?;
        let group = group(
            project,
            &definitions,
            (name.as_str(), &made_by),
            config,
            applied,
        )?;
        definitions.groups.insert(config.group.clone(), group);
        let pipeline = PipelineDef {
            source: config.source.clone(),
            made_by,
            group: config.group.clone(),
            schedule: schedule(name, config)?,
            max_rejects: config.max_rejects.unwrap_or(HALF_OF_THE_ROWS),
            doc: config.doc.clone(),
        };
        definitions.pipelines.insert(name.clone(), pipeline);
    }
    for (name, pipeline) in &definitions.pipelines {
        check_chained(&definitions, name, pipeline)?;
    }
    for (name, source) in &definitions.sources {
        check_times(&definitions, name, source)?;
    }
    for name in project.groups.keys() {
        if !definitions.groups.contains_key(name) {
            let message =
                format!("groups.{name}: no pipeline writes it; add one with group = \"{name}\"");
            return Err(Error::invalid(message));
        }
    }
    for (name, config) in &project.views {
        let view = view(&definitions, name, config)?;
        definitions.views.insert(name.clone(), view);
    }
    for (name, config) in &project.models {
        let model = model(project, &functions.components, name, config)?;
        definitions.models.insert(name.clone(), model);
    }
    Ok(definitions)
}

/// Returns what a pipeline computes rows with.
fn made_by(
    project: &Project,
    columns: &SourceColumns,
    name: &str,
    config: &PipelineConfig,
) -> Result<MadeBy> {
    match (&config.function, &config.model) {
        (Some(function), _) => Ok(MadeBy::Function(function.clone())),
        (None, Some(model)) => Ok(MadeBy::Model(model.clone())),
        (None, None) => passed_columns(project, columns.get(&config.source), name, config),
    }
}

/// Checks that a pipeline over the rows of another group finds the columns that it reads.
fn check_chained(definitions: &Definitions, name: &str, pipeline: &PipelineDef) -> Result<()> {
    let Some(group) = definitions.sources[&pipeline.source].kind.upstream() else {
        return Ok(());
    };
    let key = format!("sources.{}.group", pipeline.source);
    let group = definitions
        .groups
        .get(group)
        .ok_or_else(|| Error::invalid(format!("{key}: no pipeline writes group `{group}`")))?;
    let table = group.rows_table().schema();
    // The columns that a model reads depend on its version, so runs check them.
    let Some(fields) = definitions.source_fields(&pipeline.made_by) else {
        return Ok(());
    };
    for field in fields {
        let is_time = field.name == group.event_time && field.data_type == DataType::Timestamp;
        let found = table.field(&field.name);
        if !is_time && found.is_none_or(|found| found.data_type != field.data_type) {
            let known = table.fields().iter().map(|f| f.name.as_str());
            let hint = nearest(&field.name, known)
                .map_or_else(String::new, |n| format!("; did you mean `{n}`?"));
            return Err(Error::invalid(format!(
                "pipelines.{name}: {} reads `{}` ({}), and group `{}` has no such column{hint}",
                reader(&pipeline.made_by),
                field.name,
                field.data_type,
                group.name
            )));
        }
    }
    Ok(())
}

/// Returns what reads the columns of a source, as errors name it.
fn reader(made_by: &MadeBy) -> String {
    match made_by {
        MadeBy::Function(function) => format!("function `{function}`"),
        MadeBy::Model(model) => format!("model `{model}`"),
        MadeBy::Columns(_) => "it".to_owned(),
    }
}

/// Checks that the columns of times that a source declares are read as times.
fn check_times(definitions: &Definitions, name: &str, source: &SourceDef) -> Result<()> {
    let pipelines = definitions.pipelines.values();
    let readers: Vec<&PipelineDef> = pipelines.filter(|p| p.source == name).collect();
    let mut inputs = Vec::new();
    for reader in &readers {
        // The columns that a model reads depend on its version, so runs check them.
        let Some(fields) = definitions.source_fields(&reader.made_by) else {
            return Ok(());
        };
        inputs.extend(fields);
    }
    if readers.is_empty() {
        return Ok(());
    }
    for (column, time) in &source.times {
        let key = format!("sources.{name}.times.{column}");
        let found: Vec<&Field> = inputs.iter().filter(|f| f.name == *column).collect();
        let Some(first) = found.first() else {
            return Err(unread(&key, column, &inputs, "time", is_time));
        };
        let Some(field) = found.iter().find(|field| is_time(field)) else {
            return Err(Error::invalid(format!(
                "{key}: it is read as {}, and only a timestamp or a date has a unit, a format or a \
                 zone",
                first.data_type
            )));
        };
        let format = time.format.as_ref().filter(|format| !format.has_zone());
        if let (Some(format), DataType::Timestamp, None) =
            (format, &field.data_type, time.zone.or(source.zone))
        {
            return Err(Error::invalid(format!(
                "{key}.format: times of the format `{format}` name no time zone; set their `zone`, \
                 such as \"UTC\" or \"Europe/Berlin\""
            )));
        }
    }
    for (column, decimal) in &source.decimals {
        let key = format!("sources.{name}.decimals.{column}");
        let wanted = match decimal {
            DecimalReading::Float64 => DataType::Float64,
            DecimalReading::Text => DataType::Utf8,
        };
        let mut found = inputs.iter().filter(|f| f.name == *column);
        match found.clone().next() {
            None => return Err(unread(&key, column, &inputs, "column", |_| true)),
            Some(first) if found.all(|field| field.data_type != wanted) => {
                return Err(Error::invalid(format!(
                    "{key}: it is read as {}, and this is for {wanted}",
                    first.data_type
                )));
            }
            Some(_) => {}
        }
    }
    Ok(())
}

fn is_time(field: &Field) -> bool {
    matches!(field.data_type, DataType::Timestamp | DataType::Date)
}

/// The error of a column that is declared and that nothing reads.
fn unread(
    key: &str,
    column: &str,
    inputs: &[Field],
    what: &str,
    is_meant: impl Fn(&Field) -> bool,
) -> Error {
    let meant = inputs.iter().filter(|field| is_meant(field));
    let hint = nearest(column, meant.map(|field| field.name.as_str()))
        .map_or_else(String::new, |n| format!("; did you mean `{n}`?"));
    Error::invalid(format!(
        "{key}: no function over the source reads a {what} of this name{hint}"
    ))
}

/// Fills in the defaults of a schedule.
pub fn schedule_def(config: &ScheduleConfig) -> ScheduleDef {
    ScheduleDef {
        cron: config.cron.clone(),
        timezone: config.timezone.clone().unwrap_or_else(|| "UTC".to_owned()),
        delay: config.delay.unwrap_or_default(),
        start_after: config.start_after.unwrap_or_default(),
        catch_up: config.catch_up.unwrap_or(10).max(1),
        overlap: config.overlap.unwrap_or(Overlap::Wait),
        retries: config.retries.unwrap_or(3),
        backoff: config.backoff.unwrap_or(Duration::from_secs(10)),
        time_limit: config.time_limit,
    }
}

/// Resolves and checks the schedule of a pipeline.
fn schedule(name: &str, config: &PipelineConfig) -> Result<Option<ScheduleDef>> {
    let Some(config) = &config.schedule else {
        return Ok(None);
    };
    let schedule = schedule_def(config);
    if schedule.start_after > schedule.delay {
        let ScheduleDef {
            start_after, delay, ..
        } = schedule;
        return Err(Error::invalid(format!(
            "pipelines.{name}.schedule.start_after: a run that starts {start_after} after its interval cannot be \
             seen {delay} after it; set `delay` to {start_after} and the time that a run takes"
        )));
    }
    let ticks = Ticks::new(&schedule)
        .map_err(|message| Error::invalid(format!("pipelines.{name}.schedule.{message}")))?;
    if !ticks.occur() {
        return Err(Error::invalid(format!(
            "pipelines.{name}.schedule.cron: `{}` is at no time of any year, so that the pipeline would \
             never run; such as `0 0 30 2 *`, it names a day that its months do not have",
            schedule.cron
        )));
    }
    Ok(Some(schedule))
}

/// Resolves a source.
fn source(project: &Project, config: &SourceConfig) -> SourceDef {
    let kind = match config.kind {
        SourceType::Files => SourceKind::Files,
        SourceType::Delta => SourceKind::Delta {
            version: config.version,
        },
        SourceType::Table => SourceKind::Table {
            group: config
                .group
                .clone()
                .expect("checked when the file was read"),
        },
        SourceType::Stream => SourceKind::Stream {
            id: config.id.clone(),
            remember: config.remember.unwrap_or(SEVEN_DAYS),
            archive: config.archive.unwrap_or(true),
        },
    };
    SourceDef {
        kind,
        files: config
            .path
            .as_ref()
            .map(|path| Location::of(&project.folder, path)),
        format: config.format,
        delay: config.delay.unwrap_or_default(),
        lateness: config.lateness,
        skew: config.skew.unwrap_or(FIVE_MINUTES),
        times: times(config),
        zone: config.zone,
        decimals: config.decimals.clone(),
        options: file_options(config).expect("checked when the file was read"),
        doc: config.doc.clone(),
    }
}

/// Returns the signature of a registered function.
pub(crate) fn signature<'a>(definitions: &'a Definitions, function: &str) -> Result<&'a Signature> {
    definitions
        .functions
        .get(function)
        .map(|def| &def.registered.signature)
        .ok_or_else(|| Error::invalid(format!("function `{function}` is not registered")))
}

/// Returns the end of a message that suggests the most similar output; empty if none is similar.
pub(crate) fn suggestion(outputs: &Schema, name: &str) -> String {
    let names = outputs.fields().iter().map(|f| f.name.as_str());
    nearest(name, names).map_or_else(String::new, |n| format!("; did you mean `{n}`?"))
}

#[cfg(test)]
mod tests;
