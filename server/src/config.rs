//! Typed settings: defaults < file < environment.
//!
//! [`ALL`] is the only list of settings. It states each one's name, default, help and range once: the
//! parsers, `--help`, the README's table and the error messages use it. Values from all sources are text, so
//! that one check and one error message serve all of them.

use std::collections::HashMap;
use std::fmt;
use std::net::{IpAddr, Ipv4Addr};
use std::num::NonZero;
use std::path::{Path, PathBuf};
use std::time::Duration;

use bytesize::ByteSize;
use config::{Config, Environment, File, FileFormat};
use secrecy::{ExposeSecret as _, SecretString};
use state_dict::quote;
use tracing_subscriber::EnvFilter;
use tracing_subscriber::filter::LevelFilter;
use url::Url;

/// A setting: an environment variable, or the same name in lower case in a file.
#[derive(Debug)]
pub struct Setting {
    /// The environment variable.
    pub variable: &'static str,
    /// The default value.
    pub default: &'static str,
    /// What it does.
    pub about: &'static str,
    /// Which values it accepts.
    pub accepts: Accepts,
    /// Whether its value is a secret, which is never shown.
    pub secret: bool,
}

/// Which values a setting accepts. Its text follows the word "accepts".
#[derive(Debug, Clone, Copy)]
pub enum Accepts {
    /// What this description says.
    Words(&'static str),
    /// A whole number in a range, or the word if there is one.
    Whole(Option<&'static str>, u64, fn() -> u64),
    /// A number from 0 to 1, or the word if there is one.
    Fraction(Option<&'static str>),
    /// A size in a range, with examples. Without a minimum, the minimum is the setting `BODY_LIMIT`.
    Size(Option<ByteSize>, ByteSize, &'static str),
    /// A time from a minimum to an hour, with examples.
    Time(Duration, &'static str),
}

const HOUR: Duration = Duration::from_hours(1);
const MILLISECOND: Duration = Duration::from_millis(1);

const AUTO: Option<&str> = Some("auto");
const TIMEOUT: Accepts = Accepts::Time(MILLISECOND, "500ms, 10s, 2m");
const TIME: Accepts = Accepts::Time(Duration::ZERO, "0s, 500ms, 10s");

impl Accepts {
    fn whole(self, text: &str) -> Option<u64> {
        let Self::Whole(_, least, most) = self else {
            return None;
        };
        parse(text).filter(|number| (least..=most()).contains(number))
    }

    fn fraction(self, text: &str) -> Option<f32> {
        let Self::Fraction(_) = self else {
            return None;
        };
        parse(text).filter(|value| (0.0..=1.0).contains(value))
    }

    /// In bytes.
    fn size(self, text: &str, body_limit: u64) -> Option<u64> {
        let Self::Size(least, most, _) = self else {
            return None;
        };
        let least = least.map_or(body_limit, |size| size.as_u64());
        let size = parse::<ByteSize>(text)?.as_u64();
        (least..=most.as_u64()).contains(&size).then_some(size)
    }

    fn time(self, text: &str) -> Option<Duration> {
        let Self::Time(least, _) = self else {
            return None;
        };
        let time = humantime::parse_duration(text).ok()?;
        (least..=HOUR).contains(&time).then_some(time)
    }
}

impl fmt::Display for Accepts {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if let Self::Whole(Some(word), ..) | Self::Fraction(Some(word)) = self {
            write!(f, "{word}, or ")?;
        }
        match self {
            Self::Words(words) => f.write_str(words),
            Self::Whole(_, least, most) => write!(f, "a whole number from {least} to {}", most()),
            Self::Fraction(_) => f.write_str("a number from 0 to 1"),
            Self::Size(least, most, examples) => {
                let least = least.map_or("BODY_LIMIT".to_owned(), binary);
                let most = binary(*most);
                write!(
                    f,
                    "a size from {least} to {most}, in bytes or with a unit: {examples}"
                )
            }
            Self::Time(Duration::ZERO, examples) => write!(f, "a time up to 1h: {examples}"),
            Self::Time(least, examples) => {
                let least = humantime::format_duration(*least);
                write!(f, "a time from {least} to 1h: {examples}")
            }
        }
    }
}

/// A whole number of GiB or KiB.
fn binary(size: ByteSize) -> String {
    let bytes = size.as_u64();
    let gib = ByteSize::gib(1).as_u64();
    if bytes.is_multiple_of(gib) {
        format!("{} GiB", bytes / gib)
    } else {
        format!("{} KiB", bytes / ByteSize::kib(1).as_u64())
    }
}

macro_rules! settings {
    ($($name:ident = $default:literal, $about:literal, $accepts:expr $(, $secret:ident)?;)*) => {
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
        Accepts::Words("an IPv4 or IPv6 address, or localhost");
    PORT = "5000", "TCP port to listen on; 0 picks a free one", Accepts::Whole(None, 0, || 65_535);
    MANAGEMENT_PORT = "off", "TCP port of /metrics for Prometheus, on the same address and without a login; usually 9090",
        Accepts::Whole(Some("off"), 0, || 65_535);
    TLS_CERTIFICATE_PATH = "", "The server's certificate and its intermediate certificates, PEM. With TLS_KEY_PATH, PORT speaks \
        HTTPS only; MANAGEMENT_PORT stays plain HTTP. Changed files are read again without a restart", Accepts::Words("the path of a file");
    TLS_KEY_PATH = "", "The certificate's private key, PEM", Accepts::Words("the path of a file");
    SECRET_USERNAME = "ugain", "User name for the API and the playground",
        Accepts::Words("text of at least one character, without ':' or control characters"), secret;
    SECRET_PASSWORD = "ugain", "The user's password",
        Accepts::Words("text of at least one character, without control characters"), secret;
    WEIGHTS_PATH = "", "Weights of the model, .pth or .safetensors. If the file has several state dicts, `#` and a name \
        select one: checkpoint.pth#ema. If unset: weights/ssd300_mAP_77.43_v2.pth if it exists, else \
        weights/ssd_mobilenet_v2_oidv4.safetensors",
        Accepts::Words("the path of a file");
    COCO_LABELS_PATH = "data/coco_labels.txt", "File of class names, one per line or as JSON",
        Accepts::Words("the path of a file");
    THRESHOLD = "auto", "Minimum score of a detection. auto: the threshold that the weights file states (0.5 for the model that ships), else 0.6",
        Accepts::Fraction(AUTO);
    NMS_IOU = "0.45", "NMS threshold: of two boxes of a class with a greater IoU, only the one with the higher score is kept",
        Accepts::Fraction(None);
    TOP_K = "200", "Maximum detections per picture", Accepts::Whole(None, 1, crate::max_detections);
    BODY_LIMIT = "10MiB", "Maximum size of a request body",
        Accepts::Size(Some(ByteSize::kib(1)), ByteSize::gib(1), "10MiB, 10MB");
    BODIES_LIMIT = "64MiB", "Maximum size of all request bodies in memory together; a request above the limit gets 429",
        Accepts::Size(None, ByteSize::gib(64), "64MiB, 1GB");
    PIXEL_LIMIT = "50000000", "Maximum pixels per picture. All pictures that are decoded at the same time have at most 1.5 times this many pixels",
        Accepts::Whole(None, 1, || 1_000_000_000);
    PRECISION = "auto", "Arithmetic of a forward pass. auto: measured at start-up; the fastest of f32, bf16 (if the processor has it) \
        and int8 (on x86-64, if the weights are calibrated by `ssd calibrate`)", Accepts::Words("auto, f32, bf16 or int8");
    DEVICE = "auto", "Device of a forward pass. auto: the first GPU that libtorch finds, else the CPU",
        Accepts::Words("auto, cpu or cuda:N");
    WORKERS = "1", "Number of forward passes that run at the same time; all use the same copy of the weights. More workers with \
        fewer threads each raise throughput and latency", Accepts::Whole(None, 1, || 256);
    THREADS = "auto", "Threads of a forward pass. auto: the CPU quota (cgroup) divided by WORKERS",
        Accepts::Whole(AUTO, 1, || 1_024);
    BATCH = "auto", "Maximum pictures in one forward pass, taken from the queue. auto: 8 on a GPU; on a CPU 2 if a pass takes less \
        than 50 ms, else 1, since long passes of two take twice as long", Accepts::Whole(AUTO, 1, || 64);
    QUEUE_LENGTH = "16", "Maximum queue depth: pictures that wait for a worker. Further requests get 429 with Retry-After",
        Accepts::Whole(None, 0, || 10_000);
    CORS_ORIGINS = "", "Origins whose pages may call this server from a browser, separated by commas: https://app.example.com. \
        The pages need the login as well", Accepts::Words("origins: a scheme (http or https), a host and a port if it is not the usual one; \
        without a path; or nothing");
    REQUEST_TIMEOUT = "30s", "How long a request may take from its headers to its response. After that it gets 504, or 408 if the body is late",
        TIMEOUT;
    FORWARD_TIMEOUT = "1m", "How long a forward pass may take; a longer one counts as hung, and /readyz and /livez return 503",
        TIMEOUT;
    CONNECTION_LIMIT = "1000", "Maximum open connections; at the limit the longest-idle one is closed",
        Accepts::Whole(None, 1, || 1_000_000);
    IDLE_TIMEOUT = "75s", "How long a connection may be idle between requests. The default exceeds the 60 s of proxies such as \
        nginx, so that a proxy never sends on a connection that the server is closing",
        TIMEOUT;
    HEADER_TIMEOUT = "10s", "How long a client may take to send a request's headers",
        TIMEOUT;
    BODY_TIMEOUT = "30s", "How long a client may take to send a request's body",
        TIMEOUT;
    WRITE_TIMEOUT = "30s", "How long a client may take to read the whole response",
        TIMEOUT;
    DRAIN_DELAY = "0s", "How long connections are still accepted after SIGTERM, while /readyz returns 503",
        TIME;
    DRAIN_TIMEOUT = "30s", "After DRAIN_DELAY, how long in-flight requests may take to finish",
        TIME;
    LOG_FORMAT = "text", "Format of the log", Accepts::Words("text or json");
    LOG_FILTER = "info", "Level of the log, for example debug, or warn,ssd_server=info for one target",
        Accepts::Words("a level (error, warn, info, debug, trace, off), or a comma-separated list of levels and target=level");
}

/// The environment variable that names the settings file if `--config` does not.
pub const FILE_VARIABLE: &str = "CONFIG_PATH";

/// The format of the log lines.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum LogFormat {
    /// For people.
    Text,
    /// One JSON object per line.
    Json,
}

/// The login of the API.
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
    /// The server's certificate, then its intermediate certificates, PEM.
    pub certificate: PathBuf,
    /// Its private key, PEM.
    pub key: PathBuf,
}

/// The weights file.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Weights {
    /// A named file, which must exist.
    File(PathBuf),
    /// The published VOC weights if they exist, else the model that ships.
    Default,
}

/// The arithmetic of a forward pass.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Precision {
    /// The fastest on this machine.
    Auto,
    /// Single precision.
    F32,
    /// bfloat16.
    Bf16,
    /// Eight bits.
    Int8,
}

/// The device of a forward pass.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Device {
    /// The first GPU, else the CPU.
    Auto,
    /// The CPU.
    Cpu,
    /// The CUDA device with this number.
    Cuda(usize),
}

