//! Versions of views: a view with everything that it uses, fixed at some time.
//!
//! A version is named by the digest of its content. Training sets, models and releases record the
//! version that they were made with ([`Recipe::keep`]) and read it back later
//! ([`Recipe::read`]), so that later applies do not change what they mean.

use std::collections::{BTreeMap, BTreeSet};

use serde::{Deserialize, Serialize};
use wafer_core::{Digest, Field};
use wafer_store::{Error, Expect, Kind, Result};

use crate::context::Context;
use crate::definitions::{
    Definitions, FunctionDef, GroupDef, LookupDef, ViewDef, check_view, feature_name,
};
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

/// A feature of a view that does not follow from the inputs that are known.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct UnknownFeature {
    /// The name of the feature in the view.
    pub name: String,
    /// The inputs of the view that would have to be known as well.
    pub needs: BTreeSet<String>,
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

    /// Creates a view of all features of one group, looked up by the group's own join keys. As in
    /// other views, a request may have a null for a join key, which no entity has.
    ///
    /// # Errors
    /// Returns [`Kind::NotFound`] when the definitions have no group of that name.
    pub fn of_group(definitions: &Definitions, name: &str) -> Result<Self> {
        let group = get(&definitions.groups, name, "feature group")?.clone();
        let keys = group.keys.iter();
        let input = |key: &Field| Field {
            nullable: true,
            ..key.clone()
        };
        let view = ViewDef {
            inputs: keys.clone().map(input).collect(),
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

    /// Checks that everything is in this version that the view refers to.
    fn check_references(&self) -> Result<(), String> {
        check_view("the view", &self.view, &self.groups, &self.functions)
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

    /// Returns the part of the view that follows from some of its inputs, and the features that are
    /// not in it: those of lookups whose keys are not all known, and the outputs of functions that
    /// read another input or a feature that is not known, even if they take a null for it.
    pub fn known_by(mut self, known: &[String]) -> (Self, Vec<UnknownFeature>) {
        let inputs: BTreeSet<String> = self.view.inputs.iter().map(|f| f.name.clone()).collect();
        let is_unknown = |name: &String| inputs.contains(name) && !known.contains(name);
        let mut left_out: Vec<UnknownFeature> = Vec::new();
        for lookup in std::mem::take(&mut self.view.lookups) {
            let needs = lookup.keys.iter().filter(|key| is_unknown(key));
            let needs: BTreeSet<String> = needs.cloned().collect();
            if needs.is_empty() {
                self.view.lookups.push(lookup);
                continue;
            }
            let features = self.features_of(&lookup).into_iter();
            left_out.extend(features.map(|feature| UnknownFeature {
                name: feature.name,
                needs: needs.clone(),
            }));
        }
        for function in std::mem::take(&mut self.view.functions) {
            let signature = &self.functions[&function.function].registered.signature;
            let mut needs = BTreeSet::new();
            for Field { name, .. } in signature.inputs.fields() {
                // Functions read an input of the view, and not a feature, of the same name.
                if inputs.contains(name) {
                    needs.extend(is_unknown(name).then(|| name.clone()));
                } else if let Some(feature) = left_out.iter().find(|f| f.name == *name) {
                    needs.extend(feature.needs.iter().cloned());
                }
            }
            if needs.is_empty() {
                self.view.functions.push(function);
                continue;
            }
            let outputs = signature.outputs.fields().iter();
            left_out.extend(outputs.map(|output| UnknownFeature {
                name: output.name.clone(),
                needs: needs.clone(),
            }));
        }
        self.view.inputs.retain(|input| !is_unknown(&input.name));
        (self, left_out)
    }

    /// Returns the fields that a model can read, by name. If a request field and a feature have
    /// the same name, the request field is read.
    pub fn readable(&self) -> BTreeMap<String, Field> {
        let inputs = self.view.inputs.iter().cloned();
        let all = self.outputs().into_iter().chain(inputs);
        all.map(|field| (field.name.clone(), field)).collect()
    }

    /// Reads a version of a view that was kept.
    ///
    /// # Errors
    /// Returns [`Kind::Corrupt`] when it is missing, or names what is not in it, and the errors of
    /// the metadata store.
    pub async fn read(context: &Context, view: &str, version: &str) -> Result<Self> {
        let name = recipe_name(view, version);
        let stored = context.object(&name).await?;
        let missing = || Error::new(Kind::Corrupt, format!("object `{name}` is missing"));
        let recipe: Self = stored.ok_or_else(missing)?.0;
        recipe.check_references().map_err(|reason| {
            let message = format!("stored object `{name}` is damaged: {reason}");
            Error::new(Kind::Corrupt, message)
        })?;
        Ok(recipe)
    }

    /// Keeps a version of a view, for what is bound to it. Returns the name of the version.
    ///
    /// # Errors
    /// Returns the errors of the metadata store.
    pub async fn keep(&self, context: &Context, view: &str) -> Result<String> {
        let version = self.version();
        let name = recipe_name(view, &version);
        context.put_object(&name, self, Expect::Anything).await?;
        Ok(version)
    }
}

fn recipe_name(view: &str, version: &str) -> String {
    format!("view_version/{view}/{version}")
}

#[cfg(test)]
mod tests {
    use wafer_core::{DataType, Mapping, Schema, Signature};
    use wafer_runtime::{Limits, Registered};

    use super::*;
    use crate::definitions::OnDemandDef;

    fn fields(names: &[&str]) -> Vec<Field> {
        let field = |name: &&str| Field::new(*name, DataType::Int64, true);
        names.iter().map(field).collect()
    }

    fn function(inputs: &[&str], outputs: &[&str]) -> FunctionDef {
        let digest = Digest::of(b"function");
        FunctionDef {
            registered: Registered {
                digest,
                component: digest,
                snapshot: digest,
                delta: None,
                signature: Signature {
                    inputs: Schema::new(fields(inputs)).unwrap(),
                    outputs: Schema::new(fields(outputs)).unwrap(),
                    mapping: Mapping::OneToOne,
                    doc: String::new(),
                },
                strict_nan: false,
            },
            limits: Limits::default(),
            assets: BTreeMap::new(),
            parameters: BTreeMap::new(),
        }
    }

    /// A view of a route and of the airports at its ends, with three functions of which the second
    /// reads the output of the first.
    fn flights() -> Recipe {
        let lookup = |group: &str, alias: &str, keys: &[&str]| LookupDef {
            group: group.to_owned(),
            alias: alias.to_owned(),
            keys: keys.iter().map(|key| (*key).to_owned()).collect(),
            features: vec![0],
        };
        let group = |name: &str, column: &str| GroupDef {
            columns: fields(&[column]),
            ..GroupDef::new(name, name, "at")
        };
        let functions = [
            ("hour", function(&["time"], &["hour"])),
            ("rush", function(&["hour", "from_wind"], &["rush"])),
            ("gust", function(&["from_wind"], &["gust"])),
        ];
        Recipe {
            view: ViewDef {
                inputs: fields(&["from", "to", "time"]),
                lookups: vec![
                    lookup("airport", "from", &["from"]),
                    lookup("airport", "to", &["to"]),
                    lookup("route", "route", &["from", "to"]),
                ],
                functions: ["hour", "rush", "gust"]
                    .map(|name| OnDemandDef {
                        function: name.to_owned(),
                    })
                    .into(),
                doc: String::new(),
            },
            groups: [group("airport", "wind"), group("route", "delay")]
                .map(|group| (group.name.clone(), group))
                .into(),
            functions: functions
                .map(|(name, function)| (name.to_owned(), function))
                .into(),
        }
    }

    #[test]
    fn part_of_a_view_follows_from_some_of_its_inputs() {
        for (known, features, left_out) in [
            (
                &["from", "to", "time"][..],
                "from_wind to_wind route_delay hour rush gust",
                "",
            ),
            (
                &["from", "to"],
                "from_wind to_wind route_delay gust",
                "hour:time rush:time",
            ),
            (
                &["to", "from", "other"],
                "from_wind to_wind route_delay gust",
                "hour:time rush:time",
            ),
            (
                &["from", "time"],
                "from_wind hour rush gust",
                "to_wind:to route_delay:to",
            ),
            (
                &["to"],
                "to_wind",
                "from_wind:from route_delay:from hour:time rush:from,time gust:from",
            ),
        ] {
            let names: Vec<String> = known.iter().map(|name| (*name).to_owned()).collect();
            let (part, unknown) = flights().known_by(&names);
            let shown: Vec<String> = part.outputs().into_iter().map(|f| f.name).collect();
            assert_eq!(shown.join(" "), features, "{known:?}");
            let unknown = unknown.iter().map(|feature| {
                let needs: Vec<&str> = feature.needs.iter().map(String::as_str).collect();
                format!("{}:{}", feature.name, needs.join(","))
            });
            let unknown: Vec<String> = unknown.collect();
            assert_eq!(unknown.join(" "), left_out, "{known:?}");
            let mut inputs = part.view.inputs.iter();
            assert!(inputs.all(|input| names.contains(&input.name)));
        }
    }

    #[test]
    fn functions_read_an_input_and_not_a_feature_of_the_same_name() {
        let mut recipe = flights();
        recipe.view.inputs.extend(fields(&["from_wind"]));
        let names = ["from", "to", "time"].map(str::to_owned);
        let (part, left_out) = recipe.known_by(&names);
        let shown: Vec<String> = part.outputs().into_iter().map(|f| f.name).collect();
        assert_eq!(shown, ["from_wind", "to_wind", "route_delay", "hour"]);
        let needs = BTreeSet::from(["from_wind".to_owned()]);
        assert!(left_out.iter().all(|feature| feature.needs == needs));
        assert_eq!(left_out.len(), 2);
    }
}
