//! What a deployment takes from this machine to where the project runs: files of
//! sources, code for the machines there, and what Terraform is to make.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use bytes::Bytes;
use serde::{Deserialize, Serialize};
use url::Url;
use wafer_core::Digest;
use wafer_runtime::{Registered, Target};
use wafer_store::{Expect, RemoteFiles};

use crate::definition::{Definitions, FunctionDef, Location, MadeBy};
use crate::error::{Error, Kind, Result};
use crate::platform::Platform;
use crate::project::{Project, SourceType};
use crate::resolve::schedule_def;
use crate::run::blocking;
use crate::schedule::Ticks;
use crate::source::{digest_file, find_files};

/// Object that holds the kinds of machines that the project was deployed to.
const TARGETS: &str = "compile_targets";

/// What Terraform is to make for a project, as variables of the modules in `infra/`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Infrastructure {
    /// Name of the project.
    pub project: String,
    /// Sources that events come in for: each gets a queue.
    pub streams: Vec<String>,
    /// For each pipeline with a schedule when it is looked at. All of them are looked at
    /// every few minutes as well: for what is repeated, and what these cannot say.
    pub schedules: BTreeMap<String, ScheduleExpressions>,
}

/// A schedule as EventBridge Scheduler takes it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct ScheduleExpressions {
    /// `cron(…)`, any of which is a time of the schedule.
    pub expressions: Vec<String>,
    /// IANA name of their time zone.
    pub timezone: String,
}

impl Infrastructure {
    /// What a project needs.
    ///
    /// # Errors
    /// [`Kind::Invalid`] for a schedule that is wrong.
    pub fn of(project: &Project) -> Result<Self> {
        let streams = project.sources.iter();
        let streams = streams.filter(|(_, source)| source.kind == SourceType::Stream);
        let mut schedules = BTreeMap::new();
        for (name, pipeline) in &project.pipelines {
            let Some(config) = &pipeline.schedule else {
                continue;
            };
            let schedule = schedule_def(config);
            let ticks = Ticks::new(&schedule).map_err(|message| {
                Error::invalid(format!("[pipelines.{name}] schedule: {message}"))
            })?;
            // What starts later is found by the regular look.
            let expressions = match schedule.start_after {
                0 => ticks.eventbridge(),
                _ => Vec::new(),
            };
            let schedule = ScheduleExpressions {
                expressions,
                timezone: schedule.timezone,
            };
            schedules.insert(name.clone(), schedule);
        }
        Ok(Self {
            project: project.name.clone(),
            streams: streams.map(|(name, _)| name.clone()).collect(),
            schedules,
        })
    }
}

impl Ticks {
    /// The points in time as expressions of EventBridge Scheduler: five fields with other
    /// numbers for weekdays, of which one of day and weekday is `?`. Empty when it has
    /// none for them (last days, nearest weekdays, both day and weekday).
    ///
    /// Format: <https://docs.aws.amazon.com/scheduler/latest/UserGuide/schedule-types.html>
    fn eventbridge(&self) -> Vec<String> {
        let pattern = &self.cron().pattern;
        if pattern.days.has_modifiers()
            || pattern.days_of_week.has_modifiers()
            || pattern.matches_dom_and_dow()
        {
            return Vec::new();
        }
        let minutes = field(pattern.minutes.values(), 60);
        let time = format!("{minutes} {}", field(pattern.hours.values(), 24));
        let days = field(pattern.days.values(), 31);
        let months = field(pattern.months.values(), 12);
        // Sunday is 0 or 7 here, and 1 there.
        let weekdays = pattern.days_of_week.values();
        let mut weekdays: Vec<u16> = weekdays.iter().map(|day| day % 7 + 1).collect();
        weekdays.sort_unstable();
        weekdays.dedup();
        let weekdays = field(weekdays, 7);
        let by_day = format!("cron({time} {days} {months} ? *)");
        let by_weekday = format!("cron({time} ? {months} {weekdays} *)");
        match (pattern.is_dom_wildcard(), pattern.is_dow_wildcard()) {
            (_, true) => vec![by_day],
            (true, false) => vec![by_weekday],
            // Either will do.
            (false, false) => vec![by_day, by_weekday],
        }
    }
}

/// The values of a field, of so many that there may be.
fn field(values: Vec<u16>, most: usize) -> String {
    if values.len() == most {
        return "*".to_owned();
    }
    let texts = values.iter().map(ToString::to_string);
    texts.collect::<Vec<_>>().join(",")
}

/// The files of a source that were copied, with the digests of their contents.
#[derive(Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
struct Copied(BTreeMap<String, Digest>);

