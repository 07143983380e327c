//! `complete`: what may stand at the end of a command line. The scripts of `completions` ask it at every Tab, so
//! it reads files and nothing else: no network, no emulator, no credentials.

use std::collections::HashMap;
use std::time::{Duration, SystemTime};

use clap::{Arg, Command, ValueHint};

use super::Context;
use super::exit::{OK, Outcome};
use super::local::Home;
use super::memory::{Memory, Used};
use crate::model::{EndpointName, format_duration};

/// Says to the script that files may stand there too.
const FILES: &str = ":files";
/// Regions of the service, for those who have used none yet. [AWS's list at the time of writing]
const REGIONS: [&str; 9] = [
    "ap-northeast-1",
    "ap-south-1",
    "ap-southeast-1",
    "ap-southeast-2",
    "eu-central-1",
    "eu-west-1",
    "us-east-1",
    "us-east-2",
    "us-west-2",
];

/// Say what may stand at the end of a command line
#[derive(clap::Args)]
pub(crate) struct CompleteArgs {
    /// The words so far; the last one is the one to complete
    #[arg(trailing_var_arg = true, allow_hyphen_values = true, value_name = "WORD")]
    words: Vec<String>,
}

/// Something that may stand there, and what it is.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Candidate {
    value: String,
    about: String,
}

impl CompleteArgs {
    pub(crate) fn exec(self, context: &Context) -> Outcome {
        let root = super::command();
        let line = Line::read(&root, &self.words);
        let (candidates, files) = line.candidates(context);
        let mut lines: Vec<String> = candidates
            .into_iter()
            .filter(|c| c.value.starts_with(line.current))
            .map(|c| format!("{}\t{}", c.value, c.about.lines().next().unwrap_or_default()))
            .collect();
        if files {
            lines.push(FILES.to_owned());
        }
        if !lines.is_empty() {
            context.ui.line(&lines.join("\n"))?;
        }
        Ok(OK)
    }
}

/// A command line that is not complete.
struct Line<'a> {
    root: &'a Command,
    /// The verbs so far.
    path: Vec<&'a str>,
    command: &'a Command,
    /// Values of options that were given, by the options' names.
    given: HashMap<&'a str, &'a str>,
    /// The option whose value is being written.
    option: Option<&'a Arg>,
    positionals: usize,
    /// What follows belongs to another program.
    trailing: bool,
    current: &'a str,
}

impl<'a> Line<'a> {
    fn read(root: &'a Command, words: &'a [String]) -> Self {
        let (current, before) =
            words.split_last().map_or(("", &[][..]), |(last, rest)| (last.as_str(), rest));
        // PowerShell hands an empty word on as its quotes.
        let current = if current == "\"\"" { "" } else { current };
        let mut line = Self {
            root,
            path: Vec::new(),
            command: root,
            given: HashMap::new(),
            option: None,
            positionals: 0,
            trailing: false,
            current,
        };
        for word in before.iter().skip(1) {
            line.take(word);
        }
        // `--session=tick`: the value begins behind the sign.
        if line.option.is_none()
            && !line.trailing
            && let Some((name, value)) = current.strip_prefix("--").and_then(|c| c.split_once('='))
            && let Some(arg) = line.long(name)
        {
            line.option = Some(arg);
            line.current = value;
        }
        line
    }

    fn take(&mut self, word: &'a str) {
        if let Some(option) = self.option.take() {
            self.given.insert(option.get_id().as_str(), word);
            return;
        }
        if self.trailing {
            self.positionals += 1;
            return;
        }
        if word == "--" {
            self.trailing = true;
            return;
        }
        if let Some(name) = word.strip_prefix("--") {
            let (name, value) = name.split_once('=').map_or((name, None), |(n, v)| (n, Some(v)));
            if let Some(arg) = self.long(name).filter(|arg| takes_value(arg)) {
                match value {
                    Some(value) => drop(self.given.insert(arg.get_id().as_str(), value)),
                    None => self.option = Some(arg),
                }
            }
            return;
        }
        if let Some(letter) = word.strip_prefix('-').and_then(|w| w.chars().next()) {
            let found = self.arguments().find(|a| a.get_short() == Some(letter));
            self.option = found.filter(|a| takes_value(a) && word.chars().count() == 2);
            return;
        }
        match self.command.find_subcommand(word) {
            Some(command) => {
                self.command = command;
                self.path.push(command.get_name());
                self.positionals = 0;
            }
            None => {
                self.trailing = self.positional().is_some_and(Arg::is_trailing_var_arg_set);
                self.positionals += 1;
            }
        }
    }

