//! Resolves `[models]`: the functions that predict and train, and the defaults of trainings.

use std::collections::BTreeMap;

use wafer_catalog::{ComponentDef, ModelDef, TrainingDef};
use wafer_store::{Error, Result};

use crate::error::BrokenRule;
use crate::models::ModelConfig;
use crate::project::Project;

/// Resolves a model.
pub(crate) fn model(
    project: &Project,
    components: &BTreeMap<String, ComponentDef>,
    name: &str,
    config: &ModelConfig,
) -> Result<ModelDef> {
    let component = |function: &String| {
        let message = || Error::invalid(format!("function `{function}` is not registered"));
        components.get(function).cloned().ok_or_else(message)
    };
    let invalid = |rule: BrokenRule| {
        let BrokenRule { key, message } = rule.below(&format!("models.{name}.training"));
        Error::invalid(format!("{key}: {message}"))
    };
    let split = config.training.split().map_err(invalid)?;
    let types = config.training.types().map_err(invalid)?;
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
            types,
            zone: config.training.zone,
            split,
        },
        owner: config.owner.clone(),
        tags: config.tags.clone(),
        doc: config.doc.clone(),
    })
}
