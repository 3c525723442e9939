//! From what a file says to what it means: columns are found in the functions'
//! signatures and in the sources, and everything is checked to fit.

use std::borrow::Cow;
use std::collections::{BTreeMap, HashMap, HashSet};

use wafer_core::aggregate::{Aggregate, Function};
use wafer_core::expect::{Expectation, Policy, Rule};
use wafer_core::window::Window;
use wafer_core::{DataType, Field, Mapping, Schema, Signature, can_widen, duration_text};

use crate::definition::{
    AggregateDef, ComponentDef, Definitions, GroupDef, Location, LookupDef, MadeBy, ModelDef,
    OnDemandDef, Overlap, PipelineDef, SYSTEM_COLUMNS, ScheduleDef, SourceDef, SourceKind,
    TrainingDef, ViewDef, feature_name,
};
use crate::error::{Error, Result};
use crate::functions::ProjectFunctions;
use crate::maker::predicted;
use crate::project::{
    ExpectationConfig, GroupConfig, ModelConfig, PipelineConfig, Project, ScheduleConfig,
    SourceConfig, SourceType, ViewConfig, nearest, typed_fields,
};
use crate::schedule::Ticks;

/// How far in the future event times may lie, unless it is said otherwise.
pub(crate) const FIVE_MINUTES: i64 = 300_000_000;
/// How long events' identities are remembered, unless it is said otherwise.
pub(crate) const SEVEN_DAYS: i64 = 7 * 86_400_000_000;

