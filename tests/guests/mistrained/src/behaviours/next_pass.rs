//! Behaviours in the request for another pass.

pub(super) fn endless_passes(wishes: &mut bool) {
    *wishes = true;
}
