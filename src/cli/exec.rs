//! `exec`: runs a command in a session, or in several at once.
//!
//! The service takes one text for a shell and gives no standard input. So arguments are quoted until a shell
//! reads them as they were given, and what is piped in, and a script, travel as text (`transfer`).

use std::time::Duration;

use clap::builder::NonEmptyStringValueParser;
use futures_util::stream::{self, StreamExt};
use serde_json::{Value, json};

use super::exit::{COMMAND_TIMED_OUT, Class, Failure, Outcome};
use super::input;
use super::target::{ChosenSession, EndpointChoice, Place, Target};
use super::transfer::{self, Carried};
use super::ui::{self, Spinner};
use crate::aws::{CommandCall, CommandStream};
use crate::model::{
    CommandEvent, CommandLine, CommandStatus, CommandTimeout, OutputStream, limits, parse_duration,
};

/// Sessions in which a command runs at the same time. [ours]
const AT_ONCE: usize = 16;
/// Longest line that is kept back until its end, where several sessions write. [ours]
const MAX_LINE_BYTES: usize = 1024 * 1024;
/// What a shell takes for its own when it is the first word and not quoted.
const RESERVED: [&str; 22] = [
    "case", "coproc", "do", "done", "elif", "else", "esac", "fi", "for", "function", "if", "in", "select",
    "then", "time", "until", "while", "!", "{", "}", "[[", "]]",
];
/// Exit code of a shell for a command that does not exist.
const NOT_FOUND: i32 = 127;

/// Run a command in a session, with its exit code as ours
///
/// The arguments reach the command unchanged, and options behind its name are its own. For pipes and variables
/// run a shell, as the first example does. What is piped in is the command's standard input.
///
/// Exit code: the command's own, 124 at the time limit, 128 + n after signal n, 125 when the command could not be
/// run. Of several sessions it is the first one, in the order given, that is not 0.
#[derive(clap::Args)]
#[command(after_help = "Examples:
  agentcore exec -- sh -c 'ls /mnt/workspace | wc -l'
  agentcore exec --session a,b --timeout 10m npm test
  agentcore exec --file check.sh fast
  agentcore local exec sh -c 'cat > /mnt/workspace/notes.txt' < notes.txt")]
pub(crate) struct ExecArgs {
    /// Session, by its id or a short name; several with commas between them [default: the project's last one]
    #[arg(long = "session", value_name = "NAME", value_delimiter = ',', value_parser = NonEmptyStringValueParser::new())]
    sessions: Vec<String>,
    #[command(flatten)]
    endpoint: EndpointChoice,
    /// Begin a new session
    #[arg(long, conflicts_with = "sessions")]
    new_session: bool,
    /// End the command after this time, 1s to 1h; the exit code is 124 then [default: 5m]
    #[arg(long, value_name = "DURATION", value_parser = parse_timeout)]
    timeout: Option<CommandTimeout>,
    /// Directory to run it in
    #[arg(long, value_name = "DIR", value_parser = NonEmptyStringValueParser::new())]
    cwd: Option<String>,
    /// Variable of its environment
    #[arg(long = "env", value_name = "NAME=VALUE", value_parser = parse_variable)]
    variables: Vec<(String, String)>,
    /// Run this script of your machine; what follows are its arguments
    #[arg(long, value_name = "FILE", value_parser = NonEmptyStringValueParser::new())]
    file: Option<String>,
    /// Leave standard input alone
    #[arg(long)]
    no_stdin: bool,
    /// The command and its arguments
    #[arg(
        required_unless_present = "file",
        trailing_var_arg = true,
        allow_hyphen_values = true,
        value_name = "COMMAND"
    )]
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

/// What is run: read and checked before anything is called.
struct Work {
    input: Vec<u8>,
    script: Option<Vec<u8>>,
}

impl ExecArgs {
    pub(crate) fn exec(self, place: &Place<'_>) -> Outcome {
        let context = place.context();
        let outcome = context.block_on(async {
            let work = self.read(place).await?;
            let target = place.target_with_code().await?;
            let sessions = self.choose(&target);
            // Hanging up makes the service end the command.
            let _words = context.last_words("the command was ended");
            for session in &sessions {
                target.remember(session, &self.endpoint.qualifier)?;
                context.ui.note(format!("session: {}", session.shown()));
            }
            self.run_all(place, &target, &sessions, &work).await
        });
        outcome.map_err(Failure::of_tool)
    }

