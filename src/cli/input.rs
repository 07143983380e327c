//! Standard input, where something is piped into a verb.

use std::io::Read;
use std::os::fd::AsFd;
use std::time::Duration;

use nix::sys::stat::{SFlag, fstat};

use super::Context;
use super::exit::Failure;

/// How long a pipe may say nothing until the person who may have forgotten it is told what is waited for.
const PATIENCE: Duration = Duration::from_secs(2);

/// True when standard input is a file or a pipe. A terminal is a person, and `/dev/null` and sockets are how
/// programs that run others say that there is nothing.
pub(crate) fn is_piped() -> bool {
    let kind = fstat(std::io::stdin().as_fd()).map(|stat| SFlag::from_bits_truncate(stat.st_mode));
    kind.is_ok_and(|kind| {
        let kind = kind & SFlag::S_IFMT;
        kind == SFlag::S_IFIFO || kind == SFlag::S_IFREG
    })
}

/// All of standard input, at most `most` bytes and one more.
pub(crate) async fn read_all(context: &Context, most: u64, hint: &str) -> Result<Vec<u8>, Failure> {
    let mut reading = tokio::task::spawn_blocking(move || {
        let mut bytes = Vec::new();
        std::io::stdin().lock().take(most + 1).read_to_end(&mut bytes).map(|_| bytes)
    });
    let read = match tokio::time::timeout(PATIENCE, &mut reading).await {
        Ok(read) => read,
        Err(_) => {
            context.ui.note(format!("waiting for the end of standard input ({hint})"));
            reading.await
        }
    };
    let failed = |e: &dyn std::fmt::Display| Failure::failed(format!("standard input cannot be read: {e}"));
    read.map_err(|e| failed(&e))?.map_err(|e| failed(&e))
}
