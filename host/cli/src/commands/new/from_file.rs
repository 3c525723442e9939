//! `wafer new --from`: a project whose features are the columns of a file.

use std::fmt::Write as _;
use std::path::{Path, PathBuf};

use anyhow::{Result, anyhow, bail, ensure};
use wafer_core::{DataType, EpochUnit, Zone};
use wafer_platform::{FoundColumn, Inspected, Location, SourceDef, TimeDef, inspect, is_name};

use crate::app;

/// What is known of a file beside its content.
#[derive(Debug, clap::Args)]
pub(crate) struct FromFileOptions {
    /// Make the project from the columns of a file, a folder or a pattern, without a function
    #[arg(long, value_name = "FILE")]
    pub(crate) from: Option<PathBuf>,

    /// Columns of the file that are the join keys, separated by commas
    #[arg(
        long,
        value_name = "COLUMN,…",
        value_delimiter = ',',
        requires = "from"
    )]
    key: Vec<String>,

    /// Column of the file that is the event time
    #[arg(long, value_name = "COLUMN", requires = "from")]
    time: Option<String>,

    /// Time zone of times that name none, such as UTC or Europe/Berlin
    #[arg(long, value_name = "ZONE", requires = "from")]
    zone: Option<Zone>,

    /// Unit of the event time, if it is an integer: d, s, ms, us or ns
    #[arg(long, value_name = "UNIT", requires = "time", value_parser = unit)]
    unit: Option<EpochUnit>,
}

fn unit(text: &str) -> Result<EpochUnit, String> {
    let json = serde_json::Value::from(text);
    serde_json::from_value(json).map_err(|_| "it is one of d, s, ms, us and ns".to_owned())
}

/// The definitions that a file is turned into.
#[derive(Debug)]
pub(crate) struct NewDefinitions {
    /// The text of `wafer.toml`.
    pub(crate) text: String,
    /// The name of the pipeline, the group and the view.
    pub(crate) name: String,
    /// What was chosen, in words.
    pub(crate) chosen: String,
    /// The keys with placeholders for values, as arguments of `wafer get`.
    pub(crate) example: String,
}

/// A column of the file, and of the group.
struct Column<'a> {
    found: &'a FoundColumn,
    /// The name in the group.
    name: String,
    data_type: DataType,
}

impl Column<'_> {
    /// Whether the file has a value in the column. Nothing tells the type of one without values.
    fn has_values(&self) -> bool {
        !matches!(self.found.data_type, Ok(None))
    }
}

impl FromFileOptions {
    /// Looks at the file, and returns the definitions of a project in `folder`.
    ///
    /// # Errors
    /// Returns an error when the file cannot be read, or has no columns that can be a join key and
    /// an event time.
    pub(crate) fn definitions(
        &self,
        from: &Path,
        project: &str,
        folder: &Path,
    ) -> Result<NewDefinitions> {
        let source = self.source(from)?;
        let found = inspect(&source, project, &app::remote_files())?;
        let mut columns = columns(&found)?;
        let time = self.time_column(&mut columns)?;
        let keys = self.keys(&columns, time)?;
        let path = path_from(from, folder);
        let parts = Parts {
            options: self,
            columns: &columns,
            time,
            keys: &keys,
        };
        Ok(NewDefinitions {
            text: parts.text(project, &path)?,
            name: project.to_owned(),
            chosen: parts.chosen(&found),
            example: parts.example(),
        })
    }

    fn source(&self, from: &Path) -> Result<SourceDef> {
        let from = match from.to_str().is_some_and(|text| text.contains("://")) {
            true => from.to_owned(),
            false => std::path::absolute(from)?,
        };
        let mut source = SourceDef::of_files(Location::of(Path::new(""), &from));
        source.zone = self.zone;
        if let (Some(time), Some(unit)) = (&self.time, self.unit) {
            let unit = TimeDef {
                unit: Some(unit),
                ..TimeDef::default()
            };
            source.times.insert(time.clone(), unit);
        }
        Ok(source)
    }

