//! Any settings file and environment are settings or one line of error, which shows no secret.

use proptest::prelude::*;
use proptest::sample::select;
use proptest::test_runner::RngSeed;
use ssd_server::config::{ALL, Settings};
use tempfile::NamedTempFile;

/// A part of every value of a secret setting, and of nothing else.
const SECRET: &str = "hunter2";

/// A setting's name, as `name` writes it, with a value.
fn pair(
    name: fn(&str) -> String,
    secrets: &'static [&'static str],
    values: &'static [&'static str],
) -> impl Strategy<Value = (String, String)> {
    let value = prop_oneof![3 => select(values).prop_map(str::to_owned), 1 => ".{0,12}"];
    (select(ALL), select(secrets), value).prop_map(move |(setting, secret, value)| {
        let held = if setting.secret { secret } else { &value };
        (name(setting.variable), held.to_owned())
    })
}

fn line() -> impl Strategy<Value = String> {
    let setting = pair(
        str::to_lowercase,
        &[
            "\"hunter2\"",
            "\"hunter2",
            "hunter2",
            "'hunter2:'",
            "[\"hunter2\"]",
            "{hunter2 = 1}",
            "\"\"\"hunter2\n\"\"\"",
            "\"\\hunter2\"",
        ],
        &[
            "1",
            "0",
            "-1",
            "0.5",
            "nan",
            "1e999",
            "1_000",
            "true",
            "[1]",
            "{a = 1}",
            "\"auto\"",
            "\"500ms\"",
            "\"10MiB\"",
            "1979-05-27",
            "\"\\u0000\"",
            "\"",
            "",
        ],
    );
    prop_oneof![
        4 => setting.prop_map(|(key, value)| format!("{key} = {value}")),
        1 => ".{0,20}",
    ]
}

fn variable() -> impl Strategy<Value = (String, String)> {
    pair(
        str::to_owned,
        &[
            "hunter2",
            "hunter2\n",
            "hunter2:",
            "\u{1b}hunter2",
            "\0hunter2",
        ],
        &[
            "1",
            "0",
            "-1",
            "0.5",
            "NaN",
            "inf",
            "auto",
            "off",
            "localhost",
            "::",
            "500ms",
            "9h",
            "10MiB",
            "1e99 GB",
            "99999999999999999999",
            "info,a=b",
            "\n",
            "",
        ],
    )
}

#[test]
fn any_settings_are_accepted_or_one_line_of_error_without_secrets() {
    let file = NamedTempFile::new().unwrap();
    // The same in every run.
    let config = ProptestConfig {
        cases: 1000,
        failure_persistence: None,
        rng_seed: RngSeed::Fixed(300),
        ..ProptestConfig::default()
    };
    let lines = prop::option::of(prop::collection::vec(line(), 0..6));
    let variables = prop::collection::vec(variable(), 0..4);
    proptest!(config, |(lines in lines, variables in variables)| {
        let path = lines.map(|lines| {
            std::fs::write(file.path(), lines.join("\n")).unwrap();
            file.path()
        });
        let shown = match Settings::load(path, &variables.into_iter().collect()) {
            Ok(settings) => format!("{settings:?}"),
            Err(error) => {
                let message = error.to_string();
                prop_assert!(!message.contains(char::is_control), "{message:?}");
                prop_assert!(message.len() < 2000, "{message}");
                message
            }
        };
        prop_assert!(!shown.contains(SECRET), "{shown}");
    });
}
