//! docs/SEMANTICS.md promises that each of its lines has a test; this holds it to the promise.

use std::fs;

use regex::Regex;

use crate::support;

#[test]
fn every_named_test_exists() {
    let root = support::repository();
    let text = fs::read_to_string(root.join("docs/SEMANTICS.md")).unwrap();
    let name = Regex::new(r"`(py|it|lib):([^`]+)`").unwrap();
    let mut missing = Vec::new();
    let mut seen = 0;
    for (number, line) in text.lines().enumerate().filter(|(_, line)| line.starts_with("| ")) {
        let cells: Vec<&str> = line.trim_matches('|').split(" | ").collect();
        let tests = cells.last().unwrap();
        if tests.trim() == "tests" {
            continue;
        }
        if !name.is_match(tests) {
            missing.push(format!("docs/SEMANTICS.md:{}: names no test", number + 1));
        }
        for found in name.captures_iter(tests) {
            seen += 1;
            if !exists(&found[1], &found[2]) {
                missing.push(format!("docs/SEMANTICS.md:{}: no test `{}`", number + 1, &found[2]));
            }
        }
    }
    assert!(missing.is_empty(), "{}", missing.join("\n"));
    assert!(seen > 40, "the table was not read");
}

fn exists(kind: &str, name: &str) -> bool {
    let root = support::repository();
    let read = |path: String| fs::read_to_string(root.join(path)).unwrap_or_default();
    if kind == "it" || kind == "lib" {
        let Some((module, test)) = name.rsplit_once("::") else { return false };
        let directory = if kind == "it" { "tests/it" } else { "src" };
        // Tests beside the code stand in a module `tests` of the same file, or in a file of that name.
        let file = |module: &str| read(format!("{directory}/{}.rs", module.replace("::", "/")));
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
