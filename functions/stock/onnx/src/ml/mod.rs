//! The operators of `ai.onnx.ml` that scikit-learn's pipelines are exported with: the standard of
//! traditional machine learning beside ONNX. Tract has few of them; here they compute what
//! onnxruntime computes, also where the standard leaves it open.
//!
//! Each operator is a [`Kernel`]. [`Operator`] makes it a node of tract's graphs.

mod encoders;
mod linear;
mod scores;
mod svm;
mod trees;

use std::fmt::Debug;
use std::sync::Arc;

use tract_onnx::model::{OnnxOpRegister, ParsingContext};
use tract_onnx::pb::{NodeProto, TensorProto};
use tract_onnx::prelude::*;
use tract_onnx::tract_hir::internal::*;

pub(crate) use encoders::NO_CATEGORY;

/// The type and the shape of a tensor. The number of rows is a symbol.
pub(crate) type Fact = (DatumType, TVec<TDim>);

/// What an operator computes, with its attributes.
pub(crate) trait Kernel: Debug + Send + Sync + 'static {
    /// The types and shapes of the outputs.
    fn outputs(&self, inputs: &[Fact]) -> TractResult<Vec<Fact>>;

    /// Computes the outputs.
    fn run(&self, inputs: &[&Tensor]) -> TractResult<Vec<Tensor>>;
}

/// Adds the operators to those of tract, or replaces them: some of tract's own differ from
/// onnxruntime's in corners.
pub(crate) fn register(operators: &mut OnnxOpRegister) {
    operators.insert("ArrayFeatureExtractor", |_, node| {
        operator(node, encoders::ArrayFeatureExtractor)
    });
    operators.insert("Binarizer", |_, node| {
        operator(node, encoders::Binarizer::read(node)?)
    });
    operators.insert("CategoryMapper", |_, node| {
        operator(node, encoders::CategoryMapper::read(node)?)
    });
    operators.insert("FeatureVectorizer", |_, node| {
        operator(node, encoders::FeatureVectorizer::read(node)?)
    });
    operators.insert("Imputer", |_, node| {
        operator(node, encoders::Imputer::read(node)?)
    });
    operators.insert("LabelEncoder", |context, node| {
        match list::<String>(node, "classes_strings")?.is_empty() {
            true => operator(node, encoders::LabelEncoder::read(context, node)?),
            false => operator(node, encoders::CategoryMapper::of_classes(node)?),
        }
    });
    operators.insert("LinearClassifier", |_, node| {
        operator(node, linear::LinearClassifier::read(node)?)
    });
    operators.insert("LinearRegressor", |_, node| {
        operator(node, linear::LinearRegressor::read(node)?)
    });
    operators.insert("Normalizer", |_, node| {
        operator(node, encoders::Normalizer::read(node)?)
    });
    operators.insert("OneHotEncoder", |_, node| {
        operator(node, encoders::OneHotEncoder::read(node)?)
    });
    operators.insert("SVMClassifier", |_, node| {
        operator(node, svm::SvmClassifier::read(node)?)
    });
    operators.insert("SVMRegressor", |_, node| {
        operator(node, svm::SvmRegressor::read(node)?)
    });
    operators.insert("Scaler", |_, node| {
        operator(node, encoders::Scaler::read(node)?)
    });
    operators.insert("TreeEnsembleClassifier", |context, node| {
        operator(node, trees::TreeClassifier::read(context, node)?)
    });
    operators.insert("TreeEnsembleRegressor", |context, node| {
        operator(node, trees::TreeRegressor::read(context, node)?)
    });
}

type Built = (Box<dyn InferenceOp>, Vec<String>);

fn operator(node: &NodeProto, kernel: impl Kernel) -> TractResult<Built> {
    let outputs = node.output.iter().enumerate();
    let named = outputs.filter(|(_, name)| !name.is_empty());
    let operator = Operator {
        name: node.op_type.clone(),
        outputs: named.map(|(place, _)| place).collect(),
        kernel: Arc::new(kernel),
    };
    Ok((expand(operator), Vec::new()))
}

/// A node of a graph.
#[derive(Clone, Debug)]
struct Operator {
    name: String,
    /// Which of the kernel's outputs the graph names. Others have no place in tract's node.
    outputs: Vec<usize>,
    kernel: Arc<dyn Kernel>,
}

impl PartialEq for Operator {
    fn eq(&self, other: &Self) -> bool {
        self.outputs == other.outputs && Arc::ptr_eq(&self.kernel, &other.kernel)
    }
}

impl Eq for Operator {}

