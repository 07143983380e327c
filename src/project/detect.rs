//! What can be seen of a project without being told: entry files, dependencies, a name.

use std::path::{Path, PathBuf};

use serde_json::Value;

use super::schema::Language;
use crate::model::RuntimeName;

/// Entry files of Python projects. [toolkit]
const PYTHON: [&str; 4] = ["agent.py", "app.py", "main.py", "__main__.py"];
/// Entry files of TypeScript projects, the first that is there. [toolkit]
const TYPESCRIPT: [&str; 8] = [
    "src/index.ts",
    "index.ts",
    "src/agent.ts",
    "agent.ts",
    "src/main.ts",
    "main.ts",
    "src/app.ts",
    "app.ts",
];
/// Entry files of JavaScript projects, the first that is there. [ours]
const JAVASCRIPT: [&str; 6] = ["main.js", "index.js", "server.js", "app.js", "src/index.js", "src/main.js"];
/// Files that list what an agent needs, as far as they are looked for. [toolkit; package.json: ours]
const DEPENDENCIES: [&str; 3] = ["requirements.txt", "pyproject.toml", "package.json"];

/// The files in `directory` that an agent may begin with: none, one, or several to choose from.
pub fn entry_files(directory: &Path) -> Vec<PathBuf> {
    let python: Vec<PathBuf> = PYTHON.iter().map(|f| directory.join(f)).filter(|f| f.is_file()).collect();
    if !python.is_empty() {
        return python;
    }
    let named = package(directory).and_then(|p| p["main"].as_str().map(|main| directory.join(main)));
    let others = TYPESCRIPT.iter().chain(&JAVASCRIPT).map(|f| directory.join(f));
    named.into_iter().chain(others).find(|f| f.is_file()).into_iter().collect()
}

/// The language of an entry file. Nothing: neither of the two that the schema knows.
pub fn language(entry: &Path) -> Option<Language> {
    match entry.extension()?.to_str()? {
        "py" => Some(Language::Python),
        "ts" | "js" | "mjs" | "cjs" | "mts" | "cts" => Some(Language::TypeScript),
        _ => None,
    }
}

/// How an agent that is no Python file is started, from the entry file's path below its source directory.
pub fn command(source: &Path, entry: &str) -> Vec<String> {
    let words = |words: &[&str]| words.iter().map(|w| (*w).to_owned()).collect();
    match language(Path::new(entry)) {
        // What the project itself says is built and started so.
        Some(Language::TypeScript) if !entry.ends_with("js") && has_start(source) => words(&["npm", "start"]),
        Some(Language::TypeScript) => words(&["node", entry]),
        Some(Language::Python) => words(&["python3", entry]),
        None => vec![format!("./{entry}")],
    }
}

fn package(directory: &Path) -> Option<Value> {
    serde_json::from_slice(&std::fs::read(directory.join("package.json")).ok()?).ok()
}

fn has_start(directory: &Path) -> bool {
    package(directory).is_some_and(|p| p["scripts"]["start"].is_string())
}

/// The file that lists what the agent needs: in its source directory, else in the project's.
pub fn dependencies(source: &Path, root: &Path) -> Option<PathBuf> {
    [source, root].into_iter().find_map(|d| DEPENDENCIES.iter().map(|f| d.join(f)).find(|f| f.is_file()))
}

/// The source directory of an entry file: the nearest one at or above it, up to `root`, that lists dependencies,
/// else its own. [toolkit]
pub fn source_of(entry: &Path, root: &Path) -> PathBuf {
    let own = entry.parent().unwrap_or(root);
    own.ancestors()
        .take_while(|d| d.starts_with(root))
        .find(|d| DEPENDENCIES.iter().any(|f| d.join(f).is_file()))
        .unwrap_or(own)
        .to_owned()
}

/// A name for the agent of an entry file: the file's where it says something, else its directory's.
pub fn name_for(entry: &Path) -> Option<RuntimeName> {
    /// Names that every agent's file has.
    const COMMON: [&str; 7] = ["agent", "app", "main", "__main__", "index", "server", "src"];
    let parts = entry.ancestors().filter_map(|p| p.file_stem()).filter_map(|s| s.to_str());
    parts.filter(|part| !COMMON.contains(part)).find_map(legal_name)
}

