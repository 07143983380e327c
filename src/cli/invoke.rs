//! `invoke`: calls an agent in a session.

use std::io::Read;
use std::time::Duration;

use base64::Engine;
use clap::builder::NonEmptyStringValueParser;
use http::{HeaderName, HeaderValue};
use serde_json::{Value, json};

use super::exit::{Failure, OK, Outcome};
use super::input;
use super::local::logs;
use super::sse::{SseReader, is_event_stream};
use super::target::{ChosenSession, Place, SessionChoice, Target};
use super::ui::Output;
use crate::aws::{Answer, AwsError, InvokeCall};
use crate::model::{limits, parse_duration};

/// Lines of an agent's log under the error of a call that it failed.
const LOG_LINES: usize = 20;
/// Longest answer that `--output json` puts into one document. [ours]
const MAX_DOCUMENT_BYTES: usize = 100_000_000;

/// Call an agent in a session; its answer comes as it is sent
///
/// In the emulator the agent is deployed on first use. A call that may have run is never sent again.
#[derive(clap::Args)]
#[command(after_help = "Examples:
  agentcore invoke 'remember the milk'
  agentcore invoke '{\"prompt\": \"hi\", \"stream\": true}' --session ticket-8421
  agentcore invoke @payload.json --output json | jq .response
  git diff | agentcore local invoke -
  agentcore invoke --arn arn:aws:bedrock-agentcore:us-west-2:123456789012:runtime/coder-AbCdEf0123 hello")]
pub(crate) struct InvokeArgs {
    /// Payload: JSON as it is, other text as {"prompt": …}; @FILE for a file, - for standard input
    /// [default: what is piped in, else {}]
    payload: Option<String>,
    #[command(flatten)]
    session: SessionChoice,
    /// Begin a new session
    #[arg(long, conflicts_with = "session")]
    new_session: bool,
    /// Header for the agent, where the runtime's allowlist lets it through
    #[arg(long = "header", value_name = "NAME:VALUE", value_parser = parse_header)]
    headers: Vec<(HeaderName, HeaderValue)>,
    /// End user on whose behalf the call is made
    #[arg(long, value_name = "ID", value_parser = NonEmptyStringValueParser::new())]
    user_id: Option<String>,
    /// Longest wait for the agent's answer to begin [default: 15m]
    #[arg(long, value_name = "DURATION", value_parser = parse_duration)]
    timeout: Option<Duration>,
    /// Content type of the payload, which is then sent as it is
    #[arg(long, value_name = "TYPE", value_parser = NonEmptyStringValueParser::new())]
    content_type: Option<String>,
    /// Write server-sent events byte for byte instead of their data
    #[arg(long)]
    raw: bool,
}

fn parse_header(text: &str) -> Result<(HeaderName, HeaderValue), String> {
    let (name, value) = text.split_once(':').ok_or("expected `NAME:VALUE`")?;
    let name = name.trim().parse().map_err(|_| format!("`{}` is not a header's name", name.trim()))?;
    let value = HeaderValue::from_str(value.trim())
        .ok()
        .filter(|v| v.to_str().is_ok())
        .ok_or("the value has characters that no header can hold")?;
    Ok((name, value))
}

impl InvokeArgs {
    pub(crate) fn exec(self, place: &Place<'_>) -> Outcome {
        place.context().block_on(async {
            let (payload, content_type) = self.read_payload(place).await?;
            let mut target = place.target_with_code().await?;
            if let Some(limit) = self.timeout {
                target.connection = target.connection.with_read_timeout(limit);
            }
            let session = target.session(self.session.session.as_deref(), self.new_session);
            target.remember(&session, &self.session.endpoint.qualifier)?;
            let context = place.context();
            let _words = context.last_words(format!("stopped waiting; session {} goes on", session.shown()));
            let ui = &context.ui;
            ui.note(format!("session: {}", session.shown()));
            let call = InvokeCall {
                to: target.call(&session.id, &self.session.endpoint.qualifier),
                content_type,
                accept: "text/event-stream, application/json, */*".into(),
                payload,
                user_id: self.user_id.clone(),
                headers: self.headers.clone(),
            };
            let data = target.connection.data();
            let spinner = ui.spinner("waiting for the agent");
            let answer = data.invoke(call).await;
            drop(spinner);
            match answer {
                Ok(answer) => self.show(place, answer, &session).await,
                Err(e) => Err(explain(place, &target, &session, e).await),
            }
        })
    }

