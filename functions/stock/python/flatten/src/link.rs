//! Linking libraries into one module.

use std::collections::{BTreeMap, HashMap};

use anyhow::{Context as _, Result, bail};
use wasm_encoder::reencode::{Reencode, utils};
use wasm_encoder::{
    CodeSection, ConstExpr, DataSection, ElementSection, Elements, EntityType, ExportKind,
    ExportSection, Function, FunctionSection, GlobalSection, GlobalType, ImportSection,
    Instruction, MemorySection, MemoryType, Module, NameMap, NameSection, RefType, TableSection,
    TableType, TypeSection, ValType,
};
use wasmparser::{FuncType, Operator};

use crate::library::{Exported, ImportedGlobal, Library, evaluate};

const PAGE: u32 = 64 << 10;
/// Where the stack begins to grow down to: an overflow leaves the memory and traps.
const STACK_LOW: u32 = 1024;
/// Interfaces that the linked module imports. Others are implemented by the libraries.
const IMPORTED: &str = "wafer:function/log@0.1.0";
/// Exports of the linked module are those of the first library, and this one, which prepares the
/// memory for all of them.
const INITIALIZE: &str = "_initialize";

/// Links libraries. A name that several of them export is that of the first. The functions whose
/// names begin with one of `dropped` are left out: they trap.
pub(crate) fn link(
    libraries: &[(String, Vec<u8>)],
    stack: u32,
    dropped: &[&str],
) -> Result<Vec<u8>> {
    let libraries = libraries
        .iter()
        .map(|(name, bytes)| Library::read(name, bytes))
        .collect::<Result<Vec<_>>>()?;
    let mut linker = Linker::new(&libraries, stack, dropped)?;
    linker.place_functions();
    for (module, name) in linker.missing.keys().filter(|(module, _)| module == "env") {
        eprintln!("no library has {module} {name}: it traps");
    }
    linker.module()
}

/// Where a function of the linked module comes from.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
enum Origin {
    /// Library and index among those that it defines.
    Defined(usize, u32),
    /// Module and name of a function that no library has; it traps.
    Missing(String, String),
    Imported(String, String),
}

struct Linker<'a> {
    libraries: &'a [Library<'a>],
    dropped: &'a [&'a str],
    stack: u32,
    memory_bases: Vec<u32>,
    table_bases: Vec<u32>,
    heap_base: u32,
    table_end: u32,
    types: Vec<FuncType>,
    type_indices: HashMap<FuncType, u32>,
    imports: Vec<(String, String, u32)>,
    missing: BTreeMap<(String, String), u32>,
    /// First index of the functions of each library.
    function_bases: Vec<u32>,
    missing_base: u32,
    /// Functions whose address is taken by a library that does not define them.
    slots: Vec<u32>,
    slot_indices: HashMap<String, u32>,
}

