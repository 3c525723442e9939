//! `wafer.toml`: what a project says about itself.
//!
//! Declarative: nothing is executed to read it. Unknown keys are errors that
//! name the nearest known one; what is wrong is named by line and column, or by
//! its path such as `pipelines.delays.source`.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use serde::{Deserialize, Deserializer};
use url::Url;
use wafer_core::expect::{Bound, Policy, Rule};
use wafer_core::{DataType, Task, parse_bytes, parse_duration};
use wafer_runtime::Limits;

use crate::definition::Overlap;
use crate::models::{ArtifactName, VersionName, VersionNameError};
use crate::source::Format;
use crate::training::{Split, SplitBy};

/// A file that is not a project.
#[derive(Debug, thiserror::Error)]
pub enum ProjectError {
    /// It cannot be read.
    #[error(
        "cannot read {path}: {source}; make a project with `wafer new NAME`, or name its folder with --project"
    )]
    Read {
        /// The file.
        path: PathBuf,
        /// Why.
        source: std::io::Error,
    },
    /// It is not TOML, or has a key or value that it cannot have.
    #[error("{path}:{line}:{column}: {message}")]
    Parse {
        /// The file.
        path: PathBuf,
        /// Line, from 1.
        line: usize,
        /// Column, from 1.
        column: usize,
        /// What is wrong and what could be meant.
        message: String,
    },
    /// Its parts do not fit each other.
    #[error("{path}: {key}: {message}")]
    Rule {
        /// The file.
        path: PathBuf,
        /// Path of the key.
        key: String,
        /// What is wrong and what to do.
        message: String,
    },
}

/// A project, as its file says; every name in it refers to something in it.
#[derive(Clone, Debug)]
pub struct Project {
    /// Folder of the file; relative paths start there.
    pub folder: PathBuf,
    /// Name of the project, the namespace of everything in it.
    pub name: String,
    /// Where it keeps what it makes.
    pub store: StoreSettings,
    /// What features describe.
    pub entities: BTreeMap<String, EntityConfig>,
    /// Where raw rows come from.
    pub sources: BTreeMap<String, SourceConfig>,
    /// Components, with their assets and limits.
    pub functions: BTreeMap<String, FunctionConfig>,
    /// Stored features.
    pub groups: BTreeMap<String, GroupConfig>,
    /// What fills the groups.
    pub pipelines: BTreeMap<String, PipelineConfig>,
    /// What models read.
    pub views: BTreeMap<String, ViewConfig>,
    /// What predicts.
    pub models: BTreeMap<String, ModelConfig>,
}

/// Where a project keeps what it makes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct StoreSettings {
    /// Folder of the embedded stores. Setting `store.path`, environment
    /// `WAFER_STORE_PATH`; default `.wafer` beside the file.
    pub path: PathBuf,
    /// Most bytes of the online store. Setting `store.map_size`, default 64 GiB.
    pub map_size: u64,
    /// The stores on AWS, in the place of the embedded ones. `path` is then only for
    /// copies and temporary files.
    pub cloud: Option<CloudStores>,
}

/// Where a project keeps what it makes on AWS.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CloudStores {
    /// The table, `dynamodb://TABLE[?region=REGION][&reads=eventual]`. Setting
    /// `store.online`, environment `WAFER_STORE_ONLINE`.
    pub online: Url,
    /// The folder of everything else, `s3://BUCKET/FOLDER`. Setting `store.objects`,
    /// environment `WAFER_STORE_OBJECTS`.
    pub objects: Url,
}

/// Settings that come before those of a project's file.
#[derive(Clone, Debug, Default)]
pub struct Overrides {
    /// `store.path`.
    pub path: Option<PathBuf>,
    /// `store.online`.
    pub online: Option<String>,
    /// `store.objects`.
    pub objects: Option<String>,
}

impl Overrides {
    /// Those of the environment.
    pub fn from_environment() -> Self {
        let text = |name| {
            std::env::var(name)
                .ok()
                .filter(|text: &String| !text.is_empty())
        };
        Self {
            path: std::env::var_os("WAFER_STORE_PATH").map(PathBuf::from),
            online: text("WAFER_STORE_ONLINE"),
            objects: text("WAFER_STORE_OBJECTS"),
        }
    }
}

