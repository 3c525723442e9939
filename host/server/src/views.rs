//! `GET /v1/views` and `GET /v1/views/{view}`: the feature views that clients can query.

use std::sync::Arc;

use axum::Json as JsonBody;
use axum::extract::State;
use serde_json::{Value as Json, json};
use wafer_platform::{Platform, Recipe};

use crate::error::Failure;
use crate::extract::Path;

/// Lists the live views.
pub(crate) async fn list(State(platform): State<Arc<Platform>>) -> JsonBody<Json> {
    let definitions = platform.context().definitions();
    let views: Vec<_> = definitions
        .views
        .iter()
        .map(|(name, view)| json!({ "name": name, "doc": view.doc }))
        .collect();
    JsonBody(json!({ "views": views }))
}

/// Returns the input fields and the features of a view.
pub(crate) async fn one(
    State(platform): State<Arc<Platform>>,
    Path(name): Path<String>,
) -> Result<JsonBody<Json>, Failure> {
    let recipe = Recipe::new(&platform.context().definitions(), &name)?;
    let (view, features) = (&recipe.view, recipe.outputs());
    Ok(JsonBody(
        json!({ "name": name, "doc": view.doc, "inputs": view.inputs, "features": features }),
    ))
}
