//! A shared library in the format of
//! <https://github.com/WebAssembly/tool-conventions/blob/main/DynamicLinking.md>.

use std::collections::HashMap;

use anyhow::{Context as _, Result, bail};
use wasmparser::{
    Data, DataKind, Dylink0Subsection, Element, ElementItems, ElementKind, ExternalKind, FuncType,
    FunctionBody, Global, KnownCustom, Name, Operator, Parser, Payload, TypeRef,
};

/// A global that a library imports.
#[derive(Clone, Debug)]
pub(crate) enum ImportedGlobal {
    StackPointer,
    MemoryBase,
    TableBase,
    /// The address of a variable.
    Address(String),
    /// The index of a function in the table.
    Slot(String),
}

/// What a library exports under a name.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Exported {
    Function(u32),
    Global(u32),
}

/// A library that has been read.
pub(crate) struct Library<'a> {
    pub(crate) name: String,
    pub(crate) memory_size: u32,
    /// As a power of two.
    pub(crate) memory_alignment: u32,
    pub(crate) table_size: u32,
    pub(crate) types: Vec<FuncType>,
    /// Module, name and type of each function that is imported.
    pub(crate) imported_functions: Vec<(String, String, u32)>,
    pub(crate) imported_globals: Vec<ImportedGlobal>,
    /// Types of the functions that are defined.
    pub(crate) functions: Vec<u32>,
    pub(crate) globals: Vec<Global<'a>>,
    pub(crate) exports: HashMap<String, Exported>,
    pub(crate) elements: Vec<Element<'a>>,
    pub(crate) data: Vec<Data<'a>>,
    pub(crate) bodies: Vec<FunctionBody<'a>>,
    /// Names of functions, for those that have one.
    pub(crate) names: HashMap<u32, String>,
}

impl<'a> Library<'a> {
    pub(crate) fn read(name: &str, bytes: &'a [u8]) -> Result<Self> {
        let mut library = Library {
            name: name.to_owned(),
            memory_size: 0,
            memory_alignment: 0,
            table_size: 0,
            types: Vec::new(),
            imported_functions: Vec::new(),
            imported_globals: Vec::new(),
            functions: Vec::new(),
            globals: Vec::new(),
            exports: HashMap::new(),
            elements: Vec::new(),
            data: Vec::new(),
            bodies: Vec::new(),
            names: HashMap::new(),
        };
        for payload in Parser::new(0).parse_all(bytes) {
            library
                .section(payload?)
                .with_context(|| format!("in {name}"))?;
        }
        Ok(library)
    }

    fn section(&mut self, payload: Payload<'a>) -> Result<()> {
        match payload {
            Payload::TypeSection(types) => {
                for ty in types.into_iter_err_on_gc_types() {
                    self.types.push(ty?);
                }
            }
            Payload::ImportSection(imports) => {
                for import in imports.into_imports() {
                    let import = import?;
                    self.import(import.module, import.name, import.ty)?;
                }
            }
            Payload::FunctionSection(functions) => {
                self.functions = functions.into_iter().collect::<Result<_, _>>()?;
            }
            Payload::GlobalSection(globals) => {
                self.globals = globals.into_iter().collect::<Result<_, _>>()?;
            }
            Payload::ExportSection(exports) => {
                for export in exports {
                    let export = export?;
                    let exported = match export.kind {
                        ExternalKind::Func => Exported::Function(export.index),
                        ExternalKind::Global => Exported::Global(export.index),
                        kind => bail!("cannot link an export of kind {kind:?}"),
                    };
                    self.exports.insert(export.name.to_owned(), exported);
                }
            }
            Payload::ElementSection(elements) => {
                self.elements = elements.into_iter().collect::<Result<_, _>>()?;
            }
            Payload::DataSection(data) => {
                self.data = data.into_iter().collect::<Result<_, _>>()?;
            }
            Payload::CodeSectionEntry(body) => self.bodies.push(body),
            Payload::CustomSection(custom) => match custom.as_known() {
                KnownCustom::Dylink0(sections) => {
                    for section in sections {
                        if let Dylink0Subsection::MemInfo(info) = section? {
                            self.memory_size = info.memory_size;
                            self.memory_alignment = info.memory_alignment;
                            self.table_size = info.table_size;
                        }
                    }
                }
                KnownCustom::Name(names) => {
                    for name in names {
                        if let Name::Function(functions) = name? {
                            for function in functions {
                                let function = function?;
                                self.names.insert(function.index, function.name.to_owned());
                            }
                        }
                    }
                }
                _ => {}
            },
            // The start function zeroes memory that is zero already.
            Payload::StartSection { .. } => {}
            Payload::MemorySection(_) | Payload::TableSection(_) | Payload::TagSection(_) => {
                bail!("a library imports its memory and table")
            }
            _ => {}
        }
        Ok(())
    }

