//! What a session is asked to do for a copy: texts for its shell, and what it answers. They need `sh`, `tar`,
//! `base64`, `head` and `wc`, and say so themselves where one is missing.

use std::time::Duration;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;

use super::MOST_OUT;
use crate::aws::{AwsError, CommandCall, DataClient, SessionCall};
use crate::cli::exit::{Class, Failure};
use crate::cli::target::Place;
use crate::cli::transfer::{self, Carried};
use crate::model::{CommandEvent, CommandLine, CommandTimeout, OutputStream, limits};

/// How long a copy that is given up may take to clear away. [ours]
pub(super) const FORGET: Duration = Duration::from_secs(10);
/// Exit code of the texts where the session lacks a program.
const LACKS: i32 = 125;
/// Most of what the session's `tar` says that is kept. [ours]
const MAX_ERRORS: usize = 64 * 1024;

/// What is at a path of a session.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Kind {
    Directory,
    /// A file, a link, or something else that is no directory.
    File,
    Nothing,
    /// Nothing, in no directory.
    NoParent,
}

/// The kind in a session's answer.
pub(super) fn kind(answer: &str) -> Result<Kind, Failure> {
    match answer.trim() {
        "d" => Ok(Kind::Directory),
        "f" => Ok(Kind::File),
        "n" => Ok(Kind::Nothing),
        "m" => Ok(Kind::NoParent),
        _ => Err(Failure::new(Class::Remote, "the session's shell does not answer as a shell does")
            .hint("`exec -- sh -c 'echo d'` shows what it writes")),
    }
}

/// The failure of a text in the session.
pub(super) fn failure(code: i32, errors: &str) -> Failure {
    let lines: Vec<String> = errors.lines().filter(|l| !l.is_empty()).map(str::to_owned).collect();
    if code == LACKS {
        return Failure::failed(lines.first().cloned().unwrap_or_default())
            .hint("`cp` needs `tar` and `base64` in the session");
    }
    Failure::failed("the session could not copy").details(lines)
}

/// A word for a shell, which is never read as an option.
fn quoted(path: &str) -> String {
    let path = if path.starts_with('-') { format!("./{path}") } else { path.to_owned() };
    // A NUL was refused with the command line.
    shlex::try_quote(&path).map(std::borrow::Cow::into_owned).unwrap_or_default()
}

fn needs() -> &'static str {
    "for t in tar base64 head wc; do command -v $t >/dev/null || \
     { echo \"the session has no \\`$t\\`\" >&2; exit 125; }; done"
}

/// `DIR/.` and directories without a name: what is in them.
pub(super) fn is_contents(path: &str) -> bool {
    matches!(path.trim_end_matches('/').rsplit('/').next(), None | Some("" | "." | ".."))
}

/// A path without slashes at its end.
pub(super) fn trimmed(path: &str) -> &str {
    match path.trim_end_matches('/') {
        "" => "/",
        path => path,
    }
}

/// The directory of a path and the name in it.
pub(super) fn split(path: &str) -> (String, String) {
    let path = path.trim_end_matches('/');
    match path.rsplit_once('/') {
        Some(("", base)) => ("/".to_owned(), base.to_owned()),
        Some((directory, base)) => (directory.to_owned(), base.to_owned()),
        None => (".".to_owned(), path.to_owned()),
    }
}

/// The directory that `tar` is called in, and what it packs.
fn packed(path: &str) -> (String, String) {
    if is_contents(path) {
        return (quoted(path), ".".to_owned());
    }
    let (directory, base) = split(path);
    (quoted(&directory), quoted(&format!("./{base}")))
}

/// Asks for the kind of a path and the size of its archive; more than `most` is not counted.
pub(super) fn ask_source(path: &str, most: u64) -> String {
    let (directory, what) = packed(path);
    let whole = quoted(if is_contents(path) { path } else { trimmed(path) });
    format!(
        "{}; p={whole}; if [ -d \"$p\" ] && {{ {} || [ ! -L \"$p\" ]; }}; then k=d; \
         elif [ -e \"$p\" ] || [ -L \"$p\" ]; then k=f; else echo n; exit 0; fi; cd {directory} || exit; \
         printf '%s %s\\n' $k $(tar -cf - {what} 2>/dev/null | head -c {} | wc -c)",
        needs(),
        is_contents(path),
        most + 1,
    )
}

