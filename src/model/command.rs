//! A command run inside a session, and what is heard of it.

use super::limits;
use std::time::Duration;

/// The text of a command. [model: 1..65536 bytes]
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CommandLine(String);

impl CommandLine {
    /// Takes a command of legal length without a NUL byte (no process argument can hold one).
    pub fn new(text: String) -> Option<Self> {
        (limits::COMMAND_BYTES.contains(&text.len()) && !text.contains('\0')).then_some(Self(text))
    }

    /// The text.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

/// How long a command may run, in whole seconds. [model: 1..3600, default 300]
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct CommandTimeout(u32);

impl CommandTimeout {
    /// Takes a timeout in range.
    pub fn new(seconds: u32) -> Option<Self> {
        limits::COMMAND_TIMEOUT_SECONDS.contains(&seconds).then_some(Self(seconds))
    }

    /// The timeout as a duration.
    pub fn duration(self) -> Duration {
        Duration::from_secs(u64::from(self.0))
    }
}

impl Default for CommandTimeout {
    fn default() -> Self {
        Self(limits::DEFAULT_COMMAND_TIMEOUT_SECONDS)
    }
}

/// Which stream a piece of output came from.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum OutputStream {
    /// Standard output.
    Stdout,
    /// Standard error.
    Stderr,
}

/// How a command ended, in the service's words.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum CommandStatus {
    /// The command ended by itself.
    Completed,
    /// The timeout ended it; the exit code is -1.
    TimedOut,
}

impl CommandStatus {
    /// The word on the wire.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Completed => "COMPLETED",
            Self::TimedOut => "TIMED_OUT",
        }
    }
}

/// One event of a command's response stream: `Start` first, `Stop` last, each once.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum CommandEvent {
    /// The command has begun.
    Start,
    /// A piece of output; never cut inside a UTF-8 character.
    Delta(OutputStream, String),
    /// The command has ended.
    Stop {
        /// The shell's exit code (128 + n after signal n), or -1 with `TimedOut`.
        exit_code: i32,
        /// How it ended.
        status: CommandStatus,
    },
}
