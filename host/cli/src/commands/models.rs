//! `wafer models` and `wafer lineage`.

mod compare;

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::process::ExitCode;
use std::sync::Arc;

use anyhow::{Context as _, Result};
use clap::{Args, Subcommand};
use serde::Serialize;
use serde_json::json;
use wafer_core::{bytes_text, escaped};
use wafer_platform::{
    EvaluateRequest, ModelNote, ModelVersion, NewVersion, Origin, Platform, Progress, VersionName,
    temporary_folder,
};
use wafer_runtime::{Asset, MAX_ARTIFACT_BYTES};

use super::{CommandContext, LabelFiles, check_output};
use crate::app;
use crate::output::{Bar, facts, path_text, say, table, thousands, write_file};

/// Manage the versions of models, their aliases and their metrics.
///
/// A version is named by its number or an alias, as in late_arrival@3 and
/// late_arrival@champion. The name of the model alone means its newest version.
///
/// Examples:
///   wafer models
///   wafer models list late_arrival
///   wafer models push late_arrival --artifact model.txt --metric auc=0.78
///   wafer models alias late_arrival@3 champion
///   wafer models compare late_arrival@champion late_arrival
#[derive(Debug, Args)]
#[command(verbatim_doc_comment)]
pub(crate) struct Models {
    #[command(subcommand)]
    command: Option<Command>,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// List the models, or the versions of one
    List {
        /// The model
        model: Option<String>,
    },
    /// Show everything that is recorded of a version
    Show {
        /// The version
        version: VersionName,
    },
    Push(Push),
    /// Set an alias for a version
    ///
    /// Examples:
    ///   wafer models alias late_arrival@3 champion
    ///   wafer models alias late_arrival champion --remove
    #[command(verbatim_doc_comment)]
    Alias {
        /// The version; with --remove, the model
        version: VersionName,
        /// The alias, such as champion
        alias: String,
        /// Remove the alias
        #[arg(long)]
        remove: bool,
    },
    /// Set the description and tags of a version
    ///
    /// Examples:
    ///   wafer models note late_arrival@3 --doc "trained on the summer" --tag reviewed=yes
    #[command(verbatim_doc_comment)]
    Note {
        /// The version
        version: VersionName,
        #[command(flatten)]
        note: NoteArguments,
    },
    Evaluate(Evaluate),
    Compare(compare::Compare),
    /// Write an artifact of a version to a file
    ///
    /// Examples:
    ///   wafer models get late_arrival@champion --out model.txt
    #[command(verbatim_doc_comment)]
    Get {
        /// The version
        version: VersionName,
        /// Name of the artifact
        #[arg(long, default_value = "model", value_name = "NAME")]
        artifact: String,
        /// File to write
        #[arg(long, value_name = "FILE")]
        out: PathBuf,
    },
}

/// The arguments for the description and tags of a version.
#[derive(Debug, Default, Args)]
pub(crate) struct NoteArguments {
    /// Description of the version
    #[arg(long, value_name = "TEXT")]
    doc: Option<String>,

    /// A tag of the version; an empty value removes it
    #[arg(long = "tag", value_name = "NAME=VALUE", value_parser = named)]
    tags: Vec<(String, String)>,
}

impl NoteArguments {
    /// Returns the note of a new version.
    pub(crate) fn into_note(self) -> ModelNote {
        ModelNote {
            doc: self.doc.unwrap_or_default(),
            tags: self.tags.into_iter().collect(),
        }
    }
}

/// Register a model that was trained elsewhere, as its next version.
///
/// The function of the model is loaded with the artifacts and called, so that a file that
/// it cannot use is refused now. With --training-set, the version is evaluated on the part
/// `test`, as after `wafer train`; if it cannot be, the reason is said.
///
/// Examples:
///   wafer models push late_arrival --artifact model.txt --training-set 4f0c9a1b22d0
///   wafer models push late_arrival --artifact model=a.txt --artifact vocabulary=b.json
#[derive(Debug, Args)]
#[command(verbatim_doc_comment)]
struct Push {
    /// The model
    model: String,