/// Resolves a project's definitions, given its registered functions. Columns of a
/// group version that is in use keep their order; new ones come after them.
///
/// # Errors
/// [`Kind::Invalid`](crate::Kind::Invalid) names the key and the column that do
/// not fit.
pub fn resolve(
    project: &Project,
    functions: ProjectFunctions,
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
        let group = group(project, &definitions, name, config, applied)?;
        definitions.groups.insert(config.group.clone(), group);
        let pipeline = PipelineDef {
            source: config.source.clone(),
            made_by: made_by(config),
            group: config.group.clone(),
            schedule: schedule(name, config)?,
            doc: config.doc.clone(),
        };
        definitions.pipelines.insert(name.clone(), pipeline);
    }
    for (name, pipeline) in &definitions.pipelines {
        chained(&definitions, name, pipeline)?;
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

fn model(
    project: &Project,
    components: &BTreeMap<String, ComponentDef>,
    name: &str,
    config: &ModelConfig,
) -> Result<ModelDef> {
    let component = |function: &String| {
        let message = || Error::invalid(format!("function `{function}` is not registered"));
        components.get(function).cloned().ok_or_else(message)
    };
    let split = config.training.split().map_err(|(part, message)| {
        Error::invalid(format!("models.{name}.training.{part}: {message}"))
    })?;
    Ok(ModelDef {
        view: config.view.clone(),
        label: config.label.clone(),
        task: config.task,
        prediction: config.prediction.clone(),
        function: component(&config.function)?,
        trainer: config.trainer.as_ref().map(component).transpose()?,
        parameters: config.parameters(),
        training: TrainingDef {
            labels: config
                .training
                .labels
                .as_ref()
                .map(|path| project.folder.join(path)),
            time: config.training.time.clone(),
            split,
        },
        owner: config.owner.clone(),
        tags: config.tags.clone(),
        doc: config.doc.clone(),
    })
}

fn made_by(config: &PipelineConfig) -> MadeBy {
    match (&config.function, &config.model) {
        (Some(function), _) => MadeBy::Function(function.clone()),
        (None, model) => MadeBy::Model(model.clone().expect("checked when the file was read")),
    }
}

/// Checks that a function over another group's rows finds what it reads.
fn chained(definitions: &Definitions, name: &str, pipeline: &PipelineDef) -> Result<()> {
    let SourceKind::Table { group } = &definitions.sources[&pipeline.source].kind else {
        return Ok(());
    };
    let key = format!("sources.{}.group", pipeline.source);
    let group = definitions
        .groups
        .get(group)
        .ok_or_else(|| Error::invalid(format!("{key}: no pipeline writes group `{group}`")))?;
    let table = group.rows_table().schema();
    // What a model reads depends on its version, and is checked by runs.
    let Some(function) = pipeline.made_by.function() else {
        return Ok(());
    };
    for field in signature(definitions, function)?.inputs.fields() {
        let is_time = field.name == group.event_time && field.data_type == DataType::Timestamp;
        let found = table.field(&field.name);
        if !is_time && found.is_none_or(|found| found.data_type != field.data_type) {
            let known = table.fields().iter().map(|f| f.name.as_str());
            let hint = nearest(&field.name, known)
                .map_or_else(String::new, |n| format!("; did you mean `{n}`?"));
            return Err(Error::invalid(format!(
                "pipelines.{name}: function `{}` reads `{}` ({}), and group `{}` has no such column{hint}",
                function, field.name, field.data_type, group.name
            )));
        }
    }
    Ok(())
}

/// A schedule with its defaults.
pub(crate) fn schedule_def(config: &ScheduleConfig) -> ScheduleDef {
    ScheduleDef {
        cron: config.cron.clone(),
        timezone: config.timezone.clone().unwrap_or_else(|| "UTC".to_owned()),
        delay: config.delay.unwrap_or(0),
        start_after: config.start_after.unwrap_or(0),
        catch_up: config.catch_up.unwrap_or(10).max(1),
        overlap: config.overlap.unwrap_or(Overlap::Wait),
        retries: config.retries.unwrap_or(3),
        backoff: config.backoff.unwrap_or(10_000_000),
        time_limit: config.time_limit,
    }
}

fn schedule(name: &str, config: &PipelineConfig) -> Result<Option<ScheduleDef>> {
    let Some(config) = &config.schedule else {
        return Ok(None);
    };
    let schedule = schedule_def(config);
    if schedule.start_after > schedule.delay {
        let [start, delay] = [schedule.start_after, schedule.delay].map(duration_text);
        return Err(Error::invalid(format!(
            "pipelines.{name}.schedule.start_after: a run that starts {start} after its interval cannot be \
             seen {delay} after it; set `delay` to {start} and the time that a run takes"
        )));
    }
    Ticks::new(&schedule)
        .map_err(|message| Error::invalid(format!("pipelines.{name}.schedule.{message}")))?;
    Ok(Some(schedule))
}

fn source(project: &Project, config: &SourceConfig) -> SourceDef {
    let kind = match config.kind {
        SourceType::Files => SourceKind::Files,
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
        delay: config.delay.unwrap_or(0),
        lateness: config.lateness,
        skew: config.skew.unwrap_or(FIVE_MINUTES),
        doc: config.doc.clone(),
    }
}

fn group(
    project: &Project,
    definitions: &Definitions,
    pipeline: &str,
    config: &PipelineConfig,
    applied: &Definitions,
) -> Result<GroupDef> {
    let group: &GroupConfig = &project.groups[&config.group];
    let entity_key = format!("entities.{}.keys", group.entity);
    let entity = typed_fields(&project.entities[&group.entity].keys, &entity_key)
        .expect("types were checked when the file was read");
    let made_by = made_by(config);
    if entity.iter().any(|(key, _)| *key == group.event_time) {
        return Err(Error::invalid(format!(
            "groups.{}.event_time: `{}` is a join key of entity `{}`",
            config.group, group.event_time, group.entity
        )));
    }
    let outputs = match &made_by {
        MadeBy::Function(function) => Cow::Borrowed(&signature(definitions, function)?.outputs),
        MadeBy::Model(_) => Cow::Owned(predictions(&entity, &group.event_time)?),
    };
    let outputs = outputs.as_ref();
    let place = match &made_by {
        MadeBy::Function(_) => format!("pipelines.{pipeline}: function `{made_by}`"),
        MadeBy::Model(_) => format!("pipelines.{pipeline}: model `{made_by}`"),
    };

    let mut keys = Vec::new();
    for (name, data_type) in entity {
        let field = outputs.field(&name).ok_or_else(|| {
            Error::invalid(format!(
                "{place} has no output `{name}`, the join key of entity `{}`{}",
                group.entity,
                similar(outputs, &name)
            ))
        })?;
        if field.data_type != data_type {
            return Err(Error::invalid(format!(
                "{place}: output `{name}` is {}, and the join key of entity `{}` is {data_type}",
                field.data_type, group.entity
            )));
        }
        // A null key is a rejected row, whatever the function says it may return.
        keys.push(Field {
            nullable: false,
            ..field.clone()
        });
    }
    let event_time = outputs.field(&group.event_time).ok_or_else(|| {
        Error::invalid(format!(
            "groups.{}.event_time: {place} has no output `{}`{}",
            config.group,
            group.event_time,
            similar(outputs, &group.event_time)
        ))
    })?;
    if event_time.data_type != DataType::Timestamp {
        return Err(Error::invalid(format!(
            "groups.{}.event_time: output `{}` is {}, not timestamp",
            config.group, event_time.name, event_time.data_type
        )));
    }
    let is_feature = |field: &&Field| {
        field.name != group.event_time && !keys.iter().any(|key| key.name == field.name)
    };
    let features = outputs.fields().iter().filter(is_feature);
    let features: Vec<Field> = features.cloned().collect();
    let mut columns = stored_columns(&config.group, group, &features, &place)?;
    if let Some(used) = applied.groups.get(&config.group)
        && used.version == group.version
    {
        let place = |field: &Field| used.columns.iter().position(|c| c.name == field.name);
        columns.sort_by_key(|field| place(field).unwrap_or(usize::MAX));
    }
    for field in columns.iter().chain(&keys) {
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
    }
    Ok(GroupDef {
        name: config.group.clone(),
        version: group.version,
        entity: group.entity.clone(),
        keys,
        event_time: group.event_time.clone(),
        aggregates: aggregates(&config.group, group, &columns)?,
        expectations: expectations(&config.group, group, &columns)?,
        columns,
        ttl: group.ttl,
        doc: group.doc.clone(),
    })
}

/// What a model gives.
fn predictions(entity: &[(String, DataType)], event_time: &str) -> Result<Schema> {
    let keys = entity.iter();
    let keys: Vec<Field> = keys
        .map(|(name, data_type)| Field::new(name, data_type.clone(), false))
        .collect();
    Schema::new(predicted(&keys, event_time)).map_err(|e| Error::invalid(e.to_string()))
}

/// The outputs that a group stores.
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

fn aggregates(name: &str, group: &GroupConfig, columns: &[Field]) -> Result<Vec<AggregateDef>> {
    let mut all: Vec<AggregateDef> = Vec::new();
    for (index, config) in group.aggregates.iter().enumerate() {
        let key = format!("groups.{name}.aggregates[{index}]");
        let wrong = |part: &str, message: String| Error::invalid(format!("{key}{part}: {message}"));
        let column = config.column.as_ref().map(|column| {
            let place = columns.iter().position(|field| field.name == *column);
            place.expect("what aggregates read is stored")
        });
        if config.windows.is_empty() {
            return Err(wrong(
                ".windows",
                "is empty; write such as [\"1d\", \"7d\"]".to_owned(),
            ));
        }
        if config.functions.is_empty() {
            return Err(wrong(
                ".function",
                "is empty; write such as \"mean\"".to_owned(),
            ));
        }
        for function in &config.functions {
            let function = Function::parse(function, config.k, config.quantile)
                .map_err(|e| wrong("", e.to_string()))?;
            let input = column.map(|column| &columns[column].data_type);
            let output = function.output(input).map_err(|e| {
                let of = config
                    .column
                    .as_ref()
                    .map_or_else(String::new, |c| format!("column `{c}`: "));
                wrong("", format!("{of}{e}"))
            })?;
            for text in &config.windows {
                let window = Window::parse(text, config.exact)
                    .map_err(|e| wrong(".windows", e.to_string()))?;
                let mut start = function_label(function);
                if let Some(of) = config.name.as_ref().or(config.column.as_ref()) {
                    start = format!("{of}_{start}");
                }
                if config.exact {
                    start += "_exact";
                }
                let field = Field {
                    doc: aggregate_doc(function, config.column.as_deref(), window),
                    ..Field::new(format!("{start}_{text}"), output.clone(), true)
                };
                if all.iter().any(|other| other.field.name == field.name) {
                    let message = format!("`{}` is there twice; give one a `name`", field.name);
                    return Err(wrong("", message));
                }
                let aggregate = Aggregate {
                    function,
                    column,
                    window,
                };
                all.push(AggregateDef { field, aggregate });
            }
        }
    }
    let fields = all.iter().map(|a| a.field.clone()).collect::<Vec<_>>();
    if !fields.is_empty() {
        Schema::new(fields)
            .map_err(|e| Error::invalid(format!("groups.{name}.aggregates: {e}")))?;
    }
    Ok(all)
}

/// A function in the name of a feature: `mean`, `last_5`, `p99`.
fn function_label(function: Function) -> String {
    match function {
        Function::FirstK(k) => format!("first_{k}"),
        Function::LastK(k) => format!("last_{k}"),
        Function::TopK(k) => format!("top_{k}"),
        Function::ApproxQuantile(millionths) => {
            let percent = f64::from(millionths) / 10_000.0;
            format!("p{percent}").replace('.', "_")
        }
        other => other.name().to_owned(),
    }
}

fn aggregate_doc(function: Function, column: Option<&str>, window: Window) -> String {
    let of = column.map_or_else(|| "events".to_owned(), |column| format!("`{column}`"));
    let label = function_label(function);
    match window.width {
        None => format!("{label} of {of} up to now."),
        Some(_) => format!("{label} of {of} over the last {window}."),
    }
}

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

fn signature<'a>(definitions: &'a Definitions, function: &str) -> Result<&'a Signature> {
    definitions
        .functions
        .get(function)
        .map(|def| &def.registered.signature)
        .ok_or_else(|| Error::invalid(format!("function `{function}` is not registered")))
}