    /// The payload's bytes and their content type.
    async fn read_payload(&self, place: &Place<'_>) -> Result<(Vec<u8>, String), Failure> {
        let most = limits::MAX_PAYLOAD_BYTES;
        let unreadable = |what: &str, e: std::io::Error| {
            Failure::failed(format!("the payload cannot be read from {what}: {e}"))
                .hint("`@FILE` reads a file and `-` standard input; other text is sent as it is")
        };
        let mut bytes = Vec::new();
        match self.payload.as_deref() {
            None if input::is_piped() => {
                bytes = input::read_all(place.context(), most, "a payload as argument goes without").await?;
                if bytes.is_empty() {
                    bytes.extend_from_slice(b"{}");
                }
            }
            None => bytes.extend_from_slice(b"{}"),
            Some("-") => bytes = input::read_all(place.context(), most, "the payload").await?,
            Some(text) => match text.strip_prefix('@') {
                Some(file) => {
                    let path = place.context().env.directory()?.join(file);
                    let what = format!("`{file}`");
                    let input = std::fs::File::open(path).map_err(|e| unreadable(&what, e))?;
                    input.take(most + 1).read_to_end(&mut bytes).map_err(|e| unreadable(&what, e))?;
                }
                None => bytes.extend_from_slice(text.as_bytes()),
            },
        }
        if bytes.len() as u64 > most {
            return Err(Failure::usage(format!("the payload is longer than {} MB", most / 1_000_000)));
        }
        Ok(match &self.content_type {
            Some(content_type) => (bytes, content_type.clone()),
            None => payload(bytes),
        })
    }

    async fn show(&self, place: &Place<'_>, mut answer: Answer, session: &ChosenSession) -> Outcome {
        let ui = &place.context().ui;
        let events = is_event_stream(&answer.content_type);
        let head = json!({
            "sessionId": answer.session.as_deref().unwrap_or(session.id.as_str()),
            "name": session.name,
            "contentType": answer.content_type,
            "statusCode": answer.status,
        });
        let output = ui.output();
        if ui.is_json() && !events {
            let body = collect(place, &mut answer).await?;
            let mut document = head;
            if let Some(map) = document.as_object_mut() {
                let (key, value) = body_value(&body);
                map.insert(key.to_owned(), value);
            }
            output.line(&format!("{document:#}")).await?;
            output.written().await?;
            return Ok(OK);
        }
        if ui.is_json() {
            output.event(&head).await?;
        }
        let streamed = self.stream(place, &mut answer, &output, events).await;
        // What has come is shown, however the answer ended.
        let written = output.written().await;
        let last = streamed?;
        written?;
        // On a terminal the prompt would stand right behind the answer.
        if last.is_some_and(|l| l != b'\n') {
            ui.end_terminal_line();
        }
        Ok(OK)
    }

    /// Writes the answer as it comes; gives its last byte where it is written as it is.
    async fn stream(
        &self,
        place: &Place<'_>,
        answer: &mut Answer,
        output: &Output,
        events: bool,
    ) -> Result<Option<u8>, Failure> {
        let ui = &place.context().ui;
        let mut reader = (events && (ui.is_json() || !self.raw)).then(SseReader::default);
        let one = |data: String| match ui.is_json() {
            true => json!({ "data": parsed(&data) }).to_string(),
            false => data,
        };
        let mut last = None;
        loop {
            let piece = output.until(answer.next()).await?.map_err(|e| place.failure(e))?;
            let Some(bytes) = piece else { break };
            match &mut reader {
                Some(reader) => {
                    for data in reader.push(&bytes)? {
                        output.line(&one(data)).await?;
                    }
                }
                None => {
                    last = bytes.last().copied().or(last);
                    output.bytes(bytes).await?;
                }
            }
        }
        if let Some(data) = reader.and_then(SseReader::finish) {
            output.line(&one(data)).await?;
        }
        Ok(last)
    }
}

