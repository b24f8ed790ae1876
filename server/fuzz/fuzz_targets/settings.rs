//! A settings file and, after a zero byte, environment variables, one a line: settings or an error, which
//! shows neither a secret nor anything of a broken file.

#![no_main]

use std::sync::LazyLock;

use libfuzzer_sys::fuzz_target;
use ssd_server::config::{Error, Settings, Variables};
use ssd_server_fuzz::{assert_fit_for_a_log, bounded};
use tempfile::NamedTempFile;

/// What no error may show, where it is part of a secret or of a broken file.
const SECRET: &str = "hunter2";

static FILE: LazyLock<NamedTempFile> = LazyLock::new(|| NamedTempFile::new().unwrap());

fuzz_target!(|bytes: &[u8]| {
    let end = bytes.iter().position(|&byte| byte == 0);
    let (file, variables) = bytes.split_at(end.unwrap_or(bytes.len()));
    let variables = String::from_utf8_lossy(variables.get(1..).unwrap_or_default());
    let variables: Variables = variables
        .lines()
        .filter_map(|line| line.split_once('='))
        // Would name another file.
        .filter(|(name, _)| *name != ssd_server::config::FILE_VARIABLE)
        .collect();
    let path = (!file.is_empty()).then(|| {
        std::fs::write(FILE.path(), file).unwrap();
        FILE.path()
    });
    match bounded(bytes.len(), || Settings::load(path, &variables)) {
        Ok(settings) => {
            let login = format!("{:?}", settings.login);
            assert!(!login.contains(SECRET), "{login}");
        }
        Err(error) => {
            let message = error.to_string();
            assert_fit_for_a_log(&message);
            let hides = match &error {
                Error::Value { place, .. } => place.to_uppercase().contains("SECRET"),
                Error::File { .. } => true,
                Error::Half { .. } | Error::UnknownKey { .. } | Error::Config(_) => false,
            };
            assert!(!hides || !message.contains(SECRET), "{message}");
        }
    }
});
