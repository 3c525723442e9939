//! The wasmtime engines: their compiler settings and the allocation of instances.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, OnceLock};
use std::thread;
use std::time;

use wafer_core::Duration;
use wasmtime::component::Linker;
use wasmtime::{Config, Enabled, Engine, InstanceAllocationStrategy, PoolingAllocationConfig};

use crate::bindings;
use crate::interpreter::Interpreters;
use crate::state::{
    MAX_INSTANCE_BYTES, MAX_INSTANCES, MAX_MEMORIES, MAX_TABLE_ELEMENTS, MAX_TABLES, State,
};
use crate::{CodeCache, Compiler};

/// Major version of wasmtime. Native code can be loaded by every release of the major version that
/// compiled it.
const WASMTIME: u32 = 48;
/// Version of the compiler settings; must be raised when [`engine_config`] changes.
const CONFIGURATION: u32 = 1;
/// Length of an epoch: how often time limits are checked.
const TICK: time::Duration = time::Duration::from_millis(2);
/// Size of a function's call stack in bytes, which is a part of the stack of the thread that calls
/// it. The recursion of an interpreter takes much of it.
pub(crate) const STACK_BYTES: usize = 1 << 20;
/// Size of the stack of a thread that calls functions, in bytes: with room for what calls them.
/// Pages of a stack take memory once they were used.
pub const THREAD_STACK_BYTES: usize = STACK_BYTES + (2 << 20);
/// Bytes of linear memory that stay resident in a slot of the pool where the kernel reports which
/// pages were written, since only those are reset: enough for a chunk of rows and its results.
const KEEP_RESIDENT: usize = 8 << 20;
/// Bytes of linear memory that stay resident where the kernel does not report it, as before Linux
/// 6.7 and so on Lambda. As many are reset after each call, written or not, and stay resident in
/// each slot. More would pay only for functions that write most of their memory: see decision 0003.
const KEEP_RESIDENT_UNREPORTED: usize = 512 << 10;
/// Reserved address space per linear memory. A 32-bit memory cannot exceed it, so the compiled code
/// needs no bounds checks.
const MEMORY_BYTES: u64 = 4 << 30;

/// Settings of the sandbox.
#[derive(Clone, Debug)]
pub struct RuntimeConfig {
    /// Maximum number of concurrent instances. Each reserves 4 GiB of address space, and uses
    /// physical memory only for pages that it touches. If the address space of the process is too
    /// small for the pool, instances are allocated individually, which is slower. Default 64.
    pub instances: u32,
    /// How components are compiled. Default [`Compiler::InProcess`].
    pub compiler: Compiler,
    /// Where native code is kept for other commands and projects. Default nowhere.
    pub code_cache: Option<CodeCache>,
}

impl Default for RuntimeConfig {
    fn default() -> Self {
        Self {
            instances: 64,
            compiler: Compiler::InProcess,
            code_cache: None,
        }
    }
}

/// The sandbox of a process: compiles, loads and runs functions. Clones share the same engines.
#[derive(Clone)]
pub struct Runtime {
    pub(crate) shared: Arc<Shared>,
}

pub(crate) struct Shared {
    pub(crate) config: RuntimeConfig,
    /// The engine for functions without `strict_nan`.
    default: EngineSet,
    /// The engine for functions with `strict_nan`, created when it is first needed.
    strict: OnceLock<EngineSet>,
    pub(crate) interpreters: Interpreters,
    stopped: Arc<AtomicBool>,
}

/// An engine with its linker.
#[derive(Clone)]
pub(crate) struct EngineSet {
    pub(crate) engine: Engine,
    pub(crate) linker: Linker<State>,
    pooled: bool,
}

impl Runtime {
    /// Creates a sandbox, and starts the thread that advances the epoch, by which time limits are
    /// enforced.
    ///
    /// # Errors
    /// Fails when the engine cannot be created on this machine.
    pub fn new(config: RuntimeConfig) -> wasmtime::Result<Self> {
        let default = engine_set(&config, false)?;
        let stopped = Arc::new(AtomicBool::new(false));
        let shared = Arc::new(Shared {
            config,
            default,
            strict: OnceLock::new(),
            interpreters: Interpreters::default(),
            stopped,
        });
        let (watched, stopped) = (Arc::downgrade(&shared), Arc::clone(&shared.stopped));
        thread::Builder::new()
            .name("wafer-epoch".to_owned())
            .spawn(move || {
                while !stopped.load(Ordering::Relaxed) {
                    thread::sleep(TICK);
                    let Some(shared) = watched.upgrade() else {
                        break;
                    };
                    shared.default.engine.increment_epoch();
                    if let Some(strict) = shared.strict.get() {
                        strict.engine.increment_epoch();
                    }
                }
            })?;
        Ok(Self { shared })
    }