    /// File of an artifact; without a name it is the asset `model` of the function
    #[arg(long = "artifact", value_name = "[NAME=]FILE", required = true)]
    artifacts: Vec<String>,

    /// Training set that the model was trained on
    #[arg(long, value_name = "ID")]
    training_set: Option<String>,

    /// A metric of the version
    #[arg(long = "metric", value_name = "NAME=NUMBER", value_parser = metric)]
    metrics: Vec<(String, f64)>,

    /// A parameter that the model was trained with
    #[arg(long = "parameter", value_name = "NAME=VALUE", value_parser = named)]
    parameters: Vec<(String, String)>,

    /// Memory that the join may use when the training set is made again
    #[arg(long, default_value = "1GiB", value_name = "SIZE", value_parser = super::size)]
    memory: u64,

    #[command(flatten)]
    note: NoteArguments,
}

/// Compute the metrics of a version on a part of a training set.
///
/// Rows that the version learned from are left out, because a model knows their labels: those of
/// the parts `train` and `validation` of its own training set, and the same rows of another one.
///
/// Examples:
///   wafer models evaluate late_arrival@3 --training-set 4f0c9a1b22d0 --part test
///   wafer models evaluate late_arrival@3 --training-set 4f0c9a1b22d0 --part train --with-training-rows
#[derive(Debug, Args)]
#[command(verbatim_doc_comment)]
struct Evaluate {
    /// The version
    version: VersionName,

    /// The training set
    #[arg(long, value_name = "ID")]
    training_set: String,

    /// Part of the training set; default: all of it
    #[arg(long, value_name = "NAME")]
    part: Option<String>,

    /// Count the rows that the version learned from as well
    #[arg(long)]
    with_training_rows: bool,

    /// Memory that the join may use when the training set is made again
    #[arg(long, default_value = "1GiB", value_name = "SIZE", value_parser = super::size)]
    memory: u64,
}

/// Show the lineage of a version, or the versions that came from something.
///
/// Examples:
///   wafer lineage model late_arrival@champion
///   wafer lineage group route_delays
#[derive(Debug, Args)]
#[command(verbatim_doc_comment)]
pub(crate) struct LineageOf {
    #[command(subcommand)]
    of: Thing,
}

#[derive(Debug, Subcommand)]
enum Thing {
    /// Show what a version of a model came from
    Model {
        /// The version
        version: VersionName,
    },
    /// List the versions that came from a feature group
    Group {
        /// The group
        name: String,
    },
    /// List the versions that came from a source
    Source {
        /// The source
        name: String,
    },
    /// List the versions that came from a function
    Function {
        /// The function
        name: String,
    },
    /// List the versions that read a view
    View {
        /// The view
        name: String,
    },
}

/// Parses an argument of the form `NAME=VALUE`.
pub(crate) fn named(text: &str) -> Result<(String, String), String> {
    let (name, value) = text
        .split_once('=')
        .ok_or_else(|| format!("`{text}` is not of the form NAME=VALUE"))?;
    Ok((name.to_owned(), value.to_owned()))
}

/// Parses an argument of the form `NAME=NUMBER`.
fn metric(text: &str) -> Result<(String, f64), String> {
    let (name, value) = named(text)?;
    let number = value.parse().ok().filter(|number: &f64| number.is_finite());
    let number = number.ok_or_else(|| format!("metric `{name}`: `{value}` is not a number"))?;
    Ok((name, number))
}

/// Formats metrics in one line. Those of versions that were registered from outside have any names.
pub(crate) fn metrics_text(metrics: &BTreeMap<String, f64>) -> String {
    let one = |(name, value): (&String, &f64)| {
        let name = escaped(name);
        match value.fract() == 0.0 && value.abs() < 1e15 {
            true => format!("{name}={value}"),
            false => format!("{name}={value:.4}"),
        }
    };
    metrics.iter().map(one).collect::<Vec<_>>().join("  ")
}