impl Platform {
    /// Copies the files of sources that are on this machine to `sources/` of a folder on
    /// S3, as far as they are not there, and has the definitions read them there.
    /// Returns the URLs of what was copied.
    ///
    /// # Errors
    /// When a file cannot be read or written.
    pub async fn copy_sources(
        &self,
        definitions: &mut Definitions,
        objects: &Url,
    ) -> Result<Vec<Url>> {
        let mut copied = Vec::new();
        for (name, source) in &mut definitions.sources {
            let Some(Location::Here(path)) = &source.files else {
                continue;
            };
            let folder = format!("{}/sources/{name}/", objects.as_str().trim_end_matches('/'));
            let folder = Url::parse(&folder).map_err(|e| {
                Error::caused(Kind::Invalid, format!("`{folder}` is no folder on S3"), e)
            })?;
            copied.extend(self.copy_source(name, find_files(path)?, &folder).await?);
            source.files = Some(Location::Remote(folder.into()));
        }
        Ok(copied)
    }

    async fn copy_source(
        &self,
        source: &str,
        files: Vec<PathBuf>,
        folder: &Url,
    ) -> Result<Vec<Url>> {
        let (remote, metadata) = (self.remote()?, &self.components().metadata);
        let noted = format!("{}/copied/{source}", self.project());
        let before = metadata.get(&noted).await?;
        let mut before: Copied = before
            .and_then(|stored| serde_json::from_slice(&stored.value).ok())
            .unwrap_or_default();
        let (mut now, mut copied) = (Copied::default(), Vec::new());
        for file in files {
            let url = folder.join(&file_name(&file)?).map_err(|e| {
                let message = format!("{} has a name that is no part of a URL", file.display());
                Error::caused(Kind::Invalid, message, e)
            })?;
            let digest = digest_file(&file)?;
            if before.0.get(url.as_str()) != Some(&digest) {
                // Whatever becomes of this, it is not what was noted.
                if before.0.remove(url.as_str()).is_some() {
                    self.note_copied(&noted, &before).await?;
                }
                remote.put(&file, &url).await?;
                copied.push(url.clone());
            }
            now.0.insert(url.into(), digest);
        }
        for gone in before.0.keys().filter(|url| !now.0.contains_key(*url)) {
            if let Ok(url) = Url::parse(gone) {
                remote.remove(&url).await?;
            }
        }
        self.note_copied(&noted, &now).await?;
        Ok(copied)
    }

    async fn note_copied(&self, name: &str, copied: &Copied) -> Result<()> {
        let json = Bytes::from(serde_json::to_vec(copied).expect("it is plain data"));
        let metadata = &self.components().metadata;
        metadata.put(name, json, Expect::Anything).await?;
        Ok(())
    }

    fn remote(&self) -> Result<&Arc<dyn RemoteFiles>> {
        let remote = self.components().remote.as_ref();
        remote.ok_or_else(|| Error::invalid("this `wafer` was built without AWS"))
    }

    /// Compiles all functions for some kind of machine, as far as they are not: those of
    /// definitions, of releases that endpoints go to or went to, and of models that
    /// pipelines ask. Remembers that there are such machines, so that functions of later
    /// models and releases are compiled for them. Returns the names of those that were not.
    ///
    /// # Errors
    /// Those of the compiler and the artifact store.
    pub async fn compile_for(
        &self,
        definitions: &Definitions,
        target: Target,
    ) -> Result<Vec<String>> {
        self.change_object(TARGETS, |known: Option<BTreeSet<String>>| {
            let mut known = known.unwrap_or_default();
            known.insert(target.name().to_owned());
            Ok(known)
        })
        .await?;
        let mut compiled = self
            .compile_all(definitions.functions.iter(), target)
            .await?;
        for (release, is_routed) in self.routed_releases().await? {
            let bound = self.bound(&self.release(&release).await?).await?;
            match self.compile_all(bound.functions(), target).await {
                Ok(more) => compiled.extend(more),
                // Nobody is asked there now: it is only no longer one to go back to.
                Err(error) if !is_routed => {
                    tracing::warn!("release `{release}` was not compiled: {}", error.chain());
                }
                Err(error) => return Err(error),
            }
        }
        for pipeline in definitions.pipelines.values() {
            let MadeBy::Model(name) = &pipeline.made_by else {
                continue;
            };
            match self.model_version(name).await {
                Ok(version) => {
                    let bound = self.bound_version(version).await?;
                    compiled.extend(self.compile_all(bound.functions(), target).await?);
                }
                // It is compiled when it is registered.
                Err(e) if e.kind() == Kind::NotFound => {}
                Err(e) => return Err(e),
            }
        }
        Ok(compiled)
    }

    /// The releases that endpoints go to, or went to before; whether they go there now.
    async fn routed_releases(&self) -> Result<BTreeMap<String, bool>> {
        let mut releases = BTreeMap::new();
        for endpoint in self.endpoints().await?.into_values() {
            for (_, routing) in &endpoint.history {
                for release in routing.releases() {
                    releases.entry(release.clone()).or_insert(false);
                }
            }
            let now = endpoint.routing.releases();
            releases.extend(now.map(|release| (release.clone(), true)));
        }
        Ok(releases)
    }

