//! `cp`: files into a session and out of it.
//!
//! The service has no operation for that, so an archive travels through commands: `transfer` carries one in, and a
//! command's output, which is text, carries one out. Both ends unpack beside the destination and rename, so that
//! what is found there is whole. Archives that a session made are read by `unpack`, which trusts nothing in them.

mod pack;
mod remote;
mod unpack;

use std::path::{Path, PathBuf};

use serde_json::json;

use super::exit::{Class, Failure, OK, Outcome};
use super::input;
use super::interrupts;
use super::target::{ChosenSession, EndpointChoice, Place, Target};
use super::transfer;
use super::ui::{Spinner, Ui};
use crate::aws::{DataClient, SessionCall};
use crate::model::limits;
use pack::Source;
use remote::Kind;

/// Most bytes of an archive that one command's answer brings: base64 makes 57 bytes a line of 77.
const MOST_OUT: u64 = limits::MAX_COMMAND_RESPONSE_BYTES / 77 * 57;
/// Most bytes of an archive that is carried in.
const MOST_IN: u64 = transfer::MOST_BYTES;

/// Copy files into a session or out of it
///
/// `SESSION:PATH` is a path in a session, by its id or short name; `:PATH` is one in the project's last session. Relative
/// paths begin where commands do. Directories are copied whole; modes, times and symbolic links are kept, and links
/// are not followed. A destination that is a directory or ends in `/` gets the sources under their own names, any other is
/// the copy's name; `DIR/.` means what is in the directory. `-` is a tar archive on standard input or output.
///
/// An archive may have 100 MB on its way in and 74 MB on its way out, which the service's limits of commands leave. What
/// does not fit is said before anything is copied, and a copy that fails leaves no file half written.
#[derive(clap::Args)]
#[command(after_help = "Examples:
  agentcore cp notes.txt src ticket-8421:/mnt/workspace/
  agentcore cp ticket-8421:/mnt/workspace/report.pdf .
  agentcore cp :/mnt/workspace/. backup/
  agentcore local cp :/mnt/workspace - | tar -tf -")]
pub(crate) struct CpArgs {
    /// What to copy, and last where to: paths here, and `SESSION:PATH` or `:PATH` in a session
    #[arg(required = true, num_args = 2.., value_name = "SRC… DST")]
    ends: Vec<String>,
    #[command(flatten)]
    endpoint: EndpointChoice,
}

/// One end of a copy.
#[derive(Debug, Clone, PartialEq, Eq)]
enum End {
    /// A path in a session, which nothing names where the last one is meant.
    Session { name: Option<String>, path: String },
    /// A path on this machine, as it was given.
    Here(String),
    /// Standard input or output.
    Stream,
}

impl End {
    fn parse(text: &str) -> Result<Self, Failure> {
        if text == "-" {
            return Ok(Self::Stream);
        }
        // As with docker: what begins like a path is one, whatever colons it has.
        let here = text.starts_with(['/', '.']);
        let Some((name, path)) = text.split_once(':').filter(|(name, _)| !here && !name.contains('/')) else {
            return match text {
                "" => Err(Failure::usage("an empty word names no file")),
                text => Ok(Self::Here(text.to_owned())),
            };
        };
        if path.is_empty() {
            return Err(Failure::usage(format!("`{text}` names a session and no path in it"))
                .hint(format!("`{text}.` is the directory where commands begin")));
        }
        if path.contains('\0') {
            return Err(Failure::usage("a path contains a NUL character, which no file can have"));
        }
        let name = (!name.is_empty()).then(|| name.to_owned());
        Ok(Self::Session { name, path: path.to_owned() })
    }
}

/// What is copied: read and checked before anything is called.
enum Plan {
    /// Files here, or an archive on standard input, to a path in a session.
    In { name: Option<String>, what: What, path: String },
    /// Paths in a session to a directory or a name here.
    Out { name: Option<String>, paths: Vec<String>, to: Here },
    /// A path in a session to standard output.
    Archive { name: Option<String>, path: String },
}

/// What goes into a session.
enum What {
    Files(Vec<Source>),
    Archive(Vec<u8>),
}

/// A destination on this machine.
struct Here {
    /// As it was given, for messages.
    given: String,
    path: PathBuf,
    /// It is a directory that gets the sources under their names.
    is_directory: bool,
}

