//! Reads and checks `wafer.toml`.
//!
//! The file is declarative: nothing is executed to read it. Errors of parsing, such as an unknown
//! key, are reported by line and column, and suggest the most similar known key. Other mistakes are
//! reported by the path of their key, such as `pipelines.delays.source`. Checks that need the
//! signatures of functions are in the module `resolve`.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use serde::Deserialize;
use wafer_catalog::{FunctionRole, is_name, nearest};
use wafer_store::RemoteFiles;

use crate::error::{BrokenRule, ProjectError, parse_error};
use crate::functions::{AssetSource, FunctionConfig, FunctionSource};
use crate::groups::GroupConfig;
use crate::models::ModelConfig;
use crate::pipelines::{PipelineConfig, check_columns, check_max_rejects, check_schedule};
use crate::server::{ServerConfig, check_server};
use crate::sources::{EntityConfig, SourceConfig, SourceType, check_source, check_url};
use crate::store::{Overrides, StoreSettings, StoreTable, cloud_stores};
use crate::values::{check_parameters, typed_fields};
use crate::views::ViewConfig;

/// A project as its file describes it. Every name in it has been checked to refer to something in
/// it.
#[derive(Clone, Debug)]
pub struct Project {
    /// The folder of the file. Relative paths start there.
    pub folder: PathBuf,
    /// The name of the project, which is the namespace of everything in it.
    pub name: String,
    /// Where the project stores its data.
    pub store: StoreSettings,
    /// The limits and names of its server.
    pub server: ServerConfig,
    /// The entities, by name.
    pub entities: BTreeMap<String, EntityConfig>,
    /// The sources, by name.
    pub sources: BTreeMap<String, SourceConfig>,
    /// The functions, by name.
    pub functions: BTreeMap<String, FunctionConfig>,
    /// The feature groups, by name.
    pub groups: BTreeMap<String, GroupConfig>,
    /// The pipelines, by name.
    pub pipelines: BTreeMap<String, PipelineConfig>,
    /// The feature views, by name.
    pub views: BTreeMap<String, ViewConfig>,
    /// The models, by name.
    pub models: BTreeMap<String, ModelConfig>,
}

/// The file as it is written, before names are checked.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct ProjectFile {
    pub(crate) project: ProjectTable,
    #[serde(default)]
    store: StoreTable,
    #[serde(default)]
    server: ServerConfig,
    #[serde(default)]
    entities: BTreeMap<String, EntityConfig>,
    #[serde(default)]
    sources: BTreeMap<String, SourceConfig>,
    #[serde(default)]
    pub(crate) functions: BTreeMap<String, FunctionConfig>,
    #[serde(default)]
    groups: BTreeMap<String, GroupConfig>,
    #[serde(default)]
    pipelines: BTreeMap<String, PipelineConfig>,
    #[serde(default)]
    views: BTreeMap<String, ViewConfig>,
    #[serde(default)]
    models: BTreeMap<String, ModelConfig>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct ProjectTable {
    pub(crate) name: String,
}

impl Project {
    /// Reads and checks `wafer.toml` in a folder. Environment variables override settings of
    /// `[store]`. Source files that are not on this machine must have URLs that `remote` reads.
    ///
    /// # Errors
    /// Returns a [`ProjectError`] when the file cannot be read, parsed, or used.
    pub fn read(folder: &Path, remote: &dyn RemoteFiles) -> Result<Self, ProjectError> {
        let path = folder.join("wafer.toml");
        let text = std::fs::read_to_string(&path).map_err(|source| ProjectError::Read {
            path: path.clone(),
            source,
        })?;
        let mut project = Self::parse(&path, &text, Overrides::from_environment()?)?;
        for (name, source) in &project.sources {
            let checked = check_url(source, remote);
            checked.map_err(|rule| rule.below(&format!("sources.{name}")).of_file(&path))?;
        }
        // Paths are stored when the project is applied, and are read by processes in other
        // folders.
        if let Ok(whole) = std::path::absolute(&project.folder) {
            project.folder = whole;
        }
        Ok(project)
    }