fn similar(outputs: &Schema, name: &str) -> String {
    let names = outputs.fields().iter().map(|f| f.name.as_str());
    nearest(name, names).map_or_else(String::new, |n| format!("; did you mean `{n}`?"))
}

/// Columns that a view's functions may read, and where each came from.
#[derive(Default)]
struct Columns {
    types: HashMap<String, (DataType, String)>,
    /// Names of the request's fields.
    request: HashSet<String>,
}

impl Columns {
    /// Adds a column that is answered. It may be named as a field of the request
    /// is; functions then read the field.
    fn add_feature(
        &mut self,
        view: &str,
        name: &str,
        data_type: &DataType,
        origin: String,
    ) -> Result<()> {
        if self.request.remove(name) {
            Ok(())
        } else {
            self.add(view, name, data_type, origin)
        }
    }

    fn add(&mut self, view: &str, name: &str, data_type: &DataType, origin: String) -> Result<()> {
        match self
            .types
            .insert(name.to_owned(), (data_type.clone(), origin.clone()))
        {
            None => Ok(()),
            Some((_, other)) => Err(Error::invalid(format!(
                "views.{view}: `{name}` is both {other} and {origin}; rename one, or give the lookup another `as`"
            ))),
        }
    }
}

fn view(definitions: &Definitions, name: &str, config: &ViewConfig) -> Result<ViewDef> {
    let request_key = format!("views.{name}.request");
    let request = typed_fields(&config.request, &request_key)
        .expect("types were checked when the file was read");
    let mut inputs: Vec<Field> = Vec::new();
    let mut columns = Columns::default();
    let mut lookups = Vec::new();

    // Join keys first: a lookup's keys are inputs of the view, by type.
    for (index, lookup) in config.lookups.iter().enumerate() {
        let place = format!("views.{name}.lookups[{index}]");
        let group = &definitions.groups[&lookup.group];
        if let Some(unknown) = lookup
            .keys
            .keys()
            .find(|key| !group.keys.iter().any(|k| k.name == **key))
        {
            let known: Vec<_> = group.keys.iter().map(|k| k.name.as_str()).collect();
            return Err(Error::invalid(format!(
                "{place}.keys: group `{}` has no join key `{unknown}`; it has {}",
                lookup.group,
                known.join(", ")
            )));
        }
        let mut fields = Vec::new();
        for key in &group.keys {
            let field = lookup.keys.get(&key.name).unwrap_or(&key.name);
            match inputs.iter().find(|input| input.name == *field) {
                Some(input) if input.data_type == key.data_type => {}
                Some(input) => {
                    return Err(Error::invalid(format!(
                        "{place}.keys: `{field}` is {}, and join key `{}` of group `{}` is {}",
                        input.data_type, key.name, lookup.group, key.data_type
                    )));
                }
                None => {
                    let doc = key.doc.clone();
                    inputs.push(Field {
                        doc,
                        ..Field::new(field, key.data_type.clone(), true)
                    });
                }
            }
            fields.push(field.clone());
        }
        lookups.push(LookupDef {
            group: lookup.group.clone(),
            alias: lookup.alias.clone().unwrap_or_else(|| lookup.group.clone()),
            keys: fields,
            features: picked(group, lookup.features.as_deref(), &place)?,
        });
    }
    for (field, data_type) in request {
        match inputs.iter().find(|input| input.name == field) {
            None => inputs.push(Field::new(field, data_type, true)),
            Some(input) if input.data_type == data_type => {}
            Some(input) => {
                return Err(Error::invalid(format!(
                    "{request_key}.{field}: is {data_type}, and as a join key it is {}",
                    input.data_type
                )));
            }
        }
    }
    for input in &inputs {
        if !input.data_type.is_storable() {
            return Err(Error::invalid(format!(
                "views.{name}: `{}` cannot be {}",
                input.name, input.data_type
            )));
        }
        columns.add(
            name,
            &input.name,
            &input.data_type,
            "a field of the request".to_owned(),
        )?;
        columns.request.insert(input.name.clone());
    }
    for lookup in &lookups {
        for index in &lookup.features {
            let feature = &definitions.groups[&lookup.group].features()[*index];
            let full = feature_name(&lookup.alias, &feature.name);
            let origin = format!("feature `{}` of `{}`", feature.name, lookup.alias);
            columns.add_feature(name, &full, &feature.data_type, origin)?;
        }
    }
    let mut functions = Vec::new();
    for function in &config.functions {
        on_demand(definitions, name, function, &mut columns)?;
        functions.push(OnDemandDef {
            function: function.clone(),
        });
    }
    require_needed_inputs(definitions, &functions, &mut inputs);
    Ok(ViewDef {
        inputs,
        lookups,
        functions,
        doc: config.doc.clone(),
    })
}