/// A copy that was made.
struct Copied {
    from: String,
    to: String,
    files: u64,
    bytes: u64,
}

impl CpArgs {
    pub(crate) fn exec(self, place: &Place<'_>) -> Outcome {
        let context = place.context();
        context.block_on_alone(async {
            let mut interrupts = interrupts()?;
            let (plan, session, copy) = tokio::select! {
                prepared = self.prepare(place) => prepared?,
                _ = interrupts.recv() => return Err(Failure::new(Class::Interrupted, "interrupted")),
            };
            let id = transfer::new_id();
            let copied = tokio::select! {
                copied = copy.run(&plan, &id) => copied,
                _ = interrupts.recv() => {
                    let message = "the copy was given up; no file is at its destination in part";
                    Err(Failure::new(Class::Interrupted, message))
                }
            };
            if copied.is_err() {
                copy.spinner.progress("clearing away what was begun");
                tokio::select! {
                    () = copy.forget(&plan, &id) => {}
                    // Pressed again: whoever sits there does not want to wait for this either.
                    _ = interrupts.recv() => {}
                }
            }
            drop(copy);
            tell(&context.ui, &session, matches!(plan, Plan::Archive { .. }), &copied?)
        })
    }

    /// Reads and checks what is asked for, and finds the session.
    async fn prepare<'a>(&self, place: &'a Place<'a>) -> Result<(Plan, ChosenSession, Copy<'a>), Failure> {
        let ui = &place.context().ui;
        let plan = self.plan(place).await?;
        let target = place.target_with_code().await?;
        let name = match &plan {
            Plan::In { name, .. } | Plan::Out { name, .. } | Plan::Archive { name, .. } => name.as_deref(),
        };
        if name.is_none() && target.last_session().is_none() {
            return Err(Failure::failed(format!("agent `{}` has no last session", target.agent))
                .hint("name one before the colon: `SESSION:PATH`"));
        }
        let session = target.session(name, false);
        target.remember(&session, &self.endpoint.qualifier)?;
        ui.note(format!("session: {}", session.shown()));
        let spinner = ui.spinner("waiting for the session");
        let copy = Copy { place, data: target.connection.data(), to: self.call(&target, &session), spinner };
        Ok((plan, session, copy))
    }

    fn call(&self, target: &Target, session: &ChosenSession) -> SessionCall {
        target.call(&session.id, &self.endpoint.qualifier)
    }

    async fn plan(&self, place: &Place<'_>) -> Result<Plan, Failure> {
        let context = place.context();
        let here = context.env.directory()?;
        let ends: Vec<End> = self.ends.iter().map(|end| End::parse(end)).collect::<Result<_, _>>()?;
        let Some((to, from)) = ends.split_last() else {
            return Err(Failure::usage("there is nothing to copy"));
        };
        let in_session = |end: &&End| matches!(end, End::Session { .. });
        match to {
            End::Session { name, path } => {
                if from.iter().any(|end| in_session(&end)) {
                    return Err(Failure::usage("both ends are in a session")
                        .hint("copy to this machine first, or use `exec -- cp` within one session"));
                }
                let what = match from {
                    [End::Stream] if !input::is_piped() => {
                        return Err(Failure::usage(
                            "`-` reads an archive from standard input, and none is piped in",
                        )
                        .hint(format!(
                            "tar -cf - DIR | {} cp - {}",
                            place.program(),
                            self.ends[1]
                        )));
                    }
                    [End::Stream] => {
                        let bytes = input::read_all(context, MOST_IN, "an archive for `cp -`").await?;
                        What::Archive(fits(bytes)?)
                    }
                    _ if from.contains(&End::Stream) => {
                        return Err(Failure::usage("`-` cannot stand beside other sources"));
                    }
                    _ => {
                        let sources = from.iter().filter_map(|end| match end {
                            End::Here(path) => Some(Source::new(path, &here)),
                            End::Session { .. } | End::Stream => None,
                        });
                        let sources = sources.collect::<Result<Vec<_>, _>>()?;
                        // Before a session is started for what does not fit.
                        pack::check(&sources, MOST_IN)?;
                        What::Files(sources)
                    }
                };
                Ok(Plan::In { name: name.clone(), what, path: path.clone() })
            }
            End::Here(_) | End::Stream => {
                let mut names = Vec::new();
                let mut paths = Vec::new();
                for end in from {
                    match end {
                        End::Session { name, path } => {
                            names.push(name.clone());
                            paths.push(path.clone());
                        }
                        End::Here(_) | End::Stream => {
                            return Err(Failure::usage("neither end is in a session")
                                .hint("write `SESSION:PATH`, or `:PATH` for the project's last session"));
                        }
                    }
                }
                names.dedup();
                let [name] = names.as_slice() else {
                    return Err(
                        Failure::usage("the sources are in several sessions").hint("copy from one at a time")
                    );
                };
                let name = name.clone();
                match (to, paths.as_slice()) {
                    (End::Here(given), _) => {
                        let to = Here::new(given, &here, paths.len())?;
                        Ok(Plan::Out { name, paths, to })
                    }
                    (_, _) if context.ui.is_json() => Err(Failure::usage(
                        "`-` writes an archive to standard output, where `--output json` writes JSON",
                    )),
                    (_, [path]) => Ok(Plan::Archive { name, path: path.clone() }),
                    _ => Err(Failure::usage("`-` takes one source")),
                }
            }
        }
    }
}