    /// The sessions, each once and in the order given.
    fn choose(&self, target: &Target) -> Vec<ChosenSession> {
        if self.sessions.is_empty() {
            return vec![target.session(None, self.new_session)];
        }
        let mut chosen: Vec<ChosenSession> = Vec::new();
        for name in &self.sessions {
            let session = target.session(Some(name), false);
            if chosen.iter().all(|c| c.id != session.id) {
                chosen.push(session);
            }
        }
        chosen
    }

    async fn read(&self, place: &Place<'_>) -> Result<Work, Failure> {
        // What cannot be quoted can be told before anything is waited for.
        self.command_text("")?;
        let context = place.context();
        let script = match &self.file {
            Some(file) => {
                let path = context.env.directory()?.join(file);
                let bytes = std::fs::read(path)
                    .map_err(|e| Failure::failed(format!("the script `{file}` cannot be read: {e}")))?;
                Some(unix_lines(bytes))
            }
            None => None,
        };
        let input = match input::is_piped() && !self.no_stdin {
            true => input::read_all(context, transfer::MOST_BYTES, "`--no-stdin` goes without").await?,
            false => Vec::new(),
        };
        let most = transfer::MOST_BYTES;
        if input.len() as u64 > most || script.as_ref().is_some_and(|s| s.len() as u64 > most) {
            let message = format!("what is to be sent to the session has more than {} MB", most / 1_000_000);
            return Err(Failure::usage(message).hint("let the command fetch it itself"));
        }
        Ok(Work { input, script })
    }

    /// The shell's text that runs exactly the arguments, behind `program` where that is a script of ours.
    fn command_text(&self, program: &str) -> Result<String, Failure> {
        let with_program = self.file.is_some();
        shell_text(with_program.then_some(program), &self.command, self.cwd.as_deref(), &self.variables)
            .ok_or_else(|| {
                Failure::usage("the command contains a NUL character, which no process can be given")
            })
    }

    async fn run_all(
        &self,
        place: &Place<'_>,
        target: &Target,
        sessions: &[ChosenSession],
        work: &Work,
    ) -> Outcome {
        let output = place.context().ui.output();
        let outcome = match sessions {
            [only] => self.run(place, target, only, work, Output::new(&output, only, false)).await,
            _ => self.run_many(place, target, sessions, work, &output).await,
        };
        // What has come is shown, however the command ended.
        let written = output.written().await;
        let code = outcome?;
        written.map(|()| code)
    }

    async fn run_many(
        &self,
        place: &Place<'_>,
        target: &Target,
        sessions: &[ChosenSession],
        work: &Work,
        output: &ui::Output,
    ) -> Outcome {
        let ui = &place.context().ui;
        let outcomes: Vec<Outcome> = stream::iter(sessions)
            .map(|session| self.run(place, target, session, work, Output::new(output, session, true)))
            .buffered(AT_ONCE)
            .collect()
            .await;
        let mut first = 0;
        for (session, outcome) in sessions.iter().zip(outcomes) {
            let code = match outcome {
                Ok(code) => code,
                Err(failure) if matches!(failure.class, Class::BrokenPipe | Class::Interrupted) => {
                    return Err(failure);
                }
                Err(failure) => {
                    let failure = failure.of_tool();
                    if ui.is_json() {
                        let mut value = failure.to_json();
                        if let Some(map) = value.as_object_mut() {
                            map.insert("sessionId".to_owned(), json!(session.id));
                        }
                        output.event(&value).await?;
                    }
                    output.warn(format!("session {}: {}", session.shown(), failure.message)).await?;
                    failure.class.code()
                }
            };
            if code != 0 {
                output.note(format!("session {}: exit code {code}", session.shown())).await?;
                first = if first == 0 { code } else { first };
            }
        }
        Ok(first)
    }

