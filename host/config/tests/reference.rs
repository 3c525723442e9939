//! The reference of the project file, `docs/wafer-toml.md`, compared with the code. Each section
//! documents the keys of the struct that its table is parsed into, and no others, with their types
//! and units; a key that is left out means the default that the reference names; and messages are
//! those of the code.
#![allow(clippy::disallowed_methods, clippy::unwrap_used, reason = "tests")]

#[path = "reference/messages.rs"]
mod messages;
#[path = "reference/types.rs"]
mod types;

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};

use wafer_catalog::{ComponentDef, Definitions, FunctionRole, ProjectFunctions};
use wafer_config::{Overrides, Project, SourceColumns, resolve};
use wafer_core::{Digest, Duration, parse_bytes};
use wafer_runtime::Limits;

/// The struct of the whole file. Its keys are the tables of the highest level.
const FILE: &str = "ProjectFile";

/// The struct of each table, and the heading of its section in the reference.
const SECTIONS: [(&str, &str); 17] = [
    ("ProjectTable", "[project]"),
    ("StoreTable", "[store]"),
    ("ServerConfig", "[server]"),
    ("EntityConfig", "[entities.NAME]"),
    ("SourceConfig", "[sources.NAME]"),
    ("TimeConfig", "[sources.NAME.times.COLUMN]"),
    ("FunctionConfig", "[functions.NAME]"),
    ("GroupConfig", "[groups.NAME]"),
    ("AggregateConfig", "[[groups.NAME.aggregates]]"),
    ("ExpectationConfig", "[[groups.NAME.expectations]]"),
    ("PipelineConfig", "[pipelines.NAME]"),
    ("ColumnConfig", "[pipelines.NAME.columns.COLUMN]"),
    ("ScheduleConfig", "[pipelines.NAME.schedule]"),
    ("ViewConfig", "[views.NAME]"),
    ("LookupConfig", "[[views.NAME.lookups]]"),
    ("ModelConfig", "[models.NAME]"),
    ("TrainingConfig", "[models.NAME.training]"),
];

/// A field of a struct, as serde reads it.
#[derive(Debug)]
enum Field {
    /// A key of the table.
    Key(Key),
    /// All keys of another struct.
    Flattened(String),
}

/// A key of a table, and the field that it is read into.
#[derive(Debug)]
struct Key {
    /// The key.
    name: String,
    /// The type of the field.
    kind: String,
    /// The function that reads the field, if it is not the one of its type.
    reader: Option<String>,
}

/// The fields of structs, by the name of the struct.
type Structs = BTreeMap<String, Vec<Field>>;

/// The lines of sections, or the keys that they document, by the heading of the section.
type Sections<'a> = BTreeMap<&'a str, Vec<&'a str>>;

#[test]
fn the_reference_documents_exactly_the_keys_of_the_project_file() {
    // The folder is found at run time, because checkouts may share a target folder.
    let folder = PathBuf::from(std::env::var_os("CARGO_MANIFEST_DIR").unwrap());
    let structs = structs_of_folder(&folder.join("src"));
    let reference = read(&folder.join("../../docs/wafer-toml.md"));
    let sections = documented(&reference);
    let mut faults = unassigned(&structs, &sections);
    faults.extend(top_level(&keys_of(&structs, FILE), &sections));
    for (name, heading) in SECTIONS {
        let Some(documented) = sections.get(heading) else {
            faults.push(format!(
                "docs/wafer-toml.md has no section `## {heading}` for the keys of struct `{name}`"
            ));
            continue;
        };
        faults.extend(differences(
            name,
            heading,
            &keys_of(&structs, name),
            documented,
        ));
    }
    assert!(faults.is_empty(), "\n{}", faults.join("\n"));
}