impl Operator {
    /// Those of the kernel's outputs that the graph names.
    fn named<T>(&self, outputs: Vec<T>) -> TractResult<TVec<T>> {
        let mut outputs: Vec<Option<T>> = outputs.into_iter().map(Some).collect();
        let place = |place: &usize| outputs.get_mut(*place).and_then(Option::take);
        let named = self.outputs.iter().map(place);
        named
            .collect::<Option<_>>()
            .with_context(|| format!("{} has fewer outputs than the graph names", self.name))
    }

    fn facts(&self, inputs: &[Fact]) -> TractResult<TVec<Fact>> {
        let facts = self.kernel.outputs(inputs);
        self.named(facts.with_context(|| self.name.clone())?)
    }
}

impl Op for Operator {
    fn name(&self) -> StaticName {
        self.name.clone().into()
    }

    op_as_typed_op!();
}

impl EvalOp for Operator {
    op_out_of_plan!();

    fn eval(&self, _: &EvalContext, inputs: TVec<TValue>) -> TractResult<TVec<TValue>> {
        let inputs: Vec<&Tensor> = inputs.iter().map(|input| &**input).collect();
        let outputs = self.kernel.run(&inputs);
        let outputs = self.named(outputs.with_context(|| self.name.clone())?)?;
        Ok(outputs.into_iter().map(IntoTValue::into_tvalue).collect())
    }
}

impl TypedOp for Operator {
    as_op!();

    fn output_facts(&self, inputs: &[&TypedFact]) -> TractResult<TVec<TypedFact>> {
        let fact = |input: &&TypedFact| (input.datum_type, input.shape.to_tvec());
        let inputs: Vec<Fact> = inputs.iter().map(fact).collect();
        let facts = self.facts(&inputs)?.into_iter();
        Ok(facts.map(|(datum, shape)| datum.fact(shape)).collect())
    }
}

impl Expansion for Operator {
    fn name(&self) -> StaticName {
        self.name.clone().into()
    }

    fn nboutputs(&self) -> TractResult<usize> {
        Ok(self.outputs.len())
    }

    fn rules<'r, 'p: 'r, 's: 'r>(
        &'s self,
        solver: &mut Solver<'r>,
        inputs: &'p [TensorProxy],
        outputs: &'p [TensorProxy],
    ) -> InferenceResult {
        let types = inputs.iter().map(|input| (&input.datum_type).bex());
        solver.given_all(types, move |solver, types: Vec<DatumType>| {
            let shapes = inputs.iter().map(|input| &input.shape);
            solver.given_all(shapes, move |solver, shapes: Vec<TVec<TDim>>| {
                let facts: Vec<Fact> = types.iter().copied().zip(shapes).collect();
                for (output, (datum, shape)) in outputs.iter().zip(self.facts(&facts)?) {
                    solver.equals(&output.datum_type, datum)?;
                    solver.equals(&output.shape, shape)?;
                }
                Ok(())
            })
        })
    }

    fn wire(
        &self,
        prefix: &str,
        model: &mut TypedModel,
        inputs: &[OutletId],
    ) -> TractResult<TVec<OutletId>> {
        model.wire_node(prefix, self.clone(), inputs)
    }
}

/// Rows of numbers of 32 bits, as most of the operators read them.
struct Matrix {
    width: usize,
    values: Vec<f32>,
}

impl Matrix {
    fn read(tensor: &Tensor) -> TractResult<Self> {
        let width = width(tensor.shape())?;
        let wide = tensor.cast_to::<f32>()?;
        let values = wide.try_as_plain_ram()?.as_slice::<f32>()?.to_vec();
        Ok(Self { width, values })
    }

    fn count(&self) -> usize {
        self.values.len().checked_div(self.width).unwrap_or(0)
    }

    fn rows(&self) -> impl Iterator<Item = &[f32]> {
        self.values.chunks_exact(self.width.max(1))
    }

    /// Checks that the rows have as many numbers as the operator's attributes are made for.
    fn expect_width(&self, wanted: usize) -> TractResult<()> {
        ensure!(
            self.width == wanted,
            "it is made for {wanted} numbers in a row, and gets {}",
            self.width
        );
        Ok(())
    }
}

/// The number of numbers in a row. A tensor of one dimension is a single row.
fn width(shape: &[usize]) -> TractResult<usize> {
    match shape {
        [width] | [_, width] => Ok(*width),
        _ => bail!(
            "it reads rows, and gets a tensor of {} dimensions",
            shape.len()
        ),
    }
}

/// The number of rows of an input.
fn rows(input: &Fact) -> TractResult<TDim> {
    match &*input.1 {
        [_] => Ok(1.to_dim()),
        [rows, _] => Ok(rows.clone()),
        shape => bail!(
            "it reads rows, and gets a tensor of {} dimensions",
            shape.len()
        ),
    }
}