/// A version in the list of the versions of a model.
#[derive(Serialize)]
struct WithNote<'a> {
    #[serde(flatten)]
    version: &'a ModelVersion,
    #[serde(flatten)]
    note: &'a ModelNote,
}

/// A version with everything that is recorded of it.
#[derive(Serialize)]
struct Shown<'a> {
    #[serde(flatten)]
    version: &'a ModelVersion,
    #[serde(flatten)]
    note: &'a ModelNote,
    owner: String,
    aliases: Vec<String>,
}

impl Shown<'_> {
    fn text(&self) -> String {
        let version = self.version;
        let signature = &version.function.registered.signature;
        let mut lines = vec![
            (
                "version",
                format!("{}  registered {}", version.name(), version.created),
            ),
            ("aliases", self.aliases.join(" ")),
            ("owner", self.owner.clone()),
            ("view", format!("{} {}", version.view, version.view_version)),
            (
                "training set",
                version.training_set.clone().unwrap_or_default(),
            ),
            (
                "trainer",
                version
                    .trainer
                    .as_ref()
                    .map(|(name, digest)| format!("{name} {}", digest.short()))
                    .unwrap_or_default(),
            ),
            (
                "function",
                format!(
                    "{} {}",
                    version.function_name,
                    version.function.registered.digest.short()
                ),
            ),
            ("metrics", metrics_text(&version.metrics)),
            ("note", note_text(self.note)),
        ];
        let parameters = version.parameters.iter();
        let parameters: Vec<_> = parameters.map(|(n, v)| format!("{n}={v}")).collect();
        lines.push(("parameters", parameters.join("  ")));
        for (name, artifact) in &version.artifacts {
            let (bytes, digest) = (bytes_text(artifact.bytes), artifact.digest.short());
            lines.push(("artifact", format!("{name}  {bytes}  {digest}")));
        }
        let fields = |fields: &[wafer_core::Field]| {
            let texts = fields.iter().map(|f| format!("{} {}", f.name, f.data_type));
            texts.collect::<Vec<_>>().join(", ")
        };
        lines.push(("reads", fields(signature.inputs.fields())));
        lines.push(("predicts", fields(signature.outputs.fields())));
        facts(&lines)
    }
}

impl Models {
    pub(crate) async fn run(self, context: &CommandContext) -> Result<ExitCode> {
        let project = context.project()?;
        let platform = app::open(&project, None).await?;
        match self.command.unwrap_or(Command::List { model: None }) {
            Command::List { model: None } => list(context, &platform).await?,
            Command::List { model: Some(model) } => versions(context, &platform, &model).await?,
            Command::Show { version } => show(context, &platform, &version).await?,
            Command::Push(push) => push.run(context, &platform).await?,
            Command::Alias {
                version,
                alias,
                remove: true,
            } => {
                platform
                    .registry()
                    .remove_alias(&version.model, &alias)
                    .await?;
                let model = &version.model;
                let done = json!({ "model": model, "alias": alias, "version": null });
                let said = || format!("alias {alias} of {model} was removed");
                context.format.print(&done, said);
            }
            Command::Alias { version, alias, .. } => {
                let number = platform.registry().set_alias(&version, &alias).await?;
                let model = &version.model;
                let done = json!({ "model": model, "alias": alias, "version": number });
                let said = || format!("{model}@{alias} is {model}@{number}");
                context.format.print(&done, said);
            }
            Command::Note { version, note } => {
                let tags = note.tags.into_iter().collect();
                let note = platform
                    .registry()
                    .note(&version, note.doc.as_deref(), &tags)
                    .await?;
                context.format.print(&note, || note_text(&note));
            }
            Command::Evaluate(evaluate) => evaluate.run(context, &platform).await?,
            Command::Compare(compare) => compare.run(context, &platform).await?,
            Command::Get {
                version,
                artifact,
                out,
            } => {
                check_output(&project, &platform, &out, LabelFiles::Protected)?;
                let path = platform.registry().artifact(&version, &artifact).await?;
                let content = std::fs::File::open(&path)
                    .with_context(|| format!("cannot read {}", path.display()))?;
                write_file(&out, content)?;
                let done = json!({ "artifact": artifact, "out": out });
                context
                    .format
                    .print(&done, || format!("wrote {}", path_text(&out)));
            }
        }
        Ok(ExitCode::SUCCESS)
    }
}

