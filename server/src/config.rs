//! Typed settings: defaults < file < environment.
//!
//! [`ALL`] is the one list of settings: the help texts, the table in the README and the reading all
//! come from it. Values are text wherever they come from, so that each is checked in one way and a
//! bad one is answered in one way: where it stands, what it holds, what is accepted.

use std::collections::HashMap;
use std::fmt;
use std::net::{IpAddr, Ipv4Addr};
use std::num::NonZeroUsize;
use std::path::{Path, PathBuf};
use std::time::Duration;

use bytesize::ByteSize;
use config::{Config, Environment, File, FileFormat};
use secrecy::{ExposeSecret as _, SecretString};
use tracing_subscriber::EnvFilter;
use tracing_subscriber::filter::LevelFilter;

use ssd_detector::precision::{Precision, Requested, RequestedDevice};
use ssd_detector::{Defaults, family};
use state_dict::quote;

/// One setting: an environment variable, and in a file the same name in lower case.
#[derive(Debug)]
pub struct Setting {
    /// The environment variable.
    pub variable: &'static str,
    /// The value where nobody gives one.
    pub default: &'static str,
    /// What it does.
    pub about: &'static str,
    /// Which values it takes, to be read after "accepts".
    pub accepts: &'static str,
    /// Whether its value must never be shown.
    pub secret: bool,
}

macro_rules! settings {
    ($($name:ident = $default:literal, $about:literal, $accepts:literal $(, $secret:ident)?;)*) => {
        $(const $name: Setting = Setting {
            variable: stringify!($name),
            default: $default,
            about: $about,
            accepts: $accepts,
            secret: settings!(@secret $($secret)?),
        };)*
        /// Every setting, in the order of the documentation.
        pub const ALL: &[&Setting] = &[$(&$name),*];
    };
    (@secret) => { false };
    (@secret secret) => { true };
}

