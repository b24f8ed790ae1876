//! A network as a graph of operations, and the one loop that runs it.
//!
//! Nodes stand in the order in which they are computed. The loop does not know what an operation does:
//! its caller applies it, to tensors in a forward pass, or to sides and channel counts before one.

/// A feature map: the graph's input, or the output of a node.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(super) struct Map(usize);

impl Map {
    /// The map that the graph is given.
    pub(super) const INPUT: Self = Self(0);

    /// The map that the last of so many nodes puts out.
    pub(super) fn after(nodes: usize) -> Self {
        Self(nodes)
    }
}

/// An operation, and the maps that it reads.
#[derive(Debug, Clone)]
pub(super) struct Node<O> {
    pub operation: O,
    pub inputs: Vec<Map>,
}

/// Operations in the order in which they are computed.
#[derive(Debug, Clone)]
pub(super) struct Graph<O> {
    nodes: Vec<Node<O>>,
    outputs: Vec<Map>,
    /// For each node, the maps that no later node reads.
    finished: Vec<Vec<Map>>,
}

impl<O> Graph<O> {
    /// A graph of these nodes; `outputs` are the maps that a run gives back, each once.
    ///
    /// # Panics
    /// Where a node reads a map that is not computed before it.
    pub(super) fn new(nodes: Vec<Node<O>>, outputs: Vec<Map>) -> Self {
        let mut last_reader = vec![None; nodes.len() + 1];
        for (index, node) in nodes.iter().enumerate() {
            for &Map(input) in &node.inputs {
                assert!(input <= index, "a node reads earlier maps only");
                last_reader[input] = Some(index);
            }
        }
        let mut finished = vec![Vec::new(); nodes.len()];
        for (map, reader) in last_reader.into_iter().enumerate() {
            if let Some(reader) = reader
                && !outputs.contains(&Map(map))
            {
                finished[reader].push(Map(map));
            }
        }
        Self {
            nodes,
            outputs,
            finished,
        }
    }

    /// Each node, and the map that it puts out.
    pub(super) fn nodes(&self) -> impl Iterator<Item = (Map, &Node<O>)> {
        (1..).map(Map).zip(&self.nodes)
    }

    /// As [`nodes`](Self::nodes), taken apart.
    pub(super) fn into_nodes(self) -> impl Iterator<Item = (Map, Node<O>)> {
        (1..).map(Map).zip(self.nodes)
    }

    /// The maps that a run gives back.
    pub(super) fn outputs(&self) -> &[Map] {
        &self.outputs
    }

    /// The node that puts a map out; `None` for the input.
    pub(super) fn node(&self, Map(map): Map) -> Option<&Node<O>> {
        Some(&self.nodes[map.checked_sub(1)?])
    }

    /// How often a map is read; being an output counts as one more.
    pub(super) fn readers(&self, map: Map) -> usize {
        let read = self.nodes.iter().flat_map(|node| &node.inputs);
        read.chain(&self.outputs).filter(|&&of| of == map).count()
    }

    /// The same graph of other operations.
    pub(super) fn convert<P>(&self, operation: impl FnMut(&O) -> P) -> Graph<P> {
        let operations = self.nodes.iter().map(|node| &node.operation).map(operation);
        let inputs = self.nodes.iter().map(|node| node.inputs.clone());
        let nodes = operations.zip(inputs);
        Graph {
            nodes: nodes
                .map(|(operation, inputs)| Node { operation, inputs })
                .collect(),
            outputs: self.outputs.clone(),
            finished: self.finished.clone(),
        }
    }

    /// Applies every operation to its inputs, and gives the outputs in order. `apply` is told which map
    /// it computes. A map is dropped as soon as no later node reads it.
    ///
    /// # Errors
    /// The first that `apply` gives.
    pub(super) fn run<V, E>(
        &self,
        input: V,
        mut apply: impl FnMut(Map, &O, &[&V]) -> Result<V, E>,
    ) -> Result<Vec<V>, E> {
        let mut maps = Vec::with_capacity(self.nodes.len() + 1);
        maps.push(Some(input));
        for (node, finished) in self.nodes.iter().zip(&self.finished) {
            let inputs: Vec<&V> = node.inputs.iter().map(|&map| held(&maps, map)).collect();
            let output = apply(Map(maps.len()), &node.operation, &inputs)?;
            maps.push(Some(output));
            for &Map(map) in finished {
                maps[map] = None;
            }
        }
        let outputs = self.outputs.iter();
        Ok(outputs.filter_map(|&Map(map)| maps[map].take()).collect())
    }

    /// What `apply` gives for every map, such as its side; `input` is the input's.
    pub(super) fn trace<V>(&self, input: V, mut apply: impl FnMut(&O, &[&V]) -> V) -> Traced<V> {
        let mut values = vec![input];
        for node in &self.nodes {
            let inputs: Vec<&V> = node.inputs.iter().map(|&Map(map)| &values[map]).collect();
            values.push(apply(&node.operation, &inputs));
        }
        Traced(values)
    }
}

/// A map that a later node reads is there.
fn held<V>(maps: &[Option<V>], Map(map): Map) -> &V {
    maps[map].as_ref().expect("a map that is still read")
}

/// A value for every map of a graph.
#[derive(Debug, Clone)]
pub(super) struct Traced<V>(Vec<V>);

impl<V> std::ops::Index<Map> for Traced<V> {
    type Output = V;

    fn index(&self, Map(map): Map) -> &V {
        &self.0[map]
    }
}

#[cfg(test)]
mod tests {
    use std::rc::Rc;

    use super::*;

    /// 1 + input, doubled, and the sum of both.
    fn graph() -> Graph<&'static str> {
        let node = |operation, inputs: &[usize]| Node {
            operation,
            inputs: inputs.iter().copied().map(Map).collect(),
        };
        let nodes = vec![
            node("increment", &[0]),
            node("double", &[1]),
            node("add", &[2, 1]),
        ];
        Graph::new(nodes, vec![Map(3)])
    }

    fn apply(operation: &str, inputs: &[i64]) -> i64 {
        match operation {
            "increment" => inputs[0] + 1,
            "double" => inputs[0] * 2,
            _ => inputs[0] + inputs[1],
        }
    }

    #[test]
    fn each_operation_gets_the_maps_it_reads_and_every_map_can_be_traced() {
        let owned = |inputs: &[&i64]| inputs.iter().map(|&&value| value).collect::<Vec<_>>();
        let ran = graph().run(4, |_, operation, inputs| {
            Ok::<_, ()>(apply(operation, &owned(inputs)))
        });
        assert_eq!(ran, Ok(vec![15]));
        let traced = graph().trace(4, |operation, inputs| apply(operation, &owned(inputs)));
        assert_eq!([0, 1, 2, 3].map(|map| traced[Map(map)]), [4, 5, 10, 15]);
        assert_eq!(graph().readers(Map(1)), 2);
    }

    #[test]
    fn a_map_is_dropped_after_its_last_reader() {
        let mut held = Vec::new();
        let (input, mut alive) = (Rc::new(()), Vec::new());
        held.push(Rc::downgrade(&input));
        graph()
            .run(input, |_, _, _| {
                alive.push(held.iter().filter(|map| map.strong_count() > 0).count());
                let map = Rc::new(());
                held.push(Rc::downgrade(&map));
                Ok::<_, ()>(map)
            })
            .unwrap();
        // The input is gone when the second operation begins.
        assert_eq!(alive, [1, 1, 2]);
    }
}
