//! The data plane: invoke, command, stop.

use aws_sdk_bedrockagentcore as sdk;
use aws_sdk_bedrockagentcore::primitives::Blob;
use aws_sdk_bedrockagentcore::types::InvokeAgentRuntimeCommandStreamOutput as StreamEvent;
use bytes::Bytes;

use super::error;
use crate::model::{
    AwsError, CommandEvent, CommandLine, CommandStatus, CommandTimeout, EndpointName, OutputStream, SessionId,
};

const INVOKE: &str = "InvokeAgentRuntime";
const COMMAND: &str = "InvokeAgentRuntimeCommand";
const STOP: &str = "StopRuntimeSession";

/// A client of the data plane.
#[derive(Debug, Clone)]
pub struct DataClient {
    client: sdk::Client,
}

/// Which session of which runtime a call is for.
#[derive(Debug, Clone)]
pub struct SessionCall {
    /// The runtime's ARN.
    pub arn: String,
    /// The endpoint.
    pub qualifier: EndpointName,
    /// The session.
    pub session: SessionId,
}

/// A call of an agent.
#[derive(Debug, Clone)]
pub struct InvokeCall {
    /// Whom to call.
    pub to: SessionCall,
    /// `Content-Type` of the payload.
    pub content_type: String,
    /// `Accept`.
    pub accept: String,
    /// The payload.
    pub payload: Vec<u8>,
    /// `X-Amzn-Bedrock-AgentCore-Runtime-User-Id`.
    pub user_id: Option<String>,
    /// Further headers, which the runtime's allowlist may let through.
    pub headers: Vec<(http::HeaderName, http::HeaderValue)>,
}

/// An agent's answer; its body is still coming.
pub struct Answer {
    /// The session that answered.
    pub session: Option<String>,
    /// `Content-Type`.
    pub content_type: String,
    /// The agent's status.
    pub status: i32,
    body: sdk::primitives::ByteStream,
}

impl Answer {
    /// The next piece of the body as it arrives; nothing at its end.
    pub async fn next(&mut self) -> Result<Option<Bytes>, AwsError> {
        self.body
            .next()
            .await
            .transpose()
            .map_err(|e| AwsError::Broken { operation: INVOKE, reason: error::deepest(&e) })
    }
}

/// A command to run.
#[derive(Debug, Clone)]
pub struct CommandCall {
    /// Where.
    pub to: SessionCall,
    /// The shell's text.
    pub command: CommandLine,
    /// Its limit; the service's default when nothing is said.
    pub timeout: Option<CommandTimeout>,
}

/// The events of a running command. Dropping it makes the service end the command.
pub struct CommandStream {
    receiver: sdk::primitives::event_stream::EventReceiver<StreamEvent, StreamError>,
    /// One frame may carry both streams; the second waits here.
    waiting: Option<CommandEvent>,
}

type StreamError = sdk::types::error::InvokeAgentRuntimeCommandStreamOutputError;

impl CommandStream {
    /// The next event; nothing at the end.
    pub async fn next(&mut self) -> Result<Option<CommandEvent>, AwsError> {
        if let Some(event) = self.waiting.take() {
            return Ok(Some(event));
        }
        loop {
            let event = self.receiver.recv().await.map_err(|e| error::from_stream(COMMAND, e))?;
            let Some(event) = event else { return Ok(None) };
            // A kind of event that a later service model may add says nothing about the command.
            let StreamEvent::Chunk(chunk) = event else { continue };
            if chunk.content_start.is_some() {
                return Ok(Some(CommandEvent::Start));
            }
            if let Some(delta) = chunk.content_delta {
                let out = delta.stdout.map(|t| CommandEvent::Delta(OutputStream::Stdout, t));
                let err = delta.stderr.map(|t| CommandEvent::Delta(OutputStream::Stderr, t));
                self.waiting = if out.is_some() { err.clone() } else { None };
                if let Some(event) = out.or(err) {
                    return Ok(Some(event));
                }
            }
            if let Some(stop) = chunk.content_stop {
                let status = match stop.status {
                    sdk::types::CommandExecutionStatus::TimedOut => CommandStatus::TimedOut,
                    _ => CommandStatus::Completed,
                };
                return Ok(Some(CommandEvent::Stop { exit_code: stop.exit_code, status }));
            }
        }
    }
}

impl DataClient {
    pub(super) fn new(client: sdk::Client) -> Self {
        Self { client }
    }

    /// InvokeAgentRuntime: returns with the head of the answer.
    pub async fn invoke(&self, call: InvokeCall) -> Result<Answer, AwsError> {
        let headers = call.headers;
        let output = self
            .client
            .invoke_agent_runtime()
            .agent_runtime_arn(call.to.arn)
            .qualifier(call.to.qualifier.as_str())
            .runtime_session_id(call.to.session.as_str())
            .content_type(call.content_type)
            .accept(call.accept)
            .set_runtime_user_id(call.user_id)
            .payload(Blob::new(call.payload))
            .customize()
            .mutate_request(move |request| {
                for (name, value) in &headers {
                    // Both were parsed as HTTP; the SDK's map takes text and refuses nothing else.
                    if let Ok(value) = value.to_str() {
                        request.headers_mut().append(name.as_str().to_owned(), value.to_owned());
                    }
                }
            })
            .send()
            .await
            .map_err(|e| error::from_sdk(INVOKE, e))?;
        Ok(Answer {
            session: output.runtime_session_id,
            content_type: output.content_type,
            status: output.status_code.unwrap_or(200),
            body: output.response,
        })
    }

    /// InvokeAgentRuntimeCommand: returns when the service has taken the command.
    pub async fn run_command(&self, call: CommandCall) -> Result<CommandStream, AwsError> {
        let bad = |e: sdk::error::BuildError| AwsError::Request { operation: COMMAND, reason: e.to_string() };
        let seconds = |t: CommandTimeout| i32::try_from(t.duration().as_secs()).unwrap_or(i32::MAX);
        let body = sdk::types::InvokeAgentRuntimeCommandRequestBody::builder()
            .command(call.command.as_str())
            .set_timeout(call.timeout.map(seconds))
            .build()
            .map_err(bad)?;
        let output = self
            .client
            .invoke_agent_runtime_command()
            .agent_runtime_arn(call.to.arn)
            .qualifier(call.to.qualifier.as_str())
            .runtime_session_id(call.to.session.as_str())
            .content_type("application/json")
            .accept("application/vnd.amazon.eventstream")
            .body(body)
            .send()
            .await
            .map_err(|e| error::from_sdk(COMMAND, e))?;
        Ok(CommandStream { receiver: output.stream, waiting: None })
    }

    /// StopRuntimeSession: returns when the service says that the session has stopped.
    pub async fn stop(&self, call: SessionCall) -> Result<(), AwsError> {
        self.client
            .stop_runtime_session()
            .agent_runtime_arn(call.arn)
            .qualifier(call.qualifier.as_str())
            .runtime_session_id(call.session.as_str())
            .send()
            .await
            .map(drop)
            .map_err(|e| error::from_sdk(STOP, e))
    }
}
