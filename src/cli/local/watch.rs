//! `local up --watch`: restarts the computes of the project's agents as soon as their code changes.
//!
//! Looks at the files at intervals instead of asking the kernel for events: those do not come from file
//! systems that a host shares with a virtual machine, have a limit for each user, and an editor that saves
//! by renaming makes a burst of them. A look costs one `lstat` a file, and the pause grows with it.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use serde_json::json;

use super::Local;
use super::source::stamp;
use crate::artifacts::Stamp;
use crate::cli::exit::{Failure, OK, Outcome};
use crate::cli::interrupts;
use crate::project::{Agent, Project};
use crate::wire::admin::Status;

/// Shortest pause between two looks. [ours]
const PAUSE: Duration = Duration::from_millis(250);
/// Pause in lengths of a look: at most a tenth of one processor is spent on looking. [ours]
const PAUSE_IN_LOOKS: u32 = 9;

impl Local<'_> {
    /// Watches the project until Ctrl-C or the emulator's end.
    pub(crate) async fn watch(&self, status: &Status) -> Outcome {
        let ui = &self.context.ui;
        let (project, _) = self.watched()?;
        let mut interrupts = interrupts()?;
        ui.note(format!("watching `{}`; Ctrl-C ends that, not the emulator", project.root().display()));
        tokio::select! {
            failure = self.watch_on(status) => Err(failure),
            _ = interrupts.recv() => {
                ui.note("watching has ended; the emulator runs on");
                Ok(OK)
            }
        }
    }

    async fn watch_on(&self, status: &Status) -> Failure {
        let ui = &self.context.ui;
        let mut done: BTreeMap<String, Stamp> = BTreeMap::new();
        let mut before: BTreeMap<String, Stamp> = BTreeMap::new();
        let mut last_problem = None;
        loop {
            let mut looking = Duration::ZERO;
            let problem = match self.watched() {
                Ok((project, agents)) => {
                    let mut problem = None;
                    for agent in &agents {
                        let name = agent.name.as_str();
                        let begun = Instant::now();
                        let now = stamp(self, status, &project, agent);
                        looking += begun.elapsed();
                        let now = match now {
                            Ok(now) => now,
                            Err(e) => {
                                problem = Some(e);
                                continue;
                            }
                        };
                        let settled = before.get(name).is_some_and(|b| b.as_str() == now.as_str());
                        if settled && done.get(name).is_none_or(|d| d.as_str() != now.as_str()) {
                            if let Err(e) = self.restart_changed(status, &project, agent).await {
                                problem = Some(e);
                            }
                            // Tried once, whatever came of it: the next change is the next attempt.
                            done.insert(name.to_owned(), now.clone());
                        }
                        before.insert(name.to_owned(), now);
                    }
                    problem
                }
                Err(e) => Some(e),
            };
            if let Err(e) = self.admin().status().await {
                return Failure::from(e).hint("the emulator has ended, and watching with it");
            }
            match problem {
                Some(problem) if last_problem.as_ref() != Some(&problem.message) => {
                    let hint = problem.hint.map(|h| format!("; {h}")).unwrap_or_default();
                    ui.warn(format!("{}{hint}", problem.message));
                    last_problem = Some(problem.message);
                }
                Some(_) => {}
                // A saved mistake is told again when it is made again.
                None => last_problem = None,
            }
            tokio::time::sleep(PAUSE.max(looking * PAUSE_IN_LOOKS)).await;
        }
    }

    /// The project as it is now, and the agents of it that are watched.
    fn watched(&self) -> Result<(Project, Vec<Agent>), Failure> {
        let config = self.context.globals.config.as_deref();
        let project = Project::load(config, &self.context.env.directory()?)?;
        let agents = match &self.context.globals.agent {
            Some(name) => vec![project.agent(Some(name))?.clone()],
            None => project.agents.values().cloned().collect(),
        };
        Ok((project, agents))
    }

    async fn restart_changed(
        &self,
        status: &Status,
        project: &Project,
        agent: &Agent,
    ) -> Result<(), Failure> {
        let ui = &self.context.ui;
        let connection = self.connection(status)?;
        // An agent that is not deployed has no session; its first call deploys it.
        let Some(runtime) = connection.control().find_runtime(agent.name.as_str()).await? else {
            return Ok(());
        };
        let change = self.follow_source(status, project, agent, &connection, &runtime, true).await?;
        let Some(change) = change.filter(|c| c.changed || c.restarted + c.failed > 0) else { return Ok(()) };
        let sessions = match change.restarted {
            0 if change.failed > 0 => "no session could be restarted".to_owned(),
            0 => "no session was running".to_owned(),
            1 => "restarted 1 session".to_owned(),
            n => format!("restarted {n} sessions"),
        };
        let name = agent.name.as_str();
        if ui.is_json() {
            ui.event(&json!({ "agent": name, "restarted": change.restarted, "failed": change.failed }))?;
        } else {
            ui.note(format!("the code of `{name}` has changed: {sessions}"));
        }
        if change.failed > 0 {
            let whose = if change.failed == 1 { "one".to_owned() } else { change.failed.to_string() };
            ui.warn(format!(
                "the agent of {whose} ended as soon as it was started: `agentcore local logs` shows what it wrote"
            ));
        }
        Ok(())
    }
}
