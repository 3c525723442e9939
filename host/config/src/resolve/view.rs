//! Resolves `[views]`: inputs, lookups and on-demand functions.

use std::collections::{HashMap, HashSet};

use wafer_catalog::{
    Definitions, GroupDef, LookupDef, OnDemandDef, ViewDef, feature_name, nearest,
};
use wafer_core::{DataType, Field, Mapping, can_widen};
use wafer_store::{Error, Result};

use crate::resolve::signature;
use crate::values::typed_fields;
use crate::views::{LookupConfig, ViewConfig};

/// The columns that a view's functions may read, with their types and where each comes from.
#[derive(Default)]
struct Columns {
    types: HashMap<String, (DataType, String)>,
    /// The names of the request's fields.
    request: HashSet<String>,
}

impl Columns {
    /// Adds a field of the request.
    fn add_input(&mut self, view: &str, input: &Field) -> Result<()> {
        let Field {
            name, data_type, ..
        } = input;
        if !data_type.is_storable() {
            let message = format!("views.{view}: `{name}` cannot be {data_type}");
            return Err(Error::invalid(message));
        }
        let origin = "a field of the request".to_owned();
        self.add(view, name, data_type, origin)?;
        self.request.insert(name.clone());
        Ok(())
    }

    /// Adds a column that the view answers. It may have the name of a request field; functions
    /// then read the request field.
    fn add_feature(
        &mut self,
        view: &str,
        name: &str,
        data_type: &DataType,
        origin: String,
    ) -> Result<()> {
        if self.request.remove(name) {
            Ok(())
        } else {
            self.add(view, name, data_type, origin)
        }
    }

    /// Checks that a function finds an input, with a type that can be widened to its own.
    fn check_readable(&self, input: &Field, place: &str) -> Result<()> {
        match self.types.get(&input.name) {
            Some((data_type, _)) if can_widen(data_type, &input.data_type) => Ok(()),
            Some((data_type, origin)) => Err(Error::invalid(format!(
                "{place}: input `{}` is {}, and {origin} is {data_type}",
                input.name, input.data_type
            ))),
            None => {
                let known = self.types.keys().map(String::as_str);
                let hint = nearest(&input.name, known)
                    .map_or_else(String::new, |n| format!("; did you mean `{n}`?"));
                Err(Error::invalid(format!(
                    "{place}: input `{}` ({}) is neither a field of the request nor a looked-up feature{hint}",
                    input.name, input.data_type
                )))
            }
        }
    }

    fn add(&mut self, view: &str, name: &str, data_type: &DataType, origin: String) -> Result<()> {
        match self
            .types
            .insert(name.to_owned(), (data_type.clone(), origin.clone()))
        {
            None => Ok(()),
            Some((_, other)) => Err(Error::invalid(format!(
                "views.{view}: `{name}` is both {other} and {origin}; rename one, or give the lookup another `as`"
            ))),
        }
    }
}

/// Resolves a view.
pub(crate) fn view(definitions: &Definitions, name: &str, config: &ViewConfig) -> Result<ViewDef> {
    // Join keys come first, because the keys of a lookup are inputs of the view, with the key's
    // type.
    let mut inputs: Vec<Field> = Vec::new();
    let mut lookups = Vec::new();
    for (index, config) in config.lookups.iter().enumerate() {
        let place = format!("views.{name}.lookups[{index}]");
        lookups.push(lookup(definitions, config, &place, &mut inputs)?);
    }
    add_request_fields(name, config, &mut inputs)?;
    let mut columns = readable_columns(definitions, name, &inputs, &lookups)?;
    let mut functions = Vec::new();
    for function in &config.functions {
        on_demand(definitions, name, function, &mut columns)?;
        functions.push(OnDemandDef {
            function: function.clone(),
        });
    }
    require_needed_inputs(definitions, &functions, &mut inputs);
    Ok(ViewDef {
        inputs,
        lookups,
        functions,
        doc: config.doc.clone(),
    })
}

/// Resolves a lookup, and adds the fields that hold its join keys to the inputs of the view.
fn lookup(
    definitions: &Definitions,
    config: &LookupConfig,
    place: &str,
    inputs: &mut Vec<Field>,
) -> Result<LookupDef> {
    let group = &definitions.groups[&config.group];
    check_keys_are_known(group, config, place)?;
    let mut keys = Vec::new();
    for key in &group.keys {
        let field = config.keys.get(&key.name).unwrap_or(&key.name);
        add_key_field(inputs, field, key).map_err(|found| {
            Error::invalid(format!(
                "{place}.keys: `{field}` is {found}, and join key `{}` of group `{}` is {}",
                key.name, config.group, key.data_type
            ))
        })?;
        keys.push(field.clone());
    }
    Ok(LookupDef {
        group: config.group.clone(),
        alias: config.alias.clone().unwrap_or_else(|| config.group.clone()),
        keys,
        features: selected_features(group, config.features.as_deref(), place)?,
    })
}

