//! Delta tables that others write as sources, and folders of table formats as sources of files.

use std::path::Path;
use std::sync::Arc;

use arrow_array::{ArrayRef, Float64Array, Int64Array, RecordBatch, TimestampMicrosecondArray};
use serde_json::{Value as Json, json};
use wafer_store::{Follows, OfflineTables, Txn};

use crate::harness::pass::{COLUMNS, Pass, pass};
use crate::harness::{Project, are_on_aws, repository, text, write_batch};

/// The times of the checked-in table name no zone.
const ZONE: &str = "zone = \"UTC\"";

/// Makes a project that reads a Delta table, with more settings of its source, and applies it.
fn delta(path: &Path, more: &str) -> Project {
    let project = Pass {
        source: &format!("type = \"delta\"\npath = \"{}\"\n{more}", path.display()),
        ..Pass::default()
    };
    project.project().applied()
}

/// The key and the value of each row of the group, sorted.
fn values(project: &Project) -> Vec<(i64, f64)> {
    let rows = project.offline_rows("g_v1");
    let mut values: Vec<(i64, f64)> = rows
        .iter()
        .map(|row| (row["id"].as_i64().unwrap(), row["v"].as_f64().unwrap()))
        .collect();
    values.sort_by(|a, b| a.partial_cmp(b).unwrap());
    values
}

fn rows(numbers: &[(i64, f64)]) -> RecordBatch {
    let ids: ArrayRef = Arc::new(Int64Array::from_iter_values(numbers.iter().map(|n| n.0)));
    // All rows are of one time.
    let times = numbers.iter().map(|_| 1_700_000_000_000_000);
    let times = TimestampMicrosecondArray::from_iter_values(times).with_timezone("UTC");
    let times: ArrayRef = Arc::new(times);
    let values: ArrayRef = Arc::new(Float64Array::from_iter_values(numbers.iter().map(|n| n.1)));
    RecordBatch::try_from_iter_with_nullable([
        ("id", ids, true),
        ("at", times, true),
        ("v", values, true),
    ])
    .unwrap()
}

/// Adds rows to the table `t` in a folder, by a commit of its own that removes the files below
/// `replaces`.
fn append(folder: &Path, number: i64, numbers: &[(i64, f64)], replaces: Option<&str>) {
    let runtime = tokio::runtime::Runtime::new().unwrap();
    runtime.block_on(async {
        let tables = OfflineTables::in_folder(folder).unwrap();
        let batch = rows(numbers);
        tables.ensure("t", &batch.schema()).await.unwrap();
        let mut writer = tables.writer("t", &format!("w{number}")).await.unwrap();
        writer.write(&batch).await.unwrap();
        let txn = Txn {
            app_id: "test".to_owned(),
            version: number,
            follows: Follows::Anything,
        };
        writer.commit(&txn, replaces).await.unwrap();
    });
}

#[test]
fn a_delta_table_is_read_as_its_log_says_and_its_folder_is_not_read_as_files() {
    let table = repository().join("tests/cases/35-parquet-names/delta");
    // A pattern may begin above the table.
    let above = table.parent().unwrap();
    for path in [
        table.clone(),
        table.join("*.parquet"),
        above.join("*/*.parquet"),
        above.join("**/*.parquet"),
    ] {
        let project = pass(COLUMNS, &path.display().to_string());
        let said = project.fails(&["run", "g"]);
        let wanted = "is a Delta table, whose files also hold rows that were removed; read it with `type = \"delta\"`";
        assert!(said.contains(wanted), "{said}");
    }
    // Labels are not read from its files either.
    let project = pass(COLUMNS, "in.csv");
    let part = std::fs::read_dir(&table).unwrap().flatten();
    let mut parts = part.map(|entry| entry.path().display().to_string());
    let part = parts.find(|path| path.ends_with(".parquet")).unwrap();
    let said = project.fails(&["training-set", "v", "--labels", &part, "--out", "o.parquet"]);
    assert!(said.contains("is a Delta table"), "{said}");
    let newest = delta(&table, ZONE);
    newest.ok(&["run", "g"]);
    assert_eq!(values(&newest), [(1, 7.5)]);
    let first = delta(&table, &format!("version = 0\n{ZONE}"));
    first.ok(&["run", "g"]);
    assert_eq!(values(&first), [(1, 1.5), (2, 2.5)]);
    let said = delta(&table, "version = 9").fails(&["run", "g"]);
    assert!(said.contains("version 9 of the Delta table"), "{said}");
    let said = delta(Path::new("nowhere"), "").fails(&["run", "g"]);
    assert!(said.contains("nowhere"), "{said}");
    std::fs::create_dir(first.path().join("plain")).unwrap();
    let said = delta(&first.path().join("plain"), "").fails(&["run", "g"]);
    assert!(said.contains("plain is not a Delta table"), "{said}");
}

