//! The feature vectors of a view's entities.
//!
//! A view has no rows of its own. Its entities are those of one of the groups that it looks up, the
//! first of those with the most of its inputs as join keys, in the order of the group's table, each
//! once. Their features are what a request would be answered now. Inputs that are not join keys of
//! this group are known in requests only, and nothing is made up in their place: features that need
//! them are left out.

use std::collections::HashSet;
use std::sync::Arc;

use arrow_array::ArrayRef;
use futures::TryStreamExt as _;
use futures::stream::{self, BoxStream, StreamExt as _};
use serde_json::{Map, Value as Json};
use wafer_catalog::{LookupDef, Recipe, ViewDef};
use wafer_core::{ColumnBuilder, Field, cell_to_json};
use wafer_pipelines::{ReadRows, ShowBounds};
use wafer_serving::Serving;
use wafer_store::{Error, Kind, Result};

use crate::Platform;
use crate::show::Searched;
use crate::show::shown::{HiddenColumn, HiddenReason};

/// The number of entities that are asked for at once.
const AT_ONCE: usize = 500;

/// The greatest number of entities that are read, one after the other, in search of those that
/// fulfil the conditions.
const MAX_ENTITIES: usize = 100_000;

/// The feature vectors of the entities of a view.
pub(super) struct ViewRows {
    name: String,
    serving: Arc<Serving>,
    /// The part of the view that follows from the entities.
    recipe: Arc<Recipe>,
    /// The table whose rows name the entities.
    entities: super::rows::TableRows,
    /// The inputs of this part, and for each the column of the table that holds it.
    inputs: Vec<(Field, String)>,
    left_out: Vec<HiddenColumn>,
    /// The rows of the table that were searched for entities: none yet.
    searched: Searched,
}

impl Platform {
    pub(super) async fn view_rows(&self, name: &str, bounds: &ShowBounds) -> Result<ViewRows> {
        let recipe = Recipe::new(&self.context.definitions(), name)?;
        let lookup = lookup_of_entities(&recipe.view).cloned().ok_or_else(|| {
            Error::invalid(format!(
                "view `{name}` looks up no group, so its entities are not known: ask for a vector with \
                 `wafer get {name} …`"
            ))
        })?;
        let group = recipe.groups[&lookup.group].clone();
        let inputs = recipe.view.inputs.iter().map(|input| input.name.clone());
        let unknown = inputs.filter(|input| !lookup.keys.contains(input));
        let mut left_out: Vec<HiddenColumn> = unknown
            .map(|name| HiddenColumn {
                name,
                reason: HiddenReason::Request,
            })
            .collect();
        let (recipe, features) = recipe.known_by(&lookup.keys);
        left_out.extend(features.into_iter().map(|feature| HiddenColumn {
            name: feature.name,
            reason: HiddenReason::Needs(feature.needs.into_iter().collect()),
        }));
        let column = |input: &Field| {
            let place = lookup.keys.iter().position(|key| *key == input.name);
            group.keys[place.expect("the known inputs are keys of the lookup")]
                .name
                .clone()
        };
        let inputs = recipe.view.inputs.iter();
        Ok(ViewRows {
            name: name.to_owned(),
            serving: Arc::clone(&self.serving),
            entities: self.table_rows(&group.table()).await?,
            inputs: inputs.map(|input| (input.clone(), column(input))).collect(),
            recipe: Arc::new(recipe),
            left_out,
            searched: Searched::within(bounds),
        })
    }
}

/// Returns the lookup whose group has the entities of a view: the one with the most inputs as join
/// keys, and of several such the first.
fn lookup_of_entities(view: &ViewDef) -> Option<&LookupDef> {
    let known = |lookup: &&LookupDef| {
        let inputs = view.inputs.iter();
        inputs
            .filter(|input| lookup.keys.contains(&input.name))
            .count()
    };
    // The last of the greatest is returned.
    view.lookups.iter().rev().max_by_key(known)
}

impl ViewRows {
    pub(super) fn fields(&self) -> Vec<Field> {
        let inputs = self.inputs.iter().map(|(input, _)| input.clone());
        let is_input = |field: &Field| self.inputs.iter().any(|(i, _)| i.name == field.name);
        let features = self.recipe.outputs().into_iter();
        inputs
            .chain(features.filter(|field| !is_input(field)))
            .collect()
    }

    pub(super) fn left_out(&self) -> &[HiddenColumn] {
        &self.left_out
    }

