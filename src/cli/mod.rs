//! Arguments and terminal: one file for each verb, with its arguments and what it does.
//!
//! Only `ui.rs` prints, only `env.rs` reads the environment, only `exit.rs` knows exit codes. A verb
//! gets a [`Context`] and gives an exit code or a [`Failure`]; nothing is started before it is needed,
//! so that `--version` and `local status` cost next to nothing.

use std::ffi::OsString;
use std::future::Future;
use std::path::PathBuf;
use std::process::ExitCode;
use std::sync::{Mutex, PoisonError};

use clap::builder::NonEmptyStringValueParser;
use clap::{Args, CommandFactory, Parser, Subcommand, ValueEnum};
use futures_util::FutureExt;
use tokio::signal::unix::{Signal, SignalKind, signal};

mod build;
mod cloud;
mod complete;
mod completions;
mod configure;
mod cp;
mod create;
mod demo_agent;
mod deploy;
mod destroy;
mod doctor;
mod env;
mod exec;
mod exit;
mod input;
mod invoke;
mod list;
mod local;
mod logs;
mod man_pages;
mod memory;
mod session_id;
mod shell;
mod sse;
mod status;
mod stop;
mod target;
mod terminal;
mod transfer;
mod ui;

use env::Env;
use exit::{Class, Failure, Outcome};
use ui::Ui;

/// Runs one command line.
pub fn run(args: impl IntoIterator<Item = OsString>) -> ExitCode {
    let args: Vec<OsString> = args.into_iter().collect();
    // Before anything else: a launcher of sessions must do nothing that starts a thread.
    let hidden = crate::engine::embedded::hidden_entry(&args);
    if let Some(code) = hidden.or_else(|| crate::engine::docker::hidden_entry(&args)) {
        return code;
    }
    let env = Env::read();
    let cli = match Cli::try_parse_from(&args) {
        Ok(cli) => cli,
        Err(error) => return ui::usage(&error, &env),
    };
    let ui = Ui::new(cli.globals.output, cli.globals.color, cli.globals.quiet, cli.globals.verbose, &env);
    let context = Context { ui, env, globals: cli.globals, last_words: Mutex::default() };
    let outcome = match cli.verb {
        Verb::Create(verb) => verb.exec(&context),
        Verb::Configure(verb) => verb.exec(&context),
        Verb::Deploy(verb) => verb.exec(&context),
        Verb::Destroy(verb) => verb.exec(&context),
        Verb::Invoke(verb) => verb.run(&context, invoke::InvokeArgs::exec),
        Verb::Exec(verb) => verb.run(&context, exec::ExecArgs::exec),
        Verb::Cp(verb) => verb.run(&context, cp::CpArgs::exec),
        Verb::Shell(verb) => verb.run(&context, shell::ShellArgs::exec),
        Verb::Stop(verb) => verb.run(&context, stop::StopArgs::exec),
        Verb::Status(verb) => verb.run(&context, status::StatusArgs::exec),
        Verb::List(verb) => verb.run(&context, list::ListArgs::exec),
        Verb::Logs(verb) => verb.run(&context, logs::LogsArgs::exec),
        Verb::Build(verb) => verb.exec(&context),
        Verb::Local(verb) => verb.exec(&context),
        Verb::Session(verb) => verb.exec(&context),
        Verb::Doctor(verb) => verb.exec(&context),
        Verb::Completions(verb) => verb.exec(&context),
        Verb::ManPages(verb) => verb.exec(&context),
        Verb::Complete(verb) => verb.exec(&context),
        Verb::DemoAgent => demo_agent::exec(&context),
    };
    context.ui.finish(outcome)
}

/// The whole command line.
pub fn command() -> clap::Command {
    Cli::command()
}

/// Writes the completion script of `shell`, as `completions` prints it.
pub fn completion_script(shell: clap_complete::Shell) -> Vec<u8> {
    completions::script(shell)
}

