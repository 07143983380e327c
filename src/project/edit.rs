//! Changes to the project file that leave everything else in it as it is: comments, order, unknown keys, quotes,
//! line endings.
//!
//! A lossless syntax tree does the editing. It is not trusted: every change is read back by the reader of the
//! file, and the data must be what it was but for the change. What cannot be edited so is an error, not a guess.

use std::fs::{self, File};
use std::io::{self, Write};
use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::str::FromStr;

use serde_json::{Map, Value};
use yaml_edit::path::YamlPath;
use yaml_edit::{Document, Mapping};

use super::yaml::{self, Style};
use super::{Project, ProjectError, file, keys};

/// Attempts of [`update`] while others write the file. [ours]
const RACES: usize = 16;
/// Mode of a new project file, before the user's mask.
const MODE: u32 = 0o666;

/// The project file while it is changed. Nothing is written before [`Draft::save`].
#[derive(Debug, Clone)]
pub struct Draft {
    file: PathBuf,
    /// What the file was when it was read. Nothing: there was none.
    before: Option<Vec<u8>>,
    text: String,
    /// What `text` says.
    data: Value,
}

impl Draft {
    /// Reads `file`; where there is none, begins an empty one.
    pub fn open(file: &Path) -> Result<Self, ProjectError> {
        let before = match fs::read(file) {
            Ok(bytes) => Some(bytes),
            Err(e) if e.kind() == io::ErrorKind::NotFound => None,
            Err(source) => return Err(ProjectError::Read { file: file.to_owned(), source }),
        };
        let text = match before.as_ref().map(|bytes| String::from_utf8(bytes.clone())) {
            None => String::new(),
            Some(Ok(text)) => text,
            Some(Err(_)) => {
                let source = io::Error::new(io::ErrorKind::InvalidData, "it is not UTF-8 text");
                return Err(ProjectError::Read { file: file.to_owned(), source });
            }
        };
        if before.is_some() {
            file::parse(file, &text).or_else(|e| if is_bare(&text) { Ok(nothing(file)) } else { Err(e) })?;
        }
        let data = read(&text).unwrap_or_default();
        Ok(Self { file: file.to_owned(), before, text, data })
    }

    /// The file.
    pub fn file(&self) -> &Path {
        &self.file
    }

    /// Its text with the changes.
    pub fn text(&self) -> &str {
        &self.text
    }

    /// True when there was no such file.
    pub fn is_new(&self) -> bool {
        self.before.is_none()
    }

    /// True when something has been changed.
    pub fn is_changed(&self) -> bool {
        self.before.as_deref() != Some(self.text.as_bytes()) && !(self.is_new() && self.text.is_empty())
    }

    /// What it says, checked as when it is loaded.
    pub fn project(&self) -> Result<Project, ProjectError> {
        file::parse(&self.file, &self.text)
    }

    /// The agents' keys.
    pub fn agents(&self) -> Vec<String> {
        match (&self.data["agents"], &self.data["name"]) {
            (Value::Object(agents), _) => agents.keys().cloned().collect(),
            (Value::Null, Value::String(name)) => vec![name.clone()],
            _ => Vec::new(),
        }
    }

    /// The value at `path` inside an agent.
    pub fn get(&self, agent: &str, path: &[&str]) -> Option<&Value> {
        let mut at = &self.data;
        for key in self.inside(agent, path) {
            at = at.get(key)?;
        }
        Some(at)
    }

    /// Sets what stands at `path` inside an agent. True: the file says something else now.
    pub fn set(&mut self, agent: &str, path: &[&str], value: impl Into<Value>) -> Result<bool, ProjectError> {
        let value = value.into();
        if self.get(agent, path) == Some(&value) {
            return Ok(false);
        }
        let full: Vec<String> = self.inside(agent, path).into_iter().map(str::to_owned).collect();
        self.put(&full, value).map(|()| true)
    }

