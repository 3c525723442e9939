//! The engines: how code is compiled, and where instances live.

use std::hash::{DefaultHasher, Hash as _, Hasher as _};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, OnceLock};
use std::thread;
use std::time::Duration;

use wasmtime::component::Linker;
use wasmtime::{
    Config, Enabled, Engine, InstanceAllocationStrategy, OptLevel, PoolingAllocationConfig,
    Strategy,
};

use crate::Compiler;
use crate::bindings;
use crate::state::{MAX_INSTANCES, MAX_MEMORIES, MAX_TABLE_ELEMENTS, MAX_TABLES, State};

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
    /// Names everything that compiled code depends on.
    pub(crate) compatibility: String,
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
    let (engine, pooled) = match Engine::new(&pooled(engine_config(strict_nan)?, config.instances))
    {
        Ok(engine) => (engine, true),
        Err(error) => {
            tracing::warn!(
                "no address space for a pool of {} instances, allocating one by one: {error:#}",
                config.instances
            );
            (Engine::new(&engine_config(strict_nan)?)?, false)
        }
    };
    let mut linker = Linker::new(&engine);
    bindings::Function::add_to_linker::<_, wasmtime::component::HasSelf<_>>(
        &mut linker,
        |state: &mut State| state,
    )?;
    let mut hasher = DefaultHasher::new();
    engine.precompile_compatibility_hash().hash(&mut hasher);
    let compatibility = format!("{}-{:016x}", baseline(), hasher.finish());
    Ok(EngineSet {
        engine,
        linker,
        compatibility,
        pooled,
    })
}

/// Everything that compiled code depends on; allocation is chosen apart.
pub(crate) fn engine_config(strict_nan: bool) -> wasmtime::Result<Config> {
    let mut config = Config::new();
    config
        .strategy(Strategy::Cranelift)
        .cranelift_opt_level(OptLevel::Speed)
        .cranelift_nan_canonicalization(strict_nan)
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
    target(&mut config)?;
    Ok(config)
}

/// The instructions that code is compiled for: a fixed baseline, never whatever
/// the CPU at hand has, so that an artifact runs on every machine of its kind.
fn baseline() -> &'static str {
    if cfg!(target_arch = "x86_64") {
        if has_v3() { "x86_64-v3" } else { "x86_64-v1" }
    } else {
        std::env::consts::ARCH
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

fn target(config: &mut Config) -> wasmtime::Result<()> {
    let triple = format!(
        "{}-unknown-{}-gnu",
        std::env::consts::ARCH,
        std::env::consts::OS
    );
    config.target(&triple)?;
    if cfg!(target_arch = "x86_64") && has_v3() {
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