/// The stores on AWS, if there are any; or the setting that is wrong, and how.
fn cloud_stores(
    online: Option<String>,
    objects: Option<String>,
) -> Result<Option<CloudStores>, (String, String)> {
    let url = |key: &str, text: &str, scheme: &str, form: &str| {
        let url = Url::parse(text).ok().filter(|url| url.scheme() == scheme);
        let url = url.filter(|url| url.host_str().is_some_and(|host| !host.is_empty()));
        url.ok_or_else(|| {
            let message = format!("`{text}` is not of the form {form}");
            (format!("store.{key}"), message)
        })
    };
    let other = |given: &str, missing: &str| {
        let message = format!(
            "the stores on AWS are two: set `store.{missing}` as well (or WAFER_STORE_{})",
            missing.to_uppercase()
        );
        (format!("store.{given}"), message)
    };
    match (online, objects) {
        (None, None) => Ok(None),
        (Some(_), None) => Err(other("online", "objects")),
        (None, Some(_)) => Err(other("objects", "online")),
        (Some(online), Some(objects)) => Ok(Some(CloudStores {
            online: url("online", &online, "dynamodb", "dynamodb://TABLE")?,
            objects: url("objects", &objects, "s3", "s3://BUCKET/FOLDER")?,
        })),
    }
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct ProjectFile {
    project: ProjectTable,
    #[serde(default)]
    store: StoreTable,
    #[serde(default)]
    entities: BTreeMap<String, EntityConfig>,
    #[serde(default)]
    sources: BTreeMap<String, SourceConfig>,
    #[serde(default)]
    functions: BTreeMap<String, FunctionConfig>,
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
    name: String,
}

#[derive(Default, Deserialize)]
#[serde(deny_unknown_fields)]
struct StoreTable {
    path: Option<PathBuf>,
    #[serde(default, deserialize_with = "size")]
    map_size: Option<u64>,
    online: Option<String>,
    objects: Option<String>,
}

/// `[entities.NAME]`
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct EntityConfig {
    /// Join keys and their types, in the order of the file.
    pub keys: toml::Table,
    /// Description.
    #[serde(default)]
    pub doc: String,
}

/// `[sources.NAME]`
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct SourceConfig {
    /// How rows arrive.
    #[serde(rename = "type")]
    pub kind: SourceType,
    /// Group whose rows are read, of a source of type `table`.
    pub group: Option<String>,
    /// A file, a folder, or a pattern with `*` in the file name: the rows of a
    /// `files` source; for a `stream` what batch runs read, if anything.
    pub path: Option<PathBuf>,
    /// `parquet`, `csv` or `ndjson`; default by the files' extension.
    pub format: Option<Format>,
    /// Between a fact and its arrival, for files; default none.
    #[serde(default, deserialize_with = "duration")]
    pub delay: Option<i64>,
    /// How old an event may be when it comes in: older ones wait in the group's late
    /// table until they are healed; default: none is too old.
    #[serde(default, deserialize_with = "duration")]
    pub lateness: Option<i64>,
    /// How far in the future an event time may lie; default 5 minutes.
    #[serde(default, deserialize_with = "duration")]
    pub skew: Option<i64>,
    /// Field that identifies an event of a `stream`; default: the CloudEvents
    /// id, or the hash of the event's content.
    pub id: Option<String>,
    /// Whether the raw events of a `stream` are kept, for functions of later
    /// versions; default yes.
    pub archive: Option<bool>,
    /// How long the identity of an event is remembered; default 7 days.
    #[serde(default, deserialize_with = "duration")]
    pub remember: Option<i64>,
    /// Description.
    #[serde(default)]
    pub doc: String,
}

/// `type` of a source.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum SourceType {
    /// Rows in files.
    Files,
    /// Events, pushed in.
    Stream,
    /// Rows of another group.
    Table,
}

/// `[functions.NAME]`
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct FunctionConfig {
    /// Folder of a crate that `wafer build` compiles.
    #[serde(rename = "crate")]
    krate: Option<PathBuf>,
    /// A component that was built otherwise.
    component: Option<PathBuf>,
    /// A function that comes with Wafer, by its name.
    stock: Option<Stock>,
    /// Files, or artifacts of models, given to the function when it is registered, by name.
    #[serde(default)]
    pub assets: BTreeMap<String, AssetSource>,
    /// Texts, numbers or booleans given to it, by name.
    #[serde(default)]
    parameters: BTreeMap<String, toml::Value>,
    #[serde(default, deserialize_with = "size")]
    memory: Option<u64>,
    #[serde(default, deserialize_with = "duration")]
    request_time: Option<i64>,
    #[serde(default, deserialize_with = "duration")]
    batch_time: Option<i64>,
    #[serde(default, deserialize_with = "duration")]
    init_time: Option<i64>,
    #[serde(default, deserialize_with = "duration")]
    train_time: Option<i64>,
    #[serde(default, deserialize_with = "size")]
    output: Option<u64>,
    #[serde(default, deserialize_with = "size")]
    stack: Option<u64>,
    /// Fix the bits of NaN inside the function too; slower.
    #[serde(default)]
    pub strict_nan: bool,
}