settings! {
    HOST = "127.0.0.1", "Address to listen on; 0.0.0.0 or :: for all addresses, as in the container image",
        "an IPv4 or IPv6 address, or localhost";
    PORT = "5000", "TCP port to listen on; 0 picks a free one", "a whole number from 0 to 65535";
    MANAGEMENT_PORT = "off", "TCP port of /metrics for Prometheus, on the same address and without a login; usually 9090",
        "off, or a whole number from 0 to 65535";
    TLS_CERTIFICATE_PATH = "", "The server's certificate and its intermediate certificates, PEM. With TLS_KEY_PATH, PORT speaks \
        HTTPS only; MANAGEMENT_PORT stays plain HTTP. Changed files are read again", "the path of a file";
    TLS_KEY_PATH = "", "The certificate's private key, PEM", "the path of a file";
    SECRET_USERNAME = "ugain", "User name for /predict and the playground",
        "a text of at least one character, without ':' and control characters", secret;
    SECRET_PASSWORD = "ugain", "The user's password",
        "a text of at least one character, without control characters", secret;
    WEIGHTS_PATH = "", "Weights of the model, .pth or .safetensors. If unset: \
        weights/ssd300_mAP_77.43_v2.pth if it exists, else weights/ssd_mobilenet_v2_oidv4.safetensors",
        "the path of a file";
    COCO_LABELS_PATH = "data/coco_labels.txt", "File of class names, one per line",
        "the path of a file";
    THRESHOLD = "auto", "Minimum score of a detection. auto: the threshold that the weights file states (0.5 for the model that ships), else 0.6",
        "auto, or a number from 0 to 1";
    NMS_IOU = "0.45", "NMS threshold: of two boxes of a class with a greater IoU, only the one with the higher score is kept",
        "a number from 0 to 1";
    TOP_K = "200", "Maximum detections per picture", "a whole number from 1 to 8732";
    BODY_LIMIT = "10MiB", "Maximum size of a request body",
        "a size from 1 KiB to 1 GiB, in bytes or with a unit: 10MiB, 10MB";
    BODIES_LIMIT = "64MiB", "Maximum size of all request bodies in memory together; a request above the limit gets 429",
        "a size from BODY_LIMIT to 64 GiB, in bytes or with a unit: 64MiB, 1GB";
    PIXEL_LIMIT = "50000000", "Maximum pixels per picture; at most 1.5 times that are decoded at once",
        "a whole number from 1 to 1000000000";
    PRECISION = "auto", "Arithmetic of a forward pass. auto: the fastest on this machine, measured at start-up, of f32, bf16 if \
        the processor has it, and int8 if the weights are calibrated (`ssd calibrate`)", "auto, f32, bf16 or int8";
    DEVICE = "auto", "Device of a forward pass. auto: the first GPU that libtorch finds, else the CPU",
        "auto, cpu or cuda:N";
    WORKERS = "1", "Forward passes at once; they share the weights. More workers with fewer threads each raise throughput \
        and latency", "a whole number from 1 to 256";
    THREADS = "auto", "Threads of a forward pass. auto: the CPU quota (cgroup) divided by WORKERS",
        "auto, or a whole number from 1 to 1024";
    BATCH = "auto", "Maximum pictures in one forward pass, taken from the queue. auto: 1 on a CPU, where a batch takes as long as \
        its pictures one by one, and 8 on a GPU", "auto, or a whole number from 1 to 64";
    QUEUE_LENGTH = "16", "Maximum queue depth: pictures that wait for a worker. Further requests get 429 with Retry-After",
        "a whole number from 0 to 10000";
    REQUEST_TIMEOUT = "30s", "How long a request may take from its headers to its response; then 504, or 408 if the body is late",
        "a time from 1ms to 1h: 500ms, 10s, 2m";
    CONNECTION_LIMIT = "1000", "Maximum open connections; at the limit the longest-idle one is closed",
        "a whole number from 1 to 1000000";
    IDLE_TIMEOUT = "75s", "How long a connection may be idle between requests. The default exceeds the 60 s of proxies such as \
        nginx, so they never send on a connection that the server is closing",
        "a time from 1ms to 1h: 500ms, 10s, 2m";
    HEADER_TIMEOUT = "10s", "How long a client may take to send a request's headers",
        "a time from 1ms to 1h: 500ms, 10s, 2m";
    BODY_TIMEOUT = "30s", "How long a client may take to send a request's body",
        "a time from 1ms to 1h: 500ms, 10s, 2m";
    WRITE_TIMEOUT = "30s", "How long a client may go without reading any of the response",
        "a time from 1ms to 1h: 500ms, 10s, 2m";
    DRAIN_DELAY = "0s", "How long connections are still accepted after SIGTERM, while /readyz returns 503",
        "a time up to 1h: 0s, 500ms, 10s";
    DRAIN_TIMEOUT = "30s", "After DRAIN_DELAY, how long in-flight requests may take to finish",
        "a time up to 1h: 0s, 500ms, 10s";
    LOG_FORMAT = "text", "Format of the log", "text or json";
    LOG_FILTER = "info", "Level of the log, for example debug, or warn,ssd_server=info for one target",
        "error, warn, info, debug, trace or off, and target=level, separated by commas";
}

/// Names the optional file, for people who cannot give `--config`.
pub const FILE_VARIABLE: &str = "CONFIG_PATH";

/// The form of the log lines.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum LogFormat {
    /// For people.
    Text,
    /// One JSON object a line.
    Json,
}

/// Who may call the API.
#[derive(Debug, Clone)]
pub struct Login {
    /// The user's name.
    pub username: SecretString,
    /// The user's password.
    pub password: SecretString,
}

/// The files of a certificate.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Tls {
    /// The server's certificate, then those that vouch for it, PEM.
    pub certificate: PathBuf,
    /// Its private key, PEM.
    pub key: PathBuf,
}

/// Where the weights are.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Weights {
    /// Somebody named the file: it must be there.
    File(PathBuf),
    /// Nobody did: the published VOC weights where they are, else the model that ships.
    Default,
}

