//! Reads a model file: which columns its graph reads and gives, and whether all of its operators
//! are there.

use std::collections::{BTreeMap, BTreeSet};

use tract_onnx::pb::{GraphProto, NodeProto};
use tract_onnx::prelude::*;
use tract_onnx::tract_hir::internal::{DimLike as _, Factoid as _, bail, format_err};

use crate::Model;
use crate::columns::{GraphInput, GraphOutput};
use crate::ml;

/// Types of inputs that are read from columns.
const READ: [DatumType; 6] = [
    DatumType::F32,
    DatumType::F64,
    DatumType::I64,
    DatumType::I32,
    DatumType::Bool,
    DatumType::String,
];

/// Reads a model. If its graph has a single input, `features` may name the columns of it.
pub(crate) fn read(mut bytes: &[u8], features: &[String]) -> TractResult<Model> {
    // The file's types of intermediate values are ignored, because they may name the number of
    // rows, for which another symbol is used here.
    let mut framework = tract_onnx::onnx().with_ignore_value_info(true);
    ml::register(&mut framework.op_register);
    let mut file = framework.proto_model_for_read(&mut bytes)?;
    let Some(graph) = &mut file.graph else {
        bail!("it has no graph");
    };
    let classes = without_maps(graph);
    check_operators(graph, |name| framework.op_register.0.contains_key(name))?;
    let mut model = framework.model_for_proto_model(&file)?;
    let count = model.input_outlets()?.len();
    if count == 0 {
        bail!("it has no inputs");
    }
    let rows = model.symbols.new_with_prefix("rows");
    let (mut inputs, mut is_single) = (Vec::new(), false);
    for index in 0..count {
        let features = if count == 1 { features } else { &[] };
        let (input, takes_one) = input(&model, index, features)?;
        is_single |= takes_one;
        let first = if is_single { 1.to_dim() } else { rows.to_dim() };
        let shape: TVec<TDim> = match input.rank {
            1 => tvec!(first),
            _ => tvec!(first, input.width.to_dim()),
        };
        model.set_input_fact(index, InferenceFact::dt_shape(input.datum, shape))?;
        inputs.push(input);
    }
    let model = model.into_typed()?.into_decluttered()?;
    let count = model.output_outlets()?.len();
    let outputs = (0..count).map(|index| {
        let mut output = output(&model, index, &rows, is_single)?;
        if let Some(classes) = classes.get(&output.name) {
            output.doc = format!("Probabilities of the classes {}.", classes.join(", "));
        }
        output.name = column_name(&output.name);
        Ok(output)
    });
    let outputs = outputs.collect::<TractResult<_>>()?;
    Ok(Model {
        plan: model.into_optimized()?.into_runnable()?,
        inputs,
        outputs,
        class: None,
        is_single,
    })
}

/// Replaces `ZipMap`, which makes a map of each row's probabilities, so that they stay a list.
/// Returns the classes of the lists, in order, by the names of the outputs.
fn without_maps(graph: &mut GraphProto) -> BTreeMap<String, Vec<String>> {
    let mut classes = BTreeMap::new();
    for node in &mut graph.node {
        if node.op_type != "ZipMap" {
            continue;
        }
        if let Some(output) = node.output.first() {
            classes.insert(output.clone(), map_keys(node));
        }
        node.op_type = "Identity".to_owned();
        node.domain.clear();
        node.attribute.clear();
    }
    for output in &mut graph.output {
        // The type of a map cannot be that of a tensor.
        if classes.contains_key(&output.name) {
            output.r#type = None;
        }
    }
    classes
}

fn map_keys(node: &NodeProto) -> Vec<String> {
    let keys = node.attribute.iter().flat_map(|attribute| {
        let integers = attribute.ints.iter().map(ToString::to_string);
        let texts = attribute.strings.iter();
        integers.chain(texts.map(|text| String::from_utf8_lossy(text).into_owned()))
    });
    keys.collect()
}

