//! Labels of training sets, as numbers.

use crate::bindings::types::{DataType, Field};
use crate::init::{Init, Task};
use crate::{Column, Table};

/// Reads the labels of a training set as numbers, and refuses those that do not fit the task.
///
/// Numbers are themselves, booleans 0 and 1. So are the texts `true` and `false`, also written
/// `True` and `TRUE`, as they come from files without types.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Labels {
    name: String,
    is_text: bool,
    task: Task,
}

impl Labels {
    /// Takes the task from the project file. If it does not set any, labels that are booleans or
    /// texts make it [`Task::Binary`], and numbers make it [`Task::Regression`].
    ///
    /// # Errors
    /// Returns an error when there is no column `label`, or it is of a type that no label of the
    /// task has.
    pub fn new(init: &Init, columns: &[Field], label: &str) -> Result<Self, String> {
        let field = columns.iter().find(|field| field.name == label);
        let field = field.ok_or_else(|| format!("there is no column `{label}`"))?;
        let (is_text, by_type) = match field.data_type {
            DataType::Utf8 => (true, Task::Binary),
            DataType::Boolean => (false, Task::Binary),
            DataType::Int64 | DataType::Float64 | DataType::Float32 => (false, Task::Regression),
            ref other => {
                return Err(format!(
                    "label `{label}` is {other:?}: labels are numbers, booleans, or the texts true and false"
                ));
            }
        };
        let labels = Self {
            name: label.to_owned(),
            is_text,
            task: init.task().unwrap_or(by_type),
        };
        labels.with_task(labels.task)
    }

    /// Labels of another task.
    ///
    /// # Errors
    /// Returns an error when the labels are of a type that no label of the task has.
    pub fn with_task(&self, task: Task) -> Result<Self, String> {
        let Self { name, is_text, .. } = self;
        if *is_text && task == Task::Regression {
            return Err(format!(
                "label `{name}` is text, and the task `regression` has labels that are numbers"
            ));
        }
        Ok(Self {
            task,
            ..self.clone()
        })
    }

    /// The task.
    pub fn task(&self) -> Task {
        self.task
    }

    /// The name of the label.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// The column to ask for in [`Trainer::columns`](crate::Trainer::columns).
    pub fn field(&self) -> Field {
        let data_type = match self.is_text {
            true => DataType::Utf8,
            false => DataType::Float64,
        };
        Field::required(&self.name, data_type)
    }

    /// Takes the labels out of a table.
    ///
    /// # Errors
    /// Returns an error that names the first label that does not fit the task.
    pub fn take(&self, rows: &mut Table) -> Result<Vec<f64>, String> {
        if self.is_text {
            let texts: Column<String> = rows.take(&self.name)?;
            let texts = (0..texts.len()).filter_map(|row| texts.get(row));
            return texts.map(|text| self.truth(&text)).collect();
        }
        let labels = rows.take::<f64>(&self.name)?.data().clone();
        match labels.iter().find(|label| !self.fits(**label)) {
            None => Ok(labels),
            Some(label) => Err(self.wrong(&label.to_string())),
        }
    }

    fn truth(&self, text: &str) -> Result<f64, String> {
        match text {
            "true" | "True" | "TRUE" => Ok(1.0),
            "false" | "False" | "FALSE" => Ok(0.0),
            _ => Err(self.wrong(&format!("{text:?}"))),
        }
    }

    fn fits(&self, label: f64) -> bool {
        match self.task {
            Task::Binary => label == 0.0 || label == 1.0,
            Task::Regression => label.is_finite(),
        }
    }

    fn wrong(&self, label: &str) -> String {
        let (task, wanted) = match self.task {
            Task::Binary => ("binary", "0 or 1, or false or true"),
            Task::Regression => ("regression", "finite numbers"),
        };
        format!(
            "label `{}`: {label} is not a label of the task `{task}`, whose labels are {wanted}",
            self.name
        )
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn labels(task: Option<Task>, data_type: DataType) -> Result<Labels, String> {
        let init = task.map_or_else(Init::new, |task| Init::new().with_task(task));
        Labels::new(&init, &[Field::nullable("y", data_type)], "y")
    }

    #[test]
    fn tasks_are_those_of_the_project_file_or_of_the_type() {
        use Task::{Binary, Regression};
        for (task, data_type, wanted) in [
            (None, DataType::Boolean, Ok(Binary)),
            (None, DataType::Utf8, Ok(Binary)),
            (None, DataType::Int64, Ok(Regression)),
            (Some(Binary), DataType::Int64, Ok(Binary)),
            (Some(Binary), DataType::Float32, Ok(Binary)),
            (Some(Regression), DataType::Boolean, Ok(Regression)),
            (Some(Regression), DataType::Utf8, Err("label `y` is text")),
            (
                None,
                DataType::Timestamp,
                Err("label `y` is DataType::Timestamp"),
            ),
        ] {
            match (labels(task, data_type).map(|labels| labels.task()), wanted) {
                (Ok(found), Ok(wanted)) => assert_eq!(found, wanted),
                (Err(found), Err(wanted)) => assert!(found.contains(wanted), "{found}"),
                (found, wanted) => panic!("{found:?} instead of {wanted:?}"),
            }
        }
    }

    #[test]
    fn labels_that_do_not_fit_the_task_are_named() {
        let take = |task, values: Vec<f64>| {
            let mut rows = Table::new(values.len()).with("y", Column::from(values));
            labels(Some(task), DataType::Int64).unwrap().take(&mut rows)
        };
        assert_eq!(take(Task::Binary, vec![0.0, 1.0]), Ok(vec![0.0, 1.0]));
        let message = take(Task::Binary, vec![0.0, 1.0, 2.0]).unwrap_err();
        assert_eq!(
            message,
            "label `y`: 2 is not a label of the task `binary`, whose labels are 0 or 1, or false or true"
        );
        assert_eq!(take(Task::Regression, vec![2.0]), Ok(vec![2.0]));
        let message = take(Task::Regression, vec![f64::NAN]).unwrap_err();
        assert!(
            message.starts_with("label `y`: NaN is not a label"),
            "{message}"
        );
    }

    #[test]
    fn texts_of_truth_values_are_labels() {
        let take = |texts: &[&str]| {
            let column: Column<String> = texts.iter().map(|t| (*t).to_owned()).collect();
            let mut rows = Table::new(texts.len()).with("y", column);
            labels(None, DataType::Utf8).unwrap().take(&mut rows)
        };
        let found = take(&["true", "false", "True", "FALSE"]);
        assert_eq!(found, Ok(vec![1.0, 0.0, 1.0, 0.0]));
        let message = take(&["true", "yes"]).unwrap_err();
        assert!(
            message.starts_with("label `y`: \"yes\" is not a label"),
            "{message}"
        );
    }
}