/// Everything that can be set, checked.
#[derive(Debug, Clone)]
#[expect(missing_docs, reason = "`ALL` says what each is")]
pub struct Settings {
    pub host: IpAddr,
    pub port: u16,
    pub management_port: Option<u16>,
    /// `None` for plain HTTP.
    pub tls: Option<Tls>,
    pub login: Login,
    pub weights: Weights,
    pub labels_path: PathBuf,
    pub defaults: Defaults,
    /// In bytes.
    pub body_limit: usize,
    /// In bytes.
    pub bodies_limit: usize,
    pub pixel_limit: u64,
    pub arithmetic: Requested,
    pub workers: NonZeroUsize,
    /// Of each worker.
    pub threads: NonZeroUsize,
    /// `None` for what suits the device.
    pub batch: Option<usize>,
    pub queue_length: usize,
    pub request_timeout: Duration,
    pub connection_limit: usize,
    pub idle_timeout: Duration,
    pub header_timeout: Duration,
    pub body_timeout: Duration,
    pub write_timeout: Duration,
    pub drain_delay: Duration,
    pub drain_timeout: Duration,
    pub log_format: LogFormat,
    pub log_filter: String,
}

/// Why the settings cannot be used. One line; secrets are not shown.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// A value is not accepted.
    #[error("{place} is {held}: it accepts {accepts}")]
    Value {
        /// The variable, or the file and the key.
        place: String,
        /// What it held, quoted.
        held: String,
        /// What is accepted.
        accepts: &'static str,
    },
    /// Of two settings that belong together there is one.
    #[error("{missing} is not set, and {given} is: TLS needs both; unset both for plain HTTP")]
    Half {
        /// The one that is there.
        given: &'static str,
        /// The one that is not.
        missing: &'static str,
    },
    /// The file names something that is no setting.
    #[error("{file}: {key} is no setting; there are {known}")]
    UnknownKey {
        /// The file.
        file: String,
        /// The key.
        key: String,
        /// The keys that are.
        known: String,
    },
    /// The file cannot be read.
    #[error("{file}: cannot be read as settings: {problem}")]
    File {
        /// The file.
        file: String,
        /// What is wrong with it.
        problem: String,
    },
    /// The values cannot be put together.
    #[error("the settings cannot be read: {0}")]
    Config(#[from] config::ConfigError),
}

