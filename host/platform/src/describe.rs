//! The live sources, feature groups and feature views, each with what it is made of and what uses
//! it.

use serde::Serialize;
use wafer_catalog::{
    Definitions, Format, GroupDef, Location, PipelineDef, Recipe, SourceDef, ViewDef, get,
};
use wafer_core::Field;
use wafer_store::Result;

use crate::Platform;

/// A source, and what is made of its rows.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct SourceSummary {
    /// The name of the source.
    pub name: String,
    /// How the rows arrive: `files`, `delta`, `stream` or `table`.
    #[serde(rename = "type")]
    pub kind: &'static str,
    /// The file, folder, pattern or URL that batch runs read, or the folder of the Delta table.
    pub path: Option<String>,
    /// The format of the files, if it is declared.
    pub format: Option<Format>,
    /// The group whose rows are read.
    pub group: Option<String>,
    /// The pipelines that read the source.
    pub pipelines: Vec<String>,
    /// The groups that these pipelines fill.
    pub groups: Vec<String>,
    /// The description of the source.
    pub doc: String,
}

/// A feature group, with what fills it and what reads it.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct GroupSummary {
    /// The name of the group.
    pub name: String,
    /// The number of the live version.
    pub version: u32,
    /// The number of the version that is being filled, if there is one.
    pub staged: Option<u32>,
    /// The offline table of the live version.
    pub table: String,
    /// The entity that the features describe.
    pub entity: String,
    /// The join keys.
    pub keys: Vec<Field>,
    /// The features that views can look up.
    pub features: Vec<Field>,
    /// The output of the function that is the event time.
    pub event_time: String,
    /// How long a row is good for; absent if forever.
    pub ttl: Option<String>,
    /// The pipeline that fills the group.
    pub pipeline: Option<String>,
    /// The source of the pipeline.
    pub source: Option<String>,
    /// The function, the model or the columns of the pipeline.
    pub made_by: Option<String>,
    /// The views that look the group up.
    pub views: Vec<String>,
    /// The description of the group.
    pub doc: String,
}

/// A feature view, with what it reads and what reads it.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct ViewSummary {
    /// The name of the view.
    pub name: String,
    /// The join keys and request fields of a row.
    pub inputs: Vec<Field>,
    /// The features, in the order in which they are answered.
    pub features: Vec<Field>,
    /// The groups that are looked up, in the order of the view.
    pub groups: Vec<String>,
    /// The on-demand functions, in the order in which they are called.
    pub functions: Vec<String>,
    /// The models that read the view.
    pub models: Vec<String>,
    /// The description of the view.
    pub doc: String,
}

impl Platform {
    /// Returns the live sources, in the order of their names.
    pub fn sources(&self) -> Vec<SourceSummary> {
        let definitions = self.context.definitions();
        let sources = definitions.sources.iter();
        sources
            .map(|(name, source)| source_summary(&definitions, name, source))
            .collect()
    }

    /// Returns a live source.
    ///
    /// # Errors
    /// Returns [`Kind::NotFound`](wafer_store::Kind::NotFound) when there is none of that name.
    pub fn source(&self, name: &str) -> Result<SourceSummary> {
        let definitions = self.context.definitions();
        let source = get(&definitions.sources, name, "source")?;
        Ok(source_summary(&definitions, name, source))
    }

    /// Returns the live feature groups, in the order of their names.
    pub fn groups(&self) -> Vec<GroupSummary> {
        let definitions = self.context.definitions();
        let groups = definitions.groups.values();
        groups
            .map(|group| self.group_summary(&definitions, group))
            .collect()
    }

    /// Returns a live feature group.
    ///
    /// # Errors
    /// Returns [`Kind::NotFound`](wafer_store::Kind::NotFound) when there is none of that name.
    pub fn group(&self, name: &str) -> Result<GroupSummary> {
        let definitions = self.context.definitions();
        let group = get(&definitions.groups, name, "feature group")?;
        Ok(self.group_summary(&definitions, group))
    }

