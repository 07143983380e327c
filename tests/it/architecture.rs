//! Enforces the house rules of `src/lib.rs`: which room may enter which, and where the few dangerous or
//! heavy things may be used. A breach is named by file and line; an exception is listed here with its reason.

use std::collections::BTreeSet;
use std::fs;
use std::path::Path;

use regex::Regex;

use crate::support;

/// Which rooms each room may use, besides itself. The table of `src/lib.rs`.
const ROOMS: &[(&str, &[&str])] = &[
    ("model", &[]),
    ("wire", &["model"]),
    ("artifacts", &["model"]),
    ("storage", &["model"]),
    ("helper", &["model"]),
    ("project", &["model"]),
    ("ops", &["model", "project"]),
    // The SDK's clients are what the ports of `ops` are made of.
    ("aws", &["model", "ops"]),
    ("egress", &["model"]),
    ("engine", &["model", "helper", "storage"]),
    ("emulator", &["model", "artifacts", "egress", "storage", "engine"]),
    ("server", &["model", "wire", "emulator"]),
    ("build", &["model", "artifacts", "project"]),
    (
        "cli",
        &[
            "build",
            "model",
            "wire",
            "artifacts",
            "storage",
            "helper",
            "project",
            "ops",
            "aws",
            "egress",
            "engine",
            "emulator",
            "server",
        ],
    ),
];

/// A path of this crate that may be used where the table says otherwise.
struct Exception {
    file: &'static str,
    path: &'static str,
    reason: &'static str,
}

const EXCEPTIONS: &[Exception] = &[
    Exception {
        file: "src/server/data.rs",
        path: "engine::agent_http",
        reason: "a call's body streams from the caller to the agent; a type of its own in between would copy it",
    },
    Exception {
        file: "src/server/errors.rs",
        path: "engine",
        reason: "the one table from every domain error to its HTTP meaning has to see the errors",
    },
];

/// What may appear only in some places: a pattern over code without comments and literals, the
/// files or directories where it may stand, and why there.
struct Owner {
    what: &'static str,
    pattern: &'static str,
    places: &'static [(&'static str, &'static str)],
    /// False: test modules may use it anywhere.
    in_tests: bool,
}

const OWNERS: &[Owner] = &[
    Owner {
        what: "the AWS SDK",
        pattern: r"\baws_(sdk_\w+|config|credential_types|smithy_\w+)\b",
        places: &[
            ("src/aws/", "the only room that knows the SDK"),
            ("src/wire/eventstream.rs", "frames are written by the SDK's own frame encoder"),
        ],
        in_tests: false,
    },
    Owner {
        what: "axum",
        pattern: r"\baxum\b",
        places: &[("src/server/", "HTTP of the emulator")],
        in_tests: false,
    },
    Owner {
        what: "hyper",
        pattern: r"\bhyper(_util)?\b",
        places: &[
            ("src/server/", "the listeners"),
            ("src/egress/", "the proxy of sessions, a server and a client"),
            ("src/engine/agent_http.rs", "the client of the agent's protocol"),
            ("src/cli/", "the client of the admin socket, and the agent of `local demo`"),
            ("src/aws/error.rs", "asks the connector's error whether a connection was ever made"),
            ("src/aws/network.rs", "asks a proxy for the tunnel of a shell"),
        ],
        in_tests: false,
    },
    Owner {
        what: "tar archives",
        pattern: r"\btar::",
        places: &[
            ("src/cli/cp/", "files travel into sessions and out of them as archives"),
            ("src/engine/docker/apart.rs", "a daemon takes files for containers as archives"),
        ],
        in_tests: false,
    },
    Owner {
        what: "the client of the docker daemon",
        pattern: r"\bbollard\b",
        places: &[("src/engine/docker/", "the engine that has a container for each session")],
        in_tests: false,
    },
    Owner {
        what: "SQLite",
        pattern: r"\brusqlite\b",
        places: &[("src/emulator/store/", "the store's thread owns the connection")],
        in_tests: false,
    },
    Owner {
        what: "YAML",
        pattern: r"\b(serde_saphyr|yaml_edit)\b",
        places: &[("src/project/", "the project file is the only YAML there is")],
        in_tests: false,
    },
    Owner {
        what: "system calls",
        pattern: r"\b(nix|libc)::",
        places: &[
            ("src/helper/", "reaps, signals and hands out sockets inside a session"),
            ("src/engine/embedded/", "namespaces and mounts"),
            ("src/engine/terminal.rs", "reads and writes a terminal"),
            ("src/engine/docker/inside.rs", "is a container's first process before the helper takes over"),
            ("src/server/slots.rs", "asks how many descriptors there are"),
            ("src/server/peer.rs", "asks the kernel whose connection it is"),
            ("src/egress/", "lists this machine's addresses, and keeps connections of the proxy alive"),
            ("src/storage/", "makes storage durable and gives it to its owner"),
            ("src/artifacts/", "makes bundles durable, and locks an environment while it is made"),
            ("src/emulator/sessions/launch.rs", "knows signals by name for messages; makes no call"),
            ("src/cli/", "starts the emulator in the background, locks its home, runs processes"),
        ],
        in_tests: false,
    },
    Owner {
        what: "the command line's libraries",
        pattern: r"\b(clap|clap_complete|console|dialoguer|indicatif)::",
        places: &[("src/cli/", "arguments and terminal")],
        in_tests: true,
    },
    Owner {
        what: "the environment and the current directory",
        pattern: r"\benv::(var|vars|var_os|vars_os|args|args_os|current_dir|home_dir|temp_dir|set_var|remove_var)\b",
        places: &[
            ("src/cli/env.rs", "every input of a command is visible in one place"),
            ("src/main.rs", "hands the arguments over"),
        ],
        in_tests: false,
    },
    Owner {
        what: "printing",
        pattern: r"\b(print|println|eprint|eprintln|dbg)!",
        places: &[("src/cli/ui.rs", "stdout is the result, stderr is talk, and JSON is one switch")],
        in_tests: false,
    },
    Owner {
        what: "unsafe code",
        pattern: r"\bunsafe\b",
        places: &[
            ("src/helper/", "fork, exec and descriptor passing"),
            ("src/engine/embedded/", "clone, mount and pivot_root calls that nix does not wrap"),
        ],
        in_tests: true,
    },
    Owner {
        what: "an async runtime",
        pattern: r"\btokio(_util)?::",
        places: &[
            ("src/engine/", "computes are used by async code"),
            ("src/emulator/", "a task per session"),
            ("src/egress/", "a task per connection of a session to the network"),
            ("src/server/", "listens and answers"),
            ("src/storage/", "file work off the async threads"),
            ("src/aws/", "the SDK is async"),
            ("src/ops/", "waits between two looks at what AWS is making"),
            ("src/build/", "reads what a build says while it runs"),
            ("src/cli/", "runs the others"),
        ],
        in_tests: false,
    },
];

