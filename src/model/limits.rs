//! Every limit and default of the service that the emulator enforces, with its source.
//!
//! Sources: [model] is the service model that botocore ships, [quotas] the service's quota page,
//! [guide] its developer guide, [observed] what practitioners measured on the real service,
//! [ours] a choice of this emulator where the service publishes no number.

use std::time::Duration;

/// Largest request body of InvokeAgentRuntime, in bytes. [model: Body blob max 100000000]
pub const MAX_PAYLOAD_BYTES: u64 = 100_000_000;
/// Largest total output of one command response, in bytes. [quotas: response up to 100 MB]
pub const MAX_COMMAND_RESPONSE_BYTES: u64 = 100_000_000;
/// Largest chunk of output in one command event, in bytes. [quotas: 64 KB per event]
pub const MAX_COMMAND_CHUNK_BYTES: usize = 64 * 1024;
/// Shortest and longest command, in bytes. [model: 1..65536]
pub const COMMAND_BYTES: std::ops::RangeInclusive<usize> = 1..=65_536;
/// Timeout of a command, in seconds. [model: 1..3600]
pub const COMMAND_TIMEOUT_SECONDS: std::ops::RangeInclusive<u32> = 1..=3_600;
/// Timeout of a command when none is given. [model, guide: 300 s]
pub const DEFAULT_COMMAND_TIMEOUT_SECONDS: u32 = 300;
/// Largest code bundle, unpacked, in bytes. [quotas: 750 MB]
pub const MAX_CODE_BYTES: u64 = 750_000_000;
/// Memory of a session, in bytes. [quotas: 8 GB]
pub const SESSION_MEMORY_BYTES: u64 = 8 << 30;
/// Processors of a session. [quotas: 2 vCPU]
pub const SESSION_CPUS: u64 = 2;
/// Processes and threads of a session. [ours: what podman gives a container]
pub const SESSION_PROCESSES: u64 = 2048;
/// Files and directories outside the storage, in each of a session's two file systems in memory. [ours: large
/// dependency trees have a few hundred thousand, and each takes a kilobyte of the kernel's memory]
pub const SESSION_SCRATCH_FILES: u64 = 1_000_000;
/// Length of a session id. [model: request header min 33; response shape max 100]
pub const SESSION_ID_CHARS: std::ops::RangeInclusive<usize> = 33..=100;
/// Largest code bundle, zipped, in bytes. [quotas: 250 MB]
pub const MAX_ZIPPED_CODE_BYTES: u64 = 250_000_000;
/// Idle timeout and lifetime, in seconds. [model: 60..1209600]
pub const LIFECYCLE_SECONDS: std::ops::RangeInclusive<u32> = 60..=1_209_600;
/// Idle timeout when none is given, in seconds. [guide: 900]
pub const DEFAULT_IDLE_TIMEOUT_SECONDS: u32 = 900;
/// Longest life of one compute when none is given, in seconds. [guide: 28800]
pub const DEFAULT_MAX_LIFETIME_SECONDS: u32 = 28_800;
/// How long session storage lives without an invocation of its session. [guide: 14 days]
pub const STORAGE_IDLE_EXPIRY: Duration = Duration::from_secs(14 * 24 * 3600);
/// How long a code agent may take until its first healthy ping. [observed: "30s" in the error text]
pub const AGENT_INIT_TIMEOUT: Duration = Duration::from_secs(30);
/// How long the agent may take to its response head. [quotas: synchronous request 15 minutes]
pub const INVOKE_RESPONSE_TIMEOUT: Duration = Duration::from_secs(15 * 60);
/// How long a response may stream. [quotas: streaming 60 minutes]
pub const INVOKE_STREAM_TIMEOUT: Duration = Duration::from_secs(60 * 60);
/// Port of the HTTP protocol inside a session. [guide: HTTP contract]
pub const AGENT_HTTP_PORT: u16 = 8080;
/// Longest drain of a command's output after its shell has exited. [ours]
pub const COMMAND_DRAIN: Duration = Duration::from_millis(100);
/// Largest value of a forwarded allowlisted header, in bytes. [guide: 4 KB]
pub const MAX_FORWARDED_HEADER_BYTES: usize = 4096;
/// Page size of lists when `maxResults` is absent. [model: maxResults 1..100; default ours]
pub const DEFAULT_PAGE_SIZE: usize = 100;
/// Runtimes of an account. [quotas: 1,000]
pub const MAX_RUNTIMES: usize = 1_000;
/// Versions of a runtime that exist at a time. [quotas: 1,000]
pub const MAX_VERSIONS: usize = 1_000;
/// Endpoints of a runtime, DEFAULT among them. [quotas: 10]
pub const MAX_ENDPOINTS: usize = 10;
/// Tags of a resource. [model: TagsMap max 50]
pub const MAX_TAGS: usize = 50;
/// How far the emulator's clock may be ahead of real time: beyond every limit that a clock is moved for, and far from
/// the last date that can be written. [ours]
pub const MAX_CLOCK_AHEAD: Duration = Duration::from_secs(10 * 365 * 24 * 3600);
/// File systems of a runtime that are session storage. [guide: 1]
pub const MAX_SESSION_STORAGES: usize = 1;
/// File systems of a runtime. [model: FilesystemConfigurations max 5]
pub const MAX_FILESYSTEMS: usize = 5;
/// Names and values of a runtime's environment variables together, in bytes. [guide: 4 KB on platform V1]
pub const MAX_ENVIRONMENT_BYTES: usize = 4096;
/// The one port between 8000 and 12000 that no agent may use. [model: ProtocolConfiguration]
pub const RESERVED_AGENT_PORT: u16 = 8443;
/// Largest body of a control-plane request, in bytes: far above the largest input the model allows. [ours]
pub const MAX_CONTROL_BODY_BYTES: usize = 1024 * 1024;
/// How long a client token is remembered. [ours]
pub const CLIENT_TOKEN_LIFETIME: Duration = Duration::from_secs(24 * 3600);
/// Longest wait of a data-plane call for a runtime or endpoint that is CREATING. [observed: calls block
/// about 6 s until READY; the bound is ours]
pub const CREATING_WAIT: Duration = Duration::from_secs(15);
/// Shells of a runtime. [guide: 10]
pub const MAX_SHELLS: usize = 10;
/// How long a shell exists. [guide: one hour]
pub const SHELL_LIFETIME: Duration = Duration::from_secs(60 * 60);
/// Output of a shell that whoever attaches to it is shown again, in bytes. [guide: 256 KB]
pub const SHELL_REPLAY_BYTES: usize = 256 * 1024;
/// Largest frame of a shell's connection, in bytes. [guide: 64 KB]
pub const SHELL_FRAME_BYTES: usize = 64 * 1024;
/// Text frames, which mean nothing on a shell's connection, until it is closed. [guide: 5]
pub const SHELL_TEXT_FRAMES: usize = 5;
/// Frames that a connection may send in a second. [quotas: 250]
pub const SHELL_FRAMES_PER_SECOND: u32 = 250;
/// Largest image, in bytes. [quotas: 2 GB]
pub const IMAGE_BYTES: u64 = 2_000_000_000;
/// Layers of an image whose user is named and not numbered. [observed: with more "Failed to mount overlay"]
pub const IMAGE_LAYERS_OF_NAMED_USER: usize = 53;
