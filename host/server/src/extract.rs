//! Extractors of axum that fail with errors in the API's own form.

use axum::extract::{FromRequestParts, Path as AxumPath, Query as AxumQuery};
use axum::http::request::Parts;
use percent_encoding::percent_decode_str;
use serde::de::DeserializeOwned;

use crate::error::Failure;

/// The parameters of a route's path.
pub(crate) struct Path<T>(pub(crate) T);

impl<S, T> FromRequestParts<S> for Path<T>
where
    S: Send + Sync,
    T: DeserializeOwned + Send,
{
    type Rejection = Failure;

    async fn from_request_parts(parts: &mut Parts, state: &S) -> Result<Self, Failure> {
        let AxumPath(parameters) = AxumPath::from_request_parts(parts, state).await?;
        Ok(Self(parameters))
    }
}

/// The parameters of a query string.
pub(crate) struct Query<T>(pub(crate) T);

impl<S, T> FromRequestParts<S> for Query<T>
where
    S: Send + Sync,
    T: DeserializeOwned,
{
    type Rejection = Failure;

    async fn from_request_parts(parts: &mut Parts, state: &S) -> Result<Self, Failure> {
        // Its parser would replace bytes that are not UTF-8.
        let query = percent_decode_str(parts.uri.query().unwrap_or_default());
        if query.decode_utf8().is_err() {
            return Err(Failure::invalid(
                "the query of the request has bytes that are not UTF-8",
            ));
        }
        let AxumQuery(parameters) = AxumQuery::from_request_parts(parts, state).await?;
        Ok(Self(parameters))
    }
}

#[cfg(test)]
mod tests {
    use axum::http::{Request, StatusCode};

    use super::*;

    #[tokio::test]
    async fn a_query_that_is_not_utf8_is_refused() {
        for (query, wanted) in [
            ("where=%c3%a9%20=%201&limit=1%", Ok("\u{e9} = 1")),
            ("where=%ff", Err(StatusCode::BAD_REQUEST)),
            ("where=%C3", Err(StatusCode::BAD_REQUEST)),
            ("where=%c3&limit=%a9", Err(StatusCode::BAD_REQUEST)),
            ("%ff=1", Err(StatusCode::BAD_REQUEST)),
        ] {
            let request = Request::get(format!("/?{query}")).body(()).unwrap();
            let (mut parts, ()) = request.into_parts();
            let read = Query::<Vec<(String, String)>>::from_request_parts(&mut parts, &()).await;
            let read = read.map(|Query(parameters)| parameters[0].1.clone());
            let read = read.map_err(|failure| failure.status());
            assert_eq!(read, wanted.map(str::to_owned), "{query}");
        }
    }
}
