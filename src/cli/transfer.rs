//! Bytes into a session. The service has no operation for that: what a command is to read stands in its own
//! text where it fits, else in files that other commands wrote before.

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use futures_util::stream::{self, TryStreamExt};

use super::exit::{Class, Failure};
use super::ui::Spinner;
use crate::aws::{AwsError, CommandCall, DataClient, SessionCall};
use crate::model::{CommandEvent, CommandLine, limits};

/// Bytes in one command: four thirds of them in base64 and the text around them fit into the service's 65,536.
const PART_BYTES: usize = 48_000;
/// Commands that carry parts at the same time. [ours: below the service's 25 a second]
const AT_ONCE: usize = 8;
/// Attempts to write one part. Writing it twice does no harm.
const ATTEMPTS: usize = 3;
/// Most bytes that are carried into a session. [ours: the service's own bound of a payload]
pub(crate) const MOST_BYTES: u64 = limits::MAX_PAYLOAD_BYTES;
/// The text around inline bytes may have this much.
const FRAME_BYTES: usize = 1_000;

/// Bytes that a command can read.
pub(crate) struct Carried {
    /// A shell's text that writes them to its standard output.
    pub(crate) reader: String,
    /// A shell's text that forgets them.
    pub(crate) forget: Option<String>,
}

/// What every session must have, said by the command itself where it is missing.
pub(crate) const NEEDS: &str =
    "command -v base64 >/dev/null || { echo 'agentcore: the session has no `base64`' >&2; exit 125; }";

/// Something new to call what is carried by.
pub(crate) fn new_id() -> String {
    uuid::Uuid::new_v4().simple().to_string()
}

/// The directory of a session in which parts wait, by the id of what is carried.
fn directory(id: &str) -> String {
    format!("/tmp/.agentcore-{id}")
}

/// Makes `bytes` readable for a command that has `other` bytes of text besides.
pub(crate) async fn carry(
    data: &DataClient,
    to: &SessionCall,
    bytes: &[u8],
    other: usize,
    spinner: &Spinner,
) -> Result<Carried, Failure> {
    carry_as(&new_id(), data, to, bytes, other, spinner).await
}

/// The same under an id by which the caller can have it removed when it is given up.
pub(crate) async fn carry_as(
    id: &str,
    data: &DataClient,
    to: &SessionCall,
    bytes: &[u8],
    other: usize,
    spinner: &Spinner,
) -> Result<Carried, Failure> {
    let most = *limits::COMMAND_BYTES.end();
    if bytes.len().div_ceil(3) * 4 + other + FRAME_BYTES <= most {
        let text = STANDARD.encode(bytes);
        return Ok(Carried { reader: format!("printf %s '{text}' | base64 -d"), forget: None });
    }
    let directory = directory(id);
    let count = bytes.len().div_ceil(PART_BYTES);
    let progress = |done| spinner.progress(&format!("sending to the session: {done} of {count} parts"));
    let (first, rest) = bytes.split_at(PART_BYTES.min(bytes.len()));
    // The one that makes the directory comes alone: no other makes it anew when it has been removed meanwhile.
    write(data, to, &directory, 0, first).await?;
    let mut done = 1;
    progress(done);
    let parts = stream::iter((1..).zip(rest.chunks(PART_BYTES)).map(Ok::<_, Failure>));
    let written = parts.map_ok(|(at, part)| write(data, to, &directory, at, part));
    let mut written = written.try_buffer_unordered(AT_ONCE);
    while written.try_next().await?.is_some() {
        done += 1;
        progress(done);
    }
    Ok(Carried {
        reader: format!("cat {directory}/part.* | base64 -d"),
        forget: Some(format!("rm -rf {directory}")),
    })
}

async fn write(
    data: &DataClient,
    to: &SessionCall,
    directory: &str,
    at: usize,
    part: &[u8],
) -> Result<(), Failure> {
    // 48,000 is a multiple of three, so the parts in a row are the base64 of the whole.
    let text = STANDARD.encode(part);
    let text = keep(directory, at, &text);
    let mut attempt = 1;
    loop {
        match run(data, to, &text).await {
            Ok((0, _, _)) => return Ok(()),
            Ok((code, _, errors)) => {
                let lines = errors.lines().map(str::to_owned).collect();
                return Err(Failure::new(
                    Class::Remote,
                    format!("the session could not keep what was sent to it: exit code `{code}`"),
                )
                .details(lines));
            }
            Err(AwsError::Broken { .. } | AwsError::Timeout { .. }) if attempt < ATTEMPTS => attempt += 1,
            Err(e) => return Err(e.into()),
        }
    }
}

/// A shell's text that keeps a part. The first one makes the directory.
fn keep(directory: &str, at: usize, text: &str) -> String {
    let make = if at == 0 { format!(" && mkdir -p {directory}") } else { String::new() };
    format!("umask 077{make} && printf %s '{text}' >{directory}/part.{at:06} && {NEEDS}")
}

/// A shell's text that removes what was carried, whole or in part. What is still on its way finds no directory any more,
/// which is taken away before it is emptied.
pub(crate) fn forget(id: &str) -> String {
    let parts = directory(id);
    format!("mv {parts} {parts}.gone 2>/dev/null; rm -rf {parts}.gone")
}

/// Runs a short command; gives exit code, standard output and standard error.
pub(crate) async fn run(
    data: &DataClient,
    to: &SessionCall,
    text: &str,
) -> Result<(i32, String, String), AwsError> {
    let command = CommandLine::new(text.to_owned()).ok_or_else(|| AwsError::Request {
        operation: "InvokeAgentRuntimeCommand",
        reason: "the command is too long".to_owned(),
    })?;
    let mut stream = data.run_command(CommandCall { to: to.clone(), command, timeout: None }).await?;
    let (mut output, mut errors) = (String::new(), String::new());
    while let Some(event) = stream.next().await? {
        match event {
            CommandEvent::Start => {}
            CommandEvent::Delta(crate::model::OutputStream::Stdout, text) => output.push_str(&text),
            CommandEvent::Delta(crate::model::OutputStream::Stderr, text) => errors.push_str(&text),
            CommandEvent::Stop { exit_code, .. } => return Ok((exit_code, output, errors)),
        }
    }
    Err(AwsError::Broken {
        operation: "InvokeAgentRuntimeCommand",
        reason: "the output ended without an exit code".to_owned(),
    })
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use super::*;

    #[test]
    fn a_part_that_comes_when_it_was_given_up_leaves_nothing() {
        let id = new_id();
        let directory = directory(&id);
        let run = |text: &str| {
            let output = std::process::Command::new("sh").arg("-c").arg(text).output().unwrap();
            output.status.success()
        };
        assert!(run(&keep(&directory, 0, "aGVs")) && run(&keep(&directory, 1, "bG8=")));
        assert_eq!(std::fs::read_to_string(format!("{directory}/part.000001")).unwrap(), "bG8=");
        assert!(run(&forget(&id)));
        assert!(!run(&keep(&directory, 2, "IQ==")));
        assert!(run(&forget(&id)), "there is nothing to forget");
        assert!(!Path::new(&directory).exists() && !Path::new(&format!("{directory}.gone")).exists());
    }
}
