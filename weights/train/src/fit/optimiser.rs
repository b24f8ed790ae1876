//! `AdamW` (Loshchilov and Hutter 2019) with gradient clipping by norm. tch's optimisers hide their state, so a run could
//! not be resumed exactly.

use std::collections::BTreeMap;

use anyhow::Context as _;
use tch::{Kind, TchError, Tensor};

const BETA1: f64 = 0.9;
const BETA2: f64 = 0.999;
const EPSILON: f64 = 1e-8;
/// Decoupled weight decay, for the weights of convolutions only.
const WEIGHT_DECAY: f64 = 0.02;

/// A parameter with its moments.
#[derive(Debug)]
struct Parameter {
    name: String,
    /// The parameter's tensor in each replica of the network.
    replicas: Vec<Tensor>,
    /// The tensor of the first replica, detached from its gradient. Both share their memory.
    value: Tensor,
    first_moment: Tensor,
    second_moment: Tensor,
    decay: f64,
}

/// The parameters of a network and the state of the optimiser.
#[derive(Debug)]
pub struct AdamW {
    parameters: Vec<Parameter>,
    steps: i32,
    max_norm: f64,
}

impl AdamW {
    /// An optimiser for the named parameters of one or more replicas of a network. It makes them require gradients. A
    /// gradient with a norm above `max_norm` is scaled down to that norm.
    #[must_use]
    pub fn new(replicas: Vec<Vec<(String, Tensor)>>, max_norm: f64) -> Self {
        let mut parameters: Vec<Parameter> = Vec::new();
        for (name, tensor) in replicas.into_iter().flatten() {
            let trained = tensor.set_requires_grad(true);
            if let Some(known) = parameters.iter_mut().find(|known| known.name == name) {
                known.replicas.push(trained);
                continue;
            }
            let value = trained.detach();
            parameters.push(Parameter {
                first_moment: value.zeros_like(),
                second_moment: value.zeros_like(),
                decay: if value.dim() > 1 { WEIGHT_DECAY } else { 0.0 },
                replicas: vec![trained],
                value,
                name,
            });
        }
        Self {
            parameters,
            steps: 0,
            max_norm,
        }
    }

    /// Takes a step along the sum of the replicas' gradients, and sets the gradients to zero. Returns the norm of the
    /// sum. If it is not finite, the parameters do not change.
    ///
    /// # Errors
    /// If libtorch fails.
    pub fn step(&mut self, learning_rate: f64) -> Result<f64, TchError> {
        self.steps += 1;
        tch::no_grad(|| {
            let gradients: Vec<Option<Tensor>> = self
                .parameters
                .iter()
                .map(Parameter::take_gradient)
                .collect::<Result<_, _>>()?;
            let mut sum = 0.0;
            for gradient in gradients.iter().flatten() {
                let square = gradient.f_square()?.f_sum(Kind::Double)?;
                sum += square.f_double_value(&[])?;
            }
            let norm = sum.sqrt();
            if norm.is_finite() {
                let clip = (self.max_norm / norm.max(1e-12)).min(1.0);
                for (parameter, gradient) in self.parameters.iter_mut().zip(gradients) {
                    if let Some(gradient) = gradient {
                        let clipped = gradient.f_mul_scalar(clip)?;
                        parameter.step(&clipped, learning_rate, self.steps)?;
                    }
                }
            }
            Ok(norm)
        })
    }

    /// Parameters and moments by name, for a checkpoint.
    #[must_use]
    pub fn state(&self) -> BTreeMap<String, Tensor> {
        let mut state = BTreeMap::new();
        for parameter in &self.parameters {
            for (prefix, tensor) in parameter.tensors() {
                state.insert(
                    format!("{prefix}{}", parameter.name),
                    tensor.shallow_clone(),
                );
            }
        }
        state
    }

    /// Restores the [`state`](Self::state) of an optimiser after `steps` steps.
    ///
    /// # Errors
    /// If a tensor is missing or has another shape, or libtorch fails.
    pub fn restore(&mut self, state: &BTreeMap<String, Tensor>, steps: i32) -> anyhow::Result<()> {
        tch::no_grad(|| {
            for parameter in &self.parameters {
                for (prefix, tensor) in parameter.tensors() {
                    let name = format!("{prefix}{}", parameter.name);
                    let saved = state
                        .get(&name)
                        .filter(|saved| saved.size() == tensor.size())
                        .with_context(|| {
                            format!(
                                "the checkpoint has no tensor {name} of shape {:?}",
                                tensor.size()
                            )
                        })?;
                    tensor.shallow_clone().f_copy_(saved)?;
                }
                parameter.update_replicas()?;
            }
            self.steps = steps;
            Ok(())
        })
    }
}