/// The only input of an operator.
fn only<T>(inputs: &[T]) -> TractResult<&T> {
    match inputs {
        [input] => Ok(input),
        _ => bail!("it has {} inputs instead of 1", inputs.len()),
    }
}

/// Values of one type, such as classes or categories.
#[derive(Clone, Debug, PartialEq)]
enum List {
    Texts(Vec<String>),
    Integers(Vec<i64>),
    Floats(Vec<f32>),
    Doubles(Vec<f64>),
}

impl List {
    fn from_tensor(tensor: &Tensor) -> TractResult<Self> {
        let plain = tensor.try_as_plain_ram()?;
        Ok(match tensor.datum_type() {
            DatumType::String => Self::Texts(plain.as_slice::<String>()?.to_vec()),
            DatumType::I64 => Self::Integers(plain.as_slice::<i64>()?.to_vec()),
            DatumType::F32 => Self::Floats(plain.as_slice::<f32>()?.to_vec()),
            DatumType::F64 => Self::Doubles(plain.as_slice::<f64>()?.to_vec()),
            DatumType::I32 | DatumType::Bool => {
                let wide = tensor.cast_to::<i64>()?;
                Self::Integers(wide.try_as_plain_ram()?.as_slice::<i64>()?.to_vec())
            }
            other => bail!("it does not read {other:?}"),
        })
    }

    /// The classes of a classifier, whose attributes have these names.
    fn classes(node: &NodeProto, integers: &str, texts: &str) -> TractResult<Self> {
        let integers: Vec<i64> = list(node, integers)?;
        let texts: Vec<String> = list(node, texts)?;
        match (integers.is_empty(), texts.is_empty()) {
            (true, false) => Ok(Self::Texts(texts)),
            (false, true) => Ok(Self::Integers(integers)),
            _ => node.bail("it has no classes, or classes of two types"),
        }
    }

    fn len(&self) -> usize {
        match self {
            Self::Texts(values) => values.len(),
            Self::Integers(values) => values.len(),
            Self::Floats(values) => values.len(),
            Self::Doubles(values) => values.len(),
        }
    }

    fn datum_type(&self) -> DatumType {
        match self {
            Self::Texts(_) => DatumType::String,
            Self::Integers(_) => DatumType::I64,
            Self::Floats(_) => DatumType::F32,
            Self::Doubles(_) => DatumType::F64,
        }
    }

    /// The tensor whose values are those at some places of the list.
    fn pick(&self, places: &[usize], shape: &[usize]) -> TractResult<Tensor> {
        fn picked<T: Datum>(
            values: &[T],
            places: &[usize],
            shape: &[usize],
        ) -> TractResult<Tensor> {
            let value = |place: &usize| values.get(*place).cloned();
            let picked: Option<Vec<T>> = places.iter().map(value).collect();
            tensor(shape, picked.context("a value that is not listed")?)
        }
        match self {
            Self::Texts(values) => picked(values, places, shape),
            Self::Integers(values) => picked(values, places, shape),
            Self::Floats(values) => picked(values, places, shape),
            Self::Doubles(values) => picked(values, places, shape),
        }
    }
}

/// An attribute that is a list; empty where the node does not have it.
fn list<'a, T: tract_onnx::pb_helpers::AttrTVecType<'a>>(
    node: &'a NodeProto,
    name: &str,
) -> TractResult<Vec<T>> {
    Ok(node.get_attr_opt_vec(name)?.unwrap_or_default())
}

/// An attribute that is a list of numbers, of 32 bits under its own name or of 64 bits as a tensor,
/// under its name with `_as_tensor`.
fn numbers(context: &ParsingContext<'_>, node: &NodeProto, name: &str) -> TractResult<Vec<f64>> {
    let narrow: Vec<f32> = list(node, name)?;
    if !narrow.is_empty() {
        return Ok(narrow.into_iter().map(f64::from).collect());
    }
    let tensor: Option<&TensorProto> = node.get_attr_opt(&format!("{name}_as_tensor"))?;
    let Some(tensor) = tensor else {
        return Ok(Vec::new());
    };
    let tensor = context.load_tensor(tensor)?;
    let wide = tensor.cast_to::<f64>()?;
    Ok(wide.try_as_plain_ram()?.as_slice::<f64>()?.to_vec())
}

/// Returns a tensor of values of any type, texts included.
pub(crate) fn tensor<T: Datum>(shape: &[usize], values: Vec<T>) -> TractResult<Tensor> {
    Ok(tract_ndarray::ArrayD::from_shape_vec(shape, values)?.into_tensor())
}