impl Settings {
    /// Reads the settings: of `environment` those that are settings, over those in `file` (TOML, the
    /// variables' names in lower case), over the defaults. Where `file` is not given, the variable
    /// `CONFIG_PATH` may name it.
    ///
    /// # Errors
    /// Where a value is not accepted, the file cannot be read, or it has a key that is no setting.
    pub fn load(file: Option<&Path>, environment: &Variables) -> Result<Self, Error> {
        let named = environment.0.get(FILE_VARIABLE);
        let named = named.filter(|path| !path.is_empty()).map(PathBuf::from);
        let file = file.map(Path::to_owned).or(named);
        let values = Values::read(file.as_deref(), environment)?;
        let workers = values.get(&WORKERS, |text| {
            parse(text).filter(|count: &NonZeroUsize| count.get() <= 256)
        })?;
        let body_limit = values.get(&BODY_LIMIT, |text| {
            let size: ByteSize = parse(text)?;
            let range = ByteSize::kib(1)..=ByteSize::gib(1);
            range.contains(&size).then(|| size.as_u64() as usize)
        })?;
        Ok(Self {
            host: values.get(&HOST, |text| match text {
                "localhost" => Some(IpAddr::V4(Ipv4Addr::LOCALHOST)),
                _ => text.parse().ok(),
            })?,
            port: values.get(&PORT, parse)?,
            management_port: values.get(&MANAGEMENT_PORT, |text| match text {
                "off" => Some(None),
                _ => parse(text).map(Some),
            })?,
            tls: tls(&values)?,
            login: Login {
                username: values.get(&SECRET_USERNAME, |text| {
                    secret(text).filter(|_| !text.contains(':'))
                })?,
                password: values.get(&SECRET_PASSWORD, secret)?,
            },
            weights: values.get(&WEIGHTS_PATH, |text| {
                Some(match text {
                    "" => Weights::Default,
                    _ => Weights::File(text.into()),
                })
            })?,
            labels_path: values.get(&COCO_LABELS_PATH, |text| {
                (!text.is_empty()).then(|| text.into())
            })?,
            defaults: Defaults {
                threshold: values.get(&THRESHOLD, |text| match text {
                    "auto" => Some(None),
                    _ => fraction(text).map(Some),
                })?,
                iou: values.get(&NMS_IOU, fraction)?,
                top_k: values.get(&TOP_K, |text| {
                    parse(text).filter(|count| (1..=family::most_priors()).contains(count))
                })?,
            },
            body_limit,
            bodies_limit: values.get(&BODIES_LIMIT, |text| {
                let size: ByteSize = parse(text)?;
                let range = ByteSize::b(body_limit as u64)..=ByteSize::gib(64);
                range.contains(&size).then(|| size.as_u64() as usize)
            })?,
            pixel_limit: values.get(&PIXEL_LIMIT, |text| {
                parse(text).filter(|count| (1..=1_000_000_000).contains(count))
            })?,
            arithmetic: Requested {
                precision: values.get(&PRECISION, |text| match text {
                    "auto" => Some(None),
                    _ => Precision::named(text).map(Some),
                })?,
                device: values.get(&DEVICE, RequestedDevice::named)?,
            },
            workers,
            threads: values.get(&THREADS, |text| threads(text, workers))?,
            batch: values.get(&BATCH, |text| match text {
                "auto" => Some(None),
                _ => parse(text)
                    .filter(|count| (1..=64).contains(count))
                    .map(Some),
            })?,
            queue_length: values.get(&QUEUE_LENGTH, |text| {
                parse(text).filter(|count| *count <= 10_000)
            })?,
            request_timeout: values.get(&REQUEST_TIMEOUT, timeout)?,
            connection_limit: values.get(&CONNECTION_LIMIT, |text| {
                parse(text).filter(|count| (1..=1_000_000).contains(count))
            })?,
            idle_timeout: values.get(&IDLE_TIMEOUT, timeout)?,
            header_timeout: values.get(&HEADER_TIMEOUT, timeout)?,
            body_timeout: values.get(&BODY_TIMEOUT, timeout)?,
            write_timeout: values.get(&WRITE_TIMEOUT, timeout)?,
            drain_delay: values.get(&DRAIN_DELAY, duration)?,
            drain_timeout: values.get(&DRAIN_TIMEOUT, duration)?,
            log_format: values.get(&LOG_FORMAT, |text| match text {
                "text" => Some(LogFormat::Text),
                "json" => Some(LogFormat::Json),
                _ => None,
            })?,
            log_filter: values.get(&LOG_FILTER, |text| {
                is_log_filter(text).then(|| text.to_owned())
            })?,
        })
    }

    /// Whether the password is the one that everybody knows.
    #[must_use]
    pub fn has_default_password(&self) -> bool {
        self.login.password.expose_secret() == SECRET_PASSWORD.default
    }
}

/// Environment variables, by name. Among them are secrets, so they do not print.
#[derive(Clone, Default)]
pub struct Variables(HashMap<String, String>);

impl Variables {
    /// Those of this process that are settings.
    ///
    /// # Errors
    /// Where one is not UTF-8.
    pub fn of_this_process() -> Result<Self, Error> {
        let names = ALL.iter().map(|setting| setting.variable);
        let mut variables = HashMap::new();
        for name in names.chain([FILE_VARIABLE]) {
            let Some(value) = std::env::var_os(name) else {
                continue;
            };
            let value = value.into_string().map_err(|_| Error::Value {
                place: name.to_owned(),
                held: "not UTF-8".to_owned(),
                accepts: "UTF-8 text",
            })?;
            variables.insert(name.to_owned(), value);
        }
        Ok(Self(variables))
    }
}