    async fn run(
        &self,
        place: &Place<'_>,
        target: &Target,
        session: &ChosenSession,
        work: &Work,
        mut output: Output<'_>,
    ) -> Outcome {
        let ui = &place.context().ui;
        let mut waiting = (!output.several).then(|| ui.spinner("waiting for the session"));
        let to = target.call(&session.id, &self.endpoint.qualifier);
        let data = target.connection.data();
        let command = {
            let quiet = Spinner::hidden();
            let spinner = waiting.as_ref().unwrap_or(&quiet);
            self.carried(&data, &to, work, spinner).await?
        };
        let mut stream = data
            .run_command(CommandCall { to, command, timeout: self.timeout })
            .await
            .map_err(|e| place.failure(e))?;
        if ui.is_json() {
            output.to.event(&json!({ "sessionId": session.id, "name": session.name })).await?;
        }
        let (exit_code, status) = relay(place, &mut output, &mut stream, &mut waiting).await?;
        output.finish().await?;
        match status {
            CommandStatus::TimedOut => {
                output.to.note("the command was ended at its time limit").await?;
                Ok(COMMAND_TIMED_OUT)
            }
            CommandStatus::Completed => {
                if let (NOT_FOUND, [only]) = (exit_code, self.command.as_slice())
                    && only.contains(' ')
                {
                    let hint =
                        format!("hint: `{only}` was run as one word; for a shell's text use sh -c '{only}'");
                    output.to.note(hint).await?;
                }
                u8::try_from(exit_code).map_err(|_| {
                    let message = format!("the service could not run the command: exit code `{exit_code}`");
                    Failure::new(Class::Remote, message)
                })
            }
        }
    }

    /// The command, with what it reads in its text or already in the session.
    async fn carried(
        &self,
        data: &crate::aws::DataClient,
        to: &crate::aws::SessionCall,
        work: &Work,
        spinner: &Spinner,
    ) -> Result<CommandLine, Failure> {
        let mut text = self.command_text(SCRIPT)?;
        let mut forget = Vec::new();
        if !work.input.is_empty() {
            // A script beside it may need the room in the command's text.
            let other = text.len() + work.script.as_ref().map_or(0, |s| s.len() * 4 / 3);
            let Carried { reader, forget: after } =
                transfer::carry(data, to, &work.input, other, spinner).await?;
            text = format!("{reader} | {{ {text}; }}");
            forget.extend(after);
        }
        if let Some(script) = &work.script {
            let Carried { reader, forget: after } =
                transfer::carry(data, to, script, text.len(), spinner).await?;
            text = format!("f=$(mktemp) && {reader} >\"$f\" && chmod 700 \"$f\" || exit 125; ({text})");
            forget.push("rm -f \"$f\"".to_owned());
            forget.extend(after);
        }
        if work.script.is_some() || !work.input.is_empty() {
            text = format!("{}; {text}", transfer::NEEDS);
        }
        if !forget.is_empty() {
            text = format!("{text}; c=$?; {}; exit $c", forget.join("; "));
        }
        let (length, most) = (text.len(), limits::COMMAND_BYTES.end());
        CommandLine::new(text).ok_or_else(|| {
            Failure::usage(format!("the command has {length} bytes, and the service takes at most {most}"))
                .hint("put it into a script and run that with `--file`")
        })
    }
}

/// The place of a script in the session, as the shell's text names it.
const SCRIPT: &str = "\"$f\"";

/// A script as a shell reads it: without the carriage returns that editors of other systems put at line ends.
fn unix_lines(bytes: Vec<u8>) -> Vec<u8> {
    if bytes.contains(&0) {
        return bytes;
    }
    let mut out = Vec::with_capacity(bytes.len());
    let mut bytes = bytes.into_iter().peekable();
    while let Some(byte) = bytes.next() {
        if byte != b'\r' || bytes.peek() != Some(&b'\n') {
            out.push(byte);
        }
    }
    out
}

/// Where a command's output goes.
struct Output<'a> {
    to: &'a ui::Output,
    session: &'a ChosenSession,
    /// Others write there too: lines stay whole, and say whose they are.
    several: bool,
    /// Lines that are not complete, of standard output and standard error.
    lines: [String; 2],
}

impl<'a> Output<'a> {
    fn new(to: &'a ui::Output, session: &'a ChosenSession, several: bool) -> Self {
        Self { to, session, several, lines: Default::default() }
    }

    async fn event(&self, event: &CommandEvent) -> Result<(), Failure> {
        let mut value = event_value(event);
        if let (true, Some(map)) = (self.several, value.as_object_mut()) {
            map.insert("sessionId".to_owned(), json!(self.session.id));
        }
        self.to.event(&value).await
    }

    async fn text(&mut self, stream: OutputStream, text: String) -> Result<(), Failure> {
        if !self.several {
            return self.write(stream, text).await;
        }
        let [out, err] = &mut self.lines;
        let line = if stream == OutputStream::Stdout { out } else { err };
        line.push_str(&text);
        let Some(end) =
            line.rfind('\n').map(|at| at + 1).or((line.len() > MAX_LINE_BYTES).then_some(line.len()))
        else {
            return Ok(());
        };
        let rest = line.split_off(end);
        let whole = std::mem::replace(line, rest);
        self.write_lines(stream, &whole).await
    }