/// One file of `src`, its text blanked where it is comment, string or character literal.
struct Source {
    /// `src/room/file.rs`.
    path: String,
    raw: String,
    code: String,
    /// First line of the test module, where there is one.
    tests_from: usize,
}

impl Source {
    fn lines(&self) -> impl Iterator<Item = (usize, &str)> {
        self.code.lines().enumerate().map(|(at, line)| (at + 1, line))
    }

    fn is_test(&self, line: usize) -> bool {
        // A file of test doubles and a test module at the end of a file; nothing else is compiled for tests alone.
        line >= self.tests_from || self.path.ends_with("/tests.rs") || self.path.contains("/tests_")
    }

    /// The room, and how many modules deep the file's own module is.
    fn place(&self) -> (&str, usize) {
        let inner = self.path.trim_start_matches("src/").trim_end_matches(".rs");
        let parts: Vec<&str> = inner.split('/').filter(|part| *part != "mod").collect();
        (parts.first().copied().unwrap_or_default(), parts.len())
    }
}

fn sources() -> Vec<Source> {
    let found = below("src");
    assert!(found.len() > 20, "the sources were not found");
    found
}

fn below(directory: &str) -> Vec<Source> {
    let root = support::repository();
    let mut found = Vec::new();
    let mut left = vec![root.join(directory)];
    while let Some(directory) = left.pop() {
        for entry in fs::read_dir(directory).unwrap() {
            let path = entry.unwrap().path();
            if path.is_dir() {
                left.push(path);
            } else if path.extension().is_some_and(|e| e == "rs") {
                found.push(read(root, &path));
            }
        }
    }
    found.sort_by(|a, b| a.path.cmp(&b.path));
    found
}

fn read(root: &Path, path: &Path) -> Source {
    let raw = fs::read_to_string(path).unwrap();
    let code = blank(&raw);
    let tests_from = code
        .lines()
        .position(|line| line.trim() == "#[cfg(test)]")
        .filter(|at| code.lines().nth(at + 1).is_some_and(|next| next.trim().starts_with("mod tests")))
        .map_or(usize::MAX, |at| at + 1);
    let path = path.strip_prefix(root).unwrap().display().to_string();
    Source { path, raw, code, tests_from }
}