    fn arguments(&self) -> impl Iterator<Item = &'a Arg> + use<'a> {
        let local = match self.path.first() {
            Some(&"local") => self.root.find_subcommand("local"),
            _ => None,
        };
        let global = |c: &'a Command| c.get_arguments().filter(|a| a.is_global_set());
        self.command.get_arguments().chain(global(self.root)).chain(local.into_iter().flat_map(global))
    }

    fn long(&self, name: &str) -> Option<&'a Arg> {
        self.arguments().find(|a| a.get_long() == Some(name))
    }

    fn positional(&self) -> Option<&'a Arg> {
        let mut all: Vec<&Arg> = self.command.get_positionals().collect();
        all.sort_by_key(|a| a.get_index());
        let takes_more =
            |a: &&&Arg| a.is_trailing_var_arg_set() || a.get_num_args().is_some_and(|n| n.max_values() > 1);
        all.get(self.positionals).or(all.last().filter(takes_more)).copied()
    }

    /// What may stand there, and whether files may.
    fn candidates(&self, context: &Context) -> (Vec<Candidate>, bool) {
        if let Some(option) = self.option {
            return self.values(context, option);
        }
        if self.trailing {
            return (Vec::new(), true);
        }
        if self.current.starts_with('-') {
            let mut seen = std::collections::HashSet::new();
            let options = self.arguments().filter(|a| !a.is_hide_set()).filter_map(|a| {
                let name = format!("--{}", a.get_long()?);
                let about = a.get_help().map(ToString::to_string).unwrap_or_default();
                seen.insert(name.clone()).then_some(Candidate { value: name, about })
            });
            let mut options: Vec<_> = options.collect();
            let help = Candidate { value: "--help".to_owned(), about: "Print help".to_owned() };
            if !options.contains(&help) && !options.iter().any(|o| o.value == "--help") {
                options.push(help);
            }
            return (options, false);
        }
        let verbs = self.command.get_subcommands().filter(|c| !c.is_hide_set());
        let verbs: Vec<_> = verbs
            .map(|c| Candidate {
                value: c.get_name().to_owned(),
                about: c.get_about().map(ToString::to_string).unwrap_or_default(),
            })
            .collect();
        match self.positional() {
            Some(positional) if verbs.is_empty() => self.values(context, positional),
            _ => (verbs, false),
        }
    }

    fn values(&self, context: &Context, arg: &Arg) -> (Vec<Candidate>, bool) {
        let possible = arg.get_possible_values();
        if !possible.is_empty() && takes_value(arg) {
            let value = |v: &clap::builder::PossibleValue| Candidate {
                value: v.get_name().to_owned(),
                about: v.get_help().map(ToString::to_string).unwrap_or_default(),
            };
            return (possible.iter().filter(|v| !v.is_hide_set()).map(value).collect(), false);
        }
        let plain = |values: Vec<String>, about: &str| {
            let all = values.into_iter().map(|value| Candidate { value, about: about.to_owned() });
            (all.collect(), false)
        };
        match arg.get_id().as_str() {
            "session" => (self.sessions(context), false),
            // Several with commas between them; the last one is being written.
            "sessions" => {
                let before = self.current.rfind(',').map_or("", |at| self.current.get(..=at).unwrap_or(""));
                let with = |c: Candidate| Candidate { value: format!("{before}{}", c.value), ..c };
                (self.sessions(context).into_iter().map(with).collect(), false)
            }
            // `SESSION:PATH`, or a path here.
            "ends" => {
                let with = |c: Candidate| Candidate { value: format!("{}:", c.value), ..c };
                (self.sessions(context).into_iter().map(with).collect(), true)
            }
            "agent" => match context.project() {
                Ok(Some(project)) => plain(project.agents.into_keys().collect(), "agent of this project"),
                _ => (Vec::new(), false),
            },
            "qualifier" => {
                let mut names = vec![EndpointName::DEFAULT.to_owned()];
                for used in self.ledger(context) {
                    if !names.contains(&used.qualifier.to_string()) {
                        names.push(used.qualifier.to_string());
                    }
                }
                plain(names, "endpoint")
            }
            "arn" => {
                let mut arns: Vec<String> = Vec::new();
                for used in self.ledger(context) {
                    if !arns.contains(&used.runtime_arn) {
                        arns.push(used.runtime_arn);
                    }
                }
                plain(arns, "runtime that was used here")
            }
            "region" => plain(REGIONS.map(str::to_owned).to_vec(), "AWS Region"),
            "profile" => plain(profiles(context), "profile of ~/.aws/config"),
            "shell_id" => (Vec::new(), false),
            _ => {
                let hint = arg.get_value_hint();
                (Vec::new(), !matches!(hint, ValueHint::Other | ValueHint::Url | ValueHint::Hostname))
            }
        }
    }

    /// What this project used, here or in AWS.
    fn ledger(&self, context: &Context) -> Vec<Used> {
        let home = match self.given.get("home") {
            Some(home) => context.env.directory().map(|d| d.join(home)),
            None => context.env.home(),
        };
        let (Ok(home), Ok(Some(project))) = (home, context.project()) else { return Vec::new() };
        let home = Home::new(home);
        let is_local = self.path.first() == Some(&"local");
        let root = project.root();
        let memory = if is_local { Memory::of(&home, root) } else { Memory::of_cloud(&home, root) };
        memory.sessions()
    }

    fn sessions(&self, context: &Context) -> Vec<Candidate> {
        let agent = self.given.get("agent").map(|a| (*a).to_owned());
        let used = self.ledger(context).into_iter().filter(|u| agent.as_ref().is_none_or(|a| *a == u.agent));
        let candidate = |used: Used| {
            let age = age(&used.last_used_at).map(|age| format!("used {} ago", format_duration(age)));
            let state = if used.stopped_at.is_some() { "stopped" } else { "not stopped" };
            let about = format!("{}, {state}, {}", used.agent, age.unwrap_or_default());
            Candidate { value: used.name.unwrap_or_else(|| used.session_id.to_string()), about }
        };
        used.map(candidate).collect()
    }
}

