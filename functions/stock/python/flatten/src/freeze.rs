//! Freezing: the memory and the globals of an instance become those that its module begins with.

use anyhow::{Context as _, Result, bail};
use wasm_encoder::reencode::Reencode as _;
use wasm_encoder::{
    ConstExpr, DataSection, ExportKind, ExportSection, GlobalSection, GlobalType, MemorySection,
    MemoryType, Module, RawSection, ValType,
};
use wasmparser::{ExternalKind, Parser, Payload};

const PAGE: usize = 64 << 10;
/// Fewer zeros than this do not end a data segment.
const GAP: usize = 64;
/// Compilers refuse modules with more segments.
const MAX_SEGMENTS: usize = 90_000;

/// Makes `memory` and `globals` the initial state of a module, which keeps its memory and `exports`
/// as its only exports.
pub(crate) fn freeze(
    module: &[u8],
    memory: &[u8],
    globals: &[i64],
    exports: &[&str],
) -> Result<Vec<u8>> {
    let mut frozen = Module::new();
    for payload in Parser::new(0).parse_all(module) {
        match payload? {
            Payload::MemorySection(_) => {
                let mut section = MemorySection::new();
                section.memory(MemoryType {
                    minimum: memory.len().div_ceil(PAGE) as u64,
                    maximum: None,
                    memory64: false,
                    shared: false,
                    page_size_log2: None,
                });
                frozen.section(&section);
            }
            Payload::GlobalSection(section) => {
                frozen.section(&global_section(section, globals)?);
            }
            Payload::ExportSection(section) => {
                frozen.section(&export_section(section, exports)?);
            }
            Payload::DataSection(_) => {
                frozen.section(&data_section(memory)?);
            }
            Payload::CustomSection(_) => {}
            other => {
                if let Some((id, range)) = other.as_section() {
                    let start = usize::try_from(range.start)?;
                    let data = &module[start..usize::try_from(range.end)?];
                    frozen.section(&RawSection { id, data });
                }
            }
        }
    }
    Ok(frozen.finish())
}

fn global_section(
    section: wasmparser::GlobalSectionReader<'_>,
    globals: &[i64],
) -> Result<GlobalSection> {
    let mut frozen = GlobalSection::new();
    let mut values = globals.iter();
    for global in section {
        let global = global?;
        if !global.ty.mutable {
            let mut plain = wasm_encoder::reencode::RoundtripReencoder;
            frozen.global(
                plain.global_type(global.ty)?,
                &plain.const_expr(global.init_expr)?,
            );
            continue;
        }
        if global.ty.content_type != wasmparser::ValType::I32 {
            bail!("cannot freeze a global of another type than i32");
        }
        let value = values
            .next()
            .context("there are more variables than GLOBALS")?;
        frozen.global(
            GlobalType {
                val_type: ValType::I32,
                mutable: true,
                shared: false,
            },
            &ConstExpr::i32_const(i32::try_from(*value)?),
        );
    }
    Ok(frozen)
}

fn export_section(
    section: wasmparser::ExportSectionReader<'_>,
    exports: &[&str],
) -> Result<ExportSection> {
    let mut frozen = ExportSection::new();
    for export in section {
        let export = export?;
        let kind = match export.kind {
            ExternalKind::Func => ExportKind::Func,
            ExternalKind::Memory => ExportKind::Memory,
            _ => continue,
        };
        let is_kept = export.kind == ExternalKind::Memory
            || exports.iter().any(|prefix| export.name.contains(prefix));
        if is_kept {
            frozen.export(export.name, kind, export.index);
        }
    }
    Ok(frozen)
}

/// Returns the parts of a memory that are not zero.
fn data_section(memory: &[u8]) -> Result<DataSection> {
    let mut section = DataSection::new();
    let mut segments = 0;
    let mut at = 0;
    while let Some(start) = memory[at..].iter().position(|byte| *byte != 0) {
        let start = at + start;
        let mut end = start + 1;
        let mut zeros = 0;
        for (index, byte) in memory.iter().enumerate().skip(end) {
            if *byte == 0 {
                zeros += 1;
                if zeros > GAP {
                    break;
                }
            } else {
                zeros = 0;
                end = index + 1;
            }
        }
        let offset = ConstExpr::i32_const(u32::try_from(start)?.cast_signed());
        section.active(0, &offset, memory[start..end].iter().copied());
        segments += 1;
        at = end;
    }
    if segments > MAX_SEGMENTS {
        bail!("the memory has {segments} parts, more than {MAX_SEGMENTS}");
    }
    Ok(section)
}
