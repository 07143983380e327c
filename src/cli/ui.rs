//! The terminal: the only place that prints. Results go to standard output, talk to standard error.

use std::borrow::Cow;
use std::io::{self, IsTerminal, Write};
use std::os::fd::AsFd;
use std::pin::pin;
use std::process::ExitCode;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::task::Poll;
use std::time::Duration;

use bytes::{Bytes, BytesMut};
use console::Style;
use indicatif::{ProgressBar, ProgressDrawTarget, ProgressState, ProgressStyle, WeakProgressBar};
use nix::errno::Errno;
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::sys::stat::{SFlag, fstat};
use parking_lot::Mutex;
use serde::Serialize;
use serde_json::ser::{Formatter as _, PrettyFormatter};
use tokio::sync::{Semaphore, oneshot, watch};

use super::env::Env;
use super::exit::{Class, Failure, Outcome};
use super::{ColorChoice, OutputFormat};

/// How often a spinner turns.
const TICK: Duration = Duration::from_millis(100);
/// How long a wait may take until its time is shown.
const TIME_AFTER: Duration = Duration::from_secs(2);
/// How many milliseconds Ctrl-C waits for whoever reads standard error, to tell him what it ended. [ours]
const LAST_WORDS_MS: u8 = 200;
/// What is written at a time, unless a piece is longer. [ours: a pipe holds some of them]
const BATCH_BYTES: usize = 16 * 1024;
/// What waits for a reader at most, beside what is being written to him; a longer piece waits alone. [ours: what a pipe holds]
const WAITING_BYTES: usize = 64 * 1024;
/// What of a list is written at a time.
const LIST_BUFFER: usize = 64 * 1024;
/// Width of tables when standard output is no terminal: as wide as they like.
const UNLIMITED: usize = usize::MAX;

/// Standard output and error as the user wants them.
#[derive(Clone)]
pub(crate) struct Ui {
    format: OutputFormat,
    quiet: bool,
    verbose: u8,
    color_out: bool,
    color_err: bool,
    /// The newest spinner: what is said while it turns stands above it.
    spinner: Arc<Mutex<WeakProgressBar>>,
    /// Pieces of long output for standard output that are not written yet.
    pending: Arc<AtomicUsize>,
}

impl Ui {
    pub(crate) fn new(format: OutputFormat, color: ColorChoice, quiet: bool, verbose: u8, env: &Env) -> Self {
        let wanted = |terminal: bool| match color {
            ColorChoice::Auto => terminal && !env.no_color,
            ColorChoice::Always => true,
            ColorChoice::Never => false,
        };
        Self {
            format,
            quiet,
            verbose,
            color_out: wanted(io::stdout().is_terminal()),
            color_err: wanted(io::stderr().is_terminal()),
            spinner: Arc::default(),
            pending: Arc::default(),
        }
    }

    /// True when results are to be JSON.
    pub(crate) fn is_json(&self) -> bool {
        self.format == OutputFormat::Json
    }

    /// True when there is somebody to ask: questions stand on standard error, answers come from standard input.
    pub(crate) fn can_ask(&self) -> bool {
        !self.quiet && io::stdin().is_terminal() && io::stderr().is_terminal()
    }

    /// True when standard error shows colour.
    pub(crate) fn colors_errors(&self) -> bool {
        self.color_err
    }

    /// How often `-v` was given.
    pub(crate) fn verbose(&self) -> u8 {
        self.verbose
    }

    /// Writes a result: `text` for people, `value` as a JSON document.
    pub(crate) fn result(&self, value: &impl Serialize, text: impl AsRef<str>) -> Result<(), Failure> {
        if self.is_json() {
            let json = serde_json::to_string_pretty(value);
            let json = json.map_err(|e| Failure::failed(format!("the result cannot be written: {e}")))?;
            return self.line(&json);
        }
        match text.as_ref() {
            "" => Ok(()),
            text => self.line(text),
        }
    }