impl<'a> Linker<'a> {
    fn new(libraries: &'a [Library<'a>], stack: u32, dropped: &'a [&'a str]) -> Result<Self> {
        let mut memory = STACK_LOW
            .checked_add(stack)
            .context("the stack is too large")?;
        let mut table = 1;
        let (mut memory_bases, mut table_bases) = (Vec::new(), Vec::new());
        for library in libraries {
            memory = memory.next_multiple_of(1 << library.memory_alignment.max(4));
            memory_bases.push(memory);
            memory = memory
                .checked_add(library.memory_size)
                .context("the data is too large")?;
            table_bases.push(table);
            table += library.table_size;
        }
        Ok(Self {
            libraries,
            dropped,
            stack,
            memory_bases,
            table_bases,
            heap_base: memory.next_multiple_of(16),
            table_end: table,
            types: Vec::new(),
            type_indices: HashMap::new(),
            imports: Vec::new(),
            missing: BTreeMap::new(),
            function_bases: Vec::new(),
            missing_base: 0,
            slots: Vec::new(),
            slot_indices: HashMap::new(),
        })
    }

    fn type_index(&mut self, ty: &FuncType) -> u32 {
        if let Some(index) = self.type_indices.get(ty) {
            return *index;
        }
        let index = self.types.len() as u32;
        self.types.push(ty.clone());
        self.type_indices.insert(ty.clone(), index);
        index
    }

    /// Numbers all functions: those that are imported, those of the libraries, and those that are
    /// missing.
    fn place_functions(&mut self) {
        let libraries = self.libraries;
        for library in libraries {
            for ty in &library.types {
                self.type_index(ty);
            }
            for (module, name, ty) in &library.imported_functions {
                let ty = self.type_indices[&library.types[*ty as usize]];
                match self.origin(module, name) {
                    Origin::Imported(module, name) => {
                        if !self
                            .imports
                            .iter()
                            .any(|(m, n, _)| *m == module && *n == name)
                        {
                            self.imports.push((module, name, ty));
                        }
                    }
                    Origin::Missing(module, name) => {
                        self.missing.entry((module, name)).or_insert(ty);
                    }
                    Origin::Defined(..) => {}
                }
            }
        }
        let mut next = self.imports.len() as u32;
        for library in libraries {
            self.function_bases.push(next);
            next += library.functions.len() as u32;
        }
        self.missing_base = next;
    }

    fn exported(&self, name: &str) -> Option<(usize, Exported)> {
        let mut libraries = self.libraries.iter().enumerate();
        libraries.find_map(|(index, library)| Some((index, *library.exports.get(name)?)))
    }

    /// Finds the function that an import is resolved to. Functions of interfaces are exported by
    /// a library as `module#name`.
    fn origin(&self, module: &str, name: &str) -> Origin {
        if module == IMPORTED {
            return Origin::Imported(module.to_owned(), name.to_owned());
        }
        let symbol = if module == "env" {
            name.to_owned()
        } else {
            format!("{module}#{name}")
        };
        match self.exported(&symbol) {
            Some((index, Exported::Function(function))) => self.function_of(index, function),
            _ => Origin::Missing(module.to_owned(), name.to_owned()),
        }
    }

    fn function_of(&self, library: usize, function: u32) -> Origin {
        let imported = &self.libraries[library].imported_functions;
        match imported.get(function as usize) {
            Some((module, name, _)) => self.origin(module, name),
            None => Origin::Defined(library, function - imported.len() as u32),
        }
    }

    /// Returns the index of a function of a library in the linked module.
    fn function(&self, library: usize, function: u32) -> u32 {
        match self.function_of(library, function) {
            Origin::Defined(library, index) => self.function_bases[library] + index,
            Origin::Imported(module, name) => {
                let mut imports = self.imports.iter();
                let found = imports.position(|(m, n, _)| *m == module && *n == name);
                found.expect("all imports were placed") as u32
            }
            Origin::Missing(module, name) => {
                let mut missing = self.missing.keys();
                let found = missing.position(|(m, n)| *m == module && *n == name);
                self.missing_base + found.expect("all missing functions were placed") as u32
            }
        }
    }

    /// Returns the address of a variable.
    fn address(&self, name: &str) -> Result<u32> {
        match name {
            "__heap_base" => return Ok(self.heap_base),
            "__heap_end" => return Ok(self.heap_end()),
            "__stack_low" => return Ok(STACK_LOW),
            "__stack_high" => return Ok(STACK_LOW + self.stack),
            _ => {}
        }
        let Some((index, Exported::Global(global))) = self.exported(name) else {
            bail!("no library has the variable {name}");
        };
        let library = &self.libraries[index];
        let Some(defined) = (global as usize).checked_sub(library.imported_globals.len()) else {
            bail!("{} exports {name}, which it imports", library.name);
        };
        let initial = &library.globals[defined].init_expr;
        let offset = evaluate(initial.get_operators_reader(), |_| {
            bail!("the address of {name} is not a constant")
        })?;
        Ok(self.memory_bases[index].wrapping_add_signed(offset))
    }

    fn heap_end(&self) -> u32 {
        self.heap_base.next_multiple_of(PAGE)
    }

    /// Returns the slot of a function in the table, 0 if there is no such function.
    fn slot(&mut self, name: &str) -> u32 {
        if let Some(slot) = self.slot_indices.get(name) {
            return *slot;
        }
        let Some((library, Exported::Function(function))) = self.exported(name) else {
            return 0;
        };
        let slot = self.table_end + self.slots.len() as u32;
        self.slots.push(self.function(library, function));
        self.slot_indices.insert(name.to_owned(), slot);
        slot
    }

    /// Returns the values of the globals that a library imports; `None` is the stack pointer.
    fn imported_globals(&mut self, index: usize) -> Result<Vec<Option<i32>>> {
        let libraries = self.libraries;
        let mut values = Vec::new();
        for global in &libraries[index].imported_globals {
            let value = match global {
                ImportedGlobal::StackPointer => None,
                ImportedGlobal::MemoryBase => Some(self.memory_bases[index]),
                ImportedGlobal::TableBase => Some(self.table_bases[index]),
                ImportedGlobal::Address(name) => Some(self.address(name)?),
                ImportedGlobal::Slot(name) => Some(self.slot(name)),
            };
            values.push(value.map(u32::cast_signed));
        }
        Ok(values)
    }

    fn module(&mut self) -> Result<Vec<u8>> {
        let libraries = self.libraries;
        let mut functions = FunctionSection::new();
        let mut globals = GlobalSection::new();
        let mut code = CodeSection::new();
        let mut data = DataSection::new();
        let mut elements = ElementSection::new();
        let mut names = NameMap::new();

        let stack = (STACK_LOW + self.stack).cast_signed();
        globals.global(mutable(ValType::I32), &ConstExpr::i32_const(stack));
        for (index, (module, name, _)) in self.imports.iter().enumerate() {
            names.append(index as u32, &format!("{module}#{name}"));
        }
        let mut global_base = 1;
        for (index, library) in libraries.iter().enumerate() {
            let imported = self.imported_globals(index)?;
            let constant = |global: u32| {
                let value = imported.get(global as usize).copied().flatten();
                value.context("a constant expression reads a variable")
            };
            for element in &library.elements {
                let offset = Library::element_offset(element, constant)?.cast_signed();
                let slots = Library::slots(element)?;
                let slots: Vec<u32> = slots.iter().map(|f| self.function(index, *f)).collect();
                let offset = ConstExpr::i32_const(offset);
                elements.active(None, &offset, Elements::Functions(slots.into()));
            }
            for segment in &library.data {
                let offset = Library::data_offset(segment, constant)?.cast_signed();
                let bytes = segment.data.iter().copied();
                data.active(0, &ConstExpr::i32_const(offset), bytes);
            }
            let mut reencoder = Reencoder {
                linker: self,
                library: index,
                imported: &imported,
                global_base,
            };
            for global in &library.globals {
                let ty = reencoder.global_type(global.ty)?;
                let initial = evaluate(global.init_expr.get_operators_reader(), constant)?;
                globals.global(ty, &ConstExpr::i32_const(initial));
            }
            for (number, body) in library.bodies.iter().enumerate() {
                let ty = &library.types[library.functions[number] as usize];
                functions.function(reencoder.linker.type_indices[ty]);
                let local = (library.imported_functions.len() + number) as u32;
                let name = library.names.get(&local).map_or("", String::as_str);
                names.append(reencoder.linker.function(index, local), name);
                if reencoder.linker.dropped.iter().any(|d| name.starts_with(d)) {
                    code.function(&trap());
                } else {
                    code.function(&reencoder.body(body)?);
                }
            }
            global_base += library.globals.len() as u32;
        }
        let missing = self.missing.iter().enumerate();
        for (index, ((module, name), ty)) in missing {
            functions.function(*ty);
            code.function(&trap());
            names.append(
                self.missing_base + index as u32,
                &format!("missing {module}#{name}"),
            );
        }
        if !self.slots.is_empty() {
            let offset = ConstExpr::i32_const(self.table_end.cast_signed());
            elements.active(
                None,
                &offset,
                Elements::Functions(self.slots.as_slice().into()),
            );
        }
        let initialize = self.missing_base + self.missing.len() as u32;
        let none = self.type_index(&FuncType::new([], []));
        functions.function(none);
        code.function(&self.initialize());
        names.append(initialize, INITIALIZE);

        let table_size = u64::from(self.table_end) + self.slots.len() as u64;
        let mut name_section = NameSection::new();
        name_section.functions(&names);
        let mut module = Module::new();
        module
            .section(&self.type_section()?)
            .section(&self.import_section())
            .section(&functions)
            .section(&table_section(table_size))
            .section(&self.memory_section())
            .section(&globals)
            .section(&self.export_section(initialize))
            .section(&elements)
            .section(&code)
            .section(&data)
            .section(&name_section);
        Ok(module.finish())
    }

    /// Returns a function that applies the relocations of all libraries, and then calls their
    /// constructors, those of the libraries that others need first.
    fn initialize(&self) -> Function {
        let mut function = Function::new([]);
        for step in ["__wasm_apply_data_relocs", INITIALIZE] {
            for (index, library) in self.libraries.iter().enumerate().rev() {
                if let Some(Exported::Function(f)) = library.exports.get(step) {
                    function.instruction(&Instruction::Call(self.function(index, *f)));
                }
            }
        }
        function.instruction(&Instruction::End);
        function
    }

    fn type_section(&self) -> Result<TypeSection> {
        let mut section = TypeSection::new();
        let mut plain = wasm_encoder::reencode::RoundtripReencoder;
        for ty in &self.types {
            section.ty().func_type(&plain.func_type(ty.clone())?);
        }
        Ok(section)
    }

    fn import_section(&self) -> ImportSection {
        let mut section = ImportSection::new();
        for (module, name, ty) in &self.imports {
            section.import(module, name, EntityType::Function(*ty));
        }
        section
    }

    fn memory_section(&self) -> MemorySection {
        let mut section = MemorySection::new();
        section.memory(MemoryType {
            minimum: u64::from(self.heap_end() / PAGE),
            maximum: None,
            memory64: false,
            shared: false,
            page_size_log2: None,
        });
        section
    }

    fn export_section(&self, initialize: u32) -> ExportSection {
        let mut section = ExportSection::new();
        section.export("memory", ExportKind::Memory, 0);
        section.export("__stack_pointer", ExportKind::Global, 0);
        section.export(INITIALIZE, ExportKind::Func, initialize);
        let mut own: Vec<_> = self.libraries[0].exports.iter().collect();
        own.sort_by_key(|(name, _)| *name);
        for (name, exported) in own {
            // Names of C are for the other libraries.
            let is_outer = name.contains(':') || name == "cabi_realloc" || name == "wafer_prepare";
            if let (true, Exported::Function(function)) = (is_outer, exported)
                && !name.starts_with("wasi:")
            {
                section.export(name, ExportKind::Func, self.function(0, *function));
            }
        }
        section
    }
}

