//! Functions in JavaScript: a file, or a folder of modules that import each other by their paths.
//!
//! Nothing of the machine is used: no node, no npm. Packages are not looked up, and TypeScript is
//! not translated, so an author who uses these brings along what a bundler makes of them.

use std::path::Path;

use crate::interpreter::folder::{self, Taken};
use crate::interpreter::{CODE, Language, Modules};
use crate::toolchain::{BuildError, BuildOptions, Code};

/// JavaScript, whose interpreter `functions/stock/javascript/recipe` builds.
pub(crate) static JAVASCRIPT: Language = Language {
    name: "JavaScript",
    interpreter: "QuickJS-ng 0.16",
    compressed: include_bytes!("../../../functions/stock/javascript/javascript.wasm.zst"),
    digest: include_str!("../../../functions/stock/javascript/recipe/digest"),
    // A function brings along what it imports.
    fetch: |_, _| Ok(()),
    code,
};

/// The key of the project file that names modules.
const KEY: &str = "javascript";

/// The parameter that tells the interpreter which export of the module is the function. It is the
/// default export without it.
const FUNCTION: &str = "function";

/// The module of a folder that has the function.
const ENTRY: &str = "index.js";
/// The folder in which npm keeps packages.
const PACKAGES: &str = "node_modules";

/// How files of modules end.
const MODULES: [&str; 2] = [".js", ".mjs"];
/// How files of TypeScript end.
const TYPESCRIPT: [&str; 4] = [".ts", ".mts", ".cts", ".tsx"];

/// Returns the modules of a function.
fn code(options: &BuildOptions) -> Result<Code, BuildError> {
    let BuildOptions {
        source, function, ..
    } = options;
    let wanted = function.clone().map(|function| (FUNCTION, function));
    read(source)
        .and_then(|modules| modules.into_code(KEY, wanted))
        .map_err(|reason| BuildError::code(KEY, source, reason))
}

/// Reads the modules at a path: a file, or a folder with an entry.
///
/// # Errors
/// Returns a message that says why there is no module, what cannot be read, or which limit is
/// exceeded.
fn read(path: &Path) -> Result<Modules, String> {
    let kind = folder::kind(path)?;
    if kind.is_dir() {
        return in_folder(path);
    }
    let name = folder::name_of(path)?;
    if let Some(stem) = typescript(name) {
        return Err(is_typescript("it", stem, name));
    }
    if !kind.is_file() || taken(name) != Taken::Content {
        return Err(format!(
            "it is not a JavaScript module; name a file that ends in .js or .mjs, or a folder of \
             them with an `{ENTRY}`"
        ));
    }
    let content = folder::file(path, CODE.bytes)?;
    check_text("it", &content)?;
    Ok(Modules::of_file(name, content))
}

/// Reads a folder of modules, of which the entry has the function.
fn in_folder(path: &Path) -> Result<Modules, String> {
    if path.join(PACKAGES).symlink_metadata().is_ok() {
        return Err(has_packages());
    }
    let files = folder::modules(path, CODE, taken)?;
    if files
        .keys()
        .any(|path| path.split('/').any(|part| part == PACKAGES))
    {
        return Err(has_packages());
    }
    if !files.contains_key(ENTRY) {
        return Err(no_entry(path));
    }
    for (path, content) in &files {
        check_text(&format!("`{path}`"), content)?;
    }
    Ok(Modules {
        main: ENTRY.to_owned(),
        files,
    })
}

/// Returns the message about a folder in which packages are.
fn has_packages() -> String {
    format!(
        "it has a folder `{PACKAGES}`, and packages are not looked up: make one file of the \
         modules with what they import, by `npx esbuild {ENTRY} --bundle --format=esm \
         --external:wafer --outfile=FILE.js`, and name that; or name a folder without it"
    )
}

/// Returns the message about a folder that has no entry.
fn no_entry(path: &Path) -> String {
    let names = TYPESCRIPT.map(|end| format!("index{end}"));
    let found = names.iter().find(|name| path.join(name).is_file());
    match found {
        Some(name) => is_typescript(&format!("its `{name}`"), "index", name),
        None => format!(
            "it has no `{ENTRY}`, the module that has the function; name a file, or a folder with \
             this one"
        ),
    }
}