/// Where an asset of a function comes from.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(try_from = "String")]
pub enum AssetSource {
    /// A file.
    File(PathBuf),
    /// What a training made: `model:NAME@VERSION/ARTIFACT`.
    Model(ArtifactName),
}

impl TryFrom<String> for AssetSource {
    type Error = VersionNameError;

    fn try_from(text: String) -> Result<Self, Self::Error> {
        match text.strip_prefix("model:") {
            Some(artifact) => Ok(Self::Model(artifact.parse()?)),
            None => Ok(Self::File(text.into())),
        }
    }
}

/// Where a function's component comes from.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum FunctionSource {
    /// A crate, in this folder.
    Crate(PathBuf),
    /// A file.
    Component(PathBuf),
    /// A crate that comes with Wafer.
    Stock(Stock),
}

/// Functions that come with Wafer.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Stock {
    /// Predicts by a model file of LightGBM, in its text format.
    Lightgbm,
    /// Predicts by a model file of XGBoost, JSON or UBJSON.
    Xgboost,
    /// Predicts by an ONNX model.
    Onnx,
    /// Predicts by a linear or logistic model, in JSON.
    Linear,
    /// Scales numbers and encodes categories as they were fitted, in JSON.
    Preprocess,
    /// Trains gradient-boosted trees, for `lightgbm`.
    TrainTrees,
    /// Fits what `preprocess` applies.
    FitPreprocess,
}

impl Stock {
    /// Folder of its crate below `functions/stock` of Wafer's sources.
    pub fn folder(self) -> &'static str {
        match self {
            Self::Lightgbm => "lightgbm",
            Self::Xgboost => "xgboost",
            Self::Onnx => "onnx",
            Self::Linear => "linear",
            Self::Preprocess => "preprocess",
            Self::TrainTrees => "train-trees",
            Self::FitPreprocess => "fit-preprocess",
        }
    }
}

/// Stack of a function inside its memory, unless `stack` says otherwise. Every
/// page of it that is touched costs a fresh instance a page fault.
const DEFAULT_STACK: u64 = 64 << 10;
/// The same of a trainer, of which there is one instance.
const TRAINER_STACK: u64 = 1 << 20;
/// Memory of a trainer, unless `memory` says otherwise: all that 32 bits can name.
const TRAINER_MEMORY: u64 = 4 << 30;

/// What a function is used for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum FunctionRole {
    /// Maps rows, in pipelines and views.
    Features,
    /// Predicts: it is loaded with the artifacts of a model's version.
    Inference,
    /// Trains.
    Trainer,
}

impl FunctionConfig {
    /// Limits: those of the file, and defaults.
    pub fn limits(&self, role: FunctionRole) -> Limits {
        let mut default = Limits::default();
        if role == FunctionRole::Trainer {
            default.memory = TRAINER_MEMORY;
        }
        Limits {
            memory: self.memory.unwrap_or(default.memory),
            request_time: self.request_time.unwrap_or(default.request_time),
            batch_time: self.batch_time.unwrap_or(default.batch_time),
            init_time: self.init_time.unwrap_or(default.init_time),
            train_time: self.train_time.unwrap_or(default.train_time),
            output: self.output.unwrap_or(default.output),
        }
    }

    /// Bytes of stack to build a crate with.
    pub fn stack(&self, role: FunctionRole) -> u64 {
        self.stack.unwrap_or(match role {
            FunctionRole::Trainer => TRAINER_STACK,
            FunctionRole::Features | FunctionRole::Inference => DEFAULT_STACK,
        })
    }

    /// Parameters as texts: strings as they are, others as in JSON.
    pub fn parameters(&self) -> BTreeMap<String, String> {
        texts(&self.parameters)
    }
}

fn texts(parameters: &BTreeMap<String, toml::Value>) -> BTreeMap<String, String> {
    let text = |value: &toml::Value| match value {
        toml::Value::String(text) => text.clone(),
        other => other.to_string(),
    };
    parameters
        .iter()
        .map(|(name, value)| (name.clone(), text(value)))
        .collect()
}

fn check_parameters(
    parameters: &BTreeMap<String, toml::Value>,
    key: &str,
) -> Result<(), (String, String)> {
    for (parameter, value) in parameters {
        if matches!(
            value,
            toml::Value::Array(_) | toml::Value::Table(_) | toml::Value::Datetime(_)
        ) {
            let message = "is a text, a number or a boolean".to_owned();
            return Err((format!("{key}.parameters.{parameter}"), message));
        }
    }
    Ok(())
}

