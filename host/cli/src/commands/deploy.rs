//! `wafer deploy`.

use std::path::{Path, PathBuf};
use std::process::ExitCode;

use anyhow::{Context as _, Result};
use serde::Serialize;
use wafer_config::{CloudStores, Project, variable};
use wafer_platform::{Plan, Platform, WHOLE};
use wafer_runtime::Target;

use super::{CommandContext, apply};
use crate::app;
use crate::output::{path_text, say, write_file};

/// Deploy the project, or what changed of it, to AWS.
///
/// Builds the functions, compiles them for the processors of Lambda, copies source
/// files of this machine to S3, makes the definitions live, and writes a file of
/// variables with the queues and schedules that Terraform is to make. New versions of
/// functions, pipelines and views are live without Terraform.
///
/// The target is given by `store.online` and `store.objects` of wafer.toml, or by
/// WAFER_STORE_ONLINE and WAFER_STORE_OBJECTS.
///
/// Examples:
///   wafer deploy --prepare        # only the file for Terraform; needs nothing on AWS
///   wafer deploy
///   wafer deploy --arch arm64
#[derive(Debug, clap::Args)]
#[command(verbatim_doc_comment)]
pub(crate) struct Deploy {
    /// Only write the variables for Terraform
    #[arg(long)]
    prepare: bool,

    /// Processors of the Lambda functions
    #[arg(long, value_enum, default_value = "x86_64", value_name = "ARCH")]
    arch: Arch,

    /// File for the variables; default: infra/terraform.tfvars.json of the project
    #[arg(long, value_name = "FILE")]
    tfvars: Option<PathBuf>,

    #[command(flatten)]
    build: apply::BuildFlag,

    #[command(flatten)]
    now: apply::NowFlag,
}

/// The kinds of processors that Lambda has.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, clap::ValueEnum)]
#[serde(rename_all = "lowercase")]
pub(crate) enum Arch {
    /// Intel and AMD.
    #[value(name = "x86_64")]
    #[serde(rename = "x86_64")]
    X86,
    /// Graviton.
    #[value(name = "arm64")]
    Arm64,
}

impl Arch {
    fn target(self) -> Target {
        match self {
            Self::X86 => Target::X86_64,
            Self::Arm64 => Target::Aarch64,
        }
    }

    /// Returns the name that Terraform and Lambda use.
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::X86 => "x86_64",
            Self::Arm64 => "arm64",
        }
    }
}

/// The variables of the Terraform modules in `infra/`.
#[derive(Debug, Serialize)]
struct Variables {
    #[serde(flatten)]
    infrastructure: serde_json::Value,
    region: String,
    table: String,
    bucket: String,
    folder: String,
    architecture: &'static str,
}

/// What a deployment did.
#[derive(Debug, Serialize)]
struct Report {
    /// Path of the file of variables.
    tfvars: PathBuf,
    /// Whether the file was written because its content changed, so that Terraform must run.
    tfvars_changed: bool,
    /// URLs of the source files that were copied.
    copied: Vec<String>,
    /// Names of the functions that were compiled for the processors of Lambda.
    compiled: Vec<String>,
    /// The changes of the definitions; `None` with `--prepare`.
    plan: Option<Plan>,
    /// The endpoints that log requests.
    logged: Vec<LoggedEndpoint>,
}

/// What it costs to log the requests of an endpoint.
#[derive(Debug, Serialize)]
struct LoggedEndpoint {
    /// Name of the endpoint.
    endpoint: String,
    /// The share of its requests that are logged, in percent.
    percent: f64,
    /// Dollars for a million requests at most: each logged request is written by itself.
    dollars_a_million: f64,
}

/// Dollars for a million commits of the request log, of which each is at least one request: one
/// object on S3, and a few items on DynamoDB. docs/aws.md adds it up.
const DOLLARS_A_MILLION_COMMITS: f64 = 8.0;

impl LoggedEndpoint {
    /// `log` is the share of requests that are logged, in hundredths of a percent.
    fn new(endpoint: String, log: u32) -> Self {
        let share = f64::from(log) / f64::from(WHOLE);
        Self {
            endpoint,
            percent: f64::from(log) / 100.0,
            dollars_a_million: share * DOLLARS_A_MILLION_COMMITS,
        }
    }

    fn text(&self) -> String {
        format!(
            "endpoint {} logs {} % of its requests, at {:.2} dollars a million requests or less \
             (`wafer endpoints set --log`)",
            self.endpoint, self.percent, self.dollars_a_million
        )
    }
}