/// Refuses a graph with operators that are not there, and names all of them.
fn check_operators(graph: &GraphProto, is_known: impl Fn(&str) -> bool) -> TractResult<()> {
    let mut unknown = BTreeSet::new();
    let mut open = vec![graph];
    while let Some(graph) = open.pop() {
        for node in &graph.node {
            if !is_known(&node.op_type) {
                let domain = match node.domain.as_str() {
                    "" => "ai.onnx",
                    domain => domain,
                };
                unknown.insert(format!("`{}` ({domain})", node.op_type));
            }
            let attributes = node.attribute.iter();
            open.extend(
                attributes.flat_map(|attribute| attribute.g.iter().chain(&attribute.graphs)),
            );
        }
    }
    if unknown.is_empty() {
        return Ok(());
    }
    let unknown: Vec<String> = unknown.into_iter().collect();
    bail!(
        "it has operators that are not supported: {}. Leave these steps out of the exported pipeline and compute \
         them in a function before it",
        unknown.join(", ")
    )
}

/// An input of the graph, and whether it takes one row at a time.
fn input(
    model: &InferenceModel,
    index: usize,
    features: &[String],
) -> TractResult<(GraphInput, bool)> {
    let name = model.node(model.input_outlets()?[index].node).name.clone();
    let fact = model.input_fact(index)?;
    let datum = fact.datum_type.concretize();
    let datum = datum.ok_or_else(|| format_err!("input `{name}` has no type"))?;
    if !READ.contains(&datum) {
        bail!("input `{name}` is of {datum:?}; only numbers, booleans and texts are read");
    }
    let dims = fact.shape.dims();
    let dims = dims.map(|dim| dim.concretize().and_then(|dim| dim.to_usize().ok()));
    let dims: Vec<Option<usize>> = dims.collect();
    let rows = match dims[..] {
        [rows] | [rows, _] => rows,
        _ => bail!(
            "input `{name}` has {} dimensions; only [N] and [N, k] are read",
            dims.len()
        ),
    };
    if let Some(rows) = rows.filter(|rows| *rows != 1) {
        bail!("input `{name}` takes {rows} rows at a time; make the first dimension free, or 1");
    }
    let by_columns = !features.is_empty();
    let width = match dims.get(1) {
        None => 1,
        Some(Some(width)) if *width > 0 => *width,
        Some(_) if by_columns => features.len(),
        Some(_) => bail!("input `{name}` does not say how many values it takes"),
    };
    if by_columns && features.len() != width {
        bail!(
            "parameter `features` names {}, and input `{name}` takes {width}",
            features.len()
        );
    }
    if !by_columns && width > 1 && datum == DatumType::String {
        bail!(
            "input `{name}` takes {width} texts in a row: name their columns in a parameter `features`, or export the \
             model with an input for each column"
        );
    }
    let input = GraphInput {
        columns: match by_columns {
            true => features.to_vec(),
            false => vec![column_name(&name)],
        },
        width,
        is_vector: !by_columns && width > 1,
        datum,
        rank: dims.len(),
    };
    Ok((input, rows == Some(1)))
}

/// An output of the graph, under its name in the graph.
fn output(
    model: &TypedModel,
    index: usize,
    rows: &Symbol,
    is_single: bool,
) -> TractResult<GraphOutput> {
    let outlet = model.output_outlets()?[index];
    let fact = model.output_fact(index)?;
    let label = model.outlet_label(outlet).map(str::to_owned);
    let name = label.unwrap_or_else(|| model.node(outlet.node).name.clone());
    let first = fact.shape.first();
    if first.is_none_or(|dim| *dim != rows.to_dim() && !(is_single && dim.is_one())) {
        bail!("output `{name}` has not a row for each row of the inputs");
    }
    let width = match fact.shape.len() {
        1 => None,
        2 => match fact.shape[1].to_usize() {
            Ok(1) => None,
            Ok(0) => bail!("output `{name}` has no values"),
            Ok(width) => Some(width),
            Err(_) => bail!("output `{name}` does not say how many values it has"),
        },
        dims => bail!("output `{name}` has {dims} dimensions; only [N] and [N, k] can be answered"),
    };
    Ok(GraphOutput {
        name,
        datum: fact.datum_type,
        width,
        doc: "Output of the ONNX graph.".to_owned(),
    })
}

/// Turns a name of the graph into a valid column name.
fn column_name(name: &str) -> String {
    let word = |c: char| {
        if c.is_alphanumeric() || c == '_' {
            c
        } else {
            '_'
        }
    };
    let name: String = name.chars().map(word).collect();
    match name.starts_with(|c: char| c.is_ascii_digit()) {
        true => format!("_{name}"),
        false => name,
    }
}