    /// As one piece, which no other session's gets into.
    async fn write_lines(&self, stream: OutputStream, text: &str) -> Result<(), Failure> {
        let lines = text.lines().map(|line| format!("[{}] {line}\n", self.session.label())).collect();
        self.write(stream, lines).await
    }

    async fn write(&self, stream: OutputStream, text: String) -> Result<(), Failure> {
        match stream {
            OutputStream::Stdout => self.to.bytes(text).await,
            OutputStream::Stderr => self.to.error_bytes(text).await,
        }
    }

    /// Writes the last lines, which had no end.
    async fn finish(&mut self) -> Result<(), Failure> {
        let [out, err] = std::mem::take(&mut self.lines);
        self.write_lines(OutputStream::Stdout, &out).await?;
        self.write_lines(OutputStream::Stderr, &err).await
    }
}

/// Passes the command's output on as it comes, until its end.
async fn relay(
    place: &Place<'_>,
    output: &mut Output<'_>,
    stream: &mut CommandStream,
    waiting: &mut Option<Spinner>,
) -> Result<(i32, CommandStatus), Failure> {
    let json = place.context().ui.is_json();
    while let Some(event) = output.to.until(stream.next()).await?.map_err(|e| place.failure(e))? {
        *waiting = None;
        if json {
            output.event(&event).await?;
        }
        match event {
            CommandEvent::Start => {}
            CommandEvent::Delta(_, _) if json => {}
            CommandEvent::Delta(stream, text) => output.text(stream, text).await?,
            CommandEvent::Stop { exit_code, status } => return Ok((exit_code, status)),
        }
    }
    Err(Failure::new(Class::Remote, "the command's output ended without its exit code")
        .hint("the session was stopped, or the service ended"))
}

/// An event in AWS's own words.
fn event_value(event: &CommandEvent) -> Value {
    match event {
        CommandEvent::Start => json!({ "contentStart": {} }),
        CommandEvent::Delta(OutputStream::Stdout, text) => json!({ "contentDelta": { "stdout": text } }),
        CommandEvent::Delta(OutputStream::Stderr, text) => json!({ "contentDelta": { "stderr": text } }),
        CommandEvent::Stop { exit_code, status } => {
            json!({ "contentStop": { "exitCode": exit_code, "status": status.as_str() } })
        }
    }
}

/// A shell's text that runs `argv` word for word, behind a `program` that is a shell's text itself; nothing when a
/// word holds a NUL.
fn shell_text(
    program: Option<&str>,
    argv: &[String],
    cwd: Option<&str>,
    variables: &[(String, String)],
) -> Option<String> {
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
    text.push_str(program.unwrap_or_default());
    for (at, word) in argv.iter().enumerate() {
        if at > 0 || program.is_some() {
            text.push(' ');
        }
        let quoted = shlex::try_quote(word).ok()?;
        if at == 0 && program.is_none() && RESERVED.contains(&quoted.as_ref()) {
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
        let text = shell_text(None, &argv, None, &[]).unwrap();
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
            let text = shell_text(None, &[word.to_owned()], None, &[]).unwrap();
            let status = Command::new("sh").arg("-c").arg(text).output().unwrap().status;
            // `time` may exist as a program and then complains of its missing argument.
            assert!(!status.success(), "{word}");
            assert_ne!(status.code(), Some(2).filter(|_| word != "time"), "{word} was read as syntax");
        }
        let text = shell_text(None, &["A=1".to_owned()], None, &[]).unwrap();
        let status = Command::new("sh").arg("-c").arg(text).output().unwrap().status;
        assert_eq!(status.code(), Some(NOT_FOUND));
    }

    #[test]
    fn directory_and_variables_come_before_the_command() {
        let dir = tempfile::tempdir().unwrap();
        std::fs::create_dir(dir.path().join("-odd dir")).unwrap();
        let argv = ["sh", "-c", "pwd; echo \"$A\""].map(str::to_owned);
        let text = shell_text(None, &argv, Some("-odd dir"), &[("A".into(), "it's".into())]).unwrap();
        let output = Command::new("sh").arg("-c").arg(text).current_dir(dir.path()).output().unwrap();
        let out = String::from_utf8(output.stdout).unwrap();
        assert!(out.ends_with("/-odd dir\nit's\n"), "{out:?} {:?}", output.stderr);
        assert!(shell_text(None, &["a\0b".to_owned()], None, &[]).is_none());
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
