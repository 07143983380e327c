//! Both AWS planes as one service: each request gets its id, passes the guard, and goes to its operation.
//!
//! The data plane's few operations are told apart here by hand, and not by a router: a call of an agent is what
//! a session does all day, and layers of boxed services cost it more than all that this program does for it.

use std::sync::Arc;

use axum::Router;
use axum::body::Body;
use axum::response::Response;
use futures_util::FutureExt;
use http::Request;
use http_body_util::BodyExt;
use hyper::body::Incoming;
use hyper::service::Service as _;
use hyper_util::service::TowerToHyperService;

use super::data::RequestBody;
use super::headers::RequestId;
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
    habits: data::Habits,
}

impl Caller {
    pub(super) fn new(peer: Peer) -> Self {
        Self { peer, habits: data::Habits::default() }
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
        let id = RequestId::new();
        let (request, unread) = unread::watch(request);
        let request = request.map(|body| body.map_err(Into::into).boxed_unsync());
        let answered = self.guarded(caller, request, &id).await;
        let mut response = answered.unwrap_or_else(|refusal| errors::respond_error(&refusal));
        unread.settle(&mut response).await;
        // The same on every answer. [guide: x-amzn-RequestId]
        response.headers_mut().insert(headers::REQUEST_ID, id.value().clone());
        response
    }

    async fn guarded(
        &self,
        caller: &Caller,
        request: Request<RequestBody>,
        id: &RequestId,
    ) -> Result<Response, AwsError> {
        guard::refuse_pages(&request)?;
        let request = match caller.peer {
            Peer::Owner => request,
            // Boxed, so that the usual path does not carry the size of this one.
            Peer::Stranger => guard::verified(&self.key, request).boxed().await?,
        };
        if let Some(operation) = data::Operation::of(&request) {
            return operation.run(&self.emulator, &caller.habits, request, id).await;
        }
        let mut request = request;
        request.extensions_mut().insert(id.clone());
        let routed = self.control.call(request.map(Body::new)).boxed().await;
        Ok(routed.unwrap_or_else(|never| match never {}))
    }
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