/// Returns what of a file is taken. `name` is its name, or its path.
fn taken(name: &str) -> Taken {
    match MODULES.iter().any(|end| name.ends_with(end)) {
        true => Taken::Content,
        false => Taken::Nothing,
    }
}

/// Returns the name of a file of TypeScript without its ending.
fn typescript(name: &str) -> Option<&str> {
    TYPESCRIPT.iter().find_map(|end| name.strip_suffix(*end))
}

/// Returns the message about a file of TypeScript, and how JavaScript is made of it.
fn is_typescript(what: &str, stem: &str, name: &str) -> String {
    format!(
        "{what} is TypeScript, whose types have to be stripped: `npx esbuild {name} --bundle \
         --format=esm --external:wafer --outfile={stem}.js` does it, or `tsc`; name the file of \
         JavaScript"
    )
}

/// Checks that a module is text, as `what` says.
fn check_text(what: &str, content: &[u8]) -> Result<(), String> {
    let Err(error) = std::str::from_utf8(content) else {
        return Ok(());
    };
    let at = error.valid_up_to();
    Err(format!(
        "{what} is not text in UTF-8: byte {} of it, {:#04x}, belongs to no character; store the \
         file as UTF-8",
        at + 1,
        content[at]
    ))
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;
    use std::os::unix::fs::symlink;

    use super::*;
    use crate::interpreter::archive::Archive;
    use crate::interpreter::check_interpreter;

    /// A folder `f` with some files.
    struct Folder(tempfile::TempDir);

    impl Folder {
        fn new(files: &[(&str, &str)]) -> Self {
            let folder = tempfile::tempdir().unwrap();
            std::fs::create_dir(folder.path().join("f")).unwrap();
            for (path, content) in files {
                let path = folder.path().join("f").join(path);
                std::fs::create_dir_all(path.parent().unwrap()).unwrap();
                std::fs::write(path, content).unwrap();
            }
            Self(folder)
        }

        /// Reads the code at a path below the parent of the folder. An error is without the path of
        /// that.
        fn code(&self, path: &str, function: Option<&str>) -> Result<Code, String> {
            let options = BuildOptions {
                name: "rides".to_owned(),
                source: self.0.path().join(path),
                function: function.map(str::to_owned),
                ..BuildOptions::default()
            };
            let parent = format!("{}/", self.0.path().display());
            code(&options).map_err(|error| error.to_string().replace(&parent, ""))
        }

        fn refused(&self, path: &str) -> String {
            self.code(path, None).unwrap_err()
        }
    }

    fn parameters<const N: usize>(wanted: [(&str, &str); N]) -> BTreeMap<String, String> {
        wanted
            .map(|(name, value)| (name.to_owned(), value.to_owned()))
            .into()
    }

    #[test]
    fn interpreter_is_the_one_that_the_recipe_builds() {
        check_interpreter(&JAVASCRIPT, "QuickJS-ng 0.16");
    }

    #[test]
    fn file_is_the_asset_as_it_is_and_perhaps_an_export_is_named() {
        let folder = Folder::new(&[("rides.js", "const x = '\u{fc}';"), ("b.mjs", "")]);
        let code = folder.code("f/rides.js", None).unwrap();
        assert_eq!(code.assets["javascript"], "const x = '\u{fc}';".as_bytes());
        assert_eq!(code.assets.len(), 1);
        assert_eq!(
            code.parameters,
            parameters([("javascript_file", "rides.js")])
        );
        let code = folder.code("f/b.mjs", Some("last")).unwrap();
        let wanted = [
            ("javascript_file", "b.mjs"),
            ("javascript_function", "last"),
        ];
        assert_eq!(code.parameters, parameters(wanted));
    }

    #[test]
    fn folder_is_an_archive_of_its_modules_that_depends_on_contents_alone() {
        let files = [
            ("index.js", "export { default } from './lib/a.mjs';"),
            ("lib/a.mjs", "export default 1;"),
            ("wafer.d.ts", ""),
            ("table.json", "{}"),
            (".eslintrc.js", ""),
            ("README.md", ""),
        ];
        let code = Folder::new(&files).code("f", None).unwrap();
        let archive = Archive::open(&code.assets["javascript"]).unwrap();
        let paths = archive.entries.iter().map(|entry| entry.path.as_str());
        assert_eq!(paths.collect::<Vec<_>>(), ["index.js", "lib/a.mjs"]);
        assert_eq!(
            code.parameters,
            parameters([("javascript_file", "index.js")])
        );
        assert_eq!(Folder::new(&files).code("f", None).unwrap(), code);
        let only = Folder::new(&[("index.js", "1")]).code("f", None).unwrap();
        assert_eq!(only.assets["javascript"], "1");
    }

    #[test]
    fn what_is_no_module_is_refused_with_its_path_and_what_to_do() {
        let check = |files: &[(&str, &str)], path: &str, wanted: &str| {
            let message = Folder::new(files).refused(path);
            let wanted = format!("javascript: {path}: {wanted}");
            assert!(message.starts_with(&wanted), "{message}");
        };
        check(&[], "f/a.js", "it cannot be read: ");
        for name in ["f/a.py", "f/a.cjs", "f/a.json"] {
            let file = name.trim_start_matches("f/");
            check(
                &[(file, "")],
                name,
                "it is not a JavaScript module; name a file that ends in .js or .mjs",
            );
        }
        check(
            &[("ride.ts", "")],
            "f/ride.ts",
            "it is TypeScript, whose types have to be stripped: `npx esbuild ride.ts --bundle \
             --format=esm --external:wafer --outfile=ride.js` does it, or `tsc`; name the file",
        );
        check(
            &[("index.tsx", ""), ("a.js", "")],
            "f",
            "its `index.tsx` is TypeScript, whose types have to be stripped: `npx esbuild index.tsx ",
        );
        check(
            &[("a.js", "")],
            "f",
            "it has no `index.js`, the module that has the function; name a file",
        );
        check(
            &[("index.js", ""), ("node_modules/a/index.js", "")],
            "f",
            "it has a folder `node_modules`, and packages are not looked up: make one file",
        );
    }

    #[test]
    fn bytes_that_are_no_text_are_refused_with_file_and_place() {
        let folder = Folder::new(&[("index.js", "")]);
        let write = |name: &str, content: &[u8]| {
            std::fs::write(folder.0.path().join("f").join(name), content).unwrap();
        };
        write("a.js", b"// \xff");
        assert_eq!(
            folder.refused("f/a.js"),
            "javascript: f/a.js: it is not text in UTF-8: byte 4 of it, 0xff, belongs to no \
             character; store the file as UTF-8"
        );
        // A character that is cut off at the end.
        write("a.js", "x\u{fc}".as_bytes().split_last().unwrap().1);
        assert!(
            folder
                .refused("f")
                .starts_with("javascript: f: `a.js` is not text in UTF-8: byte 2 of it, 0xc3,")
        );
    }

    #[test]
    fn links_and_what_is_too_large_are_refused() {
        let folder = Folder::new(&[("index.js", "")]);
        let path = |name: &str| folder.0.path().join(name);
        symlink("f/index.js", path("a.js")).unwrap();
        assert_eq!(
            folder.refused("a.js"),
            "javascript: a.js: it is a symbolic link; name the file or the folder itself"
        );
        symlink("/etc/hosts", path("f/hosts.js")).unwrap();
        assert_eq!(
            folder.refused("f"),
            "javascript: f: `hosts.js` is a symbolic link; put the file itself in its place"
        );
        std::fs::remove_file(path("f/hosts.js")).unwrap();
        std::fs::write(path("f/large.js"), vec![b'/'; 4 << 20]).unwrap();
        assert!(folder.code("f", None).is_ok(), "4 MiB fit");
        std::fs::write(path("f/one.js"), "1").unwrap();
        assert!(
            folder
                .refused("f")
                .starts_with("javascript: f: the modules are larger than 4 MiB, with `")
        );
        std::fs::write(path("f/large.js"), vec![b'/'; (4 << 20) + 1]).unwrap();
        assert_eq!(
            folder.refused("f/large.js"),
            "javascript: f/large.js: it is larger than 4 MiB"
        );
    }
}
