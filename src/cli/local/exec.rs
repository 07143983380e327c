//! `local exec`: runs a command in a session.

use std::time::Duration;

use serde_json::json;

use super::Local;
use super::target::{ChosenSession, SessionChoice, Target};
use crate::aws::{CommandCall, CommandStream};
use crate::cli::exit::{COMMAND_TIMED_OUT, Class, Failure, Outcome};
use crate::model::{
    CommandEvent, CommandLine, CommandStatus, CommandTimeout, OutputStream, limits, parse_duration,
};

/// What a shell takes for its own when it is the first word and not quoted.
const RESERVED: [&str; 22] = [
    "case", "coproc", "do", "done", "elif", "else", "esac", "fi", "for", "function", "if", "in", "select",
    "then", "time", "until", "while", "!", "{", "}", "[[", "]]",
];
/// Exit code of a shell for a command that does not exist.
const NOT_FOUND: i32 = 127;

/// Run a command in a session, with its exit code as ours
///
/// The arguments reach the command unchanged; for pipes and variables run a shell:
/// agentcore local exec -- sh -c 'ls | wc -l'
#[derive(clap::Args)]
pub(crate) struct ExecArgs {
    #[command(flatten)]
    session: SessionChoice,
    /// Begin a new session
    #[arg(long, conflicts_with = "session")]
    new_session: bool,
    /// End the command after this time, 1s to 1h; the exit code is 124 then [default: 5m]
    #[arg(long, value_name = "DURATION", value_parser = parse_timeout)]
    timeout: Option<CommandTimeout>,
    /// Directory to run it in
    #[arg(long, value_name = "DIR")]
    cwd: Option<String>,
    /// Variable of its environment
    #[arg(long = "env", value_name = "NAME=VALUE", value_parser = parse_variable)]
    variables: Vec<(String, String)>,
    /// The command and its arguments
    #[arg(required = true, trailing_var_arg = true, allow_hyphen_values = true, value_name = "COMMAND")]
    command: Vec<String>,
}

fn parse_timeout(text: &str) -> Result<CommandTimeout, String> {
    let (least, most) = (limits::COMMAND_TIMEOUT_SECONDS.start(), limits::COMMAND_TIMEOUT_SECONDS.end());
    let duration = parse_duration(text).map_err(|e| e.to_string())?;
    let whole = if duration.subsec_nanos() == 0 { duration } else { Duration::ZERO };
    u32::try_from(whole.as_secs())
        .ok()
        .and_then(CommandTimeout::new)
        .ok_or_else(|| format!("the service takes {least} to {most} whole seconds"))
}

fn parse_variable(text: &str) -> Result<(String, String), String> {
    let (name, value) = text.split_once('=').ok_or("expected `NAME=VALUE`")?;
    let mut letters = name.bytes();
    let first = letters.next().is_some_and(|b| b.is_ascii_alphabetic() || b == b'_');
    if !first || !letters.all(|b| b.is_ascii_alphanumeric() || b == b'_') {
        return Err(format!("`{name}` is not a variable's name"));
    }
    Ok((name.to_owned(), value.to_owned()))
}

impl ExecArgs {
    pub(crate) fn exec(self, local: &Local<'_>) -> Outcome {
        let outcome = local.context.block_on(async {
            let command = self.command_line()?;
            let target = local.target_with_code().await?;
            let session = target.session(&self.session, self.new_session);
            target.remember(&session)?;
            local.context.ui.note(format!("session: {}", session.shown()));
            tokio::select! {
                outcome = self.run(local, &target, &session, command) => outcome,
                // Hanging up makes the service end the command.
                _ = tokio::signal::ctrl_c() => {
                    Err(Failure::new(Class::Interrupted, "the command was ended"))
                }
            }
        });
        outcome.map_err(Failure::of_tool)
    }

