//! `cargo xtask infra`: checks `infra/` with Terraform and checkov, without AWS, and tests the
//! script for the first hour on a real account.
//!
//! Terraform needs its AWS provider to validate, test and apply. A small program,
//! `infra/local/terraform/provider.py`, takes its place: it knows the schema of the real provider
//! and the limits of AWS's APIs, and answers every request without calling AWS. The outputs of
//! `apply` are kept, and the tests compare them with what the host does. The tables of costs in
//! `docs/` are compared with those that `infra/cost.py` makes of a plan.

use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use crate::{Result, python, root, spawn, target};

/// How long the stand-in for the provider may take to start.
const START: Duration = Duration::from_secs(60);

/// The outputs of Terraform that tests use: the policies of the functions, those of people, and
/// the definition of the state machine.
const OUTPUTS: [&str; 3] = ["policies", "access", "definition"];

/// The variables of the example in `infra/flights`, but for its sources of events.
const VARIABLES: [&str; 8] = [
    "project=flights",
    "region=us-east-1",
    "table=flights",
    "bucket=flights-bucket",
    "folder=project",
    "architecture=x86_64",
    "package=main.tf",
    "schedules={}",
];

/// The sources of events of the flights project.
const STREAMS: [&str; 1] = ["streams=[\"landed_flights\", \"weather_reports\"]"];

/// Sources of events of each kind that there is.
const EACH_KIND: [&str; 2] = [
    "streams=[\"entries\"]",
    "event_sources={\
       clicks={source=\"entries\",kind=\"kinesis\",arn=\"arn:aws:kinesis:us-east-1:123456789012:stream/clicks\"},\
       rows={source=\"entries\",kind=\"dynamodb\",arn=\"arn:aws:dynamodb:us-east-1:123456789012:table/t/stream/2024\"},\
       mine={source=\"entries\",kind=\"sqs\",arn=\"arn:aws:sqs:us-east-1:123456789012:mine\",\
         visibility_timeout=360,max_receive_count=5}}",
];

/// For regions of each kind how much of `infra/local/terraform/elsewhere` Lambda lacks there.
const REGIONS: [(&str, usize); 4] = [
    ("us-east-1", 0),
    ("eu-central-2", 1),
    ("us-gov-west-1", 4),
    ("cn-north-1", 4),
];

/// Returns the folder with a JSON file for each of [`OUTPUTS`], and `state.json` with everything
/// that was made. It exists only after `infra` has run.
pub(crate) fn outputs() -> PathBuf {
    target().join("terraform/outputs")
}

/// Runs all checks. If Terraform or npm is not installed, which no package registry can provide,
/// this prints that the checks are skipped.
pub(crate) fn infra() -> Result {
    smoke()?;
    let _ = std::fs::remove_dir_all(outputs());
    for tool in ["terraform", "npm"] {
        if Command::new(tool).arg("--version").output().is_err() {
            println!("skipped: infra/ is not checked, as `{tool}` is not installed");
            return Ok(());
        }
    }
    let provider = Provider::start()?;
    provider.terraform(&root().join("infra"), &["fmt", "-check", "-recursive"])?;
    provider.finds_what_aws_refuses(&root().join("infra/local/terraform/refused"))?;
    provider.finds_what_regions_lack(&root().join("infra/local/terraform/elsewhere"))?;
    let flights = &root().join("infra/flights");
    provider.terraform(flights, &["init", "-backend=false", "-input=false"])?;
    provider.terraform(flights, &["validate"])?;
    provider.terraform(flights, &["test"])?;
    check_costs(&provider.plan(flights)?)?;
    provider.apply(flights)?;
    let checkov = python("terraform/checkov", "infra/local/terraform/checkov.txt")?;
    let mut checks = Command::new(checkov.with_file_name("checkov"));
    // What is for tests is never made on AWS, and some of it is wrong on purpose.
    checks.args(["-d", "infra", "--skip-path", "infra/local"]);
    checks.args(["--skip-download", "--quiet", "--compact"]);
    spawn(&mut checks)
}