/// JSON goes as it is, other text as a prompt, anything else as bytes.
fn payload(bytes: Vec<u8>) -> (Vec<u8>, String) {
    let json = "application/json".to_owned();
    if serde_json::from_slice::<serde::de::IgnoredAny>(&bytes).is_ok() {
        return (bytes, json);
    }
    match String::from_utf8(bytes) {
        Ok(text) => (json!({ "prompt": text }).to_string().into_bytes(), json),
        Err(e) => (e.into_bytes(), "application/octet-stream".to_owned()),
    }
}

async fn collect(place: &Place<'_>, answer: &mut Answer) -> Result<Vec<u8>, Failure> {
    let mut body = Vec::new();
    while let Some(bytes) = answer.next().await.map_err(|e| place.failure(e))? {
        body.extend_from_slice(&bytes);
        if body.len() > MAX_DOCUMENT_BYTES {
            let most = MAX_DOCUMENT_BYTES / 1_000_000;
            return Err(Failure::failed(format!(
                "the answer has more than {most} MB, too much for one document"
            ))
            .hint("use `--output text`, which streams"));
        }
    }
    Ok(body)
}

/// An answer's body in a document, and the key that says what it is.
fn body_value(body: &[u8]) -> (&'static str, Value) {
    match std::str::from_utf8(body) {
        Ok(text) => ("response", parsed(text)),
        Err(_) => {
            let text = base64::engine::general_purpose::STANDARD.encode(body);
            ("responseBase64", Value::String(text))
        }
    }
}

/// JSON where the text is JSON, else the text.
fn parsed(text: &str) -> Value {
    serde_json::from_str(text).unwrap_or_else(|_| Value::String(text.to_owned()))
}

/// The failure of a call; with the agent's own last words where the agent is to blame and they can be had.
async fn explain(place: &Place<'_>, target: &Target, session: &ChosenSession, error: AwsError) -> Failure {
    let blame = error.name() == Some("RuntimeClientError");
    let failure = place.failure(error);
    if !blame {
        return failure;
    }
    let all = format!("`{} logs --session {}` shows all that the agent wrote", place.program(), session.id);
    let Place::Local(local) = place else { return failure.hint(all) };
    // The log is an extra: when it cannot be had, the error stands by itself.
    let lines =
        logs::last_lines(local, target.arn.id.as_str(), &session.id, LOG_LINES).await.unwrap_or_default();
    let silent = lines.iter().any(|line| line.contains("gave no healthy ping"));
    let hint = if silent {
        format!("an agent answers `GET /ping` on port {}, address 0.0.0.0; {all}", limits::AGENT_HTTP_PORT)
    } else {
        all
    };
    failure.details(lines).hint(hint)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn json_goes_as_it_is_and_text_becomes_a_prompt() {
        let sent = |text: &[u8]| {
            let (bytes, content_type) = payload(text.to_vec());
            (String::from_utf8_lossy(&bytes).into_owned(), content_type)
        };
        for json in ["{\"a\": 1}", "[1]", "\"text\"", "42", " {} \n"] {
            assert_eq!(sent(json.as_bytes()), (json.to_owned(), "application/json".to_owned()));
        }
        let (body, _) = sent("say \"hi\"\n".as_bytes());
        assert_eq!(serde_json::from_str::<Value>(&body).unwrap(), json!({ "prompt": "say \"hi\"\n" }));
        assert_eq!(sent(b"").0, "{\"prompt\":\"\"}");
        assert_eq!(payload(vec![0xff, 0xfe]), (vec![0xff, 0xfe], "application/octet-stream".to_owned()));
    }

    #[test]
    fn headers_are_parsed_at_the_edge() {
        let (name, value) = parse_header("X-Tenant:  acme ").unwrap();
        assert_eq!((name.as_str(), value.to_str().unwrap()), ("x-tenant", "acme"));
        for bad in ["X-Tenant", "a b: c", "x: \u{1}", "x: é"] {
            assert!(parse_header(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn bodies_keep_their_meaning_in_a_document() {
        assert_eq!(body_value(b"{\"a\":1}"), ("response", json!({ "a": 1 })));
        assert_eq!(body_value(b"plain"), ("response", json!("plain")));
        assert_eq!(body_value(&[0xff]), ("responseBase64", json!("/w==")));
    }
}