/// Replaces comments and literals by blanks; line breaks stay, so that line numbers do.
fn blank(text: &str) -> String {
    let bytes: Vec<char> = text.chars().collect();
    let mut out = String::with_capacity(text.len());
    let mut at = 0;
    let keep = |c: char| if c == '\n' { '\n' } else { ' ' };
    while at < bytes.len() {
        let rest = &bytes[at..];
        let length = match rest {
            ['/', '/', ..] => rest.iter().position(|c| *c == '\n').unwrap_or(rest.len()),
            ['/', '*', ..] => block_comment(rest),
            ['r', '"' | '#', ..] if !follows_word(&bytes, at) => raw_string(rest).unwrap_or(0),
            ['"', ..] => string(rest),
            ['\'', '\\', ..] => rest.iter().skip(3).position(|c| *c == '\'').map_or(1, |n| n + 4),
            // A lifetime has no closing quote two characters on.
            ['\'', _, '\'', ..] => 3,
            _ => 0,
        };
        if length == 0 {
            out.push(bytes[at]);
            at += 1;
        } else {
            out.extend(rest[..length].iter().map(|c| keep(*c)));
            at += length;
        }
    }
    out
}

fn follows_word(text: &[char], at: usize) -> bool {
    at > 0 && (text[at - 1].is_alphanumeric() || text[at - 1] == '_')
}

fn block_comment(rest: &[char]) -> usize {
    let (mut depth, mut at) = (0, 0);
    while at < rest.len() {
        match &rest[at..] {
            ['/', '*', ..] => (depth, at) = (depth + 1, at + 2),
            ['*', '/', ..] => (depth, at) = (depth - 1, at + 2),
            _ => at += 1,
        }
        if depth == 0 {
            break;
        }
    }
    at
}

fn raw_string(rest: &[char]) -> Option<usize> {
    let hashes = rest[1..].iter().take_while(|c| **c == '#').count();
    (rest.get(1 + hashes) == Some(&'"')).then_some(())?;
    let body = 2 + hashes;
    let closes = |at: usize| {
        rest[at] == '"' && rest[at + 1..].iter().take(hashes).filter(|c| **c == '#').count() == hashes
    };
    (body..rest.len()).find(|at| closes(*at)).map(|end| end + 1 + hashes)
}

fn string(rest: &[char]) -> usize {
    let mut at = 1;
    while at < rest.len() {
        match rest[at] {
            '\\' => at += 2,
            '"' => return at + 1,
            _ => at += 1,
        }
    }
    rest.len()
}

fn report(breaches: &[String]) {
    assert!(breaches.is_empty(), "{} breaches of the house rules:\n{}", breaches.len(), breaches.join("\n"));
}

#[test]
fn rooms_enter_only_the_rooms_they_may() {
    let names: Vec<&str> = ROOMS.iter().map(|(name, _)| *name).collect();
    let direct = Regex::new(r"\bcrate::(\w+|\{[^}]*\})((?:::\w+)*)").unwrap();
    let upward = Regex::new(r"\b((?:super::)+)(\w+)").unwrap();
    let mut breaches = Vec::new();
    let mut used = BTreeSet::new();
    for source in sources() {
        let (room, depth) = source.place();
        if room == "lib" || room == "main" {
            continue;
        }
        let Some((_, allowed)) = ROOMS.iter().find(|(name, _)| *name == room) else {
            breaches.push(format!("{}:1: `{room}` is no room of the table", source.path));
            continue;
        };
        let mut check = |line: usize, target: &str, tail: &str| {
            if !names.contains(&target) || target == room || allowed.contains(&target) {
                return;
            }
            let path = format!("{target}{tail}");
            let exception = EXCEPTIONS.iter().position(|e| e.file == source.path && path.starts_with(e.path));
            match exception {
                Some(at) => _ = used.insert(at),
                None => {
                    breaches.push(format!("{}:{line}: `{room}` may not use `crate::{path}`", source.path))
                }
            }
        };
        for (line, text) in source.lines() {
            for found in direct.captures_iter(text) {
                let head = &found[1];
                if let Some(list) = head.strip_prefix('{') {
                    for item in list.trim_end_matches('}').split(',') {
                        check(line, item.trim().split("::").next().unwrap_or_default(), "");
                    }
                } else {
                    check(line, head, &found[2]);
                }
            }
            for found in upward.captures_iter(text) {
                let ups = found[1].matches("super").count();
                // One more step is needed to leave the crate's room from inside a test module.
                let inside = usize::from(line >= source.tests_from);
                if ups >= depth + inside {
                    check(line, &found[2], "");
                }
            }
        }
    }
    for (at, exception) in EXCEPTIONS.iter().enumerate() {
        assert!(exception.reason.len() > 20, "the exception of {} needs a reason", exception.file);
        if !used.contains(&at) && support::repository().join(exception.file).exists() {
            breaches
                .push(format!("{}: its exception for `{}` is not needed", exception.file, exception.path));
        }
    }
    report(&breaches);
}

