//! The emulator's log of a session, for errors that have their cause in it.

use super::Local;
use super::admin::AdminError;
use crate::model::SessionId;

/// The last lines of a session, for an error that has its cause in them.
pub(crate) async fn last_lines(
    local: &Local<'_>,
    runtime: &str,
    session: &SessionId,
    most: usize,
) -> Result<Vec<String>, AdminError> {
    let mut stream = local.admin().logs(Some(runtime), Some(session), false).await?;
    let mut lines = std::collections::VecDeque::new();
    while let Some(line) = stream.next().await? {
        if lines.len() == most {
            lines.pop_front();
        }
        lines.push_back(line.message);
    }
    Ok(lines.into())
}
