//! The attribute `#[function]`.

use proc_macro2::TokenStream;
use quote::quote;
use syn::parse::{Parse, ParseStream};
use syn::{Error, FnArg, GenericArgument, ItemFn, PathArguments, Result, ReturnType, Token, Type};

use crate::doc_text;
use crate::exported::export;

/// The arguments of the attribute.
pub(crate) struct Attributes {
    init: Option<syn::Path>,
}

impl Parse for Attributes {
    fn parse(input: ParseStream<'_>) -> Result<Self> {
        if input.is_empty() {
            return Ok(Self { init: None });
        }
        let name: syn::Ident = input.parse()?;
        if name != "init" {
            return Err(Error::new(
                name.span(),
                "the only argument is `init = path::to::function`",
            ));
        }
        input.parse::<Token![=]>()?;
        let init = Some(input.parse()?);
        if !input.is_empty() {
            return Err(input.error("the only argument is `init = path::to::function`"));
        }
        Ok(Self { init })
    }
}

pub(crate) fn expand(attributes: Attributes, function: ItemFn) -> Result<TokenStream> {
    let signature = &function.sig;
    if let Some(token) = &signature.asyncness {
        return Err(Error::new_spanned(
            token,
            "a feature function is not async: it has nothing to wait for",
        ));
    }
    if !signature.generics.params.is_empty() {
        return Err(Error::new_spanned(
            &signature.generics,
            "a feature function has no type parameters",
        ));
    }
    let arguments: Vec<&Type> = signature
        .inputs
        .iter()
        .map(|argument| match argument {
            FnArg::Typed(typed) => Ok(&*typed.ty),
            FnArg::Receiver(receiver) => Err(Error::new_spanned(
                receiver,
                "a feature function is not a method",
            )),
        })
        .collect::<Result<_>>()?;
    let state = match (arguments.as_slice(), &attributes.init) {
        ([_], None) => None,
        ([_, Type::Reference(state)], Some(init)) => Some((&*state.elem, init)),
        ([_], Some(init)) => {
            return Err(Error::new_spanned(
                init,
                "with `init`, the function takes a second argument `&State`",
            ));
        }
        ([_, second], None) => {
            return Err(Error::new_spanned(
                second,
                "a second argument needs `#[wafer::function(init = load)]` to make it",
            ));
        }
        ([_, second], Some(_)) => {
            return Err(Error::new_spanned(
                second,
                "the second argument is a reference: `&State`",
            ));
        }
        _ => {
            return Err(Error::new_spanned(
                &signature.inputs,
                "a feature function takes one row (or `&Columns<Row>`), and `&State` if it has `init`",
            ));
        }
    };
    if let ReturnType::Default = signature.output {
        return Err(Error::new_spanned(
            signature,
            "a feature function returns a row",
        ));
    }

    let name = &signature.ident;
    let doc = doc_text(&function.attrs);
    let output = OutputForm::of(&signature.output);
    let whole_columns = columns_row(arguments[0]);

    if is_table(arguments[0]) {
        let Some((state, init)) = state else {
            return Err(Error::new_spanned(
                arguments[0],
                "a function on a `Table` learns its columns from its state: add `&State` and `#[wafer::function(init = load)]`",
            ));
        };
        let (statics, build, state) = state_code(state, init);
        return Ok(exported(Exported {
            describe: quote!(::wafer::export::table_signature(#state, #doc)),
            call: quote!(::wafer::export::call_table(input, #state, |__table| #name(__table, #state))),
            statics,
            build,
            function: &function,
        }));
    }
    let call = |state: TokenStream| match (&whole_columns, output) {
        (Some(row), _) => {
            quote!(|__columns: &<#row as ::wafer::Row>::Columns| #name(__columns #state))
        }
        (None, OutputForm::Iterator) => {
            quote!(|__row| #name(__row #state).collect::<::std::vec::Vec<_>>())
        }
        (None, OutputForm::Value) => quote!(|__row| #name(__row #state)),
    };
    let (signature_of, call_on) = match whole_columns {
        Some(_) => (quote!(columns_signature), quote!(call_columns)),
        None => (quote!(rows_signature), quote!(call_rows)),
    };
    let input = arguments[0];
    let annotated = |closure: TokenStream| match whole_columns {
        Some(_) => closure,
        None => {
            // A closure without a type would leave the type of the row to inference.
            quote!({ let __function = #closure; move |__row: #input| __function(__row) })
        }
    };
    let (statics, build, on_rows) = match state {
        None => (
            quote!(),
            quote!(|_| ::std::result::Result::<(), ::std::string::String>::Ok(())),
            annotated(call(quote!())),
        ),
        Some((state, init)) => {
            let (statics, build, state) = state_code(state, init);
            (statics, build, annotated(call(quote!(, #state))))
        }
    };
    Ok(exported(Exported {
        describe: quote!(::wafer::export::#signature_of(&#on_rows, #doc)),
        call: quote!(::wafer::export::#call_on(input, #on_rows)),
        statics,
        build,
        function: &function,
    }))
}

/// The static that holds the state, the code that sets it, and the code that reads it.
fn state_code(state: &Type, init: &syn::Path) -> (TokenStream, TokenStream, TokenStream) {
    (
        quote!(static __STATE: ::std::sync::OnceLock<#state> = ::std::sync::OnceLock::new();),
        quote!(|init| #init(init).map(|state| { let _ = __STATE.set(state); })),
        quote!(__STATE.get().expect("`init` came before all else")),
    )
}

/// The parts of the exported component that differ between functions.
struct Exported<'a> {
    function: &'a ItemFn,
    statics: TokenStream,
    build: TokenStream,
    describe: TokenStream,
    call: TokenStream,
}

fn exported(exported: Exported<'_>) -> TokenStream {
    let Exported {
        function,
        statics,
        build,
        describe,
        call,
    } = exported;
    let name = &function.sig.ident;
    let export = export("function", &name.to_string(), name.span());
    quote! {
        #function

        const _: () = {
            #statics

            // An unlikely name, because the author's own names are visible in here.
            #[allow(non_camel_case_types, reason = "a name that no author has")]
            #[cfg_attr(not(target_arch = "wasm32"), allow(dead_code, reason = "natively it is only type-checked"))]
            struct __Exported;

            impl ::wafer::export::Guest for __Exported {
                fn load(asset: ::std::string::String, chunk: ::std::vec::Vec<u8>, _last: bool) {
                    ::wafer::export::load(asset, chunk);
                }

                fn init(
                    parameters: ::std::vec::Vec<::wafer::export::Parameter>,
                ) -> ::std::result::Result<(), ::std::string::String> {
                    ::wafer::export::init(parameters, #build)
                }

                fn describe() -> ::wafer::export::Signature {
                    #describe
                }

                fn call(
                    input: ::wafer::export::Batch,
                ) -> ::std::result::Result<::wafer::export::Output, ::wafer::export::CallError> {
                    #call
                }
            }

            #export
        };
    }
}

/// Whether an argument is a `Table`.
fn is_table(argument: &Type) -> bool {
    let Type::Path(path) = argument else {
        return false;
    };
    let last = path.path.segments.last();
    last.is_some_and(|segment| segment.ident == "Table" && segment.arguments.is_empty())
}

#[derive(Clone, Copy)]
enum OutputForm {
    Value,
    Iterator,
}

impl OutputForm {
    fn of(output: &ReturnType) -> Self {
        match output {
            ReturnType::Type(_, ty) if matches!(**ty, Type::ImplTrait(_)) => Self::Iterator,
            _ => Self::Value,
        }
    }
}

/// The row type of an argument `&Columns<Row>`.
fn columns_row(argument: &Type) -> Option<&Type> {
    let Type::Reference(reference) = argument else {
        return None;
    };
    let Type::Path(path) = &*reference.elem else {
        return None;
    };
    let last = path.path.segments.last()?;
    let PathArguments::AngleBracketed(arguments) = &last.arguments else {
        return None;
    };
    match (last.ident == "Columns", arguments.args.first()?) {
        (true, GenericArgument::Type(row)) => Some(row),
        _ => None,
    }
}
