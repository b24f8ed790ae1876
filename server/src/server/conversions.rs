//! Converts the settings into the options of each part. Only this module knows both.

use ssd_detector::Defaults;
use ssd_detector::precision::{Precision, Requested, RequestedDevice};

use super::state::Timeouts;
use crate::api::Options;
use crate::config::{self, Settings};
use crate::engine::Limits;

impl From<&Settings> for Timeouts {
    fn from(settings: &Settings) -> Self {
        Self {
            idle: settings.idle_timeout,
            head: settings.header_timeout,
            write: settings.write_timeout,
        }
    }
}

impl From<&Settings> for Options {
    fn from(settings: &Settings) -> Self {
        Self {
            login: settings.login.clone(),
            defaults: Defaults::from(settings),
            body_limit: settings.body_limit,
            pixel_limit: settings.pixel_limit,
            bodies_limit: settings.bodies_limit,
            cors_origins: settings.cors_origins.clone(),
            body_timeout: settings.body_timeout,
            request_timeout: settings.request_timeout,
        }
    }
}

impl From<&Settings> for Limits {
    fn from(settings: &Settings) -> Self {
        Self {
            pixels: settings.pixel_limit,
            threads: settings.threads,
            workers: settings.workers,
            batch: settings.batch,
            queue: settings.queue_length,
            forward_timeout: settings.forward_timeout,
        }
    }
}

impl From<&Settings> for Requested {
    fn from(settings: &Settings) -> Self {
        Self {
            precision: match settings.precision {
                config::Precision::Auto => None,
                config::Precision::F32 => Some(Precision::F32),
                config::Precision::Bf16 => Some(Precision::Bf16),
                config::Precision::Int8 => Some(Precision::Int8),
            },
            device: match settings.device {
                config::Device::Auto => RequestedDevice::Auto,
                config::Device::Cpu => RequestedDevice::Cpu,
                config::Device::Cuda(number) => RequestedDevice::Cuda(number),
            },
        }
    }
}

impl From<&Settings> for Defaults {
    fn from(settings: &Settings) -> Self {
        Self {
            threshold: settings.threshold,
            iou: settings.nms_iou,
            top_k: settings.top_k,
        }
    }
}