    /// Reads some of the inputs and features of all entities.
    pub(super) fn read(&self, names: &[String]) -> BoxStream<'static, Result<ReadRows>> {
        let fields = self.fields();
        let wanted: Vec<Field> = names
            .iter()
            .filter_map(|name| fields.iter().find(|field| field.name == *name).cloned())
            .collect();
        let columns: Vec<String> = self
            .inputs
            .iter()
            .map(|(_, column)| column.clone())
            .collect();
        let inputs = self.inputs.iter().map(|(input, _)| input.name.clone());
        let reading = Reading {
            view: self.name.clone(),
            serving: Arc::clone(&self.serving),
            recipe: Arc::clone(&self.recipe),
            inputs: inputs.collect(),
            rows: self.entities.read(&columns),
            seen: HashSet::new(),
            searched: self.searched,
            pending: Vec::new(),
            wanted,
        };
        stream::try_unfold(reading, |mut reading| async move {
            let rows = reading.next().await?;
            Ok::<_, Error>(rows.map(|rows| (rows, reading)))
        })
        .boxed()
    }
}

/// The state of reading a view's entities.
struct Reading {
    view: String,
    serving: Arc<Serving>,
    recipe: Arc<Recipe>,
    inputs: Vec<String>,
    rows: BoxStream<'static, Result<ReadRows>>,
    /// The entities that were asked for, as the JSON of their rows.
    seen: HashSet<String>,
    searched: Searched,
    /// Rows of entities that were found and not asked for yet.
    pending: Vec<Json>,
    wanted: Vec<Field>,
}

impl Reading {
    /// Returns the vectors of the next entities, or `None` after the last one.
    async fn next(&mut self) -> Result<Option<ReadRows>> {
        while self.pending.len() < AT_ONCE
            && let Some(rows) = self.rows.try_next().await?
        {
            self.searched.add(&rows, self.seen.len())?;
            self.find_entities(&rows)?;
        }
        if self.pending.is_empty() {
            return Ok(None);
        }
        let rest = self.pending.split_off(self.pending.len().min(AT_ONCE));
        let asked = std::mem::replace(&mut self.pending, rest);
        let vectors = self
            .serving
            .features_by(&self.recipe, &self.view, &asked)
            .await?;
        let column = |field: &Field| -> Result<ArrayRef> {
            if !self.inputs.contains(&field.name)
                && let Some(values) = vectors.column(&field.name)
            {
                return Ok(Arc::clone(values));
            }
            input_column(field, &asked)
        };
        Ok(Some(ReadRows {
            columns: self.wanted.iter().map(column).collect::<Result<_>>()?,
            rows: asked.len(),
            rejects: Vec::new(),
        }))
    }

    /// Takes note of the entities of rows that were not seen yet.
    fn find_entities(&mut self, rows: &ReadRows) -> Result<()> {
        for row in 0..rows.rows {
            let cells = rows.columns.iter().map(|column| cell_to_json(column, row));
            let entity: Map<String, Json> = self.inputs.iter().cloned().zip(cells).collect();
            let entity = Json::Object(entity);
            if !self.seen.insert(entity.to_string()) {
                continue;
            }
            if self.seen.len() > MAX_ENTITIES {
                return Err(Error::invalid(format!(
                    "view `{0}` has more than {MAX_ENTITIES} entities, and too few of the first ones fulfil the \
                     conditions: ask for one with `wafer get {0} …`, or for the rows of a group",
                    self.view
                )));
            }
            self.pending.push(entity);
        }
        Ok(())
    }
}

/// Makes the column of an input from the rows that were asked for.
fn input_column(field: &Field, rows: &[Json]) -> Result<ArrayRef> {
    let mut column = ColumnBuilder::new(&field.data_type, rows.len());
    for row in rows {
        column.append_json(&row[&field.name]).map_err(|message| {
            let message = format!("join key `{}`: {message}", field.name);
            Error::new(Kind::Internal, message)
        })?;
    }
    Ok(column.finish())
}

#[cfg(test)]
mod tests {
    use wafer_core::DataType;

    use super::*;

    #[test]
    fn entities_are_those_of_the_first_group_with_the_most_inputs_as_keys() {
        for (lookups, wanted) in [
            (&[][..], None),
            (&["a"], Some("0")),
            (&["a", "b"], Some("0")),
            (&["a", "a,b", "b,c", "c"], Some("1")),
            // One input for both keys of a group is one input.
            (&["a,a", "b,c"], Some("1")),
            (&["a", "b,b"], Some("0")),
        ] {
            let lookup = |(place, keys): (usize, &&str)| LookupDef {
                group: "g".to_owned(),
                alias: place.to_string(),
                keys: keys.split(',').map(str::to_owned).collect(),
                features: Vec::new(),
            };
            let view = ViewDef {
                inputs: ["a", "b", "c", "rate"]
                    .map(|name| Field::new(name, DataType::Int64, true))
                    .into(),
                lookups: lookups.iter().enumerate().map(lookup).collect(),
                functions: Vec::new(),
                doc: String::new(),
            };
            let found = lookup_of_entities(&view).map(|lookup| lookup.alias.as_str());
            assert_eq!(found, wanted, "{lookups:?}");
        }
    }
}