#[test]
fn check_reads_the_rows_of_a_delta_table() {
    let folder = tempfile::tempdir().unwrap();
    append(folder.path(), 1, &[(1, 1.0), (2, 2.0)], None);
    let table = folder.path().join("t");
    let checked = |project: &Project| project.json(&["check"])[0].clone();
    let found = checked(&delta(&table, ""));
    assert_eq!(
        (&found["rows"], &found["of"], &found["source"]),
        (&json!(2), &json!("its source"), &json!("s"))
    );
    std::fs::remove_dir_all(&table).unwrap();
    let project = delta(&table, "");
    let said = project.ok(&["check"]);
    assert!(
        said.contains("no row of source `s` was read: ") && !said.contains("everything fits"),
        "{said}"
    );
    assert_eq!(checked(&project)["of"], "made-up data");
}

#[test]
fn a_delta_table_that_is_not_there_is_a_warning_wherever_its_files_are() {
    let folder = tempfile::tempdir().unwrap();
    let table = folder.path().join("t");
    let part = table.join("region/of");
    std::fs::create_dir_all(&part).unwrap();
    std::fs::write(part.join("a.parquet"), "").unwrap();
    let project = delta(&table, "");
    let warned = || text(&project.command(&["plan"]).output().unwrap());
    let said = warned();
    let wanted = "sources.s.path: there is no Delta table ";
    assert!(said.contains(wanted), "{said}");
    std::fs::create_dir(table.join("_delta_log")).unwrap();
    let said = warned();
    assert!(!said.contains("sources.s.path"), "{said}");
}

#[test]
fn runs_over_a_delta_table_read_what_was_added_and_everything_when_rows_were_removed() {
    let folder = tempfile::tempdir().unwrap();
    append(folder.path(), 1, &[(1, 1.0), (2, 2.0)], None);
    let project = delta(&folder.path().join("t"), "");
    let run = || project.json(&["run", "g"]);
    assert_eq!(run()["rows_read"], 2);
    let again = project.ok(&["run", "g"]);
    assert!(again.contains("nothing changed"), "{again}");
    append(folder.path(), 2, &[(2, 2.5), (3, 3.0)], None);
    // Only the new file is read, and its rows are added.
    assert_eq!(run()["rows_read"], 2);
    assert_eq!(values(&project), [(1, 1.0), (2, 2.0), (2, 2.5), (3, 3.0)]);
    let newest = |id: i64| {
        let answer = project.json(&["get", "v", &format!("id={id}")]);
        answer["features"]["g_v"].clone()
    };
    assert_eq!(newest(2), json!(2.5), "the row that was added later counts");
    append(folder.path(), 3, &[(4, 4.0)], Some("w1"));
    assert_eq!(run()["rows_read"], 3);
    assert_eq!(values(&project), [(2, 2.5), (3, 3.0), (4, 4.0)]);
    assert_eq!(newest(1), Json::Null);
    // Another table at the same place is another input, whatever its version.
    std::fs::remove_dir_all(folder.path().join("t")).unwrap();
    append(folder.path(), 1, &[(9, 9.0)], None);
    assert_eq!(run()["rows_read"], 1);
    assert_eq!(values(&project), [(9, 9.0)]);
}