fn table_section(size: u64) -> TableSection {
    let mut section = TableSection::new();
    section.table(TableType {
        element_type: RefType::FUNCREF,
        table64: false,
        minimum: size,
        maximum: Some(size),
        shared: false,
    });
    section
}

fn mutable(val_type: ValType) -> GlobalType {
    GlobalType {
        val_type,
        mutable: true,
        shared: false,
    }
}

fn trap() -> Function {
    let mut function = Function::new([]);
    function.instruction(&Instruction::Unreachable);
    function.instruction(&Instruction::End);
    function
}

/// Rewrites the code of one library.
struct Reencoder<'l, 'a> {
    linker: &'l Linker<'a>,
    library: usize,
    imported: &'l [Option<i32>],
    global_base: u32,
}

impl Reencode for Reencoder<'_, '_> {
    type Error = std::convert::Infallible;

    fn function_index(
        &mut self,
        func: u32,
    ) -> Result<u32, wasm_encoder::reencode::Error<Self::Error>> {
        Ok(self.linker.function(self.library, func))
    }

    fn type_index(&mut self, ty: u32) -> Result<u32, wasm_encoder::reencode::Error<Self::Error>> {
        let ty = &self.linker.libraries[self.library].types[ty as usize];
        Ok(self.linker.type_indices[ty])
    }

