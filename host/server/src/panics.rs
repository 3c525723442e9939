//! Panics of handlers as answers: whatever a request makes the server do, it gets a status.

use std::future::poll_fn;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::task::Poll;

use axum::extract::Request;
use axum::http::StatusCode;
use axum::middleware::Next;
use axum::response::{IntoResponse, Response};

use crate::error::Failure;
use crate::inference::Refusal;

/// Answers a request with status 500 if its handler panics. Where the panic happened is in the log,
/// written by the panic hook.
pub(crate) async fn answered(request: Request, next: Next) -> Response {
    let path = request.uri().path().to_owned();
    let mut response = Box::pin(next.run(request));
    let polled = poll_fn(move |context| {
        let poll = catch_unwind(AssertUnwindSafe(|| response.as_mut().poll(context)));
        poll.map_or(Poll::Ready(None), |poll| poll.map(Some))
    });
    match polled.await {
        Some(response) => response,
        None => internal_error(&path),
    }
}

/// Returns the answer in the form of the route's protocol.
fn internal_error(path: &str) -> Response {
    tracing::error!(path, "the handler of a request panicked");
    let message = "internal error; see the log of the server";
    let failure = Failure::new(StatusCode::INTERNAL_SERVER_ERROR, "internal", message);
    match path == "/v2" || path.starts_with("/v2/") {
        true => Refusal::from(failure).into_response(),
        false => failure.into_response(),
    }
}

#[cfg(test)]
mod tests {
    use axum::Router;
    use axum::body::Body;
    use axum::routing::get;
    use tower_service::Service as _;

    use super::*;

    #[tokio::test]
    async fn a_panic_is_answered_in_the_form_of_the_protocol() {
        let panics = || async {
            if std::hint::black_box(true) {
                panic!("on purpose");
            }
        };
        let mut router = Router::new()
            .route("/v1/views", get(panics))
            .route("/v2/models", get(panics))
            .layer(axum::middleware::from_fn(answered));
        for (path, wanted) in [
            ("/v1/views", r#"{"error":{"code":"internal","#),
            ("/v2/models", r#"{"error":"internal error"#),
        ] {
            let request = axum::http::Request::get(path).body(Body::empty()).unwrap();
            let response = router.call(request).await.unwrap();
            assert_eq!(response.status(), StatusCode::INTERNAL_SERVER_ERROR);
            let body = axum::body::to_bytes(response.into_body(), 4096).await;
            let body = String::from_utf8(body.unwrap().to_vec()).unwrap();
            assert!(body.starts_with(wanted), "{body}");
        }
    }
}
