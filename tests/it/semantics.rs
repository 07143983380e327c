//! docs/SEMANTICS.md promises that each of its lines has a test, and docs/ARCHITECTURE.md that every reader of
//! foreign input and every defect of the starter toolkit has one; this holds them to the promise.

use std::fs;

use regex::Regex;

use crate::support;

/// Faults of a document's tables whose rows end with the tests that hold them true, and the number of tests.
fn check(document: &str, tables_end_with: &[&str]) -> (Vec<String>, usize) {
    let text = fs::read_to_string(support::repository().join(document)).unwrap();
    let name = Regex::new(r"`(py|it|lib):([^`]+)`").unwrap();
    let (mut faults, mut seen, mut table) = (Vec::new(), 0, None);
    for (number, line) in text.lines().enumerate() {
        if !line.starts_with('|') {
            table = None;
            continue;
        }
        let cells: Vec<&str> = line.trim_matches('|').split(" | ").collect();
        let last = cells.last().unwrap().trim();
        let Some(has_tests) = table else {
            table = Some(tables_end_with.contains(&last));
            continue;
        };
        if !has_tests || line.starts_with("|---") {
            continue;
        }
        if !name.is_match(last) {
            faults.push(format!("{document}:{}: names no test", number + 1));
        }
        for found in name.captures_iter(last) {
            seen += 1;
            if !exists(&found[1], &found[2]) {
                faults.push(format!("{document}:{}: no test `{}`", number + 1, &found[2]));
            }
        }
    }
    (faults, seen)
}

#[test]
fn every_named_test_exists() {
    let (faults, seen) = check("docs/SEMANTICS.md", &["tests"]);
    assert!(faults.is_empty(), "{}", faults.join("\n"));
    assert!(seen > 40, "the tables were not read");
}

#[test]
fn every_reader_of_foreign_input_is_tried() {
    let (faults, seen) = check("docs/ARCHITECTURE.md", &["tried by"]);
    assert!(faults.is_empty(), "{}", faults.join("\n"));
    assert!(seen > 15, "the table was not read");
}

#[test]
fn every_defect_of_the_toolkit_is_shown_absent() {
    let (faults, seen) = check("docs/ARCHITECTURE.md", &["shown absent by"]);
    assert!(faults.is_empty(), "{}", faults.join("\n"));
    assert!(seen >= 12, "the table was not read");
}

fn exists(kind: &str, name: &str) -> bool {
    let root = support::repository();
    let read = |path: String| fs::read_to_string(root.join(path)).unwrap_or_default();
    if kind == "it" || kind == "lib" {
        let Some((module, test)) = name.rsplit_once("::") else { return false };
        let directory = if kind == "it" { "tests/it" } else { "src" };
        // Tests beside the code stand in a module `tests` of the same file, or in a file of that name.
        let file = |module: &str| {
            let path = format!("{directory}/{}", module.replace("::", "/"));
            read(format!("{path}.rs")) + &read(format!("{path}/mod.rs"))
        };
        let inline = module.strip_suffix("::tests").map(file).unwrap_or_default();
        return [file(module), inline].iter().any(|text| text.contains(&format!("fn {test}(")));
    }
    let parts: Vec<&str> = name.split('.').collect();
    let [module, class, test] = parts[..] else { return false };
    let text = read(format!("tests/python/{module}.py"));
    let Some((_, after)) = text.split_once(&format!("\nclass {class}(")) else { return false };
    let body = after.split("\nclass ").next().unwrap_or_default();
    body.contains(&format!("    def {test}(self)"))
}
