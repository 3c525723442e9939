//! Resolves `[views]`: inputs, lookups and on-demand functions.

use std::collections::{HashMap, HashSet};

use wafer_catalog::{
    Definitions, GroupDef, LookupDef, OnDemandDef, ViewDef, feature_name, nearest,
};
use wafer_core::{DataType, Field, Mapping, can_widen};
use wafer_store::{Error, Result};

use crate::resolve::signature;
use crate::values::typed_fields;
use crate::views::ViewConfig;

/// The columns that a view's functions may read, with their types and where each comes from.
#[derive(Default)]
struct Columns {
    types: HashMap<String, (DataType, String)>,
    /// The names of the request's fields.
    request: HashSet<String>,
}

impl Columns {
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
    let request_key = format!("views.{name}.request");
    let request = typed_fields(&config.request, &request_key)
        .expect("types were checked when the file was read");
    let mut inputs: Vec<Field> = Vec::new();
    let mut columns = Columns::default();
    let mut lookups = Vec::new();

    // Join keys come first, because the keys of a lookup are inputs of the view, with the key's
    // type.
    for (index, lookup) in config.lookups.iter().enumerate() {
        let place = format!("views.{name}.lookups[{index}]");
        let group = &definitions.groups[&lookup.group];
        if let Some(unknown) = lookup
            .keys
            .keys()
            .find(|key| !group.keys.iter().any(|k| k.name == **key))
        {
            let known: Vec<_> = group.keys.iter().map(|k| k.name.as_str()).collect();
            return Err(Error::invalid(format!(
                "{place}.keys: group `{}` has no join key `{unknown}`; it has {}",
                lookup.group,
                known.join(", ")
            )));
        }
        let mut fields = Vec::new();
        for key in &group.keys {
            let field = lookup.keys.get(&key.name).unwrap_or(&key.name);
            match inputs.iter().find(|input| input.name == *field) {
                Some(input) if input.data_type == key.data_type => {}
                Some(input) => {
                    return Err(Error::invalid(format!(
                        "{place}.keys: `{field}` is {}, and join key `{}` of group `{}` is {}",
                        input.data_type, key.name, lookup.group, key.data_type
                    )));
                }
                None => {
                    let doc = key.doc.clone();
                    inputs.push(Field {
                        doc,
                        ..Field::new(field, key.data_type.clone(), true)
                    });
                }
            }
            fields.push(field.clone());
        }
        lookups.push(LookupDef {
            group: lookup.group.clone(),
            alias: lookup.alias.clone().unwrap_or_else(|| lookup.group.clone()),
            keys: fields,
            features: selected_features(group, lookup.features.as_deref(), &place)?,
        });
    }
    for (field, data_type) in request {
        match inputs.iter().find(|input| input.name == field) {
            None => inputs.push(Field::new(field, data_type, true)),
            Some(input) if input.data_type == data_type => {}
            Some(input) => {
                return Err(Error::invalid(format!(
                    "{request_key}.{field}: is {data_type}, and as a join key it is {}",
                    input.data_type
                )));
            }
        }
    }
    for input in &inputs {
        if !input.data_type.is_storable() {
            return Err(Error::invalid(format!(
                "views.{name}: `{}` cannot be {}",
                input.name, input.data_type
            )));
        }
        columns.add(
            name,
            &input.name,
            &input.data_type,
            "a field of the request".to_owned(),
        )?;
        columns.request.insert(input.name.clone());
    }
    for lookup in &lookups {
        for index in &lookup.features {
            let feature = &definitions.groups[&lookup.group].features()[*index];
            let full = feature_name(&lookup.alias, &feature.name);
            let origin = format!("feature `{}` of `{}`", feature.name, lookup.alias);
            columns.add_feature(name, &full, &feature.data_type, origin)?;
        }
    }
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
    for field in signature.inputs.fields() {
        match columns.types.get(&field.name) {
            Some((data_type, _)) if can_widen(data_type, &field.data_type) => {}
            Some((data_type, origin)) => {
                return Err(Error::invalid(format!(
                    "{place}: input `{}` is {}, and {origin} is {data_type}",
                    field.name, field.data_type
                )));
            }
            None => {
                let known = columns.types.keys().map(String::as_str);
                let hint = nearest(&field.name, known)
                    .map_or_else(String::new, |n| format!("; did you mean `{n}`?"));
                return Err(Error::invalid(format!(
                    "{place}: input `{}` ({}) is neither a field of the request nor a looked-up feature{hint}",
                    field.name, field.data_type
                )));
            }
        }
    }
    for field in signature.outputs.fields() {
        if !field.data_type.is_storable() {
            return Err(Error::invalid(format!(
                "{place}: output `{}` cannot be {}",
                field.name, field.data_type
            )));
        }
        columns.add_feature(
            view,
            &field.name,
            &field.data_type,
            format!("an output of `{function}`"),
        )?;
    }
    Ok(())
}
