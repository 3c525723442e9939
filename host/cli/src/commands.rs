//! The arguments of the program, and the dispatch to the commands.
//!
//! Each command has a file of its own: a struct with the arguments, whose doc comments are the help
//! texts, and a method `run` that opens the project, calls the platform and prints the result.

mod apply;
mod backfill;
mod check;
mod definitions;
mod deploy;
mod doctor;
mod drop;
mod endpoints;
mod functions;
mod get;
mod models;
mod new;
mod package;
mod push;
mod redrive;
mod release;
mod replay;
mod run;
mod runs;
mod schedules;
mod serve;
mod show;
mod skew;
mod train;
mod training_set;
mod upkeep;

use std::path::{Path, PathBuf};
use std::process::ExitCode;

use anyhow::Result;
use clap::{Parser, Subcommand};
use tokio::signal::unix::{SignalKind, signal};
use wafer_config::{AssetSource, FunctionSource, Project, source_def};
use wafer_core::Timestamp;
use wafer_core::rules::Interval;
use wafer_platform::{Platform, ProtectedFiles, SourceDef};

use crate::output::OutputFormat;
use crate::partitions::RunPartitions;
use crate::{app, build, output};

/// Feature functions as WebAssembly components: the same bytes as batch jobs, on
/// events and inside requests.
#[derive(Debug, Parser)]
#[command(name = "wafer", version, max_term_width = 100)]
pub(crate) struct Arguments {
    /// Folder of the project, with its wafer.toml
    #[arg(
        long,
        short = 'C',
        global = true,
        default_value = ".",
        value_name = "FOLDER"
    )]
    project: PathBuf,

    /// Format of the results
    #[arg(long, global = true, default_value = "text", value_name = "FORMAT")]
    output: OutputFormat,

    /// Log more: what Wafer does, and the messages of functions
    #[arg(long, short, global = true)]
    pub(crate) verbose: bool,

    #[command(subcommand)]
    pub(crate) command: Command,
}

/// The commands. The struct with the arguments of each has its help text.
#[derive(Debug, Subcommand)]
pub(crate) enum Command {
    New(new::New),
    /// Compile the project's functions to components, and download the packages of Python functions
    Build,
    Check(check::Check),
    Plan(apply::PlanCommand),
    Apply(apply::Apply),
    Deploy(deploy::Deploy),
    Package(package::MakePackage),
    Run(run::Run),
    Backfill(backfill::Backfill),
    TrainingSet(training_set::MakeTrainingSet),
    TrainingSets(training_set::TrainingSets),
    Train(train::Train),
    Models(models::Models),
    Lineage(models::LineageOf),
    Release(release::Releases),
    Endpoints(endpoints::Endpoints),
    Skew(skew::Skew),
    Push(push::Push),
    Redrive(redrive::Redrive),
    Get(get::Get),
    Show(show::Show),
    Serve(serve::Serve),
    Replay(replay::Replay),
    Runs(runs::Runs),
    Schedules(schedules::Schedules),
    Sources(definitions::Sources),
    Groups(definitions::Groups),
    Views(definitions::Views),
    Tables(upkeep::Tables),
    Export(upkeep::Export),
    Compact(upkeep::Compact),
    Heal(upkeep::Heal),
    Delete(upkeep::Delete),
    Drop(drop::Drop),
    Materialize(upkeep::Materialize),
    Functions(functions::Functions),
    Doctor(doctor::Doctor),
    #[command(hide = true)]
    RunPartitions(RunPartitions),
    /// Compile a component, as a child process of the sandbox
    #[command(hide = true)]
    CompileComponent {
        /// The kind of engine that the component is for
        mode: String,
        /// The kind of processor that the component is for
        target: String,
        /// A file with the code of single functions, which need not exist
        function_code: Option<PathBuf>,
    },
    /// Decode Arrow and Parquet files, as a child process
    #[command(hide = true)]
    DecodeFiles,
}

/// The arguments that all commands share.
pub(crate) struct CommandContext {
    /// Folder of the project.
    pub(crate) folder: PathBuf,
    /// Format of the results.
    pub(crate) format: OutputFormat,
}

impl CommandContext {
    /// Reads the project file, `wafer.toml`.
    ///
    /// # Errors
    /// Returns an error when the file cannot be read or is not valid.
    pub(crate) fn project(&self) -> Result<Project> {
        Ok(Project::read(&self.folder, app::remote_files().as_ref())?)
    }
}