/// Puts the files of a table into the project's bucket, and returns the URL of the table there.
fn put_on_s3(project: &Project, table: &Path) -> String {
    let mut left = vec![table.to_owned()];
    while let Some(path) = left.pop() {
        if path.is_dir() {
            let entries = std::fs::read_dir(&path).unwrap();
            left.extend(entries.map(|entry| entry.unwrap().path()));
        } else {
            let name = path.strip_prefix(table).unwrap().display();
            let content = std::fs::read(&path).unwrap();
            project.write_object(&format!("lake/t/{name}"), content);
        }
    }
    format!("s3://{}/lake/t", project.bucket())
}

#[test]
fn a_delta_table_on_s3_is_read_at_a_version_and_by_what_was_added_to_it() {
    if !are_on_aws() {
        return;
    }
    let folder = tempfile::tempdir().unwrap();
    let table = folder.path().join("t");
    append(folder.path(), 1, &[(1, 1.0), (2, 2.0)], None);
    let project = Pass {
        source: "type = \"delta\"\npath = \"TABLE\"",
        ..Pass::default()
    };
    let project = project.project();
    let url = put_on_s3(&project, &table);
    project.replace("TABLE", &url);
    let project = project.applied();
    let run = || project.json(&["run", "g"]);
    assert_eq!(run()["rows_read"], 2);
    let again = project.ok(&["run", "g"]);
    assert!(again.contains("nothing changed"), "{again}");
    append(folder.path(), 2, &[(2, 2.5), (3, 3.0)], None);
    put_on_s3(&project, &table);
    assert_eq!(run()["rows_read"], 2);
    assert_eq!(values(&project), [(1, 1.0), (2, 2.0), (2, 2.5), (3, 3.0)]);
    append(folder.path(), 3, &[(4, 4.0)], Some("w1"));
    put_on_s3(&project, &table);
    assert_eq!(run()["rows_read"], 3);
    assert_eq!(values(&project), [(2, 2.5), (3, 3.0), (4, 4.0)]);
    assert_eq!(project.json(&["check"])[0]["of"], "its source");
    let shown = project.ok(&["show", "s"]);
    assert!(shown.contains("4,2023-11-14T22:13:20Z,4"), "{shown}");
    let first = delta(Path::new(&url), "version = 1");
    first.ok(&["run", "g"]);
    assert_eq!(values(&first), [(1, 1.0), (2, 2.0)]);
    // A checkpoint is looked at before the log is read, if that is read from it on.
    let checkpoint = "_delta_log/00000000000000000003.checkpoint.parquet";
    project.write_object(&format!("lake/t/{checkpoint}"), "PAR1");
    let said = project.fails(&["run", "g"]);
    let wanted = format!("{url}/{checkpoint} cannot be read");
    assert!(said.contains(&wanted), "{said}");
    first.ok(&["run", "g"]);
    let elsewhere = format!("{url}s");
    let said = delta(Path::new(&elsewhere), "").fails(&["run", "g"]);
    let wanted = format!("{elsewhere} is not a Delta table");
    assert!(said.contains(&wanted), "{said}");
}

/// Merges all files of a table that are in its log into one that has these rows, as another program
/// does that optimizes the table: the commit says that no data changes.
fn optimize(table: &Path, numbers: &[(i64, f64)]) {
    let log = table.join("_delta_log");
    let mut names: Vec<_> = std::fs::read_dir(&log).unwrap().flatten().collect();
    names.retain(|entry| entry.path().extension().is_some_and(|e| e == "json"));
    let commits = names
        .iter()
        .map(|entry| std::fs::read_to_string(entry.path()).unwrap());
    let commits: Vec<String> = commits.collect();
    let actions = commits.iter().flat_map(|commit| commit.lines());
    let actions = actions.map(|line| serde_json::from_str::<Json>(line).unwrap());
    let added = actions.filter_map(|action| action["add"]["path"].as_str().map(str::to_owned));
    let mut lines: Vec<Json> = added
        .map(|path| json!({"remove": {"path": path, "deletionTimestamp": 0, "dataChange": false}}))
        .collect();
    let merged = table.join("merged.parquet");
    write_batch(&merged, &rows(numbers));
    lines.push(json!({"add": {
        "path": "merged.parquet",
        "partitionValues": {},
        "size": std::fs::metadata(&merged).unwrap().len(),
        "modificationTime": 0,
        "dataChange": false,
    }}));
    let lines: String = lines.iter().map(|line| format!("{line}\n")).collect();
    std::fs::write(log.join(format!("{:020}.json", names.len())), lines).unwrap();
}

