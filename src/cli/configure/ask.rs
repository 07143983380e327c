//! The questions of `configure`, in the order in which the toolkit asks them.
//!
//! Each has the file's present value or a good default, so that Enter all the way through gives a project that
//! works. An answer is checked when it is given.

use std::path::Path;

use dialoguer::theme::{ColorfulTheme, SimpleTheme, Theme};
use dialoguer::{Confirm, Input, Select};
use nix::sys::termios::{LocalFlags, SetArg, Termios, tcgetattr, tcsetattr};
use serde_json::{Value, json};
use tokio::signal::unix::{Signal, SignalKind, signal};

use super::super::exit::{Class, Failure};
use super::super::ui::Ui;
use super::flags::{self, Flags, Headers};
use super::{Entry, below, detect, entry_file, set_deployment, set_entry, set_role, set_storage, set_store};
use crate::model::{Region, RuntimeName};
use crate::project::{Deployment, Draft};

/// Region where nothing says another. [toolkit]
const DEFAULT_REGION: &str = "us-west-2";
/// Where sessions find their storage, as a suggestion. [the guide's examples]
const DEFAULT_STORAGE: &str = "/mnt/workspace";
/// How an OpenID provider's document is named. [model: DiscoveryUrl]
const DISCOVERY_END: [&str; 2] =
    ["/.well-known/openid-configuration", "/.well-known/oauth-authorization-server"];

/// Asks on the terminal.
pub(super) struct Ask {
    theme: Box<dyn Theme>,
    _terminal: Terminal,
}

/// Takes Ctrl-C over, so that it ends a question with an error instead of the process with a hidden cursor: the
/// library that reads the keys raises SIGINT when it reads that key, and so it must be a key at all times and not a
/// signal of the kernel's between two reads.
struct Terminal {
    before: Option<Termios>,
    _signal: Signal,
    _runtime: tokio::runtime::Runtime,
}

impl Terminal {
    fn take() -> std::io::Result<Self> {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
        let inside = runtime.enter();
        let signal = signal(SignalKind::interrupt())?;
        drop(inside);
        let before = tcgetattr(std::io::stdin()).ok();
        if let Some(mut now) = before.clone() {
            now.local_flags.remove(LocalFlags::ISIG | LocalFlags::ICANON | LocalFlags::ECHO);
            tcsetattr(std::io::stdin(), SetArg::TCSANOW, &now)?;
        }
        Ok(Self { before, _signal: signal, _runtime: runtime })
    }
}

impl Drop for Terminal {
    fn drop(&mut self) {
        if let Some(before) = &self.before {
            // The terminal may have gone with its window.
            let _ = tcsetattr(std::io::stdin(), SetArg::TCSANOW, before);
        }
        // A question that was left early may have hidden it.
        let _ = console::Term::stderr().show_cursor();
    }
}

fn failed(error: dialoguer::Error) -> Failure {
    let dialoguer::Error::IO(error) = error;
    match error.kind() {
        std::io::ErrorKind::Interrupted => {
            Failure::new(Class::Interrupted, "nothing was written: the questions were interrupted")
        }
        _ => Failure::failed(format!("the terminal cannot be asked: {error}"))
            .hint("`--non-interactive` asks nothing"),
    }
}

impl Ask {
    pub(super) fn new(ui: &Ui) -> Result<Self, Failure> {
        let terminal = Terminal::take().map_err(|e| {
            Failure::failed(format!("the terminal cannot be asked: {e}"))
                .hint("`--non-interactive` asks nothing")
        })?;
        let theme: Box<dyn Theme> =
            if ui.colors_errors() { Box::new(ColorfulTheme::default()) } else { Box::new(SimpleTheme) };
        Ok(Self { theme, _terminal: terminal })
    }