/// `[groups.NAME]`
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct GroupConfig {
    /// Entity that the features describe.
    pub entity: String,
    /// Version, from 1; a change of the columns needs a new one.
    #[serde(default = "one")]
    pub version: u32,
    /// Output of the function that says when a row held.
    pub event_time: String,
    /// Outputs of the function to store; default: all, or those that aggregates
    /// read.
    pub columns: Option<Vec<String>>,
    /// Features over windows of time, in the place of the columns themselves.
    #[serde(default)]
    pub aggregates: Vec<AggregateConfig>,
    /// What rows must be like.
    #[serde(default)]
    pub expectations: Vec<ExpectationConfig>,
    /// How long a row is good for; default: for ever.
    #[serde(default, deserialize_with = "duration")]
    pub ttl: Option<i64>,
    /// Description.
    #[serde(default)]
    pub doc: String,
}

fn one() -> u32 {
    1
}

/// `[[groups.NAME.aggregates]]`
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct AggregateConfig {
    /// What is computed, such as `mean`; several are written as a list.
    #[serde(rename = "function", deserialize_with = "one_or_more")]
    pub functions: Vec<String>,
    /// Over which column; `count` needs none.
    pub column: Option<String>,
    /// Over how much time: durations, or `lifetime`.
    pub windows: Vec<String>,
    /// Length of a list.
    pub k: Option<u32>,
    /// Which quantile, from 0 to 1.
    pub quantile: Option<f64>,
    /// Whether the windows' tails are exact too.
    #[serde(default)]
    pub exact: bool,
    /// Start of the features' names, before function and window; default: the column.
    pub name: Option<String>,
}

/// `[[groups.NAME.expectations]]`: one rule, and what happens otherwise.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ExpectationConfig {
    /// The column.
    pub column: String,
    /// Least value.
    pub min: Option<Bound>,
    /// Greatest value.
    pub max: Option<Bound>,
    /// Allowed values.
    pub values: Option<Vec<String>>,
    /// A regular expression that texts match as a whole.
    pub regex: Option<String>,
    /// No nulls.
    #[serde(default)]
    pub not_null: bool,
    /// Greatest fraction of nulls in a run.
    pub null_fraction: Option<f64>,
    /// No value twice in a run.
    #[serde(default)]
    pub unique: bool,
    /// What happens otherwise; default: the row is rejected.
    #[serde(default = "reject")]
    pub policy: Policy,
}

fn reject() -> Policy {
    Policy::Reject
}

impl ExpectationConfig {
    /// Its one rule.
    ///
    /// # Errors
    /// When it has none, or several.
    pub(crate) fn rule(&self) -> Result<Rule, String> {
        let range = (self.min.is_some() || self.max.is_some()).then_some(Rule::Range {
            min: self.min,
            max: self.max,
        });
        let rules = [
            range,
            self.values.clone().map(Rule::Values),
            self.regex.clone().map(Rule::Regex),
            self.not_null.then_some(Rule::NotNull),
            self.null_fraction.map(Rule::NullFraction),
            self.unique.then_some(Rule::Unique),
        ];
        let mut rules = rules.into_iter().flatten();
        match (rules.next(), rules.next()) {
            (Some(rule), None) => Ok(rule),
            _ => Err(
                "has one rule: `min` and `max`, `values`, `regex`, `not_null`, `null_fraction` or `unique`"
                    .to_owned(),
            ),
        }
    }
}

/// `[pipelines.NAME]`
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct PipelineConfig {
    /// Where rows come from.
    pub source: String,
    /// What makes features of them: this, or `model`.
    pub function: Option<String>,
    /// A version of a model that predicts for each of them, with the features of its view
    /// as of the row's time: `late`, `late@3`, `late@champion`.
    pub model: Option<VersionName>,
    /// Where features go.
    pub group: String,
    /// When it runs by itself; default: by hand, or on events.
    pub schedule: Option<ScheduleConfig>,
    /// Description.
    #[serde(default)]
    pub doc: String,
}

/// `schedule` of a pipeline.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ScheduleConfig {
    /// Five fields of cron, such as `0 * * * *`; each time ends a data interval.
    pub cron: String,
    /// IANA name of the time zone of `cron`; default UTC.
    pub timezone: Option<String>,
    /// From the end of an interval until requests see its rows: the time that is left
    /// for the interval's data to come in and for the run. Default none.
    #[serde(default, deserialize_with = "duration")]
    pub delay: Option<i64>,
    /// From the end of an interval to its run, at most `delay`; default none.
    #[serde(default, deserialize_with = "duration")]
    pub start_after: Option<i64>,
    /// Most intervals that are made up for after a pause; default 10.
    pub catch_up: Option<u32>,
    /// `wait` (the default) or `skip`.
    pub overlap: Option<Overlap>,
    /// How often a failed run is repeated; default 3.
    pub retries: Option<u32>,
    /// Until the first repetition, doubled for each further one; default 10s.
    #[serde(default, deserialize_with = "duration")]
    pub backoff: Option<i64>,
    /// How long a run may take; default: as long as it takes.
    #[serde(default, deserialize_with = "duration")]
    pub time_limit: Option<i64>,
}