/// The bytes of standard input, which may be too many.
fn fits(bytes: Vec<u8>) -> Result<Vec<u8>, Failure> {
    if bytes.len() as u64 > MOST_IN {
        return Err(too_much("the archive on standard input", MOST_IN));
    }
    Ok(bytes)
}

/// That something does not fit, before it is copied.
fn too_much(what: &str, most: u64) -> Failure {
    let message = format!("{what} has more than {} MB, the most that commands can carry", most / 1_000_000);
    Failure::failed(message)
        .hint("copy its parts one by one, or let a command in the session fetch or send it")
}

impl Here {
    fn new(given: &str, here: &Path, sources: usize) -> Result<Self, Failure> {
        let path = here.join(given);
        let is_directory = path.is_dir();
        let parent = path.parent().map(Path::to_owned);
        let wants_directory = given.ends_with('/') || sources > 1;
        if !is_directory && (wants_directory || parent.is_none_or(|p| !p.is_dir())) {
            let is_file = path.symlink_metadata().is_ok();
            let what = if is_file { "is no directory" } else { "does not exist" };
            let missing = match wants_directory {
                true => given.to_owned(),
                false => Path::new(given).parent().unwrap_or(Path::new("/")).display().to_string(),
            };
            if wants_directory && sources == 1 && !is_file && path.parent().is_some_and(Path::is_dir) {
                return Ok(Self { given: given.to_owned(), path, is_directory: true });
            }
            return Err(
                Failure::failed(format!("the directory `{missing}` {what}")).hint("make it with `mkdir -p`")
            );
        }
        Ok(Self { given: given.to_owned(), path, is_directory })
    }
}

fn tell(ui: &Ui, session: &ChosenSession, on_stderr: bool, copied: &[Copied]) -> Outcome {
    let line = |c: &Copied| {
        let files = if c.files == 1 { "1 file".to_owned() } else { format!("{} files", c.files) };
        format!("copied {} to {} ({files}, {} bytes)", c.from, c.to, c.bytes)
    };
    let text = copied.iter().map(line).collect::<Vec<_>>().join("\n");
    if on_stderr {
        ui.note(text);
        return Ok(OK);
    }
    let each = |c: &Copied| json!({ "from": c.from, "to": c.to, "files": c.files, "bytes": c.bytes });
    let all: Vec<_> = copied.iter().map(each).collect();
    ui.result(&json!({ "sessionId": session.id, "name": session.name, "copied": all }), text)?;
    Ok(OK)
}

/// A path in a session as it is shown.
fn shown(name: Option<&str>, path: &str) -> String {
    format!("{}:{path}", name.unwrap_or_default())
}

/// A copy at work.
struct Copy<'a> {
    place: &'a Place<'a>,
    data: DataClient,
    to: SessionCall,
    spinner: Spinner,
}

