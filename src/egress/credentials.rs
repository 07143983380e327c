//! The identity's credentials, as containers on AWS get them: `GET` with the token from the token file.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use http::header::{AUTHORIZATION, CACHE_CONTROL, CONTENT_TYPE, HeaderValue};
use http::{Method, Request, Response, StatusCode};
use serde_json::json;

use super::reply::{self, Body};
use super::{CREDENTIALS_PATH, Way};
use crate::model::{AwsCredentials, Timestamp};

/// When credentials without an end are to be asked for again: the clients want an end. [ours: a key that was
/// rotated on the host is the agent's too after an hour]
const LONG_LIVED: Duration = Duration::from_secs(3600);

/// Answers a request to the listener itself.
pub(super) async fn answer<B>(way: &Way, request: &Request<B>) -> Response<Body> {
    if request.uri().path() != CREDENTIALS_PATH {
        let message = format!(
            "there is nothing at `{}`: this is the proxy of the session, for `http_proxy` and `https_proxy`",
            request.uri().path()
        );
        return reply::plain(StatusCode::NOT_FOUND, &message);
    }
    let Some(identity) = &way.shared.identity else {
        let message =
            "agents have no AWS identity here: start the emulator with `--aws-identity profile NAME`";
        return reply::plain(StatusCode::NOT_FOUND, message);
    };
    if request.method() != Method::GET {
        return reply::plain(StatusCode::METHOD_NOT_ALLOWED, "credentials are read with GET");
    }
    let given = request.headers().get(AUTHORIZATION).map(HeaderValue::as_bytes);
    if !given.is_some_and(|given| same(given, way.token.as_bytes())) {
        let message = "the token of this session is missing: send the content of the file that \
                       `AWS_CONTAINER_AUTHORIZATION_TOKEN_FILE` names as the authorization header";
        return failure(StatusCode::UNAUTHORIZED, "Unauthorized", message);
    }
    // In a task of its own: a client that gives up after a second finds the answer at its next try.
    let (identity, role) = (identity.clone(), way.role.clone());
    let found = tokio::spawn(async move { identity.credentials(&role).await }).await;
    match found {
        Ok(Ok(credentials)) => json_response(StatusCode::OK, &body(&credentials)),
        Ok(Err(reason)) => {
            tracing::warn!("there are no AWS credentials for an agent: {reason}");
            failure(StatusCode::BAD_GATEWAY, "CredentialsUnavailable", &reason)
        }
        Err(_) => failure(StatusCode::BAD_GATEWAY, "CredentialsUnavailable", "the search for them ended"),
    }
}

/// Compares in a time that tells nothing of where the difference is.
pub(super) fn same(given: &[u8], token: &[u8]) -> bool {
    given.len() == token.len() && given.iter().zip(token).fold(0, |sum, (a, b)| sum | (a ^ b)) == 0
}

fn body(credentials: &AwsCredentials) -> serde_json::Value {
    let expires_at = credentials.expires_at.unwrap_or_else(|| now().plus(LONG_LIVED));
    json!({
        "AccessKeyId": credentials.access_key_id,
        "SecretAccessKey": credentials.secret_access_key,
        // The clients require the member; an empty one is none.
        "Token": credentials.session_token.as_deref().unwrap_or_default(),
        "Expiration": expires_at.to_rfc3339(),
    })
}

/// Real time: AWS knows nothing of the emulator's clock.
fn now() -> Timestamp {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    Timestamp(0).plus(since)
}

fn failure(status: StatusCode, code: &str, message: &str) -> Response<Body> {
    json_response(status, &json!({ "code": code, "message": format!("agentcore: {message}") }))
}

fn json_response(status: StatusCode, value: &serde_json::Value) -> Response<Body> {
    let mut response = Response::new(super::whole(value.to_string()));
    *response.status_mut() = status;
    let headers = response.headers_mut();
    headers.insert(CONTENT_TYPE, HeaderValue::from_static("application/json"));
    headers.insert(CACHE_CONTROL, HeaderValue::from_static("no-store"));
    response
}
