//! Pure values and rules of the domain: identifiers, limits, the session state machine, times.
//!
//! Nothing here does I/O, knows HTTP, SQL or a terminal. Every value is parsed once, at the edge;
//! inner code takes these types and need not check again.

mod access_key;
mod aws_error;
mod causes;
mod command;
mod credentials;
mod ids;
pub mod limits;
mod names;
mod notices;
mod runtime;
mod session;
mod time;

pub use access_key::AccessKey;
pub use aws_error::AwsError;
pub use causes::causes;
pub use command::{CommandEvent, CommandLine, CommandStatus, CommandTimeout, OutputStream};
pub use credentials::AwsCredentials;
pub use ids::{
    AccountId, EndpointName, MountPath, ParseIdError, Partition, Region, RuntimeArn, RuntimeId, RuntimeName,
    SessionId, ShellId, Version,
};
pub use names::session_id_for_name;
pub use notices::{NOTICES_HEADER, read_notices, write_notices};
pub use runtime::{
    Artifact, ArtifactRef, HeaderAllowlist, Lifecycle, LifecycleError, RuntimeSpec, ServerProtocol,
};
pub use session::{
    EndReason, ResetReason, SessionEvent, SessionKey, SessionState, TransitionError, remarks, transition,
};
pub use time::{ParseDurationError, Timestamp, format_duration, parse_duration};
