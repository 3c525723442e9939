//! Values of labels: they come out of a training set as they went in, or are refused by name.

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::Arc;

use arrow_array::{Array, ArrayRef, RecordBatch, StringArray, TimestampMicrosecondArray};
use serde_json::{Value as Json, json};

use crate::harness::pass::{case, pass};
use crate::harness::values::{FORMATS, RandomRows};
use crate::harness::{Project, Random, agent, repository, rows_of, text, write_batch};

const COLUMNS: &str = "id:utf8, at:timestamp, v:float64?";
const ROW: &str = "id,at,v\na,2024-01-01T00:00:00Z,1.5\n";

/// A project whose group has a row.
fn project() -> Project {
    let project = pass(COLUMNS, "in.csv");
    project.write("in.csv", ROW);
    project.ok(&["run", "g"]);
    project
}

/// Makes a training set, with these further arguments, and returns its record.
fn training_set(project: &Project, labels: &str, out: &str, arguments: &[&str]) -> Json {
    let (labels, out) = (project.at(labels), project.at(out));
    let mut all = vec!["training-set", "v", "--labels", &labels, "--out", &out];
    all.extend(arguments);
    project.json(&all)
}

/// The types of the columns of a training set, by name.
fn types(set: &Json) -> BTreeMap<String, String> {
    let columns = set["columns"].as_array().unwrap().iter();
    let text = |json: &Json| json.as_str().unwrap().to_owned();
    columns
        .map(|column| (text(&column["name"]), text(&column["type"])))
        .collect()
}

#[test]
fn guessed_types_of_labels_write_the_same_texts_back() {
    let project = project();
    project.write("in.csv", case("30-label-texts/in.csv"));
    project.ok(&["run", "g"]);
    let labels = String::from_utf8(case("30-label-texts/labels.csv")).unwrap();
    project.write("labels.csv", &labels);
    let set = training_set(&project, "labels.csv", "out.csv", &[]);
    let out = std::fs::read_to_string(project.path().join("out.csv")).unwrap();
    for (found, wanted) in out.lines().zip(labels.lines()) {
        assert!(found.starts_with(&format!("{wanted},")), "{found}");
    }
    assert_eq!(out.lines().count(), labels.lines().count());
    let found = types(&set);
    for (name, wanted) in [
        ("zip", "Utf8"),
        ("phone", "Utf8"),
        ("code", "Utf8"),
        ("flag", "Boolean"),
        ("big", "Utf8"),
        ("note", "Utf8"),
    ] {
        assert_eq!(found[name], wanted, "{name}");
    }

    // A type that is given comes before the guess.
    let set = training_set(
        &project,
        "labels.csv",
        "typed.parquet",
        &["--types", "code=float64, zip=int64,note=float64"],
    );
    let rows = rows_of(&project.path().join("typed.parquet"));
    let column = |name: &str| -> Vec<Json> { rows.iter().map(|row| row[name].clone()).collect() };
    assert_eq!(column("code"), [json!(100_000.0), json!(2_000.0)]);
    assert_eq!(column("zip"), [json!(2_134), json!(501)]);
    assert_eq!(column("note"), [json!("NaN"), json!("Infinity")]);
    assert_eq!(column("phone"), [json!("+4712345678"), json!("0047")]);

    // Both sets are made again with the types that they had.
    let again = project.at("again.parquet");
    project.ok(&[
        "training-set",
        "--recreate",
        set["id"].as_str().unwrap(),
        "--out",
        &again,
    ]);
    let read = |name: &str| std::fs::read(project.path().join(name)).unwrap();
    assert_eq!(read("again.parquet"), read("typed.parquet"));
}