    /// Returns the index of the column that is the event time, and makes it one.
    fn time_column(&self, columns: &mut [Column<'_>]) -> Result<usize> {
        let is_time = |column: &Column<'_>| column.data_type == DataType::Timestamp;
        let index = match &self.time {
            Some(name) => {
                let index = columns.iter().position(|column| column.found.name == *name);
                index.ok_or_else(|| anyhow!("--time: the file has no column `{name}`"))?
            }
            None => columns.iter().position(is_time).ok_or_else(|| {
                anyhow!(
                    "the file has no column of times; name the event time with --time (and --unit \
                     if it is an integer): its columns are {}",
                    described(columns)
                )
            })?,
        };
        let column = &mut columns[index];
        match (&column.data_type, self.unit) {
            (DataType::Date, _) if self.zone.is_none() => bail!(
                "--time: column `{}` has dates; say with --zone in which time zone an event is at \
                 their midnight, such as UTC or Europe/Berlin",
                column.found.name
            ),
            (DataType::Timestamp | DataType::Date, _) | (DataType::Int64, Some(_)) => {
                column.data_type = DataType::Timestamp;
                Ok(index)
            }
            (DataType::Int64, None) => bail!(
                "--time: column `{}` is an integer; say with --unit in which unit it counts (d, s, \
                 ms, us or ns)",
                column.found.name
            ),
            (other, _) => bail!(
                "--time: column `{}` is {other}, and an event time is a timestamp",
                column.found.name
            ),
        }
    }

    /// Returns the indexes of the join keys: those that are named, or else the first column whose
    /// name ends in `id`, or else the first one that can be a key.
    fn keys(&self, columns: &[Column<'_>], time: usize) -> Result<Vec<usize>> {
        let is_key = |index: &usize| *index != time && columns[*index].data_type.is_key();
        let find = |name: &String| {
            let index = columns.iter().position(|column| column.found.name == *name);
            let index = index.ok_or_else(|| anyhow!("--key: the file has no column `{name}`"))?;
            ensure!(
                is_key(&index),
                "--key: column `{name}` is {}, which cannot be a join key beside the event time",
                columns[index].data_type
            );
            Ok(index)
        };
        if !self.key.is_empty() {
            return self.key.iter().map(find).collect();
        }
        let able = (0..columns.len()).filter(is_key);
        let able: Vec<usize> = able.filter(|index| columns[*index].has_values()).collect();
        let is_named = |index: &&usize| columns[**index].name.to_lowercase().ends_with("id");
        let named = able.iter().find(is_named);
        let key = named.or(able.first()).ok_or_else(|| {
            anyhow!(
                "the file has no column that can be a join key: its columns are {}",
                described(columns)
            )
        })?;
        Ok(vec![*key])
    }
}

/// Returns the columns with names that a group can have.
fn columns(found: &Inspected) -> Result<Vec<Column<'_>>> {
    let mut columns: Vec<Column<'_>> = Vec::new();
    for column in &found.columns {
        let data_type = match &column.data_type {
            Ok(data_type) => data_type.clone().unwrap_or(DataType::Utf8),
            Err(message) => {
                bail!("{message} (option --zone or --unit, or leave the column out of the file)")
            }
        };
        let name = column_name(&column.name);
        ensure!(
            columns.iter().all(|other| other.name != name),
            "the file has two columns that are `{name}` in lower case, with letters and digits alone; \
             rename one"
        );
        columns.push(Column {
            found: column,
            name,
            data_type,
        });
    }
    ensure!(
        !columns.is_empty(),
        "the file has no columns: it is empty, or its rows have no fields"
    );
    ensure!(
        columns.len() > 1,
        "the file has fewer than two columns: a key and a time are needed"
    );
    Ok(columns)
}

/// Turns a name in a file into one of a column: letters, digits and underscores.
fn column_name(name: &str) -> String {
    let mut made = String::new();
    for part in name.split(|c: char| !c.is_ascii_alphanumeric() && c != '_') {
        if !made.is_empty() && !part.is_empty() && !made.ends_with('_') {
            made.push('_');
        }
        made.push_str(part);
    }
    match made.starts_with(|c: char| c.is_ascii_digit()) || made.is_empty() {
        true => format!("column_{made}"),
        false => made,
    }
}

fn described(columns: &[Column<'_>]) -> String {
    let columns = columns.iter();
    let columns = columns.map(|column| match column.has_values() {
        true => format!("{} ({})", column.found.name, column.data_type),
        false => format!("{} (without values)", column.found.name),
    });
    columns.collect::<Vec<_>>().join(", ")
}

/// Returns the path of the file as the project sees it from its folder.
fn path_from(from: &Path, folder: &Path) -> String {
    let is_beside = from.is_relative() && folder.components().count() == 1;
    let is_url = from.to_str().is_some_and(|text| text.contains("://"));
    let path = match (is_url, is_beside) {
        (true, _) => from.to_owned(),
        (false, true) => Path::new("..").join(from),
        (false, false) => std::path::absolute(from).unwrap_or_else(|_| from.to_owned()),
    };
    path.display().to_string()
}

/// Everything that the definitions are written from.
struct Parts<'a> {
    options: &'a FromFileOptions,
    columns: &'a [Column<'a>],
    time: usize,
    keys: &'a [usize],
}