/// All settings, checked.
#[derive(Debug, Clone)]
#[expect(missing_docs, reason = "`ALL` describes them")]
pub struct Settings {
    pub host: IpAddr,
    pub port: u16,
    pub management_port: Option<u16>,
    /// `None` for plain HTTP.
    pub tls: Option<Tls>,
    pub login: Login,
    pub weights: Weights,
    pub labels_path: PathBuf,
    /// `None` for the threshold of the weights.
    pub threshold: Option<f32>,
    pub nms_iou: f32,
    pub top_k: usize,
    /// In bytes.
    pub body_limit: usize,
    /// In bytes.
    pub bodies_limit: usize,
    pub pixel_limit: u64,
    pub precision: Precision,
    pub device: Device,
    pub workers: usize,
    /// Per worker.
    pub threads: usize,
    /// `None` for the device's default.
    pub batch: Option<usize>,
    pub queue_length: usize,
    pub cors_origins: Vec<String>,
    pub request_timeout: Duration,
    pub forward_timeout: Duration,
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
    #[error("{source_name} {problem}; it accepts {accepts}")]
    Value {
        /// The variable, or the file and the key.
        source_name: String,
        /// What is wrong; quotes the value unless it is secret.
        problem: String,
        /// What is accepted.
        accepts: String,
    },
    /// One of two settings that belong together is missing.
    #[error("{given} is set, but {missing} is not: TLS needs both; unset both for plain HTTP")]
    Half {
        /// The one that is set.
        given: &'static str,
        /// The one that is missing.
        missing: &'static str,
    },
    /// A key of the file is not a setting.
    #[error("{file}: {key} is not a setting; the settings are {known}")]
    UnknownKey {
        /// The file.
        file: String,
        /// The key.
        key: String,
        /// The keys that are settings.
        known: String,
    },
    /// The file cannot be read.
    #[error("{file}: cannot read the settings: {problem}")]
    File {
        /// The file.
        file: String,
        /// What is wrong with it.
        problem: String,
    },
    /// The sources cannot be merged.
    #[error("the settings cannot be read: {0}")]
    Config(#[from] config::ConfigError),
}

impl Settings {
    /// Reads the settings. A value in `environment` wins over one in `file`, which wins over the default. The
    /// file is TOML; its keys are the variables' names in lower case. Without `file`, the variable
    /// `CONFIG_PATH` may name it.
    ///
    /// # Errors
    /// If a value is not accepted, the file cannot be read, or one of its keys is not a setting.
    pub fn load(file: Option<&Path>, environment: &Variables) -> Result<Self, Error> {
        let named = environment.0.get(FILE_VARIABLE);
        let named = named.filter(|path| !path.is_empty()).map(PathBuf::from);
        let file = file.map(Path::to_owned).or(named);
        let values = Values::read(file.as_deref(), environment)?;
        let workers = values.whole(&WORKERS)?;
        let body_limit = values.size(&BODY_LIMIT, 0)?;
        Ok(Self {
            host: values.get(&HOST, |text| match text {
                "localhost" => Some(IpAddr::V4(Ipv4Addr::LOCALHOST)),
                _ => text.parse().ok(),
            })?,
            port: values.whole(&PORT)?,
            management_port: values.optional(&MANAGEMENT_PORT, Values::whole)?,
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
            threshold: values.optional(&THRESHOLD, Values::fraction)?,
            nms_iou: values.fraction(&NMS_IOU)?,
            top_k: values.whole(&TOP_K)?,
            body_limit,
            bodies_limit: values.size(&BODIES_LIMIT, body_limit)?,
            pixel_limit: values.whole(&PIXEL_LIMIT)?,
            precision: values.get(&PRECISION, precision)?,
            device: values.get(&DEVICE, device)?,
            workers,
            threads: values
                .optional(&THREADS, Values::whole)?
                .unwrap_or_else(|| (cpu_quota() / workers).max(1)),
            batch: values.optional(&BATCH, Values::whole)?,
            queue_length: values.whole(&QUEUE_LENGTH)?,
            cors_origins: values.get(&CORS_ORIGINS, origins)?,
            request_timeout: values.time(&REQUEST_TIMEOUT)?,
            forward_timeout: values.time(&FORWARD_TIMEOUT)?,
            connection_limit: values.whole(&CONNECTION_LIMIT)?,
            idle_timeout: values.time(&IDLE_TIMEOUT)?,
            header_timeout: values.time(&HEADER_TIMEOUT)?,
            body_timeout: values.time(&BODY_TIMEOUT)?,
            write_timeout: values.time(&WRITE_TIMEOUT)?,
            drain_delay: values.time(&DRAIN_DELAY)?,
            drain_timeout: values.time(&DRAIN_TIMEOUT)?,
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

    /// Whether the password is the well-known default.
    #[must_use]
    pub fn has_default_password(&self) -> bool {
        self.login.password.expose_secret() == SECRET_PASSWORD.default
    }
}

/// Environment variables by name. Not `Debug`, since they contain secrets.
#[derive(Clone, Default)]
pub struct Variables(HashMap<String, String>);

impl Variables {
    /// The variables of this process that are settings.
    ///
    /// # Errors
    /// If one is not UTF-8.
    pub fn of_this_process() -> Result<Self, Error> {
        let names = ALL.iter().map(|setting| setting.variable);
        let mut variables = HashMap::new();
        for name in names.chain([FILE_VARIABLE]) {
            let Some(value) = std::env::var_os(name) else {
                continue;
            };
            let value = value.into_string().map_err(|_| Error::Value {
                source_name: name.to_owned(),
                problem: "is not UTF-8".to_owned(),
                accepts: "UTF-8 text".to_owned(),
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

/// The values of all settings as text, and their sources.
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
            source_name: self.source_name(setting),
            problem: match text {
                _ if setting.secret => "has an invalid value (not shown)".to_owned(),
                Ok(text) => format!("is {}", quote(&text)),
                Err(_) => "is a list or a table".to_owned(),
            },
            accepts: setting.accepts.to_string(),
        })
    }

    fn whole<T: TryFrom<u64>>(&self, setting: &'static Setting) -> Result<T, Error> {
        self.get(setting, |text| {
            T::try_from(setting.accepts.whole(text)?).ok()
        })
    }

    fn fraction(&self, setting: &'static Setting) -> Result<f32, Error> {
        self.get(setting, |text| setting.accepts.fraction(text))
    }

    /// `None` if the value is the setting's word.
    fn optional<T>(
        &self,
        setting: &'static Setting,
        get: impl FnOnce(&Self, &'static Setting) -> Result<T, Error>,
    ) -> Result<Option<T>, Error> {
        if let Accepts::Whole(Some(word), ..) | Accepts::Fraction(Some(word)) = setting.accepts {
            let text = self.config.get_string(&setting.key());
            if text.is_ok_and(|text| text == word) {
                return Ok(None);
            }
        }
        get(self, setting).map(Some)
    }

    fn size(&self, setting: &'static Setting, body_limit: usize) -> Result<usize, Error> {
        self.get(setting, |text| {
            let bytes = setting.accepts.size(text, body_limit as u64)?;
            usize::try_from(bytes).ok()
        })
    }

    fn time(&self, setting: &'static Setting) -> Result<Duration, Error> {
        self.get(setting, |text| setting.accepts.time(text))
    }

    /// The source of a setting's value; for a default value, its environment variable.
    fn source_name(&self, setting: &Setting) -> String {
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

/// Reads a settings file, as text and as a table. It must be TOML, its keys must be settings (a misspelt key
/// would silently do nothing), and its secrets must be strings (`1_000` as a number would become `1000`).
/// Errors show no values of the file.
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
            return Err(unreadable(format!("{key} must be a string in quotes")));
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

fn secret(text: &str) -> Option<SecretString> {
    let fits = !text.is_empty() && !text.chars().any(char::is_control);
    fits.then(|| text.into())
}

fn precision(text: &str) -> Option<Precision> {
    match text {
        "auto" => Some(Precision::Auto),
        "f32" => Some(Precision::F32),
        "bf16" => Some(Precision::Bf16),
        "int8" => Some(Precision::Int8),
        _ => None,
    }
}

fn device(text: &str) -> Option<Device> {
    match text {
        "auto" => Some(Device::Auto),
        "cpu" => Some(Device::Cpu),
        _ => parse(text.strip_prefix("cuda:")?).map(Device::Cuda),
    }
}

/// Origins as browsers write them: in lower case, without a path and without the scheme's usual port.
fn origins(text: &str) -> Option<Vec<String>> {
    let origin = |text: &str| {
        let url = Url::parse(text).ok()?;
        let is_origin = url.origin().ascii_serialization() == text && !text.contains('*');
        (is_origin && ["http", "https"].contains(&url.scheme())).then(|| text.to_owned())
    };
    let origins = text.split(',').map(str::trim);
    origins.filter(|_| !text.is_empty()).map(origin).collect()
}

/// A bare word must be a level: `EnvFilter` would interpret a misspelt level as the name of a target, and
/// then log nothing.
fn is_log_filter(text: &str) -> bool {
    let level = |text: &str| !text.is_empty() && parse::<LevelFilter>(text).is_some();
    let known = |directive: &str| directive.contains('=') || level(directive);
    text.split(',').map(str::trim).all(known) && EnvFilter::builder().parse(text).is_ok()
}

/// The whole CPUs of the cgroup's quota (version 1 or 2), or else the CPUs that this process may run on.
fn cpu_quota() -> usize {
    std::thread::available_parallelism().map_or(1, NonZero::get)
}

impl Setting {
    /// Its key in a settings file.
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
        assert_eq!((settings.threshold, settings.nms_iou), (None, 0.45));
        assert_eq!(settings.body_limit, 10 << 20);
        assert_eq!(settings.weights, Weights::Default);
        assert!(settings.has_default_password());
    }

    #[test]
    fn the_environment_wins_over_the_file_and_the_file_over_the_defaults() {
        let settings = load_file("port = 1\nthreshold = 0.25\n", &[("PORT", "2")]).unwrap();
        assert_eq!(
            (settings.port, settings.threshold, settings.top_k),
            (2, Some(0.25), 200)
        );
    }

    #[test]
    fn variables_that_are_not_settings_are_ignored() {
        assert_eq!(
            load(&[("SSD_PORT", "tcp://10.0.0.1:80")]).unwrap().port,
            5000
        );
    }

    #[test]
    fn a_bad_value_is_one_line_with_the_variable_its_value_and_what_it_accepts() {
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
        for (variable, value) in bad {
            let message = load(&[(variable, value)]).expect_err(variable).to_string();
            assert!(!message.contains('\n'), "{message}");
            assert!(message.starts_with(&format!("{variable} ")), "{message}");
            let secret = variable.starts_with("SECRET");
            assert_eq!(
                message.contains(&format!("`{value}`")),
                !secret,
                "{message}"
            );
            assert!(message.contains("it accepts "), "{message}");
        }
    }

    #[test]
    fn a_long_value_is_cut() {
        let long = "\u{1b}".repeat(10_000);
        let message = load(&[("PORT", &long)]).unwrap_err().to_string();
        assert!(message.contains("\\u{1b}…`; it accepts"), "{message}");
        let message = load_file(&format!("{} = 1\n", "x".repeat(10_000)), &[]).unwrap_err();
        assert!(
            message.to_string().contains("x…` is not a setting"),
            "{message}"
        );
    }

    #[test]
    fn a_bad_value_in_the_file_names_the_file_and_the_key() {
        let message = load_file("top_k = \"all\"\n", &[]).unwrap_err().to_string();
        assert!(
            message.contains(".conf: top_k is `all`; it accepts a whole"),
            "{message}"
        );
        let message = load_file("[port]\nnumber = 1\n", &[])
            .unwrap_err()
            .to_string();
        assert!(message.contains("port is a list or a table"), "{message}");
    }

    #[test]
    fn a_default_that_contradicts_the_file_is_named_by_its_variable() {
        let message = load_file("body_limit = \"100MiB\"\n", &[]).unwrap_err();
        let message = message.to_string();
        assert!(
            message.starts_with("BODIES_LIMIT is `64MiB`; "),
            "{message}"
        );
    }

    #[test]
    fn a_key_that_is_not_a_setting_or_a_broken_or_missing_file_is_an_error() {
        let message = load_file("treshold = 0.5\n", &[]).unwrap_err().to_string();
        assert!(
            message.contains("`treshold` is not a setting; the settings are host, port,"),
            "{message}"
        );
        let message = load_file("port = \n", &[]).unwrap_err().to_string();
        assert!(message.contains("cannot read the settings"), "{message}");
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
    fn an_error_in_a_broken_file_names_the_line_and_shows_none_of_its_values() {
        for broken in [
            "port = 1\nsecret_password = \"hunter2\n",
            "port = 1\nsecret_password = hunter2\n",
            "port = 1\n\"hunter2\" = \n",
        ] {
            let message = load_file(broken, &[]).unwrap_err().to_string();
            assert!(
                message.contains("cannot read the settings: line 2: "),
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
            message.ends_with("secret_password must be a string in quotes"),
            "{message}"
        );
    }

    #[test]
    fn a_certificate_without_its_key_is_an_error_and_without_both_the_server_speaks_plain_http() {
        let (certificate, key) = ("TLS_CERTIFICATE_PATH", "TLS_KEY_PATH");
        let both = load(&[(certificate, "a.pem"), (key, "b.pem")]).unwrap();
        assert_eq!(both.tls.unwrap().key, PathBuf::from("b.pem"));
        assert_eq!(load(&[(certificate, ""), (key, "")]).unwrap().tls, None);
        for (given, missing) in [(certificate, key), (key, certificate)] {
            let message = load(&[(given, "a.pem")]).unwrap_err().to_string();
            let expected = format!("{given} is set, but {missing} is not: ");
            assert!(message.starts_with(&expected), "{message}");
        }
    }

    #[test]
    fn an_empty_path_of_the_settings_file_is_ignored() {
        assert!(load(&[(FILE_VARIABLE, "")]).is_ok());
    }

    #[test]
    fn an_empty_password_is_an_error_and_not_the_default() {
        let message = load(&[("SECRET_PASSWORD", "")]).unwrap_err().to_string();
        assert!(
            message.starts_with("SECRET_PASSWORD has an invalid value (not shown); it accepts"),
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