    fn text(
        &self,
        prompt: &str,
        default: Option<String>,
        check: impl Fn(&str) -> Result<(), String>,
    ) -> Result<String, Failure> {
        let mut input: Input<'_, String> = Input::with_theme(&*self.theme).with_prompt(prompt);
        if let Some(default) = default {
            input = input.default(default);
        }
        let input = input.validate_with(|text: &String| check(text.trim()));
        Ok(input.interact_text().map_err(failed)?.trim().to_owned())
    }

    fn yes(&self, prompt: &str, default: bool) -> Result<bool, Failure> {
        Confirm::with_theme(&*self.theme).with_prompt(prompt).default(default).interact().map_err(failed)
    }

    fn one(&self, prompt: &str, items: &[&str], default: usize) -> Result<usize, Failure> {
        let select = Select::with_theme(&*self.theme).with_prompt(prompt).items(items).default(default);
        select.interact().map_err(failed)
    }

    /// 1: what the agent begins with.
    pub(super) fn entry(&self, root: &Path) -> Result<Entry, Failure> {
        let found = entry_file(root, Path::new("."), root);
        let default = match &found {
            Ok(entry) => below(root, &entry.file).ok(),
            Err(_) => detect::entry_files(root).first().and_then(|f| below(root, f).ok()),
        };
        let given = self.entry_text(root, default)?;
        entry_file(root, Path::new(&given), root)
    }

    fn entry_text(&self, root: &Path, default: Option<String>) -> Result<String, Failure> {
        self.text("Entry file or directory", default, |text| {
            entry_file(root, Path::new(text), root).map(drop).map_err(|e| e.message)
        })
    }

    /// 2: its name.
    pub(super) fn name(
        &self,
        inferred: Option<&RuntimeName>,
        taken: &[String],
    ) -> Result<RuntimeName, Failure> {
        let check = |text: &str| match text.parse::<RuntimeName>() {
            Ok(name) if taken.iter().any(|t| t == name.as_str()) => {
                Err(format!("there is an agent `{name}` already"))
            }
            Ok(_) => Ok(()),
            Err(e) => Err(e.to_string()),
        };
        let default = inferred.map(ToString::to_string).filter(|n| !taken.contains(n));
        let name = self.text("Name of the agent", default, check)?;
        name.parse().map_err(|e| Failure::usage(format!("`{name}`: {e}")))
    }

    /// 4: how it is deployed.
    pub(super) fn deployment(&self, archive: bool) -> Result<Deployment, Failure> {
        const KINDS: [Deployment; 2] = [Deployment::DirectCode, Deployment::Container];
        let items = ["code: an archive in S3", "container: an image in ECR"];
        let at = self.one("Deploy as", &items, usize::from(!archive))?;
        Ok(KINDS.get(at).copied().unwrap_or(Deployment::Container))
    }

    /// 5: its Python.
    pub(super) fn runtime(&self, default: &str) -> Result<String, Failure> {
        const VERSIONS: [&str; 5] = ["3.14", "3.13", "3.12", "3.11", "3.10"];
        let at = self.one(
            "Python",
            &VERSIONS,
            VERSIONS.iter().position(|v| flags::runtime(v).as_deref() == Ok(default)).unwrap_or(0),
        )?;
        flags::runtime(VERSIONS.get(at).unwrap_or(&default)).map_err(Failure::usage)
    }

    /// 1 and 4 of an agent that is there.
    pub(super) fn about_entry(&self, draft: &mut Draft, agent: &str, root: &Path) -> Result<(), Failure> {
        let project = draft.project()?;
        let now = project.agent(Some(agent))?;
        // A command says by itself what it begins with.
        if let crate::project::AgentLaunch::Python { entry_point } = &now.launch {
            let present = below(root, &crate::project::clean(&now.source.join(entry_point)))?;
            let given = self.entry_text(root, Some(present.clone()))?;
            if given != present {
                set_entry(draft, agent, root, &entry_file(root, Path::new(&given), root)?)?;
            }
        }
        if now.deployed.id.is_none() {
            let wanted = self.deployment(now.deployment() == Deployment::DirectCode)?;
            set_deployment(draft, agent, wanted)?;
        }
        let python = draft.get(agent, &["command"]).is_none();
        if python && draft.get(agent, &["deployment_type"]).is_some_and(|d| *d == "direct_code_deploy") {
            let present = now.runtime.clone().unwrap_or_else(|| super::DEFAULT_PYTHON.to_owned());
            draft.set(agent, &["runtime_type"], self.runtime(&present)?)?;
        }
        Ok(())
    }

