//! What every request for detections needs besides its picture and its criteria.

use poem::Request;
use ssd_detector::boxes::Criteria;
use tokio::time::{Instant, timeout_at};

use super::body;
use super::context::Context;
use super::problem::Problem;
use super::request_log::Record;
use crate::engine::{Detections, Engine, Error, Health};

pub struct Call {
    pub engine: Engine,
    /// The criteria for requests that do not state them.
    pub defaults: Criteria,
    deadline: Instant,
    record: Record,
}

impl Call {
    /// Refuses a request before its body is read, if that is certain to be in vain. `check_media` refuses a
    /// Content-Type.
    pub fn begin(
        request: &Request,
        check_media: impl FnOnce(&Request) -> Result<(), Problem>,
    ) -> Result<Self, Problem> {
        let context = Context::of(request);
        let engine = context.engine()?;
        // Before 429, so that no client retries a body that will be refused.
        body::check_headers(request)?;
        check_media(request)?;
        if engine.health() == Health::Hanging {
            return Err(Problem::not_ready("A forward pass hangs."));
        }
        engine.has_room()?;
        Ok(Self {
            engine: engine.clone(),
            defaults: context.criteria()?,
            deadline: context.deadline(request),
            record: Record::of(request),
        })
    }

    /// Waits for the engine until the request times out, and records the detections.
    pub async fn detections<T>(
        &self,
        detecting: impl Future<Output = Result<(Detections, T), Error>>,
    ) -> Result<(Detections, T), Problem> {
        let (detections, more) = timeout_at(self.deadline, detecting)
            .await
            .map_err(|_| Problem::late())??;
        self.record.detected(&detections);
        Ok((detections, more))
    }

    /// Finds objects in a picture.
    pub async fn detect(
        &self,
        picture: bytes::Bytes,
        criteria: Criteria,
    ) -> Result<Detections, Problem> {
        let detecting = async { Ok((self.engine.detect(picture, criteria).await?, ())) };
        let (detections, ()) = self.detections(detecting).await?;
        Ok(detections)
    }
}
