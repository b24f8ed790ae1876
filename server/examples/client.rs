//! Prints the objects in a picture, one per line: label, score, and the box's x, y, width and height.
//!
//!     SSD_URL=http://localhost:5000 SSD_USERNAME=ugain SSD_PASSWORD=ugain cargo run -- cat.jpg
//!
//! Needs: cargo add anyhow; cargo add reqwest --features json,multipart;
//! cargo add serde --features derive; cargo add tokio --features full

use std::env::{args, var};
use std::time::Duration;

use anyhow::{Context as _, Result, bail};
use reqwest::header::RETRY_AFTER;
use reqwest::multipart::{Form, Part};
use reqwest::{Client, Response};
use serde::Deserialize;

#[derive(Deserialize)]
struct Prediction {
    predictions: Vec<DetectedObject>,
}

#[derive(Deserialize)]
struct DetectedObject {
    label: String,
    probability: f64,
    r#box: BoundingBox,
}

#[derive(Deserialize)]
struct BoundingBox {
    x: f64,
    y: f64,
    width: f64,
    height: f64,
}

#[derive(Deserialize)]
struct Problem {
    title: String,
    detail: String,
}

async fn predict(picture: Vec<u8>) -> Result<Prediction> {
    let url = format!("{}/predict", var("SSD_URL").context("SSD_URL")?);
    let username = var("SSD_USERNAME").context("SSD_USERNAME")?;
    let password = var("SSD_PASSWORD").context("SSD_PASSWORD")?;
    let client = Client::builder().timeout(Duration::from_mins(1)).build()?;
    let mut retries = 4;
    loop {
        let part = Part::bytes(picture.clone()).file_name("picture");
        let request = client.post(&url).basic_auth(&username, Some(&password));
        let form = Form::new().part("image", part);
        let response = request.multipart(form).send().await?;
        if response.status().is_success() {
            return Ok(response.json().await?);
        }
        // Busy (429) or not ready (503): retry after waiting as many seconds as the response's
        // Retry-After says.
        match retry_after(&response) {
            Some(wait) if retries > 0 => tokio::time::sleep(wait).await,
            _ => {
                let status = response.status();
                let Ok(Problem { title, detail }) = response.json().await else {
                    bail!("HTTP status {status}");
                };
                bail!("{title}: {detail}");
            }
        }
        retries -= 1;
    }
}

fn retry_after(response: &Response) -> Option<Duration> {
    let seconds = response.headers().get(RETRY_AFTER)?.to_str().ok()?;
    seconds.parse().ok().map(Duration::from_secs)
}

#[tokio::main]
async fn main() -> Result<()> {
    let path = args().nth(1).context("usage: client PICTURE")?;
    let picture = std::fs::read(&path).context(path)?;
    for found in predict(picture).await?.predictions {
        let bounds = found.r#box;
        println!(
            "{}\t{}\t{}\t{}\t{}\t{}",
            found.label, found.probability, bounds.x, bounds.y, bounds.width, bounds.height
        );
    }
    Ok(())
}
