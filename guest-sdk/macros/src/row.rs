//! The derive macro `#[derive(Row)]`.

use proc_macro2::TokenStream;
use quote::{format_ident, quote, quote_spanned};
use syn::spanned::Spanned as _;
use syn::{Data, DeriveInput, Error, Fields, GenericArgument, PathArguments, Result, Type};

use crate::doc_text;

pub(crate) fn derive(input: DeriveInput) -> Result<TokenStream> {
    let Data::Struct(data) = &input.data else {
        return Err(Error::new_spanned(
            &input.ident,
            "a row is a struct with named fields",
        ));
    };
    let Fields::Named(named) = &data.fields else {
        return Err(Error::new_spanned(
            &input.ident,
            "a row is a struct with named fields",
        ));
    };
    if named.named.is_empty() {
        return Err(Error::new_spanned(
            &input.ident,
            "a row has at least one field",
        ));
    }
    if !input.generics.params.is_empty() {
        return Err(Error::new_spanned(
            &input.generics,
            "a row has no type parameters or lifetimes: use owned types such as String",
        ));
    }

    let mut mistakes = named
        .named
        .iter()
        .filter_map(|f| Some(Error::new(f.ty.span(), mistake(&f.ty)?)));
    if let Some(first) = mistakes.next() {
        return Err(mistakes.fold(first, |mut all, next| {
            all.combine(next);
            all
        }));
    }

    let row = &input.ident;
    let visibility = &input.vis;
    let columns = format_ident!("{row}Columns");
    let columns_doc = format!("The columns of [`{row}`].");

    let idents: Vec<_> = named
        .named
        .iter()
        .map(|f| f.ident.clone().expect("named"))
        .collect();
    let names: Vec<_> = idents
        .iter()
        .map(|i| i.to_string().trim_start_matches("r#").to_owned())
        .collect();
    let docs: Vec<_> = named.named.iter().map(|f| doc_text(&f.attrs)).collect();
    // Types keep their own span, so that the compiler underlines a type that cannot be a field.
    let cells: Vec<_> = named
        .named
        .iter()
        .map(|f| {
            let ty = &f.ty;
            quote_spanned!(ty.span()=> ::wafer::Column<#ty>)
        })
        .collect();
    let visibilities = named.named.iter().map(|f| &f.vis);

    Ok(quote! {
        #[doc = #columns_doc]
        #[derive(Debug, Default)]
        #visibility struct #columns {
            #( #[doc = #docs] #visibilities #idents: #cells, )*
        }

        const _: () = {
            impl ::wafer::export::ColumnsOf for #columns {
                type Row = #row;
            }

            impl ::wafer::Row for #row {
                type Columns = #columns;

                fn with_capacity(rows: usize) -> #columns {
                    #columns { #( #idents: <#cells>::with_capacity(rows), )* }
                }

                fn fields() -> ::std::vec::Vec<::wafer::bindings::types::Field> {
                    ::std::vec![#( <#cells>::field(#names, #docs) ),*]
                }

                fn get(
                    columns: &#columns,
                    row: usize,
                ) -> ::std::result::Result<Self, ::std::string::String> {
                    ::std::result::Result::Ok(Self {
                        #( #idents: columns.#idents.get(row).ok_or_else(|| ::wafer::export::null_message(#names))?, )*
                    })
                }

                fn check(
                    columns: &#columns,
                    row: usize,
                ) -> ::std::result::Result<(), ::std::string::String> {
                    #( columns.#idents.check(row, #names)?; )*
                    ::std::result::Result::Ok(())
                }

                fn push(self, columns: &mut #columns) {
                    #( columns.#idents.push(self.#idents); )*
                }

                fn push_placeholder(columns: &mut #columns) {
                    #( columns.#idents.push_placeholder(); )*
                }

                fn from_wire(
                    batch: ::wafer::bindings::types::Batch,
                ) -> ::std::result::Result<#columns, ::std::string::String> {
                    let rows = batch.rows as usize;
                    let mut wire = batch.columns.into_iter();
                    ::std::result::Result::Ok(#columns {
                        #( #idents: <#cells>::from_wire(wire.next(), rows, #names)?, )*
                    })
                }

                fn into_wire(columns: #columns) -> ::wafer::bindings::types::Batch {
                    let lengths = [#( columns.#idents.len() ),*];
                    ::wafer::bindings::types::Batch {
                        // The host refuses columns of unequal lengths, and names them.
                        rows: lengths[0] as u32,
                        columns: ::std::vec![#( columns.#idents.into_wire() ),*],
                    }
                }
            }
        };
    })
}

/// What to write instead of a type that is not a feature type but is often tried. The compiler
/// would refuse it as well, with a longer message.
fn mistake(ty: &Type) -> Option<String> {
    let text = quote!(#ty).to_string().replace(' ', "");
    let instead = |what: &str| Some(format!("`{text}` is not a feature type: use {what}"));
    let Type::Path(path) = ty else {
        return match ty {
            Type::Reference(_) => instead("an owned type such as String"),
            Type::Tuple(_) => instead("one field for each value"),
            _ => None,
        };
    };
    let segment = path.path.segments.last()?;
    let inner = match &segment.arguments {
        PathArguments::AngleBracketed(arguments) => match arguments.args.first() {
            Some(GenericArgument::Type(inner)) => Some(inner),
            _ => None,
        },
        _ => None,
    };
    match (segment.ident.to_string().as_str(), inner) {
        ("Option", Some(Type::Path(inner)))
            if inner
                .path
                .segments
                .last()
                .is_some_and(|s| s.ident == "Option") =>
        {
            instead("one Option: a value is there or not")
        }
        ("Option", Some(inner)) => mistake(inner),
        ("Vec", Some(Type::Path(inner))) => {
            let item = inner.path.segments.last()?.ident.to_string();
            let known = ["u8", "i64", "f64", "String"].contains(&item.as_str());
            if known {
                None
            } else {
                instead("Vec<i64>, Vec<f64>, Vec<String> or, for bytes, Vec<u8>")
            }
        }
        (
            "i8" | "i16" | "i32" | "i128" | "isize" | "u8" | "u16" | "u32" | "u64" | "u128"
            | "usize",
            None,
        ) => instead("i64"),
        ("char" | "str", None) => instead("String"),
        ("SystemTime" | "Instant" | "DateTime" | "NaiveDateTime", _) => instead("wafer::Timestamp"),
        ("NaiveDate", None) => instead("wafer::Date"),
        ("HashMap" | "BTreeMap", _) => instead("one field for each value"),
        _ => None,
    }
}
