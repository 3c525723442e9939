//! What definitions refer to: other definitions by their names, and columns by their positions.
//!
//! The services take what definitions name without asking whether it is there. So definitions are
//! checked wherever they come from a store, and before they are written to one.

use std::collections::BTreeMap;

use super::{Definitions, FunctionDef, GroupDef, LookupDef, MadeBy, PipelineDef, ViewDef};

impl Definitions {
    /// Checks that everything is there that these definitions refer to.
    ///
    /// # Errors
    /// Returns what refers to what is not there.
    pub(crate) fn check_references(&self) -> Result<(), String> {
        for (name, group) in &self.groups {
            check_group(&format!("group `{name}`"), group)?;
        }
        for (name, pipeline) in &self.pipelines {
            self.check_pipeline(&format!("pipeline `{name}`"), pipeline)?;
        }
        for (name, view) in &self.views {
            let place = format!("view `{name}`");
            check_view(&place, view, &self.groups, &self.functions)?;
        }
        Ok(())
    }

    fn check_pipeline(&self, place: &str, pipeline: &PipelineDef) -> Result<(), String> {
        let source = find(&self.sources, &pipeline.source, place, "source")?;
        find(&self.groups, &pipeline.group, place, "group")?;
        if let Some(upstream) = source.kind.upstream() {
            let place = format!("source `{}`", pipeline.source);
            find(&self.groups, upstream, &place, "group")?;
        }
        match &pipeline.made_by {
            MadeBy::Function(function) => {
                find(&self.functions, function, place, "function").map(drop)
            }
            MadeBy::Model(model) if source.kind.takes_events() => Err(format!(
                "{place} predicts with model `{model}` for the events of a stream, which no pipeline does"
            )),
            MadeBy::Model(_) | MadeBy::Columns(_) => Ok(()),
        }
    }
}

/// Checks the columns that a group has, and those that it aggregates.
fn check_group(place: &str, group: &GroupDef) -> Result<(), String> {
    let table = group.rows_table();
    table
        .checked_schema()
        .map_err(|error| format!("the columns of {place} are not valid: {error}"))?;
    let positions = group.aggregates.iter().filter_map(|a| a.aggregate.column);
    check_positions(
        positions,
        group.columns.len(),
        &format!("{place} aggregates"),
    )
}

/// Checks that everything is there that a view refers to.
///
/// # Errors
/// Returns what refers to what is not there.
pub(crate) fn check_view(
    place: &str,
    view: &ViewDef,
    groups: &BTreeMap<String, GroupDef>,
    functions: &BTreeMap<String, FunctionDef>,
) -> Result<(), String> {
    for lookup in &view.lookups {
        let group = find(groups, &lookup.group, place, "group")?;
        check_lookup(
            &format!("{place}, lookup `{}`,", lookup.alias),
            view,
            lookup,
            group,
        )?;
    }
    for called in &view.functions {
        find(functions, &called.function, place, "function")?;
    }
    Ok(())
}

fn check_lookup(
    place: &str,
    view: &ViewDef,
    lookup: &LookupDef,
    group: &GroupDef,
) -> Result<(), String> {
    let inputs = &view.inputs;
    let is_input = |key: &&String| inputs.iter().any(|input| input.name == **key);
    if let Some(key) = lookup.keys.iter().find(|key| !is_input(key)) {
        return Err(format!(
            "{place} has the key `{key}`, which is not an input of the view"
        ));
    }
    let (keys, wanted) = (lookup.keys.len(), group.keys.len());
    if keys != wanted {
        return Err(format!(
            "{place} has {keys} keys, and group `{}` has {wanted}",
            lookup.group
        ));
    }
    let features = lookup.features.iter().copied();
    check_positions(features, group.features().len(), &format!("{place} takes"))
}

/// Checks that positions are those of columns, of which there are so many.
fn check_positions(
    mut positions: impl Iterator<Item = usize>,
    columns: usize,
    what: &str,
) -> Result<(), String> {
    match positions.find(|position| *position >= columns) {
        None => Ok(()),
        Some(position) => Err(format!(
            "{what} the column at position {position} of a group that has {columns} of them"
        )),
    }
}

/// Returns a definition by its name.
fn find<'a, T>(
    things: &'a BTreeMap<String, T>,
    name: &str,
    place: &str,
    kind: &str,
) -> Result<&'a T, String> {
    let missing = || format!("{place} names {kind} `{name}`, which is not there");
    things.get(name).ok_or_else(missing)
}