#[test]
fn columns_of_labels_are_guessed_as_a_whole() {
    let project = project();
    let labels = "id,event_timestamp,ints,floats,mixed,bools,gaps,dates,codes,none\n\
                  a,2024-01-02T00:00:00Z,1,0.5,1,true,,2024-01-01,\"\",\n\
                  a,2024-01-02T00:00:00Z,-20,NaN,1.5,false,7,2024-01-02,7,\n";
    project.write("labels.csv", labels);
    let set = training_set(&project, "labels.csv", "out.csv", &[]);
    let found = types(&set);
    for (name, wanted) in [
        ("ints", "Int64"),
        ("floats", "Float64"),
        ("mixed", "Utf8"),
        ("bools", "Boolean"),
        ("gaps", "Int64"),
        ("dates", "Utf8"),
        // In quotes, an empty field is a text, which no number is.
        ("codes", "Utf8"),
        // Without any value, as in every format.
        ("none", "Utf8"),
    ] {
        assert_eq!(found[name], wanted, "{name}");
    }
    let out = std::fs::read_to_string(project.path().join("out.csv")).unwrap();
    for (found, wanted) in out.lines().zip(labels.lines()) {
        assert!(found.starts_with(wanted), "{found}");
    }
    project.write(
        "labels.ndjson",
        "{\"id\":\"a\",\"event_timestamp\":\"2024-01-02T00:00:00Z\",\"n\":9007199254740993,\"m\":1}\n\
         {\"id\":\"a\",\"event_timestamp\":\"2024-01-02T00:00:00Z\",\"n\":2,\"m\":1.5}\n",
    );
    let set = training_set(&project, "labels.ndjson", "out.ndjson", &[]);
    assert_eq!([&types(&set)["n"], &types(&set)["m"]], ["Int64", "Float64"]);
    let out = std::fs::read_to_string(project.path().join("out.ndjson")).unwrap();
    assert!(out.contains("\"n\":9007199254740993"), "{out}");
    // An integer that a float64 would round is refused, because the column has fractions.
    project.write(
        "labels.ndjson",
        "{\"id\":\"a\",\"event_timestamp\":\"2024-01-02T00:00:00Z\",\"n\":9007199254740993}\n\
         {\"id\":\"a\",\"event_timestamp\":\"2024-01-02T00:00:00Z\",\"n\":0.5}\n",
    );
    let (labels, out) = (project.at("labels.ndjson"), project.at("x.parquet"));
    let said = project.fails(&["training-set", "v", "--labels", &labels, "--out", &out]);
    assert!(
        said.contains("labels.ndjson:1: field `n`: 9007199254740993 is not float64"),
        "{said}"
    );
    // A column that each object names twice is not left out in silence.
    project.write(
        "labels.ndjson",
        "{\"id\":\"a\",\"event_timestamp\":\"2024-01-02T00:00:00Z\",\"n\":1,\"n\":2}\n",
    );
    let said = project.fails(&["training-set", "v", "--labels", &labels, "--out", &out]);
    assert!(
        said.contains("labels.ndjson:1: field `n`: is there twice"),
        "{said}"
    );
}

#[test]
fn types_of_columns_that_cannot_be_given_are_refused() {
    let project = project();
    project.write(
        "labels.csv",
        "id,event_timestamp,y\na,2024-01-02T00:00:00Z,x\n",
    );
    let batch: [(&str, ArrayRef); 2] = [
        ("id", Arc::new(StringArray::from(vec!["a"]))),
        (
            "event_timestamp",
            Arc::new(TimestampMicrosecondArray::from(vec![0]).with_timezone("UTC")),
        ),
    ];
    let batch = RecordBatch::try_from_iter(batch).unwrap();
    write_batch(&project.path().join("labels.parquet"), &batch);
    project.write(
        "two.csv",
        "id,event_timestamp,y,y\na,2024-01-02T00:00:00Z,1,2\n",
    );
    for (labels, types, wanted) in [
        (
            "two.csv",
            "y=utf8",
            "two.csv has two columns `y`: rename or remove one",
        ),
        (
            "labels.csv",
            "y=int64",
            "labels.csv:2: field `y`: `x` is not int64",
        ),
        (
            "labels.csv",
            "yy=utf8",
            "has no column `yy`, whose type is given; is `y` meant?",
        ),
        (
            "labels.csv",
            "id=utf8",
            "the type of column `id` follows from the view",
        ),
        (
            "labels.csv",
            "event_timestamp=timestamp",
            "the type of column `event_timestamp` follows from the view",
        ),
        ("labels.csv", "y=text", "column `y`: `text` is not a type"),
        ("labels.csv", "y", "`y` is not of the form COLUMN=TYPE"),
        (
            "labels.parquet",
            "y=utf8",
            "types of columns are given for CSV and NDJSON only",
        ),
    ] {
        let (labels, out) = (project.at(labels), project.at("out.parquet"));
        let arguments = [
            "training-set",
            "v",
            "--labels",
            &labels,
            "--out",
            &out,
            "--types",
            types,
        ];
        let said = project.fails(&arguments);
        assert!(said.contains(wanted), "{types}: {said}");
    }
}