    /// Takes out what stands at `path` inside an agent. True: it was there.
    pub fn remove(&mut self, agent: &str, path: &[&str]) -> Result<bool, ProjectError> {
        if self.get(agent, path).is_none() {
            return Ok(false);
        }
        let full: Vec<String> = self.inside(agent, path).into_iter().map(str::to_owned).collect();
        self.take(&full).map(|()| true)
    }

    /// Makes `agent` the default. True: it was not.
    pub fn set_default(&mut self, agent: &str) -> Result<bool, ProjectError> {
        if self.data["default_agent"] == *agent {
            return Ok(false);
        }
        // A file of one agent has its only agent for a default and no key to say so.
        if self.is_one_agent() {
            return Ok(false);
        }
        self.put(&["default_agent".to_owned()], agent.into()).map(|()| true)
    }

    /// Takes an agent out, and the default with it where it is the default.
    pub fn remove_agent(&mut self, agent: &str) -> Result<bool, ProjectError> {
        if self.is_one_agent() || self.data["agents"].get(agent).is_none() {
            return Ok(false);
        }
        if self.data["default_agent"] == *agent {
            self.put(&["default_agent".to_owned()], Value::Null)?;
        }
        self.take(&["agents".to_owned(), agent.to_owned()]).map(|()| true)
    }

    /// Adds an agent with these keys. A file of one agent takes the form with `agents` first.
    pub fn add_agent(&mut self, agent: &str, keys: Map<String, Value>) -> Result<(), ProjectError> {
        if self.is_one_agent() {
            self.become_many()?;
        }
        if self.data.is_null() {
            let mut agents = Map::new();
            agents.insert(agent.to_owned(), Value::Object(keys));
            let whole = serde_json::json!({ "default_agent": agent, "agents": agents });
            let text = self.text.clone() + &yaml::render(&whole, Style::Block);
            return self.accept(text, whole, "the first agent");
        }
        if self.data["agents"].is_null() {
            self.put(&["agents".to_owned()], Value::Object(Map::new()))?;
        }
        self.put(&["agents".to_owned(), agent.to_owned()], Value::Object(keys))
    }

    /// Writes the file whole or not at all, durably, unless somebody else has changed it since it was read.
    /// True: something was written.
    pub fn save(&mut self) -> Result<bool, ProjectError> {
        if !self.is_changed() {
            return Ok(false);
        }
        self.project()?;
        replace(&self.file, self.before.as_deref(), self.text.as_bytes())?;
        self.before = Some(self.text.clone().into_bytes());
        Ok(true)
    }

    fn is_one_agent(&self) -> bool {
        self.data.is_object() && self.data["agents"].is_null() && !self.data["name"].is_null()
    }

