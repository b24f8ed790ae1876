//! The server's own share of a request: everything but the forward pass, beside the forward pass of
//! the full-size network (seeded weights) on the same machine in the same run.
//!
//! `cargo bench` prints each stage, whole requests over HTTP, and last the share.

use std::collections::BTreeMap;
use std::hint::black_box;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use criterion::{BenchmarkId, Criterion};
use image::{ExtendedColorType, RgbImage, imageops};
use ssd_detector::Model;
use ssd_detector::boxes::Criteria;
use ssd_detector::inference;
use ssd_detector::labels::Labels;
use ssd_detector::picture::Header;
use ssd_detector::precision::{Precision, Requested, RequestedDevice};
use ssd_server::config::{Settings, Variables};
use ssd_server::engine::Files;
use ssd_server::server::Application;
use state_dict::{Dtype, NewTensor, StateDict, write_safetensors};

const PIXEL_LIMIT: u64 = 50_000_000;

fn main() {
    let folder = tempfile::tempdir().expect("a temporary folder");
    let weights = folder.path().join("full-size.safetensors");
    seeded_weights(&weights);
    let jpeg = photograph();
    let mut criterion = Criterion::default()
        .sample_size(20)
        .warm_up_time(Duration::from_secs(1))
        .configure_from_args();
    stages(&mut criterion, &weights, &jpeg);
    requests(&mut criterion, &weights, &jpeg);
    criterion.final_summary();
}

/// Each stage by itself.
fn stages(criterion: &mut Criterion, weights: &Path, jpeg: &[u8]) {
    let labels = Labels::parse(include_bytes!("../../data/coco_labels.txt")).expect("labels");
    let state = StateDict::open(weights).expect("weights");
    let in_precision = |precision| {
        let (model, network) = Model::new(&state, &labels).expect("a model");
        let wanted = Requested {
            precision: Some(precision),
            device: RequestedDevice::Cpu,
        };
        let (network, _) = inference::prepare(network, None, wanted).expect("an inference");
        (model, network)
    };
    let (model, network) = in_precision(Precision::F32);
    let criteria = Criteria {
        threshold: 0.6,
        iou: 0.45,
        top_k: 200,
        classes_by_label: None,
    };
    let decode = || Header::read(jpeg, PIXEL_LIMIT).and_then(|header| header.decode(jpeg));
    let picture = decode().expect("a picture").picture;
    let input = model.input(&picture);
    let output = network.forward_one(&input).expect("a forward pass");
    let mut group = criterion.benchmark_group("stage");
    group.bench_function("decode", |bench| bench.iter(|| black_box(decode())));
    group.bench_function("preprocess", |bench| {
        bench.iter(|| black_box(model.input(&picture)));
    });
    group.bench_function("postprocess", |bench| {
        bench.iter(|| black_box(model.detections(&output, &criteria, picture.dimensions())));
    });
    group.bench_function("priors", |bench| {
        bench.iter(|| black_box(model.family().priors()));
    });
    for precision in Precision::ALL {
        let (_, network) = in_precision(precision);
        group.bench_with_input(
            BenchmarkId::new("forward", precision),
            &input,
            |bench, input| bench.iter(|| black_box(network.forward_one(input))),
        );
    }
    group.finish();
}

/// Whole requests over HTTP; the forward pass of each is told by its Server-Timing.
fn requests(criterion: &mut Criterion, weights: &Path, jpeg: &[u8]) {
    let runtime = tokio::runtime::Runtime::new().expect("a runtime");
    let url = runtime.block_on(serve(weights));
    let client = reqwest::Client::new();
    let (mut whole, mut forward) = (Vec::new(), Vec::new());
    let mut group = criterion.benchmark_group("request");
    group.bench_with_input(
        BenchmarkId::new("whole", "1334x750 JPEG"),
        jpeg,
        |bench, jpeg| {
            bench.iter(|| {
                let begun = Instant::now();
                forward.push(runtime.block_on(request(&client, &url, jpeg)));
                whole.push(begun.elapsed().as_secs_f64() * 1e3);
            });
        },
    );
    group.finish();
    let shares = whole
        .iter()
        .zip(&forward)
        .map(|(whole, forward)| (whole - forward) / forward);
    let share = median(shares.collect());
    let (whole, forward) = (median(whole), median(forward));
    println!(
        "\nOver HTTP, median: {whole:.1} ms a request, {forward:.1} ms of it forward; \
         the server's own share is {:.1} % of the forward pass",
        share * 100.0
    );
}