/// A request field that a function cannot do without is not nullable.
fn require_needed_inputs(
    definitions: &Definitions,
    functions: &[OnDemandDef],
    inputs: &mut [Field],
) {
    for function in functions {
        let signature = &definitions.functions[&function.function]
            .registered
            .signature;
        for needed in signature.inputs.fields().iter().filter(|f| !f.nullable) {
            if let Some(input) = inputs.iter_mut().find(|i| i.name == needed.name) {
                input.nullable = false;
            }
        }
    }
}

fn picked(group: &GroupDef, wanted: Option<&[String]>, place: &str) -> Result<Vec<usize>> {
    let Some(wanted) = wanted else {
        return Ok((0..group.features().len()).collect());
    };
    let features = group.features();
    if wanted.is_empty() {
        let message = format!("{place}.features: is empty; leave it out to take all of them");
        return Err(Error::invalid(message));
    }
    wanted
        .iter()
        .map(|name| {
            let found = features.iter().position(|f| f.name == *name);
            found.ok_or_else(|| {
                let known = features.iter().map(|f| f.name.as_str());
                let hint = nearest(name, known)
                    .map_or_else(String::new, |n| format!("; did you mean `{n}`?"));
                Error::invalid(format!(
                    "{place}.features: group `{}` has no feature `{name}`{hint}",
                    group.name
                ))
            })
        })
        .collect()
}