/// `[views.NAME]`
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ViewConfig {
    /// Fields that a request brings along, and their types.
    #[serde(default)]
    pub request: toml::Table,
    /// Groups that are looked up.
    #[serde(default)]
    pub lookups: Vec<LookupConfig>,
    /// On-demand functions over request fields, keys and looked-up features, in
    /// order.
    #[serde(default)]
    pub functions: Vec<String>,
    /// Description.
    #[serde(default)]
    pub doc: String,
}

/// `[[views.NAME.lookups]]`
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct LookupConfig {
    /// The group.
    pub group: String,
    /// Prefix of its features in the view; default: the group's name.
    #[serde(rename = "as")]
    pub alias: Option<String>,
    /// For each join key of the entity the field of the view that holds it;
    /// default: the field of the same name.
    #[serde(default)]
    pub keys: BTreeMap<String, String>,
    /// Features to take; default: all.
    pub features: Option<Vec<String>>,
}

/// `[models.NAME]`
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ModelConfig {
    /// View that it reads.
    pub view: String,
    /// Column of training sets that it predicts.
    pub label: Option<String>,
    /// `binary` or `regression`: versions are evaluated accordingly.
    pub task: Option<Task>,
    /// Output of the function that is the prediction; default: the first number.
    pub prediction: Option<String>,
    /// Function that predicts.
    pub function: String,
    /// Function that trains; none: it is trained elsewhere, and pushed.
    pub trainer: Option<String>,
    /// Texts, numbers or booleans given to the trainer, before its own.
    #[serde(default)]
    parameters: BTreeMap<String, toml::Value>,
    /// What `wafer train` takes its rows from.
    #[serde(default)]
    pub training: TrainingConfig,
    /// Who answers for it.
    #[serde(default)]
    pub owner: String,
    /// Whatever else there is to say.
    #[serde(default)]
    pub tags: BTreeMap<String, String>,
    /// Description.
    #[serde(default)]
    pub doc: String,
}

impl ModelConfig {
    /// Parameters as texts: strings as they are, others as in JSON.
    pub(crate) fn parameters(&self) -> BTreeMap<String, String> {
        texts(&self.parameters)
    }
}

/// `[models.NAME.training]`
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct TrainingConfig {
    /// File of labels.
    pub labels: Option<PathBuf>,
    /// Column of the labels' time; default `event_timestamp`.
    pub time: Option<String>,
    /// Parts, such as `train=0.7,validation=0.1,test=0.2`, or
    /// `train<2013-09-01T00:00:00Z,validation<2013-10-01T00:00:00Z,test`.
    pub split: Option<String>,
    /// `row` (the default), `time`, or a column of the labels.
    pub split_by: Option<String>,
    /// Decides what is random in it; default 0.
    pub seed: Option<u64>,
}

impl TrainingConfig {
    /// The split, if there is one; or the key that is wrong, and how.
    pub(crate) fn split(&self) -> Result<Option<Split>, (&'static str, String)> {
        match (&self.split, &self.split_by) {
            (None, Some(_)) => Err(("split_by", "needs `split` beside it".to_owned())),
            (None, None) => Ok(None),
            (Some(split), by) => {
                let by = SplitBy::parse(by.as_deref().unwrap_or("row"));
                let split = Split::parse(split, by, self.seed.unwrap_or(0));
                split.map(Some).map_err(|message| ("split", message))
            }
        }
    }
}

impl Project {
    /// Reads `wafer.toml` in a folder and checks it.
    ///
    /// # Errors
    /// [`ProjectError`]
    pub fn read(folder: &Path) -> Result<Self, ProjectError> {
        let path = folder.join("wafer.toml");
        let text = std::fs::read_to_string(&path).map_err(|source| ProjectError::Read {
            path: path.clone(),
            source,
        })?;
        let mut project = Self::parse(&path, &text, Overrides::from_environment())?;
        // What is applied from one folder is run from another.
        if let Ok(whole) = std::path::absolute(&project.folder) {
            project.folder = whole;
        }
        Ok(project)
    }

