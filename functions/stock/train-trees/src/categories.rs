//! Texts as categories. Trees split numbers, so the texts of a column are numbered by the mean of
//! their labels: a split between two numbers is then one between sets of texts, and the best such
//! split is among them for two classes and for squared errors. W. D. Fisher, "On grouping for
//! maximum homogeneity", JASA 53 (1958); LightGBM does the same.

use std::collections::BTreeMap;

/// Number of different texts of a column above which it is refused: it identifies rows.
const LIMIT: usize = 200_000;

/// Number of rows with the mean of all labels that are added to those of each text, so that rare
/// texts are not at the ends.
const SMOOTHING: f64 = 20.0;

/// The texts of a column, in the order in which they came.
#[derive(Debug, Default)]
pub(crate) struct Categories {
    numbers: BTreeMap<String, u32>,
    /// Number of training rows, and the sum of their labels.
    seen: Vec<(u64, f64)>,
}

/// The texts that are told apart, in the order of their codes.
#[derive(Debug, PartialEq)]
pub(crate) struct Ordered {
    pub(crate) texts: Vec<String>,
    /// The code of each number; NaN if its text is not told apart from a missing one.
    codes: Vec<f64>,
}

impl Categories {
    /// The number of a text. `label` is that of a training row.
    ///
    /// # Errors
    /// Returns an error when there are too many texts.
    pub(crate) fn number(&mut self, text: String, label: Option<f64>) -> Result<u32, String> {
        let next = self.seen.len();
        if next >= LIMIT && !self.numbers.contains_key(&text) {
            return Err(format!(
                "it has more than {LIMIT} different texts: leave it out by `exclude`, or encode it before"
            ));
        }
        let number = *self.numbers.entry(text).or_insert(next as u32);
        if number as usize == next {
            self.seen.push((0, 0.0));
        }
        if let Some(label) = label {
            let (rows, sum) = &mut self.seen[number as usize];
            (*rows, *sum) = (*rows + 1, *sum + label);
        }
        Ok(number)
    }

    /// The `most` frequent texts of the training rows, by the mean of their labels.
    pub(crate) fn ordered(self, most: usize) -> Ordered {
        let rows: u64 = self.seen.iter().map(|(rows, _)| rows).sum();
        let total: f64 = self.seen.iter().map(|(_, sum)| sum).sum();
        let overall = total / rows.max(1) as f64;
        let mean = |number: u32| {
            let (rows, sum) = self.seen[number as usize];
            (sum + overall * SMOOTHING) / (rows as f64 + SMOOTHING)
        };
        let mut texts: Vec<(String, u32)> = self.numbers.into_iter().collect();
        texts.retain(|(_, number)| self.seen[*number as usize].0 > 0);
        // Sorting is stable: texts of equal counts or means stay in the order of the texts.
        texts.sort_by_key(|(_, number)| std::cmp::Reverse(self.seen[*number as usize].0));
        texts.truncate(most);
        texts.sort_by(|a, b| mean(a.1).total_cmp(&mean(b.1)).then_with(|| a.0.cmp(&b.0)));
        let mut codes = vec![f64::NAN; self.seen.len()];
        for (code, (_, number)) in texts.iter().enumerate() {
            codes[*number as usize] = code as f64;
        }
        Ordered {
            texts: texts.into_iter().map(|(text, _)| text).collect(),
            codes,
        }
    }
}

impl Ordered {
    /// Replaces the numbers of a column by codes.
    pub(crate) fn apply(&self, column: &mut [f64]) {
        for number in column.iter_mut().filter(|number| !number.is_nan()) {
            *number = self.codes[*number as usize];
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn categories_are_ordered_by_the_means_of_their_labels() {
        let mut categories = Categories::default();
        let rows = [
            ("x", 1.0),
            ("y", 0.0),
            ("x", 1.0),
            ("z", 0.5),
            ("y", 0.0),
            ("w", 1.0),
        ];
        for (text, label) in rows {
            categories.number(text.to_owned(), Some(label)).unwrap();
        }
        // A row of the part `validation` is in no mean.
        assert_eq!(categories.number("v".to_owned(), None), Ok(4));
        let ordered = categories.ordered(3);
        assert_eq!(ordered.texts, ["y", "w", "x"]);
        let mut column = [0.0, 1.0, 2.0, 3.0, 4.0, f64::NAN];
        ordered.apply(&mut column);
        assert_eq!(column[..2], [2.0, 0.0]);
        assert!(column[2].is_nan() && column[4].is_nan() && column[5].is_nan());
        assert_eq!(column[3], 1.0);
    }
}