/// Returns the structs and sections that [`SECTIONS`] does not name.
fn unassigned(structs: &Structs, sections: &Sections<'_>) -> Vec<String> {
    let mut known: BTreeSet<&str> = SECTIONS.iter().map(|(name, _)| *name).collect();
    known.insert(FILE);
    for field in structs.values().flatten() {
        if let Field::Flattened(name) = field {
            known.insert(name);
        }
    }
    let structs = structs
        .keys()
        .filter(|name| !known.contains(name.as_str()))
        .map(|name| {
            format!(
                "struct `{name}` derives Deserialize: name its section in SECTIONS of \
                 host/config/tests/reference.rs"
            )
        });
    let sections = sections
        .keys()
        .filter(|heading| !SECTIONS.iter().any(|(_, known)| known == *heading))
        .map(|heading| {
            format!(
                "section `## {heading}` of docs/wafer-toml.md belongs to no struct: name its \
                 struct in SECTIONS of host/config/tests/reference.rs"
            )
        });
    structs.chain(sections).collect()
}

/// Compares the tables of the highest level with the headings of the sections.
fn top_level(tables: &BTreeSet<String>, sections: &Sections<'_>) -> Vec<String> {
    let described: BTreeSet<&str> = sections
        .keys()
        .filter_map(|heading| heading.trim_matches(['[', ']']).split('.').next())
        .collect();
    let undescribed = tables
        .iter()
        .filter(|table| !described.contains(table.as_str()))
        .map(|table| {
            format!(
                "struct `{FILE}` has the key `{table}`, and docs/wafer-toml.md has no section of it"
            )
        });
    let unknown = described
        .iter()
        .filter(|table| !tables.contains(**table))
        .map(|table| {
            format!(
                "docs/wafer-toml.md has a section of `{table}`, which is not a key of struct `{FILE}`"
            )
        });
    undescribed.chain(unknown).collect()
}

/// Compares the keys of a struct with those that its section documents.
fn differences(
    name: &str,
    heading: &str,
    keys: &BTreeSet<String>,
    documented: &[&str],
) -> Vec<String> {
    let mut faults = Vec::new();
    for key in keys {
        match documented.iter().filter(|other| *other == key).count() {
            0 => faults.push(format!(
                "struct `{name}` has the key `{key}`, which section `## {heading}` of \
                 docs/wafer-toml.md does not document"
            )),
            1 => {}
            count => faults.push(format!(
                "section `## {heading}` of docs/wafer-toml.md documents the key `{key}` of \
                 struct `{name}` {count} times"
            )),
        }
    }
    for key in documented {
        if !keys.contains(*key) {
            faults.push(format!(
                "section `## {heading}` of docs/wafer-toml.md documents the key `{key}`, which \
                 struct `{name}` does not have"
            ));
        }
    }
    faults
}

/// Returns the names of the keys of a table, with those of flattened structs.
fn keys_of(structs: &Structs, name: &str) -> BTreeSet<String> {
    let fields = fields_of_struct(structs, name).into_iter();
    fields.map(|field| field.name.clone()).collect()
}

/// Returns the keys of a table, with those of flattened structs.
fn fields_of_struct<'a>(structs: &'a Structs, name: &str) -> Vec<&'a Key> {
    let fields = structs.get(name).unwrap_or_else(|| {
        panic!("host/config/src has no struct `{name}` that derives Deserialize")
    });
    let mut keys = Vec::new();
    for field in fields {
        match field {
            Field::Key(key) => keys.push(key),
            Field::Flattened(other) => keys.extend(fields_of_struct(structs, other)),
        }
    }
    keys
}

/// Returns the lines of each section of the reference. A section ends at the next heading of any
/// level.
fn lines(reference: &str) -> Sections<'_> {
    let mut sections = Sections::new();
    let mut section = None;
    for line in reference.lines() {
        if line.starts_with('#') {
            section = line
                .strip_prefix("## ")
                .filter(|heading| heading.starts_with('['));
            if let Some(heading) = section {
                sections.entry(heading).or_default();
            }
        } else if let Some(heading) = section {
            sections.entry(heading).or_default().push(line);
        }
    }
    sections
}

/// Returns the keys that each section of the reference documents: what is in backticks in the
/// first column of its tables.
fn documented(reference: &str) -> Sections<'_> {
    let sections = lines(reference).into_iter();
    let documented = sections.map(|(heading, lines)| {
        let rows = lines.into_iter().filter_map(|line| line.strip_prefix("| "));
        let first = rows.map(|cells| cells.split(" |").next().unwrap_or_default());
        let keys = first.flat_map(|cell| cell.split('`').skip(1).step_by(2));
        (heading, keys.collect::<Vec<_>>())
    });
    documented.collect()
}