    /// Reads the text of a file at `path`.
    ///
    /// # Errors
    /// [`ProjectError`]
    pub fn parse(path: &Path, text: &str, overrides: Overrides) -> Result<Self, ProjectError> {
        let file: ProjectFile = toml::from_str(text).map_err(|e| parse_error(path, text, &e))?;
        let folder = path.parent().unwrap_or(Path::new("")).to_owned();
        let broken = |(key, message)| ProjectError::Rule {
            path: path.to_owned(),
            key,
            message,
        };
        let store = file.store;
        let cloud = cloud_stores(
            overrides.online.or(store.online),
            overrides.objects.or(store.objects),
        )
        .map_err(broken)?;
        let local = overrides.path.or(store.path);
        let project = Self {
            name: file.project.name,
            store: StoreSettings {
                path: folder.join(local.unwrap_or_else(|| ".wafer".into())),
                map_size: store.map_size.unwrap_or(64 << 30),
                cloud,
            },
            folder,
            entities: file.entities,
            sources: file.sources,
            functions: file.functions,
            groups: file.groups,
            pipelines: file.pipelines,
            views: file.views,
            models: file.models,
        };
        project.check().map_err(broken)?;
        Ok(project)
    }

    /// Where a function's component comes from, as a path.
    pub fn function_source(&self, function: &FunctionConfig) -> FunctionSource {
        match (&function.krate, &function.component, function.stock) {
            (Some(folder), _, _) => FunctionSource::Crate(self.folder.join(folder)),
            (None, Some(file), _) => FunctionSource::Component(self.folder.join(file)),
            (None, None, stock) => FunctionSource::Stock(stock.expect("checked when it was read")),
        }
    }

    /// What a function is used for.
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