#[derive(Parser)]
#[command(
    name = "agentcore",
    version,
    about = "Develop and run agents for Amazon Bedrock AgentCore Runtime, offline too",
    propagate_version = false,
    disable_help_subcommand = true,
    max_term_width = 100
)]
struct Cli {
    #[command(flatten)]
    globals: Globals,
    #[command(subcommand)]
    verb: Verb,
}

/// Options of every command.
#[derive(Args)]
struct Globals {
    /// How results are written to standard output
    #[arg(long, global = true, value_enum, default_value_t, value_name = "FORMAT")]
    output: OutputFormat,
    /// When to use colour
    #[arg(long, global = true, value_enum, default_value_t, value_name = "WHEN")]
    color: ColorChoice,
    /// Say less on standard error
    #[arg(short, long, global = true)]
    quiet: bool,
    /// Say more on standard error; twice for more
    #[arg(short, long, global = true, action = clap::ArgAction::Count, conflicts_with = "quiet")]
    verbose: u8,
    /// Project file [default: .bedrock_agentcore.yaml here or in a directory above]
    #[arg(long, global = true, value_name = "FILE")]
    config: Option<PathBuf>,
    /// Agent of the project
    #[arg(long, global = true, value_name = "NAME", value_parser = NonEmptyStringValueParser::new())]
    agent: Option<String>,
}

/// How results are written.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, ValueEnum)]
pub(crate) enum OutputFormat {
    /// For people
    #[default]
    Text,
    /// JSON; a line for each event where a command streams
    Json,
}

/// When to use colour.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, ValueEnum)]
pub(crate) enum ColorChoice {
    /// On a terminal, unless NO_COLOR is set
    #[default]
    Auto,
    /// Always
    Always,
    /// Never
    Never,
}

#[derive(Subcommand)]
enum Verb {
    Create(create::CreateArgs),
    Configure(Box<configure::ConfigureArgs>),
    Deploy(deploy::DeployArgs),
    Destroy(destroy::DestroyArgs),
    Invoke(cloud::OnCloud<invoke::InvokeArgs>),
    Exec(cloud::OnCloud<exec::ExecArgs>),
    Cp(cloud::OnCloud<cp::CpArgs>),
    Shell(cloud::OnCloud<shell::ShellArgs>),
    Stop(cloud::OnCloud<stop::StopArgs>),
    Status(cloud::OnCloud<status::StatusArgs>),
    List(cloud::OnCloud<list::ListArgs>),
    Logs(cloud::OnCloud<logs::LogsArgs>),
    Build(build::BuildArgs),
    Local(local::LocalArgs),
    Session(session_id::SessionArgs),
    Doctor(doctor::DoctorArgs),
    Completions(completions::CompletionsArgs),
    #[command(hide = true)]
    ManPages(man_pages::ManPagesArgs),
    #[command(hide = true)]
    Complete(complete::CompleteArgs),
    /// The agent of `local demo`
    #[command(hide = true)]
    DemoAgent,
}

/// Ctrl-C, heard from now on: from before the first line that shows a wait, not from the first poll of it.
fn interrupts() -> Result<Signal, Failure> {
    signal(SignalKind::interrupt()).map_err(|e| Failure::failed(format!("signals cannot be heard: {e}")))
}

/// What every verb works with.
pub(crate) struct Context {
    ui: Ui,
    env: Env,
    globals: Globals,
    last_words: Mutex<Option<String>>,
}

/// While it lives, Ctrl-C ends with the line it was made for.
pub(crate) struct LastWords<'a>(&'a Context);

impl Drop for LastWords<'_> {
    fn drop(&mut self) {
        self.0.set_last_words(None);
    }
}

