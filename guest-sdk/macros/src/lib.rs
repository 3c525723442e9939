//! Macros of the SDK: `#[derive(Row)]`, `#[function]` and `#[trainer]`. They are documented in the
//! crate `wafer`.

mod exported;
mod function;
mod row;
mod trainer;

use proc_macro::TokenStream;

/// Makes a struct with named fields a row. Doc comments of the fields become the descriptions of
/// the columns. The crate `wafer` lists the types that a field may have.
#[proc_macro_derive(Row)]
pub fn derive_row(input: TokenStream) -> TokenStream {
    expand(syn::parse(input).and_then(row::derive))
}

/// Makes a function the one that its crate's component runs. A crate has one such function, because
/// it makes one component; natively, as in tests, it may have several. Its doc comment becomes the
/// function's description. `#[wafer::function(init = load)]` names a function
/// `fn(&wafer::Init) -> Result<State, E>`, whose result is passed to every call as a second
/// argument `&State`. The crate `wafer` lists the forms that a function may have.
#[proc_macro_attribute]
pub fn function(attributes: TokenStream, item: TokenStream) -> TokenStream {
    let expanded = syn::parse(attributes)
        .and_then(|attributes| function::expand(attributes, syn::parse(item)?));
    expand(expanded)
}

/// Makes an implementation of `wafer::Trainer` the training function of its crate's component.
#[proc_macro_attribute]
pub fn trainer(attributes: TokenStream, item: TokenStream) -> TokenStream {
    let expanded = syn::parse::<syn::parse::Nothing>(attributes)
        .and_then(|_| trainer::expand(syn::parse(item)?));
    expand(expanded)
}

fn expand(result: syn::Result<proc_macro2::TokenStream>) -> TokenStream {
    result.unwrap_or_else(syn::Error::into_compile_error).into()
}

/// The text of an item's doc comments. Lines of a paragraph are joined by spaces, paragraphs by
/// line breaks.
fn doc_text(attributes: &[syn::Attribute]) -> String {
    let lines = attributes
        .iter()
        .filter_map(|attribute| match &attribute.meta {
            syn::Meta::NameValue(meta) if meta.path.is_ident("doc") => match &meta.value {
                syn::Expr::Lit(syn::ExprLit {
                    lit: syn::Lit::Str(text),
                    ..
                }) => Some(text.value()),
                _ => None,
            },
            _ => None,
        });
    let mut text = String::new();
    for line in lines {
        let line = line.trim();
        if line.is_empty() {
            text.push('\n');
        } else {
            if !text.is_empty() && !text.ends_with('\n') {
                text.push(' ');
            }
            text.push_str(line);
        }
    }
    text.trim().to_owned()
}