impl Deploy {
    pub(crate) async fn run(self, context: &CommandContext) -> Result<ExitCode> {
        let project = context.project()?;
        let cloud = project.store.cloud.clone().context(
            "nothing says where to deploy to: set `store.online` and `store.objects`, or \
             WAFER_STORE_ONLINE=dynamodb://TABLE and WAFER_STORE_OBJECTS=s3://BUCKET/FOLDER",
        )?;
        let variables = self.variables(&project, &cloud)?;
        let tfvars = self.tfvars.clone();
        let tfvars = tfvars.unwrap_or_else(|| project.folder.join("infra/terraform.tfvars.json"));
        let mut report = Report {
            tfvars_changed: false,
            tfvars,
            copied: Vec::new(),
            compiled: Vec::new(),
            plan: None,
            logged: Vec::new(),
        };
        if !self.prepare {
            let platform = app::open_to_apply(&project).await?;
            self.deploy(&project, &cloud, &platform, &mut report)
                .await?;
        }
        // The file is written last: if something fails before, the next deployment still reports
        // that Terraform has something to do.
        report.tfvars_changed = write_changed(&report.tfvars, &variables)?;
        context.format.print(&report, || report.text());
        Ok(ExitCode::SUCCESS)
    }

    fn variables(&self, project: &Project, cloud: &CloudStores) -> Result<Variables> {
        let url_region = cloud
            .online
            .query_pairs()
            .find(|(name, _)| name == "region");
        let region = match url_region {
            Some((_, region)) => Some(region.into_owned()),
            None => match variable("AWS_REGION")? {
                Some(region) => Some(region),
                None => variable("AWS_DEFAULT_REGION")?,
            },
        };
        let region = region.filter(|region| !region.is_empty()).context(
            "there is no AWS region for the variables of Terraform: set AWS_REGION, or `?region=` \
             in `store.online`",
        )?;
        Ok(Variables {
            infrastructure: app::infrastructure(project, cloud)?,
            region,
            table: cloud.online.host_str().unwrap_or_default().to_owned(),
            bucket: cloud.objects.host_str().unwrap_or_default().to_owned(),
            folder: cloud.objects.path().trim_matches('/').to_owned(),
            architecture: self.arch.name(),
        })
    }

    /// Compiles, copies and applies, and notes in the report what was done.
    async fn deploy(
        &self,
        project: &Project,
        cloud: &CloudStores,
        platform: &Platform,
        report: &mut Report,
    ) -> Result<()> {
        let mut wanted = apply::definitions(project, platform, &self.build).await?;
        say("compiling for the processors of Lambda");
        report.compiled = platform.compile_for(&wanted, self.arch.target()).await?;
        say("copying source files to S3");
        let copied = platform
            .pipelines()
            .sources()
            .copy_sources(&mut wanted, &cloud.objects)
            .await?;
        report.copied = copied.into_iter().map(String::from).collect();
        // Code and files must be in place before the definitions that name them are live.
        let go_live = self.now.go_live();
        report.plan = Some(
            platform
                .apply(wanted, go_live, &apply::ApplyProgress)
                .await?,
        );
        let endpoints = platform.serving().endpoints().await?.into_iter();
        let logged = endpoints.filter(|(_, endpoint)| endpoint.routing.log > 0);
        let logged = logged.map(|(name, endpoint)| LoggedEndpoint::new(name, endpoint.routing.log));
        report.logged = logged.collect();
        Ok(())
    }
}

impl Report {
    fn text(&self) -> String {
        let mut lines = Vec::new();
        for name in &self.compiled {
            lines.push(format!("compiled {name}"));
        }
        for url in &self.copied {
            lines.push(format!("copied {url}"));
        }
        if let Some(plan) = &self.plan {
            lines.push(apply::plan_text(plan, "no definition changed"));
            if !plan.staged.is_empty() {
                lines.push(apply::staged_text(plan));
            }
        }
        lines.extend(self.logged.iter().map(LoggedEndpoint::text));
        lines.push(match self.tfvars_changed {
            true => format!(
                "wrote {}: run `terraform apply` with it",
                path_text(&self.tfvars)
            ),
            false => format!("{} is as it was", path_text(&self.tfvars)),
        });
        lines.join("\n")
    }
}

/// Writes a file if its content changes, and returns whether it did.
fn write_changed(path: &Path, variables: &Variables) -> Result<bool> {
    let mut text = serde_json::to_string_pretty(variables).expect("variables always serialise");
    text.push('\n');
    if std::fs::read_to_string(path).is_ok_and(|there| there == text) {
        return Ok(false);
    }
    if let Some(folder) = path.parent() {
        std::fs::create_dir_all(folder)
            .with_context(|| format!("cannot make the folder {}", folder.display()))?;
    }
    write_file(path, text.as_bytes())?;
    Ok(true)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn cost_of_logging_goes_by_the_share_that_is_logged() {
        for (log, wanted) in [
            (
                WHOLE,
                "logs 100 % of its requests, at 8.00 dollars a million",
            ),
            (
                1_000,
                "logs 10 % of its requests, at 0.80 dollars a million",
            ),
            (25, "logs 0.25 % of its requests, at 0.02 dollars a million"),
        ] {
            let text = LoggedEndpoint::new("late".to_owned(), log).text();
            let advice = "requests or less (`wafer endpoints set --log`)";
            assert_eq!(text, format!("endpoint late {wanted} {advice}"));
        }
    }
}