#[test]
fn empty_keys_of_labels_are_those_of_sources() {
    let project = pass("id:utf8, at:timestamp, v:int64?", "in.csv");
    project.write("in.csv", case("20-asof/in.csv"));
    project.ok(&["run", "g"]);
    let labels = String::from_utf8(case("20-asof/labels.csv")).unwrap();
    project.write("labels.csv", &labels);
    let rows = labels
        .lines()
        .skip(1)
        .map(|line| line.split(',').collect::<Vec<_>>());
    let ndjson = rows.clone().map(|row| {
        json!({ "id": row[0], "event_timestamp": row[1], "want": row[2] }).to_string() + "\n"
    });
    // In a format that tells them apart, a key that is null matches nothing.
    let null = json!({ "id": null, "event_timestamp": "2020-01-02T00:00:00Z", "want": "null" });
    project.write(
        "labels.ndjson",
        ndjson.collect::<String>() + &null.to_string() + "\n",
    );
    let ids = rows.clone().map(|row| row[0]);
    let ids: ArrayRef = Arc::new(StringArray::from(ids.collect::<Vec<_>>()));
    let times = rows.map(|row| row[1].parse::<wafer_core::Timestamp>().unwrap().as_micros());
    let times = times.collect::<Vec<_>>();
    let times = TimestampMicrosecondArray::from(times).with_timezone("UTC");
    let columns: [(&str, ArrayRef); 2] = [("id", ids), ("event_timestamp", Arc::new(times))];
    let batch = RecordBatch::try_from_iter(columns).unwrap();
    write_batch(&project.path().join("labels.parquet"), &batch);
    let wanted = [
        json!(2),
        json!(2),
        json!(1),
        json!(2),
        json!(2),
        Json::Null,
        json!(3),
    ];
    for labels in ["labels.csv", "labels.ndjson", "labels.parquet"] {
        training_set(&project, labels, "out.parquet", &[]);
        let rows = rows_of(&project.path().join("out.parquet"));
        let found: Vec<Json> = rows.iter().map(|row| row["g_v"].clone()).collect();
        assert_eq!(found[..7], wanted, "{labels}");
        assert_eq!(
            (&found[7], &found[8]),
            (&Json::Null, &json!(99)),
            "{labels}"
        );
        assert_eq!(rows[8]["id"], "", "{labels}");
        if labels.ends_with(".ndjson") {
            assert_eq!((&rows[10]["id"], &found[10]), (&Json::Null, &Json::Null));
        }
    }
}

#[test]
fn random_labels_of_every_format_make_the_same_training_set() {
    let project = pass("id:int64, at:timestamp, g:float64?", "in.csv");
    project.write("in.csv", "id,at,g\n0,2023-01-01T00:00:00Z,1.5\n");
    project.ok(&["run", "g"]);
    let mut random = Random::new();
    let values = RandomRows::new(&mut random, 300);
    let types = RandomRows::COLUMNS.map(|(name, _, kind)| format!("{name}={kind}"));
    let types = types.join(",");
    let sets = FORMATS.map(|format| {
        let labels = format!("labels.{format}");
        values.write(
            &project.path().join(&labels),
            "event_timestamp",
            &mut random,
        );
        let given: &[&str] = match format {
            "csv" | "ndjson" => &["--types", &types],
            _ => &[],
        };
        training_set(&project, &labels, "out.parquet", given);
        // A set that is written as text is the same when it is read again.
        let out = format!("out.{format}");
        training_set(&project, &labels, &out, given);
        (rows_of(&project.path().join("out.parquet")), out)
    });
    let texts = |rows: &[Json]| -> Vec<String> { rows.iter().map(Json::to_string).collect() };
    for ((rows, _), format) in sets.iter().zip(FORMATS) {
        for (found, wanted) in texts(rows).iter().zip(texts(&sets[2].0)) {
            assert_eq!(*found, wanted, "{format}");
        }
        assert_eq!(rows.len(), 300, "{format}");
    }
    // Without its features, since labels cannot have columns of their names.
    for (_, out) in &sets {
        let path = project.path().join(out);
        match path.extension().unwrap().to_str().unwrap() {
            "csv" => without_last_column(&path),
            "ndjson" => without_field(&path, "g_g"),
            _ => continue,
        }
        training_set(&project, out, "again.parquet", &["--types", &types]);
        let rows = rows_of(&project.path().join("again.parquet"));
        assert_eq!(texts(&rows), texts(&sets[2].0), "{out}");
    }
}

