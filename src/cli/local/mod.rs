//! `local`: the emulator, and the verbs on it.

use std::path::PathBuf;

use super::Context;
use super::exit::Outcome;
use super::target::Place;
use super::{cp, exec, invoke, list, logs as log, shell, stop};

pub(super) mod admin;
mod clock;
mod code;
mod daemon;
mod demo;
mod deploy;
mod down;
mod env_exports;
pub(super) mod home;
mod identity;
mod image;
mod journal;
pub(super) mod logs;
pub(super) mod session;
mod source;
mod stats;
mod status;
mod target;
mod up;
mod watch;

pub(crate) use daemon::DEFAULT_PORT;
pub(crate) use home::Home;

/// Run agents offline, in the emulator
#[derive(clap::Args)]
#[command(after_help = "Examples:
  agentcore local demo                            # the whole story on this machine
  agentcore local invoke 'remember the milk'      # starts what it needs
  agentcore local session ls
  agentcore local down")]
pub(crate) struct LocalArgs {
    /// The emulator's state directory [env: AGENTCORE_HOME] [default: agentcore in the user's data directory]
    #[arg(long, global = true, value_name = "DIR")]
    home: Option<PathBuf>,
    #[command(subcommand)]
    verb: LocalVerb,
}

#[derive(clap::Subcommand)]
enum LocalVerb {
    Up(up::UpArgs),
    Down(down::DownArgs),
    Status(status::StatusArgs),
    Env(env_exports::EnvArgs),
    List(list::ListArgs),
    Logs(log::LogsArgs),
    Deploy(deploy::DeployArgs),
    Invoke(invoke::InvokeArgs),
    Exec(exec::ExecArgs),
    Cp(cp::CpArgs),
    Shell(shell::ShellArgs),
    Stop(stop::StopArgs),
    Session(session::SessionArgs),
    Clock(clock::ClockArgs),
    Demo(demo::DemoArgs),
}

impl LocalArgs {
    pub(crate) fn exec(self, context: &Context) -> Outcome {
        if let LocalVerb::Demo(verb) = self.verb {
            // A home of its own, so that it can be shown at any time.
            return verb.exec(context);
        }
        let home = match &self.home {
            Some(home) => context.env.directory()?.join(home),
            None => context.env.home()?,
        };
        let local = Local { context, home: home::Home::new(home) };
        match self.verb {
            LocalVerb::Up(verb) => verb.exec(&local),
            LocalVerb::Down(verb) => verb.exec(&local),
            LocalVerb::Status(verb) => verb.exec(&local),
            LocalVerb::Env(verb) => verb.exec(&local),
            LocalVerb::List(verb) => verb.exec(&Place::Local(&local)),
            LocalVerb::Logs(verb) => verb.exec(&Place::Local(&local)),
            LocalVerb::Deploy(verb) => verb.exec(&local),
            LocalVerb::Invoke(verb) => verb.exec(&Place::Local(&local)),
            LocalVerb::Exec(verb) => verb.exec(&Place::Local(&local)),
            LocalVerb::Cp(verb) => verb.exec(&Place::Local(&local)),
            LocalVerb::Shell(verb) => verb.exec(&Place::Local(&local)),
            LocalVerb::Stop(verb) => verb.exec(&Place::Local(&local)),
            LocalVerb::Session(verb) => verb.exec(&local),
            LocalVerb::Clock(verb) => verb.exec(&local),
            LocalVerb::Demo(verb) => verb.exec(context),
        }
    }
}

/// What every local verb works with.
pub(crate) struct Local<'a> {
    pub(super) context: &'a Context,
    pub(super) home: Home,
}
