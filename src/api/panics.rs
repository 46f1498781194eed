//! Panics while a request is answered. They are bugs; the client is told so (500), and nothing else ends with it:
//! not the other requests of its connection, nor their watches.

use std::panic::AssertUnwindSafe;

use axum::{
    extract::Request,
    middleware::Next,
    response::{IntoResponse as _, Response},
};
use futures::FutureExt as _;

use crate::model::Status;

/// The middleware, outside of all that may panic. The panic itself is in the log already.
pub async fn contain(request: Request, next: Next) -> Response {
    // A half-changed value cannot be seen by others: locks are not held across calls, and snapshots do not change.
    match AssertUnwindSafe(next.run(request)).catch_unwind().await {
        Ok(response) => response,
        Err(_payload) => {
            Status::internal("This request caused the server to panic. Its log has the details.")
                .into_response()
        }
    }
}

#[cfg(test)]
mod tests {
    use axum::{Router, body::Body, middleware, routing::get};
    use http_body_util::BodyExt as _;
    use tower::ServiceExt as _;

    use super::*;

    #[tokio::test]
    async fn a_panic_is_an_answer() {
        let panics = get(|| async {
            if true {
                panic!("a bug")
            }
        });
        let router = Router::new()
            .route("/bug", panics)
            .route("/", get(|| async { "fine" }))
            .layer(middleware::from_fn(contain));
        for (path, code, text) in [("/bug", 500, "InternalError"), ("/", 200, "fine")] {
            let request = Request::get(path).body(Body::empty()).unwrap();
            let answer = router.clone().oneshot(request).await.unwrap();
            assert_eq!(answer.status(), code);
            let body = answer.into_body().collect().await.unwrap().to_bytes();
            assert!(String::from_utf8_lossy(&body).contains(text), "{path}");
        }
    }
}
