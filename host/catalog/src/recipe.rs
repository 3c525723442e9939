//! Versions of views: a view with everything that it uses, fixed at some time.
//!
//! A version is named by the digest of its content. Training sets, models and releases record the
//! version that they were made with ([`Context::keep_recipe`]) and read it back later
//! ([`Context::recipe`]), so that later applies do not change what they mean.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};
use wafer_core::{Digest, Field};
use wafer_store::{Error, Expect, Kind, Result};

use crate::context::Context;
use crate::definitions::{Definitions, FunctionDef, GroupDef, LookupDef, ViewDef, feature_name};
use crate::names::get;

/// A version of a view: what training sets, models and releases are bound to, whatever is applied
/// afterwards.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Recipe {
    /// The view.
    pub view: ViewDef,
    /// The groups that the view looks up, by name.
    pub groups: BTreeMap<String, GroupDef>,
    /// The functions that the view calls, by name.
    pub functions: BTreeMap<String, FunctionDef>,
}

impl Recipe {
    /// Creates the version of a view that the definitions describe.
    ///
    /// # Errors
    /// Returns [`Kind::NotFound`] when they have no view of that name.
    pub fn new(definitions: &Definitions, view: &str) -> Result<Self> {
        let view = get(&definitions.views, view, "feature view")?.clone();
        let groups = view.lookups.iter().map(|lookup| {
            let group = definitions.groups[&lookup.group].clone();
            (lookup.group.clone(), group)
        });
        let functions = view.functions.iter().map(|f| {
            let function = definitions.functions[&f.function].clone();
            (f.function.clone(), function)
        });
        Ok(Self {
            groups: groups.collect(),
            functions: functions.collect(),
            view,
        })
    }

    /// Creates a view of all features of one group, looked up by the group's own join keys.
    ///
    /// # Errors
    /// Returns [`Kind::NotFound`] when the definitions have no group of that name.
    pub fn of_group(definitions: &Definitions, name: &str) -> Result<Self> {
        let group = get(&definitions.groups, name, "feature group")?.clone();
        let keys = group.keys.iter();
        let view = ViewDef {
            inputs: group.keys.clone(),
            lookups: vec![LookupDef {
                group: name.to_owned(),
                alias: name.to_owned(),
                keys: keys.map(|key| key.name.clone()).collect(),
                features: (0..group.features().len()).collect(),
            }],
            functions: Vec::new(),
            doc: group.doc.clone(),
        };
        Ok(Self {
            view,
            groups: BTreeMap::from([(name.to_owned(), group)]),
            functions: BTreeMap::new(),
        })
    }

    /// Returns the name of this version, a digest of its content.
    pub fn version(&self) -> String {
        let json = serde_json::to_vec(self).expect("definitions are plain data");
        Digest::of(&json).short()
    }

    /// Returns the features of the view, in the order in which they are answered.
    pub fn outputs(&self) -> Vec<Field> {
        let mut fields = Vec::new();
        for lookup in &self.view.lookups {
            fields.extend(self.features_of(lookup));
        }
        for function in &self.view.functions {
            let signature = &self.functions[&function.function].registered.signature;
            fields.extend(signature.outputs.fields().iter().cloned());
        }
        fields
    }

    /// Returns, for each of the [`outputs`](Self::outputs), the alias of its lookup. Outputs of
    /// functions have none.
    pub fn aliases(&self) -> Vec<Option<&str>> {
        let lookups = self.view.lookups.iter();
        let mut aliases: Vec<Option<&str>> = lookups
            .flat_map(|lookup| vec![Some(lookup.alias.as_str()); lookup.features.len()])
            .collect();
        aliases.resize(self.outputs().len(), None);
        aliases
    }

    /// Returns the features that a lookup takes from its group, under their names in the view.
    pub fn features_of(&self, lookup: &LookupDef) -> Vec<Field> {
        let features = self.groups[&lookup.group].features();
        let taken = lookup.features.iter().map(|index| {
            let feature = &features[*index];
            // An entity that is not in the group has no values.
            Field {
                name: feature_name(&lookup.alias, &feature.name),
                nullable: true,
                ..feature.clone()
            }
        });
        taken.collect()
    }

    /// Returns the fields that a model can read, by name. If a request field and a feature have
    /// the same name, the request field is read.
    pub fn readable(&self) -> BTreeMap<String, Field> {
        let inputs = self.view.inputs.iter().cloned();
        let all = self.outputs().into_iter().chain(inputs);
        all.map(|field| (field.name.clone(), field)).collect()
    }
}

impl Context {
    /// Returns the live version of a view.
    ///
    /// # Errors
    /// Returns [`Kind::NotFound`] when no view of that name is live.
    pub fn view(&self, name: &str) -> Result<Recipe> {
        Recipe::new(&self.definitions(), name)
    }

    /// Reads a version of a view that was kept.
    ///
    /// # Errors
    /// Returns [`Kind::Corrupt`] when it is missing, and the errors of the metadata store.
    pub async fn recipe(&self, view: &str, version: &str) -> Result<Recipe> {
        let name = recipe_name(view, version);
        let stored = self.object(&name).await?;
        let missing = || Error::new(Kind::Corrupt, format!("object `{name}` is missing"));
        Ok(stored.ok_or_else(missing)?.0)
    }

    /// Keeps a version of a view, for what is bound to it. Returns the name of the version.
    ///
    /// # Errors
    /// Returns the errors of the metadata store.
    pub async fn keep_recipe(&self, view: &str, recipe: &Recipe) -> Result<String> {
        let version = recipe.version();
        let name = recipe_name(view, &version);
        self.put_object(&name, recipe, Expect::Anything).await?;
        Ok(version)
    }
}

fn recipe_name(view: &str, version: &str) -> String {
    format!("view_version/{view}/{version}")
}
