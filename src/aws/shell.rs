//! The WebSocket connection of InvokeAgentRuntimeCommandShell, which the SDK's model does not have: signed as the
//! SDK signs, over the same network.

use std::time::{Duration, SystemTime};

use aws_credential_types::provider::ProvideCredentials;
use aws_sigv4::http_request::{SignableBody, SignableRequest, SigningSettings, sign};
use aws_sigv4::sign::v4;
use bytes::Bytes;
use futures_util::{SinkExt, StreamExt};
use http::{HeaderName, HeaderValue, Uri};
use percent_encoding::{AsciiSet, NON_ALPHANUMERIC, utf8_percent_encode};
use tokio_tungstenite::tungstenite::client::IntoClientRequest;
use tokio_tungstenite::tungstenite::protocol::{CloseFrame, Message, frame::coding::CloseCode};
use tokio_tungstenite::tungstenite::{Error as SocketError, handshake};
use tokio_tungstenite::{WebSocketStream, client_async};

use super::network::Stream;
use super::{AwsError, CONNECT_TIMEOUT, Connection, SessionCall, error};

const SHELL: &str = "InvokeAgentRuntimeCommandShell";
/// The name that both planes are signed for. [model]
const SIGNING_NAME: &str = "bedrock-agentcore";
const SESSION_ID: HeaderName = HeaderName::from_static("x-amzn-bedrock-agentcore-runtime-session-id");
/// What stands in a path segment as it is. [RFC 3986: unreserved]
const SEGMENT: &AsciiSet = &NON_ALPHANUMERIC.remove(b'-').remove(b'_').remove(b'.').remove(b'~');
/// Longest wait for the answer to the upgrade: a session may have to start. [ours]
const UPGRADE_TIMEOUT: Duration = Duration::from_secs(180);

/// A connection to a shell.
pub struct ShellConnection {
    socket: WebSocketStream<Box<dyn Stream>>,
}

/// What came over a connection.
#[derive(Debug)]
pub enum ShellMessage {
    /// A frame.
    Frame(Bytes),
    /// The other side closed the connection, with a code where it said one.
    Closed(Option<u16>),
}

impl Connection {
    /// Connects to a shell of a session. Both are made where they are not there.
    pub async fn open_shell(&self, to: &SessionCall, shell_id: &str) -> Result<ShellConnection, AwsError> {
        let uri = self.shell_uri(to, shell_id)?;
        let mut request = format!("ws{}", uri.strip_prefix("http").unwrap_or(&uri))
            .into_client_request()
            .map_err(|e| bad(&e))?;
        let session = HeaderValue::from_str(to.session.as_str()).map_err(|e| bad(&e))?;
        request.headers_mut().insert(SESSION_ID, session);
        for (name, value) in self.shell_signature(&uri, to).await? {
            request.headers_mut().insert(name, value);
        }
        let unconnected = |reason: String| AwsError::Connect { operation: SHELL, reason };
        let at: Uri = uri.parse().map_err(|e| bad(&e))?;
        let stream = tokio::time::timeout(CONNECT_TIMEOUT, self.network.connect(&at))
            .await
            .map_err(|_| unconnected("it took too long".to_owned()))?
            .map_err(unconnected)?;
        let upgraded = tokio::time::timeout(UPGRADE_TIMEOUT, client_async(request, stream)).await;
        match upgraded.map_err(|_| AwsError::Timeout { operation: SHELL })? {
            Ok((socket, _)) => Ok(ShellConnection { socket }),
            Err(SocketError::Http(response)) => Err(refused(&response)),
            Err(e) => Err(broken(&e)),
        }
    }

    fn shell_uri(&self, to: &SessionCall, shell_id: &str) -> Result<String, AwsError> {
        let region = self.region();
        let suffix = if region.starts_with("cn-") { "amazonaws.com.cn" } else { "amazonaws.com" };
        let endpoint = match self.endpoint().or(self.shells.as_deref()) {
            Some(endpoint) => endpoint.trim_end_matches('/').to_owned(),
            None => format!("https://{SIGNING_NAME}.{region}.{suffix}"),
        };
        if !endpoint.starts_with("http://") && !endpoint.starts_with("https://") {
            return Err(bad(&format!("`{endpoint}` is not an HTTP address")));
        }
        let arn = utf8_percent_encode(&to.arn, SEGMENT);
        let qualifier = utf8_percent_encode(to.qualifier.as_str(), SEGMENT);
        let shell_id = utf8_percent_encode(shell_id, SEGMENT);
        Ok(format!("{endpoint}/runtimes/{arn}/ws/shells?qualifier={qualifier}&shellId={shell_id}"))
    }