    /// Parses and checks the text of a project file. `path` is the path of the file, whose folder
    /// is the project's folder.
    ///
    /// # Errors
    /// Returns a [`ProjectError`] when the text cannot be parsed or used.
    pub fn parse(path: &Path, text: &str, overrides: Overrides) -> Result<Self, ProjectError> {
        let file: ProjectFile = toml::from_str(text).map_err(|e| parse_error(path, text, &e))?;
        let folder = path.parent().unwrap_or(Path::new("")).to_owned();
        let rule_error = |rule: BrokenRule| rule.of_file(path);
        let store = file.store;
        let cloud = cloud_stores(
            overrides.online.or(store.online),
            overrides.objects.or(store.objects),
        )
        .map_err(rule_error)?;
        let local = overrides.path.or(store.path);
        let project = Self {
            name: file.project.name,
            store: StoreSettings {
                path: folder.join(local.unwrap_or_else(|| ".wafer".into())),
                map_size: store.map_size.unwrap_or(64 << 30),
                cloud,
            },
            server: file.server,
            folder,
            entities: file.entities,
            sources: file.sources,
            functions: file.functions,
            groups: file.groups,
            pipelines: file.pipelines,
            views: file.views,
            models: file.models,
        };
        project.check().map_err(rule_error)?;
        Ok(project)
    }

    /// Returns where the component of a function comes from. Paths start at the project's folder.
    pub fn function_source(&self, function: &FunctionConfig) -> FunctionSource {
        let FunctionConfig {
            krate,
            component,
            stock,
            python,
            requirements,
            javascript,
            ..
        } = function;
        let below = |path: &PathBuf| self.folder.join(path);
        if let Some(folder) = krate {
            return FunctionSource::Crate(below(folder));
        }
        if let Some(file) = component {
            return FunctionSource::Component(below(file));
        }
        if let Some(stock) = stock {
            return FunctionSource::Stock(*stock);
        }
        if let Some(python) = python {
            return FunctionSource::Python {
                path: below(&python.path),
                function: python.function.clone(),
                requirements: requirements.as_ref().map(below),
            };
        }
        let javascript = javascript.as_ref().expect("checked when it was read");
        FunctionSource::JavaScript {
            path: below(&javascript.path),
            function: javascript.function.clone(),
        }
    }

    /// Returns what a function is used for: by a model to train or to predict, or else to map
    /// rows.
    pub fn role(&self, function: &str) -> FunctionRole {
        let mut models = self.models.values();
        if models.any(|model| model.trainer.as_deref() == Some(function)) {
            return FunctionRole::Trainer;
        }
        match self.models.values().any(|model| model.function == function) {
            true => FunctionRole::Inference,
            false => FunctionRole::Features,
        }
    }

    /// Checks everything that the file alone decides.
    pub(crate) fn check(&self) -> Result<(), BrokenRule> {
        is_name(&self.name).map_err(|m| BrokenRule::new("project.name", m))?;
        check_server(&self.server).map_err(|rule| rule.below("server"))?;
        self.check_names()?;
        for (name, entity) in &self.entities {
            check_entity(name, entity)?;
        }
        for (name, source) in &self.sources {
            check_source(source).map_err(|rule| rule.below(&format!("sources.{name}")))?;
            self.check_source_references(name, source)?;
        }
        for (name, function) in &self.functions {
            self.check_function(name, function)?;
        }
        for (name, group) in &self.groups {
            self.check_group(name, group)?;
        }
        let mut writers: BTreeMap<&str, &str> = BTreeMap::new();
        for (name, pipeline) in &self.pipelines {
            self.check_pipeline(name, pipeline)?;
            if let Some(other) = writers.insert(&pipeline.group, name) {
                let message = format!(
                    "group `{}` is written by pipeline `{other}` already",
                    pipeline.group
                );
                return Err(BrokenRule::new(format!("pipelines.{name}.group"), message));
            }
        }
        for (name, view) in &self.views {
            self.check_view(name, view)?;
        }
        for (name, model) in &self.models {
            self.check_model(name, model)?;
        }
        Ok(())
    }

    /// Checks the names of everything that the project defines.
    fn check_names(&self) -> Result<(), BrokenRule> {
        let kinds: [(&str, Vec<&String>); 7] = [
            ("entities", self.entities.keys().collect()),
            ("sources", self.sources.keys().collect()),
            ("functions", self.functions.keys().collect()),
            ("groups", self.groups.keys().collect()),
            ("pipelines", self.pipelines.keys().collect()),
            ("views", self.views.keys().collect()),
            ("models", self.models.keys().collect()),
        ];
        for (kind, names) in kinds {
            for name in names {
                is_name(name).map_err(|m| BrokenRule::new(format!("{kind}.{name}"), m))?;
            }
        }
        Ok(())
    }

    /// Checks that what a source names is defined.
    fn check_source_references(&self, name: &str, source: &SourceConfig) -> Result<(), BrokenRule> {
        let Some(group) = &source.group else {
            return Ok(());
        };
        let key = format!("sources.{name}.group");
        check_defined(&self.groups, group, "group", &key)
    }