/// Returns the structs that derive `Deserialize` of all source files in a folder.
fn structs_of_folder(folder: &Path) -> Structs {
    let mut found = Structs::new();
    for entry in std::fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        if path.extension().is_some_and(|extension| extension == "rs") {
            found.extend(structs_of(&read(&path)));
        }
    }
    found
}

fn read(path: &Path) -> String {
    std::fs::read_to_string(path).unwrap_or_else(|e| panic!("{}: {e}", path.display()))
}

/// Returns the structs that derive `Deserialize` of a source file.
fn structs_of(source: &str) -> Structs {
    let mut found = Structs::new();
    let mut is_read = false;
    let mut lines = source.lines().map(str::trim);
    while let Some(line) = lines.next() {
        if line.starts_with("#[") {
            let attribute = whole_attribute(line, &mut lines);
            is_read |= attribute.starts_with("#[derive(") && has_word(&attribute, "Deserialize");
        } else if let Some(name) = struct_name(line) {
            if is_read {
                found.insert(name.to_owned(), fields_of(&mut lines));
            }
            is_read = false;
        } else if !line.starts_with("//") {
            is_read = false;
        }
    }
    found
}

/// Reads the fields of a struct up to its closing brace.
fn fields_of<'a>(lines: &mut impl Iterator<Item = &'a str>) -> Vec<Field> {
    let mut fields = Vec::new();
    let mut attributes = Vec::new();
    while let Some(line) = lines.next() {
        if line == "}" {
            break;
        }
        if line.starts_with("#[") {
            attributes.push(whole_attribute(line, lines));
        } else if !line.starts_with("//")
            && let Some((name, kind)) = without_visibility(line).split_once(':')
        {
            fields.extend(field(name, kind, &attributes));
            attributes.clear();
        }
    }
    fields
}

/// Returns what serde reads into a field, or `None` for a field that it skips.
fn field(name: &str, kind: &str, attributes: &[String]) -> Option<Field> {
    let arguments: Vec<&str> = attributes
        .iter()
        .filter_map(|attribute| attribute.strip_prefix("#[serde(")?.strip_suffix(")]"))
        .flat_map(|arguments| arguments.split(','))
        .map(str::trim)
        .collect();
    if arguments.contains(&"skip") || arguments.contains(&"skip_deserializing") {
        return None;
    }
    let kind = kind.trim().trim_end_matches(',');
    if arguments.contains(&"flatten") {
        let inner = kind
            .strip_prefix("Option<")
            .and_then(|kind| kind.strip_suffix('>'));
        return Some(Field::Flattened(inner.unwrap_or(kind).to_owned()));
    }
    let value = |name: &str| {
        let mut arguments = arguments.iter();
        arguments.find_map(|argument| argument.strip_prefix(name)?.strip_suffix('"'))
    };
    Some(Field::Key(Key {
        name: value("rename = \"").unwrap_or(name).to_owned(),
        kind: kind.to_owned(),
        reader: value("deserialize_with = \"").map(str::to_owned),
    }))
}

/// Returns an attribute in one line, of which `first` is the first line.
fn whole_attribute<'a>(first: &str, lines: &mut impl Iterator<Item = &'a str>) -> String {
    let mut attribute = first.to_owned();
    while !attribute.ends_with(']') {
        let Some(next) = lines.next() else {
            break;
        };
        attribute += next;
    }
    attribute
}

/// Returns the name of a struct with named fields, if its definition begins in this line.
fn struct_name(line: &str) -> Option<&str> {
    let rest = without_visibility(line).strip_prefix("struct ")?;
    let end = rest.find(|c: char| !is_of_word(c))?;
    rest.ends_with('{').then(|| &rest[..end])
}

fn without_visibility(line: &str) -> &str {
    for visibility in ["pub ", "pub(crate) ", "pub(super) "] {
        if let Some(rest) = line.strip_prefix(visibility) {
            return rest;
        }
    }
    line
}

fn has_word(text: &str, word: &str) -> bool {
    text.split(|c: char| !is_of_word(c))
        .any(|other| other == word)
}

fn is_of_word(c: char) -> bool {
    c.is_alphanumeric() || c == '_'
}

