//! `wafer deploy`.

use std::path::{Path, PathBuf};
use std::process::ExitCode;

use anyhow::{Context as _, Result};
use serde::Serialize;
use wafer_config::{CloudStores, Project};
use wafer_platform::{Plan, Platform};
use wafer_runtime::Target;

use super::{Context, apply};
use crate::app;
use crate::output::say;

/// Bring the project to AWS, or what changed of it.
///
/// Builds the functions, compiles them for the machines there, copies the files of
/// sources that are on this machine to S3, makes the definitions live, and writes
/// what Terraform is to make (queues, schedules) into a file of variables. New
/// versions of functions, pipelines and views are live without Terraform.
///
/// Where to: `store.online` and `store.objects` of wafer.toml, or WAFER_STORE_ONLINE
/// and WAFER_STORE_OBJECTS.
///
/// Examples:
///   wafer deploy --prepare        # only the file for Terraform; needs nothing on AWS
///   wafer deploy
///   wafer deploy --arch arm64
#[derive(Debug, clap::Args)]
#[command(verbatim_doc_comment)]
pub(crate) struct Deploy {
    /// Only write the file for Terraform
    #[arg(long)]
    prepare: bool,

    /// Processors of the functions there
    #[arg(long, value_enum, default_value = "x86_64", value_name = "ARCH")]
    arch: Arch,

    /// The file for Terraform; default: infra/terraform.tfvars.json of the project
    #[arg(long, value_name = "FILE")]
    tfvars: Option<PathBuf>,

    /// Take the components as they are, without building
    #[arg(long)]
    no_build: bool,

    /// Make new versions of groups live although they are empty yet
    #[arg(long)]
    now: bool,
}

/// Processors of Lambda.
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

    /// As Terraform and Lambda call it.
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::X86 => "x86_64",
            Self::Arm64 => "arm64",
        }
    }
}

/// The variables of the modules in `infra/`.
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

#[derive(Debug, Serialize)]
struct Report {
    tfvars: PathBuf,
    /// Whether Terraform has something to do.
    tfvars_changed: bool,
    /// URLs of files that were copied.
    copied: Vec<String>,
    /// Functions that were compiled for the machines there.
    compiled: Vec<String>,
    /// What changed; none with `--prepare`.
    plan: Option<Plan>,
}

impl Deploy {
    pub(crate) async fn run(self, context: &Context) -> Result<ExitCode> {
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
        };
        if !self.prepare {
            let platform = app::open(&project, None).await?;
            self.bring(&project, &cloud, &platform, &mut report).await?;
        }
        // Last, as it says whether Terraform has something to do only once.
        report.tfvars_changed = write_changed(&report.tfvars, &variables)?;
        context.format.print(&report, || report.text());
        Ok(ExitCode::SUCCESS)
    }

    fn variables(&self, project: &Project, cloud: &CloudStores) -> Result<Variables> {
        let of_url = cloud
            .online
            .query_pairs()
            .find(|(name, _)| name == "region");
        let region = of_url.map(|(_, region)| region.into_owned());
        let region = region.or_else(|| {
            let names = ["AWS_REGION", "AWS_DEFAULT_REGION"];
            names.iter().find_map(|name| std::env::var(name).ok())
        });
        let region = region.filter(|region| !region.is_empty()).context(
            "no AWS region: set AWS_REGION, or `?region=` in `store.online`, as the file for Terraform \
             names it",
        )?;
        Ok(Variables {
            infrastructure: app::infrastructure(project)?,
            region,
            table: cloud.online.host_str().unwrap_or_default().to_owned(),
            bucket: cloud.objects.host_str().unwrap_or_default().to_owned(),
            folder: cloud.objects.path().trim_matches('/').to_owned(),
            architecture: self.arch.name(),
        })
    }

    async fn bring(
        &self,
        project: &Project,
        cloud: &CloudStores,
        platform: &Platform,
        report: &mut Report,
    ) -> Result<()> {
        let mut wanted = apply::definitions(project, platform, self.no_build).await?;
        say("compiling for the machines there");
        report.compiled = platform.compile_for(&wanted, self.arch.target()).await?;
        say("copying files of sources");
        let copied = platform
            .pipelines()
            .copy_sources(&mut wanted, &cloud.objects)
            .await?;
        report.copied = copied.into_iter().map(String::from).collect();
        // Everything is there before anything names it.
        report.plan = Some(platform.apply(wanted, self.now).await?);
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
        lines.push(match self.tfvars_changed {
            true => format!(
                "wrote {}: run `terraform apply` with it",
                self.tfvars.display()
            ),
            false => format!("{} is as it was", self.tfvars.display()),
        });
        lines.join("\n")
    }
}

/// Writes a file if its content is another one; says whether it was.
fn write_changed(path: &Path, variables: &Variables) -> Result<bool> {
    let mut text = serde_json::to_string_pretty(variables).expect("it is plain data");
    text.push('\n');
    if std::fs::read_to_string(path).is_ok_and(|there| there == text) {
        return Ok(false);
    }
    if let Some(folder) = path.parent() {
        std::fs::create_dir_all(folder)
            .with_context(|| format!("cannot make {}", folder.display()))?;
    }
    std::fs::write(path, text).with_context(|| format!("cannot write {}", path.display()))?;
    Ok(true)
}