/// The end of the help of the commands that take a time.
const TIMES: &str = "TIME is RFC 3339 with an offset, such as 2013-01-01T05:00:00Z, or a date, \
                     which means its midnight in UTC.";

/// Parses a number of bytes, such as `1GiB`.
fn size(text: &str) -> Result<u64, String> {
    wafer_core::parse_bytes(text).map_err(|e| e.to_string())
}

/// Returns the interval of the options `--from` and `--to`, of which one that is left out does not
/// limit it.
///
/// # Errors
/// Returns an error when it would have no times.
fn interval(from: Option<Timestamp>, to: Option<Timestamp>) -> Result<Interval> {
    let interval = Interval {
        from: from.unwrap_or(Timestamp::MIN),
        to: to.unwrap_or(Timestamp::MAX),
    };
    anyhow::ensure!(interval.from < interval.to, "--from is not before --to");
    Ok(interval)
}

/// Whether a command may write over the files of the labels of models.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum LabelFiles {
    /// The command makes labels.
    Writable,
    /// The labels stay.
    Protected,
}

/// Checks that a file to write is not one that the project reads or keeps its data in.
///
/// # Errors
/// Returns an error that says what the file is if it is one of these.
fn check_output(
    project: &Project,
    platform: &Platform,
    out: &Path,
    labels: LabelFiles,
) -> Result<()> {
    let store = &project.store;
    let protected = ProtectedFiles {
        // With stores elsewhere, the folder holds nothing but copies.
        store: store.cloud.is_none().then(|| store.path.clone()),
        files: project_files(project, labels),
        sources: read_sources(project, platform),
    };
    Ok(protected.check(out)?)
}

/// Returns the sources of the project file, and those that runs read until it is applied, each with
/// what it is called.
fn read_sources(project: &Project, platform: &Platform) -> Vec<(String, SourceDef)> {
    let names = project.sources.keys();
    let written = names.map(|name| (format!("source `{name}`"), source_def(project, name)));
    let mut sources: Vec<(String, SourceDef)> = written.collect();
    let applied = platform.context().applied();
    let applied = [Some(&applied.live), applied.staged.as_ref()];
    for (name, source) in applied.into_iter().flatten().flat_map(|all| &all.sources) {
        let is_there = sources.iter().any(|(_, known)| known == source);
        if !is_there {
            sources.push((format!("the applied source `{name}`"), source.clone()));
        }
    }
    sources
}

/// Returns the files that a project names beside those of its sources, and what each is.
fn project_files(project: &Project, labels: LabelFiles) -> Vec<(PathBuf, String)> {
    let mut files = vec![(
        project.folder.join("wafer.toml"),
        "the project file".to_owned(),
    )];
    for (name, function) in &project.functions {
        match project.function_source(function) {
            FunctionSource::Component(file) => {
                files.push((file, format!("the component of function `{name}`")));
            }
            FunctionSource::Python {
                path, requirements, ..
            } => {
                files.push((path, format!("the code of function `{name}`")));
                let what = format!("the requirements of function `{name}`");
                files.extend(requirements.map(|file| (file, what)));
            }
            FunctionSource::JavaScript { path, .. } => {
                files.push((path, format!("the code of function `{name}`")));
            }
            FunctionSource::Crate(_) | FunctionSource::Stock(_) => {}
        }
        for (asset, source) in &function.assets {
            if let AssetSource::File(file) = source {
                let what = format!("the asset `{asset}` of function `{name}`");
                files.push((project.folder.join(file), what));
            }
        }
    }
    for (name, model) in &project.models {
        if let Some(file) = model.training.labels.as_ref()
            && labels == LabelFiles::Protected
        {
            let what = format!("the file of the labels of model `{name}`");
            files.push((project.folder.join(file), what));
        }
    }
    files
}

/// Does work until it is done, or until somebody interrupts or ends this process. The work is then
/// dropped where it waits, so that it removes what it has not completed. `left` says what is left
/// of it.
///
/// # Errors
/// Returns the error of the work, or that it was interrupted.
async fn until_interrupted<T>(left: &str, work: impl Future<Output = Result<T>>) -> Result<T> {
    let mut interrupted = signal(SignalKind::interrupt())?;
    let mut ended = signal(SignalKind::terminate())?;
    tokio::select! {
        done = work => done,
        _ = interrupted.recv() => anyhow::bail!("interrupted; {left}"),
        _ = ended.recv() => anyhow::bail!("ended; {left}"),
    }
}

/// What is left of an output file when its command is interrupted.
const NOTHING: &str = "nothing was written";

