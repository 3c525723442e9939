//! `wafer build`: makes the components of functions, each by the toolchain for its source.

use std::path::PathBuf;

use anyhow::{Context as _, Result, anyhow};
use bytes::Bytes;
use wafer_build::{BuildError, BuildOptions, Code, Toolchain, ToolchainKind, Toolchains};
use wafer_config::{FunctionConfig, FunctionSource, Project, project_function};
use wafer_platform::ProjectFunction;
use wafer_runtime::Asset;

use crate::output::{say, write_file};
use crate::stock::{StockFolder, kept_folder};

/// Returns the folder for the components of a project. It is below the folder of the project,
/// wherever the stores are.
fn built_folder(project: &Project) -> PathBuf {
    project.folder.join(".wafer").join("build")
}

/// A component that was built.
#[derive(serde::Serialize)]
pub(crate) struct Built {
    /// Name of the function.
    pub(crate) function: String,
    /// Path of the component.
    pub(crate) path: PathBuf,
    /// Size of the component in bytes.
    pub(crate) bytes: usize,
}

/// The source of a function, as toolchains know it.
struct Source {
    kind: ToolchainKind,
    options: BuildOptions,
    /// The folder where the function is built if it is a stock function.
    stock: Option<StockFolder>,
}

impl Source {
    fn of(project: &Project, name: &str, config: &FunctionConfig) -> Self {
        let mut options = BuildOptions {
            name: name.to_owned(),
            stack: config.stack(project.role(name)),
            ..BuildOptions::default()
        };
        let cargos = |own: PathBuf| shared_target_dir().unwrap_or(own);
        let (kind, stock) = match project.function_source(config) {
            FunctionSource::Crate(folder) => {
                options.source = folder;
                options.target_dir = cargos(project.folder.join("target").join("functions"));
                (ToolchainKind::Crate, None)
            }
            FunctionSource::Stock(stock) => {
                let folder = StockFolder::of(&project.folder);
                options.source = folder.sources().join(stock.folder());
                options.target_dir = cargos(folder.target_dir());
                (ToolchainKind::Crate, Some(folder))
            }
            FunctionSource::Component(file) => {
                options.source = file;
                (ToolchainKind::Prebuilt, None)
            }
            FunctionSource::Python {
                path,
                function,
                requirements,
            } => {
                options.source = path;
                options.function = function;
                options.requirements = requirements;
                options.target_dir = kept_folder(&project.folder, "wheels");
                (ToolchainKind::Python, None)
            }
            FunctionSource::JavaScript { path, function } => {
                options.source = path;
                options.function = function;
                (ToolchainKind::JavaScript, None)
            }
        };
        Self {
            kind,
            options,
            stock,
        }
    }
}

/// Returns the kinds of sources that the functions of a project have.
pub(crate) fn kinds(project: &Project) -> Vec<ToolchainKind> {
    let functions = project.functions.iter();
    functions
        .map(|(name, config)| Source::of(project, name, config).kind)
        .collect()
}

/// Builds every function of a project whose toolchain needs it, and downloads the packages that
/// others depend on. Stock functions are built, and packages downloaded, unless they are there
/// already, from another project of this user. Functions that are given as a component are skipped.
///
/// # Errors
/// Returns an error when a toolchain is not on this machine, when a function cannot be built, and
/// when a package cannot be had.
pub(crate) fn build_project(project: &Project) -> Result<Vec<Built>> {
    let toolchains = Toolchains::default();
    let functions: Vec<(&String, Source, &dyn Toolchain)> = project
        .functions
        .iter()
        .map(|(name, config)| {
            let source = Source::of(project, name, config);
            let toolchain = toolchains.of(source.kind);
            (name, source, toolchain)
        })
        .collect();
    // What is missing is reported before minutes of building.
    for (_, _, toolchain) in &functions {
        if toolchain.needs_build() {
            toolchain.find()?;
        }
    }
    for (name, source, toolchain) in &functions {
        let fetched = toolchain.fetch(&source.options, &mut |step| say(step));
        fetched.map_err(|error| not_made(name, error))?;
    }
    let functions = functions.into_iter();
    let functions: Vec<_> = functions
        .filter(|(_, _, toolchain)| toolchain.needs_build())
        .collect();
    if functions.is_empty() {
        return Ok(Vec::new());
    }
    let out = built_folder(project);
    std::fs::create_dir_all(&out)
        .with_context(|| format!("cannot make the folder {}", out.display()))?;
    functions
        .into_iter()
        .map(|(name, source, toolchain)| {
            let (component, hints) = component_of(name, &source, toolchain)?;
            for hint in hints {
                say(format!("hint: function `{name}`, {hint}"));
            }
            let path = built_file(project, name);
            write_file(&path, &component[..])?;
            Ok(Built {
                function: name.clone(),
                path,
                bytes: component.len(),
            })
        })
        .collect()
}