/// A project file that sets no key which has a default, but what these keys need. The keys of a
/// section go where its heading is.
const LEAST: &str = r#"
[project]
name = "shop"

[store]
# [store]

[entities.customer]
keys = { id = "int64" }

[sources.orders]
type = "stream"
path = "orders.csv"
columns = { id = "int64", at = "timestamp", total = "float64" }
# [sources.NAME]

[sources.orders.times.at]
unit = "ms"
# [sources.NAME.times.COLUMN]

[functions.late]
crate = "late"
# [functions.NAME]

[groups.orders]
entity = "customer"
event_time = "at"
# [groups.NAME]

[[groups.orders.aggregates]]
function = "sum"
column = "total"
windows = ["1h"]
# [[groups.NAME.aggregates]]

[[groups.orders.expectations]]
column = "total"
min = 0.0
# [[groups.NAME.expectations]]

[pipelines.orders]
source = "orders"
group = "orders"
# [pipelines.NAME]

[pipelines.orders.schedule]
cron = "0 * * * *"
# [pipelines.NAME.schedule]

[views.basket]
request = { amount = "float64" }
lookups = [{ group = "orders" }]

[models.late]
view = "basket"
function = "late"
# [models.NAME]

[models.late.training]
split = "train=0.8,test=0.2"
# [models.NAME.training]
"#;

/// Defaults that are neither numbers nor durations nor sizes, as the reference writes them, and
/// another value for the same key, as TOML writes it.
const OTHERS: [(&str, &str); 11] = [
    (".wafer", "\"elsewhere\""),
    ("true", "false"),
    ("false", "true"),
    ("utf-8", "\"latin-1\""),
    ("\",\"", "\";\""),
    (r#""\"""#, "\"'\""),
    ("reject", "\"warn\""),
    ("UTC", "\"Europe/Berlin\""),
    ("wait", "\"skip\""),
    ("row", "\"time\""),
    ("event_timestamp", "\"at\""),
];

#[test]
fn a_key_that_is_left_out_means_the_default_of_the_reference() {
    let folder = PathBuf::from(std::env::var_os("CARGO_MANIFEST_DIR").unwrap());
    let reference = read(&folder.join("../../docs/wafer-toml.md"));
    let mut faults = Vec::new();
    for row in rows(&reference) {
        let Row { heading, key, .. } = row;
        // The server has these defaults: `host/cli/src/commands/serve.rs` compares them.
        if heading == "[server]" {
            continue;
        }
        let Some((usual, of_trainer)) = defaults(row.default) else {
            continue;
        };
        for (role, default) in [
            (FunctionRole::Features, usual),
            (FunctionRole::Trainer, of_trainer),
        ] {
            let absent = meaning(LEAST, role);
            let with = |value: &str| meaning(&least_with(heading, key, value), role);
            if with(&as_toml(default)) != absent {
                faults.push(format!(
                    "section `## {heading}` of docs/wafer-toml.md says that `{key}` is {default} \
                     by default, and it is not"
                ));
            }
            if with(&another(default)) == absent {
                faults.push(format!(
                    "`meaning` of host/config/tests/reference.rs does not depend on the key `{key}` \
                     of section `## {heading}`, so that its default cannot be compared"
                ));
            }
        }
    }
    assert!(faults.is_empty(), "\n{}", faults.join("\n"));
}

/// A row of the reference: a key, and what is said of it.
#[derive(Clone, Copy, Debug)]
struct Row<'a> {
    /// The heading of the section.
    heading: &'a str,
    key: &'a str,
    kind: &'a str,
    default: &'a str,
    /// What is said when the key is wrong.
    wrong: &'a str,
}

/// Returns the rows of the reference.
fn rows(reference: &str) -> Vec<Row<'_>> {
    let mut rows = Vec::new();
    for (heading, lines) in lines(reference) {
        for cells in lines.iter().filter_map(|line| line.strip_prefix("| `")) {
            if let [key, kind, default, _, wrong] = cells.split(" | ").collect::<Vec<_>>()[..] {
                rows.push(Row {
                    heading,
                    key: key.trim_end_matches('`'),
                    kind,
                    default,
                    wrong,
                });
            }
        }
    }
    rows
}