    fn check(&self) -> Result<(), (String, String)> {
        is_name(&self.name).map_err(|m| ("project.name".to_owned(), m))?;
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
                is_name(name).map_err(|m| (format!("{kind}.{name}"), m))?;
            }
        }
        for (name, entity) in &self.entities {
            let key = format!("entities.{name}.keys");
            for (column, data_type) in typed_fields(&entity.keys, &key)? {
                if !data_type.is_key() {
                    let message = format!(
                        "{data_type} cannot be a join key; use utf8, int64, boolean, date, timestamp or binary"
                    );
                    return Err((format!("{key}.{column}"), message));
                }
            }
        }
        for (name, source) in &self.sources {
            check_source(source).map_err(|(part, m)| (format!("sources.{name}.{part}"), m))?;
            if let Some(group) = &source.group {
                known(
                    &self.groups,
                    group,
                    "group",
                    &format!("sources.{name}.group"),
                )?;
            }
        }
        for (name, function) in &self.functions {
            self.check_function(name, function)?;
        }
        for (name, group) in &self.groups {
            known(
                &self.entities,
                &group.entity,
                "entity",
                &format!("groups.{name}.entity"),
            )?;
            if group.version == 0 {
                return Err((
                    format!("groups.{name}.version"),
                    "versions start at 1".to_owned(),
                ));
            }
        }
        let mut writers: BTreeMap<&str, &str> = BTreeMap::new();
        for (name, pipeline) in &self.pipelines {
            let key = |part: &str| format!("pipelines.{name}.{part}");
            known(&self.sources, &pipeline.source, "source", &key("source"))?;
            self.check_maker(pipeline, key)?;
            known(&self.groups, &pipeline.group, "group", &key("group"))?;
            if let Some(other) = writers.insert(&pipeline.group, name) {
                let message = format!(
                    "group `{}` is written by pipeline `{other}` already",
                    pipeline.group
                );
                return Err((key("group"), message));
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

    /// Checks that a pipeline has a function or a model.
    fn check_maker(
        &self,
        pipeline: &PipelineConfig,
        key: impl Fn(&str) -> String,
    ) -> Result<(), (String, String)> {
        let model = match (&pipeline.function, &pipeline.model) {
            (Some(function), None) => return self.known_features(function, &key("function")),
            (None, Some(model)) => model,
            (None, None) => {
                let message = "is missing; name it, or a `model`";
                return Err((key("function"), message.to_owned()));
            }
            (Some(_), Some(_)) => {
                let message = "is beside `function`; a pipeline has one of them";
                return Err((key("model"), message.to_owned()));
            }
        };
        known(&self.models, &model.model, "model", &key("model"))?;
        match self.sources[&pipeline.source].kind {
            SourceType::Stream => {
                let message =
                    "predicts for the rows of files or of another group; events ask an endpoint";
                Err((key("model"), message.to_owned()))
            }
            SourceType::Files | SourceType::Table => Ok(()),
        }
    }

    /// A function that maps rows, and is not a model's.
    fn known_features(&self, function: &str, key: &str) -> Result<(), (String, String)> {
        known(&self.functions, function, "function", key)?;
        let use_ = match self.role(function) {
            FunctionRole::Features => return Ok(()),
            FunctionRole::Inference => "is loaded with what trainings make",
            FunctionRole::Trainer => "trains",
        };
        Err((
            key.to_owned(),
            format!(
                "function `{function}` is a model's and {use_}; define it once more under another name"
            ),
        ))
    }

    fn check_model(&self, name: &str, model: &ModelConfig) -> Result<(), (String, String)> {
        let key = |part: &str| format!("models.{name}.{part}");
        known(&self.views, &model.view, "view", &key("view"))?;
        known(
            &self.functions,
            &model.function,
            "function",
            &key("function"),
        )?;
        check_parameters(&model.parameters, &format!("models.{name}"))?;
        if let Some(trainer) = &model.trainer {
            known(&self.functions, trainer, "function", &key("trainer"))?;
            if self.models.values().any(|model| model.function == *trainer) {
                let message = format!("function `{trainer}` cannot both train and predict");
                return Err((key("trainer"), message));
            }
            if model.label.is_none() {
                let message = "is missing: name the column of training sets that is predicted";
                return Err((key("label"), message.to_owned()));
            }
        }
        if model.task.is_some() && model.label.is_none() {
            return Err((key("task"), "needs `label` beside it".to_owned()));
        }
        model
            .training
            .split()
            .map(drop)
            .map_err(|(part, message)| (key(&format!("training.{part}")), message))
    }

    fn check_function(
        &self,
        name: &str,
        function: &FunctionConfig,
    ) -> Result<(), (String, String)> {
        let key = format!("functions.{name}");
        let given = [
            ("crate", function.krate.is_some()),
            ("component", function.component.is_some()),
            ("stock", function.stock.is_some()),
        ];
        let given: Vec<&str> = given
            .iter()
            .filter(|(_, given)| *given)
            .map(|(name, _)| *name)
            .collect();
        match given[..] {
            [_] => {}
            [] => {
                return Err((
                    key,
                    "needs `crate = \"FOLDER\"`, `component = \"FILE.wasm\"` or `stock = \"NAME\"`"
                        .to_owned(),
                ));
            }
            [one, other, ..] => {
                return Err((key, format!("has both `{one}` and `{other}`; keep one")));
            }
        }
        const MOST: u64 = 4 << 30;
        if function.memory.is_some_and(|bytes| bytes > MOST) {
            return Err((
                format!("{key}.memory"),
                "a function has at most 4 GiB".to_owned(),
            ));
        }
        for (asset, source) in &function.assets {
            if let AssetSource::Model(artifact) = source {
                let key = format!("{key}.assets.{asset}");
                known(&self.models, &artifact.version.model, "model", &key)?;
            }
        }
        check_parameters(&function.parameters, &key)
    }

    fn check_view(&self, name: &str, view: &ViewConfig) -> Result<(), (String, String)> {
        let key = format!("views.{name}");
        typed_fields(&view.request, &format!("{key}.request"))?;
        for (index, lookup) in view.lookups.iter().enumerate() {
            known(
                &self.groups,
                &lookup.group,
                "group",
                &format!("{key}.lookups[{index}].group"),
            )?;
            if let Some(alias) = &lookup.alias {
                is_name(alias).map_err(|m| (format!("{key}.lookups[{index}].as"), m))?;
            }
        }
        for function in &view.functions {
            self.known_features(function, &format!("{key}.functions"))?;
        }
        if view.lookups.is_empty() && view.functions.is_empty() {
            return Err((key, "has neither lookups nor functions".to_owned()));
        }
        Ok(())
    }
}

fn check_source(source: &SourceConfig) -> Result<(), (&'static str, String)> {
    let url = source.path.as_ref().and_then(|path| path.to_str());
    if let Some(url) = url.filter(|url| url.contains("://") && !url.starts_with("s3://")) {
        let message = format!("`{url}` is neither a path nor of the form s3://BUCKET/FOLDER");
        return Err(("path", message));
    }
    let stream_only = |key| Err((key, "is for sources of type `stream`".to_owned()));
    match source.kind {
        SourceType::Table if source.group.is_none() => Err((
            "group",
            "is missing: name the group whose rows are read".to_owned(),
        )),
        SourceType::Table if source.path.is_some() => Err((
            "path",
            "is for sources of type `files` or `stream`".to_owned(),
        )),
        SourceType::Files | SourceType::Stream if source.group.is_some() => {
            Err(("group", "is for sources of type `table`".to_owned()))
        }
        SourceType::Files if source.path.is_none() => Err((
            "path",
            "is missing: name a file, a folder, or a pattern such as data/*.csv".to_owned(),
        )),
        SourceType::Stream => Ok(()),
        _ if source.id.is_some() => stream_only("id"),
        _ if source.remember.is_some() => stream_only("remember"),
        _ if source.archive.is_some() => stream_only("archive"),
        _ if source.lateness.is_some() => stream_only("lateness"),
        _ => Ok(()),
    }
}

/// Reads `{ name = "type" }`.
pub(crate) fn typed_fields(
    table: &toml::Table,
    key: &str,
) -> Result<Vec<(String, DataType)>, (String, String)> {
    table
        .iter()
        .map(|(name, value)| {
            let key = || format!("{key}.{name}");
            let text = value
                .as_str()
                .ok_or_else(|| (key(), "is the name of a type".to_owned()))?;
            let data_type = text
                .parse()
                .map_err(|e: wafer_core::ParseDataTypeError| (key(), e.to_string()))?;
            Ok((name.clone(), data_type))
        })
        .collect()
}

fn known<T>(
    things: &BTreeMap<String, T>,
    name: &str,
    what: &str,
    key: &str,
) -> Result<(), (String, String)> {
    if things.contains_key(name) {
        return Ok(());
    }
    let nearest = nearest(name, things.keys().map(String::as_str));
    let message = match nearest {
        Some(nearest) => format!("there is no {what} `{name}`; did you mean `{nearest}`?"),
        None => format!("there is no {what} `{name}`"),
    };
    Err((key.to_owned(), message))
}

/// Whether a text can be a name in a project; or why not.
pub(crate) fn is_name(name: &str) -> Result<(), String> {
    let ok = name.len() <= 48
        && name.starts_with(|c: char| c.is_ascii_lowercase())
        && name
            .chars()
            .all(|c| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '_');
    if ok {
        Ok(())
    } else {
        Err(format!(
            "`{name}` is not a name; use lowercase letters, digits and underscores, starting with a letter, at most 48"
        ))
    }
}

/// What messages say after an unknown name that is like a known one: `; is … meant?`.
pub(crate) fn meant<'a>(name: &str, known: impl Iterator<Item = &'a str>) -> String {
    nearest(name, known).map_or_else(String::new, |nearest| format!("; is `{nearest}` meant?"))
}