impl Copy<'_> {
    async fn run(&self, plan: &Plan, id: &str) -> Result<Vec<Copied>, Failure> {
        match plan {
            Plan::In { name, what, path } => self.bring_in(name.as_deref(), what, path, id).await,
            Plan::Out { name, paths, to } => self.bring_out(name.as_deref(), paths, to).await,
            Plan::Archive { name, path } => self.stream_out(name.as_deref(), path).await,
        }
    }

    /// Runs a short command that must succeed; gives its standard output.
    async fn ask(&self, text: &str) -> Result<String, Failure> {
        let (code, output, errors) =
            transfer::run(&self.data, &self.to, text).await.map_err(|e| self.place.failure(e))?;
        if code != 0 {
            return Err(remote::failure(code, &errors));
        }
        Ok(output)
    }

    /// Removes what a copy that was not finished has left in the session. A session that cannot be asked any more
    /// keeps it in its `/tmp`, which ends with its compute.
    async fn forget(&self, plan: &Plan, id: &str) {
        let Plan::In { path, .. } = plan else { return };
        let text = remote::forget(id, path);
        let asked = transfer::run(&self.data, &self.to, &text);
        let _ = tokio::time::timeout(remote::FORGET, asked).await;
    }

    async fn bring_in(
        &self,
        name: Option<&str>,
        what: &What,
        path: &str,
        id: &str,
    ) -> Result<Vec<Copied>, Failure> {
        let (sources, archive) = match what {
            What::Files(sources) => (sources.as_slice(), None),
            What::Archive(bytes) => (&[][..], Some(bytes)),
        };
        let kind = remote::kind(&self.ask(&remote::ask_destination(path)).await?)?;
        let many = sources.len() != 1 || sources.iter().any(|s| s.contents_only);
        let slash = path.ends_with('/');
        let make = kind == Kind::Nothing && (slash || (many && archive.is_none() && sources.len() == 1));
        let into_directory = kind == Kind::Directory || make;
        match kind {
            Kind::File if many || slash || sources.iter().any(|s| s.is_directory) => {
                return Err(Failure::failed(format!("`{}` is no directory", shown(name, path)))
                    .hint("name a directory, or remove what is there"));
            }
            Kind::NoParent => {
                let hint = format!("make it with `{} exec -- mkdir -p`", self.place.program());
                let message = format!("the directory of `{}` does not exist", shown(name, path));
                return Err(Failure::failed(message).hint(hint));
            }
            Kind::Nothing if many && !make => {
                let hint = format!("make it with `{} exec -- mkdir -p`", self.place.program());
                return Err(Failure::failed(format!("the directory `{}` does not exist", shown(name, path)))
                    .hint(hint));
            }
            _ => {}
        }
        // Where the sources come to lie: a directory, and the names that they have there.
        let (directory, rename) = match into_directory {
            true => (remote::trimmed(path).to_owned(), None),
            false => {
                let (directory, base) = remote::split(path);
                (directory, Some(base))
            }
        };
        let (bytes, counts) = match archive {
            Some(bytes) => (bytes.clone(), vec![pack::count(bytes)?]),
            None => pack::pack(sources, rename.as_deref(), &self.place.context().ui)?,
        };
        let text = remote::unpack(id, &directory, make);
        let carried = transfer::carry_as(id, &self.data, &self.to, &bytes, text.len(), &self.spinner).await?;
        self.spinner.progress("unpacking in the session");
        self.ask(&remote::with_archive(&carried, &text)).await?;
        let given = |at: usize| sources.get(at).map_or("-".to_owned(), |s| s.given.clone());
        let copied = counts.into_iter().enumerate().map(|(at, (files, bytes))| {
            let to = match (&rename, sources.get(at)) {
                (None, Some(source)) if !source.contents_only => {
                    format!("{}/{}", path.trim_end_matches('/'), source.name)
                }
                _ => path.to_owned(),
            };
            Copied { from: given(at), to: shown(name, &to), files, bytes }
        });
        Ok(copied.collect())
    }

    /// The kind and the archive's size of a path in the session; an error where it is not there or does not fit.
    async fn look(&self, name: Option<&str>, path: &str) -> Result<(Kind, u64), Failure> {
        let answer = self.ask(&remote::ask_source(path, MOST_OUT)).await?;
        let (kind, size) = answer.trim().split_once(' ').unwrap_or((answer.trim(), "0"));
        let kind = remote::kind(kind)?;
        if !matches!(kind, Kind::Directory | Kind::File) {
            return Err(Failure::failed(format!("`{}` does not exist in the session", shown(name, path))));
        }
        let size = size.trim().parse().unwrap_or(0);
        if size > MOST_OUT {
            return Err(too_much(&format!("`{}`", shown(name, path)), MOST_OUT));
        }
        Ok((kind, size))
    }

    /// The archive of a path in the session, a piece at a time.
    async fn fetch(
        &self,
        path: &str,
        size: u64,
        mut each: impl FnMut(&[u8]) -> Result<(), Failure>,
    ) -> Result<(), Failure> {
        let mut arrived = 0;
        let told = remote::fetch(&self.data, &self.to, path, |bytes| {
            arrived += bytes.len() as u64;
            let (now, all) = (indicatif::HumanBytes(arrived), indicatif::HumanBytes(size));
            self.spinner.progress(&format!("receiving: {now} of {all}"));
            each(bytes)
        });
        let warnings = told.await.map_err(|e| e.failure(self.place))?;
        for line in warnings {
            self.place.context().ui.warn(self.place.context().ui.plain(&line));
        }
        Ok(())
    }

    async fn bring_out(
        &self,
        name: Option<&str>,
        paths: &[String],
        to: &Here,
    ) -> Result<Vec<Copied>, Failure> {
        // Everything is looked at before anything is copied.
        let mut found = Vec::new();
        for path in paths {
            found.push(self.look(name, path).await?);
        }
        let mut copied = Vec::new();
        for (path, (kind, size)) in paths.iter().zip(found) {
            let mut archive = Vec::new();
            self.fetch(path, size, |bytes| {
                archive.extend_from_slice(bytes);
                Ok(())
            })
            .await?;
            let contents_only = remote::is_contents(path);
            let (_, base) = remote::split(path);
            let given = to.given.trim_end_matches('/');
            let (destination, told) = match (to.is_directory, contents_only) {
                (true, false) => (to.path.join(&base), format!("{given}/{base}")),
                _ => (to.path.clone(), to.given.clone()),
            };
            if to.is_directory && !to.path.exists() {
                std::fs::create_dir(&to.path).map_err(|e| {
                    Failure::failed(format!("the directory `{}` cannot be made: {e}", to.given))
                })?;
            }
            let top = (!contents_only).then_some(base.as_str());
            let ui = &self.place.context().ui;
            let (files, bytes) = unpack::unpack(&archive, top, &destination, kind == Kind::Directory, ui)?;
            copied.push(Copied { from: shown(name, path), to: told, files, bytes });
        }
        Ok(copied)
    }

    async fn stream_out(&self, name: Option<&str>, path: &str) -> Result<Vec<Copied>, Failure> {
        let (_, size) = self.look(name, path).await?;
        let ui = &self.place.context().ui;
        let mut archive = Vec::new();
        self.fetch(path, size, |bytes| {
            archive.extend_from_slice(bytes);
            ui.bytes(bytes)
        })
        .await?;
        let (files, bytes) = pack::count(&archive)?;
        Ok(vec![Copied { from: shown(name, path), to: "-".to_owned(), files, bytes }])
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ends_are_told_apart_as_docker_does() {
        let session = |name: &str, path: &str| End::Session {
            name: (!name.is_empty()).then(|| name.to_owned()),
            path: path.to_owned(),
        };
        let here = |path: &str| End::Here(path.to_owned());
        for (text, expected) in [
            ("-", End::Stream),
            ("notes.txt", here("notes.txt")),
            ("./a:b", here("./a:b")),
            ("/a:b", here("/a:b")),
            ("dir/a:b", here("dir/a:b")),
            (":/mnt", session("", "/mnt")),
            ("ticket-8421:/mnt/a:b", session("ticket-8421", "/mnt/a:b")),
            ("s:notes.txt", session("s", "notes.txt")),
        ] {
            assert_eq!(End::parse(text).unwrap(), expected, "{text}");
        }
        for bad in ["s:", ":", "", "s:a\0b"] {
            assert_eq!(End::parse(bad).unwrap_err().class, Class::Usage, "{bad}");
        }
    }
}