    /// Begins a result that is a list, whose JSON is written while its items come.
    pub(crate) fn list(&self) -> Result<ListWriter, Failure> {
        ListWriter::begin().map_err(|e| unwritable(&e))
    }

    /// Writes one event of a stream as a line of JSON.
    pub(crate) fn event(&self, value: &impl Serialize) -> Result<(), Failure> {
        self.line(&json_line(value)?)
    }

    /// Writes a line of text to standard output.
    pub(crate) fn line(&self, text: &str) -> Result<(), Failure> {
        self.bytes(format!("{text}\n").as_bytes())
    }

    /// Writes bytes to standard output exactly as they are, and at once.
    pub(crate) fn bytes(&self, bytes: &[u8]) -> Result<(), Failure> {
        write_out(bytes).map_err(|e| unwritable(&e))
    }

    /// Standard output and error for what may be long: whoever writes to it goes on hearing of other things while the reader
    /// takes its time.
    pub(crate) fn output(&self) -> Output {
        Output::new(self.clone())
    }

    /// Ends a line that was written without an end, where people look at it.
    pub(crate) fn end_terminal_line(&self) {
        if io::stdout().is_terminal() {
            let _ = writeln!(io::stdout().lock());
        }
    }

    /// Writes bytes to standard error exactly as they are, and at once.
    pub(crate) fn error_bytes(&self, bytes: &[u8]) -> Result<(), Failure> {
        let mut err = io::stderr().lock();
        err.write_all(bytes).and_then(|()| err.flush()).map_err(|e| unwritable(&e))
    }

    /// Says something on standard error, unless told to be quiet.
    pub(crate) fn note(&self, text: impl AsRef<str>) {
        if !self.quiet {
            self.say(text.as_ref());
        }
    }