    /// What comes after that, but for what flags say.
    pub(super) fn about_settings(
        &self,
        flags: &Flags,
        draft: &mut Draft,
        agent: &str,
        region: Option<&str>,
    ) -> Result<(), Failure> {
        if flags.region.is_none() {
            let present = text_at(draft, agent, &["aws", "region"]);
            let default = present.or(region.map(str::to_owned)).unwrap_or_else(|| DEFAULT_REGION.to_owned());
            let check = |text: &str| text.parse::<Region>().map(drop).map_err(|e| e.to_string());
            draft.set(agent, &["aws", "region"], self.text("AWS region", Some(default), check)?)?;
        }
        // 6
        if flags.execution_role.is_none() {
            let present = text_at(draft, agent, &["aws", "execution_role"]);
            let account = text_at(draft, agent, &["aws", "account"]);
            let check = |text: &str| match text {
                "auto" => Ok(()),
                arn if arn.starts_with("arn:") && arn.contains(":role/") => Ok(()),
                arn if arn.starts_with("arn:") => Err("this ARN is none of a role".to_owned()),
                _ if account.is_none() => Err("expected `auto` or the ARN of a role".to_owned()),
                _ => Ok(()),
            };
            let default = present.unwrap_or_else(|| "auto".to_owned());
            let prompt = "Execution role (its ARN, or auto to make one at the first deployment)";
            set_role(draft, agent, &self.text(prompt, Some(default), check)?)?;
        }
        self.store(flags, draft, agent)?;
        self.authorizer(flags, draft, agent)?;
        self.headers(flags, draft, agent)?;
        self.storage(flags, draft, agent)
    }

    /// 7: where images or archives go.
    fn store(&self, flags: &Flags, draft: &mut Draft, agent: &str) -> Result<(), Failure> {
        if flags.ecr.is_some() || flags.s3.is_some() {
            return Ok(());
        }
        let code = draft.get(agent, &["deployment_type"]).is_some_and(|d| *d == "direct_code_deploy");
        let (key, auto, prompt) = match code {
            true => {
                ("s3_path", "s3_auto_create", "S3 location (s3://BUCKET/PREFIX, or auto to make a bucket)")
            }
            false => {
                ("ecr_repository", "ecr_auto_create", "ECR repository (URI or name, or auto to make one)")
            }
        };
        let present = text_at(draft, agent, &["aws", key]).unwrap_or_else(|| "auto".to_owned());
        let check = |text: &str| match text.contains(char::is_whitespace) {
            true => Err("expected no blanks".to_owned()),
            false => Ok(()),
        };
        let value = self.text(prompt, Some(present), check)?;
        set_store(draft, agent, key, auto, &value)
    }

