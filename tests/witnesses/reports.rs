//! The log of public reports in `README.md` names tests that are there.

use crate::harness::repository;

/// Returns the names in code style of a text, in their order.
fn names(text: &str) -> impl Iterator<Item = &str> {
    text.split('`').skip(1).step_by(2)
}

#[test]
fn each_test_that_the_log_of_reports_names_is_there() {
    let readme = repository().join("tests/witnesses/README.md");
    let readme = std::fs::read_to_string(readme).unwrap();
    let rows = readme.lines().filter(|line| line.starts_with("| "));
    let tests = rows.filter_map(|row| row.trim_end_matches(" |").rsplit(" | ").next());
    let (mut checked, mut faults) = (0, Vec::new());
    for cell in tests {
        let mut content = String::new();
        for name in names(cell) {
            checked += 1;
            if name.contains('/') {
                content = std::fs::read_to_string(repository().join(name)).unwrap_or_default();
                if content.is_empty() {
                    faults.push(format!("there is no file {name}"));
                }
            } else if !content.contains(&format!("fn {name}(")) {
                faults.push(format!("there is no test {name}"));
            }
        }
    }
    assert!(checked > 30, "{checked} names in the log");
    assert!(faults.is_empty(), "{}", faults.join("\n"));
}
