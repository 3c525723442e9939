//! The handles of WASI that an instance holds: to streams, and to what can be waited for.
//!
//! Nothing is behind them, so that a handle is known by its number alone: by what it stands for,
//! and by how many were opened before it.
//!
//! A component keeps the numbers of its handles in its memory, but the table that they are indices
//! of is wasmtime's, and not part of a snapshot. A new instance has an empty table, and gives out
//! the same indices to whoever opens the same handles in the same order. So the streams that were
//! open when a function was initialised can be opened again (`reopen.rs`).

/// What a handle stands for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Handle {
    /// Standard input, which is at its end.
    Stdin,
    /// Standard output, which is the log.
    Stdout,
    /// Standard error, which is the log as well.
    Stderr,
    /// Something to wait for that has happened.
    Ready,
    /// Something to wait for that never happens.
    Never,
}

impl Handle {
    /// Number of bits of a representation that say what the handle stands for.
    const BITS: u32 = 3;

    /// Returns what a handle with this representation stands for.
    pub(crate) fn of(representation: u32) -> Self {
        match representation & ((1 << Self::BITS) - 1) {
            0 => Self::Stdin,
            1 => Self::Stdout,
            2 => Self::Stderr,
            3 => Self::Ready,
            _ => Self::Never,
        }
    }

    fn kind(self) -> u32 {
        match self {
            Self::Stdin => 0,
            Self::Stdout => 1,
            Self::Stderr => 2,
            Self::Ready => 3,
            Self::Never => 4,
        }
    }

    #[cfg(feature = "compiler")]
    fn is_stream(self) -> bool {
        matches!(self, Self::Stdin | Self::Stdout | Self::Stderr)
    }
}

/// The handles that an instance has opened. How many it may hold is limited by the store.
#[derive(Debug, Default)]
pub(crate) struct Handles {
    /// How many were opened.
    opened: u32,
    /// How many of them are open.
    open: usize,
    /// Those that were opened before the first was closed: `None` for what is closed now.
    first: Vec<Option<Handle>>,
    is_any_closed: bool,
}

impl Handles {
    /// Opens a handle, and returns its representation, or `None` when too many were opened.
    pub(crate) fn open(&mut self, handle: Handle) -> Option<u32> {
        let number = self.opened;
        if number > u32::MAX >> Handle::BITS {
            return None;
        }
        self.opened += 1;
        self.open += 1;
        if !self.is_any_closed {
            self.first.push(Some(handle));
        }
        Some((number << Handle::BITS) | handle.kind())
    }

    /// Closes the handle with this representation.
    pub(crate) fn close(&mut self, representation: u32) {
        let number = representation >> Handle::BITS;
        self.open = self.open.saturating_sub(1);
        self.is_any_closed = true;
        if let Some(handle) = self.first.get_mut(number as usize) {
            *handle = None;
        }
    }

    /// Returns the streams that are open, if an instance that opens these and nothing before has
    /// them by the same indices: they are the handles that were opened first, and no index was
    /// given out a second time meanwhile. Otherwise `None`.
    #[cfg(feature = "compiler")]
    pub(crate) fn kept(&self) -> Option<Vec<Handle>> {
        let last = self.first.iter().rposition(Option::is_some);
        let count = last.map_or(0, |last| last + 1);
        let kept: Vec<Handle> = self.first[..count].iter().copied().collect::<Option<_>>()?;
        let are_all = kept.len() == self.open && kept.iter().all(|handle| handle.is_stream());
        are_all.then_some(kept)
    }
}

#[cfg(all(test, feature = "compiler"))]
mod tests {
    use super::Handle::{Never, Ready, Stderr, Stdin, Stdout};
    use super::*;

    /// Opens handles, and closes those with the given numbers in between.
    fn after(steps: &[Result<Handle, usize>]) -> Option<Vec<Handle>> {
        let mut handles = Handles::default();
        let mut opened = Vec::new();
        for step in steps {
            match step {
                Ok(handle) => opened.push(handles.open(*handle).expect("there is room for it")),
                Err(number) => handles.close(opened[*number]),
            }
        }
        handles.kept()
    }

    #[test]
    fn a_representation_says_what_its_handle_stands_for() {
        let mut handles = Handles::default();
        let mut seen = Vec::new();
        for handle in [Stdin, Stdout, Stderr, Ready, Never, Stdin] {
            let representation = handles.open(handle).unwrap();
            assert_eq!(Handle::of(representation), handle);
            assert!(!seen.contains(&representation));
            seen.push(representation);
        }
    }

    #[test]
    fn streams_that_were_opened_first_are_kept() {
        let three = vec![Stdin, Stdout, Stderr];
        for (steps, wanted) in [
            (vec![], Some(vec![])),
            (vec![Ok(Stderr)], Some(vec![Stderr])),
            (vec![Ok(Stdin), Ok(Stdout), Ok(Stderr)], Some(three.clone())),
            // What was opened after them is closed, however often.
            (
                vec![
                    Ok(Stdin),
                    Ok(Stdout),
                    Ok(Stderr),
                    Ok(Ready),
                    Err(3),
                    Ok(Ready),
                    Err(4),
                ],
                Some(three),
            ),
            (vec![Ok(Stdout), Err(0)], Some(vec![])),
            // Something to wait for is open.
            (vec![Ok(Stdout), Ok(Ready)], None),
            (vec![Ok(Never)], None),
            // A stream was opened after something was closed, which gave it that index.
            (vec![Ok(Ready), Err(0), Ok(Stdout)], None),
            // An index before that of a stream is free.
            (vec![Ok(Stdin), Ok(Stdout), Err(0)], None),
        ] {
            assert_eq!(after(&steps), wanted, "{steps:?}");
        }
    }
}