/// Tests `infra/cost.py`, and compares the tables in the documentation with those of a plan.
fn check_costs(plan: &Path) -> Result {
    let mut tests = Command::new("python3");
    tests
        .args(["-B", "-m", "unittest", "discover", "-s", "infra"])
        .args(["-p", "*_test.py"])
        .env("WAFER_PLAN", plan);
    spawn(&mut tests)
}

/// Tests the script for the first hour on a real account, with programs in the place of AWS's.
fn smoke() -> Result {
    if Command::new("jq").arg("--version").output().is_err() {
        println!("skipped: infra/flights/smoke.sh is not tested, as `jq` is not installed");
        return Ok(());
    }
    spawn(Command::new("python3").arg(root().join("infra/local/smoke.py")))
}

/// The stand-in for the AWS provider. Its process is killed when this is dropped.
struct Provider {
    child: Child,
    /// The value of `TF_REATTACH_PROVIDERS`, by which Terraform finds the process.
    reattach: String,
    folder: PathBuf,
}

impl Drop for Provider {
    fn drop(&mut self) {
        // An error only means that the process has ended already.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

impl Provider {
    /// Starts the process, and waits until Terraform can reach it.
    fn start() -> Result<Self> {
        let python = python("terraform/venv", "infra/local/terraform/requirements.txt")?;
        let folder = target().join("terraform");
        let schema = schema(&python, &folder)?;
        let out = folder.join("reattach.json");
        let _ = std::fs::remove_file(&out);
        let child = Command::new(&python)
            .arg(root().join("infra/local/terraform/provider.py"))
            .args([&schema, &out])
            .stdin(Stdio::null())
            .spawn()
            .map_err(|e| format!("{}: {e}", python.display()))?;
        let mut provider = Self {
            child,
            reattach: String::new(),
            folder,
        };
        let started = Instant::now();
        while provider.reattach.is_empty() {
            if started.elapsed() > START {
                return Err("the stand-in for the AWS provider does not start".to_owned());
            }
            std::thread::sleep(Duration::from_millis(50));
            provider.reattach = std::fs::read_to_string(&out).unwrap_or_default();
        }
        Ok(provider)
    }

    /// Returns a Terraform command for a folder.
    fn command(&self, folder: &Path, arguments: &[&str]) -> Command {
        let settings = self.folder.join("settings.tfrc");
        // A settings file of its own keeps the settings of this machine out of the checks.
        let _ = std::fs::write(&settings, "disable_checkpoint = true\n");
        let mut terraform = Command::new("terraform");
        terraform
            .arg(format!("-chdir={}", folder.display()))
            .args(arguments)
            .env("TF_REATTACH_PROVIDERS", &self.reattach)
            .env("TF_DATA_DIR", self.folder.join("data"))
            .env("TF_CLI_CONFIG_FILE", settings)
            .env("TF_IN_AUTOMATION", "1");
        terraform
    }

    /// Runs Terraform in a folder.
    fn terraform(&self, folder: &Path, arguments: &[&str]) -> Result {
        spawn(&mut self.command(folder, arguments))
    }

    /// Validates a configuration with mistakes, and checks that each line with `# refused` in it is
    /// refused, and no other.
    fn finds_what_aws_refuses(&self, folder: &Path) -> Result {
        let text = std::fs::read_to_string(folder.join("main.tf")).map_err(|e| e.to_string())?;
        let wanted = text.matches("# refused").count();
        self.terraform(folder, &["init", "-backend=false", "-input=false"])?;
        let output = self.command(folder, &["validate", "-json"]).output();
        let output = output.map_err(|e| format!("terraform validate: {e}"))?;
        let said = String::from_utf8_lossy(&output.stdout);
        if said.contains(&format!("\"error_count\": {wanted},")) {
            return Ok(());
        }
        let folder = folder.display();
        Err(format!(
            "{folder}: {wanted} lines are to be refused, and `terraform validate` says {said}"
        ))
    }

    /// Plans a configuration in each of [`REGIONS`], and checks that what is not there is refused,
    /// and nothing else.
    fn finds_what_regions_lack(&self, folder: &Path) -> Result {
        self.terraform(folder, &["init", "-backend=false", "-input=false"])?;
        let state = format!("-state={}", self.folder.join("nothing.tfstate").display());
        for (region, wanted) in REGIONS {
            let variable = format!("region={region}");
            let arguments = ["plan", "-json", "-input=false", &state, "-var", &variable];
            let output = self.command(folder, &arguments).output();
            let output = output.map_err(|e| format!("terraform plan: {e}"))?;
            let said = String::from_utf8_lossy(&output.stdout);
            let refused = said.matches("\"summary\":\"Not available in this region\"");
            if refused.count() != wanted || output.status.success() != (wanted == 0) {
                let folder = folder.display();
                return Err(format!(
                    "{folder}: {wanted} lines are to be refused in {region}, and `terraform plan` \
                     says {said}"
                ));
            }
        }
        Ok(())
    }

    /// Runs Terraform in a folder, and returns what it writes to its standard output.
    fn output(&self, folder: &Path, arguments: &[&str]) -> Result<Vec<u8>> {
        let output = self.command(folder, arguments).output();
        let output = output.map_err(|e| format!("terraform {}: {e}", arguments.join(" ")))?;
        match output.status.success() {
            true => Ok(output.stdout),
            false => Err(String::from_utf8_lossy(&output.stderr).into_owned()),
        }
    }

    /// Returns a Terraform command for a folder, with the variables of the example and those of
    /// its sources of events.
    fn with_variables(&self, folder: &Path, arguments: &[&str], sources: &[&str]) -> Command {
        let mut command = self.command(folder, arguments);
        for variable in VARIABLES.into_iter().chain(sources.iter().copied()) {
            command.args(["-var", variable]);
        }
        command.stdout(Stdio::null());
        command
    }

    /// Plans the flights project, and returns the file with the plan as JSON.
    fn plan(&self, folder: &Path) -> Result<PathBuf> {
        let plan = self.folder.join("flights.plan");
        let out = format!("-out={}", plan.display());
        let state = format!("-state={}", self.folder.join("nothing.tfstate").display());
        let arguments = ["plan", "-input=false", &out, &state];
        spawn(&mut self.with_variables(folder, &arguments, &STREAMS))?;
        let shown = self.output(folder, &["show", "-json", &plan.display().to_string()])?;
        let json = plan.with_extension("json");
        std::fs::write(&json, shown).map_err(|e| e.to_string())?;
        Ok(json)
    }

    /// Applies the configuration against the stand-in, and writes the outputs to files.
    fn apply(&self, folder: &Path) -> Result {
        let state = format!("-state={}", self.folder.join("state.tfstate").display());
        let _ = std::fs::remove_file(self.folder.join("state.tfstate"));
        let arguments = ["apply", "-auto-approve", "-input=false", &state];
        spawn(&mut self.with_variables(folder, &arguments, &EACH_KIND))?;
        std::fs::create_dir_all(outputs()).map_err(|e| e.to_string())?;
        for name in OUTPUTS {
            self.keep(folder, name, &["output", "-json", &state, name])?;
        }
        let path = self.folder.join("state.tfstate").display().to_string();
        self.keep(folder, "state", &["show", "-json", &path])
    }

    /// Runs Terraform, and keeps the JSON that it prints as a file for the tests.
    fn keep(&self, folder: &Path, name: &str, arguments: &[&str]) -> Result {
        let output = self.output(folder, arguments)?;
        let path = outputs().join(format!("{name}.json"));
        std::fs::write(path, output).map_err(|e| e.to_string())
    }
}

/// Returns the file with the schema of the provider. It is made again when the script that makes it
/// changes.
fn schema(python: &Path, folder: &Path) -> Result<PathBuf> {
    let script = root().join("infra/local/terraform/schema.py");
    let (schema, noted) = (folder.join("aws.json"), folder.join("schema.py"));
    let wanted = std::fs::read(&script).map_err(|e| e.to_string())?;
    if schema.is_file() && std::fs::read(&noted).is_ok_and(|there| there == wanted) {
        return Ok(schema);
    }
    spawn(Command::new(python).args([&script, &schema]))?;
    std::fs::write(noted, wanted).map_err(|e| e.to_string())?;
    Ok(schema)
}
