//! The operations of a network, as data. Every family describes its network in these terms.
//!
//! Feature maps are square, `side` x `side`.

use super::graph::{Graph, MapId, Node};

/// A network without its weights. The graph's outputs are the heads of each source feature map, the finest
/// first: offsets, then logits.
pub(super) type Architecture = Graph<Operation>;

/// An operation on one feature map, or on two.
#[derive(Debug, Clone)]
pub(super) enum Operation {
    Convolution(Convolution),
    MaxPool(Pool),
    /// The sum of two feature maps (He et al. 2015, section 3.2).
    Add,
    /// The mean of each channel, a feature map of 1 x 1.
    Mean,
    /// Each channel of a feature map times its number in a second one, of 1 x 1.
    Scale,
    /// L2 normalisation over the channels, each with a learned factor (Liu et al. 2015, `ParseNet`).
    L2Norm {
        /// The name of the factors' tensor in the file.
        name: String,
    },
}

impl Operation {
    /// The names of its tensors in a published file.
    pub(super) fn tensor_names(&self) -> Vec<String> {
        match self {
            Self::Convolution(Convolution { name, norm, .. }) => match norm {
                None => vec![format!("{name}.weight"), format!("{name}.bias")],
                Some(norm) => {
                    let mut names = vec![format!("{name}.weight")];
                    names.extend(norm.tensor_names());
                    // How many batches it has seen.
                    names.push(format!("{}.num_batches_tracked", norm.name));
                    names
                }
            },
            Self::L2Norm { name } => vec![name.clone()],
            Self::MaxPool(_) | Self::Add | Self::Mean | Self::Scale => Vec::new(),
        }
    }
}

/// A convolution with a bias, and the activation after it.
#[derive(Debug, Clone)]
pub(super) struct Convolution {
    /// In the file, without `.weight` and `.bias`.
    pub name: String,
    /// What the published file has in place of a bias.
    pub norm: Option<BatchNorm>,
    pub geometry: Geometry,
    pub channels: Channels,
    pub activation: Activation,
}

/// Batch normalisation after a convolution (Ioffe & Szegedy 2015, section 3.1). It is folded into the weights when they are
/// read: a network that was trained here has a bias instead.
#[derive(Debug, Clone)]
pub(super) struct BatchNorm {
    /// In the file, without `.weight`, `.bias`, `.running_mean` and `.running_var`.
    pub name: String,
    /// Added to the variance.
    pub epsilon: f64,
}

impl BatchNorm {
    /// The names of its tensors: the factors, the biases, the means and the variances.
    pub(super) fn tensor_names(&self) -> [String; 4] {
        ["weight", "bias", "running_mean", "running_var"]
            .map(|part| format!("{}.{part}", self.name))
    }
}

/// How many output channels a convolution has.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Channels {
    /// As many as the file's tensors have, so that narrower variants of a network are read too.
    Free,
    /// One for each input channel. Each channel is convolved separately (Howard et al. 2017, section 3.1).
    Depthwise,
    /// Four offsets for each of this number of boxes.
    Offsets(usize),
    /// A logit per class for each of this number of boxes.
    Logits(usize),
}

/// What follows a convolution.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Activation {
    Linear,
    Relu,
    /// Clipped at 6 (Sandler et al. 2018).
    Relu6,
    /// `relu6(x + 3) / 6` (Howard et al. 2019, section 5.2).
    HardSigmoid,
    /// `x * relu6(x + 3) / 6` (the same).
    HardSwish,
}

/// How a kernel moves over a feature map.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Geometry {
    /// Side of the kernel.
    pub kernel: i64,
    pub stride: i64,
    pub padding: Padding,
    pub dilation: i64,
}

/// Zeros around a feature map.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Padding {
    /// This number of rows and columns on every side.
    Each(i64),
    /// TensorFlow's `SAME`: enough zeros for `ceil(side / stride)` outputs. If the number is odd, the extra row
    /// is below and the extra column on the right.
    Same,
}

impl Geometry {
    /// A kernel of `side` x `side` that keeps a feature map's side.
    pub(super) const fn keeping(side: i64) -> Self {
        Self {
            kernel: side,
            stride: 1,
            padding: Padding::Each(side / 2),
            dilation: 1,
        }
    }

    /// Rows of zeros above and below a feature map; also the columns left and right of it.
    pub(super) fn padding(self, side: i64) -> (i64, i64) {
        match self.padding {
            Padding::Each(padding) => (padding, padding),
            Padding::Same => {
                let outputs = (side + self.stride - 1) / self.stride;
                let total = ((outputs - 1) * self.stride + self.extent() - side).max(0);
                (total / 2, total - total / 2)
            }
        }
    }

    /// The side of the output.
    pub(super) fn side_after(self, side: i64) -> i64 {
        let (before, after) = self.padding(side);
        (side + before + after - self.extent()) / self.stride + 1
    }

    /// Side of the dilated kernel.
    fn extent(self) -> i64 {
        self.dilation * (self.kernel - 1) + 1
    }
}