fn takes_value(arg: &Arg) -> bool {
    arg.get_action().takes_values()
}

/// How long ago a time of the ledger is.
pub(super) fn age(time: &str) -> Option<Duration> {
    let time: jiff::Timestamp = time.parse().ok()?;
    let now = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).ok()?;
    let then = Duration::from_secs(u64::try_from(time.as_second()).ok()?);
    Some(Duration::from_secs(now.saturating_sub(then).as_secs().max(1)))
}

/// The profiles of the user's AWS configuration.
fn profiles(context: &Context) -> Vec<String> {
    let Some(home) = &context.env.user_home else { return Vec::new() };
    let text = std::fs::read_to_string(home.join(".aws/config")).unwrap_or_default();
    let names = text.lines().filter_map(|line| {
        let section = line.trim().strip_prefix('[')?.strip_suffix(']')?.trim();
        match section.split_once(char::is_whitespace) {
            Some(("profile", name)) => Some(name.trim().to_owned()),
            None if section == "default" => Some(section.to_owned()),
            _ => None,
        }
    });
    names.collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(words: &[&str]) -> (Vec<String>, Option<String>, bool) {
        let words: Vec<String> = words.iter().map(|w| (*w).to_owned()).collect();
        let root = crate::cli::command();
        let line = Line::read(&root, &words);
        let path = line.path.iter().map(|p| (*p).to_owned()).collect();
        (path, line.option.map(|o| o.get_id().to_string()), line.trailing)
    }

    #[test]
    fn a_line_is_read_as_far_as_it_goes() {
        let path = |names: &[&str]| names.iter().map(|n| (*n).to_owned()).collect::<Vec<_>>();
        assert_eq!(read(&["agentcore", ""]), (path(&[]), None, false));
        let session = Some("session".to_owned());
        assert_eq!(
            read(&["agentcore", "-q", "invoke", "--session", "t"]),
            (path(&["invoke"]), session.clone(), false)
        );
        assert_eq!(
            read(&["agentcore", "local", "invoke", "--session=t"]),
            (path(&["local", "invoke"]), session, false)
        );
        assert_eq!(read(&["agentcore", "--agent", "invoke", "local", "x"]).0, path(&["local"]));
        assert_eq!(read(&["agentcore", "exec", "ls", "--session", "t"]), (path(&["exec"]), None, true));
        assert_eq!(read(&["agentcore", "exec", "--", "ls", ""]), (path(&["exec"]), None, true));
    }

    #[test]
    fn ages_are_read_from_the_ledgers_times() {
        assert!(age("2020-01-01T00:00:00.000Z").unwrap() > Duration::from_secs(86_400));
        assert_eq!(age("yesterday"), None);
    }
}