    /// Takes notes from elsewhere.
    pub(crate) fn listener(&self) -> impl Fn(String) + Send + Sync + 'static {
        let ui = self.clone();
        move |text| ui.note(text)
    }

    /// Warns on standard error.
    pub(crate) fn warn(&self, text: impl AsRef<str>) {
        self.say(&self.warning(text.as_ref()));
    }

    fn warning(&self, text: &str) -> String {
        format!("{} {text}", self.style("warning:", Style::new().yellow().bold()))
    }

    fn say(&self, text: &str) {
        let write = || {
            tell(text);
        };
        match self.spinner.lock().upgrade() {
            Some(bar) if !bar.is_finished() => bar.suspend(write),
            _ => write(),
        }
    }

    fn style<'t>(&self, text: &'t str, style: Style) -> Cow<'t, str> {
        if self.color_err { style.force_styling(true).apply_to(text).to_string().into() } else { text.into() }
    }

    /// A state's word, coloured where standard output shows colour.
    pub(crate) fn state(&self, word: &str) -> String {
        let style = match word {
            "ready" | "READY" => Style::new().green(),
            "provisioning" | "stopping" | "CREATING" | "UPDATING" | "DELETING" => Style::new().yellow(),
            word if word.ends_with("FAILED") => Style::new().red(),
            _ => Style::new().dim(),
        };
        if self.color_out { style.force_styling(true).apply_to(word).to_string() } else { word.to_owned() }
    }

    /// Asks on the terminal; nothing where nobody can answer.
    pub(crate) fn confirm(&self, question: &str, default: bool) -> Result<Option<bool>, Failure> {
        if self.is_json() || !io::stdin().is_terminal() || !io::stderr().is_terminal() {
            return Ok(None);
        }
        let asked = dialoguer::Confirm::new().with_prompt(question).default(default).interact_opt();
        match asked {
            Ok(answer) => Ok(Some(answer.unwrap_or(false))),
            Err(e) => Err(Failure::failed(format!("the question could not be asked: {e}"))),
        }
    }

    /// A spinner with the elapsed time where it takes long, shown when standard error is a terminal; gone when dropped.
    pub(crate) fn spinner(&self, text: impl Into<String>) -> Spinner {
        let shown = !self.quiet && io::stderr().is_terminal();
        let target = if shown { ProgressDrawTarget::stderr() } else { ProgressDrawTarget::hidden() };
        let bar = ProgressBar::with_draw_target(None, target);
        if let Ok(style) = ProgressStyle::with_template("{spinner} {msg}{after}") {
            bar.set_style(style.with_key("after", |state: &ProgressState, out: &mut dyn std::fmt::Write| {
                if state.elapsed() >= TIME_AFTER {
                    // A line that cannot be drawn is drawn again a moment later.
                    let _ = write!(out, " ({}s)", state.elapsed().as_secs());
                }
            }));
        }
        bar.set_message(text.into());
        if shown {
            bar.enable_steady_tick(TICK);
            *self.spinner.lock() = bar.downgrade();
        }
        Spinner { bar, plain: !shown && !self.quiet }
    }

    /// The text cut to what stands on one line of the terminal beside a spinner, or on a part of it.
    pub(crate) fn fitting(&self, text: &str, parts: usize) -> String {
        /// The spinner and its time.
        const BESIDE: usize = 12;
        let width = usize::from(console::Term::stderr().size().1).saturating_sub(BESIDE) / parts.max(1);
        console::truncate_str(text, width, "…").into_owned()
    }

    /// Rows as a table as wide as it needs to be.
    pub(crate) fn wide_table(&self, rows: &[Vec<String>]) -> String {
        table(rows, UNLIMITED)
    }

    /// Text of others as one line that does nothing to a terminal.
    pub(crate) fn plain(&self, text: &str) -> String {
        text.chars().map(|c| if c.is_control() { ' ' } else { c }).collect()
    }

    /// True when people look at results as they come.
    pub(crate) fn is_looked_at(&self) -> bool {
        !self.is_json() && io::stdout().is_terminal()
    }

    /// Rows as a table that fits the terminal: the widest column gives way. The first row is the head.
    pub(crate) fn table<R: AsRef<[String]>>(&self, rows: &[R]) -> String {
        let term = console::Term::stdout();
        let width = if term.is_term() { usize::from(term.size().1) } else { UNLIMITED };
        table(rows, width)
    }

    /// Tells how the command ended and gives its exit code.
    pub(crate) fn finish(&self, outcome: Outcome) -> ExitCode {
        let failure = match outcome {
            Ok(code) => return ExitCode::from(code),
            Err(failure) => failure,
        };
        if failure.class != Class::BrokenPipe {
            // Ctrl-C ends the wait for a reader that does not read, too; nothing stands within what he has not got yet.
            let waited = failure.class != Class::Interrupted;
            let idle =
                || self.pending.load(Ordering::Acquire) == 0 && takes_more(&io::stdout(), PollTimeout::ZERO);
            if self.is_json() && (waited || idle()) {
                let _ = self.event(&failure.to_json());
            }
            if waited || takes_more(&io::stderr(), LAST_WORDS_MS.into()) {
                self.failure(&failure);
            }
        }
        ExitCode::from(failure.class.code())
    }

    fn failure(&self, failure: &Failure) {
        if failure.class == Class::Interrupted {
            return self.note(&failure.message);
        }
        self.say(&format!("{} {}", self.style("error:", Style::new().red().bold()), failure.message));
        for line in failure.detail_lines() {
            self.say(&format!("  | {line}"));
        }
        if let Some(hint) = &failure.hint {
            self.say(&format!("{} {hint}", self.style("hint:", Style::new().cyan().bold())));
        }
    }
}

/// Writes all of it. Not through `io::stdout`, which looks for the ends of lines and writes every piece in two.
fn write_out(bytes: &[u8]) -> io::Result<()> {
    write_all(&io::stdout(), bytes)
}