/// A max-pool.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Pool {
    /// Side of the window.
    pub window: i64,
    pub stride: i64,
    pub padding: i64,
    /// Whether the side of the output is rounded up.
    pub ceil: bool,
}

impl Pool {
    /// The side of the output.
    pub(super) fn side_after(self, side: i64) -> i64 {
        let rounded = if self.ceil { self.stride - 1 } else { 0 };
        (side + 2 * self.padding - self.window + rounded) / self.stride + 1
    }
}

/// Builds an architecture, operation by operation. Each method takes the feature maps that the operation reads,
/// and returns the feature map that it computes.
#[derive(Debug, Default)]
pub(super) struct Builder {
    nodes: Vec<Node<Operation>>,
    outputs: Vec<MapId>,
}

impl Builder {
    fn push(&mut self, operation: Operation, inputs: &[MapId]) -> MapId {
        self.nodes.push(Node {
            operation,
            inputs: inputs.to_vec(),
        });
        MapId::after(self.nodes.len())
    }

    pub(super) fn convolution(
        &mut self,
        input: MapId,
        name: impl Into<String>,
        geometry: Geometry,
        channels: Channels,
        activation: Activation,
    ) -> MapId {
        let convolution = Convolution {
            name: name.into(),
            norm: None,
            geometry,
            channels,
            activation,
        };
        self.push(Operation::Convolution(convolution), &[input])
    }

    /// torchvision's `Conv2dNormActivation`: a convolution without a bias, batch normalisation with `epsilon`, and an
    /// activation.
    pub(super) fn normalised_convolution(
        &mut self,
        input: MapId,
        (name, epsilon): (&str, f64),
        geometry: Geometry,
        channels: Channels,
        activation: Activation,
    ) -> MapId {
        let convolution = Convolution {
            name: format!("{name}.0"),
            norm: Some(BatchNorm {
                name: format!("{name}.1"),
                epsilon,
            }),
            geometry,
            channels,
            activation,
        };
        self.push(Operation::Convolution(convolution), &[input])
    }

    /// torchvision's `SqueezeExcitation` (Hu et al. 2017, section 3): scales each channel by a number that two convolutions
    /// compute from the means of all channels.
    pub(super) fn squeeze_excitation(&mut self, input: MapId, name: &str) -> MapId {
        let (point, free) = (Geometry::keeping(1), Channels::Free);
        let means = self.push(Operation::Mean, &[input]);
        let squeezed =
            self.convolution(means, format!("{name}.fc1"), point, free, Activation::Relu);
        let (name, scale) = (format!("{name}.fc2"), Activation::HardSigmoid);
        let scales = self.convolution(squeezed, name, point, free, scale);
        self.push(Operation::Scale, &[input, scales])
    }

    pub(super) fn max_pool(&mut self, input: MapId, pool: Pool) -> MapId {
        self.push(Operation::MaxPool(pool), &[input])
    }

    pub(super) fn add(&mut self, one: MapId, other: MapId) -> MapId {
        self.push(Operation::Add, &[one, other])
    }

    pub(super) fn l2_norm(&mut self, input: MapId, name: impl Into<String>) -> MapId {
        self.push(Operation::L2Norm { name: name.into() }, &[input])
    }

    /// The two heads, offsets and logits, of a source feature map with `boxes` boxes in each cell.
    pub(super) fn heads(
        &mut self,
        source: MapId,
        [offsets, logits]: [String; 2],
        geometry: Geometry,
        boxes: usize,
    ) {
        for (name, channels) in [
            (offsets, Channels::Offsets(boxes)),
            (logits, Channels::Logits(boxes)),
        ] {
            self.head(source, name, geometry, channels);
        }
    }

    /// A head. Those of a source feature map are the offsets, then the logits.
    pub(super) fn head(
        &mut self,
        input: MapId,
        name: String,
        geometry: Geometry,
        channels: Channels,
    ) {
        let output = self.convolution(input, name, geometry, channels, Activation::Linear);
        self.outputs.push(output);
    }

    pub(super) fn build(self) -> Architecture {
        Graph::new(self.nodes, self.outputs)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn same_padding_divides_the_side_by_the_stride_and_puts_the_extra_row_below() {
        let same = |kernel, stride| Geometry {
            kernel,
            stride,
            padding: Padding::Same,
            dilation: 1,
        };
        // Computed as in TensorFlow's documentation of `tf.nn.convolution`.
        for (side, kernel, stride, padding) in [
            (300, 3, 2, (0, 1)),
            (75, 3, 2, (1, 1)),
            (2, 3, 2, (0, 1)),
            (19, 3, 1, (1, 1)),
            (19, 1, 1, (0, 0)),
        ] {
            let geometry = same(kernel, stride);
            assert_eq!(geometry.padding(side), padding, "{side} {geometry:?}");
            assert_eq!(geometry.side_after(side), (side + stride - 1) / stride);
        }
    }
}