#[test]
fn ties_of_a_delta_table_stay_as_they_were_read_when_its_files_are_merged() {
    let folder = tempfile::tempdir().unwrap();
    let table = folder.path().join("t");
    append(folder.path(), 1, &[(1, 1.0), (1, 2.0)], None);
    append(folder.path(), 2, &[(1, 3.0)], None);
    let newest = |project: &Project| {
        let answer = project.json(&["get", "v", "id=1"]);
        answer["features"]["g_v"].clone()
    };
    let project = delta(&table, "");
    assert_eq!(project.json(&["run", "g"])["rows_read"], 3);
    assert_eq!(newest(&project), 3.0);
    // The table was made by version 0.
    let before = 2;
    optimize(&table, &[(1, 3.0), (1, 1.0), (1, 2.0)]);
    let again = project.ok(&["run", "g"]);
    assert!(again.contains("nothing changed"), "{again}");
    assert_eq!(newest(&project), 3.0);
    // A version of the table gives the same result, whatever became of its files.
    for (version, wanted) in [(before, 3.0), (before + 1, 2.0), (before, 3.0)] {
        let pinned = delta(&table, &format!("version = {version}"));
        pinned.ok(&["run", "g"]);
        assert_eq!(newest(&pinned), wanted, "version {version}");
    }
    // What is added later counts, whatever time the merged file claims.
    append(folder.path(), 3, &[(1, 0.5)], None);
    assert_eq!(project.json(&["run", "g"])["rows_read"], 1);
    assert_eq!(newest(&project), 0.5);
}

/// Writes the first version of a table with one file.
fn write_table(folder: &Path, protocol: &Json, metadata: &Json, add: &Json, batch: &RecordBatch) {
    std::fs::create_dir_all(folder.join("_delta_log")).unwrap();
    write_batch(&folder.join("a.parquet"), batch);
    let size = std::fs::metadata(folder.join("a.parquet")).unwrap().len();
    let field = |name: &str, kind: &str| json!({"name": name, "type": kind, "nullable": true, "metadata": {}});
    let fields = [
        field("id", "long"),
        field("at", "timestamp"),
        field("v", "double"),
    ];
    let schema = json!({"type": "struct", "fields": fields}).to_string();
    let mut meta = json!({
        "id": "11111111-2222-3333-4444-555555555555",
        "format": {"provider": "parquet", "options": {}},
        "schemaString": schema,
        "partitionColumns": [],
        "configuration": {},
        "createdTime": 0,
    });
    let mut file = json!({
        "path": "a.parquet",
        "partitionValues": {},
        "size": size,
        "modificationTime": 0,
        "dataChange": true,
    });
    let merge = |into: &mut Json, from: &Json| {
        for (key, value) in from.as_object().into_iter().flatten() {
            into[key] = value.clone();
        }
    };
    merge(&mut meta, metadata);
    merge(&mut file, add);
    let log = [
        json!({ "protocol": protocol }),
        json!({ "metaData": meta }),
        json!({ "add": file }),
    ];
    let log: String = log.iter().map(|line| format!("{line}\n")).collect();
    std::fs::write(folder.join("_delta_log/00000000000000000000.json"), log).unwrap();
}