    /// The whole path of a path inside an agent.
    fn inside<'p>(&self, agent: &'p str, path: &[&'p str]) -> Vec<&'p str> {
        let start: &[&str] = if self.is_one_agent() { &[] } else { &["agents", agent] };
        start.iter().chain(path).copied().collect()
    }

    /// Gives a file of one agent the form with `agents`: every line a little further in.
    fn become_many(&mut self) -> Result<(), ProjectError> {
        let Some(name) = self.data["name"].as_str().map(str::to_owned) else { return Ok(()) };
        let end = if self.text.contains("\r\n") { "\r\n" } else { "\n" };
        let key = yaml::render(&Value::from(name.as_str()), Style::Flow);
        let mut text = format!("default_agent: {key}{end}agents:{end}  {key}:{end}");
        for line in self.text.split_inclusive('\n') {
            match line.trim_end_matches(['\n', '\r']) {
                "" => {}
                // The marker of the document's beginning has no place inside it.
                "---" => continue,
                _ => text.push_str("    "),
            }
            text.push_str(line);
        }
        let mut agents = Map::new();
        agents.insert(name.clone(), self.data.clone());
        let data = serde_json::json!({ "default_agent": name, "agents": agents });
        self.accept(text, data, "the form with `agents`")
    }

    fn put(&mut self, path: &[String], value: Value) -> Result<(), ProjectError> {
        let Some((last, parents)) = path.split_last() else { return Ok(()) };
        let mut data = self.data.clone();
        let mut at = &mut data;
        let mut there = Vec::new();
        for key in parents {
            // A key without a value is a map that has nothing in it yet.
            if at.is_null() {
                *at = Value::Object(Map::new());
            }
            let Value::Object(map) = at else { return Err(self.not_editable(path, "it has no map there")) };
            if map.get(key).is_some_and(|v| !v.is_null()) {
                there.push(key.clone());
            }
            at = map.entry(key.clone()).or_insert(Value::Null);
        }
        if at.is_null() {
            *at = Value::Object(Map::new());
        }
        let Value::Object(map) = at else { return Err(self.not_editable(path, "it has no map there")) };
        map.insert(last.clone(), value.clone());
        // Maps that are not there yet come with the value.
        let (key, value) = match parents.get(there.len()) {
            Some(missing) => {
                let inner = parents[there.len() + 1..].iter().chain([last]).rev();
                (missing, inner.fold(value, |v, key| Value::Object(Map::from_iter([(key.clone(), v)]))))
            }
            None => (last, value),
        };
        let order = order(&there);
        let mut problem = None;
        for style in [Style::Block, Style::Flow] {
            match edited(&self.text, &there, key, &yaml::render(&value, style), order) {
                Ok(text) if read(&text).as_ref() == Some(&data) => {
                    return self.accept(text, data, &path.join("."));
                }
                Ok(_) => {}
                Err(reason) => problem = Some(reason),
            }
        }
        let reason = problem.unwrap_or_else(|| "the result would mean something else".to_owned());
        Err(self.not_editable(path, &reason))
    }

    fn take(&mut self, path: &[String]) -> Result<(), ProjectError> {
        let Some((last, parents)) = path.split_last() else { return Ok(()) };
        let mut data = self.data.clone();
        let mut at = &mut data;
        for key in parents {
            at = &mut at[key.as_str()];
        }
        if let Value::Object(map) = at {
            map.shift_remove(last);
        }
        let text = parsed(&self.text)
            .and_then(|doc| {
                doc.try_remove_path(&written(path)).map_err(|e| e.to_string())?;
                Ok(doc.to_string())
            })
            .map_err(|reason| self.not_editable(path, &reason))?;
        self.accept(text, data, &path.join("."))
    }

    /// Takes over a changed text, which must say `data`.
    fn accept(&mut self, text: String, data: Value, what: &str) -> Result<(), ProjectError> {
        if read(&text).as_ref() != Some(&data) {
            return Err(self.not_editable(&[what.to_owned()], "the result would mean something else"));
        }
        (self.text, self.data) = (text, data);
        Ok(())
    }

    fn not_editable(&self, path: &[String], reason: &str) -> ProjectError {
        ProjectError::NotEditable { file: self.file.clone(), key: path.join("."), reason: reason.to_owned() }
    }
}

/// Changes the file at `file` by `change`, anew where somebody else changes it at the same time. True: something
/// was written.
pub fn update(
    file: &Path,
    mut change: impl FnMut(&mut Draft) -> Result<(), ProjectError>,
) -> Result<bool, ProjectError> {
    for attempt in 1.. {
        let mut draft = Draft::open(file)?;
        change(&mut draft)?;
        match draft.save() {
            Err(ProjectError::Changed { .. }) if attempt < RACES => {}
            result => return result,
        }
    }
    Ok(false)
}

/// What a text says. Nothing: it is no YAML.
fn read(text: &str) -> Option<Value> {
    if is_bare(text) {
        return Some(Value::Null);
    }
    serde_saphyr::from_str(text).ok()
}

/// True for a text of comments and nothing else.
fn is_bare(text: &str) -> bool {
    text.lines().map(str::trim).all(|l| l.is_empty() || l.starts_with('#') || l == "---")
}

fn nothing(file: &Path) -> Project {
    Project {
        file: file.to_owned(),
        agents: Default::default(),
        default: None,
        one_agent: false,
        managed_elsewhere: false,
    }
}

/// The order in which keys stand in the map at `path`.
fn order(path: &[String]) -> &'static [&'static str] {
    let path: Vec<&str> = path.iter().map(String::as_str).collect();
    match path.as_slice() {
        [] => keys::FILE,
        ["agents", _, inner @ ..] => keys::of(inner).unwrap_or_default(),
        inner => keys::of(inner).unwrap_or_default(),
    }
}

