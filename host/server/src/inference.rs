//! The Open Inference Protocol, version 2, over REST:
//! <https://github.com/kserve/open-inference-protocol>.
//!
//! A model of the protocol is an endpoint, and a version of the model is one of the releases that
//! the endpoint routes to. The inputs are the join keys and request fields of the view, one tensor
//! each, of shape `[rows]` or `[rows, 1]`; vectors and lists have the shape `[rows, k]`. Times are
//! strings as in RFC 3339: integers are refused, because nothing says in which unit they count.
//! Byte strings are hexadecimal. The outputs are what the model predicts.
//!
//! An element that does not fit the datatype of its tensor is refused. One of FP32 is the nearest
//! float32, in JSON as in a binary tensor.
//!
//! Tensors may also be binary, by the extension `binary_tensor_data`:
//! <https://docs.nvidia.com/deeplearning/triton-inference-server/user-guide/docs/protocol/extension_binary_data.html>.
//!
//! Every error is `{"error": "…"}`. The status is 404 if the path, the method or what it names does
//! not exist, 400 for any other error of the caller or of a function, 503 if the request may be
//! tried again, and 500 if the server failed.

mod tensor;

use std::collections::HashMap;
use std::io::Write;
use std::sync::Arc;

use axum::extract::rejection::PathRejection;
use axum::extract::{OriginalUri, Path, State};
use axum::http::header::CONTENT_TYPE;
use axum::http::{HeaderMap, HeaderName, Method, StatusCode};
use axum::response::{IntoResponse, Response};
use axum::routing::{get, post};
use axum::{Json as JsonBody, Router};
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value as Json, json};
use wafer_core::{Field, cut};
use wafer_platform::{InferRequest, Inference, Platform};

use crate::MAX_ROWS;
use crate::intake::Payload;
use crate::refusal::Refusal;
use crate::whole::WholeAnswer;
use tensor::{Output, Tensor};

/// The header with the length of the JSON, in bytes, in a body that has binary tensors after the
/// JSON.
const HEADER_LENGTH: HeaderName = HeaderName::from_static("inference-header-content-length");

/// Returns the routes below `/v2`.
pub(crate) fn router() -> Router<Arc<Platform>> {
    let model = |prefix: &str| {
        Router::new()
            .route(prefix, get(metadata))
            .route(&format!("{prefix}/ready"), get(ready))
            .route(&format!("{prefix}/infer"), post(infer))
    };
    Router::new()
        .route("/", get(server))
        .route(
            "/health/live",
            get(|| async { JsonBody(json!({ "live": true })) }),
        )
        .route("/health/ready", get(server_ready))
        .merge(model("/models/{model}"))
        .merge(model("/models/{model}/versions/{version}"))
        .fallback(no_route)
        .method_not_allowed_fallback(no_method)
}

async fn no_route(OriginalUri(uri): OriginalUri) -> Refusal {
    Refusal {
        status: StatusCode::NOT_FOUND,
        message: cut(format_args!("there is no {}", uri.path())),
    }
}

async fn no_method(method: Method, OriginalUri(uri): OriginalUri) -> Refusal {
    Refusal {
        // The protocol has no status 405, only 400 and 404.
        status: StatusCode::NOT_FOUND,
        message: cut(format_args!("{} does not take {method}", uri.path())),
    }
}

/// Answers `GET /v2`: the metadata of the server.
pub(crate) async fn server() -> JsonBody<Json> {
    JsonBody(json!({
        "name": "wafer",
        "version": env!("CARGO_PKG_VERSION"),
        "extensions": ["binary_tensor_data"],
    }))
}

async fn server_ready(State(platform): State<Arc<Platform>>) -> Result<JsonBody<Json>, Refusal> {
    crate::serve::check_stores(&platform).await?;
    Ok(JsonBody(json!({ "live": true, "ready": true })))
}

/// The endpoint and the release that a path names.
#[derive(Deserialize)]
struct ModelPath {
    model: String,
    version: Option<String>,
}

type ModelPathResult = Result<Path<ModelPath>, PathRejection>;

/// Answers a request for the metadata of an endpoint.
async fn metadata(
    State(platform): State<Arc<Platform>>,
    path: ModelPathResult,
) -> Result<JsonBody<Json>, Refusal> {
    let Path(ModelPath { model, version }) = path?;
    let endpoint = platform.serving().serving_endpoint(&model).await?;
    let info = endpoint.info(version.as_deref())?;
    let tensors = |fields: &[Field]| -> Json { fields.iter().map(tensor::metadata).collect() };
    Ok(JsonBody(json!({
        "name": model,
        "versions": info.releases,
        "platform": "wafer",
        "inputs": tensors(&info.inputs),
        "outputs": tensors(&info.outputs),
    })))
}