    pub(crate) fn engine(&self, strict_nan: bool) -> wasmtime::Result<EngineSet> {
        if !strict_nan {
            return Ok(self.shared.default.clone());
        }
        if let Some(set) = self.shared.strict.get() {
            return Ok(set.clone());
        }
        let set = engine_set(&self.shared.config, true)?;
        Ok(self.shared.strict.get_or_init(|| set).clone())
    }

    /// Returns whether instances are allocated from a pool, as opposed to individually; see
    /// [`RuntimeConfig::instances`].
    pub fn is_pooled(&self) -> bool {
        self.shared.default.pooled
    }
}

impl std::fmt::Debug for Runtime {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Runtime")
            .field("config", &self.shared.config)
            .finish_non_exhaustive()
    }
}

impl Drop for Shared {
    fn drop(&mut self) {
        self.stopped.store(true, Ordering::Relaxed);
    }
}

/// Converts a time limit to a number of epoch ticks, rounded up so that a call is
/// never ended early: the current tick has already begun.
pub(crate) fn ticks(time: Duration) -> u64 {
    let tick = TICK.as_micros() as i64;
    u64::try_from(time.as_micros().max(0) / tick).unwrap_or(0) + 2
}

fn engine_set(config: &RuntimeConfig, strict_nan: bool) -> wasmtime::Result<EngineSet> {
    let (engine, pooled) = match Engine::new(&pooled(here(strict_nan)?, config.instances)) {
        Ok(engine) => (engine, true),
        Err(error) => {
            tracing::warn!(
                "no address space for a pool of {} instances, allocating one by one: {error:#}",
                config.instances
            );
            (Engine::new(&here(strict_nan)?)?, false)
        }
    };
    let mut linker = Linker::new(&engine);
    bindings::add_to_linker(&mut linker)?;
    Ok(EngineSet {
        engine,
        linker,
        pooled,
    })
}

/// Returns the settings for running code on this machine, without those of allocation.
fn here(strict_nan: bool) -> wasmtime::Result<Config> {
    let mut config = engine_config(strict_nan, Target::Here)?;
    config.max_wasm_stack(STACK_BYTES);
    Ok(config)
}

/// Returns the settings that compiled code depends on. Raise [`CONFIGURATION`] with every change.
pub(crate) fn engine_config(strict_nan: bool, target: Target) -> wasmtime::Result<Config> {
    let mut config = Config::new();
    compiler(&mut config, strict_nan, target)?;
    config
        .epoch_interruption(true)
        .concurrency_support(false)
        .memory_reservation(MEMORY_BYTES)
        .memory_may_move(false)
        .memory_init_cow(true)
        .wasm_backtrace_max_frames(std::num::NonZeroUsize::new(32))
        // Relaxed SIMD has operations whose results differ between machines.
        .wasm_relaxed_simd(false)
        .wasm_multi_memory(false)
        .wasm_memory64(false);
    Ok(config)
}

#[cfg(feature = "compiler")]
fn compiler(config: &mut Config, strict_nan: bool, target: Target) -> wasmtime::Result<()> {
    config
        .strategy(wasmtime::Strategy::Cranelift)
        .cranelift_opt_level(wasmtime::OptLevel::Speed)
        .cranelift_nan_canonicalization(strict_nan)
        .target(&target.triple())?;
    if target.baseline() == V3 {
        // Features of the micro-architecture level x86-64-v3, from
        // https://gitlab.com/x86-psABIs/x86-64-ABI
        for flag in [
            "has_sse3",
            "has_ssse3",
            "has_sse41",
            "has_sse42",
            "has_popcnt",
            "has_avx",
            "has_avx2",
            "has_bmi1",
            "has_bmi2",
            "has_fma",
            "has_lzcnt",
        ] {
            crate::load::enable_cpu_feature(config, flag);
        }
    }
    Ok(())
}