#[test]
fn heavy_and_dangerous_things_stay_in_their_places() {
    let mut breaches = Vec::new();
    let sources = sources();
    for owner in OWNERS {
        let pattern = Regex::new(owner.pattern).unwrap();
        for (place, reason) in owner.places {
            assert!(reason.len() > 10, "{place} needs a reason for {}", owner.what);
        }
        for source in &sources {
            if owner.places.iter().any(|(place, _)| source.path.starts_with(place)) {
                continue;
            }
            for (line, text) in source.lines() {
                if pattern.is_match(text) && (owner.in_tests || !source.is_test(line)) {
                    breaches.push(format!("{}:{line}: {} has no place here", source.path, owner.what));
                }
            }
        }
    }
    report(&breaches);
}

#[test]
fn unsafe_code_argues_for_itself() {
    let block = Regex::new(r"\bunsafe\s*\{|\bunsafe\s+(impl|fn)\b").unwrap();
    let mut breaches = Vec::new();
    for source in sources() {
        let raw: Vec<&str> = source.raw.lines().collect();
        for (line, text) in source.lines() {
            // The argument stands directly above, or above the statement that the block is part of.
            let above = &raw[line.saturating_sub(9)..line];
            if block.is_match(text) && !above.iter().any(|l| l.contains("SAFETY:") || l.contains("# Safety"))
            {
                breaches.push(format!("{}:{line}: unsafe code without a `SAFETY:` comment", source.path));
            }
        }
    }
    report(&breaches);
}

#[test]
fn nothing_is_ignored_or_allowed_without_a_reason() {
    let lint = Regex::new(r"#!?\[(allow|expect)\(").unwrap();
    let mut breaches = Vec::new();
    let mut files = sources();
    files.extend(below("tests/it"));
    for source in files {
        let raw: Vec<&str> = source.raw.lines().collect();
        for (line, text) in source.lines() {
            if text.contains("#[ignore]") {
                breaches.push(format!("{}:{line}: `#[ignore]` without a reason", source.path));
            }
            // An attribute may go on for several lines.
            let attribute = raw[line - 1..raw.len().min(line + 12)].join("\n");
            let attribute = attribute.split(")]").next().unwrap_or_default();
            let before = line >= 2 && raw[line - 2].trim().starts_with("//");
            if lint.is_match(text) && !attribute.contains("reason") && !before {
                breaches.push(format!("{}:{line}: a lint is switched off without a reason", source.path));
            }
        }
    }
    report(&breaches);
}

#[test]
fn every_file_says_what_it_is_for() {
    let silent: Vec<String> = sources()
        .iter()
        // A `tests.rs` is for the module beside it.
        .filter(|s| !s.path.ends_with("/tests.rs") && !s.raw.trim_start().starts_with("//!"))
        .filter(|s| !s.raw.starts_with("// @generated") && !s.raw.starts_with("// Generated"))
        .map(|s| format!("{}:1: no module documentation", s.path))
        .collect();
    report(&silent);
}

/// The rules are read from the table of the crate's documentation as well, so that the two cannot drift apart.
#[test]
fn the_table_is_the_documented_one() {
    let lib = fs::read_to_string(support::repository().join("src/lib.rs")).unwrap();
    let row = Regex::new(r"(?m)^//! \| \[`(\w+)`\] \| [^|]* \| ([^|]*) \|$").unwrap();
    let word = Regex::new(r"`\w+`").unwrap();
    let documented: Vec<(String, String)> =
        row.captures_iter(&lib).map(|row| (row[1].to_owned(), row[2].to_owned())).collect();
    assert_eq!(documented.len(), ROOMS.len(), "{documented:?}");
    for (room, uses) in &documented {
        let (_, allowed) = ROOMS.iter().find(|(name, _)| name == room).unwrap_or_else(|| panic!("{room}"));
        if uses.starts_with("everything") {
            assert_eq!(allowed.len(), ROOMS.len() - 1, "{room}");
            continue;
        }
        let named: BTreeSet<&str> =
            word.find_iter(uses).map(|found| found.as_str().trim_matches('`')).collect();
        let allowed: BTreeSet<&str> = allowed.iter().copied().collect();
        assert_eq!(named, allowed, "what `{room}` may use");
    }
}

#[test]
fn blanking_removes_comments_and_literals_only() {
    let text = "let a = \"unsafe\\\" // x\"; // unsafe\n/* unsafe /* nested */ */ b('\"', '\\'', r#\"unsafe \"# , &'a str)";
    let code = blank(text);
    assert!(!code.contains("unsafe"), "{code}");
    assert_eq!(code.lines().count(), text.lines().count());
    assert!(code.contains("&'a str") && code.contains("let a ="), "{code}");
}
