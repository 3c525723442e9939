//! Behaviours in the wish for another pass.

pub(super) fn endless_passes(wishes: &mut bool) {
    *wishes = true;
}