    fn global_index(
        &mut self,
        global: u32,
    ) -> Result<u32, wasm_encoder::reencode::Error<Self::Error>> {
        match self.imported.get(global as usize) {
            // The stack pointer is the first global.
            Some(_) => Ok(0),
            None => Ok(self.global_base + global - self.imported.len() as u32),
        }
    }

    fn instruction<'a>(
        &mut self,
        operator: Operator<'a>,
    ) -> Result<Instruction<'a>, wasm_encoder::reencode::Error<Self::Error>> {
        if let Operator::GlobalGet { global_index } = operator
            && let Some(Some(value)) = self.imported.get(global_index as usize)
        {
            return Ok(Instruction::I32Const(*value));
        }
        utils::instruction(self, operator)
    }
}

impl Reencoder<'_, '_> {
    /// Rewrites a function. Sums of constants, such as the address of a variable, are computed.
    fn body(&mut self, body: &wasmparser::FunctionBody<'_>) -> Result<Function> {
        let mut function = self.new_function_with_parsed_locals(body)?;
        let mut operators = body.get_operators_reader()?;
        let mut constants: Vec<i32> = Vec::new();
        while !operators.eof() {
            let instruction = self.parse_instruction(&mut operators)?;
            match instruction {
                Instruction::I32Const(value) => constants.push(value),
                Instruction::I32Add if constants.len() > 1 => {
                    let right = constants.pop().unwrap_or_default();
                    let left = constants.pop().unwrap_or_default();
                    constants.push(left.wrapping_add(right));
                }
                other => {
                    for value in constants.drain(..) {
                        function.instruction(&Instruction::I32Const(value));
                    }
                    function.instruction(&other);
                }
            }
        }
        Ok(function)
    }
}