/// Answers whether an endpoint is ready, and the release too if the path names one.
async fn ready(
    State(platform): State<Arc<Platform>>,
    path: ModelPathResult,
) -> Result<JsonBody<Json>, Refusal> {
    let Path(ModelPath { model, version }) = path?;
    let endpoint = platform.serving().serving_endpoint(&model).await?;
    endpoint.info(version.as_deref())?;
    Ok(JsonBody(json!({ "name": model, "ready": true })))
}

/// The JSON of an inference request.
#[derive(Deserialize)]
struct Request {
    id: Option<String>,
    parameters: Option<Map<String, Json>>,
    inputs: Vec<Tensor>,
    outputs: Option<Vec<RequestedOutput>>,
}

/// An output that the request names.
#[derive(Deserialize)]
struct RequestedOutput {
    name: String,
    parameters: Option<Map<String, Json>>,
}

/// Returns the value of a parameter, or `None` if it is not given.
fn flag(parameters: Option<&Map<String, Json>>, name: &str) -> Option<bool> {
    parameters?.get(name).and_then(Json::as_bool)
}

/// The JSON of an answer.
#[derive(Serialize)]
struct InferenceOutputs<'a> {
    model_name: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    model_version: Option<String>,
    id: String,
    #[serde(skip_serializing_if = "Map::is_empty")]
    parameters: Map<String, Json>,
    outputs: Vec<Output<'a>>,
}

/// Answers an inference request.
async fn infer(
    State(platform): State<Arc<Platform>>,
    path: ModelPathResult,
    headers: HeaderMap,
    payload: Payload,
) -> Result<Response, Refusal> {
    let Path(ModelPath { model, version }) = path?;
    let (mut request, binary) = read(&headers, &payload)?;
    let rows = rows(&request.inputs)?;
    payload.check(tensor::binary_size(&request.inputs))?;
    tensor::take_binary(&mut request.inputs, binary).map_err(Refusal::invalid)?;
    // The endpoint is read once, so that all of the answer comes from the same releases, even if
    // the endpoint is switched meanwhile.
    let endpoint = platform.serving().serving_endpoint(&model).await?;
    let info = endpoint.info(version.as_deref())?;
    let asked = InferRequest {
        id: request.id.clone(),
        rows,
        columns: columns(request.inputs, &info.inputs)?,
    };
    let wanted = wanted(
        request.parameters.as_ref(),
        request.outputs.as_deref(),
        &info.outputs,
    )?;
    // What was looked up is held until the answer is there.
    let (_charge, memory) = payload.found();
    let inference = platform
        .serving()
        .infer(&endpoint, version.as_deref(), asked, &memory)
        .await?;
    answer(model, inference, &wanted, &payload)
}

/// Parses a request whose JSON has the given length, for inputs with these fields. Returns the
/// number of rows.
pub(crate) fn parsed(
    json_length: u16,
    payload: &Payload,
    inputs: &[Field],
) -> Result<usize, String> {
    let mut headers = HeaderMap::new();
    if json_length > 0 {
        headers.insert(HEADER_LENGTH, json_length.into());
    }
    let parse = || {
        let (mut request, binary) = read(&headers, payload)?;
        let rows = rows(&request.inputs)?;
        payload.check(tensor::binary_size(&request.inputs))?;
        tensor::take_binary(&mut request.inputs, binary).map_err(Refusal::invalid)?;
        for (name, values) in columns(request.inputs, inputs)? {
            assert_eq!(values.len(), rows, "{name}");
        }
        wanted(
            request.parameters.as_ref(),
            request.outputs.as_deref(),
            inputs,
        )?;
        Ok(rows)
    };
    parse().map_err(|refusal: Refusal| refusal.message)
}

