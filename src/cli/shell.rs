//! `shell`: an interactive terminal in a session.

use std::time::Duration;

use serde_json::json;
use tokio::signal::unix::{SignalKind, signal};
use tokio::sync::mpsc;

use super::Context;
use super::exit::{Class, Failure, OK, Outcome};
use super::target::{ChosenSession, Place, SessionChoice, Target};
use super::terminal::{self, Raw};
use crate::aws::{AwsError, ShellConnection, ShellMessage};
use crate::model::{EndpointName, ShellId};
use crate::wire::shell::{self as protocol, ShellFrame, ShellStatus, close};

/// The key that leaves the shell running: Ctrl and `]`.
const DETACH: u8 = 0x1d;
/// Bytes of input in one frame. [guide: one page says 64 KB, another 32 KB]
const PIECE: usize = 32 * 1024 - 1;
/// Time between two signs of life. [guide: the service gives up connections that are silent]
const PING: Duration = Duration::from_secs(30);
/// Pauses before the attempts to connect again. [the official client: 1 s, doubled, at most 15 s, five times]
const PAUSES: [Duration; 5] = [
    Duration::from_secs(1),
    Duration::from_secs(2),
    Duration::from_secs(4),
    Duration::from_secs(8),
    Duration::from_secs(15),
];
/// Empties the screen before what was on it is shown again.
const CLEAR: &[u8] = b"\x1b[H\x1b[2J";

/// Open an interactive shell in a session; Ctrl+] leaves it running
///
/// The shell lives on when the connection is lost, for up to an hour: `--reattach` comes back to the one that was left
/// last, and what it has shown since is shown again. Its exit code is ours.
#[derive(clap::Args)]
#[command(after_help = "Examples:
  agentcore shell
  agentcore shell --session ticket-8421 --reattach
  agentcore local shell --shell-id build")]
pub(crate) struct ShellArgs {
    #[command(flatten)]
    session: SessionChoice,
    /// Begin a new session
    #[arg(long, conflicts_with_all = ["session", "reattach"])]
    new_session: bool,
    /// Name of the shell; one that is there is taken over [default: a new one]
    #[arg(long, value_name = "ID")]
    shell_id: Option<ShellId>,
    /// Come back to the shell of this session that was left last
    #[arg(long, conflicts_with = "shell_id")]
    reattach: bool,
}

/// How a visit of a shell ended.
enum Visit {
    /// The shell has ended.
    Exit(i32),
    /// Ctrl+].
    Detached,
    /// The other side closed the connection for good, for this reason.
    Closed(&'static str),
    /// The connection was lost.
    Lost(String),
}

impl ShellArgs {
    pub(crate) fn exec(self, place: &Place<'_>) -> Outcome {
        let context = place.context();
        if !terminal::is_interactive() {
            return Err(Failure::usage("`shell` needs a terminal for its input and its output")
                .hint(format!("`{} exec` runs commands without one", place.program())));
        }
        context.block_on(async {
            let target = place.target_with_code().await?;
            let session = target.session(self.session.session.as_deref(), self.new_session);
            let qualifier = &self.session.endpoint.qualifier;
            let shell = self.shell(&target, &session)?;
            target.remember(&session, qualifier)?;
            let words = context.last_words("stopped waiting for the shell");
            context.ui.note(format!("session: {}", session.shown()));
            let spinner = context.ui.spinner("waiting for the session");
            let connected = connect(&target, &session, qualifier, &shell).await;
            drop((spinner, words));
            let connection = connected.map_err(|e| place.failure(e))?;
            context.ui.note("Ctrl+] leaves the shell running");
            let visit = Visitor { context, target: &target, session: &session, qualifier, shell: &shell };
            let end = {
                let _raw = Raw::enter()?;
                visit.run(connection).await
            };
            self.tell(place, &visit, end?)
        })
    }