/// `text` as a runtime may be called.
pub fn legal_name(text: &str) -> Option<RuntimeName> {
    let plain: String = text.chars().map(|c| if c.is_ascii_alphanumeric() { c } else { '_' }).collect();
    let plain = plain.trim_matches(|c: char| !c.is_ascii_alphabetic() && !c.is_ascii_digit());
    let plain = plain.trim_start_matches(|c: char| !c.is_ascii_alphabetic());
    plain.chars().take(NAME_CHARS).collect::<String>().parse().ok()
}

/// Longest name of a runtime. [model: AgentRuntimeName]
const NAME_CHARS: usize = 48;

#[cfg(test)]
mod tests {
    use super::*;

    fn project(files: &[(&str, &str)]) -> tempfile::TempDir {
        let dir = tempfile::tempdir().unwrap();
        for (path, text) in files {
            let file = dir.path().join(path);
            std::fs::create_dir_all(file.parent().unwrap()).unwrap();
            std::fs::write(file, text).unwrap();
        }
        dir
    }

    #[test]
    fn entry_files_are_found_as_the_toolkit_finds_them() {
        let found = |files: &[(&str, &str)]| -> Vec<String> {
            let dir = project(files);
            let relative = |p: PathBuf| p.strip_prefix(dir.path()).unwrap().display().to_string();
            entry_files(dir.path()).into_iter().map(relative).collect()
        };
        assert_eq!(found(&[("main.py", ""), ("index.ts", "")]), ["main.py"]);
        assert_eq!(found(&[("app.py", ""), ("agent.py", "")]), ["agent.py", "app.py"]);
        assert_eq!(found(&[("src/index.ts", ""), ("app.ts", "")]), ["src/index.ts"]);
        assert_eq!(
            found(&[("package.json", "{\"main\": \"lib/x.js\"}"), ("lib/x.js", ""), ("index.js", "")]),
            ["lib/x.js"]
        );
        assert_eq!(found(&[("package.json", "{\"main\": \"gone.js\"}"), ("server.js", "")]), ["server.js"]);
        assert!(found(&[("README.md", "")]).is_empty());
    }

    #[test]
    fn commands_and_sources_follow_the_project() {
        let dir = project(&[
            ("package.json", "{\"scripts\": {\"start\": \"x\"}}"),
            ("a/b/main.py", ""),
            ("a/pyproject.toml", ""),
        ]);
        assert_eq!(command(dir.path(), "src/index.ts"), ["npm", "start"]);
        assert_eq!(command(dir.path(), "server.js"), ["node", "server.js"]);
        assert_eq!(command(&dir.path().join("a"), "index.ts"), ["node", "index.ts"]);
        assert_eq!(command(dir.path(), "bin/agent"), ["./bin/agent"]);
        assert_eq!(source_of(&dir.path().join("a/b/main.py"), dir.path()), dir.path().join("a"));
        let plain = project(&[("a/main.py", "")]);
        assert_eq!(source_of(&plain.path().join("a/main.py"), plain.path()), plain.path().join("a"));
        assert!(dependencies(&dir.path().join("a"), dir.path()).unwrap().ends_with("a/pyproject.toml"));
        assert_eq!(dependencies(plain.path(), plain.path()), None);
    }

    #[test]
    fn names_say_what_the_agent_is() {
        let name = |path: &str| name_for(Path::new(path)).map(|n| n.to_string());
        assert_eq!(name("/home/u/my-agent/main.py").as_deref(), Some("my_agent"));
        assert_eq!(name("/home/u/writer/src/index.ts").as_deref(), Some("writer"));
        assert_eq!(name("/home/u/x/research_bot.py").as_deref(), Some("research_bot"));
        assert_eq!(name("/home/u/2nd.try/app.py").as_deref(), Some("nd"));
        assert_eq!(name("/main.py"), None);
        assert_eq!(legal_name("__x y__").unwrap().as_str(), "x_y");
        assert_eq!(legal_name("123"), None);
        assert_eq!(legal_name(&"a".repeat(90)).unwrap().as_str().len(), 48);
    }
}
