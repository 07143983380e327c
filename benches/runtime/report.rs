//! The table and the JSON of a run.

use std::time::Duration;

use serde_json::{Value, json};

/// One measured number, and what it must keep to where that is promised.
pub struct Line {
    pub name: String,
    pub value: f64,
    pub unit: &'static str,
    pub limit: Option<Limit>,
}

/// A promise.
#[derive(Clone, Copy)]
pub enum Limit {
    AtMost(f64),
    AtLeast(f64),
}

impl Line {
    fn kept(&self) -> Option<bool> {
        self.limit.map(|limit| match limit {
            Limit::AtMost(most) => self.value <= most,
            Limit::AtLeast(least) => self.value >= least,
        })
    }
}

/// All numbers of a run, in the order they were measured.
#[derive(Default)]
pub struct Report(Vec<Line>);

impl Report {
    pub fn add(&mut self, name: impl Into<String>, value: f64, unit: &'static str, limit: Option<Limit>) {
        let line = Line { name: name.into(), value, unit, limit };
        println!("{}", row(&line));
        self.0.push(line);
    }

    pub fn millis(&mut self, name: impl Into<String>, value: Duration, limit: Option<Limit>) {
        self.add(name, value.as_secs_f64() * 1e3, "ms", limit);
    }

    pub fn micros(&mut self, name: impl Into<String>, value: Duration, limit: Option<Limit>) {
        self.add(name, value.as_secs_f64() * 1e6, "us", limit);
    }

    pub fn misses(&self) -> usize {
        self.0.iter().filter(|line| line.kept() == Some(false)).count()
    }

    pub fn json(&self, mode: &str) -> Value {
        let lines: Vec<Value> = self
            .0
            .iter()
            .map(|line| {
                let (most, least) = match line.limit {
                    Some(Limit::AtMost(n)) => (Some(n), None),
                    Some(Limit::AtLeast(n)) => (None, Some(n)),
                    None => (None, None),
                };
                json!({
                    "name": line.name, "value": line.value, "unit": line.unit,
                    "atMost": most, "atLeast": least, "kept": line.kept(),
                })
            })
            .collect();
        let cores = std::thread::available_parallelism().map_or(0, usize::from);
        json!({ "mode": mode, "cores": cores, "lines": lines })
    }
}

fn row(line: &Line) -> String {
    let limit = match line.limit {
        Some(Limit::AtMost(n)) => format!("<= {n}"),
        Some(Limit::AtLeast(n)) => format!(">= {n}"),
        None => String::new(),
    };
    let word = match line.kept() {
        Some(true) => "kept",
        Some(false) => "MISSED",
        None => "",
    };
    format!("{:<58} {:>12.2} {:<6} {limit:>10} {word}", line.name, line.value, line.unit)
}