    fn check_group(&self, name: &str, group: &GroupConfig) -> Result<(), BrokenRule> {
        let key = format!("groups.{name}.entity");
        check_defined(&self.entities, &group.entity, "entity", &key)?;
        if group.version == 0 {
            let key = format!("groups.{name}.version");
            return Err(BrokenRule::new(key, "versions start at 1"));
        }
        Ok(())
    }

    fn check_pipeline(&self, name: &str, pipeline: &PipelineConfig) -> Result<(), BrokenRule> {
        let key = |part: &str| format!("pipelines.{name}.{part}");
        check_defined(&self.sources, &pipeline.source, "source", &key("source"))?;
        self.check_function_or_model(pipeline, key)?;
        check_defined(&self.groups, &pipeline.group, "group", &key("group"))?;
        for check in [check_max_rejects, check_columns] {
            check(pipeline).map_err(|rule| rule.below(&format!("pipelines.{name}")))?;
        }
        let Some(schedule) = &pipeline.schedule else {
            return Ok(());
        };
        let table = key("schedule");
        let source = &self.sources[&pipeline.source];
        if source.kind.takes_events() && source.path.is_none() {
            let message = format!(
                "would never run: source `{}` is a stream without `path`, whose events run the \
                 pipeline as they come in; leave the schedule out, or name files with `path`",
                pipeline.source
            );
            return Err(BrokenRule::new(table, message));
        }
        check_schedule(schedule).map_err(|rule| rule.below(&table))?;
        self.check_delay(pipeline, &table)
    }

    /// Checks that the source of a scheduled pipeline has no `delay` of its own: the schedule says
    /// when rows become visible.
    fn check_delay(&self, pipeline: &PipelineConfig, schedule: &str) -> Result<(), BrokenRule> {
        let source = &self.sources[&pipeline.source];
        // The `delay` of a stream is also that of events from the past.
        if source.delay.is_none() || source.kind.takes_events() {
            return Ok(());
        }
        let message = format!(
            "its `delay` says when rows become visible, so `sources.{0}.delay` would be ignored: remove that, or \
             define the source once more without it",
            pipeline.source
        );
        Err(BrokenRule::new(schedule, message))
    }

    /// Checks that a pipeline has at most one of a function and a model, and that it is defined.
    fn check_function_or_model(
        &self,
        pipeline: &PipelineConfig,
        key: impl Fn(&str) -> String,
    ) -> Result<(), BrokenRule> {
        let model = match (&pipeline.function, &pipeline.model) {
            (Some(function), None) => {
                return self.check_feature_function(function, &key("function"));
            }
            (None, Some(model)) => model,
            (None, None) => return Ok(()),
            (Some(_), Some(_)) => {
                let message = "is beside `function`; a pipeline has one of them";
                return Err(BrokenRule::new(key("model"), message));
            }
        };
        check_defined(&self.models, &model.model, "model", &key("model"))?;
        match self.sources[&pipeline.source].kind {
            SourceType::Stream => {
                let message =
                    "predicts for the rows of files or of another group; events ask an endpoint";
                Err(BrokenRule::new(key("model"), message))
            }
            SourceType::Files | SourceType::Table | SourceType::Delta => Ok(()),
        }
    }

    /// Checks that a function is defined, and that no model trains or predicts with it.
    fn check_feature_function(&self, function: &str, key: &str) -> Result<(), BrokenRule> {
        check_defined(&self.functions, function, "function", key)?;
        let usage = match self.role(function) {
            FunctionRole::Features => return Ok(()),
            FunctionRole::Inference => "is loaded with what trainings make",
            FunctionRole::Trainer => "trains",
        };
        let message = format!(
            "function `{function}` is a model's and {usage}; define it once more under another name"
        );
        Err(BrokenRule::new(key, message))
    }

    fn check_model(&self, name: &str, model: &ModelConfig) -> Result<(), BrokenRule> {
        let key = |part: &str| format!("models.{name}.{part}");
        check_defined(&self.views, &model.view, "view", &key("view"))?;
        check_defined(
            &self.functions,
            &model.function,
            "function",
            &key("function"),
        )?;
        check_parameters(&model.parameters, &format!("models.{name}"))?;
        if let Some(trainer) = &model.trainer {
            check_defined(&self.functions, trainer, "function", &key("trainer"))?;
            if self.models.values().any(|model| model.function == *trainer) {
                let message = format!("function `{trainer}` cannot both train and predict");
                return Err(BrokenRule::new(key("trainer"), message));
            }
            if model.label.is_none() {
                let message = "is missing: name the column of training sets that is predicted";
                return Err(BrokenRule::new(key("label"), message));
            }
        }
        if model.task.is_some() && model.label.is_none() {
            return Err(BrokenRule::new(key("task"), "needs `label` beside it"));
        }
        let training = &model.training;
        let checked = training.split().map(drop);
        let checked = checked.and_then(|()| training.types().map(drop));
        checked.map_err(|rule| rule.below(&key("training")))
    }