impl Parameter {
    /// The tensors of a checkpoint, and the prefixes of their names.
    fn tensors(&self) -> [(&'static str, &Tensor); 3] {
        [
            ("", &self.value),
            ("adam.first.", &self.first_moment),
            ("adam.second.", &self.second_moment),
        ]
    }

    /// Returns the sum of the replicas' gradients, and sets these to zero. `None` if no replica has a gradient.
    fn take_gradient(&self) -> Result<Option<Tensor>, TchError> {
        let mut sum: Option<Tensor> = None;
        for replica in &self.replicas {
            let mut gradient = replica.grad();
            if gradient.defined() {
                sum = Some(match sum {
                    Some(sum) => sum.f_add(&gradient)?,
                    None => gradient.copy(),
                });
                let _ = gradient.f_zero_()?;
            }
        }
        Ok(sum)
    }

    fn step(&mut self, gradient: &Tensor, learning_rate: f64, step: i32) -> Result<(), TchError> {
        let _ = self.first_moment.f_lerp_(gradient, 1.0 - BETA1)?;
        let _ = self
            .second_moment
            .f_mul_scalar_(BETA2)?
            .f_add_(&gradient.f_square()?.f_mul_scalar(1.0 - BETA2)?)?;
        let mean = self.first_moment.f_div_scalar(1.0 - BETA1.powi(step))?;
        let deviation = self
            .second_moment
            .f_div_scalar(1.0 - BETA2.powi(step))?
            .f_sqrt()?
            .f_add_scalar(EPSILON)?;
        let _ = self.value.f_mul_scalar_(1.0 - learning_rate * self.decay)?;
        let _ = self
            .value
            .f_sub_(&mean.f_div(&deviation)?.f_mul_scalar(learning_rate)?)?;
        self.update_replicas()
    }

    /// Copies the value to the other replicas.
    fn update_replicas(&self) -> Result<(), TchError> {
        for replica in self.replicas.iter().skip(1) {
            replica.shallow_clone().f_copy_(&self.value)?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_first_step_moves_every_value_by_the_learning_rate() {
        let value = Tensor::from_slice(&[1.0f32, -2.0]);
        let mut adam = AdamW::new(
            vec![vec![("bias".to_owned(), value.shallow_clone())]],
            100.0,
        );
        (&value * Tensor::from_slice(&[5.0f32, -0.1]))
            .sum(Kind::Float)
            .backward();
        let norm = adam.step(0.01).unwrap();
        assert!((norm - 5.001).abs() < 1e-3);
        let moved = Vec::<f32>::try_from(&value.detach()).unwrap();
        assert!((moved[0] - 0.99).abs() < 1e-5, "{moved:?}");
        assert!((moved[1] + 1.99).abs() < 1e-5, "{moved:?}");
    }

    #[test]
    fn replicas_step_along_the_sum_of_their_gradients_and_stay_equal() {
        let replicas = [1.0f32, 1.0].map(|start| Tensor::from_slice(&[start]));
        let named = |t: &Tensor| vec![("bias".to_owned(), t.shallow_clone())];
        let mut adam = AdamW::new(replicas.iter().map(named).collect(), 100.0);
        (&replicas[0] * 3.0).sum(Kind::Float).backward();
        (&replicas[1] * 5.0).sum(Kind::Float).backward();
        assert!((adam.step(0.01).unwrap() - 8.0).abs() < 1e-6);
        for replica in replicas {
            let moved = Vec::<f32>::try_from(&replica.detach()).unwrap();
            assert!((moved[0] - 0.99).abs() < 1e-5, "{moved:?}");
        }
    }

    #[test]
    fn a_gradient_that_is_not_finite_leaves_the_parameters_unchanged() {
        let value = Tensor::from_slice(&[1.0f32]);
        let mut adam = AdamW::new(vec![vec![("bias".to_owned(), value.shallow_clone())]], 1.0);
        (&value * f64::INFINITY).sum(Kind::Float).backward();
        adam.step(0.01).unwrap();
        assert_eq!(Vec::<f32>::try_from(&value.detach()).unwrap(), [1.0]);
        assert_eq!(adam.steps, 1);
    }
}