/// Splits a body into its JSON and the bytes of binary tensors after that.
fn read<'a>(headers: &HeaderMap, payload: &'a Payload) -> Result<(Request, &'a [u8]), Refusal> {
    let (text, binary) = match headers.get(HEADER_LENGTH) {
        None => (&payload.bytes[..], &[][..]),
        Some(length) => {
            let length = length
                .to_str()
                .ok()
                .and_then(|text| text.parse::<usize>().ok());
            let parts = length.and_then(|length| payload.split(length));
            parts.ok_or_else(|| {
                Refusal::invalid(format!(
                    "header {HEADER_LENGTH} is not a length within the body of {} bytes",
                    payload.sent_bytes()
                ))
            })?
        }
    };
    payload.check_json_part(text)?;
    let request = serde_json::from_slice(text)
        .map_err(|e| Refusal::invalid(format!("the body is not an inference request: {e}")))?;
    Ok((request, binary))
}

/// Returns the number of rows, which must be the same in all tensors.
///
/// # Errors
/// Returns an error when the tensors differ, and when there are no rows or too many.
fn rows(inputs: &[Tensor]) -> Result<usize, Refusal> {
    let mut rows: Option<(usize, &str)> = None;
    for input in inputs {
        let own = input.rows().map_err(Refusal::invalid)?;
        match rows {
            Some((first, name)) if first != own => {
                return Err(Refusal::invalid(format!(
                    "input `{}` has {own} rows, and `{name}` has {first}",
                    input.name
                )));
            }
            _ => rows = Some((own, &input.name)),
        }
    }
    match rows {
        None => Err(Refusal::invalid("there are no inputs")),
        Some((0, name)) => Err(Refusal::invalid(format!("input `{name}` has no rows"))),
        Some((rows, _)) if rows > MAX_ROWS => Err(Refusal::invalid(format!(
            "{rows} rows are too many: a request has at most {MAX_ROWS}"
        ))),
        Some((rows, _)) => Ok(rows),
    }
}

/// Converts tensors to columns of values by their names.
///
/// # Errors
/// Returns an error when a tensor does not fit its field. A tensor that no release reads is also
/// refused, because its name is probably misspelt.
fn columns(inputs: Vec<Tensor>, fields: &[Field]) -> Result<HashMap<String, Vec<Json>>, Refusal> {
    let mut columns = HashMap::new();
    for input in inputs {
        let field = fields.iter().find(|field| field.name == input.name);
        let field = field.ok_or_else(|| unknown("input", &input.name, fields))?;
        let name = input.name.clone();
        let values = input
            .into_rows(&field.data_type)
            .map_err(Refusal::invalid)?;
        if columns.insert(name.clone(), values).is_some() {
            return Err(Refusal::invalid(format!("input `{name}` is given twice")));
        }
    }
    Ok(columns)
}

/// Refuses the name of an input or output that does not exist.
fn unknown(kind: &str, name: &str, fields: &[Field]) -> Refusal {
    let known: Vec<&str> = fields.iter().map(|field| field.name.as_str()).collect();
    let known = known.join(", ");
    Refusal::invalid(format!("there is no {kind} `{name}`; there are {known}"))
}

/// An output to answer.
struct WantedOutput {
    /// The position of the output among those of the model.
    index: usize,
    /// Whether it is answered as bytes after the JSON, and not within it.
    is_binary: bool,
}

/// Returns the outputs to answer. Without a list in the request these are all outputs.
///
/// # Errors
/// Returns an error when there is no output of a name, and when one is named twice: otherwise a
/// short request could ask for an answer of any size.
fn wanted(
    parameters: Option<&Map<String, Json>>,
    outputs: Option<&[RequestedOutput]>,
    fields: &[Field],
) -> Result<Vec<WantedOutput>, Refusal> {
    let all_binary = flag(parameters, "binary_data_output").unwrap_or(false);
    let Some(outputs) = outputs.filter(|outputs| !outputs.is_empty()) else {
        let all = (0..fields.len()).map(|index| WantedOutput {
            index,
            is_binary: all_binary,
        });
        return Ok(all.collect());
    };
    let place = |wanted: &RequestedOutput| -> Result<WantedOutput, Refusal> {
        let found = fields.iter().position(|field| field.name == wanted.name);
        let index = found.ok_or_else(|| unknown("output", &wanted.name, fields))?;
        let is_binary = flag(wanted.parameters.as_ref(), "binary_data");
        Ok(WantedOutput {
            index,
            is_binary: is_binary.unwrap_or(all_binary),
        })
    };
    let mut places: Vec<WantedOutput> = Vec::new();
    for wanted in outputs {
        let output = place(wanted)?;
        if places.iter().any(|other| other.index == output.index) {
            return Err(Refusal::invalid(format!(
                "output `{}` is named twice",
                wanted.name
            )));
        }
        places.push(output);
    }
    Ok(places)
}

