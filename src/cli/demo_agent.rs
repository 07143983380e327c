//! The agent of `local demo`, built into the binary: it needs neither Python nor anything else.

use std::convert::Infallible;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use bytes::Bytes;
use http_body_util::{BodyExt, Full, Limited};
use hyper::body::Incoming;
use hyper::service::service_fn;
use hyper::{Method, Request, Response, StatusCode};
use hyper_util::rt::TokioIo;
use serde_json::{Value, json};
use tokio::io::AsyncWriteExt;

use super::Context;
use super::exit::{Failure, OK, Outcome};
use crate::model::limits::AGENT_HTTP_PORT;

/// Where its session storage is, unless it is told.
const STORAGE: &str = "/mnt/workspace";
/// The file of its notes there.
const NOTES: &str = "notes.txt";
/// Longest payload it reads.
const MAX_PAYLOAD: usize = 1024 * 1024;

/// Serves until its session ends it.
pub(super) fn exec(context: &Context) -> Outcome {
    context.block_on(async {
        // Told where to listen, it shares this machine's ports, and is nobody else's business.
        let (host, port) = context.env.port.map_or(("0.0.0.0", AGENT_HTTP_PORT), |port| ("127.0.0.1", port));
        let storage = context.env.storage.clone().unwrap_or_else(|| PathBuf::from(STORAGE));
        let notes: Arc<Path> = storage.join(NOTES).into();
        let listener = tokio::net::TcpListener::bind((host, port))
            .await
            .map_err(|e| Failure::failed(format!("port `{port}` cannot be served: {e}")))?;
        // A new compute runs a new process, so this tells computes apart.
        let boot: Arc<str> = uuid::Uuid::new_v4().to_string().into();
        context.ui.note(format!("demo agent {boot} listens on port {port}"));
        let mut terminated = tokio::signal::unix::signal(tokio::signal::unix::SignalKind::terminate())
            .map_err(|e| Failure::failed(format!("signals cannot be heard: {e}")))?;
        loop {
            let connection = tokio::select! {
                connection = listener.accept() => connection,
                _ = terminated.recv() => return Ok(OK),
            };
            let Ok((stream, _)) = connection else { continue };
            let (boot, notes) = (boot.clone(), notes.clone());
            tokio::spawn(async move {
                let service = service_fn(move |request| answer(request, boot.clone(), notes.clone()));
                // A caller that hangs up is no concern of the agent's.
                let _ = hyper::server::conn::http1::Builder::new()
                    .serve_connection(TokioIo::new(stream), service)
                    .await;
            });
        }
    })
}

async fn answer(
    request: Request<Incoming>,
    boot: Arc<str>,
    notes: Arc<Path>,
) -> Result<Response<Full<Bytes>>, Infallible> {
    let (status, value) = match (request.method(), request.uri().path()) {
        (&Method::GET, "/ping") => (StatusCode::OK, json!({ "status": "Healthy" })),
        (&Method::POST, "/invocations") => match invoke(request, &notes).await {
            Ok(notes) => (StatusCode::OK, json!({ "bootId": *boot, "notes": notes })),
            Err(message) => (StatusCode::INTERNAL_SERVER_ERROR, json!({ "error": message })),
        },
        _ => (StatusCode::NOT_FOUND, json!({ "error": "not found" })),
    };
    let mut response = Response::new(Full::new(Bytes::from(value.to_string())));
    *response.status_mut() = status;
    response
        .headers_mut()
        .insert(http::header::CONTENT_TYPE, http::HeaderValue::from_static("application/json"));
    Ok(response)
}

/// Adds the prompt to the notes; gives all of them.
async fn invoke(request: Request<Incoming>, notes: &Path) -> Result<Vec<String>, String> {
    let body = Limited::new(request.into_body(), MAX_PAYLOAD).collect().await.map_err(|e| e.to_string())?;
    let payload: Value = serde_json::from_slice(&body.to_bytes()).map_err(|e| e.to_string())?;
    let prompt = payload.get("prompt").and_then(Value::as_str).unwrap_or_default();
    let file = tokio::fs::OpenOptions::new().append(true).create(true).open(notes).await;
    let mut file = file.map_err(|e| format!("{}: {e}", notes.display()))?;
    let line = format!("{}\n", prompt.replace('\n', " "));
    file.write_all(line.as_bytes()).await.map_err(|e| e.to_string())?;
    file.flush().await.map_err(|e| e.to_string())?;
    let notes = tokio::fs::read_to_string(notes).await.map_err(|e| e.to_string())?;
    Ok(notes.lines().map(str::to_owned).collect())
}