fn parsed(text: &str) -> Result<Document, String> {
    Document::from_str(text).map_err(|e| e.to_string())
}

/// A path as the editor takes it: keys between dots, with what has a meaning there behind a backslash.
fn written(path: &[String]) -> String {
    let key = |key: &String| {
        let number = key.bytes().all(|b| b.is_ascii_digit());
        let mut out = String::new();
        for (at, c) in key.chars().enumerate() {
            if matches!(c, '.' | '[' | ']' | '\\') || (number && at == 0) {
                out.push('\\');
            }
            out.push(c);
        }
        out
    };
    path.iter().map(key).collect::<Vec<_>>().join(".")
}

/// `text` with `key` of the map at `parents` set to the value that is written as `value`.
fn edited(text: &str, parents: &[String], key: &str, value: &str, order: &[&str]) -> Result<String, String> {
    let doc = parsed(text)?;
    let map: Mapping = if parents.is_empty() {
        doc.as_mapping().ok_or("the file is no map")?
    } else {
        let node = doc
            .try_get_path_with(&written(parents), yaml_edit::path::AliasPolicy::Refuse)
            .map_err(|e| e.to_string())?;
        node.as_mapping().cloned().ok_or("it has no map there")?
    };
    let new = parsed(value)?;
    if let Some(value) = new.as_mapping() {
        map.set_with_field_order(key, value, order.iter().copied());
    } else if let Some(value) = new.as_sequence() {
        map.set_with_field_order(key, value, order.iter().copied());
    } else if let Some(value) = new.as_scalar() {
        map.set_with_field_order(key, value, order.iter().copied());
    }
    Ok(doc.to_string())
}

/// Replaces the content of `file`, which was `before`, by `after`.
pub(super) fn replace(file: &Path, before: Option<&[u8]>, after: &[u8]) -> Result<(), ProjectError> {
    let failed = |source| ProjectError::Write { file: file.to_owned(), source };
    // Through a link, so that the link stays one.
    let target = fs::canonicalize(file).unwrap_or_else(|_| file.to_owned());
    let directory = match target.parent() {
        Some(parent) if !parent.as_os_str().is_empty() => parent,
        _ => Path::new("."),
    };
    let handle = File::open(directory).map_err(failed)?;
    // Others of this program wait here; what has no notion of locks is noticed by the comparison.
    handle.lock().map_err(failed)?;
    let mut builder = tempfile::Builder::new();
    builder.prefix(".agentcore-").permissions(fs::Permissions::from_mode(MODE));
    let mut new = builder.tempfile_in(directory).map_err(failed)?;
    new.write_all(after).map_err(failed)?;
    if let Ok(old) = fs::metadata(&target) {
        new.as_file().set_permissions(old.permissions()).map_err(failed)?;
        let made = new.as_file().metadata().map_err(failed)?;
        if (old.uid(), old.gid()) != (made.uid(), made.gid()) {
            // Under sudo the file stays its owner's. Who may not give it away keeps it.
            let _ = std::os::unix::fs::fchown(new.as_file(), Some(old.uid()), Some(old.gid()));
        }
    }
    new.as_file().sync_all().map_err(failed)?;
    let now = match fs::read(&target) {
        Ok(bytes) => Some(bytes),
        Err(e) if e.kind() == io::ErrorKind::NotFound => None,
        Err(e) => return Err(failed(e)),
    };
    if now.as_deref() != before {
        return Err(ProjectError::Changed { file: file.to_owned() });
    }
    new.persist(&target).map_err(|e| failed(e.error))?;
    handle.sync_all().map_err(failed)
}

#[cfg(test)]
mod tests;
