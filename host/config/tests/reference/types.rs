//! The types of keys in the reference, compared with those of the fields that are read.

use crate::{Key, Row, SECTIONS, Structs, fields_of_struct};

/// How types of the reference begin, and the types of fields that they stand for, without `Option`.
/// A field that a function reads has its name as well: those of `host/config/src/values.rs` take
/// texts with a unit, or one text for a list of one, and others what the text of a key has beside
/// its path. The first that fits counts.
const TYPES: [(&str, &[&str]); 26] = [
    ("boolean", &["bool"]),
    ("duration", &["Duration by duration"]),
    ("size", &["u64 by size"]),
    ("integer or float", &["Bound"]),
    ("integer", &["u32", "u64"]),
    ("number", &["f64"]),
    ("text or list of texts", &["Vec<String> by one_or_more"]),
    ("text", &["String"]),
    ("name", &["String"]),
    ("URL", &["String"]),
    ("one ASCII character", &["String"]),
    ("column type", &["String"]),
    (
        "path",
        &[
            "PathBuf",
            "ModuleSource by python_source",
            "ModuleSource by javascript_source",
        ],
    ),
    ("pattern of `strftime`", &["TimeFormat"]),
    ("time zone", &["Zone"]),
    (
        "list of tables",
        &[
            "Vec<AggregateConfig>",
            "Vec<ExpectationConfig>",
            "Vec<LookupConfig>",
        ],
    ),
    ("list", &["Vec<String>"]),
    ("table of column types", &["toml::Table"]),
    ("table of parameters", &["BTreeMap<String, toml::Value>"]),
    ("table of tables", &["BTreeMap<String, TimeConfig>"]),
    (
        "table of texts",
        &["BTreeMap<String, String>", "BTreeMap<String, AssetSource>"],
    ),
    (
        "table of `float64` or `text`",
        &["BTreeMap<String, DecimalReading>"],
    ),
    (
        "table",
        &["ScheduleConfig", "TrainingConfig", "toml::Table"],
    ),
    ("`NAME`", &["VersionName"]),
    ("`row`", &["String"]),
    // Lists of words; a test in `reference.rs` compares the words.
    (
        "`",
        &[
            "Compression",
            "Encoding",
            "EpochUnit",
            "Format",
            "Overlap",
            "Policy",
            "SourceType",
            "Stock",
            "Task",
        ],
    ),
];

/// Returns what is wrong with the types of some rows of the reference.
pub(crate) fn wrong(rows: &[Row<'_>], structs: &Structs) -> Vec<String> {
    let fault = |row: &Row<'_>| {
        let (name, _) = SECTIONS
            .iter()
            .find(|(_, heading)| *heading == row.heading)?;
        let fields = fields_of_struct(structs, name);
        let field = fields.into_iter().find(|field| field.name == row.key)?;
        let types = TYPES.iter().find(|(text, _)| row.kind.starts_with(text));
        let Some((_, types)) = types else {
            return Some(format!(
                "section `## {}` of docs/wafer-toml.md gives `{}` the type {}: name what fields \
                 have this type in TYPES of host/config/tests/reference/types.rs",
                row.heading, row.key, row.kind
            ));
        };
        let found = type_of(field);
        (!types.contains(&&*found)).then(|| {
            format!(
                "section `## {}` of docs/wafer-toml.md says that `{}` is of the type {}, and the \
                 field of `{name}` is of the type {found}",
                row.heading, row.key, row.kind
            )
        })
    };
    rows.iter().filter_map(fault).collect()
}

/// Returns the type of a field without `Option`, and the function that reads it.
fn type_of(field: &Key) -> String {
    let kind = field.kind.strip_prefix("Option<");
    let kind = kind.and_then(|kind| kind.strip_suffix('>'));
    let kind = kind.unwrap_or(&field.kind);
    match &field.reader {
        Some(reader) => format!("{kind} by {reader}"),
        None => kind.to_owned(),
    }
}

#[test]
fn types_that_differ_are_named_with_their_section() {
    let key = |name: &str, kind: &str, reader: Option<&str>| Key {
        name: name.to_owned(),
        kind: kind.to_owned(),
        reader: reader.map(str::to_owned),
    };
    let fields = [
        key("path", "Option<PathBuf>", None),
        key("map_size", "Option<u64>", Some("size")),
        key("online", "Option<u64>", None),
    ];
    let fields = fields.map(crate::Field::Key).into();
    let structs = Structs::from([("StoreTable".to_owned(), fields)]);
    let row = |key, kind| Row {
        heading: "[store]",
        key,
        kind,
        default: "none",
        wrong: "",
    };
    let right = [row("path", "path"), row("map_size", "size")];
    assert_eq!(wrong(&right, &structs), Vec::<String>::new());
    for (key, kind, wanted) in [
        ("path", "text", "is of the type PathBuf"),
        ("map_size", "integer", "is of the type u64 by size"),
        ("online", "size", "is of the type u64"),
        ("online", "colour", "TYPES"),
    ] {
        let said = wrong(&[row(key, kind)], &structs).join("\n");
        assert!(said.contains(wanted), "{said}");
    }
}