    /// The shell's text that runs exactly these arguments.
    fn command_line(&self) -> Result<CommandLine, Failure> {
        let text = shell_text(&self.command, self.cwd.as_deref(), &self.variables).ok_or_else(|| {
            Failure::usage("the command contains a NUL character, which no process can be given")
        })?;
        let (length, most) = (text.len(), limits::COMMAND_BYTES.end());
        CommandLine::new(text).ok_or_else(|| {
            Failure::usage(format!("the command has {length} bytes, and the service takes at most {most}"))
                .hint("put it into a file of the session and run that")
        })
    }

    async fn run(
        &self,
        local: &Local<'_>,
        target: &Target,
        session: &ChosenSession,
        command: CommandLine,
    ) -> Outcome {
        let ui = &local.context.ui;
        let spinner = ui.spinner("waiting for the session");
        let to = target.call(&session.id, &self.session.qualifier);
        let data = target.connection.data();
        let mut stream = data.run_command(CommandCall { to, command, timeout: self.timeout }).await?;
        let mut waiting = Some(spinner);
        if ui.is_json() {
            ui.event(&json!({ "sessionId": session.id, "name": session.name }))?;
        }
        let (exit_code, status) = self.relay(local, &mut stream, &mut waiting).await?;
        match status {
            CommandStatus::TimedOut => {
                ui.note("the command was ended at its time limit");
                Ok(COMMAND_TIMED_OUT)
            }
            CommandStatus::Completed => {
                if let (NOT_FOUND, [only]) = (exit_code, self.command.as_slice())
                    && only.contains(' ')
                {
                    ui.note(format!(
                        "hint: `{only}` was run as one word; for a shell's text use sh -c '{only}'"
                    ));
                }
                u8::try_from(exit_code).map_err(|_| {
                    let message = format!("the service could not run the command: exit code `{exit_code}`");
                    Failure::new(Class::Remote, message)
                })
            }
        }
    }

    /// Passes the command's output on as it comes, until its end.
    async fn relay(
        &self,
        local: &Local<'_>,
        stream: &mut CommandStream,
        waiting: &mut Option<crate::cli::ui::Spinner>,
    ) -> Result<(i32, CommandStatus), Failure> {
        let ui = &local.context.ui;
        while let Some(event) = stream.next().await? {
            *waiting = None;
            if ui.is_json() {
                ui.event(&event_value(&event))?;
            }
            match event {
                CommandEvent::Start => {}
                CommandEvent::Delta(_, _) if ui.is_json() => {}
                CommandEvent::Delta(OutputStream::Stdout, text) => ui.bytes(text.as_bytes())?,
                CommandEvent::Delta(OutputStream::Stderr, text) => ui.error_bytes(text.as_bytes())?,
                CommandEvent::Stop { exit_code, status } => return Ok((exit_code, status)),
            }
        }
        Err(Failure::new(Class::Remote, "the command's output ended without its exit code")
            .hint("the session was stopped, or the emulator ended"))
    }
}

/// An event in AWS's own words.
fn event_value(event: &CommandEvent) -> serde_json::Value {
    match event {
        CommandEvent::Start => json!({ "contentStart": {} }),
        CommandEvent::Delta(OutputStream::Stdout, text) => json!({ "contentDelta": { "stdout": text } }),
        CommandEvent::Delta(OutputStream::Stderr, text) => json!({ "contentDelta": { "stderr": text } }),
        CommandEvent::Stop { exit_code, status } => {
            json!({ "contentStop": { "exitCode": exit_code, "status": status.as_str() } })
        }
    }
}

