//! Values as YAML text that every reader takes for the same: YAML 1.2 as this program reads it, and YAML 1.1 as
//! the toolkit's PyYAML does.

use serde_json::Value;

/// How maps and lists are written.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Style {
    /// A line for each entry.
    Block,
    /// In braces and brackets.
    Flow,
}

/// Words that are no strings in YAML 1.1 or 1.2 when they stand without quotes.
const RESERVED: [&str; 12] =
    ["true", "false", "yes", "no", "on", "off", "y", "n", "null", "nan", "inf", "none"];

/// `value` as a text; a block ends with a line break.
pub(super) fn render(value: &Value, style: Style) -> String {
    let mut out = String::new();
    match (value, style) {
        (Value::Object(map), Style::Block) if !map.is_empty() => block(value, 0, &mut out),
        (Value::Array(list), Style::Block) if !list.is_empty() => block(value, 0, &mut out),
        _ => flow(value, &mut out),
    }
    out
}

fn block(value: &Value, indent: usize, out: &mut String) {
    match value {
        Value::Object(map) => {
            for (key, value) in map {
                out.extend(std::iter::repeat_n(' ', indent));
                entry(key, value, indent, out);
            }
        }
        Value::Array(list) => {
            for item in list {
                out.extend(std::iter::repeat_n(' ', indent));
                out.push_str("- ");
                match item {
                    // Its first entry stands behind the dash, the others below it.
                    Value::Object(map) if !map.is_empty() => {
                        for (at, (key, value)) in map.iter().enumerate() {
                            if at > 0 {
                                out.extend(std::iter::repeat_n(' ', indent + 2));
                            }
                            entry(key, value, indent + 2, out);
                        }
                    }
                    item => {
                        flow(item, out);
                        out.push('\n');
                    }
                }
            }
        }
        scalar => {
            flow(scalar, out);
            out.push('\n');
        }
    }
}

fn entry(key: &str, value: &Value, indent: usize, out: &mut String) {
    text(key, out);
    out.push(':');
    let nested = match value {
        Value::Object(map) => !map.is_empty(),
        Value::Array(list) => !list.is_empty(),
        _ => false,
    };
    if nested {
        out.push('\n');
        block(value, indent + 2, out);
    } else {
        out.push(' ');
        flow(value, out);
        out.push('\n');
    }
}

fn flow(value: &Value, out: &mut String) {
    match value {
        Value::Null => out.push_str("null"),
        Value::Bool(truth) => out.push_str(if *truth { "true" } else { "false" }),
        Value::Number(number) => out.push_str(&number.to_string()),
        Value::String(string) => text(string, out),
        Value::Array(list) => {
            out.push('[');
            for (at, item) in list.iter().enumerate() {
                out.push_str(if at > 0 { ", " } else { "" });
                flow(item, out);
            }
            out.push(']');
        }
        Value::Object(map) => {
            out.push('{');
            for (at, (key, value)) in map.iter().enumerate() {
                out.push_str(if at > 0 { ", " } else { "" });
                text(key, out);
                out.push_str(": ");
                flow(value, out);
            }
            out.push('}');
        }
    }
}

fn text(string: &str, out: &mut String) {
    let printable = |c: char| matches!(c, ' '..='~') || (c > '\u{a0}' && c.is_alphanumeric());
    if is_plain(string) {
        out.push_str(string);
    } else if string.chars().all(printable) {
        out.push('\'');
        out.push_str(&string.replace('\'', "''"));
        out.push('\'');
    } else {
        out.push('"');
        for c in string.chars() {
            match c {
                '"' | '\\' => out.extend(['\\', c]),
                '\n' => out.push_str("\\n"),
                '\t' => out.push_str("\\t"),
                '\r' => out.push_str("\\r"),
                c if printable(c) => out.push(c),
                c if u32::from(c) > 0xffff => out.push_str(&format!("\\U{:08x}", u32::from(c))),
                c => out.push_str(&format!("\\u{:04x}", u32::from(c))),
            }
        }
        out.push('"');
    }
}

/// True where a string needs no quotes, wherever it stands.
fn is_plain(string: &str) -> bool {
    let first = |c: char| c.is_ascii_alphabetic() || matches!(c, '/' | '_');
    let inner = |c: char| c.is_ascii_alphanumeric() || "-_./:@+=".contains(c);
    let starts = string.chars().next().is_some_and(first);
    // The directory itself, which many a `source_path` is.
    string == "."
        || starts
            && string.chars().all(inner)
            && !string.ends_with(':')
            && !RESERVED.iter().any(|word| word.eq_ignore_ascii_case(string))
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn what_could_be_taken_for_something_else_has_quotes() {
        for plain in
            ["us-west-2", "arn:aws:iam::123456789012:role/x", "s3://b/c", "/mnt/x", "a@b", "PYTHON_3_13"]
        {
            assert_eq!(render(&json!(plain), Style::Block), plain);
        }
        for quoted in [
            "yes",
            "No",
            "012",
            "1:30",
            "1e3",
            "",
            " a",
            "a ",
            "a: b",
            "a #b",
            "~",
            "*",
            "&a",
            "2026-11-21",
            "a:",
            "-",
            "?",
        ] {
            assert_eq!(render(&json!(quoted), Style::Block), format!("'{quoted}'"));
        }
        assert_eq!(render(&json!("it's"), Style::Flow), "'it''s'");
        assert_eq!(
            render(&json!("a\n\"b\"\u{7}\u{2028}😀"), Style::Flow),
            r#""a\n\"b\"\u0007\u2028\U0001f600""#
        );
    }

    #[test]
    fn blocks_are_written_as_people_write_them() {
        let value = json!({"a": [{"b": {"c": 1}, "d": []}, "x"], "e": {}, "f": null, "no": true});
        assert_eq!(
            render(&value, Style::Block),
            "a:\n  - b:\n      c: 1\n    d: []\n  - x\ne: {}\nf: null\n'no': true\n"
        );
        assert_eq!(render(&value, Style::Flow), "{a: [{b: {c: 1}, d: []}, x], e: {}, f: null, 'no': true}");
    }

    fn any_value() -> impl proptest::strategy::Strategy<Value = Value> {
        use proptest::prelude::*;
        let leaf = prop_oneof![
            Just(Value::Null),
            any::<bool>().prop_map(Value::from),
            any::<i32>().prop_map(Value::from),
            "\\PC{0,12}".prop_map(Value::from),
            "[ -~\\n\\t]{0,12}".prop_map(Value::from),
        ];
        leaf.prop_recursive(3, 20, 4, |inner| {
            prop_oneof![
                prop::collection::vec(inner.clone(), 0..4).prop_map(Value::from),
                prop::collection::btree_map("[ -~]{1,8}", inner, 0..4)
                    .prop_map(|map| Value::Object(map.into_iter().collect())),
            ]
        })
    }

    proptest::proptest! {
        #[test]
        fn what_is_written_is_read_as_the_same(value in any_value()) {
            for style in [Style::Block, Style::Flow] {
                let text = render(&value, style);
                let read: Result<Value, _> = serde_saphyr::from_str(&text);
                proptest::prop_assert_eq!(read.ok(), Some(value.clone()), "{}", text);
            }
        }
    }
}
