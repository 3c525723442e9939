//! The engines: how code is compiled, and where instances live.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, OnceLock};
use std::thread;
use std::time::Duration;

use wasmtime::component::Linker;
use wasmtime::{Config, Enabled, Engine, InstanceAllocationStrategy, PoolingAllocationConfig};

use crate::Compiler;
use crate::bindings;
use crate::state::{MAX_INSTANCES, MAX_MEMORIES, MAX_TABLE_ELEMENTS, MAX_TABLES, State};

/// Code of one major version of wasmtime runs in all of it.
const WASMTIME: u32 = 48;
/// Rises when [`engine_config`] changes.
const CONFIGURATION: u32 = 1;
/// How often limits of time are looked at.
const TICK: Duration = Duration::from_millis(2);
/// The call stack of a function.
pub(crate) const STACK_BYTES: usize = 512 << 10;
/// Memory of an instance that stays with its slot: a chunk of a batch with its
/// results. Only pages that were written are cleared where the kernel can tell.
const KEEP_RESIDENT: usize = 8 << 20;
/// Address space for one linear memory; 32-bit code cannot leave it.
const MEMORY_BYTES: u64 = 4 << 30;

/// Settings of the sandbox.
#[derive(Clone, Debug)]
pub struct RuntimeConfig {
    /// Instances that may exist at once; each takes 4 GiB of address space, and
    /// memory only as far as it is touched. Without enough address space
    /// instances are allocated one by one, which is slower. Default 64.
    pub instances: u32,
    /// How components are compiled.
    pub compiler: Compiler,
}

impl Default for RuntimeConfig {
    fn default() -> Self {
        Self {
            instances: 64,
            compiler: Compiler::InProcess,
        }
    }
}

/// The sandbox of a process: compiles, loads and runs functions.
#[derive(Clone)]
pub struct Runtime {
    pub(crate) shared: Arc<Shared>,
}

pub(crate) struct Shared {
    pub(crate) config: RuntimeConfig,
    /// For functions as they are.
    default: EngineSet,
    /// For functions with `strict_nan`, made when the first one comes.
    strict: OnceLock<EngineSet>,
    stopped: Arc<AtomicBool>,
}

/// An engine with what belongs to it.
#[derive(Clone)]
pub(crate) struct EngineSet {
    pub(crate) engine: Engine,
    pub(crate) linker: Linker<State>,
    pooled: bool,
}

impl Runtime {
    /// Starts a sandbox, and the thread that ends calls which take too long.
    ///
    /// # Errors
    /// When this machine cannot run compiled code at all.
    pub fn new(config: RuntimeConfig) -> wasmtime::Result<Self> {
        let default = engine_set(&config, false)?;
        let stopped = Arc::new(AtomicBool::new(false));
        let shared = Arc::new(Shared {
            config,
            default,
            strict: OnceLock::new(),
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

    /// Whether instances come from a pool (fast) or are allocated one by one.
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

/// Ticks of the epoch that a time limit in microseconds lasts; at least one
/// whole tick, and one more because the current one has begun.
pub(crate) fn ticks(micros: i64) -> u64 {
    let tick = TICK.as_micros() as i64;
    u64::try_from(micros.max(0) / tick).unwrap_or(0) + 2
}

fn engine_set(config: &RuntimeConfig, strict_nan: bool) -> wasmtime::Result<EngineSet> {
    let (engine, pooled) = match Engine::new(&pooled(
        engine_config(strict_nan, Target::Here)?,
        config.instances,
    )) {
        Ok(engine) => (engine, true),
        Err(error) => {
            tracing::warn!(
                "no address space for a pool of {} instances, allocating one by one: {error:#}",
                config.instances
            );
            (
                Engine::new(&engine_config(strict_nan, Target::Here)?)?,
                false,
            )
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

/// Everything that compiled code depends on; allocation is chosen apart. Whatever is
/// changed here, raise [`CONFIGURATION`].
pub(crate) fn engine_config(strict_nan: bool, target: Target) -> wasmtime::Result<Config> {
    let mut config = Config::new();
    compiler(&mut config, strict_nan, target)?;
    config
        .epoch_interruption(true)
        .concurrency_support(false)
        .max_wasm_stack(STACK_BYTES)
        .memory_reservation(MEMORY_BYTES)
        .memory_may_move(false)
        .memory_init_cow(true)
        .wasm_backtrace_max_frames(std::num::NonZeroUsize::new(32))
        // Deterministic everywhere: no operation whose result a machine may choose.
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
        // https://gitlab.com/x86-psABIs/x86-64-ABI, micro-architecture levels
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

/// What is loaded says itself how it was compiled.
#[cfg(not(feature = "compiler"))]
fn compiler(_config: &mut Config, _strict_nan: bool, _target: Target) -> wasmtime::Result<()> {
    Ok(())
}

/// The kind of machine that code is compiled for: always a fixed set of instructions,
/// never whatever the CPU at hand has, so that code runs on every machine of its kind.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Target {
    /// The kind that this machine is of.
    Here,
    /// Linux on x86-64 of level 3 (since about 2015), as all that Lambda runs on.
    X86_64,
    /// Linux on 64-bit Arm, such as Graviton.
    Aarch64,
}

const V1: &str = "x86_64-v1";
const V3: &str = "x86_64-v3";

impl Target {
    /// Its name, by which it is kept.
    pub fn name(self) -> &'static str {
        match self {
            Self::Here => "here",
            Self::X86_64 => "x86_64",
            Self::Aarch64 => "aarch64",
        }
    }

    /// By its name.
    pub fn parse(name: &str) -> Option<Self> {
        let all = [Self::Here, Self::X86_64, Self::Aarch64];
        all.into_iter().find(|target| target.name() == name)
    }

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

    /// Names everything that compiled code depends on, for programs with and without a
    /// compiler alike.
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
    let mut pool = PoolingAllocationConfig::default();
    let per_component = |count: usize| instances.saturating_mul(count as u32);
    pool.total_component_instances(instances)
        .total_core_instances(per_component(MAX_INSTANCES))
        .total_memories(instances)
        .total_tables(per_component(MAX_TABLES))
        .max_core_instances_per_component(MAX_INSTANCES as u32)
        .max_memories_per_component(MAX_MEMORIES as u32)
        .max_tables_per_component(MAX_TABLES as u32)
        .max_component_instance_size(1 << 20)
        .max_core_instance_size(1 << 20)
        .max_memory_size(MEMORY_BYTES as usize)
        .table_elements(MAX_TABLE_ELEMENTS)
        // A page that stays costs a memset, one that is given back costs a fault.
        .linear_memory_keep_resident(KEEP_RESIDENT)
        .table_keep_resident(16 << 10)
        .pagemap_scan(Enabled::Auto);
    config.allocation_strategy(InstanceAllocationStrategy::Pooling(pool));
    config
}