    /// Returns the live feature views, in the order of their names.
    ///
    /// # Errors
    /// Returns an error when a view cannot be resolved, which applying has excluded.
    pub fn views(&self) -> Result<Vec<ViewSummary>> {
        let definitions = self.context.definitions();
        let views = definitions.views.iter();
        views
            .map(|(name, view)| view_summary(&definitions, name, view))
            .collect()
    }

    /// Returns a live feature view.
    ///
    /// # Errors
    /// Returns [`Kind::NotFound`](wafer_store::Kind::NotFound) when there is none of that name.
    pub fn view(&self, name: &str) -> Result<ViewSummary> {
        let definitions = self.context.definitions();
        let view = get(&definitions.views, name, "feature view")?;
        view_summary(&definitions, name, view)
    }

    fn group_summary(&self, definitions: &Definitions, group: &GroupDef) -> GroupSummary {
        let mut pipelines = definitions.pipelines.iter();
        let pipeline = pipelines.find(|(_, pipeline)| pipeline.group == group.name);
        let staged = self.context.staged();
        let staged = staged.and_then(|staged| Some(staged.groups.get(&group.name)?.version));
        let looks_up = |(_, view): &(&String, &ViewDef)| {
            view.lookups.iter().any(|lookup| lookup.group == group.name)
        };
        let views = definitions.views.iter().filter(looks_up);
        GroupSummary {
            name: group.name.clone(),
            version: group.version,
            staged: staged.filter(|version| *version != group.version),
            table: group.table(),
            entity: group.entity.clone(),
            keys: group.keys.clone(),
            features: group.features(),
            event_time: group.event_time.clone(),
            ttl: group.ttl.map(|ttl| ttl.to_string()),
            pipeline: pipeline.map(|(name, _)| name.clone()),
            source: pipeline.map(|(_, pipeline)| pipeline.source.clone()),
            made_by: pipeline.map(|(_, pipeline)| pipeline.made_by.to_string()),
            views: views.map(|(name, _)| name.clone()).collect(),
            doc: group.doc.clone(),
        }
    }
}

fn source_summary(definitions: &Definitions, name: &str, source: &SourceDef) -> SourceSummary {
    let reads = |(_, pipeline): &(&String, &PipelineDef)| pipeline.source == name;
    let pipelines = definitions.pipelines.iter().filter(reads);
    let (pipelines, mut groups): (Vec<String>, Vec<String>) = pipelines
        .map(|(name, pipeline)| (name.clone(), pipeline.group.clone()))
        .unzip();
    groups.sort();
    groups.dedup();
    SourceSummary {
        name: name.to_owned(),
        kind: source.kind.name(),
        path: source.files.as_ref().map(|files| match files {
            Location::Here(path) => path.display().to_string(),
            Location::Remote(url) => url.clone(),
        }),
        format: source.format,
        group: source.kind.upstream().map(str::to_owned),
        pipelines,
        groups,
        doc: source.doc.clone(),
    }
}

fn view_summary(definitions: &Definitions, name: &str, view: &ViewDef) -> Result<ViewSummary> {
    let recipe = Recipe::new(definitions, name)?;
    let reads = definitions
        .models
        .iter()
        .filter(|(_, model)| model.view == name);
    let mut groups: Vec<String> = Vec::new();
    for lookup in &view.lookups {
        if !groups.contains(&lookup.group) {
            groups.push(lookup.group.clone());
        }
    }
    let functions = view.functions.iter();
    Ok(ViewSummary {
        name: name.to_owned(),
        inputs: view.inputs.clone(),
        features: recipe.outputs(),
        groups,
        functions: functions.map(|f| f.function.clone()).collect(),
        models: reads.map(|(name, _)| name.clone()).collect(),
        doc: view.doc.clone(),
    })
}