/// The known name that an unknown one is most like, if it is like one at all.
pub(crate) fn nearest<'a>(name: &str, known: impl Iterator<Item = &'a str>) -> Option<&'a str> {
    known
        .map(|candidate| (strsim::damerau_levenshtein(name, candidate), candidate))
        .filter(|(distance, candidate)| *distance <= 1 + candidate.len() / 3)
        .min()
        .map(|(_, candidate)| candidate)
}

fn parse_error(path: &Path, text: &str, error: &toml::de::Error) -> ProjectError {
    let start = error.span().map_or(0, |span| span.start).min(text.len());
    let before = &text[..start];
    let line = before.matches('\n').count() + 1;
    let column = before.rsplit('\n').next().map_or(0, |l| l.chars().count()) + 1;
    let message = with_suggestion(error.message());
    ProjectError::Parse {
        path: path.to_owned(),
        line,
        column,
        message,
    }
}

/// Turns serde's list of all known keys into the nearest one.
fn with_suggestion(message: &str) -> String {
    let mut quoted = message.split('`').skip(1).step_by(2);
    let is_field = message.starts_with("unknown field");
    if !is_field && !message.starts_with("unknown variant") {
        return message.to_owned();
    }
    let what = if is_field { "key" } else { "value" };
    let unknown = quoted.next().unwrap_or_default();
    let known: Vec<&str> = quoted.collect();
    match nearest(unknown, known.iter().copied()) {
        Some(nearest) => format!("unknown {what} `{unknown}`; did you mean `{nearest}`?"),
        None => format!("unknown {what} `{unknown}`; known are {}", known.join(", ")),
    }
}

fn one_or_more<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Vec<String>, D::Error> {
    #[derive(Deserialize)]
    #[serde(untagged)]
    enum OneOrMore {
        One(String),
        More(Vec<String>),
    }
    Ok(match OneOrMore::deserialize(deserializer)? {
        OneOrMore::One(text) => vec![text],
        OneOrMore::More(texts) => texts,
    })
}

fn duration<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<i64>, D::Error> {
    let text = String::deserialize(deserializer)?;
    parse_duration(&text)
        .map(Some)
        .map_err(serde::de::Error::custom)
}

fn size<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<u64>, D::Error> {
    let text = String::deserialize(deserializer)?;
    parse_bytes(&text)
        .map(Some)
        .map_err(serde::de::Error::custom)
}

#[cfg(test)]
mod tests;
