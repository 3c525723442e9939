//! Projects whose group `g` has the rows of a source as they are, for tests of what sources read.

use super::{Project, guest, repository};

/// What a project with the function `pass` is made of.
pub(crate) struct Pass<'a> {
    /// The columns of the source, such as `id:int64, at:timestamp, v:float64?`. The join key is
    /// the first, and the event time is `at`.
    pub(crate) columns: &'a str,
    /// The settings of the source.
    pub(crate) source: &'a str,
    /// More settings of the group.
    pub(crate) group: &'a str,
    /// More settings of the pipeline.
    pub(crate) pipeline: &'a str,
}

/// The columns of most sources.
pub(crate) const COLUMNS: &str = "id:int64, at:timestamp, v:float64?";

impl Default for Pass<'_> {
    /// Reads `in.csv` with [`COLUMNS`], and has no more settings. A test says what differs.
    fn default() -> Self {
        Self {
            columns: COLUMNS,
            source: "type = \"files\"\npath = \"in.csv\"",
            group: "",
            pipeline: "",
        }
    }
}

impl Pass<'_> {
    /// Makes the project, without applying it.
    pub(crate) fn project(&self) -> Project {
        let (key, rest) = self.columns.split_once(':').unwrap();
        let key_type = rest.split(',').next().unwrap();
        Project::new(&format!(
            r#"
[project]
name = "pass"

[entities.e]
keys = {{ {key} = "{key_type}" }}

[sources.s]
{}

[functions.f]
component = "{}"
parameters = {{ columns = "{}" }}

[groups.g]
entity = "e"
event_time = "at"
{}

[pipelines.g]
source = "s"
function = "f"
group = "g"
{}

[views.v]
lookups = [{{ group = "g", as = "g" }}]
"#,
            self.source,
            guest("pass").display(),
            self.columns,
            self.group,
            self.pipeline,
        ))
    }
}

/// Makes a project that reads a file, and applies it.
pub(crate) fn pass(columns: &str, file: &str) -> Project {
    let project = Pass {
        columns,
        source: &format!("type = \"files\"\npath = \"{file}\""),
        ..Pass::default()
    };
    project.project().applied()
}

/// Returns the content of a file of `tests/cases`.
pub(crate) fn case(name: &str) -> Vec<u8> {
    std::fs::read(repository().join("tests/cases").join(name)).unwrap()
}