/// A shell's text that runs `argv` word for word; nothing when a word holds a NUL.
fn shell_text(argv: &[String], cwd: Option<&str>, variables: &[(String, String)]) -> Option<String> {
    let mut text = String::new();
    if let Some(directory) = cwd {
        // `./` keeps `-` and names that begin with a dash from being read as options of `cd`.
        let plain = directory.starts_with(['/', '.']);
        let directory = if plain { directory.to_owned() } else { format!("./{directory}") };
        text.push_str(&format!("cd -- {} && ", shlex::try_quote(&directory).ok()?));
    }
    for (name, value) in variables {
        text.push_str(&format!("{name}={} ", shlex::try_quote(value).ok()?));
    }
    for (at, word) in argv.iter().enumerate() {
        if at > 0 {
            text.push(' ');
        }
        let quoted = shlex::try_quote(word).ok()?;
        if at == 0 && RESERVED.contains(&quoted.as_ref()) {
            text.push_str(&format!("'{word}'"));
        } else {
            text.push_str(&quoted);
        }
    }
    Some(text)
}

#[cfg(test)]
mod tests {
    use std::process::Command;

    use proptest::prelude::*;

    use super::*;

    /// What a program called by `text` through `sh` got as its arguments.
    fn seen_by_program(words: &[String]) -> Vec<String> {
        let mut argv = vec!["printf".to_owned(), "%s\\0".to_owned()];
        argv.extend_from_slice(words);
        let text = shell_text(&argv, None, &[]).unwrap();
        let output = Command::new("sh").arg("-c").arg(text).output().unwrap();
        assert!(output.status.success(), "{output:?}");
        let text = String::from_utf8(output.stdout).unwrap();
        text.split_terminator('\0').map(str::to_owned).collect()
    }

    proptest! {
        #![proptest_config(ProptestConfig { cases: 64, ..ProptestConfig::default() })]
        #[test]
        fn words_reach_a_program_unchanged(
            words in proptest::collection::vec("([^\\x00]|[ '\"$`\\\\!*?~#&;|<>()\n\t={}-]){0,12}", 1..6),
        ) {
            prop_assert_eq!(seen_by_program(&words), words);
        }
    }

    #[test]
    fn a_first_word_that_the_shell_knows_is_a_program_all_the_same() {
        for word in RESERVED {
            let text = shell_text(&[word.to_owned()], None, &[]).unwrap();
            let status = Command::new("sh").arg("-c").arg(text).output().unwrap().status;
            // `time` may exist as a program and then complains of its missing argument.
            assert!(!status.success(), "{word}");
            assert_ne!(status.code(), Some(2).filter(|_| word != "time"), "{word} was read as syntax");
        }
        let text = shell_text(&["A=1".to_owned()], None, &[]).unwrap();
        let status = Command::new("sh").arg("-c").arg(text).output().unwrap().status;
        assert_eq!(status.code(), Some(NOT_FOUND));
    }

    #[test]
    fn directory_and_variables_come_before_the_command() {
        let dir = tempfile::tempdir().unwrap();
        std::fs::create_dir(dir.path().join("-odd dir")).unwrap();
        let argv = ["sh", "-c", "pwd; echo \"$A\""].map(str::to_owned);
        let text = shell_text(&argv, Some("-odd dir"), &[("A".into(), "it's".into())]).unwrap();
        let output = Command::new("sh").arg("-c").arg(text).current_dir(dir.path()).output().unwrap();
        let out = String::from_utf8(output.stdout).unwrap();
        assert!(out.ends_with("/-odd dir\nit's\n"), "{out:?} {:?}", output.stderr);
        assert!(shell_text(&["a\0b".to_owned()], None, &[]).is_none());
    }

    #[test]
    fn options_are_checked_at_the_edge() {
        assert!(parse_timeout("1s").is_ok() && parse_timeout("1h").is_ok());
        for bad in ["0", "2h", "500ms", "x"] {
            assert!(parse_timeout(bad).is_err(), "{bad}");
        }
        assert_eq!(parse_variable("A_1=x=y").unwrap(), ("A_1".into(), "x=y".into()));
        for bad in ["A", "1A=x", "=x", "A B=x"] {
            assert!(parse_variable(bad).is_err(), "{bad}");
        }
    }
}