#[test]
fn partition_columns_have_the_values_of_the_log() {
    let folder = tempfile::tempdir().unwrap();
    let plain = json!({"minReaderVersion": 1, "minWriterVersion": 2});
    let batch = rows(&[(1, 0.5), (2, 0.25)]).project(&[1, 2]).unwrap();
    for (value, wanted) in [
        (json!("7"), Ok(7)),
        (
            json!("seven"),
            Err("Failed to parse value 'seven' as 'long'"),
        ),
    ] {
        let table = folder.path().join(value.as_str().unwrap());
        write_table(
            &table,
            &plain,
            &json!({"partitionColumns": ["id"]}),
            &json!({"partitionValues": {"id": value}}),
            &batch,
        );
        let project = delta(&table, "");
        match wanted {
            Ok(id) => {
                project.ok(&["run", "g"]);
                assert_eq!(values(&project), [(id, 0.25), (id, 0.5)]);
            }
            Err(wanted) => {
                let said = project.fails(&["run", "g"]);
                assert!(said.contains(wanted), "{said}");
            }
        }
    }
}

#[test]
fn partition_columns_of_floats_are_read_as_their_type_or_refused() {
    let folder = tempfile::tempdir().unwrap();
    let plain = json!({"minReaderVersion": 1, "minWriterVersion": 2});
    let batch = rows(&[(1, 0.5)]).project(&[0, 1]).unwrap();
    let field = |name: &str, kind: &str| json!({"name": name, "type": kind, "nullable": true, "metadata": {}});
    for (kind, read_as, value, wanted) in [
        ("float", "float32", "0.1", Ok(json!(0.1))),
        ("float", "float64", "0.5", Ok(json!(0.5))),
        ("double", "float64", "-Infinity", Ok(json!("-Infinity"))),
        ("double", "float64", "1.0E-3", Ok(json!(0.001))),
        (
            "double",
            "float64",
            "1e400",
            Err("partition column `v` has a value that cannot be read: `1e400` is not float64"),
        ),
        ("float", "float32", "1e39", Err("`1e39` is not float32")),
    ] {
        let fields = [
            field("id", "long"),
            field("at", "timestamp"),
            field("v", kind),
        ];
        let schema = json!({"type": "struct", "fields": fields}).to_string();
        let table = folder.path().join(format!("{kind}{value}"));
        write_table(
            &table,
            &plain,
            &json!({"partitionColumns": ["v"], "schemaString": schema}),
            &json!({"partitionValues": {"v": value}}),
            &batch,
        );
        let project = Pass {
            columns: &format!("id:int64, at:timestamp, v:{read_as}?"),
            source: &format!("type = \"delta\"\npath = \"{}\"", table.display()),
            ..Pass::default()
        };
        let project = project.project().applied();
        match wanted {
            Ok(wanted) => {
                project.ok(&["run", "g"]);
                assert_eq!(
                    project.offline_rows("g_v1")[0]["v"],
                    wanted,
                    "{kind} {value}"
                );
            }
            Err(wanted) => {
                let said = project.fails(&["run", "g"]);
                assert!(said.contains(wanted), "{said}");
            }
        }
    }
}

#[test]
fn tables_whose_files_do_not_hold_their_rows_are_refused_by_name() {
    let folder = tempfile::tempdir().unwrap();
    let vectors = json!({
        "minReaderVersion": 3,
        "minWriterVersion": 7,
        "readerFeatures": ["deletionVectors"],
        "writerFeatures": ["deletionVectors"],
    });
    let vector = json!({"deletionVector": {
        "storageType": "u",
        "pathOrInlineDv": "ab^-aqEH.-t@S}K{vb[*k^",
        "offset": 4,
        "sizeInBytes": 40,
        "cardinality": 1,
    }});
    let mapped = json!({"minReaderVersion": 2, "minWriterVersion": 5});
    let mapping = json!({"configuration": {"delta.columnMapping.mode": "name"}});
    for (name, protocol, metadata, add, wanted) in [
        ("vectors", &vectors, &json!({}), &vector, "deletion"),
        ("mapped", &mapped, &mapping, &json!({}), "olumn"),
    ] {
        let table = folder.path().join(name);
        write_table(&table, protocol, metadata, add, &rows(&[(1, 1.0)]));
        let project = delta(&table, "");
        let said = project.fails(&["run", "g"]);
        assert!(said.contains(wanted) && said.contains(name), "{said}");
    }
}

