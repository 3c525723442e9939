//! Behaviours in the description of the function.

use wafer::bindings::types::{DataType, Mapping, Signature};

use super::{DECEPTIVE, large, spin};
use crate::field;

pub(super) fn spin_in_describe(_: &mut Signature) {
    spin();
}

pub(super) fn panics(_: &mut Signature) {
    panic!("indescribable");
}

pub(super) fn same_name_twice(signature: &mut Signature) {
    signature.inputs.push(field("id", DataType::Int64));
}

pub(super) fn bad_name(signature: &mut Signature) {
    signature
        .inputs
        .push(field("no such-name", DataType::Int64));
}

pub(super) fn bad_vector(signature: &mut Signature) {
    signature.inputs.push(field("v", DataType::Vector(0)));
}

pub(super) fn one_to_many(signature: &mut Signature) {
    signature.mapping = Mapping::OneToMany;
}

pub(super) fn large_doc(signature: &mut Signature) {
    signature.doc = large();
}

pub(super) fn deceptive_docs(signature: &mut Signature) {
    signature.doc = DECEPTIVE.to_owned();
    signature.outputs[0].doc = DECEPTIVE.to_owned();
}