impl<K: Into<String>, V: Into<String>> FromIterator<(K, V)> for Variables {
    fn from_iter<I: IntoIterator<Item = (K, V)>>(pairs: I) -> Self {
        let pairs = pairs.into_iter();
        Self(
            pairs
                .map(|(name, value)| (name.into(), value.into()))
                .collect(),
        )
    }
}

/// The values of all settings as text, and where each came from.
struct Values<'a> {
    config: Config,
    file: Option<(&'a Path, toml::Table)>,
    environment: &'a Variables,
}

impl<'a> Values<'a> {
    fn read(file: Option<&'a Path>, environment: &'a Variables) -> Result<Self, Error> {
        let mut builder = Config::builder();
        for setting in ALL {
            builder = builder.set_default(setting.key(), setting.default)?;
        }
        let mut read = None;
        if let Some(path) = file {
            let (text, table) = read_file(path)?;
            builder = builder.add_source(File::from_str(&text, FileFormat::Toml));
            read = Some((path, table));
        }
        let variables = Environment::default().source(Some(environment.0.clone()));
        Ok(Self {
            config: builder.add_source(variables).build()?,
            file: read,
            environment,
        })
    }

    fn get<T>(
        &self,
        setting: &'static Setting,
        parse: impl FnOnce(&str) -> Option<T>,
    ) -> Result<T, Error> {
        let text = self.config.get_string(&setting.key());
        let value = text.as_ref().ok().and_then(|text| parse(text));
        value.ok_or_else(|| Error::Value {
            place: self.place(setting),
            held: match text {
                _ if setting.secret => "not shown here".to_owned(),
                Ok(text) => quote(&text),
                Err(_) => "no single value".to_owned(),
            },
            accepts: setting.accepts,
        })
    }

    /// Where a setting's value stands, or may be put where it is the default's.
    fn place(&self, setting: &Setting) -> String {
        let key = setting.key();
        match &self.file {
            Some((file, table))
                if table.contains_key(&key)
                    && !self.environment.0.contains_key(setting.variable) =>
            {
                format!("{}: {key}", file.display())
            }
            _ => setting.variable.to_owned(),
        }
    }
}

/// A settings file, as text and as a table, after checking it: that it is TOML, that its keys are settings (a
/// misspelt one would silently do nothing), and that its secrets are texts (a number would become
/// another text: `1_000` is 1000). Errors show none of its values.
fn read_file(path: &Path) -> Result<(String, toml::Table), Error> {
    let unreadable = |problem: String| Error::File {
        file: path.display().to_string(),
        problem,
    };
    let text = std::fs::read_to_string(path).map_err(|error| unreadable(error.to_string()))?;
    let table: toml::Table = toml::from_str(&text).map_err(|error| {
        let before = error.span().map_or("", |span| &text[..span.start]);
        let line = before.matches('\n').count() + 1;
        unreadable(format!("line {line}: {}", error.message()))
    })?;
    for (key, value) in &table {
        let Some(setting) = ALL.iter().find(|setting| setting.key() == *key) else {
            let known: Vec<String> = ALL.iter().map(|setting| setting.key()).collect();
            return Err(Error::UnknownKey {
                file: path.display().to_string(),
                key: quote(key),
                known: known.join(", "),
            });
        };
        if setting.secret && !value.is_str() {
            return Err(unreadable(format!("{key} must be a text in quotes")));
        }
    }
    Ok((text, table))
}

fn tls(values: &Values) -> Result<Option<Tls>, Error> {
    let path = |setting| {
        values.get(setting, |text| {
            Some((!text.is_empty()).then(|| text.into()))
        })
    };
    let half = |given: &Setting, missing: &Setting| Error::Half {
        given: given.variable,
        missing: missing.variable,
    };
    match (path(&TLS_CERTIFICATE_PATH)?, path(&TLS_KEY_PATH)?) {
        (None, None) => Ok(None),
        (Some(certificate), Some(key)) => Ok(Some(Tls { certificate, key })),
        (Some(_), None) => Err(half(&TLS_CERTIFICATE_PATH, &TLS_KEY_PATH)),
        (None, Some(_)) => Err(half(&TLS_KEY_PATH, &TLS_CERTIFICATE_PATH)),
    }
}