fn write_all(out: &impl AsFd, mut bytes: &[u8]) -> io::Result<()> {
    while !bytes.is_empty() {
        match nix::unistd::write(out.as_fd(), bytes) {
            Ok(0) => return Err(io::ErrorKind::WriteZero.into()),
            Ok(count) => bytes = bytes.get(count..).unwrap_or_default(),
            Err(Errno::EINTR) => {}
            // Somebody who shares it does not want to wait there.
            Err(Errno::EAGAIN) => {
                let mut ready = [PollFd::new(out.as_fd(), PollFlags::POLLOUT)];
                match poll(&mut ready, PollTimeout::NONE) {
                    Ok(_) | Err(Errno::EINTR) => {}
                    Err(e) => return Err(e.into()),
                }
            }
            Err(e) => return Err(e.into()),
        }
    }
    Ok(())
}

/// Standard output by [`write_out`].
struct Stdout;

impl io::Write for Stdout {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        write_out(bytes)?;
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// True when something can be written there within that time.
fn takes_more(out: &impl AsFd, within: PollTimeout) -> bool {
    let mut ready = [PollFd::new(out.as_fd(), PollFlags::POLLOUT)];
    poll(&mut ready, within).is_ok_and(|count| count > 0)
}

/// Where a piece of output goes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum To {
    Stdout,
    Stderr,
    /// Standard error too, which may be gone: nobody is left to tell then.
    Talk,
}

impl To {
    fn write(self, bytes: &[u8]) -> io::Result<()> {
        match self {
            Self::Stdout => write_all(&io::stdout(), bytes),
            Self::Stderr => write_all(&io::stderr(), bytes),
            Self::Talk => {
                let _ = write_all(&io::stderr(), bytes);
                Ok(())
            }
        }
    }
}

/// Pieces in their order.
type Parts = Vec<(To, Bytes)>;

/// What a thread that writes is sent.
enum Piece {
    Parts(Parts),
    /// Answered when everything before it is written.
    Mark(oneshot::Sender<()>),
}

/// Standard output and error for what may be long, in the order in which it comes. Files are written at once; where there
/// is a reader, a thread writes, because a write that waits for him can not be given up. The program's end ends it.
pub(crate) struct Output {
    ui: Ui,
    writer: Option<Writer>,
    /// Whether standard output and error are files.
    files: [bool; 2],
    /// What is not on its way yet: short pieces that come at a time go together.
    batch: Mutex<Batch>,
}

#[derive(Default)]
struct Batch {
    parts: Vec<(To, BytesMut)>,
    bytes: usize,
}

impl Batch {
    /// Adds a piece, and gives what is to go now.
    fn add(&mut self, to: To, bytes: Bytes) -> Parts {
        let mut full = Vec::new();
        if self.bytes + bytes.len() > BATCH_BYTES {
            full = self.take();
        }
        if bytes.len() > BATCH_BYTES {
            full.push((to, bytes));
            return full;
        }
        self.bytes += bytes.len();
        match self.parts.last_mut().filter(|(last, _)| *last == to) {
            Some((_, last)) => last.extend_from_slice(&bytes),
            None => self.parts.push((to, bytes.into())),
        }
        full
    }

    fn take(&mut self) -> Parts {
        self.bytes = 0;
        self.parts.drain(..).map(|(to, bytes)| (to, bytes.freeze())).collect()
    }
}

/// The thread, seen from outside.
struct Writer {
    pieces: std::sync::mpsc::Sender<Piece>,
    /// For bytes that wait for it; it makes room when it begins to write them.
    room: Arc<Semaphore>,
    /// How it ended.
    ended: watch::Receiver<Option<io::Result<()>>>,
}

impl Output {
    fn new(ui: Ui) -> Self {
        let files = [is_file(&io::stdout()), is_file(&io::stderr())];
        let writer = (files != [true; 2]).then(|| Writer::begin(ui.pending.clone()));
        Self { ui, writer, files, batch: Mutex::default() }
    }

    /// Writes bytes to standard output exactly as they are, with what comes at the same time; returns when the reader has
    /// taken most of what was written before.
    pub(crate) async fn bytes(&self, bytes: impl Into<Bytes>) -> Result<(), Failure> {
        self.send(To::Stdout, bytes.into()).await
    }