fn on_demand(
    definitions: &Definitions,
    view: &str,
    function: &str,
    columns: &mut Columns,
) -> Result<()> {
    let signature = signature(definitions, function)?;
    let place = format!("views.{view}: function `{function}`");
    if signature.mapping != Mapping::OneToOne {
        let message =
            format!("{place} does not map rows one to one, as an on-demand function must");
        return Err(Error::invalid(message));
    }
    for field in signature.inputs.fields() {
        match columns.types.get(&field.name) {
            Some((data_type, _)) if can_widen(data_type, &field.data_type) => {}
            Some((data_type, origin)) => {
                return Err(Error::invalid(format!(
                    "{place}: input `{}` is {}, and {origin} is {data_type}",
                    field.name, field.data_type
                )));
            }
            None => {
                let known = columns.types.keys().map(String::as_str);
                let hint = nearest(&field.name, known)
                    .map_or_else(String::new, |n| format!("; did you mean `{n}`?"));
                return Err(Error::invalid(format!(
                    "{place}: input `{}` ({}) is neither a field of the request nor a looked-up feature{hint}",
                    field.name, field.data_type
                )));
            }
        }
    }
    for field in signature.outputs.fields() {
        if !field.data_type.is_storable() {
            return Err(Error::invalid(format!(
                "{place}: output `{}` cannot be {}",
                field.name, field.data_type
            )));
        }
        columns.add_feature(
            view,
            &field.name,
            &field.data_type,
            format!("an output of `{function}`"),
        )?;
    }
    Ok(())
}

#[cfg(test)]
mod tests;