fn parse<T: std::str::FromStr>(text: &str) -> Option<T> {
    text.parse().ok()
}

fn fraction(text: &str) -> Option<f32> {
    parse(text).filter(|value| (0.0..=1.0).contains(value))
}

fn secret(text: &str) -> Option<SecretString> {
    let fits = !text.is_empty() && !text.chars().any(char::is_control);
    fits.then(|| text.into())
}

fn duration(text: &str) -> Option<Duration> {
    let time = humantime::parse_duration(text).ok()?;
    (time <= Duration::from_hours(1)).then_some(time)
}

fn timeout(text: &str) -> Option<Duration> {
    duration(text).filter(|time| *time >= Duration::from_millis(1))
}

/// A bare word is a level here: `EnvFilter` takes a misspelt one for the name of a target, and then
/// nothing is logged at all.
fn is_log_filter(text: &str) -> bool {
    let level = |text: &str| !text.is_empty() && parse::<LevelFilter>(text).is_some();
    let known = |directive: &str| directive.contains('=') || level(directive);
    text.split(',').map(str::trim).all(known) && EnvFilter::builder().parse(text).is_ok()
}

fn threads(text: &str, workers: NonZeroUsize) -> Option<NonZeroUsize> {
    match text {
        // Reads the cgroup's quota, version 1 or 2, beside the CPUs this process may run on.
        "auto" => {
            let all = std::thread::available_parallelism().map_or(1, NonZeroUsize::get);
            Some(NonZeroUsize::new(all / workers).unwrap_or(NonZeroUsize::MIN))
        }
        _ => parse(text).filter(|count: &NonZeroUsize| count.get() <= 1024),
    }
}

impl Setting {
    /// Its name in a file.
    #[must_use]
    pub fn key(&self) -> String {
        self.variable.to_lowercase()
    }

    fn shown_default(&self) -> &'static str {
        match self.default {
            "" => "(unset)",
            default => default,
        }
    }
}

/// The settings for `--help`.
#[must_use]
pub fn help() -> String {
    let mut text = format!(
        "Settings (environment variables; or keys in lower case in the TOML file of --config or \
         {FILE_VARIABLE}):\n"
    );
    for setting in ALL {
        text += &format!(
            "  {} [default: {}]\n      {}\n      Accepts {}\n",
            setting.variable,
            setting.shown_default(),
            setting.about,
            setting.accepts
        );
    }
    text
}

/// The settings as the README's table.
#[derive(Debug)]
pub struct Table;