/// Runs the command of the arguments, and returns the exit code of the program.
pub(crate) async fn run(arguments: Arguments) -> Result<ExitCode> {
    let context = CommandContext {
        folder: arguments.project,
        format: arguments.output,
    };
    match arguments.command {
        Command::New(command) => command.run(&context),
        Command::Build => {
            let built = build::build_project(&context.project()?)?;
            context.format.print(&built, || built_text(&built));
            Ok(ExitCode::SUCCESS)
        }
        Command::Check(command) => command.run(&context).await,
        Command::Plan(command) => command.run(&context).await,
        Command::Apply(command) => command.run(&context).await,
        Command::Deploy(command) => command.run(&context).await,
        Command::Package(command) => command.run(&context),
        Command::Run(command) => command.run(&context).await,
        Command::Backfill(command) => command.run(&context).await,
        Command::TrainingSet(command) => command.run(&context).await,
        Command::TrainingSets(command) => command.run(&context).await,
        Command::Train(command) => command.run(&context).await,
        Command::Models(command) => command.run(&context).await,
        Command::Lineage(command) => command.run(&context).await,
        Command::Release(command) => command.run(&context).await,
        Command::Endpoints(command) => command.run(&context).await,
        Command::Skew(command) => command.run(&context).await,
        Command::Schedules(command) => command.run(&context).await,
        Command::Tables(command) => command.run(&context).await,
        Command::Show(command) => command.run(&context).await,
        Command::Sources(command) => command.run(&context).await,
        Command::Groups(command) => command.run(&context).await,
        Command::Views(command) => command.run(&context).await,
        Command::Drop(command) => command.run(&context).await,
        Command::Export(command) => command.run(&context).await,
        Command::Compact(command) => command.run(&context).await,
        Command::Heal(command) => command.run(&context).await,
        Command::Delete(command) => command.run(&context).await,
        Command::Materialize(command) => command.run(&context).await,
        Command::Push(command) => command.run(&context).await,
        Command::Redrive(command) => command.run(&context).await,
        Command::Get(command) => command.run(&context).await,
        Command::Serve(command) => command.run(&context).await,
        Command::Replay(command) => command.run(&context),
        Command::Runs(command) => command.run(&context).await,
        Command::Functions(command) => command.run(&context).await,
        Command::Doctor(command) => command.run(&context).await,
        Command::RunPartitions(command) => {
            // The run may have another clock than this process, whose own is not to be checked.
            let platform = app::open_at_any_time(&context.project()?, None).await?;
            command.run(&platform)?;
            Ok(ExitCode::SUCCESS)
        }
        Command::CompileComponent { .. } | Command::DecodeFiles => {
            unreachable!("`main` runs these commands itself")
        }
    }
}

fn built_text(built: &[build::Built]) -> String {
    let rows: Vec<_> = built
        .iter()
        .map(|b| {
            vec![
                b.function.clone(),
                output::thousands(b.bytes as u64),
                b.path.display().to_string(),
            ]
        })
        .collect();
    output::table(&["function", "bytes", "component"], &rows)
}

#[cfg(test)]
mod tests {
    use clap::CommandFactory as _;
    use wafer_platform::Format as FileFormat;

    use super::*;

    #[test]
    fn help_of_training_sets_names_all_formats_of_files() {
        let arguments = Arguments::command();
        let command = arguments.find_subcommand("training-set").unwrap();
        let help = command.clone().render_long_help().to_string();
        for format in FileFormat::ALL {
            let extension = format.extension();
            assert!(
                help.contains(&format!(".{extension}")),
                "{extension}: {help}"
            );
        }
    }

    #[test]
    fn every_command_that_takes_a_time_says_in_which_time_zone_it_is_read() {
        let is_time = |argument: &clap::Arg| {
            let names = argument.get_value_names().unwrap_or_default();
            names.iter().any(|name| name.as_str() == "TIME")
        };
        let (mut left, mut found) = (vec![Arguments::command()], Vec::new());
        while let Some(command) = left.pop() {
            left.extend(command.get_subcommands().cloned());
            if command.get_arguments().any(is_time) {
                let help = command.get_after_help().map(ToString::to_string);
                assert_eq!(help.as_deref(), Some(TIMES), "{}", command.get_name());
                found.push(command.get_name().to_owned());
            }
        }
        found.sort();
        let wanted = [
            "backfill",
            "export",
            "replay",
            "run",
            "skew",
            "training-set",
        ];
        assert_eq!(found, wanted);
    }
}
