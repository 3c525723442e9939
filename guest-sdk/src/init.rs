//! The assets and parameters that a function is initialised with.

use std::collections::BTreeMap;

/// The assets and parameters that the project file gives a function. They are passed once, when the
/// function is registered, to the function named in `#[wafer::function(init = …)]`.
#[derive(Debug, Default)]
pub struct Init {
    assets: BTreeMap<String, Vec<u8>>,
    parameters: BTreeMap<String, String>,
    /// What the host says by parameters whose names begin with [`HOST`], by the rest of the name.
    told: BTreeMap<String, String>,
}

/// The beginning of the names of parameters that the host sets, not the project file.
const HOST: &str = "wafer.";

/// What a model predicts.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Task {
    /// A probability. Labels are 0 or 1, or false or true.
    Binary,
    /// A number.
    Regression,
}

impl Init {
    /// Creates an `Init` without assets and parameters, for native tests.
    pub fn new() -> Self {
        Self::default()
    }

    /// Adds an asset; for native tests.
    #[must_use]
    pub fn with_asset(mut self, name: &str, bytes: impl Into<Vec<u8>>) -> Self {
        self.assets.insert(name.to_owned(), bytes.into());
        self
    }

    /// Adds a parameter; for native tests.
    #[must_use]
    pub fn with_parameter(mut self, name: &str, value: &str) -> Self {
        self.parameters.insert(name.to_owned(), value.to_owned());
        self
    }

    /// Sets the task of the model; for native tests.
    #[must_use]
    pub fn with_task(mut self, task: Task) -> Self {
        let name = match task {
            Task::Binary => "binary",
            Task::Regression => "regression",
        };
        self.told.insert("task".to_owned(), name.to_owned());
        self
    }

    /// Sets the join keys of the training set; for native tests.
    #[must_use]
    pub fn with_keys(mut self, keys: &[&str]) -> Self {
        self.told.insert("keys".to_owned(), keys.join(","));
        self
    }

    /// The `task` of the model that is trained, if the project file sets it.
    pub fn task(&self) -> Option<Task> {
        match self.told.get("task").map(String::as_str) {
            Some("binary") => Some(Task::Binary),
            Some("regression") => Some(Task::Regression),
            _ => None,
        }
    }

    /// The columns of a training set by which its rows look up features. They name entities, and
    /// are features only if somebody says so.
    pub fn keys(&self) -> Vec<String> {
        let keys = self.told.get("keys").map(String::as_str);
        separated(keys.unwrap_or_default())
    }

    /// The bytes of an asset.
    ///
    /// # Errors
    /// Returns an error when the project file gives the function no asset of that name. The message
    /// lists those that it gives.
    pub fn asset(&self, name: &str) -> Result<&[u8], String> {
        self.assets.get(name).map(Vec::as_slice).ok_or_else(|| {
            let given = names(self.assets.keys());
            format!("asset `{name}` is not given; add it under `assets` of this function (given: {given})")
        })
    }

    /// An asset as text.
    ///
    /// # Errors
    /// Returns the errors of [`asset`](Self::asset), and an error when the asset is not UTF-8.
    pub fn text_asset(&self, name: &str) -> Result<&str, String> {
        std::str::from_utf8(self.asset(name)?)
            .map_err(|e| format!("asset `{name}` is not UTF-8 from byte {}", e.valid_up_to()))
    }

    /// A parameter, or `None` when the project file does not set it.
    pub fn parameter(&self, name: &str) -> Option<&str> {
        self.parameters.get(name).map(String::as_str)
    }

    /// A parameter that is a list: texts separated by commas, with spaces around them removed.
    /// Empty when the project file does not set it.
    pub fn list(&self, name: &str) -> Vec<String> {
        separated(self.parameter(name).unwrap_or_default())
    }

    /// Checks that no other parameters are set, since a misspelt one would have no effect.
    ///
    /// # Errors
    /// Returns an error that names an unknown parameter and lists the known ones.
    pub fn only_parameters(&self, known: &[&str]) -> Result<(), String> {
        let unknown = |name: &&String| !known.contains(&name.as_str());
        match self.parameters.keys().find(unknown) {
            None => Ok(()),
            Some(name) if known.is_empty() => Err(format!("parameter `{name}`: there are none")),
            Some(name) => Err(format!(
                "there is no parameter `{name}`; there are: {}",
                known.join(", ")
            )),
        }
    }