    fn shell(&self, target: &Target, session: &ChosenSession) -> Result<ShellId, Failure> {
        if !self.reattach {
            return Ok(self.shell_id.clone().unwrap_or_else(ShellId::random));
        }
        let left = target.memory.as_ref().and_then(|m| m.shell(&session.id));
        left.and_then(|id| id.parse().ok()).ok_or_else(|| {
            Failure::failed(format!("no shell of session {} was left running", session.shown()))
                .hint("leave `--reattach` out to open one")
        })
    }

    fn tell(&self, place: &Place<'_>, visit: &Visitor<'_>, end: Visit) -> Outcome {
        let ui = &visit.context.ui;
        let memory = visit.target.memory.as_ref();
        let (session, shell) = (visit.session, visit.shell);
        let back =
            || format!("`{} shell --session {} --reattach` comes back", place.program(), session.label());
        let value = |detached: bool, code: Option<i32>| json!({ "sessionId": session.id, "name": session.name, "shellId": shell, "detached": detached, "exitCode": code });
        let left = matches!(end, Visit::Detached | Visit::Lost(_));
        if let Some(memory) = memory {
            memory.note_shell(&session.id, left.then_some(shell.as_str()))?;
        }
        match end {
            Visit::Exit(code) => {
                ui.note(format!("the shell has ended with exit code {code}"));
                if ui.is_json() {
                    ui.event(&value(false, Some(code)))?;
                }
                u8::try_from(code).or(Ok(Class::Failed.code()))
            }
            Visit::Detached => {
                ui.note(format!("left the shell running; {}", back()));
                if ui.is_json() {
                    ui.event(&value(true, None))?;
                }
                Ok(OK)
            }
            Visit::Closed(reason) => Err(Failure::new(Class::Remote, reason)),
            Visit::Lost(reason) => {
                let message = format!("the connection to the shell was lost: {reason}");
                Err(Failure::new(Class::Remote, message).hint(back()))
            }
        }
    }
}

async fn connect(
    target: &Target,
    session: &ChosenSession,
    qualifier: &EndpointName,
    shell: &ShellId,
) -> Result<ShellConnection, AwsError> {
    let to = target.call(&session.id, qualifier);
    let mut connection = target.connection.open_shell(&to, shell.as_str()).await?;
    let (width, height) = terminal::size();
    connection.send(ShellFrame::Resize(&protocol::resize(width, height)).to_bytes()).await?;
    Ok(connection)
}

/// Somebody who looks at a shell.
struct Visitor<'a> {
    context: &'a Context,
    target: &'a Target,
    session: &'a ChosenSession,
    qualifier: &'a EndpointName,
    shell: &'a ShellId,
}

