//! A replica of the network on a thread of its own, learning from its part of each batch.
//!
//! libtorch's own threads share out every layer and wait, spinning, at the end of each; on a
//! machine that others use too that costs more than it gains. Replicas meet once a step.

use std::sync::mpsc::{Receiver, SyncSender, sync_channel};

use anyhow::Context as _;
use ssd_server::detector::network::Network;
use tch::{Kind, TchError, Tensor};

use super::batches::Batch;
use super::loss::multibox;
use super::norms::Norms;

/// A thread with a network. Its gradients lie in the network's parameters, for the optimiser.
#[derive(Debug)]
pub(super) struct Replica {
    parts: SyncSender<Batch>,
    losses: Receiver<Result<(f64, f64), TchError>>,
}

impl Replica {
    /// Starts the thread, which ends when the replica is dropped.
    pub(super) fn start(network: Network, norms: Norms, bfloat16: bool) -> anyhow::Result<Self> {
        let (parts, incoming) = sync_channel::<Batch>(1);
        let (outgoing, losses) = sync_channel(1);
        std::thread::Builder::new()
            .name("replica".to_owned())
            .spawn(move || {
                for part in incoming {
                    if outgoing
                        .send(learn(&network, &norms, &part, bfloat16))
                        .is_err()
                    {
                        break;
                    }
                }
            })
            .context("start a thread that learns")?;
        Ok(Self { parts, losses })
    }

    /// Hands it its part of a batch.
    pub(super) fn learn(&self, part: Batch) -> anyhow::Result<()> {
        self.parts
            .send(part)
            .ok()
            .context("a thread that learns has ended")
    }

    /// Waits until it has learnt: the losses of offsets and of classes.
    pub(super) fn losses(&self) -> anyhow::Result<(f64, f64)> {
        Ok(self
            .losses
            .recv()
            .context("a thread that learns has ended")??)
    }
}

/// Adds to the gradients of the network's parameters.
fn learn(
    network: &Network,
    norms: &Norms,
    part: &Batch,
    bfloat16: bool,
) -> Result<(f64, f64), TchError> {
    let kind = if bfloat16 {
        Kind::BFloat16
    } else {
        Kind::Float
    };
    let normalise = |layer: &str, output: Tensor| norms.apply(layer, &output);
    let pictures = part.pictures.f_to_kind(kind)?;
    let (offsets, logits) = network.outputs_through(&pictures, &normalise)?;
    let loss = multibox(&offsets, &logits, &part.classes, &part.offsets)?;
    loss.total()?.f_backward()?;
    Ok((
        loss.localisation.f_double_value(&[])?,
        loss.classification.f_double_value(&[])?,
    ))
}

/// Turns the parameters to bfloat16, except around the L2 normalisation: the network divides by
/// norms in single precision, and the head after that has to follow.
pub(super) fn halve(network: &Network) {
    for (name, mut tensor) in network.parameters() {
        let single = ["L2Norm.", "loc.0.", "conf.0."]
            .iter()
            .any(|part| name.starts_with(part));
        if !single {
            tensor.set_data(&tensor.to_kind(Kind::BFloat16));
        }
    }
}
