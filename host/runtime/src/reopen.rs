//! Opening the streams of WASI again that were open when a function was initialised.
//!
//! A snapshot has the memory of a component, in which the indices of its handles are, and not the
//! table that they are indices of (`handles.rs`). Many standard libraries open their three streams
//! before anything else. So the snapshot gets one more core module, which calls the functions that
//! open them, in the same order, while a new instance is made.

use std::collections::HashMap;

use wasm_encoder::{
    Alias, CanonicalFunctionSection, CodeSection, ComponentAliasSection, ComponentExportKind,
    ComponentSection as _, EntityType, ExportKind, Function, FunctionSection, ImportSection,
    InstanceSection, Module, ModuleArg, ModuleSection, StartSection, TypeSection, ValType,
};
use wasmparser::{ComponentTypeRef, Parser, Payload, ValidPayload, Validator, WasmFeatures};

use crate::handles::Handle;
use crate::wasi;

/// Adds what opens `streams` in a new instance to a component.
///
/// # Errors
/// Returns why it cannot be added.
pub(crate) fn with_streams(mut component: Vec<u8>, streams: &[Handle]) -> Result<Vec<u8>, String> {
    if streams.is_empty() {
        return Ok(component);
    }
    let contents = Contents::of(&component)?;
    let mut aliases = ComponentAliasSection::new();
    let mut lowered = CanonicalFunctionSection::new();
    let mut functions = Vec::new();
    for (number, stream) in (0..).zip(streams) {
        let (interface, function) = opener(*stream)?;
        let instance = contents.imports.get(interface);
        let instance = *instance.ok_or_else(|| format!("it does not import `wasi:{interface}`"))?;
        aliases.alias(Alias::InstanceExport {
            instance,
            kind: ComponentExportKind::Func,
            name: function,
        });
        lowered.lower(contents.functions + number, []);
        let lowered = contents.core_functions + number;
        functions.push((number.to_string(), ExportKind::Func, lowered));
    }
    let module = module(functions.len() as u32);
    let mut instances = InstanceSection::new();
    instances.export_items(functions);
    let functions = ModuleArg::Instance(contents.core_instances);
    instances.instantiate(contents.modules, [("", functions)]);

    aliases.append_to_component(&mut component);
    lowered.append_to_component(&mut component);
    ModuleSection(&module).append_to_component(&mut component);
    instances.append_to_component(&mut component);
    Ok(component)
}

/// Returns the interface and the function that open a stream.
fn opener(stream: Handle) -> Result<(&'static str, &'static str), String> {
    match stream {
        Handle::Stdin => Ok(("cli/stdin", "get-stdin")),
        Handle::Stdout => Ok(("cli/stdout", "get-stdout")),
        Handle::Stderr => Ok(("cli/stderr", "get-stderr")),
        Handle::Ready | Handle::Never => Err("it waits for something".to_owned()),
    }
}

/// Makes a module that imports functions by their numbers, and calls each when it starts. They
/// return handles, which nobody needs: the component has them already.
fn module(count: u32) -> Module {
    let mut types = TypeSection::new();
    types.ty().function([], [ValType::I32]);
    types.ty().function([], []);
    let mut imports = ImportSection::new();
    let mut start = Function::new([]);
    for number in 0..count {
        imports.import("", &number.to_string(), EntityType::Function(0));
        start.instructions().call(number).drop();
    }
    start.instructions().end();
    let mut functions = FunctionSection::new();
    functions.function(1);
    let mut code = CodeSection::new();
    code.function(&start);

    let mut module = Module::new();
    module.section(&types).section(&imports).section(&functions);
    module.section(&StartSection {
        function_index: count,
    });
    module.section(&code);
    module
}

/// How many things of each kind a component has, by which those that are added are numbered.
struct Contents {
    functions: u32,
    core_functions: u32,
    core_instances: u32,
    modules: u32,
    /// The number of the instance by which an interface of WASI is imported.
    imports: HashMap<String, u32>,
}

impl Contents {
    fn of(component: &[u8]) -> Result<Self, String> {
        let mut validator = Validator::new_with_features(WasmFeatures::all());
        let mut imports = HashMap::new();
        let mut types = None;
        let mut depth = 0_i64;
        for payload in Parser::new(0).parse_all(component) {
            let payload = payload.map_err(|e| e.to_string())?;
            match &payload {
                Payload::ModuleSection { .. } | Payload::ComponentSection { .. } => depth += 1,
                Payload::End(_) => depth -= 1,
                Payload::ComponentImportSection(section) if depth == 0 => {
                    let known = validator.types(0);
                    let mut number = known.map_or(0, |types| types.component_instance_count());
                    for import in section.clone() {
                        let import = import.map_err(|e| e.to_string())?;
                        if !matches!(import.ty, ComponentTypeRef::Instance(_)) {
                            continue;
                        }
                        if let Some(interface) = wasi::interface(import.name.name) {
                            imports.entry(interface.to_owned()).or_insert(number);
                        }
                        number += 1;
                    }
                }
                _ => {}
            }
            let valid = validator.payload(&payload).map_err(|e| e.to_string())?;
            if let ValidPayload::End(known) = valid {
                types = Some(known);
            }
        }
        let types = types.ok_or_else(|| "it has no end".to_owned())?;
        let types = types.as_ref();
        Ok(Self {
            functions: types.component_function_count(),
            core_functions: types.function_count(),
            core_instances: types.core_instance_count(),
            modules: types.module_count(),
            imports,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A component that has nothing.
    const EMPTY: &[u8] = b"\0asm\x0d\0\x01\0";

    #[test]
    fn a_component_without_open_streams_stays_as_it_is() {
        assert_eq!(with_streams(EMPTY.to_vec(), &[]).unwrap(), EMPTY);
        // It is not even read.
        let other = b"other".to_vec();
        assert_eq!(with_streams(other.clone(), &[]).unwrap(), other);
    }

    #[test]
    fn a_stream_that_cannot_be_opened_is_an_error() {
        for (component, stream, wanted) in [
            (
                EMPTY,
                Handle::Stderr,
                "it does not import `wasi:cli/stderr`",
            ),
            (EMPTY, Handle::Never, "it waits for something"),
            (&EMPTY[..6], Handle::Stdin, "unexpected end"),
        ] {
            let said = with_streams(component.to_vec(), &[stream]).unwrap_err();
            assert!(said.contains(wanted), "{said}");
        }
    }
}