impl Visitor<'_> {
    /// Until the shell or the visit ends; a connection that is lost is made again.
    async fn run(&self, connection: ShellConnection) -> Result<Visit, Failure> {
        let failed = |e| Failure::failed(format!("signals cannot be heard: {e}"));
        let mut resized = signal(SignalKind::window_change()).map_err(failed)?;
        let mut keys = terminal::typed();
        let mut connection = connection;
        loop {
            let lost = match self.look(&mut connection, &mut keys, &mut resized).await? {
                Visit::Lost(reason) => reason,
                end => return Ok(end),
            };
            match self.again(&mut keys, lost).await? {
                Ok(made) => connection = made,
                Err(end) => return Ok(end),
            }
        }
    }

    async fn look(
        &self,
        connection: &mut ShellConnection,
        keys: &mut mpsc::Receiver<Vec<u8>>,
        resized: &mut tokio::signal::unix::Signal,
    ) -> Result<Visit, Failure> {
        let ui = &self.context.ui;
        let mut ping = tokio::time::interval(PING);
        loop {
            let sent = tokio::select! {
                message = connection.next() => match message {
                    Ok(ShellMessage::Frame(frame)) => match ShellFrame::parse(&frame) {
                        Some(ShellFrame::Stdout(bytes)) => { ui.bytes(bytes)?; Ok(()) }
                        Some(ShellFrame::Stderr(bytes)) => { ui.error_bytes(bytes)?; Ok(()) }
                        Some(ShellFrame::Status(status)) => match protocol::read_status(status) {
                            Some(ShellStatus::Ended { code }) => return Ok(Visit::Exit(code)),
                            Some(ShellStatus::Failed { message }) => return Ok(Visit::Lost(message)),
                            _ => Ok(()),
                        },
                        Some(ShellFrame::Close) => {
                            return Ok(Visit::Closed("the session of the shell was ended, or the shell's hour is over"));
                        }
                        _ => Ok(()),
                    },
                    Ok(ShellMessage::Closed(Some(close::TAKEN))) => {
                        return Ok(Visit::Closed("another terminal has taken the shell over"));
                    }
                    Ok(ShellMessage::Closed(Some(close::POLICY))) => {
                        return Ok(Visit::Closed("the service closed the connection: the shell's hour is over, or it was sent too much"));
                    }
                    Ok(ShellMessage::Closed(Some(close::TOO_BIG | close::NOT_BINARY))) => {
                        return Ok(Visit::Closed("the service did not take what it was sent"));
                    }
                    Ok(ShellMessage::Closed(Some(close::NORMAL))) => {
                        return Ok(Visit::Closed("the service closed the connection"));
                    }
                    Ok(ShellMessage::Closed(_)) => return Ok(Visit::Lost("it was closed".to_owned())),
                    Err(e) => return Ok(Visit::Lost(e.to_string())),
                },
                typed = keys.recv() => match typed {
                    Some(typed) => match typed.iter().position(|b| *b == DETACH) {
                        Some(_) => {
                            connection.close().await;
                            return Ok(Visit::Detached);
                        }
                        None => type_in(connection, &typed).await,
                    },
                    // The terminal has gone, and whoever sat at it.
                    None => {
                        connection.close().await;
                        return Ok(Visit::Detached);
                    }
                },
                _ = resized.recv() => {
                    let (width, height) = terminal::size();
                    connection.send(ShellFrame::Resize(&protocol::resize(width, height)).to_bytes()).await
                }
                _ = ping.tick() => connection.ping().await,
            };
            if let Err(e) = sent {
                return Ok(Visit::Lost(e.to_string()));
            }
        }
    }

    /// Makes a lost connection again, or says how the visit has ended.
    async fn again(
        &self,
        keys: &mut mpsc::Receiver<Vec<u8>>,
        reason: String,
    ) -> Result<Result<ShellConnection, Visit>, Failure> {
        let ui = &self.context.ui;
        let mut reason = reason;
        for pause in PAUSES {
            ui.error_bytes(format!("\r\n[{reason}; connecting again, Ctrl+] gives up]\r\n").as_bytes())?;
            let made = async {
                tokio::time::sleep(pause).await;
                connect(self.target, self.session, self.qualifier, self.shell).await
            };
            let given_up = async {
                while let Some(typed) = keys.recv().await {
                    if typed.contains(&DETACH) {
                        return;
                    }
                }
            };
            tokio::select! {
                made = made => match made {
                    Ok(connection) => {
                        ui.bytes(CLEAR)?;
                        return Ok(Ok(connection));
                    }
                    Err(e @ (AwsError::Service { .. } | AwsError::Request { .. } | AwsError::Credentials { .. })) => {
                        return Ok(Err(Visit::Lost(e.to_string())));
                    }
                    Err(e) => reason = e.to_string(),
                },
                () = given_up => return Ok(Err(Visit::Detached)),
            }
        }
        Ok(Err(Visit::Lost(reason)))
    }
}

async fn type_in(connection: &mut ShellConnection, typed: &[u8]) -> Result<(), AwsError> {
    for piece in typed.chunks(PIECE) {
        connection.send(ShellFrame::Stdin(piece).to_bytes()).await?;
    }
    Ok(())
}