#[test]
fn types_and_messages_of_the_reference_are_those_of_the_code() {
    let folder = PathBuf::from(std::env::var_os("CARGO_MANIFEST_DIR").unwrap());
    let reference = read(&folder.join("../../docs/wafer-toml.md"));
    let rows = rows(&reference);
    assert!(rows.len() > 100, "{rows:?}");
    let mut faults = types::wrong(&rows, &structs_of_folder(&folder.join("src")));
    let mut literals = Vec::new();
    for entry in std::fs::read_dir(folder.join("..")).unwrap() {
        let src = entry.unwrap().path().join("src");
        if src.is_dir() {
            literals.extend(messages::literals_of(&src));
        }
    }
    faults.extend(messages::unknown(&rows, &literals));
    assert!(faults.is_empty(), "\n{}", faults.join("\n"));
}

#[test]
fn words_of_the_reference_are_those_that_a_key_may_have() {
    let folder = PathBuf::from(std::env::var_os("CARGO_MANIFEST_DIR").unwrap());
    let reference = read(&folder.join("../../docs/wafer-toml.md"));
    let mut faults = Vec::new();
    for row in rows(&reference) {
        let Some(words) = list_of_words(row.kind) else {
            continue;
        };
        // It is like no word, so that all words are said.
        let text = least_with(row.heading, row.key, &format!("\"{}\"", "-".repeat(40)));
        let parsed = Project::parse(Path::new("wafer.toml"), &text, Overrides::default());
        let said = parsed.map(drop).map_err(|e| e.to_string()).unwrap_err();
        let known = said.rsplit_once("the known ones are ");
        let known = known.map(|(_, known)| known.split(", ").collect::<BTreeSet<_>>());
        if known.as_ref() != Some(&words) {
            faults.push(format!(
                "section `## {}` of docs/wafer-toml.md says that `{}` is {}, and the project file \
                 says: {said}",
                row.heading, row.key, row.kind
            ));
        }
    }
    assert!(faults.is_empty(), "\n{}", faults.join("\n"));
}

/// Returns the words that a type of the reference consists of, or `None` if it is of another kind.
fn list_of_words(kind: &str) -> Option<BTreeSet<&str>> {
    let kind = kind.strip_prefix('`')?.strip_suffix('`')?;
    let words: Vec<&str> = kind.split('`').collect();
    let mut between = words.iter().skip(1).step_by(2);
    let is_list = between.all(|text| matches!(*text, ", " | " or "));
    let words: BTreeSet<&str> = words.into_iter().step_by(2).collect();
    (is_list && !words.iter().any(|word| word.starts_with("NAME"))).then_some(words)
}

/// Returns the default that a cell of the reference names, and that of a trainer, or `None` if the
/// cell describes it in words.
fn defaults(cell: &str) -> Option<(&str, &str)> {
    match cell.split_once("; of a trainer ") {
        Some((usual, of_trainer)) => Some((literal(usual)?, literal(of_trainer)?)),
        None => literal(cell).map(|default| (default, default)),
    }
}

/// Returns what a text has in backticks, if that is all of it.
fn literal(text: &str) -> Option<&str> {
    let inner = text.strip_prefix('`')?.strip_suffix('`')?;
    (!inner.contains('`')).then_some(inner)
}

/// Returns a default of the reference as TOML writes it.
fn as_toml(default: &str) -> String {
    let is_plain = default.starts_with('"')
        || default.parse::<f64>().is_ok()
        || matches!(default, "true" | "false");
    match is_plain {
        true => default.to_owned(),
        false => format!("\"{default}\""),
    }
}

/// Returns another value than a default, as TOML writes it.
fn another(default: &str) -> String {
    if let Some((_, other)) = OTHERS.iter().find(|(known, _)| *known == default) {
        return (*other).to_owned();
    }
    if let Ok(number) = default.parse::<u64>() {
        return (number + 1).to_string();
    }
    if let Ok(number) = default.parse::<f64>() {
        return (number / 2.0).to_string();
    }
    if default.parse::<Duration>().is_ok() {
        return "\"7h\"".to_owned();
    }
    if parse_bytes(default).is_ok() {
        return "\"3 MiB\"".to_owned();
    }
    panic!("name another value than `{default}` in OTHERS of host/config/tests/reference.rs")
}

