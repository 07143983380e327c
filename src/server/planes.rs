//! Both AWS planes as one service: each request gets its id, passes the guard, and goes to its operation.
//!
//! The data plane's few operations are told apart here by hand, and not by a router: a call of an agent is what
//! a session does all day, and layers of boxed services cost it more than all that this program does for it.

use std::hash::{BuildHasher, RandomState};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, LazyLock};

use axum::Router;
use axum::body::Body;
use axum::response::Response;
use futures_util::FutureExt;
use http::Request;
use http::header::HeaderValue;
use http_body_util::BodyExt;
use hyper::body::Incoming;
use hyper::service::Service as _;
use hyper_util::service::TowerToHyperService;

use super::data::RequestBody;
use super::peer::Peer;
use super::{control, data, errors, guard, headers, shell, unread};
use crate::emulator::Emulator;
use crate::model::AccessKey;
use crate::wire::error::{AwsError, ErrorKind};

/// Both AWS planes.
pub(super) struct Planes {
    emulator: Arc<Emulator>,
    key: AccessKey,
    control: TowerToHyperService<Router>,
}

/// Who is at the other end of a connection, and what he did last.
pub(super) struct Caller {
    peer: Peer,
    aims: data::Aims,
}

impl Caller {
    pub(super) fn new(peer: Peer) -> Self {
        Self { peer, aims: data::Aims::default() }
    }
}

impl Planes {
    pub(super) fn new(emulator: Arc<Emulator>, key: AccessKey) -> Self {
        let control = control::routes()
            .merge(shell::routes())
            .fallback(unknown_operation)
            .method_not_allowed_fallback(unknown_operation)
            .with_state(emulator.clone());
        Self { emulator, key, control: TowerToHyperService::new(control) }
    }

    /// Answers a request of this caller.
    pub(super) async fn answer(&self, caller: &Caller, request: Request<Incoming>) -> Response {
        let id = request_id();
        let (request, unread) = unread::watch(request);
        let mut request = request.map(|body| body.map_err(Into::into).boxed_unsync());
        request.headers_mut().insert(headers::REQUEST_ID, id.clone());
        let answered = self.guarded(caller, request).await;
        let mut response = answered.unwrap_or_else(|refusal| errors::respond_error(&refusal));
        unread.settle(&mut response).await;
        // The same on every answer. [guide: x-amzn-RequestId]
        response.headers_mut().insert(headers::REQUEST_ID, id);
        response
    }

    async fn guarded(&self, caller: &Caller, request: Request<RequestBody>) -> Result<Response, AwsError> {
        guard::refuse_pages(&request)?;
        let request = match caller.peer {
            Peer::Owner => request,
            // Boxed, so that the usual path does not carry the size of this one.
            Peer::Stranger => guard::verified(&self.key, request).boxed().await?,
        };
        if let Some(operation) = data::Operation::of(&request) {
            return operation.run(&self.emulator, &caller.aims, request).await;
        }
        let routed = self.control.call(request.map(Body::new)).boxed().await;
        Ok(routed.unwrap_or_else(|never| match never {}))
    }
}

/// A request id of the service's form, a version 4 UUID: a count under a keyed hash that is chosen anew in each
/// process. Nobody must be unable to guess it, so it needs no system call for randomness.
fn request_id() -> HeaderValue {
    static KEY: LazyLock<RandomState> = LazyLock::new(RandomState::new);
    static COUNT: AtomicU64 = AtomicU64::new(0);
    let count = COUNT.fetch_add(1, Ordering::Relaxed);
    let id = uuid::Uuid::from_u64_pair(KEY.hash_one((count, 0_u8)), KEY.hash_one((count, 1_u8)));
    let id = uuid::Builder::from_u128(id.as_u128()).with_version(uuid::Version::Random);
    let mut text = [0; uuid::fmt::Hyphenated::LENGTH];
    let text = id.with_variant(uuid::Variant::RFC4122).into_uuid().hyphenated().encode_lower(&mut text);
    HeaderValue::from_str(text).unwrap_or_else(|_| HeaderValue::from_static("-"))
}

/// An operation that the emulator does not have, named by its method and path.
async fn unknown_operation(request: axum::extract::Request) -> Response {
    let path = request.uri().path();
    let operation = match path.rsplit('/').next() {
        Some("ws") => "InvokeAgentRuntimeWithWebSocketStream",
        Some("agent-card.json") => "GetAgentCard",
        _ => "this operation",
    };
    let path = guard::short(path);
    let message = format!("{operation} ({} {path}) is not available in this emulator", request.method());
    errors::respond_error(&AwsError::new(ErrorKind::UnknownOperation, message))
}

#[cfg(test)]
mod tests {
    use std::collections::HashSet;

    use super::*;

    #[test]
    fn request_ids_are_random_uuids_and_never_the_same() {
        let ids: HashSet<String> = (0..1000).map(|_| request_id().to_str().unwrap().to_owned()).collect();
        assert_eq!(ids.len(), 1000);
        for id in ids {
            let uuid: uuid::Uuid = id.parse().unwrap();
            assert_eq!(uuid.get_version(), Some(uuid::Version::Random), "{id}");
            assert_eq!(uuid.get_variant(), uuid::Variant::RFC4122, "{id}");
            assert_eq!(uuid.to_string(), id);
        }
    }
}