    #[cfg_attr(
        not(target_arch = "wasm32"),
        allow(dead_code, reason = "only a component is loaded in chunks")
    )]
    pub(crate) fn push_chunk(&mut self, asset: String, chunk: &[u8]) {
        self.assets
            .entry(asset)
            .or_default()
            .extend_from_slice(chunk);
    }

    #[cfg_attr(
        not(target_arch = "wasm32"),
        allow(dead_code, reason = "only a component is snapshotted")
    )]
    pub(crate) fn set_parameters(&mut self, parameters: impl Iterator<Item = (String, String)>) {
        for (name, value) in parameters {
            match name.strip_prefix(HOST) {
                Some(told) => self.told.insert(told.to_owned(), value),
                None => self.parameters.insert(name, value),
            };
        }
    }

    /// Overwrites the assets with zeros before they are freed. The memory is about to be
    /// snapshotted, and pages of zeros cost nothing in the image.
    #[cfg_attr(
        not(target_arch = "wasm32"),
        allow(dead_code, reason = "only a component is snapshotted")
    )]
    pub(crate) fn wipe(&mut self) {
        for bytes in self.assets.values_mut() {
            wipe(bytes);
        }
    }
}

/// The texts of a list, which are separated by commas.
fn separated(list: &str) -> Vec<String> {
    let texts = list.split(',').map(|text| text.trim().to_owned());
    texts.filter(|text| !text.is_empty()).collect()
}

/// Fills bytes with zeros. The compiler would otherwise leave that out, because nobody reads them.
#[cfg_attr(
    not(target_arch = "wasm32"),
    allow(dead_code, reason = "only a component is snapshotted")
)]
pub(crate) fn wipe(bytes: &mut [u8]) {
    bytes.fill(0);
    std::hint::black_box(bytes);
}

fn names<'a>(keys: impl Iterator<Item = &'a String>) -> String {
    let names: Vec<_> = keys.map(String::as_str).collect();
    if names.is_empty() {
        "none".to_owned()
    } else {
        names.join(", ")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn missing_assets_are_named() {
        let init = Init::new().with_asset("zones", "a,b");
        assert_eq!(init.text_asset("zones"), Ok("a,b"));
        let error = init.asset("zone").unwrap_err();
        assert!(
            error.contains("`zone`") && error.contains("given: zones"),
            "{error}"
        );
    }

    #[test]
    fn parameters_are_lists_and_known() {
        let init = Init::new()
            .with_parameter("names", " a, b c ,,")
            .with_parameter("rate", "1");
        assert_eq!(init.list("names"), ["a", "b c"]);
        assert!(init.list("none").is_empty());
        assert_eq!(init.only_parameters(&["rate", "names"]), Ok(()));
        let message = init.only_parameters(&["rates", "names"]).unwrap_err();
        assert_eq!(
            message,
            "there is no parameter `rate`; there are: rates, names"
        );
    }

    #[test]
    fn parameters_of_the_host_are_not_those_of_the_project_file() {
        let mut init = Init::new();
        let parameters = [
            ("wafer.task", "binary"),
            ("wafer.keys", "a,b"),
            ("wafer.later", "x"),
            ("trees", "3"),
        ];
        let parameters = parameters.map(|(name, value)| (name.to_owned(), value.to_owned()));
        init.set_parameters(parameters.into_iter());
        assert_eq!(init.only_parameters(&["trees"]), Ok(()));
        assert_eq!(
            (init.task(), init.keys()),
            (Some(Task::Binary), vec!["a".to_owned(), "b".to_owned()])
        );
        assert_eq!((Init::new().task(), Init::new().keys()), (None, vec![]));
        let told = Init::new().with_task(Task::Regression).with_keys(&["a"]);
        assert_eq!(
            (told.task(), told.keys()),
            (Some(Task::Regression), vec!["a".to_owned()])
        );
    }

    #[test]
    fn assets_come_in_chunks_and_are_wiped() {
        let mut init = Init::new();
        init.push_chunk("m".into(), &[1, 2]);
        init.push_chunk("m".into(), &[3]);
        assert_eq!(init.asset("m"), Ok(&[1u8, 2, 3][..]));
        init.wipe();
        assert_eq!(init.asset("m"), Ok(&[0u8, 0, 0][..]));
    }
}