/// Returns the project file with one key more, or with another value of a key that it has.
fn least_with(heading: &str, key: &str, value: &str) -> String {
    let place = format!("# {heading}\n");
    let (before, after) = LEAST.split_once(&place).unwrap_or_else(|| {
        panic!("LEAST of host/config/tests/reference.rs has no place for the keys of `{heading}`")
    });
    let table = before.rfind("\n\n").unwrap_or(0);
    let (others, table) = before.split_at(table);
    let is_other = |line: &&str| !line.starts_with(&format!("{key} = "));
    let table: Vec<&str> = table.split('\n').filter(is_other).collect();
    format!("{others}{}{key} = {value}\n{after}", table.join("\n"))
}

/// Returns what a project file means for a function of a role, or why it cannot be resolved.
fn meaning(text: &str, role: FunctionRole) -> String {
    let project = Project::parse(Path::new("wafer.toml"), text, Overrides::default());
    let project = project.unwrap_or_else(|e| panic!("{e}\n{text}"));
    let function = &project.functions["late"];
    let component = ComponentDef {
        name: "late".to_owned(),
        component: Digest::of(b"late"),
        assets: BTreeMap::new(),
        parameters: BTreeMap::new(),
        limits: Limits::default(),
        strict_nan: false,
    };
    let functions = ProjectFunctions {
        components: BTreeMap::from([("late".to_owned(), component)]),
        ..ProjectFunctions::default()
    };
    let (columns, applied) = (SourceColumns::new(), Definitions::default());
    let resolved = resolve(&project, functions, &columns, &applied).map(|definitions| {
        let training = &definitions.models["late"].training;
        let training = (training.label_time(), &training.split);
        let Definitions {
            sources,
            groups,
            pipelines,
            ..
        } = &definitions;
        format!("{:?}", (sources, groups, pipelines, training))
    });
    if text == LEAST {
        assert!(resolved.is_ok(), "{resolved:?}");
    }
    let limits = function.limits(role);
    let of_function = (limits, function.stack(role), function.strict_nan);
    format!("{:?}", (&project.store, of_function, resolved))
}

#[test]
fn renamed_skipped_and_flattened_fields_are_understood() {
    let structs = structs_of(
        r#"
        /// A table.
        #[derive(Clone, Debug, Deserialize)]
        #[serde(deny_unknown_fields)]
        pub struct Table {
            /// How it comes: by files.
            #[serde(rename = "type")]
            pub kind: Kind,
            #[serde(default, deserialize_with = "duration")]
            pub(crate) delay: Option<i64>,
            #[serde(
                default,
                rename = "as"
            )]
            alias: Option<String>,
            #[serde(skip)]
            path: PathBuf,
            #[serde(flatten)]
            more: Option<More>,
        }

        #[derive(
            Debug,
            Deserialize
        )]
        struct More {
            doc: String,
        }

        #[derive(Deserialize)]
        #[serde(rename_all = "snake_case")]
        enum Kind {
            Files,
        }

        #[derive(Debug, Serialize)]
        struct Written {
            other: String,
        }
        "#,
    );
    assert_eq!(structs.keys().collect::<Vec<_>>(), ["More", "Table"]);
    let keys: Vec<String> = keys_of(&structs, "Table").into_iter().collect();
    assert_eq!(keys, ["as", "delay", "doc", "type"]);
}

#[test]
fn keys_that_differ_are_named_with_their_struct_and_section() {
    let reference = "\
## [tables.NAME]

| key | type |
| --- | --- |
| `a` | `text` |
| `c` | text |

### Kinds

| kind | meaning |
| --- | --- |
| `d` | text |
";
    let sections = documented(reference);
    assert_eq!(sections["[tables.NAME]"], ["a", "c"]);
    let keys = BTreeSet::from(["a".to_owned(), "b".to_owned()]);
    assert_eq!(
        differences("Table", "[tables.NAME]", &keys, &sections["[tables.NAME]"]),
        [
            "struct `Table` has the key `b`, which section `## [tables.NAME]` of \
             docs/wafer-toml.md does not document",
            "section `## [tables.NAME]` of docs/wafer-toml.md documents the key `c`, which \
             struct `Table` does not have",
        ]
    );
}
