//! Fuses operations that run as one: a convolution with the addition that follows it, and the two heads of a
//! source feature map.

use std::collections::BTreeMap;

use tch::{TchError, Tensor};

use super::architecture::{Activation, Channels};
use super::graph::{Graph, MapId, Node};
use super::heads::{Heads, Part};
use super::network::{Layer, Shared, channels_last};

/// Fuses a network's operations, and returns where the outputs of the heads are in the new graph. A fused
/// convolution adds its second input to its output.
pub(super) fn fuse(
    graph: Graph<Layer>,
    classes: usize,
) -> Result<(Graph<Layer>, Vec<Heads>), TchError> {
    let (sums, pairs) = (sums(&graph), head_pairs(&graph));
    let mut nodes: BTreeMap<MapId, Node<Layer>> = graph.into_nodes().collect();
    let mut fused = Vec::new();
    while let Some((map, mut node)) = nodes.pop_first() {
        let mut computes = map;
        if let Some(&(sum, other)) = sums.get(&map) {
            nodes.remove(&sum);
            node.inputs.push(other);
            computes = sum;
        }
        let joined = pairs
            .iter()
            .find(|pair| pair.offsets == map && pair.joined)
            .and_then(|pair| nodes.remove(&pair.logits));
        if let Some(logits) = joined {
            node.operation = join(node.operation, logits.operation)?;
        }
        fused.push((computes, node));
    }
    let (mut outputs, mut heads) = (Vec::new(), Vec::new());
    for pair in pairs {
        outputs.push(pair.offsets);
        let offsets = Part {
            output: outputs.len() - 1,
            first: 0,
            channels: 4 * pair.boxes,
        };
        let first = if pair.joined {
            offsets.channels
        } else {
            outputs.push(pair.logits);
            0
        };
        let logits = Part {
            output: outputs.len() - 1,
            first,
            channels: classes * pair.boxes,
        };
        heads.push(Heads { offsets, logits });
    }
    Ok((Graph::rebuild(fused, &outputs), heads))
}

/// For each linear convolution that only an addition reads: the addition, and the feature map that it adds.
fn sums(graph: &Graph<Layer>) -> BTreeMap<MapId, (MapId, MapId)> {
    let mut sums = BTreeMap::new();
    for (sum, node) in graph.nodes() {
        let (Layer::Add, &[map, other]) = (&node.operation, node.inputs.as_slice()) else {
            continue;
        };
        let linear = graph.node(map).is_some_and(|node| match &node.operation {
            Layer::Convolution { spec, .. } => spec.activation == Activation::Linear,
            _ => false,
        });
        if linear && other < map && graph.readers(map) == 1 {
            sums.insert(map, (sum, other));
        }
    }
    sums
}

/// The two heads of a source feature map.
struct HeadPair {
    offsets: MapId,
    logits: MapId,
    /// Boxes per cell.
    boxes: usize,
    /// Whether the two convolutions can run as one.
    joined: bool,
}

fn head_pairs(graph: &Graph<Layer>) -> Vec<HeadPair> {
    let convolution = |map: MapId| match graph.node(map) {
        Some(Node {
            operation: Layer::Convolution { spec, .. },
            inputs,
        }) => Some((spec, inputs)),
        _ => None,
    };
    let pairs = graph.outputs().as_chunks::<2>().0.iter();
    pairs
        .filter_map(|&[offsets, logits]| {
            let ((spec, inputs), (other, others)) = (convolution(offsets)?, convolution(logits)?);
            let Channels::Offsets(boxes) = spec.channels else {
                return None;
            };
            Some(HeadPair {
                offsets,
                logits,
                boxes,
                joined: inputs == others && spec.geometry == other.geometry,
            })
        })
        .collect()
}

/// Joins two convolutions of one feature map; the outputs of the first come first.
fn join(one: Layer, other: Layer) -> Result<Layer, TchError> {
    match (one, other) {
        (
            Layer::Convolution { spec, weight, bias },
            Layer::Convolution {
                weight: more,
                bias: biases,
                ..
            },
        ) => Ok(Layer::Convolution {
            spec,
            weight: Shared(channels_last(&Tensor::f_cat(&[weight.0, more.0], 0)?)),
            bias: Shared(Tensor::f_cat(&[bias.0, biases.0], 0)?),
        }),
        (one, _) => Ok(one),
    }
}