impl Context {
    /// Makes `words` the line that Ctrl-C ends with, until what this gives is dropped. To be called before the first
    /// sign of a wait: who sees it may press the key.
    #[must_use]
    fn last_words(&self, words: impl Into<String>) -> LastWords<'_> {
        self.set_last_words(Some(words.into()));
        LastWords(self)
    }

    fn set_last_words(&self, words: Option<String>) {
        *self.last_words.lock().unwrap_or_else(PoisonError::into_inner) = words;
    }

    fn interrupted(&self) -> Failure {
        let words = self.last_words.lock().unwrap_or_else(PoisonError::into_inner).take();
        Failure::new(Class::Interrupted, words.unwrap_or_else(|| "interrupted".into()))
    }

    /// Runs `work` on a runtime of one thread, made now. Ctrl-C ends it wherever it is, so that what it shows on
    /// the terminal is cleared; work that has more to say of that leaves its last words.
    fn block_on(&self, work: impl Future<Output = Outcome>) -> Outcome {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
        let runtime = runtime.map_err(|e| Failure::failed(format!("no async runtime could be made: {e}")))?;
        runtime.block_on(async {
            let mut interrupts = interrupts()?;
            let outcome = tokio::select! {
                biased;
                outcome = work => outcome,
                // The words are the work's, which is gone when an arm of this is run.
                failure = async {
                    interrupts.recv().await;
                    self.interrupted()
                } => return Err(failure),
            };
            if let Err(failure) = &outcome
                && failure.class == Class::Failed
            {
                // A program that we waited for heard it too, and its failure is no news. What is pending for us is heard
                // when the runtime has looked once more.
                tokio::task::yield_now().await;
                if interrupts.recv().now_or_never().is_some() {
                    return Err(self.interrupted());
                }
            }
            outcome
        })
    }

    /// Runs `work` that hears Ctrl-C itself at every wait, because it has something to clear away or to show then.
    fn block_on_alone(&self, work: impl Future<Output = Outcome>) -> Outcome {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
        runtime.map_err(|e| Failure::failed(format!("no async runtime could be made: {e}")))?.block_on(work)
    }

    /// Runs `work` on a runtime of several threads, for the emulator.
    fn block_on_threads(&self, work: impl Future<Output = Outcome>) -> Outcome {
        let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build();
        runtime.map_err(|e| Failure::failed(format!("no async runtime could be made: {e}")))?.block_on(work)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_command_line_is_sound() {
        command().debug_assert();
    }

    /// The command lines of this program in a line of a shell.
    fn calls(line: &str) -> Vec<Vec<String>> {
        let words = shlex::split(line).unwrap_or_else(|| panic!("no shell reads {line}"));
        let inner = words.iter().find_map(|w| w.split_once("$(agentcore ")?.1.strip_suffix(')'));
        let mut all: Vec<Vec<String>> =
            inner.map(|i| format!("agentcore {i}")).iter().map(|i| shlex::split(i).unwrap()).collect();
        for call in words.split(|w| matches!(w.as_str(), "|" | "&&")) {
            if call.first().is_some_and(|w| w == "agentcore") {
                let end = |w: &String| matches!(w.as_str(), "<" | ">" | ">>") || w.starts_with('#');
                all.push(call.iter().take_while(|w| !end(w)).cloned().collect());
            }
        }
        all
    }

    #[test]
    fn every_help_has_examples_and_they_are_command_lines() {
        fn walk(command: &clap::Command, path: &str) {
            for verb in command
                .get_subcommands()
                .filter(|c| c.get_name() != "demo-agent" && c.get_name() != "complete")
            {
                let path = format!("{path} {}", verb.get_name());
                let help = verb.get_after_help().map(ToString::to_string).unwrap_or_default();
                let lines =
                    help.strip_prefix("Examples:\n").unwrap_or_else(|| panic!("`{path}` has no examples"));
                let mut own = 0;
                for line in lines.lines() {
                    let found = calls(line.trim());
                    assert!(!found.is_empty(), "{path}: {line}");
                    for call in found {
                        own += usize::from(
                            call.join(" ").starts_with(&path)
                                || call
                                    .join(" ")
                                    .starts_with(&path.replace("agentcore ", "agentcore local ")),
                        );
                        if let Err(e) = Cli::try_parse_from(&call) {
                            panic!("{path}: {line}: {e}");
                        }
                    }
                }
                assert!(own > 0, "`{path}` has no example of its own");
                walk(verb, &path);
            }
        }
        walk(&command(), "agentcore");
    }
}
