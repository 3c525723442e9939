//! `[functions]`: the project's functions, and what they are registered with.

use std::collections::BTreeMap;
use std::path::PathBuf;

use bytes::Bytes;
use serde::{Deserialize, Deserializer};
use wafer_catalog::{ArtifactName, FunctionRole, ProjectFunction, VersionNameError};
use wafer_core::Duration;
use wafer_runtime::{Asset, FunctionSpec, Limits};
use wafer_store::{Error, Kind, Result};

use crate::error::BrokenRule;
use crate::project::Project;
use crate::values::{duration, parameter_texts, size};

/// The table `[functions.NAME]`.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct FunctionConfig {
    /// The folder of a crate that `wafer build` compiles.
    #[serde(rename = "crate")]
    pub(crate) krate: Option<PathBuf>,
    /// The file of a prebuilt component.
    pub(crate) component: Option<PathBuf>,
    /// The name of a function that comes with Wafer.
    pub(crate) stock: Option<Stock>,
    /// The file or the folder of Python modules that the function is in, and after a colon its
    /// name.
    #[serde(default, deserialize_with = "python_source")]
    pub(crate) python: Option<ModuleSource>,
    /// What the Python modules import: a file of pinned packages, or a folder of packages.
    pub(crate) requirements: Option<PathBuf>,
    /// The file or the folder of JavaScript modules that the function is in, and after a colon the
    /// name by which it is exported.
    #[serde(default, deserialize_with = "javascript_source")]
    pub(crate) javascript: Option<ModuleSource>,
    /// The assets that the function is loaded with, by name: files, or artifacts of models.
    #[serde(default)]
    pub assets: BTreeMap<String, AssetSource>,
    /// The parameters of the function, by name: strings, numbers or booleans.
    #[serde(default)]
    pub(crate) parameters: BTreeMap<String, toml::Value>,
    #[serde(default, deserialize_with = "size")]
    pub(crate) memory: Option<u64>,
    #[serde(default, deserialize_with = "duration")]
    request_time: Option<Duration>,
    #[serde(default, deserialize_with = "duration")]
    batch_time: Option<Duration>,
    #[serde(default, deserialize_with = "duration")]
    init_time: Option<Duration>,
    #[serde(default, deserialize_with = "duration")]
    train_time: Option<Duration>,
    #[serde(default, deserialize_with = "size")]
    output: Option<u64>,
    #[serde(default, deserialize_with = "size")]
    pub(crate) stack: Option<u64>,
    /// Whether every NaN inside the function has the same bits. This makes the function slower.
    #[serde(default)]
    pub strict_nan: bool,
}

/// Where an asset of a function comes from.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(try_from = "String")]
pub enum AssetSource {
    /// A file, with its path relative to the project's folder.
    File(PathBuf),
    /// An artifact of a version of a model: `model:NAME@VERSION/ARTIFACT`.
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

/// Modules with a function, as the keys `python` and `javascript` name them.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct ModuleSource {
    /// A file, or a folder of modules.
    pub(crate) path: PathBuf,
    /// The name of the function, if it is given.
    pub(crate) function: Option<String>,
}

/// Deserializes the source of a Python function, such as `features.py` or `features.py:rides`.
fn python_source<'de, D: Deserializer<'de>>(
    deserializer: D,
) -> Result<Option<ModuleSource>, D::Error> {
    module_source(deserializer, "Python", "py", &['_'])
}

/// Deserializes the source of a JavaScript function, such as `features.js` or `features.js:rides`.
fn javascript_source<'de, D: Deserializer<'de>>(
    deserializer: D,
) -> Result<Option<ModuleSource>, D::Error> {
    module_source(deserializer, "JavaScript", "js", &['_', '$'])
}

/// Deserializes a path, behind which there may be a colon and the name of a function: letters,
/// digits and some signs of the language, of which the first is no digit.
fn module_source<'de, D: Deserializer<'de>>(
    deserializer: D,
    language: &str,
    ending: &str,
    signs: &[char],
) -> Result<Option<ModuleSource>, D::Error> {
    let text = String::deserialize(deserializer)?;
    let (path, function) = match text.rsplit_once(':') {
        Some((path, function)) => (path, Some(function)),
        None => (&text[..], None),
    };
    let is_name = |name: &str| {
        name.starts_with(|c: char| c.is_alphabetic() || signs.contains(&c))
            && name
                .chars()
                .all(|c| c.is_alphanumeric() || signs.contains(&c))
    };
    if path.is_empty() || !function.is_none_or(is_name) {
        return Err(serde::de::Error::custom(format!(
            "`{text}` names no {language} function; write a file or a folder such as \
             features.{ending}, or one of its functions as features.{ending}:rides"
        )));
    }
    Ok(Some(ModuleSource {
        path: path.into(),
        function: function.map(str::to_owned),
    }))
}

