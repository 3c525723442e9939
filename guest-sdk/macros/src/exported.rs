//! The export of a crate's component: one function, or one trainer.

use std::collections::BTreeMap;
use std::ffi::OsString;
use std::sync::{Mutex, PoisonError};

use proc_macro2::{Span, TokenStream};
use quote::{format_ident, quote, quote_spanned};

/// The function or trainer of each crate, by the folder of its manifest. A compiler expands the
/// macros of one crate; the server of an editor expands those of several, and repeatedly.
static EXPORTED: Mutex<BTreeMap<OsString, String>> = Mutex::new(BTreeMap::new());

/// Returns the code that exports the type `__Exported` in the sandbox, as what `world` describes.
/// If the crate exports something else already, the code is an error of the compiler that says so.
pub(crate) fn export(world: &str, name: &str, span: Span) -> TokenStream {
    let folder = std::env::var_os("CARGO_MANIFEST_DIR").unwrap_or_default();
    let mut exported = EXPORTED.lock().unwrap_or_else(PoisonError::into_inner);
    match other(&mut exported, folder, name) {
        None => {
            let world = format_ident!("{world}");
            quote! {
                #[cfg(target_arch = "wasm32")]
                ::wafer::bindings::#world::export!(__Exported with_types_in ::wafer::bindings::#world);
            }
        }
        Some(other) => {
            let message = format!(
                "a crate makes one component, which has one function, and `{other}` is it already: \
                 move `{name}` into a crate of its own beside this one, with a `[functions.…]` of its \
                 own in wafer.toml"
            );
            quote_spanned! { span =>
                #[cfg(target_arch = "wasm32")]
                ::std::compile_error!(#message);
            }
        }
    }
}

/// Returns what a crate exports beside `name`. If it exports nothing yet, it exports `name` from
/// now on.
fn other(
    exported: &mut BTreeMap<OsString, String>,
    folder: OsString,
    name: &str,
) -> Option<String> {
    let first = exported.entry(folder).or_insert_with(|| name.to_owned());
    (first.as_str() != name).then(|| first.clone())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_first_function_of_a_crate_is_exported() {
        let mut exported = BTreeMap::new();
        for (folder, name, wanted) in [
            ("a", "f", None),
            ("a", "g", Some("f")),
            ("b", "g", None),
            // An editor has a file expanded again.
            ("a", "f", None),
        ] {
            let found = other(&mut exported, folder.into(), name);
            assert_eq!(found.as_deref(), wanted, "{folder} {name}");
        }
    }
}
