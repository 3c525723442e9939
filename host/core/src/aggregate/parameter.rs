//! The parameters of aggregate functions.

/// The greatest `k` of an aggregate whose result is a list.
pub const MAX_K: u32 = 1_000;

/// The parameter of a function.
#[derive(Clone, Copy, Debug)]
pub(super) enum Parameter {
    /// The function has none.
    None,
    /// The length of a list. The name of the function ends in `k`.
    K(u32),
    /// A fraction, in millionths.
    Quantile(u32),
}

impl Parameter {
    /// The value of this kind of parameter from those that users wrote, zero if there is none, or
    /// what is wrong with them.
    pub(super) fn value_of(
        self,
        function: &str,
        k: Option<u32>,
        quantile: Option<f64>,
    ) -> Result<u32, String> {
        let length = match (self, k) {
            (Self::K(_), Some(k @ 1..=MAX_K)) => k,
            (Self::K(_), _) => return Err(format!("{function} needs `k`, from 1 to {MAX_K}")),
            (Self::None | Self::Quantile(_), Some(_)) => {
                return Err(format!("{function} has no `k`"));
            }
            (Self::None | Self::Quantile(_), None) => 0,
        };
        match (self, quantile) {
            (Self::Quantile(_), Some(q)) if (0.0..=1.0).contains(&q) => {
                Ok((q * 1e6).round() as u32)
            }
            (Self::Quantile(_), _) => Err(format!("{function} needs `quantile`, from 0 to 1")),
            (Self::None | Self::K(_), Some(_)) => Err(format!("{function} has no `quantile`")),
            (Self::None | Self::K(_), None) => Ok(length),
        }
    }

    /// The label of a function with this parameter, as features are named by it.
    pub(super) fn label(self, function: &str) -> String {
        match self {
            Self::None => function.to_owned(),
            Self::K(k) => format!("{}{k}", function.trim_end_matches('k')),
            Self::Quantile(millionths) => {
                let percent = f64::from(millionths) / 10_000.0;
                format!("p{percent}").replace('.', "_")
            }
        }
    }
}
