//! A trainer that reads its training set three times: for the mean of the label, for the deviations
//! from it, and to count the rows again.

use wafer::{Field, Init, Role, Row, Table, Trained, Trainer};

/// A row of the training set.
#[derive(Debug, Row)]
pub struct Example {
    /// The label.
    y: f64,
}

/// What the passes have computed so far.
#[derive(Debug, Default)]
pub struct Passes {
    finished: u32,
    rows: [u64; 3],
    sum: f64,
    squares: f64,
}

impl Passes {
    fn mean(&self) -> f64 {
        self.sum / self.rows[0] as f64
    }
}

#[wafer::trainer]
impl Trainer for Passes {
    fn begin(init: &Init, _: &[Field], _: &str) -> Result<Self, String> {
        init.only_parameters(&[])?;
        Ok(Self::default())
    }

    fn columns(&self) -> Vec<Field> {
        wafer::fields_of::<Example>()
    }

    fn feed(&mut self, role: Role, rows: Table) -> Result<(), String> {
        if role != Role::Train {
            return Ok(());
        }
        for row in rows.into_rows::<Example>()? {
            self.rows[self.finished as usize] += 1;
            match self.finished {
                0 => self.sum += row.y,
                1 => self.squares += (row.y - self.mean()).powi(2),
                _ => {}
            }
        }
        Ok(())
    }

    fn next_pass(&mut self) -> Result<bool, String> {
        self.finished += 1;
        Ok(self.finished < 3)
    }

    fn finish(self) -> Result<Trained, String> {
        if self.rows != [self.rows[0]; 3] {
            return Err(format!("passes had {:?} rows", self.rows));
        }
        let mean = self.mean();
        let variance = self.squares / self.rows[0] as f64;
        let model = format!(
            "{{\"intercept\": {mean}, \"coefficients\": {{\"last_small\": 0}}, \"missing\": {{\"last_small\": 0}}}}"
        );
        Ok(Trained::default()
            .with_artifact("model", model)
            .with_metric("variance", variance))
    }
}
