//! The attribute `#[trainer]`.

use proc_macro2::TokenStream;
use quote::quote;
use syn::spanned::Spanned as _;
use syn::{Error, ItemImpl, Result};

use crate::exported::export;

pub(crate) fn expand(item: ItemImpl) -> Result<TokenStream> {
    let is_trainer = item.trait_.as_ref().is_some_and(|(_, path, _)| {
        let last = path.segments.last();
        last.is_some_and(|segment| segment.ident == "Trainer")
    });
    if !is_trainer {
        return Err(Error::new_spanned(
            &item.self_ty,
            "`#[wafer::trainer]` is for `impl wafer::Trainer for …`",
        ));
    }
    if !item.generics.params.is_empty() {
        return Err(Error::new_spanned(
            &item.generics,
            "a trainer has no type parameters",
        ));
    }
    let learner = &item.self_ty;
    let name = quote!(#learner).to_string();
    let export = export("trainer", &name, learner.span());
    Ok(quote! {
        #item

        const _: () = {
            ::std::thread_local! {
                static __TRAINING: ::std::cell::RefCell<::wafer::export::Training<#learner>> =
                    ::std::cell::RefCell::default();
            }

            // An unlikely name, because the author's own names are visible in here.
            #[allow(non_camel_case_types, reason = "a name that no author has")]
            #[cfg_attr(not(target_arch = "wasm32"), allow(dead_code, reason = "natively it is only type-checked"))]
            struct __Exported;

            impl ::wafer::export::training::Guest for __Exported {
                fn load(asset: ::std::string::String, chunk: ::std::vec::Vec<u8>, _last: bool) {
                    ::wafer::export::load(asset, chunk);
                }

                fn begin(
                    parameters: ::std::vec::Vec<::wafer::export::Parameter>,
                    columns: ::std::vec::Vec<::wafer::Field>,
                    label: ::std::string::String,
                ) -> ::std::result::Result<::std::vec::Vec<::wafer::Field>, ::std::string::String> {
                    __TRAINING.with_borrow_mut(|training| training.begin(parameters, &columns, &label))
                }

                fn feed(
                    role: ::wafer::export::training::Role,
                    rows: ::wafer::export::Batch,
                ) -> ::std::result::Result<(), ::std::string::String> {
                    __TRAINING.with_borrow_mut(|training| training.feed(role, rows))
                }

                fn next_pass() -> ::std::result::Result<bool, ::std::string::String> {
                    __TRAINING.with_borrow_mut(|training| training.next_pass())
                }

                fn finish() -> ::std::result::Result<::wafer::export::training::Trained, ::std::string::String> {
                    __TRAINING.with_borrow_mut(|training| training.finish())
                }

                fn read(artifact: ::std::string::String, offset: u64) -> ::std::vec::Vec<u8> {
                    __TRAINING.with_borrow(|training| training.read(&artifact, offset))
                }
            }

            #export
        };
    })
}