    /// Compiles functions for all kinds of machines that the project was deployed to: there
    /// is no compiler.
    pub(crate) async fn compile_for_known(
        &self,
        functions: impl Iterator<Item = (&String, &FunctionDef)> + Clone,
    ) -> Result<()> {
        let known: Option<(BTreeSet<String>, u64)> = self.object(TARGETS).await?;
        let known = known.map(|(known, _)| known).unwrap_or_default();
        for target in known.iter().filter_map(|target| Target::parse(target)) {
            self.compile_all(functions.clone(), target).await?;
        }
        Ok(())
    }

    /// Compiles functions for some kind of machine; the names of those that were not.
    async fn compile_all(
        &self,
        functions: impl Iterator<Item = (&String, &FunctionDef)>,
        target: Target,
    ) -> Result<Vec<String>> {
        let mut compiled = Vec::new();
        for (name, function) in functions {
            let is_new = self.compile_one(name, &function.registered, target).await?;
            compiled.extend(is_new.then(|| name.clone()));
        }
        Ok(compiled)
    }

    /// Compiles a function for some kind of machine; says whether it was not.
    async fn compile_one(
        &self,
        name: &str,
        registered: &Registered,
        target: Target,
    ) -> Result<bool> {
        let (name, registered) = (name.to_owned(), registered.clone());
        let runtime = self.components().runtime.clone();
        let artifacts = Arc::clone(&self.components().artifacts);
        let work =
            blocking(move || runtime.compile_for(target, &name, &registered, artifacts.as_ref()));
        Ok(work.await??)
    }
}

fn file_name(path: &Path) -> Result<String> {
    let name = path.file_name().and_then(|name| name.to_str());
    let name = name.ok_or_else(|| {
        Error::invalid(format!(
            "the name of {} is not valid Unicode",
            path.display()
        ))
    })?;
    // A name is one segment of the URL, whatever is in it.
    let mut url = Url::parse("s3://x").expect("it is one");
    url.path_segments_mut().expect("it has a path").push(name);
    Ok(url.path().trim_start_matches('/').to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn expressions(cron: &str) -> Vec<String> {
        let text = format!(
            r#"
            project = {{ name = "p" }}
            entities = {{ e = {{ keys = {{ k = "utf8" }} }} }}
            sources = {{ s = {{ type = "files", path = "x.csv" }} }}
            functions = {{ f = {{ component = "f.wasm" }} }}
            groups = {{ g = {{ entity = "e", event_time = "t" }} }}
            [pipelines.p]
            source = "s"
            function = "f"
            group = "g"
            schedule = {{ cron = "{cron}", timezone = "America/New_York" }}
            "#
        );
        let project = Project::parse(
            Path::new("/p/wafer.toml"),
            &text,
            crate::Overrides::default(),
        );
        let infrastructure = Infrastructure::of(&project.unwrap()).unwrap();
        let schedule = &infrastructure.schedules["p"];
        assert_eq!(schedule.timezone, "America/New_York");
        schedule.expressions.clone()
    }

    #[test]
    fn cron_expressions_are_translated() {
        for (cron, wanted) in [
            ("0 6 * * *", &["cron(0 6 * * ? *)"][..]),
            ("*/15 * * * *", &["cron(0,15,30,45 * * * ? *)"]),
            ("5 0-6/3 1 */6 *", &["cron(5 0,3,6 1 1,7 ? *)"]),
            ("0 0 * * MON-FRI", &["cron(0 0 ? * 2,3,4,5,6 *)"]),
            ("0 0 * * 0", &["cron(0 0 ? * 1 *)"]),
            ("0 0 * * 7", &["cron(0 0 ? * 1 *)"]),
            ("0 0 * * 5-7", &["cron(0 0 ? * 1,6,7 *)"]),
            ("0 0 * * 0-6", &["cron(0 0 ? * * *)"]),
            (
                "30 4 1,15 * 5",
                &["cron(30 4 1,15 * ? *)", "cron(30 4 ? * 6 *)"],
            ),
            // Only by the regular look.
            ("0 0 L * *", &[]),
            ("0 0 * * FRI#2", &[]),
        ] {
            assert_eq!(expressions(cron), wanted, "{cron}");
        }
    }

    #[test]
    fn file_names_are_one_segment() {
        for (name, wanted) in [("a.csv", "a.csv"), ("a b?#.csv", "a%20b%3F%23.csv")] {
            assert_eq!(
                file_name(Path::new("/x").join(name).as_path()).unwrap(),
                wanted
            );
        }
    }
}