async fn list(context: &CommandContext, platform: &Platform) -> Result<()> {
    let models = platform.registry().models().await?;
    context.format.print(&models, || {
        if models.is_empty() {
            return "no models; define one under [models.NAME] in wafer.toml".to_owned();
        }
        let rows: Vec<_> = models
            .iter()
            .map(|model| {
                let aliases = model.aliases.iter();
                let aliases: Vec<_> = aliases.map(|(alias, v)| format!("{alias}={v}")).collect();
                let latest = match model.latest {
                    0 => "none".to_owned(),
                    number => number.to_string(),
                };
                vec![
                    model.name.clone(),
                    latest,
                    aliases.join(" "),
                    model.owner.clone(),
                    model.doc.clone(),
                ]
            })
            .collect();
        table(
            &["model", "latest", "aliases", "owner", "description"],
            &rows,
        )
    });
    Ok(())
}

async fn versions(context: &CommandContext, platform: &Platform, model: &str) -> Result<()> {
    let versions = platform.registry().model_versions(model).await?;
    let all: Vec<WithNote<'_>> = versions
        .iter()
        .map(|(version, note)| WithNote { version, note })
        .collect();
    context.format.print(&all, || {
        if versions.is_empty() {
            return format!(
                "no version yet; make one with `wafer train {model}` or `wafer models push {model}`"
            );
        }
        let rows: Vec<_> = versions
            .iter()
            .map(|(version, note)| {
                vec![
                    version.version.to_string(),
                    version.created.to_string(),
                    version.training_set.clone().unwrap_or_default(),
                    metrics_text(&version.metrics),
                    note_text(note),
                ]
            })
            .collect();
        table(
            &["version", "registered", "training set", "metrics", "note"],
            &rows,
        )
    });
    Ok(())
}

fn note_text(note: &ModelNote) -> String {
    let tags = note
        .tags
        .iter()
        .map(|(name, value)| format!("{name}={value}"));
    let texts = std::iter::once(note.doc.clone()).chain(tags);
    let texts: Vec<String> = texts.filter(|text| !text.is_empty()).collect();
    texts.join("  ")
}

async fn show(context: &CommandContext, platform: &Platform, name: &VersionName) -> Result<()> {
    let version = platform.registry().model_version(name).await?;
    let all = platform.registry().model_versions(&version.model).await?;
    let note = all
        .into_iter()
        .find(|(other, _)| other.version == version.version)
        .map(|(_, note)| note)
        .unwrap_or_default();
    let models = platform.registry().models().await?;
    let model = models.into_iter().find(|m| m.name == version.model);
    let (owner, aliases) = model.map(|m| (m.owner, m.aliases)).unwrap_or_default();
    let aliases = aliases
        .into_iter()
        .filter(|(_, number)| *number == version.version);
    let shown = Shown {
        version: &version,
        note: &note,
        owner,
        aliases: aliases.map(|(alias, _)| alias).collect(),
    };
    context.format.print(&shown, || shown.text());
    Ok(())
}

/// Says on standard error why a new version was not evaluated, if it was not.
pub(crate) fn say_not_evaluated(reason: Option<&str>) {
    if let Some(reason) = reason {
        say(format!(
            "the version is registered without metrics of a test part: {reason}"
        ));
    }
}