/// Asks for the kind of a destination.
pub(super) fn ask_destination(path: &str) -> String {
    let (directory, _) = split(path);
    format!(
        "{}; p={}; if [ -d \"$p\" ]; then echo d; elif [ -e \"$p\" ] || [ -L \"$p\" ]; then echo f; \
         elif [ -d {} ]; then echo n; else echo m; fi",
        needs(),
        quoted(path),
        quoted(&directory),
    )
}

/// Unpacks what it reads beside the destination, then moves it there: a file is there whole or not at all.
pub(super) fn unpack(id: &str, directory: &str, make: bool) -> String {
    let make = if make { "mkdir \"$d\" || exit; " } else { "" };
    // Positional parameters are the only variables that a function of every shell has for itself.
    format!(
        "d={}; {make}s=\"$d/.agentcore-cp-{id}\"; trap 'rm -rf \"$s\"' EXIT; trap 'exit 130' HUP INT TERM; \
         check() {{ if [ -d \"$1\" ] && [ ! -L \"$1\" ]; then \
         if [ ! -d \"$2\" ]; then [ -e \"$2\" ] || [ -L \"$2\" ] || return 0; \
         echo \"$2: is there and is no directory\" >&2; return 1; fi; \
         for e in \"$1\"/* \"$1\"/.[!.]* \"$1\"/..?*; do [ -e \"$e\" ] || [ -L \"$e\" ] || continue; \
         check \"$e\" \"$2/${{e##*/}}\" || return 1; done; \
         elif [ -d \"$2\" ] && [ ! -L \"$2\" ]; then echo \"$2: is a directory\" >&2; return 1; fi; }}; \
         merge() {{ if [ -d \"$1\" ] && [ ! -L \"$1\" ] && [ -d \"$2\" ]; then \
         for e in \"$1\"/* \"$1\"/.[!.]* \"$1\"/..?*; do [ -e \"$e\" ] || [ -L \"$e\" ] || continue; \
         merge \"$e\" \"$2/${{e##*/}}\" || return 1; done; \
         else if [ -L \"$2\" ]; then rm -f \"$2\" || return 1; fi; mv -f \"$1\" \"$2\" || return 1; fi; }}; \
         mkdir -m 700 \"$s\" && tar -xpf - -C \"$s\" && check \"$s\" \"$d\" && merge \"$s\" \"$d\"",
        quoted(directory),
    )
}

/// The text that unpacks, reading what was carried in.
pub(super) fn with_archive(carried: &Carried, text: &str) -> String {
    let forget = carried.forget.as_deref().unwrap_or(":");
    format!("{} | ( {text} ); c=$?; {forget}; exit $c", carried.reader)
}

/// Removes what was carried in, and what was unpacked of it beside the destination `path`.
pub(super) fn forget(id: &str, path: &str) -> String {
    let (directory, _) = split(path);
    let stage = |at: &str| quoted(&format!("{}/.agentcore-cp-{id}", at.trim_end_matches('/')));
    format!("{}; rm -rf {} {}", transfer::forget(id), stage(path), stage(&directory))
}

/// Why nothing, or not all, was fetched.
pub(super) enum FetchError {
    Aws(AwsError),
    Failure(Failure),
}

impl From<AwsError> for FetchError {
    fn from(error: AwsError) -> Self {
        Self::Aws(error)
    }
}

impl From<Failure> for FetchError {
    fn from(failure: Failure) -> Self {
        Self::Failure(failure)
    }
}

impl FetchError {
    pub(super) fn failure(self, place: &Place<'_>) -> Failure {
        match self {
            Self::Aws(error) => place.failure(error),
            Self::Failure(failure) => failure,
        }
    }
}