impl fmt::Display for Table {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "| Variable | Default | What it does | Accepts |")?;
        writeln!(f, "|---|---|---|---|")?;
        for setting in ALL {
            let (variable, default) = (setting.variable, setting.shown_default());
            let (about, accepts) = (setting.about, setting.accepts);
            writeln!(f, "| `{variable}` | `{default}` | {about} | {accepts} |")?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn load(pairs: &[(&str, &str)]) -> Result<Settings, Error> {
        Settings::load(None, &pairs.iter().copied().collect())
    }

    fn load_file(toml: &str, pairs: &[(&str, &str)]) -> Result<Settings, Error> {
        let file = tempfile::Builder::new().suffix(".conf").tempfile().unwrap();
        std::fs::write(file.path(), toml).unwrap();
        Settings::load(Some(file.path()), &pairs.iter().copied().collect())
    }

    #[test]
    fn every_default_is_accepted() {
        let settings = load(&[]).unwrap();
        assert_eq!(
            (settings.host.to_string().as_str(), settings.port),
            ("127.0.0.1", 5000)
        );
        assert_eq!(
            (settings.defaults.threshold, settings.defaults.iou),
            (None, 0.45)
        );
        assert_eq!(settings.body_limit, 10 << 20);
        assert_eq!(settings.weights, Weights::Default);
        assert!(settings.has_default_password());
    }

    #[test]
    fn the_environment_wins_over_the_file_and_the_file_over_the_defaults() {
        let settings = load_file("port = 1\nthreshold = 0.25\n", &[("PORT", "2")]).unwrap();
        assert_eq!(
            (
                settings.port,
                settings.defaults.threshold,
                settings.defaults.top_k
            ),
            (2, Some(0.25), 200)
        );
    }

    #[test]
    fn variables_that_are_no_settings_are_ignored() {
        assert_eq!(
            load(&[("SSD_PORT", "tcp://10.0.0.1:80")]).unwrap().port,
            5000
        );
    }

    #[test]
    fn a_bad_value_is_one_line_with_the_variable_what_it_held_and_what_it_accepts() {
        let bad = [
            ("PORT", "80a"),
            ("PORT", "65536"),
            ("PORT", "-1"),
            ("PORT", ""),
            ("HOST", "example"),
            ("SECRET_USERNAME", "a:b"),
            ("COCO_LABELS_PATH", ""),
            ("THRESHOLD", "1.1"),
            ("THRESHOLD", "NaN"),
            ("THRESHOLD", "60%"),
            ("NMS_IOU", "-0.1"),
            ("TOP_K", "0"),
            ("TOP_K", "8733"),
            ("BODY_LIMIT", "0"),
            ("BODY_LIMIT", "2GiB"),
            ("BODY_LIMIT", "ten"),
            ("PIXEL_LIMIT", "0"),
            ("THREADS", "0"),
            ("THREADS", "1025"),
            ("HEADER_TIMEOUT", "0s"),
            ("BODY_TIMEOUT", "5"),
            ("DRAIN_DELAY", "2h"),
            ("DRAIN_TIMEOUT", "soon"),
            ("LOG_FORMAT", "xml"),
            ("LOG_FILTER", "ssd=loud"),
            ("LOG_FILTER", "inffo"),
            ("LOG_FILTER", "info,ssd_server"),
            ("LOG_FILTER", ""),
        ];
        for (variable, held) in bad {
            let message = load(&[(variable, held)]).expect_err(variable).to_string();
            assert!(!message.contains('\n'), "{message}");
            assert!(message.starts_with(&format!("{variable} is ")), "{message}");
            let secret = variable.starts_with("SECRET");
            assert_eq!(message.contains(&format!("`{held}`")), !secret, "{message}");
            assert!(message.contains("it accepts "), "{message}");
        }
    }

    #[test]
    fn a_long_value_is_cut() {
        let long = "\u{1b}".repeat(10_000);
        let message = load(&[("PORT", &long)]).unwrap_err().to_string();
        assert!(message.contains("\\u{1b}…`: it accepts"), "{message}");
        let message = load_file(&format!("{} = 1\n", "x".repeat(10_000)), &[]).unwrap_err();
        assert!(
            message.to_string().contains("x…` is no setting"),
            "{message}"
        );
    }

    #[test]
    fn a_bad_value_in_the_file_names_the_file_and_the_key() {
        let message = load_file("top_k = \"all\"\n", &[]).unwrap_err().to_string();
        assert!(
            message.contains(".conf: top_k is `all`: it accepts a whole"),
            "{message}"
        );
        let message = load_file("[port]\nnumber = 1\n", &[])
            .unwrap_err()
            .to_string();
        assert!(message.contains("port is no single value"), "{message}");
    }

    #[test]
    fn a_default_that_does_not_go_with_the_file_is_not_looked_for_in_it() {
        let message = load_file("body_limit = \"100MiB\"\n", &[]).unwrap_err();
        let message = message.to_string();
        assert!(
            message.starts_with("BODIES_LIMIT is `64MiB`: "),
            "{message}"
        );
    }

    #[test]
    fn a_key_that_is_no_setting_or_a_broken_or_missing_file_is_an_error() {
        let message = load_file("treshold = 0.5\n", &[]).unwrap_err().to_string();
        assert!(
            message.contains("`treshold` is no setting; there are host, port,"),
            "{message}"
        );
        let message = load_file("port = \n", &[]).unwrap_err().to_string();
        assert!(message.contains("cannot be read as settings"), "{message}");
        let missing = Settings::load(Some(Path::new("/nowhere/ssd.toml")), &Variables::default());
        assert!(
            missing
                .unwrap_err()
                .to_string()
                .starts_with("/nowhere/ssd.toml: ")
        );
        let named = load(&[(FILE_VARIABLE, "/nowhere/ssd.toml")]);
        assert!(
            named
                .unwrap_err()
                .to_string()
                .starts_with("/nowhere/ssd.toml: ")
        );
    }

    #[test]
    fn a_broken_file_is_told_by_its_line_and_shows_none_of_its_values() {
        for broken in [
            "port = 1\nsecret_password = \"hunter2\n",
            "port = 1\nsecret_password = hunter2\n",
            "port = 1\n\"hunter2\" = \n",
        ] {
            let message = load_file(broken, &[]).unwrap_err().to_string();
            assert!(
                message.contains("cannot be read as settings: line 2: "),
                "{message}"
            );
            assert!(
                !message.contains("hunter2") && !message.contains('\n'),
                "{message}"
            );
        }
        let message = load_file("secret_password = 1_000\n", &[])
            .unwrap_err()
            .to_string();
        assert!(
            message.ends_with("secret_password must be a text in quotes"),
            "{message}"
        );
    }

    #[test]
    fn a_certificate_without_its_key_is_an_error_and_neither_is_plain_http() {
        let (certificate, key) = ("TLS_CERTIFICATE_PATH", "TLS_KEY_PATH");
        let both = load(&[(certificate, "a.pem"), (key, "b.pem")]).unwrap();
        assert_eq!(both.tls.unwrap().key, PathBuf::from("b.pem"));
        assert_eq!(load(&[(certificate, ""), (key, "")]).unwrap().tls, None);
        for (given, missing) in [(certificate, key), (key, certificate)] {
            let message = load(&[(given, "a.pem")]).unwrap_err().to_string();
            let expected = format!("{missing} is not set, and {given} is: ");
            assert!(message.starts_with(&expected), "{message}");
        }
    }

    #[test]
    fn an_empty_path_of_a_file_is_none() {
        assert!(load(&[(FILE_VARIABLE, "")]).is_ok());
    }

    #[test]
    fn an_empty_password_is_an_error_and_not_the_default() {
        let message = load(&[("SECRET_PASSWORD", "")]).unwrap_err().to_string();
        assert!(
            message.starts_with("SECRET_PASSWORD is not shown here: it accepts"),
            "{message}"
        );
    }

    #[test]
    fn secrets_print_neither_in_debug_output_nor_in_errors() {
        let settings = load(&[
            ("SECRET_USERNAME", "hidden1"),
            ("SECRET_PASSWORD", "hidden2"),
        ])
        .unwrap();
        assert!(!settings.has_default_password());
        assert!(!format!("{settings:?}").contains("hidden"));
        let message = load(&[("SECRET_PASSWORD", "hidden\n")])
            .unwrap_err()
            .to_string();
        assert!(!message.contains("hidden"), "{message}");
    }

    #[test]
    fn sizes_and_times_take_units() {
        let units = load(&[
            ("BODY_LIMIT", "2 MB"),
            ("DRAIN_DELAY", "500ms"),
            ("BODY_TIMEOUT", "2m"),
        ]);
        let settings = units.unwrap();
        assert_eq!(settings.body_limit, 2_000_000);
        assert_eq!(settings.drain_delay, Duration::from_millis(500));
        assert_eq!(settings.body_timeout, Duration::from_mins(2));
    }

    #[test]
    fn the_help_names_every_setting_and_its_default() {
        for setting in ALL {
            assert!(help().contains(&format!(
                "{} [default: {}]",
                setting.variable,
                setting.shown_default()
            )));
        }
    }
}
