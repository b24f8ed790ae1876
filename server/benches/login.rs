//! How long the server takes to refuse a login, by what is wrong with it: whether the time tells a guesser
//! how near the guess was.
//!
//! `cargo bench --bench login` sends 100,000 wrong logins over one connection and prints what each kind
//! took. It judges nothing: a machine with other work to do shows differences that are none.

use std::io::{Read as _, Write as _};
use std::net::{SocketAddr, TcpStream};
use std::path::PathBuf;
use std::time::{Duration, Instant};

use anyhow::Context as _;
use ssd_server::config::{Settings, Variables};
use ssd_server::engine::Files;
use ssd_server::server::Application;

const USER: &str = "somebody";
const PASSWORD: &str = "correct-horse-battery-staple-042";

/// What is wrong, the user, the password.
const WRONG: [(&str, &str, &str); 5] = [
    ("the first byte", USER, "Xorrect-horse-battery-staple-042"),
    ("the last byte", USER, "correct-horse-battery-staple-04X"),
    ("the length", USER, "correct-horse-battery-staple-0420"),
    ("the user", "someone!", PASSWORD),
    ("all", "XXXXXXXX", "XXXXXXXXXXXXXXXXXXXXXXXXXXXXXXXX"),
];

const ROUNDS: usize = 20_000;

/// Of the times of each kind, the part that is kept: the slowest are the machine's other work.
const KEPT: f64 = 0.9;

fn main() -> anyhow::Result<()> {
    let runtime = tokio::runtime::Runtime::new()?;
    let address = runtime.block_on(serve())?;
    let mut client = Client::connect(address)?;
    let requests = WRONG.map(|(_, user, password)| request(user, password));
    let mut times = [const { Vec::new() }; WRONG.len()];
    let mut random = Random(1);
    for round in 0..ROUNDS + ROUNDS / 10 {
        // In another order each time: none is always behind the same one.
        for kind in random.order() {
            let time = client.refused(&requests[kind])?;
            if round >= ROUNDS / 10 {
                times[kind].push(time.as_secs_f64() * 1e6);
            }
        }
    }
    let all = times.map(Sample::new);
    println!(
        "{:<16} {:>10} {:>10} {:>12} {:>8}",
        "wrong is", "median us", "mean us", "difference", "t"
    );
    for ((what, ..), sample) in WRONG.iter().zip(&all) {
        let (difference, t) = sample.beside(&all[0]);
        let (median, mean) = (sample.median, sample.mean);
        println!("{what:<16} {median:>10.2} {mean:>10.2} {difference:>+9.3} us {t:>8.2}");
    }
    println!(
        "\n{ROUNDS} logins of each kind. The means are of the fastest {:.0} %; differences are to the first \
         line, with Welch's t: beyond 4.5 either way it is hardly chance.",
        KEPT * 100.0
    );
    Ok(())
}

async fn serve() -> anyhow::Result<SocketAddr> {
    let own = [
        ("PORT", "0"),
        ("SECRET_USERNAME", USER),
        ("SECRET_PASSWORD", PASSWORD),
    ];
    let settings = Settings::load(None, &own.into_iter().collect::<Variables>())?;
    let folder = PathBuf::from(env!("CARGO_MANIFEST_DIR"));
    let files = Files {
        weights: folder.join("tests/data/small.safetensors"),
        labels: folder.join("../data/coco_labels.txt"),
    };
    let application = Application::build(settings, files).await?;
    let address = application.address();
    tokio::spawn(application.run(std::future::pending()));
    let ready = format!("http://{address}/readyz");
    while reqwest::get(&ready).await?.status() != 200 {
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    Ok(address)
}

/// Without a body, so that the connection stays open.
fn request(user: &str, password: &str) -> Vec<u8> {
    let client = reqwest::Client::new();
    let request = client.post("http://ssd/").basic_auth(user, Some(password));
    let login = request.build().expect("a request").headers()["authorization"].clone();
    let login = login.to_str().expect("base64");
    format!("POST /predict HTTP/1.1\r\nHost: ssd\r\nAuthorization: {login}\r\n\r\n").into_bytes()
}

struct Client(TcpStream);

impl Client {
    fn connect(address: SocketAddr) -> anyhow::Result<Self> {
        let stream = TcpStream::connect(address)?;
        stream.set_nodelay(true)?;
        Ok(Self(stream))
    }

    /// From the request to its whole response.
    fn refused(&mut self, request: &[u8]) -> anyhow::Result<Duration> {
        let mut response = [0; 4096];
        let mut length = 0;
        let begun = Instant::now();
        self.0.write_all(request)?;
        while !response[..length].ends_with(b"}") {
            let count = self.0.read(&mut response[length..])?;
            anyhow::ensure!(count > 0, "closed");
            length += count;
        }
        let time = begun.elapsed();
        let refused = response.starts_with(b"HTTP/1.1 401 ");
        refused
            .then_some(time)
            .context("a wrong login was not refused")
    }
}

/// The fastest of many times, in microseconds.
struct Sample {
    median: f64,
    mean: f64,
    /// The square of the mean's standard error.
    error: f64,
}

impl Sample {
    fn new(mut times: Vec<f64>) -> Self {
        times.sort_by(f64::total_cmp);
        let median = times[times.len() / 2];
        times.truncate((times.len() as f64 * KEPT) as usize);
        let count = times.len() as f64;
        let mean = times.iter().sum::<f64>() / count;
        let squares = times.iter().map(|time| (time - mean).powi(2));
        let variance = squares.sum::<f64>() / (count - 1.0);
        Self {
            median,
            mean,
            error: variance / count,
        }
    }

    /// How much longer this took than another, and Welch's t of that.
    fn beside(&self, other: &Self) -> (f64, f64) {
        let difference = self.mean - other.mean;
        (difference, difference / (self.error + other.error).sqrt())
    }
}

/// Knuth's MMIX generator.
struct Random(u64);

impl Random {
    /// The kinds, shuffled (Fisher and Yates).
    fn order(&mut self) -> [usize; WRONG.len()] {
        let mut order = std::array::from_fn(|kind| kind);
        for last in (1..order.len()).rev() {
            self.0 = self
                .0
                .wrapping_mul(6_364_136_223_846_793_005)
                .wrapping_add(1_442_695_040_888_963_407);
            order.swap(last, (self.0 >> 33) as usize % (last + 1));
        }
        order
    }
}