/// Gives the archive of a path, piece by piece; and what the session's `tar` had to say, where it was content.
pub(super) async fn fetch(
    data: &DataClient,
    to: &SessionCall,
    path: &str,
    mut each: impl FnMut(&[u8]) -> Result<(), Failure>,
) -> Result<Vec<String>, FetchError> {
    let (directory, what) = packed(path);
    // A pipe has the exit code of its last program; what became of the first one is written behind its messages.
    let mark = format!("agentcore-{}", uuid::Uuid::new_v4().simple());
    let text = format!("cd {directory} && {{ tar -cf - {what}; echo \"{mark} $?\" >&2; }} | base64");
    let command = CommandLine::new(text).ok_or_else(|| Failure::usage("the path is too long"))?;
    let timeout = CommandTimeout::new(*limits::COMMAND_TIMEOUT_SECONDS.end());
    let mut stream = data.run_command(CommandCall { to: to.clone(), command, timeout }).await?;
    let (mut text, mut errors, mut bytes) = (Decoder::default(), String::new(), 0_u64);
    let code = loop {
        match stream.next().await? {
            None => {
                return Err(Failure::new(
                    Class::Remote,
                    "the archive ended in its middle; nothing was copied",
                )
                .hint("the session was stopped, or the service ended")
                .into());
            }
            Some(CommandEvent::Start) => {}
            Some(CommandEvent::Delta(OutputStream::Stdout, piece)) => {
                let piece = text.push(&piece)?;
                bytes += piece.len() as u64;
                if bytes > MOST_OUT {
                    return Err(super::too_much("what the session sends", MOST_OUT).into());
                }
                each(&piece)?;
            }
            Some(CommandEvent::Delta(OutputStream::Stderr, piece)) if errors.len() < MAX_ERRORS => {
                errors.push_str(&piece);
            }
            Some(CommandEvent::Delta(OutputStream::Stderr, piece)) => {
                // The mark stands at the end.
                errors.push_str(piece.lines().last().unwrap_or_default());
            }
            Some(CommandEvent::Stop { exit_code, .. }) => break exit_code,
        }
    };
    text.finish()?;
    let marked = errors.rsplit_once(&mark).map(|(said, code)| (said.to_owned(), code.trim().to_owned()));
    match marked {
        // 1 is GNU tar's word for a file that changed while it was read.
        Some((said, ended)) if code == 0 && (ended == "0" || ended == "1") => {
            Ok(said.lines().filter(|l| !l.is_empty()).map(str::to_owned).collect())
        }
        Some((said, _)) => Err(failure(code, &said).into()),
        None => Err(failure(code, &errors).into()),
    }
}

/// Reads base64 that comes in pieces and lines.
#[derive(Default)]
struct Decoder {
    /// Characters that make no whole byte yet.
    rest: Vec<u8>,
}

impl Decoder {
    fn push(&mut self, text: &str) -> Result<Vec<u8>, Failure> {
        self.rest.extend(text.bytes().filter(|b| !b.is_ascii_whitespace()));
        let whole = self.rest.len() / 4 * 4;
        let bytes = STANDARD.decode(self.rest.get(..whole).unwrap_or_default()).map_err(|_| damaged())?;
        self.rest.drain(..whole);
        Ok(bytes)
    }

    fn finish(&self) -> Result<(), Failure> {
        if self.rest.is_empty() { Ok(()) } else { Err(damaged()) }
    }
}

fn damaged() -> Failure {
    Failure::new(Class::Remote, "what the session sent is damaged; nothing was copied")
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn paths_are_taken_apart_as_shells_do() {
        for (path, directory, base) in
            [("/a", "/", "a"), ("/a/b/", "/a", "b"), ("b", ".", "b"), ("a/b", "a", "b"), ("-x", ".", "-x")]
        {
            assert_eq!(split(path), (directory.to_owned(), base.to_owned()), "{path}");
            assert!(!is_contents(path), "{path}");
        }
        for path in ["/", ".", "/mnt/.", "/mnt/..", "./"] {
            assert!(is_contents(path), "{path}");
        }
        assert_eq!(packed("-x"), (".".to_owned(), "./-x".to_owned()));
        assert_eq!(quoted("-x y"), "'./-x y'");
    }

    proptest! {
        #[test]
        fn base64_may_be_cut_anywhere(bytes in proptest::collection::vec(any::<u8>(), 0..400), cut in 1_usize..90) {
            let text = STANDARD.encode(&bytes);
            let lines: Vec<&str> = text.as_bytes().chunks(76).map(|l| std::str::from_utf8(l).unwrap()).collect();
            let lines = lines.join("\n");
            let mut decoder = Decoder::default();
            let mut found = Vec::new();
            for piece in lines.as_bytes().chunks(cut) {
                found.extend(decoder.push(std::str::from_utf8(piece).unwrap()).unwrap());
            }
            prop_assert!(decoder.finish().is_ok());
            prop_assert_eq!(found, bytes);
        }

        #[test]
        fn no_text_makes_the_decoder_panic(text in ".{0,80}") {
            let mut decoder = Decoder::default();
            if decoder.push(&text).is_ok() {
                let _ = decoder.finish();
            }
        }
    }
}
