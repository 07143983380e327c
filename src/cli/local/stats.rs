//! `local session stats`: whether it pays that files survive, in figures.

use indicatif::{HumanBytes, HumanCount};

use super::Local;
use super::session::find_by_name;
use crate::cli::exit::{Failure, OK, Outcome};
use crate::cli::memory::Memory;
use crate::wire::admin::{FirstAnswers, SessionStats, Stats, Totals};

/// Milliseconds from which a time is shown in seconds.
const IN_SECONDS: u64 = 10_000;

/// Shows the statistics of one session, or of all.
pub(super) async fn show(local: &Local<'_>, session: Option<&str>) -> Outcome {
    let ui = &local.context.ui;
    let mut stats = local.admin().stats().await?;
    if let Some(agent) = &local.context.globals.agent {
        stats.runtimes.retain(|r| r.runtime_id.name() == agent);
        stats.sessions.retain(|s| s.runtime_id.name() == agent);
    }
    if let Some(project) = local.project()? {
        let names = Memory::of(&local.home, project.root()).names();
        for session in &mut stats.sessions {
            session.name = names.get(session.session_id.as_str()).cloned();
        }
    }
    if let Some(wanted) = session {
        let all = std::mem::take(&mut stats.sessions);
        let found = find_by_name(all, wanted, |s| (&s.runtime_id, &s.session_id))?;
        ui.result(&found, one(local, &found))?;
        return Ok(OK);
    }
    let text = if stats.sessions.is_empty() { String::new() } else { table(local, &stats) };
    ui.result(&stats, text)?;
    if stats.sessions.is_empty() {
        ui.note("no session has started yet");
    }
    Ok(OK)
}

fn table(local: &Local<'_>, stats: &Stats) -> String {
    let head = [
        "SESSION",
        "AGENT",
        "STARTS",
        "RESUMES",
        "FOUND EACH TIME",
        "START TO ANSWER",
        "RESUME TO ANSWER",
        "SAVED",
        "RESETS",
    ];
    let mut rows = vec![head.map(str::to_owned).to_vec()];
    let row = |name: String, agent: &str, totals: &Totals| {
        vec![
            name,
            agent.to_owned(),
            HumanCount(totals.starts).to_string(),
            HumanCount(totals.resumes).to_string(),
            found(totals),
            median(&totals.first_answer_after_start),
            median(&totals.first_answer_after_resume),
            saved(totals),
            reasons(&totals.resets),
        ]
    };
    for session in &stats.sessions {
        rows.push(row(shown(session), session.runtime_id.name(), &session.totals));
    }
    for runtime in &stats.runtimes {
        let sessions = match runtime.sessions {
            1 => "(1 session)".to_owned(),
            n => format!("({} sessions)", HumanCount(n)),
        };
        rows.push(row(sessions, runtime.runtime_id.name(), &runtime.totals));
    }
    local.context.ui.table(&rows)
}

fn one(local: &Local<'_>, session: &SessionStats) -> String {
    let totals = &session.totals;
    let rows = [
        ("session", shown(session)),
        ("agent", session.runtime_id.name().to_owned()),
        ("starts with empty storage", HumanCount(totals.starts).to_string()),
        ("resumes", HumanCount(totals.resumes).to_string()),
        ("found at a resume", found(totals)),
        ("start to first answer", median(&totals.first_answer_after_start)),
        ("resume to first answer", median(&totals.first_answer_after_resume)),
        ("set-up time saved", saved(totals)),
        ("resets of storage", reasons(&totals.resets)),
        ("ends of computes", reasons(&totals.ends)),
    ];
    let rows: Vec<_> = rows.into_iter().map(|(key, value)| vec![key.to_owned(), value]).collect();
    local.context.ui.table(&rows)
}

fn shown(session: &SessionStats) -> String {
    session.name.clone().unwrap_or_else(|| session.session_id.to_string())
}

/// What a resume found, on the average.
fn found(totals: &Totals) -> String {
    let mean = |sum: u64| sum.checked_div(totals.resumes);
    match (mean(totals.files_found), mean(totals.bytes_found)) {
        (Some(1), Some(bytes)) => format!("1 file, {}", HumanBytes(bytes)),
        (Some(files), Some(bytes)) => format!("{} files, {}", HumanCount(files), HumanBytes(bytes)),
        _ => "-".to_owned(),
    }
}

fn median(answers: &FirstAnswers) -> String {
    answers.median_millis.map_or_else(|| "-".to_owned(), time)
}

fn saved(totals: &Totals) -> String {
    match totals.setup_saved_millis {
        None => "-".to_owned(),
        Some(millis) if millis < 0 => format!("-{}", time(millis.unsigned_abs())),
        Some(millis) => time(millis.unsigned_abs()),
    }
}

fn time(millis: u64) -> String {
    let (seconds, tenths) = (millis / 1000, millis % 1000 / 100);
    match millis {
        0..IN_SECONDS => format!("{millis} ms"),
        _ if seconds < 60 => format!("{seconds}.{tenths} s"),
        _ if seconds < 3600 => format!("{} min {} s", seconds / 60, seconds % 60),
        _ => format!("{} h {} min", seconds / 3600, seconds % 3600 / 60),
    }
}

fn reasons(counts: &std::collections::BTreeMap<String, u64>) -> String {
    let one = |(reason, count): (&String, &u64)| format!("{} {reason}", HumanCount(*count));
    let text = counts.iter().map(one).collect::<Vec<_>>().join(", ");
    if text.is_empty() { "-".to_owned() } else { text }
}

/// The failure of a name that no session has.
pub(super) fn unknown(wanted: &str) -> Failure {
    Failure::failed(format!("the emulator knows no session `{wanted}`"))
        .hint("`agentcore local session ls` lists them")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_are_as_long_as_they_are_worth() {
        let shown = [0, 9_999, 10_000, 59_990, 60_000, 3_599_999, 7_260_000].map(time);
        assert_eq!(shown, ["0 ms", "9999 ms", "10.0 s", "59.9 s", "1 min 0 s", "59 min 59 s", "2 h 1 min"]);
    }
}