/// Checks that a lookup maps only join keys that the group has.
fn check_keys_are_known(group: &GroupDef, config: &LookupConfig, place: &str) -> Result<()> {
    let is_known = |key: &String| group.keys.iter().any(|known| known.name == *key);
    let Some(unknown) = config.keys.keys().find(|key| !is_known(key)) else {
        return Ok(());
    };
    let known: Vec<_> = group.keys.iter().map(|k| k.name.as_str()).collect();
    Err(Error::invalid(format!(
        "{place}.keys: group `{}` has no join key `{unknown}`; it has {}",
        config.group,
        known.join(", ")
    )))
}

/// Adds the field that holds a join key to the inputs of the view, unless another lookup has added
/// it.
///
/// # Errors
/// Returns the type that the field has already, if it is not that of the key.
fn add_key_field(inputs: &mut Vec<Field>, name: &str, key: &Field) -> Result<(), DataType> {
    match inputs.iter().find(|input| input.name == name) {
        Some(input) if input.data_type == key.data_type => Ok(()),
        Some(input) => Err(input.data_type.clone()),
        None => {
            inputs.push(Field {
                doc: key.doc.clone(),
                ..Field::new(name, key.data_type.clone(), true)
            });
            Ok(())
        }
    }
}

/// Adds the request fields of the file to the inputs of the view, after the join keys.
fn add_request_fields(view: &str, config: &ViewConfig, inputs: &mut Vec<Field>) -> Result<()> {
    let place = format!("views.{view}.request");
    let request =
        typed_fields(&config.request, &place).expect("types were checked when the file was read");
    for (field, data_type) in request {
        match inputs.iter().find(|input| input.name == field) {
            None => inputs.push(Field::new(field, data_type, true)),
            Some(input) if input.data_type == data_type => {}
            Some(input) => {
                return Err(Error::invalid(format!(
                    "{place}.{field}: is {data_type}, and as a join key it is {}",
                    input.data_type
                )));
            }
        }
    }
    Ok(())
}

/// Returns the columns that the first function of the view may read: the fields of the request and
/// the features of all lookups.
fn readable_columns(
    definitions: &Definitions,
    view: &str,
    inputs: &[Field],
    lookups: &[LookupDef],
) -> Result<Columns> {
    let mut columns = Columns::default();
    for input in inputs {
        columns.add_input(view, input)?;
    }
    for lookup in lookups {
        let features = definitions.groups[&lookup.group].features();
        for index in &lookup.features {
            let feature = &features[*index];
            let full = feature_name(&lookup.alias, &feature.name);
            let origin = format!("feature `{}` of `{}`", feature.name, lookup.alias);
            columns.add_feature(view, &full, &feature.data_type, origin)?;
        }
    }
    Ok(columns)
}

/// Makes a request field required if a function has a non-nullable input of that name.
fn require_needed_inputs(
    definitions: &Definitions,
    functions: &[OnDemandDef],
    inputs: &mut [Field],
) {
    for function in functions {
        let signature = &definitions.functions[&function.function]
            .registered
            .signature;
        for needed in signature.inputs.fields().iter().filter(|f| !f.nullable) {
            if let Some(input) = inputs.iter_mut().find(|i| i.name == needed.name) {
                input.nullable = false;
            }
        }
    }
}

/// Returns the positions of the features that a lookup uses.
fn selected_features(
    group: &GroupDef,
    wanted: Option<&[String]>,
    place: &str,
) -> Result<Vec<usize>> {
    let Some(wanted) = wanted else {
        return Ok((0..group.features().len()).collect());
    };
    let features = group.features();
    if wanted.is_empty() {
        let message = format!("{place}.features: is empty; leave it out to take all of them");
        return Err(Error::invalid(message));
    }
    wanted
        .iter()
        .map(|name| {
            let found = features.iter().position(|f| f.name == *name);
            found.ok_or_else(|| {
                let known = features.iter().map(|f| f.name.as_str());
                let hint = nearest(name, known)
                    .map_or_else(String::new, |n| format!("; did you mean `{n}`?"));
                Error::invalid(format!(
                    "{place}.features: group `{}` has no feature `{name}`{hint}",
                    group.name
                ))
            })
        })
        .collect()
}

/// Checks that a function finds its inputs, and adds its outputs to the columns.
fn on_demand(
    definitions: &Definitions,
    view: &str,
    function: &str,
    columns: &mut Columns,
) -> Result<()> {
    let signature = signature(definitions, function)?;
    let place = format!("views.{view}: function `{function}`");
    if signature.mapping != Mapping::OneToOne {
        let message =
            format!("{place} does not map rows one to one, as an on-demand function must");
        return Err(Error::invalid(message));
    }
    for input in signature.inputs.fields() {
        columns.check_readable(input, &place)?;
    }
    for output in signature.outputs.fields() {
        if !output.data_type.is_storable() {
            return Err(Error::invalid(format!(
                "{place}: output `{}` cannot be {}",
                output.name, output.data_type
            )));
        }
        let origin = format!("an output of `{function}`");
        columns.add_feature(view, &output.name, &output.data_type, origin)?;
    }
    Ok(())
}