impl Parts<'_> {
    /// Returns the text of `wafer.toml`.
    fn text(&self, project: &str, path: &str) -> Result<String> {
        let mut text = String::new();
        let name = project;
        writeln!(text, "[project]\nname = \"{name}\"\n")?;
        let keys = self.keys.iter().map(|key| {
            let column = &self.columns[*key];
            format!("{} = \"{}\"", column.name, column.data_type)
        });
        let keys = keys.collect::<Vec<_>>().join(", ");
        writeln!(
            text,
            "# What the features describe.\n[entities.{}]",
            self.entity()
        )?;
        writeln!(text, "keys = {{ {keys} }}\n")?;
        writeln!(
            text,
            "[sources.{name}]\ntype = \"files\"\npath = {}",
            quoted(path)
        )?;
        if let Some(zone) = self.options.zone {
            writeln!(text, "zone = \"{zone}\"")?;
        }
        if let Some(unit) = self.options.unit {
            let time = quoted(&self.columns[self.time].found.name);
            writeln!(text, "times = {{ {time} = {{ unit = \"{unit}\" }} }}")?;
        }
        writeln!(
            text,
            "\n# A type with `?` after it allows nulls.\n[sources.{name}.columns]"
        )?;
        for (index, column) in self.columns.iter().enumerate() {
            let is_needed = index == self.time || self.keys.contains(&index);
            let null = if is_needed { "" } else { "?" };
            let key = quoted(&column.found.name);
            writeln!(text, "{key} = \"{}{null}\"", column.data_type)?;
        }
        let time = &self.columns[self.time].name;
        writeln!(text, "\n[groups.{name}]\nentity = \"{}\"", self.entity())?;
        writeln!(text, "event_time = \"{time}\"\n")?;
        writeln!(
            text,
            "# Without a function, the columns of the source are those of the group."
        )?;
        writeln!(
            text,
            "[pipelines.{name}]\nsource = \"{name}\"\ngroup = \"{name}\""
        )?;
        if self
            .columns
            .iter()
            .any(|column| column.name != column.found.name)
        {
            writeln!(text, "\n[pipelines.{name}.columns]")?;
            for column in self.columns {
                writeln!(text, "{} = {}", column.name, quoted(&column.found.name))?;
            }
        }
        writeln!(
            text,
            "\n[views.{name}]\nlookups = [{{ group = \"{name}\" }}]"
        )?;
        Ok(text)
    }

    /// The name of the entity: that of its key without `_id`.
    fn entity(&self) -> String {
        let key = self.columns[self.keys[0]].name.to_lowercase();
        let entity = key.strip_suffix("_id").unwrap_or(&key);
        match is_name(entity) {
            Ok(()) => entity.to_owned(),
            Err(_) => "entity".to_owned(),
        }
    }

    fn chosen(&self, found: &Inspected) -> String {
        let name = |index: &usize| format!("`{}`", self.columns[*index].name);
        let keys: Vec<String> = self.keys.iter().map(name).collect();
        let looked = match found.rows {
            0 => "by the types of the file".to_owned(),
            rows => format!("by the values of {rows} rows"),
        };
        let without_values = self.columns.iter().filter(|column| !column.has_values());
        let names: Vec<String> = without_values
            .map(|column| format!("`{}`", column.name))
            .collect();
        let guessed = match names.is_empty() {
            true => String::new(),
            false => format!(
                "; the file has no values of {}, so that nothing tells their types, and they are \
                 utf8",
                names.join(", ")
            ),
        };
        format!(
            "the join key is {}, the event time {}, and the columns have types {looked}{guessed}: \
             change wafer.toml if others are meant",
            keys.join(", "),
            name(&self.time)
        )
    }

    fn example(&self) -> String {
        let keys = self
            .keys
            .iter()
            .map(|key| format!("{}=…", self.columns[*key].name));
        keys.collect::<Vec<_>>().join(" ")
    }
}

/// Writes a text, or a key, as TOML does.
fn quoted(text: &str) -> String {
    toml::Value::from(text).to_string()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_of_columns_are_made_of_those_in_the_file() {
        for (name, wanted) in [
            ("id", "id"),
            ("Price (EUR)", "Price_EUR"),
            ("größe", "gr_e"),
            ("2024", "column_2024"),
            ("", "column_"),
            ("a__b", "a__b"),
        ] {
            assert_eq!(column_name(name), wanted, "{name}");
        }
    }

    #[test]
    fn paths_are_those_that_the_project_sees() {
        assert_eq!(path_from(Path::new("a.csv"), Path::new("p")), "../a.csv");
        assert_eq!(path_from(Path::new("/x/a.csv"), Path::new("p")), "/x/a.csv");
        assert_eq!(path_from(Path::new("s3://b/x"), Path::new("p")), "s3://b/x");
    }
}
