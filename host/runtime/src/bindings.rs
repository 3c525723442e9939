//! Host side of the contract, generated from `wit/`.
#![allow(
    rustdoc::bare_urls,
    missing_docs,
    missing_debug_implementations,
    unreachable_pub,
    reason = "generated code"
)]
#![allow(clippy::all, clippy::pedantic, reason = "generated code")]
#![allow(
    clippy::allow_attributes_without_reason,
    clippy::use_self,
    clippy::clone_on_ref_ptr,
    clippy::needless_pass_by_value,
    reason = "generated code"
)]

wasmtime::component::bindgen!({
    path: "../../wit",
    world: "function",
    ownership: Borrowing { duplicate_if_necessary: true },
});