/// Encodes an inference as the response. Its memory is charged before it is taken.
///
/// # Errors
/// Returns an error when every row failed. If only some failed, the answer has a parameter
/// `errors`. Returns the errors of [`Payload::charge`] as well.
fn answer(
    model: String,
    inference: Inference,
    wanted: &[WantedOutput],
    payload: &Payload,
) -> Result<Response, Refusal> {
    if inference.errors.len() == inference.releases.len() {
        let (_, message) = &inference.errors[0];
        return Err(Refusal::invalid(message.clone()));
    }
    let first = &inference.releases[0];
    let is_one = inference.releases.iter().all(|release| release == first);
    let parameters = parameters(&inference, is_one);
    let mut outputs = Vec::new();
    let mut binary = WholeAnswer::new(payload.charge(0)?);
    for output in wanted {
        let (field, column) = &inference.outputs[output.index];
        let bytes = output.is_binary.then_some(&mut binary as &mut dyn Write);
        let tensor = Output::of(field, column, bytes);
        if let Some(failure) = binary.take_refused() {
            return Err(failure.into());
        }
        outputs.push(tensor.map_err(Refusal::invalid)?);
    }
    let answer = InferenceOutputs {
        model_name: model,
        model_version: is_one.then(|| first.clone()),
        id: inference.id,
        parameters,
        outputs,
    };
    let mut body = WholeAnswer::new(payload.charge(0)?);
    let encoded = serde_json::to_writer(&mut body, &answer);
    if let Some(failure) = body.take_refused() {
        return Err(failure.into());
    }
    encoded.expect("an answer always serialises");
    if !wanted.iter().any(|output| output.is_binary) {
        return Ok(([(CONTENT_TYPE, "application/json")], body.into_response()).into_response());
    }
    let headers = [
        (CONTENT_TYPE, "application/octet-stream".to_owned()),
        (HEADER_LENGTH, body.len().to_string()),
    ];
    body.append_answer(&binary)?;
    Ok((headers, body.into_response()).into_response())
}

/// Returns the parameters of an answer: the errors of rows, and the release of each row unless all
/// are of one.
fn parameters(inference: &Inference, is_one: bool) -> Map<String, Json> {
    let mut parameters = Map::new();
    if !inference.errors.is_empty() {
        // The protocol allows no lists as parameters, so the messages are joined to one string.
        let texts = inference
            .errors
            .iter()
            .map(|(row, message)| format!("row {row}: {message}"));
        parameters.insert(
            "errors".to_owned(),
            texts.collect::<Vec<_>>().join("\n").into(),
        );
    }
    if !is_one {
        parameters.insert("versions".to_owned(), inference.releases.join(",").into());
    }
    parameters
}

#[cfg(test)]
mod tests {
    use axum::http::HeaderValue;
    use bytes::Bytes;

    use super::*;

    /// Reads a body whose sender says how long its JSON is. Returns its identity and the bytes
    /// after the JSON.
    fn read_body(body: &[u8], length: &str) -> Result<(Option<String>, Vec<u8>), String> {
        let mut headers = HeaderMap::new();
        headers.insert(HEADER_LENGTH, HeaderValue::from_str(length).unwrap());
        let payload = Payload::new(Bytes::copy_from_slice(body), 1 << 20);
        let read = read(&headers, &payload).map_err(|refusal| refusal.message);
        read.map(|(request, binary)| (request.id, binary.to_vec()))
    }

    #[test]
    fn the_length_of_the_json_counts_a_byte_order_mark_before_it() {
        let json = r#"{"id": "7", "inputs": []}"#;
        for mark in ["", "\u{feff}"] {
            let text = format!("{mark}{json}");
            let body = [text.as_bytes(), &[1, 2, 3]].concat();
            let wanted = (Some("7".to_owned()), vec![1, 2, 3]);
            let read = read_body(&body, &text.len().to_string());
            assert_eq!(read, Ok(wanted), "{mark:?}");
            let all = format!("within the body of {} bytes", body.len());
            for length in [&*(body.len() + 1).to_string(), "-1", "x"] {
                let error = read_body(&body, length).unwrap_err();
                assert!(error.ends_with(&all), "{length}: {error}");
            }
        }
        // The mark alone has three bytes.
        let body = format!("\u{feff}{json}");
        let error = read_body(body.as_bytes(), "2").unwrap_err();
        assert!(error.contains("is not a length"), "{error}");
    }
}