    /// Writes bytes to standard error in the same way.
    pub(crate) async fn error_bytes(&self, bytes: impl Into<Bytes>) -> Result<(), Failure> {
        self.send(To::Stderr, bytes.into()).await
    }

    /// Writes a line of text to standard output.
    pub(crate) async fn line(&self, text: &str) -> Result<(), Failure> {
        self.bytes(format!("{text}\n")).await
    }

    /// Writes one event of a stream as a line of JSON.
    pub(crate) async fn event(&self, value: &impl Serialize) -> Result<(), Failure> {
        self.line(&json_line(value)?).await
    }

    /// Says something on standard error, unless told to be quiet.
    pub(crate) async fn note(&self, text: impl AsRef<str>) -> Result<(), Failure> {
        match self.ui.quiet {
            true => Ok(()),
            false => self.send(To::Talk, format!("{}\n", text.as_ref()).into()).await,
        }
    }

    /// Warns on standard error.
    pub(crate) async fn warn(&self, text: impl AsRef<str>) -> Result<(), Failure> {
        self.send(To::Talk, format!("{}\n", self.ui.warning(text.as_ref())).into()).await
    }

    async fn send(&self, to: To, bytes: Bytes) -> Result<(), Failure> {
        let full = self.batch.lock().add(to, bytes);
        self.hand_over(full).await
    }

    /// Sends on its way what is not; returns when the reader has taken most of what was sent before.
    async fn flush(&self) -> Result<(), Failure> {
        let rest = self.batch.lock().take();
        self.hand_over(rest).await
    }

    async fn hand_over(&self, parts: Parts) -> Result<(), Failure> {
        let [out, err] = self.files;
        let (now, parts): (Parts, Parts) =
            parts.into_iter().partition(|(to, _)| if *to == To::Stdout { out } else { err });
        now.iter().try_for_each(|(to, bytes)| to.write(bytes)).map_err(|e| unwritable(&e))?;
        let Some(writer) = self.writer.as_ref().filter(|_| !parts.is_empty()) else { return Ok(()) };
        match writer.room.acquire_many(room_for(&parts)).await {
            Ok(room) => room.forget(),
            Err(_) => return Err(self.broken().await),
        }
        if for_stdout(&parts) {
            self.ui.pending.fetch_add(1, Ordering::AcqRel);
        }
        match writer.pieces.send(Piece::Parts(parts)) {
            Ok(()) => Ok(()),
            Err(_) => Err(self.broken().await),
        }
    }

    /// Waits for what is to be written next. What has come until then is shown meanwhile, and nothing is waited for when it
    /// cannot be.
    pub(crate) async fn until<T>(&self, next: impl Future<Output = T>) -> Result<T, Failure> {
        let mut next = pin!(next);
        if let Poll::Ready(found) = futures_util::poll!(next.as_mut()) {
            return Ok(found);
        }
        self.flush().await?;
        tokio::select! {
            found = next => Ok(found),
            failure = self.broken() => Err(failure),
        }
    }

    /// Waits until something could not be written, for as long as it takes.
    async fn broken(&self) -> Failure {
        let Some(writer) = &self.writer else { return std::future::pending().await };
        let mut ended = writer.ended.clone();
        match ended.wait_for(Option::is_some).await.as_deref() {
            Ok(Some(Err(e))) => unwritable(e),
            Ok(_) | Err(_) => Failure::failed("the output cannot be written any more"),
        }
    }

    /// Returns when all of it is written, or when it is known that it cannot be.
    pub(crate) async fn written(&self) -> Result<(), Failure> {
        self.flush().await?;
        let Some(writer) = &self.writer else { return Ok(()) };
        let (mark, reached) = oneshot::channel();
        // A thread that has ended has dropped it.
        let _ = writer.pieces.send(Piece::Mark(mark));
        match reached.await {
            Ok(()) => Ok(()),
            Err(_) => Err(self.broken().await),
        }
    }
}