    /// 8: who may call it.
    fn authorizer(&self, flags: &Flags, draft: &mut Draft, agent: &str) -> Result<(), Failure> {
        if flags.authorizer_config.is_some() {
            return Ok(());
        }
        let path = ["authorizer_configuration"];
        let present = draft.get(agent, &path).filter(|a| a.is_object()).cloned();
        if !self.yes("OAuth for callers, instead of IAM?", present.is_some())? {
            if present.is_some() {
                draft.set(agent, &path, Value::Null)?;
            }
            return Ok(());
        }
        let key = "customJWTAuthorizer";
        let now = present.as_ref().map(|a| a[key].clone()).unwrap_or_default();
        let check = |text: &str| match text.starts_with("https://")
            && DISCOVERY_END.iter().any(|e| text.contains(e))
        {
            true => Ok(()),
            false => Err(format!("expected an https URL that ends in {}", DISCOVERY_END[0])),
        };
        let url = self.text("Discovery URL", now["discoveryUrl"].as_str().map(str::to_owned), check)?;
        let mut jwt = now.as_object().cloned().unwrap_or_default();
        jwt.insert("discoveryUrl".to_owned(), json!(url));
        for (name, prompt) in [
            ("allowedClients", "Allowed clients (ids with commas between them, or none)"),
            ("allowedAudience", "Allowed audiences"),
            ("allowedScopes", "Allowed scopes"),
        ] {
            let list = now[name]
                .as_array()
                .map(|l| l.iter().filter_map(Value::as_str).collect::<Vec<_>>().join(","));
            let last = name == "allowedScopes"
                && !jwt.contains_key("allowedClients")
                && !jwt.contains_key("allowedAudience");
            let check = |text: &str| match text {
                "none" if last => Err("one of clients, audiences and scopes is needed".to_owned()),
                _ => Ok(()),
            };
            let given = self.text(prompt, Some(list.unwrap_or_else(|| "none".to_owned())), check)?;
            match given.as_str() {
                "none" => drop(jwt.shift_remove(name)),
                given => {
                    let list: Vec<&str> = given.split(',').map(str::trim).filter(|s| !s.is_empty()).collect();
                    jwt.insert(name.to_owned(), json!(list));
                }
            }
        }
        draft.set(agent, &[path[0], key], Value::Object(jwt))?;
        Ok(())
    }

    /// 9: what of the caller's headers reaches it.
    fn headers(&self, flags: &Flags, draft: &mut Draft, agent: &str) -> Result<(), Failure> {
        if flags.request_header_allowlist.is_some() {
            return Ok(());
        }
        let path = ["request_header_configuration"];
        let list = draft.get(agent, &path).and_then(|h| h["requestHeaderAllowlist"].as_array()).cloned();
        if !self.yes("Pass request headers on to the agent?", list.is_some())? {
            if list.is_some() {
                draft.set(agent, &path, Value::Null)?;
            }
            return Ok(());
        }
        let present = list.map(|l| l.iter().filter_map(Value::as_str).collect::<Vec<_>>().join(","));
        let check = |text: &str| match flags::headers(text) {
            Ok(Headers(names)) if names.is_empty() => {
                Err("expected names with commas between them".to_owned())
            }
            Ok(_) => Ok(()),
            Err(e) => Err(e),
        };
        let given = self.text("Names of the headers, with commas between them", present, check)?;
        let Headers(names) = flags::headers(&given).map_err(Failure::usage)?;
        draft.set(agent, &[path[0], "requestHeaderAllowlist"], json!(names))?;
        Ok(())
    }

    /// Ours: what outlives a session's stop.
    fn storage(&self, flags: &Flags, draft: &mut Draft, agent: &str) -> Result<(), Failure> {
        if flags.session_storage.is_some() {
            return Ok(());
        }
        let list = draft.get(agent, &["filesystem_configurations"]).and_then(Value::as_array).cloned();
        let present = list.as_ref().map(|l| {
            let paths = l.iter().filter_map(|f| f["session_storage"]["mount_path"].as_str());
            paths.map(str::to_owned).next().unwrap_or_else(|| "none".to_owned())
        });
        let check = |text: &str| flags::storage(text).map(drop);
        let default = present.clone().unwrap_or_else(|| DEFAULT_STORAGE.to_owned());
        let prompt = "Session storage, kept over stop and resume (a path below /mnt, or none)";
        let given = self.text(prompt, Some(default), check)?;
        if present.as_deref() != Some(given.as_str()) {
            set_storage(draft, agent, Some(given.as_str()).filter(|g| *g != "none"))?;
        }
        Ok(())
    }
}

fn text_at(draft: &Draft, agent: &str, path: &[&str]) -> Option<String> {
    draft.get(agent, path).and_then(Value::as_str).filter(|t| !t.is_empty()).map(str::to_owned)
}