    fn import(&mut self, module: &str, name: &str, ty: TypeRef) -> Result<()> {
        match ty {
            TypeRef::Func(ty) | TypeRef::FuncExact(ty) => {
                self.imported_functions
                    .push((module.to_owned(), name.to_owned(), ty));
            }
            TypeRef::Global(_) => {
                let global = match (module, name) {
                    ("env", "__stack_pointer") => ImportedGlobal::StackPointer,
                    ("env", "__memory_base") => ImportedGlobal::MemoryBase,
                    ("env", "__table_base") => ImportedGlobal::TableBase,
                    ("GOT.mem", name) => ImportedGlobal::Address(name.to_owned()),
                    ("GOT.func", name) => ImportedGlobal::Slot(name.to_owned()),
                    _ => bail!("cannot link the global {module} {name}"),
                };
                self.imported_globals.push(global);
            }
            TypeRef::Memory(_) | TypeRef::Table(_) => {}
            TypeRef::Tag(_) => bail!("cannot link exceptions"),
        }
        Ok(())
    }

    /// Returns the functions of an element segment.
    pub(crate) fn slots(element: &Element<'a>) -> Result<Vec<u32>> {
        match &element.items {
            ElementItems::Functions(functions) => {
                Ok(functions.clone().into_iter().collect::<Result<_, _>>()?)
            }
            ElementItems::Expressions(..) => bail!("cannot link an element segment of expressions"),
        }
    }

    /// Returns where an element segment begins.
    pub(crate) fn element_offset(
        element: &Element<'a>,
        global: impl Fn(u32) -> Result<i32>,
    ) -> Result<u32> {
        match &element.kind {
            ElementKind::Active { offset_expr, .. } => {
                Ok(evaluate(offset_expr.get_operators_reader(), global)?.cast_unsigned())
            }
            _ => bail!("cannot link a passive element segment"),
        }
    }

    /// Returns where a data segment begins.
    pub(crate) fn data_offset(data: &Data<'a>, global: impl Fn(u32) -> Result<i32>) -> Result<u32> {
        match &data.kind {
            DataKind::Active { offset_expr, .. } => {
                Ok(evaluate(offset_expr.get_operators_reader(), global)?.cast_unsigned())
            }
            DataKind::Passive => bail!("cannot link a passive data segment"),
        }
    }
}

/// Computes a constant expression of 32-bit integers.
pub(crate) fn evaluate(
    mut operators: wasmparser::OperatorsReader<'_>,
    global: impl Fn(u32) -> Result<i32>,
) -> Result<i32> {
    let mut stack = Vec::new();
    while !operators.is_end_then_eof() {
        let value = match operators.read()? {
            Operator::I32Const { value } => value,
            Operator::GlobalGet { global_index } => global(global_index)?,
            Operator::I32Add => {
                let (Some(right), Some(left)) = (stack.pop(), stack.pop()) else {
                    bail!("a constant expression lacks operands");
                };
                i32::wrapping_add(left, right)
            }
            other => bail!("cannot compute {other:?}"),
        };
        stack.push(value);
    }
    stack.pop().context("a constant expression is empty")
}