/// Removes the feature `g_g`, which is the last column and has no commas.
fn without_last_column(path: &Path) {
    let text = std::fs::read_to_string(path).unwrap();
    // Texts in quotes may have line ends, so that only ends of lines outside of quotes count.
    let (mut kept, mut line, mut is_quoted) = (String::new(), String::new(), false);
    for c in text.chars() {
        is_quoted ^= c == '"';
        match c == '\n' && !is_quoted {
            true => {
                kept += &format!(
                    "{}\n",
                    std::mem::take(&mut line).rsplit_once(',').unwrap().0
                )
            }
            false => line.push(c),
        }
    }
    std::fs::write(path, kept).unwrap();
}

fn without_field(path: &Path, name: &str) {
    let text = std::fs::read_to_string(path).unwrap();
    // As text, because a parsed number is not the one that was written.
    let lines = text.lines().map(|line| {
        let start = line.find(&format!("\"{name}\":")).unwrap();
        let length = line[start..].find([',', '}']).unwrap();
        let (before, after) = (&line[..start], &line[start + length..]);
        match after.strip_prefix(',') {
            Some(after) => format!("{before}{after}\n"),
            None => format!("{}{after}\n", before.strip_suffix(',').unwrap()),
        }
    });
    let lines: String = lines.collect();
    std::fs::write(path, lines).unwrap();
}

/// For each file of the case: the fields of its column in CSV, or `None` if text formats refuse
/// it; and whether Parquet holds it.
const LABEL_TYPES: [(&str, Option<[&str; 3]>, bool); 19] = [
    ("bin", Some(["00ff", "", "\"\""]), true),
    ("dec", Some(["1.10", "", "-3.33"]), true),
    ("dec256", Some(["1.10", "", "-3.33"]), true),
    ("dict", Some(["x", "", "y"]), true),
    ("dictint", Some(["5", "", "5"]), false),
    ("dur", None, true),
    ("f16", Some(["1.0", "2.0", "3.0"]), true),
    ("fsb", Some(["6162", "", "6364"]), true),
    ("i8", Some(["1", "", "3"]), true),
    ("listint", Some(["\"[1,null]\"", "", "[]"]), true),
    ("liststruct", None, true),
    ("ls", Some(["x", "", "y"]), true),
    ("map", None, true),
    ("nul", Some(["", "", ""]), true),
    ("struct", None, true),
    ("sv", Some(["x", "", "y"]), true),
    ("t64", Some(["01:02:03", "", "00:00:00"]), true),
    (
        "tsz",
        Some(["2024-01-02T00:00:00Z", "", "2024-01-02T00:00:00Z"]),
        true,
    ),
    ("u64", Some(["18446744073709551615", "", "0"]), true),
];

/// Reads a column of a file of Parquet or Arrow.
fn column(path: &Path, name: &str) -> ArrayRef {
    let file = std::fs::File::open(path).unwrap();
    let batches: Vec<RecordBatch> = match path.extension().unwrap().to_str().unwrap() {
        "parquet" => {
            let reader =
                parquet::arrow::arrow_reader::ParquetRecordBatchReaderBuilder::try_new(file);
            reader
                .unwrap()
                .build()
                .unwrap()
                .map(Result::unwrap)
                .collect()
        }
        _ => {
            let reader = arrow_ipc::reader::FileReader::try_new(file, None).unwrap();
            reader.map(Result::unwrap).collect()
        }
    };
    assert_eq!(batches.len(), 1);
    Arc::clone(batches[0].column_by_name(name).unwrap())
}