/// Makes the component of a function, and returns it with what the author should know. Users of a
/// stock function are not its authors.
fn component_of(
    name: &str,
    source: &Source,
    toolchain: &dyn Toolchain,
) -> Result<(Bytes, Vec<String>)> {
    let Source { options, stock, .. } = source;
    if let Some(folder) = stock {
        let component = folder.component(toolchain, options, || {
            say(format!(
                "building function `{name}`, which comes with Wafer, once for all projects"
            ));
        })?;
        return Ok((component, Vec::new()));
    }
    let from = options.source.display();
    say(format!("building function `{name}` from {from}"));
    let component = toolchain.build(options)?;
    Ok((component, toolchain.hints(&options.source)))
}

/// Returns the path of the file that the component of a function is built to.
fn built_file(project: &Project, name: &str) -> PathBuf {
    built_folder(project).join(format!("{name}.wasm"))
}

/// Returns the functions of a project with their components, assets and parameters. Components that
/// need `wafer build` are read as it left them, and the others are made of their sources. The code
/// of those that run in an interpreter is read now. Nothing is downloaded.
///
/// # Errors
/// Returns an error when a component, code or an asset cannot be read. The message names the file,
/// or the command that makes it.
pub(crate) fn specs(project: &Project) -> Result<Vec<ProjectFunction>> {
    let toolchains = Toolchains::default();
    project
        .functions
        .iter()
        .map(|(name, config)| {
            let source = Source::of(project, name, config);
            let toolchain = toolchains.of(source.kind);
            let component = match toolchain.needs_build() {
                true => std::fs::read(built_file(project, name))
                    .map(Bytes::from)
                    .with_context(|| {
                        format!("function `{name}` is not built; run `wafer build`")
                    })?,
                false => toolchain
                    .build(&source.options)
                    .map_err(|error| not_made(name, error))?,
            };
            let code = toolchain.code(&source.options);
            let Code { assets, parameters } = code.map_err(|error| not_made(name, error))?;
            let assets = assets.into_iter();
            let assets = assets.map(|(asset, bytes)| (asset, Asset::of(bytes)));
            let mut function = project_function(project, name, config, component)?;
            function.spec.assets.extend(assets);
            function.spec.parameters.extend(parameters);
            Ok(function)
        })
        .collect()
}

/// Returns the error for a source that cannot be used when its function is registered, or whose
/// packages cannot be had.
fn not_made(name: &str, error: BuildError) -> anyhow::Error {
    match error {
        BuildError::Read { path, source } => {
            let path = path.display();
            anyhow::Error::new(source)
                .context(format!("functions.{name}.component: cannot read {path}"))
        }
        // It begins with the key.
        error @ BuildError::Code { .. } => anyhow!("functions.{name}.{error}"),
        other => anyhow!("function `{name}` is not a component: {other}"),
    }
}