fn median(mut values: Vec<f64>) -> f64 {
    values.sort_by(f64::total_cmp);
    values.get(values.len() / 2).copied().unwrap_or(f64::NAN)
}

async fn serve(weights: &Path) -> String {
    let own = [("PORT", "0")].into_iter().collect::<Variables>();
    let settings = Settings::load(None, &own).expect("settings");
    let files = Files {
        weights: weights.to_owned(),
        labels: PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../data/coco_labels.txt"),
    };
    let application = Application::build(settings, files)
        .await
        .expect("a free port");
    let url = format!("http://{}", application.address());
    tokio::spawn(application.run(std::future::pending()));
    while !reqwest::get(format!("{url}/readyz"))
        .await
        .is_ok_and(|response| response.status() == 200)
    {
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    format!("{url}/predict")
}

/// Sends the picture, and gives the milliseconds of its forward pass.
async fn request(client: &reqwest::Client, url: &str, jpeg: &[u8]) -> f64 {
    let response = client
        .post(url)
        .basic_auth("ugain", Some("ugain"))
        .header("content-type", "image/jpeg")
        .body(jpeg.to_vec())
        .send()
        .await
        .and_then(reqwest::Response::error_for_status)
        .expect("a response");
    let timing = response.headers()["server-timing"]
        .to_str()
        .unwrap_or_default()
        .to_owned();
    response.bytes().await.expect("a body");
    let (_, after) = timing
        .split_once("forward;dur=")
        .expect("the forward stage");
    after
        .split(',')
        .next()
        .and_then(|text| text.parse().ok())
        .expect("milliseconds")
}

/// The tests' photograph at 1334x750, as a JPEG.
fn photograph() -> Vec<u8> {
    let small = image::load_from_memory(include_bytes!("../tests/data/cat.png")).expect("a PNG");
    let large: RgbImage = imageops::resize(
        &small.into_rgb8(),
        1334,
        750,
        imageops::FilterType::CatmullRom,
    );
    let mut jpeg = Vec::new();
    image::codecs::jpeg::JpegEncoder::new_with_quality(&mut jpeg, 90)
        .encode(&large, 1334, 750, ExtendedColorType::Rgb8)
        .expect("a JPEG");
    jpeg
}

/// Full-size weights of VOC's 21 classes: as wide as the published ones, random with He's deviation.
fn seeded_weights(path: &Path) {
    let small = StateDict::open(
        &PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("tests/data/small.safetensors"),
    )
    .expect("the small model");
    let mut random = Random(1);
    let tensors = small.tensors().map(|tensor| {
        // The small model's every channel count is a sixteenth, but for the picture's three channels
        // and the heads' outputs.
        let head = tensor.name().starts_with("loc") || tensor.name().starts_with("conf");
        let mut shape = tensor.shape().to_vec();
        if !head {
            shape[0] *= 16;
        }
        if shape.len() == 4 && shape[1] != 3 {
            shape[1] *= 16;
        }
        let inputs: usize = shape.iter().skip(1).product();
        let deviation = (2.0 / inputs as f32).sqrt();
        let count = shape.iter().product::<usize>();
        let values = (0..count).map(|_| match tensor.name() {
            "L2Norm.weight" => 20.0,
            name if name.ends_with("bias") => 0.0,
            _ => random.unit() * deviation * 3.0_f32.sqrt(),
        });
        NewTensor {
            name: tensor.name().to_owned().into(),
            dtype: Dtype::F32,
            shape: shape.into(),
            bytes: values
                .flat_map(f32::to_le_bytes)
                .collect::<Vec<u8>>()
                .into(),
        }
    });
    write_safetensors(path, tensors.collect(), &BTreeMap::new()).expect("written weights");
}

/// Uniform numbers from -1 to 1 (Knuth's MMIX generator): weights need no better.
struct Random(u64);

impl Random {
    fn unit(&mut self) -> f32 {
        self.0 = self
            .0
            .wrapping_mul(6_364_136_223_846_793_005)
            .wrapping_add(1_442_695_040_888_963_407);
        (self.0 >> 40) as f32 / (1 << 23) as f32 - 1.0
    }
}