/// Where the component of a function comes from.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum FunctionSource {
    /// The crate in this folder.
    Crate(PathBuf),
    /// This component file.
    Component(PathBuf),
    /// A crate that comes with Wafer.
    Stock(Stock),
    /// Python modules, which are loaded into the interpreter that comes with Wafer.
    Python {
        /// A file, or a folder of modules.
        path: PathBuf,
        /// The name of the function, if it is given.
        function: Option<String>,
        /// A file of pinned packages, or a folder of packages.
        requirements: Option<PathBuf>,
    },
    /// JavaScript modules, which are loaded into the interpreter that comes with Wafer.
    JavaScript {
        /// A file, or a folder of modules.
        path: PathBuf,
        /// The name by which the function is exported, if it is given.
        function: Option<String>,
    },
}

/// The functions that come with Wafer.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Stock {
    /// Predicts with a LightGBM model file in text format.
    Lightgbm,
    /// Predicts with an XGBoost model file in JSON or UBJSON.
    Xgboost,
    /// Predicts with an ONNX model.
    Onnx,
    /// Predicts with a linear or logistic model in JSON.
    Linear,
    /// Scales numbers and encodes categories by a fitted description in JSON.
    Preprocess,
    /// Trains gradient-boosted trees that `lightgbm` predicts with.
    TrainTrees,
    /// Fits the description that `preprocess` applies.
    FitPreprocess,
}

impl Stock {
    /// Returns the folder of the function's crate below `functions/stock` of Wafer's sources.
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

/// The default stack size of a function, in bytes. The stack is part of the function's memory, and
/// every page of it that is touched costs each fresh instance a page fault.
const DEFAULT_STACK: u64 = 64 << 10;

/// The default stack size of a trainer, in bytes. It can be larger, because a training has only
/// one instance.
const TRAINER_STACK: u64 = 1 << 20;

/// The default memory limit of a trainer, in bytes: all that a 32-bit address can reach.
const TRAINER_MEMORY: u64 = 4 << 30;

impl FunctionConfig {
    /// Returns the limits of the function: those of the file, and defaults for the others.
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

    /// Returns the stack size, in bytes, that the function's crate is built with.
    pub fn stack(&self, role: FunctionRole) -> u64 {
        self.stack.unwrap_or(match role {
            FunctionRole::Trainer => TRAINER_STACK,
            FunctionRole::Features | FunctionRole::Inference => DEFAULT_STACK,
        })
    }

    /// Returns the parameters as text: strings as they are, other values as TOML writes them.
    pub fn parameters(&self) -> BTreeMap<String, String> {
        parameter_texts(&self.parameters)
    }

    /// Returns the key that names the modules of a function in an interpreter, if it is one.
    pub(crate) fn modules_key(&self) -> Option<&'static str> {
        let keys = [
            ("python", self.python.is_some()),
            ("javascript", self.javascript.is_some()),
        ];
        let mut keys = keys.into_iter().filter(|(_, is_given)| *is_given);
        keys.next().map(|(key, _)| key)
    }

    /// Checks the keys that are for functions in interpreters, and those whose names such a
    /// function needs for itself: its code is an asset with the name of the key of its modules, and
    /// parameters whose names begin with it tell the interpreter what to call.
    ///
    /// # Errors
    /// Returns the key of this table that is wrong.
    pub(crate) fn check_modules(&self) -> Result<(), BrokenRule> {
        if self.requirements.is_some() && self.python.is_none() {
            let message = "is for functions in Python: it needs `python` beside it";
            return Err(BrokenRule::new("requirements", message));
        }
        let Some(modules) = self.modules_key() else {
            return Ok(());
        };
        if self.assets.contains_key(modules) {
            let message =
                format!("is the function's code, which `{modules}` names; give it another name");
            return Err(BrokenRule::new(format!("assets.{modules}"), message));
        }
        let taken = format!("{modules}_");
        let mut parameters = self.parameters.keys();
        match parameters.find(|name| name.starts_with(&taken)) {
            None => Ok(()),
            Some(name) => Err(BrokenRule::new(
                format!("parameters.{name}"),
                format!(
                    "is the interpreter's, as all that begin with `{taken}`; give it another name"
                ),
            )),
        }
    }
}

/// Combines a function of a project with the bytes of its component, and reads its assets.
///
/// # Errors
/// Returns [`Kind::NotFound`] when the file of an asset cannot be read. The message names the key
/// and the file.
pub fn project_function(
    project: &Project,
    name: &str,
    config: &FunctionConfig,
    component: Bytes,
) -> Result<ProjectFunction> {
    let mut fitted = BTreeMap::new();
    let mut files = Vec::new();
    for (asset, source) in &config.assets {
        match source {
            AssetSource::File(path) => files.push((asset, path)),
            AssetSource::Model(artifact) => {
                fitted.insert(asset.clone(), artifact.clone());
            }
        }
    }
    let assets = files.into_iter().map(|(asset, path)| {
        let path = project.folder.join(path);
        let read = Asset::file(&path).map_err(|e| {
            let path = path.display();
            let message = format!("functions.{name}.assets.{asset}: cannot read {path}");
            Error::caused(Kind::NotFound, message, e)
        })?;
        Ok((asset.clone(), read))
    });
    let role = project.role(name);
    let spec = FunctionSpec {
        name: name.to_owned(),
        component,
        assets: assets.collect::<Result<_>>()?,
        parameters: config.parameters(),
        limits: config.limits(role),
        strict_nan: config.strict_nan,
    };
    Ok(ProjectFunction { role, spec, fitted })
}