impl Writer {
    fn begin(pending: Arc<AtomicUsize>) -> Self {
        let (pieces, waiting) = std::sync::mpsc::channel();
        let (end, ended) = watch::channel(None);
        let room = Arc::new(Semaphore::new(WAITING_BYTES));
        let freed = room.clone();
        std::thread::spawn(move || {
            let result = write_pieces(&waiting, &freed, &pending);
            // Whoever does not wait for the end has given the output up.
            let _ = end.send(Some(result));
            freed.close();
        });
        Self { pieces, room, ended }
    }
}

/// The room that pieces take: what is longer than all of it waits alone.
fn room_for(parts: &[(To, Bytes)]) -> u32 {
    let bytes: usize = parts.iter().map(|(_, bytes)| bytes.len()).sum();
    u32::try_from(bytes.min(WAITING_BYTES)).unwrap_or(u32::MAX)
}

fn for_stdout(parts: &[(To, Bytes)]) -> bool {
    parts.iter().any(|(to, _)| *to == To::Stdout)
}

/// Writes what comes until nobody sends any more.
fn write_pieces(
    waiting: &std::sync::mpsc::Receiver<Piece>,
    room: &Semaphore,
    pending: &AtomicUsize,
) -> io::Result<()> {
    for piece in waiting {
        match piece {
            Piece::Parts(parts) => {
                room.add_permits(room_for(&parts) as usize);
                parts.iter().try_for_each(|(to, bytes)| to.write(bytes))?;
                if for_stdout(&parts) {
                    pending.fetch_sub(1, Ordering::AcqRel);
                }
            }
            // Whoever waits there may have gone.
            Piece::Mark(mark) => _ = mark.send(()),
        }
    }
    Ok(())
}

/// True for a file and for a device that is no terminal: nobody has to read them.
fn is_file(stream: &(impl AsFd + IsTerminal)) -> bool {
    let kind = fstat(stream.as_fd()).map(|stat| SFlag::from_bits_truncate(stat.st_mode) & SFlag::S_IFMT);
    kind == Ok(SFlag::S_IFREG) || kind == Ok(SFlag::S_IFCHR) && !stream.is_terminal()
}

/// A value as a line of JSON, without its end.
fn json_line(value: &impl Serialize) -> Result<String, Failure> {
    serde_json::to_string(value).map_err(|e| Failure::failed(format!("the result cannot be written: {e}")))
}

fn unwritable(error: &io::Error) -> Failure {
    match error.kind() {
        io::ErrorKind::BrokenPipe => Failure::new(Class::BrokenPipe, "the reader of the output has gone"),
        _ => Failure::failed(format!("the output cannot be written: {error}")),
    }
}

/// A spinner that ends when it is dropped.
pub(crate) struct Spinner {
    bar: ProgressBar,
    /// No terminal: later messages become plain lines.
    plain: bool,
}

/// A line on standard error, in one piece: a Ctrl-C throws away what the terminal has not shown yet, and the end of a line must
/// not stay behind its text.
fn tell(text: &str) {
    // Nobody is left to tell when standard error is gone.
    let _ = io::stderr().lock().write_all(format!("{text}\n").as_bytes());
}

impl Spinner {
    /// Says something else.
    pub(crate) fn message(&self, text: &str) {
        if self.plain && self.bar.message() != text {
            tell(text);
        }
        self.bar.set_message(text.to_owned());
    }
}

impl Spinner {
    /// One that nobody sees.
    pub(crate) fn hidden() -> Self {
        Self { bar: ProgressBar::hidden(), plain: false }
    }

    /// Says how far it is; only where somebody looks at it.
    pub(crate) fn progress(&self, text: &str) {
        self.bar.set_message(text.to_owned());
    }
}

impl Drop for Spinner {
    fn drop(&mut self) {
        self.bar.finish_and_clear();
    }
}