impl Push {
    async fn run(self, context: &CommandContext, platform: &Platform) -> Result<()> {
        // The files are copied first, because another program may still be writing them.
        let folder = temporary_folder()?;
        let mut artifacts = BTreeMap::new();
        for (number, artifact) in self.artifacts.iter().enumerate() {
            let (name, path) = match artifact.split_once('=') {
                Some((name, path)) => (name, path),
                None => ("model", artifact.as_str()),
            };
            let unreadable = || format!("--artifact: cannot read {path}");
            let bytes = std::fs::metadata(path).with_context(unreadable)?.len();
            anyhow::ensure!(
                bytes <= MAX_ARTIFACT_BYTES,
                "--artifact: {path} has {}, but an artifact has at most {}",
                bytes_text(bytes),
                bytes_text(MAX_ARTIFACT_BYTES)
            );
            let copy = folder.path().join(number.to_string());
            let asset = Asset::copied(path.as_ref(), &copy).with_context(unreadable)?;
            anyhow::ensure!(
                artifacts.insert(name.to_owned(), asset).is_none(),
                "--artifact: `{name}` is given twice"
            );
        }
        let bar = Arc::new(Bar::new(&self.model));
        let progress = Arc::clone(&bar) as Arc<dyn Progress>;
        let new = NewVersion {
            model: self.model,
            artifacts,
            metrics: self.metrics.into_iter().collect(),
            parameters: self.parameters.into_iter().collect(),
            training_set: self.training_set,
            trainer: None,
            note: self.note.into_note(),
        };
        let version = platform
            .training()
            .register_version(new, self.memory, &progress)
            .await;
        bar.finish();
        let registered = version?;
        say_not_evaluated(registered.not_evaluated.as_deref());
        context.format.print(&registered, || {
            let version = &registered.version;
            let text = format!("{}: registered", version.name());
            match version.metrics.is_empty() {
                true => text,
                false => format!("{text}\n{}", metrics_text(&version.metrics)),
            }
        });
        Ok(())
    }
}

impl Evaluate {
    async fn run(self, context: &CommandContext, platform: &Platform) -> Result<()> {
        let bar = Arc::new(Bar::new(&self.version.to_string()));
        let progress = Arc::clone(&bar) as Arc<dyn Progress>;
        let request = EvaluateRequest {
            version: self.version,
            training_set: self.training_set,
            part: self.part,
            with_training_rows: self.with_training_rows,
            memory: self.memory,
        };
        let figures = platform.training().evaluate(&request, &progress).await;
        bar.finish();
        let figures = figures?;
        if let Some(left_out) = figures.get("left_out") {
            say(format!(
                "{} rows were left out because the version learned from them; --with-training-rows counts them",
                thousands(*left_out as u64)
            ));
        }
        context.format.print(&figures, || metrics_text(&figures));
        Ok(())
    }
}

impl LineageOf {
    pub(crate) async fn run(self, context: &CommandContext) -> Result<ExitCode> {
        let project = context.project()?;
        let platform = app::open_to_read(&project, None).await?;
        let origin = match self.of {
            Thing::Model { version } => {
                let version = platform.registry().model_version(&version).await?;
                context
                    .format
                    .print(&version.lineage, || origins_text(&version));
                return Ok(ExitCode::SUCCESS);
            }
            Thing::Group { name } => Origin::Group(name),
            Thing::Source { name } => Origin::Source(name),
            Thing::Function { name } => Origin::Function(name),
            Thing::View { name } => Origin::View(name),
        };
        let versions = platform.registry().models_from(&origin).await?;
        let names: Vec<String> = versions.iter().map(ModelVersion::name).collect();
        context.format.print(&names, || match names.is_empty() {
            true => "no versions of models".to_owned(),
            false => names.join("\n"),
        });
        Ok(ExitCode::SUCCESS)
    }
}

fn origins_text(version: &ModelVersion) -> String {
    let lineage = &version.lineage;
    let mut lines = vec![
        ("model", version.name()),
        ("view", format!("{} {}", version.view, version.view_version)),
        (
            "training set",
            version.training_set.clone().unwrap_or_default(),
        ),
    ];
    for (group, table) in &lineage.groups {
        lines.push(("group", format!("{group} ({table})")));
    }
    for source in &lineage.sources {
        lines.push(("source", source.clone()));
    }
    for model in &lineage.models {
        lines.push(("model", model.to_string()));
    }
    for (function, digest) in &lineage.functions {
        lines.push(("function", format!("{function} {}", digest.short())));
    }
    facts(&lines)
}
