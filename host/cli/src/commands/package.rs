//! `wafer package`.

use std::path::PathBuf;
use std::process::ExitCode;

use anyhow::{Context as _, Result, ensure};
use serde::Serialize;
use wafer_build::package::{Package, package};

use super::CommandContext;
use super::deploy::Arch;
use crate::output::{path_text, say, thousands, write_file};

/// Build the program that runs on Lambda, as a zip file for Terraform.
///
/// The program is compiled in a checkout of Wafer, against the C library of Amazon Linux
/// 2023 and without the compiler of functions. The same file serves every project. The
/// tools that this needs (cargo-lambda with zig) are installed below the target folder.
///
/// Examples:
///   wafer package
///   wafer package --arch arm64 --out dist/arm64.zip
#[derive(Debug, clap::Args)]
#[command(verbatim_doc_comment)]
pub(crate) struct MakePackage {
    /// Processors of the Lambda functions
    #[arg(long, value_enum, default_value = "x86_64", value_name = "ARCH")]
    arch: Arch,

    /// The zip file; default: dist/wafer-ARCH.zip in the checkout
    #[arg(long, value_name = "FILE")]
    out: Option<PathBuf>,

    /// Checkout of Wafer; default: the one that contains this program or the current
    /// folder
    #[arg(long, value_name = "FOLDER")]
    source: Option<PathBuf>,
}

/// The package that was made.
#[derive(Debug, Serialize)]
struct Report {
    path: PathBuf,
    bytes: u64,
}

impl MakePackage {
    pub(crate) fn run(self, context: &CommandContext) -> Result<ExitCode> {
        let source = match self.source {
            Some(source) => source,
            None => checkout()
                .context("there is no checkout of Wafer here: name one with --source FOLDER")?,
        };
        ensure!(
            is_checkout(&source),
            "{} is not a checkout of Wafer: it has no host/lambda",
            source.display()
        );
        let out = self.out.unwrap_or_else(|| {
            let name = format!("wafer-{}.zip", self.arch.name());
            source.join("dist").join(name)
        });
        let packed = package(
            &Package {
                source,
                arm64: self.arch == Arch::Arm64,
            },
            &mut |what| say(what),
        )?;
        if let Some(folder) = out.parent() {
            std::fs::create_dir_all(folder)
                .with_context(|| format!("cannot make the folder {}", folder.display()))?;
        }
        let content = std::fs::File::open(&packed)
            .with_context(|| format!("cannot read {}", packed.display()))?;
        let bytes = write_file(&out, content)?;
        let report = Report { path: out, bytes };
        context.format.print(&report, || {
            format!(
                "{} ({} bytes)",
                path_text(&report.path),
                thousands(report.bytes)
            )
        });
        Ok(ExitCode::SUCCESS)
    }
}

/// Finds the checkout that contains this program or the current folder.
#[allow(
    clippy::disallowed_methods,
    reason = "where this program is run says what it is to pack"
)]
fn checkout() -> Option<PathBuf> {
    let places = [std::env::current_exe(), std::env::current_dir()];
    places.into_iter().flatten().find_map(|place| {
        let above = place.ancestors().find(|folder| is_checkout(folder));
        above.map(ToOwned::to_owned)
    })
}

fn is_checkout(folder: &std::path::Path) -> bool {
    folder.join("host/lambda/Cargo.toml").is_file()
}
