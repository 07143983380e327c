//! Nothing is lost and nothing is left, whatever is killed and whenever.
//!
//! One harness: [`world`] is an emulator that may be killed, [`load`] uses it and keeps books of what was
//! acknowledged. `AGENTCORE_TEST_FULL=1` makes many more rounds, as before a release.

mod disk;
mod homes;
mod kill;
mod load;
mod power;
pub(crate) mod room;
pub(crate) mod seed;
pub(crate) mod world;

use std::time::Duration;

/// True for the many rounds before a release.
#[allow(clippy::disallowed_methods, reason = "chooses how much is tested")]
fn full() -> bool {
    std::env::var_os("AGENTCORE_TEST_FULL").is_some_and(|value| !value.is_empty() && value != "0")
}

/// The middle and the largest of some times, in words.
fn figures(times: &[Duration]) -> String {
    let mut sorted = times.to_vec();
    sorted.sort_unstable();
    match (sorted.get(sorted.len() / 2), sorted.last()) {
        (Some(middle), Some(last)) => format!("median {middle:.0?}, longest {last:.0?}"),
        _ => "never".to_owned(),
    }
}

/// Tells figures on the real stderr, which the test harness does not capture.
fn tell(text: &str) {
    use std::io::Write as _;
    let _ = writeln!(std::io::stderr(), "{text}");
}