/// Without a compiler there is nothing to set: compiled code itself records how it was compiled.
#[cfg(not(feature = "compiler"))]
fn compiler(_config: &mut Config, _strict_nan: bool, _target: Target) -> wasmtime::Result<()> {
    Ok(())
}

/// The kind of machine that code is compiled for.
///
/// Each kind has a fixed set of instructions, and does not use further features of the CPU at hand,
/// so that code runs on every machine of its kind.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Target {
    /// The kind of this machine.
    Here,
    /// Linux on x86-64-v3 (CPUs since about 2015), which all x86-64 machines of Lambda have.
    X86_64,
    /// Linux on 64-bit Arm, such as AWS Graviton.
    Aarch64,
}

const V1: &str = "x86_64-v1";
const V3: &str = "x86_64-v3";

impl Target {
    /// Returns the name of the target, such as `x86_64`.
    pub fn name(self) -> &'static str {
        match self {
            Self::Here => "here",
            Self::X86_64 => "x86_64",
            Self::Aarch64 => "aarch64",
        }
    }

    /// Returns the target of a [name](Self::name), or `None` if there is none.
    pub fn parse(name: &str) -> Option<Self> {
        let all = [Self::Here, Self::X86_64, Self::Aarch64];
        all.into_iter().find(|target| target.name() == name)
    }

    /// Name of the instruction set that code may use.
    fn baseline(self) -> &'static str {
        match self {
            Self::X86_64 => V3,
            Self::Aarch64 => "aarch64",
            Self::Here if has_v3() => V3,
            Self::Here if cfg!(target_arch = "x86_64") => V1,
            Self::Here => std::env::consts::ARCH,
        }
    }

    #[cfg(feature = "compiler")]
    fn triple(self) -> String {
        match self {
            Self::X86_64 => "x86_64-unknown-linux-gnu".to_owned(),
            Self::Aarch64 => "aarch64-unknown-linux-gnu".to_owned(),
            Self::Here => {
                let (arch, os) = (std::env::consts::ARCH, std::env::consts::OS);
                format!("{arch}-unknown-{os}-gnu")
            }
        }
    }

    /// Returns a name for everything that compiled code depends on: instruction set, version of
    /// wasmtime and settings. It is the same in programs with and without a compiler.
    pub(crate) fn compatibility(self, strict_nan: bool) -> String {
        let strict = if strict_nan { "-strict" } else { "" };
        let baseline = self.baseline();
        format!("{baseline}-wasmtime{WASMTIME}-{CONFIGURATION}{strict}")
    }
}

#[cfg(target_arch = "x86_64")]
fn has_v3() -> bool {
    std::is_x86_feature_detected!("avx2")
        && std::is_x86_feature_detected!("bmi1")
        && std::is_x86_feature_detected!("bmi2")
        && std::is_x86_feature_detected!("fma")
        && std::is_x86_feature_detected!("lzcnt")
        && std::is_x86_feature_detected!("popcnt")
}

#[cfg(not(target_arch = "x86_64"))]
fn has_v3() -> bool {
    false
}

fn pooled(mut config: Config, instances: u32) -> Config {
    let keep_resident = match PoolingAllocationConfig::is_pagemap_scan_available() {
        true => KEEP_RESIDENT,
        false => KEEP_RESIDENT_UNREPORTED,
    };
    let mut pool = PoolingAllocationConfig::default();
    let per_component = |count: usize| instances.saturating_mul(count as u32);
    pool.total_component_instances(instances)
        .total_core_instances(per_component(MAX_INSTANCES))
        .total_memories(instances)
        .total_tables(per_component(MAX_TABLES))
        .max_core_instances_per_component(MAX_INSTANCES as u32)
        .max_memories_per_component(MAX_MEMORIES as u32)
        .max_tables_per_component(MAX_TABLES as u32)
        // The former is the sum for all core instances of a component.
        .max_component_instance_size(MAX_INSTANCE_BYTES)
        .max_core_instance_size(MAX_INSTANCE_BYTES)
        .max_memory_size(MEMORY_BYTES as usize)
        .table_elements(MAX_TABLE_ELEMENTS)
        // Resetting a resident page costs a memset; a page that is given back to the system costs
        // a page fault.
        .linear_memory_keep_resident(keep_resident)
        .table_keep_resident(16 << 10)
        .pagemap_scan(Enabled::Auto);
    config.allocation_strategy(InstanceAllocationStrategy::Pooling(pool));
    config
}