/// Tells what is wrong with a command line, in this program's form of messages; prints help and version.
pub(crate) fn usage(error: &clap::Error, env: &Env) -> ExitCode {
    if !error.use_stderr() {
        // Help and version are results. A reader that has gone is no failure.
        let text = error.render();
        let terminal = io::stdout().is_terminal() && !env.no_color;
        let text = if terminal { text.ansi().to_string() } else { text.to_string() };
        let _ = io::stdout().lock().write_all(text.as_bytes());
        return ExitCode::SUCCESS;
    }
    let ui = Ui::new(OutputFormat::Text, ColorChoice::Auto, false, 0, env);
    ui.finish(Err(usage_failure(&error.render().to_string())))
}

fn usage_failure(text: &str) -> Failure {
    // A command that only has others: clap gives its help, which begins with what it is for.
    if let Some((_, commands)) = text.split_once("\nCommands:\n").filter(|_| !text.starts_with("error:")) {
        let entry =
            |line: &str| line.strip_prefix("  ").and_then(|l| l.split_whitespace().next().map(str::to_owned));
        let names: Vec<String> = commands
            .lines()
            .take_while(|l| !l.is_empty())
            .filter(|l| !l.starts_with("   "))
            .filter_map(entry)
            .collect();
        return Failure::usage("expected a command")
            .hint(format!("one of {}; see `--help`", names.join(", ")));
    }
    let (mut message, mut hint, mut usage) = (Vec::new(), None, None);
    for line in text.lines().map(str::trim).filter(|l| !l.is_empty()) {
        if let Some(line) = line.strip_prefix("Usage:") {
            usage = Some(format!("usage: {}", line.trim()));
        } else if let Some(tip) = line.strip_prefix("tip:") {
            hint = hint.or(Some(tip.trim().to_owned()));
        } else if line.starts_with("For more information") || usage.is_some() {
            continue;
        } else {
            message.push(line.strip_prefix("error:").unwrap_or(line).trim());
        }
    }
    let mut failure = Failure::usage(quote(&message.join(" ")));
    failure.hint = hint.or(usage).map(|h| quote(&h)).or(Some("see `agentcore --help`".into()));
    failure
}

/// clap quotes with apostrophes, this program with backticks.
fn quote(text: &str) -> String {
    text.replace('\'', "`")
}

fn table<R: AsRef<[String]>>(rows: &[R], width: usize) -> String {
    /// Between two columns.
    const GAP: usize = 2;
    /// A column that gives way keeps this much.
    const LEAST: usize = 8;
    let columns = rows.iter().map(|row| row.as_ref().len()).max().unwrap_or(0);
    let mut widths = vec![0; columns];
    for row in rows {
        for (cell, width) in row.as_ref().iter().zip(&mut widths) {
            *width = (*width).max(width_of(cell));
        }
    }
    let total = |widths: &[usize]| widths.iter().sum::<usize>() + GAP * columns.saturating_sub(1);
    loop {
        let excess = total(&widths).saturating_sub(width);
        // The widest gives way to the width of the next one, then both do, and so on.
        let widest = widths.iter().copied().max().unwrap_or(0);
        if excess == 0 || widest <= LEAST {
            break;
        }
        let next = widths.iter().copied().filter(|w| *w < widest).max().unwrap_or(0);
        let alike = widths.iter().filter(|w| **w == widest).count();
        let narrower = widest.saturating_sub(excess.div_ceil(alike)).max(next).max(LEAST);
        widths.iter_mut().filter(|w| **w == widest).for_each(|w| *w = narrower);
    }
    let mut text = String::with_capacity(rows.len() * (total(&widths) + 1));
    for row in rows {
        for (cell, width) in row.as_ref().iter().zip(&widths) {
            let mut long = width_of(cell);
            if long <= *width {
                text.push_str(cell);
            } else {
                let cut = console::truncate_str(cell, *width, "…");
                long = width_of(&cut);
                text.push_str(&cut);
            }
            text.extend(std::iter::repeat_n(' ', width.saturating_sub(long) + GAP));
        }
        text.truncate(text.trim_end_matches(' ').len());
        text.push('\n');
    }
    text.pop();
    text
}