/// Returns the target folder for functions below the one that the environment names. It differs
/// from that of other builds, because cargo would compile everything again whenever the flags
/// change.
fn shared_target_dir() -> Option<PathBuf> {
    let shared = wafer_config::path_variable("CARGO_TARGET_DIR")?;
    Some(shared.join("functions"))
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use wafer_build::ToolchainError;
    use wafer_config::Overrides;

    use super::*;

    /// A toolchain that has a hint about every source.
    #[derive(Debug)]
    struct Hinting;

    impl Toolchain for Hinting {
        fn name(&self) -> &'static str {
            "hinting"
        }

        fn find(&self) -> Result<Option<String>, ToolchainError> {
            Ok(None)
        }

        fn find_or_install(
            &self,
            _say: &mut dyn FnMut(&str),
        ) -> Result<Option<String>, ToolchainError> {
            Ok(None)
        }

        fn version(&self) -> Result<String, ToolchainError> {
            Ok("1".to_owned())
        }

        fn needs_build(&self) -> bool {
            true
        }

        fn build(&self, _options: &BuildOptions) -> Result<Bytes, BuildError> {
            Ok(Bytes::from_static(b"component"))
        }

        fn hints(&self, source: &Path) -> Vec<String> {
            vec![format!("{}:1: there is no clock", source.display())]
        }
    }

    #[test]
    fn authors_get_hints_and_users_of_stock_functions_do_not() {
        let folder = tempfile::tempdir().unwrap();
        let hints = |functions: &str| {
            let project = project(Path::new("p"), functions);
            let mut source = Source::of(&project, "f", &project.functions["f"]);
            if source.stock.is_some() {
                source.stock = Some(StockFolder::at(folder.path()));
            }
            let (component, hints) = component_of("f", &source, &Hinting).unwrap();
            assert_eq!(component, "component");
            hints
        };
        assert_eq!(
            hints("[functions.f]\ncrate = \"f\"\n"),
            ["p/f:1: there is no clock"]
        );
        let of_stock = hints("[functions.f]\nstock = \"train_trees\"\n");
        assert!(of_stock.is_empty(), "{of_stock:?}");
    }

    fn project(folder: &Path, functions: &str) -> Project {
        let text = format!("[project]\nname = \"p\"\n{functions}");
        Project::parse(&folder.join("wafer.toml"), &text, Overrides::default()).unwrap()
    }

    #[test]
    fn each_source_of_a_function_has_a_toolchain_and_a_path() {
        let check = |function: &str, kind, path: &str| {
            let project = project(Path::new("p"), &format!("[functions.f]\n{function}\n"));
            let source = Source::of(&project, "f", &project.functions["f"]);
            assert_eq!(source.kind, kind, "{function}");
            assert_eq!(source.options.source, Path::new(path), "{function}");
        };
        check("crate = \"f\"", ToolchainKind::Crate, "p/f");
        check(
            "component = \"f.wasm\"",
            ToolchainKind::Prebuilt,
            "p/f.wasm",
        );
        check("python = \"f.py:g\"", ToolchainKind::Python, "p/f.py");
        check(
            "javascript = \"f.js:g\"",
            ToolchainKind::JavaScript,
            "p/f.js",
        );
    }

    #[test]
    fn a_python_function_is_the_interpreter_with_its_code_as_an_asset() {
        let folder = tempfile::tempdir().unwrap();
        std::fs::write(folder.path().join("f.py"), "x = 1").unwrap();
        let keys =
            "python = \"f.py:g\"\nassets = { table = \"f.py\" }\nparameters = { unit = \"km\" }";
        let python = project(folder.path(), &format!("[functions.f]\n{keys}\n"));
        assert!(build_project(&python).unwrap().is_empty());
        assert_eq!(kinds(&python), [ToolchainKind::Python]);
        let spec = &specs(&python).unwrap()[0].spec;
        assert!(spec.component.starts_with(b"\0asm"));
        let assets: Vec<&str> = spec.assets.keys().map(String::as_str).collect();
        assert_eq!(assets, ["python", "table"]);
        assert_eq!(spec.assets["python"].size(), 5);
        let parameters = spec.parameters.iter();
        let parameters = parameters.map(|(name, value)| format!("{name}={value}"));
        assert_eq!(
            parameters.collect::<Vec<_>>(),
            ["python_file=f.py", "python_function=g", "unit=km"]
        );

        let message = |keys: &str| {
            let project = project(folder.path(), &format!("[functions.f]\n{keys}\n"));
            format!("{:#}", specs(&project).expect_err("it has no code"))
        };
        let missing = message("python = \"g.py\"");
        assert!(
            missing.starts_with("functions.f.python: ")
                && missing.contains("g.py: it cannot be read: "),
            "{missing}"
        );
        std::fs::write(folder.path().join("requirements.txt"), "six").unwrap();
        let unpinned = message("python = \"f.py\"\nrequirements = \"requirements.txt\"");
        assert!(
            unpinned.starts_with("functions.f.requirements: ")
                && unpinned.contains("requirements.txt: line 1: `six` is not pinned"),
            "{unpinned}"
        );
    }

    #[test]
    fn a_javascript_function_is_the_interpreter_with_its_code_as_an_asset() {
        let folder = tempfile::tempdir().unwrap();
        std::fs::write(folder.path().join("f.js"), "let x;").unwrap();
        let keys = "assets = { table = \"f.js\" }\nparameters = { unit = \"km\" }";
        let functions = format!(
            "[functions.f]\njavascript = \"f.js:g\"\n{keys}\n[functions.g]\njavascript = \"f.js\"\n"
        );
        let javascript = project(folder.path(), &functions);
        assert!(build_project(&javascript).unwrap().is_empty());
        assert_eq!(kinds(&javascript), [ToolchainKind::JavaScript; 2]);
        let specs_of_both = specs(&javascript).unwrap();
        let [f, g] = [&specs_of_both[0].spec, &specs_of_both[1].spec];
        assert!(f.component.starts_with(b"\0asm"));
        assert_eq!(f.component.as_ptr(), g.component.as_ptr());
        let assets: Vec<&str> = f.assets.keys().map(String::as_str).collect();
        assert_eq!(assets, ["javascript", "table"]);
        assert_eq!(f.assets["javascript"].size(), 6);
        let parameters = |spec: &wafer_runtime::FunctionSpec| {
            let parameters = spec.parameters.iter();
            let parameters = parameters.map(|(name, value)| format!("{name}={value}"));
            parameters.collect::<Vec<_>>()
        };
        assert_eq!(
            parameters(f),
            ["javascript_file=f.js", "javascript_function=g", "unit=km"]
        );
        assert_eq!(parameters(g), ["javascript_file=f.js"]);

        let typescript = "[functions.f]\njavascript = \"f.ts\"\n";
        std::fs::write(folder.path().join("f.ts"), "let x: number;").unwrap();
        let said = specs(&project(folder.path(), typescript)).expect_err("it has types");
        let said = format!("{said:#}");
        assert!(
            said.starts_with("functions.f.javascript: ")
                && said.contains("f.ts: it is TypeScript, "),
            "{said}"
        );
    }

    #[test]
    fn a_stock_function_has_one_source_for_all_projects() {
        let source = |folder: &str| {
            let functions = "[functions.f]\nstock = \"train_trees\"\n";
            let project = project(Path::new(folder), functions);
            Source::of(&project, "f", &project.functions["f"])
        };
        let path = source("p").options.source;
        assert!(path.ends_with("train-trees"), "{}", path.display());
        assert_eq!(path, source("q").options.source);
        assert_eq!(source("p").kind, ToolchainKind::Crate);
    }

    #[test]
    fn prebuilt_files_need_no_build_and_crates_do() {
        let folder = tempfile::tempdir().unwrap();
        let component = b"\0asm\x0d\0\x01\0";
        std::fs::write(folder.path().join("f.wasm"), component).unwrap();
        let prebuilt = project(folder.path(), "[functions.f]\ncomponent = \"f.wasm\"\n");
        assert!(build_project(&prebuilt).unwrap().is_empty());
        assert_eq!(specs(&prebuilt).unwrap()[0].spec.component, component[..]);
        assert!(!folder.path().join(".wafer").exists());

        let message = |functions: &str| {
            let error = specs(&project(folder.path(), functions)).err();
            format!("{:#}", error.expect("no component"))
        };
        let not_built = message("[functions.f]\ncrate = \"f\"\n");
        assert!(
            not_built.starts_with("function `f` is not built; run `wafer build`: "),
            "{not_built}"
        );
        let missing = message("[functions.f]\ncomponent = \"g.wasm\"\n");
        assert!(
            missing.starts_with("functions.f.component: cannot read ")
                && missing.contains("g.wasm: "),
            "{missing}"
        );
        std::fs::write(folder.path().join("text.wasm"), "text").unwrap();
        let text = message("[functions.f]\ncomponent = \"text.wasm\"\n");
        assert!(
            text.starts_with("function `f` is not a component: ")
                && text.ends_with("text.wasm: it is text, not WebAssembly"),
            "{text}"
        );
    }
}