    /// The headers that say who asks.
    async fn shell_signature(
        &self,
        uri: &str,
        to: &SessionCall,
    ) -> Result<Vec<(HeaderName, HeaderValue)>, AwsError> {
        let mut headers = Vec::new();
        let mut add = |name: &str, value: &str| -> Result<(), AwsError> {
            let name = HeaderName::from_bytes(name.as_bytes()).map_err(|e| bad(&e))?;
            headers.push((name, HeaderValue::from_str(value).map_err(|e| bad(&e))?));
            Ok(())
        };
        if let Some(token) = &self.bearer {
            add("authorization", &format!("Bearer {}", token.0))?;
            return Ok(headers);
        }
        let Some(provider) = self.base.credentials_provider() else { return Ok(headers) };
        let credentials = provider.provide_credentials().await;
        let credentials = credentials.map_err(|e| error::from_credentials("the credential chain", &e))?;
        let identity = credentials.into();
        let params = v4::SigningParams::builder()
            .identity(&identity)
            .region(self.region())
            .name(SIGNING_NAME)
            .time(SystemTime::now())
            .settings(SigningSettings::default())
            .build()
            .map_err(|e| bad(&e))?
            .into();
        let signed = [("x-amzn-bedrock-agentcore-runtime-session-id", to.session.as_str())];
        let request = SignableRequest::new("GET", uri, signed.into_iter(), SignableBody::Bytes(&[]));
        let output = sign(request.map_err(|e| bad(&e))?, &params).map_err(|e| bad(&e))?;
        let (instructions, _) = output.into_parts();
        for (name, value) in instructions.headers() {
            add(name, value)?;
        }
        Ok(headers)
    }
}

impl ShellConnection {
    /// The next message.
    pub async fn next(&mut self) -> Result<ShellMessage, AwsError> {
        loop {
            match self.socket.next().await {
                Some(Ok(Message::Binary(bytes))) => return Ok(ShellMessage::Frame(bytes)),
                Some(Ok(Message::Close(frame))) => {
                    return Ok(ShellMessage::Closed(frame.map(|f| f.code.into())));
                }
                // Pings are answered by the library, and text means nothing here.
                Some(Ok(_)) => {}
                Some(Err(e)) => return Err(broken(&e)),
                None => return Ok(ShellMessage::Closed(None)),
            }
        }
    }

    /// Sends a frame.
    pub async fn send(&mut self, frame: Vec<u8>) -> Result<(), AwsError> {
        self.socket.send(Message::Binary(frame.into())).await.map_err(|e| broken(&e))
    }

    /// A sign of life, without which a proxy on the way gives the connection up.
    pub async fn ping(&mut self) -> Result<(), AwsError> {
        self.socket.send(Message::Ping(Bytes::new())).await.map_err(|e| broken(&e))
    }

    /// Leaves; the shell runs on.
    pub async fn close(&mut self) {
        let frame = CloseFrame { code: CloseCode::Normal, reason: "".into() };
        // Who cannot be told finds out.
        let _ = self.socket.close(Some(frame)).await;
    }
}

/// The service's error in place of an upgrade.
fn refused(response: &handshake::client::Response) -> AwsError {
    let header = |name: &str| response.headers().get(name).and_then(|v| v.to_str().ok()).map(str::to_owned);
    let status = response.status().as_u16();
    let body = response.body().as_deref().unwrap_or_default();
    let message = serde_json::from_slice::<serde_json::Value>(body)
        .ok()
        .and_then(|v| v.get("message")?.as_str().map(str::to_owned))
        .or_else(|| header("x-amzn-errormessage"));
    let name = header("x-amzn-errortype").map(|n| n.split(':').next().unwrap_or_default().to_owned());
    AwsError::Service {
        operation: SHELL,
        name: name.unwrap_or_else(|| format!("HTTP {status}")),
        message: message.unwrap_or_else(|| "the service gave no message".to_owned()),
        status: Some(status),
        request_id: header("x-amzn-requestid"),
    }
}

fn bad(error: &dyn std::fmt::Display) -> AwsError {
    AwsError::Request { operation: SHELL, reason: error.to_string() }
}

fn broken(error: &dyn std::fmt::Display) -> AwsError {
    AwsError::Broken { operation: SHELL, reason: error.to_string() }
}