#[test]
fn labels_of_every_arrow_type_pass_unchanged_or_are_refused_by_name() {
    let project = pass("id:utf8, at:timestamp, v:int64?", "in.csv");
    project.write("in.csv", case("33-label-types/in.csv"));
    project.ok(&["run", "g"]);
    for (name, fields, in_parquet) in LABEL_TYPES {
        for input in ["arrow", "parquet"] {
            let labels = repository().join(format!("tests/cases/33-label-types/{name}.{input}"));
            for output in ["csv", "ndjson", "arrow", "parquet"] {
                let place = format!("{name}: {input} to {output}");
                let holds = match output {
                    "csv" | "ndjson" => fields.is_some(),
                    "parquet" => in_parquet,
                    _ => true,
                };
                let out = project.path().join(format!("{name}.{output}"));
                let arguments = [
                    "training-set",
                    "v",
                    "--labels",
                    &labels.display().to_string(),
                    "--out",
                    &out.display().to_string(),
                    // The file's times name no zone.
                    "--zone",
                    "UTC",
                ];
                let made = project.command(&arguments).output().unwrap();
                let said = text(&made);
                assert_eq!(made.status.success(), holds, "{place}: {said}");
                assert!(!said.contains("panicked"), "{place}: {said}");
                if !holds {
                    assert!(
                        said.contains(&format!("column `{name}` is ")),
                        "{place}: {said}"
                    );
                    assert!(said.contains("cannot hold as it is"), "{place}: {said}");
                    assert!(!out.exists(), "{place}");
                    continue;
                }
                match (output, fields) {
                    ("csv", Some(fields)) => {
                        let csv = std::fs::read_to_string(&out).unwrap();
                        for (line, (field, v)) in
                            csv.lines().skip(1).zip(fields.iter().zip(["1", "2", ""]))
                        {
                            assert!(line.ends_with(&format!(",{field},{v}")), "{place}: {line}");
                        }
                        assert_eq!(csv.lines().count(), 4, "{place}");
                    }
                    ("arrow" | "parquet", _) => {
                        let (found, wanted) = (column(&out, name), column(&labels, name));
                        assert_eq!(found.data_type(), wanted.data_type(), "{place}");
                        assert!(*found == *wanted, "{place}: {found:?}, wanted {wanted:?}");
                    }
                    _ => {}
                }
            }
        }
    }
    let ndjson = std::fs::read_to_string(project.path().join("u64.ndjson")).unwrap();
    assert!(ndjson.contains("\"u64\":18446744073709551615"), "{ndjson}");
    let ndjson = std::fs::read_to_string(project.path().join("dec.ndjson")).unwrap();
    assert!(ndjson.contains("\"dec\":\"1.10\""), "{ndjson}");

    // Splits by such a column work alike, or are refused.
    let out = project.at("split.arrow");
    let refused = Some("column `struct`: values of type Struct");
    for (name, wanted) in [("dec", None), ("struct", refused)] {
        let labels = repository().join(format!("tests/cases/33-label-types/{name}.arrow"));
        let labels = labels.display().to_string();
        let arguments = [
            "training-set",
            "v",
            "--labels",
            &labels,
            "--out",
            &out,
            "--zone",
            "UTC",
            "--split",
            "a=0.5,b=0.5",
            "--split-by",
            name,
        ];
        match wanted {
            None => {
                project.ok(&arguments);
            }
            Some(wanted) => {
                let said = project.fails(&arguments);
                assert!(said.contains(wanted), "{said}");
            }
        }
    }

    // The same over HTTP.
    let server = project.serve(&[]);
    let url = format!("{}/v1/views/v/training-set?zone=UTC", server.url);
    let body = std::fs::read(repository().join("tests/cases/33-label-types/struct.arrow")).unwrap();
    for (accept, status) in [
        ("text/csv", 400),
        ("application/x-ndjson", 400),
        ("*/*", 200),
    ] {
        let request = agent().post(&url);
        let request = request.header("content-type", "application/vnd.apache.arrow.file");
        let mut answer = request.header("accept", accept).send(&body[..]).unwrap();
        assert_eq!(answer.status().as_u16(), status, "{accept}");
        let said = answer.body_mut().read_to_vec().unwrap();
        let said = String::from_utf8_lossy(&said);
        assert!(
            status == 200 || said.contains("column `struct` is Struct"),
            "{said}"
        );
    }
    let url = format!("{url}&types=y=float64");
    let request = agent().post(&url).header("content-type", "text/csv");
    let body = "id,event_timestamp,y\na,2024-01-02T00:00:00Z,1e5\n";
    let mut answer = request.header("accept", "text/csv").send(body).unwrap();
    let said = answer.body_mut().read_to_string().unwrap();
    assert!(said.contains(",100000.0,1"), "{said}");
}