    pub(crate) fn check_function(
        &self,
        name: &str,
        function: &FunctionConfig,
    ) -> Result<(), BrokenRule> {
        let key = format!("functions.{name}");
        let given = [
            ("crate", function.krate.is_some()),
            ("component", function.component.is_some()),
            ("stock", function.stock.is_some()),
            ("python", function.python.is_some()),
            ("javascript", function.javascript.is_some()),
        ];
        let given: Vec<&str> = given
            .iter()
            .filter(|(_, given)| *given)
            .map(|(name, _)| *name)
            .collect();
        match given[..] {
            [_] => {}
            [] => {
                let message = "needs `crate = \"FOLDER\"`, `component = \"FILE.wasm\"`, \
                               `stock = \"NAME\"`, `python = \"FILE.py\"` or \
                               `javascript = \"FILE.js\"`";
                return Err(BrokenRule::new(key, message));
            }
            [one, other, ..] => {
                let message = format!("has both `{one}` and `{other}`; keep one");
                return Err(BrokenRule::new(key, message));
            }
        }
        let is_built_in = function.component.is_some() || function.modules_key().is_some();
        if function.stack.is_some() && is_built_in {
            let key = format!("{key}.stack");
            let message = "is for functions that `wafer build` compiles: the stack of a component is built in";
            return Err(BrokenRule::new(key, message));
        }
        function.check_modules().map_err(|rule| rule.below(&key))?;
        const MAX_MEMORY: u64 = 4 << 30;
        if function.memory.is_some_and(|bytes| bytes > MAX_MEMORY) {
            let key = format!("{key}.memory");
            return Err(BrokenRule::new(key, "a function has at most 4 GiB"));
        }
        for (asset, source) in &function.assets {
            if let AssetSource::Model(artifact) = source {
                let key = format!("{key}.assets.{asset}");
                check_defined(&self.models, &artifact.version.model, "model", &key)?;
            }
        }
        check_parameters(&function.parameters, &key)
    }

    fn check_view(&self, name: &str, view: &ViewConfig) -> Result<(), BrokenRule> {
        let key = format!("views.{name}");
        typed_fields(&view.request, &format!("{key}.request"))?;
        for (index, lookup) in view.lookups.iter().enumerate() {
            check_defined(
                &self.groups,
                &lookup.group,
                "group",
                &format!("{key}.lookups[{index}].group"),
            )?;
            if let Some(alias) = &lookup.alias {
                let key = format!("{key}.lookups[{index}].as");
                is_name(alias).map_err(|m| BrokenRule::new(key, m))?;
            }
        }
        for function in &view.functions {
            self.check_feature_function(function, &format!("{key}.functions"))?;
        }
        if view.lookups.is_empty() && view.functions.is_empty() {
            return Err(BrokenRule::new(key, "has neither lookups nor functions"));
        }
        Ok(())
    }
}

/// Checks the join keys of an entity.
fn check_entity(name: &str, entity: &EntityConfig) -> Result<(), BrokenRule> {
    let key = format!("entities.{name}.keys");
    if entity.keys.is_empty() {
        let message = "is empty: an entity has at least one join key, such as { id = \"int64\" }";
        return Err(BrokenRule::new(key, message));
    }
    for (column, data_type) in typed_fields(&entity.keys, &key)? {
        if !data_type.is_key() {
            let message = format!(
                "{data_type} cannot be a join key; use utf8, int64, boolean, date, timestamp or binary"
            );
            return Err(BrokenRule::new(format!("{key}.{column}"), message));
        }
    }
    Ok(())
}

/// Checks that a name is defined. The error suggests the most similar name.
pub(crate) fn check_defined<T>(
    things: &BTreeMap<String, T>,
    name: &str,
    what: &str,
    key: &str,
) -> Result<(), BrokenRule> {
    if things.contains_key(name) {
        return Ok(());
    }
    let nearest = nearest(name, things.keys().map(String::as_str));
    let message = match nearest {
        Some(nearest) => format!("there is no {what} `{name}`; did you mean `{nearest}`?"),
        None => format!("there is no {what} `{name}`"),
    };
    Err(BrokenRule::new(key, message))
}

#[cfg(test)]
mod tests;