/// The columns that a text takes on a terminal.
fn width_of(text: &str) -> usize {
    // Most texts are plain, and there may be thousands of them.
    let plain = |b: u8| (b' '..=b'~').contains(&b);
    if text.bytes().all(plain) { text.len() } else { console::measure_text_width(text) }
}

/// A list that is written while its items come.
pub(crate) struct ListWriter {
    out: io::BufWriter<Stdout>,
    form: PrettyFormatter<'static>,
    first: bool,
}

impl ListWriter {
    fn begin() -> io::Result<Self> {
        let mut out = io::BufWriter::with_capacity(LIST_BUFFER, Stdout);
        let mut form = PrettyFormatter::new();
        form.begin_array(&mut out)?;
        Ok(Self { out, form, first: true })
    }

    /// Writes one more of its items.
    pub(crate) fn item(&mut self, item: &impl Serialize) -> Result<(), Failure> {
        self.form.begin_array_value(&mut self.out, self.first).map_err(|e| unwritable(&e))?;
        self.first = false;
        let mut json = serde_json::Serializer::with_formatter(&mut self.out, self.form.clone());
        item.serialize(&mut json).map_err(|e| match e.io_error_kind() {
            Some(kind) => unwritable(&kind.into()),
            None => Failure::failed(format!("the result cannot be written: {e}")),
        })?;
        self.form.end_array_value(&mut self.out).map_err(|e| unwritable(&e))
    }

    /// Ends the list.
    pub(crate) fn end(mut self) -> Result<(), Failure> {
        let ended = self.form.end_array(&mut self.out).and_then(|()| self.out.write_all(b"\n"));
        ended.and_then(|()| self.out.flush()).map_err(|e| unwritable(&e))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_table_fits_its_width_by_shortening_the_widest_column() {
        let rows =
            vec![vec!["SESSION".to_owned(), "STATE".to_owned()], vec!["a".repeat(60), "ready".to_owned()]];
        let text = table(&rows, 30);
        assert!(text.lines().all(|l| console::measure_text_width(l) <= 30), "{text}");
        assert!(text.contains('…') && text.contains("ready"), "{text}");
        assert!(table(&rows, UNLIMITED).contains(&"a".repeat(60)));
        assert_eq!(table::<Vec<String>>(&[], 10), "");
        // Several wide columns give way together; those that are narrow anyway stay whole.
        let rows = vec![["a".repeat(30), "b".repeat(25), "cc".to_owned(), "d".repeat(12)].to_vec()];
        let text = table(&rows, 50);
        assert!(console::measure_text_width(text.trim_end()) <= 50, "{text}");
        assert!(text.contains("  cc  ") && text.contains(&"d".repeat(12)), "{text}");
        // Too narrow for anything: it ends all the same.
        assert!(table(&rows, 3).contains("aaaaaaa…"));
    }

    #[test]
    fn usage_errors_take_this_programs_form() {
        let text = "error: unexpected argument '--foo' found\n\n  tip: a similar argument exists: '--force'\n\nUsage: agentcore local deploy [OPTIONS]\n\nFor more information, try '--help'.\n";
        let failure = usage_failure(text);
        assert_eq!(failure.message, "unexpected argument `--foo` found");
        assert_eq!(failure.hint.as_deref(), Some("a similar argument exists: `--force`"));
        let text = "What it is for\n\nUsage: agentcore <COMMAND>\n\nCommands:\n  create     Make\n  configure  Write\n             or change\n\nOptions:\n  -q\n";
        let failure = usage_failure(text);
        assert_eq!(failure.message, "expected a command");
        assert_eq!(failure.hint.as_deref(), Some("one of create, configure; see `--help`"));
        let text = "error: the following required arguments were not provided:\n  <NAME>\n\nUsage: agentcore create <NAME>\n";
        let failure = usage_failure(text);
        assert_eq!(failure.message, "the following required arguments were not provided: <NAME>");
        assert_eq!(failure.hint.as_deref(), Some("usage: agentcore create <NAME>"));
    }
}
