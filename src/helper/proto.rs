//! The messages between an emulator and the helper of a session.
//!
//! A message is a JSON value behind its length. Requests carry numbers chosen by the emulator; an answer
//! repeats the number, so that any number of requests can be under way. A process keeps the number of the
//! request that started it.

use std::time::Duration;

use serde::{Deserialize, Serialize};

/// Environment variable that marks every process of a tree with the number of its spawn request.
pub const PROCESS_TAG: &str = "AGENTCORE_PROCESS";
/// Largest message, in bytes. [ours: a command of 65,536 bytes, each escaped to six, and its environment
/// fit in well; it bounds what either side can make the other hold]
pub const MAX_MESSAGE_BYTES: usize = 2 * 1024 * 1024;
/// Most file descriptors that come with one message. [ours: a spawn has four]
pub const MAX_MESSAGE_FDS: usize = 4;
/// Longest wait for a connection inside a session. [ours: loopback answers at once unless the listener's
/// queue is full]
pub const CONNECT_LIMIT: Duration = Duration::from_secs(5);
/// Grace of a session whose emulator has died. [ours: the default stop grace]
pub const ORPHAN_GRACE: Duration = Duration::from_secs(10);
/// Longest grace. [ours: an hour; it keeps deadlines computable whatever is asked]
pub const MAX_GRACE: Duration = Duration::from_secs(3600);
/// Most bytes that wait for an emulator that does not read. [ours]
pub const MAX_UNSENT_BYTES: usize = 8 * 1024 * 1024;

/// What an emulator asks of a helper.
#[derive(Debug, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", rename_all_fields = "camelCase", tag = "kind")]
pub enum Request {
    /// Start a process; four descriptors come along: the writing ends of its standard output and its
    /// standard error, and the reading ends, which the helper empties once nobody else does.
    Spawn {
        /// Number of the request and of the process.
        id: u64,
        /// Program and arguments.
        argv: Vec<String>,
        /// Added to the session's environment.
        environment: Vec<(String, String)>,
        /// Working directory.
        working_directory: String,
        /// Who it runs as, in the words of an image: a name or number, perhaps with a group behind `:`. The
        /// session's root when nothing is said.
        #[serde(default)]
        user: Option<String>,
    },
    /// Start a process on a terminal of its own; the terminal's other side comes with the answer.
    SpawnTerminal {
        /// Number of the request and of the process.
        id: u64,
        /// Program and arguments.
        argv: Vec<String>,
        /// Added to the session's environment.
        environment: Vec<(String, String)>,
        /// Working directory.
        working_directory: String,
        /// Columns.
        width: u16,
        /// Rows.
        height: u16,
    },
    /// Give the terminal of a process another size. For a relay, which holds it; whoever gets the terminal itself from a
    /// helper sets it himself.
    Resize {
        /// Number of the process.
        process: u64,
        /// Columns.
        width: u16,
        /// Rows.
        height: u16,
    },
    /// SIGKILL to a process and all that descends from it; answered when they are gone.
    Kill {
        /// Number of the request.
        id: u64,
        /// Number of the process.
        process: u64,
    },
    /// The emulator reads an output of a process no longer: what is still written goes nowhere, and neither
    /// ends the writer (SIGPIPE) nor makes it wait.
    Release {
        /// Number of the process.
        process: u64,
        /// Standard error, else standard output.
        errors: bool,
    },
    /// Open a connection to a port of the session's loopback; it comes with the answer.
    Connect {
        /// Number of the request.
        id: u64,
        /// The port.
        port: u16,
    },
    /// Make the session storage appear.
    MountStorage {
        /// Number of the request.
        id: u64,
    },
    /// SIGTERM to every process, SIGKILL to what is left after the grace; then the helper ends.
    Terminate {
        /// The grace.
        grace_millis: u64,
    },
}

/// What a helper reports.
#[derive(Debug, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", rename_all_fields = "camelCase", tag = "kind")]
pub enum Report {
    /// The session stands and takes requests. A listener on its loopback comes along where one was asked for.
    Ready,
    /// A request was done. For [`Request::Connect`] the connection comes along, for [`Request::SpawnTerminal`]
    /// the terminal.
    Done {
        /// Number of the request.
        id: u64,
    },
    /// A request failed.
    Failed {
        /// Number of the request.
        id: u64,
        /// Why.
        failure: Failure,
    },
    /// A process has ended.
    Exited {
        /// Number of the process.
        process: u64,
        /// How.
        exit: Exit,
    },
}

/// Why a request failed.
#[derive(Debug, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", rename_all_fields = "camelCase", tag = "kind")]
pub enum Failure {
    /// Nothing listens on the port.
    Refused,
    /// Somebody listens on the port who is not of the session.
    Taken,
    /// The session is being ended.
    Ending,
    /// The request makes no sense, in words.
    Invalid {
        /// What is wrong.
        reason: String,
    },
    /// The system refused a step.
    System {
        /// The step.
        step: Step,
        /// The error number.
        errno: i32,
    },
}

/// The steps of a request that the system can refuse.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub enum Step {
    /// Entering the working directory.
    WorkingDirectory,
    /// Becoming its user.
    User,
    /// Executing the program.
    Execute,
    /// Making the terminal.
    Terminal,
    /// Making the process.
    Fork,
    /// Taking from the process what sessions may not do.
    Confine,
    /// Opening the connection.
    Connect,
    /// Mounting.
    Mount,
}

/// How a process ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub enum Exit {
    /// It exited with this code.
    Code(i32),
    /// This signal ended it.
    Signal(i32),
}
