//! `[functions]`.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use bytes::Bytes;
use serde::Deserialize;
use wafer_catalog::{ArtifactName, FunctionRole, ProjectFunction, VersionNameError};
use wafer_runtime::{Asset, FunctionSpec, Limits};
use wafer_store::{Error, Kind, Result};

use crate::project::Project;
use crate::values::{duration, size, texts};

/// `[functions.NAME]`
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct FunctionConfig {
    /// Folder of a crate that `wafer build` compiles.
    #[serde(rename = "crate")]
    pub(crate) krate: Option<PathBuf>,
    /// A component that was built otherwise.
    pub(crate) component: Option<PathBuf>,
    /// A function that comes with Wafer, by its name.
    pub(crate) stock: Option<Stock>,
    /// Files, or artifacts of models, given to the function when it is registered, by name.
    #[serde(default)]
    pub assets: BTreeMap<String, AssetSource>,
    /// Texts, numbers or booleans given to it, by name.
    #[serde(default)]
    pub(crate) parameters: BTreeMap<String, toml::Value>,
    #[serde(default, deserialize_with = "size")]
    pub(crate) memory: Option<u64>,
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

/// Reads components, assets and parameters of all functions of a project.
/// Components of crates are looked for in `built`, as `NAME.wasm`.
///
/// # Errors
/// When a file is missing: which one, and what makes it.
pub fn specs(project: &Project, built: &Path) -> Result<Vec<ProjectFunction>> {
    project
        .functions
        .iter()
        .map(|(name, config)| {
            let component = match project.function_source(config) {
                FunctionSource::Crate(_) | FunctionSource::Stock(_) => {
                    let path = built.join(format!("{name}.wasm"));
                    read(&path, || {
                        format!("function `{name}` is not built; run `wafer build`")
                    })?
                }
                FunctionSource::Component(path) => read(&path, || {
                    format!("functions.{name}.component: cannot read {}", path.display())
                })?,
            };
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
                name: name.clone(),
                component,
                assets: assets.collect::<Result<_>>()?,
                parameters: config.parameters(),
                limits: config.limits(role),
                strict_nan: config.strict_nan,
            };
            Ok(ProjectFunction { role, spec, fitted })
        })
        .collect()
}

fn read(path: &Path, message: impl FnOnce() -> String) -> Result<Bytes> {
    std::fs::read(path)
        .map(Bytes::from)
        .map_err(|e| Error::caused(Kind::NotFound, message(), e))
}