/// Whatever a library makes of a file, the run fails with its name, and the program goes on.
#[test]
fn damaged_files_of_a_delta_table_fail_the_run_with_their_name() {
    let folder = tempfile::tempdir().unwrap();
    let plain = json!({"minReaderVersion": 1, "minWriterVersion": 2});
    let table = folder.path().join("t");
    let batch = rows(&[(1, 1.0), (2, 2.0)]);
    write_table(&table, &plain, &json!({}), &json!({}), &batch);
    let project = delta(&table, "");
    let (data, log) = (table.join("a.parquet"), table.join("_delta_log"));
    let checkpoint = log.join("00000000000000000000.checkpoint.parquet");
    let valid = std::fs::read(&data).unwrap();
    // The metadata of a Parquet file (Thrift, compact) that has a list of two billion elements.
    let thrift = b"\x15\x02\x19\xfc\xff\xff\xff\xff\x07\x00";
    let length = u32::try_from(thrift.len()).unwrap().to_le_bytes();
    let list = [&b"PAR1"[..], thrift, &length, b"PAR1"].concat();
    let long = b"PAR1\0\0\0\0\xff\xff\xff\x7fPAR1";
    for damaged in [&b"PAR1"[..], long, &list] {
        for path in [&data, &checkpoint] {
            std::fs::write(path, damaged).unwrap();
            let said = project.fails(&["run", "g"]);
            let name = path.file_name().unwrap().to_str().unwrap();
            assert!(said.contains(&format!("{name} cannot be read")), "{said}");
            std::fs::write(&data, &valid).unwrap();
            let _ = std::fs::remove_file(&checkpoint);
        }
    }
    // A log that would be read into memory as a whole.
    let commit = log.join("00000000000000000001.json");
    let large = std::fs::File::create(&commit).unwrap();
    large.set_len(1 << 30).unwrap();
    let said = project.fails(&["run", "g"]);
    assert!(said.contains("make a checkpoint of the table"), "{said}");
    std::fs::remove_file(commit).unwrap();
    // A file that is somewhere else is not one of the table.
    let first = log.join("00000000000000000000.json");
    let text = std::fs::read_to_string(&first).unwrap();
    let moved = text.replace("\"a.parquet\"", "\"../b/a.parquet\"");
    std::fs::write(&first, moved).unwrap();
    project.fails(&["run", "g"]);
    std::fs::write(&first, text).unwrap();
    project.ok(&["run", "g"]);
    assert_eq!(values(&project), [(1, 1.0), (2, 2.0)]);
}

#[test]
fn a_column_that_was_added_later_is_null_in_older_files() {
    let folder = tempfile::tempdir().unwrap();
    let plain = json!({"minReaderVersion": 1, "minWriterVersion": 2});
    let table = folder.path().join("t");
    let batch = rows(&[(1, 1.0)]).project(&[0, 1]).unwrap();
    write_table(&table, &plain, &json!({}), &json!({}), &batch);
    let project = delta(&table, "");
    project.ok(&["run", "g"]);
    let found = project.offline_rows("g_v1");
    assert_eq!((found.len(), &found[0]["v"]), (1, &Json::Null));
}

#[test]
fn folders_of_iceberg_and_hudi_tables_are_refused_by_name() {
    for (mark, data, wanted) in [
        (
            "metadata/v1.metadata.json",
            "data/day=1",
            "is an Iceberg table",
        ),
        (".hoodie/hoodie.properties", "2024", "is a Hudi table"),
    ] {
        let project = pass(COLUMNS, &format!("t/{data}/*.parquet"));
        let table = project.path().join("t");
        for folder in [table.join(data), table.join(mark).parent().unwrap().into()] {
            std::fs::create_dir_all(folder).unwrap();
        }
        std::fs::write(table.join(mark), "{}").unwrap();
        write_batch(&table.join(data).join("a.parquet"), &rows(&[(1, 1.0)]));
        let said = project.fails(&["run", "g"]);
        assert!(said.contains(wanted), "{said}");
    }
}
